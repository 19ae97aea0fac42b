"""Multiplying matrices with loads of 16 bytes, `float4`. Unit 3.5.

As `matmul_registers_2d`, with the same block tile and 8 x 8 elements a thread, but a thread loads
and stores four neighbours at once: a fourth of the load instructions, for the same bytes. A
thread's rows and columns therefore come in fours: 2 groups of 4 rows, 2 groups of 4 columns.

Shared memory serves 16-byte loads half a warp at a time if neighbouring lanes ask for the same
address, else a quarter. `fragment_of` places the lanes of a warp on their 8 x 4 places so that
both A's and B's loads have such neighbours: 2 wavefronts each, where lanes in plain order take 4
for B. The matrices' sides are multiples of the tile's; `matmul_ladder.multiply` takes any others
to a kernel that asks for each element whether it is there.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.float4 import load_float4, store_float4

F32 = np.float32
BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 8  # the block's tile of C, and a step along K
PADDED_M = BLOCK_M + 4  # a multiple of 4 floats, for float4; storing A meets 32 different banks
THREAD_M, THREAD_N = 8, 8
THREADS = BLOCK_M * BLOCK_N // (THREAD_M * THREAD_N)  # 256: one float4 of A and one of B a step
APART_M, APART_N = 32, 16  # from a thread's first group of 4 rows, or columns, to its second
ALIGNED = 16  # bytes


@cuda.jit(device=True)
def fragment_of(t):
    """(row, column) in the block's tile of the first element of thread t.

    A warp has 64 rows and 32 columns: 8 x 4 lanes of 8 x 8 elements. Lanes n and n ^ 1 share their
    rows and differ in columns; lanes n and n ^ 2 share their columns.
    """
    warp, lane = t // 32, t % 32
    down, across = lane // 2 % 8, lane % 2 + lane // 16 * 2
    return warp // 4 * 64 + down * 4, warp % 4 * 32 + across * 4


@cuda.jit(device=True, forceinline=True)
def multiply_add(tile_a, tile_b, k, y, x, sums):
    """sums += column k of A times row k of B, for the 8 x 8 elements of this thread.

    tile_a: float32 [BLOCK_K, PADDED_M], shared: A's tile, transposed. tile_b: float32 [BLOCK_K,
    BLOCK_N]. y, x: where the thread's elements begin. sums: float32 [8, 8], local.
    """
    column_of_a = cuda.local.array(THREAD_M, np.float32)
    row_of_b = cuda.local.array(THREAD_N, np.float32)
    for half in range(2):
        four = load_float4(tile_a, (k, y + half * APART_M))
        column_of_a[half * 4], column_of_a[half * 4 + 1] = four.x, four.y
        column_of_a[half * 4 + 2], column_of_a[half * 4 + 3] = four.z, four.w
        four = load_float4(tile_b, (k, x + half * APART_N))
        row_of_b[half * 4], row_of_b[half * 4 + 1] = four.x, four.y
        row_of_b[half * 4 + 2], row_of_b[half * 4 + 3] = four.z, four.w
    for i in range(THREAD_M):
        for j in range(THREAD_N):
            sums[i, j] += column_of_a[i] * row_of_b[j]


@cuda.jit(device=True, forceinline=True)
def store_sums(c, row, column, sums):
    """Write the 8 x 8 sums of a thread: 16 stores of 16 bytes. c: float32 [M, N]."""
    for i in range(THREAD_M):
        at = row + i % 4 + i // 4 * APART_M
        for half in range(2):
            four = cuda.float32x4(
                sums[i, half * 4],
                sums[i, half * 4 + 1],
                sums[i, half * 4 + 2],
                sums[i, half * 4 + 3],
            )
            store_float4(c, (at, column + half * APART_N), four)


@cuda.jit(max_registers=128)  # two blocks of 256 threads then fit on an SM
def matmul_float4(a, b, c):
    """C = A B, 8 x 8 elements for each thread, loaded and stored in fours.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N]. M and N are multiples of 128, K of 8.
    """
    # A's tile is transposed: [k, row]
    tile_a = cuda.shared.array((BLOCK_K, PADDED_M), np.float32, ALIGNED)
    tile_b = cuda.shared.array((BLOCK_K, BLOCK_N), np.float32, ALIGNED)
    sums = cuda.local.array((THREAD_M, THREAD_N), np.float32)
    t = cuda.threadIdx.x
    top, left = cuda.blockIdx.y * BLOCK_M, cuda.blockIdx.x * BLOCK_N
    y, x = fragment_of(t)
    a_row, a_k = t // 2, t % 2 * 4  # a warp loads 16 rows of 8 floats
    b_k, b_column = t // 32, t % 32 * 4  # a warp loads a row of 128 floats
    for i in range(THREAD_M):
        for j in range(THREAD_N):
            sums[i, j] = F32(0)
    for first in range(0, a.shape[1], BLOCK_K):
        four = load_float4(a, (top + a_row, first + a_k))
        tile_a[a_k, a_row], tile_a[a_k + 1, a_row] = four.x, four.y
        tile_a[a_k + 2, a_row], tile_a[a_k + 3, a_row] = four.z, four.w
        four = load_float4(b, (first + b_k, left + b_column))
        store_float4(tile_b, (b_k, b_column), four)
        cuda.syncthreads()
        for k in range(BLOCK_K):
            multiply_add(tile_a, tile_b, k, y, x, sums)
        cuda.syncthreads()
    store_sums(c, top + y, left + x, sums)
