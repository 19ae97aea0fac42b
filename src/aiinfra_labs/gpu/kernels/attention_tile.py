"""One query against a tile of keys: the inner update of FlashAttention. Unit 3.6.

A warp has one query. Each of its 32 lanes scores one key of the tile; then each lane owns some of
the output's dimensions and adds up the tile's values for them. Largest score, sum of exponentials
and output so far are rescaled by exp(old largest - new largest), as in `online_softmax.py`: no
weight of an earlier tile is needed again, so none is stored (Dao, Fu, Ermon, Rudra and Ré,
"FlashAttention", arXiv:2205.14135, algorithm 1; the division by the sum comes at the end, as in
FlashAttention-2, arXiv:2307.08691).
"""

from __future__ import annotations

from aiinfra_labs.gpu import cuda

from .online_softmax import MASKED, decay, warp_max
from .reduction import WHOLE_WARP, warp_sum

KEYS = 32  # of a tile: one for each lane
SHARED_LIMIT = 49152  # bytes of static shared memory that any CUDA device gives a block


def slices(head_dim: int) -> int:
    """How many dimensions of the output a lane owns: lane, lane + 32, ..."""
    return -(-head_dim // 32)


@cuda.jit(device=True)
def attend(query_row, keys_tile, values_tile, output, sees, scale, largest, total):
    """Add a tile to the warp's output; returns its new (largest, total). All 32 lanes call it.

    query_row: float32 [head_dim], shared. keys_tile: float32 [KEYS, head_dim + 1], shared; the
    padding puts the keys of neighbouring lanes in different banks. values_tile: float32 [KEYS, 32 x
    slices], shared, 0 where there is no key or no dimension. output: float32 [slices], local: this
    lane's part of the sum of exp(score - largest) x value. sees: whether this lane's key counts.
    scale: float32. largest, total: float32, of the tiles before, the same in all lanes.
    """
    lane = cuda.threadIdx.x % 32
    score = MASKED
    if sees:
        product = query_row[0] * keys_tile[lane, 0]
        for dim in range(1, query_row.size):
            product += query_row[dim] * keys_tile[lane, dim]
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
            output[part] += of_key * values_tile[key, lane + 32 * part]
    return new, total
