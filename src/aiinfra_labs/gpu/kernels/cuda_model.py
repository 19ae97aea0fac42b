"""The kernels of unit 3.2, the CUDA programming model: one axis, a grid-stride loop, two axes.

Constants are float32 where the arrays are: Numba types a plain Python float as float64, and a GPU
has fewer units for those, or far fewer.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

# Luma of ITU-R BT.601-7, section 2.5.1: how much red, green and blue add to brightness.
RED, GREEN, BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)


def blocks_for(n: int, threads: int) -> int:
    """How many blocks of `threads` threads cover n elements: n / threads, rounded up, at least 1.

    At least 1, because CUDA refuses a launch of no blocks.
    """
    return max(1, (n + threads - 1) // threads)


def blocks_for_image(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
    """Blocks along x and y for an image [rows, columns, ...]. block: threads along x and y."""
    return blocks_for(shape[1], block[0]), blocks_for(shape[0], block[1])


@cuda.jit
def vector_add(a, b, out):
    """out[i] = a[i] + b[i]: one thread, one element. Unit 3.2.

    a, b, out: [n], of one dtype. At least n threads; those beyond n do nothing.
    """
    i = cuda.grid(1)  # blockIdx.x * blockDim.x + threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def saxpy(alpha, x, y):
    """y[i] = alpha * x[i] + y[i], in place, with any number of threads. Unit 3.2.

    alpha: float32. x, y: float32 [n]. At each turn, neighbouring threads take neighbours.
    """
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = alpha * x[i] + y[i]


@cuda.jit
def grey(rgb, out):
    """out[row, column] = 0.299 R + 0.587 G + 0.114 B: one thread, one pixel. Unit 3.2.

    rgb: uint8 [rows, columns, 3]. out: float32 [rows, columns], 0 to 255.
    """
    column, row = cuda.grid(2)  # x runs along a row
    if row < out.shape[0] and column < out.shape[1]:
        pixel = rgb[row, column]
        out[row, column] = RED * pixel[0] + GREEN * pixel[1] + BLUE * pixel[2]


@cuda.jit
def blur(image, out):
    """out[row, column] = the mean of the 3 x 3 pixels around it that lie inside. Unit 3.2.

    image, out: float32 [rows, columns], two arrays: `image` is read while `out` is written.
    """
    column, row = cuda.grid(2)
    rows, columns = image.shape
    if row < rows and column < columns:
        total = np.float32(0)
        inside = 0
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            for c in range(max(column - 1, 0), min(column + 2, columns)):
                total += image[r, c]
                inside += 1
        out[row, column] = total / np.float32(inside)
