"""What `show` draws in unit 1.4: gradients by depth, a schedule, losses before and after a kill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture


def draw_gradients(norms: dict[str, Sequence[float]]) -> Picture:
    """Gradient norms by block, on a logarithmic axis; what is 0 or no number has no place on it."""
    said = "; ".join(
        f"{name}: {values[-1]:.2g} at the top, {values[0]:.2g} at the bottom"
        for name, values in norms.items()
    )
    fig, ax = figures.figure(alt=f"Norm of the gradient by block. {said}.", height=2.8)
    for (name, values), line in zip(norms.items(), ("-", "--"), strict=False):
        there = [v if math.isfinite(v) and v > 0 else math.nan for v in values]
        ax.plot(range(len(values)), there, line, label=name)
    ax.set_yscale("log")
    ax.set_xlabel("block (0: the bottom)")
    ax.set_ylabel("norm of the gradient")
    ax.legend(frameon=False, labelcolor=figures.INK)
    return Picture(fig)


def draw_schedule(mine: Sequence[float], expected: Sequence[float]) -> Picture:
    """Both curves, step by step."""
    apart = [step for step, pair in enumerate(zip(mine, expected, strict=True)) if differ(*pair)]
    said = f"they part at step {apart[0]}" if apart else "they agree at every step"
    fig, ax = figures.figure(
        alt=f"Your learning rate and the expected one over 110 steps: {said}.", height=2.8
    )
    ax.plot(mine, "-", label="yours")
    ax.plot(expected, "--", label="expected")
    ax.set_xlabel("step")
    ax.set_ylabel("learning rate")
    ax.set_ylim(0)
    ax.legend(frameon=False, labelcolor=figures.INK)
    return Picture(fig)


def differ(one: Any, other: float) -> bool:
    return not isinstance(one, int | float) or not math.isclose(one, other, rel_tol=1e-6)


def draw_losses(before: Sequence[float], whole: Sequence[float], again: Sequence[float]) -> Picture:
    """The run, and what the restored one made of it."""
    apart = [k for k, pair in enumerate(zip(whole, again, strict=True)) if pair[0] != pair[1]]
    said = f"they part {apart[0]} steps after it" if apart else "they agree to the bit"
    cut = len(before)
    fig, ax = figures.figure(
        alt=f"Losses of a run, and of the one restored after step {cut}: {said}.", height=2.8
    )
    ax.plot(range(cut + len(whole)), [*before, *whole], "o-", label="never killed")
    ax.plot(range(cut, cut + len(again)), again, "x--", label="killed and restored")
    ax.axvline(cut - 0.5, lw=1, ls=":")
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.legend(frameon=False, labelcolor=figures.INK)
    return Picture(fig)
