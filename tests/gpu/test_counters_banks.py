"""Shared memory's wavefronts and bank conflicts: textbook cases worked out by hand, and sets.

Word w (4 bytes) lies in bank w % 32. A wavefront takes one word from each bank, for any number of
lanes; elements of 8 bytes are served half a warp at a time, of 16 a quarter. Conflicts are the
wavefronts beyond those that as many words need anyhow.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters.banks import atomic_turns, request_cost
from aiinfra_labs.gpu.emulator.lanes import dispatch

LANES = np.arange(32)
FLOAT4 = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("w", "f4")])


def cost(addresses, itemsize, active=None):
    """(wavefronts, conflicts) of one warp."""
    active = None if active is None else np.asarray(active, bool)[None]
    return request_cost(np.asarray(addresses, np.int64)[None], active, itemsize)


def profiled(kernel, grid, block, *args):
    with cuda.profile() as p:
        kernel[grid, block](*args)
    return p.report


# stride in words, wavefronts: with g = gcd(stride, 32), the lanes hit 32 / g banks, g words in each
STRIDES = [
    # one bank each
    (1, 1),
    # even banks only, 16 of them: 2-way conflict
    (2, 2),
    # odd strides visit every bank once
    (3, 1),
    (4, 4),
    (5, 1),
    (6, 2),
    (7, 1),
    # banks 0, 8, 16, 24: 8 words in each
    (8, 8),
    (9, 1),
    (12, 4),
    # banks 0 and 16
    (16, 16),
    (17, 1),
    (24, 8),
    (31, 1),
    # a column of a tile 32 wide: all in one bank, the worst there is
    (32, 32),
    # the same tile with a column of padding
    (33, 1),
    # two columns of padding are one too many
    (34, 2),
    # all lanes in one word: a broadcast
    (0, 1),
]


@pytest.mark.parametrize(("stride", "wavefronts"), STRIDES)
def test_strides_of_words(stride, wavefronts):
    assert cost(4 * stride * LANES, 4) == (wavefronts, wavefronts - 1)


@pytest.mark.parametrize("stride", range(1, 34))
def test_a_stride_conflicts_as_often_as_its_common_divisor_with_32(stride):
    wavefronts = int(np.gcd(stride, 32))
    assert cost(4 * stride * LANES + 64, 4) == (wavefronts, wavefronts - 1)


# itemsize, addresses, (wavefronts, conflicts)
WIDTHS = [
    # 32 bytes: 8 words, 4 lanes share each
    (1, LANES, (1, 0)),
    # 32 elements of 2 bytes: 16 words
    (2, 2 * LANES, (1, 0)),
    # bytes 4 apart: a word each
    (1, 4 * LANES, (1, 0)),
    # bytes 128 apart: words 0, 32, 64, ...: all in bank 0
    (1, 128 * LANES, (32, 31)),
    # 2-byte elements 64 apart: words 16 i, banks 0 and 16
    (2, 64 * LANES, (16, 15)),
    # 8 bytes, consecutive: half a warp is 16 x 8 = 128 bytes, all banks once; two halves; 64 words
    # need two wavefronts anyhow
    (8, 8 * LANES, (2, 0)),
    # every second element: half a warp asks words 4 i and 4 i + 1, 16 banks, 2 words in each
    (8, 16 * LANES, (4, 2)),
    # a column of a tile of 16 doubles: 128 bytes apart, each half asks 16 words of banks 0 and 1;
    # each half needs 1 wavefront for its 32 words and takes 16
    (8, 128 * LANES, (32, 30)),
    # the column with padding, 17 doubles: 34 words apart, banks 2 i and 2 i + 1: each half is whole
    (8, 136 * LANES, (2, 0)),
    # one double for all: lanes n and n ^ 1 agree, so the whole warp is served at once
    (8, 0 * LANES, (1, 0)),
    # two rows of 16 lanes read the same 16 doubles: each half is served alone
    (8, 8 * (LANES % 16), (2, 0)),
    # two rows of 16 lanes, a double each, 128 bytes apart: two words in one bank, paired lanes
    (8, 128 * (LANES // 16), (2, 1)),
    # neighbours share a double: 16 doubles for the whole warp, 32 words, served at once
    (8, 8 * (LANES // 2), (1, 0)),
    # 16 bytes, consecutive: a quarter of a warp is 8 x 16 = 128 bytes
    (16, 16 * LANES, (4, 0)),
    # every second: a quarter asks words 8 i to 8 i + 3: 16 banks, 2 words in each
    (16, 32 * LANES, (8, 4)),
    # a column: 128 bytes apart, each quarter asks 8 words of banks 0 to 3
    (16, 128 * LANES, (32, 28)),
    # one element for all: two quarters at a time
    (16, 0 * LANES, (2, 0)),
]


@pytest.mark.parametrize(("itemsize", "addresses", "expected"), WIDTHS)
def test_elements_narrower_and_wider_than_a_word(itemsize, addresses, expected):
    assert cost(addresses, itemsize) == expected


def test_lanes_that_take_no_part_ask_for_nothing():
    column = 128 * LANES
    # 4 lanes in one bank
    assert cost(column, 4, LANES < 4) == (4, 3)
    # the first half of consecutive doubles is one half, one wavefront
    assert cost(8 * LANES, 8, LANES < 16) == (1, 0)
    # every fourth lane of consecutive words: 8 banks, one word each
    assert cost(4 * LANES, 4, LANES % 4 == 0) == (1, 0)
    assert cost(column, 4, LANES < 0) == (0, 0)


def test_an_xor_swizzle_spreads_a_column():
    # element (row, column) of a tile 32 wide lies at row * 32 + (column ^ row): a row is in other
    # order, a column has each bank once, and no word is spent on padding
    row, column = LANES, 5
    assert cost(4 * (row * 32 + (column ^ row)), 4) == (1, 0)
    assert cost(4 * (7 * 32 + (LANES ^ 7)), 4) == (1, 0)


# --- of kernels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "wavefronts"),
    [
        # a column of a tile 32 wide: 32 rows in one bank
        (32, 32),
        # with padding, row r begins r banks further on
        (33, 1),
        (34, 2),
        (36, 4),
        (40, 8),
        (48, 16),
    ],
)
def test_the_transpose_through_a_tile(width, wavefronts):
    @cuda.jit
    def transpose(a, out):
        tile = cuda.shared.array((32, width), np.float32)
        x, y = cuda.grid(2)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        tile[ty, tx] = a[y, x]
        cuda.syncthreads()
        out[cuda.blockIdx.x * 32 + ty, cuda.blockIdx.y * 32 + tx] = tile[tx, ty]

    a = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    out = cuda.to_device(np.zeros((64, 64), np.float32))
    r = profiled(transpose, (2, 2), (32, 32), cuda.to_device(a), out)
    np.testing.assert_array_equal(out.copy_to_host(), a.T)
    # 4 blocks of 32 warps; each stores a row (all banks) and loads a column
    assert (r.shared_store_requests, r.shared_store_wavefronts) == (128, 128)
    assert (r.shared_load_requests, r.shared_load_wavefronts) == (128, 128 * wavefronts)
    assert r.shared_store_bank_conflicts == 0
    assert r.shared_load_bank_conflicts == 128 * (wavefronts - 1)
    # global loads and stores stay coalesced: 4 sectors for each of 128 warps
    assert (r.global_load_sectors, r.global_store_sectors) == (512, 512)


def test_the_loads_of_a_tiled_product():
    @cuda.jit
    def product(a, b, out):
        sa = cuda.shared.array((16, 16), np.float32)
        sb = cuda.shared.array((16, 16), np.float32)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        sa[ty, tx] = a[ty, tx]
        sb[ty, tx] = b[ty, tx]
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(16):
            total += sa[ty, k] * sb[k, tx]
        out[ty, tx] = total

    a, b = (np.random.default_rng(k).random((16, 16)).astype(np.float32) for k in (1, 2))
    out = cuda.to_device(np.zeros((16, 16), np.float32))
    r = profiled(product, 1, (16, 16), cuda.to_device(a), cuda.to_device(b), out)
    # a warp is 2 rows of 16: sa[ty, k] is two words, 16 banks apart (1 wavefront); sb[k, tx] is 16
    # words that two lanes each read (1): 8 warps x 16 rounds x 2 loads
    assert (r.shared_load_requests, r.shared_load_wavefronts) == (256, 256)
    # stores: two rows of 16 words are 32 words one behind the other
    assert (r.shared_store_requests, r.shared_store_wavefronts) == (16, 16)
    assert r.bank_conflicts == 0
    assert r.flops == 2 * 16 * 256


# a complex number is loaded as two: of 8 bytes each 16 bytes apart, so every second pair of banks
# serves a half-warp, twice what as many words need
@pytest.mark.parametrize(
    ("dtype", "wavefronts", "conflicts"),
    [("f4", 1, 0), ("f8", 2, 0), ("c8", 4, 2), ("c16", 8, 4), ("u1", 1, 0)],
)
def test_neighbours_of_each_width(dtype, wavefronts, conflicts):
    scalar = np.dtype(dtype).type

    @cuda.jit
    def kernel(out):
        buffer = cuda.shared.array(64, scalar)
        i = cuda.threadIdx.x
        buffer[i] = scalar(i)
        cuda.syncthreads()
        out[i] = buffer[i]

    r = profiled(kernel, 3, 64, cuda.device_array(64, dtype))
    counted = (6 * wavefronts, 6 * conflicts)  # six warps
    assert (r.shared_load_wavefronts, r.shared_load_bank_conflicts) == counted
    assert (r.shared_store_wavefronts, r.shared_store_bank_conflicts) == counted


def test_one_field_of_an_array_of_structures():
    @cuda.jit
    def aos(out):
        points = cuda.shared.array(32, FLOAT4)
        i = cuda.threadIdx.x
        points[i].x = np.float32(i)
        cuda.syncthreads()
        out[i] = points[i].x

    @cuda.jit
    def soa(out):
        x = cuda.shared.array((4, 32), np.float32)
        i = cuda.threadIdx.x
        x[0, i] = np.float32(i)
        cuda.syncthreads()
        out[i] = x[0, i]

    # 16-byte records: the field is 4 words apart, 8 banks, 4 words in each; alone it is 1 apart
    r = profiled(aos, 1, 32, cuda.device_array(32, "f4"))
    assert (r.shared_load_wavefronts, r.shared_store_wavefronts) == (4, 4)
    r = profiled(soa, 1, 32, cuda.device_array(32, "f4"))
    assert (r.shared_load_wavefronts, r.shared_store_wavefronts) == (1, 1)


def test_halves_of_a_warp_that_go_two_ways():
    @cuda.jit
    def kernel(out):
        buffer = cuda.shared.array(1024, np.float32)
        i = cuda.threadIdx.x
        buffer[i] = np.float32(0)
        cuda.syncthreads()
        if i % 32 < 16:
            out[i] = buffer[i * 32]
        else:
            out[i] = buffer[i]

    # one warp of 32: 16 lanes in one bank (16 wavefronts), then 16 lanes in 16 banks (1)
    r = profiled(kernel, 1, 32, cuda.device_array(32, "f4"))
    assert (r.shared_load_requests, r.shared_load_wavefronts) == (2, 17)
    assert r.shared_load_bank_conflicts == 15


def test_a_partial_warp():
    @cuda.jit
    def kernel(out):
        buffer = cuda.shared.array(1280, np.float32)
        i = cuda.threadIdx.x
        buffer[i * 32] = np.float32(i)
        cuda.syncthreads()
        out[i] = buffer[i * 32]

    # 40 threads down a column: a warp of 32 in one bank, one of 8
    r = profiled(kernel, 1, 40, cuda.device_array(40, "f4"))
    assert (r.shared_load_requests, r.shared_load_wavefronts) == (2, 40)
    assert (r.shared_store_requests, r.shared_store_bank_conflicts) == (2, 38)


@pytest.mark.parametrize(
    ("sequential", "loads", "wavefronts"),
    [
        # interleaved addressing: in round s threads i < 32 / s read words 2 s i and 2 s i + s. All
        # 64 words: s = 1: 32 lanes, 16 banks, 2 words each (2); s = 2: 16 lanes, 4 words apart, 8
        # banks (2); s = 4: 8 lanes, 8 apart, 4 banks (2); s = 8: 4 lanes, 2 banks (2); s = 16: 2
        # lanes, 32 apart (2); s = 32: one lane (1). Two loads in each round.
        (False, 12, 2 * (5 * 2 + 1)),
        # sequential addressing: threads i < s read words i and i + s: neighbours, no conflict
        (True, 12, 12),
    ],
)
def test_the_reductions_of_the_textbook(sequential, loads, wavefronts):
    @cuda.jit
    def interleaved(out):
        s = cuda.shared.array(64, np.float32)
        i = cuda.threadIdx.x
        s[i] = np.float32(i)
        cuda.syncthreads()
        step = 1
        while step < 64:
            at = 2 * step * i
            if at < 64:
                s[at] = s[at] + s[at + step]
            cuda.syncthreads()
            step *= 2
        if i == 0:
            out[0] = s[0]

    @cuda.jit
    def in_sequence(out):
        s = cuda.shared.array(64, np.float32)
        i = cuda.threadIdx.x
        s[i] = np.float32(i)
        cuda.syncthreads()
        step = 32
        while step > 0:
            if i < step:
                s[i] = s[i] + s[i + step]
            cuda.syncthreads()
            step //= 2
        if i == 0:
            out[0] = s[0]

    out = cuda.to_device(np.zeros(1, np.float32))
    r = profiled(in_sequence if sequential else interleaved, 1, 64, out)
    assert out.copy_to_host()[0] == 64 * 63 / 2
    # and the last load, of the result, by one lane
    assert (r.shared_load_requests, r.shared_load_wavefronts) == (loads + 1, wavefronts + 1)


def test_dynamic_shared_memory_counts_alike():
    @cuda.jit
    def kernel(out, stride):
        s = cuda.shared.array(0, np.float32)
        i = cuda.threadIdx.x
        s[i * stride] = np.float32(i)
        cuda.syncthreads()
        out[i] = s[i * stride]

    for stride in (1, 2, 33):
        with cuda.profile() as p:
            kernel[2, 32, 0, 4 * 32 * stride](cuda.device_array(32, "f4"), stride)
        wavefronts = 2 * int(np.gcd(stride, 32))
        assert p.report.shared_load_wavefronts == wavefronts
        assert p.report.shared_bytes == 4 * 32 * stride


# --- against sets of words --------------------------------------------------------------------


def by_sets(addresses, active, itemsize):
    """(wavefronts, conflicts) of one warp, from the rules and Python's sets."""
    lanes = [k for k in range(32) if active[k]]
    if not lanes:
        return 0, 0
    size = 32 if itemsize <= 4 else 16 if itemsize <= 8 else 8
    pairs = [all(addresses[k] == addresses[k ^ d] for k in lanes if active[k ^ d]) for d in (1, 2)]
    if itemsize > 4 and any(pairs):
        size *= 2
    wavefronts = least = 0
    for first in range(0, 32, size):
        banks = {}
        for lane in lanes:
            if first <= lane < first + size:
                for byte in range(int(addresses[lane]), int(addresses[lane]) + itemsize):
                    banks.setdefault(byte // 4 % 32, set()).add(byte // 4)
        wavefronts += max(map(len, banks.values()), default=0)
        least += -(-sum(map(len, banks.values())) // 32)
    return wavefronts, wavefronts - least


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    itemsize=st.sampled_from([1, 2, 4, 8, 16]),
    period=st.integers(1, 3),
    blocks=st.integers(1, 4),
    span=st.sampled_from([2, 20, 100, 3000]),
    alike=st.sampled_from(["blocks", "pairs", "rows", "nothing"]),
    share=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_wavefronts_are_the_most_words_of_a_bank(
    itemsize, period, blocks, span, alike, share, seed
):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, span, (blocks, period, 32))
    active = rng.random(places.shape) < share
    if alike == "blocks":  # each block asks as the first does, a multiple of 128 bytes further on
        places[:] = places[0] + np.arange(blocks)[:, None, None] * (128 * 7 // itemsize)
        active[:] = active[0]
    elif alike == "pairs":
        places = places // 2 if span == 2 else places[..., LANES & ~int(rng.choice([1, 2]))]
    elif alike == "rows":
        places[:] = LANES * rng.integers(0, 40) + rng.integers(0, 9)
    addresses = (places * itemsize).reshape(-1, 32).astype(np.int64)
    active = active.reshape(-1, 32)
    expected = [by_sets(a, m, itemsize) for a, m in zip(addresses, active, strict=True)]
    found = request_cost(addresses, None if active.all() else active, itemsize, period)
    assert found == tuple(map(sum, zip(*expected, strict=True)))
    assert request_cost(addresses, active, itemsize, period, aligned=False) == found


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    span=st.sampled_from([1, 3, 20, 1000]), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1)
)
def test_turns_are_the_most_lanes_on_one_address(span, share, seed):
    rng = np.random.default_rng(seed)
    addresses = rng.integers(0, span, (5, 32)) * 4
    active = rng.random(addresses.shape) < share
    expected = 0
    for row, mask in zip(addresses, active, strict=True):
        lanes = row[mask].tolist()
        expected += max(map(lanes.count, lanes), default=0)
    assert atomic_turns(addresses, active) == expected


@cuda.jit
def wandering(where, out):
    """Shared memory under divergence, where the data says."""
    s = cuda.shared.array(256, np.float64)
    i, t = cuda.grid(1), cuda.threadIdx.x
    s[t] = i
    cuda.syncthreads()
    total = 0.0
    for k in range(where[i] % 4):
        if (i + k) % 3:
            total += s[where[i + k] % cuda.blockDim.x]
    cuda.atomic.add(out, where[i] % 7, total)
    out[7 + i] = total


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    grid=st.integers(1, 6),
    block=st.sampled_from([1, 32, 33, 64, 200]),
    lanes=st.sampled_from([1, 64, 300]),
    seed=st.integers(0, 2**32 - 1),
)
def test_nothing_depends_on_the_batch_size(grid, block, lanes, seed):
    n = grid * block
    where = cuda.to_device(np.random.default_rng(seed).integers(0, 256, n + 4))
    out = cuda.device_array(7 + n)
    runs = []
    for budget in (dispatch.LANES, lanes):
        out[:] = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dispatch, "LANES", budget)
            runs.append(profiled(wandering, grid, block, where, out).to_dict())
    assert runs[0] == runs[1]
