"""The figures of unit 1.8: rulers, confusions, where a captioner looks, the stream's layout.

Unit 1.8. Each returns a matplotlib figure with its alt text, in the course's style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import SMALL, arrow, box, drawing, write
from aiinfra_labs.course.figures import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = (
    figures.PALETTE[name] for name in ("blue", "orange", "green", "purple")
)
COLOUR_OF = {"text": BLUE, "image": ORANGE, "sound": GREEN, "answer": PURPLE}


def by_size(runs: Sequence[Mapping[str, Any]], ruler: str) -> dict[int, list[float]]:
    """One ruler's grades of all seeds, by the number of parameters, the smallest first."""
    found: dict[int, list[float]] = {}
    for run in sorted(runs, key=lambda run: run["parameters"]):
        found.setdefault(run["parameters"], []).append(run[ruler])
    return found


@styled
def two_rulers(runs: Sequence[Mapping[str, Any]], skill: str) -> Figure:
    """Exact match and nats a token of the same models against their size; a dot is a seed."""
    fig, axes = figures.figure(alt="-", height=2.7, ncols=2)
    said = []
    for ax, ruler, name, colour in (
        (axes[0], "exact_match", "exact match", ORANGE),
        (axes[1], "nats", "nats a token", BLUE),
    ):
        grades = by_size(runs, ruler)
        means = [float(np.mean(values)) for values in grades.values()]
        ax.plot(list(grades), means, color=colour, lw=1.6)
        for size, values in grades.items():
            ax.plot([size] * len(values), values, "o", color=colour, ms=3.5)
        ax.set(xscale="log", xlabel="parameters", title=name)
        ax.set_ylim(bottom=-0.03 * max(means))
        ax.grid(True)
        pairs = ", ".join(f"{m:.2f}" for m in means)
        said.append(f"{name} {pairs}")
    sizes = list(by_size(runs, "nats"))
    return figures.describe(
        fig,
        f"{skill.capitalize()} by models of {sizes[0]:,} to {sizes[-1]:,} parameters, a dot a "
        f"seed, the line through the means. From the smallest to the largest: {'; '.join(said)}.",
    )


@styled
def powers(runs: Sequence[Mapping[str, Any]], tokens: int) -> Figure:
    """Exact match against token accuracy, with p^n beside it for answers of several lengths."""
    fig, ax = figures.figure(alt="-", height=3.0)
    p = np.linspace(0, 1, 101)
    for n, style in ((1, ":"), (tokens, "-"), (4 * tokens, "--")):
        ax.plot(p, p**n, style, color=BLUE, lw=1.3, label=f"p to the power of {n}")
    x = [run["token_accuracy"] for run in runs]
    y = [run["exact_match"] for run in runs]
    ax.plot(x, y, "o", color=ORANGE, ms=4.5, label="measured")
    ax.set(xlabel="p: share of tokens that are right", ylabel="share of answers")
    ax.grid(True)
    ax.legend()
    off = max(abs(b - a**tokens) for a, b in zip(x, y, strict=True))
    return figures.describe(
        fig,
        f"Share of whole answers right against the share of tokens right. {len(x)} models lie "
        f"within {off:.2f} of p to the power of {tokens}. Answers of {4 * tokens} tokens would "
        "stay near 0 until p is nearly 1.",
    )


@styled
def drawn_on_a_log_scale(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """What exact match cannot see: the probability of the whole answer, on a log scale."""
    fig, ax = figures.figure(alt="-", height=2.6)
    drawn = {n: float(np.mean(v)) for n, v in by_size(runs, "drawn_match").items()}
    exact = {n: float(np.mean(v)) for n, v in by_size(runs, "exact_match").items()}
    ax.plot(list(drawn), list(drawn.values()), "o-", color=BLUE, label="drawn at temperature 1")
    above = {n: v for n, v in exact.items() if v > 0}
    ax.plot(list(above), list(above.values()), "s--", color=ORANGE, label="exact match, where any")
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="share of answers")
    ax.grid(True)
    ax.legend()
    said = ", ".join(f"{v:.1e} at {n:,}" for n, v in drawn.items())
    return figures.describe(
        fig, f"The probability of a whole right answer grows at every size: {said} parameters."
    )


def shades(ax: Axes, values: Any, most: float, colour: str) -> None:
    """Values as squares of one colour, 0 to `most`: the page shows through where they are small."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    tints = LinearSegmentedColormap.from_list("one", [to_rgba(colour, 0.05), to_rgba(colour, 1)])
    ax.imshow(values, cmap=tints, vmin=0, vmax=most, interpolation="nearest")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def confusions(found: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """A map for each name: rows are the digit shown, columns the one that was answered.

    found: (shown, answered), int64 [B] each, 0 to 9.
    """
    fig, axes = figures.figure(alt="-", height=3.4, ncols=len(found), squeeze=False)
    said = []
    for ax, (name, (shown, answered)) in zip(axes[0], found.items(), strict=True):
        table = np.zeros((10, 10))
        np.add.at(table, (shown.numpy(), answered.numpy()), 1)
        share = table / np.maximum(table.sum(1, keepdims=True), 1)
        shades(ax, share, 1, BLUE)
        ax.set_xticks(range(10), [str(i) for i in range(10)])
        ax.set_yticks(range(10), [str(i) for i in range(10)])
        ax.set(title=name, xlabel="answered")
        right = ", ".join(f"{i} {share[i, i]:.0%}" for i in range(10))
        said.append(f"{name}: right of each digit {right}")
    axes[0][0].set_ylabel("shown")
    return figures.describe(fig, f"Which digit is answered for which. {'; '.join(said)}.")


@styled
def looks(pixels: Tensor, maps: Tensor, words: Sequence[str]) -> Figure:
    """A scene, and for each word of its caption how its attention lies on the patches.

    pixels: [H, W]. maps: [T, N], a row a word.
    """
    rows, columns = (side // 2 for side in pixels.shape)
    across = 2
    down = -(-(len(words) + 1) // across)
    fig, axes = figures.figure(alt="-", height=1.15 * down + 0.3, nrows=down, ncols=across)
    cells = list(axes.flat)
    shades(cells[0], pixels.numpy(), 1.0, figures.INK)
    cells[0].set_title("the image")
    said = []
    for ax, word, one in zip(cells[1:], words, maps, strict=False):
        shades(ax, one.reshape(rows, columns).numpy(), float(maps.max()), BLUE)
        left = float(one.reshape(rows, columns)[:, : columns // 2].sum())
        ax.set_title(f"{word}: {left:.0%} left")
        said.append(f"{word} {left:.0%}")
    for ax in cells:
        ax.set_xticks([])
        ax.set_yticks([])
    for ax in cells[len(words) + 1 :]:
        ax.set_axis_off()
    return figures.describe(
        fig,
        "A scene of two digits, and where the captioner looks for each word of its caption: share "
        f"of the attention on the left digit, word by word: {', '.join(said)}.",
    )


@styled
def recording(samples: Tensor, bands: Tensor, rate: int) -> Figure:
    """A recording's samples, and its frames as columns of bands. samples: [S]; bands: [F, 16]."""
    fig, axes = figures.figure(alt="-", height=2.8, nrows=2)
    seconds = np.arange(len(samples)) / rate
    axes[0].plot(seconds, samples.numpy(), color=BLUE, lw=0.4, rasterized=True)
    axes[0].set(xlim=(0, seconds[-1]), ylabel="sample")
    shades(axes[1], bands.T.numpy(), float(bands.max()), GREEN)
    axes[1].set_aspect("auto")
    axes[1].invert_yaxis()
    axes[1].set(xlabel=f"frame, {1000 * len(samples) / rate / len(bands):.0f} ms each")
    axes[1].set_ylabel("band")
    return figures.describe(
        fig,
        f"{len(samples):,} samples of beeps and noise, and below them {len(bands)} frames of "
        f"{bands.shape[1]} bands: each beep is a short dark stretch in one band.",
    )


def layout(parts: Sequence[tuple[str, str, int]]) -> Figure:
    """The stream: what goes in, what makes a vector of it, and the places that it takes.

    parts: (kind, what is written on it, how many tokens), in order.
    """
    total = sum(n for *_, n in parts)
    made = {"text": "a row of the table", "image": "patch × matrix", "sound": "frame × matrix"}
    alt = (
        f"One stream of {total} places. "
        + "; ".join(f"{name} ({kind}), {n} of them" for kind, name, n in parts)
        + ". Words are looked up in a table, patches and frames are multiplied by a matrix each; "
        "one decoder reads them all from left to right and predicts the answer at the last place."
    )
    with drawing(alt, 0, 58) as (fig, ax):
        box(ax, 0, 33, 100, 10, None, "one decoder: causal attention, positions 0, 1, 2, ...")
        widths = [max(12.0, 1.1 * n) for *_, n in parts]
        step = 100 / sum(widths)
        x, first = 0.0, 0
        for (kind, name, n), width in zip(parts, widths, strict=True):
            w = width * step
            box(ax, x + 0.5, 17, w - 1, 9, COLOUR_OF[kind], name, SMALL)
            places = str(first) if n == 1 else f"{first}-{first + n - 1}"
            write(ax, x + w / 2, 14.5, places, SMALL)
            arrow(ax, (x + w / 2, 26.5), (x + w / 2, 32.5), "-|>", 1)
            x, first = x + w, first + n
        for i, (kind, how) in enumerate(made.items()):
            box(ax, 0.5 + 34 * i, 1, 31, 8, COLOUR_OF[kind], f"{kind}: {how}", SMALL)
        end = 100 - widths[-1] * step / 2
        arrow(ax, (end, 43.5), (end, 48), "-|>", 1)
        box(ax, end - 6, 48.5, 12, 8, COLOUR_OF["answer"], "answer", SMALL)
        write(ax, end - 8, 52.5, "predicted at the last place", SMALL, ha="right")
    return fig
