"""The drawings of unit 4.4: drafts of a run, shares, speed-up by formula and as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.cloud.serving import speedup
from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def shares(p: Sequence[float], q: Sequence[float], words: Sequence[str]) -> Figure:
    """What model and draft give some tokens: kept, too much, and lacking."""
    p, q = np.asarray(p), np.asarray(q)
    both, lacking, too_much = np.minimum(p, q), np.maximum(p - q, 0), np.maximum(q - p, 0)
    said = "; ".join(f"{w!r} p {a:.2f}, q {b:.2f}" for w, a, b in zip(words, p, q, strict=True))
    fig, ax = figures.figure(
        alt=f"What the model (p) and the draft (q) give to {len(words)} tokens: {said}. Of these "
        f"tokens, {both.sum():.2f} lies under both and is kept.",
        height=2.8,
    )
    at = np.arange(len(words))
    ax.bar(at, both, 0.6, color=figures.PALETTE["blue"], label="kept: min(p, q)")
    ax.bar(
        at, lacking, 0.6, bottom=both, color=figures.PALETTE["orange"], label="drawn instead: p - q"
    )
    look = {"color": "none", "edgecolor": figures.PALETTE["red"], "linestyle": "--"}
    dashed = ax.bar(at, too_much, 0.6, bottom=both, label="rejected: q - p", **look)
    ax.set_xticks(at, words, fontsize=10.5, family="monospace")
    ax.set(ylabel="probability")
    ax.tick_params(axis="y", labelsize=10.5)
    ax.legend(fontsize=10.5)
    for bar, height in zip(dashed, too_much, strict=True):
        bar.set_visible(bool(height))  # an edge without an area would be a red line
    return fig


@styled
def run(steps: Sequence[tuple[Sequence[str], int, str]], first: int = 1, most: int = 9) -> Figure:
    """A row a step: its drafts, how many of them are right, and the model's own token.

    first: the number of the first step that is shown, from 1 on. most: steps that are shown.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch, Rectangle

    shown = list(steps)[first - 1 :][:most]
    drafted, accepted = sum(len(d) for d, _, _ in steps), sum(n for _, n, _ in steps)
    told = "; ".join(
        f"step {i + first} drafts {' '.join(map(repr, d)) or 'nothing'}, {n} right, "
        f"and gives {own!r}"
        for i, (d, n, own) in enumerate(shown)
    )
    fig, ax = figures.figure(
        alt=f"{len(shown)} of {len(steps)} steps, a row each: {told}. In all {drafted} "
        f"tokens were drafted and {accepted} accepted; with the model's own token of each step "
        f"that is {accepted + len(steps)} tokens, {(accepted + len(steps)) / len(steps):.1f} a "
        "step.",
        height=0.7 + 0.29 * len(shown),
    )
    look = {"ha": "center", "va": "center", "fontsize": 10.5, "family": "monospace"}
    widest = 0.0
    for row, (drafts, right, own) in enumerate(shown):
        boxes = [(text, "blue" if i < right else "red") for i, text in enumerate(drafts)]
        boxes.insert(right, (own, "orange"))
        ax.text(-0.6, row, f"step {row + first}", ha="right", va="center", fontsize=10.5)
        left = 0.0
        for i, (text, name) in enumerate(boxes):
            left += 1.2 * (i == right + 1)  # what was thrown away stands apart
            wide = max(len(text), 1) + 1.0
            colour = figures.PALETTE[name]
            wrong = name == "red"
            face = {"fc": "none" if wrong else to_rgba(colour, 0.3), "ls": "--" if wrong else "-"}
            ax.add_patch(Rectangle((left, row - 0.4), wide, 0.8, ec=colour, lw=1.2, **face))
            ax.text(left + wide / 2, row, text, **look)
            left += wide + 0.4
        widest = max(widest, left)
    ax.set(xlim=(0, widest), ylim=(len(shown) - 0.4, -0.6), xticks=[], yticks=[])
    kinds = {"blue": "right guess", "orange": "the model's own", "red": "thrown away"}
    keys = [
        Patch(fc="none", ec=figures.PALETTE[name], ls="--", label=text)
        if name == "red"
        else Patch(fc=to_rgba(figures.PALETTE[name], 0.3), ec=figures.PALETTE[name], label=text)
        for name, text in kinds.items()
    ]
    fig.legend(handles=keys, loc="outside upper left", ncols=3, fontsize=10.5, frameon=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return fig


@styled
def speedups(costs: Sequence[float] = (0.02, 0.3), ks: Sequence[int] = (2, 4, 8)) -> Figure:
    """Speed-up by the rate of acceptance, for a draft's cost and some numbers of drafts."""
    rates = np.linspace(0, 0.98, 50)
    lines = {(c, k): [speedup.speedup(float(a), k, c) for a in rates] for c in costs for k in ks}
    said = "; ".join(
        f"c = {c:g} and k = {k}: {speedup.speedup(0.8, k, c):.1f} times at a = 0.8"
        for c, k in lines
    )
    fig, axes = figures.figure(
        alt=f"Speed-up by the rate of acceptance, if a verified step costs what a step costs. "
        f"{said}.",
        height=2.5 * len(costs),
        nrows=len(costs),
        sharex=True,
    )
    for ax, c in zip(np.atleast_1d(axes), costs, strict=True):
        for k in ks:
            ax.plot(rates, lines[c, k], label=f"k = {k}")
        ax.axhline(1, color=figures.INK, ls=":", lw=1.2)
        ax.axhspan(2, 3, color=figures.INK, alpha=0.15, lw=0)
        ax.set(xlim=(0, 1), ylim=(0, 5), ylabel="times as fast")
        ax.set_title(f"a guess costs c = {c:g} of a step", fontsize=11)
        ax.text(0.02, 2.5, "the talk: 2 to 3", va="center", fontsize=10.5)
        ax.tick_params(labelsize=10.5)
        ax.legend(fontsize=10.5, loc="upper left")
    np.atleast_1d(axes)[-1].set_xlabel("rate of acceptance, a")
    return fig


@styled
def measured(found: Mapping[str, Any]) -> Figure:
    """A verified step by its tokens, and speed-up by batch: what was measured."""
    steps = {int(n): t for n, t in found["step_seconds"].items()}
    rows = {int(n): row for n, row in found["batches"].items()}
    ways = [w for w in next(iter(rows.values())) if w != "none"]
    last, most = max(steps), max(rows)
    said = "; ".join(
        f"{w}: {rows[1][w]['speedup']:.2f} times at batch 1, {rows[most][w]['speedup']:.2f} at "
        f"{most}"
        for w in ways
    )
    fig, (left, right) = figures.figure(
        alt=f"Measured on {found['machine']['cpu']}. A step for {last} tokens takes "
        f"{steps[last] / steps[1]:.1f} times as long as one for 1. Speed-up on code that repeats "
        f"itself: {said}.",
        height=5.0,
        nrows=2,
    )
    left.plot(list(steps), [t / steps[1] for t in steps.values()], "o-", ms=4)
    left.plot(list(steps), list(steps), color=figures.INK, ls=":", lw=1.2)
    left.set(xlabel="tokens in a step", xlim=(0, last + 1), ylim=(0, 4.5))
    left.set_title("time of a step, in steps for 1 token", fontsize=11)
    left.text(4.6, 4.1, "one step for each token", va="center", fontsize=10.5)
    for way in ways:
        speeds = [row[way]["speedup"] for row in rows.values()]
        right.plot(list(rows), speeds, "o-", ms=4, label=way.replace(" ", ", k = "))
    right.axhline(1, color=figures.INK, ls=":", lw=1.2)
    right.text(1, 0.93, "without guesses", va="top", fontsize=10.5)
    right.set_xscale("log", base=2)
    right.set_xticks(list(rows), [str(n) for n in rows])
    right.set(xlabel="sequences in the batch", ylim=(0, None))
    right.set_title("times as fast, on code that repeats itself", fontsize=11)
    right.legend(fontsize=10.5)
    for ax in (left, right):
        ax.tick_params(labelsize=10.5)
    return fig
