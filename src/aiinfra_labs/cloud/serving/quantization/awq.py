"""AWQ: weights whose inputs are large are made larger before they are rounded. Unit 4.5.

Lin et al., arXiv:2306.00978. W x = (W s) (x / s) for any s > 0, one number for each input. Rounded,
the two sides differ: a weight made s times larger has a rounding error s times smaller when it is
divided again, as long as the group's scale stays the same. So inputs that are large get a large
s = size^alpha, and alpha is what gives the least output error on some text. The division by s costs
nothing when it serves: it is folded into what makes the inputs, a norm's weight or the rows of the
layer before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..model import Block, CausalLM
from .calibration import Inputs, walk
from .integers import Scheme, quantize, rounded
from .layers import LINEARS, QuantizedLinear

STEPS = 20  # alpha from 0, which is rounding to the nearest, to 1


def scales(size: Tensor, alpha: float) -> Tensor:
    """s from the mean size of each input [K]: float32 [K], the root of largest x least is 1."""
    s = size.float().clamp(min=1e-4).pow(alpha)
    return s / (s.max() * s.min()).sqrt()


def search(
    weight: Tensor, inputs: Inputs, scheme: Scheme, size: Tensor | None = None, steps: int = STEPS
) -> tuple[Tensor, float]:
    """(s [K], relative output error with it) of the best alpha.

    weight: [N, K]. size: what s is a power of; without, the inputs' own.
    """
    best: tuple[Tensor, float] | None = None
    for i in range(steps):
        s = scales(inputs.size if size is None else size, i / steps)
        error = inputs.error(rounded(weight * s, scheme) / s, weight)
        if best is None or error < best[1]:
            best = s, error
    return best


def fold(block: Block, seen: dict[str, Inputs], scheme: Scheme) -> None:
    """Scale the block's weights for their inputs, in place: it computes what it did before."""
    attention, mlp = block.self_attn, block.mlp
    # From the back, since a layer's rows are divided before its own columns are searched.
    s = _scale_columns(mlp.down_proj, seen["mlp.down_proj"], scheme)
    _divide_rows(mlp.gate_up_proj, slice(len(s), None), s)  # up: the product is linear in it
    s = _scale_columns(mlp.gate_up_proj, seen["mlp.gate_up_proj"], scheme)
    block.post_attention_layernorm.weight.data /= s

    # A value head serves several query heads: their columns of o_proj share its scales.
    heads = (attention.kv_heads, -1, attention.head_dim)  # [K, heads of a group, D]

    def shared(size: Tensor) -> Tensor:
        view = size.view(heads)
        return view.mean(1, keepdim=True).expand_as(view).flatten()

    s = _scale_columns(attention.o_proj, seen["self_attn.o_proj"], scheme, shared)
    values = slice(-attention.kv_heads * attention.head_dim, None)
    _divide_rows(attention.qkv_proj, values, s.view(heads)[:, 0].flatten())
    s = _scale_columns(attention.qkv_proj, seen["self_attn.qkv_proj"], scheme)
    block.input_layernorm.weight.data /= s


def _scale_columns(
    layer: nn.Linear,
    inputs: Inputs,
    scheme: Scheme,
    shared: Callable[[Tensor], Tensor] = lambda size: size,
) -> Tensor:
    s, _ = search(layer.weight, inputs, scheme, shared(inputs.size))
    layer.weight.data *= s
    return s


def _divide_rows(layer: nn.Linear, rows: slice, s: Tensor) -> None:
    layer.weight.data[rows] /= s[:, None]
    if layer.bias is not None:
        layer.bias.data[rows] /= s


@torch.no_grad()
def awq_linears(model: CausalLM, ids: Tensor, scheme: Scheme) -> CausalLM:
    """Scale, then round every linear layer of the blocks, in place. ids: text, int64 [B, T]."""
    for block, seen in walk(model, ids):
        fold(block, seen, scheme)
        for name in LINEARS:
            layer = block.get_submodule(name)
            parent, _, own = name.rpartition(".")
            made = QuantizedLinear(quantize(layer.weight, scheme), layer.bias)
            setattr(block.get_submodule(parent), own, made)
    return model
