"""What `show` draws in unit 4.5: the learner's own grid, bytes, errors and training. Unit 4.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from aiinfra_labs.cloud.serving.quantization import packing
from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import PALETTE, Picture, styled

WEIGHTS = torch.tensor([-0.9, -0.55, -0.31, -0.12, 0.0, 0.08, 0.27, 0.44, 0.71, 1.24, 1.6])


@styled
def grid(function: Callable[[Tensor, int], tuple], bits: int = 3) -> Picture:
    """Eleven weights, the points of the learner's grid, and where each weight goes."""
    codes, scale, zero = function(WEIGHTS.clone(), bits)
    points = [(c - float(zero)) * float(scale) for c in range(2**bits)]
    back = ((codes.double() - float(zero)) * float(scale)).tolist()
    worst = max(abs(a - b) for a, b in zip(back, WEIGHTS.tolist(), strict=True))
    fig, ax = figures.figure(
        alt=f"Eleven weights and your {2**bits} points from {points[0]:.2f} to {points[-1]:.2f}, "
        f"a step of {float(scale):.3f} apart; the weight that is off most is off by {worst:.3f}.",
        height=2.0,
    )
    for w, b in zip(WEIGHTS.tolist(), back, strict=True):
        ax.plot([w, b], [1, 0], color=figures.INK, lw=0.8)
    ax.plot(WEIGHTS, [1] * len(WEIGHTS), "o", color=PALETTE["blue"], label="weights")
    ax.plot(points, [0] * len(points), "s", color=PALETTE["orange"], label="points of the grid")
    ax.axvline(0, color=figures.INK, ls=":", lw=1)
    ax.set(ylim=(-0.5, 1.5), xlabel="weight")
    ax.set_yticks([])
    ax.legend(fontsize=9, loc="upper center", ncols=2)
    return Picture(fig)


@styled
def groups(function: Callable[[Tensor, int], tuple], group: int = 8) -> Picture:
    """How far the weights of a row with one outlier are off, group by group."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, 32, generator=generator)
    w[0, 11] = 12.0
    packed, scale = function(w.clone(), group)
    codes = packing.unpack(packed, 4).float() - 8
    back = codes * scale.float().repeat_interleave(group, 1)
    errors = (back - w).abs()[0].tolist()
    means = [sum(errors[i : i + group]) / group for i in range(0, 32, group)]
    fig, ax = figures.figure(
        alt=f"How far each of 32 weights of a row is off, in groups of {group}; weight 11 is an "
        "outlier of 12. The groups' means are "
        f"{', '.join(f'{m:.2f}' for m in means)}.",
        height=2.3,
    )
    ax.bar(range(32), errors, color=PALETTE["blue"])
    for edge in range(group, 32, group):
        ax.axvline(edge - 0.5, color=figures.INK, ls=":", lw=1)
    ax.set(xlabel="input: the outlier is 11", ylabel="off by")
    return Picture(fig)


@styled
def columns(got: Tensor, w: Tensor, h: Tensor, step: Tensor) -> Picture:
    """The outputs' error while columns are rounded: the learner's, and rounding to the nearest."""

    def error(changed: Tensor) -> list[float]:
        moved = changed.double() - w.double()
        # of the first j columns alone: what is behind them is as it was
        return [
            float(((moved[:, :j] @ h[:j, :j]) * moved[:, :j]).sum()) for j in range(1, 1 + len(h))
        ]

    nearest = error((w / step).round() * step)
    mine = error(got)
    fig, ax = figures.figure(
        alt=f"The error of the outputs, of the first columns alone. At the end rounding to the "
        f"nearest has {nearest[-1]:.1f}, and yours {mine[-1]:.1f}.",
        height=2.6,
    )
    ax.plot(range(1, 1 + len(h)), nearest, label="to the nearest", ls="--")
    ax.plot(range(1, 1 + len(h)), mine, label="yours")
    ax.set(xlabel="columns that are rounded", ylabel="error of the outputs", ylim=(0, None))
    ax.legend(fontsize=9)
    return Picture(fig)


@styled
def powers(errors: Mapping[float, float], mine: float) -> Picture:
    """The outputs' error by the power of the inputs' size, and the learner's."""
    plain = errors[0.0]
    best = min(errors, key=lambda alpha: errors[alpha])
    fig, ax = figures.figure(
        alt=f"The outputs' error against the power of the inputs' size, over that of rounding "
        f"alone: least at {best:.2f}, {errors[best] / plain:.2f}. Yours is {mine / plain:.2f}.",
        height=2.6,
    )
    ax.plot(list(errors), [e / plain for e in errors.values()], "o-", ms=3, label="size ** power")
    ax.axhline(mine / plain, color=PALETTE["orange"], ls="--", label="yours")
    ax.set(xlabel="power", ylabel="error, over rounding's", ylim=(0, None))
    ax.legend(fontsize=9)
    return Picture(fig)


@styled
def training(losses: Sequence[float], after: float) -> Picture:
    """The best loss so far while the learner's rounding is trained through."""
    fig, ax = figures.figure(
        alt=f"The best loss so far over {len(losses)} steps of training through your rounding: "
        f"from {losses[0]:.3f} to {losses[-1]:.3f}. Rounding after training has {after:.3f}.",
        height=2.6,
    )
    ax.plot(losses, label="yours, in training")
    ax.axhline(after, color=figures.INK, ls=":", label="rounded after training")
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    ax.legend(fontsize=9)
    return Picture(fig)
