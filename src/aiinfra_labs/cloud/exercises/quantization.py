"""The exercises of unit 4.5 on grids and their storage, and the verdict on its claim.

Weights are compared by how far they are off, in steps of the grid. The exercises on what is done
against the rounding error are in `quantization_methods`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiinfra_labs.cloud.serving.quantization import packing
from aiinfra_labs.course import examine, exercise

from . import quantization_views as views

SKILL = "Quantization"

examine(
    "quant",
    verdict="reproduced",
    figure="All of it runs here. PTQ and QAT are two ways, INT4 and INT2 are widths, and either "
    "way leads to either width. Perplexity of the course's model over that of its "
    "16 bits: int8 within 0.1 %; int4 in groups of 32 +1.1 %, by GPTQ +0.6 %; int2 in groups "
    "+25.8 %, by GPTQ +16.7 %, by QAT of 48 steps +17.1 %; ternary +134.9 %, by QAT +50.8 %. INT4 "
    "is no extreme any more; INT2 is one.",
    how="perplexity of held-out windows in benchmarks/quantization.py, every model evaluated from "
    "the bytes that it is stored in; one small model, and larger ones by published tables",
    source="https://github.com/ggml-org/llama.cpp/pull/6936",
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """The same normal numbers on every machine: float32."""
    numbers = np.random.default_rng((seed, *shape)).normal(size=shape)
    return torch.from_numpy(numbers.astype(np.float32))


def tensor(
    r: Any,
    got: Any,
    name: str,
    shape: tuple[int, ...],
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    whole: bool = False,
) -> Tensor:
    """The value as a tensor of this shape; fails the requirement unless it is one of numbers.

    dtypes: those that will do; of whole numbers all will.
    """
    kind = "None" if got is None else f"a {type(got).__name__}"
    r.that(
        isinstance(got, Tensor),
        what=f"{name} is {kind}, expected a tensor of shape {shape}",
        why="what comes after works on tensors",
        try_="print the type of each thing that you return",
        slip=True,
    )
    r.that(
        tuple(got.shape) == shape,
        what=f"{name} has shape {tuple(got.shape)}, expected {shape}",
        why="each axis must have the length that was asked for",
        try_="print the shapes of the tensors that it is made from",
    )
    r.that(
        whole or got.dtype in dtypes,
        what=f"{name} has dtype {got.dtype}, expected {' or '.join(map(str, dtypes))}",
        why="the dtype says how many bytes a number takes and how it is rounded: w has 4 each",
        try_="print the dtype after each line: where does it become another?",
    )
    got = got.detach()
    r.that(
        bool(got.isfinite().all()) if got.is_floating_point() else True,
        what=f"{name} holds nan or infinity",
        why="0 / 0 is nan, and 1 / 0 infinity: a scale of 0 gives both",
        try_="what is the scale of a row of zeros? Any number above 0 will do",
    )
    if whole:
        r.that(
            torch.equal(got.double(), got.double().round()),
            what=f"{name} holds {_first(got[got.double() != got.double().round()])}",
            why="codes are whole numbers: they are stored in a few bits",
            try_="torch.round gives the nearest whole number",
        )
    return got


def _kind(found: Any) -> str:
    if isinstance(found, tuple | list):
        return f"{len(found)} things"
    return "None" if found is None else f"a {type(found).__name__}"


def _first(x: Tensor) -> str:
    return f"{x.flatten()[0].item():.4g}" if x.numel() else "nothing of the kind"


# --- 4.5.a -------------------------------------------------------------------------------------

CODES = "gives whole codes from 0 to 2^bits - 1"
ZERO = "gives a weight of 0 back as 0"
NEAREST = "is off by half a step at most, with steps as small as they can be"
ONE_VALUE = "serves rows of one value, and of zeros"


@exercise(
    "4.5.a",
    title="An affine grid",
    points=6,
    central=NEAREST,
    skill=SKILL,
    arguments=("w", "bits"),
    hints=(
        (
            CODES,
            "Low and high are the least and the largest weight. The step is (high - low) over the "
            "number of steps between 2^bits points, and there is one less than there are points.",
        ),
        (CODES, "The code of w is w / scale, rounded, plus zero; `clamp` keeps it in the range."),
        (
            ZERO,
            "0 must be a point of the grid, even where no weight is 0: let low be at most 0 and "
            "high at least 0. And zero, the code of 0, must be a whole number.",
        ),
        (NEAREST, "`round`, not `floor` or `int`: those go down by up to a whole step."),
        (ONE_VALUE, "If high equals low the step is 0. A step of 1 serves zeros as well as any."),
    ),
)
def affine(function: Any, require: Any) -> None:
    """(codes, scale, zero) of a row of weights: (codes - zero) x scale is about w."""
    with require(CODES) as r:
        for bits in (8, 4, 2, 3):
            _affine(r, function, normal(40, seed=bits), bits, "40 normal numbers")
    with require(ZERO) as r:
        for name, w in (
            ("weights with a 0 among them", torch.tensor([0.0, 0.9, -0.35, 0.7])),
            ("positive weights and a 0", torch.tensor([0.0, 2.9, 0.35, 0.71])),
            ("negative weights and a 0", torch.tensor([-0.45, 0.0, -3.7])),
        ):
            for bits in (8, 3):
                codes, scale, zero = _affine(r, function, w, bits, name)
                back = ((codes - zero) * scale)[w == 0]
                r.that(
                    bool((back == 0).all()),
                    what=f"0 comes back as {_first(back)}",
                    why="a weight that was pruned, and a token that is padding, are exactly 0; "
                    "a zero point that is no whole number has no code",
                    try_="zero = round(-low / scale), kept within 0 to 2^bits - 1",
                )
    with require(NEAREST) as r:
        for name, w in (
            ("200 normal numbers", normal(200)),
            ("positive numbers", normal(60).abs() + 0.01),
            ("positive numbers, all far from 0", normal(60).abs() + 5),
            ("negative numbers", -normal(60).abs()),
            ("one large number among small ones", torch.tensor([0.01, -0.02, 0.015, 8.0])),
            ("tiny numbers", normal(30) * 1e-6),
        ):
            for bits in (8, 4, 2):
                _near(r, function, w, bits, name)
    with require(ONE_VALUE) as r:
        for name, w in (
            ("5 zeros", torch.zeros(5)),
            ("1 weight of 0.7", torch.tensor([0.7])),
            ("4 weights of -2", torch.full((4,), -2.0)),
        ):
            for bits in (8, 2):
                _near(r, function, w, bits, name)


def _affine(r: Any, function: Any, w: Tensor, bits: int, name: str) -> tuple[Tensor, float, float]:
    """Try it, and return what it gave as numbers."""
    with r.input(f"{name}, {bits} bits"):
        found = function(w.clone(), bits)
        r.that(
            isinstance(found, tuple | list) and len(found) == 3,
            what=f"it returned {_kind(found)}",
            why="three things are needed to read a row back: its codes, the scale, and the zero",
            try_="return codes, scale, zero",
            slip=True,
        )
        codes, scale, zero = found
        codes = tensor(r, codes, "codes", tuple(w.shape), whole=True).double()
        scale = _number(r, scale, "scale")
        zero = _number(r, zero, "zero")
        top = 2**bits - 1
        low, high = float(codes.min()), float(codes.max())
        r.that(
            low >= 0 and high <= top,
            what=f"the codes go from {low:g} to {high:g}, and {bits} bits hold 0 to {top}",
            why="what is left out is cut off when it is stored: 256 in a byte is 0",
            try_="add zero to the rounded quotients, then clamp(0, 2**bits - 1)",
        )
        return codes, scale, zero


def _number(r: Any, value: Any, name: str) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    r.that(
        isinstance(value, int | float) and bool(np.isfinite(value)),
        what=f"{name} is {value if isinstance(value, int | float) else type(value).__name__}",
        why="the whole row shares one, and it is a finite number",
        try_="float(...) makes a number of a tensor with one element",
        slip=not isinstance(value, int | float),
    )
    return float(value)


def _near(r: Any, function: Any, w: Tensor, bits: int, name: str) -> None:
    codes, scale, zero = _affine(r, function, w, bits, name)
    with r.input(f"{name}, {bits} bits"):
        low, high = min(0.0, float(w.min())), max(0.0, float(w.max()))
        step = (high - low) / (2**bits - 1)
        back = (codes - zero) * scale
        errors = (back - w.double()).abs()
        worst = int(errors.argmax())
        slack = 1e-5 * max(abs(low), abs(high))
        r.that(
            float(errors[worst]) <= 0.501 * step + slack,
            what=f"{float(w[worst]):.4g} comes back as {float(back[worst]):.4g}, off by "
            f"{float(errors[worst]):.3g}, and half a step is {step / 2:.3g}",
            why=_why_off(codes, scale, zero, w, step, bits),
            try_="print low, high, scale and zero, and the codes of the least and largest weight",
        )


def _why_off(codes: Tensor, scale: float, zero: float, w: Tensor, step: float, bits: int) -> str:
    if step and scale > 1.02 * step:
        return (
            f"your step is {scale / step:.2f} times as wide as {2**bits} points need: they reach "
            "from the least weight to the largest, 0 included, and no further"
        )
    if step and scale < 0.98 * step:
        return "your steps are so small that the largest weights lie beyond the last of them"
    wanted = (w.double() / scale + zero).round().clamp(0, 2**bits - 1)
    if not torch.equal(wanted, codes):
        return "another code lies nearer: a quotient is rounded to the nearest whole number"
    return "the grid does not reach so far: zero and scale belong together"


@affine.show
def _show_affine(function: Any) -> views.Picture:
    return views.grid(function)


# --- 4.5.b -------------------------------------------------------------------------------------

SHAPES = "stores half a byte a weight, and a scale a group"
FORMAT = "puts code + 8 into the nibbles, the even column low"
GROUPS = "gives each group a scale of its own"
EMPTY = "serves a group of zeros"


@exercise(
    "4.5.b",
    title="Two weights to a byte",
    points=6,
    central=FORMAT,
    skill=SKILL,
    arguments=("w", "group"),
    hints=(
        (
            GROUPS,
            "`w.reshape(n, k // group, group)` puts each group on an axis of its own: "
            "`abs().amax(-1)` is then its largest weight, [n, k // group].",
        ),
        (GROUPS, "Symmetric int4 goes from -7 to 7: the group's largest weight gets 7 or -7."),
        (
            FORMAT,
            "code + 8 is 1 to 15 and fits into a nibble. `codes[:, 0::2]` are the even columns, "
            "`codes[:, 1::2]` the odd ones.",
        ),
        (FORMAT, "low | (high << 4), both as torch.uint8."),
        (EMPTY, "A group of zeros has the largest weight 0. Let its scale be any number above 0."),
    ),
)
def store(function: Any, require: Any) -> None:
    """(packed uint8 [n, k / 2], scale [n, k / group]): symmetric int4 in groups of inputs."""
    with require(SHAPES) as r:
        for n, k, group in ((1, 2, 2), (3, 8, 4), (5, 96, 32), (2, 64, 64)):
            _stored(r, function, normal(n, k), group)
    with require(FORMAT) as r:
        for n, k, group in ((1, 2, 2), (1, 4, 4), (3, 24, 8), (7, 64, 32)):
            w = _on_grid(n, k, group)
            packed, scale = _stored(r, function, w, group)
            with r.input(_shape(w, group)):
                expected = packing.pack((_codes(w, scale, group) + 8).to(torch.uint8), 4)
                wrong = (packed != expected).nonzero()
                if len(wrong):
                    row, column = wrong[0].tolist()
                    mine, theirs = int(packed[row, column]), int(expected[row, column])
                    pair = _codes(w, scale, group)[row, 2 * column : 2 * column + 2].tolist()
                    r.that(
                        False,
                        what=f"byte [{row}, {column}] is {mine:08b}, and codes {pair} make "
                        f"{theirs:08b}",
                        why=_why_byte(mine, pair),
                        try_="print the byte with f'{b:08b}': the four bits on the right are low",
                    )
    with require(GROUPS) as r:
        for n, k, group in ((4, 64, 16), (2, 64, 32), (3, 12, 2), (2, 32, 32)):
            w = normal(n, k) * 10.0 ** torch.arange(k).div(group, rounding_mode="floor")[None]
            _each_group(r, function, w, group)
        w = normal(3, 32)
        w[1, 5] = 60.0
        _each_group(r, function, w, 8)
    with require(EMPTY) as r:
        w = normal(3, 16)
        w[1, 4:8] = 0
        w[2] = 0
        _each_group(r, function, w, 4)


def _on_grid(n: int, k: int, group: int) -> Tensor:
    """Weights that are codes times a scale already: each group has a 7, so the scale is known."""
    rng = np.random.default_rng((n, k, group))
    codes = rng.integers(-7, 8, size=(n, k // group, group))
    codes[:, :, 0] = rng.choice([-7, 7], size=(n, k // group))
    scale = 2.0 ** rng.integers(-4, 2, size=(n, k // group, 1))
    return torch.from_numpy((codes * scale).reshape(n, k).astype(np.float32))


def _codes(w: Tensor, scale: Tensor, group: int) -> Tensor:
    return (w / scale.float().repeat_interleave(group, 1)).round().clamp(-8, 7).int()


def _shape(w: Tensor, group: int) -> str:
    return f"weights [{w.shape[0]}, {w.shape[1]}] in groups of {group}"


def _stored(r: Any, function: Any, w: Tensor, group: int) -> tuple[Tensor, Tensor]:
    n, k = w.shape
    with r.input(_shape(w, group)):
        found = function(w.clone(), group)
        r.that(
            isinstance(found, tuple | list) and len(found) == 2,
            what=f"it returned {_kind(found)}",
            why="the bytes mean nothing without the scales",
            try_="return packed, scale",
            slip=True,
        )
        packed = tensor(r, found[0], "packed", (n, k // 2), whole=True)
        r.that(
            packed.dtype == torch.uint8,
            what=f"packed has dtype {packed.dtype}, {packed.element_size()} bytes each",
            why="two weights share one byte; an int64 would store four bits in eight bytes",
            try_=".to(torch.uint8)",
        )
        # bfloat16 is left out: its 8 bits of precision move a code of 7 by 7 / 512 of a step.
        scale = tensor(r, found[1], "scale", (n, k // group), (torch.float32, torch.float16))
        r.that(
            bool((scale > 0).all()),
            what=f"a scale is {_first(scale[scale <= 0])}",
            why="codes are quotients by the scale: it is above 0, and the sign is in the code",
            try_="abs() before the largest is taken",
        )
        return packed, scale


def _why_byte(mine: int, pair: list[int]) -> str:
    low, high = (code + 8 for code in pair)
    if mine == high | low << 4:
        return "the two are exchanged: the even column belongs into the low four bits"
    if mine == (pair[0] & 15) | (pair[1] & 15) << 4:
        return "it is the codes' own bits, without the 8: a reader would take -7 for 9 - 8 = 1"
    if mine in (low, high):
        return "only one of the two weights is in it"
    if mine == (pair[0] + 7) | (pair[1] + 7) << 4:
        return "7 was added instead of 8: a reader subtracts 8, as llama.cpp's does"
    return "a byte is the even column's code + 8, and 16 times the odd column's code + 8"


def _each_group(r: Any, function: Any, w: Tensor, group: int) -> None:
    packed, scale = _stored(r, function, w, group)
    with r.input(_shape(w, group)):
        codes = packing.unpack(packed, 4).double() - 8
        back = codes * scale.double().repeat_interleave(group, 1)
        n, k = w.shape
        largest = w.double().reshape(n, -1, group).abs().amax(-1)  # [n, groups]
        off = (back - w.double()).reshape(n, -1, group).abs().amax(-1)
        excess = off - 0.504 * largest / 7
        row, column = divmod(int(excess.argmax()), k // group)
        r.that(
            float(excess.max()) <= 1e-6,
            what=f"in row {row}, group {column} a weight is off by {float(off[row, column]):.3g}; "
            f"the group's largest is {float(largest[row, column]):.3g}, and half of a seventh of "
            f"that is {float(largest[row, column]) / 14:.3g}",
            why=_why_group(scale.double(), largest),
            try_="print scale, and each group's largest weight over 7",
        )


def _why_group(scale: Tensor, largest: Tensor) -> str:
    if scale.shape[1] > 1 and torch.allclose(scale, scale[:, :1].expand_as(scale)):
        return "all groups of a row share a scale, so that one large weight spoils the whole row"
    if bool((scale > 1.1 * largest / 7).any()):
        return "a scale is larger than its group needs, and points of the grid are never used"
    if bool((scale < 0.9 * largest / 7).any()):
        return "a scale is smaller than its group needs, and the largest weights are cut off"
    return "the code is not the nearest, or it is that of another column"


@store.show
def _show_store(function: Any) -> views.Picture:
    return views.groups(function)
