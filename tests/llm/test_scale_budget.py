"""Unit 1.6: the best split by formula and by search, days and dollars, a line through losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from aiinfra_labs.course import facts
from aiinfra_labs.course.measured import measured
from aiinfra_labs.gpu.devices import device
from aiinfra_labs.llm.scale import loss_curve
from aiinfra_labs.llm.scale.chinchilla import BESIROGLU, HOFFMANN, Law
from aiinfra_labs.llm.scale.cost import mfu, run

FACTS = facts.load("llm")

# --- Chinchilla -----------------------------------------------------------------------------------

laws = st.builds(
    Law,
    floor=st.floats(0, 3),
    a=st.floats(10, 5000),
    b=st.floats(10, 5000),
    alpha=st.floats(0.1, 0.8),
    beta=st.floats(0.1, 0.8),
)


@settings(max_examples=60, deadline=None)
@given(laws, st.floats(1e15, 1e27))
def test_the_optimum_by_formula_is_the_one_by_search(law, flops):
    n, d = law.optimum(flops)
    assert math.isclose(6 * n * d, flops, rel_tol=1e-9)
    found = minimize_scalar(
        lambda x: law.loss(math.exp(x), flops / 6 / math.exp(x)),
        bracket=(math.log(n) - 2, math.log(n) + 1),
    )
    assert law.loss(n, d) <= found.fun * (1 + 1e-12)
    for factor in (0.9, 1.1):
        assert law.loss(n, d) <= law.loss(factor * n, d / factor)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e6, 1e12), st.floats(1e6, 1e14))
def test_more_of_either_lowers_the_loss_and_never_below_the_floor(n, d):
    assert HOFFMANN.floor < HOFFMANN.loss(2 * n, d) < HOFFMANN.loss(n, d)
    assert HOFFMANN.floor < HOFFMANN.loss(n, 2 * d) < HOFFMANN.loss(n, d)


def test_the_new_fit_gives_chinchilla_its_own_shape_and_the_printed_one_does_not():
    """70 B parameters and 1.4 T tokens: what the paper's first two methods found."""
    n, d = FACTS["chinchilla.parameters"].value * 1e9, FACTS["chinchilla.tokens"].value * 1e12
    found = BESIROGLU.optimum(6 * n * d)
    assert found == pytest.approx((n, d), rel=0.1)
    printed = HOFFMANN.optimum(6 * n * d)
    assert printed[1] / printed[0] > 4 * d / n


def test_the_printed_exponents_are_the_papers():
    """N grows as C^a: a = 0.45 and 0.51; equal parts of each would be 0.5 (arXiv:2404.10102)."""
    for law, a in ((HOFFMANN, 0.45), (BESIROGLU, 0.51)):
        grown = law.optimum(1e24)[0] / law.optimum(1e22)[0]
        assert math.log(grown) / math.log(100) == pytest.approx(a, abs=0.005)


# --- time and money -------------------------------------------------------------------------------


def test_gpt3_on_a100s_as_megatron_reckoned():
    """34 days on 1,024 A100 at 140 TFLOP/s each (arXiv:2104.04473, 5.1), with 8 T P for 6 N D."""
    a100 = device("a100")["fp16_tensor"] * 1e12
    rate = FACTS["gpt3.megatron_rate"].value * 1e12
    found = run(8 * 175e9 * 300e9, 1024, a100, rate / a100, price=1.0)
    assert found.days == pytest.approx(FACTS["gpt3.megatron_days"].value, rel=0.02)


def test_deepseeks_bill():
    hours, price = FACTS["deepseek-v3.all_hours"].value, FACTS["deepseek-v3.price"].value
    assert hours * price / 1e6 == pytest.approx(FACTS["deepseek-v3.cost"].value)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e15, 1e26), st.integers(1, 100_000), st.floats(1e9, 1e15), st.floats(0.01, 1))
def test_a_run_and_its_utilisation(flops, gpus, peak, used):
    found, more = (run(flops, n, peak, used, price=2.0) for n in (gpus, 2 * gpus))
    assert math.isclose(mfu(flops, found.hours, peak), used)
    assert math.isclose(found.days, 2 * more.days) and found.dollars == more.dollars
    assert math.isclose(found.dollars, 2 * found.days * 24 * gpus)


@pytest.mark.parametrize(
    ("given", "what"),
    [((1e20, 8, 1e14, 0.0), "mfu is 0"), ((1e20, 8, 1e14, 1.2), "mfu is 1.2")]
    + [((1e20, 0, 1e14, 0.4), "devices is 0"), ((1e20, 8, 0, 0.4), "peak is 0")],
)
def test_a_run_that_cannot_be_is_refused(given, what):
    with pytest.raises(ValueError, match=what) as error:
        run(*given, price=2.0)
    assert "Why:" in str(error.value) and "Try:" in str(error.value)


# --- measured losses ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 50), st.floats(0.01, 0.9))
def test_a_power_law_is_found_again(factor, exponent):
    sizes = [1e5, 3e5, 1e6, 4e6]
    found = loss_curve.fit(sizes, [factor * n**-exponent for n in sizes])
    assert math.isclose(found.exponent, exponent, rel_tol=1e-6) and found.error < 1e-9
    assert math.isclose(found(1e7), factor * 1e7**-exponent, rel_tol=1e-6)


def test_the_error_is_the_farthest_points():
    found = loss_curve.fit([1, 10, 100], [4.0, 2.0, 1.1])
    off = [abs(y / found(x) - 1) for x, y in ((1, 4.0), (10, 2.0), (100, 1.1))]
    assert found.error == pytest.approx(max(off))


@pytest.mark.parametrize("given", [([1, 2], [3, 2]), ([1, 2, 3], [3, 2])])
def test_too_few_points_are_refused(given):
    with pytest.raises(ValueError, match="Why: a line"):
        loss_curve.fit(*given)


def test_the_stored_runs_are_whole():
    """Four sizes on each number of tokens: larger is better, and so is longer."""
    found = measured("scaling")[0]
    losses = {(r["parameters"], r["tokens"]): r["loss"] for r in found["runs"]}
    sizes, tokens = (sorted(set(axis)) for axis in zip(*losses, strict=True))
    assert len(sizes) == 4 and len(losses) == len(sizes) * len(tokens)
    for n in sizes:
        assert losses[n, tokens[-1]] < losses[n, tokens[0]] < math.log(found["vocabulary"])
    curve = [losses[n, tokens[-1]] for n in sizes]
    assert curve == sorted(curve, reverse=True)
    assert tokens[-1] < found["training_tokens_there"]  # none was seen twice on purpose
    ratio = [r["bits_a_byte"] / r["loss"] for r in found["runs"]]
    assert np.ptp(ratio) < 1e-3  # the same text
