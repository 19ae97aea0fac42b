"""Transposing a matrix: five ways to move the same bytes. Unit 3.4.

A warp's threads are neighbours along x. The naive kernel reads along rows and so must write along
columns: 32 sectors a store. The tiled ones write rows, too, and turn the tile in shared memory.
There a column of 32 floats lies in one bank, unless a pad of one float shifts each row by a bank,
or a swizzle puts column x of row y in place x ^ y. All are launched with blocks of TILE x TILE
threads that cover the matrix, the last with TILE x ROWS threads for each tile.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

TILE = 32  # a tile's row is what one warp moves at once
PADDED = TILE + 1  # Numba takes a name for the length of a shared array, and no arithmetic
ROWS = 8  # that a block of `transpose_32x8` moves at once


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
    """As `transpose_tiled`, with rows of PADDED floats: a column lies in 32 different banks.

    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, PADDED), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@cuda.jit
def transpose_swizzled(a, out):
    """As `transpose_tiled`, with element (y, x) of the tile kept in column x ^ y.

    In a column, y runs through 32 rows and x ^ y through 32 banks, and no float is spent on a pad.
    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx ^ ty] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty ^ tx]


@cuda.jit
def transpose_32x8(a, out):
    """As `transpose_swizzled`, with blocks of TILE x ROWS threads: each moves TILE / ROWS elements.

    Fewer warps wait at each barrier, and a thread works out its place once for four elements.
    a: float32 [rows, columns]. out: float32 [columns, rows].
    """
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, ROWS):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx ^ y] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, ROWS):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y ^ tx]
