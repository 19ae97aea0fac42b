"""Attention without the matrix of scores: FlashAttention's forward pass. Unit 3.6.

A block has QUERIES queries, one a warp, and walks over the keys in tiles that all its warps share
through shared memory. What leaves the chip is the output, and one number a query that a backward
pass would need. Global memory is read for each query once and for keys and values once a block:
(queries / QUERIES) x 2 x keys x head_dim elements. With M = QUERIES x head_dim elements of output
kept on chip that is 2 N^2 head_dim^2 / M, the Theta(N^2 d^2 / M) of the paper (Dao et al.,
arXiv:2205.14135, theorem 2).

Products are float32 on the ordinary units. A production kernel has tensor cores for them, several
queries a warp, and copies the next tile while it works on this one (FlashAttention-3,
arXiv:2407.08608).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from aiinfra_labs.gpu import cuda

from .attention_shapes import check_attention
from .attention_tile import KEYS, attend, load_rows, slices, store_logsumexp, store_output
from .online_softmax import MASKED

QUERIES = 16  # of a block: one a warp


@functools.cache
def flash_attention_kernel(head_dim: int, causal: bool, queries: int = QUERIES) -> Any:
    """The kernel for one head_dim: `kernel[(blocks, heads), 32 * queries](...)`, see below."""
    parts = slices(head_dim)  # of the output: each lane owns a dimension of each
    width = 32 * parts  # head_dim, rounded up to whole warps
    padded = head_dim + 1  # neighbouring lanes read neighbouring keys: rows apart, banks apart

    @cuda.jit
    def flash_attention(query, key, value, scale, out, logsumexp):
        """out[head, q] = softmax(scale query[head, q] key^T) value, tile by tile.

        query, out: float32 [heads, queries, head_dim]. key, value: float32 [kv_heads, keys,
        head_dim]. scale: float32. logsumexp: float32 [heads, queries]. Blocks: queries / `queries`,
        rounded up, along x, and heads along y.
        """
        q_rows = cuda.shared.array((queries, head_dim), np.float32)
        k_tile = cuda.shared.array((KEYS, padded), np.float32)
        v_tile = cuda.shared.array((KEYS, width), np.float32)
        output = cuda.local.array(parts, np.float32)
        head, first = cuda.blockIdx.y, cuda.blockIdx.x * queries
        warp, lane = cuda.threadIdx.x // 32, cuda.threadIdx.x % 32
        q, keys = first + warp, key.shape[1]  # a warp has one query
        kv_head = head // (query.shape[0] // key.shape[0])
        load_rows(query, head, first, q_rows, head_dim)
        for part in range(parts):
            output[part] = np.float32(0)
        largest, total = MASKED, np.float32(0)
        seen, end = keys, keys  # by this query; by any query of the block
        if causal:  # the last query sees the last key
            seen = min(keys, keys - query.shape[1] + q + 1)
            end = max(0, min(keys, keys - query.shape[1] + first + queries))
        for start in range(0, end, KEYS):
            cuda.syncthreads()  # every warp is done with the tile before
            load_rows(key, kv_head, start, k_tile, head_dim)
            load_rows(value, kv_head, start, v_tile, width)
            cuda.syncthreads()
            sees = start + lane < seen
            largest, total = attend(
                q_rows[warp], k_tile, v_tile, output, sees, scale, largest, total
            )
        store_output(output, total, head, q, out)
        store_logsumexp(largest, total, head, q, logsumexp)

    return flash_attention


def flash_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    causal: bool = False,
    scale: float | None = None,
    return_logsumexp: bool = False,
) -> Any:
    """softmax(scale query key^T) value for each head, without storing queries x keys scores.

    query: float32 [heads, queries, head_dim], with heads = batch x heads of the model. key, value:
    float32 [kv_heads, keys, head_dim]; heads must be a multiple of kv_heads, and query head h reads
    kv head h // (heads // kv_heads) (grouped-query attention). NumPy arrays, or device arrays,
    which are not copied. head_dim: 1 to 128.
    causal: query q sees key k where k <= q + keys - queries, so that the last query sees all keys.
    scale: 1 / sqrt(head_dim) if not given.

    Returns float32 [heads, queries, head_dim], on the device if `query` is, else as NumPy; with
    `return_logsumexp` also float32 [heads, queries], log(sum of exp(scores)). A query that sees no
    key gets zeros, and -inf. Raises ValueError where the shapes do not fit together.
    """
    on_host = isinstance(query, np.ndarray)
    head_dim = check_attention(query, key, value)
    heads, queries = query.shape[:2]
    if scale is None:
        scale = 1 / math.sqrt(head_dim)
    d_query, d_key, d_value = map(on_device, (query, key, value))
    out = cuda.device_array(query.shape, np.float32)
    logsumexp = cuda.device_array((heads, queries), np.float32)
    if out.size:
        kernel = flash_attention_kernel(head_dim, causal)
        grid = (-(-queries // QUERIES), heads)
        kernel[grid, 32 * QUERIES](d_query, d_key, d_value, np.float32(scale), out, logsumexp)
    results = (out, logsumexp) if return_logsumexp else (out,)
    if on_host:
        results = tuple(result.copy_to_host() for result in results)
    return results if return_logsumexp else results[0]


def on_device(array: Any) -> Any:
    """An array on the device: as it is if it is there, else a copy."""
    return cuda.to_device(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
