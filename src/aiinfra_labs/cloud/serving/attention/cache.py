"""Keys and values in blocks, as tensors. Unit 4.2.

K: kv heads, D: head_dim, T: tokens of the step, H: heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .layout import Layout

# (query [T, H, D], keys, values: [num_blocks, block_size, K, D] each, layout) to [T, H, D]
Attention = Callable[[Tensor, Tensor, Tensor, Layout], Tensor]


class PagedCache:
    """Keys and values of all layers: [layers, num_blocks, block_size, K, D] each."""

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
        shape = (layers, num_blocks, block_size, kv_heads, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.block_size = block_size

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together."""
        return self.keys.nbytes + self.values.nbytes

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Put key and value [T, K, D] of a step into their slots, int64 [T]."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, key)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, value)

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """(keys, values) of one layer: [num_blocks, block_size, K, D] each."""
        return self.keys[layer], self.values[layer]

    def attend(self, attention: Attention, layer: int, query: Tensor, layout: Layout) -> Tensor:
        """What each query [T, H, D] of a step sees of its own sequence: [T, H, D]."""
        return attention(query, *self.layer(layer), layout)

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Copy whole blocks, in all layers: (from, to), the first pair first."""
        for old, new in pairs:
            self.keys[:, new] = self.keys[:, old]
            self.values[:, new] = self.values[:, old]

    def read(self, blocks: list[int]) -> tuple[Tensor, Tensor]:
        """Copies of blocks, to hand them over: [layers, blocks, block_size, K, D] each."""
        return self.keys[:, blocks], self.values[:, blocks]

    def put(self, blocks: list[int], keys: Tensor, values: Tensor) -> None:
        """The other end of `read`."""
        self.keys[:, blocks] = keys.to(self.keys)
        self.values[:, blocks] = values.to(self.values)
