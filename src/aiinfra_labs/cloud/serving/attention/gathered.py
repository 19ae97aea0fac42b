"""Attention by PyTorch: blocks are gathered into one tensor first. Unit 4.2.

It runs on a CPU or a GPU, in any precision. What is gathered, and what each query may see of it, is
the same in all layers of a step.

S: sequences, H: heads, K: kv heads, D: head_dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import Layout


@dataclass(frozen=True)
class Chunk:
    """New tokens of one sequence: `start` to `stop` in the row of the step."""

    start: int
    stop: int
    seen: slice  # what they see, of the tokens in `blocks`
    blocks: Tensor  # int64 [blocks]
    mask: Tensor | None  # [new tokens, seen], 0 or -inf; None: all of it is new

    @classmethod
    def of(cls, layout: Layout, row: int, device: torch.device, dtype: torch.dtype) -> Chunk:
        """The chunk in row `row` of a layout. dtype: of the mask, the query's."""
        start, count = int(layout.starts[row]), int(layout.queries[row])
        context, size = int(layout.contexts[row]), layout.block_size
        first = int(layout.firsts[start])  # nobody sees one before it
        block = first // size
        blocks = layout.block_table[row, block : -(-context // size)]
        seen = context - first
        mask = None
        if count < seen or layout.window is not None:  # causal, and it ends at the last token
            ones = torch.ones(count, seen, dtype=torch.bool, device=device)
            allowed = ones.tril(seen - count)
            if layout.window is not None:
                allowed = allowed.triu(seen - count + 1 - layout.window)
            mask = torch.zeros(count, seen, device=device, dtype=dtype)
            mask.masked_fill_(~allowed, -math.inf)
        place = slice(first - block * size, context - block * size)
        return cls(start, start + count, place, _indices(blocks, device), mask)


@dataclass(frozen=True)
class Group:
    """Sequences of like length that decode together, each padded to the longest of them."""

    tokens: Tensor  # int64 [S]: their places in the row of the step
    blocks: Tensor  # int64 [S x blocks]
    longest: int  # tokens
    mask: Tensor | None  # [S, 1, 1, longest], 0 or -inf; None: all are as long

    @classmethod
    def of(
        cls, layout: Layout, rows: np.ndarray, device: torch.device, dtype: torch.dtype
    ) -> Group:
        """The sequences in `rows` (int64 [S]) of a layout. dtype: of the mask, the query's."""
        size, starts = layout.block_size, layout.starts[rows]
        # The first block of each that it sees, and what it sees counted from there.
        block = layout.firsts[starts] // size
        firsts = layout.firsts[starts] - block * size
        ends = layout.contexts[rows] - block * size
        longest = int(ends.max())
        places = block[:, None] + np.arange(-(-longest // size))
        # Behind the table's end lies what nobody of this row sees.
        places = np.minimum(places, layout.block_table.shape[1] - 1)
        blocks = layout.block_table[rows[:, None], places]
        mask = None
        if ends.min() < longest or firsts.any():
            slots = np.arange(longest)
            unseen = (slots < firsts[:, None]) | (slots >= ends[:, None])
            mask = torch.zeros(unseen.shape, device=device, dtype=dtype)
            mask.masked_fill_(torch.from_numpy(unseen).to(device), -math.inf)
            mask = mask[:, None, None]
        return cls(_indices(starts, device), _indices(blocks.ravel(), device), longest, mask)


def _indices(found: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(found.astype(np.int64)).to(device)


@dataclass(frozen=True)
class Gathers:
    """A step's tokens, as PyTorch's attention takes them: indices and masks, on the device."""

    chunks: tuple[Chunk, ...]
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, layout: Layout, device: torch.device, dtype: torch.dtype) -> Gathers:
        """All of a layout: a chunk for each prompt, groups of those that decode, by length."""
        chunks = [Chunk.of(layout, r, device, dtype) for r in np.flatnonzero(layout.queries != 1)]
        rows = np.flatnonzero(layout.queries == 1)
        seen = layout.contexts[rows] - layout.firsts[layout.starts[rows]]
        order = np.argsort(seen, kind="stable")
        rows, seen = rows[order], seen[order]
        groups, first = [], 0
        while first < len(rows):
            longest = 1.25 * seen[first] + 4 * layout.block_size
            last = first + np.searchsorted(seen[first:], longest, side="right")
            groups.append(Group.of(layout, rows[first:last], device, dtype))
            first = last
        return cls(tuple(chunks), tuple(groups))


def gathers_of(layout: Layout, device: torch.device, dtype: torch.dtype) -> Gathers:
    """The gathers of a layout: made once a step, for all layers."""
    known = layout.__dict__.setdefault("_gathers", {})
    if (device, dtype) not in known:
        known[device, dtype] = Gathers.of(layout, device, dtype)
    return known[device, dtype]


def torch_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Blocks gathered into one tensor, then PyTorch's own attention.

    A prompt's chunk is a product of its own. Sequences that decode go together, those of like
    length, since each is padded to the longest of its company.
    """
    gathers = gathers_of(layout, query.device, query.dtype)
    out = torch.empty_like(query)
    for chunk in gathers.chunks:
        prefill_attention(out, query, key_cache, value_cache, chunk)
    for group in gathers.groups:
        _decode(out, query, key_cache, value_cache, group)
    return out


def _gather(cache: Tensor, blocks: Tensor) -> Tensor:
    """[num_blocks, block_size, K, D] to [blocks x block_size, K, D]: whole blocks are copied."""
    return cache.index_select(0, blocks).flatten(0, 1)


def prefill_attention(
    out: Tensor, query: Tensor, keys: Tensor, values: Tensor, chunk: Chunk
) -> None:
    """The new tokens of one sequence, over its whole context."""
    q = query[chunk.start : chunk.stop].transpose(0, 1)  # [H, queries, D]
    k, v = (_gather(x, chunk.blocks)[chunk.seen].transpose(0, 1) for x in (keys, values))
    done = F.scaled_dot_product_attention(
        q[None],
        k[None],  # [1, K, seen, D]
        v[None],
        attn_mask=chunk.mask,
        is_causal=chunk.mask is None,
        enable_gqa=len(q) > len(k),
    )
    out[chunk.start : chunk.stop] = done[0].transpose(0, 1)


def _decode(out: Tensor, query: Tensor, keys: Tensor, values: Tensor, group: Group) -> None:
    """One query each of several sequences. A kv head's query heads share one read of its keys."""
    q = query.index_select(0, group.tokens).unflatten(1, (keys.shape[2], -1))  # [S, K, H / K, D]
    k, v = (
        _gather(x, group.blocks).unflatten(0, (len(q), -1))[:, : group.longest].transpose(1, 2)
        for x in (keys, values)
    )  # [S, K, longest, D]
    done = F.scaled_dot_product_attention(q, k, v, attn_mask=group.mask)
    out.index_copy_(0, group.tokens, done.flatten(1, 2))
