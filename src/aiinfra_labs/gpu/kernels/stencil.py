"""Stencils: each output is the mean of a neighbourhood, which neighbours share. Unit 3.4.

The block loads its elements and a halo around them into shared memory once; each element is then
read from there once for each neighbour that wants it.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

THREADS = 128
RADIUS = 3
WIDTH = np.float32(2 * RADIUS + 1)
SPAN = THREADS + 2 * RADIUS  # of the tile; Numba takes a name here, and no arithmetic
BLOCK_X, BLOCK_Y = 32, 8  # threads of a block of `blur_shared`
TILE_X, TILE_Y = BLOCK_X + 2, BLOCK_Y + 2  # its pixels, and one more on every side


@cuda.jit
def stencil_mean(x, out):
    """out[i] = the mean of x[i - RADIUS] to x[i + RADIUS], with zeros beyond the ends.

    x, out: float32 [n]. Launched with blocks of THREADS threads that cover n.
    """
    tile = cuda.shared.array(SPAN, np.float32)
    i, thread = cuda.grid(1), cuda.threadIdx.x
    first = cuda.blockIdx.x * THREADS - RADIUS  # the element at the tile's beginning
    for t in range(thread, SPAN, THREADS):
        value = np.float32(0)
        if 0 <= first + t < x.size:
            value = x[first + t]
        tile[t] = value
    cuda.syncthreads()
    if i < out.size:
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[thread + k]
        out[i] = total / WIDTH


@cuda.jit
def blur_shared(image, out):
    """out[row, column] = the mean of the 3 x 3 pixels around it that lie inside, as unit 3.2's.

    image, out: float32 [rows, columns]. Launched with blocks of BLOCK_X x BLOCK_Y threads that
    cover the image. Equal to `cuda_model.blur` to the last bit: a pixel that is outside adds 0.
    """
    tile = cuda.shared.array((TILE_Y, TILE_X), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    rows, columns = image.shape
    top, left = cuda.blockIdx.y * BLOCK_Y - 1, cuda.blockIdx.x * BLOCK_X - 1  # of the tile
    for t in range(ty * BLOCK_X + tx, TILE_Y * TILE_X, BLOCK_Y * BLOCK_X):
        y, x = t // TILE_X, t % TILE_X
        pixel = np.float32(0)
        if 0 <= top + y < rows and 0 <= left + x < columns:
            pixel = image[top + y, left + x]
        tile[y, x] = pixel
    cuda.syncthreads()
    column, row = cuda.grid(2)
    if row < rows and column < columns:
        total = np.float32(0)
        for y in range(3):
            for x in range(3):
                total += tile[ty + y, tx + x]
        down = min(row + 2, rows) - max(row - 1, 0)  # rows of the nine pixels that lie inside
        across = min(column + 2, columns) - max(column - 1, 0)
        out[row, column] = total / np.float32(down * across)
