"""The exercises of unit 3.8 that change a kernel where its report says so, and the unit's claim.

Kernels are graded by the figures of their own report: sectors, bytes, operations of each precision,
launches and copies. `profiling_reports.py` has the exercise that reads reports.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.gpu import cuda, emulator

from . import thread_views as views
from .grading import count, few_sectors, launch, not_written, profile, shape_of, written_once
from .profiling_views import draw_lines
from .thread_map import TracedLaunch

SKILL = "Profiling"
NAN_WHY = "out is full of NaN before the launch: nan marks an element that no thread wrote"

examine(
    "nvprof",
    verdict="corrected",
    figure="Nsight Compute and Nsight Systems are the tools. nvprof is none for the talk's GPUs: "
    "it profiles no device of compute capability 8.0 or higher (A100, H100), and CUDA 13.0 removed "
    "it from the toolkit, with the Visual Profiler.",
    how="NVIDIA's Profiler User's Guide of CUDA 11.0, \"What's New\", and the release notes of "
    "CUDA 13.0",
    source="https://docs.nvidia.com/cuda/archive/11.0_GA/profiler-users-guide/index.html",
)


# --- 3.8.b -------------------------------------------------------------------------------------

TURNS = "turns each pair by its angle, whatever the grid"
ALONG = "lets neighbouring threads take neighbouring elements"
ONCE = "loads each element once for a pair"
SHAPES = ((1, 1, 32), (3, 2, 64), (5, 3, 16), (7, 4, 128))  # tokens, heads, dim


@exercise(
    "3.8.b",
    title="Rotary embedding: change the line that the report names",
    points=6,
    central=TURNS,
    skill=SKILL,
    arguments=("x", "cos", "sin", "out"),
    kind="kernel",
    hints=(
        (
            TURNS,
            "There are tokens x heads x half pairs. Number them, let each thread take its own "
            "numbers in a grid-stride loop, and find token, head and d of a number with // and %.",
        ),
        (
            ALONG,
            "In memory, d changes first, then the head, then the token. Which of the three must "
            "change from one lane to the next?",
        ),
        (
            ALONG,
            "`d = pair % half`, and what is left, `pair // half`, holds head and token: "
            "`% heads` and `// heads`.",
        ),
        (
            ONCE,
            "A pair needs x[d], x[d + half], cos and sin: four loads. Each time that the source "
            "names an element it is loaded, unless a local variable holds it.",
        ),
    ),
)
def rotate(kernel: Any, require: Any) -> None:
    """out = x with each pair (d, d + dim / 2) turned by the angle of its token and d."""
    with require(TURNS) as r:
        for shape, blocks, threads in _rotations():
            with r.input(_described(shape, blocks, threads)):
                x, cos, sin, out = _heads(*shape)
                launch(kernel, blocks, threads, x, cos, sin, out)
                r.equal(
                    out.copy_to_host(),
                    _rotated(x, cos, sin),
                    name="out",
                    tolerance=1e-5,
                    why=f"{NAN_WHY}; other wrong values come of a pair that is not (d, d + half), "
                    "or of an angle that is another token's",
                    try_="follow the pair of the element named above: its token, its head, its d",
                )
    with require("writes each element once, and leaves x, cos and sin as they were") as r:
        for shape, blocks, threads in _rotations():
            with r.input(_described(shape, blocks, threads)):
                traced = TracedLaunch(kernel, blocks, threads, *_heads(*shape))
                not_written(r, traced, {0: "x", 1: "cos", 2: "sin"})
                written_once(r, traced, 3, "out")
    for name in (ALONG, ONCE):
        with require(name) as r:
            for shape in ((3, 8, 64), (2, 16, 128)):
                with r.input(_described(shape, 3, 64)):
                    report = profile(kernel, 3, 64, *_heads(*shape))
                    _reads_well(r, report, shape, name)


def _reads_well(r: Any, report: emulator.Report, shape: tuple[int, ...], name: str) -> None:
    pairs = int(np.prod(shape)) // 2
    if name == ALONG:
        why = (
            "the 32 lanes of a warp load at the same moment. Where neighbours differ in head or "
            "token, dim elements lie between them"
        )
        try_ = "which of d, head and token does your thread number count first?"
        few_sectors(r, "load", report.sectors_per_load, why, try_)
        few_sectors(r, "store", report.sectors_per_store, why, try_)
        return
    r.that(
        report.global_load_bytes > 0,
        what="the kernel loads nothing",
        why="how often an element is loaded shows in what is loaded",
        try_="meet the requirements above first",
    )
    each = report.global_load_bytes / 4 / pairs
    r.that(
        each <= 4,
        what=f"{each:.3g} loads for each pair where 4 suffice: two of x, one of cos, one of sin",
        why="out might overlap x as far as a compiler knows, so after a store it loads again",
        try_="load into local variables first, then compute, then store",
    )


def _rotations() -> list[tuple[tuple[int, int, int], int, int]]:
    """(shape of x, blocks, threads): grids with more threads than pairs, and with fewer."""
    return [(SHAPES[0], 1, 32), (SHAPES[1], 1, 64), (SHAPES[2], 9, 32), (SHAPES[3], 3, 96)]


def _described(shape: tuple[int, ...], blocks: int, threads: int) -> str:
    return f"x of {' x '.join(map(str, shape))}, {shape_of(blocks, threads)}"


def _heads(tokens: int, heads: int, dim: int) -> tuple[Any, ...]:
    """x, cos and sin, and an output full of NaN, on the emulated device."""
    rng = np.random.default_rng(tokens * 100 + dim)
    half = dim // 2
    angles = np.arange(1, tokens + 1)[:, None] * 10_000.0 ** (-np.arange(half) / half)
    x = rng.normal(size=(tokens, heads, dim)).astype(np.float32)
    made = (x, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
    return tuple(map(emulator.to_device, (*made, np.full_like(x, np.nan))))


def _rotated(x: Any, cos: Any, sin: Any) -> np.ndarray:
    """In float64, as complex numbers: (x[d] + i x[d + half]) e^(i angle)."""
    first, second = np.split(x.copy_to_host().astype(np.float64), 2, axis=-1)
    turn = cos.copy_to_host().astype(np.float64) + 1j * sin.copy_to_host()
    turned = (first + 1j * second) * turn[:, None, :]
    return np.concatenate([turned.real, turned.imag], axis=-1).astype(np.float32)


# --- 3.8.c -------------------------------------------------------------------------------------

GELU = "computes the GELU of scale * sums"
NO_FLOAT64 = "has no float64 operation"
ROOT = 0.7978845608028654  # sqrt(2 / pi); Hendrycks and Gimpel, arXiv:1606.08415
CUBE = 0.044715


@exercise(
    "3.8.c",
    title="Dequantise and GELU, all in float32",
    points=2,
    central=GELU,
    skill=SKILL,
    arguments=("sums", "scale", "out"),
    kind="kernel",
    hints=(
        (
            GELU,
            "First v = scale * sums[i]; then 0.5 * v * (1 + tanh(0.79788456 * (v + 0.044715 * v * "
            "v * v))), for every i below sums.size.",
        ),
        (
            NO_FLOAT64,
            "A number with a point is a float64 in Numba. `np.float32(0.5)`, in the kernel or as a "
            "name outside it, is none.",
        ),
        (
            NO_FLOAT64,
            "A float32 cannot hold every int32, so Numba makes float64 of the two: "
            "`np.float32(sums[i])` comes first. An int64 does the same, such as the 1 of "
            "`1 + math.tanh(...)`.",
        ),
    ),
)
def dequantize_gelu(kernel: Any, require: Any) -> None:
    """out[i] = gelu(scale * sums[i]), with no float64 operation."""
    with require(GELU) as r:
        for n, blocks, threads in ((1, 1, 32), (100, 1, 128), (1000, 8, 128), (1000, 3, 64)):
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                sums, scale, out = _sums(n)
                launch(kernel, blocks, threads, sums, scale, out)
                r.equal(
                    out.copy_to_host(),
                    _gelu(sums.copy_to_host() * float(scale)),
                    name="out",
                    tolerance=1e-5,
                    why=f"{NAN_WHY}; gelu(v) = 0.5 v (1 + tanh(0.79788456 (v + 0.044715 v^3))), "
                    "v = scale * sums[i]",
                    try_="work out the element named above by hand; let a thread take several "
                    "elements where the grid has too few",
                )
    with require(NO_FLOAT64) as r:
        for n in (256, 1000):
            with r.input(f"n = {n}, {shape_of(4, 64)}"):
                report = profile(kernel, 4, 64, *_sums(n))
                done = report.flops_by_dtype
                r.that(
                    done["fp64"] == 0,
                    what=f"{done['fp64']:,} float64 operations, {done['fp64'] / n:.3g} for each "
                    f"element{_worst(report)}",
                    why="an operation is a float64 one as soon as one of its operands is: a number "
                    "with a point, or an integer beside a float32",
                    try_="make every operand on that line an np.float32 before it is used",
                )
                r.that(
                    done["fp32"] >= n,
                    what=f"{done['fp32']:,} float32 operations for {n} elements: too few to judge",
                    why="which precision a kernel computes in shows in what it computes",
                    try_="compute the GELU of every element first",
                )


def _worst(report: emulator.Report) -> str:
    """`, most of them on line 12: ...`"""
    number = max(report.lines, key=lambda n: report.lines[n].flops_by_dtype["fp64"])
    return f", most of them on line {number}: `{report.source[number]}`"


def _sums(n: int) -> tuple[Any, np.float32, Any]:
    """What a product of int8 matrices leaves, its scale, and an output full of NaN."""
    sums = np.random.default_rng(n).integers(-40_000, 40_000, n).astype(np.int32)
    out = emulator.to_device(np.full(n, np.nan, np.float32))
    return emulator.to_device(sums), np.float32(1e-4), out


def _gelu(v: np.ndarray) -> np.ndarray:
    return (0.5 * v * (1 + np.tanh(ROOT * (v + CUBE * v**3)))).astype(np.float32)


# --- 3.8.d -------------------------------------------------------------------------------------

PRODUCT = "returns silu(gate) * up, a host array"
LAUNCH = "needs one launch"
MOVES = "moves each array once: over the link, and on the device"


@exercise(
    "3.8.d",
    title="SwiGLU: one launch for two, and no array between them",
    points=4,
    central=PRODUCT,
    skill=SKILL,
    arguments=("gate", "up"),
    hints=(
        (
            PRODUCT,
            "Write a kernel swiglu_kernel(gate, up, out) above the function: one thread, one "
            "element, g / (1 + exp(-g)) * u. The function launches it on enough blocks.",
        ),
        (
            LAUNCH,
            "The first kernel's result is used by the same thread in the second: it can stay in a "
            "register.",
        ),
        (
            MOVES,
            "`cuda.to_device` for what comes in, `cuda.device_array_like` for what goes out, "
            "`copy_to_host` at the end. A NumPy array given to a kernel is copied both ways.",
        ),
        (
            MOVES,
            "On the device: gate and up are loaded once each and out is stored once. `g = gate[i]` "
            "holds an element that is used twice.",
        ),
    ),
)
def swiglu(function: Any, require: Any) -> None:
    """silu(gate) * up by one launch, each array copied and read once."""
    with require(PRODUCT) as r:
        for n in (1, 31, 1000, 5000):
            with r.input(f"n = {n}"):
                gate, up = _gate_and_up(n)
                got = function(gate.copy(), up.copy())
                r.that(
                    isinstance(got, np.ndarray),
                    what=_returned(got),
                    why="the caller asked for a NumPy array in host memory",
                    try_="end with return and what copy_to_host() gives",
                    slip=True,
                )
                r.equal(
                    got,
                    _swiglu(gate, up),
                    tolerance=1e-5,
                    why="silu(g) = g / (1 + exp(-g)), and the result is silu(gate) * up",
                    try_="launch enough blocks for all n elements, rounding up, and guard the end",
                )
    with require(LAUNCH) as r, r.input("n = 4096"):
        p = _profiled(function, 4096)
        r.that(
            len(p.launches) == 1,
            what=f"{count(len(p.launches), 'launch', 'launches')}: "
            f"{', '.join(report.kernel for report in p.launches) or 'none'}",
            why="each launch costs the host time, and what one leaves for the next goes through "
            "memory",
            try_="compute both in one kernel",
        )
    with require(MOVES) as r:
        for n in (4096, 10_000):
            with r.input(f"n = {n}"):
                p = _profiled(function, n)
                for name, used, enough in _moved(p, n):
                    r.that(
                        0 < used <= 1.05 * enough,
                        what=f"{used:,} bytes {name} where {enough:,} suffice",
                        why="gate and up come in once, the product goes out once; whatever else "
                        "moves was copied, stored or loaded a second time",
                        try_="copy only what the device does not have, and keep an element in a "
                        "variable",
                    )


def _returned(got: Any) -> str:
    if hasattr(got, "copy_to_host"):
        return "it returned a device array"
    return "it returned nothing" if got is None else f"it returned a {type(got).__name__}"


def _moved(p: Any, n: int) -> list[tuple[str, int, int]]:
    """(where, bytes moved there, how many suffice)."""
    return [
        ("to the device", p.bytes_to_device, 8 * n),
        ("to the host", p.bytes_to_host, 4 * n),
        ("on the device", p.report.bytes_moved, 12 * n),
    ]


def _profiled(function: Any, n: int) -> Any:
    with cuda.profile() as p:
        got = function(*_gate_and_up(n))
        if hasattr(got, "copy_to_host"):  # a device array: the copy back is only put off
            got.copy_to_host()
    return p


def _gate_and_up(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return tuple(rng.normal(0, 3, n).astype(np.float32) for _ in range(2))


def _swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    wide = gate.astype(np.float64)
    return (wide / (1 + np.exp(-wide)) * up).astype(np.float32)


# --- what `show` draws -------------------------------------------------------------------------


@rotate.show
def _show_rotate(kernel: Any) -> views.Picture:
    report = profile(kernel, 3, 64, *_heads(3, 8, 64))
    what = f"{_described((3, 8, 64), 3, 64)}: sectors a request, by line"
    return _by_line(report, what, _sectors, enough=4)


def _sectors(line: Any) -> float:
    return max(line.sectors_per_load, line.sectors_per_store)


@dequantize_gelu.show
def _show_dequantize_gelu(kernel: Any) -> views.Picture:
    report = profile(kernel, 4, 64, *_sums(256))
    what = f"n = 256, {shape_of(4, 64)}: float64 operations, by line"
    return _by_line(report, what, lambda line: line.flops_by_dtype["fp64"], enough=0)


def _by_line(report: emulator.Report, what: str, value: Any, enough: float) -> views.Picture:
    figure, (ax,) = views.axes(1, 9, 1 + 0.33 * len(report.lines))
    said = draw_lines(ax, report, value, enough)
    ax.set_title(what, fontsize=10)
    return views.Picture(figure, f"{what}: {said}.")


@swiglu.show
def _show_swiglu(function: Any) -> views.Picture:
    p = _profiled(function, 4096)
    rows = _moved(p, 4096)
    figure, (ax,) = views.axes(1, 7.5, 3)
    views.draw_bars(ax, rows)
    what = f"{count(len(p.launches), 'launch', 'launches')} for 4,096 elements"
    ax.set_title(what, fontsize=10)
    ax.set_xlabel("bytes")
    said = "; ".join(
        f"{used:,} bytes {where} where {enough:,} suffice" for where, used, enough in rows
    )
    return views.Picture(figure, f"{what}: {said}.")
