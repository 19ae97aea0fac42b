"""2:4 pruning: of each four weights of a row, two become 0. Unit 4.5. Mishra et al.,
arXiv:2104.08378.

A file keeps the two that are left and, in two bits each, where among the four they stood. Tensor
cores since Ampere multiply from that form at up to twice the rate; the layer here makes the dense
weight of it first. Which two go decides how much is lost: the smallest (magnitude), those smallest
times the size of their input (Wanda: Sun et al., arXiv:2306.11695), or those that cost least when
the weights behind make the loss good (SparseGPT: Frantar and Alistarh, arXiv:2301.00774).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..model import CausalLM
from .calibration import Inputs, walk
from .gptq import DAMPING, inverse_factor, with_feedback
from .integers import QuantizationError
from .layers import LINEARS, StoredLinear
from .packing import pack, unpack

KEPT, OF = 2, 4
Rule = Literal["magnitude", "wanda", "sparsegpt"]


def mask(score: Tensor) -> Tensor:
    """Which weights stay: bool [N, K], the two of each four of a row with the largest score."""
    n, k = score.shape
    if k % OF:
        raise QuantizationError(
            f"rows of {k} weights",
            "two of each four stay, and the last four are not whole",
            "a multiple of 4",
        )
    fours = score.reshape(n, -1, OF)
    best = fours.topk(KEPT, dim=-1).indices
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, best, True).view(n, k)


def prune(weight: Tensor, inputs: Inputs, rule: Rule = "magnitude") -> Tensor:
    """The weight [N, K] with two zeros in each four: float32 [N, K]."""
    weight = weight.float()
    if rule == "magnitude":
        return weight * mask(weight.abs())
    if rule == "wanda":
        return weight * mask(weight.abs() * inputs.moment.diagonal().sqrt())
    return _with_feedback(weight, inputs)


def _with_feedback(weight: Tensor, inputs: Inputs) -> Tensor:
    # What it costs to bring w to 0 when all behind help: w^2 / [H^-1]_jj, up to a factor.
    cost = inverse_factor(inputs.moment, DAMPING).diagonal() ** 2
    stays = torch.empty_like(weight, dtype=torch.bool)

    def new_column(j: int, w: Tensor) -> Tensor:
        if j % OF == 0:  # the four as they are now, moved by all before them
            four = slice(j, j + OF)
            stays[:, four] = mask(w[:, four] ** 2 / cost[four])
        return w[:, j] * stays[:, j]

    return with_feedback(weight, inputs.moment, new_column)


class Sparse24Linear(StoredLinear):
    """x W^T + b, with W in the 2:4 form. Buffers: `values` float16 [N, K / 2], `places` uint8."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        values, places = compress(weight)
        super().__init__(*weight.shape, bias)
        self.register_buffer("values", values.half())
        self.register_buffer("places", pack(places, 2))  # uint8 [N, K / 8]

    @property
    def weight(self) -> Tensor:
        """The weight with its zeros, made anew each time: float32 [N, K]."""
        return decompress(self.values.float(), unpack(self.places, 2))


def compress(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(the two weights of each four that are kept [N, K / 2], their places 0 to 3 as uint8)."""
    n, k = weight.shape
    fours = weight.reshape(n, -1, OF)
    if (fours != 0).sum(-1).max() > KEPT:
        raise QuantizationError(
            "there are four weights in a row with more than two that are not 0",
            "the 2:4 form has room for two",
            "prune(weight, inputs) first",
        )
    places = fours.abs().topk(KEPT, dim=-1).indices.sort(-1).values  # [N, K / 4, 2]
    return fours.gather(-1, places).view(n, -1), places.view(n, -1).to(torch.uint8)


def decompress(values: Tensor, places: Tensor) -> Tensor:
    """`compress` undone: [N, K]."""
    n = len(values)
    fours = values.new_zeros(n, values.shape[1] // KEPT, OF)
    index = places.long().view(n, -1, KEPT)
    return fours.scatter_(-1, index, values.view(n, -1, KEPT)).view(n, -1)


@torch.no_grad()
def prune_linears(model: CausalLM, ids: Tensor, rule: Rule = "sparsegpt") -> CausalLM:
    """Prune every linear layer of the blocks to 2:4, in place. ids: text, int64 [B, T]."""
    for block, seen in walk(model, ids):
        for name in LINEARS:
            layer = block.get_submodule(name)
            parent, _, own = name.rpartition(".")
            made = Sparse24Linear(prune(layer.weight, seen[name], rule), layer.bias)
            setattr(block.get_submodule(parent), own, made)
    return model
