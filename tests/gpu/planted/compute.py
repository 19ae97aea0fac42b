"""Answers to the exercises of unit 3.7: right ones that differ, and common mistakes."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.emulator import LaunchError, occupancy_of
from aiinfra_labs.gpu.kernels.compute import logistic, root
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.7.a occupancy by hand -------------------------------------------------------------------


def _up(n, unit):
    return -(-n // unit) * unit


@right("3.7.a")
def in_a_dict(sm, threads, registers, shared):
    warps = _up(threads, 32) // 32
    limits = {
        "warps": sm.max_warps // warps,
        "blocks": sm.max_blocks,
        "registers": sm.registers // 4 // _up(32 * registers, 256) * 4 // warps,
    }
    reserved = _up(shared + sm.shared_memory_reserved, sm.shared_memory_unit)
    if reserved:
        limits["shared memory"] = sm.shared_memory // reserved
    name = min(limits, key=limits.get)
    return limits[name], name


@right("3.7.a")
def by_trying(sm, threads, registers, shared):
    """One block more, as long as it fits; what stops it is the limit."""
    warps = math.ceil(threads / 32)
    quarter = sm.registers // 4
    per_warp = math.ceil(registers / 8) * 256
    per_block = shared + sm.shared_memory_reserved
    per_block += -per_block % sm.shared_memory_unit
    blocks = 0
    while True:
        more = blocks + 1
        if per_block * more > sm.shared_memory:
            return blocks, "shared memory"
        if warps * more > 4 * (quarter // per_warp):
            return blocks, "registers"
        if warps * more > sm.max_warps:
            return blocks, "warps"
        if more > sm.max_blocks:
            return blocks, "blocks"
        blocks = more


def _with_warps(sm, warps, registers, shared):
    limits = {
        "warps": int(sm.max_warps // warps),
        "blocks": sm.max_blocks,
        "registers": int(sm.registers // 4 // _up(32 * registers, 256) * 4 // warps),
    }
    reserved = _up(shared + sm.shared_memory_reserved, sm.shared_memory_unit)
    if reserved:
        limits["shared memory"] = sm.shared_memory // reserved
    return limits


@wrong("3.7.a", "64 blocks an SM, and the calculator says 32")
def without_places_for_blocks(sm, threads, registers, shared):
    limits = _with_warps(sm, _up(threads, 32) // 32, registers, shared)
    del limits["blocks"]
    name = min(limits, key=limits.get)
    return limits[name], name


@wrong("3.7.a", "62 blocks an SM, and the calculator says 32")
def with_parts_of_warps(sm, threads, registers, shared):
    limits = _with_warps(sm, threads / 32, registers, shared)
    limits["blocks"] = sm.max_blocks if threads % 32 == 0 else 99
    name = min(limits, key=limits.get)
    return limits[name], name


@wrong("3.7.a", "threads = 128, registers = 33")
def registers_one_by_one(sm, threads, registers, shared):
    """Not rounded up to 256 for a warp."""
    warps = _up(threads, 32) // 32
    limits = _with_warps(sm, warps, registers, shared)
    limits["registers"] = sm.registers // (registers * 32 * warps)
    name = min(limits, key=limits.get)
    return limits[name], name


@wrong("3.7.a", "17 blocks an SM, and the calculator says 16")
def registers_of_one_pool(sm, threads, registers, shared):
    """Rounded up, and not in four quarters."""
    warps = _up(threads, 32) // 32
    limits = _with_warps(sm, warps, registers, shared)
    limits["registers"] = sm.registers // _up(32 * registers, 256) // warps
    name = min(limits, key=limits.get)
    return limits[name], name


@wrong("3.7.a", "shared = 16384")
def without_the_systems_kilobyte(sm, threads, registers, shared):
    limits = _with_warps(sm, _up(threads, 32) // 32, registers, shared)
    if shared:
        limits["shared memory"] = sm.shared_memory // _up(shared, sm.shared_memory_unit)
    name = min(limits, key=limits.get)
    return limits[name], name


@wrong("3.7.a", "the limit is said to be 'warps', and it is 'blocks'")
def always_says_warps(sm, threads, registers, shared):
    return min(_with_warps(sm, _up(threads, 32) // 32, registers, shared).values()), "warps"


@wrong("3.7.a", "the result is 32")
def only_the_number(sm, threads, registers, shared):
    return min(_with_warps(sm, _up(threads, 32) // 32, registers, shared).values())


@wrong("3.7.a", "the number of blocks holds 16.0, a float")
def blocks_as_a_float(sm, threads, registers, shared):
    blocks, name = in_a_dict(sm, threads, registers, shared)
    return float(blocks), name


# --- 3.7.b a block that fills the SM -----------------------------------------------------------


@right("3.7.b")
def the_smallest(registers, fixed, per_thread, target, device):
    for threads in range(32, 1025, 32):
        try:
            found = occupancy_of(threads, registers, fixed + per_thread * threads, device)
        except LaunchError:
            continue
        if found.fraction >= target:
            return threads
    return None


@right("3.7.b")
def the_fullest(registers, fixed, per_thread, target, device):
    best = (0.0, 0)
    for threads in reversed(range(32, 1025, 32)):
        try:
            found = occupancy_of(threads, registers, fixed + per_thread * threads, device)
        except LaunchError:
            continue
        best = max(best, (found.fraction, threads))
    return best[1] if best[0] >= target else None


@wrong("3.7.b", "256 threads a block give 37.5%, asked for is 43.8%: 3 blocks, 24 of 64 warps")
def always_256(registers, fixed, per_thread, target, device):
    return 256


@wrong("3.7.b", "1024 threads a block give 50.0%, asked for is 75.0%")
def always_1024(registers, fixed, per_thread, target, device):
    return 1024


@wrong("3.7.b", "for lack of shared memory")
def forgets_shared_memory(registers, fixed, per_thread, target, device):
    return the_smallest(registers, 0, 0, target, device)


@wrong("3.7.b", "it gives 1024, and no block reaches")
def something_at_any_price(registers, fixed, per_thread, target, device):
    return the_smallest(registers, fixed, per_thread, target, device) or 1024


@wrong("3.7.b", "cannot be launched")
def what_cannot_be_launched(registers, fixed, per_thread, target, device):
    return the_smallest(registers, fixed, per_thread, target, device) and (
        1024 if registers == 80 else the_fullest(registers, fixed, per_thread, target, device)
    )


@wrong("3.7.b", "it gives 1000;")
def no_whole_warps(registers, fixed, per_thread, target, device):
    return 1000


# --- 3.7.c no warp that parts ------------------------------------------------------------------


@right("3.7.c")
@cuda.jit
def warps_in_pairs(x, out):
    i = cuda.grid(1)
    pair, warp, lane = i // 64, i // 32 % 2, i % 32
    element = 64 * pair + 2 * lane + warp
    if element < out.size:
        if warp == 0:
            out[element] = root(x[element])
        else:
            out[element] = logistic(x[element])


@right("3.7.c")
@cuda.jit
def two_a_thread(x, out):
    """Half of the threads take two elements each, the others none."""
    first = 2 * cuda.grid(1)
    if first < out.size:
        out[first] = root(x[first])
    if first + 1 < out.size:
        out[first + 1] = logistic(x[first + 1])


@right("3.7.c")
@cuda.jit
def halves_of_the_block(x, out):
    """The first half of each block takes its even elements, the second half its odd ones."""
    half = cuda.blockDim.x // 2
    start = cuda.blockIdx.x * cuda.blockDim.x
    t = cuda.threadIdx.x
    if t < half:
        e = start + 2 * t
        if e < out.size:
            out[e] = root(x[e])
    else:
        o = start + 2 * (t - half) + 1
        if o < out.size:
            out[o] = logistic(x[o])


@wrong("3.7.c", "of 32 lanes are active on average")
@cuda.jit
def parts_by_parity(x, out):
    i = cuda.grid(1)
    if i < out.size:
        if i % 2 == 0:
            out[i] = root(x[i])
        else:
            out[i] = logistic(x[i])


@wrong("3.7.c", "floating-point operations where")
@cuda.jit
def does_both(x, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = cuda.selp(i % 2 == 0, root(x[i]), logistic(x[i]))


@wrong("3.7.c", "which thread takes the element named above")
@cuda.jit
def by_warp_only(x, out):
    """No warp parts, and elements get another's job."""
    i = cuda.grid(1)
    if i < out.size:
        if i // 32 % 2 == 0:
            out[i] = root(x[i])
        else:
            out[i] = logistic(x[i])


@wrong("3.7.c", "x[100] is outside the array")
@cuda.jit
def without_a_guard(x, out):
    i = cuda.grid(1)
    element = 64 * (i // 64) + 2 * (i % 32) + i // 32 % 2
    if i // 32 % 2 == 0:
        out[element] = root(x[element])
    else:
        out[element] = logistic(x[element])


@wrong("3.7.c", "written more than once: out[0] 2 times")
@cuda.jit
def writes_twice(x, out):
    i = cuda.grid(1)
    warp = i // 32 % 2
    element = 64 * (i // 64) + 2 * (i % 32) + warp
    if element < out.size:
        out[element] = x[element]
        if warp == 0:
            out[element] = root(x[element])
        else:
            out[element] = logistic(x[element])


# --- 3.7.d bf16 by its bits --------------------------------------------------------------------


@right("3.7.d")
def by_carry(x):
    bits = x.view(np.uint32)
    odd = bits >> 16 & 1
    rounded = (bits + np.uint32(0x7FFF) + odd) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


@right("3.7.d")
def by_cases(x):
    bits = x.view(np.uint32)
    upper, lower = bits >> 16, bits & 0xFFFF
    up = (lower > 0x8000) | ((lower == 0x8000) & (upper % 2 == 1))
    nan = np.isnan(x)
    return np.where(nan, upper | 0x40, upper + up).astype(np.uint16)


@right("3.7.d")
def by_library(x):
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return x.astype(ml_dtypes.bfloat16).view(np.uint16)


@wrong("3.7.d", "so the neighbour above is the nearer one")
def cut_off(x):
    bits = x.view(np.uint32) >> 16
    return np.where(np.isnan(x), 0x7FC0, bits).astype(np.uint16)


@wrong("3.7.d", "exactly half-way: the neighbour that ends in 0 is taken")
def halves_up(x):
    bits = (x.view(np.uint32) + np.uint32(0x8000)) >> 16
    return np.where(np.isnan(x), 0x7FC0, bits).astype(np.uint16)


@wrong("3.7.d", "exactly half-way: the neighbour that ends in 0 is taken")
def halves_down(x):
    bits = (x.view(np.uint32) + np.uint32(0x7FFF)) >> 16
    return np.where(np.isnan(x), 0x7FC0, bits).astype(np.uint16)


@wrong("3.7.d", "the NaN with the bits 0x7f800001 became 0x7f80 (inf)")
def nan_by_carry(x):
    bits = x.view(np.uint32).astype(np.uint64)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)


@wrong("3.7.d", "x: about the largest number")
def saturates(x):
    bits = by_carry(x)
    over = (bits & 0x7FFF) == 0x7F80
    return np.where(over & np.isfinite(x), bits - 1, bits).astype(np.uint16)


@wrong("3.7.d", "x: powers of two")
def through_half(x):
    """By way of fp16, which has more digits and a smaller range."""
    with np.errstate(over="ignore"):
        return by_carry(x.astype(np.float16).astype(np.float32))


@wrong("3.7.d", "expected uint16")
def a_float(x):
    return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)


# --- 3.7.e fp16 in, fp32 out -------------------------------------------------------------------


@right("3.7.e")
@cuda.jit
def kahan(a, b, out):
    j = cuda.grid(1)
    if j < out.size:
        total, lost = np.float32(0), np.float32(0)
        for i in range(a.shape[0]):
            term = np.float32(a[i, j]) * np.float32(b[i, j]) - lost
            larger = total + term
            lost = (larger - total) - term
            total = larger
        out[j] = total


@right("3.7.e")
@cuda.jit
def two_sum(a, b, out):
    """Knuth's two-sum: the exact error of each addition, added up beside the total."""
    j = cuda.grid(1)
    if j < out.size:
        total, errors = np.float32(0), np.float32(0)
        for i in range(a.shape[0]):
            term = np.float32(a[i, j]) * np.float32(b[i, j])
            larger = total + term
            back = larger - total
            errors += (total - (larger - back)) + (term - back)
            total = larger
        out[j] = total + errors


@wrong("3.7.e", "the sum of 2,049 ones is 2,048")
@cuda.jit
def half(a, b, out):
    j = cuda.grid(1)
    if j < out.size:
        total = np.float16(0)
        for i in range(a.shape[0]):
            total = cuda.fp16.hfma(a[i, j], b[i, j], total)
        out[j] = total


@wrong("3.7.e", "roundings of fp32, 4 allowed")
@cuda.jit
def single(a, b, out):
    j = cuda.grid(1)
    if j < out.size:
        total = np.float32(0)
        for i in range(a.shape[0]):
            total += np.float32(a[i, j]) * np.float32(b[i, j])
        out[j] = total


@wrong("3.7.e", "operations in fp64")
@cuda.jit
def double(a, b, out):
    j = cuda.grid(1)
    if j < out.size:
        total = 0.0
        for i in range(a.shape[0]):
            total += np.float32(a[i, j]) * np.float32(b[i, j])
        out[j] = total


@wrong("3.7.e", "roundings of fp32, 4 allowed")
@cuda.jit
def kahan_the_wrong_way(a, b, out):
    """The correction is added where it should be taken off."""
    j = cuda.grid(1)
    if j < out.size:
        total, lost = np.float32(0), np.float32(0)
        for i in range(a.shape[0]):
            term = np.float32(a[i, j]) * np.float32(b[i, j]) + lost
            larger = total + term
            lost = (larger - total) - term
            total = larger
        out[j] = total


@wrong("3.7.e", "is outside the array")
@cuda.jit
def no_guard(a, b, out):
    j = cuda.grid(1)
    total = np.float32(0)
    for i in range(a.shape[0]):
        total += np.float32(a[i, j]) * np.float32(b[i, j])
    out[j] = total
