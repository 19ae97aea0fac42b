"""What forward keeps for backward: by formula, and as autograd keeps it. Unit 1.6.

A product needs its inputs again for the gradients, a softmax its output. What is kept so grows
with batch and length, and often outweighs the weights. s: sequence, b: batch, h: width, a: heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..llama import LlamaConfig

RECOMPUTE = ("none", "selective", "full")


def published(s: int, b: int, h: int, a: int, layers: int, recompute: str = "none") -> int:
    """Bytes of a GPT's blocks in 16 bits: s b h (34 + 5 a s / h) a layer.

    Korthikanti et al., arXiv:2205.05198, equation 1 and section 5. Dropout masks take a byte an
    element. "selective" computes scores and softmax anew in backward, "full" whole blocks.
    """
    if recompute not in RECOMPUTE:
        raise ValueError(
            f"recompute is {recompute!r}\n"
            "Why: blocks are kept whole, without their scores, or computed anew\n"
            f"Try: one of {', '.join(RECOMPUTE)}"
        )
    linear, square = {"none": (34, 5), "selective": (34, 0), "full": (2, 0)}[recompute]
    return layers * (linear * s * b * h + square * a * s * s * b)


def of_llama(
    config: LlamaConfig, s: int, b: int, itemsize: int = 4, fused: bool = True
) -> dict[str, int]:
    """Bytes that one block of `llama.py` keeps, tensor by tensor, trained in one precision.

    fused: attention in one call, as `llama.causal` has it, which keeps a sum for each query and
    makes the scores anew in backward; else as `attention.attention`, which keeps [b, a, s, s].
    """
    token = s * b * itemsize  # a number a token
    heads, inner = config.num_attention_heads, config.num_attention_heads * config.head_dim
    kept = {
        "two norms: input, scale, scaled, output": 2 * token * (3 * config.hidden_size + 1),
        "queries": token * inner,
        "keys, one for each query head": token * inner,
        "values, one for each query head": token * inner,
        "attention's output, as a row": token * inner,
        "MLP: gate, silu, up, product": 4 * token * config.intermediate_size,
    }
    if fused:
        return kept | {
            "attention's output, by heads": token * inner,
            "a sum for each query": s * b * heads * 4,  # float32 in every precision
        }
    return kept | {
        "softmax, and behind the mask": 2 * token * heads * s,
        "the mask's opposite, twice": 2 * s * s,  # a byte each
    }


def saved_bytes(forward: Callable[[], Any], but: tuple[Tensor, ...] = ()) -> int:
    """Bytes of all tensors that autograd keeps while `forward` runs, each storage once.

    but: tensors that are there anyway, such as the parameters: their storages do not count.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in but}
    kept: dict[int, Tensor] = {}  # held, so that no storage's address is used twice

    def pack(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in known:
            kept[pointer] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    nbytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return nbytes
