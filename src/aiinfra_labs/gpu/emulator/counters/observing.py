"""A machine that is watched: profilers, tracers and checkers see each step. Unit 3.2.

`Machine` runs a kernel and tells nobody. `ObservedMachine` runs it in the same way and tells its
observers what the lanes do, so that a profile, a trace and a race check can watch one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..lanes.machine import Launch, Line, Machine
from ..lanes.mask import Mask
from ..lanes.views import ArrayView


class Observer:
    """What can be seen of a batch of blocks. Each method is called just before the step is done.

    `mask` holds the active lanes; `target` is the element that each of them touches.
    """

    def begin(self, machine: Machine) -> None:
        """The batch of blocks `machine.first` to `machine.first + machine.blocks - 1` starts."""

    def resume(self, machine: Machine) -> None:
        """What comes now is of a batch that has begun before: batches run by turns."""

    def forget(self) -> None:
        """The launch begins anew, in another order: what was seen of it does not count."""

    def tick(self, mask: Mask, line: Line, operations: int) -> None:
        """A statement of so many operations is issued."""

    def flop(self, mask: Mask, value: Any, line: Line, kind: str) -> None:
        """An operation has the result `value`. kind: "add" (or subtract), "mul", "fma", "div",
        "sqrt"."""

    def branch(self, mask: Mask, yes: Mask, no: Mask, line: Line) -> None:
        """The lanes of `mask` decide: those of `yes` one way, those of `no` the other."""

    def choice(self, line: Line) -> None:
        """The branch to come is that of `a if c else b`."""

    def read(self, mask: Mask, target: ArrayView, line: Line) -> None:
        """A load."""

    def write(self, mask: Mask, target: ArrayView, line: Line) -> None:
        """A store."""

    def store(self, mask: Mask, target: ArrayView, value: Any, line: Line) -> None:
        """A store, for those who ask what is stored."""
        self.write(mask, target, line)

    def atomic(self, mask: Mask, target: ArrayView, line: Line) -> None:
        """An atomic operation: read, changed and written in one step."""

    def reduction(self, mask: Mask, target: ArrayView, line: Line) -> None:
        """The atomic operation to come gives nothing back, as nobody reads the old value."""

    def barrier(self, mask: Mask, line: Line) -> None:
        """`syncthreads` and its like: whole blocks have arrived."""

    def warp_barrier(self, mask: Mask, line: Line, members: np.ndarray) -> None:
        """`syncwarp`; members: int64 [W, 32], the lanes that each lane names, one a bit."""

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        """`this_grid().sync()`: the whole grid has arrived."""

    def fence(self, mask: Mask, line: Line) -> None:
        """`threadfence` and `threadfence_system`."""

    def shuffle(
        self, mask: Mask, line: Line, name: str, here: np.ndarray, chosen: np.ndarray
    ) -> None:
        """Each lane reads lane `chosen` [W, 32] of its warp; `here` [W, 32] are those that came."""


class ObservedMachine(Machine):
    """A machine that tells its observers."""

    observed = True

    def __init__(self, launch: Launch, first: int, blocks: int, observers: Sequence[Observer]):
        super().__init__(launch, first, blocks)
        self.observers = tuple(observers)
        for observer in self.observers:
            observer.begin(self)

    def tick(self, mask: Mask, line: Line, operations: int) -> None:
        for observer in self.observers:
            observer.tick(mask, line, operations)

    def flop(self, mask: Mask, value: Any, line: Line, kind: str) -> Any:
        for observer in self.observers:
            observer.flop(mask, value, line, kind)
        return value

    def stored_flop(
        self, mask: Mask, value: Any, operand: Any, array: Any, line: Line, kind: str
    ) -> Any:
        single = all(getattr(v, "dtype", None) == np.float32 for v in (operand, array))
        narrow = single and value.dtype == np.float64
        self.flop(mask, value.astype(np.float32) if narrow else value, line, kind)
        return value

    def select(self, *what: Any) -> Any:
        for observer in self.observers:
            observer.choice(what[-1])
        return super().select(*what)

    def split(self, mask: Mask, condition: Any, line: Line) -> tuple[Mask, Mask]:
        yes, no = super().split(mask, condition, line)
        if not isinstance(condition, bool):
            for observer in self.observers:
                observer.branch(mask, yes, no, line)
        return yes, no

    def _read(self, mask: Mask, target: ArrayView, line: Line) -> Any:
        for observer in self.observers:
            observer.read(mask, target, line)
        return super()._read(mask, target, line)

    def _write(self, mask: Mask, target: ArrayView, value: Any, line: Line) -> None:
        for observer in self.observers:
            observer.store(mask, target, value, line)
        super()._write(mask, target, value, line)

    def atomic(self, mask: Mask, target: ArrayView, line: Line) -> None:
        for observer in self.observers:
            observer.atomic(mask, target, line)

    def reduction(self, mask: Mask, target: ArrayView, line: Line) -> None:
        for observer in self.observers:
            observer.reduction(mask, target, line)

    def barrier(self, mask: Mask, line: Line) -> None:
        for observer in self.observers:
            observer.barrier(mask, line)

    def warp_barrier(self, mask: Mask, line: Line, members: np.ndarray) -> None:
        for observer in self.observers:
            observer.warp_barrier(mask, line, members)

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        for observer in self.observers:
            observer.grid_barrier(mask, line)

    def fence(self, mask: Mask, line: Line) -> None:
        for observer in self.observers:
            observer.fence(mask, line)

    def shuffle(
        self, mask: Mask, line: Line, name: str, here: np.ndarray, chosen: np.ndarray
    ) -> None:
        for observer in self.observers:
            observer.shuffle(mask, line, name, here, chosen)
