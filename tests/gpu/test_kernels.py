"""The kernels of units 3.4 to 3.6: against NumPy, on sizes that fit nothing, and what they cost."""

import math

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.kernels import histogram, matmul, reduction, softmax, stencil, transpose
from aiinfra_labs.gpu.kernels.cuda_model import blocks_for

RNG = np.random.default_rng(0)


def reals(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def tiles(rows, columns, side):
    return (blocks_for(columns, side), blocks_for(rows, side)), (side, side)


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (33, 70), (64, 31)])
@pytest.mark.parametrize("name", ["transpose_naive", "transpose_tiled", "transpose_padded"])
def test_a_transpose_is_numpys(name, shape):
    a, out = reals(*shape), np.zeros(shape[::-1], np.float32)
    with cuda.check():
        getattr(transpose, name)[tiles(*shape, transpose.TILE)](a, out)
    np.testing.assert_array_equal(out, a.T)


def test_the_three_transposes_differ_in_what_they_cost():
    """128 x 128: 512 warps, each loads a row of a tile (4 sectors) and stores one."""
    reports = {}
    for name in ("transpose_naive", "transpose_tiled", "transpose_padded"):
        a, out = cuda.to_device(reals(128, 128)), cuda.device_array((128, 128), np.float32)
        with cuda.profile() as p:
            getattr(transpose, name)[tiles(128, 128, transpose.TILE)](a, out)
        reports[name] = p.report
    assert [r.sectors_per_load for r in reports.values()] == [4, 4, 4]
    assert [r.sectors_per_store for r in reports.values()] == [32, 4, 4]
    assert reports["transpose_tiled"].wavefronts_per_shared_load == 32
    assert reports["transpose_padded"].wavefronts_per_shared_load == 1
    assert reports["transpose_padded"].bank_conflicts == 0


@pytest.mark.parametrize("m, k, n", [(16, 16, 16), (1, 5, 3), (40, 33, 17), (17, 64, 50)])
@pytest.mark.parametrize("name", ["matmul_naive", "matmul_tiled"])
def test_a_product_is_the_sum_in_the_order_of_k(name, m, k, n):
    a, b, c = reals(m, k), reals(k, n), np.full((m, n), np.nan, np.float32)
    with cuda.check():
        getattr(matmul, name)[tiles(m, n, matmul.TILE)](a, b, c)
    expected = np.zeros((m, n), np.float32)
    for column, row in zip(a.T, b, strict=True):
        expected += np.outer(column, row)
    np.testing.assert_array_equal(c, expected)


def test_tiles_load_each_element_once_for_a_block():
    """64 x 64: naive, every thread loads 128 elements; tiled, 64 threads' worth of 16 x 16."""
    loads = {}
    for name in ("matmul_naive", "matmul_tiled"):
        a, b, c = (cuda.to_device(reals(64, 64)) for _ in range(3))
        with cuda.profile() as p:
            getattr(matmul, name)[tiles(64, 64, matmul.TILE)](a, b, c)
        loads[name] = p.report.global_load_bytes
    assert loads["matmul_naive"] == 64 * 64 * 128 * 4
    assert loads["matmul_naive"] == matmul.TILE * loads["matmul_tiled"]


@pytest.mark.parametrize("n", [1, 255, 256, 1000])
@pytest.mark.parametrize("name", ["block_sums_tree", "block_sums_shuffle"])
def test_block_sums_are_exact_on_whole_numbers(name, n):
    x = RNG.integers(-50, 50, n).astype(np.float32)
    blocks = blocks_for(n, reduction.THREADS)
    sums = np.full(blocks, np.nan, np.float32)
    with cuda.check():
        getattr(reduction, name)[blocks, reduction.THREADS](x, sums)
    padded = np.zeros(blocks * reduction.THREADS, np.float32)
    padded[:n] = x
    np.testing.assert_array_equal(sums, padded.reshape(blocks, -1).sum(axis=1))


def test_shuffles_spare_shared_memory():
    reports = {}
    for name in ("block_sums_tree", "block_sums_shuffle"):
        x, sums = cuda.to_device(reals(1024)), cuda.device_array(4, np.float32)
        with cuda.profile() as p:
            getattr(reduction, name)[4, reduction.THREADS](x, sums)
        reports[name] = p.report
    tree, shuffle = reports["block_sums_tree"], reports["block_sums_shuffle"]
    assert shuffle.shared_load_requests == 4  # one warp of each block, once
    assert tree.shared_load_requests > 20 * shuffle.shared_load_requests


@pytest.mark.parametrize("name", ["histogram_global", "histogram_shared"])
@pytest.mark.parametrize("n, blocks", [(1, 1), (1000, 2), (4096, 3)])
def test_a_histogram_is_numpys(name, n, blocks):
    values = RNG.integers(0, 256, n, dtype=np.uint8)
    bins = np.zeros(histogram.BINS, np.int32)
    with cuda.check():
        getattr(histogram, name)[blocks, 128](values, bins)
    np.testing.assert_array_equal(bins, np.bincount(values, minlength=histogram.BINS))


def test_a_histogram_in_shared_memory_spares_global_atomics():
    requests = {}
    for name in ("histogram_global", "histogram_shared"):
        values = cuda.to_device(RNG.integers(0, 256, 1 << 14, dtype=np.uint8))
        bins = cuda.to_device(np.zeros(histogram.BINS, np.int32))
        with cuda.profile() as p:
            getattr(histogram, name)[4, 256](values, bins)
        requests[name] = p.report.global_atomic_requests
    assert requests["histogram_global"] == (1 << 14) // 32
    assert requests["histogram_shared"] == 4 * histogram.BINS // 32


@pytest.mark.parametrize("shape", [(1, 1), (3, 127), (2, 128), (5, 300)])
def test_softmax_is_that_of_the_textbook(shape):
    x = reals(*shape) * 30  # exp of it would overflow without the maximum
    out = np.full(shape, np.nan, np.float32)
    with cuda.check():
        softmax.softmax_rows[shape[0], softmax.THREADS](x, out)
    exact = x.astype(np.float64)
    expected = np.exp(exact - exact.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=1e-12)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 5, 128, 129, 1000])
def test_the_stencil_is_a_moving_mean(n):
    x, out = reals(n), np.full(n, np.nan, np.float32)
    with cuda.check():
        stencil.stencil_mean[blocks_for(n, stencil.THREADS), stencil.THREADS](x, out)
    width = 2 * stencil.RADIUS + 1
    padded = np.pad(x.astype(np.float64), stencil.RADIUS)
    expected = np.lib.stride_tricks.sliding_window_view(padded, width).mean(axis=1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_the_stencil_reads_global_memory_little_more_than_once():
    n = 4096
    x, out = cuda.to_device(reals(n)), cuda.device_array(n, np.float32)
    with cuda.profile() as p:
        stencil.stencil_mean[n // stencil.THREADS, stencil.THREADS](x, out)
    blocks = n // stencil.THREADS
    halo = 2 * stencil.RADIUS * blocks - 2 * stencil.RADIUS  # at both ends there is nothing
    assert p.report.global_load_bytes == 4 * (n + halo)
    assert math.isclose(p.report.sectors_per_store, 4)
