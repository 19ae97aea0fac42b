"""The exercises of unit 1.4 on the model: a norm, and a block whose gradient reaches the bottom.

Values and gradients are compared with torch's. Those on training are in `transformer_training`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aiinfra_labs.course import exercise

from . import transformer_runs as runs
from .transformer_views import draw_gradients

SKILL = "Transformers and training"


def array(value: Any) -> Any:
    """A tensor as NumPy has it, for comparing; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()


def is_tensor(r: Any, got: Any, like: Tensor, name: str = "the result") -> None:
    """A tensor of the shape and dtype of `like`, else the requirement fails."""
    kind = "nothing" if got is None else f"a {type(got).__name__}"
    r.that(
        isinstance(got, Tensor),
        what=f"{name} is {kind}, expected a tensor",
        why="the next layer takes a tensor",
        try_="return the tensor at the end of the function",
        slip=True,
    )
    for what, mine, wanted in (
        ("shape", list(got.shape), list(like.shape)),
        ("dtype", got.dtype, like.dtype),
    ):
        r.that(
            mine == wanted,
            what=f"{name} has {what} {mine}, expected {wanted}",
            why=f"it has the {what} of x: the next layer, and the sum around this one, need it",
            try_="print the shape and the dtype after each line",
        )


# --- 1.4.a -------------------------------------------------------------------------------------

VALUES = "divides each vector by the root of its mean square"
HALF = "holds in float16, whose numbers end at 65,504"
GRADIENT = "has torch's gradient, at a vector of zeros too"


@exercise(
    "1.4.a",
    title="RMSNorm that holds in half precision",
    points=4,
    central=VALUES,
    skill=SKILL,
    arguments=("x", "weight", "eps"),
    hints=(
        (
            VALUES,
            "x is [..., C], and each of its vectors is divided by a number of its own. Over which "
            "axis is the mean, and what must `keepdim` be so that the division broadcasts?",
        ),
        (
            HALF,
            "300 squared is 90,000. In which dtype is the square to be taken, and which dtype does "
            "the caller want back? `x.float()` and `.to(x.dtype)`.",
        ),
        (
            GRADIENT,
            "The slope of sqrt(s) at s = 0 is infinite. Where must eps stand, so that the root is "
            "never taken of 0? `torch.rsqrt(mean + eps)`.",
        ),
    ),
)
def rms_norm(function: Any, require: Any) -> None:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis of x."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    with require(VALUES) as r:
        for shape, size, eps in (
            ((4,), 1.0, 1e-6),
            ((3, 8), 1.0, 1e-5),
            ((2, 5, 7), 30.0, 1e-6),
            ((1, 1, 33), 1e-3, 1e-6),
            ((2, 6), 1.0, 0.25),
        ):
            with r.input(f"x of {list(shape)} and size {size:g}, eps = {eps:g}"):
                x, weight = normal(*shape) * size + size, normal(shape[-1])
                got = function(x.clone(), weight.clone(), eps)
                is_tensor(r, got, x)
                r.equal(
                    array(got),
                    array(F.rms_norm(x, x.shape[-1:], weight, eps)),
                    tolerance=1e-5,
                    why="each vector is divided by sqrt(mean of its squares + eps), no mean is "
                    "taken off, and each element has a weight",
                    try_="work it out by hand for x = [3, 4], weight = [1, 1]: the mean square is "
                    "12.5",
                )
    with require(HALF) as r:
        for dtype, size in ((torch.float16, 300.0), (torch.float16, 1e-4), (torch.bfloat16, 50.0)):
            with r.input(f"x of [4, 64], {dtype}, of size {size:g}"):
                x, weight = (normal(4, 64) * size).to(dtype), normal(64).to(dtype)
                got = function(x.clone(), weight.clone(), 1e-6)
                is_tensor(r, got, x)
                wide = F.rms_norm(x.float(), (64,), weight.float(), 1e-6)
                r.equal(
                    array(got),
                    array(wide),
                    tolerance=0.03 if dtype == torch.bfloat16 else 4e-3,
                    dtype=False,
                    why="the squares of half-precision numbers do not fit in half precision: large "
                    "ones become inf, small ones 0",
                    try_="take squares and mean in float32, and go back to x's dtype at the end",
                )
    with require(GRADIENT) as r:
        for label, x in (
            ("3 vectors of 8", normal(3, 8)),
            ("2 vectors of 8, the second all zeros", torch.cat((normal(1, 8), torch.zeros(1, 8)))),
        ):
            with r.input(label):
                weight, weigh = normal(8), normal(*x.shape)
                mine, theirs = (x.clone().requires_grad_() for _ in range(2))
                weights = [weight.clone().requires_grad_() for _ in range(2)]
                out = function(mine, weights[0], 1e-6)
                is_tensor(r, out, x)
                r.that(
                    out.requires_grad,
                    what="the result has no gradient",
                    why="a norm is trained through: .data, .detach() and no_grad cut it off",
                    try_="compute with tensors alone, from x to the result",
                )
                (out * weigh).sum().backward()
                (F.rms_norm(theirs, (8,), weights[1], 1e-6) * weigh).sum().backward()
                for name, got, expected in (
                    ("the gradient of x", mine.grad, theirs.grad),
                    ("the gradient of weight", weights[0].grad, weights[1].grad),
                ):
                    r.equal(
                        array(got),
                        array(expected),
                        name=name,
                        # at a vector of zeros it is weight / sqrt(eps), in the thousands
                        tolerance=1e-3,
                        why="where the root is taken of exactly 0 its slope is infinite, and "
                        "infinity times 0 is nan; one such vector spoils every weight below",
                        try_="let eps be part of what the root is taken of",
                    )


# --- 1.4.b -------------------------------------------------------------------------------------

SUM = "is x + attention(norm(x)), then + mlp(norm of that)"
THROUGH = "lets x through unchanged where both parts give 0"
BOTTOM = "brings the gradient down through 64 blocks"


@exercise(
    "1.4.b",
    title="A block whose gradient reaches the bottom",
    points=4,
    central=SUM,
    skill=SKILL,
    arguments=("x", "attention", "mlp", "norm1", "norm2"),
    hints=(
        (
            SUM,
            "Two steps, and the second begins where the first has ended. Which x goes into norm2: "
            "the block's input, or the sum after attention?",
        ),
        (
            THROUGH,
            "Set attention and mlp to 0 in your head: what is left must be x itself, not norm1(x). "
            "The norm belongs on the way into a part, and nowhere on the sum.",
        ),
        (
            BOTTOM,
            "The derivative of x + f(x) is 1 + f'(x). Whatever f' is, what is there of the "
            "gradient above arrives below. Is there a path from your result to x with nothing but "
            "sums on it?",
        ),
    ),
)
def pre_norm_block(function: Any, require: Any) -> None:
    """A pre-norm block from its parts, which are functions of [B, T, C]."""
    with require(SUM) as r:
        for b, t, c in ((1, 1, 4), (2, 5, 8)):
            with r.input(f"x of [{b}, {t}, {c}], parts with random weights"):
                parts, x = runs.parts(c, seed=t), runs.normal(b, t, c, seed=1)
                got = function(x, *parts)
                is_tensor(r, got, x)
                attention, mlp, norm1, norm2 = parts
                middle = x + attention(norm1(x))
                r.equal(
                    array(got),
                    array(middle + mlp(norm2(middle))),
                    tolerance=1e-5,
                    why="attention sees norm1 of x, and its result is added to x; mlp sees norm2 "
                    "of that sum, and its result is added to the sum",
                    try_="write it in two lines, each of the form x = x + ...",
                )
    with require(THROUGH) as r, r.input("attention and mlp that give 0"):
        _, _, norm1, norm2 = runs.parts(8, seed=2)
        x = runs.normal(2, 3, 8, seed=3) * 5
        got = function(x.clone(), torch.zeros_like, torch.zeros_like, norm1, norm2)
        is_tensor(r, got, x)
        r.equal(
            array(got),
            array(x),
            tolerance=1e-6,
            why="a part that has learned nothing adds nothing: the block must then do no harm. A "
            "norm on the sum changes x in every block",
            try_="norms only inside the brackets: x + part(norm(x))",
        )
    with require(BOTTOM) as r, r.input("64 blocks of Llama with random weights, x of [2, 6, 16]"):
        norms = runs.gradient_norms(function, layers=64)
        bottom, top = norms[0], norms[-1]
        r.that(
            math.isfinite(bottom) and 0 < top / 20 <= bottom <= 200 * top,
            what=f"the gradient's norm is {top:.2g} at the top and {bottom:.2g} at the bottom",
            why="each block multiplies the gradient by its derivative; without a plain sum, 64 "
            "factors make it vanish or explode",
            try_="x must reach the result by sums alone: no norm, no part, no factor on that path",
        )


@pre_norm_block.show
def _show_block(function: Any) -> Any:
    return draw_gradients(
        {
            "yours": runs.gradient_norms(function, 64),
            "reference": runs.gradient_norms(runs.block, 64),
        }
    )
