"""The drawings of unit 1.7: caches, two ways through a latent, experts' loads, and rewards.

from aiinfra_labs.course import figures
figures.show(drawings.caches(["deepseek-67b", "deepseek-v2"]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import NORMAL, SMALL, arrow, box, drawing, write
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.deepseek import cache_sizes, grpo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = (
    figures.PALETTE[name] for name in ("blue", "orange", "green", "purple")
)
LINES = ("-", "--", "-.", ":")  # so that no line is told by its colour alone


def flow() -> Figure:
    """From x to what is cached, and from there to scores, expanded and absorbed."""
    alt = (
        "x is compressed into a latent, and a short key with the position beside it; both are "
        "cached, and are all that is. Expanded: the latent is multiplied up to a key and a value "
        "for each head, and queries meet the keys. Absorbed: each query is multiplied into the "
        "latent's space instead, meets the latents themselves, and the mean of latents is "
        "multiplied up once."
    )
    with drawing(alt, 0, 50) as (fig, ax):
        box(ax, 0, 20, 10, 10, None, "x\nT × C", SMALL)
        box(ax, 20, 15, 23, 20, ORANGE, "cached\nlatent  S × L\n+ key  S × R")
        arrow(ax, (10.5, 25), (19.5, 25), "-|>", 1)
        write(ax, 31, 38.5, "one a token", SMALL)
        box(ax, 54, 33, 22, 13, GREEN, "keys, values\nH × S × (N + V)", SMALL)
        box(ax, 84, 33, 16, 13, BLUE, "q · k\nH × S", SMALL)
        arrow(ax, (43.5, 31), (53.5, 39), "-|>", 1)
        arrow(ax, (76.5, 39.5), (83.5, 39.5), "-|>", 1)
        write(ax, 65, 48.5, "expanded", NORMAL)
        box(ax, 54, 4, 22, 13, GREEN, "queries × W\nH × L", SMALL)
        box(ax, 84, 4, 16, 13, BLUE, "q W · c\nH × S", SMALL)
        arrow(ax, (43.5, 19), (83.5, 19), "-", 1)
        arrow(ax, (83.5, 19), (88, 17.4), "-|>", 1)
        arrow(ax, (76.5, 10.5), (83.5, 10.5), "-|>", 1)
        write(ax, 65, 1.2, "absorbed", NORMAL)
    return fig


@styled
def caches(keys: Sequence[str], variants: str = "deepseek-v2") -> Figure:
    """KiB that a token leaves in the cache, a bar a model; below, one model's other attentions."""
    models = cache_sizes.models()
    rows = [(models[key].name, models[key].shape, BLUE) for key in keys]
    base = models[variants].shape
    rows = [(name, shape, ORANGE if shape.latent else BLUE) for name, shape, _ in rows]
    for kv_heads, name in ((base.heads, "multi-head"), (8, "8 kv heads"), (1, "multi-query")):
        other = cache_sizes.with_kv_heads(base, kv_heads)
        rows.append((f"{models[variants].name}, if {name}", other, GREEN))
    sizes = [cache_sizes.token_bytes(shape) / 1024 for _, shape, _ in rows]
    fig, ax = figures.figure(alt="-", height=0.8 + 0.3 * len(rows))
    hatch = {BLUE: "", ORANGE: "//", GREEN: ".."}
    named = {BLUE: "keys and values", ORANGE: "latent", GREEN: "the same model, other attention"}
    for i, ((_, _, colour), size) in enumerate(zip(rows, sizes, strict=True)):
        label = named.pop(colour, None)
        ax.barh(i, size, 0.66, color=colour, hatch=hatch[colour], label=label)
        ax.text(size * 1.08, i, _short(size), va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="KiB a token, 16 bits a number", xlim=(20, 2.6 * max(sizes)))
    ax.legend(fontsize=8.5, ncols=3, loc="lower center", bbox_to_anchor=(0.2, 1.0))
    ticks = (30, 100, 300, 1000, 3000)
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    said = "; ".join(f"{n} {_short(size)}" for (n, *_), size in zip(rows, sizes, strict=True))
    return figures.describe(fig, f"KiB that one token leaves in the cache: {said}.")


def _short(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}"


@styled
def intensities(bars: Mapping[str, float], ridge: float, name: str) -> Figure:
    """Operations for each byte of cache in a step of decoding, and a machine's ridge."""
    fig, ax = figures.figure(alt="-", height=0.8 + 0.34 * len(bars))
    values = list(bars.values())
    ax.barh(range(len(bars)), values, 0.66, color=[BLUE] * (len(bars) - 1) + [ORANGE])
    for row, (key, value) in enumerate(bars.items()):
        ax.text(0.62, row, f"{key}: {value:,.0f}", va="center", ha="right", fontsize=9.5)
    ax.set_yticks([])
    ax.axvline(ridge, color=figures.INK, lw=1.2, ls=":")
    ax.text(ridge * 0.92, -0.62, f"ridge of the {name}: {ridge:.0f}", fontsize=9, ha="right")
    ax.set(xscale="log", xlabel="operations a byte of cache", xlim=(0.7, 1000))
    ax.set_ylim(len(bars) - 0.5, -0.95)
    said = "; ".join(f"{key} {value:,.0f}" for key, value in bars.items())
    return figures.describe(
        fig, f"Operations a byte of cache, decoding: {said}. The {name}'s ridge is {ridge:.0f}."
    )


@styled
def loads(ways: Mapping[str, Any], every: int, layer: int = 0, most: float = 4.0) -> Figure:
    """Every expert's load over training, a map a way: rows are experts, the busiest on top."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    colours = LinearSegmentedColormap.from_list("load", [to_rgba(BLUE, 0.04), to_rgba(BLUE, 1)])
    fig, axes = figures.figure(alt="-", height=4.4, nrows=2, ncols=2, sharex=True, sharey=True)
    said, image = [], None
    for ax, (name, way) in zip(axes.flat, ways.items(), strict=True):
        load = np.array(way["runs"][0]["load"], float)[:, layer]  # [rows, E]
        load /= load.mean(1, keepdims=True)
        order = np.argsort(-load[-5:].mean(0))
        steps = len(load) * every
        image = ax.imshow(
            load[:, order].T, cmap=colours, vmin=0, vmax=most, aspect="auto",
            interpolation="nearest", extent=(0, steps, load.shape[1], 0),
        )  # fmt: skip
        ax.set_title(name, fontsize=10)
        ends = load[-5:].mean(0)
        said.append(
            f"{name}: at the end the busiest has {ends.max():.1f} times the mean, and "
            f"{int((ends < 0.1).sum())} of {len(ends)} less than a tenth of it"
        )
    axes[1, 0].set(xlabel="step", ylabel="expert, busiest first")
    axes[1, 1].set(xlabel="step")
    bar = fig.colorbar(image, ax=axes, shrink=0.7, aspect=25)
    bar.set_label("load / mean")
    bar.outline.set_visible(False)
    return figures.describe(fig, f"Loads of 64 experts over training. {'; '.join(said)}.")


@styled
def violations(ways: Mapping[str, Any], window: int = 20) -> Figure:
    """The busiest expert's load over the mean, a line a way, averaged over a few steps."""
    fig, ax = figures.figure(alt="-", height=2.8)
    said = []
    for k, (name, way) in enumerate(ways.items()):
        curve = 1 + np.array(way["runs"][0]["violation"])
        smooth = np.convolve(curve, np.ones(window) / window, "valid")
        ax.plot(np.arange(len(smooth)) + window, smooth, color=f"C{k}", ls=LINES[k], label=name)
        said.append(f"{name} {smooth[0]:.1f} to {smooth[-1]:.1f}")
    ax.axhline(1, color=figures.INK, lw=1, ls=":")
    ax.set(xlabel="step", ylabel="busiest expert / mean", ylim=(0, None))
    ax.legend(fontsize=8.5, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figures.describe(
        fig,
        f"Load of the busiest expert over the mean, from the first steps on: {'; '.join(said)}.",
    )


@styled
def surrogate(clip: float = 0.2) -> Figure:
    """The clipped objective of one token against its ratio, for a good answer and a bad one."""
    ratio = torch.linspace(0.4, 1.6, 121)
    fig, ax = figures.figure(
        alt=f"What a token contributes against its ratio, clip {clip}. For a better answer it "
        f"rises with the ratio up to {1 + clip}, and is flat behind. For a worse one it falls, "
        f"flat below {1 - clip}.",
        height=2.5,
    )
    for a, name, colour, line in (
        (1.0, "better than its group", BLUE, "-"),
        (-1.0, "worse than its group", ORANGE, "--"),
    ):
        values = grpo.clipped_surrogate(ratio, torch.tensor(a), clip)
        ax.plot(ratio, values, color=colour, ls=line, label=name)
    for edge in (1 - clip, 1 + clip):
        ax.axvline(edge, color=figures.INK, lw=1, ls=":")
    ax.set(xlabel="ratio: how much likelier the token has become", ylabel="gain, A = ±1")
    ax.legend(fontsize=9)
    return fig


@styled
def by_thinking(found: Mapping[str, Sequence[float]], chance: float) -> Figure:
    """Share of right answers by how many results were written down, before GRPO."""
    counts = {int(k): v for k, v in found.items()}
    rows = [k for k in sorted(counts) if counts[k][0] >= 20]
    shares = [100 * counts[k][1] for k in rows]
    said = "; ".join(f"{k} written, {s:.0f} % right" for k, s in zip(rows, shares, strict=True))
    fig, ax = figures.figure(
        alt=f"Drawn answers to held-out questions before GRPO, by how much they think: {said}.",
        height=2.4,
    )
    ax.bar([str(k) for k in rows], shares, 0.66, color=BLUE)
    for i, (k, share) in enumerate(zip(rows, shares, strict=True)):
        ax.text(i, share + 2, f"{share:.0f} %, of {int(counts[k][0])}", ha="center", fontsize=9)
    ax.axhline(100 * chance, color=figures.INK, lw=1.2, ls=":", label="a blind guess")
    ax.legend(fontsize=9, loc="upper left")
    ax.set(xlabel="results written down before the answer", ylabel="% right", ylim=(0, 112))
    return fig


@styled
def reinforced(runs: Mapping[str, Sequence[Mapping[str, Any]]], window: int = 5) -> Figure:
    """Share of right answers and length over GRPO's steps, a line a way; thin: other seeds."""
    fig, axes = figures.figure(alt="-", width=6.2, height=2.9, ncols=2)
    said = []
    for k, (name, seeds) in enumerate(runs.items()):
        for i, run in enumerate(seeds):
            look = {"color": f"C{k}", "ls": LINES[k], "lw": 1.8 if i == 0 else 0.8}
            for ax, key, scale in ((axes[0], "right", 100), (axes[1], "length", 1)):
                values = scale * np.array(run[key])
                smooth = np.convolve(values, np.ones(window) / window, "valid")
                steps = np.arange(len(smooth)) + window
                ax.plot(steps, smooth, label=name if i == 0 else None, **look)
        right, length = np.array(seeds[0]["right"]), np.array(seeds[0]["length"])
        said.append(
            f"{name}: right {right[:window].mean():.0%} to {right[-window:].mean():.0%}, tokens "
            f"{length[:window].mean():.1f} to {length[-window:].mean():.1f}"
        )
    axes[0].set(xlabel="step of GRPO", ylabel="% of drawn answers right", ylim=(0, 100))
    axes[1].set(xlabel="step of GRPO", ylabel="tokens of an answer", ylim=(0, None))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2,
               fontsize=8.5)  # fmt: skip
    return figures.describe(
        fig, f"GRPO, means of {window} steps at its beginning and end. {'; '.join(said)}."
    )
