"""Attention by the paged kernel of unit 3.6, on a GPU or on the emulator. Unit 4.2."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .layout import Layout


def kernel_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Chapter 3's kernel: each token is a query of its own, over what lies up to its position."""
    from aiinfra_labs.gpu.kernels.paged_attention import paged_attention

    q, keys, values = (x.float().cpu().numpy() for x in (query, key_cache, value_cache))
    table, contexts = layout.block_table[layout.rows], layout.positions + 1
    if layout.window is not None:
        # The kernel sees a context from its beginning. With blocks of one token each, a table can
        # begin with any token: what lies before the window is left out of it.
        keys, values = (x.reshape(-1, 1, *x.shape[2:]) for x in (keys, values))
        contexts = contexts - layout.firsts  # tokens that each query sees
        places = layout.firsts[:, None] + np.arange(contexts.max())
        places = np.minimum(places, layout.positions[:, None])  # behind the context: not read
        blocks, offsets = np.divmod(places, layout.block_size)
        table = layout.block_table[layout.rows[:, None], blocks] * layout.block_size + offsets
    arrays = map(np.ascontiguousarray, (q, keys, values))
    found = paged_attention(*arrays, table.astype(np.int32, order="C"), contexts.astype(np.int32))
    return torch.from_numpy(found).to(query)
