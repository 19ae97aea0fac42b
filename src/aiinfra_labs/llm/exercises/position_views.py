"""What `show` draws in unit 1.2: the learner's own table, scores, steps and curve. Unit 1.2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled
from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.llm import extrapolation, rope_scaling
from aiinfra_labs.llm.attention import attention, causal_mask
from aiinfra_labs.llm.positions import rope_frequencies

from .tensors import random

if TYPE_CHECKING:
    pass

FACTOR, BIN, WINDOWS = 4, 32, 24


def _drawable(got: Any, shape: tuple[int, ...]) -> Tensor:
    """What was returned, if it can be drawn. Raises `CourseError` for another type or shape."""
    kind = f"shape {tuple(got.shape)}" if isinstance(got, Tensor) else f"a {type(got).__name__}"
    if kind != f"shape {shape}":
        raise CourseError(
            f"your function returned {kind}, expected a tensor of shape {shape}",
            "only that can be drawn",
            "run check: it tries smaller inputs first",
        )
    return got.detach().float()


@styled
def heat_map(function: Callable[[Tensor, int], Tensor]) -> Picture:
    """The learner's table, and what its rows score with each other."""
    table = _drawable(function(torch.arange(64), 32), (64, 32))
    products = table @ table.T
    spread = max(float(products.diagonal(k).max() - products.diagonal(k).min()) for k in range(64))
    fig, (left, right) = figures.figure(
        alt=f"Left, your table: {table.shape[0]} positions by {table.shape[1]} dimensions, from "
        f"{table.min():.2f} to {table.max():.2f}. Right, each row times each row: along a "
        f"diagonal, where the distance is the same, products differ by {spread:.2g} at most.",
        ncols=2,
        height=2.9,
    )
    left.imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    left.set(xlabel="dimension", ylabel="position", title="your table")
    right.imshow(products, cmap="viridis", interpolation="nearest")
    right.set(xlabel="position", ylabel="position", title="row times row")
    return Picture(fig)


@styled
def scores(function: Callable[[Tensor, Tensor, float], Tensor]) -> Picture:
    """One query and one key, put at every position: what do they score?"""
    where = torch.arange(24)
    q, k = random(1, 16, seed=1), random(1, 16, seed=2)
    turned = [
        _drawable(function(x.expand(24, 16).clone(), where, 10_000.0), (24, 16)) for x in (q, k)
    ]
    found = turned[0] @ turned[1].T  # [query's position, key's position]
    spread = max(float(found.diagonal(d).max() - found.diagonal(d).min()) for d in range(-23, 24))
    fig, ax = figures.figure(
        alt="One query and one key, put at each of 24 positions, and what they score. Along each "
        f"diagonal, where the distance is the same, your scores differ by {spread:.2g} at most.",
        width=4.2,
        height=3.4,
    )
    image = ax.imshow(found, cmap="RdBu", interpolation="nearest")
    ax.set(xlabel="the key's position", ylabel="the query's position")
    ax.set_title(f"on a diagonal, at most {spread:.2g} apart", fontsize=10)
    fig.colorbar(image, ax=ax)
    return Picture(fig)


@styled
def decoding(function: Callable[..., Any], counted: Callable[[int], Any]) -> Picture:
    """How many vectors each step turns, a new token a step."""
    heads, d, tokens = 2, 8, 12
    query, key, value = (random(heads, tokens, d, seed=s) for s in (3, 4, 5))
    turn, counts, outputs = counted(d), [0], []
    keys = values = torch.zeros(heads, 0, d)
    for i in range(tokens):
        new = [x[:, i : i + 1].clone() for x in (query, key, value)]
        out, keys, values = function(*new, keys, values, turn)
        outputs.append(_drawable(out, (heads, 1, d)))
        counts.append(turn.vectors // heads)
    steps = [after - before for before, after in zip(counts, counts[1:], strict=False)]
    where, plain = torch.arange(tokens), counted(d)
    whole, _ = attention(plain(query, where), plain(key, where), value, causal_mask(tokens, tokens))
    off = float((torch.cat(outputs, dim=1) - whole).abs().max())
    fig, ax = figures.figure(
        alt=f"Vectors of a head turned in each of {tokens} steps of decoding, a token a step: "
        f"{', '.join(map(str, steps))}. Two suffice: the new query and the new key. Your "
        f"outputs differ from those of the whole text by {off:.2g} at most.",
        height=2.3,
    )
    ax.bar(range(tokens), steps, color=figures.PALETTE["blue"])
    ax.axhline(2, color=figures.INK, ls=":", lw=1.2)
    ax.set(xlabel="step: tokens in the cache", ylabel="vectors turned, a head")
    ax.set_ylim(0, max(*steps, 3) + 0.5)
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set_title(f"outputs are off by {off:.2g} at most", fontsize=10)
    return Picture(fig)


# --- a trained model ------------------------------------------------------------------------------


@functools.cache
def _windows() -> Tensor:
    _, held_out = extrapolation.byte_streams()
    return extrapolation.windows(held_out, FACTOR * extrapolation.TRAINED, WINDOWS)


@functools.cache
def _model() -> extrapolation.PositionModel:
    return extrapolation.load_stored()


def curve(frequencies: Tensor) -> Tensor:
    """The stored model's loss with these frequencies, by bins of `BIN` positions, nats a byte."""
    model = _model()
    before = model.angles
    try:
        model.angles = extrapolation.Angles(frequencies.detach().float())
        return extrapolation.binned(extrapolation.loss_by_position(model, _windows()), BIN)
    finally:
        model.angles = before


def loss_past_the_end(frequencies: Tensor) -> float:
    """Its mean loss over positions 256 to 511: past twice the trained length."""
    return float(curve(frequencies)[2 * extrapolation.TRAINED // BIN :].mean())


@styled
def past_the_end(function: Callable[[Tensor, float, int], Tensor]) -> Picture:
    """The stored model's loss by position: its own frequencies, linear, and the learner's."""
    plain = rope_frequencies(32)
    trained = extrapolation.TRAINED
    lines = {
        "as trained": curve(plain),
        "linear": curve(rope_scaling.linear(plain, FACTOR)),
        "yours": curve(_drawable(function(plain.clone(), float(FACTOR), trained), (16,))),
    }
    half = 2 * trained // BIN
    said = ", ".join(f"{name} {float(line[half:].mean()):.2f}" for name, line in lines.items())
    fig, ax = figures.figure(
        alt=f"Loss of a model trained on {trained} bytes against the position in windows of "
        f"{FACTOR * trained}. Mean past position {2 * trained}, in nats a byte: {said}.",
        height=3.0,
    )
    ax.axvspan(0, trained, alpha=0.12, color=figures.PALETTE["blue"], lw=0)
    where = BIN * (torch.arange(len(lines["yours"])) + 0.5)
    for (name, line), colour in zip(lines.items(), ("blue", "orange", "red"), strict=True):
        ax.plot(where, line, color=figures.PALETTE[colour], label=name)
    ax.set(xlabel="position in the window", ylabel="loss, nats a byte", xlim=(0, None))
    ax.legend(fontsize=9)
    return Picture(fig)
