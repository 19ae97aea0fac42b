"""Attention: each token asks all others, and takes a weighted mean of what they hold. Unit 1.3.

Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D)) V, and the weights.

    query: [..., T, D]. key: [..., S, D]. value: [..., S, V]. mask: bool, broadcast to [..., T, S]:
    True where a query may see a key. A query that sees no key gets zeros.

    Returns [..., T, V] and the weights [..., T, S], whose rows sum to 1.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # [..., T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)  # softmax of a row of -inf is nan
    return weights @ value, weights


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """bool [queries, keys]: the last query sees all keys, the one before all but the last, ..."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def repeat_kv(x: Tensor, group: int) -> Tensor:
    """Give each kv head to `group` query heads: [B, kv, T, D] to [B, kv group, T, D]."""
    if group == 1:
        return x
    b, kv_heads, t, d = x.shape
    return x[:, :, None].expand(b, kv_heads, group, t, d).reshape(b, kv_heads * group, t, d)
