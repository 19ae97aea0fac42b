"""Which accesses of two threads are in order, and which may come in any order. Unit 3.4.

Each access has a number, its event, which counts up. Two accesses of different threads are in
order only if a rule of CUDA puts them in order, whatever order the emulator ran them in:

- threads of one block: by `syncthreads` and its like, and by `this_grid().sync()`;
- threads of one warp: also by `syncwarp` among the lanes that it names. Nothing else: shuffles,
  votes and matches exchange values and "do not imply a memory barrier" (CUDA C++ Programming Guide,
  7.19 to 7.22), and since Volta the lanes of a warp need not advance together (16.6.2);
- threads of different blocks: by `this_grid().sync()`, or as follows;
- any threads: what one wrote before a `threadfence` and an atomic operation is in order with what
  another does after an atomic operation on the same address, as in a "last block" reduction. The
  barriers of both blocks pass this on.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from ..lanes.launching import Launch
from ..lanes.mask import WARP_SIZE, Mask
from ..lanes.protocol import Machine


@dataclass(frozen=True)
class _Published:
    """A `threadfence` and then an atomic operation by one thread: what it let others know."""

    thread: int
    fence: int  # what the thread itself did before this event
    barrier: int  # what its block did before this event
    event: int


class Batch:
    """The barriers of blocks that run together, so far. first: the thread number of lane 0."""

    def __init__(self, first: int, size: int):
        self.first = first
        self.block_at = np.ones(size, np.int32)  # [L]: events before it, for the own block
        self.all_at = 1  # the least of block_at
        self.warp_at: np.ndarray | None = None  # [L, 32]: the same for each lane of the own warp
        self.fence_at: np.ndarray | None = None  # [L]: the thread's last threadfence


class Order:
    """The barriers of a launch so far. `thread` counts the lanes of the whole grid."""

    def __init__(self, launch: Launch):
        self.lanes_per_block = launch.lanes_per_block
        threads = math.prod(launch.grid) * launch.lanes_per_block
        self.dtype = np.int32 if threads < 2**31 else np.int64  # of a thread's number
        self.event = 0  # of the last access; 0 stands for no access at all
        self.grid_at = 1  # events before it are in order for all blocks
        self.published: dict[int, dict[int, list[_Published]]] = {}  # by address and block
        self.passed_on: dict[int, dict[int, int]] = {}  # address -> {other address: event}
        self.learned: dict[int, dict[int, int]] = {}  # thread -> {address: event}
        self.learned_by_block: dict[int, dict[int, int]] = {}
        self.batches: MutableMapping[Machine, Batch] = WeakKeyDictionary()

    def begin(self, machine: Machine) -> None:
        """A batch of blocks starts."""
        self.batches[machine] = Batch(machine.first * self.lanes_per_block, machine.size)
        self.resume(machine)

    def resume(self, machine: Machine) -> None:
        """What comes next is of this batch."""
        self.now = self.batches[machine]

    @property
    def first(self) -> int:
        """The thread number of lane 0 of the blocks that run now."""
        return self.now.first

    @property
    def all_at(self) -> int:
        """Events before it are in order for each block that runs now."""
        return self.now.all_at

    def next(self) -> int:
        """The number of the access that comes now."""
        self.event += 1
        return self.event

    def threads(self, lanes: np.ndarray) -> np.ndarray:
        """The numbers in the whole grid of lanes (int64 [n]) of the blocks that run now."""
        return (lanes + self.now.first).astype(self.dtype)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """0: the same warp, 1: the same block, 2: two blocks."""
        warps = a // WARP_SIZE != b // WARP_SIZE
        blocks = a // self.lanes_per_block != b // self.lanes_per_block
        return warps.astype(np.int8) + blocks

    # --- what puts accesses in order -----------------------------------------------------

    def barrier(self, mask: Mask) -> None:
        """The blocks that have active lanes arrive at a barrier."""
        came = mask.lanes.reshape(-1, self.lanes_per_block).any(axis=1)  # [blocks]
        self.now.block_at.reshape(-1, self.lanes_per_block)[came] = self.event + 1
        self.now.all_at = int(self.now.block_at.min())
        for thread in [t for t in self.learned if 0 <= t - self.now.first < self.now.block_at.size]:
            block = thread // self.lanes_per_block
            if came[block - self.now.first // self.lanes_per_block]:
                _merge(self.learned_by_block.setdefault(block, {}), self.learned.pop(thread))

    def grid_barrier(self) -> None:
        """All blocks arrive at a barrier."""
        self.grid_at = self.event + 1
        for batch in self.batches.values():
            batch.block_at[:] = batch.all_at = self.grid_at

    def warp_barrier(self, mask: Mask, members: np.ndarray, alive: np.ndarray) -> None:
        """members: int64 [W, 32], the lanes that each lane names, one a bit; alive: bool [L]."""
        here = mask.lanes.reshape(-1, WARP_SIZE)
        gone = ~alive.reshape(-1, WARP_SIZE)
        bits = np.int64(1) << np.arange(WARP_SIZE)
        if self.now.warp_at is None:
            self.now.warp_at = np.ones((mask.lanes.size, WARP_SIZE), np.int32)
        known = self.now.warp_at.reshape(-1, WARP_SIZE, WARP_SIZE)  # [W, lane, other lane]
        for named in np.unique(members[here]):
            met = here & (members == named)
            # a lane that has returned is not waited for, and what it did lies before the barrier
            met |= gone & ((named & bits) != 0) & met.any(axis=1)[:, None]
            joined = np.where(met[:, :, None], known, 0).max(axis=1)  # [W, 32]
            joined[met] = self.event + 1
            known[met] = np.broadcast_to(joined[:, None, :], known.shape)[met]

    def fence(self, mask: Mask) -> None:
        """`threadfence` of the active lanes."""
        if self.now.fence_at is None:
            self.now.fence_at = np.zeros(mask.lanes.size, np.int32)
        self.now.fence_at[mask.lanes] = self.event + 1

    def atomic(self, lanes: np.ndarray, addresses: np.ndarray) -> None:
        """What each lane fenced is published at its address, and it learns what was before."""
        if self.now.fence_at is None and not self.published:
            return
        for lane, address in zip(lanes.tolist(), addresses.tolist(), strict=True):
            thread = lane + self.now.first
            block = thread // self.lanes_per_block
            if self.now.fence_at is not None and self.now.fence_at[lane]:
                entry = _Published(
                    thread, int(self.now.fence_at[lane]), int(self.now.block_at[lane]), self.event
                )
                self.published.setdefault(address, {}).setdefault(block, []).append(entry)
                for source in (self.learned.get(thread), self.learned_by_block.get(block)):
                    _merge(self.passed_on.setdefault(address, {}), source or {})
            if address in self.published:
                _merge(self.learned.setdefault(thread, {}), {address: self.event})

    # --- the question ---------------------------------------------------------------------

    def ordered(
        self, threads: np.ndarray, events: np.ndarray, lanes: np.ndarray, shared: bool
    ) -> np.ndarray:
        """bool [n]: whether access events[k] of threads[k] is in order with lane lanes[k] now.

        shared: both belong to one block, for nobody else sees the memory.
        """
        before = events < self.now.block_at[lanes]
        now = lanes + self.now.first
        if not shared:
            before &= threads // self.lanes_per_block == now // self.lanes_per_block
            before |= events < self.grid_at
        if self.now.warp_at is not None:
            same_warp = threads // WARP_SIZE == now // WARP_SIZE
            before |= same_warp & (events < self.now.warp_at[lanes, threads % WARP_SIZE])
        if self.published:
            for k in np.flatnonzero(~before):
                before[k] = self._learned(int(threads[k]), int(events[k]), int(now[k]))
        return before

    def _learned(self, thread: int, event: int, now: int) -> bool:
        """Whether `now` learned of an access through fences and atomic operations."""
        block = thread // self.lanes_per_block
        known: dict[int, int] = {}
        _merge(known, self.learned.get(now, {}))
        _merge(known, self.learned_by_block.get(now // self.lanes_per_block, {}))
        waiting = list(known)
        while waiting:
            address = waiting.pop()
            for entry in self.published.get(address, {}).get(block, ()):
                covered = event < (entry.fence if entry.thread == thread else entry.barrier)
                if covered and entry.event <= known[address]:
                    return True
            for other, when in self.passed_on.get(address, {}).items():
                if other not in known:
                    known[other] = when
                    waiting.append(other)
        return False


def _merge(into: dict[int, int], other: dict[int, int]) -> None:
    for key, event in other.items():
        into[key] = max(into.get(key, 0), event)
