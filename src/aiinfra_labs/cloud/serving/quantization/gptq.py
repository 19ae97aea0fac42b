"""GPTQ: each column's rounding error is made good by the columns that are still to be rounded.
Unit 4.5. Frantar et al., arXiv:2210.17323; the update is Optimal Brain Surgeon's (Hassibi, Stork
and Wolff, 1993) for weights that move to a grid instead of to 0.

Fixing input j of a row at q instead of w costs least output error when the free inputs F move by

    -(w - q) / [H^-1]_jj * [H^-1]_j,F       H = the inputs' moment over F

H^-1 shrinks with each column that is fixed. The upper Cholesky factor U of the first H^-1 (H^-1 =
U^T U) holds, in its row j, what all those inverses have there: U_jj is the root of [H^-1]_jj, and
U_jF / U_jj is [H^-1]_jF / [H^-1]_jj. So one factorisation serves all columns, and all rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..model import CausalLM
from .calibration import Inputs, walk
from .integers import Quantized, Scheme, encode, grid
from .layers import LINEARS, QuantizedLinear

# new_column(j, weight): what column j becomes, [N], from the weight as it is by then, [N, K].
NewColumn = Callable[[int, Tensor], Tensor]
DAMPING = 0.01  # of the mean diagonal: keeps H invertible where inputs are nearly dependent


def inverse_factor(moment: Tensor, damping: float = DAMPING) -> Tensor:
    """U, float64 [K, K], upper: U^T U is the inverse of the damped moment [K, K]."""
    moment = moment.double()
    diagonal = moment.diagonal()
    ridge = damping * diagonal.mean().clamp(min=1e-12)
    damped = moment + ridge * torch.eye(len(moment), dtype=torch.float64, device=moment.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def with_feedback(
    weight: Tensor, moment: Tensor, new_column: NewColumn, damping: float = DAMPING
) -> Tensor:
    """Fix the columns of a weight [N, K] from left to right; those behind make good the error."""
    factor = inverse_factor(moment, damping)
    w = weight.double().clone()
    for j in range(w.shape[1]):
        fixed = new_column(j, w).double()
        error = (w[:, j] - fixed) / factor[j, j]  # [N]
        w[:, j] = fixed
        w[:, j + 1 :] -= error[:, None] * factor[j, j + 1 :]
    return w.float()


def gptq(
    weight: Tensor,
    inputs: Inputs,
    scheme: Scheme,
    damping: float = DAMPING,
    watch: Callable[[int, Tensor], object] = lambda j, weight: None,
) -> Quantized:
    """Round a weight [N, K] with feedback. A group's scale is taken when its first column comes.

    watch(j, weight): is shown the weight as it is before column j is rounded.
    """
    n, k = weight.shape
    groups = scheme.groups(k)
    span = k // groups
    whole = grid(weight, scheme)  # of the tensor or of the channels, as they were at the beginning
    scales: list[Tensor] = []
    zeros: list[Tensor | None] = []
    dtype = torch.int8 if scheme.symmetric else torch.uint8
    codes = torch.empty(n, k, dtype=dtype, device=weight.device)

    def new_column(j: int, w: Tensor) -> Tensor:
        watch(j, w)
        if j % span == 0:
            scale, zero = whole if groups == 1 else grid(w[:, j : j + span], _channel(scheme))
            scales.append(scale)
            zeros.append(zero)
        column = encode(w[:, j : j + 1], scales[-1], zeros[-1], scheme)
        codes[:, j] = column[:, 0]
        steps = column.float() if zeros[-1] is None else column.float() - zeros[-1].float()
        return (steps * scales[-1].float())[:, 0]

    with_feedback(weight, inputs.moment, new_column, damping)
    zero = None if zeros[0] is None else torch.cat(zeros, 1)
    return Quantized(codes, torch.cat(scales, 1), zero, scheme)


def _channel(scheme: Scheme) -> Scheme:
    """The same grid for a piece of a row that is one group."""
    return Scheme(scheme.bits, "channel", scheme.symmetric, scheme.ternary)


@torch.no_grad()
def gptq_linears(model: CausalLM, ids: Tensor, scheme: Scheme) -> CausalLM:
    """Round every linear layer of the blocks with feedback, in place. ids: text, int64 [B, T]."""
    for block, seen in walk(model, ids):
        for name in LINEARS:
            layer = block.get_submodule(name)
            made = QuantizedLinear(gptq(layer.weight, seen[name], scheme), layer.bias)
            parent, _, own = name.rpartition(".")
            setattr(block.get_submodule(parent), own, made)
    return model
