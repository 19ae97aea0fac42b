"""The kernels of unit 3.7: warps that part and warps that do not, and dot products by precision.

Constants are of the arrays' own type: Numba types a plain Python float as float64.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

ROUNDS = 8  # of each job: long enough that no compiler runs both for all threads unasked
WARP = 32


# --- a branch, decided in five ways --------------------------------------------------------------


@cuda.jit(device=True)
def root(v):
    """The square root of v > 0, by Newton's method."""
    r = v
    for _ in range(ROUNDS):
        r = np.float32(0.5) * (r + v / r)
    return r


@cuda.jit(device=True)
def logistic(v):
    """v of [0, 1] after some rounds of the logistic map."""
    for _ in range(ROUNDS):
        v = np.float32(3.7) * v * (np.float32(1) - v)
    return v


@cuda.jit
def by_parity(x, out):
    """Even elements take a root, odd ones the logistic map: neighbours part. Unit 3.7.

    x, out: float32 [n].
    """
    i = cuda.grid(1)
    if i < out.size:
        if i % 2 == 0:
            out[i] = root(x[i])
        else:
            out[i] = logistic(x[i])


@cuda.jit
def by_warp(x, out):
    """Of each 64 elements the first 32 take a root, the rest the map: no warp parts. Unit 3.7.

    x, out: float32 [n].
    """
    i = cuda.grid(1)
    if i < out.size:
        if i // WARP % 2 == 0:
            out[i] = root(x[i])
        else:
            out[i] = logistic(x[i])


@cuda.jit
def by_kind(x, kind, out):
    """What the data say: kind[i] is 0 (root) or 1 (map). Unit 3.7.

    x, out: float32 [n]. kind: int32 [n].
    """
    i = cuda.grid(1)
    if i < out.size:
        if kind[i] == 0:
            out[i] = root(x[i])
        else:
            out[i] = logistic(x[i])


@cuda.jit
def by_order(x, kind, order, out):
    """As `by_kind`, but thread i takes element order[i]: sorted by kind, warps stay together.

    x, out: float32 [n]. kind, order: int32 [n]; order has each element once. The price: x and out
    are no longer read side by side. Unit 3.7.
    """
    i = cuda.grid(1)
    if i < out.size:
        j = order[i]
        if kind[j] == 0:
            out[j] = root(x[j])
        else:
            out[j] = logistic(x[j])


@cuda.jit
def by_selection(x, out):
    """Every thread does both jobs and keeps one: nothing parts, twice the work. Unit 3.7.

    x, out: float32 [n].
    """
    i = cuda.grid(1)
    if i < out.size:
        out[i] = cuda.selp(i % 2 == 0, root(x[i]), logistic(x[i]))


# --- one chain of dependent additions, or four ---------------------------------------------------


def dot_in_one_chain(a, b):
    """Each fma waits for the one before. a, b: indexable, of one length."""
    total = np.float32(0)
    for i in range(len(a)):
        total = total + a[i] * b[i]
    return total


def dot_in_two_chains(a, b):
    """Two accumulators: the second fma does not wait for the first. An even length."""
    t0, t1 = np.float32(0), np.float32(0)
    for i in range(0, len(a), 2):
        t0 = t0 + a[i] * b[i]
        t1 = t1 + a[i + 1] * b[i + 1]
    return t0 + t1


def dot_in_four_chains(a, b):
    """Four accumulators. The length: a multiple of 4."""
    t0, t1, t2, t3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for i in range(0, len(a), 4):
        t0 = t0 + a[i] * b[i]
        t1 = t1 + a[i + 1] * b[i + 1]
        t2 = t2 + a[i + 2] * b[i + 2]
        t3 = t3 + a[i + 3] * b[i + 3]
    return (t0 + t1) + (t2 + t3)


def dot_unrolled(a, b):
    """Four fmas a round of the loop, one accumulator: fewer branches, and the same chain."""
    total = np.float32(0)
    for i in range(0, len(a), 4):
        total = total + a[i] * b[i]
        total = total + a[i + 1] * b[i + 1]
        total = total + a[i + 2] * b[i + 2]
        total = total + a[i + 3] * b[i + 3]
    return total


@cuda.jit
def dots_one_chain(a, b, out):
    """out[j] = the dot product of column j. Unit 3.7.

    a, b: float32 [n, columns]. out: float32 [columns].
    """
    j = cuda.grid(1)
    if j < out.size:
        total = np.float32(0)
        for i in range(a.shape[0]):
            total += a[i, j] * b[i, j]
        out[j] = total


@cuda.jit
def dots_unrolled(a, b, out):
    """The same with four products a round; n must be a multiple of 4. Unit 3.7.

    a, b: float32 [n, columns]. out: float32 [columns].
    """
    j = cuda.grid(1)
    if j < out.size:
        total = np.float32(0)
        for i in range(0, a.shape[0], 4):
            total += a[i, j] * b[i, j]
            total += a[i + 1, j] * b[i + 1, j]
            total += a[i + 2, j] * b[i + 2, j]
            total += a[i + 3, j] * b[i + 3, j]
        out[j] = total


@cuda.jit
def dots_four_chains(a, b, out):
    """The same with four accumulators, and so in another order; n a multiple of 4. Unit 3.7.

    a, b: float32 [n, columns]. out: float32 [columns].
    """
    j = cuda.grid(1)
    if j < out.size:
        t0, t1, t2, t3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for i in range(0, a.shape[0], 4):
            t0 += a[i, j] * b[i, j]
            t1 += a[i + 1, j] * b[i + 1, j]
            t2 += a[i + 2, j] * b[i + 2, j]
            t3 += a[i + 3, j] * b[i + 3, j]
        out[j] = (t0 + t1) + (t2 + t3)


# --- fp16 in, three accumulators -----------------------------------------------------------------


@cuda.jit
def half_dots_half(a, b, out):
    """Accumulated in float16, one rounding a step. Unit 3.7.

    a, b: float16 [n, columns]. out: float32 [columns].
    """
    j = cuda.grid(1)
    if j < out.size:
        total = np.float16(0)
        for i in range(a.shape[0]):
            total = cuda.fp16.hfma(a[i, j], b[i, j], total)
        out[j] = total


@cuda.jit
def half_dots_single(a, b, out):
    """Accumulated in float32: the products are exact, only the sums are rounded. Unit 3.7.

    a, b: float16 [n, columns]. out: float32 [columns].
    """
    j = cuda.grid(1)
    if j < out.size:
        total = np.float32(0)
        for i in range(a.shape[0]):
            total += np.float32(a[i, j]) * np.float32(b[i, j])
        out[j] = total


@cuda.jit
def half_dots_kahan(a, b, out):
    """Accumulated in float32, with Kahan's correction. Unit 3.7.

    a, b: float16 [n, columns]. out: float32 [columns].

    CUDA's compilers keep the order of additions unless fast-math is asked for: with it,
    (larger - total) - term would be simplified to 0.
    """
    j = cuda.grid(1)
    if j < out.size:
        total = np.float32(0)
        lost = np.float32(0)  # what the total has too much, from the last rounding
        for i in range(a.shape[0]):
            term = np.float32(a[i, j]) * np.float32(b[i, j]) - lost
            larger = total + term
            lost = (larger - total) - term
            total = larger
        out[j] = total


# --- as many operations for each byte as wanted --------------------------------------------------


@cuda.jit
def polynomial(x, out, terms):
    """out[i] = 1 + x (1 + x (1 + ...)), `terms` fmas for 8 bytes of memory. Unit 3.7.

    x, out: float32 [n], x of [0, 1). terms: int32.
    """
    i = cuda.grid(1)
    if i < out.size:
        v = np.float32(1)
        for _ in range(terms):
            v = v * x[i] + np.float32(1)
        out[i] = v
