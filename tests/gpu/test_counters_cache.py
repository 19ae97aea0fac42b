"""The model of the L2 cache: against a cache simulated one access at a time, and by hand."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters import cache
from aiinfra_labs.gpu.emulator.counters.cache import L2Cache, set_of
from aiinfra_labs.gpu.emulator.lanes import dispatch


class OneAtATime:
    """Set-associative, least recently used, in plain Python."""

    def __init__(self, sets, ways):
        self.sets = [OrderedDict() for _ in range(sets)]  # line -> [present, dirty], oldest first
        self.ways, self.read, self.written = ways, 0, 0

    def touch(self, sector, load, store):
        line = sector // 4
        lines = self.sets[int(set_of(np.int64(line), len(self.sets)))]
        if line not in lines:
            if len(lines) == self.ways:
                _, (_, dirty) = lines.popitem(last=False)
                self.written += len(dirty)
            lines[line] = (set(), set())
        lines.move_to_end(line)
        present, dirty = lines[line]
        self.read += load and sector not in present
        present.add(sector)
        if store:
            dirty.add(sector)

    def dram_bytes(self):
        left = sum(len(dirty) for lines in self.sets for _, dirty in lines.values())
        return 32 * self.read, 32 * (self.written + left)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    ways=st.integers(1, 4),
    sets=st.integers(1, 7),
    span=st.integers(1, 400),  # sectors that are touched at all: some launches fit, others do not
    buffer=st.sampled_from([1, 17, 1 << 18]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_access_counts_as_in_a_cache_simulated_one_at_a_time(ways, sets, span, buffer, seed):
    rng = np.random.default_rng(seed)
    fast, slow = L2Cache(128 * ways * sets, ways), OneAtATime(sets, ways)
    assert fast.sets == sets
    base = int(rng.integers(0, 2**40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "BUFFER", buffer)
        for _ in range(int(rng.integers(1, 12))):
            sectors = base + rng.integers(0, span, int(rng.integers(1, 40)))
            load, store = [(True, False), (False, True), (True, True)][rng.integers(3)]
            fast.touch(sectors, load, store)
            for sector in map(int, sectors):
                slow.touch(sector, load, store)
        assert fast.dram_bytes() == slow.dram_bytes()


def test_a_launch_over_several_pages():
    # 3 pages of 2^20 sectors; 100 sectors far apart are 100 lines, each read once and found again
    sectors = np.arange(100) * 30_000 + 12_345
    l2 = L2Cache(1 << 20)
    l2.touch(sectors, load=True, store=False)
    l2.touch(sectors[::-1], load=True, store=False)
    l2.touch(sectors[:7], load=False, store=True)
    assert l2.full is None
    assert l2.dram_bytes() == (32 * 100, 32 * 7)


def test_as_many_neighbouring_lines_as_the_cache_has_fit():
    l2 = L2Cache(1 << 16)  # 512 lines
    lines = np.arange(512) * 4 + 4_000_000
    for _ in range(3):
        l2.touch(lines, load=True, store=False)
    assert l2.full is None
    assert l2.dram_bytes() == (32 * 512, 0)


def test_a_sweep_one_line_larger_than_a_set_never_hits():
    # 1 set of 16 ways, 17 lines in a circle: the line that comes next has just been replaced
    l2 = L2Cache(16 * 128)
    for _ in range(5):
        l2.touch(np.arange(17) * 4, load=True, store=False)
    assert l2.dram_bytes() == (5 * 17 * 32, 0)


def test_a_crowded_set_makes_the_model_give_up(monkeypatch):
    monkeypatch.setattr(cache, "STEP_LIMIT", 100)
    l2 = L2Cache(16 * 128)  # one set: every access is a step of its own
    l2.touch(np.arange(4000) * 4 % 997, load=True, store=False)
    assert l2.dram_bytes() is None


# --- what a kernel moves ----------------------------------------------------------------------


@cuda.jit
def add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def again_and_again(a, out):
    i = cuda.grid(1)
    total = np.float32(0)
    for k in range(5):
        total += a[(i + 32 * k) % a.size]
    out[i] = total


@cuda.jit
def in_place(a):
    i = cuda.grid(1)
    a[i] = a[i] * np.float32(2)


@cuda.jit
def count_all(bins):
    cuda.atomic.add(bins, 0, 1)


def profiled(kernel, grid, block, *args):
    with cuda.profile() as p:
        kernel[grid, block](*args)
    return p.report


def zeros(n, dtype="f4"):
    return cuda.to_device(np.zeros(n, dtype))


def test_a_sum_of_vectors_moves_each_array_once():
    # 1024 x 4 bytes = 4096 bytes each: two arrays in, one out
    r = profiled(add, 4, 256, zeros(1024), zeros(1024), zeros(1024))
    assert (r.dram_bytes_read, r.dram_bytes_written) == (2 * 4096, 4096)
    # 1024 additions over 3 x 4096 bytes: 1/12
    assert r.arithmetic_intensity == 1024 / (3 * 4096)
    assert r.metrics["dram__bytes_read.sum"] == 8192
    assert r.metrics["dram__bytes_write.sum"] == 4096


def test_what_is_read_again_comes_from_the_cache():
    # 5 rounds of 1024 loads, of which only the first reaches DRAM: 4096 bytes
    r = profiled(again_and_again, 4, 256, zeros(1024), zeros(1024))
    assert r.bytes_requested == 6 * 4096
    assert (r.dram_bytes_read, r.dram_bytes_written) == (4096, 4096)


def test_an_array_changed_in_place_is_read_and_written():
    r = profiled(in_place, 4, 256, zeros(1024))
    assert (r.dram_bytes_read, r.dram_bytes_written) == (4096, 4096)


def test_an_atomic_reads_and_writes_its_sector_once():
    # 1024 threads, one counter of 4 bytes in one sector
    r = profiled(count_all, 4, 256, zeros(1, "i4"))
    assert (r.dram_bytes_read, r.dram_bytes_written) == (32, 32)


def test_each_launch_begins_with_an_empty_cache():
    a = zeros(1024)
    with cuda.profile() as p:
        in_place[4, 256](a)
        in_place[4, 256](a)
    assert [r.dram_bytes_read for r in p.launches] == [4096, 4096]
    assert p.report.dram_bytes_read == 8192


def test_stores_do_not_read():
    @cuda.jit
    def fill(out):
        out[cuda.grid(1)] = np.float32(1)

    r = profiled(fill, 4, 256, zeros(1024))
    assert (r.dram_bytes_read, r.dram_bytes_written) == (0, 4096)


def test_an_array_larger_than_the_cache_is_read_in_each_sweep():
    @cuda.jit
    def sweep(a, out):
        i = cuda.grid(1)
        total = np.float32(0)
        for _ in range(2):
            for k in range(i, a.size, cuda.gridsize(1)):
                total += a[k]
        out[i] = total

    # 8 MB twice; the T4 has 4 MB of L2: the second sweep finds nothing of its beginning. The H100's
    # 50 MB hold it.
    a, out = zeros(1 << 21), zeros(1 << 14)
    before = cuda.get_current_device().key
    try:
        cuda.select_device("t4")
        small = profiled(sweep, 64, 256, a, out)
    finally:
        cuda.select_device(before)
    large = profiled(sweep, 64, 256, a, out)
    assert small.dram_bytes_read == 2 * a.nbytes
    assert large.dram_bytes_read == a.nbytes


def test_where_the_launch_fits_nothing_depends_on_the_batch(monkeypatch):
    args = zeros(1024), zeros(1024), zeros(1024)
    whole = profiled(add, 32, 32, *args)
    monkeypatch.setattr(dispatch, "LANES", 64)
    pieces = profiled(add, 32, 32, *args)
    assert whole.to_dict() == pieces.to_dict()


def test_a_report_says_when_the_model_gave_up(monkeypatch):
    monkeypatch.setattr(cache, "STEP_LIMIT", 0)
    monkeypatch.setattr(
        "aiinfra_labs.gpu.emulator.counters.counting.L2Cache", lambda n: L2Cache(128, 1)
    )
    r = profiled(add, 4, 256, zeros(1024), zeros(1024), zeros(1024))
    assert r.dram_bytes is None and r.arithmetic_intensity is None
    assert "dram__bytes_read.sum" not in r.metrics
    assert any("gave up" in note for note in r.notes)
    assert "gave up" in str(r)
    with pytest.raises(cuda.EmulatorError, match="not known"):
        r.estimate()
