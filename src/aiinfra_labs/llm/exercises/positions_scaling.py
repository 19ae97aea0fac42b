"""The last exercise of unit 1.2: frequencies for a text longer than those in training. Unit 1.2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise
from aiinfra_labs.llm import rope_scaling
from aiinfra_labs.llm.positions import rope_frequencies

from . import position_views as views
from .positions import SKILL
from .tensors import equal, is_tensor

FAST = "keeps the pairs that make four turns or more"
SLOW = "divides the pairs that make one turn or less by the factor"
BETWEEN = "mixes both between one turn and four"
MODEL = "brings down a trained model's loss past its length"
LOW, HIGH = 1.0, 4.0


@exercise(
    "1.2.d",
    title="Past the trained length: Llama 3.1's frequencies",
    points=6,
    central=BETWEEN,
    skill=SKILL,
    arguments=("frequencies", "factor", "trained"),
    seconds=30.0,
    hints=(
        (
            FAST,
            "A pair with frequency w turns w radians a token. After `trained` tokens it has made "
            "trained * w / (2 pi) turns.",
        ),
        (
            SLOW,
            "A pair that has not gone round once has not been everywhere: a longer text takes it "
            "where training never did. Divided by the factor, it stays where it was.",
        ),
        (
            BETWEEN,
            "At one turn, none of the old frequency is kept; at four, all of it; in a line "
            "between: `kept = (turns - 1) / (4 - 1)`, clamped to 0 and 1.",
        ),
        (BETWEEN, "The new frequency is kept * old + (1 - kept) * old / factor."),
        (MODEL, "Get the three rules above right, and the model follows."),
    ),
)
def stretch(function: Any, require: Any) -> None:
    """Llama 3.1's rule: fast pairs kept, slow ones divided, a weighted mean between."""
    with require(FAST) as r:
        for frequencies, trained in (([1.0, 0.5], 128), ([1.0, 0.2, 0.01], 8192)):
            with r.input(f"frequencies {frequencies}, factor = 4, trained = {trained:,}"):
                given = torch.tensor(frequencies)
                equal(
                    r,
                    function(given.clone(), 4.0, trained),
                    given,
                    "the result",
                    tolerance=1e-5,
                    why=f"they make {_turns(given, trained)} turns in {trained:,} tokens: they "
                    "tell neighbours apart, and have been everywhere",
                    try_="count the turns of each pair, trained * w / (2 pi), and compare with 4",
                )
    with require(SLOW) as r:
        for frequencies, factor, trained in (([0.04, 0.001], 4.0, 128), ([0.0001], 32.0, 8192)):
            with r.input(f"frequencies {frequencies}, factor = {factor:g}, trained = {trained:,}"):
                given = torch.tensor(frequencies)
                got = function(given.clone(), factor, trained)
                is_tensor(r, got, "the result", tuple(given.shape))
                _divided(r, given, got, factor, trained)
    with require(BETWEEN) as r:
        for d, base, factor, trained in (
            (32, 10_000.0, 4.0, 128),
            (128, 500_000.0, 8.0, 8192),
            (64, 10_000.0, 1.0, 512),
        ):
            with r.input(
                f"{d // 2} pairs, base = {base:,.0f}, factor = {factor:g}, trained = {trained:,}"
            ):
                given = rope_frequencies(d, base)
                expected = rope_scaling.llama3(given, factor, trained, LOW, HIGH)
                got = function(given.clone(), factor, trained)
                is_tensor(r, got, "the result", tuple(given.shape))
                _ratios(r, given, got, expected, trained)
    with require(MODEL) as r, r.input("the stored model, trained on 128 bytes, on windows of 512"):
        plain = rope_frequencies(32)
        got = function(plain.clone(), 4.0, 128)
        is_tensor(r, got, "the result", tuple(plain.shape))
        before, after = views.loss_past_the_end(plain), views.loss_past_the_end(got)
        r.that(
            after < before - 0.5,
            what=f"past position 256 it loses {after:.2f} nats a byte with your frequencies, and "
            f"{before:.2f} with its own",
            why="a pair that turns further than it ever did in training gives scores that the "
            "model has not met",
            try_="show draws the loss by position; are the slow pairs divided by the factor?",
        )


def _turns(frequencies: Tensor, trained: int) -> str:
    return ", ".join(f"{t:.1f}" for t in rope_scaling.rotations(frequencies, trained).tolist())


def _divided(r: Any, given: Tensor, got: Tensor, factor: float, trained: int) -> None:
    for i, (old, new) in enumerate(zip(given.tolist(), got.tolist(), strict=True)):
        by = old / new if new else float("inf")
        r.that(
            abs(by - factor) < 1e-3 * factor,
            what=f"pair {i} turns {old:.4g} radians a token and now {new:.4g}: divided by "
            f"{by:.4g}, expected {factor:g}",
            why=f"it makes {_turns(given[i : i + 1], trained)} turns in {trained:,} tokens, one or "
            "less",
            try_="frequencies / factor, where a pair makes one turn or less",
        )


def _ratios(r: Any, given: Tensor, got: Tensor, expected: Tensor, trained: int) -> None:
    near = (got - expected).abs() <= 1e-4 * expected  # of nan it is false
    wrong = (~near).nonzero().flatten().tolist()
    if not wrong:
        return
    i = wrong[0]
    by = float(given[i] / got[i]) if float(got[i]) else float("inf")
    r.that(
        False,
        what=f"pair {i}, of {_turns(given[i : i + 1], trained)} turns, is divided by {by:.4g}, "
        f"expected {float(given[i] / expected[i]):.4g}; {len(wrong)} of {len(given)} pairs differ",
        why="with t turns, (t - 1) / 3 of the old frequency is kept, between 0 and 1, and the rest "
        "is the divided one",
        try_="mix the two frequencies, not the two wavelengths",
    )


@stretch.show
def _show_stretch(function: Any) -> views.Picture:
    return views.past_the_end(function)
