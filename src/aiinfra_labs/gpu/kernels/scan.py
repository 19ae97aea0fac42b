"""Prefix sums: out[i] = x[0] + ... + x[i], within a warp, a block, and any array. Unit 3.6.

A warp scans with five shuffles (Hillis and Steele, "Data parallel algorithms", Communications of
the ACM 29 (1986), 1170): after the step of width w each lane holds the sum of the 2 w values that
end at its own. A block scans its warps, then the warps' totals. An array scans its blocks, then the
blocks' totals, and adds to each block what comes before it.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

THREADS = 256  # of a block: a multiple of 32, at most 1024
WARPS = THREADS // 32
WHOLE_WARP = 0xFFFFFFFF


@cuda.jit(device=True)
def warp_scan(value):
    """The sum over this lane and those before it in the warp. All 32 lanes call it."""
    lane = cuda.threadIdx.x % 32
    width = 1
    while width < 32:
        before = cuda.shfl_up_sync(WHOLE_WARP, value, width)  # of lane - width
        if lane >= width:  # else there is no such lane, and a shuffle gives a lane its own value
            value += before
        width *= 2
    return value


@cuda.jit
def scan_blocks(x, out, totals):
    """Each block scans its THREADS elements; totals[block] = their sum.

    x, out: float32 [n]. totals: float32 [blocks], blocks x THREADS >= n.
    """
    of_warp = cuda.shared.array(WARPS, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    warp, lane = thread // 32, thread % 32
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    value = warp_scan(value)
    if lane == 31:  # which holds the sum of its warp
        of_warp[warp] = value
    cuda.syncthreads()
    if warp == 0:
        sums = np.float32(0)
        if lane < WARPS:
            sums = of_warp[lane]
        sums = warp_scan(sums)
        if lane < WARPS:
            of_warp[lane] = sums
    cuda.syncthreads()
    if warp > 0:
        value += of_warp[warp - 1]
    if i < out.size:
        out[i] = value
    if thread == THREADS - 1:
        totals[cuda.blockIdx.x] = value


@cuda.jit
def add_before(out, scanned):
    """out[i] += scanned[block - 1]: the sum of all blocks before the element's own.

    out: float32 [n]. scanned: float32 [blocks], the inclusive scan of the blocks' totals.
    """
    i, block = cuda.grid(1), cuda.blockIdx.x
    if block > 0 and i < out.size:
        out[i] += scanned[block - 1]


def inclusive_scan(x: np.ndarray) -> np.ndarray:
    """float32 [n]: out[i] = x[0] + ... + x[i]. x: float32 [n], of any length."""
    out = cuda.device_array(x.size, np.float32)
    _scan(cuda.to_device(x), out)
    return out.copy_to_host()


def _scan(x: object, out: object) -> None:
    """On the device; for more blocks than one, the totals are scanned in the same way."""
    blocks = max(1, -(-x.size // THREADS))
    totals = cuda.device_array(blocks, np.float32)
    scan_blocks[blocks, THREADS](x, out, totals)
    if blocks > 1:
        scanned = cuda.device_array(blocks, np.float32)
        _scan(totals, scanned)
        add_before[blocks, THREADS](out, scanned)
