"""The exercise of unit 1.7 on GRPO: its loss, graded by its value and by its gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise

from . import deepseek_views as views
from .deepseek import SKILL
from .tensors import array, near, random

GROUP = "prefers an answer by how much better than its group it is"
SILENT = "learns nothing, and has no nan, where all answers are as good"
OWN = "takes the mean over each answer's own tokens, then over answers"
CLIP = "stops where the ratio has gained enough, and only there"
KL = "holds on to the reference by beta x (r - log r - 1)"


@dataclass(frozen=True)
class Case:
    """Arguments of the exercise, in its order."""

    new: Tensor
    old: Tensor
    reference: Tensor
    rewards: Tensor
    mask: Tensor
    clip: float = 0.2
    beta: float = 0.0

    def said(self) -> str:
        g, t = self.new.shape
        lengths = self.mask.sum(1).int().tolist()
        return (
            f"{g} answers of {lengths} tokens ({t} columns), rewards {self.rewards.tolist()}, "
            f"clip {self.clip}, beta {self.beta}"
        )


def case(rewards: list[float], lengths: list[int], seed: int = 0, moved: float = 0.0) -> Case:
    """An answer a reward. moved: how far `new` has gone from `old`, in log-probability."""
    g, t = len(rewards), max(lengths)
    old = -1.5 + 0.3 * random(g, t, seed=seed)
    mask = (torch.arange(t) < torch.tensor(lengths)[:, None]).float()
    new = old + moved * random(g, t, seed=seed + 1)
    return Case(new, old, new.clone(), torch.tensor(rewards), mask)


def reference_loss(
    given: Case,
    *,
    sample_std: bool = False,
    no_std: bool = False,
    clip_alone: bool = False,
    no_clip: bool = False,
    all_tokens: bool = False,
    columns: bool = False,
    other_kl: bool = False,
) -> Tensor:
    """The loss, token by token; or, by a flag, with one of the mistakes that are made."""
    r = given.rewards
    std = r.std(correction=1 if sample_std else 0)
    a = (r - r.mean()) / (1 if no_std else std + 1e-6)
    means, everything = [], []
    for i in range(len(r)):
        values = []
        for t in range(given.new.shape[1]):
            if not given.mask[i, t] and not columns:
                continue
            ratio = (given.new[i, t] - given.old[i, t]).exp()
            near_one = ratio.clamp(1 - given.clip, 1 + given.clip)
            gain = torch.minimum(ratio * a[i], near_one * a[i])
            gain = near_one * a[i] if clip_alone else ratio * a[i] if no_clip else gain
            log = given.reference[i, t] - given.new[i, t]
            kl = -log if other_kl else log.exp() - log - 1
            values.append((gain - given.beta * kl) * given.mask[i, t])
        means.append(torch.stack(values).mean())
        everything += values
    return -(torch.stack(everything) if all_tokens else torch.stack(means)).mean()


@exercise(
    "1.7.e",
    title="The loss of GRPO",
    points=8,
    central=GROUP,
    skill=SKILL,
    arguments=("new", "old", "reference", "rewards", "mask", "clip", "beta"),
    hints=(
        (
            GROUP,
            "The advantage of an answer is (reward - mean) / std over the group: a number for "
            "each answer, [G]. `rewards.std(correction=0)` is the population's.",
        ),
        (
            GROUP,
            "The ratio is exp(new - old), 1 when nothing was updated yet, but its gradient is "
            "not 0. `advantage[:, None]` gives every token of an answer the answer's advantage.",
        ),
        (SILENT, "(r - mean) / std is 0 / 0 where all rewards are equal. Add 1e-6 to the std."),
        (
            OWN,
            "`(x * mask).sum(1) / mask.sum(1)` is the mean over an answer's own tokens: [G]. "
            "Then the mean over the group, and the sign: a loss is minimised.",
        ),
        (
            CLIP,
            "`torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)`. The minimum "
            "keeps the unclipped one where that is the worse of the two.",
        ),
        (
            KL,
            "With x = reference - new, token by token: exp(x) - x - 1. It is taken off what is "
            "gained, so it is added to the loss.",
        ),
    ),
)
def grpo_loss(function: Any, require: Any) -> None:
    """GRPO's loss for one group: log-probabilities [G, T], rewards [G], mask [G, T]; a scalar."""
    with require(GROUP) as r:
        for given in (case([1.0, 0.0], [1, 1]), case([0.0, 1.0, 1.0, 0.5], [3, 3, 3, 3])):
            _compare(r, function, given)
    with require(SILENT) as r:
        for rewards in ([1.0, 1.0], [0.0, 0.0, 0.0]):
            given = case(rewards, [2] * len(rewards))
            with r.input(given.said()):
                _, gradient = _run(r, function, given)
                r.that(
                    bool((gradient.abs() < 1e-4).all()),
                    what=f"the gradient of new[0, 0] is {float(gradient[0, 0]):.4g}, expected 0",
                    why="no answer is better than its group, so there is nothing to prefer",
                    try_="subtract the mean first; and add 1e-6 to the std, which is 0 here",
                )
    with require(OWN) as r:
        for given in (case([1.0, 0.0], [1, 4]), case([0.0, 2.0, 1.0], [5, 2, 3])):
            _compare(r, function, given)
    with require(CLIP) as r:
        for seed in (3, 4):
            _compare(r, function, case([1.0, 0.0, 0.0, 1.0], [6, 6, 5, 6], seed, moved=0.5))
        given = case([1.0, 0.0, 0.5], [5, 4, 5], 5, moved=0.8)
        _compare(r, function, replace(given, clip=0.05))
    with require(KL) as r:
        for rewards in ([0.0, 0.0], [1.0, 0.0, 0.0]):
            given = case(rewards, [4] * len(rewards), 6)
            away = given.new + 0.6 * random(*given.new.shape, seed=9)
            for beta in (0.5, 0.04):
                _compare(r, function, replace(given, reference=away, beta=beta))


def _run(r: Any, function: Any, given: Case) -> tuple[Tensor, Tensor]:
    """The learner's loss and its gradient for `new`."""
    new = given.new.clone().requires_grad_()
    old, reference, rewards, mask = (
        x.clone() for x in (given.old, given.reference, given.rewards, given.mask)
    )
    loss = function(new, old, reference, rewards, mask, given.clip, given.beta)
    kind = "None" if loss is None else f"a {type(loss).__name__}"
    r.that(
        isinstance(loss, Tensor) and loss.dim() == 0,
        what=f"the loss is {f'of shape {list(loss.shape)}' if isinstance(loss, Tensor) else kind}, "
        "expected one number, a tensor of shape []",
        why="a loss is one number for the whole group, and its gradient trains the model",
        try_="end with .mean() over the answers",
        slip=not isinstance(loss, Tensor),
    )
    r.that(
        loss.requires_grad,
        what="the loss does not depend on new",
        why="nothing could be learned from it",
        try_="compute with new itself, without detach, item or no_grad",
    )
    loss.backward()
    gradient = torch.zeros_like(new) if new.grad is None else new.grad
    r.that(
        bool(loss.isfinite()) and bool(gradient.isfinite().all()),
        what=f"the loss is {float(loss.detach()):.4g}, and its gradient has "
        f"{int((~gradient.isfinite()).sum())} numbers that are not finite",
        why="0 / 0 is nan: a std of 0, or the mean over no token",
        try_="print the advantages, the ratios, and the tokens of each answer",
    )
    return loss.detach(), gradient


def _compare(r: Any, function: Any, given: Case) -> None:
    with r.input(given.said()):
        loss, gradient = _run(r, function, given)
        expected, wanted = _reference(given)
        why = _mistake(loss, gradient, given)
        r.equal(
            array(gradient),
            array(wanted),
            name="the gradient of new",
            tolerance=1e-4,
            dtype=False,
            why=why,
            try_="work out one token by hand: its ratio, its answer's advantage, whether it is "
            "clipped, its KL",
        )
        r.equal(float(loss), float(expected), name="the loss", tolerance=1e-4, why=why)


def _reference(given: Case, **mistake: bool) -> tuple[Tensor, Tensor]:
    new = given.new.clone().requires_grad_()
    loss = reference_loss(replace(given, new=new), **mistake)
    (gradient,) = torch.autograd.grad(loss, new)
    return loss.detach(), gradient


MISTAKES = (
    ({"sample_std": True}, "that is the std of a sample; here it is the population's, over G"),
    ({"no_std": True}, "the difference from the mean is not divided by the std"),
    ({"clip_alone": True}, "the clipped ratio alone: a step that went the wrong way too far would "
     "have no gradient that brings it back. The minimum of both is asked for"),
    ({"no_clip": True}, "the ratio is not clipped: nothing stops an answer from being pushed on"),
    ({"all_tokens": True}, "the mean over all tokens of the group lets long answers count more; "
     "GRPO takes each answer's own mean first"),
    ({"columns": True}, "the mean over all columns counts padding as tokens of the answer"),
    ({"other_kl": True}, "that is log r alone, whose gradient does not depend on how far the "
     "model is from the reference"),
)  # fmt: skip


def _mistake(loss: Tensor, gradient: Tensor, given: Case) -> str:
    """Which loss a wrong one is, where it is a known one."""
    expected, wanted = _reference(given)
    if near(-gradient, wanted, 1e-5):
        return "the sign is turned: a loss is minimised, so what is to grow goes in with a minus"
    for flags, why in MISTAKES:
        other, other_gradient = _reference(given, **flags)
        differs = not near(other_gradient, wanted, 1e-5)
        if differs and near(gradient, other_gradient, 1e-5) and near(loss, other, 1e-4):
            return why
    return (
        "for each token min(ratio A, clipped ratio A) - beta x KL; the mean over an answer's "
        "own tokens, over answers, and the sign turned"
    )


@grpo_loss.show
def _show_loss(function: Any) -> views.Picture:
    def loss(ratio: float, good: bool) -> float:
        """Of two answers of one token, the first of this ratio; the other's has not moved."""
        old = torch.full((2, 1), -1.0)
        new = old.clone()
        new[0] += torch.tensor(ratio).log()
        rewards = torch.tensor([1.0, 0.0] if good else [0.0, 1.0])
        return function(new, old, new, rewards, torch.ones(2, 1), 0.2, 0.0)

    return views.clipped(loss)
