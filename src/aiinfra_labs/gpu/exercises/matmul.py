"""The exercises of unit 3.5, matrix multiplication.

Each is graded by its result on matrices of any size, and then by one count: sectors a load, bytes
from global memory, wavefronts for each multiply-add, maths between a load and its use. C starts
full of NaN, so that an element which nobody wrote shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.tiling import FLOAT, WARP, Tiling

from . import matmul_views as views
from .block_timeline import BARRIER, maths_in_flight, timeline
from .grading import count, launch, not_written, outside_means, profile, shape_of, written_once
from .thread_map import TracedLaunch

SKILL = "Matrix multiplication"
TILE = 16
NAIVE, NAIVE_BLOCK = Tiling(8, 32, 1, staged=False), (32, 8)
TILED, TILED_BLOCK = Tiling(TILE, TILE, TILE), (TILE, TILE)
FOURS = Tiling(64, 64, 16, thread_m=4, thread_n=4)
ALIKE = 1e-4  # float32 sums of some hundred products, against float64
SHAPES = ((16, 16, 16), (64, 32, 64), (1, 1, 1), (5, 40, 3), (33, 17, 70), (70, 65, 31))

NAN_WHY = "c is full of NaN before the launch: nan marks an element that no thread wrote"
SUM_WHY = "c[row, column] is the sum over k of a[row, k] * b[k, column]"
EDGE_WHY = "the grid is made of whole blocks, and the last ones reach past the matrices' edges"


def matrices(m: int, k: int, n: int) -> tuple[Any, Any, Any]:
    """a: float32 [m, k], b: float32 [k, n], both irregular, and c [m, n] full of NaN."""
    rng = np.random.default_rng(m * 10_000 + k * 100 + n)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    c = np.full((m, n), np.nan)
    return tuple(emulator.to_device(x.astype(np.float32)) for x in (a, b, c))


def _label(m: int, k: int, n: int, tiling: Tiling, block: Any) -> str:
    return f"[{m}, {k}] x [{k}, {n}], {shape_of(tiling.grid(m, n), block)}"


def _multiplies(kernel: Any, r: Any, shapes: Any, tiling: Tiling, block: Any, try_: str) -> None:
    for m, k, n in shapes:
        with r.input(_label(m, k, n, tiling, block)):
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


def _ordered(kernel: Any, r: Any, tiling: Tiling, block: Any) -> None:
    """No two threads touch one element of a tile without a barrier between, and none is unset."""
    for m, k, n in ((64, 48, 64), (40, 37, 70)):
        with r.input(_label(m, k, n, tiling, block)):
            launch(kernel, tiling.grid(m, n), block, *matrices(m, k, n), check=True)


def _little_traffic(kernel: Any, r: Any, tiling: Tiling, block: Any, try_: str) -> None:
    m, k, n = 64, 48, 128
    with r.input(_label(m, k, n, tiling, block)):
        report = profile(kernel, tiling.grid(m, n), block, *matrices(m, k, n))
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


# --- 3.5.a -------------------------------------------------------------------------------------

PRODUCT = "multiplies, where the blocks cover c exactly"
ANY = "multiplies matrices of any size"
ONCE = "writes each element of c exactly once, and nothing else"
ALONG = "lets a warp walk along the rows of b and c"


@exercise(
    "3.5.a",
    title="One thread, one element of C",
    points=4,
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
        _multiplies(kernel, r, ((8, 4, 32), (16, 40, 64)), NAIVE, NAIVE_BLOCK, follow)
    with require(ANY) as r:
        _multiplies(kernel, r, SHAPES, NAIVE, NAIVE_BLOCK, follow)
    with require(ONCE) as r:
        for m, k, n in ((8, 8, 32), (24, 5, 64)):
            with r.input(_label(m, k, n, NAIVE, NAIVE_BLOCK)):
                traced = TracedLaunch(kernel, NAIVE.grid(m, n), NAIVE_BLOCK, *matrices(m, k, n))
                not_written(r, traced, {0: "a", 1: "b"})
                written_once(r, traced, 2, "c")
    with require(ALONG) as r:
        m = k = n = 64  # square, so that swapped axes lead nowhere outside
        with r.input(_label(m, k, n, NAIVE, NAIVE_BLOCK)):
            grid = (8, 8)  # enough threads along both axes, whichever is the column
            report = profile(kernel, grid, NAIVE_BLOCK, *matrices(m, k, n))
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

ORDERED = "lets no thread read a tile before it is whole, nor overwrite it too soon"
SHARES = "loads each element once for a block: 2 M N K / 16 floats"
BANKS = "asks each bank for one word at a time"


@exercise(
    "3.5.b",
    title="Tiles in shared memory",
    points=4,
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
        _multiplies(
            kernel,
            r,
            SHAPES,
            TILED,
            TILED_BLOCK,
            "take K = 16 first, one round. Then K = 17: what stands in the second tile beside the "
            "one column that is left?",
        )
    with require(ORDERED) as r:
        _ordered(kernel, r, TILED, TILED_BLOCK)
    with require(SHARES) as r:
        _little_traffic(
            kernel,
            r,
            TILED,
            TILED_BLOCK,
            "let each thread load one element of each tile, in rows along x, and read the rest "
            "from shared memory",
        )
    with require(BANKS) as r:
        m, k, n = 64, 48, 64
        with r.input(_label(m, k, n, TILED, TILED_BLOCK)):
            report = profile(kernel, TILED.grid(m, n), TILED_BLOCK, *matrices(m, k, n))
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


# --- 3.5.c -------------------------------------------------------------------------------------

SHARES_64 = "loads each element once for a block: 2 M N K / 64 floats"
REUSES = "needs at most 0.7 wavefronts of shared memory for each multiply-add"
MOST_WAVEFRONTS = 0.7


@exercise(
    "3.5.c",
    title="Sixteen elements a thread",
    points=5,
    skill=SKILL,
    arguments=("a", "b", "c"),
    kind="kernel",
    seconds=20.0,
    hints=(
        (
            ANY,
            "Draw the 64 x 64 tile and cut it into 16 x 16 squares: thread (tx, ty) takes the "
            "element (ty, tx) of each of the 4 x 4 squares.",
        ),
        (
            ANY,
            "256 threads fill two tiles of 64 x 16 and 16 x 64: four elements each, of both. A "
            "loop over n in range(4) with row = ty + 16 * n does for a.",
        ),
        (
            ORDERED,
            "The same two barriers as in 3.5.b. A local array starts without values: set all 16 "
            "sums to 0.",
        ),
        (
            REUSES,
            "In each round over k load 4 values of a and 4 of b into local arrays first; then 16 "
            "multiply-adds use nothing else.",
        ),
        (
            REUSES,
            "Take columns 16 apart, tx + 16 * j: the lanes of one load then read neighbours. With "
            "tx * 4 + j they read words 4 apart, which share 8 banks.",
        ),
    ),
)
def registers(kernel: Any, require: Any) -> None:
    """c = a b by blocks of 16 x 16 threads, each of which computes 4 x 4 elements."""
    with require(ANY) as r:
        _multiplies(
            kernel,
            r,
            ((64, 16, 64), (64, 40, 128), (1, 1, 1), (33, 17, 70), (70, 65, 31)),
            FOURS,
            TILED_BLOCK,
            "look at which elements are wrong: whole rows or columns point at where a thread's "
            "16 elements lie",
        )
    with require(ORDERED) as r:
        _ordered(kernel, r, FOURS, TILED_BLOCK)
    with require(SHARES_64) as r:
        _little_traffic(
            kernel,
            r,
            FOURS,
            TILED_BLOCK,
            "let the block's 256 threads fill tiles of 64 x 16 and 16 x 64, four elements each, "
            "whole sectors of a row at a time",
        )
    with require(REUSES) as r:
        m, k, n = 128, 32, 64
        with r.input(_label(m, k, n, FOURS, TILED_BLOCK)):
            report = profile(kernel, FOURS.grid(m, n), TILED_BLOCK, *matrices(m, k, n))
            r.that(
                report.shared_load_requests > 0,
                what="the kernel loads nothing from shared memory",
                why="the block's threads share two tiles there",
                try_="begin with your kernel of 3.5.b",
            )
            wavefronts = wavefronts_each(report, m, k, n)
            conflicts = report.bank_conflicts
            r.that(
                wavefronts <= MOST_WAVEFRONTS,
                what=f"{wavefronts:.3g} wavefronts of shared memory for each multiply-add of a "
                f"warp, at most {MOST_WAVEFRONTS} allowed; {conflicts:,} of "
                f"{_wavefronts(report):,} are bank conflicts",
                why="4 values of a and 4 of b are enough for 16 multiply-adds: 0.5, and a little "
                "for filling the tiles. An SM serves 1 wavefront a clock, and has units for 4 "
                "multiply-adds of a warp",
                try_="let the lanes of a warp read neighbouring words"
                if conflicts > 0.1 * _wavefronts(report)
                else "load the values that several multiply-adds need once, before them",
            )


def _wavefronts(report: Any) -> int:
    return report.shared_load_wavefronts + report.shared_store_wavefronts


def wavefronts_each(report: Any, m: int, k: int, n: int) -> float:
    """Wavefronts of shared memory for each multiply-add of a warp, of M N K / 32 in all."""
    return _wavefronts(report) * WARP / (m * n * k)


# --- 3.5.d -------------------------------------------------------------------------------------

ONE_BARRIER = "waits once a step"
EARLY = "asks for the next tile before it computes with this one"


@exercise(
    "3.5.d",
    title="Two buffers, one barrier",
    points=4,
    skill=SKILL,
    arguments=("a", "b", "c"),
    kind="kernel",
    hints=(
        (
            ANY,
            "Load the first tile before the loop. In the loop, the last step has no next tile: "
            "ask before you load it.",
        ),
        (
            ORDERED,
            "Step s reads the tiles of buffer s % 2, and step s + 1 fills the other ones. A thread "
            "that is a whole step ahead of another would touch the same buffer; what stops it?",
        ),
        (
            ONE_BARRIER,
            "Between filling a buffer and reading it there has to be a barrier. Between reading "
            "it and filling it again lies a whole step on the other buffer, and its barrier.",
        ),
        (
            EARLY,
            "Load into two local variables, of_a and of_b, then do the maths of this step, and "
            "only then store them into the other buffer. A store to shared memory waits for the "
            "load that it stores.",
        ),
    ),
)
def double_buffered(kernel: Any, require: Any) -> None:
    """c = a b as in 3.5.b, with the next tile on its way during the maths of this one."""
    with require(ANY) as r:
        _multiplies(
            kernel,
            r,
            (*SHAPES, (16, 48, 16)),
            TILED,
            TILED_BLOCK,
            "count the steps for K = 16, 17 and 48: how many tiles are loaded, how many are used?",
        )
    with require(ORDERED) as r:
        _ordered(kernel, r, TILED, TILED_BLOCK)
    with require(SHARES) as r:
        _little_traffic(
            kernel,
            r,
            TILED,
            TILED_BLOCK,
            "each tile is loaded once: does the last step load one that nobody uses?",
        )
    with require(ONE_BARRIER) as r:
        for m, k, n in ((16, 64, 16), (32, 160, 16)):
            with r.input(_label(m, k, n, TILED, TILED_BLOCK)):
                steps = k // TILE
                waits = sum(e.what == BARRIER for e in steps_of(kernel, m, k, n))
                r.that(
                    0 < waits <= steps + 1,
                    what=f"{count(waits, 'barrier', 'barriers')} in {steps} steps, where "
                    f"{steps} suffice",
                    why="at each barrier the fastest warp waits for the slowest. With two buffers "
                    "nobody overwrites what is still being read, so the second wait of a step "
                    "guards nothing; with no wait at all nothing is guarded",
                    try_="one cuda.syncthreads() a step, between filling a buffer and reading it",
                )
    with require(EARLY) as r:
        m, k, n = 16, 96, 32
        with r.input(_label(m, k, n, TILED, TILED_BLOCK)):
            found = maths_in_flight(steps_of(kernel, m, k, n))
            least = min(found, default=0)
            r.that(
                least >= TILE,
                what=f"{count(least, 'load', 'loads')} from the tiles between asking for the next "
                "tile and storing it, where a step has 32",
                why="a warp goes on after a load until it needs the value. A store to shared "
                "memory needs it at once, so whatever stands behind that store waits some hundred "
                "clocks for global memory",
                try_="load the next tile into local variables before the loop over k, and store "
                "them into the other buffer after it",
            )


def steps_of(kernel: Any, m: int, k: int, n: int) -> Any:
    """The events of the learner's kernel on one product."""
    return timeline(kernel, TILED.grid(m, n), TILED_BLOCK, *matrices(m, k, n))


# --- what `show` draws -------------------------------------------------------------------------


@naive.show
def _show_naive(kernel: Any) -> views.Picture:
    m, k, n = 16, 8, 64
    traced = TracedLaunch(kernel, (4, 4), NAIVE_BLOCK, *matrices(m, k, n))
    report = profile(kernel, (4, 4), NAIVE_BLOCK, *matrices(m, k, n))
    loads, stores = report.sectors_per_load, report.sectors_per_store
    return views.first_warp(
        traced,
        f"[{m}, {k}] x [{k}, {n}]: {loads:.3g} sectors a load, {stores:.3g} a store",
    )


@tiled.show
def _show_tiled(kernel: Any) -> views.Picture:
    return _show_traffic(kernel, TILED)


@registers.show
def _show_registers(kernel: Any) -> views.Picture:
    m, k, n = 128, 32, 64
    report = profile(kernel, FOURS.grid(m, n), TILED_BLOCK, *matrices(m, k, n))
    traced = TracedLaunch(kernel, FOURS.grid(64, 64), TILED_BLOCK, *matrices(64, 8, 64))
    return views.thread_tiles(
        traced, wavefronts_each(report, m, k, n), report.bank_conflicts, MOST_WAVEFRONTS
    )


def _show_traffic(kernel: Any, tiling: Tiling) -> views.Picture:
    m, k, n = 64, 48, 128
    report = profile(kernel, tiling.grid(m, n), TILED_BLOCK, *matrices(m, k, n))
    rows = [
        ("naive", 2 * m * n * k * FLOAT),
        ("yours", report.global_load_bytes),
        ("enough", tiling.global_bytes(m, n, k)),
    ]
    return views.traffic(rows, f"[{m}, {k}] x [{k}, {n}]", report)


@double_buffered.show
def _show_double_buffered(kernel: Any) -> views.Picture:
    return views.steps(steps_of(kernel, 16, 64, 16), f"{64 // TILE} steps")
