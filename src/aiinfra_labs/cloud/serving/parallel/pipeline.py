"""Pipeline parallelism: the stages of a model, each on a rank of its own. Unit 4.6.

A stage receives hidden states, [tokens, C], from the stage before and sends its own to the next;
in training, gradients of the same shape come back. In which order is said by a schedule.

Ids and targets, int64 [B, T], are cut into micro-batches along B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import SplitError
from .schedules import Schedule, forward_only, one_forward_one_backward
from .sharded import ShardedLM, equal_sequences, positions_of


def micro_batches(batch: Tensor, count: int) -> list[Tensor]:
    """[B, T] in `count` equal parts. Raises `SplitError`."""
    if count < 1 or len(batch) % count:
        raise SplitError(
            f"{len(batch)} sequences cannot be cut into {count} micro-batches",
            "each micro-batch has as many as any other, or a stage would wait for the largest",
            f"a number that divides {len(batch)}",
        )
    return list(batch.chunk(count))


@dataclass
class Stage:
    """One rank's stage at work on one batch."""

    model: ShardedLM
    ids: list[Tensor]  # of each micro-batch, [b, T]
    finish: Callable[[int, Tensor], Tensor]  # micro-batch, hidden [b T, C]: its loss or logits
    training: bool
    results: dict[int, Tensor] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # input and output
    most_kept: int = 0

    def forward(self, i: int) -> None:
        """Micro-batch i: run this stage on what the stage before it sent, and pass it on."""
        comms, (count, length) = self.model.comms, self.ids[i].shape
        if comms.is_first:
            x = self.model.embed_tokens(self.ids[i].flatten())
        else:
            shape = (count * length, self.model.whole.hidden_size)
            x = torch.empty(shape, dtype=self.model.dtype, device=self.model.device)
            x = comms.pipeline.receive(x, comms.pipeline.rank - 1)
            x.requires_grad_(self.training)
        positions = positions_of(count, length).to(self.model.device)
        y = self.model.through(x, positions, equal_sequences(count))
        if comms.is_last:
            y = self.finish(i, self.model.norm(y))
            self.results[i] = y.detach()
        else:
            comms.pipeline.send(y.detach(), comms.pipeline.rank + 1)
        if self.training:
            self.kept[i] = (x, y)
            self.most_kept = max(self.most_kept, len(self.kept))

    def backward(self, i: int) -> None:
        """Micro-batch i: take gradients from the stage behind this one, and pass them on back."""
        comms = self.model.comms
        x, y = self.kept.pop(i)  # with all that autograd keeps between them
        if comms.is_last:
            y.backward()
        else:
            y.backward(comms.pipeline.receive(torch.empty_like(y), comms.pipeline.rank + 1))
        if not comms.is_first:
            comms.pipeline.send(x.grad, comms.pipeline.rank - 1)

    def work(self, schedule: Schedule) -> Stage:
        """Do this stage's tasks, in the schedule's order."""
        pipeline = self.model.comms.pipeline
        for kind, i in schedule(pipeline.rank, pipeline.size, len(self.ids)):
            self.forward(i) if kind == "F" else self.backward(i)
        pipeline.flush()
        return self


@torch.no_grad()
def logits(model: ShardedLM, ids: Tensor, parts: int = 1) -> Tensor | None:
    """Logits of whole sequences: [B, T] to [B, T, V] on the last stage, None on the others."""

    def finish(i: int, hidden: Tensor) -> Tensor:
        return model.logits(hidden)

    cut = micro_batches(ids, parts)
    stage = Stage(model, cut, finish, training=False).work(forward_only)
    if not model.comms.is_last:
        return None
    return torch.cat([stage.results[i] for i in range(parts)]).view(*ids.shape, -1)


def backward(
    model: ShardedLM,
    ids: Tensor,
    targets: Tensor,
    parts: int,
    schedule: Schedule = one_forward_one_backward,
    count: int | None = None,
) -> Stage:
    """Add a batch's gradients to the model's. The stage's `results` are the losses of its parts.

    ids, targets: int64 [B, T]. count: what the sum of the losses is divided by, the number of
    tokens unless said.
    """
    wanted = micro_batches(targets, parts)
    count = count or targets.numel()

    def finish(i: int, hidden: Tensor) -> Tensor:
        return model.lm_head.cross_entropy(hidden, wanted[i].flatten()) / count

    cut = micro_batches(ids, parts)
    return Stage(model, cut, finish, training=True).work(schedule)
