"""Keys and values of the cache in int8, a scale for each token and head. Unit 4.5.

A key or a value is written once and read at every later step, so that it is the reading that
counts. Its scale is its own largest number over 127, and needs no other token: what was written
never changes when more comes. vLLM has the same under the name int8_per_token_head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model import Attend, ModelConfig
from .integers import SMALLEST

HIGHEST = 127


def quantize_heads(x: Tensor) -> tuple[Tensor, Tensor]:
    """x: [..., D]. Returns codes int8 [..., D] and a scale for each of them, float16 [...]."""
    scale = (x.float().abs().amax(-1) / HIGHEST).clamp(min=SMALLEST).half()
    codes = (x.float() / scale.float()[..., None]).round().clamp(-HIGHEST, HIGHEST)
    return codes.to(torch.int8), scale


def dequantize_heads(codes: Tensor, scale: Tensor) -> Tensor:
    """`quantize_heads` undone, but for the rounding: float32 [..., D]."""
    return codes.float() * scale.float()[..., None]


def bytes_per_token(config: ModelConfig) -> int:
    """Keys and values of one token in all layers, with their scales."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * (config.head_dim + 2)


def rounded_attention(attend: Attend) -> Attend:
    """The same attention, over keys and values as an int8 cache would give them back."""

    def through(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        key, value = (dequantize_heads(*quantize_heads(x)).to(x.dtype) for x in (key, value))
        return attend(layer, query, key, value)

    return through
