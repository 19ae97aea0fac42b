"""A KV cache with its room taken in advance, so that a new token copies only itself. Unit 1.5.

`llama.KVCache` joins the new keys to the old ones: a copy of the whole cache, in each layer, for
each token. Here they are written behind the old ones, into memory that is there already. What it
costs is that memory, for as many tokens as might come: unit 4.2 takes up that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .llama import LlamaConfig


class PreallocatedCache:
    """Keys and values of up to `capacity` tokens, [layers, B, kv_heads, capacity, D] each.

    Takes the place of `llama.KVCache`, and gives views where that gives copies.
    """

    def __init__(
        self,
        config: LlamaConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        bounds.whole("batch", batch, "rows of the batch")
        bounds.whole("capacity", capacity, "tokens that there is room for", 0)
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, capacity)
        self.keys = torch.empty(*shape, config.head_dim, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        self.lengths = [0] * config.num_hidden_layers  # they differ while a token is under way

    def __len__(self) -> int:
        """How many tokens it holds."""
        return self.lengths[0]

    @property
    def nbytes(self) -> int:
        """Bytes that are taken, whether tokens fill them or not."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of the layer, the new ones last: views [B, kv_heads, T, D].

        key, value: [B, kv_heads, new, D]. Raises ValueError where they do not fit in.
        """
        start = self.lengths[layer]
        end = start + key.shape[2]
        capacity = self.keys.shape[3]
        if end > capacity:
            raise ValueError(
                f"{end} tokens, and the cache has room for {capacity}\n"
                "Why: the room was taken before the first token came\n"
                "Try: a larger capacity, or fewer new tokens"
            )
        self.keys[layer, :, :, start:end] = key
        self.values[layer, :, :, start:end] = value
        self.lengths[layer] = end
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from what was row `rows[i]`: beams that part, or end. rows: int64 [B].

        Raises ValueError for a row that is not there, or another number of them.
        """
        batch = self.keys.shape[1]
        if rows.shape != (batch,) or rows.min() < 0 or rows.max() >= batch:
            raise bounds.SettingError(
                f"rows {rows.tolist()} of a batch of {batch}",
                "each row goes on from one that there is",
                f"{batch} numbers from 0 to {batch - 1}",
            )
        end = len(self)
        for whole in (self.keys, self.values):
            whole[:, :, :, :end] = whole[:, rows, :, :end]
