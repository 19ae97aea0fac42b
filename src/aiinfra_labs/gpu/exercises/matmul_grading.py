"""What the requirements of unit 3.5's exercises share: matrices, their product, traffic. Unit 3.5.

C starts full of NaN, so that an element which nobody wrote shows. What a kernel costs is judged
only where its product is whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.tiling import Tiling

from .grading import launch, outside_means, profile, shape_of, share

SKILL = "Matrix multiplication"
TILE = 16
ANY = "multiplies matrices of any size"
ORDERED = "lets no thread read a tile before it is whole, nor overwrite it too soon"
SHARES = "loads each element once for a block: 2 M N K / 16 floats"
NAIVE, NAIVE_BLOCK = Tiling(8, 32, 1, staged=False), (32, 8)
TILED, TILED_BLOCK = Tiling(TILE, TILE, TILE), (TILE, TILE)
FOURS = Tiling(64, 64, 16, thread_m=4, thread_n=4)
ALIKE = 1e-4  # float32 sums of some hundred products, against float64
SHAPES = ((16, 16, 16), (64, 32, 64), (1, 1, 1), (5, 40, 3), (33, 17, 70), (70, 65, 31))

NAN_WHY = (
    "c is full of NaN before the launch: nan marks an element that no thread wrote, or a sum that "
    "was added to before it was set"
)
SUM_WHY = "c[row, column] is the sum over k of a[row, k] * b[k, column]"
EDGE_WHY = "the grid is made of whole blocks, and the last ones reach past the matrices' edges"


def matrices(m: int, k: int, n: int) -> tuple[Any, Any, Any]:
    """a: float32 [m, k], b: float32 [k, n], both irregular, and c [m, n] full of NaN."""
    rng = np.random.default_rng(m * 10_000 + k * 100 + n)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    c = np.full((m, n), np.nan)
    return tuple(emulator.to_device(x.astype(np.float32)) for x in (a, b, c))


def label(m: int, k: int, n: int, tiling: Tiling, block: Any) -> str:
    return f"[{m}, {k}] x [{k}, {n}], {shape_of(tiling.grid(m, n), block)}"


def multiplies(kernel: Any, r: Any, shapes: Any, tiling: Tiling, block: Any, try_: str) -> None:
    for m, k, n in shapes:
        with r.input(label(m, k, n, tiling, block)):
            a, b, c = matrices(m, k, n)
            with outside_means(
                f"{EDGE_WHY}: a thread there has no element of c, or k has gone past the end of "
                "the last tile",
                "ask of each index whether it is inside its own axis, row < c.shape[0], column < "
                "c.shape[1], k < a.shape[1], before the array is touched",
            ):
                launch(kernel, tiling.grid(m, n), block, a, b, c)
            got = c.copy_to_host()
            exact = a.copy_to_host().astype(float) @ b.copy_to_host()
            r.equal(
                got,
                exact.astype(np.float32),
                name="c",
                tolerance=ALIKE,
                why=NAN_WHY if np.isnan(got).any() else SUM_WHY,
                try_=try_,
            )


def ordered(kernel: Any, r: Any, tiling: Tiling, block: Any) -> None:
    """No two threads touch one element of a tile without a barrier between, and none is unset."""
    for m, k, n in ((64, 48, 64), (40, 37, 70)):
        with r.input(label(m, k, n, tiling, block)):
            a, b, c = matrices(m, k, n)
            launch(kernel, tiling.grid(m, n), block, a, b, c, check=True)
            whole(r, c)


def whole(r: Any, c: Any) -> None:
    """What a kernel costs is judged once it does its work."""
    missing = int(np.isnan(c.copy_to_host()).sum())
    r.that(
        not missing,
        what=f"{share(missing, c.size)} still nan",
        why="how a product is made can be judged once all of it is there",
        try_="meet the first requirement first",
    )


def profiled(
    kernel: Any, r: Any, m: int, k: int, n: int, tiling: Tiling, grid: Any = None
) -> emulator.Report:
    """The report of one product, which must be whole. grid: in place of the tiling's own."""
    a, b, c = matrices(m, k, n)
    block = NAIVE_BLOCK if tiling is NAIVE else TILED_BLOCK
    report = profile(kernel, grid or tiling.grid(m, n), block, a, b, c)
    whole(r, c)
    return report


def little_traffic(kernel: Any, r: Any, tiling: Tiling, try_: str) -> None:
    m, k, n = 64, 48, 128
    with r.input(label(m, k, n, tiling, TILED_BLOCK)):
        report = profiled(kernel, r, m, k, n, tiling)
        asked, bound = report.global_load_bytes, tiling.global_bytes(m, n, k)
        side = tiling.block_m
        r.that(
            asked > 0,
            what="the kernel loads nothing from global memory",
            why="a and b are there",
            try_="load them tile by tile",
        )
        r.that(
            asked <= bound,
            what=f"the threads ask for {asked:,} bytes of global memory where {bound:,} suffice "
            f"({asked / bound:.3g} times as much)",
            why=f"a block that computes {side} x {side} elements of c needs {side} rows of a and "
            f"{side} columns of b, once each: 2 M N K / {side} floats for all blocks together",
            try_=try_,
        )
        moved = report.global_load_sectors * 32
        r.that(
            moved <= 1.05 * asked,
            what=f"{moved:,} bytes are moved for the {asked:,} that the threads ask for",
            why="memory moves whole sectors of 32 bytes: where neighbouring lanes load elements "
            "that are not neighbours, most of each sector is thrown away",
            try_="let the lanes of a warp fill a tile along its rows, x as the last index",
        )
