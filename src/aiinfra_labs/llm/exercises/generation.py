"""The exercises of unit 1.5 on choosing a token, and the verdicts on its claims.

Probabilities are powers of two where a sum decides, so that no rounding does. The exercises on
decoding are in `generation_decoding`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.llm import sampling

from . import generation_views as views
from .tensors import equal, is_tensor, random

SKILL = "Generation: prefill and decode"

examine(
    "temperature",
    verdict="reproduced",
    figure="Entropy over a model's own logits grows with T without exception, T = 1 leaves the "
    "softmax as it is, and T = 0 is 0 bits: the likeliest token. T = 0 cannot be computed as "
    "written (logits / 0); it is defined as the limit. It removes the draw from the choice, not "
    "rounding from the logits: another batch size may sum in another order.",
    how="entropy of the next token of stored prompts, T from 0 to 2, and hypothesis on random "
    "logits; probabilities equal to transformers' TemperatureLogitsWarper",
    source="https://huggingface.co/docs/transformers/main_classes/text_generation",
)
examine(
    "arch-vs-phase",
    verdict="corrected",
    figure="Architecture and phase are two things, as the talk says, but encoder and decoder do "
    "not pair with prefill and decode: this course's model has no encoder, and prefills. Decoding "
    "moves one weight for two operations at batch 1 and is bound by bandwidth there; a batch "
    "shares the weights, but never each other's KV cache.",
    how="the operations that PyTorch counts in both phases of one decoder, bytes by formula, and "
    "benchmarks/generation.py by batch and length",
    source="https://arxiv.org/abs/2211.05102",
)


# --- 1.5.a -------------------------------------------------------------------------------------

SOFTMAX = "is the softmax at temperature 1"
LARGE = "has no nan, however large the logits are"
SHARPER = "is sharper below 1 and flatter above"
ZERO = "takes the likeliest at 0, of equal ones the first"


@exercise(
    "1.5.a",
    title="Temperature",
    points=6,
    central=SHARPER,
    skill=SKILL,
    arguments=("logits", "temperature"),
    hints=(
        (SOFTMAX, "softmax: `torch.exp` of each logit, divided by the sum of all of them."),
        (
            LARGE,
            "exp(1000) is more than a float32 can hold. What changes in the quotient if you "
            "subtract the same number from every logit? Which number leaves none above 0?",
        ),
        (
            SHARPER,
            "Divide the logits by the temperature before exp, not the probabilities after it.",
        ),
        (ZERO, "Nothing can be divided by 0: this case is one of its own, with `logits.argmax()`."),
    ),
)
def probabilities(function: Any, require: Any) -> None:
    """softmax(logits / temperature); at 0, all of the probability on the largest logit."""
    with require(SOFTMAX) as r:
        for logits in ([0.0, 0.0], [1.0, 2.0, 3.0], [0.5, -math.inf, -1.0], [7.0]):
            _tempered(r, function, torch.tensor(logits), 1.0, "exp(logit) over the sum of all exp")
        _tempered(r, function, random(200), 1.0, "exp(logit) over the sum of all exp")
    with require(LARGE) as r:
        why = "exp of more than 88 is an infinity in float32, and of less than -103 a zero"
        for logits in ([1000.0, 1001.0], [-1000.0, -1001.0], [3e4, 0.0, 2.9999e4]):
            _tempered(r, function, torch.tensor(logits), 1.0, why)
        _tempered(r, function, torch.tensor([40.0, 39.0, -5.0]), 0.01, why)
        _tempered(r, function, torch.tensor([1e30, 0.0, -1e30]), 1.0, why)
    with require(SHARPER) as r:
        for t in (0.5, 2.0, 0.1, 10.0):
            logits = 2 * random(30, seed=1)
            _tempered(r, function, logits, t, f"every logit is divided by {t} before exp")
        for t in (1e-2, 1e-3, 1e-5):  # small, and no 0: what is left of the logits still counts
            logits = t * torch.tensor([1.0, 0.0, -0.5])
            _tempered(r, function, logits, t, f"every logit is divided by {t} before exp")
    with require(ZERO) as r:
        for logits in ([1.0, 3.0, 2.0], [2.0, 5.0, 5.0, -math.inf], [-4.0, -4.0]):
            why = "the limit of small temperatures: only the largest logit is left, and one of them"
            _tempered(r, function, torch.tensor(logits), 0.0, why)


def _tempered(r: Any, function: Any, logits: Tensor, t: float, why: str) -> None:
    shown = logits.tolist() if len(logits) < 6 else f"{len(logits)} random numbers"
    with r.input(f"logits = {shown}, temperature = {t:g}"):
        got = function(logits, t)
        equal(
            r,
            got,
            sampling.temperature(logits, t).softmax(-1),
            "the probabilities",
            tolerance=_rounding(logits, t),
            why=why,
            try_="print logits, what you divide, and the sum of what you return",
        )


def _rounding(logits: Tensor, t: float) -> float:
    """How far a right answer may be off, whichever of the usual ways it takes.

    logit / T and, in some of them, the logarithm of the sum are numbers of this size, in float32: a
    difference of two is off by up to 2 roundings of 2^-24 of it, and exp makes that the same share
    of a probability. Where the largest are apart by more than 100, it is 0 or 1 in any case.
    """
    top = logits.double().topk(min(2, len(logits)))[0] / (t or 1.0)
    if len(top) < 2 or float(top[0] - top[1]) > 100:
        return 1e-4
    return max(1e-4, float(top.abs().max()) * 2**-22)


@probabilities.show
def _show_probabilities(function: Any) -> views.Picture:
    return views.temperatures(function)


# --- 1.5.b -------------------------------------------------------------------------------------

FEWEST = "keeps the fewest that sum to p, the one that crosses p included"
TIES = "takes the smaller id first, of tokens that are equally likely"
ENDS = "keeps one token at p = 0, and all of them at 1"
SHARED = "shares the whole probability among those that are kept"


@exercise(
    "1.5.b",
    title="Top-p: the nucleus",
    points=6,
    central=FEWEST,
    skill=SKILL,
    arguments=("probabilities", "p"),
    new=True,
    hints=(
        (
            FEWEST,
            "Sort with the likeliest first, and sum up: `torch.cumsum`. A token is kept if those "
            "*before* it do not sum to p yet. Before it: the sum, less its own probability.",
        ),
        (
            FEWEST,
            "`ordered, ids = probabilities.sort(descending=True)` says where each came from: "
            "`out[ids[kept]] = ...` puts it back.",
        ),
        (TIES, "`sort(descending=True, stable=True)` leaves equal ones in their order."),
        (ENDS, "At p = 0 the sum before the first token, 0, reaches p already. Keep it anyway."),
        (SHARED, "Divide by the sum of what is left."),
    ),
)
def top_p(function: Any, require: Any) -> None:
    """The likeliest tokens until their sum reaches p, scaled to sum to 1; 0 for all others."""
    with require(FEWEST) as r:
        for shares, p in (
            ([8, 4, 2, 2], 0.6),
            ([8, 4, 2, 2], 0.75),
            ([2, 8, 1, 4, 1], 0.8),
            ([1, 15], 0.5),
        ):
            _nucleus(r, function, shares, p, kept_alone=True)
    with require(TIES) as r:
        for shares, p in (([4, 4, 4, 4], 0.5), ([2, 2, 8, 2, 2], 0.75), ([1] * 64, 0.25)):
            _nucleus(r, function, shares, p, kept_alone=True)
    with require(ENDS) as r:
        for shares, p in (([4, 8, 4], 0.0), ([4, 8, 4], 1.0), ([1], 0.3), ([8, 0, 8], 1.0)):
            _nucleus(r, function, shares, p, kept_alone=True)
    with require(SHARED) as r:
        for shares, p in (([8, 4, 2, 2], 0.6), ([2, 8, 1, 4, 1], 0.9), ([1, 2, 1], 0.4)):
            _nucleus(r, function, shares, p, kept_alone=False)


def reference_top_p(probabilities: Tensor, p: float) -> Tensor:
    """By hand, token by token: float32 [V]."""
    order = sorted(range(len(probabilities)), key=lambda i: (-float(probabilities[i]), i))
    total, out = 0.0, torch.zeros_like(probabilities)
    for id in order:
        out[id] = probabilities[id]
        total += float(probabilities[id])
        if total >= p:
            break
    return out / total


def _nucleus(r: Any, function: Any, shares: list[int], p: float, kept_alone: bool) -> None:
    given = torch.tensor(shares, dtype=torch.float32) / sum(shares)
    shown = given.tolist() if len(shares) < 6 else f"{len(shares)} times {float(given[0])}"
    with r.input(f"probabilities = {shown}, p = {p:g}"):
        expected = reference_top_p(given, p)
        got = function(given.clone(), p)
        is_tensor(r, got, "the result", tuple(given.shape))
        mine, theirs = (x.nonzero().flatten().tolist() for x in (got, expected))
        r.that(
            mine == theirs,
            what=f"tokens {_few(mine)} are kept, expected {_few(theirs)}",
            why=_why(given, p, mine, theirs),
            try_="write down the sorted probabilities and their sums, and mark where p is reached",
        )
        if not kept_alone:
            equal(
                r,
                got,
                expected,
                "the result",
                why="what is drawn from must sum to 1, in the proportions that it had",
                try_="divide what is kept by its own sum",
            )


def _few(ids: list[int]) -> str:
    return str(ids) if len(ids) <= 8 else f"{str(ids[:6])[:-1]}, ... {len(ids)} in all]"


def _why(given: Tensor, p: float, mine: list[int], expected: list[int]) -> str:
    total = float(given[mine].sum()) if mine else 0.0
    if not mine:
        return "one token must be left to draw: the likeliest always is"
    if len(mine) == len(expected):
        if sorted(given[mine].tolist()) == sorted(given[expected].tolist()):
            return "they are equally likely, and the rule must be the same on every machine"
        return "the likeliest tokens are kept, wherever in the vocabulary they stand"
    if total < p:
        return (
            f"they sum to {total:g}, and p is {p:g}: the token with which the sum reaches p stays"
        )
    return (
        f"they sum to {total:g}, where {float(given[expected].sum()):g} reaches p = {p:g} already"
    )


@top_p.show
def _show_top_p(function: Any) -> views.Picture:
    return views.nucleus(function)
