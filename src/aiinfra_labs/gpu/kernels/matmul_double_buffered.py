"""Multiplying matrices with two buffers: the next tile is on its way while this one is used. 3.5.

`matmul_float4` waits twice a step: for its loads from global memory, some hundred clocks, and at a
barrier before it may overwrite the tile. Here a step issues the loads of the next tile first, into
registers, does its multiply-adds, and only then puts what has arrived into the other of two shared
tiles. Nobody reads that one before the barrier, so one barrier a step is enough. Unit 3.5.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.float4 import load_float4, store_float4

from .matmul_vectorised import (
    ALIGNED,
    BLOCK_K,
    BLOCK_M,
    BLOCK_N,
    PADDED_M,
    THREAD_M,
    THREAD_N,
    fragment_of,
    multiply_add,
    store_sums,
)

F32 = np.float32


@cuda.jit(device=True, forceinline=True)
def multiply_tiles(tile_a, tile_b, y, x, sums):
    """sums += a tile of A times a tile of B, for the 8 x 8 elements of this thread.

    Written out, as NVVM does not unroll a loop whose body is so long: what is unrolled has no
    counter to pay, and its loads from shared memory can move up past earlier maths.
    """
    multiply_add(tile_a, tile_b, 0, y, x, sums)
    multiply_add(tile_a, tile_b, 1, y, x, sums)
    multiply_add(tile_a, tile_b, 2, y, x, sums)
    multiply_add(tile_a, tile_b, 3, y, x, sums)
    multiply_add(tile_a, tile_b, 4, y, x, sums)
    multiply_add(tile_a, tile_b, 5, y, x, sums)
    multiply_add(tile_a, tile_b, 6, y, x, sums)
    multiply_add(tile_a, tile_b, 7, y, x, sums)


@cuda.jit(max_registers=128)  # two blocks of 256 threads then fit on an SM
def matmul_double_buffered(a, b, c):
    """C = A B, as `matmul_float4`, with one barrier a step and the next loads before the maths.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N]. M and N are multiples of 128, K of 8.
    """
    # [buffer, k, row] and [buffer, k, column]
    tile_a = cuda.shared.array((2, BLOCK_K, PADDED_M), np.float32, ALIGNED)
    tile_b = cuda.shared.array((2, BLOCK_K, BLOCK_N), np.float32, ALIGNED)
    sums = cuda.local.array((THREAD_M, THREAD_N), np.float32)
    t = cuda.threadIdx.x
    top, left = cuda.blockIdx.y * BLOCK_M, cuda.blockIdx.x * BLOCK_N
    y, x = fragment_of(t)
    a_row, a_k = t // 2, t % 2 * 4
    b_k, b_column = t // 32, t % 32 * 4
    for i in range(THREAD_M):
        for j in range(THREAD_N):
            sums[i, j] = F32(0)
    now = 0
    of_a = load_float4(a, (top + a_row, a_k))
    of_b = load_float4(b, (b_k, left + b_column))
    for first in range(0, a.shape[1], BLOCK_K):
        tile_a[now, a_k, a_row] = of_a.x
        tile_a[now, a_k + 1, a_row] = of_a.y
        tile_a[now, a_k + 2, a_row] = of_a.z
        tile_a[now, a_k + 3, a_row] = of_a.w
        store_float4(tile_b, (now, b_k, b_column), of_b)
        cuda.syncthreads()  # it is whole, and nobody reads the other one
        if first + BLOCK_K < a.shape[1]:  # on its way during the maths
            of_a = load_float4(a, (top + a_row, first + BLOCK_K + a_k))
            of_b = load_float4(b, (first + BLOCK_K + b_k, left + b_column))
        multiply_tiles(tile_a[now], tile_b[now], y, x, sums)
        now = 1 - now
    store_sums(c, top + y, left + x, sums)
