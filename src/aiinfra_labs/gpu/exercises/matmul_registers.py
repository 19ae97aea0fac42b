"""The later exercises of unit 3.5: sixteen elements a thread in registers, and two buffers.

Each is graded by its result on matrices of any size, and then by one count: wavefronts for each
multiply-add, barriers, and how much maths lies between a load and its use.
"""

from __future__ import annotations

from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu.tiling import WARP

from . import matmul_views as views
from .block_timeline import BARRIER, maths_in_flight, timeline
from .grading import count, profile
from .matmul_grading import (
    ANY,
    FOURS,
    ORDERED,
    SHAPES,
    SHARES,
    SKILL,
    TILE,
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

# --- 3.5.c -------------------------------------------------------------------------------------

SHARES_64 = "loads each element once for a block: 2 M N K / 64 floats"
REUSES = "needs at most 0.7 wavefronts of shared memory for each multiply-add"
MOST_WAVEFRONTS = 0.7


@exercise(
    "3.5.c",
    title="Sixteen elements a thread",
    points=6,
    central=REUSES,
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
        multiplies(
            kernel,
            r,
            ((64, 16, 64), (64, 40, 128), (1, 1, 1), (33, 17, 70), (70, 65, 31)),
            FOURS,
            TILED_BLOCK,
            "look at which elements are wrong: whole rows or columns point at where a thread's "
            "16 elements lie",
        )
    with require(ORDERED) as r:
        ordered(kernel, r, FOURS, TILED_BLOCK)
    with require(SHARES_64) as r:
        little_traffic(
            kernel,
            r,
            FOURS,
            "let the block's 256 threads fill tiles of 64 x 16 and 16 x 64, four elements each, "
            "whole sectors of a row at a time",
        )
    with require(REUSES) as r:
        m, k, n = 128, 32, 64
        with r.input(label(m, k, n, FOURS, TILED_BLOCK)):
            report = profiled(kernel, r, m, k, n, FOURS)
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
    points=8,
    central=EARLY,
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
        multiplies(
            kernel,
            r,
            (*SHAPES, (16, 48, 16)),
            TILED,
            TILED_BLOCK,
            "count the steps for K = 16, 17 and 48: how many tiles are loaded, how many are used?",
        )
    with require(ORDERED) as r:
        ordered(kernel, r, TILED, TILED_BLOCK)
    with require(SHARES) as r:
        little_traffic(
            kernel,
            r,
            TILED,
            "each tile is loaded once: does the last step load one that nobody uses?",
        )
    with require(ONE_BARRIER) as r:
        for m, k, n in ((16, 64, 16), (32, 160, 16)):
            with r.input(label(m, k, n, TILED, TILED_BLOCK)):
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
        with r.input(label(m, k, n, TILED, TILED_BLOCK)):
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


@registers.show
def _show_registers(kernel: Any) -> views.Drawing:
    m, k, n = 128, 32, 64
    report = profile(kernel, FOURS.grid(m, n), TILED_BLOCK, *matrices(m, k, n))
    traced = TracedLaunch(kernel, FOURS.grid(64, 64), TILED_BLOCK, *matrices(64, 8, 64))
    return views.thread_tiles(
        traced, wavefronts_each(report, m, k, n), report.bank_conflicts, MOST_WAVEFRONTS
    )


@double_buffered.show
def _show_double_buffered(kernel: Any) -> views.Drawing:
    return views.steps(steps_of(kernel, 16, 64, 16), f"{64 // TILE} steps")
