"""Training with the rounding in it. Unit 4.5.

Forward, a layer multiplies by its rounded weight, as it will when it serves. Backward, rounding has
the derivative 0 almost everywhere, and nothing would be learned; so the gradient of the rounded
weight is taken for that of the weight itself, a straight-through estimator (Bengio et al.,
arXiv:1308.3432). Small steps add up in the weight until they carry it over to the next grid point.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model import CausalLM
from .integers import Scheme, quantize, rounded
from .layers import QuantizedLinear, linears, replace


def straight_through(weight: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
    """project(weight) in value, and weight in its gradient."""
    with torch.no_grad():
        difference = project(weight) - weight
    return weight + difference


class QATLinear(nn.Module):
    """A linear layer in training: its weight is kept in float32 and used as it will be stored."""

    def __init__(self, layer: nn.Linear, scheme: Scheme):
        super().__init__()
        self.weight, self.bias, self.scheme = layer.weight, layer.bias, scheme

    def forward(self, x: Tensor) -> Tensor:
        """float [..., K] to [..., N], by weights that are rounded as they will be stored."""
        used = straight_through(self.weight, lambda w: rounded(w, self.scheme))
        return F.linear(x, used.to(x.dtype), self.bias)

    def stored(self) -> QuantizedLinear:
        """The layer that serves: it multiplies by what this one multiplied by."""
        return QuantizedLinear(quantize(self.weight, self.scheme), self.bias)


def prepare(model: CausalLM, scheme: Scheme) -> CausalLM:
    """Let every linear layer of the blocks round as it computes, in place. Returns the model."""
    return replace(model, lambda _, layer: QATLinear(layer, scheme))


def convert(model: CausalLM) -> CausalLM:
    """Store what `prepare` prepared, and training trained, as integers, in place."""
    with torch.no_grad():
        return replace(
            model, lambda _, layer: layer.stored() if isinstance(layer, QATLinear) else layer
        )


def is_prepared(model: CausalLM) -> bool:
    """Whether any layer rounds in training."""
    return any(isinstance(layer, QATLinear) for _, layer in linears(model))
