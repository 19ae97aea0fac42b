"""Which lanes are active. Unit 3.2.

A kernel runs on all threads of a batch at once: every local is a NumPy vector with one *lane* a
thread, and control flow decides which lanes take part. Lanes lie in order of block and thread,
each block padded to whole warps, so that `lanes.reshape(-1, 32)` has one warp a row.
"""

from __future__ import annotations

import numpy as np

WARP_SIZE = 32


class Mask:
    """A set of active lanes.

    lanes: bool [L]. Never changed once made, so that masks can be shared and their counts kept.
    """

    __slots__ = ("_warps", "full", "lanes", "threads")

    def __init__(self, lanes: np.ndarray, threads: int | None = None):
        self.lanes = lanes
        self.threads = int(np.count_nonzero(lanes)) if threads is None else threads
        self.full = self.threads == lanes.size
        self._warps: int | None = None

    @property
    def warps(self) -> int:
        """How many warps have an active lane: what one instruction costs the warp schedulers."""
        if self._warps is None:
            if self.full:
                self._warps = self.lanes.size // WARP_SIZE
            else:
                rows = self.lanes.reshape(-1, WARP_SIZE)  # [W, 32]
                self._warps = int(np.count_nonzero(rows.any(axis=1)))
        return self._warps

    def any_by_warp(self) -> np.ndarray:
        """bool [W]: which warps have an active lane."""
        return self.lanes.reshape(-1, WARP_SIZE).any(axis=1)

    def split(self, condition: np.ndarray | np.generic) -> tuple[Mask, Mask]:
        """The lanes where `condition` holds, and the rest; EMPTY where there is none."""
        if condition.ndim == 0:  # the same for every thread
            return (self, EMPTY) if condition else (EMPTY, self)
        taken = condition.astype(bool, copy=False)
        if not self.full:
            taken = taken & self.lanes
        threads = int(np.count_nonzero(taken))
        if threads == 0:
            return EMPTY, self
        if threads == self.threads:
            return self, EMPTY
        return Mask(taken, threads), Mask(self.lanes & ~taken, self.threads - threads)

    def union(self, other: Mask) -> Mask:
        """Both, which share no lane."""
        if self is EMPTY:
            return other
        if other is EMPTY:
            return self
        return Mask(self.lanes | other.lanes, self.threads + other.threads)


EMPTY = Mask(np.zeros(0, dtype=bool), 0)
EMPTY.full = False
