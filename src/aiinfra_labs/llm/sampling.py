"""From logits to the next token: temperature, top-k, top-p, min-p, repetition penalty. Unit 1.5.

Each is a function from logits to logits that sets what it rules out to -inf, so that they can be
applied one after another; a softmax at the end shares the probability among what is left. Each is
equal to `transformers`' processor of its name. B: batch, V: vocabulary, T: tokens so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class SamplingError(ValueError):
    """A setting that no sampling can have, in three parts."""

    def __init__(self, what: str, why: str, try_: str):
        super().__init__(f"{what}\nWhy: {why}\nTry: {try_}")


# --- logits to logits -----------------------------------------------------------------------------


def temperature(logits: Tensor, t: float) -> Tensor:
    """logits / t: sharper below 1, flatter above. logits: float [..., V].

    t = 0 is the limit: the largest logit stays, and of equal ones the first; all others are -inf.
    Raises SamplingError for t below 0, nan or infinite.
    """
    if not (t >= 0 and math.isfinite(t)):
        raise SamplingError(
            f"temperature is {t}",
            "logits are divided by it: below 0 the least likely token would become the most "
            "likely, and nan or an infinity leaves no order at all",
            "0 for the likeliest token each time, 1 for the model's own probabilities",
        )
    if t == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, best, 0.0)
    # The largest becomes 0 first, so that a tiny t gives no infinity, but at the others' -inf.
    return (logits - logits.amax(dim=-1, keepdim=True)) / t


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest, and what equals the last of them. logits: float [..., V].

    Fan et al., arXiv:1805.04833. Raises SamplingError for k below 1.
    """
    if k < 1:
        raise SamplingError(
            f"top_k is {k}",
            "no token would be left to choose from",
            "1 or more; None leaves all of them",
        )
    last = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]  # [..., 1]
    return logits.masked_fill(logits < last, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities sum to p or more: the nucleus.

    The token with which the sum reaches p is kept; the likeliest one always. logits: float
    [..., V]. Holtzman et al., arXiv:1904.09751, section 3.1. Raises SamplingError outside 0 to 1.
    """
    _within_one("top_p", p)
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    # What comes before a token, summed from the least likely up: no rounding error of the many.
    behind = probabilities.flip(-1).cumsum(dim=-1).flip(-1)  # this token and all behind it
    out = behind <= 1 - p  # those before it sum to p already
    out[..., 0] = False
    return logits.masked_fill(torch.zeros_like(out).scatter(-1, ids, out), -math.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as likely as the likeliest. logits: float [..., V].

    Nguyen et al., arXiv:2407.01082. Raises SamplingError outside 0 to 1.
    """
    _within_one("min_p", p)
    probabilities = logits.softmax(dim=-1)
    best = probabilities.amax(dim=-1, keepdim=True)
    return logits.masked_fill(probabilities < p * best, -math.inf)


def repetition_penalty(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make each token that stands in `ids` less likely, once, however often it stands there.

    A positive logit is divided by the penalty and a negative one multiplied, so that both fall for
    penalties above 1. logits: float [B, V]. ids: int64 [B, T]. Keskar et al., arXiv:1909.05858,
    section 4.1. Raises SamplingError for a penalty that is not above 0.
    """
    if not (penalty > 0 and math.isfinite(penalty)):
        raise SamplingError(
            f"repetition_penalty is {penalty}",
            "logits are divided by it, and keep their sign",
            "1 for none, and a little above, such as 1.1, for some",
        )
    seen = logits.gather(-1, ids)  # [B, T]
    lower = torch.where(seen < 0, seen * penalty, seen / penalty)
    return logits.scatter(-1, ids, lower)


def _within_one(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise SamplingError(
            f"{name} is {p}",
            "it is a share of probability",
            "a number from 0 to 1",
        )


# --- all of them, and a draw ----------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """How a request wants its tokens chosen. The defaults take the likeliest: greedy decoding."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        one = torch.zeros(1, 1)
        self(one, torch.zeros(1, 1, dtype=torch.int64))  # each setting is tried, before any work

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        """The logits that are drawn from. logits: float [B, V]. ids: int64 [B, T], all so far.

        In the order of `transformers`: what comes later sees what is left of the earlier.
        """
        if self.repetition_penalty != 1:
            logits = repetition_penalty(logits, ids, self.repetition_penalty)
        logits = temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = top_k(logits, self.top_k)
        if self.top_p != 1:
            logits = top_p(logits, self.top_p)
        if self.min_p != 0:
            logits = min_p(logits, self.min_p)
        return logits

    def generators(self, rows: int) -> list[torch.Generator]:
        """A source of chance for each row of a batch: a row draws the same in any company."""
        return [torch.Generator().manual_seed(self.seed + row) for row in range(rows)]

    def choose(self, logits: Tensor, ids: Tensor, chance: Sequence[torch.Generator]) -> Tensor:
        """The next token of each row: int64 [B]. chance: a generator a row."""
        if self.temperature == 0:  # no draw: min-p, top-p and top-k all keep the likeliest
            if self.repetition_penalty != 1:
                logits = repetition_penalty(logits, ids, self.repetition_penalty)
            return logits.argmax(dim=-1)
        return draw(self(logits, ids), chance)


def draw(logits: Tensor, chance: Sequence[torch.Generator]) -> Tensor:
    """A token a row, each as often as its probability says: int64 [B]. logits: float [B, V].

    A number from 0 to 1 falls into one of the stretches that the probabilities cut the line into.
    """
    ends = logits.double().softmax(dim=-1).cumsum(dim=-1)  # [B, V]
    where = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in chance])
    at = where[:, None].to(ends.device) * ends[:, -1:]  # the last end is 1, up to rounding
    return torch.searchsorted(ends, at, right=True)[:, 0]


def entropy(logits: Tensor) -> Tensor:
    """How undecided a softmax is: -sum p log2 p, bits [...]. 0: one token; log2 V: all alike."""
    logs = logits.log_softmax(dim=-1)
    terms = logs.exp() * logs
    return terms.masked_fill(logits == -math.inf, 0).sum(dim=-1) / -math.log(2) + 0.0  # no -0.0
