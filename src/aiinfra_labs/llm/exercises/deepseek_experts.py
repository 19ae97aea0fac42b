"""The exercises of unit 1.7 on experts: what a token goes through, and how loads are evened out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise
from aiinfra_labs.llm.deepseek.balance import violation

from . import deepseek_views as views
from .deepseek import SKILL
from .tensors import equal, is_tensor, near, random

# --- 1.7.c -------------------------------------------------------------------------------------

SUM = "is the weighted sum of the chosen experts, and the shared one"
WEIGHTS = "has weights that sum to 1 for every token"
BIAS = "lets the bias choose, and keeps it out of the weights"
WORK = "shows each expert its own tokens, once, and no others"


@dataclass
class Watched:
    """An expert [n, C] to [n, C] that notes how many rows each of its calls had."""

    weight: Tensor  # [C, C]
    calls: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return torch.tanh(x @ self.weight)


def experts_of(count: int, width: int, seed: int = 0) -> list[Watched]:
    return [Watched(random(width, width, seed=100 * seed + i)) for i in range(count)]


def mixed(
    x: Tensor, scores: Tensor, bias: Tensor, k: int, experts: list[Any], shared: Any
) -> Tensor:
    """Token by token: float32 [T, C]. What 1.7.c is compared with."""
    rows = []
    for t in range(len(x)):
        best = sorted(range(len(bias)), key=lambda i: -float(scores[t, i] + bias[i]))[:k]
        total = sum(scores[t, i] for i in best)
        parts = [scores[t, i] / total * experts[i](x[t : t + 1])[0] for i in best]
        rows.append(sum(parts) + shared(x[t : t + 1])[0])
    return torch.stack(rows)


def routed(tokens: int, count: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """(x [T, C], scores [T, E] between 0 and 1)."""
    return random(tokens, width, seed=seed), random(tokens, count, seed=seed + 1).sigmoid()


@exercise(
    "1.7.c",
    title="A mixture of experts",
    points=6,
    central=SUM,
    skill=SKILL,
    arguments=("x", "scores", "bias", "k", "experts", "shared"),
    hints=(
        (
            SUM,
            "`(scores + bias).topk(k, dim=-1)` gives values and indices. You want the indices, "
            "[T, k]: which experts each token goes through.",
        ),
        (
            WEIGHTS,
            "Divide the k scores of a token by their own sum. The other experts have no weight.",
        ),
        (BIAS, "`scores.gather(1, chosen)` are the scores without the bias. Weigh with those."),
        (
            WORK,
            "Loop over the experts, not over the tokens: `token, place = (chosen == i).nonzero("
            "as_tuple=True)` are the tokens of expert i, and where in the k it stands for each.",
        ),
        (
            WORK,
            "Give the expert `x[token]`, all of its tokens at once; add its output, weighted, with "
            "`out.index_add_(0, token, ...)`. Leave out an expert that has no token.",
        ),
    ),
)
def mixture(function: Any, require: Any) -> None:
    """Each token through its k best experts and the shared one: x [T, C] to [T, C]."""
    with require(SUM) as r:
        for tokens, count, k in ((1, 1, 1), (3, 4, 1), (5, 6, 2), (9, 8, 8)):
            _mixes(r, function, tokens, count, k, torch.zeros(count))
    with require(WEIGHTS) as r:
        for tokens, count, k in ((2, 4, 1), (4, 6, 3)):
            with r.input(f"{tokens} tokens, {count} experts that change nothing, k = {k}"):
                x, scores = routed(tokens, count, 6, 50)
                got = function(
                    x.clone(), scores, torch.zeros(count), k, [_same] * count, torch.zeros_like
                )
                is_tensor(r, got, "the result", tuple(x.shape))
                equal(
                    r,
                    got,
                    x,
                    "the result",
                    why="each expert gives back what it was given and the shared one 0, so a "
                    "weighted mean must give back x: the weights do not sum to 1",
                    try_="print the weights of one token, and their sum",
                )
    with require(BIAS) as r:
        for tokens, count, k in ((4, 4, 1), (6, 8, 2)):
            bias = torch.zeros(count)
            bias[-1], bias[0] = 2.0, -2.0
            _mixes(r, function, tokens, count, k, bias)
    with require(WORK) as r:
        for tokens, count, k in ((6, 3, 1), (20, 8, 2), (3, 16, 2)):
            _works(r, function, tokens, count, k)


def _same(x: Tensor) -> Tensor:
    return x


def _mixes(r: Any, function: Any, tokens: int, count: int, k: int, bias: Tensor) -> None:
    x, scores = routed(tokens, count, 6, 60)
    experts, shared = experts_of(count, 6), Watched(random(6, 6, seed=999))
    with r.input(
        f"{tokens} tokens, {count} experts, k = {k}, "
        f"{'a bias that pulls' if bias.any() else 'no bias'}"
    ):
        got = function(x.clone(), scores.clone(), bias.clone(), k, experts, shared)
        is_tensor(r, got, "the result", tuple(x.shape))
        expected = mixed(x, scores, bias, k, experts, shared)
        equal(
            r,
            got,
            expected,
            "the result",
            why=_mixture(got, x, scores, bias, k, experts, shared),
            try_="for token 0: print the chosen experts, their weights, and what each returns",
        )


def _mixture(
    got: Tensor,
    x: Tensor,
    scores: Tensor,
    bias: Tensor,
    k: int,
    experts: list[Any],
    shared: Any,
) -> str:
    """Which mixture a wrong one is, where it is a known one."""
    none = torch.zeros_like(bias)
    known = (
        (
            lambda: mixed(x, scores, bias, k, experts, torch.zeros_like),
            "the shared expert is missing, which every token goes through",
        ),
        (
            lambda: mixed(x, scores + bias, none, k, experts, shared),
            "the bias is in the weights as well: then balancing changes what the model computes",
        ),
        (
            lambda: mixed(x, scores, none, k, experts, shared),
            "the bias is not in the choice: the experts with the largest score + bias are chosen",
        ),
        (
            lambda: mixed(x, scores, bias, len(bias), experts, shared),
            "every expert is in the sum: only the k chosen ones are",
        ),
        (
            lambda: unscaled(x, scores, bias, k, experts, shared),
            "the weights are the scores themselves: divide a token's k scores by their sum",
        ),
    )
    for other, why in known:
        if near(got, other()):
            return why
    return (
        "for each token the k experts with the largest score + bias, weighted by their scores "
        "over the sum of these k, and the shared expert with weight 1"
    )


def unscaled(
    x: Tensor, scores: Tensor, bias: Tensor, k: int, experts: list[Any], shared: Any
) -> Tensor:
    """The mistake of weights that do not sum to 1."""
    total = scores.gather(1, (scores + bias).topk(k)[1]).sum(1, keepdim=True)
    both = mixed(x, scores, bias, k, experts, torch.zeros_like)
    return both * total + shared(x)


def _works(r: Any, function: Any, tokens: int, count: int, k: int) -> None:
    x, scores = routed(tokens, count, 6, 70)
    scores[:, 0] = 0.0  # nobody wants expert 0
    experts, shared = experts_of(count, 6), Watched(random(6, 6, seed=999))
    with r.input(f"{tokens} tokens, {count} experts, k = {k}"):
        got = function(x.clone(), scores.clone(), torch.zeros(count), k, experts, shared)
        is_tensor(r, got, "the result", tuple(x.shape))
        load = scores.topk(k)[1].flatten().bincount(minlength=count).tolist()
        seen = [sum(e.calls) for e in experts]
        r.that(
            sum(seen) == tokens * k,
            what=f"the experts were shown {sum(seen)} rows in all, expected {tokens * k}: "
            f"{tokens} tokens x {k}",
            why="an expert that computes tokens which it was not given costs as much as a dense "
            "model, whatever weight it gets",
            try_="give an expert x[token] and not x, where token holds the tokens that chose it",
        )
        r.that(
            seen == load,
            what=f"rows by expert: {seen}, expected {load}",
            why="each expert computes the tokens that chose it",
            try_="print chosen, and count how often each expert is in it",
        )
        calls = [len(e.calls) for e in experts]
        r.that(
            all(c <= 1 for c in calls) and all(0 not in e.calls for e in experts),
            what=f"calls by expert: {calls}, and rows in them: {[e.calls for e in experts]}",
            why="an expert is two matrix products: with all of its tokens at once its weights are "
            "read once, and with none there is nothing to do",
            try_="loop over the experts; collect the tokens of one, and skip it if there are none",
        )


@mixture.show
def _show_mixture(function: Any) -> views.Picture:
    return views.rows_by_expert(function, routed, experts_of)


# --- 1.7.d -------------------------------------------------------------------------------------

DOWN_AND_UP = "lowers the bias of a busy expert, and raises that of an idle one"
BY_GAMMA = "moves it by gamma, however large the error is, and not at all where there is none"
NEW = "leaves the bias that it was given as it is"
EVENS = "evens out a skewed router within 400 steps"


@exercise(
    "1.7.d",
    title="Balance by a bias",
    points=6,
    central=BY_GAMMA,
    skill=SKILL,
    arguments=("bias", "load", "gamma"),
    changes=("bias",),  # a requirement of its own looks at it
    hints=(
        (
            DOWN_AND_UP,
            "What is the mean of `load`? An expert above it has had too many tokens; the bias is "
            "added to its score, so which way must it go?",
        ),
        (BY_GAMMA, "`torch.sign` is -1, 0 or 1. The load is a count: `load.float()` has a mean."),
        (NEW, "`bias + ...` makes a new tensor; `bias += ...` changes the one that was given."),
        (EVENS, "Run show: your load over time, beside that without any bias."),
    ),
)
def bias_update(function: Any, require: Any) -> None:
    """The bias for the next step, from how many tokens each expert was given in this one."""
    cases = (
        ([0.0, 0.0], [3, 1], 0.1),
        ([0.5, -0.2, 0.0], [0, 12, 0], 0.01),
        ([0.1, 0.1, 0.3, -0.4], [4, 4, 9, 3], 0.001),
        ([0.0] * 6, [100, 1, 2, 3, 4, 40], 1.0),
    )
    with require(DOWN_AND_UP) as r:
        for bias, load, gamma in cases:
            with r.input(f"bias {bias}, load {load}, gamma {gamma}"):
                got = _moved(r, function, bias, load, gamma)
                mean = sum(load) / len(load)
                for i, (before, after) in enumerate(zip(bias, got.tolist(), strict=True)):
                    way = (after > before + 1e-9) - (after < before - 1e-9)
                    right = (load[i] < mean) - (load[i] > mean)
                    if right:
                        r.that(
                            way == right,
                            what=f"expert {i} had {load[i]} tokens, the mean is {mean:g}, and its "
                            f"bias went from {before:g} to {after:g}",
                            why="the bias is added to the score: one that was given too much must "
                            "be wanted less",
                            try_="the sign of mean - load is the way to go",
                        )
    with require(BY_GAMMA) as r:
        for bias, load, gamma in (*cases, ([0.2, -0.3], [7, 7], 0.1)):
            with r.input(f"bias {bias}, load {load}, gamma {gamma}"):
                got = _moved(r, function, bias, load, gamma)
                mean = sum(load) / len(load)
                signs = [(x < mean) - (x > mean) for x in load]
                expected = torch.tensor([b + gamma * s for b, s in zip(bias, signs, strict=True)])
                turned = near(got, 2 * torch.tensor(bias) - expected, 1e-6)
                equal(
                    r,
                    got,
                    expected,
                    "the bias",
                    1e-6,
                    why="it moved by gamma, and the wrong way"
                    if turned and any(signs)
                    else "only the sign of the error counts: with its size, one odd batch would "
                    "throw the choice over",
                    try_="gamma x the sign of (mean - load), added to the bias",
                )
    with require(NEW) as r, r.input("bias [0, 0, 0], load [1, 2, 3], gamma 0.1"):
        given = torch.zeros(3)
        got = function(given, torch.tensor([1, 2, 3]), 0.1)
        is_tensor(r, got, "the bias", (3,))
        r.that(
            not given.any(),
            what=f"the bias that you were given has become {given.tolist()}",
            why="the caller still has the tokens in flight that were routed by it",
            try_="return a new tensor",
        )
    with (
        require(EVENS) as r,
        r.input("16 experts, 2 of them a token, scores that favour some, gamma 0.01"),
    ):

        def step(bias: Tensor, load: Tensor) -> Tensor:
            moved = function(bias, load, 0.01)
            is_tensor(r, moved, "the bias", tuple(bias.shape))
            return moved

        curve = simulated(step, 400)
        before, after = curve[0], sum(curve[-50:]) / 50
        r.that(
            after < 0.4,
            what=f"the busiest expert had {1 + before:.1f} times the mean at first, and "
            f"{1 + after:.1f} times over the last 50 steps; at most 1.4 allowed",
            why="a bias that moves the right way, by gamma a step, evens it out in about 100",
            try_="run show, and look which way the curve goes",
        )


def _moved(r: Any, function: Any, bias: list[float], load: list[int], gamma: float) -> Tensor:
    got = function(torch.tensor(bias), torch.tensor(load), gamma)
    is_tensor(r, got, "the bias", (len(bias),))
    return got


def simulated(
    move: Callable[[Tensor, Tensor], Tensor], steps: int, experts: int = 16, k: int = 2
) -> list[float]:
    """The violation of balance in each step of a router that does not learn, with this bias."""
    generator = torch.Generator().manual_seed(0)
    taste = torch.randn(experts, generator=generator)  # what all tokens have in common
    bias, curve = torch.zeros(experts), []
    for _ in range(steps):
        scores = (taste + torch.randn(256, experts, generator=generator)).sigmoid()
        load = (scores + bias).topk(k)[1].flatten().bincount(minlength=experts)
        curve.append(violation(load))
        bias = move(bias, load)
    return curve


@bias_update.show
def _show_bias(function: Any) -> views.Picture:
    return views.violations(
        {
            "without a bias": simulated(lambda b, n: b, 300),
            "with yours": simulated(lambda b, n: function(b, n, 0.01), 300),
        }
    )
