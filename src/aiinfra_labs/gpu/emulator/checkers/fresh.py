"""Device memory that nobody has written yet. Unit 3.4.

`cuda.device_array` gives memory with whatever was in it before. Which of its bytes hold a value by
now is noted here, from launch to launch, for the checker of uninitialised reads. Where that is not
known, as after a launch that no checker watched, all are taken to hold one.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass
class Fresh:
    """One allocation. written: bool [bytes], made when a part is written."""

    low: int
    high: int
    written: np.ndarray | None = None

    def bytes_written(self) -> np.ndarray:
        """bool [bytes]: which bytes hold a value."""
        if self.written is None:
            self.written = np.zeros(self.high - self.low, bool)
        return self.written


_fresh: dict[int, Fresh] = {}  # by address


def made(memory: np.ndarray) -> np.ndarray:
    """Note that `memory` (uint8 [bytes], as `allocate` gives it) has just been allocated."""
    if memory.size:
        low = memory.ctypes.data
        _fresh[low] = Fresh(low, low + memory.size)
        weakref.finalize(memory.base, _fresh.pop, low, None).atexit = False
    return memory


def overlapping(low: int, high: int) -> Iterator[Fresh]:
    """The allocations with fresh bytes from address `low` up to `high`."""
    for allocation in list(_fresh.values()):
        if allocation.low < high and low < allocation.high:
            yield allocation


def wrote(array: np.ndarray) -> None:
    """Every element of `array` has been written. Gaps between them are taken to be, too."""
    if _fresh and array.size:
        wrote_bytes(*np.lib.array_utils.byte_bounds(array))


def wrote_bytes(low: int, high: int) -> None:
    """The bytes from address `low` up to `high` hold values."""
    for allocation in overlapping(low, high):
        if low <= allocation.low and allocation.high <= high:
            _fresh.pop(allocation.low, None)
        else:
            first, last = max(low - allocation.low, 0), high - allocation.low
            allocation.bytes_written()[first:last] = True
