"""Attention: each token asks all others, and takes a weighted mean of what they hold. Unit 1.3.

Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from aiinfra_labs import bounds

MOST = 2**31 - 1  # that a side of a matrix may have


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D)) V, and the weights.

    query: [..., T, D]. key: [..., S, D]. value: [..., S, V]. mask: bool, broadcast to [..., T, S]:
    True where a query may see a key. A query that sees no key gets zeros.

    Returns [..., T, V] and the weights [..., T, S], whose rows sum to 1. Raises ValueError for a
    mask of another type, or shapes that do not fit.
    """
    if mask is not None and mask.dtype != torch.bool:
        raise bounds.SettingError(
            f"the mask is {mask.dtype}",
            "it says of each query and key yes or no; a number that is added is another thing",
            "mask.bool(), or scores > -inf of an additive mask",
        )
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise bounds.SettingError(
            f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}",
            "a query is compared with keys of its size, and each key has a value",
            "query [..., T, D], key [..., S, D], value [..., S, V]",
        )
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # [..., T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)  # softmax of a row of -inf is nan
    return weights @ value, weights


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """bool [queries, keys]: the last query sees all keys, the one before all but the last, ...

    With more queries than keys, the first see none. Raises ValueError for a number below 0.
    """
    bounds.whole("keys", keys, "what queries look at", 0, MOST)
    bounds.whole("queries", queries, "what looks at keys", 0, MOST)
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def repeat_kv(x: Tensor, group: int) -> Tensor:
    """Give each kv head to `group` query heads: [B, kv, T, D] to [B, kv group, T, D].

    Raises ValueError for no query head.
    """
    bounds.whole("group", group, "query heads of a kv head", 1, MOST)
    if group == 1:
        return x
    b, kv_heads, t, d = x.shape
    return x[:, :, None].expand(b, kv_heads, group, t, d).reshape(b, kv_heads * group, t, d)


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention in which several query heads share a key and value head, and none is copied.

    query: [B, H, T, D]. key: [B, kv_heads, S, D]. value: [B, kv_heads, S, V]. mask: bool, broadcast
    to [B, H, T, S]. Query head h reads kv head h // (H / kv_heads). kv_heads = H is multi-head
    attention, 1 is multi-query attention (Shazeer, arXiv:1911.02150), what lies between is
    grouped-query attention (Ainslie et al., arXiv:2305.13245).

    Returns [B, H, T, V] and the weights [B, H, T, S]. Raises ValueError where the heads do not
    divide.
    """
    b, heads, t, d = query.shape
    kv_heads = key.shape[1]
    if heads % kv_heads:
        raise bounds.SettingError(
            f"{heads} query heads and {kv_heads} kv heads",
            "each kv head serves the same number of query heads",
            f"a number of kv heads that divides {heads}",
        )
    group = heads // kv_heads
    # The queries of a group become rows of one matrix, so that each product reads its key once.
    rows = query.reshape(b, kv_heads, group * t, d)
    if mask is not None:
        mask = mask.expand(b, heads, t, key.shape[2]).reshape(b, kv_heads, group * t, -1)
    out, weights = attention(rows, key, value, mask)
    return out.reshape(b, heads, t, -1), weights.reshape(b, heads, t, -1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Each head's share of the features, side by side: [B, T, heads D] to [B, heads, T, D].

    Raises ValueError for heads that do not divide the features.
    """
    _divisible(x.shape[-1], heads)
    b, t, _ = x.shape
    return x.view(b, t, heads, -1).transpose(1, 2)


def _divisible(features: int, heads: int) -> None:
    bounds.whole("heads", heads, "features are divided among them", 1, features)
    if features % heads:
        raise bounds.SettingError(
            f"{features} features and {heads} heads",
            "the features are divided evenly among the heads",
            f"heads that divide {features}",
        )


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`: [B, heads, T, D] to [B, T, heads D]."""
    b, heads, t, d = x.shape
    return x.transpose(1, 2).reshape(b, t, heads * d)


class MultiHeadAttention(nn.Module):
    """Projections to queries, keys and values, attention by heads, and a projection back.

    kv_heads: `heads` (multi-head), 1 (multi-query), or a divisor of `heads` (grouped-query).
    With kv_heads = heads it is `torch.nn.MultiheadAttention`; see the tests for whose weights lie
    where.
    """

    def __init__(self, size: int, heads: int, kv_heads: int | None = None, bias: bool = True):
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        for name, value in (("size", size), ("heads", heads), ("kv_heads", kv_heads)):
            bounds.whole(name, value, "attention has at least one of each")
        if size % heads or heads % kv_heads:
            raise bounds.SettingError(
                f"size {size}, {heads} heads, {kv_heads} kv heads",
                "the features are divided evenly among the heads, and the heads among the kv heads",
                f"heads that divide {size}, kv heads that divide the heads",
            )
        self.heads, self.kv_heads = heads, kv_heads
        kv_size = size // heads * kv_heads
        self.q_proj = nn.Linear(size, size, bias=bias)
        self.k_proj = nn.Linear(size, kv_size, bias=bias)
        self.v_proj = nn.Linear(size, kv_size, bias=bias)
        self.o_proj = nn.Linear(size, size, bias=bias)

    def forward(
        self, x: Tensor, source: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x: [B, T, C], what asks. source: [B, S, C], what is asked; x itself by default.

        mask: bool, broadcast to [B, heads, T, S]. Returns [B, T, C] and weights [B, heads, T, S].
        """
        source = x if source is None else source
        query = split_heads(self.q_proj(x), self.heads)  # [B, heads, T, D]
        key = split_heads(self.k_proj(source), self.kv_heads)  # [B, kv_heads, S, D]
        value = split_heads(self.v_proj(source), self.kv_heads)
        out, weights = grouped_attention(query, key, value, mask)
        return self.o_proj(merge_heads(out)), weights
