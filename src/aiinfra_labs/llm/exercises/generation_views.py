"""What `show` draws in unit 1.5: the learner's own bars, nucleus, reads and stream. Unit 1.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled

LOGITS = torch.tensor([4.0, 3.5, 3.0, 2.0, 1.5, 0.5, 0.0, -1.0])
SHARES = torch.tensor([2.0, 8, 1, 4, 1, 8, 2, 6]) / 32


@styled
def temperatures(function: Callable[[Tensor, float], Tensor]) -> Picture:
    """The learner's probabilities of eight tokens at three temperatures."""
    found = {t: function(LOGITS.clone(), t).detach().tolist() for t in (0.5, 1.0, 2.0)}
    said = "; ".join(f"at {t:g}, {max(row):.0%} for the first" for t, row in found.items())
    fig, ax = figures.figure(
        alt=f"Your probabilities of eight tokens at three temperatures: {said}.", height=2.6
    )
    for i, (t, row) in enumerate(found.items()):
        ax.bar([x + 0.27 * (i - 1) for x in range(8)], row, width=0.25, label=f"T = {t:g}")
    ax.set(xlabel="token, by its logit", ylabel="probability", xticks=range(8))
    ax.set_xticklabels([f"{x:g}" for x in LOGITS.tolist()])
    ax.legend(fontsize=9)
    return Picture(fig)


@styled
def nucleus(function: Callable[[Tensor, float], Tensor], p: float = 0.75) -> Picture:
    """Eight tokens, the likeliest first, and which of them the learner keeps."""
    kept = function(SHARES.clone(), p).detach() > 0
    order = SHARES.argsort(descending=True, stable=True).tolist()
    total = float(SHARES[kept].sum())
    fig, ax = figures.figure(
        alt=f"Eight tokens, the likeliest first. At p = {p:g} you keep {int(kept.sum())}, which "
        f"sum to {total:.3g}.",
        height=2.6,
    )
    colours = [figures.PALETTE["blue" if kept[i] else "orange"] for i in order]
    ax.bar(range(8), SHARES[order], color=colours)
    ax.plot(range(8), SHARES[order].cumsum(0), "o-", color=figures.INK, ms=4, lw=1)
    ax.axhline(p, color=figures.INK, ls=":", lw=1.2)
    ax.set(xlabel="token id: blue is kept", ylabel="probability, and the sum so far")
    ax.set_xticks(range(8), [str(i) for i in order])
    return Picture(fig)


@styled
def reads(calls: list[int], prompt: int, new: int) -> Picture:
    """How many tokens each call of the model read."""
    fig, ax = figures.figure(
        alt=f"Tokens read by each of your {len(calls)} calls, for a prompt of {prompt} and {new} "
        f"new tokens: {', '.join(map(str, calls))}; {sum(calls)} in all, and {prompt + new - 1} "
        "suffice.",
        height=2.3,
    )
    ax.bar(range(len(calls)), calls, color=figures.PALETTE["blue"])
    ax.axhline(1, color=figures.INK, ls=":", lw=1.2)
    ax.set(xlabel="call of the model", ylabel="tokens read")
    return Picture(fig)


@styled
def held_back(asked: list[tuple[str, str]], stop: str) -> Picture:
    """Characters that had come and that were sent, each time that the stream asked for more."""
    came = [len(before) for before, _ in asked]
    sent = [len(text) for _, text in asked]
    most: Any = max((a - b for a, b in zip(came, sent, strict=True)), default=0)
    fig, ax = figures.figure(
        alt=f"Characters that had come and that you had sent, piece by piece, with the stop string "
        f"{stop}. At most {most} were held back; {sent[-1] if sent else 0} were sent when you last "
        "asked for more.",
        height=2.6,
    )
    steps = range(len(asked))
    ax.step(steps, came, where="post", color=figures.PALETTE["orange"], label="had come")
    ax.step(steps, sent, where="post", color=figures.PALETTE["blue"], label="were sent")
    ax.set(xlabel="piece", ylabel="characters")
    ax.legend(fontsize=9)
    return Picture(fig)
