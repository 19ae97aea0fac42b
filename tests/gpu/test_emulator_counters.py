"""The counters of global memory: textbook cases worked out by hand, and sets of addresses.

A warp is 32 threads; a sector is 32 bytes; device memory begins on a 256-byte boundary. Each case
gives what one warp's request touches, and how many warps make it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters.figures import Counters
from aiinfra_labs.gpu.emulator.lanes import dispatch

N = 1024  # threads of most cases: 32 warps
FLOAT4 = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("w", "f4")])
FLOAT3 = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])
PACKED = np.dtype([("tag", "i1"), ("x", "f4")])  # 5 bytes


@cuda.jit
def strided(a, out, stride, offset):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i * stride + offset]


@cuda.jit
def scattered(a, out, stride, offset):
    i = cuda.grid(1)
    if i < a.size:
        out[i * stride + offset] = a[i]


def profiled(kernel, grid, block, *args):
    with cuda.profile() as p:
        kernel[grid, block](*args)
    return p.report


# dtype, stride, offset, sectors of one warp's load
STRIDES = [
    # 32 threads x 4 bytes = 128 bytes from a boundary: 128 / 32
    ("f4", 1, 0, 4),
    # bytes 4 to 131: one sector more than 4
    ("f4", 1, 1, 5),
    # offset 8 elements = 32 bytes: on a boundary again
    ("f4", 1, 8, 4),
    # 7 elements = 28 bytes: bytes 28 to 155, sectors 0 to 4
    ("f4", 1, 7, 5),
    # every second element: 32 x 8 bytes = 256 bytes, each sector is touched
    ("f4", 2, 0, 8),
    # 32 x 12 = 384 bytes, steps of 12 < 32 bytes skip no sector
    ("f4", 3, 0, 12),
    ("f4", 4, 0, 16),
    # 8 elements = 32 bytes: each thread has a sector of its own
    ("f4", 8, 0, 32),
    # from here on no stride can be worse: a request has 32 threads
    ("f4", 16, 0, 32),
    ("f4", 32, 0, 32),
    ("f4", 33, 0, 32),
    # all threads read one element: a broadcast, one sector
    ("f4", 0, 5, 1),
    # 32 x 8 bytes = 256 bytes
    ("f8", 1, 0, 8),
    # 32 x 8 bytes from byte 8 on: 256 bytes over 9 sectors
    ("f8", 1, 1, 9),
    ("f8", 2, 0, 16),
    # 32 x 16 bytes = 512 bytes, in two requests: each half of a complex number is one
    ("c16", 1, 0, 2 * 16),
    # 32 x 1 byte: one sector for the whole warp
    ("i1", 1, 0, 1),
    # bytes 1 to 32: two
    ("i1", 1, 1, 2),
    ("u2", 1, 0, 2),
    ("f2", 4, 0, 8),
]


@pytest.mark.parametrize(("dtype", "stride", "offset", "per_warp"), STRIDES)
def test_loads_by_stride_offset_and_size(dtype, stride, offset, per_warp):
    a = cuda.to_device(np.zeros(N * max(stride, 1) + offset + 1, dtype))
    out = cuda.device_array(N, dtype)
    r = profiled(strided, N // 256, 256, a, out, stride, offset)
    requests = 64 if dtype == "c16" else 32
    assert (r.global_load_requests, r.global_load_sectors) == (requests, 32 * per_warp)
    assert r.global_load_bytes == N * a.dtype.itemsize


@pytest.mark.parametrize(("dtype", "stride", "offset", "per_warp"), STRIDES)
def test_stores_count_as_loads_do(dtype, stride, offset, per_warp):
    a = cuda.device_array(N, dtype)
    out = cuda.device_array(N * max(stride, 1) + offset + 1, dtype)
    r = profiled(scattered, N // 128, 128, a, out, stride, offset)
    requests = 64 if dtype == "c16" else 32
    assert (r.global_store_requests, r.global_store_sectors) == (requests, 32 * per_warp)
    assert r.global_store_bytes == N * a.dtype.itemsize


def test_a_partial_warp():
    # 40 threads: warp 0 has 32 (128 bytes, 4 sectors), warp 1 has 8 (32 bytes, 1 sector)
    a, out = cuda.to_device(np.zeros(40, "f4")), cuda.device_array(40, "f4")
    r = profiled(strided, 1, 40, a, out, 1, 0)
    assert (r.global_load_requests, r.global_load_sectors) == (2, 5)
    assert r.bytes_requested == 2 * 160
    # the line of the load and store: one index and one product and sum each warp, 40 threads
    assert r.lanes_per_instruction == 40 / 2


def test_blocks_that_are_no_multiple_of_a_warp():
    # 4 blocks of 48 threads, each 192 bytes = 6 sectors: a warp of 4 sectors and half a warp of 2
    a, out = cuda.to_device(np.zeros(192, "f4")), cuda.device_array(192, "f4")
    r = profiled(strided, 4, 48, a, out, 1, 0)
    assert (r.global_load_requests, r.global_load_sectors) == (8, 4 * 6)


def test_threads_beyond_the_array_make_no_request():
    # 100 elements, 256 threads: warps 0 to 2 whole (4 sectors), warp 3 has 4 threads (1 sector),
    # warps 4 to 7 are wholly outside; only warp 3 splits at `if i < out.size`
    a, out = cuda.to_device(np.zeros(100, "f4")), cuda.device_array(100, "f4")
    r = profiled(strided, 1, 256, a, out, 1, 0)
    assert (r.global_load_requests, r.global_load_sectors) == (4, 13)
    assert (r.branches, r.divergent_branches) == (8, 1)


def test_halves_of_a_warp_that_go_two_ways():
    @cuda.jit
    def kernel(a, b, out):
        i = cuda.grid(1)
        if i % 32 < 16:
            out[i] = a[i]
        else:
            out[i] = b[i]

    # each side is a request of its own: 16 threads x 4 bytes = 64 bytes = 2 sectors, twice a warp
    a, b = cuda.to_device(np.zeros(N, "f4")), cuda.to_device(np.ones(N, "f4"))
    r = profiled(kernel, N // 256, 256, a, b, cuda.device_array(N, "f4"))
    assert (r.global_load_requests, r.global_load_sectors) == (64, 128)
    assert (r.global_store_requests, r.global_store_sectors) == (64, 128)
    assert (r.branches, r.divergent_branches) == (32, 32)


def test_warps_that_go_two_ways_do_not_diverge():
    @cuda.jit
    def kernel(a, b, out):
        i = cuda.grid(1)
        if i // 32 % 2 == 0:
            out[i] = a[i]
        else:
            out[i] = b[i]

    # whole warps take one side or the other: 4 sectors each, as without the branch
    a, b = cuda.to_device(np.zeros(N, "f4")), cuda.to_device(np.ones(N, "f4"))
    r = profiled(kernel, N // 256, 256, a, b, cuda.device_array(N, "f4"))
    assert (r.global_load_requests, r.global_load_sectors) == (32, 128)
    assert (r.branches, r.divergent_branches) == (32, 0)


def test_every_second_thread_moves_all_sectors():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        if i % 2 == 0:
            out[i] = a[i]

    # 16 threads 8 bytes apart still touch each sector of the 128 bytes
    r = profiled(kernel, N // 256, 256, cuda.device_array(N, "f4"), cuda.device_array(N, "f4"))
    assert (r.global_load_requests, r.global_load_sectors) == (32, 128)
    assert r.global_load_bytes == N // 2 * 4  # half of what is moved was asked for
    assert r.bytes_moved == 2 * 128 * 32


@pytest.mark.parametrize(
    ("order", "pitch", "block", "sectors"),
    [
        # a warp is one row of 32: 128 bytes, 4 sectors; 1024 elements are 32 warps
        ("row", 32, (32, 8), 32 * 4),
        # a warp walks down a column: 32 rows of 128 bytes, a sector each
        ("column", 32, (32, 8), 32 * 32),
        # a warp is 2 rows of 16: 2 x 64 bytes = 2 x 2 sectors
        ("row", 32, (16, 16), 32 * 4),
        # a warp is 4 rows of 8: 4 x 32 bytes
        ("row", 32, (8, 32), 32 * 4),
        # a warp is 8 rows of 4: 16 bytes of each row's sector, 8 sectors
        ("row", 32, (4, 32), 32 * 8),
        # rows of 33 elements begin at 132 y: on a boundary for y = 0, 8, 16, 24 (4 sectors), else
        # between two (5 sectors)
        ("row", 33, (32, 8), 4 * 4 + 28 * 5),
    ],
)
def test_two_axes(order, pitch, block, sectors):
    @cuda.jit
    def row(a, out):
        x, y = cuda.grid(2)
        out[y, x] = a[y, x]

    @cuda.jit
    def column(a, out):
        x, y = cuda.grid(2)
        out[y, x] = a[x, y]

    a = cuda.to_device(np.zeros((32, pitch), "f4"))[:, :32]
    grid = (32 // block[0], 32 // block[1])
    out = cuda.device_array(a.shape, "f4")
    r = profiled({"row": row, "column": column}[order], grid, block, a, out)
    assert r.global_load_sectors == sectors


def test_fortran_order_turns_rows_and_columns_round():
    @cuda.jit
    def kernel(a, out):
        x, y = cuda.grid(2)
        out[x, y] = a[x, y]

    # column-major: a[x, y] with x along the warp is contiguous, 4 sectors; row-major it is 32
    a = cuda.to_device(np.asfortranarray(np.zeros((32, 32), "f4")))
    r = profiled(kernel, (1, 4), (32, 8), a, cuda.device_array((32, 32), "f4"))
    assert (r.global_load_sectors, r.global_store_sectors) == (32 * 4, 32 * 32)


def test_array_of_structures_and_structure_of_arrays():
    @cuda.jit
    def one_field(r, out):
        i = cuda.grid(1)
        out[i] = r[i].y

    @cuda.jit
    def all_fields(r, out):
        i = cuda.grid(1)
        out[i] = r[i].x + r[i].y + r[i].z + r[i].w

    @cuda.jit
    def four_arrays(x, y, z, w, out):
        i = cuda.grid(1)
        out[i] = x[i] + y[i] + z[i] + w[i]

    out = cuda.device_array(N, "f4")
    aos = cuda.to_device(np.zeros(N, FLOAT4))
    # one field of 16-byte records: 32 x 16 = 512 bytes, 16 sectors, a quarter of them asked for
    r = profiled(one_field, N // 256, 256, aos, out)
    assert (r.global_load_requests, r.global_load_sectors) == (32, 32 * 16)
    # four requests a warp, 16 sectors each
    r = profiled(all_fields, N // 256, 256, aos, out)
    assert (r.global_load_requests, r.global_load_sectors) == (128, 128 * 16)
    # four arrays: four requests of 4 sectors
    soa = [cuda.to_device(np.zeros(N, "f4")) for _ in range(4)]
    r = profiled(four_arrays, N // 256, 256, *soa, out)
    assert (r.global_load_requests, r.global_load_sectors) == (128, 128 * 4)
    # 12-byte records: 32 x 12 = 384 bytes, 12 sectors
    r = profiled(one_field, N // 256, 256, cuda.to_device(np.zeros(N, FLOAT3)), out)
    assert r.global_load_sectors == 32 * 12


def test_a_record_copied_whole():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        out[i] = a[i]

    # 16 bytes a thread, as float4: 512 bytes, 16 sectors, one request
    a, out = cuda.to_device(np.ones(N, FLOAT4)), cuda.to_device(np.zeros(N, FLOAT4))
    r = profiled(kernel, N // 256, 256, a, out)
    assert (r.global_load_requests, r.global_load_sectors) == (32, 32 * 16)
    assert (r.global_store_requests, r.global_store_sectors) == (32, 32 * 16)
    np.testing.assert_array_equal(out.copy_to_host(), np.ones(N, FLOAT4))


def test_records_copied_whole_that_straddle_sectors():
    @cuda.jit
    def kernel(r, out):
        i = cuda.grid(1)
        out[i] = r[i]

    # 32 records of 5 bytes from the 27th on: bytes 130 to 289, sectors 4 to 9; stored at 0 to 159
    r = cuda.to_device(np.zeros(96, PACKED))
    report = profiled(kernel, 1, 32, r[26:], cuda.to_device(np.zeros(32, PACKED)))
    assert (report.global_load_sectors, report.global_store_sectors) == (6, 5)


def test_rounds_of_a_loop_that_ask_alike_and_otherwise():
    @cuda.jit
    def kernel(a, where, out):
        i = cuda.grid(1)
        for k in range(where.size):
            out[k, i] = a[i + where[k]]

    # 0 and 8: 4 sectors; 1 and 9 and 12: 5, whatever was asked before. 2 warps.
    where = np.array([0, 8, 1, 9, 8, 0, 12, 16])
    a, out = cuda.device_array(128, "f4"), cuda.device_array((8, 64), "f4")
    report = profiled(kernel, 2, 32, a, cuda.to_device(where), out)
    loads = sum((c for c in report.lines.values() if c.global_store_requests), Counters())
    # and `where[k]`: one element for all, a sector each round
    assert loads.global_load_sectors == 2 * (4 + 4 + 5 + 5 + 4 + 4 + 5 + 4) + 2 * 8
    assert report.dram_bytes_written == 8 * 64 * 4


def test_rounds_of_a_loop_that_fewer_and_fewer_lanes_go():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        for k in range(i + 1):
            out[i] = a[i + 32 * k]

    # round k: lanes k to 31 of 128 bytes, the sectors 4 k // 32 to 3: 4 for k < 8, then 3, 2, 1
    a, out = cuda.device_array(1024, "f4"), cuda.device_array(32, "f4")
    report = profiled(kernel, 1, 32, a, out)
    assert report.global_load_sectors == 8 * (4 + 3 + 2 + 1)


def test_order_within_a_warp_does_not_matter():
    @cuda.jit
    def backwards(a, out):
        i = cuda.grid(1)
        out[i] = a[a.size - 1 - i]

    @cuda.jit
    def exchanged(a, out):
        i = cuda.grid(1)
        out[i] = a[i ^ 13]

    # the same 128 bytes a warp, in another order
    for kernel in (backwards, exchanged):
        a, out = cuda.device_array(N, "f4"), cuda.device_array(N, "f4")
        assert profiled(kernel, N // 256, 256, a, out).global_load_sectors == 32 * 4


def test_one_index_into_arrays_of_several_sizes_and_alignments():
    @cuda.jit
    def kernel(a, b, c, out):
        i = cuda.grid(1)
        out[i] = a[i] + b[i] + c[i]

    # float32 on a boundary (4), float64 (8), float32 from element 1 on (5), int8 stored (1)
    a, b, c = (cuda.to_device(np.zeros(N + 1, dtype)) for dtype in ("f4", "f8", "f4"))
    r = profiled(kernel, N // 256, 256, a, b, c[1:], cuda.device_array(N, "i1"))
    assert r.global_load_sectors == 32 * (4 + 8 + 5)
    assert r.global_store_sectors == 32 * 1


def test_a_stencil_by_line():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1) + 1
        left = a[i - 1]
        here = a[i]
        right = a[i + 1]
        out[i] = left + here + right

    a, out = cuda.to_device(np.zeros(N + 2, "f4")), cuda.device_array(N + 2, "f4")
    r = profiled(kernel, N // 256, 256, a, out)
    by_line = [c.global_load_sectors for c in r.lines.values() if c.global_load_requests]
    # a[i - 1] is aligned (4); a[i] is off by 1 (5); a[i + 1] is off by 2, bytes 8 to 135 (5)
    assert by_line == [32 * 4, 32 * 5, 32 * 5]
    assert r.global_store_sectors == 32 * 5
    assert r.flops == 2 * N


def test_a_grid_stride_loop_counts_each_round():
    @cuda.jit
    def kernel(a, out):
        for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
            out[i] = a[i]

    # 64 threads, 1024 elements: 2 warps x 16 rounds, 4 sectors each; 17 times asked whether to stay
    a, out = cuda.device_array(N, "f4"), cuda.device_array(N, "f4")
    r = profiled(kernel, 1, 64, a, out)
    assert (r.global_load_requests, r.global_load_sectors) == (32, 128)
    assert (r.branches, r.divergent_branches) == (2 * 17, 0)


def test_a_loop_whose_threads_leave_at_different_times():
    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        total = 0
        for k in range(i % 4):
            total += k
        out[i] = total

    # one warp; round 0 is refused by lanes 0 mod 4, round 1 by 1 mod 4, round 2 by 2 mod 4; in
    # round 3 the lanes left (3 mod 4) all leave: 4 branches, of which 3 split the warp
    r = profiled(kernel, 1, 32, cuda.device_array(32, "i8"))
    assert (r.branches, r.divergent_branches) == (4, 3)


def test_arrays_of_the_code_are_not_global_loads():
    table = np.arange(32.0)

    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        out[i] = table[i]

    r = profiled(kernel, 1, 32, cuda.device_array(32, "f8"))
    assert (r.global_load_requests, r.global_store_requests) == (0, 1)


# --- against sets of addresses ----------------------------------------------------------------


@cuda.jit
def gather(a, where, active, out):
    i = cuda.grid(1)
    if i < where.size and active[i]:
        out[i] = a[where[i]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from(["i1", "u2", "f4", "f8", "c16"]),
    threads=st.integers(1, 150),
    block=st.sampled_from([1, 7, 32, 33, 64, 96]),
    shape=st.sampled_from(["gathered", "strided", "sliced"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sectors_are_the_distinct_pieces_of_32_bytes(dtype, threads, block, shape, seed):
    rng = np.random.default_rng(seed)
    memory = cuda.to_device(np.zeros(800, dtype))
    offset, step = int(rng.integers(0, 40)), int(rng.integers(1, 4))
    a = memory[offset::step] if shape == "sliced" else memory
    if shape == "strided":
        where = (np.arange(threads) * int(rng.integers(0, 6)) + offset) % a.size
    else:
        where = rng.integers(0, a.size, threads)
    active = rng.random(threads) < rng.choice([0.1, 0.5, 0.9, 1.0])
    out = cuda.device_array(threads, dtype)
    on_device = cuda.to_device(where), cuda.to_device(active)
    report = profiled(gather, -(-threads // block), block, a, *on_device, out)
    line = sum((c for c in report.lines.values() if c.global_store_requests), Counters())

    warps: dict[tuple[int, int], list[int]] = {}
    for thread in map(int, np.flatnonzero(active)):
        warps.setdefault((thread // block, thread % block // 32), []).append(thread)

    def touched(array, places):
        """Sectors of every warp's requests, by sets: {address // 32 of each byte}."""
        start, step = array._array.ctypes.data, array.strides[0]
        size = array.dtype.itemsize
        parts = [range(8), range(8, 16)] if array.dtype.kind == "c" else [range(size)]
        return sum(
            len({(start + int(places[t]) * step + b) // 32 for t in members for b in part})
            for members in warps.values()
            for part in parts
        )

    size = a.dtype.itemsize
    expected = touched(a, where) + touched(on_device[0], np.arange(threads))
    stored = touched(out, np.arange(threads))
    assert line.global_load_sectors == expected
    assert line.global_store_sectors == stored
    halves = 2 if dtype == "c16" else 1
    assert line.global_load_requests == (halves + 1) * len(warps)
    assert line.global_store_requests == halves * len(warps)
    assert line.global_load_bytes == int(active.sum()) * (size + 8)
    assert line.global_store_bytes == int(active.sum()) * size


@cuda.jit
def wandering(a, out):
    """Loops, branches and two axes: everything a count could depend on."""
    x, y = cuda.grid(2)
    total = 0.0
    if y < out.shape[0] and x < out.shape[1]:
        for k in range((x * 7 + y) % 5):
            if k == 3:
                break
            total += a[(x + k * y) % a.size]
        out[y, x] = total if total > 3 else -total


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    block=st.sampled_from([(32, 2), (7, 5), (1, 1), (16, 16), (33, 1)]),
    lanes=st.sampled_from([1, 64, 300, 1000]),
)
def test_nothing_depends_on_the_batch_size(grid, block, lanes):
    a = cuda.to_device(np.arange(50.0))
    runs = []
    for budget in (dispatch.LANES, lanes):
        out = cuda.to_device(np.zeros((40, 60)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dispatch, "LANES", budget)
            report = profiled(wandering, grid, block, a, out)
        runs.append((out.copy_to_host(), report.to_dict()))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_the_lines_add_up_to_the_launch():
    report = profiled(
        wandering, (2, 2), (16, 8), cuda.device_array(50), cuda.device_array((40, 60))
    )
    assert len(report.lines) > 4
    for name in vars(Counters()):
        assert getattr(report, name) == sum(getattr(c, name) for c in report.lines.values()), name


def test_profiling_changes_no_result():
    a = cuda.to_device(np.arange(50.0))
    plain, watched = cuda.to_device(np.zeros((40, 60))), cuda.to_device(np.zeros((40, 60)))
    wandering[(4, 5), (16, 8)](a, plain)
    profiled(wandering, (4, 5), (16, 8), a, watched)
    np.testing.assert_array_equal(plain.copy_to_host(), watched.copy_to_host())
