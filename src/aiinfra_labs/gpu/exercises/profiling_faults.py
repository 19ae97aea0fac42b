"""Kernels for exercise 3.8.a: some with one fault, some sound, and what to say of each. Unit 3.8.

Each fault is one that people make. Sound kernels show what is no fault, though a figure is not at
its best: a guard parts the one warp in which the array ends, a view begins inside a sector, an
element of 8 bytes fills 8 sectors, a sum is stored by one lane alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from aiinfra_labs.gpu import cuda, emulator

from .grading import profile

STRIDED, FLOAT64, CONFLICTS = "strided", "float64", "bank conflicts"
CONTENTION, DIVERGENCE, SOUND = "contention", "divergence", "sound"
FAULTS = (STRIDED, FLOAT64, CONFLICTS, CONTENTION, DIVERGENCE, SOUND)
WHOLE_WARP = 0xFFFFFFFF
SIDE = 32  # of a tile
SPREAD = 8  # words from one lane's element to the next lane's, in `spread_out`


@dataclass(frozen=True)
class Case:
    """A kernel, its launch, its fault, and a piece of the line that costs most ("" if sound)."""

    kernel: Any
    grid: Any
    block: Any
    arguments: Callable[[], tuple[Any, ...]]
    fault: str
    line: str = ""

    @property
    def name(self) -> str:
        return self.kernel.py_func.__name__

    @property
    def number(self) -> int | None:
        """The line's number, as reports count it."""
        if not self.line:
            return None
        lines, first = inspect.getsourcelines(self.kernel.py_func)
        begin = next(k for k, text in enumerate(lines) if text.startswith("def "))
        (found,) = [k for k in range(begin, len(lines)) if self.line in lines[k]]
        return first + found

    @property
    def said(self) -> str:
        """The case in words, for a learner who does not see the kernel."""
        return f"the report of {self.name}"


CASES: list[Case] = []


def case(grid: Any, block: Any, fault: str, line: str, *arguments: Callable[[], Any]) -> Callable:
    """Decorator: keeps a kernel as a case. arguments: each makes one argument anew."""

    def keep(kernel: Any) -> Any:
        CASES.append(
            Case(kernel, grid, block, lambda: tuple(make() for make in arguments), fault, line)
        )
        return kernel

    return keep


@cache
def report_of(number: int) -> emulator.Report:
    """The report of one of `CASES`, made by running it."""
    chosen = CASES[number]
    return profile(chosen.kernel, chosen.grid, chosen.block, *chosen.arguments())


def _reals(*shape: int, dtype: Any = np.float32) -> Callable[[], Any]:
    return lambda: emulator.to_device(np.random.default_rng(8).uniform(1, 2, shape).astype(dtype))


def _zeros(*shape: int, dtype: Any = np.float32) -> Callable[[], Any]:
    return lambda: emulator.to_device(np.zeros(shape, dtype))


def _whole(most: int, *shape: int, dtype: Any = np.int32) -> Callable[[], Any]:
    rng = np.random.default_rng(8)
    return lambda: emulator.to_device(rng.integers(0, most, shape).astype(dtype))


def _powers(n: int) -> Callable[[], Any]:
    """int32 [n], each with the same chance to have 1 binary digit, 2, ... or 20."""
    digits = np.random.default_rng(8).integers(0, 20, n)
    return lambda: emulator.to_device((1 << digits).astype(np.int32))


# --- strided -------------------------------------------------------------------------------------


@case(4, 64, STRIDED, "total += x[row, k]", _reals(256, 96), _zeros(256))
@cuda.jit
def norm_by_rows(x, out):
    row = cuda.grid(1)
    total = np.float32(0)
    for k in range(x.shape[1]):
        total += x[row, k] * x[row, k]
    out[row] = total


@case(
    (4, 8), (32, 8), STRIDED, "out[column, row] = x[row, column]", _reals(64, 128), _zeros(128, 64)
)
@cuda.jit
def turn_a_page(x, out):
    column, row = cuda.grid(2)
    out[column, row] = x[row, column]


@case(2, 128, STRIDED, "total += table[k, first]", _reals(256, 16), _reals(64, 1024), _zeros(256))
@cuda.jit
def gather_then_walk(start, table, out):
    i = cuda.grid(1)
    first = (4 * i) % table.shape[1]
    total = start[i, 0]
    for k in range(table.shape[0]):
        total += table[k, first]
    out[i] = total


# --- float64 -------------------------------------------------------------------------------------


@case(4, 128, FLOAT64, "x[i] * 0.125 + 1.5", _reals(500), _zeros(500))
@cuda.jit
def brighten(x, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = x[i] * 0.125 + 1.5


@case(
    4, 64, FLOAT64, "total += weight * counts[k, i]", _whole(50, 40, 256), _reals(40), _zeros(256)
)
@cuda.jit
def weigh_counts(counts, weights, out):
    i = cuda.grid(1)
    total = np.float32(0)
    for k in range(counts.shape[0]):
        weight = weights[k]
        total += weight * counts[k, i]
    out[i] = np.float32(0.5) * np.float32(total)


# --- bank conflicts ------------------------------------------------------------------------------


@case((4, 4), (32, 32), CONFLICTS, "out[x, y] = tile[", _reals(128, 128), _zeros(128, 128))
@cuda.jit
def turn_in_tiles(a, out):
    tile = cuda.shared.array((SIDE, SIDE), np.float32)
    column, row = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * SIDE, cuda.blockIdx.y * SIDE
    tile[row, column] = a[top + row, left + column]
    cuda.syncthreads()
    x, y = left + row, top + column
    out[x, y] = tile[column, row]


@case(8, 64, CONFLICTS, "spread[SPREAD * thread] = x[i]", _reals(512), _zeros(512))
@cuda.jit
def spread_out(x, out):
    spread = cuda.shared.array(512, np.float32)
    i, thread = cuda.grid(1), cuda.threadIdx.x
    spread[SPREAD * thread] = x[i]
    cuda.syncthreads()
    total = np.float32(0)
    for k in range(16):
        total += spread[SPREAD * k]  # the same for all lanes: a broadcast
    out[i] = total


# --- contention ----------------------------------------------------------------------------------


@case(4, 128, CONTENTION, "cuda.atomic.add(total, 0, x[i])", _reals(4096), _zeros(1))
@cuda.jit
def sum_of_all(x, total):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        cuda.atomic.add(total, 0, x[i])


@case(
    4,
    128,
    CONTENTION,
    "cuda.atomic.add(of_block, label, 1)",
    _whole(2, 4096),
    _zeros(2, dtype=np.int32),
)
@cuda.jit
def count_two_labels(labels, counts):
    of_block = cuda.shared.array(32, np.int32)
    of_block[cuda.threadIdx.x % 32] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), labels.size, cuda.gridsize(1)):
        label = labels[i]
        cuda.atomic.add(of_block, label, 1)
    cuda.syncthreads()
    if cuda.threadIdx.x < counts.size:
        cuda.atomic.add(counts, cuda.threadIdx.x, of_block[cuda.threadIdx.x])


# --- divergence ----------------------------------------------------------------------------------


@case(4, 128, DIVERGENCE, "if i % 3 == 0:", _reals(512), _zeros(512))
@cuda.jit
def every_third(x, out):
    i = cuda.grid(1)
    value = x[i]
    for _ in range(12):
        if i % 3 == 0:
            value = value * np.float32(0.5) + np.float32(1)
        else:
            value = value * value - np.float32(1)
    out[i] = value


@case(4, 64, DIVERGENCE, "while n > 1:", _powers(250), _zeros(250, dtype=np.int32))
@cuda.jit
def halvings(numbers, steps):
    i = cuda.grid(1)
    if i < steps.size:
        n = numbers[i]
        taken = 0
        while n > 1:
            n //= 2
            taken += 1
        steps[i] = taken


# --- sound ---------------------------------------------------------------------------------------


@case(6, 96, SOUND, "", _reals(500, dtype=np.float64), _zeros(500, dtype=np.float64))
@cuda.jit
def copy_doubles(x, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = x[i]


@case(9, 128, SOUND, "", _reals(1100), _zeros(1100))
@cuda.jit
def differences(x, out):
    i = cuda.grid(1)
    if i + 1 < x.size:
        out[i] = x[i + 1] - x[i]


@case(8, 128, SOUND, "", _reals(32, 256), _zeros(32))
@cuda.jit
def mean_by_warps(x, out):
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    total = np.float32(0)
    for k in range(lane, x.shape[1], 32):
        total += x[row, k]
    step = 16
    while step > 0:
        total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
        step //= 2
    if lane == 0:
        out[row] = total * np.float32(1 / 256)


@case(8, 128, SOUND, "", _whole(4096, 1024), _zeros(4096, dtype=np.int32))
@cuda.jit
def count_many(values, bins):
    i = cuda.grid(1)
    cuda.atomic.add(bins, values[i], 1)
