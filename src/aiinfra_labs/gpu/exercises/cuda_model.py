"""The exercises of unit 3.2, the CUDA programming model; two more stand in `cuda_model_images.py`.

Outputs start full of NaN, so that an element which nobody wrote shows. Sizes are irregular on
purpose: not a multiple of the block, smaller than a warp, more than the grid has threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.gpu import cuda, emulator

from . import thread_views as views
from .grading import (
    beginning,
    count,
    few_sectors,
    launch,
    not_written,
    profile,
    shape_of,
    share,
    written_once,
)
from .thread_map import TracedLaunch

SKILL = "CUDA programming model"
NAN_WHY = (
    "out is full of NaN before the launch: nan marks an element that no thread wrote, or that was "
    "read before it was written"
)

examine(
    "hierarchy",
    verdict="corrected",
    figure="The order is grid, block, warp, thread: a block of 100 threads runs as 4 warps, of "
    "32 + 32 + 32 + 4 threads. Since compute capability 9.0 (Hopper) a launch may add a level "
    "between grid and block, the thread block cluster.",
    how="counted in the emulator's trace of a copy by one block of 100 threads; the cluster from "
    "NVIDIA's guide",
    source="https://docs.nvidia.com/cuda/cuda-c-programming-guide/#thread-hierarchy",
)


# --- 3.2.a -------------------------------------------------------------------------------------

ADDS = "adds, where the grid fits the arrays exactly"
INSIDE = "stays inside the arrays, whatever their length"
ONCE = "writes each element exactly once, and nothing else"


@exercise(
    "3.2.a",
    title="Vector add: one thread, one element",
    points=4,
    central=INSIDE,
    skill=SKILL,
    arguments=("a", "b", "out"),
    kind="kernel",
    hints=(
        (
            ADDS,
            "Each thread needs its own number in the whole grid. How many threads come before "
            "thread 2 of block 3, if a block has 64? Which of `cuda.threadIdx.x`, "
            "`cuda.blockIdx.x` and `cuda.blockDim.x` say so?",
        ),
        (
            ADDS,
            "The number is `cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x`; "
            "`cuda.grid(1)` computes the same.",
        ),
        (
            INSIDE,
            "100 elements in blocks of 64 launch 128 threads. Which of them have no element? "
            "How does a thread find out that it is one of these?",
        ),
        (INSIDE, "Ask `if i < out.size:` before you touch an array."),
        (
            ONCE,
            "Follow one thread to its end: how many times does it store, and where? Only the "
            "thread with the number i stores to out[i], one time.",
        ),
    ),
)
def vector_add(kernel: Any, require: Any) -> None:
    """out[i] = a[i] + b[i], for arrays of any length, in blocks of any size."""
    with require(ADDS) as r:
        for blocks, threads, dtype in (
            (1, 32, np.float32),
            (4, 64, np.float32),
            (10, 96, np.float64),
        ):
            n = blocks * threads
            with r.input(f"n = {n}, {np.dtype(dtype)}, {shape_of(blocks, threads)}"):
                a, b, out = _vectors(n, dtype)
                launch(kernel, blocks, threads, a, b, out)
                r.equal(
                    out.copy_to_host(),
                    a.copy_to_host() + b.copy_to_host(),
                    name="out",
                    why=_why_sum(out, dtype),
                    try_="work out by hand which element the last thread of block 0 takes, and "
                    "the first of block 1; show draws who wrote what",
                )
    with require(INSIDE) as r:
        for n, threads in ((1, 32), (31, 32), (100, 64), (1000, 96), (1000, 1024), (0, 32)):
            blocks = max(1, math.ceil(n / threads))
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                a, b, out = _vectors(n)
                launch(kernel, blocks, threads, a, b, out)
                r.equal(
                    out.copy_to_host(),
                    a.copy_to_host() + b.copy_to_host(),
                    name="out",
                    why=_why_sum(out, np.float32),
                    try_="which threads have an element? They work, and no others",
                )
    with require(ONCE) as r:
        for n, blocks, threads in (
            (32, 1, 32),
            (256, 4, 64),
            (1, 1, 32),
            (100, 2, 64),
            (1000, 11, 96),
        ):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                traced = TracedLaunch(kernel, blocks, threads, *_vectors(n))
                not_written(r, traced, {0: "a", 1: "b"})
                written_once(r, traced, 2, "out")


def _why_sum(out: Any, dtype: Any) -> str:
    if np.isnan(out.copy_to_host()).any():
        return NAN_WHY
    if dtype is np.float64:
        return (
            "the arrays are float64 here, and each sum is rounded once, to float64: a sum that was "
            "made in float32 has lost half of its digits"
        )
    return "every element was written, and some are not a[i] + b[i]"


# --- 3.2.b -------------------------------------------------------------------------------------


SUM = "returns x + y + ... + y, a host array"
COPIES = "copies each array once, however often it launches"


@cuda.jit
def add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def add_and_one(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i] + np.float32(1)


@exercise(
    "3.2.b",
    title="Host and device: copy once, launch often",
    points=6,
    central=SUM,
    skill=SKILL,
    arguments=("kernel", "x", "y", "times"),
    changes=("x", "y"),  # a requirement of its own looks at them
    hints=(
        (
            SUM,
            "The kernel adds two arrays, once. Which two should the second launch add, so that "
            "y is in the sum twice?",
        ),
        (
            SUM,
            "Each thread reads element i and then writes element i, so one device array may be "
            "both input and output: `kernel[blocks, threads](total, d_y, total)`.",
        ),
        (
            COPIES,
            "A host array passed to a kernel is copied to the device before the launch and back "
            "after it, every time. A device array stays where it is.",
        ),
        (
            COPIES,
            "`cuda.to_device(x)` copies to the device and gives a device array; "
            "`d.copy_to_host()` copies back. Both belong outside the loop.",
        ),
    ),
)
def add_many(function: Any, require: Any) -> None:
    """x + y + ... + y by `times` launches of an add kernel, with one copy of each array."""
    with require(SUM) as r:
        for n, times in ((1, 1), (100, 1), (100, 3), (1000, 10), (5000, 2), (100, 0), (40_000, 1)):
            with r.input(f"n = {n}, times = {times}"):
                x, y = _host_vectors(n)
                given = x.copy(), y.copy()
                got = function(add, *given, times)
                _is_host_array(r, got)
                r.that(
                    not any(np.shares_memory(got, array) for array in given),
                    what="the result is one of the arrays that were given",
                    why="whoever changes the sum would change x or y, too",
                    try_="return what copy_to_host() gives, also for no launch at all",
                )
                r.equal(
                    got,
                    _added(x, y, times),
                    why="each launch adds y once to what the launch before it left",
                    try_="launch enough blocks for all n elements, rounding up, and give each "
                    "launch what the last one wrote",
                )
    with require("lets the device add: one launch each time") as r:
        for times in (1, 3, 10):
            with r.input(f"n = 1000, times = {times}"):
                p = _profiled(function, 1000, times)
                r.that(
                    len(p.launches) == times,
                    what=f"{count(len(p.launches), 'launch', 'launches')} where "
                    f"{count(times, 'was', 'were')} asked for",
                    why="the kernel adds y once, so adding it several times takes several launches",
                    try_="for _ in range(times): kernel[blocks, threads](...)",
                )
        with r.input("n = 1000, times = 3, and a kernel that adds 1 as well"):
            x, y = _host_vectors(1000)
            r.equal(
                function(add_and_one, x.copy(), y.copy(), 3),
                _added(x, y, 3) + np.float32(3),
                tolerance=1e-5,
                why="the sum is not the one that the kernel has made on the device: another "
                "kernel was given here, and must make another sum",
                try_="return what the last launch has written, and compute nothing on the host",
            )
    with require(COPIES) as r:
        for n, times in ((1000, 10), (5000, 25)):
            with r.input(f"n = {n}, times = {times}"):
                p = _profiled(function, n, times)
                nbytes = n * np.dtype(np.float32).itemsize
                _copied_at_most(r, "to the device", p.bytes_to_device, 2 * nbytes, times)
                _copied_at_most(r, "to the host", p.bytes_to_host, nbytes, times)
    with require("leaves x and y as they were") as r, r.input("n = 100, times = 3"):
        x, y = _host_vectors(100)
        given_x, given_y = x.copy(), y.copy()
        function(add, given_x, given_y, 3)
        for name, given, before in (("x", given_x, x), ("y", given_y, y)):
            r.that(
                np.array_equal(given, before),
                what=f"{name} was changed: {name}[0] was {before[0]:.6g} and is {given[0]:.6g}",
                why="a host array given to a kernel as its output is overwritten when the launch "
                "copies it back",
                try_="let the kernel write to a device array of yours: cuda.to_device(x)",
            )


def _profiled(function: Any, n: int, times: int) -> Any:
    x, y = _host_vectors(n)
    with cuda.profile() as p:
        got = function(add, x, y, times)
        if hasattr(got, "copy_to_host"):  # a device array: the copy back is only put off
            got.copy_to_host()
    return p


def _added(x: np.ndarray, y: np.ndarray, times: int) -> np.ndarray:
    """In float32, one addition after another, as the device does it."""
    total = x.copy()
    for _ in range(times):
        total += y
    return total


def _is_host_array(r: Any, got: Any) -> None:
    if hasattr(got, "copy_to_host"):
        what, try_ = "it returned a device array", "return d.copy_to_host()"
    else:
        what = "it returned nothing" if got is None else f"it returned a {type(got).__name__}"
        try_ = "end with `return` and the array that copy_to_host() gives"
    r.that(
        isinstance(got, np.ndarray),
        what=what,
        why="the caller asked for the sum as a NumPy array in host memory",
        try_=try_,
        slip=True,
    )


def _copied_at_most(r: Any, where: str, moved: int, enough: int, times: int) -> None:
    r.that(
        moved <= enough,
        what=f"{moved:,} bytes were copied {where} where {enough:,} suffice "
        f"({moved / enough:.3g} times as much), in {count(times, 'launch', 'launches')}",
        why="a host array is copied at each launch it is passed to, and to_device copies even an "
        "array that holds nothing yet",
        try_="copy x and y to the device before the loop and the sum to the host after it; "
        "cuda.device_array_like(x) allocates without a copy",
    )
    r.that(
        moved > 0,
        what=f"nothing was copied {where}",
        why="the kernel can only read device memory, and the caller only host memory",
        try_="cuda.to_device(x) on the way in, d.copy_to_host() on the way out",
    )


# --- 3.2.c -------------------------------------------------------------------------------------


@exercise(
    "3.2.c",
    title="Grid-stride loop: any grid, any length",
    points=4,
    central="computes alpha * x + y, whatever the grid",
    skill=SKILL,
    arguments=("alpha", "x", "y"),
    kind="kernel",
    hints=(
        "32 threads and 10,000 elements: each thread has to go round a loop. Which element should "
        "thread 0 take after element 0, if threads 1 to 31 have the 31 elements beside it?",
        "All threads step on together by the number of threads in the whole grid: "
        "`cuda.blockDim.x * cuda.gridDim.x`, or `cuda.gridsize(1)`.",
        "`range` takes a start, a stop and a step: this thread's number, the length, the number "
        "of threads. A loop that stops at y.size needs no other bounds check.",
    ),
)
def saxpy_stride(kernel: Any, require: Any) -> None:
    """y[i] = alpha * x[i] + y[i], with a grid that need not have as many threads as elements."""
    shapes = ((1, 1, 32), (100, 1, 32), (1000, 3, 33), (3000, 1, 32), (3000, 12, 256))
    with require("computes alpha * x + y, whatever the grid") as r:
        for n, blocks, threads in (*shapes, (10_000, 1, 32), (0, 2, 64)):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                x, y, _ = _vectors(n)
                before = y.copy_to_host()
                launch(kernel, blocks, threads, np.float32(2.5), x, y)
                _reached(r, before, y.copy_to_host(), blocks * threads)
                r.equal(
                    y.copy_to_host(),
                    np.float32(2.5) * x.copy_to_host() + before,
                    name="y",
                    tolerance=1e-5,
                    why="y = alpha * x + y uses the y from before the launch, once an element",
                    try_="follow the element named above: what is added to it, and how often?",
                )
    with require("updates each element exactly once, and nothing else") as r:
        for n, blocks, threads in shapes:
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                x, y, _ = _vectors(n)
                traced = TracedLaunch(kernel, blocks, threads, np.float32(2.5), x, y)
                not_written(r, traced, {1: "x"})
                written_once(r, traced, 2, "y")
    with require("lets neighbouring threads take neighbouring elements") as r:
        for n, blocks, threads in ((1024, 1, 32), (2048, 4, 64)):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                x, y, _ = _vectors(n)
                report = profile(kernel, blocks, threads, np.float32(2.5), x, y)
                reached = report.global_store_bytes // y.dtype.itemsize
                r.that(
                    reached >= n,
                    what=f"{share(reached, n)} updated: too few to judge who takes which",
                    why="the order in which threads take elements shows when all are taken",
                    try_="reach every element first",
                )
                few_sectors(
                    r,
                    "load",
                    report.sectors_per_load,
                    why="the 32 threads of a warp read at the same time. Where each has its own "
                    "stretch of the array, their elements lie far apart, and each costs a sector "
                    "of 32 bytes for its 4",
                    try_="let thread 1 start right beside thread 0. How far on is then the next "
                    "element that nobody has taken?",
                )


def _reached(r: Any, before: np.ndarray, after: np.ndarray, threads: int) -> None:
    missed = np.argwhere(before == after)
    too_few = before.size > threads
    r.that(
        not len(missed),
        what=f"{share(len(missed), before.size)} as before the launch{beginning('y', missed)}",
        why=f"the grid has {threads} threads for {before.size:,} elements: each takes several"
        if too_few
        else "no thread took it, or its store left it as it was",
        try_="after its first element, each thread goes on to the one that lies a whole grid of "
        "threads further"
        if too_few
        else "which thread has this element, and what does it store there?",
    )


# --- inputs --------------------------------------------------------------------------------------


def _host_vectors(n: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of numbers from 1 to 2: no zero, no two alike, no sum that looks like a term."""
    rng = np.random.default_rng(n)
    return tuple(rng.uniform(1, 2, n).astype(dtype) for _ in range(2))


def _vectors(n: int, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    """Two vectors on the emulated device, and an output full of NaN."""
    return tuple(map(emulator.to_device, (*_host_vectors(n, dtype), np.full(n, np.nan, dtype))))


# --- what `show` draws -------------------------------------------------------------------------


@vector_add.show
def _show_vector_add(kernel: Any) -> views.Picture:
    traced = TracedLaunch(kernel, 4, 64, *_vectors(200))
    return _line_picture(traced, 2, f"200 elements, {shape_of(4, 64)}")


@saxpy_stride.show
def _show_saxpy_stride(kernel: Any) -> views.Picture:
    def arguments() -> tuple[Any, ...]:
        x, y, _ = _vectors(512)
        return np.float32(2.5), x, y

    traced = TracedLaunch(kernel, 2, 32, *arguments())
    sectors = profile(kernel, 2, 32, *arguments()).sectors_per_load
    return _line_picture(
        traced, 2, f"512 elements, {shape_of(2, 32)}, {sectors:.3g} sectors a load request"
    )


def _line_picture(traced: TracedLaunch, position: int, what: str) -> views.Picture:
    rows = math.ceil(traced.args[position].size / views.ROW)
    figure, (ax,) = views.axes(1, 10, 0.8 + 0.33 * rows)
    said = views.draw_line(ax, traced, position)
    ax.set_title(f"{what}: {said}", fontsize=10)
    return views.Picture(figure, f"{what}: {said}. One cell an element, with the thread's number.")


@add_many.show
def _show_add_many(function: Any) -> views.Picture:
    n, times = 1000, 10
    p = _profiled(function, n, times)
    nbytes = n * np.dtype(np.float32).itemsize
    rows = [
        ("to the device", p.bytes_to_device, 2 * nbytes),
        ("to the host", p.bytes_to_host, nbytes),
    ]
    figure, (ax,) = views.axes(1, 7, 2.4)
    views.draw_bars(ax, rows)
    what = f"{count(len(p.launches), 'launch', 'launches')} on {n:,} float32"
    ax.set_title(what, fontsize=10)
    said = "; ".join(f"{used:,} bytes {way} where {enough:,} suffice" for way, used, enough in rows)
    return views.Picture(figure, f"{what}: {said}.")
