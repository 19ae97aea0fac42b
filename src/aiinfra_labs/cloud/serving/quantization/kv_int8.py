"""Keys and values of the cache in int8, a scale for each token and head. Unit 4.5.

    Engine(model, tokenizer, EngineConfig(cache=Int8PagedCache))

A key or a value is written once and read at every later step, so that it is the reading that
counts. Its scale is its own largest number over 127, and needs no other token: what was written
never changes when more comes. vLLM has the same under the name int8_per_token_head. There the
kernel makes floats of the codes in registers; here they are made of all blocks that a step reads,
so that memory is saved between the steps, and no time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..attention import Attention, Layout, PagedCache
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

    def through(
        layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None = None
    ) -> Tensor:
        key, value = (dequantize_heads(*quantize_heads(x)).to(x.dtype) for x in (key, value))
        return attend(layer, query, key, value, window)

    return through


class Int8PagedCache(PagedCache):
    """A `PagedCache` that holds int8, and scales: float16 [layers, num_blocks, block_size, K]."""

    def __init__(
        self,
        layers: int,
        num_blocks: int,
        block_size: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        """dtype: of what is written and read; it is kept in int8."""
        super().__init__(layers, num_blocks, block_size, kv_heads, head_dim, torch.int8, device)
        self.dtype = dtype
        self.key_scales = torch.zeros(self.keys.shape[:-1], dtype=torch.float16, device=device)
        self.value_scales = torch.zeros_like(self.key_scales)
        # What the last step reads, by the window of a layer: it is the same for all such layers.
        self._read: dict[int | None, tuple[Layout, Tensor, Layout]] = {}

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.key_scales.nbytes + self.value_scales.nbytes

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        for x, codes, scales in (
            (key, self.keys, self.key_scales),
            (value, self.values, self.value_scales),
        ):
            new_codes, new_scales = quantize_heads(x)
            codes[layer].flatten(0, 1)[slots] = new_codes
            scales[layer].flatten(0, 1)[slots] = new_scales

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """(keys, values) of one layer as floats: [num_blocks, block_size, K, D] each."""
        return self._floats((layer,))

    def attend(self, attention: Attention, layer: int, query: Tensor, layout: Layout) -> Tensor:
        """Floats are made of the blocks that the step reads, and of no others."""
        known = self._read.get(layout.window)
        if known is None or known[0] is not layout:
            known = self._read[layout.window] = (layout, *compact(layout, self.keys.device))
        _, blocks, numbered_anew = known
        return attention(query, *self._floats((layer, blocks)), numbered_anew)

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        pairs = list(pairs)
        super().copy(pairs)
        for old, new in pairs:
            self.key_scales[:, new] = self.key_scales[:, old]
            self.value_scales[:, new] = self.value_scales[:, old]

    def read(self, blocks: list[int]) -> tuple[Tensor, Tensor]:
        """Copies of blocks, as floats, so that any other cache can take them."""
        return self._floats((slice(None), blocks))

    def put(self, blocks: list[int], keys: Tensor, values: Tensor) -> None:
        self.keys[:, blocks], self.key_scales[:, blocks] = quantize_heads(keys)
        self.values[:, blocks], self.value_scales[:, blocks] = quantize_heads(values)

    def _floats(self, index: tuple) -> tuple[Tensor, Tensor]:
        keys = dequantize_heads(self.keys[index], self.key_scales[index])
        values = dequantize_heads(self.values[index], self.value_scales[index])
        return keys.to(self.dtype), values.to(self.dtype)


def compact(layout: Layout, device: torch.device | str = "cpu") -> tuple[Tensor, Layout]:
    """(the blocks that a step reads, int64; the layout with these numbered 0, 1, ...)."""
    used = -(-layout.contexts // layout.block_size)  # blocks of each sequence
    own = np.arange(layout.block_table.shape[1]) < used[:, None]
    blocks, numbers = np.unique(layout.block_table[own], return_inverse=True)
    table = np.zeros_like(layout.block_table)
    table[own] = numbers
    again = replace(layout, block_table=table)
    return torch.from_numpy(blocks.astype(np.int64)).to(device), again
