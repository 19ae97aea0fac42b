"""Beam search in the engine: beams are sequences that share blocks, and part by forking. Unit 4.2.

The rules are those of unit 1.5, `aiinfra_labs.llm.beam`, which tells why. Where that copies the
whole cache from one beam to another, a fork here copies a table of block numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .scheduler import Scheduler
from .sequence import Request, Sequence, Status


def step(
    request: Request,
    scheduler: Scheduler,
    ends: frozenset[int],
    new_text: Callable[[Request], object],
) -> None:
    """Choose the next token of every beam, once all have their log-probabilities.

    ends: ids that end a text. Raises nothing; the request may be finished afterwards.
    """
    live = [s for s in request.sequences if s.status is not Status.FINISHED]
    if not live or any(s.held is None for s in live):
        return
    width = request.params.beam_width
    reached = torch.stack([s.held + s.score for s in live])  # type: ignore[operator]  # [K, V]
    vocabulary = reached.shape[1]
    best = reached.flatten().topk(min(2 * width, reached.numel()))
    candidates = [
        (live[i // vocabulary], i % vocabulary, score)
        for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
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
    children = []
    if going_on and not last and not settled:
        for parent, token, score in going_on:
            child = _child(request, parent, token, score, new_text)
            scheduler.blocks.fork(parent, child)
            child.index = len(children)
            children.append((child, parent.status))
    for parent in live:
        scheduler.remove(parent)
    for child, status in children:
        scheduler.run(child) if status is Status.RUNNING else scheduler.add(child)
    request.sequences = [child for child, _ in children]
    if request.finished:
        for place, whole in enumerate(request.whole):
            whole.index = place
            for id in whole.new_token_ids:
                if id not in ends:
                    whole.text.feed(id)
            whole.text.finish()


def _child(
    request: Request,
    parent: Sequence,
    token: int,
    score: float,
    new_text: Callable[[Request], object],
) -> Sequence:
    """The parent's tokens and one more."""
    return Sequence(
        request, parent.index, [*parent.token_ids, token], score=score, text=new_text(request)
    )
