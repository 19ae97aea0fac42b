"""The same chains on this machine's CPU, timed: a sum with 1, 2, 4 or 8 accumulators. Unit 3.7.

A CPU has the GPU's problem in small: an addition takes some cycles, and the next one can begin in
each. Numba compiles these loops without fast-math, so that no compiler may change the order of
additions and so their chains. It may put neighbouring accumulators into one vector register.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
import numpy as np

LENGTH = 2048  # float64 numbers: 16 KB, which stay in the first cache
REPEATS = 400  # sums in one timing


@numba.njit
def one(x: np.ndarray) -> float:
    """x: float64 [n], n a multiple of 8, as for the others."""
    a = 0.0
    for i in range(len(x)):
        a += x[i]
    return a


@numba.njit
def two(x: np.ndarray) -> float:
    a = b = 0.0
    for i in range(0, len(x), 2):
        a += x[i]
        b += x[i + 1]
    return a + b


@numba.njit
def four(x: np.ndarray) -> float:
    a = b = c = d = 0.0
    for i in range(0, len(x), 4):
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
    return (a + b) + (c + d)


@numba.njit
def eight(x: np.ndarray) -> float:
    a = b = c = d = e = f = g = h = 0.0
    for i in range(0, len(x), 8):
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
        e += x[i + 4]
        f += x[i + 5]
        g += x[i + 6]
        h += x[i + 7]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


SUMS: dict[int, Callable[[np.ndarray], float]] = {1: one, 2: two, 4: four, 8: eight}


@numba.njit
def _repeated(function: Callable[[np.ndarray], float], x: np.ndarray, repeats: int) -> float:
    total = 0.0
    for k in range(repeats):
        x[k % len(x)] += 1e-9  # so that no sum can be taken from the one before
        total += function(x)
    return total


def speedups(rounds: int = 15) -> dict[int, float]:
    """How many times as fast as with one accumulator: the best of `rounds` timings, in turn.

    A ratio of one run on this machine: it is no figure of a GPU, nor of another CPU.
    """
    x = np.random.default_rng(0).random(LENGTH)
    for function in SUMS.values():
        _repeated(function, x, 1)  # compiled before it is timed
    best = dict.fromkeys(SUMS, float("inf"))
    for _ in range(rounds):
        for accumulators, function in SUMS.items():
            begin = time.perf_counter()
            _repeated(function, x, REPEATS)
            best[accumulators] = min(best[accumulators], time.perf_counter() - begin)
    return {accumulators: best[1] / seconds for accumulators, seconds in best.items()}
