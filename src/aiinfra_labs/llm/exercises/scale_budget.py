"""The exercises of unit 1.6 on budgets: how to split one, and what a run takes and costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aiinfra_labs.course import exercise, facts
from aiinfra_labs.llm.scale.chinchilla import BESIROGLU, HOFFMANN, Law
from aiinfra_labs.llm.scale.cost import run

from . import scale_views as views
from .scale import SKILL, a_pair

# --- 1.6.c -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenLaw:
    """A law as a learner is given it: it can tell a loss, and not where the least one is."""

    floor: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """E + A / N^alpha + B / D^beta, of numbers or of arrays."""
        return self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta


def as_given(law: Law) -> GivenLaw:
    """The same law, less its optimum."""
    return GivenLaw(law.floor, law.a, law.b, law.alpha, law.beta)


SPENT = "spends the budget: 6 N D is what was given"
LEAST = "no other split of it has a smaller loss"
LAWS = "holds for other laws than the published one"
BUDGETS = (1e18, 1e21, 5.76e23, 3.8e25)
OTHERS = (
    BESIROGLU,
    Law(floor=1.0, a=300.0, b=300.0, alpha=0.3, beta=0.3),
    Law(floor=2.0, a=50.0, b=4000.0, alpha=0.2, beta=0.4),
)


@exercise(
    "1.6.c",
    title="The best split of a budget",
    points=4,
    central=LEAST,
    skill=SKILL,
    arguments=("flops", "law"),
    hints=(
        (
            SPENT,
            "N is free, and then D is not: what is D when N is chosen and 6 N D = flops?",
        ),
        (
            LEAST,
            "With D = flops / (6 N), the loss depends on N alone. Try many N, from 1e6 to 1e13, a "
            "few per cent apart, and keep the best; or let scipy.optimize.minimize_scalar do it, "
            "over the logarithm of N.",
        ),
        (
            LEAST,
            "On paper: at the optimum a small step of log N changes both terms by the same amount "
            "in opposite directions, alpha A / N^alpha = beta B / D^beta. Put D in, solve for N.",
        ),
        (
            LAWS,
            "Read floor, a, b, alpha and beta from the law you are given; or ask it: "
            "law.loss(parameters, tokens).",
        ),
    ),
)
def split(function: Any, require: Any) -> None:
    """(parameters, tokens) of the least loss that a number of operations allows."""
    with require(SPENT) as r:
        for flops in BUDGETS:
            with r.input(f"{flops:g} operations, the published law"):
                _spent(r, flops, *_positive(r, function(flops, as_given(HOFFMANN))))
    with require(LEAST) as r:
        for flops in BUDGETS:
            _least(r, function, flops, HOFFMANN, "the published law")
    with require(LAWS) as r:
        for law in OTHERS:
            for flops in BUDGETS[1:]:
                _least(r, function, flops, law, _formula(law))


def _formula(law: Law) -> str:
    return f"{law.floor} + {law.a} / N^{law.alpha} + {law.b} / D^{law.beta}"


def _positive(r: Any, value: Any) -> tuple[float, float]:
    n, d = a_pair(r, value, ("parameters", "tokens"))
    r.that(
        n > 0 and d > 0,
        what=f"parameters are {n:.4g} and tokens {d:.4g}",
        why="both are above 0, or nothing is trained",
        try_="search over log N, which has no 0 to fall off",
    )
    return n, d


def _spent(r: Any, flops: float, n: float, d: float) -> None:
    r.that(
        math.isclose(6 * n * d, flops, rel_tol=0.01),
        what=f"N = {n:.4g} and D = {d:.4g} take {6 * n * d:.4g} operations, "
        f"{6 * n * d / flops:.4g} times the budget",
        why="N D is the budget here, and each pair of them costs 6 operations"
        if math.isclose(n * d, flops, rel_tol=0.01)
        else "a token costs 6 operations a parameter: 2 forward, 4 backward",
        try_="choose N first, and work out D from N and the budget",
    )


def _least(r: Any, function: Any, flops: float, law: Law, name: str) -> None:
    with r.input(f"{flops:g} operations, {name}"):
        n, d = _positive(r, function(flops, as_given(law)))
        _spent(r, flops, n, d)
        best = law.optimum(flops)
        got, least = law.loss(n, d), law.loss(*best)
        nearer = n * max(0.5, min(2, math.sqrt(best[0] / n)))  # a step, not the answer
        r.that(
            got <= least + 1e-4,
            what=f"a loss of {got:.4f} with N = {n:.3g} and D = {d:.3g}; {least:.4f} is possible",
            why=f"a {'larger' if n < best[0] else 'smaller'} model on "
            f"{'fewer' if n < best[0] else 'more'} tokens would have a smaller loss: "
            f"{law.loss(nearer, flops / 6 / nearer):.4f} with N = {nearer:.3g}",
            try_="walk along the budget: double N, halve D, and look where the loss turns",
        )


@split.show
def _show_split(function: Any) -> views.Picture:
    return views.splits(
        lambda flops, law: function(flops, as_given(law)), HOFFMANN, (1e19, 1e21, 1e23, 1e25)
    )


# --- 1.6.d -------------------------------------------------------------------------------------

DAYS = "finds the days of a run"
DOLLARS = "finds its dollars, on however many GPUs"
REPORTED = "finds what was reported of GPT-3 and DeepSeek-V3"
RUNS = (
    # parameters, tokens, GPUs, peak in TFLOP/s, MFU, $ an hour
    (1e9, 20e9, 1, 100.0, 0.5, 1.0),
    (8.03e9, 15e12, 1024, 989.0, 0.4, 2.0),
    (70e9, 1.4e12, 2048, 312.0, 0.45, 1.5),
)


def reported() -> dict[str, tuple[tuple[float, ...], float, float]]:
    """Arguments, days and dollars of two runs whose price was worked out in public.

    Lambda's V100 of 28 TFLOP/s is taken as its peak, used in full, on 1,000 of them. DeepSeek's
    hours are those of pre-training; the MFU that they imply of the H800's 989 TFLOP/s is given.
    """
    have = facts.load("llm")
    years, cost = have["gpt3.lambda_years"].value, have["gpt3.lambda_cost"].value * 1e6
    price = cost / (years * 365 * 24)
    gpt3 = (have["gpt3.flops"].value / 6 / 300e9, 300e9, 1000, 28.0, 1.0, price)
    hours, gpus = have["deepseek-v3.hours"].value, have["deepseek-v3.gpus"].value
    n, d = have["deepseek-v3.active"].value * 1e9, have["deepseek-v3.tokens"].value * 1e12
    rate = have["deepseek-v3.price"].value
    used = 6 * n * d / (hours * 3600 * 989e12)
    deepseek = (n, d, gpus, 989.0, used, rate)
    return {
        "GPT-3 on V100s, as Lambda reckoned in 2020": (gpt3, years * 365 / 1000, cost),
        "DeepSeek-V3, pre-training": (deepseek, hours / gpus / 24, hours * rate),
    }


@exercise(
    "1.6.d",
    title="The days and the dollars of a run",
    points=4,
    central=REPORTED,
    skill=SKILL,
    arguments=("parameters", "tokens", "gpus", "peak_tflops", "mfu", "price"),
    hints=(
        (DAYS, "How many operations are there to do? Training on a token takes 6 a parameter."),
        (
            DAYS,
            "In a second, one GPU does peak x MFU of them; TFLOP/s are 1e12. All GPUs work at the "
            "same time. A day has 86,400 seconds.",
        ),
        (
            DOLLARS,
            "You pay for GPU-hours: GPUs x days x 24. Twice the GPUs take half the days.",
        ),
    ),
)
def cost(function: Any, require: Any) -> None:
    """(days, dollars) of a training run. price: dollars for a GPU-hour."""
    with require(DAYS) as r:
        for given in RUNS:
            with r.input(_named(given)):
                days, _ = a_pair(r, function(*given), ("days", "dollars"))
                expected = _run(given).days
                r.that(
                    math.isclose(days, expected, rel_tol=1e-3),
                    what=f"{days:.6g} days, expected {expected:.6g}",
                    why=_factor(days / expected, given),
                    try_="write the units beside each factor: operations, operations/s, seconds, "
                    "days",
                )
    with require(DOLLARS) as r:
        for given in RUNS:
            for gpus in (given[2], 8 * given[2]):
                these = (*given[:2], gpus, *given[3:])
                with r.input(_named(these)):
                    _, dollars = a_pair(r, function(*these), ("days", "dollars"))
                    expected = _run(these).dollars
                    r.that(
                        math.isclose(dollars, expected, rel_tol=1e-3),
                        what=f"{dollars:,.6g} dollars, expected {expected:,.6g}",
                        why=_price(dollars / expected, these),
                        try_="first the GPU-hours of the whole run, then their price",
                    )
    with require(REPORTED) as r:
        for name, (given, days, dollars) in reported().items():
            with r.input(f"{name}: {_named(given)}"):
                got = a_pair(r, function(*given), ("days", "dollars"))
                r.that(
                    math.isclose(got[0], days, rel_tol=0.01)
                    and math.isclose(got[1], dollars, rel_tol=0.01),
                    what=f"{got[0]:.4g} days and {got[1] / 1e6:.3g} M$; reported are {days:.4g} "
                    f"and {dollars / 1e6:.3g}",
                    why="6 N D operations at peak x MFU on all GPUs, and the price of all "
                    "GPU-hours, give what was reported",
                    try_="compare days first: the dollars follow from them",
                )


def _run(given: tuple[float, ...]) -> Any:
    n, d, gpus, peak, mfu, price = given
    return run(6 * n * d, int(gpus), peak * 1e12, mfu, price)


def _named(given: tuple[float, ...]) -> str:
    n, d, gpus, peak, mfu, price = given
    return (
        f"{n:.4g} parameters, {d:.4g} tokens, {gpus:,.0f} GPU{'' if gpus == 1 else 's'}, "
        f"{peak:g} TFLOP/s, MFU {mfu:.3g}, {price:.3g} $/h"
    )


def _factor(ratio: float, given: tuple[float, ...]) -> str:
    """What wrong days or dollars are off by, where that is a factor that people know."""
    _, _, gpus, _, mfu, _ = given
    for factor, why in (
        (1 / 6, "each parameter takes 6 operations a token, not 1"),
        (1 / 3, "6 operations, not 2: backward takes twice as many as forward"),
        (mfu, "no run reaches the peak: only peak x MFU counts"),
        (mfu * mfu, "MFU makes the run longer, not shorter: divide by it"),
        (24, "that is in hours: a day has 24"),
        (86400, "that is in seconds: a day has 86,400"),
        (gpus, "that is one GPU's time: all work at once"),
        (1e12, "peak_tflops are 1e12 operations/s each"),
    ):
        if factor != 1 and math.isclose(ratio, factor, rel_tol=1e-3):
            return why
    return OTHERWISE


OTHERWISE = "days are 6 N D / (GPUs x peak x MFU) seconds, over 86,400"


def _price(ratio: float, given: tuple[float, ...]) -> str:
    for factor, why in (
        (1 / given[2], "that is the price of one GPU: all are paid for"),
        (1 / 24, "the price is for an hour, and a day has 24"),
        (3600, "the price is for an hour, not for a second"),
        (given[2], "GPU-hours do not depend on how many GPUs share them: more GPUs, fewer hours"),
    ):
        if factor != 1 and math.isclose(ratio, factor, rel_tol=1e-3):
            return why
    found = _factor(ratio, given)
    return "dollars are the hours of all GPUs, times the price" if found == OTHERWISE else found


@cost.show
def _show_cost(function: Any) -> views.Picture:
    return views.bills(
        {name: (function(*given), d, m) for name, (given, d, m) in reported().items()}
    )
