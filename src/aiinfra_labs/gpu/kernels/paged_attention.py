"""Attention of one new token a sequence over a KV cache in blocks. Unit 3.6; chapter 4 serves it.

The keys and values of a sequence lie in blocks of block_size tokens anywhere in one pool, and its
row of the block table says where: token t is in block `block_table[seq, t // block_size]`, at
`t % block_size`. So a cache can grow block by block, as an operating system's pages do (Kwon et
al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
arXiv:2309.06180).

One block of threads has one sequence and one kv head; its warps are the query heads of that group,
which share each tile of keys and values. So the cache is read once, however many heads ask. vLLM's
kernel also splits a long context over several blocks, which matters where sequences and kv heads
are too few to fill the GPU; this one does not.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from aiinfra_labs.gpu import cuda

from .attention_shapes import check_paged, check_table
from .attention_tile import KEYS, attend, load_rows, slices, store_output
from .flash_attention import on_device
from .online_softmax import MASKED


@cuda.jit(device=True, forceinline=True)
def load_kv(cache, block, kv_head, start, context, tile, columns):
    """tile[row] = the cache at token start + row, 0 past the context. The whole block calls it.

    cache: float32 [num_blocks, block_size, kv_heads, head_dim]. block: int32 [rows of the tile],
    shared: where each token lies. tile: float32 [rows of the tile, columns or more], shared.
    """
    block_size, place = cache.shape[1], cuda.threadIdx.x
    while place < tile.shape[0] * columns:
        row, dim = place // columns, place % columns
        token, element = start + row, np.float32(0)
        if token < context and dim < cache.shape[3]:
            element = cache[block[row], token % block_size, kv_head, dim]
        tile[row, dim] = element
        place += cuda.blockDim.x


@functools.cache
def paged_attention_kernel(head_dim: int, group: int) -> Any:
    """The kernel for one head_dim and `group` query heads a kv head.

    Launched as `kernel[(kv_heads, seqs), 32 * group](...)`, with the arrays of `paged_attention`.
    """
    parts = slices(head_dim)  # of the output: each lane owns a dimension of each
    width = 32 * parts  # head_dim, rounded up to whole warps
    padded = head_dim + 1  # neighbouring lanes read neighbouring keys: rows apart, banks apart

    @cuda.jit
    def paged_attention(query, key_cache, value_cache, block_table, context_lengths, scale, out):
        """out[seq, head] = softmax(scale query[seq, head] keys^T) values, over its context.

        query, out: float32 [seqs, heads, head_dim]. key_cache, value_cache: float32 [num_blocks,
        block_size, kv_heads, head_dim]. block_table: int32 [seqs, max_blocks].
        context_lengths: int32 [seqs]. scale: float32.
        """
        q_rows = cuda.shared.array((group, head_dim), np.float32)
        k_tile = cuda.shared.array((KEYS, padded), np.float32)
        v_tile = cuda.shared.array((KEYS, width), np.float32)
        block = cuda.shared.array(KEYS, np.int32)  # of each token of the tile
        output = cuda.local.array(parts, np.float32)
        kv_head, seq = cuda.blockIdx.x, cuda.blockIdx.y
        warp, lane = cuda.threadIdx.x // 32, cuda.threadIdx.x % 32
        block_size, context = key_cache.shape[1], context_lengths[seq]
        load_rows(query, seq, kv_head * group, q_rows, head_dim)
        for part in range(parts):
            output[part] = np.float32(0)
        largest, total = MASKED, np.float32(0)
        for start in range(0, context, KEYS):
            token = start + lane
            if warp == 0 and token < context:
                block[lane] = block_table[seq, token // block_size]
            cuda.syncthreads()  # `block` is whole; the tile before is done
            load_kv(key_cache, block, kv_head, start, context, k_tile, head_dim)
            load_kv(value_cache, block, kv_head, start, context, v_tile, width)
            cuda.syncthreads()
            sees = token < context
            largest, total = attend(
                q_rows[warp], k_tile, v_tile, output, sees, scale, largest, total
            )
        store_output(output, total, seq, kv_head * group + warp, out)

    return paged_attention


def paged_attention(
    query: Any,
    key_cache: Any,
    value_cache: Any,
    block_table: Any,
    context_lengths: Any,
    scale: float | None = None,
) -> Any:
    """Attention of one query token a sequence over its context, which lies in blocks.

    query: float32 [seqs, heads, head_dim]: the token that is decoded, one a sequence.
    key_cache, value_cache: float32 [num_blocks, block_size, kv_heads, head_dim]: the pool of all
    sequences. heads must be a multiple of kv_heads; query head h reads kv head
    h // (heads // kv_heads). head_dim: 1 to 128.
    block_table: int32 [seqs, max_blocks]; entry [s, b] is the block of the pool that holds tokens
    b x block_size to (b + 1) x block_size - 1 of sequence s. Entries past its context are not read.
    context_lengths: int32 [seqs]: tokens of each sequence in the cache, the new one's own included
    if it is to see itself. A length of 0 gives zeros.
    scale: of the dot products; 1 / sqrt(head_dim) if None.

    NumPy arrays are copied to the device, all of the cache with them; keep a cache that is used
    again in a device array (`cuda.to_device`). Returns float32 [seqs, heads, head_dim], on the
    device if `query` is, else as NumPy. Raises ValueError, in three parts, where shapes or dtypes
    do not fit, or where a host block_table names a block that the pool does not have.
    """
    on_host = isinstance(query, np.ndarray)
    head_dim, group = check_paged(query, key_cache, value_cache, block_table, context_lengths)
    if isinstance(block_table, np.ndarray) and isinstance(context_lengths, np.ndarray):
        check_table(block_table, context_lengths, *key_cache.shape[:2])
    if scale is None:
        scale = 1 / math.sqrt(head_dim)
    out = cuda.device_array(query.shape, np.float32)
    if out.size:
        arrays = (query, key_cache, value_cache, block_table, context_lengths)
        kernel = paged_attention_kernel(head_dim, group)
        grid = (key_cache.shape[2], query.shape[0])
        kernel[grid, 32 * group](*map(on_device, arrays), np.float32(scale), out)
    return out.copy_to_host() if on_host else out
