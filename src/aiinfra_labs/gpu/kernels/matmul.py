"""Multiplying matrices: naive, and with tiles in shared memory. Unit 3.5.

The naive kernel loads 2 floats for each multiply-add. A block of TILE x TILE threads that shares
its tiles loads each float of A and B once for TILE threads, so global traffic falls by TILE.
Both are launched with blocks of TILE x TILE threads that cover C, and add products in the order
of k in float32, so that their results are equal.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

TILE = 16


@cuda.jit
def matmul_naive(a, b, c):
    """C = A B, one thread an element of C.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N].
    """
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        total = np.float32(0)
        for k in range(a.shape[1]):
            total += a[row, k] * b[k, column]
        c[row, column] = total


@cuda.jit
def matmul_tiled(a, b, c):
    """C = A B: the block goes along K, one tile of A and one of B at a time.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N]. Beyond an edge a tile holds zeros.
    """
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    rows, columns, depth = a.shape[0], b.shape[1], a.shape[1]
    total = np.float32(0)
    for first in range(0, depth, TILE):
        tile_a[ty, tx] = np.float32(0)
        tile_b[ty, tx] = np.float32(0)
        if row < rows and first + tx < depth:
            tile_a[ty, tx] = a[row, first + tx]
        if first + ty < depth and column < columns:
            tile_b[ty, tx] = b[first + ty, column]
        cuda.syncthreads()  # the tiles are whole
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()  # and were read, before the next round overwrites them
    if row < rows and column < columns:
        c[row, column] = total
