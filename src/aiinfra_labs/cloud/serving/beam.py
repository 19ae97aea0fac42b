"""Beam search in the engine: beams are sequences that share blocks, and part by forking. Unit 4.2.

The rules are those of unit 1.5, `aiinfra_labs.llm.beam`, which tells why. Where that copies the
whole cache from one beam to another, a fork here copies a table of block numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .logits import likeliest, log_shares, process_row
from .output import SequenceText
from .scheduler import Scheduler
from .sequence import Request, Sequence, Status

NewText = Callable[[Request], SequenceText]


def hold(sequence: Sequence, logits: Tensor) -> None:
    """Keep a beam's log-probabilities until all beams have theirs. logits: float [V].

    Settings change the log-probabilities, which then no longer sum to 1, as in `transformers`.
    Raises `ServingError` where no token can follow.
    """
    own = log_shares(logits)
    if sequence.request.params.logprobs is not None:
        sequence.held_own = own
    sequence.held = process_row(own.clone(), sequence)


def step(request: Request, scheduler: Scheduler, new_text: NewText) -> None:
    """Choose the next token of every beam, once all have their log-probabilities.

    The request may be finished afterwards.
    """
    live = [s for s in request.sequences if s.status is not Status.FINISHED]
    if not live or any(s.held is None for s in live):
        return
    width, ends = request.params.beam_width, request.ends
    reached = torch.stack([s.held + s.score for s in live])  # type: ignore[operator]  # [K, V]
    vocabulary = reached.shape[1]
    best = reached.flatten().topk(min(2 * width, reached.numel()))
    candidates = [
        (live[i // vocabulary], i % vocabulary, score)
        for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if score > -math.inf  # a setting rules it out
    ]
    length = live[0].length + 1
    last = length == request.max_new_tokens
    norm = length**request.params.length_penalty
    for parent, token, score in candidates[:width]:
        if token in ends or last:
            whole = _child(request, parent, token, score / norm, new_text)
            whole.status = Status.FINISHED
            whole.finish_reason = "stop" if token in ends else "length"
            whole.stop_reason = token if token in ends else None
            request.whole.append(whole)
    request.whole = sorted(request.whole, key=lambda s: -s.score)[:width]
    going_on = [c for c in candidates if c[1] not in ends][:width]
    settled = len(request.whole) == width and (
        not going_on or going_on[0][2] / norm <= request.whole[-1].score
    )
    children: list[Sequence] = []
    parents = [p for p, *_ in going_on] if not last and not settled else []
    for parent, token, score in going_on[: len(parents)]:
        children.append(_child(request, parent, token, score, new_text))
        children[-1].index = len(children) - 1
    for parent, child in zip(parents, children, strict=True):  # all exist: now the books change
        scheduler.blocks.fork(parent, child)
    running = [parent.status is Status.RUNNING for parent in parents]
    for parent in live:
        scheduler.remove(parent)
    for child, runs in zip(children, running, strict=True):
        scheduler.run(child) if runs else scheduler.add(child)
    request.sequences = children
    if request.finished:
        for place, whole in enumerate(request.whole):
            whole.index = place
            spell(whole)


def spell(sequence: Sequence) -> None:
    """Make the text of a beam, which nobody has read while it grew."""
    for id in sequence.new_token_ids:
        if id not in sequence.request.ends:
            sequence.text.feed(id)
    sequence.text.finish()


def _child(
    request: Request, parent: Sequence, token: int, score: float, new_text: NewText
) -> Sequence:
    """The parent's tokens and one more."""
    logprobs = list(parent.logprobs)
    if parent.held_own is not None:
        count = request.params.logprobs or 0
        logprobs.append(likeliest(parent.held_own, count, token))
    return Sequence(
        request,
        parent.index,
        [*parent.token_ids, token],
        score=score,
        text=new_text(request),
        logprobs=logprobs,
    )
