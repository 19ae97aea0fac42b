"""Attention as the formula is written: three kernels and a matrix of scores between them. Unit 3.6.

Scores are stored by the first, read and replaced by weights by the second, and read by the third:
four times queries x keys elements at the least, which is what FlashAttention leaves out. Both
products are tiled through shared memory, as in unit 3.5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aiinfra_labs.gpu import cuda

from .attention_shapes import check_attention
from .flash_attention import on_device
from .online_softmax import MASKED, THREADS, WARPS, online_softmax_rows

TILE = 16  # rows and columns of a block
PADDED = TILE + 1


@cuda.jit
def attention_scores(query, key, scale, causal, scores):
    """scores[head, q, k] = scale query[head, q] . key[head, k], -inf where q may not see k.

    query: float32 [heads, queries, head_dim]. key: float32 [kv_heads, keys, head_dim].
    scale: float32. causal: int64, 0 or 1. scores: float32 [heads, queries, keys]. Launched with
    blocks of TILE x TILE threads that cover keys (x) and queries (y), and heads along z.
    """
    query_tile = cuda.shared.array((TILE, TILE), np.float32)
    key_tile = cuda.shared.array((TILE, PADDED), np.float32)  # read down its columns
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    k, q = cuda.grid(3)[0], cuda.grid(3)[1]
    head, head_dim = cuda.blockIdx.z, query.shape[2]
    kv_head = head // (query.shape[0] // key.shape[0])
    row = cuda.blockIdx.x * TILE + y  # of the key that this thread loads
    total = np.float32(0)
    for start in range(0, head_dim, TILE):
        q_element, k_element = np.float32(0), np.float32(0)
        if q < query.shape[1] and start + x < head_dim:
            q_element = query[head, q, start + x]
        if row < key.shape[1] and start + x < head_dim:
            k_element = key[kv_head, row, start + x]
        query_tile[y, x], key_tile[y, x] = q_element, k_element
        cuda.syncthreads()
        for dim in range(TILE):
            total += query_tile[y, dim] * key_tile[x, dim]
        cuda.syncthreads()
    if q < query.shape[1] and k < key.shape[1]:
        score = total * scale
        if causal != 0 and k > q + key.shape[1] - query.shape[1]:
            score = MASKED
        scores[head, q, k] = score


@cuda.jit
def attention_output(weights, value, out):
    """out[head] = weights[head] value[head].

    weights: float32 [heads, queries, keys]. value: float32 [kv_heads, keys, head_dim].
    out: float32 [heads, queries, head_dim]. Launched with blocks of TILE x TILE threads that cover
    head_dim (x) and queries (y), and heads along z.
    """
    weight_tile = cuda.shared.array((TILE, TILE), np.float32)
    value_tile = cuda.shared.array((TILE, TILE), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    dim, q = cuda.grid(3)[0], cuda.grid(3)[1]
    head, keys, head_dim = cuda.blockIdx.z, value.shape[1], value.shape[2]
    kv_head = head // (weights.shape[0] // value.shape[0])
    total = np.float32(0)
    for start in range(0, keys, TILE):
        weight, element = np.float32(0), np.float32(0)
        if q < weights.shape[1] and start + x < keys:
            weight = weights[head, q, start + x]
        if start + y < keys and dim < head_dim:
            element = value[kv_head, start + y, dim]
        weight_tile[y, x], value_tile[y, x] = weight, element
        cuda.syncthreads()
        for k in range(TILE):
            total += weight_tile[y, k] * value_tile[k, x]
        cuda.syncthreads()
    if q < out.shape[1] and dim < head_dim:
        out[head, q, dim] = total


def naive_attention(
    query: Any, key: Any, value: Any, *, causal: bool = False, scale: float | None = None
) -> Any:
    """What `flash_attention` gives, by way of two matrices of heads x queries x keys float32.

    Takes and returns the same arrays.
    """
    on_host = isinstance(query, np.ndarray)
    head_dim = check_attention(query, key, value)
    heads, queries, keys = *query.shape[:2], key.shape[1]
    if scale is None:
        scale = 1 / math.sqrt(head_dim)
    d_query, d_key, d_value = map(on_device, (query, key, value))
    scores = cuda.device_array((heads * queries, keys), np.float32)
    weights = cuda.device_array((heads * queries, keys), np.float32)
    out = cuda.device_array(query.shape, np.float32)

    def blocks(columns: int) -> tuple[int, int, int]:
        return max(1, -(-columns // TILE)), max(1, -(-queries // TILE)), heads

    square, tile = (heads, queries, keys), (TILE, TILE)
    attention_scores[blocks(keys), tile](
        d_query, d_key, np.float32(scale), int(causal), scores.reshape(square)
    )
    rows = max(1, -(-heads * queries // WARPS))
    online_softmax_rows[rows, THREADS](scores, weights)
    attention_output[blocks(head_dim), tile](weights.reshape(square), d_value, out)
    return out.copy_to_host() if on_host else out
