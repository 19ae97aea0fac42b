"""From logits to the next token: temperature, top-k, top-p, min-p, repetition penalty. Unit 1.5.

Each is a function from logits to logits that sets what it rules out to -inf, so that they can be
applied one after another; a softmax at the end shares the probability among what is left. Each is
equal to `transformers`' processor of its name. B: batch, V: vocabulary, T: tokens so far.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .embedding import check_ids


class SamplingError(bounds.SettingError):
    """A setting that no sampling can have, in three parts."""


# --- logits to logits -----------------------------------------------------------------------------


def temperature(logits: Tensor, t: float) -> Tensor:
    """logits / t: sharper below 1, flatter above. logits: float [..., V].

    t = 0 is the limit: the largest logit stays, and of equal ones the first; all others are -inf.
    Raises SamplingError for t below 0, nan or infinite.
    """
    why = (
        "logits are divided by it: below 0 the least likely token would become the most likely, "
        "and nan or an infinity leaves no order at all"
    )
    t = bounds.real("temperature", t, why, 0.0, error=SamplingError)
    if t == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, best, 0.0)
    # The largest becomes 0 first, so that a tiny t gives no infinity, but at the others' -inf. A t
    # that the logits' type would round to 0 stays above it: 0 / 0 is nan.
    t = max(t, torch.finfo(logits.dtype).tiny)
    return (logits - logits.amax(dim=-1, keepdim=True)) / t


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest, and what equals the last of them. logits: float [..., V].

    Fan et al., arXiv:1805.04833. Raises SamplingError for k below 1.
    """
    k = bounds.whole(
        "top_k", k, "so many tokens are left to choose from; None leaves all", error=SamplingError
    )
    last = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]  # [..., 1]
    return logits.masked_fill(logits < last, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities sum to p or more: the nucleus.

    The token with which the sum reaches p is kept; the likeliest one always. Of equally likely
    tokens those with the larger ids are kept. `transformers` sorts the same way, but its sort
    keeps no order among equals where they are many. logits: float [..., V]. Holtzman et al.,
    arXiv:1904.09751, section 3.1. Raises SamplingError outside 0 to 1.
    """
    p = bounds.share("top_p", p, SHARE, SamplingError)
    ordered, ids = logits.sort(dim=-1, stable=True)  # the least likely first
    # Summed from the least likely up: no rounding error of the many. This token and all below it:
    below = ordered.softmax(dim=-1).cumsum(dim=-1)
    out = below <= 1 - p  # those above it sum to p already
    out[..., -1] = False
    return logits.masked_fill(torch.zeros_like(out).scatter(-1, ids, out), -math.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as likely as the likeliest. logits: float [..., V].

    Nguyen et al., arXiv:2407.01082. Raises SamplingError outside 0 to 1.
    """
    p = bounds.share("min_p", p, SHARE, SamplingError)
    probabilities = logits.softmax(dim=-1)
    best = probabilities.amax(dim=-1, keepdim=True)
    return logits.masked_fill(probabilities < p * best, -math.inf)


def repetition_penalty(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make each token that stands in `ids` less likely, once, however often it stands there.

    A positive logit is divided by the penalty and a negative one multiplied, so that both fall for
    penalties above 1. logits: float [B, V]. ids: int64 [B, T]. Keskar et al., arXiv:1909.05858,
    section 4.1. Raises SamplingError for a penalty that is not above 0, and ValueError for an id
    outside the vocabulary.
    """
    why = "logits are divided by it and keep their sign; 1 is none, and 1.1 is some"
    penalty = bounds.real("repetition_penalty", penalty, why, above=0.0, error=SamplingError)
    check_ids(ids, logits.shape[-1])
    seen = logits.gather(-1, ids)  # [B, T]
    lower = torch.where(seen < 0, seen * penalty, seen / penalty)
    return logits.scatter(-1, ids, lower)


SHARE = "it is a share of probability"


def check_logits(logits: Tensor) -> None:
    """Raise SamplingError unless some token of each row can be drawn: no nan, no +inf, not all
    -inf. logits: float [..., V]."""
    best = logits.amax(dim=-1)  # nan where one is
    if not bool(best.isfinite().all()):
        row = (~best.isfinite()).flatten().nonzero()[0].item()
        raise SamplingError(
            f"the largest logit of row {row} is {best.flatten()[row].item()}",
            "there are no probabilities to draw by: the model's weights have diverged, or all "
            "tokens are ruled out",
            "an older checkpoint; or fewer tokens set to -inf",
        )


# --- all of them, and a draw ----------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """How a request wants its tokens chosen. The defaults take the likeliest: greedy decoding.

    seed: any whole number. What a prompt draws depends on the seed and on the prompt's own ids, so
    it is the same alone and in any batch, in whatever row. The second copy of a prompt in a batch
    draws other numbers than the first, and no two seeds share theirs: `generators` hashes all
    three together. Raises SamplingError for a setting that cannot be.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        one = torch.zeros(1, 1)
        self(one, torch.zeros(1, 1, dtype=torch.int64))  # each setting is tried, before any work
        why = "chance begins from a whole number, of any size and sign"
        bounds.whole("seed", self.seed, why, least=-(2**63), most=2**64 - 1, error=SamplingError)

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        """The logits that are drawn from. logits: float [B, V]. ids: int64 [B, T], all so far.

        In the order of `transformers`: what comes later sees what is left of the earlier.
        """
        check_logits(logits)
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

    def generators(self, prompts: Tensor | Sequence[Sequence[int]]) -> list[torch.Generator]:
        """A source of chance for each prompt of a batch: a prompt draws the same in any company.

        prompts: int64 [B, T], or B rows of ids. Each is seeded with 64 bits of SHA-256 over the
        seed, the prompt's ids, and how many equal prompts stand before it.
        """
        rows = prompts.tolist() if isinstance(prompts, Tensor) else prompts
        copies: Counter[tuple[int, ...]] = Counter()
        chance = []
        for ids in map(tuple, rows):
            words = f"{int(self.seed)}|{copies[ids]}|{','.join(map(str, ids))}"
            copies[ids] += 1
            hashed = hashlib.sha256(words.encode()).digest()[:8]
            chance.append(torch.Generator().manual_seed(int.from_bytes(hashed, "little")))
        return chance

    def choose(self, logits: Tensor, ids: Tensor, chance: Sequence[torch.Generator]) -> Tensor:
        """The next token of each row: int64 [B]. logits, ids: see the call. chance: one a row.

        Raises SamplingError where no token can be chosen: a nan, or all ruled out.
        """
        check_logits(logits)
        if self.temperature == 0:  # no draw: min-p, top-p and top-k all keep the likeliest
            if self.repetition_penalty != 1:
                logits = repetition_penalty(logits, ids, self.repetition_penalty)
            return logits.argmax(dim=-1)
        return draw(self(logits, ids), chance)


def draw(logits: Tensor, chance: Sequence[torch.Generator]) -> Tensor:
    """A token a row, each as often as its probability says: int64 [B]. logits: float [B, V].

    A number from 0 to 1 falls into one of the stretches that the probabilities cut the line into.
    chance: a generator a row. Raises SamplingError where no token can be drawn.
    """
    check_logits(logits)
    if len(chance) != len(logits):
        raise SamplingError(
            f"{len(logits)} rows of logits and {len(chance)} generators",
            "each row draws from a source of its own",
            "Sampling.generators(prompts), of the same prompts",
        )
    ends = logits.double().softmax(dim=-1).cumsum(dim=-1)  # [B, V]
    where = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in chance])
    at = where[:, None].to(ends.device) * ends[:, -1:]  # the last end is 1, up to rounding
    # The number is below 1, and yet its product with the last end may round up to it.
    last = (ends < ends[:, -1:]).sum(dim=-1)  # the last token that has a stretch
    return torch.searchsorted(ends, at, right=True)[:, 0].minimum(last)


def entropy(logits: Tensor) -> Tensor:
    """How undecided a softmax is: -sum p log2 p, bits [...]. 0: one token; log2 V: all alike.

    logits: float [..., V], -inf where a token is ruled out. Raises SamplingError where all are.
    """
    check_logits(logits)
    logs = logits.log_softmax(dim=-1)
    # Before the product: 0 times -inf is nan, in the gradient even where it is masked afterwards.
    finite = logs.masked_fill(logits == -math.inf, 0)
    return (logs.exp() * finite).sum(dim=-1) / -math.log(2) + 0.0  # no -0.0
