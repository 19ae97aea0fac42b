"""Attention for a CPU in float32: what decodes by a compiled loop, prompts by PyTorch. Unit 4.2."""

from __future__ import annotations

import torch
from torch import Tensor

from .gathered import gathers_of, prefill_attention
from .layout import FEW, Layout


def compiled_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Decoding by a compiled loop over the blocks, prompts by PyTorch. On a CPU, in float32."""
    from .decode_loop import decode_attention

    out = torch.empty_like(query)
    for chunk in gathers_of(layout, query.device, query.dtype).chunks:
        if chunk.stop - chunk.start > FEW:
            prefill_attention(out, query, key_cache, value_cache, chunk)
    if len(layout.few[0]):
        arrays = (x.numpy() for x in (query, key_cache, value_cache))
        decode_attention(*arrays, *layout.few, layout.block_table, out.numpy())
    return out
