"""What is done to logits before a token is chosen, and what is written down of them. Unit 4.3.

R: rows, V: vocabulary. Each row belongs to one request, and what goes wrong in it, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Row

import torch
from torch import Tensor

from .errors import ServingError, quoted
from .sampling import penalised, penalised_by_count
from .sampling_params import LogitsProcessor
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
    request = sequence.request
    return (
        request.changes_logits
        or sequence.length + len(draft) < request.params.min_tokens
        or sequence.grammar is not None
    )


def process_row(logits: Tensor, sequence: Sequence, draft: Row[int] = ()) -> Tensor:
    """What the settings make of one row: float [V]. In vLLM's order: the caller's own code, words
    that must not be, biases, penalties, ends that come too early; and last the grammar.

    Also for a beam's log-probabilities, as in `transformers`. May change what it is given. Raises
    `ServingError` where no token is left.
    """
    request = sequence.request
    params = request.params
    if request.changes_logits:
        answer = [*sequence.new_token_ids, *draft]
        for processor in params.logits_processors:
            logits = _processed(processor, answer, logits)
        for *begins, last in request.bad_words:
            if not begins or answer[-len(begins) :] == begins:
                logits[last] = -math.inf
        for id, bias in params.logit_bias.items():
            logits[id] += bias
        if params.repetition_penalty != 1:
            logits = penalised(logits, [*request.prompt, *answer], params.repetition_penalty)
        if params.presence_penalty or params.frequency_penalty:
            logits = penalised_by_count(
                logits, answer, params.presence_penalty, params.frequency_penalty
            )
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


def _processed(processor: LogitsProcessor, answer: list[int], logits: Tensor) -> Tensor:
    """What a caller's own code makes of a row. Raises whatever that raises, and `ServingError`."""
    found = processor(list(answer), logits.clone())
    if not isinstance(found, Tensor) or found.shape != logits.shape:
        raise ServingError(
            f"a logits processor returned {quoted(found)}",
            f"the next token is chosen from one number for each of {len(logits):,} tokens",
            "the logits that it was given, changed",
        )
    return found.to(logits).clone()


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


def record_prompt_logprobs(logits: Tensor, sequence: Sequence, start: int) -> None:
    """The same for the tokens of the prompt. logits: [T, V], behind the tokens from `start` on.

    Row i tells of the token at start + i + 1; of the first token nothing can be said. What was
    written down before, and is computed again, is passed over.
    """
    request = sequence.request
    count, found = request.params.prompt_logprobs, request.prompt_logprobs
    assert count is not None
    if not found:
        found.append(None)
    for row, at in zip(logits, range(start + 1, len(request.prompt)), strict=False):
        if at == len(found):
            found.append(likeliest(log_shares(row), count, request.prompt[at]))
