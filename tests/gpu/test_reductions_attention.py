"""The kernels of unit 3.6 before attention: sums, scans, norms, softmax, and what they cost."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.special import softmax as scipy_softmax

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.kernels import (
    layer_norm,
    online_softmax,
    reduction,
    scan,
    softmax,
)

RNG = np.random.default_rng(0)
SIZES = (1, 31, 32, 33, 255, 256, 257, 1000)
TREES = ("interleaved", "strided", "tree", "shuffle")


def reals(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def wholes(n):
    return RNG.integers(-50, 50, n).astype(np.float32)


def rows_of(module, x):
    """Blocks of a kernel that gives each row a warp."""
    return max(1, -(-x.shape[0] // module.WARPS)), module.THREADS


# --- sums --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", [*TREES, "stride"])
def test_block_sums_are_exact_on_whole_numbers(name, n):
    x, blocks = wholes(n), -(-n // reduction.THREADS)
    sums = np.full(blocks, np.nan, np.float32)
    with cuda.check():
        getattr(reduction, f"block_sums_{name}")[blocks, reduction.THREADS](x, sums)
    padded = np.zeros(blocks * reduction.THREADS, np.float32)
    padded[:n] = x
    np.testing.assert_array_equal(sums, padded.reshape(blocks, -1).sum(axis=1))


@pytest.mark.parametrize(
    ("name", "divergent", "conflicts", "shuffles"),
    [
        # neighbours: at each of 5 steps all 8 warps split, then 4, 2 and 1 of them; the store
        ("interleaved", 5 * 8 + 4 + 2 + 1 + 1, 0, 0),
        # the first threads: the last 5 steps split one warp. 128, 64, 32 ... threads 2, 4, 8 ...
        # words apart: in 4, 2, 1 ... warps 2, 4, 8, 8, 8, 4, 2 of them meet on a bank; two loads
        # and a store each
        ("strided", 5 + 1, 3 * (4 * 1 + 2 * 3 + 7 + 7 + 7 + 3 + 1), 0),
        ("tree", 5 + 1, 0, 0),
        # 8 warps store a first lane; of the 32 that read it back, 8 have a value; the last store
        ("shuffle", 8 + 1 + 1, 0, 8 * 5 + 3),
    ],
)
def test_what_each_tree_costs_a_block(name, divergent, conflicts, shuffles):
    x, sums = cuda.to_device(reals(1024)), cuda.device_array(4, np.float32)
    with cuda.profile() as p:
        getattr(reduction, f"block_sums_{name}")[4, reduction.THREADS](x, sums)
    assert p.report.divergent_branches == 4 * divergent
    assert p.report.bank_conflicts == 4 * conflicts
    assert p.report.shuffles == 4 * shuffles
    assert p.report.fp32_add >= 4 * 255


@pytest.mark.parametrize("n", [0, 1, 100, 1000, 300_000])
def test_a_grid_adds_up_everything(n):
    x, out = wholes(n), np.zeros(1, np.float32)
    with cuda.check():
        assert reduction.total(x) == x.sum()
        reduction.add_all[3, reduction.THREADS](x, out)
    assert out[0] == x.sum()


def test_reals_are_added_as_well_as_a_tree_can():
    """Pairwise summation: the error grows with log n (Higham 1993), not with n."""
    x = np.random.default_rng(1).uniform(0, 1, 100_000).astype(np.float32)
    exact = math.fsum(x.tolist())
    eps = float(np.finfo(np.float32).eps)
    assert abs(float(reduction.total(x)) - exact) < 20 * eps * exact


def test_one_launch_makes_an_atomic_addition_a_warp():
    x, out = cuda.to_device(reals(5000)), cuda.to_device(np.zeros(1, np.float32))
    with cuda.profile() as p:
        reduction.add_all[4, reduction.THREADS](x, out)
    assert p.report.global_atomic_requests == 4 * reduction.WARPS
    assert p.report.shuffles == 4 * reduction.WARPS * 5


# --- scans -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*SIZES, 256 * 256 + 7])
def test_a_scan_is_numpys(n):
    x = wholes(n)
    with cuda.check():
        np.testing.assert_array_equal(scan.inclusive_scan(x), np.cumsum(x))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-1000, 1000), max_size=700))
def test_a_scan_of_anything_is_numpys(values):
    x = np.array(values, np.float32)
    np.testing.assert_array_equal(scan.inclusive_scan(x), np.cumsum(x))


def test_a_block_scans_with_ten_shuffles_a_warp_at_most():
    """Five in each of 8 warps, and five more in the first for the totals."""
    x, out = cuda.to_device(reals(512)), cuda.device_array(512, np.float32)
    with cuda.profile() as p:
        scan.scan_blocks[2, scan.THREADS](x, out, cuda.device_array(2, np.float32))
    assert p.report.shuffles == 2 * (8 * 5 + 5)
    assert p.report.global_load_bytes == p.report.global_store_bytes - 8 == 512 * 4


# --- norms -------------------------------------------------------------------------------------

SHAPES = ((1, 1), (3, 31), (4, 32), (5, 100), (9, 257))


def normed(x, weight, bias):
    exact = x.astype(np.float64)
    deviation = exact - exact.mean(axis=1, keepdims=True)
    return deviation / np.sqrt(exact.var(axis=1, keepdims=True) + 1e-5) * weight + bias


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["layer_norm_two_pass", "layer_norm_welford"])
def test_layer_norm(name, shape):
    x, weight, bias = reals(*shape), reals(shape[1]), reals(shape[1])
    out = np.full(shape, np.nan, np.float32)
    with cuda.check():
        getattr(layer_norm, name)[rows_of(layer_norm, x)](x, weight, bias, out)
    np.testing.assert_allclose(out, normed(x, weight, bias), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["layer_norm_two_pass", "layer_norm_welford"])
def test_layer_norm_where_the_mean_is_far_larger_than_the_deviation(name):
    """Mean of squares less square of mean, in float32, gets not one digit of it right."""
    x = (1000 + reals(4, 200)).astype(np.float32)
    weight, bias, out = np.ones(200, np.float32), np.zeros(200, np.float32), np.zeros_like(x)
    getattr(layer_norm, name)[rows_of(layer_norm, x)](x, weight, bias, out)
    expected = normed(x, weight, bias)
    assert abs(out - expected).max() < 1e-3
    mean = x.mean(axis=1, keepdims=True)
    short = (x * x).mean(axis=1, keepdims=True) - mean * mean
    assert abs(short - x.astype(np.float64).var(axis=1, keepdims=True)).max() > 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape):
    x, weight = reals(*shape), reals(shape[1])
    out = np.full(shape, np.nan, np.float32)
    with cuda.check():
        layer_norm.rms_norm[rows_of(layer_norm, x)](x, weight, out)
    exact = x.astype(np.float64)
    expected = exact / np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "readings"), [("layer_norm_two_pass", 3), ("layer_norm_welford", 2)]
)
def test_how_often_a_norm_reads_its_row(name, readings):
    x = reals(4, 96)
    with cuda.trace() as t:
        getattr(layer_norm, name)[1, layer_norm.THREADS](x, reals(96), reals(96), np.zeros_like(x))
    loads = sum(int((a.addresses >= 0).sum()) for a in t.of("x", "load"))
    assert loads == readings * x.size


# --- softmax -----------------------------------------------------------------------------------


def online(x):
    out, log = np.full_like(x, np.nan), np.full(len(x), np.nan, np.float32)
    with cuda.check():
        online_softmax.online_softmax_rows[rows_of(online_softmax, x)](x, out)
        online_softmax.logsumexp_rows[rows_of(online_softmax, x)](x, log)
    return out, log


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1, 50])
def test_online_softmax_is_scipys(shape, scale):
    x = reals(*shape) * scale
    out, log = online(x)
    np.testing.assert_allclose(
        out, scipy_softmax(x.astype(np.float64), axis=1), rtol=1e-4, atol=1e-12
    )
    np.testing.assert_allclose(log, logsumexp(x.astype(np.float64), axis=1), rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32) | st.just(-math.inf), min_size=1, max_size=80
    )
)
def test_online_softmax_of_anything(values):
    x = np.array([values], np.float32)
    out, log = online(x)
    if np.isinf(x).all():
        assert (out == 0).all() and log[0] == -np.inf
        return
    np.testing.assert_allclose(
        out, scipy_softmax(x.astype(np.float64), axis=1), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(log, logsumexp(x.astype(np.float64), axis=1), rtol=1e-5, atol=1e-5)


def test_what_is_masked_has_no_weight_and_a_row_of_nothing_else_no_nan():
    x = reals(3, 70)
    x[0], x[1, 1:], x[2, ::2] = -np.inf, -np.inf, -np.inf
    out, log = online(x)
    assert (out[0] == 0).all() and log[0] == -np.inf
    assert out[1, 0] == 1 and not out[1, 1:].any() and log[1] == x[1, 0]
    assert not out[2, ::2].any() and out[2].sum() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("kernel", [softmax.softmax_rows, online_softmax.online_softmax_rows])
def test_how_often_softmax_reads_its_row(kernel):
    x = reals(4, 300)
    shape = (4, softmax.THREADS) if kernel is softmax.softmax_rows else (1, online_softmax.THREADS)
    with cuda.profile() as p:
        kernel[shape](cuda.to_device(x), cuda.device_array(x.shape, np.float32))
    readings = 3 if kernel is softmax.softmax_rows else 2
    assert p.report.global_load_bytes == readings * x.nbytes
    assert p.report.sectors_per_load < 5


# --- any order of warps ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_warps_gives_the_same(seed):
    x = wholes(1000)
    expected = reduction.total(x)
    with cuda.check(schedule="adversarial", seed=seed):
        assert reduction.total(x) == expected
        np.testing.assert_array_equal(scan.inclusive_scan(x), np.cumsum(x))
