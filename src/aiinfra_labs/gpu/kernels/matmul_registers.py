"""Multiplying matrices: each thread computes several elements of C, in registers. Unit 3.5.

With one element a thread, each multiply-add costs two loads from shared memory, and that is where
the tiled kernel's time goes. A thread that computes a tile of its own uses each value that it has
loaded several times: 8 rows of one column take 9 loads for 8 multiply-adds, 8 x 8 elements take 16
for 64. Both kernels take matrices of any size, one block for each tile of C, and add products in
the order of k.

The sums stand in a local array. Its indices are constants once the compiler has unrolled the loops
over it, and then its elements are registers: ptxas says so (`benchmarks/registers.py`). In CUDA a
local array with an index that is known only at run time lies in memory instead.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

F32 = np.float32

STRIP_M, STRIP_N, STRIP_K = 64, 64, 8  # the block's tile of C, and how far along K it goes a step
ROWS = 8  # of C that a thread computes, all in one column
STRIP_THREADS = STRIP_M * STRIP_N // ROWS  # 512: each loads one float of A and one of B a step

BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 8
PADDED_M = BLOCK_M + 4  # so that storing a column of A meets 32 different banks
THREAD_M, THREAD_N = 8, 8  # the tile of C that a thread computes
THREADS = BLOCK_M * BLOCK_N // (THREAD_M * THREAD_N)  # 256: each loads 4 floats of A and 4 of B
SIDE = 16  # threads of a block along each axis of C; a thread's rows and columns lie so far apart
LOADS = BLOCK_M * BLOCK_K // THREADS


@cuda.jit
def matmul_registers_1d(a, b, c):
    """C = A B, 8 rows of one column for each thread, in blocks of STRIP_THREADS threads.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N]. Beyond an edge a tile holds zeros.
    """
    tile_a = cuda.shared.array((STRIP_M, STRIP_K), np.float32)
    tile_b = cuda.shared.array((STRIP_K, STRIP_N), np.float32)
    sums = cuda.local.array(ROWS, np.float32)
    t = cuda.threadIdx.x
    top, left = cuda.blockIdx.y * STRIP_M, cuda.blockIdx.x * STRIP_N
    x, y = t % STRIP_N, t // STRIP_N * ROWS  # a warp: 32 columns, 8 rows
    a_row, a_k = t // STRIP_K, t % STRIP_K  # a warp loads 4 rows of 8
    b_k, b_column = t // STRIP_N, t % STRIP_N
    for i in range(ROWS):
        sums[i] = F32(0)
    for first in range(0, a.shape[1], STRIP_K):
        of_a, of_b = F32(0), F32(0)
        if top + a_row < a.shape[0] and first + a_k < a.shape[1]:
            of_a = a[top + a_row, first + a_k]
        if first + b_k < b.shape[0] and left + b_column < b.shape[1]:
            of_b = b[first + b_k, left + b_column]
        tile_a[a_row, a_k] = of_a
        tile_b[b_k, b_column] = of_b
        cuda.syncthreads()
        for k in range(STRIP_K):
            factor = tile_b[k, x]
            for i in range(ROWS):
                sums[i] += tile_a[y + i, k] * factor
        cuda.syncthreads()
    for i in range(ROWS):
        if top + y + i < c.shape[0] and left + x < c.shape[1]:
            c[top + y + i, left + x] = sums[i]


@cuda.jit(device=True, forceinline=True)
def outer_product(tile_a, tile_b, k, y, x, sums):
    """sums += column k of A times row k of B, for the 8 x 8 elements of this thread.

    tile_a: float32 [BLOCK_K, PADDED_M], shared: A's tile, transposed. tile_b: float32 [BLOCK_K,
    BLOCK_N], shared. y, x: the thread's first row and column. sums: float32 [8, 8], local.
    """
    column_of_a = cuda.local.array(THREAD_M, np.float32)
    row_of_b = cuda.local.array(THREAD_N, np.float32)
    for i in range(THREAD_M):
        column_of_a[i] = tile_a[k, y + i * SIDE]
    for j in range(THREAD_N):
        row_of_b[j] = tile_b[k, x + j * SIDE]
    for i in range(THREAD_M):  # 16 values loaded, 64 multiply-adds
        for j in range(THREAD_N):
            sums[i, j] += column_of_a[i] * row_of_b[j]


@cuda.jit(device=True, forceinline=True)
def store_tile(c, top, left, sums):
    """Write the 8 x 8 sums of a thread, as far as C goes. c: float32 [M, N]."""
    for i in range(THREAD_M):
        for j in range(THREAD_N):
            row, column = top + i * SIDE, left + j * SIDE
            if row < c.shape[0] and column < c.shape[1]:
                c[row, column] = sums[i, j]


@cuda.jit(max_registers=128)  # two blocks of 256 threads then fit on an SM
def matmul_registers_2d(a, b, c):
    """C = A B, 8 x 8 elements for each thread, in blocks of THREADS threads.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N]. Beyond an edge a tile holds zeros.
    """
    tile_a = cuda.shared.array((BLOCK_K, PADDED_M), np.float32)  # [k, row]
    tile_b = cuda.shared.array((BLOCK_K, BLOCK_N), np.float32)
    sums = cuda.local.array((THREAD_M, THREAD_N), np.float32)
    t = cuda.threadIdx.x
    top, left = cuda.blockIdx.y * BLOCK_M, cuda.blockIdx.x * BLOCK_N
    x, y = t % SIDE, t // SIDE  # rows y, y + 16, ...; columns x, x + 16, ...
    for i in range(THREAD_M):
        for j in range(THREAD_N):
            sums[i, j] = F32(0)
    for first in range(0, a.shape[1], BLOCK_K):
        for n in range(LOADS):
            row, k = t // BLOCK_K + n * (BLOCK_M // LOADS), t % BLOCK_K
            value = F32(0)
            if top + row < a.shape[0] and first + k < a.shape[1]:
                value = a[top + row, first + k]
            tile_a[k, row] = value
        for n in range(LOADS):
            k, column = t // BLOCK_N + n * (BLOCK_K // LOADS), t % BLOCK_N
            value = F32(0)
            if first + k < b.shape[0] and left + column < b.shape[1]:
                value = b[first + k, left + column]
            tile_b[k, column] = value
        cuda.syncthreads()
        for k in range(BLOCK_K):
            outer_product(tile_a, tile_b, k, y, x, sums)
        cuda.syncthreads()
    store_tile(c, top + y, left + x, sums)
