"""A tile of keys: how it is loaded, and how one query's output takes it in. Unit 3.6.

`attend` is the inner update of FlashAttention. A warp has one query. Each of its 32 lanes scores
one key of the tile; then each lane owns some of the output's dimensions and adds up the tile's
values for them. Largest score, sum of exponentials and output so far are rescaled by exp(old
largest - new largest), as in `online_softmax.py`: no weight of an earlier tile is needed again, so
none is stored (Dao, Fu, Ermon, Rudra and Ré, "FlashAttention", arXiv:2205.14135, algorithm 1; the
division by the sum comes at the end, as in FlashAttention-2, arXiv:2307.08691).
"""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda

from .online_softmax import MASKED, decay, warp_max
from .reduction import WHOLE_WARP, warp_sum

KEYS = 32  # of a tile: one for each lane
SHARED_LIMIT = 49152  # bytes of static shared memory that any CUDA device gives a block


def slices(head_dim: int) -> int:
    """How many dimensions of the output a lane owns: lane, lane + 32, ..."""
    return -(-head_dim // 32)


@cuda.jit(device=True, forceinline=True)
def load_rows(source, head, first, tile, columns):
    """tile[row, dim] = source[head, first + row, dim], 0 where there is none. The block calls it.

    source: float32 [heads, rows, head_dim], global. tile: float32 [rows of the tile, columns or
    more], shared. head, first, columns: int64. Neighbouring threads load neighbouring elements.
    """
    place = cuda.threadIdx.x
    while place < tile.shape[0] * columns:
        row, dim = place // columns, place % columns
        element = np.float32(0)
        if first + row < source.shape[1] and dim < source.shape[2]:
            element = source[head, first + row, dim]
        tile[row, dim] = element
        place += cuda.blockDim.x


@cuda.jit(device=True)
def attend(q_row, k_tile, v_tile, output, sees, scale, largest, total):
    """Add a tile to the warp's output; returns its new (largest, total). All 32 lanes call it.

    q_row: float32 [head_dim], shared. k_tile: float32 [KEYS, head_dim + 1], shared; the
    padding puts the keys of neighbouring lanes in different banks. v_tile: float32 [KEYS, 32 x
    slices], shared, 0 where there is no key or no dimension. output: float32 [slices], local: this
    lane's part of the sum of exp(score - largest) x value. sees: whether this lane's key counts.
    scale: float32. largest, total: float32, of the tiles before, the same in all lanes.
    """
    lane = cuda.threadIdx.x % 32
    score = MASKED
    if sees:
        product = q_row[0] * k_tile[lane, 0]
        for dim in range(1, q_row.size):
            product += q_row[dim] * k_tile[lane, dim]
        score = product * scale

    new = max(largest, warp_max(score))
    weight = decay(score, new)
    rescale = decay(largest, new)
    total = total * rescale + warp_sum(weight)

    for part in range(output.size):
        output[part] *= rescale
    for key in range(KEYS):
        of_key = cuda.shfl_sync(WHOLE_WARP, weight, key)  # from lane `key`
        for part in range(output.size):
            output[part] += of_key * v_tile[key, lane + 32 * part]
    return new, total


@cuda.jit(device=True)
def store_output(output, total, i, j, out):
    """out[i, j] = output / total. All lanes of the warp call it; a j past the end stores nothing.

    output: float32 [slices], local, as `attend` leaves it. total: float32; 0 if no key was seen.
    out: float32 [.., .., head_dim]: the first two axes say whose output this is.
    """
    lane = cuda.threadIdx.x % 32
    for part in range(output.size):
        dim = lane + 32 * part
        if j < out.shape[1] and dim < out.shape[2]:
            mean = np.float32(0)  # a query that sees nothing adds nothing
            if total > np.float32(0):
                mean = output[part] / total
            out[i, j, dim] = mean


@cuda.jit(device=True)
def store_logsumexp(largest, total, i, j, logsumexp):
    """logsumexp[i, j] = log(sum of exp(score)), -inf if no key was seen. The warp calls it.

    largest, total: float32, as `attend` returns them. logsumexp: float32 [.., ..].
    """
    if cuda.threadIdx.x % 32 == 0 and j < logsumexp.shape[1]:
        log = MASKED
        if total > np.float32(0):
            log = largest + math.log(total)
        logsumexp[i, j] = log
