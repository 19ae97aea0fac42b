"""What the parts ask of the machine that runs lane code: the interface between them. Unit 3.2.

Arrays, loops, intrinsics and calls are written against this; `machine` is what runs kernels,
`translation.inference` what finds their types, and neither is known to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .launching import Launch, Line
from .mask import Mask


class Function(Protocol):
    """A function that a kernel calls, or the kernel itself: `dispatch.Function`."""

    py_func: Any

    def run(self, machine: Machine, mask: Mask, args: Sequence[Any]) -> Any:
        """Call it with the lanes of `mask`."""


class Machine(Protocol):
    """The lanes of some blocks, and what they can do. L: lanes."""

    typing: bool  # it finds types, and has no lanes
    observed: bool
    patience: int
    by_turns: bool
    launch: Launch
    first: int  # block
    blocks: int
    size: int  # L
    alive: np.ndarray  # bool [L]: the threads that have not returned
    depth: int  # of calls
    spent: int  # rounds of loops
    arrays: dict[Any, Any]  # shared and local arrays, by where they are made
    offsets: dict[Any, Any]
    shared_bytes: int
    watching: int  # loops that may wait for a change of memory
    changes: int
    seen: Any  # the element that was read last in such a loop
    odd_fields: bool

    def split(self, mask: Mask, condition: Any, line: Line) -> tuple[Mask, Mask]:
        """The active lanes where the condition holds, and where it does not."""

    def load(self, mask: Mask, array: Any, index: tuple, line: Line) -> Any:
        """What each lane reads: numbers, or a part of the array."""

    def store(self, mask: Mask, array: Any, index: tuple, value: Any, line: Line) -> None:
        """Each lane writes an element, or a row."""

    def call(self, callee: Any, mask: Mask, args: Sequence[Any]) -> Any:
        """A device function, called by the lanes of `mask`."""

    def place(self, line: Line, lane: int) -> Any:
        """Where a lane stands, for an error."""

    def index(self, what: str, axis: int) -> Any:
        """threadIdx, blockIdx, blockDim or gridDim along an axis."""

    def note_negative_index(self, array: str, line: Line, index: Any, lanes: np.ndarray) -> None:
        """Some lanes count from the end of an axis."""

    def meet(self, mask: Mask, line: Line, name: str, value: Any = None) -> tuple[np.ndarray, Any]:
        """The lanes that stand at a barrier together, and what each brings."""

    def converge(
        self, mask: Mask, line: Line, name: str, members: Any, *values: Any
    ) -> tuple[Any, ...]:
        """The lanes of a warp meet."""

    def spins(self, loop: Any, mask: Mask, for_ever: bool) -> None:
        """Lanes go round and wait for a change of memory."""

    def round(self, loop: Any, mask: Mask) -> None:
        """A loop that may wait has gone round again."""

    def changed(self) -> None:
        """Memory is not what it was."""

    def flop(self, mask: Mask, value: Any, line: Line, kind: str) -> Any:
        """An arithmetic result passes through."""

    def __getattr__(self, name: str) -> Any:
        """The rest, for those who need it: see `machine.Machine`."""
