"""A training step of a model that is divided by data, pipeline and tensor. Unit 4.6.

Each rank of a data group sees another part of the batch; then their gradients are summed, and
every rank takes the same step. That is one all-reduce of all gradients a step, however many tokens
there were.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .collectives import Comm
from .errors import SplitError
from .pipeline import backward
from .schedules import Schedule, one_forward_one_backward
from .sharded import ShardedLM
from .tensor import PARTIAL


def own_part(batch: Tensor, comm: Comm) -> Tensor:
    """A rank's rows of a batch: [B, T] to [B / N, T]. Raises `SplitError`."""
    if len(batch) % comm.size:
        raise SplitError(
            f"{len(batch)} sequences cannot be divided among {comm.size} ranks",
            "with fewer on one rank, the others would wait for nothing",
            f"a batch of a multiple of {comm.size}",
        )
    return batch.chunk(comm.size)[comm.rank]


@torch.no_grad()
def sum_gradients(parameters: Iterable[Tensor], comm: Comm) -> None:
    """Every gradient becomes its sum over the group, in one all-reduce of them all."""
    gradients = [p.grad for p in parameters]
    if comm.size == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])  # one long message, not many short ones
    comm.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def sum_partial_gradients(model: ShardedLM) -> None:
    """What a rank of a tensor group, or an end of a pipeline, has only a part of."""
    whole, tensor = model.whole, model.comms.tensor
    if whole.num_key_value_heads < tensor.size:
        raise SplitError(
            f"{whole.num_key_value_heads} kv heads on {tensor.size} ranks cannot be trained here",
            "several ranks keep the same kv head, and each has a part of its gradient alone",
            f"a tensor group of at most {whole.num_key_value_heads}; serving has no such limit",
        )
    partial = [p for name, p in model.named_parts() if name.endswith(PARTIAL)]
    sum_gradients(partial, tensor)
    if whole.tie_word_embeddings and (model.comms.is_first or model.comms.is_last):
        table = model.embed_tokens if model.comms.is_first else model.lm_head
        sum_gradients([table.weight], model.comms.ends)


def step(
    model: ShardedLM,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    targets: Tensor,
    parts: int = 1,
    schedule: Schedule = one_forward_one_backward,
) -> float:
    """One step on a batch that all ranks are given whole: int64 [B, T] each.

    parts: micro-batches of each pipeline. Returns the mean loss in nats a token, on the last stage;
    0 on the others. After it every rank holds the same weights as one process would.
    """
    comms = model.comms
    optimizer.zero_grad(set_to_none=True)
    mine, wanted = own_part(ids, comms.data), own_part(targets, comms.data)
    stage = backward(model, mine, wanted, parts, schedule, count=targets.numel())
    sum_partial_gradients(model)
    sum_gradients(model.parameters(), comms.data)
    optimizer.step()
    loss = torch.stack([*stage.results.values(), torch.zeros(())]).sum()
    return float(comms.data.all_reduce(loss))
