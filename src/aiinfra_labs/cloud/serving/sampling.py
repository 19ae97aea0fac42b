"""The choice of the next token, for all rows of a step at once. Unit 4.3.

The rules are those of unit 1.5, `aiinfra_labs.llm.sampling`, which takes one setting for all rows.
Here each row has its own, and they are applied to all at once. R: rows, V: vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Row

import torch
from torch import Tensor

from .sampling_params import SamplingParams


def penalised(logits: Tensor, tokens: Row[int], penalty: float) -> Tensor:
    """Each token that stands in `tokens` made less likely, once. logits: float [V]."""
    seen = torch.tensor(sorted(set(tokens)), device=logits.device)
    at = logits[seen]
    return logits.index_put((seen,), torch.where(at < 0, at * penalty, at / penalty))


def penalised_by_count(
    logits: Tensor, answer: Row[int], presence: float, frequency: float
) -> Tensor:
    """OpenAI's two penalties: for tokens that the answer has, and for each time that it has them.

    logits: float [V]. The prompt does not count, other than for `penalised`.
    """
    counts = torch.bincount(torch.tensor(answer, dtype=torch.int64), minlength=len(logits))
    counts = counts.to(logits.device)
    return logits - frequency * counts - presence * (counts > 0)


def shares(logits: Tensor, params: Row[SamplingParams]) -> Tensor:
    """The probabilities that each row is drawn from, by its own settings: float32 [R, V].

    logits: float [R, V]. In `transformers`' order: temperature, top-k, top-p, min-p. For a
    temperature of 0 all of the probability is on the largest logit, of equal ones the first.
    """

    def column(values: Row[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]  # [R, 1]

    vocabulary = logits.shape[-1]
    best = logits.argmax(dim=-1)
    temperature = column([1.0 if p.greedy else p.temperature for p in params])
    logits = (logits.float() - logits.amax(dim=-1, keepdim=True)) / temperature
    if any(p.top_k is not None or p.top_p < 1 for p in params):
        ordered, ids = logits.sort(dim=-1, stable=True)  # the least likely first
        k = torch.tensor([min(p.top_k or vocabulary, vocabulary) for p in params])
        last = ordered.gather(-1, (vocabulary - k).to(ids.device)[:, None])  # k-th largest, [R, 1]
        ordered = ordered.masked_fill(ordered < last, -math.inf)
        # From the least likely up, so that the many small ones are not lost in the sum.
        below = ordered.softmax(dim=-1).cumsum(dim=-1)
        p_column = column([p.top_p for p in params])
        out = (below <= 1 - p_column) & (p_column < 1)
        out[:, -1] = False
        ordered = ordered.masked_fill(out, -math.inf)
        logits = torch.empty_like(logits).scatter(-1, ids, ordered)
    found = logits.softmax(dim=-1)
    if any(p.min_p > 0 for p in params):
        least = column([p.min_p for p in params]) * found.amax(dim=-1, keepdim=True)
        found = found.masked_fill(found < least, 0)
        found = found / found.sum(dim=-1, keepdim=True)
    rows = torch.tensor([p.greedy for p in params], device=logits.device)
    if rows.any():
        found[rows] = 0
        found[rows, best[rows]] = 1
    return found


def draw(probabilities: Tensor, generators: Row[torch.Generator]) -> Tensor:
    """A token a row, each as often as its share says: int64 [R]. probabilities: float [R, V].

    Each row draws from a source of its own, so that it draws the same in any company.
    """
    ends = probabilities.double().cumsum(dim=-1)
    where = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    total = ends[:, -1:]
    # Below the total even where the product is rounded up to it: a token behind the last is none.
    at = torch.minimum(where[:, None].to(ends.device) * total, total.nextafter(total * 0))
    return torch.searchsorted(ends, at, right=True)[:, 0]


def race(probabilities: Tensor, generators: Row[torch.Generator]) -> Tensor:
    """The same by a race of all tokens: int64 [R]. probabilities: float [R, V].

    Token i arrives after an exponential time of rate p_i, and the first one wins: it is i with
    probability p_i. Two rows that race with the same numbers mostly choose the same token if they
    are alike, though neither knows the other's probabilities (Daliri et al., "Coupling without
    Communication and Drafter-Invariant Speculative Decoding", arXiv:2408.07978). It costs a number
    a token, where `draw` takes one a row.
    """
    size = probabilities.shape[-1]
    chance = torch.stack([torch.rand(size, generator=g, dtype=torch.float64) for g in generators])
    times = torch.log1p(-chance).neg_().clamp_(min=1e-300)  # above 0: 0 / 0 would be no time
    # A share of 0 never arrives.
    return (times.to(probabilities.device) / probabilities.double()).argmin(dim=-1)


Draw = Callable[[Tensor, Row[torch.Generator]], Tensor]  # `draw` or `race`


def choose(
    logits: Tensor,
    params: Row[SamplingParams],
    generators: Row[torch.Generator | None],
    by: Draw = draw,
) -> Tensor:
    """The next token of each row: int64 [R]. logits: float [R, V]; penalties and masks are in."""
    chosen = logits.argmax(dim=-1)
    drawn = [i for i, p in enumerate(params) if not p.greedy]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        found = shares(logits[rows], [params[i] for i in drawn])
        chosen[rows] = by(found, [generators[i] for i in drawn])  # type: ignore[misc]
    return chosen
