"""What is done to logits before a token is chosen, and what is noted of them. Unit 4.3.

R: rows, V: vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Row

import torch
from torch import Tensor

from .errors import ServingError
from .sampling import penalised
from .sequence import Request, Sequence


def adjust(
    logits: Tensor,
    sequences: Row[Sequence],
    ends: Callable[[Request], Row[int]],
    draft: Row[int] = (),
) -> Tensor:
    """Penalties, ends that come too early, and grammars: float [R, V], a copy if anything changes.

    draft: tokens behind the known ones of (the only) sequence. Raises `ServingError` for nan.
    """
    if not torch.isfinite(logits.amax(dim=-1)).all():
        raise ServingError(
            "the model gives logits that are no numbers",
            "its weights are damaged, or too large for the type that they are computed in",
            "load the checkpoint again, or use float32",
        )
    changed = False
    for row, sequence in enumerate(sequences):
        params = sequence.request.params
        early = sequence.length + len(draft) < params.min_tokens
        if params.repetition_penalty == 1 and not early and sequence.grammar is None:
            continue
        if not changed:
            logits, changed = logits.clone(), True
        if params.repetition_penalty != 1:
            tokens = [*sequence.token_ids, *draft]
            logits[row] = penalised(logits[row], tokens, params.repetition_penalty)
        if early:
            logits[row, list(ends(sequence.request))] = -math.inf
        if sequence.grammar is not None:
            logits[row].masked_fill_(~sequence.grammar.mask().to(logits.device), -math.inf)
    return logits


def log_shares(logits: Tensor) -> Tensor:
    """Log-probabilities, float32."""
    return logits.float().log_softmax(dim=-1)


def note(logits: Tensor, sequences: Row[Sequence], chosen: Row[int]) -> None:
    """Write down log-probabilities, for those who asked: the model's own, before any setting."""
    for row, (sequence, token) in enumerate(zip(sequences, chosen, strict=True)):
        count = sequence.request.params.logprobs
        if count is None:
            continue
        logs = log_shares(logits[row])
        best = logs.topk(min(count, len(logs))) if count else None
        found = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True)) if best else {}
        found.setdefault(token, float(logs[token]))
        sequence.logprobs.append(found)
        sequence.score += float(logs[token])
