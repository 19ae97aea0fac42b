"""Kernels that differ in one thing: how much they compute for each byte. Unit 3.1."""

from __future__ import annotations

from aiinfra_labs.gpu import cuda

DEGREE = 64


@cuda.jit
def vector_add(a, b, out):
    """out[i] = a[i] + b[i]: one operation, 12 bytes. a, b, out: float32 [n]."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def horner(x, out):
    """A polynomial of degree 64 by Horner's rule: 64 fma, 8 bytes. x, out: float32 [n].

    `cuda.fma` is one instruction, with one rounding; `a * b + c` becomes one when it is compiled.
    """
    i = cuda.grid(1)
    if i < out.size:
        value = x[i]
        total = value
        for _ in range(DEGREE):
            total = cuda.fma(total, value, value)
        out[i] = total


@cuda.jit
def every_eighth(x, out):
    """out[i] = 2 x[8 i]: each thread wants 4 bytes, and 32 are moved. x: float32 [8 n]."""
    i = cuda.grid(1)
    if i < out.size:
        value = x[8 * i]
        out[i] = value + value


@cuda.jit
def smooth(x, out):
    """The sum of nine neighbours: each element is read nine times, by nine threads. float32 [n]."""
    i = cuda.grid(1)
    if i < out.size:
        total = x[i]
        for k in range(1, 9):
            total += x[(i + k) % out.size]
        out[i] = total
