"""The kernels of unit 3.3, coalesced access: the same work over addresses that differ.

A warp's load or store is one request, and moves every 32-byte sector that one of its lanes touches.
What follows changes nothing but which lane has which address: by a stride or a shift, through an
index, along rows or columns, in an array of structures or a structure of arrays, four elements at
once, and over two layouts of a KV cache.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.float4 import load_float4, store_float4

WARP = 32  # lanes
WHOLE_WARP = 0xFFFFFFFF

# What an engine keeps for each request that it serves, as one structure. With align=True Numba
# loads a field at once; without it, it takes no address for granted and loads byte by byte.
REQUEST = np.dtype(
    [
        ("token", np.int32),  # the last one
        ("position", np.int32),  # of that token
        ("length", np.int32),  # at which to stop
        ("block", np.int32),  # of the KV cache
        ("temperature", np.float32),
        ("top_p", np.float32),
        ("top_k", np.int32),
        ("seed", np.int32),
    ],
    align=True,
)  # 32 bytes: a sector each


# --- a stride, a shift, an index ------------------------------------------------------------------


@cuda.jit
def copy_strided(source, target, stride):
    """target[i] = source[i * stride]. source: [n * stride], target: [n], of one dtype."""
    i = cuda.grid(1)
    if i < target.size:
        target[i] = source[i * stride]


@cuda.jit
def copy_shifted(source, target, shift):
    """target[i] = source[i + shift]. source: [n + shift], target: [n], of one dtype."""
    i = cuda.grid(1)
    if i < target.size:
        target[i] = source[i + shift]


@cuda.jit
def gather(source, index, target):
    """target[i] = source[index[i]]. source: [m]. index: integers [n], 0 to m - 1. target: [n]."""
    i = cuda.grid(1)
    if i < target.size:
        target[i] = source[index[i]]


# --- a row-major matrix ---------------------------------------------------------------------------


@cuda.jit
def column_sums(a, sums):
    """sums[c] = the sum of column c, one thread a column: a warp reads along a row.

    a: float32 [rows, columns], row-major. sums: float32 [columns].
    """
    column = cuda.grid(1)
    if column < a.shape[1]:
        total = np.float32(0)
        for row in range(a.shape[0]):
            total += a[row, column]
        sums[column] = total


@cuda.jit
def row_sums(a, sums):
    """sums[r] = the sum of row r, one thread a row: a warp reads down a column.

    a: float32 [rows, columns], row-major. sums: float32 [rows].
    """
    row = cuda.grid(1)
    if row < a.shape[0]:
        total = np.float32(0)
        for column in range(a.shape[1]):
            total += a[row, column]
        sums[row] = total


@cuda.jit
def row_sums_by_warp(a, sums):
    """sums[r] = the sum of row r, one warp a row: its lanes read along the row, then add up.

    a: float32 [rows, columns], row-major. sums: float32 [rows]. Blocks are whole warps.
    """
    row, lane = cuda.grid(1) // WARP, cuda.grid(1) % WARP
    # A warp has one row: all of its lanes meet at each shuffle.
    if row < a.shape[0]:
        total = np.float32(0)
        for column in range(lane, a.shape[1], WARP):
            total += a[row, column]
        step = WARP // 2
        while step > 0:
            total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
            step //= 2
        if lane == 0:
            sums[row] = total


# --- structures and arrays ------------------------------------------------------------------------


@cuda.jit
def advance_structures(requests):
    """position += 1 in each structure, in place. requests: REQUEST [n]."""
    i = cuda.grid(1)
    if i < requests.size:
        requests[i].position += 1


@cuda.jit
def advance_array(position):
    """The same, where all positions lie in an array of their own. position: int32 [n]."""
    i = cuda.grid(1)
    if i < position.size:
        position[i] += 1


# --- wider words ----------------------------------------------------------------------------------


@cuda.jit
def copy_fours(source, target):
    """target[i] = source[i], four elements a thread with one load and one store.

    source, target: float32 [n], each beginning at a multiple of 16 bytes; n: a multiple of 4. At
    least n // 4 threads.
    """
    i = cuda.grid(1)
    if 4 * i < target.size:
        # source[4 * i] to source[4 * i + 3]
        four = load_float4(source, 4 * i)
        store_float4(target, 4 * i, four)


@cuda.jit
def copy_float4(source, target):
    """target[i] = source[i], four elements a thread, and the tail one by one.

    source, target: float32 [n], each beginning at a multiple of 16 bytes. At least
    n // 4 + n % 4 threads.
    """
    i = cuda.grid(1)
    fours = target.size // 4
    if i < fours:
        store_float4(target, 4 * i, load_float4(source, 4 * i))
    else:
        rest = 4 * fours + i - fours  # the tail's 0 to 3 elements have a thread each
        if rest < target.size:
            target[rest] = source[rest]


# --- embeddings -----------------------------------------------------------------------------------


@cuda.jit
def embed_by_thread(table, tokens, out):
    """out[t] = table[tokens[t]], one thread a token, which copies the whole row.

    table: float32 [vocabulary, dim]. tokens: integers [n]. out: float32 [n, dim].
    """
    t = cuda.grid(1)
    if t < tokens.size:
        token = tokens[t]
        for d in range(table.shape[1]):
            out[t, d] = table[token, d]


@cuda.jit
def embed_by_warp(table, tokens, out):
    """The same, one warp a token: its lanes share the row. Blocks are whole warps."""
    t, lane = cuda.grid(1) // WARP, cuda.grid(1) % WARP
    if t < tokens.size:
        token = tokens[t]  # one address for all lanes: one sector
        for d in range(lane, table.shape[1], WARP):
            out[t, d] = table[token, d]


# --- the keys of a KV cache -----------------------------------------------------------------------


@cuda.jit
def scores_token_major(query, keys, out):
    """out[h, t] = query[h] . keys[t, h], one thread a token; blockIdx.y is the head.

    query: float32 [heads, dim]. keys: float32 [tokens, heads, dim]. out: float32 [heads, tokens].
    """
    token, head = cuda.grid(1), cuda.blockIdx.y
    if token < keys.shape[0]:
        total = np.float32(0)
        for d in range(keys.shape[2]):
            total += query[head, d] * keys[token, head, d]
        out[head, token] = total


@cuda.jit
def scores_dim_major(query, keys, out):
    """The same over keys: float32 [heads, dim, tokens]: neighbouring tokens lie side by side."""
    token, head = cuda.grid(1), cuda.blockIdx.y
    if token < keys.shape[2]:
        total = np.float32(0)
        for d in range(keys.shape[1]):
            total += query[head, d] * keys[head, d, token]
        out[head, token] = total


@cuda.jit
def scores_token_major_by_warp(query, keys, out):
    """Over keys [tokens, heads, dim] again, with one warp a token. Blocks are whole warps."""
    token, lane, head = cuda.grid(1) // WARP, cuda.grid(1) % WARP, cuda.blockIdx.y
    if token < keys.shape[0]:
        total = np.float32(0)
        for d in range(lane, keys.shape[2], WARP):
            total += query[head, d] * keys[token, head, d]
        step = WARP // 2
        while step > 0:
            total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
            step //= 2
        if lane == 0:
            out[head, token] = total
