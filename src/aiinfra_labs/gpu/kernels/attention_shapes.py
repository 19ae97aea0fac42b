"""What the arrays of the attention kernels must look like, said before a launch. Unit 3.6."""

from __future__ import annotations

from typing import Any

import numpy as np

from .attention_tile import KEYS, SHARED_LIMIT, slices

MOST_DIMS = 128  # of a head
MOST_WARPS = 32  # of a block


def check_attention(query: Any, key: Any, value: Any) -> int:
    """head_dim of query [heads, queries, head_dim] and key, value [kv_heads, keys, head_dim]."""
    arrays = {"query": query, "key": key, "value": value}
    _need_floats(arrays)
    for name, array in arrays.items():
        _need(
            len(array.shape) == 3,
            f"{name} has the shape {tuple(array.shape)}",
            "attention takes [heads, tokens, head_dim]; a batch is more heads",
            f"{name}.reshape(batch * heads, tokens, head_dim)",
        )
    _need_same_shape("key", key, "value", value)
    _need_groups(query.shape[0], key.shape[0])
    return _head_dim(query.shape[2], key.shape[2], 16)


def check_paged(
    query: Any, key_cache: Any, value_cache: Any, block_table: Any, context_lengths: Any
) -> tuple[int, int]:
    """(head_dim, query heads a kv head) of `paged_attention`'s arguments."""
    _need_floats({"query": query, "key_cache": key_cache, "value_cache": value_cache})
    _need(
        len(query.shape) == 3 and len(key_cache.shape) == 4,
        f"query has {len(query.shape)} axes and key_cache {len(key_cache.shape)}",
        "a query is [seqs, heads, head_dim], a cache [num_blocks, block_size, kv_heads, head_dim]",
        "one query token a sequence: leave its axis of length 1 out",
    )
    _need_same_shape("key_cache", key_cache, "value_cache", value_cache)
    seqs, heads, dims = query.shape
    _need(
        len(block_table.shape) == 2
        and block_table.shape[0] == seqs
        and tuple(context_lengths.shape) == (seqs,),
        f"{seqs} queries, block_table {tuple(block_table.shape)}, context_lengths "
        f"{tuple(context_lengths.shape)}",
        "each sequence has one row of block_table and one context length",
        "block_table [seqs, max_blocks], context_lengths [seqs]",
    )
    for name, array in (("block_table", block_table), ("context_lengths", context_lengths)):
        _need(
            array.dtype == np.int32,
            f"{name} is {array.dtype}",
            "the kernel reads int32",
            f"{name}.astype(np.int32)",
        )
    group = _need_groups(heads, key_cache.shape[2])
    _need(
        group <= MOST_WARPS,
        f"{group} query heads share one kv head",
        f"each has a warp of one block, and a block has at most {MOST_WARPS}",
        "split the group over several calls",
    )
    return _head_dim(dims, key_cache.shape[3], group), group


def check_table(block_table: Any, context_lengths: Any, num_blocks: int, block_size: int) -> None:
    """Every block that a context needs is one of the cache. Both on the host."""
    for seq, length in enumerate(context_lengths.tolist()):
        needed = -(-length // block_size)
        _need(
            0 <= needed <= block_table.shape[1] and length >= 0,
            f"sequence {seq} has {length} tokens in blocks of {block_size}, and its row of "
            f"block_table {block_table.shape[1]} entries",
            "each block of a sequence needs an entry",
            "give block_table as many columns as the longest context has blocks",
        )
        used = block_table[seq, :needed]
        bad = np.flatnonzero((used < 0) | (used >= num_blocks))
        _need(
            not len(bad),
            f"block_table[{seq}, {bad[0] if len(bad) else 0}] is no block of a cache of "
            f"{num_blocks}",
            f"{length} tokens in blocks of {block_size} need {needed} blocks, 0 to "
            f"{num_blocks - 1}",
            "was the block that holds the last token allocated?",
        )


def _need_floats(arrays: dict[str, Any]) -> None:
    for name, array in arrays.items():
        _need(
            array.dtype == np.float32,
            f"{name} is {array.dtype}",
            "these kernels are float32",
            f"{name}.astype(np.float32)",
        )


def _need_same_shape(one: str, a: Any, other: str, b: Any) -> None:
    _need(
        tuple(a.shape) == tuple(b.shape),
        f"{one} has the shape {tuple(a.shape)} and {other} {tuple(b.shape)}",
        "each key has one value",
        "give both the same shape",
    )


def _need_groups(heads: int, kv_heads: int) -> int:
    _need(
        kv_heads > 0 and heads % kv_heads == 0,
        f"{heads} query heads and {kv_heads} kv heads",
        "in grouped-query attention each kv head serves as many query heads as the others",
        "a number of query heads that is a multiple of the kv heads",
    )
    return heads // kv_heads


def _head_dim(of_query: int, of_key: int, queries: int) -> int:
    """head_dim, if it is one for both and a block's tiles fit in shared memory."""
    _need(
        of_query == of_key and 1 <= of_query <= MOST_DIMS,
        f"head_dim is {of_query} for queries and {of_key} for keys",
        f"a score is their dot product, and a tile of keys holds at most {MOST_DIMS} dimensions",
        f"one head_dim for both, 1 to {MOST_DIMS}",
    )
    nbytes = 4 * (KEYS * (of_query + 1) + KEYS * 32 * slices(of_query) + queries * of_query)
    _need(
        nbytes <= SHARED_LIMIT,
        f"{queries} queries of {of_query} dimensions need {nbytes:,} bytes of shared memory",
        f"a block has {SHARED_LIMIT:,}",
        "fewer query heads a kv head, or smaller heads",
    )
    return of_query


def _need(held: bool, what: str, why: str, try_: str) -> None:
    """Raise a `ValueError` in three parts unless the condition held."""
    if not held:
        raise ValueError(f"{what}\nWhy: {why}\nTry: {try_}")
