"""The same product with 8 weights to a load: two wrong turns, and the last step. Unit 3.8.

`packed` of `profiling.py` is seen as uint32 here: word w of a row holds its columns 8 w to 8 w + 7,
4 bits each, the first in the lowest. 32 threads have a row, as there.

A lane has 8 neighbouring columns, so at each moment the lanes of a warp want every eighth element
of x. In global memory each of those is in a sector of its own. In shared memory they lie where the
kernel puts them: the element of column 8 w + j at [j, w], so that lanes, which differ in w, read
neighbours. PITCH is 4 words more than a row needs: then the stores, which come with 8 neighbouring
j for each of 4 neighbouring w, meet 32 banks, too.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

from .profiling import GROUP, WHOLE_WARP

TILE = 1024  # elements of x that a block keeps at a time
WORDS = TILE // 8  # of a row of weights, against one tile
PITCH = WORDS + 4


@cuda.jit
def words_alone(packed, scales, x, out):
    """A wrong turn: fewer loads of weights, and each load of x touches 32 sectors. Unit 3.8.

    packed: uint32 [rows, words]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < out.size:  # the same for all lanes of a warp: they meet at each shuffle
        total = np.float32(0)
        for w in range(lane, x.size // 8, 32):
            word = packed[row, w]
            part = np.float32(0)
            for j in range(8):
                q = word >> (4 * j) & 15
                part += np.float32(q - 8) * x[8 * w + j]
            total += part * scales[row, 8 * w // GROUP]
        step = 16
        while step > 0:
            total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
            step //= 2
        if lane == 0:
            out[row] = total


@cuda.jit
def tile_in_order(packed, scales, x, out):
    """Half of the way: the block shares x, and reads it with 8 lanes to a bank. Unit 3.8.

    packed: uint32 [rows, words]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    tile = cuda.shared.array(TILE, np.float32)
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    total = np.float32(0)
    for start in range(0, x.size, TILE):
        size = min(TILE, x.size - start)
        for k in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            tile[k] = x[start + k]
        cuda.syncthreads()
        if row < out.size:
            for w in range(lane, size // 8, 32):
                word = packed[row, start // 8 + w]
                part = np.float32(0)
                for j in range(8):
                    q = word >> (4 * j) & 15
                    part += np.float32(q - 8) * tile[8 * w + j]
                total += part * scales[row, (start + 8 * w) // GROUP]
        cuda.syncthreads()  # all have read the tile, before the next one overwrites it
    step = 16
    while step > 0:
        total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
        step //= 2
    if lane == 0 and row < out.size:
        out[row] = total


@cuda.jit
def words_and_tile(packed, scales, x, out):
    """8 weights to a load, and x where no two lanes meet on a bank. Unit 3.8.

    packed: uint32 [rows, words]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    tile = cuda.shared.array((8, PITCH), np.float32)
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    total = np.float32(0)
    for start in range(0, x.size, TILE):
        size = min(TILE, x.size - start)
        for k in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            tile[k % 8, k // 8] = x[start + k]
        cuda.syncthreads()
        if row < out.size:
            for w in range(lane, size // 8, 32):
                word = packed[row, start // 8 + w]
                part = np.float32(0)
                for j in range(8):
                    q = word >> (4 * j) & 15
                    part += np.float32(q - 8) * tile[j, w]
                total += part * scales[row, (start + 8 * w) // GROUP]
        cuda.syncthreads()  # all have read the tile, before the next one overwrites it
    step = 16
    while step > 0:
        total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
        step //= 2
    if lane == 0 and row < out.size:
        out[row] = total
