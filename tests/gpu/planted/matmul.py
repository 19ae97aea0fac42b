"""Answers to 3.5.a and 3.5.b: right ones that differ, and common mistakes."""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()
TILE = 16
PADDED = TILE + 1  # a name: Numba takes no sum for the shape of an array
F32 = np.float32


@cuda.jit(device=True)
def at(x, row, column):
    """x[row, column], or 0 outside."""
    if row < x.shape[0] and column < x.shape[1]:
        return x[row, column]
    return F32(0)


# --- 3.5.a naive ---------------------------------------------------------------------------------


@right("3.5.a")
@cuda.jit
def naive_by_return(left, right_, out):
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    if y >= left.shape[0] or x >= right_.shape[1]:
        return
    total = 0.0
    for k in range(right_.shape[0]):
        total += left[y, k] * right_[k, x]
    out[y, x] = total


@right("3.5.a")
@cuda.jit
def naive_backwards(a, b, c):
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        total = F32(0)
        k = a.shape[1] - 1
        while k >= 0:
            total += a[row, k] * b[k, column]
            k -= 1
        c[row, column] = total


@wrong("3.5.a", "each load of a warp touches 16.5 sectors on average where 2.5 suffice")
@cuda.jit
def naive_along_columns(a, b, c):
    x, y = cuda.grid(2)
    step_x, step_y = cuda.gridsize(2)
    for row in range(x, c.shape[0], step_x):
        for column in range(y, c.shape[1], step_y):
            total = F32(0)
            for k in range(a.shape[1]):
                total += a[row, k] * b[k, column]
            c[row, column] = total


@wrong("3.5.a", "c is full of NaN before the launch")
@cuda.jit
def naive_swapped(a, b, c):
    row, column = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        total = F32(0)
        for k in range(a.shape[1]):
            total += a[row, k] * b[k, column]
        c[row, column] = total


@wrong(
    "3.5.a", "the grid is made of whole blocks, and the last ones reach past the matrices' edges"
)
@cuda.jit
def naive_without_a_guard(a, b, c):
    column, row = cuda.grid(2)
    total = F32(0)
    for k in range(a.shape[1]):
        total += a[row, k] * b[k, column]
    c[row, column] = total


@wrong("3.5.a", "written more than once: c[0, 0] 9 times, by thread 0")
@cuda.jit
def naive_summing_in_c(a, b, c):
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = F32(0)
        for k in range(a.shape[1]):
            c[row, column] += a[row, k] * b[k, column]


@wrong("3.5.a", "c[row, column] is the sum over k of a[row, k] * b[k, column]")
@cuda.jit
def naive_elementwise(a, b, c):
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        total = F32(0)
        for k in range(a.shape[1] - 1):
            total += a[row, k] * b[k, column]
        c[row, column] = total


@wrong("3.5.a", "nan marks an element that no thread wrote")
@cuda.jit
def naive_adding_to_c(a, b, c):
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        for k in range(a.shape[1]):
            c[row, column] += a[row, k] * b[k, column]


# --- 3.5.b tiled ---------------------------------------------------------------------------------


@right("3.5.b")
@cuda.jit
def tiled_by_steps(a, b, c):
    left = cuda.shared.array((TILE, TILE), np.float32)
    above = cuda.shared.array((TILE, TILE), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    row, column = cuda.blockIdx.y * TILE + y, cuda.blockIdx.x * TILE + x
    total = F32(0)
    for step in range((a.shape[1] + TILE - 1) // TILE):
        k = step * TILE + x
        left[y, x] = a[row, k] if row < a.shape[0] and k < a.shape[1] else F32(0)
        k = step * TILE + y
        above[y, x] = b[k, column] if k < b.shape[0] and column < b.shape[1] else F32(0)
        cuda.syncthreads()
        for k in range(TILE):
            total += left[y, k] * above[k, x]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@right("3.5.b")
@cuda.jit
def tiled_as_long_as_there_is_something(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = 0.0
    first = 0
    while first < a.shape[1]:
        cuda.syncthreads()  # the last round is over
        if row < a.shape[0] and first + tx < a.shape[1]:
            tile_a[ty, tx] = a[row, first + tx]
        if first + ty < b.shape[0] and column < b.shape[1]:
            tile_b[ty, tx] = b[first + ty, column]
        cuda.syncthreads()
        if row < c.shape[0] and column < c.shape[1]:
            for k in range(min(TILE, a.shape[1] - first)):
                total += tile_a[ty, k] * tile_b[k, tx]
        first += TILE
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.b", "ask for 3,145,728 bytes of global memory where 196,608 suffice (16 times")
@cuda.jit
def tiled_not_at_all(a, b, c):
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        total = F32(0)
        for k in range(a.shape[1]):
            total += a[row, k] * b[k, column]
        c[row, column] = total


@wrong("3.5.b", "where 196,608 suffice (8.5 times as much)")
@cuda.jit
def tiled_only_a(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        tile_a[ty, tx] = F32(0)
        if row < a.shape[0] and first + tx < a.shape[1]:
            tile_a[ty, tx] = a[row, first + tx]
        cuda.syncthreads()
        if column < b.shape[1]:
            for k in range(min(TILE, a.shape[1] - first)):
                total += tile_a[ty, k] * b[first + k, column]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.b", "tile_a")
@cuda.jit
def tiled_without_the_first_barrier(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        of_a, of_b = F32(0), F32(0)
        if row < a.shape[0] and first + tx < a.shape[1]:
            of_a = a[row, first + tx]
        if first + ty < b.shape[0] and column < b.shape[1]:
            of_b = b[first + ty, column]
        tile_a[ty, tx], tile_b[ty, tx] = of_a, of_b
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.b", "lets no thread read a tile before it is whole")
@cuda.jit
def tiled_without_the_second_barrier(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        of_a, of_b = F32(0), F32(0)
        if row < a.shape[0] and first + tx < a.shape[1]:
            of_a = a[row, first + tx]
        if first + ty < b.shape[0] and column < b.shape[1]:
            of_b = b[first + ty, column]
        tile_a[ty, tx], tile_b[ty, tx] = of_a, of_b
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.b", "each shared load of a warp takes 4.5 wavefronts where 1 suffices")
@cuda.jit
def tiled_with_b_turned(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        of_a, of_b = F32(0), F32(0)
        if row < a.shape[0] and first + tx < a.shape[1]:
            of_a = a[row, first + tx]
        if first + ty < b.shape[0] and column < b.shape[1]:
            of_b = b[first + ty, column]
        tile_a[ty, tx], tile_b[tx, ty] = of_a, of_b
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[tx, k]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.b", "bytes are moved for the 196,608 that the threads ask for")
@cuda.jit
def tiled_loading_down_the_columns(a, b, c):
    tile_a = cuda.shared.array((TILE, PADDED), np.float32)
    tile_b = cuda.shared.array((TILE, PADDED), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    top, left = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        tile_a[tx, ty] = at(a, top + tx, first + ty)
        tile_b[tx, ty] = at(b, first + tx, left + ty)
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.b", "is outside")
@cuda.jit
def tiled_for_whole_tiles(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        tile_a[ty, tx] = a[row, first + tx]
        tile_b[ty, tx] = b[first + ty, column]
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    c[row, column] = total


@wrong("3.5.b", "what stands in the second tile beside the one column that is left?")
@cuda.jit
def tiled_rounding_k_down(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = F32(0)
    for step in range(a.shape[1] // TILE):
        of_a, of_b = F32(0), F32(0)
        if row < a.shape[0]:
            of_a = a[row, step * TILE + tx]
        if column < b.shape[1]:
            of_b = b[step * TILE + ty, column]
        tile_a[ty, tx], tile_b[ty, tx] = of_a, of_b
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total
