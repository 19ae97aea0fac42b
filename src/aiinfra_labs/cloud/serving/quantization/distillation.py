"""A model that learns from another's probabilities instead of from the text alone. Unit 4.5.

The text says which token came; the teacher says how likely each of all tokens was. The student's
loss is the divergence of its distribution from the teacher's, both at temperature T, times T^2 so
that its gradients keep their size (Hinton et al., arXiv:1503.02531).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs.llm.training import Batches, Recipe, train

from ..model import CausalLM
from . import perplexity


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(teacher || student), the mean over tokens, nats. Logits [..., vocabulary] each."""
    log_p = F.log_softmax(student.float() / temperature, -1).flatten(0, -2)
    log_q = F.log_softmax(teacher.float() / temperature, -1).flatten(0, -2)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def shallower(model: CausalLM, layers: Sequence[int]) -> CausalLM:
    """A copy that has only these layers of the model, in this order: a student to begin with."""
    small = CausalLM(replace(model.config, num_hidden_layers=len(layers)))
    weights = {n: w for n, w in model.state_dict().items() if not n.startswith("layers.")}
    for new, old in enumerate(layers):
        for name, weight in model.layers[old].state_dict().items():
            weights[f"layers.{new}.{name}"] = weight
    small.load_state_dict(weights)
    return small.eval().requires_grad_(False)


class Trainee(nn.Module):
    """What `aiinfra_labs.llm.training` trains: a model with a loss. A teacher is not trained."""

    def __init__(self, model: CausalLM, teacher: CausalLM | None, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature
        # In a list, so that it is no part of what is trained.
        self.teacher = [teacher] if teacher is not None else []

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """ids, targets: int64 [B, T]. A scalar: cross-entropy, or the distance from a teacher."""
        if not self.teacher:
            return perplexity.loss(self.model, ids, targets)
        with torch.no_grad():
            wanted = perplexity.logits(self.teacher[0], ids)
        return divergence(perplexity.logits(self.model, ids), wanted, self.temperature)


def tune(
    model: CausalLM,
    tokens: Tensor,
    recipe: Recipe,
    teacher: CausalLM | None = None,
    temperature: float = 1.0,
    on_step: Callable[..., object] = lambda step: None,
) -> list[float]:
    """Train a model further, in place: on the text, or with a teacher on the teacher's word.

    tokens: a stream of text, int16 [n]. Returns the loss of each step, nats.
    """
    model.requires_grad_(True)
    trainee = Trainee(model, teacher, temperature)
    try:
        steps = train(trainee, Batches(tokens, recipe), recipe, on_step=on_step)
        return [step.loss for step in steps]
    finally:
        model.zero_grad(set_to_none=True)
        model.eval().requires_grad_(False)
