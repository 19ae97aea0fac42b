"""The profiler's counters. Unit 3.2 (sectors), 3.4 (banks), 3.6 (atomics) and 3.8 (all of them).

What is counted, and the Nsight Compute metric that each figure stands for, is in `figures.py`. The
rules: a request is one warp instruction with an active lane; a request touches as many sectors as
its active lanes have distinct 32-byte pieces of memory among their real addresses. The rules of
shared memory are in `banks.py`, those of DRAM in `cache.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..devices import get_current_device
from ..lanes.launching import Line
from ..lanes.mask import EMPTY, WARP_SIZE, Mask
from ..lanes.protocol import Machine
from ..lanes.views import ArrayView
from . import banks
from .cache import L2Cache
from .figures import Counters
from .observing import Observer

SECTOR = 32  # bytes


def _work() -> dict[tuple[np.dtype, str], tuple[tuple[str, int], ...]]:
    """What an operation on a dtype adds to which counter.

    A complex sum is two real ones; a complex product four products and two sums.
    """
    work: dict[tuple[np.dtype, str], tuple[tuple[str, int], ...]] = {}
    for dtype, precision in (("f2", "fp16"), ("f4", "fp32"), ("f8", "fp64")):
        for kind in ("add", "mul", "fma"):
            work[np.dtype(dtype), kind] = ((f"{precision}_{kind}", 1),)
    for dtype, precision in (("c8", "fp32"), ("c16", "fp64")):
        work[np.dtype(dtype), "add"] = ((f"{precision}_add", 2),)
        work[np.dtype(dtype), "mul"] = ((f"{precision}_mul", 4), (f"{precision}_add", 2))
    for dtype in ("f2", "f4", "f8", "c8", "c16"):
        work[np.dtype(dtype), "div"] = (("divisions", 1),)
        work[np.dtype(dtype), "sqrt"] = (("square_roots", 1),)
    return work


_WORK = _work()
_NOTHING: tuple = (np.zeros(0), EMPTY, 0, None)


class Counting(Observer):
    """Counts what the lanes of a launch do, by source line."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lines: dict[Line, Counters] = {}
        self._last: tuple[Any, ...] = (None, None, (), 0, 0, None)  # the last access, its sectors
        self._before: dict[tuple[Line, str], tuple] = {}  # a line's last access to an array
        self._loaded: dict[Any, tuple] = {}  # the last load of each array since the last store
        # what a compiler spares, by line: loads of an array's elements again, and choices
        self.again: dict[tuple[Line, str], Counters] = {}
        self.choices: dict[Line, Counters] = {}
        self._choosing = False  # the branch to come is that of a conditional expression
        self.cache = L2Cache(get_current_device().l2_bytes)
        self.machine: Machine | None = None
        self.shared_bytes = 0  # static shared memory of a block

    def begin(self, machine: Machine) -> None:
        self._keep_shared_bytes()
        self.machine = machine
        self.warps_per_block = machine.launch.lanes_per_block // WARP_SIZE

    resume = begin  # nothing that is counted belongs to one batch

    def finish(self) -> None:
        """The launch is over."""
        self._keep_shared_bytes()
        self.machine = None

    def _keep_shared_bytes(self) -> None:
        made = self.machine.arrays.items() if self.machine is not None else ()
        arrays = [array for key, array in made if key[0] == "shared"]
        sizes = [math.prod(array.shape) * array.dtype.itemsize for array in arrays]
        # each begins at a multiple of 16 bytes
        self.shared_bytes = max(self.shared_bytes, sum(-(-size // 16) * 16 for size in sizes))

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

    def flop(self, mask: Mask, value: Any, line: Line, kind: str) -> None:
        work = None if isinstance(value, tuple) else _WORK.get((value.dtype, kind))
        if work is not None:
            counters = self.counters(line)
            for name, times in work:
                setattr(counters, name, getattr(counters, name) + times * mask.threads)

    def branch(self, mask: Mask, yes: Mask, no: Mask, line: Line) -> None:
        counted = [self.counters(line)]
        if self._choosing:
            counted.append(self.choices.setdefault(line, Counters()))
            self._choosing = False
        parted = 0
        if yes is not EMPTY and no is not EMPTY:
            parted = int(np.count_nonzero(yes.any_by_warp() & no.any_by_warp()))
        for counters in counted:
            counters.branches += mask.warps
            counters.divergent_branches += parted

    def _touched(self, mask: Mask, target: ArrayView, line: Line) -> tuple[int, np.ndarray]:
        """As `touched`, worked out anew only where it must be.

        `a[i] + b[i]` touches as many in b as in a, if both begin as far into a sector. And a line
        in a loop mostly asks as it did the round before, all lanes so many sectors further on.
        """
        start, last_mask, last_layout, address, count, sectors = self._last
        layout = (target.address % SECTOR, target.pitch, target.dtype.itemsize)
        if start is target.start and last_mask is mask and last_layout == layout:
            return count, sectors + (target.address - address) // SECTOR
        first = None
        if isinstance(target.start, np.ndarray) and _within_sectors(target):
            first = target.addresses() >> 5
            before, old_mask, count, sectors = self._before.get((line, target.name), _NOTHING)
            if before.size == first.size and (mask is old_mask or (mask.full and old_mask.full)):
                shift = first - before
                if (shift == shift[0]).all():
                    sectors = sectors + shift[0]
                    self._last = (target.start, mask, layout, target.address, count, sectors)
                    return count, sectors
        count, sectors = touched(target, mask)
        if first is not None:
            self._before[line, target.name] = first, mask, count, sectors
        self._last = (target.start, mask, layout, target.address, count, sectors)
        return count, sectors

    def read(self, mask: Mask, target: ArrayView, line: Line) -> None:
        if target.dtype.kind == "c":  # two numbers, and Numba's compiler loads each of its own
            for name in ("real", "imag"):
                self.read(mask, target.part(name), line)
            return
        counters = self.counters(line)
        match target.space:
            case "global":
                count, sectors = self._touched(mask, target, line)
                self.cache.touch(sectors, load=True, store=False)
                counted = [counters]
                if self._has(mask, target):
                    counted.append(self.again.setdefault((line, target.name), Counters()))
                for each in counted:
                    each.global_load_requests += mask.warps
                    each.global_load_sectors += count
                    each.global_load_bytes += mask.threads * target.dtype.itemsize
            case "shared":
                wavefronts, conflicts = self._banks(mask, target)
                counters.shared_load_requests += mask.warps
                counters.shared_load_wavefronts += wavefronts
                counters.shared_load_bank_conflicts += conflicts
            case "local":
                counters.local_load_requests += mask.warps

    def write(self, mask: Mask, target: ArrayView, line: Line) -> None:
        if target.dtype.kind == "c":
            for name in ("real", "imag"):
                self.write(mask, target.part(name), line)
            return
        counters = self.counters(line)
        match target.space:
            case "global":
                self._loaded.clear()
                self._has(mask, target)  # a register holds what is stored
                count, sectors = self._touched(mask, target, line)
                self.cache.touch(sectors, load=False, store=True)
                counters.global_store_requests += mask.warps
                counters.global_store_sectors += count
                counters.global_store_bytes += mask.threads * target.dtype.itemsize
            case "shared":
                wavefronts, conflicts = self._banks(mask, target)
                counters.shared_store_requests += mask.warps
                counters.shared_store_wavefronts += wavefronts
                counters.shared_store_bank_conflicts += conflicts
            case "local":
                counters.local_store_requests += mask.warps

    def atomic(self, mask: Mask, target: ArrayView, line: Line) -> None:
        counters = self.counters(line)
        self._loaded.clear()
        addresses = np.broadcast_to(target.addresses(), mask.lanes.shape)
        waits = banks.atomic_turns(
            addresses.reshape(-1, WARP_SIZE), mask.lanes.reshape(-1, WARP_SIZE)
        )
        match target.space:
            case "global":
                count, sectors = self._touched(mask, target, line)
                self.cache.touch(sectors, load=True, store=True)
                counters.global_atomic_requests += mask.warps
                counters.global_atomic_sectors += count
                counters.global_atomic_turns += waits
            case "shared":
                counters.shared_atomic_requests += mask.warps
                counters.shared_atomic_turns += waits

    def reduction(self, mask: Mask, target: ArrayView, line: Line) -> None:
        if target.space == "global":
            self.counters(line).global_reduction_requests += mask.warps

    def shuffle(
        self, mask: Mask, line: Line, name: str, here: np.ndarray, chosen: np.ndarray
    ) -> None:
        self.counters(line).shuffles += mask.warps

    def choice(self, line: Line) -> None:
        self._choosing = True

    def barrier(self, mask: Mask, line: Line) -> None:
        self._loaded.clear()  # others may have written

    def fence(self, mask: Mask, line: Line) -> None:
        self._loaded.clear()

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        self._loaded.clear()

    def warp_barrier(self, mask: Mask, line: Line, members: np.ndarray) -> None:
        self._loaded.clear()

    def _has(self, mask: Mask, target: ArrayView) -> bool:
        """Whether these lanes have loaded or stored these elements before, and nothing was written
        since: a compiler would find them in registers. Now they have."""
        key = (target.address, target.dtype, target.name)
        start, known = self._loaded.get(key, (None, EMPTY))
        if start is target.start and (
            known is mask
            or (known.lanes.size == mask.lanes.size and not (mask.lanes & ~known.lanes).any())
        ):
            return True
        self._loaded[key] = target.start, mask
        return False

    def _banks(self, mask: Mask, target: ArrayView) -> tuple[int, int]:
        """(wavefronts, conflicts) of the warps' requests to shared memory."""
        addresses, itemsize = target.addresses(), target.dtype.itemsize
        aligned = _aligned(target, min(itemsize, banks.WORD))
        if aligned and itemsize <= banks.WORD and not isinstance(addresses, np.ndarray):
            return mask.warps, 0  # a broadcast
        by_warp = np.broadcast_to(addresses, mask.lanes.shape).reshape(-1, WARP_SIZE)
        active = None if mask.full else mask.lanes.reshape(-1, WARP_SIZE)
        return banks.request_cost(by_warp, active, itemsize, self.warps_per_block, aligned)


def _aligned(target: ArrayView, size: int) -> bool:
    return target.pitch % size == 0 and target.address % size == 0


def _within_sectors(target: ArrayView) -> bool:
    """Whether no element straddles the end of a sector."""
    size = target.dtype.itemsize
    return size <= SECTOR and SECTOR % size == 0 and _aligned(target, size)


def touched(target: ArrayView, mask: Mask) -> tuple[int, np.ndarray]:
    """Distinct 32-byte sectors of each warp's active lanes: their number, summed over the warps,
    and the sectors themselves (address // 32), int64 [n], in the order of the warps."""
    addresses = target.addresses()
    itemsize = target.dtype.itemsize
    if not isinstance(addresses, np.ndarray):  # every lane reads one address: a broadcast
        first, last = int(addresses // SECTOR), int((addresses + itemsize - 1) // SECTOR)
        return mask.warps * (last - first + 1), np.arange(first, last + 1)
    if mask.full and _unbroken(target, addresses):
        every = np.arange(addresses[0] // SECTOR, (addresses[-1] + itemsize - 1) // SECTOR + 1)
        # from one warp to the next is a multiple of 32 bytes: all begin within a sector, or none
        shared = 0 if addresses[0] % SECTOR == 0 else addresses.size // WARP_SIZE - 1
        return every.size + shared, every
    sectors = (addresses >> 5).reshape(-1, WARP_SIZE)  # [W, 32]
    active = None if mask.full else mask.lanes.reshape(-1, WARP_SIZE)
    # an element that straddles a sector's end touches the next ones, too
    if not _within_sectors(target):
        last = ((addresses + (itemsize - 1)) >> 5).reshape(-1, WARP_SIZE)
        spans = [sectors + k for k in range(int((last - sectors).max()) + 1)]
        sectors = np.concatenate([np.minimum(s, last) for s in spans], axis=1)  # [W, 32 * spans]
        active = None if active is None else np.tile(active, (1, len(spans)))
    distinct = _distinct(sectors, active)
    return distinct.size, distinct


def _unbroken(target: ArrayView, addresses: np.ndarray) -> bool:
    """Whether the lanes lie one behind the other, from the first to the last."""
    size = target.dtype.itemsize
    if target.pitch != size or addresses[-1] - addresses[0] != (addresses.size - 1) * size:
        return False
    return bool((target.start[1:] - target.start[:-1] == 1).all())


def _distinct(sectors: np.ndarray, active: np.ndarray | None) -> np.ndarray:
    """The different values of each row's active entries, row after row."""
    if active is not None:
        sectors = np.where(active, sectors, -1)  # below every address, so that it sorts first
    width, flat = sectors.shape[1], sectors.reshape(-1)
    down = np.zeros(flat.size, bool)
    np.less(flat[1:], flat[:-1], out=down[1:])
    down[::width] = False  # from one row to the next
    if down.any():
        unsorted = down.reshape(-1, width).any(axis=1)
        sectors = sectors.copy()
        sectors[unsorted] = np.sort(sectors[unsorted], axis=1)
        flat = sectors.reshape(-1)
    # each step up begins another value; the first counts unless it marks an inactive lane
    new = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=new[1:])
    new[::width] = flat[::width] >= 0
    return flat[new]
