"""What `show` draws in unit 1.8: the learner's own rulers, loss, classes, patches and stream.

Unit 1.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import many
from aiinfra_labs.course.figures import Picture, styled
from aiinfra_labs.course.parts import CourseError, a_kind
from aiinfra_labs.llm.drawings.emergence_multimodal import BLUE, ORANGE, confusions, shades
from aiinfra_labs.llm.multimodal import colours, stored

from .scale_views import drawn
from .tensors import random


def a_tensor(value: Any, shape: tuple[int, ...]) -> Tensor:
    """A tensor that can be drawn. Raises `CourseError` for what is none, or of another shape."""
    has = a_kind(value) if not isinstance(value, Tensor) else f"shape {tuple(value.shape)}"
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise CourseError(
            f"{'nothing' if value is None else has} cannot be drawn, expected a tensor of {shape}",
            "the picture has a place for each of its numbers",
            "check says more; run it first",
        )
    return value.detach().float()


@styled
def rulers(function: Callable[..., Any]) -> Picture:
    """The learner's three numbers as a model grows surer of the right tokens."""
    targets = torch.randint(10, (300, 8), generator=torch.Generator().manual_seed(1))
    noise = random(300, 8, 10, seed=1)
    strengths = [0.5 * k for k in range(19)]
    found = []
    for strength in strengths:
        got = function(noise + strength * F.one_hot(targets, 10), targets)
        if not isinstance(got, tuple | list) or len(got) != 3:
            raise CourseError(
                f"{'nothing' if got is None else a_kind(got)} cannot be drawn",
                "three numbers were asked for",
                "end the function with return exact, nats, drawn",
            )
        found.append([drawn(x) for x in got])
    exact, nats, whole = zip(*found, strict=True)
    fig, axes = figures.figure(alt="-", height=2.6, ncols=2)
    axes[0].plot(strengths, exact, "o-", ms=3, color=ORANGE, label="exact match")
    axes[0].plot(strengths, whole, "s--", ms=3, color=BLUE, label="drawn match")
    axes[1].plot(strengths, nats, "o-", ms=3, color=BLUE)
    axes[0].set(title="share of answers", xlabel="strength of the right logit")
    axes[1].set(title="nats a token", xlabel="strength of the right logit")
    axes[0].legend()
    half = next((s for s, e in zip(strengths, exact, strict=True) if e > 0.5), None)
    where = "nowhere" if half is None else f"at {half:g}"
    return Picture(
        figures.describe(
            fig,
            f"Your rulers on 300 answers of 8 tokens as the right logit grows from 0 to 9: exact "
            f"match passes one half {where}; nats fall from {nats[0]:.2f} to {nats[-1]:.2f}.",
        )
    )


@styled
def contrastive(function: Callable[..., Any]) -> Picture:
    """The learner's loss as the texts drift away from their images."""
    images, other = random(16, 8, seed=3), random(16, 8, seed=4)
    mixed = [k / 10 for k in range(11)]
    losses = {
        scale: [drawn(function(images, (1 - m) * images + m * other, scale)) for m in mixed]
        for scale in (1.0, 14.0)
    }
    fig, ax = figures.figure(alt="-", height=2.6)
    for scale, values in losses.items():
        ax.plot(mixed, values, "o-", ms=3, label=f"scale {scale:g}")
    ax.axhline(np.log(16), color=figures.INK, lw=1, ls=":")
    ax.text(0, np.log(16) * 1.04, "a guess among 16")
    ax.set(xlabel="0: texts equal their images, 1: they are strangers", ylabel="your loss, nats")
    ax.legend()
    said = "; ".join(f"scale {s:g}: {v[0]:.2f} to {v[-1]:.2f}" for s, v in losses.items())
    return Picture(
        figures.describe(fig, f"Your loss of 16 pairs that become strangers, at {said} nats.")
    )


def zero_shot(function: Callable[..., Any]) -> Picture:
    """Held-out digits in a colour that they were never shown in, by the learner's cosines."""
    images, prompts, concepts = stored.load_space()
    found = a_tensor(function(images, prompts), (len(images), len(prompts)))
    answered = found.argmax(-1)
    right = int((answered == concepts).sum())
    name = f"{right} of {many(len(images), 'picture')} right"
    return Picture(confusions({name: (colours.digit_of(concepts), colours.digit_of(answered))}))


@styled
def patches(function: Callable[..., Any]) -> Picture:
    """A ring, open on one side, and the learner's patches of it in their order."""
    y, x = torch.meshgrid(torch.arange(8) - 3.5, torch.arange(8) - 3.5, indexing="ij")
    ring = torch.exp(-((x.hypot(y) - 2.6) ** 2)) * ~((x > 0) & (y > 0))
    image = ring[None, None]
    rows = a_tensor(function(image.clone(), 4), (1, 4, 16))[0]
    fig, axes = figures.figure(alt="-", height=1.5, ncols=5)
    for i, ax in enumerate(axes):
        shades(ax, image[0, 0] if i == 0 else rows[i - 1].reshape(4, 4), 1.0, BLUE)
        ax.set_title("image" if i == 0 else f"patch {i - 1}")
        ax.set_xticks([])
        ax.set_yticks([])
    ink = ", ".join(f"{x:.1f}" for x in rows.sum(-1).tolist())
    return Picture(
        figures.describe(
            fig, f"An open ring of 8 x 8 pixels and your four patches. Ink in each: {ink}."
        )
    )


@styled
def stream(function: Callable[..., Any]) -> Picture:
    """The learner's mask of a small stream, and which places are graded."""
    layout = (("text", 1), ("image", 4), ("sound", 3), ("text", 2))
    parts = [(kind, random(n, 6, seed=i)) for i, (kind, n) in enumerate(layout)]
    got = function(parts, random(2, 6), torch.tensor([7, 8]))
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise CourseError(
            f"{'nothing' if got is None else a_kind(got)} cannot be drawn",
            "vectors, targets and mask were asked for",
            "end the function with return x, targets, mask",
        )
    mask, targets = a_tensor(got[2], (12, 12)), a_tensor(got[1], (12,)).long().tolist()
    names = [kind for kind, n in layout for _ in range(n)] + ["answer"] * 2
    fig, ax = figures.figure(alt="-", height=3.6)
    shades(ax, mask.numpy(), 1.4, BLUE)
    ax.set_xticks(range(12), [str(i) for i in range(12)])
    ax.set_yticks(range(12), [f"{i} {name}" for i, name in enumerate(names)])
    for i, target in enumerate(targets):
        ax.text(12.2, i, f"predicts {target}" if target >= 0 else "-", va="center")
    ax.set(xlabel="is looked at", ylabel="looks")
    graded = ", ".join(f"{i} predicts {t}" for i, t in enumerate(targets) if t >= 0) or "none"
    ahead = int((mask > 0).triu(1).sum())
    return Picture(
        figures.describe(
            fig,
            f"Your mask of 12 places: {int(mask.sum())} pairs are seen, {ahead} of them ahead. "
            f"Graded places: {graded}.",
        )
    )
