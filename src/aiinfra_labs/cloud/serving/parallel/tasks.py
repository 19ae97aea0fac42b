"""What a group of processes is asked to do with a model: hold it, run it, train it. Unit 4.6.

    with Group(4) as group:
        held = group.run(tasks.hold, Grid(tensor=4), model)
        logits = group.run(tasks.logits, ids)[-1]

Each function runs on every rank. What it leaves for the next one is kept in the worker.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import loader
from ..model import CausalLM
from . import pipeline, training
from .grid import Grid
from .processes import Worker
from .schedules import Schedule, one_forward_one_backward
from .sharded import ShardedLM
from .zero import Held, Zero


def hold(worker: Worker, grid: Grid, model: CausalLM) -> int:
    """Keep this rank's part of a model; returns its bytes."""
    part = ShardedLM(model.config, worker.comms(grid)).take(model).to(worker.device)
    worker.kept["model"] = part
    worker.traffic.clear()
    return part.weight_bytes


def load(worker: Worker, grid: Grid, folder: Path | str) -> int:
    """As `hold`, from a checkpoint, which every rank reads. Raises `LoadError`."""
    return hold(worker, grid, loader.load(folder))


def logits(worker: Worker, ids: Tensor, parts: int = 1) -> Tensor | None:
    """Logits of whole sequences, [B, T] to [B, T, V], on the last stage; None on the others.

    parts: micro-batches.
    """
    found = pipeline.logits(worker.kept["model"], ids.to(worker.device), parts)
    return None if found is None else found.cpu()


def sent(worker: Worker) -> dict[str, int]:
    """Bytes that this rank has sent since it was last asked, by kind."""
    found = dict(worker.traffic.sent)
    worker.traffic.clear()
    return found


@dataclass(frozen=True)
class Trained:
    """What steps of training did. Losses in nats a token, on the last stage; 0 on the others."""

    losses: list[float]
    weights: dict[str, Tensor]  # this rank's parts, by the whole model's names


def train(
    worker: Worker,
    ids: Tensor,
    targets: Tensor,
    steps: int = 1,
    parts: int = 1,
    learning_rate: float = 1e-3,
    schedule: Schedule = one_forward_one_backward,
) -> Trained:
    """Steps of Adam on the model that is held, on one batch, int64 [B, T] each."""
    model = worker.kept["model"].requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    ids, targets = ids.to(worker.device), targets.to(worker.device)
    losses = [training.step(model, optimizer, ids, targets, parts, schedule) for _ in range(steps)]
    return Trained(losses, {name: p.detach().cpu() for name, p in model.named_parts()})


@dataclass(frozen=True)
class ZeroRun:
    """What a run under ZeRO did and held; `held` is between a backward and its update."""

    losses: list[float]
    held: Held
    most_weights: int
    sent: dict[str, int]  # of one step
    weights: dict[str, Tensor]


def zero(
    worker: Worker,
    model: CausalLM,
    stage: int,
    ids: Tensor,
    targets: Tensor,
    steps: int = 1,
    learning_rate: float = 1e-3,
) -> ZeroRun:
    """Steps of Adam under ZeRO's stage 0 to 3; what is held is looked at in the last of them."""
    own = copy.deepcopy(model).to(worker.device).requires_grad_(True)
    run = Zero(own, worker.comm, stage, learning_rate)
    ids, targets = ids.to(worker.device), targets.to(worker.device)
    losses = [run.step(ids, targets) for _ in range(steps - 1)]
    worker.traffic.clear()
    losses.append(run.backward(ids, targets))
    held = run.held()
    run.update()
    said = sent(worker)
    with run.weights() as whole:
        weights = {name: p.detach().cpu().clone() for name, p in whole.named_parameters()}
    return ZeroRun(losses, held, run.most_weights, said, weights)
