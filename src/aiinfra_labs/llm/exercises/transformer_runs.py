"""What the exercises of unit 1.4 run: small parts, small models, a run that can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aiinfra_labs.llm.llama import Block, Llama, LlamaConfig
from aiinfra_labs.llm.positions import rope_angles, rope_frequencies

VOCABULARY, CONTEXT = 23, 6

Part = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- a block from its parts ----------------------------------------------------------------------


def parts(width: int, seed: int) -> tuple[Part, Part, Part, Part]:
    """(attention, mlp, norm1, norm2) of Llama, each from [B, T, C] to [B, T, C].

    Matrices are of a size that keeps the size of x; each norm has weights of its own.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Block(LlamaConfig(VOCABULARY, width, 2 * width, 1, 2, 2), 0)
        for weight in made.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=width**-0.5)
            else:
                nn.init.normal_(weight, 1.0, 0.1)
    made.requires_grad_(False)
    frequencies = rope_frequencies(width // 2)

    def attention(x: Tensor) -> Tensor:
        return made.self_attn(x, *rope_angles(torch.arange(x.shape[1]), frequencies))

    return attention, made.mlp, made.input_layernorm, made.post_attention_layernorm


def block(x: Tensor, attention: Part, mlp: Part, norm1: Part, norm2: Part) -> Tensor:
    """The reference: pre-norm."""
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


def gradient_norms(function: Callable[..., Tensor], layers: int) -> list[float]:
    """Of a loss by x, before the first of `layers` blocks and behind each."""
    x = normal(2, 6, 16, seed=9).requires_grad_()
    seen = [x]
    for layer in range(layers):
        x = function(x, *parts(16, seed=layer))
        seen.append(x)
    loss = (x * normal(2, 6, 16, seed=10)).mean()
    if not loss.requires_grad:  # cut off from the bottom
        return [0.0] * len(seen)
    seen = [x for x in seen if x.requires_grad]
    found = torch.autograd.grad(loss, seen, allow_unused=True)
    return [0.0 if g is None else float(g.norm()) for g in found]


# --- the schedule --------------------------------------------------------------------------------


def rate(step: int, steps: int, warm_up: int, peak: float, last: float) -> float:
    """The reference of 1.4.c."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return last + (peak - last) * 0.5 * (1 + math.cos(math.pi * done))


# --- micro-batches -------------------------------------------------------------------------------


def small_model() -> Llama:
    """The same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Llama(LlamaConfig(VOCABULARY, 8, 12, 1, 2, 1, CONTEXT))


def token_parts(lengths: Sequence[Sequence[int]], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """(ids, targets), int64 [rows, 6] each, a pair a part; row r has lengths[part][r] targets."""
    found = []
    for number, rows in enumerate(lengths):
        generator = torch.Generator().manual_seed(100 * seed + number)
        window = torch.randint(VOCABULARY, (len(rows), CONTEXT + 1), generator=generator)
        targets = window[:, 1:].clone()
        for row, length in enumerate(rows):
            targets[row, length:] = -1
        found.append((window[:, :-1], targets))
    return found


def counted(lengths: Sequence[Sequence[int]]) -> str:
    """In words: "3 parts of 6, 0 and 4 targets"."""
    counts = [str(sum(rows)) for rows in lengths]
    said = counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} and {counts[-1]}"
    return f"{len(counts)} {'part' if len(counts) == 1 else 'parts'} of {said} targets"


class _Alive(torch.autograd.Function):
    """Passes a loss on, and notes when its backward pass has begun."""

    @staticmethod
    def forward(context: Any, loss: Tensor, watched: Watched) -> Tensor:
        context.watched = watched
        return loss.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        context.watched.alive -= 1
        return gradient, None


class Watched(nn.Module):
    """A model that counts its forward passes, their rows, and how many wait for a backward."""

    def __init__(self, model: Llama):
        super().__init__()
        self.inner = model
        self.forwards = self.alive = self.most_alive = self.most_rows = 0

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        loss = self.inner.loss(ids, targets)
        self.forwards += 1
        self.most_rows = max(self.most_rows, len(ids))
        if loss.requires_grad:
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        return _Alive.apply(loss, self)

    def forward(self, ids: Tensor) -> Tensor:
        return self.inner(ids)


# --- a run that can be saved ---------------------------------------------------------------------


class Run:
    """A training run with everything that one has: model with dropout, AdamW, schedule, batches."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 20)
        self.generator = torch.Generator().manual_seed(seed)  # draws the batches
        self.step = 0

    def train(self, steps: int) -> list[float]:
        """The losses of the next steps."""
        losses = []
        for _ in range(steps):
            x = torch.randn(8, 6, generator=self.generator)
            loss = (self.model(x)[:, 0] - x.sum(1)).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.step += 1
            losses.append(loss.item())
        return losses


def weights_and_means(run: Run) -> dict[str, Tensor]:
    """Copies, each as one vector: the weights, and what AdamW remembers, if it has taken a step."""
    found = {"the weights": torch.cat([p.detach().flatten() for p in run.model.parameters()])}
    states = run.optimizer.state_dict()["state"].values()
    if states:
        found["AdamW's means"] = torch.cat([s["exp_avg"].flatten() for s in states])
    return found
