"""The drawings of unit 1.2: sinusoids, RoPE's clocks, scaled frequencies, loss by position.

Each returns a matplotlib figure with its alt text, in the course's style:

    from aiinfra_labs.course import figures
    figures.show(drawings.clocks())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import READABLE, styled
from aiinfra_labs.llm.extrapolation import scalings
from aiinfra_labs.llm.positions import rope_frequencies, sinusoidal
from aiinfra_labs.llm.rope_scaling import rotations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "none": "no positions",
    "learned": "learned",
    "sinusoidal": "sinusoidal",
    "rope": "RoPE",
    "alibi": "ALiBi",
}
COLOURS = {"none": "C3", "learned": "C4", "sinusoidal": "C1", "rope": "C0", "alibi": "C2"}
RULES = {"as trained": "C0", "linear": "C1", "NTK": "C2", "Llama 3": "C3", "YaRN": "C4"}


@styled
def sinusoids(positions: int = 100, width: int = 64) -> Figure:
    """The sinusoidal table as a heat map: a row a position, a column a dimension."""
    table = sinusoidal(torch.arange(positions), width).numpy()
    fig, ax = figures.figure(
        alt=f"A heat map of the sinusoidal table, {positions} positions by {width} columns. In "
        "the columns on the left, sine and cosine swing up and down every six positions; further "
        "right the waves grow longer, and the last columns hardly change from top to bottom.",
        height=3.4,
    )
    image = ax.imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xlabel="column", ylabel="position")
    fig.colorbar(image, ax=ax, ticks=(-1, 0, 1))
    return fig


@styled
def clocks(
    head_dim: int = 32,
    base: float = 10_000.0,
    trained: int | None = 128,
    at: Sequence[int] = (0, 1, 8, 127, 511),
    pairs: Sequence[int] = (0, 4, 8, 10),
) -> Figure:
    """A clock for a pair at a position: its hand is how far RoPE turns the pair there.

    Below each dial stands the whole turn so far, in degrees. The tinted part of a dial is what the
    pair swept in `trained` tokens; None: nothing is tinted.
    """
    frequencies = rope_frequencies(head_dim, base).numpy()
    degrees = np.degrees(np.outer(frequencies, at))  # [D / 2, positions]
    told = "; ".join(
        f"pair {pair}: {', '.join(f'{d:,.0f}' for d in degrees[pair])}" for pair in pairs
    )
    swept = (
        ""
        if trained is None
        else (
            f" The part of a dial that was swept in {trained} tokens is tinted. For the slow "
            f"pairs it is a sliver, and the hand at position {at[-1]} lies outside it."
        )
    )
    fig, axes = figures.figure(
        alt=f"Clocks in rows, a row for each of the pairs {_listed(pairs)} of head dimension "
        f"{head_dim}, and a column for each of the positions {_listed(at)}. The hands have turned "
        f"by so many degrees: {told}.{swept}",
        height=1.2 * len(pairs) + 0.25,
        nrows=len(pairs),
        ncols=len(at),
    )
    for row, pair in enumerate(pairs):
        for column, position in enumerate(at):
            ax = axes[row, column]
            swept_by_pair = None if trained is None else (trained - 1) * frequencies[pair]
            _clock(ax, position * frequencies[pair], swept_by_pair)
            ax.text(0, -1.2, f"{degrees[pair, column]:,.0f}°", ha="center", va="top", fontsize=10)
            if row == 0:
                ax.set_title(f"{'position ' if column == 0 else ''}{position}", fontsize=10)
                ax.title.set(
                    ha="right" if column == 0 else "center", x=0.75 if column == 0 else 0.5
                )
            if column == 0:
                ax.text(-1.3, 0, f"pair {pair}", ha="right", va="center", fontsize=10)
    return fig


def _clock(ax: Axes, angle: float, swept: float | None) -> None:
    """A dial, tinted as far as it was swept. Angle 0 points right, and grows against the clock."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Circle, Wedge

    seen = swept is None or angle <= swept + 1e-9 or swept >= 2 * np.pi
    colour = "C0" if seen else "C4"
    if swept is not None:
        whole = min(np.degrees(swept), 360.0)
        ax.add_patch(Wedge((0, 0), 1, 0, whole, facecolor=to_rgba("C0", 0.26), lw=0))
    ax.add_patch(Circle((0, 0), 1, fill=False, lw=1))
    ax.plot([0, np.cos(angle)], [0, np.sin(angle)], color=colour, lw=2, ls="-")
    if not seen:
        ax.plot(np.cos(angle), np.sin(angle), "o", color=colour, ms=4)
    ax.set(xlim=(-1.15, 1.15), ylim=(-1.75, 1.15), aspect="equal")
    ax.axis("off")


@styled
def divided(factor: float = 4.0) -> Figure:
    """By how much each rule divides each pair of the small model, beside the pair's turns."""
    rules = scalings(factor)
    plain = rules["as trained"].frequencies
    turned = rotations(plain, 128)
    below = int((turned < 1).sum())
    fig, ax = figures.figure(
        alt=f"By how much each rule divides the frequency of each of {len(plain)} pairs, for a "
        f"factor of {factor:g}. Linear divides all by {factor:g}. NTK rises smoothly from 1 to "
        f"{factor:g}. Llama 3 and YaRN keep the fast pairs, divide the slow ones by {factor:g}, "
        f"and rise between; the {below} slowest pairs make less than one turn in 128 tokens.",
        height=2.9,
    )
    ax.axvspan(len(plain) - below - 0.5, len(plain) - 0.5, alpha=0.14, color="C0", lw=0)
    ax.text(len(plain) - 0.7, 1.06, "under one turn in training", fontsize=READABLE, ha="right")
    marks = dict(zip(RULES, "osd^v", strict=True))
    for rule, angles in rules.items():
        if rule != "as trained":
            look = {"color": RULES[rule], "marker": marks[rule], "ms": 4, "lw": 1.4}
            ax.plot(plain / angles.frequencies, label=rule, **look)
    ax.set(xlabel="pair, from the fastest", ylabel="divided by", ylim=(0.8, factor + 0.3))
    ax.legend(fontsize=READABLE)
    return fig


# --- loss by position -----------------------------------------------------------------------------


@styled
def loss_curves(
    curves: Mapping[str, Sequence[Sequence[float]]],
    trained: int,
    width: int,
    colours: Mapping[str, str],
    alt: str,
    names: Mapping[str, str] | None = None,
    top: float | None = None,
) -> Figure:
    """Loss against position, a line a name: the mean of its runs, and a band from least to most.

    curves: by name, for each run the loss of each bin of `width` positions, nats a byte.
    """
    fig, ax = figures.figure(alt=alt, height=3.6)
    ax.axvspan(0, trained, alpha=0.12, color="C0", lw=0)
    ax.text(trained / 2, 1.02, "trained", fontsize=READABLE, ha="center", transform=_mixed(ax))
    for name, runs in curves.items():
        values = np.asarray(runs)  # [runs, bins]
        where = width * (np.arange(values.shape[1]) + 0.5)
        label = (names or {}).get(name, name)
        ax.plot(where, values.mean(0), color=colours[name], label=label, lw=1.6)
        ax.fill_between(where, values.min(0), values.max(0), color=colours[name], alpha=0.2, lw=0)
        if where[-1] < trained:
            ax.plot(where[-1], values.mean(0)[-1], "X", color=colours[name], ms=8)
    ax.set(xlabel="position in the window", ylabel="loss, nats a byte", xlim=(0, None))
    if top is not None:
        ax.set_ylim(top=top)
    fig.legend(fontsize=READABLE, ncols=3, loc="outside lower center")
    return fig


def runs_of(found_: Mapping[str, Any], *path: str) -> dict[str, list[list[float]]]:
    """The curves of all seeds of `benchmarks/positions.py`: runs_of(found, "rope", "tuned")."""
    found: dict[str, list[list[float]]] = {}
    for seed in found_["seeds"]:
        part = seed
        for key in path:
            part = part[key]
        for name, curve in part.items():
            found.setdefault(name, []).append(curve)
    return found


def _mixed(ax: Axes) -> Any:
    """x in data, y as a share of the axes."""
    return ax.get_xaxis_transform()


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
