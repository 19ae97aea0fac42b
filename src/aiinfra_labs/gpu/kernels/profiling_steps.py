"""The kernels of unit 3.8 in their order, each with the figure by which it was chosen.

`STEPS` are the slow kernel and the five that follow; `WRONG_TURNS` are changes that ought to have
helped. A step's figure is read in the report of the kernel before it, and must fall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.emulator import Report

from . import profiling, profiling_words
from .cuda_model import blocks_for
from .profiling import GROUP

THREADS = 128  # of a block


@dataclass(frozen=True)
class Product:
    """The arguments of one product, on the host.

    packed: uint8 [rows, columns / 2]. scales: float32 [rows, columns / GROUP].
    x: float32 [columns].
    """

    packed: np.ndarray
    scales: np.ndarray
    x: np.ndarray

    @property
    def rows(self) -> int:
        return self.packed.shape[0]

    @property
    def weights(self) -> int:
        return self.rows * self.x.size

    @property
    def least_bytes(self) -> int:
        """What must be read and written once: weights, scales, x, out."""
        return self.packed.nbytes + self.scales.nbytes + self.x.nbytes + 4 * self.rows

    def expected(self) -> np.ndarray:
        """In float64, by NumPy: float64 [rows]."""
        return dequantised(self.packed, self.scales) @ self.x.astype(np.float64)

    def arguments(self, words: bool) -> list[np.ndarray]:
        """As the kernels take them, `out` included: fresh arrays but for the inputs."""
        packed = self.packed.view(np.uint32) if words else self.packed
        return [packed, self.scales, self.x, np.zeros(self.rows, np.float32)]


@dataclass(frozen=True)
class Step:
    """A kernel, and the figure of the report before it that asked for it."""

    kernel: Any
    lanes: int = 32  # threads that share a row
    words: bool = False  # it takes `packed` as uint32
    figure: str = ""
    read: Callable[[Report], float] | None = None

    @property
    def name(self) -> str:
        return self.kernel.py_func.__name__

    def grid(self, rows: int) -> int:
        """Blocks of THREADS."""
        return blocks_for(rows * self.lanes, THREADS)


STEPS = (
    Step(profiling.row_a_thread, lanes=1),
    Step(
        profiling.row_a_warp,
        figure="bytes moved",
        read=lambda report: report.bytes_moved,
    ),
    Step(
        profiling.float32_weight,
        figure="float64 operations",
        read=lambda report: report.flops_by_dtype["fp64"],
    ),
    Step(
        profiling.nibble_by_shift,
        figure="float64 operations",
        read=lambda report: report.flops_by_dtype["fp64"],
    ),
    Step(
        profiling.sum_by_shuffle,
        figure="turns of atomics",
        read=lambda report: report.atomic_turns,
    ),
    Step(
        profiling_words.words_and_tile,
        words=True,
        figure="global load requests",
        read=lambda report: report.global_load_requests,
    ),
)
WRONG_TURNS = (
    Step(
        profiling.float32_literals,
        figure="float64 operations",
        read=lambda report: report.flops_by_dtype["fp64"],
    ),
    Step(
        profiling_words.words_alone,
        words=True,
        figure="bytes moved",
        read=lambda report: report.bytes_moved,
    ),
    Step(
        profiling_words.tile_in_order,
        words=True,
        figure="bank conflicts",
        read=lambda report: report.bank_conflicts,
    ),
)


def product(rows: int, columns: int, seed: int = 0) -> Product:
    """Random weights, as a trained layer's: small, about zero. columns: a multiple of GROUP."""
    if columns % GROUP or columns < GROUP or rows < 1:
        raise ValueError(
            f"{rows} rows of {columns} columns\nWhy: each {GROUP} columns share a scale\n"
            f"Try: at least one row, and columns a multiple of {GROUP}"
        )
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.02, (rows, columns)).astype(np.float32)
    return Product(*quantised(weights), rng.normal(size=columns).astype(np.float32))


def quantised(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(packed, scales) of float32 [rows, columns]: each group's largest weight becomes 7."""
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, GROUP)  # [rows, groups, GROUP]
    scales = np.abs(groups).max(axis=2) / np.float32(7)  # [rows, groups]
    q = np.rint(groups / np.where(scales, scales, 1)[..., None]) + 8  # 1 to 15
    q = q.reshape(rows, columns).astype(np.uint8)
    return q[:, 0::2] | q[:, 1::2] << 4, scales


def dequantised(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The weights that the kernels see: float64 [rows, columns]."""
    q = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    return (q - 8.0) * np.repeat(scales.astype(np.float64), GROUP, axis=1)


def launch(step: Step, product: Product) -> Any:
    """One launch on device arrays; `out` as a device array, float32 [rows]."""
    arguments = [cuda.to_device(a) for a in product.arguments(step.words)]
    step.kernel[step.grid(product.rows), THREADS](*arguments)
    return arguments[-1]


def run(step: Step, product: Product) -> tuple[np.ndarray, Report]:
    """One launch, counted: (out, its report)."""
    with cuda.profile() as p:
        out = launch(step, product)
    return out.copy_to_host(), p.report
