"""Attention token by token, in NumPy: the one to read, and to compare with. Unit 4.2."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .layout import Layout


def numpy_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """In float64.

    query: float [T, H, D]. key_cache, value_cache: float [num_blocks, block_size, K, D].
    Returns [T, H, D].
    """
    q, keys, values = (x.cpu().double().numpy() for x in (query, key_cache, value_cache))
    out = np.empty_like(q)
    group = q.shape[1] // keys.shape[2]
    for token, (row, position) in enumerate(zip(layout.rows, layout.positions, strict=True)):
        seen = np.arange(layout.firsts[token], position + 1)  # itself, and those before it
        blocks, offsets = np.divmod(seen, layout.block_size)
        blocks = layout.block_table[row, blocks]
        for head in range(q.shape[1]):
            own_keys = keys[blocks, offsets, head // group]  # [seen, D]
            scores = own_keys @ q[token, head] / math.sqrt(q.shape[2])
            weights = np.exp(scores - scores.max())
            own_values = values[blocks, offsets, head // group]
            out[token, head] = weights @ own_values / weights.sum()
    return torch.from_numpy(out).to(query)
