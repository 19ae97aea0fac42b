"""Transposing a matrix: three ways to move the same bytes. Unit 3.4.

A warp's threads are neighbours along x. The naive kernel reads along rows and so must write along
columns: 32 sectors a store. The tiled ones write rows, too, and turn the tile in shared memory.
There a column of 32 floats lies in one bank, unless a pad of one float shifts each row by a bank.
All are launched with blocks of TILE x TILE threads that cover the matrix.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

TILE = 32  # a tile's row is what one warp moves at once


@cuda.jit
def transpose_naive(a, out):
    """out[x, y] = a[y, x]: each warp's store strides over rows of `out`.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        out[x, y] = a[y, x]


@cuda.jit
def transpose_tiled(a, out):
    """The block turns its tile in shared memory; both global accesses run along rows.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]  # a column of the tile: 32 words of one bank


@cuda.jit
def transpose_padded(a, out):
    """As `transpose_tiled`, with rows of TILE + 1 floats: a column lies in 32 different banks.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, TILE + 1), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]
