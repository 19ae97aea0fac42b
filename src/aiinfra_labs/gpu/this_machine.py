"""The roofline of the machine that this runs on, measured with NumPy. Unit 3.1.

Peak: a product of two matrices by the BLAS that NumPy brings. Bandwidth: `np.add` on arrays far
larger than the caches, one thread a core, three arrays counted as STREAM counts its Add (J. D.
McCalpin, https://www.cs.virginia.edu/stream/ref.html): a cache that reads a line before it writes
it moves a third more. Both are what programs reach, not what the maker specifies.

Latency: two walks through one table, alike but for the order (see `walk`).
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .roofline import Roofline

LINE = 64  # bytes of a cache line on x86 and most ARM cores


def cpu_name() -> str:
    """The CPU as it names itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def matmul_rate(n: int = 1024, repetitions: int = 15) -> float:
    """Operations/s of a float32 product of two [n, n] matrices: the best of the repetitions."""
    a, b = np.random.default_rng(0).random((2, n, n), dtype=np.float32)
    out = np.empty_like(a)
    return 2 * n**3 / _best(lambda: np.matmul(a, b, out=out), repetitions)


def add_rate(megabytes: int = 64, threads: int | None = None, repetitions: int = 10) -> float:
    """Bytes/s of a + b on float32 arrays of `megabytes` each, counted as three arrays' bytes."""
    threads = threads or cores()
    n = megabytes * 2**20 // 4
    a, b, out = (np.ones(n, np.float32) for _ in range(3))
    parts = [slice(k * n // threads, (k + 1) * n // threads) for k in range(threads)]
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets go of the interpreter while it adds

        def add() -> None:
            list(pool.map(lambda part: np.add(a[part], b[part], out=out[part]), parts))

        return 3 * a.nbytes / _best(add, repetitions)


@dataclass(frozen=True)
class Measured:
    """This machine: operations/s of its BLAS, bytes/s of an addition."""

    name: str
    cores: int
    peak: float
    bandwidth: float

    @property
    def roofline(self) -> Roofline:
        """The roofline of these two figures."""
        return Roofline(f"this machine, measured: {self.name}", self.peak, self.bandwidth)


def measure() -> Measured:
    """Peak and bandwidth, in a few seconds. Other programs that run beside it lower both."""
    count = cores()
    name = f"{cpu_name()}, {count} core{'s' if count > 1 else ''}"
    return Measured(name, count, matmul_rate(), add_rate())


# --- waiting for memory ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """Seconds for each load of a cache line that no cache holds.

    in_turn: each address comes out of the load before it. together: the addresses are known
    beforehand. Both less what the same loop takes on addresses that the first cache holds.
    """

    in_turn: float
    together: float

    @property
    def under_way(self) -> float:
        """Loads that one core had under way at once: Little's law."""
        return self.in_turn / self.together


def latency(megabytes: int = 128, steps: int = 40_000, repetitions: int = 12) -> Latency:
    """What a load from memory costs when nothing can be done meanwhile, and when others can.

    The table is larger than the last cache, and each of its lines is loaded once at most.
    """
    entries = LINE // 8  # int64 in a line, of which only the first is used
    lines = megabytes * 2**20 // LINE
    far = np.random.default_rng(0).permutation(lines) * entries
    near = np.arange(64) * entries
    table, small = _ring(far, lines * entries), _ring(near, 64 * entries)
    # Short repetitions: some of them are not disturbed, whatever else the machine is doing.
    in_turn = _best(_onward(table, steps), repetitions) - _best(_onward(small, steps), repetitions)
    part = lines // repetitions
    places, again = iter(np.split(far[: part * repetitions], repetitions)), np.resize(near, part)
    together = _best(lambda: table.take(next(places)), repetitions) - _best(
        lambda: small.take(again), repetitions
    )
    return Latency(in_turn / steps, together / part)


def _ring(places: np.ndarray, size: int) -> np.ndarray:
    """A table in which each of the places holds the next one, and the last the first."""
    table = np.zeros(size, np.int64)
    table[places] = np.roll(places, -1)
    return table


def _onward(table: np.ndarray, steps: int) -> Callable[[], None]:
    """Walks that go on where the last one ended: what that one read is in the caches now."""
    entries, place = memoryview(table), 0

    def run() -> None:
        nonlocal place
        place = walk(entries, steps, place)

    return run


def walk(table: memoryview, steps: int, place: int = 0) -> int:
    """Follow a table from entry to entry. The CPU cannot ask for one before it has the last.

    In Python on purpose: the interpreter's own time is the same in every order, so the difference
    of two walks is the memory's.
    """
    for _ in range(steps):
        place = table[place]
    return place


def _best(run: Callable[[], object], repetitions: int) -> float:
    """Seconds of the fastest repetition: the others were disturbed."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
