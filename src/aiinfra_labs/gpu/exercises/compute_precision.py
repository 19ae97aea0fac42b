"""The exercises of unit 3.7 on precision: bf16 by its bits, dot products that keep digits.

What is right is what `aiinfra_labs.gpu.precision` gives, which its tests hold to ml_dtypes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.course.parts import a_kind
from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.kernels import compute
from aiinfra_labs.gpu.precision import BF16, FP32, bits_of, value_of

from . import thread_views as views
from .grading import launch, not_written, profile, shape_of
from .thread_map import TracedLaunch

SKILL = "Mixed precision"


# --- 3.7.d -------------------------------------------------------------------------------------

EXACT = "keeps the numbers that bf16 has"
NEAREST = "takes the nearest of the two neighbours"
TIES = "takes the even neighbour from half-way"
ENDS = "goes to infinity past the largest number, and keeps subnormals"
NAN = "leaves a NaN a NaN"
INFINITY = 0x7F80


@exercise(
    "3.7.d",
    title="bf16, by its bits",
    points=8,
    central=NEAREST,
    skill=SKILL,
    arguments=("x",),
    kind="function",
    hints=(
        (
            EXACT,
            "bf16 is the upper half of an fp32: same sign, same 8 bits of exponent, the first 7 of "
            "the mantissa. `x.view(np.uint32) >> 16` is that half.",
        ),
        (
            NEAREST,
            "The lower half says how far x is above the number below: 0x8000 is half-way. Add "
            "something before you shift, so that the upper half counts up when x is nearer to "
            "the number above.",
        ),
        (
            TIES,
            "Adding 0x8000 counts up at exactly half-way, always. Add 0x7FFF instead, and it never "
            "does. And adding 0x7FFF plus the lowest bit that stays, `bits >> 16 & 1`?",
        ),
        (
            ENDS,
            "A carry out of the mantissa goes into the exponent, which is what it should do; from "
            "the largest number it goes to infinity. Nothing special is needed here.",
        ),
        (
            NAN,
            "Some NaNs have their only mantissa bits in the lower half, and 0x7FFFFFFF + 0x7FFF "
            "carries into the sign. Give all of them 0x7FC0: `np.where(np.isnan(x), 0x7FC0, ...)`.",
        ),
    ),
)
def bf16_bits(function: Any, require: Any) -> None:
    """The bits of the bf16 nearest to each float32, ties to even: uint16."""
    with require(EXACT) as r:
        for name, values in (
            ("small integers", np.arange(-8.0, 9)),
            ("powers of two", 2.0 ** np.arange(-126, 128)),
            ("zeros and infinities", np.array([0.0, -0.0, np.inf, -np.inf])),
        ):
            _same_bits(r, function, name, values)
    with require(NEAREST) as r:
        for name, values in (
            ("just above numbers of bf16", _between(1 / 64)),
            ("just below numbers of bf16", _between(63 / 64)),
            ("random numbers", np.random.default_rng(0).standard_normal(500)),
        ):
            _same_bits(r, function, name, values)
    with require(TIES) as r:
        _same_bits(r, function, "half-way between two numbers of bf16", _between(0.5))
    with require(ENDS) as r:
        largest = BF16.largest
        for name, values in (
            ("about the largest number", largest * np.array([1, 1.0009, 1.0018, 1.0019, 1.0038])),
            ("about the smallest", BF16.smallest * np.array([0.5, 0.51, 1, 1.5, 2.5, 3.4])),
            ("about the smallest normal", BF16.smallest_normal * np.array([0.996, 0.999, 1.004])),
        ):
            _same_bits(r, function, name, np.concatenate([values, -values]))
    with require(NAN) as r:
        patterns = [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF, 0xFF800001]
        with r.input("x: six patterns of NaN, of both signs"):
            got = _bits(r, function, np.array(patterns, np.uint32).view(np.float32))
            wrong = np.flatnonzero(~np.isnan(value_of(got, BF16)))
            first = wrong[0] if len(wrong) else 0
            r.that(
                not len(wrong),
                what=f"the NaN with the bits {patterns[first]:#010x} became {_shown(got[first])}",
                why="a NaN has all bits of its exponent set and a mantissa that is not 0. Cut to 0 "
                "it reads as infinity; with a carry out of it, as a number",
                try_="ask np.isnan(x) before, and give those a pattern of your own, such as 0x7FC0",
            )


def _between(part: float) -> np.ndarray:
    """A number in each of 512 gaps between neighbours in bf16, `part` of the way up; both signs."""
    start = np.random.default_rng(1).integers(1, INFINITY - 1, 256)
    below, above = value_of(start, BF16), value_of(start + 1, BF16)
    between = below + (above - below) * part
    return np.concatenate([between, -between])


def _bits(r: Any, function: Any, x: np.ndarray) -> np.ndarray:
    given = x.copy()
    got = function(x)
    changed = int((x.view(np.uint32) != given.view(np.uint32)).sum())
    r.that(
        changed == 0,
        what=f"x was changed: {changed} of {len(x)} numbers are others after the call",
        why="x.view(np.uint32) shows the caller's own numbers, and to write there is to write x",
        try_="make new arrays: bits = x.view(np.uint32) + ... gives one, bits += ... does not",
    )
    r.that(
        isinstance(got, np.ndarray) and got.dtype == np.uint16 and got.shape == x.shape,
        what=f"the result is {_kind(got)}, expected uint16 of shape {x.shape}",
        why="bf16 has 16 bits, and NumPy has no such float: its bits travel as uint16",
        try_="end with .astype(np.uint16)",
        slip=not isinstance(got, np.ndarray),
    )
    return got


def _kind(got: Any) -> str:
    if isinstance(got, np.ndarray):
        return f"{got.dtype} of shape {got.shape}"
    return a_kind(got)


def _same_bits(r: Any, function: Any, name: str, values: np.ndarray) -> None:
    x = values.astype(np.float32)
    with r.input(f"x: {name}, float32 [{len(x)}]"):
        got, expected = _bits(r, function, x), bits_of(x, BF16)
        wrong = np.flatnonzero(got != expected)
        if not len(wrong):
            return
        at = wrong[0]
        exact = int(x[at].view(np.uint32))
        r.that(
            False,
            what=f"{float(x[at]):.8g} (bits {exact:#010x}) became {_shown(got[at])}, expected "
            f"{_shown(expected[at])}; {len(wrong)} of {len(x)} differ",
            why=_why(exact),
            try_="work this one out by hand: which 16 bits stay, and what do the 16 that go say?",
        )


def _why(exact: int) -> str:
    lower = exact & 0xFFFF
    if lower == 0:
        return "the lower half is 0: this number is bf16's own, and stays"
    if lower == 0x8000:
        return "the lower half is 0x8000, exactly half-way: the neighbour that ends in 0 is taken"
    side = "above" if lower > 0x8000 else "below"
    return f"the lower half is {lower:#06x}, so the neighbour {side} is the nearer one"


def _shown(bits: Any) -> str:
    return f"{int(bits):#06x} ({float(value_of(bits, BF16)):.8g})"


@bf16_bits.show
def _show_bf16_bits(function: Any) -> views.Picture:
    """What becomes of the numbers from 1 to 1 + 4 steps: the learner's and the right ones."""
    step = 2.0**-BF16.mantissa_bits
    x = np.linspace(1, 1 + 4 * step, 257).astype(np.float32)
    mine, right = value_of(function(x.copy()), BF16), value_of(bits_of(x, BF16), BF16)
    figure, (ax,) = views.axes(1, 8, 3.4)
    place = (x - 1) / step
    ax.plot(place, place, color="#c5ccd6", lw=1, label="x itself")
    ax.plot(place, (right - 1) / step, ".", ms=7, color="#9aa4b1", label="nearest, ties to even")
    ax.plot(place, (mine - 1) / step, ".", ms=3, color="#b3500f", label="yours")
    ax.set_xlabel("x, in steps of bf16 above 1")
    ax.set_ylabel("rounded to")
    ax.legend()
    apart = int((mine != right).sum())
    said = f"{apart} of {len(x)} numbers between 1 and {1 + 4 * step} are rounded otherwise"
    ax.set_title(said, fontsize=10)
    return views.Picture(figure, f"bf16: {said} than to the nearest, ties to even.")


# --- 3.7.e -------------------------------------------------------------------------------------

ADDS = "multiplies and adds each column"
STALL = "does not stop at 2,048"
DIGITS = "keeps what an addition in fp32 rounds away"
SINGLE = "computes in fp32, without fp64"
ALLOWED = 4  # units of roundoff of the sum of the terms' sizes; Kahan's bound is about 2


@exercise(
    "3.7.e",
    title="fp16 in, fp32 out, and no digit lost on the way",
    points=6,
    central=DIGITS,
    skill=SKILL,
    arguments=("a", "b", "out"),
    kind="kernel",
    hints=(
        (
            ADDS,
            "One thread makes one column: `j = cuda.grid(1)`, and a loop over the rows, "
            "`range(a.shape[0])`.",
        ),
        (
            STALL,
            "float16 has 11 bits: from 2,048 on its numbers are 2 apart, and 2,048 + 1 is 2,048 "
            "again. Which type has your total? `np.float32(0)` makes it a float32, "
            "`np.float32(a[i, j])` a factor.",
        ),
        (
            DIGITS,
            "In float32 2**24 + 1 is 2**24: the 1 is rounded away. After `larger = total + term`, "
            "what does `(larger - total) - term` hold?",
        ),
        (
            DIGITS,
            "Kahan keeps that difference, and takes it off the next term before adding: "
            "`term = product - lost`.",
        ),
        (
            SINGLE,
            "A plain 0.0 is a float64 in Numba, and so is all that it is added to. Write "
            "np.float32(0).",
        ),
    ),
)
def dots(kernel: Any, require: Any) -> None:
    """out[j] = the sum over i of a[i, j] b[i, j]; fp16 in, fp32 out, within 4 roundings."""
    with require(ADDS) as r:
        for rows, columns, blocks, threads in ((1, 1, 1, 32), (7, 5, 1, 32), (33, 100, 2, 64)):
            with r.input(_size(rows, columns, blocks, threads)):
                a, b = _halves(rows, columns, signed=True)
                got = _run(kernel, a, b, blocks, threads)
                r.equal(
                    got,
                    _exact(a, b).astype(np.float32),
                    name="out",
                    tolerance=2e-2,
                    why="out is full of NaN before the launch; column j is the sum of the "
                    "products a[i, j] * b[i, j]",
                    try_="follow the thread of the column named above",
                )
    with require(STALL) as r:
        for rows in (2048, 2049, 3000):
            with r.input(f"a and b full of 1, {_size(rows, 2, 1, 32)}"):
                ones = np.ones((rows, 2), np.float16)
                got = _run(kernel, ones, ones, 1, 32)
                r.that(
                    bool((got == rows).all()),
                    what=f"the sum of {rows:,} ones is {got[0]:,.6g}",
                    why="in float16 the numbers from 2,048 on are 2 apart, so that adding 1 is "
                    "rounded back",
                    try_="accumulate in float32, and round to float16 nowhere",
                )
    with require(DIGITS) as r:
        for name, a, b in (
            ("2**24, then 3,000 ones", *_one_large(3000)),
            ("random, of one sign", *_halves(3000, 8)),
            ("random, of both signs", *_halves(2000, 8, signed=True)),
        ):
            with r.input(f"{name}, {_size(*a.shape, 1, 32)}"):
                _within(r, _run(kernel, a, b, 1, 32), a, b)
    with require(SINGLE) as r, r.input(_size(100, 32, 1, 32)):
        a, b = _halves(100, 32)
        traced = TracedLaunch(kernel, 1, 32, *_on_device(a, b))
        not_written(r, traced, {0: "a", 1: "b"})
        done = profile(kernel, 1, 32, *_on_device(a, b)).flops_by_dtype
        r.that(
            done["fp64"] == 0,
            what=f"{done['fp64']:,} operations in fp64, {done['fp32']:,} in fp32",
            why="most GPUs have few fp64 units: a GeForce has one for 64 of fp32. Numba types "
            "a plain Python float as float64, and one float64 makes the sum one",
            try_="write constants as np.float32(0), and convert each factor to np.float32",
        )
        r.that(
            done["fp32"] > 0,
            what=f"no operation in fp32, and {done['fp16']:,} in fp16",
            why="the sums are to be kept in fp32",
            try_="convert each factor to np.float32 before it is multiplied",
        )


def _halves(rows: int, columns: int, signed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows + columns)
    low = -1 if signed else 0.1
    return tuple(rng.uniform(low, 1, (rows, columns)).astype(np.float16) for _ in range(2))


def _one_large(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A first product of 2**24, from where on float32's numbers are 2 apart; then ones."""
    a = np.ones((rows + 1, 2), np.float16)
    a[0] = 4096
    return a, a


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In float64, where a few thousand products of fp16 numbers add up exactly here."""
    return (a.astype(np.float64) * b.astype(np.float64)).sum(axis=0)


def _on_device(a: np.ndarray, b: np.ndarray) -> tuple[Any, Any, Any]:
    out = np.full(a.shape[1], np.nan, np.float32)
    return emulator.to_device(a), emulator.to_device(b), emulator.to_device(out)


def _run(kernel: Any, a: np.ndarray, b: np.ndarray, blocks: int, threads: int) -> np.ndarray:
    arrays = _on_device(a, b)
    launch(kernel, blocks, threads, *arrays)
    return arrays[2].copy_to_host()


def _errors(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|error| of each column, in units of fp32's roundoff of the sum of its terms' sizes."""
    size = np.abs(a.astype(np.float64) * b.astype(np.float64)).sum(axis=0)
    return np.abs(got - _exact(a, b)) / (FP32.unit_roundoff * size)


def _within(r: Any, got: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    errors = np.nan_to_num(_errors(got, a, b), nan=np.inf)
    at = int(errors.argmax())
    off = f"{errors[at]:,.3g} roundings of fp32" if np.isfinite(got[at]) else "beyond measure"
    r.that(
        errors[at] <= ALLOWED,
        what=f"column {at}: {got[at]:.9g}, and the sum is {_exact(a, b)[at]:.9g}. The error is "
        f"{off}, {ALLOWED} allowed",
        why="a total that is much larger than a term loses the term's last digits at each "
        "addition, and the losses add up with the length",
        try_="keep what each addition rounds away, and give it to the next",
    )


def _size(rows: int, columns: int, blocks: int, threads: int) -> str:
    return f"float16 [{rows}, {columns}], {shape_of(blocks, threads)}"


@dots.show
def _show_dots(kernel: Any) -> views.Picture:
    """The error against the length, beside those of an fp16 and of a plain fp32 accumulator."""
    lengths = (16, 64, 256, 1024, 4000)
    figure, (ax,) = views.axes(1, 8, 3.6)
    said = ""
    for name, one, look in (
        ("fp16 accumulator", compute.half_dots_half, {"color": "#9aa4b1", "marker": "s"}),
        ("fp32 accumulator", compute.half_dots_single, {"color": "#1f77b4", "marker": "^"}),
        ("yours", kernel, {"color": "#b3500f", "marker": "o"}),
    ):
        errors = []
        for n in lengths:
            a, b = _halves(n, 16)
            size = _exact(a, b)
            errors.append(float((np.abs(_run(one, a, b, 1, 32) - size) / size).max()))
        ax.loglog(lengths, np.maximum(errors, 1e-9), label=name, **look)
        said = f"{name}: {errors[-1]:.1e} at {lengths[-1]:,} terms"
    ax.set_xlabel("terms")
    ax.set_ylabel("largest relative error of 16 sums")
    ax.legend()
    ax.set_title(said, fontsize=10)
    return views.Picture(figure, f"Relative error by length, for three accumulators. {said}.")
