"""What `show` draws in unit 1.6: the learner's own counts, bytes, splits and bills. Unit 1.6."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import many
from aiinfra_labs.course.figures import Picture, styled
from aiinfra_labs.course.parts import CourseError, a_kind
from aiinfra_labs.llm.scale.chinchilla import Law

MEMORY = 80  # GB of an A100 or H100


def drawn(value: Any) -> float:
    """A number that can be drawn. Raises `CourseError` for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        what = "nothing" if value is None else a_kind(value)
        raise CourseError(
            f"{what} cannot be drawn: {str(value)[:40]}",
            "a finite number is asked for, or two of them where the exercise says so",
            "check says more; run it first",
        )
    return number


def both(value: Any) -> tuple[float, float]:
    """Two numbers that can be drawn. Raises `CourseError` for what is no pair of them."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise CourseError(
            f"{'nothing' if value is None else a_kind(value)} cannot be drawn: two are asked for",
            "the exercise asks for two numbers",
            "end the function with return and both, with a comma between",
        )
    return drawn(value[0]), drawn(value[1])


@styled
def counts(found: Mapping[str, tuple[float, int]]) -> Picture:
    """The learner's counts, in per cent of the models' own."""
    fig, ax = figures.figure(alt="-", height=1.7)
    rows = np.arange(len(found))
    ax.barh(rows, [100 * drawn(mine) / there for mine, there in found.values()], 0.6, color="C0")
    ax.axvline(100, color=figures.INK, lw=1.2, ls=":")
    ax.set_yticks(rows, found)
    ax.invert_yaxis()
    ax.set(xlabel="your count, % of the model's parameters")
    said = "; ".join(f"{name} {m:,.0f} of {t:,}" for name, (m, t) in found.items())
    figures.describe(fig, f"Parameters by your function, of those in the model: {said}.")
    return Picture(fig)


@styled
def memory(function: Callable[..., float], parameters: int, name: str) -> Picture:
    """GB on each GPU against the number of GPUs, a curve a stage, by the learner's function."""
    gpus = [2**k for k in range(11)]
    fig, ax = figures.figure(alt="-", height=3.2)
    said = []
    for stage in range(4):
        curve = [drawn(function(parameters, n, stage)) / 1e9 for n in gpus]
        ax.plot(gpus, curve, marker="o", label=f"stage {stage}" if stage else "no ZeRO")
        fits = [n for n, gb in zip(gpus, curve, strict=True) if gb <= MEMORY]
        where = f"from {many(fits[0], 'GPU')} on" if fits else "on none of them"
        said.append(f"stage {stage} {where}")
    ax.axhline(MEMORY, color=figures.INK, lw=1, ls=":")
    ax.text(gpus[0], MEMORY * 1.08, f"{MEMORY} GB")
    ax.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="GB on each, yours")
    ax.set_xticks(gpus[::2], [f"{n:,}" for n in gpus[::2]])
    ax.minorticks_off()
    ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figures.describe(
        fig, f"{name}, by your function: it fits into {MEMORY} GB in {', in '.join(said)}."
    )
    return Picture(fig)


@styled
def splits(function: Callable[..., Any], law: Law, budgets: Sequence[float]) -> Picture:
    """Loss against size along each budget, and the learner's choice."""
    fig, ax = figures.figure(alt="-", height=3.4)
    said = []
    for k, budget in enumerate(budgets):
        best, _ = law.optimum(budget)
        sizes = np.geomspace(best / 60, best * 60, 80)
        losses = [law.loss(n, budget / 6 / n) for n in sizes]
        ax.plot(sizes, losses, label=f"{budget:.0e} operations")
        n, d = both(function(budget, law))
        ax.plot([n], [law.loss(n, d)], "o", color=f"C{k}", ms=8)
        said.append(f"{budget:.0e} operations on {n:.3g} parameters and {d:.3g} tokens")
    ax.set(xscale="log", xlabel="parameters", ylabel="loss, nats a token")
    ax.legend(title="dots: yours", fontsize=8.5)
    ax.grid(True)
    figures.describe(fig, f"Loss along four budgets, and your splits: you spend {', '.join(said)}.")
    return Picture(fig)


@styled
def bills(found: Mapping[str, tuple[tuple[float, float], float, float]]) -> Picture:
    """Days and dollars by the learner's function, and as reported."""
    fig, axes = figures.figure(alt="-", height=2.3, ncols=2)
    names = [name.split(",")[0].split(" on ")[0] for name in found]
    said = []
    for ax, unit, which, scale in ((axes[0], "days", 0, 1), (axes[1], "M$", 1, 1e6)):
        mine = [both(got)[which] / scale for got, *_ in found.values()]
        there = [reported[which] / scale for _, *reported in found.values()]
        x = np.arange(len(found))
        ax.bar(x - 0.2, there, 0.36, color="C0", label="reported")
        ax.bar(x + 0.2, mine, 0.36, color="C1", hatch="//", label="yours")
        ax.set_xticks(x, names)
        ax.set_title(unit)
        pairs = zip(names, mine, there, strict=True)
        said += [f"{name} {m:.4g} {unit}, reported {t:.4g}" for name, m, t in pairs]
    axes[0].legend()
    figures.describe(fig, f"By your function, and as reported: {'; '.join(said)}.")
    return Picture(fig)
