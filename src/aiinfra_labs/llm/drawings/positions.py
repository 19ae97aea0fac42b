"""The drawings of unit 1.2: sinusoids, RoPE's clocks, decay with distance, loss by position.

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
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.extrapolation import scalings
from aiinfra_labs.llm.positions import alibi_slopes, rope_frequencies, sinusoidal
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
        alt=f"A heat map of the sinusoidal table, {positions} positions by {width} dimensions. In "
        "the columns on the left, sine and cosine swing up and down every six positions; further "
        "right the waves grow longer, and the last columns hardly change from top to bottom.",
        height=3.4,
    )
    image = ax.imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xlabel="dimension", ylabel="position")
    fig.colorbar(image, ax=ax, ticks=(-1, 0, 1))
    return fig


@styled
def clocks(
    head_dim: int = 32,
    base: float = 10_000.0,
    trained: int = 128,
    at: Sequence[int] = (0, 1, 8, 127, 511),
    pairs: Sequence[int] = (0, 4, 8, 10),
) -> Figure:
    """A clock for a pair at a position: its hand is how far RoPE turns the pair there.

    The tinted part of a dial is what the pair swept in `trained` tokens.
    """
    frequencies = rope_frequencies(head_dim, base).numpy()
    fig, axes = figures.figure(
        alt=f"Clocks in rows, a row for each of the pairs {_listed(pairs)} of head dimension "
        f"{head_dim}, and a column for each of the positions {_listed(at)}. The hand of pair "
        f"{pairs[0]} turns 1 radian a token and soon has been everywhere. That of pair {pairs[-1]} "
        f"turns {frequencies[pairs[-1]]:.2g} radians a token. The part of a dial that was swept in "
        f"{trained} tokens is tinted: for the slow pairs it is a sliver, and the hand at position "
        f"{at[-1]} lies outside it.",
        height=1.02 * len(pairs) + 0.35,
        nrows=len(pairs),
        ncols=len(at),
    )
    for row, pair in enumerate(pairs):
        for column, position in enumerate(at):
            ax = axes[row, column]
            _clock(ax, position * frequencies[pair], (trained - 1) * frequencies[pair])
            if row == 0:
                ax.set_title(f"position {position}", fontsize=9)
            if column == 0:
                ax.text(-1.3, 0, f"pair {pair}", ha="right", va="center", fontsize=9)
    return fig


def _clock(ax: Axes, angle: float, swept: float) -> None:
    """A dial. Angle 0 points right, and grows against the clock, as in mathematics."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Circle, Wedge

    seen = angle <= swept + 1e-9 or swept >= 2 * np.pi
    colour = "C0" if seen else "C4"
    whole = min(np.degrees(swept), 360.0)
    ax.add_patch(Wedge((0, 0), 1, 0, whole, facecolor=to_rgba("C0", 0.26), lw=0))
    ax.add_patch(Circle((0, 0), 1, fill=False, lw=1))
    ax.plot([0, np.cos(angle)], [0, np.sin(angle)], color=colour, lw=2)
    if not seen:
        ax.plot(np.cos(angle), np.sin(angle), "o", color=colour, ms=4)
    ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
    ax.axis("off")


@styled
def decay(head_dim: int = 128, longest: int = 4096, heads: int = 8) -> Figure:
    """What distance does to a score: RoPE's mean cosine, and the factor of each ALiBi head."""
    distances = torch.unique(torch.logspace(0, np.log10(longest), 400).round()).long()
    fig, (left, right) = figures.figure(
        alt="Two plots over distance, from 1 to "
        f"{longest:,} tokens. Left, RoPE: the mean cosine of all pairs falls from near 1 and then "
        "wavers around a low value; with base 500,000 it falls later than with base 10,000. Right, "
        f"ALiBi: the factor on a weight for {heads} heads; the first head has lost half after 1 "
        "token, the last after 177, and each falls to 0.",
        ncols=2,
        height=2.9,
    )
    for base, colour in ((10_000, "C0"), (500_000, "C1")):
        frequencies = rope_frequencies(head_dim, float(base))
        left.plot(distances, mean_cosine(distances, frequencies), color=colour, label=f"{base:,}")
    left.set(xscale="log", xlabel="distance", ylabel="mean cosine", ylim=(-0.25, 1.05))
    left.set_title("RoPE, by base")
    left.legend(fontsize=9)
    for number, slope in enumerate(alibi_slopes(heads)):
        look = {"color": "C2", "alpha": 1 - 0.09 * number}
        right.plot(distances, torch.exp(-slope * distances), **look)
    right.set(xscale="log", xlabel="distance", ylabel="factor on a weight", ylim=(-0.05, 1.05))
    right.set_title(f"ALiBi, {heads} heads")
    return fig


def mean_cosine(distances: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """RoPE's score of two equal vectors of ones, as a share of that at distance 0: [distances]."""
    return torch.cos(distances[:, None] * frequencies).mean(1)


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
    ax.text(len(plain) - 0.7, 1.06, "under one turn in training", fontsize=9, ha="right")
    marks = dict(zip(RULES, "osd^v", strict=True))
    for rule, angles in rules.items():
        if rule != "as trained":
            look = {"color": RULES[rule], "marker": marks[rule], "ms": 4, "lw": 1.4}
            ax.plot(plain / angles.frequencies, label=rule, **look)
    ax.set(xlabel="pair, from the fastest", ylabel="divided by", ylim=(0.8, factor + 0.3))
    ax.legend(fontsize=9)
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
    ax.text(trained / 2, 1.02, "trained", fontsize=9, ha="center", transform=_mixed(ax))
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
    fig.legend(fontsize=9, ncols=3, loc="outside lower center")
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
