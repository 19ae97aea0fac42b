"""Softmax with one reading of the row for both maximum and sum, one warp a row. Unit 3.6.

Each lane keeps the largest value that it has met and the sum of exp(x - largest). Where a larger
value comes, the sum is rescaled to it: exp(x - old) = exp(x - new) exp(new - old). Two such pairs
merge in the same way, so that lanes can be combined in any order (Milakov and Gimelshein, "Online
normalizer calculation for softmax", arXiv:1805.02867).

A value may be -inf (masked): its exponential is 0. A row with nothing else has no softmax; NumPy's
formula gives nan there, these kernels 0, which is what attention to nothing should add.
"""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda

from .reduction import WHOLE_WARP

WARPS = 4  # of a block: rows that it takes
THREADS = WARPS * 32
MASKED = np.float32(-math.inf)


@cuda.jit(device=True)
def decay(old, new):
    """exp(old - new), what a sum relative to `old` is worth relative to `new` >= old.

    0 where `old` is -inf, also if `new` is: there the difference would be nan.
    """
    if old == MASKED:
        return np.float32(0)
    return math.exp(old - new)


@cuda.jit(device=True)
def warp_max(value):
    """The largest value over the 32 lanes of a warp; every lane gets it, and every lane calls."""
    step = 16
    while step > 0:
        value = max(value, cuda.shfl_xor_sync(WHOLE_WARP, value, step))
        step //= 2
    return value


@cuda.jit(device=True)
def row_maximum_and_sum(x, row):
    """(largest, sum of exp(x[row] - largest)), the same in all lanes of the warp that calls.

    Each element is read once. x: float32 [rows, columns].
    """
    largest, total = MASKED, np.float32(0)
    for column in range(cuda.threadIdx.x % 32, x.shape[1], 32):
        value = x[row, column]
        new = max(largest, value)
        total = total * decay(largest, new) + decay(value, new)
        largest = new
    step = 16
    while step > 0:
        other_largest = cuda.shfl_xor_sync(WHOLE_WARP, largest, step)
        other_total = cuda.shfl_xor_sync(WHOLE_WARP, total, step)
        new = max(largest, other_largest)
        total = total * decay(largest, new) + other_total * decay(other_largest, new)
        largest = new
        step //= 2
    return largest, total


@cuda.jit
def online_softmax_rows(x, out):
    """out[row] = softmax(x[row]), with two readings of x where `softmax_rows` has three.

    x, out: float32 [rows, columns]. Launched with blocks of THREADS threads, WARPS rows each.
    """
    row = cuda.blockIdx.x * WARPS + cuda.threadIdx.x // 32
    if row >= x.shape[0]:
        return
    largest, total = row_maximum_and_sum(x, row)
    for column in range(cuda.threadIdx.x % 32, x.shape[1], 32):
        weight = decay(x[row, column], largest)
        if total > np.float32(0):
            weight /= total
        out[row, column] = weight


@cuda.jit
def logsumexp_rows(x, out):
    """out[row] = log(sum of exp(x[row])), -inf where all of the row is; one reading of x.

    x: float32 [rows, columns]. out: float32 [rows]. Launched with blocks of THREADS threads, WARPS
    rows each.
    """
    row = cuda.blockIdx.x * WARPS + cuda.threadIdx.x // 32
    if row >= x.shape[0]:
        return
    largest, total = row_maximum_and_sum(x, row)
    if cuda.threadIdx.x % 32 == 0:
        if total > np.float32(0):
            out[row] = largest + math.log(total)
        else:
            out[row] = MASKED
