"""ZeRO: data parallelism in which no rank keeps what another keeps already. Unit 4.6.

Plain data parallelism holds weights, gradients and Adam's two moments on every rank. ZeRO's stages
divide them among the N ranks (arXiv:1910.02054, section 5): 1 the moments, 2 the gradients too, 3
the weights too. In float32 a parameter takes 4 + 4 + 8 bytes, and a rank holds

    stage 0   16            stage 2   4 + 12/N
    stage 1   8 + 8/N       stage 3   16/N

Every parameter is kept flat, filled up to a multiple of N, and rank r owns the r-th part. Adam
works number by number, so its step on the parts is its step on the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..model import CausalLM
from .collectives import Comm
from .errors import SplitError
from .sharded import equal_sequences, positions_of
from .training import own_part

STAGES = (0, 1, 2, 3)
WEIGHT, GRADIENT, MOMENTS = 4, 4, 8  # bytes a parameter, float32 and Adam


def bytes_by_formula(parameters: int, ranks: int, stage: int) -> float:
    """Bytes on each rank, of a model that needs no filling up."""
    return parameters * (
        WEIGHT / (ranks if stage >= 3 else 1)
        + GRADIENT / (ranks if stage >= 2 else 1)
        + MOMENTS / (ranks if stage >= 1 else 1)
    )


class Divided:
    """One parameter, flat, and the part of it that this rank owns."""

    def __init__(self, parameter: nn.Parameter, comm: Comm, stage: int):
        self.parameter, self.comm, self.stage = parameter, comm, stage
        self.shape, self.count = parameter.shape, parameter.numel()
        self.length = -(-self.count // comm.size)  # of a part
        flat = parameter.new_zeros(self.length * comm.size)
        flat[: self.count] = parameter.data.flatten()
        self.flat = flat  # the whole; its storage is emptied and filled again in stage 3
        mine = flat[comm.rank * self.length :][: self.length]
        self.own = mine.clone() if stage == 3 else mine  # a view of the whole where that stays
        self.own_gradient: Tensor | None = None
        parameter.data = flat[: self.count].view(self.shape)
        if stage >= 2:  # as soon as a gradient is there, and so before the next one is
            parameter.register_post_accumulate_grad_hook(lambda _: self.share_gradient())
        if stage == 3:
            self.drop()

    def whole_gradient(self) -> Tensor:
        """The gradient, flat and filled up: [N x length]."""
        flat = self.flat.new_zeros(self.length * self.comm.size)
        flat[: self.count] = self.parameter.grad.flatten()
        return flat

    def share_gradient(self) -> None:
        """Keep this rank's part of the summed gradient, and forget the rest."""
        part = self.comm.reduce_scatter(self.whole_gradient())
        self.own_gradient = part if self.own_gradient is None else self.own_gradient + part
        self.parameter.grad = None
        if self.stage == 3:
            self.drop()

    def drop(self) -> None:
        """Give the whole's memory back. Autograd may still point to it: it will be filled again."""
        self.flat.untyped_storage().resize_(0)

    @property
    def is_there(self) -> bool:
        """Whether the whole parameter is in memory, and not this rank's part alone."""
        return self.flat.untyped_storage().size() > 0

    def fetch(self) -> None:
        """Put the whole together from all ranks' parts."""
        self.flat.untyped_storage().resize_(self.flat.numel() * self.flat.element_size())
        self.flat.data.copy_(self.comm.all_gather(self.own))


@dataclass(frozen=True)
class Held:
    """Bytes of the tensors that a rank holds."""

    weights: int
    gradients: int
    moments: int

    @property
    def total(self) -> int:
        """Bytes of all three together."""
        return self.weights + self.gradients + self.moments


class Zero:
    """A model under ZeRO's stage 0 to 3, with Adam; every rank makes one of the same weights.

    Stage 0 is plain data parallelism.
    """

    def __init__(self, model: CausalLM, comm: Comm, stage: int, learning_rate: float = 1e-3):
        if stage not in STAGES:
            raise SplitError(
                f"ZeRO has no stage {stage}",
                "1 divides the optimiser, 2 gradients too, 3 weights too; 0 is none of it",
                "a stage from 0 to 3",
            )
        self.model, self.comm, self.stage = model, comm, stage
        self.divided = {p: Divided(p, comm, stage) for p in model.parameters()}
        self.parts = [nn.Parameter(d.own) for d in self.divided.values()]
        owned = self.parts if stage else list(model.parameters())
        self.adam = torch.optim.Adam(owned, lr=learning_rate)
        self.most_weights = 0  # bytes: the most that were there at once
        if stage == 3:
            self._fetch_when_needed()

    # --- stage 3: a block's weights are there while it works --------------------------------------

    def _fetch_when_needed(self) -> None:
        for block in self.model.layers:
            mine = [self.divided[p] for p in block.parameters()]
            block.register_forward_pre_hook(lambda *_, mine=mine: self._fetch(mine))
            block.register_forward_hook(lambda *_, mine=mine: self._drop(mine))
            block.register_full_backward_pre_hook(lambda *_, mine=mine: self._fetch(mine))

    def _outside(self) -> list[Divided]:
        """Embedding, last norm and head: there for the whole step."""
        in_blocks = {p for block in self.model.layers for p in block.parameters()}
        return [d for p, d in self.divided.items() if p not in in_blocks]

    def _fetch(self, parameters: list[Divided]) -> None:
        for divided in parameters:
            if not divided.is_there:
                divided.fetch()
        self.most_weights = max(self.most_weights, self.held().weights)

    def _drop(self, parameters: list[Divided]) -> None:
        for divided in parameters:
            divided.drop()

    @contextmanager
    def weights(self) -> Iterator[CausalLM]:
        """Within the block the model has all its weights: to look at, or to save."""
        if self.stage == 3:
            for divided in self.divided.values():
                divided.fetch()
        yield self.model
        if self.stage == 3:
            self._drop(list(self.divided.values()))

    # --- a step -----------------------------------------------------------------------------------

    def backward(self, ids: Tensor, targets: Tensor) -> float:
        """The gradients of a batch, int64 [B, T], of which each rank does its part. Mean loss."""
        mine, wanted = own_part(ids, self.comm), own_part(targets, self.comm)
        if self.stage == 3:
            self._fetch(self._outside())
        positions = positions_of(*mine.shape)
        hidden = self.model(mine.flatten(), positions, equal_sequences(len(mine)))
        logits = self.model.logits(hidden)
        loss = nn.functional.cross_entropy(logits, wanted.flatten(), reduction="sum")
        loss = loss / targets.numel()
        loss.backward()
        if self.stage < 2:
            for divided in self.divided.values():
                self._sum_gradient(divided)
        return float(self.comm.all_reduce(loss.detach()))

    def _sum_gradient(self, divided: Divided) -> None:
        """Stages 0 and 1 keep whole gradients; stage 1 needs the sum of its own part alone."""
        if self.stage == 0:
            self.comm.all_reduce(divided.parameter.grad)
            return
        part = self.comm.reduce_scatter(divided.whole_gradient())
        first = self.comm.rank * divided.length
        room = divided.parameter.grad.view(-1)[first:][: divided.length]
        room.copy_(part[: len(room)])

    def update(self) -> None:
        """Adam's step on what this rank owns; then the others' parts are fetched, or not."""
        if self.stage:
            for part, divided in zip(self.parts, self.divided.values(), strict=True):
                part.grad = self._own_gradient(divided)
        self.adam.step()
        for part, divided in zip(self.parts, self.divided.values(), strict=True):
            part.grad = divided.own_gradient = divided.parameter.grad = None
            if self.stage in (1, 2):
                divided.flat.data.copy_(self.comm.all_gather(divided.own))

    def _own_gradient(self, divided: Divided) -> Tensor:
        if self.stage >= 2:
            return divided.own_gradient
        first = self.comm.rank * divided.length
        part = divided.parameter.grad.view(-1)[first:][: divided.length]
        return nn.functional.pad(part, (0, divided.length - len(part)))

    def step(self, ids: Tensor, targets: Tensor) -> float:
        """Gradients and update; the mean loss before it, nats a token."""
        loss = self.backward(ids, targets)
        self.update()
        return loss

    # --- what is there ----------------------------------------------------------------------------

    def held(self) -> Held:
        """Bytes now held: storages of weights, gradients and moments, each once."""
        weights = [d.flat for d in self.divided.values()] + list(self.parts)
        gradients = [p.grad for p in self.divided if p.grad is not None]
        gradients += [d.own_gradient for d in self.divided.values() if d.own_gradient is not None]
        moments = [
            state[name] for state in self.adam.state.values() for name in ("exp_avg", "exp_avg_sq")
        ]
        return Held(storage_bytes(weights), storage_bytes(gradients), storage_bytes(moments))


def storage_bytes(tensors: list[Tensor]) -> int:
    """Bytes of the memory behind tensors; what two of them share counts once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().size() for t in tensors}
    return sum(storages.values())
