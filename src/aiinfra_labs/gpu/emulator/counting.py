"""The profiler's counters. Unit 3.2 (sectors), and every unit of chapter 3 after it.

What is counted, and the Nsight Compute metric that each figure stands for, is in `report.py`. The
rules: a request is one warp instruction with an active lane; a request touches as many sectors as
its active lanes have distinct 32-byte pieces of memory among their real addresses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .machine import Line
from .mask import EMPTY, WARP_SIZE, Mask
from .memory import ArrayView
from .observing import Observer
from .report import Counters

SECTOR = 32  # bytes


class Counting(Observer):
    """Counts what the lanes of a launch do, by source line."""

    def __init__(self) -> None:
        self.lines: dict[Line, Counters] = {}
        self._last: tuple[Any, ...] = (None, None, (), 0)  # the last access and its sectors

    def counters(self, line: Line) -> Counters:
        """The sums of a line so far."""
        counters = self.lines.get(line)
        if counters is None:
            counters = self.lines[line] = Counters()
        return counters

    def tick(self, mask: Mask, line: Line, operations: int) -> None:
        counters = self.counters(line)
        counters.warp_instructions += operations * mask.warps
        counters.thread_instructions += operations * mask.threads

    def flop(self, mask: Mask, value: Any, line: Line) -> None:
        kind = "" if isinstance(value, tuple) else value.dtype.kind
        if kind in "fc":
            # a complex addition is two real ones; its product is counted as four and two
            self.counters(line).flops += mask.threads * (2 if kind == "c" else 1)

    def branch(self, mask: Mask, yes: Mask, no: Mask, line: Line) -> None:
        counters = self.counters(line)
        counters.branches += mask.warps
        if yes is not EMPTY and no is not EMPTY:
            both = yes.any_by_warp() & no.any_by_warp()
            counters.divergent_branches += int(np.count_nonzero(both))

    def _sectors(self, mask: Mask, target: ArrayView) -> int:
        """As `sectors`; `a[i] + b[i]` touches as many in b as in a, so that is counted once.

        The count depends on the array only by its address within a sector.
        """
        start, last_mask, last_layout, count = self._last
        layout = (target.address % SECTOR, target.pitch, target.dtype.itemsize)
        if start is target.start and last_mask is mask and last_layout == layout:
            return count
        count = sectors(target, mask)
        self._last = (target.start, mask, layout, count)
        return count

    def read(self, mask: Mask, target: ArrayView, line: Line) -> None:
        if target.space == "global":
            counters = self.counters(line)
            counters.global_load_requests += mask.warps
            counters.global_load_sectors += self._sectors(mask, target)
            counters.global_load_bytes += mask.threads * target.dtype.itemsize

    def write(self, mask: Mask, target: ArrayView, line: Line) -> None:
        if target.space == "global":
            counters = self.counters(line)
            counters.global_store_requests += mask.warps
            counters.global_store_sectors += self._sectors(mask, target)
            counters.global_store_bytes += mask.threads * target.dtype.itemsize


def sectors(target: ArrayView, mask: Mask) -> int:
    """Distinct 32-byte sectors of each warp's active lanes, summed over the warps."""
    addresses = target.addresses()
    itemsize = target.dtype.itemsize
    if not isinstance(addresses, np.ndarray):  # every lane reads one address: a broadcast
        first, last = addresses // SECTOR, (addresses + itemsize - 1) // SECTOR
        return mask.warps * int(last - first + 1)
    first = (addresses >> 5).reshape(-1, WARP_SIZE)  # [W, 32]
    active = None if mask.full else mask.lanes.reshape(-1, WARP_SIZE)
    # an element that straddles a sector's end touches the next ones, too
    aligned = target.pitch % itemsize == 0 and target.address % itemsize == 0
    if aligned and (itemsize <= SECTOR and SECTOR % itemsize == 0):
        return _distinct(first, active)
    last = ((addresses + (itemsize - 1)) >> 5).reshape(-1, WARP_SIZE)
    spans = [first + k for k in range(int((last - first).max()) + 1)]
    touched = np.concatenate([np.minimum(s, last) for s in spans], axis=1)  # [W, 32 * spans]
    return _distinct(touched, None if active is None else np.tile(active, (1, len(spans))))


def _distinct(sector: np.ndarray, active: np.ndarray | None) -> int:
    """How many different values each row has among its active entries, summed over the rows."""
    if active is not None:
        sector = np.where(active, sector, -1)  # below every address, so that it sorts first
    step = sector[:, 1:] - sector[:, :-1]
    unsorted = (step < 0).any(axis=1)
    if unsorted.any():
        ordered = np.sort(sector[unsorted], axis=1)
        step[unsorted] = ordered[:, 1:] - ordered[:, :-1]
        heads = sector[:, 0].copy()
        heads[unsorted] = ordered[:, 0]
    else:
        heads = sector[:, 0]
    # each step up begins another value; the first value counts unless it marks an inactive lane
    return int(np.count_nonzero(step)) + int(np.count_nonzero(heads >= 0))
