"""Answers to 3.5.c and 3.5.d: right ones that differ, and common mistakes."""

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


# --- 3.5.c registers -----------------------------------------------------------------------------


@right("3.5.c")
@cuda.jit
def fours_with_a_turned(a, b, c):
    tile_a = cuda.shared.array((TILE, 68), np.float32)  # [k, row], rows padded by 4
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    sums = cuda.local.array((4, 4), np.float32)
    of_a = cuda.local.array(4, np.float32)
    t = cuda.threadIdx.y * TILE + cuda.threadIdx.x
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    x, y = t % 16, t // 16
    for i in range(4):
        for j in range(4):
            sums[i, j] = F32(0)
    for first in range(0, a.shape[1], TILE):
        for n in range(4):
            tile_a[t % 16, t // 16 + 16 * n] = at(a, top + t // 16 + 16 * n, first + t % 16)
            tile_b[t // 64 + 4 * n, t % 64] = at(b, first + t // 64 + 4 * n, left + t % 64)
        cuda.syncthreads()
        for k in range(TILE):
            for i in range(4):
                of_a[i] = tile_a[k, y + 16 * i]
            for j in range(4):
                of_b = tile_b[k, x + 16 * j]
                for i in range(4):
                    sums[i, j] += of_a[i] * of_b
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            if top + y + 16 * i < c.shape[0] and left + x + 16 * j < c.shape[1]:
                c[top + y + 16 * i, left + x + 16 * j] = sums[i, j]


@right("3.5.c")
@cuda.jit
def fours_as_two_rows_of_eight(a, b, c):
    """2 rows of 8 sums: 10 loads for 16 multiply-adds."""
    tile_a = cuda.shared.array((64, PADDED), np.float32)  # a column meets 32 different banks
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    first_row = cuda.local.array(8, np.float32)
    second_row = cuda.local.array(8, np.float32)
    t = cuda.threadIdx.y * TILE + cuda.threadIdx.x
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    x, y = t % 8, t // 8  # 8 columns apart by 8, 2 rows apart by 32
    for j in range(8):
        first_row[j], second_row[j] = F32(0), F32(0)
    for first in range(0, a.shape[1], TILE):
        for n in range(t, 64 * TILE, 256):
            tile_a[n // TILE, n % TILE] = at(a, top + n // TILE, first + n % TILE)
            tile_b[n // 64, n % 64] = at(b, first + n // 64, left + n % 64)
        cuda.syncthreads()
        for k in range(TILE):
            upper, lower = tile_a[y, k], tile_a[y + 32, k]
            for j in range(8):
                factor = tile_b[k, x + 8 * j]
                first_row[j] += upper * factor
                second_row[j] += lower * factor
        cuda.syncthreads()
    for j in range(8):
        if left + x + 8 * j < c.shape[1]:
            if top + y < c.shape[0]:
                c[top + y, left + x + 8 * j] = first_row[j]
            if top + y + 32 < c.shape[0]:
                c[top + y + 32, left + x + 8 * j] = second_row[j]


@wrong("3.5.c", "load the values that several multiply-adds need once, before them")
@cuda.jit
def fours_loading_for_each_product(a, b, c):
    tile_a = cuda.shared.array((64, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    sums = cuda.local.array((4, 4), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    for i in range(4):
        for j in range(4):
            sums[i, j] = F32(0)
    for first in range(0, a.shape[1], TILE):
        for n in range(4):
            tile_a[ty + 16 * n, tx] = at(a, top + ty + 16 * n, first + tx)
            tile_b[ty, tx + 16 * n] = at(b, first + ty, left + tx + 16 * n)
        cuda.syncthreads()
        for k in range(TILE):
            for i in range(4):
                for j in range(4):
                    sums[i, j] += tile_a[ty + 16 * i, k] * tile_b[k, tx + 16 * j]
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            if top + ty + 16 * i < c.shape[0] and left + tx + 16 * j < c.shape[1]:
                c[top + ty + 16 * i, left + tx + 16 * j] = sums[i, j]


@wrong("3.5.c", "let the lanes of a warp read neighbouring words")
@cuda.jit
def fours_side_by_side(a, b, c):
    tile_a = cuda.shared.array((64, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    sums = cuda.local.array((4, 4), np.float32)
    of_a = cuda.local.array(4, np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    for i in range(4):
        for j in range(4):
            sums[i, j] = F32(0)
    for first in range(0, a.shape[1], TILE):
        for n in range(4):
            tile_a[ty + 16 * n, tx] = at(a, top + ty + 16 * n, first + tx)
            tile_b[ty, tx + 16 * n] = at(b, first + ty, left + tx + 16 * n)
        cuda.syncthreads()
        for k in range(TILE):
            for i in range(4):
                of_a[i] = tile_a[ty * 4 + i, k]
            for j in range(4):
                of_b = tile_b[k, tx * 4 + j]
                for i in range(4):
                    sums[i, j] += of_a[i] * of_b
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            if top + ty * 4 + i < c.shape[0] and left + tx * 4 + j < c.shape[1]:
                c[top + ty * 4 + i, left + tx * 4 + j] = sums[i, j]


@wrong("3.5.c", "whole rows or columns point at where a thread's 16 elements lie")
@cuda.jit
def fours_one_square_only(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    row, column = cuda.blockIdx.y * 64 + ty, cuda.blockIdx.x * 64 + tx
    total = F32(0)
    for first in range(0, a.shape[1], TILE):
        tile_a[ty, tx], tile_b[ty, tx] = at(a, row, first + tx), at(b, first + ty, column)
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.c", "c[row, column] is the sum over k")
@cuda.jit
def fours_rounding_k_down(a, b, c):
    tile_a = cuda.shared.array((64, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    sums = cuda.local.array((4, 4), np.float32)
    of_a = cuda.local.array(4, np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    for i in range(4):
        for j in range(4):
            sums[i, j] = F32(0)
    for step in range(a.shape[1] // TILE):
        for n in range(4):
            tile_a[ty + 16 * n, tx] = at(a, top + ty + 16 * n, step * TILE + tx)
            tile_b[ty, tx + 16 * n] = at(b, step * TILE + ty, left + tx + 16 * n)
        cuda.syncthreads()
        for k in range(TILE):
            for i in range(4):
                of_a[i] = tile_a[ty + 16 * i, k]
            for j in range(4):
                of_b = tile_b[k, tx + 16 * j]
                for i in range(4):
                    sums[i, j] += of_a[i] * of_b
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            if top + ty + 16 * i < c.shape[0] and left + tx + 16 * j < c.shape[1]:
                c[top + ty + 16 * i, left + tx + 16 * j] = sums[i, j]


@wrong("3.5.c", "bytes of global memory where")
@cuda.jit
def fours_square_by_square(a, b, c):
    """The tiled kernel 16 times over: right, and as much traffic as before."""
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    for i in range(4):
        for j in range(4):
            row = cuda.blockIdx.y * 64 + 16 * i + ty
            column = cuda.blockIdx.x * 64 + 16 * j + tx
            total = F32(0)
            for first in range(0, a.shape[1], TILE):
                tile_a[ty, tx], tile_b[ty, tx] = at(a, row, first + tx), at(b, first + ty, column)
                cuda.syncthreads()
                for k in range(TILE):
                    total += tile_a[ty, k] * tile_b[k, tx]
                cuda.syncthreads()
            if row < c.shape[0] and column < c.shape[1]:
                c[row, column] = total


@wrong("3.5.c", "lets no thread read a tile before it is whole")
@cuda.jit
def fours_with_one_barrier(a, b, c):
    tile_a = cuda.shared.array((64, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    sums = cuda.local.array((4, 4), np.float32)
    of_a = cuda.local.array(4, np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    for i in range(4):
        for j in range(4):
            sums[i, j] = F32(0)
    for first in range(0, a.shape[1], TILE):
        for n in range(4):
            tile_a[ty + 16 * n, tx] = at(a, top + ty + 16 * n, first + tx)
            tile_b[ty, tx + 16 * n] = at(b, first + ty, left + tx + 16 * n)
        cuda.syncthreads()
        for k in range(TILE):
            for i in range(4):
                of_a[i] = tile_a[ty + 16 * i, k]
            for j in range(4):
                of_b = tile_b[k, tx + 16 * j]
                for i in range(4):
                    sums[i, j] += of_a[i] * of_b
    for i in range(4):
        for j in range(4):
            if top + ty + 16 * i < c.shape[0] and left + tx + 16 * j < c.shape[1]:
                c[top + ty + 16 * i, left + tx + 16 * j] = sums[i, j]


@wrong("3.5.c", "lets no thread read a tile before it is whole")
@cuda.jit
def fours_with_sums_that_nobody_set(a, b, c):
    tile_a = cuda.shared.array((64, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, 64), np.float32)
    sums = cuda.local.array((4, 4), np.float32)
    of_a = cuda.local.array(4, np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    top, left = cuda.blockIdx.y * 64, cuda.blockIdx.x * 64
    for first in range(0, a.shape[1], TILE):
        for n in range(4):
            tile_a[ty + 16 * n, tx] = at(a, top + ty + 16 * n, first + tx)
            tile_b[ty, tx + 16 * n] = at(b, first + ty, left + tx + 16 * n)
        cuda.syncthreads()
        for k in range(TILE):
            for i in range(4):
                of_a[i] = tile_a[ty + 16 * i, k]
            for j in range(4):
                of_b = tile_b[k, tx + 16 * j]
                for i in range(4):
                    sums[i, j] += of_a[i] * of_b
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            if top + ty + 16 * i < c.shape[0] and left + tx + 16 * j < c.shape[1]:
                c[top + ty + 16 * i, left + tx + 16 * j] = sums[i, j]


# --- 3.5.d two buffers ---------------------------------------------------------------------------


@right("3.5.d")
@cuda.jit
def twice_with_the_barrier_at_the_end(a, b, c):
    tile_a = cuda.shared.array((2, TILE, TILE), np.float32)
    tile_b = cuda.shared.array((2, TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    steps = (a.shape[1] + TILE - 1) // TILE
    tile_a[0, ty, tx], tile_b[0, ty, tx] = at(a, row, tx), at(b, ty, column)
    cuda.syncthreads()
    total = F32(0)
    of_a, of_b = F32(0), F32(0)
    for step in range(steps):
        if step + 1 < steps:
            of_a = at(a, row, (step + 1) * TILE + tx)
            of_b = at(b, (step + 1) * TILE + ty, column)
        for k in range(TILE):
            total += tile_a[step % 2, ty, k] * tile_b[step % 2, k, tx]
        if step + 1 < steps:
            tile_a[(step + 1) % 2, ty, tx], tile_b[(step + 1) % 2, ty, tx] = of_a, of_b
            cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@right("3.5.d")
@cuda.jit
def twice_in_four_arrays(a, b, c):
    even_a = cuda.shared.array((TILE, TILE), np.float32)
    even_b = cuda.shared.array((TILE, TILE), np.float32)
    odd_a = cuda.shared.array((TILE, TILE), np.float32)
    odd_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    of_a, of_b, total = at(a, row, tx), at(b, ty, column), F32(0)
    for first in range(0, a.shape[1], 2 * TILE):
        even_a[ty, tx], even_b[ty, tx] = of_a, of_b
        cuda.syncthreads()
        of_a, of_b = at(a, row, first + TILE + tx), at(b, first + TILE + ty, column)
        for k in range(TILE):
            total += even_a[ty, k] * even_b[k, tx]
        if first + TILE < a.shape[1]:
            odd_a[ty, tx], odd_b[ty, tx] = of_a, of_b
            cuda.syncthreads()
            of_a, of_b = at(a, row, first + 2 * TILE + tx), at(b, first + 2 * TILE + ty, column)
            for k in range(TILE):
                total += odd_a[ty, k] * odd_b[k, tx]
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.d", "12 barriers in 4 steps, where 4 suffice")
@cuda.jit
def twice_with_three_barriers(a, b, c):
    tile_a = cuda.shared.array((2, TILE, TILE), np.float32)
    tile_b = cuda.shared.array((2, TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    of_a, of_b, total, now = at(a, row, tx), at(b, ty, column), F32(0), 0
    for first in range(0, a.shape[1], TILE):
        cuda.syncthreads()
        tile_a[now, ty, tx], tile_b[now, ty, tx] = of_a, of_b
        cuda.syncthreads()
        of_a, of_b = at(a, row, first + TILE + tx), at(b, first + TILE + ty, column)
        for k in range(TILE):
            total += tile_a[now, ty, k] * tile_b[now, k, tx]
        cuda.syncthreads()
        now = 1 - now
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.d", "0 loads from the tiles between asking for the next tile and storing it")
@cuda.jit
def twice_storing_at_once(a, b, c):
    tile_a = cuda.shared.array((2, TILE, TILE), np.float32)
    tile_b = cuda.shared.array((2, TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total, now = F32(0), 0
    tile_a[0, ty, tx], tile_b[0, ty, tx] = at(a, row, tx), at(b, ty, column)
    cuda.syncthreads()
    for first in range(0, a.shape[1], TILE):
        if first + TILE < a.shape[1]:
            tile_a[1 - now, ty, tx] = at(a, row, first + TILE + tx)
            tile_b[1 - now, ty, tx] = at(b, first + TILE + ty, column)
        for k in range(TILE):
            total += tile_a[now, ty, k] * tile_b[now, k, tx]
        cuda.syncthreads()
        now = 1 - now
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.d", "lets no thread read a tile before it is whole")
@cuda.jit
def twice_with_one_buffer(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), np.float32)
    tile_b = cuda.shared.array((TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    of_a, of_b, total = at(a, row, tx), at(b, ty, column), F32(0)
    for first in range(0, a.shape[1], TILE):
        tile_a[ty, tx], tile_b[ty, tx] = of_a, of_b
        cuda.syncthreads()
        of_a, of_b = at(a, row, first + TILE + tx), at(b, first + TILE + ty, column)
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.d", "count the steps for K = 16, 17 and 48")
@cuda.jit
def twice_without_the_last_step(a, b, c):
    tile_a = cuda.shared.array((2, TILE, TILE), np.float32)
    tile_b = cuda.shared.array((2, TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    of_a, of_b, total, now = at(a, row, tx), at(b, ty, column), F32(0), 0
    for first in range(TILE, a.shape[1], TILE):
        tile_a[now, ty, tx], tile_b[now, ty, tx] = of_a, of_b
        cuda.syncthreads()
        of_a, of_b = at(a, row, first + tx), at(b, first + ty, column)
        for k in range(TILE):
            total += tile_a[now, ty, k] * tile_b[now, k, tx]
        now = 1 - now
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.d", "bytes of global memory where")
@cuda.jit
def twice_loading_every_tile_twice(a, b, c):
    tile_a = cuda.shared.array((2, TILE, TILE), np.float32)
    tile_b = cuda.shared.array((2, TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total, now = F32(0), 0
    for first in range(0, a.shape[1], TILE):
        of_a, of_b = at(a, row, first + tx), at(b, first + ty, column)
        tile_a[now, ty, tx], tile_b[now, ty, tx] = of_a, of_b
        cuda.syncthreads()
        of_a, of_b = at(a, row, first + TILE + tx), at(b, first + TILE + ty, column)
        for k in range(TILE):
            total += tile_a[now, ty, k] * tile_b[now, k, tx]
        now = 1 - now
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@wrong("3.5.d", "asks for the next tile before")
@cuda.jit
def twice_asking_after_the_maths(a, b, c):
    tile_a = cuda.shared.array((2, TILE, TILE), np.float32)
    tile_b = cuda.shared.array((2, TILE, TILE), np.float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total, now = F32(0), 0
    for first in range(0, a.shape[1], TILE):
        tile_a[now, ty, tx] = at(a, row, first + tx)
        tile_b[now, ty, tx] = at(b, first + ty, column)
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[now, ty, k] * tile_b[now, k, tx]
        now = 1 - now
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total
