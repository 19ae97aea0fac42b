"""The first exercises of unit 3.5, matrix multiplication: from global memory, and with tiles.

Each is graded by its result on matrices of any size, and then by one count: sectors a load, bytes
from global memory.
"""

from __future__ import annotations

from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu.tiling import FLOAT

from . import matmul_views as views
from .grading import not_written, outside_means, profile, shape_of, written_once
from .matmul_grading import (
    ANY,
    EDGE_WHY,
    NAIVE,
    NAIVE_BLOCK,
    ORDERED,
    SHAPES,
    SHARES,
    SKILL,
    TILED,
    TILED_BLOCK,
    label,
    little_traffic,
    matrices,
    multiplies,
    ordered,
    profiled,
)
from .thread_map import TracedLaunch

# --- 3.5.a -------------------------------------------------------------------------------------

PRODUCT = "multiplies, where the blocks cover c exactly"
ONCE = "writes each element of c exactly once, and nothing else"
ALONG = "lets a warp walk along the rows of b and c"


@exercise(
    "3.5.a",
    title="One thread, one element of C",
    points=6,
    central=ANY,
    skill=SKILL,
    arguments=("a", "b", "c"),
    kind="kernel",
    hints=(
        (
            PRODUCT,
            "One thread, one element of c: which row of a and which column of b does it need? "
            "Both have K elements, and a.shape[1] is K.",
        ),
        (PRODUCT, "Start from np.float32(0), loop over k, and store the sum once, at the end."),
        (
            ANY,
            "c has c.shape[0] rows and c.shape[1] columns; the grid has more threads than that. "
            "Which of them must do nothing?",
        ),
        (ONCE, "A sum that grows in c costs a load and a store each round: keep it in a local."),
        (
            ALONG,
            "x differs from lane to lane. In c[row, column] and b[k, column], neighbours in "
            "memory differ in the column: let x be the column.",
        ),
    ),
)
def naive(kernel: Any, require: Any) -> None:
    """c = a b, one thread an element, with the warp along the rows of b and c."""
    follow = (
        "follow one thread by hand: its row of a, its column of b, and what it has added after "
        "the first two rounds"
    )
    with require(PRODUCT) as r:
        multiplies(kernel, r, ((8, 4, 32), (16, 40, 64)), NAIVE, NAIVE_BLOCK, follow)
    with require(ANY) as r:
        multiplies(kernel, r, SHAPES, NAIVE, NAIVE_BLOCK, follow)
    with require(ONCE) as r:
        for m, k, n in ((8, 8, 32), (24, 5, 64)):
            with r.input(label(m, k, n, NAIVE, NAIVE_BLOCK)):
                traced = TracedLaunch(kernel, NAIVE.grid(m, n), NAIVE_BLOCK, *matrices(m, k, n))
                not_written(r, traced, {0: "a", 1: "b"})
                written_once(r, traced, 2, "c")
    with require(ALONG) as r:
        m = k = n = 64
        grid = (8, 8)  # enough threads along both axes, whichever is the column
        with r.input(f"[{m}, {k}] x [{k}, {n}], {shape_of(grid, NAIVE_BLOCK)}"):
            with outside_means(EDGE_WHY, "let threads without an element of c do nothing"):
                report = profiled(kernel, r, m, k, n, NAIVE, grid)
            loads, stores = report.sectors_per_load, report.sectors_per_store
            r.that(
                loads <= 4 and 0 < stores <= 5,
                what=f"each load of a warp touches {loads:.3g} sectors on average where 2.5 "
                f"suffice, each store {stores:.3g} where 4 suffice",
                why="in a round a warp needs one element of a, the same for all of its lanes (1 "
                "sector), and 32 neighbours of a row of b (4 sectors), if its lanes differ in the "
                "column. If they differ in the row, it needs 32 elements of a, each in another "
                "row: 32 sectors",
                try_="which of row and column should x be, which differs from lane to lane?",
            )


# --- 3.5.b -------------------------------------------------------------------------------------

BANKS = "asks each bank for one word at a time"


@exercise(
    "3.5.b",
    title="Tiles in shared memory",
    points=6,
    central=SHARES,
    skill=SKILL,
    arguments=("a", "b", "c"),
    kind="kernel",
    hints=(
        (
            ANY,
            "In each round a thread loads one element of a and one of b into the tiles. Beyond an "
            "edge the tile needs a value, too: which one changes no sum?",
        ),
        (
            ANY,
            "The thread (tx, ty) loads a[row, first + tx] and b[first + ty, column], or 0 where "
            "these are outside; all threads take part in loading, also those without an element "
            "of c.",
        ),
        (
            ORDERED,
            "Two waits a round: one between filling the tiles and reading them, one between "
            "reading them and filling them anew. cuda.syncthreads() is reached by all threads of "
            "the block, so it stands in no `if`.",
        ),
        (
            SHARES,
            "The inner loop reads tiles only. If a[...] or b[...] stands in it, each thread loads "
            "for itself.",
        ),
        (
            BANKS,
            "tile_b[k, tx]: neighbouring lanes read neighbours. tile_b[tx, k] would be a column: "
            "words 16 apart, so two banks serve all lanes.",
        ),
    ),
)
def tiled(kernel: Any, require: Any) -> None:
    """c = a b by blocks of 16 x 16 threads that share their tiles."""
    with require(ANY) as r:
        multiplies(
            kernel,
            r,
            SHAPES,
            TILED,
            TILED_BLOCK,
            "take K = 16 first, one round. Then K = 17: what stands in the second tile beside the "
            "one column that is left?",
        )
    with require(ORDERED) as r:
        ordered(kernel, r, TILED, TILED_BLOCK)
    with require(SHARES) as r:
        little_traffic(
            kernel,
            r,
            TILED,
            "let each thread load one element of each tile, in rows along x, and read the rest "
            "from shared memory",
        )
    with require(BANKS) as r:
        m, k, n = 64, 48, 64
        with r.input(label(m, k, n, TILED, TILED_BLOCK)):
            report = profiled(kernel, r, m, k, n, TILED)
            taken = report.wavefronts_per_shared_load
            r.that(
                0 < taken <= 1.5,
                what=f"each shared load of a warp takes {taken:.3g} wavefronts where 1 suffices: "
                f"{report.bank_conflicts:,} bank conflicts"
                if taken
                else "the kernel loads nothing from shared memory",
                why="a warp is two rows of 16 threads. Along a tile's row they read 16 neighbours, "
                "16 banks; down a column they read words 16 apart, which lie in 2 banks"
                if taken
                else "a tile in shared memory is what the block's threads share",
                try_="let tx be the last index of what the lanes of a warp read together"
                if taken
                else "make two tiles with cuda.shared.array((TILE, TILE), np.float32)",
            )


# --- what `show` draws -------------------------------------------------------------------------


@naive.show
def _show_naive(kernel: Any) -> views.Drawing:
    m, k, n = 16, 8, 64
    traced = TracedLaunch(kernel, (4, 4), NAIVE_BLOCK, *matrices(m, k, n))
    report = profile(kernel, (4, 4), NAIVE_BLOCK, *matrices(m, k, n))
    loads, stores = report.sectors_per_load, report.sectors_per_store
    return views.first_warp(
        traced,
        f"[{m}, {k}] x [{k}, {n}]: {loads:.3g} sectors a load, {stores:.3g} a store",
    )


@tiled.show
def _show_tiled(kernel: Any) -> views.Drawing:
    m, k, n = 64, 48, 128
    report = profile(kernel, TILED.grid(m, n), TILED_BLOCK, *matrices(m, k, n))
    rows = [
        ("naive", 2 * m * n * k * FLOAT),
        ("yours", report.global_load_bytes),
        ("enough", TILED.global_bytes(m, n, k)),
    ]
    return views.traffic(rows, f"[{m}, {k}] x [{k}, {n}]", report)
