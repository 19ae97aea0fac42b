"""Beam search: several beginnings at a time, and the likeliest whole text at the end. Unit 1.5.

Greedy decoding takes the likeliest token each time, which need not begin the likeliest text. Beam
search keeps the `beams` best beginnings, and is greedy decoding with one. Scores are
log-probabilities, summed over the new tokens, and divided by their number to the power of
`length_penalty` where texts of different length are compared. As in `transformers` with
early_stopping=False. K: beams, V: vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .generation import PromptError, checked_prompt, decode, prefill
from .kv_cache import PreallocatedCache
from .llama import Llama
from .sampling import check_logits

MOST_BEAMS = 10_000  # each has a row of the cache


@dataclass(frozen=True)
class Hypothesis:
    """A text that beam search ends with. score: see the module."""

    ids: tuple[int, ...]  # the new tokens, an end of text included
    score: float


@torch.inference_mode()
def beam_search(
    model: Llama,
    prompt: Tensor,
    beams: int,
    new_tokens: int,
    end: int | None = None,
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """The best `beams` texts found, the best first; fewer where there are no more.

    prompt: int64 [T]. end: the id after which a text is whole. Raises PromptError where the
    prompt cannot be continued, is not one, or `beams` or `new_tokens` is below 1; SamplingError
    where the logits are nan.
    """
    why = "beam search keeps the best beginnings, each one token longer than the last"
    beams = bounds.whole("beams", beams, why, 1, MOST_BEAMS, PromptError)
    new_tokens = bounds.whole("new_tokens", new_tokens, why, error=PromptError)
    why = "scores are divided by the length to this power"
    length_penalty = bounds.real(
        "length_penalty", length_penalty, why, -100, 100, error=PromptError
    )
    if end is not None:
        most = model.config.vocab_size - 1
        end = bounds.whole("end", end, "an id of the vocabulary", 0, most, PromptError)
    ids = checked_prompt(model, prompt, new_tokens)
    if len(ids) != 1:
        raise PromptError(
            f"{len(ids)} prompts",
            "the beams are the batch: all of them continue one prompt",
            "one prompt at a time",
        )
    weight = model.lm_head.weight
    cache = PreallocatedCache(
        model.config, beams, ids.shape[1] + new_tokens, weight.dtype, weight.device
    )
    # All beams begin alike, so that all but one are ruled out, or the best would come K times.
    logits = prefill(model, ids.expand(beams, -1), cache)  # [K, V]
    scores = torch.full((beams,), -torch.inf, device=logits.device)
    scores[0] = 0.0
    texts: list[tuple[int, ...]] = [()] * beams
    whole: list[Hypothesis] = []
    for length in range(1, new_tokens + 1):
        check_logits(logits)
        reached = (scores[:, None] + logits.float().log_softmax(dim=-1)).flatten()  # [K V]
        # Twice as many as there are beams: even if half of them end, enough go on.
        best = reached.topk(min(2 * beams, len(reached)))
        rows = (best.indices // logits.shape[-1]).tolist()
        tokens = (best.indices % logits.shape[-1]).tolist()
        candidates = list(zip(rows, tokens, best.values.tolist(), strict=True))
        last = length == new_tokens
        for row, token, score in candidates[:beams]:
            if (token == end or last) and score > -torch.inf:
                whole.append(Hypothesis((*texts[row], token), score / length**length_penalty))
        whole = sorted(whole, key=lambda text: -text.score)[:beams]
        going_on = [c for c in candidates if c[1] != end][:beams]
        if last or not going_on or _settled(whole, beams, going_on[0][2], length, length_penalty):
            break
        going_on += going_on[-1:] * (beams - len(going_on))  # a tiny vocabulary has too few
        texts = [(*texts[row], token) for row, token, _ in going_on]
        scores = torch.tensor([score for *_, score in going_on], device=logits.device)
        cache.reorder(torch.tensor([row for row, *_ in going_on], device=logits.device))
        token = torch.tensor([token for _, token, _ in going_on], device=logits.device)
        logits = decode(model, token, cache)
    return whole


def _settled(whole: list[Hypothesis], beams: int, best: float, length: int, power: float) -> bool:
    """Whether what is still going on is behind all that is whole: it can hardly catch up.

    Its score is judged at the length that it has now, as `transformers` does; with a positive
    length penalty it might still rise.
    """
    return len(whole) == beams and best / length**power <= whole[-1].score
