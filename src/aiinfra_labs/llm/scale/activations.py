"""What forward keeps for backward: by formula, and as autograd keeps it. Unit 1.6.

A product needs its inputs again for the gradients, a softmax its output. What is kept so grows
with batch and length, and often outweighs the weights. s: sequence, b: batch, h: width, a: heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs import bounds

from ..llama import LlamaConfig

RECOMPUTE = ("none", "selective", "full")


def published(s: int, b: int, h: int, a: int, layers: int, recompute: str = "none") -> int:
    """Bytes of a GPT's blocks in 16 bits: s b h (34 + 5 a s / h) a layer.

    Korthikanti et al., arXiv:2205.05198, equation 1 and section 5. Dropout masks take a byte an
    element. "selective" computes scores and softmax anew in backward, "full" whole blocks.
    """
    for name, value in (("s", s), ("b", b), ("h", h), ("a", a), ("layers", layers)):
        bounds.whole(name, value, "a model and its batch have at least one of each")
    why = "blocks are kept whole, without their scores, or computed anew"
    bounds.one_of("recompute", recompute, RECOMPUTE, why)
    linear, square = {"none": (34, 5), "selective": (34, 0), "full": (2, 0)}[recompute]
    return layers * (linear * s * b * h + square * a * s * s * b)


def of_llama(
    config: LlamaConfig, s: int, b: int, itemsize: int = 4, fused: bool = True
) -> dict[str, int]:
    """Bytes that one block of `llama.py` keeps, tensor by tensor, trained in one precision.

    s: tokens, 2 or more; one token is decoding, which no training does. itemsize: 4 for float32, 2
    for 16 bits, in which norms compute in float32 all the same, and the angles are cast. fused:
    attention in one call, as `llama.causal` has it, which keeps a sum for each query and makes the
    scores anew in backward; else as `attention.attention`, which keeps [b, a, s, s] and is counted
    in float32 alone. Raises ValueError for what is not counted.
    """
    bounds.whole("s", s, "tokens of a sequence that is trained on", 2)
    bounds.whole("b", b, "sequences of the batch")
    bounds.one_of("itemsize", itemsize, (2, 4), "numbers have 16 or 32 bits")
    if not fused and itemsize != 4:
        raise bounds.SettingError(
            "itemsize is 2, and attention is not fused",
            "what the written-out attention keeps is counted in float32 alone",
            "fused=True, or itemsize=4",
        )
    token = s * b * itemsize  # a number a token
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    inner, width = heads * config.head_dim, config.hidden_size
    # repeat_kv copies each kv head for its group. One kv head for all is a view of itself, and so
    # is a kv head for each; but a product of matrices copies a view of several sequences.
    copied = kv_heads not in (1, heads) or (kv_heads == 1 < heads and not fused and b > 1)
    shared = inner if copied else kv_heads * config.head_dim
    # The input in float32, the scale of each token in float32; scaled and output in the type.
    norm = s * b * 4 * (width + 1) + token * 2 * width
    kept = {
        "two norms: input, scale, scaled, output": 2 * norm,
        "queries": token * inner,
        "keys, one for each query head": token * shared,
        "values, one for each query head": token * shared,
        "MLP: gate, silu, up, product": 4 * token * config.intermediate_size,
    }
    if itemsize != 4:  # cos and sin, for queries and for keys, of all rows together
        kept["angles in the type"] = 4 * s * (config.head_dim // 2) * itemsize
    if fused:
        kept |= {
            "attention's output, by heads": token * inner,
            "a sum for each query": s * b * heads * 4,  # float32 in every precision
        }
        if heads > 1:  # with one head, the row is a view of it
            kept["attention's output, as a row"] = token * inner
        return kept
    return kept | {
        "attention's output, as a row": token * inner,
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
