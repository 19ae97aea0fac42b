"""The code of unit 3.7 beside precision and the widget: chains, sums, gradients, goals, kernels.

Against brute force, NumPy, exact fractions, finite differences and torch, none of which we wrote.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from aiinfra_labs.course import facts
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.gpu import cuda, goals, latency, loss_scaling, summation
from aiinfra_labs.gpu.dependencies import Instructions, cycles, issue_times, recorded
from aiinfra_labs.gpu.drawings import compute as drawings
from aiinfra_labs.gpu.emulator import LaunchError, occupancy_of
from aiinfra_labs.gpu.event_timing import times_as_long
from aiinfra_labs.gpu.exercises import compute as exercises
from aiinfra_labs.gpu.kernels import compute
from aiinfra_labs.gpu.precision import BF16, E4M3, FORMATS, FP16, FP32, Format, round_to
from aiinfra_labs.gpu.roofline import Roofline, roofline

LATENCY = 4


# --- dependencies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "count", "chain"),
    [
        (compute.dot_in_one_chain, 64, 64),
        (compute.dot_unrolled, 64, 64),
        (compute.dot_in_two_chains, 65, 33),  # 64 fmas in two chains of 32, then one addition
        (compute.dot_in_four_chains, 67, 18),  # four chains of 16, then a tree of two levels
    ],
)
def test_a_dot_products_chain(function, count, chain):
    code = recorded(function, 64, 64)
    assert (code.count, code.chain) == (count, chain)
    a, b = np.random.default_rng(0).random((2, 64), dtype=np.float32)
    assert function(a, b) == pytest.approx(float(a @ b), rel=1e-5)


def test_what_is_recorded():
    def lone_products(a):
        return a[0] * a[1] * 2.0  # nothing is added: two instructions, one after the other

    assert recorded(lone_products, 2).needs == ((), (0,))

    def sum_of_products(a):
        return a[0] * a[0] + a[1] * a[1]  # one product alone, then an fma that takes it

    assert recorded(sum_of_products, 2).needs == ((), (0,))

    def independent(a):
        return [x + 1.0 for x in a][-1]

    code = recorded(independent, 5)
    assert code.count == 5 and code.chain == 1


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), warps=st.integers(1, 5), latency=st.integers(1, 6))
def test_a_schedule_keeps_the_rules(data, warps, latency):
    """In order in a warp, at most one a cycle in all, operands there; and no cycle is wasted."""
    count = data.draw(st.integers(1, 12))
    needs = tuple(
        tuple(data.draw(st.sets(st.integers(0, i - 1), max_size=2))) if i else ()
        for i in range(count)
    )
    code = Instructions(needs)
    times = issue_times(code, latency, warps)
    everything = [t for issued in times for t in issued]
    assert len(set(everything)) == len(everything) == count * warps
    busy = set(everything)
    for issued in times:
        assert issued == sorted(issued)
        for i, t in enumerate(issued):
            ready = max((issued[j] + latency for j in needs[i]), default=0)
            assert t >= ready
            earliest = max(ready, issued[i - 1] + 1 if i else 0)
            assert all(cycle in busy for cycle in range(earliest, t)), "it waited for no reason"
    assert cycles(code, latency, warps) >= code.chain * latency
    assert cycles(code, latency, warps) >= count * warps - 1 + latency


def test_warps_and_chains_fill_the_same_gaps():
    one, four = (
        recorded(f, 64, 64) for f in (compute.dot_in_one_chain, compute.dot_in_four_chains)
    )
    assert cycles(one, LATENCY) == 64 * LATENCY
    assert cycles(one, LATENCY, 4) == 4 * 64 - 1 + LATENCY  # every cycle issues
    assert cycles(four, LATENCY) < 64 + 3 * LATENCY


# --- Little's law --------------------------------------------------------------------------------


@pytest.mark.parametrize("warps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("chains", [1, 2, 4])
def test_the_issue_rate_is_the_schedules(warps, chains):
    """In a long loop the schedule reaches the share that Little's law gives."""
    steps = 60
    code = Instructions(tuple(() if i < chains else (i - chains,) for i in range(steps * chains)))
    last = max(issued[-1] for issued in issue_times(code, LATENCY, warps))
    rate = code.count * warps / (last + 1)
    assert rate == pytest.approx(latency.issue_rate(warps, chains, LATENCY), rel=0.06)


def test_bytes_and_warps_under_way():
    assert latency.instructions_in_flight(4) == 4
    assert latency.bytes_in_flight(3.35e12, 500e-9) == pytest.approx(1.675e6)
    assert latency.warps_needed(8192, 4) == 64
    assert latency.warps_needed(8192, 16) == 16


# --- sums ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_sums_are_numpys_own(dtype):
    """One by one, rounded after each: NumPy's scalars of the type do the same."""
    form = {np.float16: FP16, np.float32: FP32}[dtype]
    terms = np.random.default_rng(1).uniform(-1, 2, (300, 5)).astype(dtype)
    total = np.zeros(5, dtype)
    for term in terms:
        total = total + term
    ours = summation.one_by_one(terms.astype(np.float64), form)
    assert ours.tolist() == total.astype(np.float64).tolist()


def _exact(terms):
    return float(sum(map(Fraction, terms.tolist())))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    terms=st.lists(st.floats(-1000, 1000), min_size=1, max_size=200),
    form=st.sampled_from([FP32, BF16, FP16]),
)
def test_no_sum_is_further_off_than_its_bound(terms, form):
    """Higham's bounds, with the first-order terms and some slack for the rest."""
    terms = round_to(np.array(terms), form)[:, None]
    exact, size = _exact(terms[:, 0]), float(np.abs(terms).sum())
    u, n = form.unit_roundoff, len(terms)
    if 2 * n * u > 0.1 or size > form.largest / 4:
        return
    slack = form.smallest * n + 1e-300
    bounds = {
        summation.one_by_one: 1.2 * n * u,
        summation.pairwise: 1.2 * (math.ceil(math.log2(n)) + 1) * u,
        summation.kahan: 3 * u + 4 * n * u * u,
    }
    for add, bound in bounds.items():
        assert abs(float(add(terms, form)[0]) - exact) <= bound * size + slack, add.__name__


def test_kahan_keeps_what_one_by_one_loses():
    terms = np.ones((3001, 1))
    terms[0] = 2**24
    assert summation.one_by_one(terms, FP32)[0] == 2**24
    assert summation.kahan(terms, FP32)[0] == 2**24 + 3000
    assert summation.one_by_one(np.ones((3000, 1)), FP16)[0] == 2048


def test_promotion_bounds_the_inner_sum():
    terms = summation.products(*np.random.default_rng(2).random((2, 4096, 16)), E4M3)
    inner, exact = Format("14 bits", 8, 13), terms.sum(axis=0)
    plain = np.abs(summation.one_by_one(terms, inner) / exact - 1).max()
    moved = np.abs(summation.promoted(terms, inner, FP32, 128) / exact - 1).max()
    assert moved < plain / 10
    assert (summation.promoted(terms, FP32, FP32, 9999) == summation.one_by_one(terms, FP32)).all()
    assert summation.pairwise(np.zeros((0, 3)), FP32).tolist() == [0, 0, 0]


# --- kernels -------------------------------------------------------------------------------------


def test_the_kernels_sum_as_the_functions_do():
    """hfma's single rounding, fp32 and Kahan: bit for bit."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-1, 1, (2, 500, 33)).astype(np.float16)
    terms = summation.products(a, b, FP16)
    out = np.empty(33, np.float32)
    for kernel, expected in (
        (compute.half_dots_half, summation.one_by_one(terms, FP16)),
        (compute.half_dots_single, summation.one_by_one(terms, FP32)),
        (compute.half_dots_kahan, summation.kahan(terms, FP32)),
    ):
        kernel[2, 32](a, b, out)
        assert out.tolist() == expected.tolist()


def test_dot_products_of_columns():
    a, b = np.random.default_rng(4).random((2, 64, 40), dtype=np.float32)
    out = np.empty(40, np.float32)
    for kernel in (compute.dots_one_chain, compute.dots_unrolled, compute.dots_four_chains):
        kernel[2, 32](a, b, out)
        assert np.allclose(out, (a * b).sum(axis=0), rtol=1e-5)


def _jobs(x):
    root, logistic = np.sqrt(x), x.copy()
    for _ in range(compute.ROUNDS):
        logistic = np.float32(3.7) * logistic * (np.float32(1) - logistic)
    return root, logistic


def test_each_kernel_does_its_jobs_and_parts_as_it_says():
    n = 1024
    x = np.random.default_rng(5).uniform(0.1, 0.9, n).astype(np.float32)
    kind = np.random.default_rng(6).integers(0, 2, n).astype(np.int32)
    order = np.argsort(kind, kind="stable").astype(np.int32)
    root, logistic = _jobs(x)
    i = np.arange(n)
    warps = n // 32
    for kernel, more, odd, parts in (
        (compute.by_parity, (), i % 2, warps),
        (compute.by_selection, (), i % 2, 0),
        (compute.by_warp, (), i // 32 % 2, 0),
        (compute.by_kind, (kind,), kind, warps),
        (compute.by_order, (kind, order), kind, 1),
    ):
        out = np.full(n, np.nan, np.float32)
        report = cuda.profile(kernel)[n // 256, 256](x, *more, out)
        assert np.allclose(out, np.where(odd, logistic, root), rtol=1e-5), kernel.__name__
        assert report.divergent_branches == parts, kernel.__name__
        if not parts:
            assert report.lanes_per_instruction == 32


@pytest.mark.parametrize("terms", [0, 1, 7])
def test_the_polynomials_intensity_is_its_dial(terms):
    x = np.random.default_rng(7).random(1 << 13, dtype=np.float32)
    out = np.empty_like(x)
    report = cuda.profile(compute.polynomial)[32, 256](x, out, np.int32(terms))
    assert np.allclose(out, sum(x**k for k in range(terms + 1)), rtol=1e-5)
    assert (report.arithmetic_intensity or 0) == pytest.approx(2 * terms / 8, rel=0.02)


# --- gradients -----------------------------------------------------------------------------------


def _digits():
    digits = load_digits()
    return (digits.data / 16).astype(np.float32), digits.target


def test_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    x, labels = (part[:40] for part in _digits())
    weights = loss_scaling.train(x, labels, steps=2, rate=0.5)
    activations = loss_scaling.forward(weights, x)
    ours = loss_scaling.backward(weights, activations, labels)
    entering = []
    a = torch.tensor(x)
    for k, w in enumerate(weights):
        z = a @ torch.tensor(w)
        z.requires_grad_() if not z.requires_grad else z.retain_grad()
        entering.append(z)
        a = torch.tanh(z) if k < len(weights) - 1 else z
    torch.nn.functional.cross_entropy(a, torch.tensor(labels)).backward()
    for mine, z in zip(ours, entering, strict=True):
        assert np.allclose(mine, z.grad.numpy(), atol=1e-7)


def test_the_network_learns_to_read_digits():
    x, labels = _digits()
    weights = loss_scaling.train(x, labels, steps=60, rate=0.5)
    right = loss_scaling.forward(weights, x)[-1].argmax(axis=1) == labels
    assert right.mean() > 0.9


def test_what_becomes_of_gradients():
    g = np.array([2.0**-26, 2.0**-20, 1.0, 0.0, 60000.0])
    kept = loss_scaling.kept(g, 1)
    assert (kept.lost, kept.subnormal, kept.overflowed) == (0.25, 0.25, 0)
    kept = loss_scaling.kept(g, 2**12)
    assert (kept.lost, kept.subnormal, kept.overflowed) == (0, 0, 0.25)
    assert loss_scaling.kept(g, 1, BF16) == loss_scaling.Kept(0, 0, 0)


# --- goals ---------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, derandomize=True)
@given(intensity=st.floats(1e-3, 1e4), of_peak=st.floats(0.05, 1), of_bandwidth=st.floats(0.05, 1))
def test_the_window_is_where_both_shares_are_reached(intensity, of_peak, of_bandwidth):
    roof = Roofline("any", 6e13, 3e12)
    peak, bandwidth = goals.shares(roof, intensity)
    assert peak == pytest.approx(min(1, intensity / 20))
    assert bandwidth == pytest.approx(min(1, 20 / intensity))
    low, high = goals.window(roof, of_peak, of_bandwidth)
    inside = low * (1 + 1e-9) < intensity < high * (1 - 1e-9)
    outside = intensity < low * (1 - 1e-9) or intensity > high * (1 + 1e-9)
    assert not inside or (peak >= of_peak and bandwidth >= of_bandwidth)
    assert not outside or peak < of_peak or bandwidth < of_bandwidth


# --- what the claims say --------------------------------------------------------------------------


def _figure(id):
    exercises  # noqa: B018  its import records the verdict
    claim = next(claim for claim in all_claims() if claim.id == id)
    assert claim.verdict == "corrected"
    return claim.figure


def test_the_figures_of_the_claim_on_parallel_instructions():
    said = _figure("ilp")
    one, four = (recorded(f, 64, 64) for f in (compute.dot_unrolled, compute.dot_in_four_chains))
    assert f"a chain of {one.chain} dependent fmas" in said
    assert f"four accumulators make it {four.chain}" in said
    stopped = summation.one_by_one(np.ones((3000, 1)), FP16)[0]
    assert f"stops at {stopped:,.0f}" in said
    assert latency.issue_rate(1, 4, LATENCY) == latency.issue_rate(4, 1, LATENCY) == 1
    assert facts.load("gpu")["arithmetic_latency"].value == LATENCY


def test_the_figures_of_the_goals():
    said = _figure("goals-80-70-60")
    roof = roofline("h100", "fp32")
    low, high = goals.window(roof, 0.8, 0.7)
    assert f"{low:.0f} to {high:.1f} fp32 operations a byte" in said
    assert f"{low / roof.ridge:.1f} and {high / roof.ridge:.2f} of the ridge" in said
    peak, bandwidth = goals.shares(roof, 1 / 12)
    assert f"reaches {peak:.1%}".replace("%", " %") in said and bandwidth == pytest.approx(1)


# --- drawings and timing --------------------------------------------------------------------------


def test_drawings_say_what_they_show():
    assert "75%, limited by registers" in drawings.occupancy_curves(256, 40, 16384).get_label()
    with pytest.raises(LaunchError):
        drawings.occupancy_curves(1024, 80, 0)
    half = np.arange(32) % 2 == 0
    masks = [np.stack([half, half]), np.stack([~half, half & False])]
    said = drawings.passes([("k", masks)]).get_label()
    assert "warp 0: 2 passes with 16 and 16 active lanes" in said
    assert "warp 1: 1 pass with 16 active lanes" in said
    with pytest.raises(ValueError, match="nothing to draw"):
        drawings.passes([])
    code = recorded(compute.dot_in_one_chain, 8, 8)
    said = drawings.schedule([("alone", code, 1), ("four", code, 4)], LATENCY).get_label()
    assert "alone: 8 instructions in 32 cycles; four: 32 instructions in 35 cycles" in said
    assert "fp8 E4M3: 1 sign bit, 4 of exponent, 3 of mantissa" in (
        drawings.formats(FORMATS).get_label()
    )


def test_the_curves_follow_the_calculator():
    fig = drawings.occupancy_curves(256, 40, 0)
    heights = {
        round(line.get_ydata()[0], 6)
        for line in fig.axes[0].lines
        if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"
    }
    assert heights == {round(occupancy_of(256, n, 0, "h100").fraction, 6) for n in range(8, 256)}


def test_events_time_launches_as_ratios():
    x = np.full(64, 0.5, np.float32)
    out = np.empty_like(x)
    taken = times_as_long({name: lambda: compute.by_warp[1, 64](x, out) for name in "ab"}, 3)
    assert list(taken) == ["a", "b"] and taken["a"] == 1 and taken["b"] > 0


def test_accumulators_on_the_cpu_sum_the_same():
    from aiinfra_labs.gpu.accumulators import SUMS, speedups

    x = np.random.default_rng(8).random(4096)
    for function in SUMS.values():
        assert function(x) == pytest.approx(math.fsum(x), rel=1e-12)
    assert list(speedups(rounds=1)) == [1, 2, 4, 8]
