"""`cuda.trace()`: which thread touched which address. Unit 3.2; it draws what a learner wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..lanes import dispatch
from ..lanes.launching import Launch, Line
from ..lanes.mask import WARP_SIZE, Mask
from ..lanes.protocol import Machine
from ..lanes.views import ArrayView
from .observing import Observer


@dataclass(frozen=True)
class Access:
    """One load or store instruction, for all warps that ran it together.

    addresses: int64 [warps, 32], in bytes from the array's lowest address; -1 marks a lane that
    took no part. first_block: the block of the first warp.
    """

    array: str
    kind: str  # "load", "store" or "atomic"
    line: int
    addresses: np.ndarray
    itemsize: int
    first_block: int

    @property
    def elements(self) -> np.ndarray:
        """int64 [warps, 32]: the position of the element in the array; -1 for no access."""
        return np.where(self.addresses < 0, -1, self.addresses // self.itemsize)


class _Tracing(Observer):
    """Keeps the addresses of every access."""

    def __init__(self, accesses: list[Access]):
        self.accesses, self.before = accesses, len(accesses)

    def begin(self, machine: Machine) -> None:
        self.machine = machine

    resume = begin

    def forget(self) -> None:
        del self.accesses[self.before :]

    def read(self, mask: Mask, target: ArrayView, line: Line) -> None:
        self._note("load", mask, target, line)

    def write(self, mask: Mask, target: ArrayView, line: Line) -> None:
        self._note("store", mask, target, line)

    def atomic(self, mask: Mask, target: ArrayView, line: Line) -> None:
        self._note("atomic", mask, target, line)

    def _note(self, kind: str, mask: Mask, target: ArrayView, line: Line) -> None:
        size, first = self.machine.size, self.machine.first
        offset = np.broadcast_to(target.start * np.int64(target.pitch), (size,))
        addresses = np.where(mask.lanes, offset, -1).reshape(-1, WARP_SIZE)
        self.accesses.append(
            Access(target.name, kind, line.number, addresses, target.dtype.itemsize, first)
        )


class Trace:
    """Collects an `Access` for each memory instruction inside `with cuda.trace() as t:`."""

    def __init__(self) -> None:
        self.accesses: list[Access] = []  # every one so far, also of a launch that failed later

    def __enter__(self) -> Trace:
        dispatch._listeners.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        dispatch._listeners.remove(self)

    def observer(self, launch: Launch) -> Observer:
        """What notes the accesses of one launch."""
        return _Tracing(self.accesses)

    def end(self, launch: Launch, observer: Observer) -> None:
        """Nothing is left to do: accesses are kept as they come."""

    def of(self, array: str, kind: str | None = None) -> list[Access]:
        """The accesses of one array, by its name in the kernel."""
        return [a for a in self.accesses if a.array == array and kind in (None, a.kind)]


def trace() -> Trace:
    """`with cuda.trace() as t: kernel[grid, block](...)`, then `t.accesses`."""
    return Trace()
