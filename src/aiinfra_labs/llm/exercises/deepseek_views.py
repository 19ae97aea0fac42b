"""What `show` draws in unit 1.7: the learner's own keys, bytes, loads and loss. Unit 1.7."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled
from aiinfra_labs.course.parts import CourseError, a_kind
from aiinfra_labs.llm.attention_cost import allocated

from .tensors import random

BLUE, ORANGE = figures.PALETTE["blue"], figures.PALETTE["orange"]


@styled
def keys(function: Any, right: Any) -> Picture:
    """Which numbers of one token's keys and values differ from the reference: a row a head."""
    heads, nope, rope, v = 4, 6, 3, 5
    latent, shared = random(1, 3, 8, seed=1), random(1, 3, rope, seed=2)
    w_up = random(heads * (nope + v), 8, seed=3)
    got = function(latent, shared, w_up, heads, nope)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise CourseError(
            f"{'nothing' if got is None else a_kind(got)} cannot be drawn",
            "keys and values are drawn side by side",
            "end the function with return key, value",
        )
    wanted = right(latent, shared, w_up, heads, nope)
    fig, axes = figures.figure(alt="-", height=2.4, ncols=2, width_ratios=(nope + rope, v))
    said = []
    for ax, name, mine, theirs in zip(axes, ("keys", "values"), got, wanted, strict=True):
        shape = tuple(theirs.shape)
        if not isinstance(mine, torch.Tensor) or tuple(mine.shape) != shape:
            has = tuple(mine.shape) if isinstance(mine, torch.Tensor) else a_kind(mine)
            raise CourseError(
                f"the {name} are {has}, and {shape} is drawn",
                "their axes are batch, head, token and the numbers of a head",
                "check says for each input what shape is asked for",
            )
        wrong = (mine - theirs).abs()[0, :, 1] > 1e-4  # of token 1: [heads, numbers]
        _squares(ax, wrong)
        ax.set(title=f"{name}: {int(wrong.sum())} wrong", xlabel="number")
        said.append(f"{int(wrong.sum())} of {wrong.numel()} numbers of the {name}")
    axes[0].axvline(nope - 0.5, color=figures.INK, lw=1.2, ls=":")
    axes[0].set(ylabel="head", xlabel="number; right of the line: position")
    figures.describe(
        fig, f"One token, {heads} heads: {' and '.join(said)} differ from the reference (filled)."
    )
    return Picture(fig)


def _squares(ax: Any, filled: torch.Tensor) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    rows, columns = filled.shape
    for i in range(rows):
        for j in range(columns):
            colour = ORANGE if filled[i, j] else BLUE
            face = to_rgba(colour, 1.0 if filled[i, j] else 0.2)
            ax.add_patch(
                Rectangle((j - 0.42, i - 0.42), 0.84, 0.84, facecolor=face, edgecolor=colour)
            )
    ax.set(xlim=(-0.7, columns - 0.3), ylim=(rows - 0.3, -0.7))
    ax.set_xticks(range(columns))
    ax.set_yticks(range(rows))


@styled
def bytes_by_context(function: Any, inputs: Any) -> Picture:
    """What one step allocates against the context: the learner's, and keys and values expanded."""
    heads, latent, nope, rope, v = 32, 64, 32, 16, 32
    contexts = [64, 128, 256, 512, 1024]
    mine = []
    for s in contexts:
        given = inputs(1, heads, s, latent, nope, rope, v)
        mine.append(allocated(lambda g=given: function(*g)) / 1e6)
    whole = [s * heads * (nope + rope + v) * 4 / 1e6 for s in contexts]
    kept = [s * (latent + rope) * 4 / 1e6 for s in contexts]
    fig, ax = figures.figure(
        alt=f"MB that one step allocates, {heads} heads. At {contexts[-1]:,} tokens of context: "
        f"yours {mine[-1]:.2f}, keys and values of all heads {whole[-1]:.2f}, the latents "
        f"themselves {kept[-1]:.2f}.",
        height=2.7,
    )
    ax.plot(contexts, whole, "s--", color=ORANGE, label="keys and values, expanded")
    ax.plot(contexts, mine, "o-", color=BLUE, label="yours")
    ax.plot(contexts, kept, ls=":", color=figures.INK, label="the latents in the cache")
    ax.set(xlabel="tokens of context", ylabel="MB allocated in a step", ylim=(0, None))
    ax.legend(fontsize=9)
    return Picture(fig)


@styled
def rows_by_expert(function: Any, routed: Any, experts_of: Any) -> Picture:
    """How many rows each expert was shown, with no bias and with one that pulls two apart."""
    count, k, tokens = 8, 2, 64
    x, scores = routed(tokens, count, 6, 80)
    pulls = torch.zeros(count)
    pulls[0], pulls[-1] = 0.6, -0.6
    fig, ax = figures.figure(alt="-", height=2.5)
    said = []
    for i, (name, bias) in enumerate((("no bias", torch.zeros(count)), ("a bias", pulls))):
        experts = experts_of(count, 6)
        function(x, scores, bias, k, experts, torch.zeros_like)
        rows = [sum(e.calls) for e in experts]
        places = [e + 0.38 * (i - 0.5) for e in range(count)]
        ax.bar(places, rows, 0.36, color=(BLUE, ORANGE)[i], hatch=("", "//")[i], label=name)
        said.append(f"{name}: {', '.join(map(str, rows))}, {sum(rows)} in all")
    ax.axhline(tokens * k / count, color=figures.INK, lw=1.2, ls=":")
    ax.set(xlabel="expert; the bias is +0.6 for 0, -0.6 for 7", ylabel="rows shown to it")
    ax.legend(ncols=2, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figures.describe(
        fig,
        f"Rows that each of {count} experts was shown, for {tokens} tokens and k = {k}, which "
        f"takes {tokens * k}. {'; '.join(said)}.",
    )
    return Picture(fig)


@styled
def violations(curves: Mapping[str, Sequence[float]]) -> Picture:
    """The busiest expert's load, as a multiple of the mean, over the steps."""
    said = "; ".join(f"{name} {1 + c[0]:.1f} at first, {1 + c[-1]:.1f} at the end"
                     for name, c in curves.items())  # fmt: skip
    fig, ax = figures.figure(
        alt=f"Load of the busiest expert over the mean, step by step: {said}.", height=2.6
    )
    for (name, curve), colour, line in zip(
        curves.items(), (ORANGE, BLUE), ("--", "-"), strict=True
    ):
        ax.plot([1 + v for v in curve], color=colour, ls=line, label=name)
    ax.axhline(1, color=figures.INK, lw=1.2, ls=":")
    ax.set(xlabel="step", ylabel="busiest expert / mean", ylim=(0, None))
    ax.legend(fontsize=9)
    return Picture(fig)


@styled
def clipped(loss: Callable[[float, bool], Any]) -> Picture:
    """The learner's loss against the ratio, for an answer that is better and one that is worse."""
    ratios = torch.linspace(0.4, 1.6, 49).tolist()
    fig, ax = figures.figure(alt="-", height=2.7)
    said = []
    for good, colour, line in ((True, BLUE, "-"), (False, ORANGE, "--")):
        values = [_number(loss(x, good)) for x in ratios]
        name = "better than its group" if good else "worse than its group"
        ax.plot(ratios, values, color=colour, ls=line, label=name)
        said.append(f"{name}: {values[0]:.2f} at 0.4, {values[24]:.2f} at 1, {values[-1]:.2f} at "
                    "1.6")  # fmt: skip
    for edge in (0.8, 1.2):
        ax.axvline(edge, color=figures.INK, lw=1, ls=":")
    ax.set(xlabel="ratio of an answer's one token", ylabel="your loss")
    ax.legend(fontsize=9)
    figures.describe(fig, f"Your loss against the ratio, clip 0.2. {'; '.join(said)}.")
    return Picture(fig)


def _number(value: Any) -> float:
    if not isinstance(value, torch.Tensor) or value.dim() != 0:
        raise CourseError(
            f"{'nothing' if value is None else a_kind(value)} cannot be drawn",
            "the loss of a group is one number",
            "end the function with a mean over the answers",
        )
    return float(value)
