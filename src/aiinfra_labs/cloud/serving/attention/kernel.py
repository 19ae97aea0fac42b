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

    arrays = (x.float().cpu().numpy() for x in (query, key_cache, value_cache))
    table = np.ascontiguousarray(layout.block_table[layout.rows], dtype=np.int32)
    contexts = (layout.positions + 1).astype(np.int32)
    return torch.from_numpy(
        paged_attention(*map(np.ascontiguousarray, arrays), table, contexts)
    ).to(query)
