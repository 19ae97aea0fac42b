"""The six products of matrices as one list, from the plainest to the fastest. Unit 3.5.

A library has many kernels for one product and picks by the matrices' sides; `multiply` does so with
two of these: the last for whole tiles, and one that guards each element for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiinfra_labs.gpu.tiling import Tiling

from .matmul import TILE, matmul_naive, matmul_tiled
from .matmul_double_buffered import matmul_double_buffered
from .matmul_registers import (
    BLOCK_K,
    BLOCK_M,
    BLOCK_N,
    ROWS,
    STRIP_K,
    STRIP_M,
    STRIP_N,
    THREAD_M,
    THREAD_N,
    matmul_registers_1d,
    matmul_registers_2d,
)
from .matmul_vectorised import matmul_float4


@dataclass(frozen=True)
class Step:
    """One kernel and how it is launched. whole: it takes whole numbers of tiles and no others."""

    name: str
    kernel: Any
    tiling: Tiling
    block: Any  # threads, on one axis or two
    whole: bool = False

    def takes(self, m: int, k: int, n: int) -> bool:
        """Whether it can multiply [m, k] by [k, n]."""
        return not self.whole or self.tiling.fits(m, k, n)

    def launch(self, a: Any, b: Any, c: Any, kernel: Any = None) -> None:
        """c = a b. a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N], in C's order.

        kernel: in place of the step's own, to time or count one that is like it.
        """
        run = self.kernel if kernel is None else kernel
        run[self.tiling.grid(*c.shape), self.block](a, b, c)


_TILE = Tiling(TILE, TILE, TILE)
_STRIP = Tiling(STRIP_M, STRIP_N, STRIP_K, thread_m=ROWS)
_SQUARE = Tiling(BLOCK_M, BLOCK_N, BLOCK_K, THREAD_M, THREAD_N)
_TWICE = Tiling(BLOCK_M, BLOCK_N, BLOCK_K, THREAD_M, THREAD_N, buffers=2)

LADDER = (
    Step("naive", matmul_naive, Tiling(TILE, TILE, 1, staged=False), (TILE, TILE)),
    Step("tiled", matmul_tiled, _TILE, (TILE, TILE)),
    Step("registers, 8 x 1", matmul_registers_1d, _STRIP, _STRIP.threads),
    Step("registers, 8 x 8", matmul_registers_2d, _SQUARE, _SQUARE.threads),
    Step("float4", matmul_float4, _SQUARE, _SQUARE.threads, whole=True),
    Step("double-buffered", matmul_double_buffered, _TWICE, _TWICE.threads, whole=True),
)


def multiply(a: Any, b: Any, c: Any) -> Step:
    """c = a b by the fastest kernel that takes these sides; returns the step that it took.

    a: float32 [M, K]. b: float32 [K, N]. c: float32 [M, N], all device arrays in C's order.
    """
    (m, k), n = a.shape, b.shape[1]
    fastest = next(step for step in reversed(LADDER) if step.takes(m, k, n))
    fastest.launch(a, b, c)
    return fastest
