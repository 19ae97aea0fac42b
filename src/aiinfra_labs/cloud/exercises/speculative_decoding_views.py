"""What `show` draws in unit 4.4: the learner's own shares, lookups, calls and choice of k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled


@styled
def shares(p: np.ndarray, q: np.ndarray, kept: np.ndarray, instead: np.ndarray) -> Picture:
    """How often each token comes from the learner's rule, beside p and q."""
    total = kept + instead
    far = float(np.abs(total - p).max())
    fig, ax = figures.figure(
        alt=f"What your rule gives for each of {len(p)} tokens: "
        + "; ".join(
            f"token {i}: {k:.3g} kept and {n:.3g} drawn instead, p is {x:.3g}"
            for i, (k, n, x) in enumerate(zip(kept, instead, p, strict=True))
        )
        + f". The largest difference from p is {far:.3g}.",
        height=2.8,
    )
    at = np.arange(len(p))
    ax.bar(at - 0.2, kept, 0.38, color=figures.PALETTE["blue"], label="yours: kept")
    ax.bar(at - 0.2, instead, 0.38, bottom=kept, color=figures.PALETTE["orange"], label="instead")
    ax.bar(at + 0.2, q, 0.38, color="none", edgecolor=figures.INK, label="q, the draft's")
    ax.hlines(p, at - 0.42, at + 0.02, color=figures.PALETTE["red"], lw=2.5, label="p, wanted")
    ax.set(xlabel="token", ylabel="share", xticks=at)
    ax.legend(fontsize=9)
    return Picture(fig)


@styled
def found(ids: Sequence[int], draft: Sequence[int]) -> Picture:
    """The text, its end, the place where that stood before, and the learner's draft."""
    from matplotlib.patches import Rectangle

    place = next(
        (i for i in range(len(ids) - 1, -1, -1) if list(ids[i : i + len(draft)]) == list(draft)),
        None,
    )
    where = f"the tokens from place {place} on" if draft and place is not None else "nothing there"
    fig, ax = figures.figure(
        alt=f"The text {list(ids)}. Your draft is {list(draft)}: {where}.", height=1.5
    )
    for i, id in enumerate([*ids, *draft]):
        guessed, source = i >= len(ids), place is not None and place <= i < place + len(draft)
        colour = figures.PALETTE["orange" if guessed or source else "blue"]
        face = colour if guessed else "none"
        ax.add_patch(Rectangle((i, 0), 0.85, 0.8, facecolor=face, edgecolor=colour, lw=1.6))
        ink = {"color": figures.WHITE} if guessed else {}
        ax.text(i + 0.42, 0.4, str(id), ha="center", va="center", fontsize=10, **ink)
    ax.set(xlim=(-0.2, len(ids) + len(draft) + 0.2), ylim=(-0.2, 1), xlabel="token; filled: draft")
    ax.set_yticks([])
    ax.set_xticks([])
    return Picture(fig)


@styled
def calls(reads: Sequence[int], prompt: int, new: int) -> Picture:
    """How many tokens each call of the model read."""
    fig, ax = figures.figure(
        alt=f"Tokens read by each of your {len(reads)} calls of the model, for a prompt of "
        f"{prompt} and {new} new tokens: {', '.join(map(str, reads))}. Without drafts it takes "
        f"{new} calls.",
        height=2.3,
    )
    ax.bar(range(1, len(reads) + 1), reads, color=figures.PALETTE["blue"])
    ax.axvline(new, color=figures.INK, ls=":", lw=1.4)
    ax.text(new - 0.2, max(reads) * 0.9, "without drafts", ha="right", fontsize=9)
    ax.set(xlabel="call of the model", ylabel="tokens read", xlim=(0, new + 1))
    return Picture(fig)


@styled
def payoff(
    chosen: Mapping[float, tuple[int, float]], draft: float, verify: Sequence[float]
) -> Picture:
    """Speed-up by k, a line for each rate of acceptance, and the learner's choice on it."""
    fig, ax = figures.figure(
        alt=f"Speed-up by the number of drafts, each {draft:g} of a step. You choose "
        + "; ".join(f"k = {k} at a = {a:g}, {s:.2f} times" for a, (k, s) in chosen.items())
        + ".",
        height=3.0,
    )
    ks = range(len(verify))
    for a, (k, speed) in chosen.items():
        line = [sum(a**j for j in range(n + 1)) / (n * draft + verify[n]) for n in ks]
        (drawn,) = ax.plot(ks, line, lw=1.4, label=f"a = {a:g}")
        ax.plot([k], [speed], "o", color=drawn.get_color(), ms=7)
    ax.axhline(1, color=figures.INK, ls=":", lw=1.2)
    ax.set(xlabel="drafts a step, k; dots: yours", ylabel="times as fast")
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return Picture(fig)
