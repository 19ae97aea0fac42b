"""The launches of the course's kernels that are measured here: on which data, with which grid.

Each `Case` is one launch, the same on the emulator, on Numba's simulator and on a GPU. Sizes are
those that Numba's simulator can do in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aiinfra_labs.gpu.kernels import (
    cuda_model,
    histogram,
    matmul,
    profiling_steps,
    reduction,
    softmax,
    stencil,
    transpose,
)

FMA = "the GPU's compiler joins a product and a sum into one fma, which rounds once"
EXP = "the GPU's exp and division round differently in the last place"


@dataclass(frozen=True)
class Case:
    """One launch. `arrays` makes its arguments as host arrays or numbers; the last is the output.

    inexact: why a GPU's result may differ in its last bits; empty where each bit must be equal.
    """

    name: str
    kernel: Any
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arrays: Callable[[], list[Any]]
    elements: int
    inexact: str = ""
    simulated: bool = True  # Numba's simulator has no shuffles

    def launch(self, to_device: Callable, kernel: Any = None) -> tuple[Callable[[], None], Any]:
        """(a call that launches it, the output on the device); the transfers are done here."""
        arguments = [to_device(a) if isinstance(a, np.ndarray) else a for a in self.arrays()]
        configured = (self.kernel if kernel is None else kernel)[self.grid, self.block]
        return lambda: configured(*arguments), arguments[-1]


def _reals(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def cases(quick: bool = False) -> list[Case]:
    """Every launch, or the same kernels on little data."""
    n = 1 << (11 if quick else 14)
    side = 32 if quick else 256
    m = 32 if quick else 64
    columns = 128 if quick else 512
    rows = 4 if quick else 32
    image = 32 if quick else 128
    square = (cuda_model.blocks_for(side, transpose.TILE),) * 2
    tiles = (cuda_model.blocks_for(m, matmul.TILE),) * 2
    pixels = cuda_model.blocks_for_image((image, image), (16, 16))
    found = [
        Case(
            "vector_add",
            cuda_model.vector_add,
            (n // 256,),
            (256,),
            lambda: [_reals(n), _reals(n), _zeros(n)],
            n,
        ),
        Case(
            "saxpy",
            cuda_model.saxpy,
            (n // 1024,),
            (256,),
            lambda: [np.float32(2), _reals(n), _reals(n)],
            n,
            FMA,
        ),
        Case(
            "blur",
            cuda_model.blur,
            pixels,
            (16, 16),
            lambda: [_reals(image, image), _zeros(image, image)],
            image * image,
        ),
    ]
    for name in ("transpose_naive", "transpose_tiled", "transpose_padded"):
        found.append(
            Case(
                name,
                getattr(transpose, name),
                square,
                (transpose.TILE, transpose.TILE),
                lambda: [_reals(side, side), _zeros(side, side)],
                side * side,
            )
        )
    for name in ("matmul_naive", "matmul_tiled"):
        found.append(
            Case(
                name,
                getattr(matmul, name),
                tiles,
                (matmul.TILE, matmul.TILE),
                lambda: [_reals(m, m), _reals(m, m), _zeros(m, m)],
                m * m,
                FMA,
            )
        )
    for name in ("block_sums_tree", "block_sums_shuffle"):
        blocks = n // reduction.THREADS
        found.append(
            Case(
                name,
                getattr(reduction, name),
                (blocks,),
                (reduction.THREADS,),
                lambda blocks=blocks: [_reals(n), _zeros(blocks)],
                n,
                simulated=name != "block_sums_shuffle",
            )
        )
    for name in ("histogram_global", "histogram_shared"):
        found.append(
            Case(
                name,
                getattr(histogram, name),
                (max(1, n // 1024),),
                (256,),
                lambda: [
                    np.random.default_rng(0).integers(0, 256, n, dtype=np.uint8),
                    _zeros(histogram.BINS, dtype=np.int32),
                ],
                n,
            )
        )
    found.append(
        Case(
            "softmax_rows",
            softmax.softmax_rows,
            (rows,),
            (softmax.THREADS,),
            lambda: [_reals(rows, columns), _zeros(rows, columns)],
            rows * columns,
            EXP,
        )
    )
    found.append(
        Case(
            "stencil_mean",
            stencil.stencil_mean,
            (n // stencil.THREADS,),
            (stencil.THREADS,),
            lambda: [_reals(n), _zeros(n)],
            n,
        )
    )
    return found


def compared_cases() -> list[Case]:
    """What is held to a GPU and to Nsight Compute: every launch, and the steps of unit 3.8."""
    given = profiling_steps.product(64, 512)
    steps = [
        Case(
            step.name,
            step.kernel,
            (step.grid(given.rows),),
            (profiling_steps.THREADS,),
            partial(given.arguments, step.words),
            given.weights,
            f"{FMA}; atomics add in any order",
        )
        for step in (*profiling_steps.STEPS, *profiling_steps.WRONG_TURNS)
    ]
    return cases() + steps
