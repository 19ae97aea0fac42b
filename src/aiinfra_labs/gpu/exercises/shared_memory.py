"""The exercises of unit 3.4, shared memory.

Outputs start full of NaN, so that an element which nobody wrote shows. A race is looked for on
shapes that fill their blocks: there every element of a tile has a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise, facts
from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.kernels.cuda_model import blocks_for, blocks_for_image

from . import shared_memory_views as views
from .grading import few_sectors, launch, not_written, profile, shape_of, written_once
from .thread_map import TracedLaunch

SKILL = "Shared memory"
TILE = 32
NAN_WHY = "out is full of NaN before the launch: nan marks an element that no thread wrote"
TURNED = "out[x, y] = a[y, x]: what stood in row y and column x stands in row x and column y"

_known = facts.load("gpu")
_ratio = _known["h100.global_latency"].value / _known["h100.shared_latency"].value

examine(
    "shared-400",
    verdict="corrected",
    figure=f"On an H800 a load from shared memory takes {_known['h100.shared_latency']}, one from "
    f"global memory {_known['h100.global_latency']}: {_ratio:.1f} times. NVIDIA's own rule of "
    "thumb, of 2013, is 100. A few hundred is the number of cycles of a global load, no ratio.",
    how="the ratio of two published figures, measured by pointer chasing; the emulator counts "
    "requests and knows no latency",
    source=_known["h100.shared_latency"].source,
)


# --- matrices, and what the three transposes share -----------------------------------------------

TURNS = "transposes a matrix of any shape"
ROWS = "loads and stores along rows: 4 sectors a request"
WAITS = "lets no thread read the tile before it is written"
ONE_WORD = "asks each bank for one word at a time"
RAGGED = (33, 70)
SHAPES = ((32, 32), (64, 96), (1, 1), RAGGED, (100, 5))


def _matrix(rows: int, columns: int) -> tuple[Any, Any]:
    """float32 [rows, columns] of irregular numbers, and [columns, rows] full of NaN."""
    a = np.random.default_rng(rows * 1000 + columns).uniform(1, 2, (rows, columns))
    nan = np.full((columns, rows), np.nan, np.float32)
    return emulator.to_device(a.astype(np.float32)), emulator.to_device(nan)


def _over(shape: tuple[int, int]) -> tuple[int, int]:
    return blocks_for_image(shape, (TILE, TILE))


def _launched(shape: tuple[int, int], block: tuple[int, int]) -> str:
    return f"a of {shape[0]} x {shape[1]}, {shape_of(_over(shape), block)}"


def _turns(kernel: Any, require: Any, block: tuple[int, int]) -> None:
    with require(TURNS) as r:
        for shape in SHAPES:
            with r.input(_launched(shape, block)):
                a, out = _matrix(*shape)
                launch(kernel, _over(shape), block, a, out)
                got = out.copy_to_host()
                r.equal(
                    got,
                    a.copy_to_host().T.copy(),
                    name="out",
                    why=NAN_WHY if np.isnan(got).any() else TURNED,
                    try_="follow one element by hand: which thread puts it into the tile, and "
                    "where; which thread takes it from there, and where does it go?",
                )
                if shape == RAGGED:  # threads beside the matrix: do they leave it alone?
                    written_once(
                        r, TracedLaunch(kernel, _over(shape), block, *_matrix(*shape)), 1, "out"
                    )


def _along_rows(kernel: Any, require: Any, block: tuple[int, int]) -> None:
    shape = (128, 96)
    with require(ROWS) as r, r.input(_launched(shape, block)):
        report = profile(kernel, _over(shape), block, *_matrix(*shape))
        why = (
            "threads that differ by one in x are neighbours in a warp. Where x is the row of an "
            "array, they lie a whole row apart there, and each costs a sector of 32 bytes"
        )
        try_ = "let x be the column in both arrays, and turn the tile in shared memory in between"
        few_sectors(r, "load", report.sectors_per_load, why, try_)
        few_sectors(r, "store", report.sectors_per_store, why, try_)


def _waits(kernel: Any, require: Any, block: tuple[int, int]) -> None:
    shape = (64, 96)
    with require(WAITS) as r, r.input(_launched(shape, block)):
        launch(kernel, _over(shape), block, *_matrix(*shape), check=True)


def _one_word(kernel: Any, require: Any, block: tuple[int, int]) -> None:
    shape = (128, 96)
    with require(ONE_WORD) as r, r.input(_launched(shape, block)):
        report = profile(kernel, _over(shape), block, *_matrix(*shape))
        r.that(
            report.shared_load_requests > 0,
            what="the kernel loads nothing from shared memory",
            why="where there is no tile, one of the two arrays is walked down its columns",
            try_="begin with the tile of 3.4.a",
        )
        line, worst = max(report.lines.items(), key=lambda item: item[1].bank_conflicts)
        for kind, taken in (
            ("load", report.wavefronts_per_shared_load),
            ("store", report.wavefronts_per_shared_store),
        ):
            r.that(
                taken <= 1.5,
                what=f"each shared {kind} of a warp takes {taken:.3g} wavefronts where 1 suffices: "
                f"{report.bank_conflicts:,} bank conflicts, {worst.bank_conflicts:,} of them in "
                f"line {line}, {report.source[line]}",
                why="word w of shared memory lies in bank w % 32, and a bank gives one word in a "
                "wavefront; lanes that want other words of the same bank wait",
                try_="work out the bank of the element that lane 0 wants, and of that of lane 1; "
                "show draws all 32",
            )


# --- 3.4.a ---------------------------------------------------------------------------------------

ONCE = "writes each element exactly once, and nothing else"


@exercise(
    "3.4.a",
    title="Transpose through a tile",
    points=6,
    central=TURNS,
    skill=SKILL,
    arguments=("a", "out"),
    kind="kernel",
    hints=(
        (
            TURNS,
            "The block at (blockIdx.x, blockIdx.y) loads the tile whose corner in a is column "
            "blockIdx.x * 32 and row blockIdx.y * 32. Where does this tile go in out?",
        ),
        (
            TURNS,
            "In out, the corner is column blockIdx.y * 32 and row blockIdx.x * 32. Ask of every "
            "load and of every store whether it is inside: a.shape and out.shape differ.",
        ),
        (
            ROWS,
            "A thread need not store the element that it loaded. It loads "
            "a[top + threadIdx.y, left + threadIdx.x] into tile[threadIdx.y, threadIdx.x], and "
            "stores to out[left + threadIdx.y, top + threadIdx.x]: which element of the tile is "
            "that?",
        ),
        (
            WAITS,
            "The element that a thread takes from the tile was put there by another thread, of "
            "another warp. All of them must have stored before any of them loads: "
            "cuda.syncthreads().",
        ),
        (ONCE, "Each thread stores one element of out, if it is inside, and no other."),
    ),
)
def transpose_tile(kernel: Any, require: Any) -> None:
    """out = a transposed, in blocks of 32 x 32, both arrays touched along their rows."""
    block = (TILE, TILE)
    _turns(kernel, require, block)
    _along_rows(kernel, require, block)
    _waits(kernel, require, block)
    with require(ONCE) as r:
        for shape in ((32, 32), (64, 96), RAGGED, (5, 100)):
            with r.input(_launched(shape, block)):
                traced = TracedLaunch(kernel, _over(shape), block, *_matrix(*shape))
                not_written(r, traced, {0: "a"})
                written_once(r, traced, 1, "out")


# --- 3.4.b ---------------------------------------------------------------------------------------


@exercise(
    "3.4.b",
    title="One word more: padding",
    points=6,
    central=TURNS,
    skill=SKILL,
    arguments=("a", "out"),
    kind="kernel",
    hints=(
        (
            ONE_WORD,
            "tile[y, x] of a 32 x 32 tile is word 32 y + x, so its bank is x: all of a column is "
            "in one bank. How long must a row be for the next row to begin in another bank?",
        ),
        (
            ONE_WORD,
            "With rows of 33 words tile[y, x] is word 33 y + x, in bank (y + x) % 32. Give the "
            "array that shape; the indices stay as they are.",
        ),
        (TURNS, "Only the shape of the shared array changes. What else did you change?"),
        (ROWS, "The accesses to a and out stay as in 3.4.a."),
        (WAITS, "The barrier stays between the store to the tile and the load from it."),
    ),
)
def transpose_padded(kernel: Any, require: Any) -> None:
    """The transpose of 3.4.a without bank conflicts."""
    block = (TILE, TILE)
    _turns(kernel, require, block)
    _one_word(kernel, require, block)
    _along_rows(kernel, require, block)
    _waits(kernel, require, block)


# --- 3.4.c ---------------------------------------------------------------------------------------

NO_PAD = "spends no word on a pad: 4,096 bytes a block"


@exercise(
    "3.4.c",
    title="No word more: a swizzle, by blocks of 32 x 8",
    points=8,
    central=TURNS,
    skill=SKILL,
    arguments=("a", "out"),
    kind="kernel",
    hints=(
        (
            TURNS,
            "256 threads have 1,024 elements: each takes four, in rows ty, ty + 8, ty + 16, "
            "ty + 24 of the tile. A loop over them stands on both sides of the barrier.",
        ),
        (
            ONE_WORD,
            "Keep the element of row y and column x elsewhere in its row, in column p(x, y). Down "
            "a column, y runs from 0 to 31: p must then take 32 different values. Along a row, "
            "too, or two elements would have one place.",
        ),
        (
            ONE_WORD,
            "p = x ^ y does it, exclusive or, bit by bit. Store to tile[y, x ^ y]; whoever wants "
            "row y and column x finds it there.",
        ),
        (NO_PAD, "The tile is 32 x 32 float32 again, and there is no second one."),
        (ROWS, "The accesses to a and out run along rows as before, four rows a thread."),
        (WAITS, "One barrier, between the two loops, not in them."),
    ),
)
def transpose_swizzled(kernel: Any, require: Any) -> None:
    """The transpose without bank conflicts and without a pad, by blocks of 32 x 8 threads."""
    block = (TILE, 8)
    _turns(kernel, require, block)
    _one_word(kernel, require, block)
    shape = (128, 96)
    with require(NO_PAD) as r, r.input(_launched(shape, block)):
        report = profile(kernel, _over(shape), block, *_matrix(*shape))
        enough = TILE * TILE * 4
        r.that(
            report.shared_bytes > 0,
            what="the kernel has no shared memory",
            why="without a tile one of the two arrays is walked down its columns",
            try_="begin with the tile of 3.4.a",
        )
        r.that(
            report.shared_bytes <= enough,
            what=f"a block takes {report.shared_bytes:,} bytes of shared memory where {enough:,} "
            "suffice",
            why="what a block takes is not there for the other blocks of its SM",
            try_="keep the tile at 32 x 32, and change the column in which an element is kept",
        )
    _along_rows(kernel, require, block)
    _waits(kernel, require, block)


# --- 3.4.d ---------------------------------------------------------------------------------------

RADIUS = 3
THREADS = 128
MEANS = "averages seven neighbours, whatever the grid"
WHOLE = "waits until the tile is whole"
READ = "waits until the tile was read, before it loads the next"
SHARES = "still loads each element once for a block"


@exercise(
    "3.4.d",
    title="Two barriers that are missing",
    points=6,
    central=WHOLE,
    skill=SKILL,
    arguments=("x", "out"),
    kind="kernel",
    hints=(
        (
            WHOLE,
            "The last threads of a warp read the tile's next three words, which the next warp "
            "stores. show frames the words that one warp stores and another reads.",
        ),
        (WHOLE, "cuda.syncthreads() between the loop that fills the tile and the one that adds."),
        (
            READ,
            "In its second round a fast warp stores the next tile's elements. What may a slow warp "
            "still be doing in its first?",
        ),
        (
            READ,
            "A second cuda.syncthreads() as the last line of the outer loop, outside any `if`: "
            "every thread of the block goes through it in each round.",
        ),
        (MEANS, "Change nothing but the barriers. All threads of a block go round equally often."),
        (SHARES, "Keep the tile: the barriers are what was missing, not the loads."),
    ),
)
def smooth(kernel: Any, require: Any) -> None:
    """A moving mean through a tile that a block fills again and again, with both its barriers."""
    with require(MEANS) as r:
        for n, blocks in ((128, 1), (1000, 8), (1000, 2), (5, 1), (640, 1)):
            with r.input(f"n = {n}, {shape_of(blocks, THREADS)}"):
                x, out = _series(n)
                launch(kernel, blocks, THREADS, x, out)
                got = out.copy_to_host()
                r.equal(
                    got,
                    _moving_mean(x.copy_to_host()),
                    name="out",
                    tolerance=1e-5,
                    why=NAN_WHY
                    if np.isnan(got).any()
                    else "out[i] is the mean of x[i - 3] to x[i + 3], with zeros beyond the ends",
                    try_="the kernel that was given gives these results on the emulator: compare",
                )
    with require(WHOLE) as r:
        n = 4 * THREADS
        with r.input(f"n = {n}, {shape_of(4, THREADS)}: a tile for each block"):
            launch(kernel, 4, THREADS, *_series(n), check=True)
    with require(READ) as r:
        n = 6 * THREADS
        with r.input(f"n = {n}, {shape_of(2, THREADS)}: three tiles for each block"):
            launch(kernel, 2, THREADS, *_series(n), check=True)
    with require(SHARES) as r:
        n = 6 * THREADS
        with r.input(f"n = {n}, {shape_of(2, THREADS)}"):
            report = profile(kernel, 2, THREADS, *_series(n))
            loads = report.global_load_bytes // 4
            enough = n + 2 * RADIUS * blocks_for(n, THREADS)
            r.that(
                loads <= 1.25 * enough,
                what=f"{loads:,} elements are loaded from global memory where {enough:,} suffice",
                why="each is wanted by seven threads; shared memory is there so that one of them "
                "loads it for all",
                try_="load the block's 128 elements and the three on either side into the tile, "
                "and add from there",
            )


def _series(n: int) -> tuple[Any, Any]:
    x = np.random.default_rng(n).uniform(1, 2, n).astype(np.float32)
    return emulator.to_device(x), emulator.to_device(np.full(n, np.nan, np.float32))


def _moving_mean(x: np.ndarray) -> np.ndarray:
    """The mean of 2 RADIUS + 1 neighbours, zeros beyond the ends. x, result: float32 [n]."""
    width = 2 * RADIUS + 1
    total = np.convolve(x.astype(np.float64), np.ones(width))[RADIUS : RADIUS + x.size]
    return (total / width).astype(np.float32)


# --- 3.4.e ---------------------------------------------------------------------------------------

BINS = 256
COUNTS = "counts every value, whatever the grid"
ORDER = "starts from zero, waits, and loses no count"
FEW = "adds to bins once a block"


@exercise(
    "3.4.e",
    title="A histogram for each block",
    points=4,
    central=COUNTS,
    skill=SKILL,
    arguments=("values", "bins"),
    kind="kernel",
    hints=(
        (
            COUNTS,
            "A grid-stride loop visits all values: range(cuda.grid(1), values.size, "
            "cuda.gridsize(1)). Two threads may have the same value at the same moment: "
            "cuda.atomic.add(array, index, 1).",
        ),
        (
            ORDER,
            "Shared memory begins with what the last block left there. The threads of the block "
            "set its 256 counts to zero first, by a loop from threadIdx.x in steps of blockDim.x.",
        ),
        (
            ORDER,
            "Two barriers: after the zeros, before anyone counts; and after the counting, before "
            "anyone reads a count.",
        ),
        (
            FEW,
            "Count with cuda.atomic.add on the block's own array in shared memory. At the end each "
            "thread adds its bins, 256 / blockDim.x of them, to the global ones.",
        ),
    ),
)
def histogram(kernel: Any, require: Any) -> None:
    """bins[v] += how often v occurs, counted in shared memory first."""
    with require(COUNTS) as r:
        for n, blocks, threads in ((256, 1, 256), (1000, 2, 128), (1, 3, 64), (5000, 3, 96)):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                values, bins = _values(n)
                launch(kernel, blocks, threads, values, bins)
                r.equal(
                    bins.copy_to_host(),
                    np.bincount(values.copy_to_host(), minlength=BINS).astype(np.int32),
                    name="bins",
                    why="each value adds 1 to its bin; what is added without an atomic operation "
                    "may be lost, and counts that were not set to zero are not counts",
                    try_="add up bins: is the sum n?",
                )
    with require(ORDER) as r:
        for n, blocks, threads in ((1000, 2, 128), (2000, 1, 256)):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                launch(kernel, blocks, threads, *_values(n), check=True)
    with require(FEW) as r:
        n, blocks, threads = 20_000, 2, 128
        with r.input(f"n = {n:,}, {shape_of(blocks, threads)}"):
            _few_atomics(r, _additions(kernel, n, blocks, threads), blocks)


def _additions(kernel: Any, n: int, blocks: int, threads: int) -> int:
    """How many times a thread adds to `bins` by an atomic operation, in the whole launch."""
    traced = TracedLaunch(kernel, blocks, threads, *_values(n))
    return int(traced.times("atomic", 1).sum())


def _few_atomics(r: Any, additions: int, blocks: int) -> None:
    enough = blocks * BINS
    r.that(
        additions > 0,
        what="the kernel adds nothing to bins by an atomic operation",
        why="several blocks add to the same bins at the same time",
        try_="cuda.atomic.add(bins, b, own[b])",
    )
    r.that(
        additions <= enough,
        what=f"{additions:,} atomic additions to bins where {enough:,} suffice: one for each of "
        f"{BINS} bins and {blocks} blocks",
        why="blocks that meet on one bin in global memory take turns; a block's own counts in "
        "shared memory leave one addition for each bin",
        try_="cuda.shared.array(256, np.int32) for the block's own counts, and one loop at the end "
        "in which each bin is added to bins once",
    )


def _values(n: int) -> tuple[Any, Any]:
    """uint8 [n], some much more often than others, and int32 [256] of zeros."""
    rng = np.random.default_rng(n)
    values = np.minimum(rng.exponential(30, n), 255).astype(np.uint8)
    return emulator.to_device(values), emulator.to_device(np.zeros(BINS, np.int32))


# --- what `show` draws ---------------------------------------------------------------------------


@transpose_tile.show
@transpose_padded.show
def _show_32x32(kernel: Any) -> views.Drawing:
    accesses = views.shared_accesses(kernel, 1, (TILE, TILE), *_matrix(TILE, TILE))
    return views.worst_requests(accesses)


@transpose_swizzled.show
def _show_32x8(kernel: Any) -> views.Drawing:
    accesses = views.shared_accesses(kernel, 1, (TILE, 8), *_matrix(TILE, TILE))
    return views.worst_requests(accesses)


@smooth.show
def _show_smooth(kernel: Any) -> views.Drawing:
    return views.handed_over(views.shared_accesses(kernel, 1, THREADS, *_series(THREADS)))


@histogram.show
def _show_histogram(kernel: Any) -> views.Drawing:
    rows = []
    for n, blocks, threads in ((2_000, 2, 128), (20_000, 2, 128)):
        rows.append((f"{n:,} values", _additions(kernel, n, blocks, threads), blocks * BINS))
    return views.atomics_bars(rows)
