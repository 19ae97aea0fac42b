"""Paged attention for a CPU: one query at a time, over the blocks where they lie. Unit 4.2.

Gathering the blocks first, as PyTorch must, reads and writes all keys and values once more than
the attention itself reads them. This loop reads each once, for all query heads of its kv head.
"""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(parallel=True, fastmath=True, cache=True)
def decode_attention(query, keys, values, tokens, rows, contexts, block_table, out):
    """out[token] = softmax(query keys^T / sqrt(D)) values, for each of `tokens`.

    query, out: float32 [T, H, D]. keys, values: float32 [num_blocks, block_size, K, D].
    tokens, rows, contexts: int64 [N]: which rows of `query`, whose, and how much each sees.
    block_table: int32 [S, max_blocks].
    """
    heads, d = query.shape[1], query.shape[2]
    block_size, kv_heads = keys.shape[1], keys.shape[2]
    group = heads // kv_heads
    scale = np.float32(1 / math.sqrt(d))
    for item in numba.prange(len(tokens) * kv_heads):
        n, kv_head = item // kv_heads, item % kv_heads
        token, context = tokens[n], contexts[n]
        first = kv_head * group  # of the query heads that share this kv head
        asks = query[token, first : first + group] * scale  # [group, D]
        weights = np.empty((group, context), np.float32)
        mean = np.zeros((group, d), np.float32)
        blocks = (context + block_size - 1) // block_size
        for place in range(blocks):
            start = place * block_size
            block = keys[block_table[rows[n], place]]  # [block_size, K, D]
            for t in range(min(block_size, context - start)):
                for g in range(group):
                    score = np.float32(0)
                    for i in range(d):
                        score += asks[g, i] * block[t, kv_head, i]
                    weights[g, start + t] = score
        for g in range(group):
            row = weights[g]
            largest = row[0]
            for t in range(context):
                largest = max(largest, row[t])
            total = np.float32(0)
            for t in range(context):
                row[t] = math.exp(row[t] - largest)
                total += row[t]
            for t in range(context):
                row[t] /= total
        for place in range(blocks):
            start = place * block_size
            block = values[block_table[rows[n], place]]
            for t in range(min(block_size, context - start)):
                for g in range(group):
                    weight = weights[g, start + t]
                    for i in range(d):
                        mean[g, i] += weight * block[t, kv_head, i]
        out[token, first : first + group] = mean
