"""The exercises of unit 3.3, coalesced access; two more stand in `coalescing_layouts.py`.

Each is right or wrong by its result, and then by what its warps ask of memory: sectors for each
request of the worst line, or requests where wider words are the point. Counts, never times.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.kernels.coalescing import WARP

from .grading import (
    beginning,
    count,
    launch,
    not_written,
    outside_means,
    profile,
    shape_of,
    share,
    written_once,
)
from .thread_map import TracedLaunch
from .warp_view import first_warp

SKILL = "Coalesced access"
BEST = 4  # sectors for 32 neighbouring elements of 4 bytes

examine(
    "coalescing-90",
    verdict="corrected",
    figure="There is no one percentage, whether the talk means 'by 90 %' or 'to 90 %'. Of "
    "the bytes that a warp's request moves, 12.5 % are used "
    "at worst with 4-byte elements and 100 % at best: 8 times, or +700 %. A stride of 2 costs half "
    "(+100 % when mended), a shifted start a fifth (+25 %); with 1-byte elements it is up to 32 "
    "times, with 16-byte ones 2. Where a cache keeps the sectors until their other bytes are "
    "asked for, DRAM moves the same either way.",
    how="counted by the emulator over strides 1 to 33 and shifts 0 to 31; sectors of 32 bytes and "
    "their use from NVIDIA's guide",
    source="https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/#coalesced-access-to-global-memory",
)
examine(
    "float4",
    verdict="reproduced",
    figure="float4 moves 16 bytes a lane: a quarter of the requests, and the same sectors and the "
    "same DRAM bytes. So it saves instructions and keeps more bytes under way, and saves no "
    "traffic. Double buffering starts the next tile's loads before the present tile is used, with "
    "one barrier a tile for two (unit 3.5); how much time it hides takes a GPU to measure.",
    how="counted by the emulator in a copy of float32, one element a lane and four; double "
    "buffering in unit 3.5",
    source="https://developer.nvidia.com/blog/cuda-pro-tip-increase-performance-with-vectorized-memory-access/",
)


def sectors_asked(accesses: list[emulator.Access]) -> float:
    """Sectors a request, of the line that asks worst: it must not hide behind others that ask well.

    accesses: loads or stores of one array, whose elements lie within a sector each.
    """
    requests, sectors = Counter[int](), Counter[int]()
    for access in accesses:
        touched = np.sort(access.addresses // 32, axis=1)  # [warps, 32]; -1 for an inactive lane
        active = touched[:, -1] >= 0
        different = 1 + (np.diff(touched, axis=1) != 0).sum(axis=1) - (touched[:, 0] < 0)
        requests[access.line] += int(active.sum())
        sectors[access.line] += int(different[active].sum())
    return max((sectors[line] / n for line, n in requests.items() if n), default=0.0)


def coalesced(
    r: Any, traced: TracedLaunch, kind: str, position: int, why: str, try_: str, best: int = BEST
) -> None:
    """At most a sector above the least, for each line that loads or stores the array there."""
    accesses = traced.accesses(kind, position)
    sectors = sectors_asked(accesses)
    r.that(
        sectors > 0,
        what=f"the kernel makes no {kind} of its {('first', 'second', 'third')[position]} argument",
        why="how a warp meets memory shows in what it loads and stores",
        try_="meet the requirements above first",
    )
    r.that(
        sectors <= best + 1,
        what=f"each {kind} of a warp touches {sectors:.3g} sectors of {accesses[0].array} where "
        f"{best} suffice",
        why=why,
        try_=try_,
    )


def reached(r: Any, traced: TracedLaunch, position: int) -> None:
    """Every element was stored: a kernel that leaves some out asks for less than it should."""
    times = traced.times("store", position)
    missed = int((times == 0).sum())
    r.that(
        not missed,
        what=f"{share(missed, times.size)} not written: too few to judge who takes which",
        why="the order in which lanes take elements shows when all are taken",
        try_="reach every element first",
    )


# --- 3.3.a ---------------------------------------------------------------------------------------

ITEMS = 8  # elements of each thread
COPIES = "copies every element, whatever the length"
ONCE = "writes each element exactly once, and nothing else"
NEIGHBOURS = "lets the lanes of a warp read and write side by side"


@exercise(
    "3.3.a",
    title="A tile for each block, in the right order",
    points=4,
    central=COPIES,
    skill=SKILL,
    arguments=("source", "target"),
    kind="kernel",
    hints=(
        (
            COPIES,
            "Block b has the elements from b * 8 * cuda.blockDim.x on. Which of them has its "
            "thread 0, which its thread 1? Any deal will do that leaves none out.",
        ),
        (
            COPIES,
            "The last tile may be short, or the array end inside it: ask `if i < target.size` "
            "of each element.",
        ),
        (
            NEIGHBOURS,
            "In one round of your loop, all 32 lanes of a warp copy an element each. How far "
            "apart are those of lane 0 and lane 1?",
        ),
        (
            NEIGHBOURS,
            "Let the threads of a block take blockDim.x neighbours in the first round, the next "
            "blockDim.x in the second: first + round * cuda.blockDim.x + cuda.threadIdx.x.",
        ),
    ),
)
def copy_tiles(kernel: Any, require: Any) -> None:
    """target[i] = source[i], each block a tile of 8 * blockDim.x neighbouring elements."""
    shapes = ((256, 1, 32), (1024, 2, 64), (1, 1, 32), (100, 1, 32), (1000, 2, 96), (0, 1, 32))
    with require(COPIES) as r:
        for n, blocks, threads in shapes:
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                source, target = _floats(n)
                with _past_the_tile():
                    launch(kernel, blocks, threads, source, target)
                r.equal(
                    target.copy_to_host(),
                    source.copy_to_host(),
                    name="target",
                    why="target is full of NaN before the launch: no thread wrote that element"
                    if np.isnan(target.copy_to_host()).any()
                    else "each element is copied to its own place",
                    try_="work out by hand what thread 1 of block 0 copies in each round, and "
                    "where block 1 begins",
                )
    with require(ONCE) as r:
        for n, blocks, threads in shapes[:5]:
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                with _past_the_tile():
                    traced = TracedLaunch(kernel, blocks, threads, *_floats(n))
                not_written(r, traced, {0: "source"})
                written_once(r, traced, 1, "target")
    with require(NEIGHBOURS) as r:
        for n, blocks, threads in ((256, 1, 32), (4096, 4, 128)):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                with _past_the_tile():
                    traced = TracedLaunch(kernel, blocks, threads, *_floats(n))
                reached(r, traced, 1)
                for kind, position in (("load", 0), ("store", 1)):
                    coalesced(
                        r,
                        traced,
                        kind,
                        position,
                        why="the lanes of a warp ask at the same time. Where each has 8 elements "
                        "of its own in a row, neighbours are 8 elements, 32 bytes, apart: a whole "
                        "sector for each 4 bytes",
                        try_="deal the tile out like cards: one element to each thread, then the "
                        "next round",
                    )


def _past_the_tile() -> Any:
    return outside_means(
        "the blocks' tiles cover the array, and the last one may reach past its end",
        "ask of each element that a thread takes: `if i < target.size:`",
    )


def _floats(n: int) -> tuple[Any, Any]:
    """n irregular float32 on the emulated device, and an output full of NaN."""
    values = np.random.default_rng(n).uniform(1, 2, n).astype(np.float32)
    return emulator.to_device(values), emulator.to_device(np.full(n, np.nan, np.float32))


# --- 3.3.b ---------------------------------------------------------------------------------------

SUMS = "adds up every column, for a matrix of any shape"
ATOMICS = "adds in a register, and atomically only once a thread"
ALONG = "lets a warp read along a row"


@exercise(
    "3.3.b",
    title="Column sums: the gradient of a bias",
    points=4,
    central=SUMS,
    skill=SKILL,
    arguments=("a", "sums"),
    kind="kernel",
    hints=(
        (
            SUMS,
            "`x, y = cuda.grid(2)` and `step_x, step_y = cuda.gridsize(2)`: the threads along one "
            "axis share the columns, those along the other the rows. Two nested loops, or a test "
            "and a loop.",
        ),
        (
            SUMS,
            "Several threads have rows of one column. `sums[c] += total` from two threads at once "
            "loses one of the two; `cuda.atomic.add(sums, c, total)` does not.",
        ),
        (
            ATOMICS,
            "A thread that has three rows of a column adds them up in a local variable first.",
        ),
        (
            ALONG,
            "The lanes of a warp differ in x, and a[row, column] and a[row, column + 1] lie side "
            "by side. Which of the two indices should x be?",
        ),
    ),
)
def column_sums(kernel: Any, require: Any) -> None:
    """sums[c] += a[r, c] over all rows r; sums is zero before, and the grid has two axes."""
    block = (32, 4)
    with require(SUMS) as r:
        for rows, columns, grid in (
            (4, 32, (1, 1)),
            (1, 1, (1, 1)),
            (37, 19, (1, 2)),
            (19, 70, (3, 2)),
            (100, 33, (2, 3)),
        ):
            with r.input(f"a of {rows} x {columns}, {shape_of(grid, block)}"):
                a, sums = _matrix(rows, columns)
                with _past_the_matrix():
                    launch(kernel, grid, block, a, sums, check=True)
                r.equal(
                    sums.copy_to_host(),
                    a.copy_to_host().astype(np.float64).sum(axis=0).astype(np.float32),
                    name="sums",
                    tolerance=1e-4,
                    why="each element of a column is added to its sum once, whichever thread has "
                    "it: a grid may be larger than the matrix, or smaller",
                    try_="let a thread start at its own row and step on by the number of threads "
                    "on that axis, cuda.gridsize(2)",
                )
    with require(ALONG) as r:
        for rows, columns, grid in ((64, 64, (2, 2)), (128, 32, (1, 4))):
            with r.input(f"a of {rows} x {columns}, {shape_of(grid, block)}"):
                coalesced(
                    r,
                    TracedLaunch(kernel, grid, block, *_matrix(rows, columns)),
                    "load",
                    0,
                    why="a row-major matrix has the elements of a row side by side; lanes that "
                    "each take another row are a whole row apart, a sector for each",
                    try_="let x, in which the lanes of a warp differ, choose the column",
                )
    with require(ATOMICS) as r:
        rows, columns, grid = 256, 64, (2, 2)
        with r.input(f"a of {rows} x {columns}, {shape_of(grid, block)}"):
            report = profile(kernel, grid, block, *_matrix(rows, columns))
            warps = math.prod(grid) * math.prod(block) // WARP
            asked, read = report.global_atomic_requests, report.global_load_bytes // 4
            r.that(
                read >= rows * columns,
                what=f"only {read:,} of {rows * columns:,} elements were read",
                why="the sums are not those of the whole matrix",
                try_="meet the first requirement first",
            )
            r.that(
                asked <= warps,
                what=f"the {warps} warps made {asked:,} atomic requests where {warps} suffice",
                why="an atomic goes to the L2 cache and is done there, one after another for each "
                "address; a sum in a register costs no traffic",
                try_="add a thread's rows up in a local variable, then call cuda.atomic.add once",
            )


def _past_the_matrix() -> Any:
    return outside_means(
        "the grid may have more threads along x than the matrix has columns, and more along y "
        "than it has rows",
        "compare the column with a.shape[1] and the row with a.shape[0] before you read",
    )


def _matrix(rows: int, columns: int) -> tuple[Any, Any]:
    """An irregular float32 matrix on the emulated device, and sums of zero."""
    values = np.random.default_rng(rows * 1000 + columns).uniform(1, 2, (rows, columns))
    return emulator.to_device(values.astype(np.float32)), emulator.to_device(
        np.zeros(columns, np.float32)
    )


# --- 3.3.d ---------------------------------------------------------------------------------------

TAIL = "copies every element, with a tail of 0 to 3"
FOURS = "asks for four elements at once"


@exercise(
    "3.3.d",
    title="Four elements at once, and the tail",
    points=4,
    central=TAIL,
    skill=SKILL,
    arguments=("source", "target"),
    kind="kernel",
    hints=(
        (
            TAIL,
            "n // 4 groups of four elements, and 0 to 3 elements behind them that have to be "
            "copied as well. There are threads to spare for those: which?",
        ),
        (
            TAIL,
            "load_float4 takes the number of the first of its four elements. Thread i has the "
            "elements from 4 * i on.",
        ),
        (
            TAIL,
            "A float4 cannot be moved so that it ends with the array: its address must be a "
            "multiple of 16 bytes. Copy what is left element by element.",
        ),
        (
            FOURS,
            "Four loads in four lines, or in a loop, are four requests. One load_float4 is one.",
        ),
        (
            FOURS,
            "`store_float4(target, 4 * i, load_float4(source, 4 * i))`, if 4 * i + 3 is inside.",
        ),
    ),
)
def copy_float4(kernel: Any, require: Any) -> None:
    """target[i] = source[i], with loads and stores of four float32 at once."""
    with require(TAIL) as r:
        for n in (128, 4, 131, 1, 2, 3, 0, 1001, 1022):
            blocks, threads = _for_fours(n)
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                source, target = _floats(n)
                with _past_the_groups(n):
                    launch(kernel, blocks, threads, source, target)
                got, expected = target.copy_to_host(), source.copy_to_host()
                missed = np.argwhere(np.isnan(got))
                r.that(
                    not len(missed),
                    what=f"{share(len(missed), n)} still nan{beginning('target', missed)}",
                    why=f"n = {n} is {count(n // 4, 'group', 'groups')} of four and {n % 4} more",
                    try_="after the groups of four, copy what is left one by one",
                )
                r.equal(
                    got,
                    expected,
                    name="target",
                    why="each element is copied to its own place",
                    try_="four elements from 4 * i on go to four places from 4 * i on",
                )
    with require(ONCE) as r:
        for n in (128, 131, 1001):
            blocks, threads = _for_fours(n)
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                with _past_the_groups(n):
                    traced = TracedLaunch(kernel, blocks, threads, *_floats(n))
                not_written(r, traced, {0: "source"})
                written_once(r, traced, 1, "target")
    with require(FOURS) as r:
        for n in (4096, 1027):
            blocks, threads = _for_fours(n)
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                with _past_the_groups(n):
                    report = profile(kernel, blocks, threads, *_floats(n))
                    traced = TracedLaunch(kernel, blocks, threads, *_floats(n))
                enough = math.ceil(n / (4 * WARP)) + (2 if n % 4 else 0)
                for kind, position in (("load", 0), ("store", 1)):
                    asked = getattr(report, f"global_{kind}_requests")
                    r.that(
                        0 < asked <= enough,
                        what=f"{n:,} elements took {asked:,} {kind} requests where {enough:,} "
                        "suffice",
                        why="a request is one instruction of a warp: its 32 lanes move 128 bytes "
                        "with an element each, 512 with four"
                        if asked
                        else f"the kernel makes no {kind} at all",
                        try_="let one load of a lane take four elements: load_float4 and "
                        "store_float4",
                    )
                    coalesced(
                        r,
                        traced,
                        kind,
                        position,
                        best=16,
                        why="32 float4 side by side fill 16 sectors",
                        try_="thread i has the four elements from 4 * i on: neighbours take "
                        "neighbours",
                    )


def _past_the_groups(n: int) -> Any:
    return outside_means(
        f"an array of {n:,} elements holds {n // 4:,} groups of four, and {n % 4} more",
        "thread i has a whole group only if 4 * i + 3 is inside",
    )


def _for_fours(n: int) -> tuple[int, int]:
    """Blocks and threads: at least one for each four elements and one for each that is left."""
    threads = 64
    return max(1, math.ceil((n // 4 + n % 4) / threads)), threads


# --- what `show` draws ---------------------------------------------------------------------------


@copy_tiles.show
def _show_copy_tiles(kernel: Any) -> Any:
    return first_warp(kernel, 1, 32, _floats(256))


@column_sums.show
def _show_column_sums(kernel: Any) -> Any:
    return first_warp(kernel, (2, 1), (32, 4), _matrix(32, 64))


@copy_float4.show
def _show_copy_float4(kernel: Any) -> Any:
    return first_warp(kernel, *_for_fours(131), _floats(131))
