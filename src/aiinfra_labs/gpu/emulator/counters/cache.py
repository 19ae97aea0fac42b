"""A model of the L2 cache: how many bytes of a launch reach DRAM. Unit 3.8.

What it models: one L2 of the device's size, empty when the kernel starts; lines of 128 bytes in 4
sectors of 32, 16 ways, the least recently used line replaced. A load of a sector that is not there
reads it from DRAM. A store writes into the cache and reads nothing; the sector goes back to DRAM
when its line is replaced, or after the launch, so that each written sector counts at least once. An
atomic operation is done in the L2: it reads and writes.

What it does not: the L1, so that loads which an L1 would answer reach the L2 here (it changes which
line is the oldest, not what a launch that fits the L2 reads from DRAM); the two halves of the L2 of
an A100 or H100; compression; the order of blocks, which here run in batches; local memory. NVIDIA
does not publish which set a line goes to; here neighbouring lines go to neighbouring sets.

As long as no set is full nothing is replaced: then DRAM gives each sector once, and no simulation
is needed, only a note of what was touched and when. From the first full set on all sets are
simulated side by side. A launch whose lines crowd into few sets has nothing to do side by side;
after `STEP_LIMIT` steps the model gives up and says that it does not know.
"""

from __future__ import annotations

import numpy as np

SECTOR = 32  # bytes
SECTORS = 4  # of a line
WAYS = 16
PAGE = 1 << 20  # sectors noted in one piece: 32 MB of memory
BUFFER = 1 << 18  # sectors simulated in one piece
STEP_LIMIT = 50_000
PRESENT, DIRTY = 1, 2


class L2Cache:
    """Counts the sectors that pass between the L2 and DRAM, from the sectors touched in order."""

    def __init__(self, nbytes: int, ways: int = WAYS):
        self.ways = ways
        self.sets = max(1, nbytes // (SECTOR * SECTORS * ways))
        self.sectors_read = 0
        self.clock = 1
        self.state: dict[int, np.ndarray] = {}  # page -> uint8 [PAGE]: PRESENT, DIRTY
        self.used: dict[int, np.ndarray] = {}  # page -> int64 [PAGE / 4]: when a line was touched
        self.filled = np.zeros(self.sets, np.int64)  # lines in each set
        self.full: _FullCache | None = None  # once a set has overflowed

    def touch(self, sectors: np.ndarray, load: bool, store: bool) -> None:
        """sectors: int64 [n], address // 32, in order; an atomic operation loads and stores."""
        if not sectors.size:
            return
        if self.full is None and not self._note(sectors, load, store):
            self._start_simulation()
        if self.full is not None:
            self.full.touch(sectors, load, store)

    def dram_bytes(self) -> tuple[int, int] | None:
        """(read, written) by the launch, dirty sectors written back; None past the limit."""
        if self.full is not None:
            return self.full.dram_bytes(self.sectors_read)
        dirty = sum(int(np.count_nonzero(state & DIRTY)) for state in self.state.values())
        return SECTOR * self.sectors_read, SECTOR * dirty

    def _note(self, sectors: np.ndarray, load: bool, store: bool) -> bool:
        """Note what is touched; False, with nothing noted, if a set would overflow."""
        low, high = int(sectors.min()) // PAGE, int(sectors.max()) // PAGE
        times = np.arange(self.clock, self.clock + sectors.size)
        parts = [(low, sectors - low * PAGE, times)]
        if low != high:
            pages = sectors // PAGE
            parts = [
                (page, sectors[here] - page * PAGE, times[here])
                for page in range(low, high + 1)
                if (here := pages == page).any()
            ]
        before, fresh = [], 0
        filled: list[np.ndarray] = []
        for page, places, _ in parts:
            if page not in self.state:
                self.state[page] = np.zeros(PAGE, np.uint8)
                self.used[page] = np.zeros(PAGE // SECTORS, np.int64)
            now = self.state[page][places]
            before.append(now)
            absent = now == 0
            if absent.any():
                new = _different(places[absent])
                fresh += new.size
                lines = _different(new // SECTORS)
                lines = lines[self.used[page][lines] == 0] + page * (PAGE // SECTORS)
                filled.append(set_of(lines, self.sets))
        if filled:
            into = np.concatenate(filled)
            np.add.at(self.filled, into, 1)
            if into.size and self.filled[into].max() > self.ways:
                return False
        for (page, places, when), now in zip(parts, before, strict=True):
            wanted = PRESENT | DIRTY if store else PRESENT
            if (now & wanted != wanted).any():
                self.state[page][places] = now | wanted
            self.used[page][places // SECTORS] = when
        self.sectors_read += fresh if load else 0
        self.clock += sectors.size
        return True

    def _start_simulation(self) -> None:
        """What was noted is what lies in the cache now, with the order in which it was used."""
        lines, times, present, dirty = [], [], [], []
        weights = np.array([1, 2, 4, 8], np.uint8)
        for page, used in self.used.items():
            here = np.flatnonzero(used)
            sectors = self.state[page].reshape(-1, SECTORS)[here]
            lines.append(here + page * (PAGE // SECTORS))
            times.append(used[here])
            present.append(((sectors & PRESENT) != 0) @ weights)
            dirty.append(((sectors & DIRTY) != 0) @ weights)
        self.full = _FullCache(self.sets, self.ways, self.clock)
        self.full.fill(*map(np.concatenate, (lines, times, present, dirty)))
        self.state.clear()
        self.used.clear()


def set_of(lines: np.ndarray, sets: int) -> np.ndarray:
    """The set of a line: neighbours lie side by side, and each round of the sets begins elsewhere,
    so that lines a power of two apart do not meet in a few sets."""
    return (lines + (lines // sets & 0x7FFFFFFF) * 0x9E3779B1) % sets


class _FullCache:
    """All sets side by side: step k handles the k-th access of every set."""

    def __init__(self, sets: int, ways: int, clock: int):
        self.sets, self.ways, self.clock = sets, ways, clock
        self.tags = np.full((sets, ways), -1, np.int64)
        self.used = np.zeros((sets, ways), np.int64)  # 0: an empty way
        self.present = np.zeros((sets, ways), np.uint8)  # a bit for each sector of the line
        self.dirty = np.zeros((sets, ways), np.uint8)
        self.waiting: list[tuple[np.ndarray, int]] = []  # sectors, kind: 1 load, 2 store, 3 both
        self.waiting_size = self.steps = 0
        self.sectors_read = self.sectors_written = 0

    def fill(
        self, lines: np.ndarray, times: np.ndarray, present: np.ndarray, dirty: np.ndarray
    ) -> None:
        into = set_of(lines, self.sets)
        order = _order(into)
        into, way = into[order], _rank(into[order])
        self.tags[into, way], self.used[into, way] = lines[order], times[order]
        self.present[into, way], self.dirty[into, way] = present[order], dirty[order]

    def touch(self, sectors: np.ndarray, load: bool, store: bool) -> None:
        if self.steps > STEP_LIMIT:
            return
        self.waiting.append((sectors, load + 2 * store))
        self.waiting_size += sectors.size
        if self.waiting_size >= BUFFER:
            self._simulate()

    def dram_bytes(self, read_before: int) -> tuple[int, int] | None:
        if self.waiting:
            self._simulate()
        if self.steps > STEP_LIMIT:
            return None
        written = self.sectors_written + int(np.bitwise_count(self.dirty).sum())
        return SECTOR * (read_before + self.sectors_read), SECTOR * written

    def _simulate(self) -> None:
        sectors = np.concatenate([s for s, _ in self.waiting])
        kinds = np.concatenate([np.full(s.size, kind, np.uint8) for s, kind in self.waiting])
        self.waiting, self.waiting_size = [], 0
        lines = sectors // SECTORS
        bits = np.left_shift(1, sectors % SECTORS).astype(np.uint8)
        # accesses of one kind to one line that follow each other are one
        head = np.ones(lines.size, bool)
        head[1:] = (lines[1:] != lines[:-1]) | (kinds[1:] != kinds[:-1])
        heads = np.flatnonzero(head)
        bits = np.bitwise_or.reduceat(bits, heads)
        lines, kinds = lines[heads], kinds[heads]
        into = set_of(lines, self.sets)
        order = _order(into)
        into, lines, kinds, bits = into[order], lines[order], kinds[order], bits[order]
        times = self.clock + order
        self.clock += order.size
        rank = _rank(into)
        by_rank = _order(rank)
        first = 0
        for size in np.bincount(rank):
            step = by_rank[first : first + size]
            self._step(into[step], lines[step], bits[step], kinds[step], times[step])
            first += size
            self.steps += 1
            if self.steps > STEP_LIMIT:
                return

    def _step(
        self,
        into: np.ndarray,
        lines: np.ndarray,
        bits: np.ndarray,
        kinds: np.ndarray,
        times: np.ndarray,
    ) -> None:
        """One access in each of the sets `into`, which are all different."""
        hits = self.tags[into] == lines[:, None]
        hit = hits.any(axis=1)
        way = np.where(hit, hits.argmax(axis=1), self.used[into].argmin(axis=1))
        present = np.where(hit, self.present[into, way], 0)
        dirty = self.dirty[into, way]
        self.sectors_written += int(np.bitwise_count(dirty[~hit]).sum())
        missing = np.where(kinds & 1, bits & ~present, 0).astype(np.uint8)
        self.sectors_read += int(np.bitwise_count(missing).sum())
        self.tags[into, way], self.used[into, way] = lines, times
        self.present[into, way] = present | bits
        self.dirty[into, way] = np.where(hit, dirty, 0) | np.where(kinds & 2, bits, 0)


def _different(values: np.ndarray) -> np.ndarray:
    """The different values, in order."""
    if (values[1:] < values[:-1]).any():
        values = np.sort(values)
    new = np.ones(values.size, bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return values[new]


def _order(keys: np.ndarray) -> np.ndarray:
    """A stable argsort of numbers of 0 or more; those below 65,536 are sorted by their digits."""
    few = keys.max(initial=0) < 1 << 16
    return np.argsort(keys.astype(np.uint16) if few else keys, kind="stable")


def _rank(groups: np.ndarray) -> np.ndarray:
    """For sorted `groups`, how many of the same group come before each entry."""
    places = np.arange(groups.size)
    head = np.ones(groups.size, bool)
    head[1:] = groups[1:] != groups[:-1]
    return places - np.maximum.accumulate(np.where(head, places, 0))
