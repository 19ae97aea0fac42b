"""Shadow memory: who touched each piece of memory last. Unit 3.4.

Beside each array lies a shadow, with one cell for each piece of it that the kernel touches as a
whole (4 bytes, for an array of float32). A cell holds the last writer, two readers and two threads
that changed it atomically, each with the event of its access. An access that finds another
thread's, of which one writes and one is not atomic, and that no barrier puts in order
(`ordering.py`), is a race.

One writer is enough: had an earlier one not been in order with it, that was a race already. Of
readers there can be many, none in order with the others, and a later write races with any of them.
Two are enough, if they are as far from each other as can be: in two blocks, else in two warps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .ordering import Order

# what an access can race with; of each kind of access but writes, two threads are kept
AGAINST = {
    "read": ("write", "atomic", "atomic2"),
    "write": ("write", "read", "read2", "atomic", "atomic2"),
    "atomic": ("write", "read", "read2"),
}


@dataclass
class Slot:
    """One access of each cell: its thread, and its event (0: there was none)."""

    thread: np.ndarray  # [cells]
    event: np.ndarray  # int32 [cells]

    def keep(self, cells: np.ndarray, threads: np.ndarray, event: int) -> None:
        """Of several threads in one cell the last one stays."""
        self.thread[cells] = threads
        self.event[cells] = event


@dataclass
class Clash:
    """Races of one access with earlier ones of one kind. Each array has one entry a race."""

    lanes: np.ndarray  # places in the list of lanes that make the access
    threads: np.ndarray  # those that they race with
    events: np.ndarray
    among_themselves: bool = False  # the lanes race with each other, within one store


class Shadow:
    """The shadow of the bytes from address `low` up to `high`.

    written: whether a cell holds a value; None where everything does.
    """

    def __init__(
        self, low: int, high: int, granule: int, shared: bool, written: np.ndarray | None = None
    ):
        self.low, self.high, self.granule, self.shared = low, high, granule, shared
        self.written = written  # bool [cells]
        self.slots: dict[str, Slot] = {}
        self.scratch: np.ndarray | None = None  # int32 [cells]: see _ends

    @property
    def _cells(self) -> int:
        return -(-(self.high - self.low) // self.granule)

    def fit(self, size: int, address: int, pitch: int) -> None:
        """Make the cells small enough for elements of `size` bytes at `address` + k * `pitch`."""
        fine = math.gcd(self.granule, size, address - self.low, pitch)
        if fine == self.granule:
            return
        ratio, self.granule = self.granule // fine, fine
        if self.written is not None:
            self.written = np.repeat(self.written, ratio)
        for slot in self.slots.values():
            slot.thread, slot.event = np.repeat(slot.thread, ratio), np.repeat(slot.event, ratio)

    def pieces(self, addresses: np.ndarray, size: int) -> Iterator[np.ndarray]:
        """The cells of elements of `size` bytes: one cell an element, then the next one, ..."""
        first = (addresses - self.low) // self.granule
        for k in range(size // self.granule):
            yield first + k

    def slot(self, kind: str, order: Order) -> Slot:
        """The last access of a kind ("read", "write", ...); made at the first one."""
        if kind not in self.slots:
            thread = np.zeros(self._cells, order.dtype)
            self.slots[kind] = Slot(thread, np.zeros(self._cells, np.int32))
        return self.slots[kind]

    def touch(
        self, kind: str, cells: np.ndarray, lanes: np.ndarray, order: Order
    ) -> Iterator[Clash]:
        """The access `order.event` of `kind` by `lanes`: find its races, and keep it."""
        threads = order.threads(lanes)
        for other in AGAINST[kind]:
            if other in self.slots:
                yield from self._clash(self.slots[other], cells, threads, lanes, order)
        slot = self.slot(kind, order)
        if kind == "write":
            slot.keep(cells, threads, order.event)
            last = slot.thread[cells]
            both = np.flatnonzero(last != threads)
            if both.size:
                yield Clash(both, last[both], slot.event[cells[both]], among_themselves=True)
        else:
            self._keep_two(slot, self.slot(kind + "2", order), cells, threads, lanes, order)

    def _clash(
        self,
        slot: Slot,
        cells: np.ndarray,
        threads: np.ndarray,
        lanes: np.ndarray,
        order: Order,
    ) -> Iterator[Clash]:
        event = slot.event[cells]
        if self._all_before(event, order):
            return
        found = np.flatnonzero((event > 0) & (slot.thread[cells] != threads))
        if not found.size:
            return
        others, events = slot.thread[cells[found]], event[found]
        races = ~order.ordered(others, events, lanes[found], self.shared)
        if races.any():
            yield Clash(found[races], others[races], events[races])

    def _keep_two(
        self,
        one: Slot,
        two: Slot,
        cells: np.ndarray,
        threads: np.ndarray,
        lanes: np.ndarray,
        order: Order,
    ) -> None:
        """Keep an access in the first slot, else in the second if it is farther from the first."""

        cells, threads, lanes = self._ends(cells, threads, lanes)

        def free(slot: Slot) -> np.ndarray:
            """Where what the slot holds need not be kept, for it comes before this access."""
            held, event = slot.thread[cells], slot.event[cells]
            if self._all_before(event, order):
                return np.ones(cells.size, bool)
            return (held == threads) | order.ordered(held, event, lanes, self.shared)

        chosen = free(one)
        one.keep(cells[chosen], threads[chosen], order.event)
        rest = one.thread[cells] != threads
        if not rest.any():
            return
        cells, threads, lanes = cells[rest], threads[rest], lanes[rest]
        first = one.thread[cells]
        chosen = free(two) | (two.thread[cells] == first)
        two.keep(cells[chosen][::-1], threads[chosen][::-1], order.event)
        for _ in range(2):  # of several lanes in one cell the farthest: each turn goes one step
            nearer = order.distance(two.thread[cells], first)
            chosen = order.distance(threads, first) > nearer
            if not chosen.any():
                break
            two.keep(cells[chosen][::-1], threads[chosen][::-1], order.event)

    def _all_before(self, events: np.ndarray, order: Order) -> bool:
        """Whether all these accesses lie before the last barrier of every block: soon answered."""
        return int(events.max()) < (order.all_at if self.shared else order.grid_at)

    def _ends(
        self, cells: np.ndarray, threads: np.ndarray, lanes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of all lanes in one cell the first and the last: no two are farther from each other."""
        if self.scratch is None or self.scratch.size != self._cells:
            self.scratch = np.zeros(self._cells, np.int32)
        place = np.arange(cells.size, dtype=np.int32)
        self.scratch[cells] = place
        last = self.scratch[cells] == place
        if last.all():
            return cells, threads, lanes
        self.scratch[cells[::-1]] = place[::-1]
        ends = last | (self.scratch[cells] == place)
        return cells[ends], threads[ends], lanes[ends]
