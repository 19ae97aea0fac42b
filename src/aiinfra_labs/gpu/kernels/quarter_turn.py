"""Turning a picture by a quarter, to the right: three ways to move the same bytes. Unit 3.4.

Row y of the picture becomes a column. So one of the two accesses of a thread that stores what it
has loaded runs along rows, and the other one runs down a column: 32 sectors a request. The tiled
kernels hand the elements from thread to thread in shared memory, and both accesses run along rows.
A transpose has the same problem, and the same way out (`transpose.py`).

Launched with blocks of TILE x TILE threads, one for each tile: rows and columns are multiples of
TILE.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

TILE = 32  # a tile's row is what one warp moves at once
PADDED = TILE + 1  # Numba takes a name for the length of a shared array, and no arithmetic


@cuda.jit
def turn_naive(a, out):
    """out[x, last - y] = a[y, x]: each warp's store goes down a column of `out`.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    x, y = cuda.grid(2)
    last = a.shape[0] - 1
    out[x, last - y] = a[y, x]


@cuda.jit
def turn_tiled(a, out):
    """The block turns its tile in shared memory; both global accesses run along rows.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    last = a.shape[0] - 1
    tile[ty, tx] = a[top + ty, left + tx]  # a warp: along a row of a
    cuda.syncthreads()
    out[left + ty, last - top - tx] = tile[tx, ty]  # along a row of out


@cuda.jit
def turn_padded(a, out):
    """As `turn_tiled`, with rows of PADDED words: a column of the tile lies in 32 banks.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, PADDED), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    last = a.shape[0] - 1
    tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    out[left + ty, last - top - tx] = tile[tx, ty]
