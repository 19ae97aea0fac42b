"""How a request wants its tokens chosen, and the choice for all rows of a step. Unit 4.3.

The rules are those of unit 1.5, `aiinfra_labs.llm.sampling`, which takes one setting for all rows.
Here each row has its own, and they are applied to all at once. R: rows, V: vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import RequestError


@dataclass(frozen=True)
class SamplingParams:
    """vLLM's names. The defaults are vLLM's but for temperature: 0, the likeliest token."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None  # None: the request's own arrival number
    n: int = 1  # samples of one prompt
    beam_width: int = 0  # 0: no beam search
    length_penalty: float = 1.0  # of beams: score / length ** length_penalty
    max_tokens: int | None = 16  # None: as many as the context has room for
    min_tokens: int = 0  # before these no end is taken
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None  # so many likeliest tokens with each new one; 0: the new one alone
    json: bool | dict[str, Any] = False  # True: any JSON object; a dict: its JSON Schema

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name in ("stop", "stop_token_ids"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            _refuse(
                f"temperature is {self.temperature}",
                "logits are divided by it: below 0 the least likely token would become the most "
                "likely, and nan or an infinity leaves no order",
                "0 for the likeliest token each time, 1 for the model's own probabilities",
            )
        for name in ("top_p", "min_p"):
            if not 0 <= getattr(self, name) <= 1:
                _refuse(
                    f"{name} is {getattr(self, name)}",
                    "it is a share of probability",
                    "a number from 0 to 1",
                )
        if not (self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty)):
            _refuse(
                f"repetition_penalty is {self.repetition_penalty}",
                "logits are divided by it, and keep their sign",
                "1 for none, 1.1 for some",
            )
        for name, least, why in (
            ("top_k", 1, "no token would be left to choose from"),
            ("n", 1, "a request asks for at least one answer"),
            ("max_tokens", 1, "the answer would have no token, and cost a whole prefill"),
            ("min_tokens", 0, "it counts tokens"),
            ("beam_width", 0, "it counts beams, and 0 is no beam search"),
            ("logprobs", 0, "it counts tokens"),
        ):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or int(value) != value):
                _refuse(f"{name} is {value!r}", "it is a whole number", f"{least} or more")
            if value is not None and value < least:
                _refuse(f"{name} is {value}", why, f"{least} or more")
        if self.beam_width and (self.n > 1 or self.temperature > 0 or self.json):
            _refuse(
                "a beam search with n, temperature or json",
                "it looks for the likeliest texts, draws none, and has no grammar",
                "beam_width alone, or samples without it",
            )
        if self.json and self.min_tokens:
            _refuse(
                f"json and min_tokens {self.min_tokens}",
                "behind the last bracket nothing can follow",
                "minItems in the schema",
            )
        if self.n > 1 and self.temperature == 0:
            _refuse(
                f"n is {self.n} and temperature 0",
                "all samples would be the same text",
                "a temperature above 0, or beam_width for the likeliest texts",
            )
        if "" in self.stop or not all(isinstance(s, str) for s in self.stop):
            _refuse(
                f"stop is {self.stop!r}",
                "every text holds an empty string at its very beginning",
                "texts of at least one character, or none",
            )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            _refuse(
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}",
                "an answer cannot be longer than it may be",
                "min_tokens up to max_tokens",
            )

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def _refuse(what: str, why: str, try_: str) -> None:
    raise RequestError(what, why, try_)


def penalised(logits: Tensor, tokens: Row[int], penalty: float) -> Tensor:
    """Each token that stands in `tokens` made less likely, once. logits: float [V]."""
    seen = torch.tensor(sorted(set(tokens)), device=logits.device)
    at = logits[seen]
    return logits.index_put((seen,), torch.where(at < 0, at * penalty, at / penalty))


def shares(logits: Tensor, params: Row[SamplingParams]) -> Tensor:
    """The probabilities that each row is drawn from, by its own settings: float32 [R, V].

    logits: float [R, V]. In `transformers`' order: temperature, top-k, top-p, min-p. For a
    temperature of 0 all of the probability is on the largest logit, of equal ones the first.
    """

    def column(values: Row[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]  # [R, 1]

    vocabulary = logits.shape[-1]
    best = logits.argmax(dim=-1)
    temperature = column([p.temperature or 1.0 for p in params])
    logits = (logits.float() - logits.amax(dim=-1, keepdim=True)) / temperature
    if any(p.top_k is not None or p.top_p < 1 for p in params):
        ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
        k = torch.tensor([min(p.top_k or vocabulary, vocabulary) for p in params])
        last = ordered.gather(-1, (k - 1).to(ids.device)[:, None])  # the k-th largest, [R, 1]
        ordered = ordered.masked_fill(ordered < last, -math.inf)
        # From the least likely up, so that the many small ones are not lost in the sum.
        behind = ordered.softmax(dim=-1).flip(-1).cumsum(dim=-1).flip(-1)
        p_column = column([p.top_p for p in params])
        out = (behind <= 1 - p_column) & (p_column < 1)
        out[:, 0] = False
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
    at = where[:, None].to(ends.device) * ends[:, -1:]
    return torch.searchsorted(ends, at, right=True)[:, 0]


def choose(
    logits: Tensor, params: Row[SamplingParams], generators: Row[torch.Generator | None]
) -> Tensor:
    """The next token of each row: int64 [R]. logits: float [R, V]; penalties and masks are in."""
    chosen = logits.argmax(dim=-1)
    drawn = [i for i, p in enumerate(params) if not p.greedy]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        found = shares(logits[rows], [params[i] for i in drawn])
        chosen[rows] = draw(found, [generators[i] for i in drawn])  # type: ignore[misc]
    return chosen
