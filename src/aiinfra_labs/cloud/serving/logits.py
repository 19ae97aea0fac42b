"""What is done to logits before a token is chosen, and what is written down of them. Unit 4.3.

R: rows, V: vocabulary. Each row belongs to one request, and what goes wrong in it, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Row

import torch
from torch import Tensor

from .errors import ServingError
from .sampling import penalised
from .sequence import Sequence


def process_logits(
    logits: Tensor, sequences: Row[Sequence], draft: Row[int] = ()
) -> tuple[Tensor, dict[int, Exception]]:
    """All settings but those of the draw itself: float [R, V], a copy if anything changes.

    draft: tokens behind the known ones of (the only) sequence. Returns also what went wrong, by
    row: no token can be chosen from these rows, and they hold zeros.
    """
    failed: dict[int, Exception] = {}
    sound = torch.isfinite(logits.amax(dim=-1)).tolist()
    changed = False
    for row, sequence in enumerate(sequences):
        if sound[row] and not _has_settings(sequence, draft):
            continue
        if not changed:
            logits, changed = logits.clone(), True
        try:
            if not sound[row]:
                raise ServingError(
                    "the model gives logits that are no numbers",
                    "its weights are damaged, or too large for the type that they are computed in",
                    "load the checkpoint again, or use float32",
                )
            logits[row] = process_row(logits[row], sequence, draft)
        except Exception as error:
            failed[row] = error
            logits[row] = 0
    return logits, failed


def _has_settings(sequence: Sequence, draft: Row[int]) -> bool:
    params = sequence.request.params
    return (
        params.repetition_penalty != 1
        or sequence.length + len(draft) < params.min_tokens
        or sequence.grammar is not None
    )


def process_row(logits: Tensor, sequence: Sequence, draft: Row[int] = ()) -> Tensor:
    """Penalties, ends that come too early, and the grammar, for one row: float [V].

    Also for a beam's log-probabilities, as in `transformers`. May change what it is given. Raises
    `ServingError` where no token is left.
    """
    request = sequence.request
    params = request.params
    if params.repetition_penalty != 1:
        logits = penalised(logits, [*sequence.token_ids, *draft], params.repetition_penalty)
    if sequence.length + len(draft) < params.min_tokens and request.ends:
        logits[list(request.ends)] = -math.inf
    if sequence.grammar is not None:
        logits.masked_fill_(~sequence.grammar.mask().to(logits.device), -math.inf)
    if not math.isfinite(float(logits.amax())):
        raise ServingError(
            "no token is left to choose from",
            "the settings rule out all of them, or make their logits infinite",
            "fewer stop tokens, no min_tokens, or a smaller bias or penalty",
        )
    return logits


def log_shares(logits: Tensor) -> Tensor:
    """Log-probabilities, float32."""
    return logits.float().log_softmax(dim=-1)


def likeliest(logs: Tensor, count: int, token: int) -> dict[int, float]:
    """The log-probabilities of the `count` likeliest tokens, and of `token`. logs: float [V]."""
    best = logs.topk(min(count, len(logs)))
    found = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    found.setdefault(token, float(logs[token]))
    return found


def record_logprobs(logits: Tensor, sequences: Row[Sequence], chosen: Row[int]) -> None:
    """Write down log-probabilities, for those who asked: the model's own, before any setting."""
    for row, (sequence, token) in enumerate(zip(sequences, chosen, strict=True)):
        count = sequence.request.params.logprobs
        if count is None:
            continue
        logs = log_shares(logits[row])
        sequence.logprobs.append(likeliest(logs, count, token))
        sequence.score += float(logs[token])
