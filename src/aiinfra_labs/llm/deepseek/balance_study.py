"""A small mixture of 64 experts trained in several ways, and how evenly it loads them. Unit 1.7.

`benchmarks/experts.py` runs it on the course's corpus and stores what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs import bounds

from ..training import Batches, Recipe, Step, evaluate, train
from .balance import auxiliary_loss, busiest_device, move_bias, violation
from .config import DeepSeekConfig
from .model import DeepSeek

CONFIG = DeepSeekConfig(
    vocab_size=1024,
    hidden_size=64,
    intermediate_size=176,
    moe_intermediate_size=16,
    num_hidden_layers=3,
    num_attention_heads=4,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    n_routed_experts=64,
    num_experts_per_tok=6,
    n_shared_experts=2,
    max_position_embeddings=128,
    tie_word_embeddings=True,
)


@dataclass(frozen=True)
class Way:
    """How loads are balanced. alpha: weight of the auxiliary loss. gamma: step of the bias."""

    alpha: float = 0.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        bounds.real("alpha", self.alpha, "the weight of the auxiliary loss", 0.0)
        bounds.real("gamma", self.gamma, "by so much a bias moves", 0.0)


WAYS = {
    "nothing": Way(),
    "auxiliary loss 0.001": Way(alpha=0.001),
    "auxiliary loss 0.1": Way(alpha=0.1),
    "bias": Way(gamma=0.002),
}


class Balanced(DeepSeek):
    """The same decoder, whose loss has an auxiliary part while it is trained."""

    def __init__(self, config: DeepSeekConfig, alpha: float):
        super().__init__(config)
        self.alpha = alpha

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Nats a token, and in training `alpha` times the auxiliary loss of each mixture."""
        loss = super().loss(ids, targets)
        if self.alpha and self.training:
            loss = loss + self.alpha * sum(auxiliary_loss(r) for r in self.routings())
        return loss


def study(
    way: Way,
    tokens: Tensor,
    held_out: Tensor,
    recipe: Recipe,
    config: DeepSeekConfig = CONFIG,
    every: int = 20,
    progress: Callable[[Step], Any] = lambda step: None,
) -> dict[str, Any]:
    """Train, and note the load of every expert: counts over each `every` steps, layer by layer.

    Returns `load` [rows][layers][experts], `violation` [steps] (the mean over layers), the loss on
    held-out tokens, and what was measured on them: `held_out_load` [layers][experts],
    `held_out_violation`, and `busiest_of_8`, the work of the busiest of 8 devices over the mean.
    """
    bounds.whole("every", every, "steps whose counts are added up")
    torch.manual_seed(recipe.seed)
    model = Balanced(config, way.alpha)
    rows: list[list[list[int]]] = []
    curve: list[float] = []
    sums = torch.zeros(len(model.mixtures()), config.n_routed_experts, dtype=torch.int64)
    for step in train(model, Batches(tokens, recipe), recipe):
        progress(step)
        loads = torch.stack([routing.load for routing in model.routings()])  # [layers, E]
        sums += loads
        curve.append(sum(map(violation, loads)) / len(loads))
        for mixture, load in zip(model.mixtures(), loads, strict=True):
            bias = mixture.gate.e_score_correction_bias
            bias.copy_(move_bias(bias, load, way.gamma))
        if (step.number + 1) % every == 0:
            rows.append(sums.tolist())
            sums.zero_()
    loss = evaluate(model, held_out, recipe.context, recipe.batch)
    load = held_out_load(model, held_out.long().split(recipe.context))
    return {
        "load": rows,
        "violation": curve,
        "loss": loss,
        "held_out_load": load.tolist(),
        "held_out_violation": sum(map(violation, load)) / len(load),
        "busiest_of_8": sum(busiest_device(each, 8) for each in load) / len(load),
        "idle": int((load < load.double().mean(-1, keepdim=True) / 100).sum()),
    }


@torch.no_grad()
def held_out_load(model: DeepSeek, windows: Iterable[Tensor]) -> Tensor:
    """Tokens that each expert of each layer is given: int64 [layers, E]."""
    model.eval()
    total: Tensor | int = 0
    for window in windows:
        model(window[None])
        total = total + torch.stack([routing.load for routing in model.routings()])
    return total
