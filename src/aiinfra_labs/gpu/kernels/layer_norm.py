"""Layer norm and RMS norm of each row, one warp a row. Unit 3.6.

Layer norm: (x - mean) / sqrt(variance + epsilon) * weight + bias, with the variance over all
columns, not all but one (Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450). RMS norm
leaves out mean and bias: x / sqrt(mean of squares + epsilon) * weight (Zhang and Sennrich,
arXiv:1910.07467).

The two-pass kernel reads a row for the mean, again for the variance, again to normalise: three
times. Welford's reads it for both at once. Mean of squares less square of mean would read it as
often, and cancels: where the mean is 1,000 times the deviation, float32 has no digit of it left.
(Welford, Technometrics 4 (1962), 419; to merge two parts: Chan, Golub and LeVeque, 1979.)
"""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda

from .reduction import WHOLE_WARP, warp_sum

WARPS = 4  # of a block: rows that it normalises
THREADS = WARPS * 32
EPSILON = np.float32(1e-5)


@cuda.jit
def layer_norm_two_pass(x, weight, bias, out):
    """out[row] = layer norm of x[row], from the mean and then the deviations from it.

    x, out: float32 [rows, columns]. weight, bias: float32 [columns]. Launched with blocks of
    THREADS threads, WARPS rows each.
    """
    row = cuda.blockIdx.x * WARPS + cuda.threadIdx.x // 32
    lane, columns = cuda.threadIdx.x % 32, x.shape[1]
    if row >= x.shape[0]:  # whole warps leave: no lane waits for another that has gone
        return
    total = np.float32(0)
    for column in range(lane, columns, 32):
        total += x[row, column]
    mean = warp_sum(total) / np.float32(columns)

    squares = np.float32(0)
    for column in range(lane, columns, 32):
        deviation = x[row, column] - mean
        squares += deviation * deviation
    variance = warp_sum(squares) / np.float32(columns)

    scale = np.float32(1) / math.sqrt(variance + EPSILON)
    for column in range(lane, columns, 32):
        out[row, column] = (x[row, column] - mean) * scale * weight[column] + bias[column]


@cuda.jit(device=True)
def mean_and_squares(x, row):
    """(mean, sum of squared deviations from it) of x[row], the same in all lanes of the warp.

    Each element is read once. x: float32 [rows, columns]. All 32 lanes call it.
    """
    count, mean, squares = np.float32(0), np.float32(0), np.float32(0)
    for column in range(cuda.threadIdx.x % 32, x.shape[1], 32):
        value = x[row, column]
        count += np.float32(1)
        before = value - mean
        mean += before / count
        squares += before * (value - mean)  # from the old mean, from the new

    step = 16  # merge with the lane `step` away: both lanes end alike
    while step > 0:
        other_count = cuda.shfl_xor_sync(WHOLE_WARP, count, step)
        other_mean = cuda.shfl_xor_sync(WHOLE_WARP, mean, step)
        other_squares = cuda.shfl_xor_sync(WHOLE_WARP, squares, step)
        both = count + other_count
        if both > np.float32(0):  # a short row leaves lanes with nothing
            apart = other_mean - mean
            share = other_count / both
            mean += apart * share
            squares += other_squares + apart * apart * count * share
        count = both
        step //= 2
    return mean, squares


@cuda.jit
def layer_norm_welford(x, weight, bias, out):
    """The same with mean and squares from one reading of the row.

    x, out: float32 [rows, columns]. weight, bias: float32 [columns]. Launched with blocks of
    THREADS threads, WARPS rows each.
    """
    row = cuda.blockIdx.x * WARPS + cuda.threadIdx.x // 32
    lane, columns = cuda.threadIdx.x % 32, x.shape[1]
    if row >= x.shape[0]:
        return
    mean, squares = mean_and_squares(x, row)
    scale = np.float32(1) / math.sqrt(squares / np.float32(columns) + EPSILON)
    for column in range(lane, columns, 32):
        out[row, column] = (x[row, column] - mean) * scale * weight[column] + bias[column]


@cuda.jit
def rms_norm(x, weight, out):
    """out[row] = x[row] / sqrt(mean of squares + epsilon) * weight.

    x, out: float32 [rows, columns]. weight: float32 [columns]. Launched with blocks of THREADS
    threads, WARPS rows each.
    """
    row = cuda.blockIdx.x * WARPS + cuda.threadIdx.x // 32
    lane, columns = cuda.threadIdx.x % 32, x.shape[1]
    if row >= x.shape[0]:
        return
    squares = np.float32(0)
    for column in range(lane, columns, 32):
        value = x[row, column]
        squares += value * value
    scale = np.float32(1) / math.sqrt(warp_sum(squares) / np.float32(columns) + EPSILON)
    for column in range(lane, columns, 32):
        out[row, column] = x[row, column] * scale * weight[column]
