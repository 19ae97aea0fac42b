"""Answers to 3.4.a, b and c, the transposes: right ones that differ, wrong ones that are common."""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()

TILE = 32
PADDED = TILE + 1
PADDED_TWICE = TILE + 2
WORDS = TILE * PADDED


# --- 3.4.a a tile, 3.4.b without conflicts -------------------------------------------------------


@right("3.4.a")
@wrong("3.4.b", "each shared load of a warp takes 32 wavefronts where 1 suffices: 11,904 bank")
@cuda.jit
def turn(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@right("3.4.a")
@cuda.jit
def turn_on_the_way_in(matrix, turned):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    rows, columns = matrix.shape
    if x < columns and y < rows:
        tile[tx, ty] = matrix[y, x]
    cuda.syncthreads()
    x = cuda.blockIdx.y * cuda.blockDim.y + tx
    y = cuda.blockIdx.x * cuda.blockDim.x + ty
    if x < rows and y < columns:
        turned[y, x] = tile[ty, tx]


@right("3.4.a", "3.4.b")
@cuda.jit
def turn_padded(a, out):
    tile = cuda.shared.array((TILE, PADDED), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@right("3.4.b")
@cuda.jit
def turn_in_one_axis(a, out):
    tile = cuda.shared.array(WORDS, np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    value = np.float32(0)
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        value = a[top + ty, left + tx]
    tile[PADDED * ty + tx] = value
    cuda.syncthreads()
    value = tile[PADDED * tx + ty]
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = value


@right("3.4.b")
@cuda.jit
def turn_swizzled(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx ^ ty] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty ^ tx]


@wrong("3.4.a", "each store of a warp touches 32 sectors of 32 bytes where 4 suffice")
@wrong("3.4.b", "the kernel loads nothing from shared memory")
@cuda.jit
def turn_without_a_tile(a, out):
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        out[x, y] = a[y, x]


@wrong("3.4.a", "each load of a warp touches 32 sectors of 32 bytes where 4 suffice")
@cuda.jit
def turn_down_the_columns_of_a(a, out):
    x, y = cuda.grid(2)
    for row in range(y, out.shape[0], cuda.gridDim.y * cuda.blockDim.y):
        for column in range(x, out.shape[1], cuda.gridDim.x * cuda.blockDim.x):
            out[row, column] = a[column, row]


@wrong("3.4.a", "put cuda.syncthreads() between line")
@wrong("3.4.b", "and nothing says which comes first")
@cuda.jit
def turn_without_a_barrier(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.a", "put cuda.syncthreads() between line")
@cuda.jit
def turn_with_a_barrier_for_a_warp(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncwarp()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.a", "waits at syncthreads(), and 1023 never come to it")
@cuda.jit
def turn_with_a_barrier_in_the_if(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
        cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.a", "out is full of NaN before the launch")
@cuda.jit
def turn_each_tile_in_its_place(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        tile[ty, tx] = a[y, x]
    cuda.syncthreads()
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = tile[tx, ty]


@wrong("3.4.a", "out[x, y] = a[y, x]")
@wrong("3.4.b", "out[x, y] = a[y, x]")
@cuda.jit
def turn_the_tiles_only(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[ty, tx]


@wrong("3.4.a", "is outside the array")
@cuda.jit
def turn_without_a_guard(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.a", "2,048 of 6,144 elements are never written: out[64, 0] and 2,047 more")
@cuda.jit
def turn_guarded_by_the_wrong_shape(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < a.shape[0] and top + tx < a.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.a", "written more than once: out[0, 0] 2 times, by thread 0")
@cuda.jit
def turn_and_clear_first(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = 0
        out[left + ty, top + tx] += tile[tx, ty]


@wrong("3.4.b", "each shared load of a warp takes 2 wavefronts where 1 suffices")
@cuda.jit
def turn_padded_by_two(a, out):
    tile = cuda.shared.array((TILE, PADDED_TWICE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.b", "each shared load of a warp takes 32 wavefronts where 1 suffices")
@cuda.jit
def turn_padded_below(a, out):
    tile = cuda.shared.array((PADDED, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty]


@wrong("3.4.b", "each shared store of a warp takes 32 wavefronts where 1 suffices")
@cuda.jit
def turn_moving_the_conflict(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[tx, ty] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[ty, tx]


@wrong("3.4.b", "each store of a warp touches 32 sectors of 32 bytes where 4 suffice")
@cuda.jit
def turn_without_turning_the_store(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx] = a[top + ty, left + tx]
    cuda.syncthreads()
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        out[left + tx, top + ty] = tile[ty, tx]


# --- 3.4.c a swizzle -----------------------------------------------------------------------------


@right("3.4.c")
@cuda.jit
def swizzle_by_xor(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx ^ y] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, 8):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y ^ tx]


@right("3.4.c")
@cuda.jit
def swizzle_by_turning_rows(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx = cuda.threadIdx.x
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for k in range(4):
        y = cuda.threadIdx.y + k * cuda.blockDim.y
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, (tx + y) % TILE] = a[top + y, left + tx]
    cuda.syncthreads()
    for k in range(4):
        y = cuda.threadIdx.y + k * cuda.blockDim.y
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, (y + tx) % TILE]


@wrong("3.4.c", "a block takes 4,224 bytes of shared memory where 4,096 suffice")
@cuda.jit
def pad_all_the_same(a, out):
    tile = cuda.shared.array((TILE, PADDED), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, 8):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y]


@wrong("3.4.c", "each shared load of a warp takes 32 wavefronts where 1 suffices")
@cuda.jit
def no_swizzle(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, 8):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y]


@wrong("3.4.c", "each shared load of a warp takes 4 wavefronts where 1 suffices")
@cuda.jit
def swizzle_by_three_bits(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx ^ (y & 7)] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, 8):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y ^ (tx & 7)]


@wrong("3.4.c", "out[x, y] = a[y, x]")
@cuda.jit
def swizzle_on_one_side(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx ^ y] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, 8):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y]


@wrong("3.4.c", "out is full of NaN before the launch")
@cuda.jit
def swizzle_for_blocks_of_1024(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + ty < a.shape[0] and left + tx < a.shape[1]:
        tile[ty, tx ^ ty] = a[top + ty, left + tx]
    cuda.syncthreads()
    if left + ty < out.shape[0] and top + tx < out.shape[1]:
        out[left + ty, top + tx] = tile[tx, ty ^ tx]


@wrong("3.4.c", "and nothing says which comes first")
@cuda.jit
def swizzle_without_a_barrier(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx ^ y] = a[top + y, left + tx]
    for y in range(ty, TILE, 8):
        if left + y < out.shape[0] and top + tx < out.shape[1]:
            out[left + y, top + tx] = tile[tx, y ^ tx]


@wrong("3.4.c", "each store of a warp touches 32 sectors of 32 bytes where 4 suffice")
@cuda.jit
def swizzle_and_store_down_the_columns(a, out):
    tile = cuda.shared.array((TILE, TILE), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            tile[y, tx ^ y] = a[top + y, left + tx]
    cuda.syncthreads()
    for y in range(ty, TILE, 8):
        if top + y < a.shape[0] and left + tx < a.shape[1]:
            out[left + tx, top + y] = tile[y, tx ^ y]
