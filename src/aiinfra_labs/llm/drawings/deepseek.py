"""The drawings of what was counted and measured: caches, experts' loads, rewards. Unit 1.7.

from aiinfra_labs.course import figures
figures.show(drawings.caches(["deepseek-67b", "deepseek-v2"]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.deepseek import cache_sizes, grpo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = (
    figures.PALETTE[name] for name in ("blue", "orange", "green", "purple")
)
LINES = ("-", "--", "-.", ":")  # so that no line is told by its colour alone


@styled
def caches(keys: Sequence[str], variants: str = "deepseek-v2") -> Figure:
    """KiB that a token leaves in the cache, a bar a model; below, one model's other attentions."""
    models = cache_sizes.models()
    rows = [(models[key].name, models[key].shape, BLUE) for key in keys]
    base = models[variants].shape
    rows = [(name, shape, ORANGE if shape.latent else BLUE) for name, shape, _ in rows]
    for kv_heads, name in ((base.heads, "multi-head"), (8, "8 kv heads"), (1, "multi-query")):
        other = cache_sizes.with_kv_heads(base, kv_heads)
        rows.append((f"V2, if {name}", other, GREEN))
    sizes = [cache_sizes.token_bytes(shape) / 1024 for _, shape, _ in rows]
    fig, ax = figures.figure(alt="-", height=1.3 + 0.36 * len(rows))
    hatch = {BLUE: "", ORANGE: "//", GREEN: ".."}
    named = {BLUE: "keys and values", ORANGE: "latent", GREEN: "DeepSeek-V2 with other attention"}
    for i, ((_, _, colour), size) in enumerate(zip(rows, sizes, strict=True)):
        label = named.pop(colour, None)
        ax.barh(i, size, 0.66, color=colour, hatch=hatch[colour], label=label)
        ax.text(size * 1.08, i, _short(size), va="center", fontsize=11)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.tick_params(labelsize=11)
    ax.invert_yaxis()
    ax.set(xscale="log", xlim=(20, 3.2 * max(sizes)))
    ax.set_xlabel("KiB a token, 16 bits a number", fontsize=11)
    fig.legend(*ax.get_legend_handles_labels(), fontsize=11, loc="outside upper left")
    ticks = (30, 100, 300, 1000, 3000)
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    said = "; ".join(f"{n} {_short(size)}" for (n, *_), size in zip(rows, sizes, strict=True))
    return figures.describe(fig, f"KiB that one token leaves in the cache: {said}.")


def _short(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}"


@styled
def loads(ways: Mapping[str, Any], every: int, layer: int = 0, most: float = 4.0) -> Figure:
    """Every expert's load over training, a map a way: rows are experts, the busiest on top."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    colours = LinearSegmentedColormap.from_list("load", [to_rgba(BLUE, 0.04), to_rgba(BLUE, 1)])
    fig, axes = figures.figure(alt="-", height=4.8, nrows=2, ncols=2, sharex=True, sharey=True)
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
        ax.set_title(name, fontsize=11)
        ax.tick_params(labelsize=11)
        ends = load[-5:].mean(0)
        said.append(
            f"{name}: at the end the busiest has {ends.max():.1f} times the mean, and "
            f"{int((ends < 0.1).sum())} of {len(ends)} less than a tenth of it"
        )
    fig.supxlabel("step", fontsize=11)
    fig.supylabel("expert, busiest first", fontsize=11)
    bar = fig.colorbar(image, ax=axes, shrink=0.7, aspect=25)
    bar.set_label("load / mean", fontsize=11)
    marks = range(int(most) + 1)
    bar.set_ticks(marks, labels=[f"{mark}" for mark in marks[:-1]] + [f"{most:.0f} or\nmore"])
    bar.ax.tick_params(labelsize=11)
    bar.outline.set_visible(False)
    return figures.describe(fig, f"Loads of 64 experts over training. {'; '.join(said)}.")


@styled
def surrogate(clip: float = 0.2) -> Figure:
    """The clipped objective of one token against its ratio, for a good answer and a bad one."""
    ratio = torch.linspace(0.4, 1.6, 121)
    fig, ax = figures.figure(
        alt=f"What a token contributes against its ratio, clip {clip}. For a better answer it "
        f"rises with the ratio up to {1 + clip}, and is flat behind. For a worse one it falls, "
        f"flat below {1 - clip}.",
        height=3.2,
    )
    for a, name, colour, line in (
        (1.0, "better than its group", BLUE, "-"),
        (-1.0, "worse than its group", ORANGE, "--"),
    ):
        values = grpo.clipped_surrogate(ratio, torch.tensor(a), clip)
        ax.plot(ratio, values, color=colour, ls=line, label=name)
    for edge in (1 - clip, 1 + clip):
        ax.axvline(edge, color=figures.INK, lw=1, ls=":")
    ax.set_xlabel("ratio: how much likelier the token has become", fontsize=11)
    ax.set_ylabel("gain, A = ±1", fontsize=11)
    ax.tick_params(labelsize=11)
    fig.legend(*ax.get_legend_handles_labels(), fontsize=11, loc="outside upper left")
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
        height=2.9,
    )
    ax.bar([str(k) for k in rows], shares, 0.66, color=BLUE)
    for i, (k, share) in enumerate(zip(rows, shares, strict=True)):
        ax.text(i, share + 3, f"{share:.0f} %\nof {int(counts[k][0])}", ha="center", fontsize=11)
    ax.axhline(100 * chance, color=figures.INK, lw=1.2, ls=":", label="a blind guess")
    ax.legend(fontsize=11, loc="upper left")
    ax.tick_params(labelsize=11)
    ax.set_xlabel("results written down before the answer", fontsize=11)
    ax.set_ylabel("% right", fontsize=11)
    ax.set_ylim(0, 100)
    return fig


@styled
def reinforced(runs: Mapping[str, Sequence[Mapping[str, Any]]], window: int = 5) -> Figure:
    """Share of right answers and length over GRPO's steps, a line a way; thin: other seeds."""
    fig, axes = figures.figure(alt="-", height=6.6, nrows=2, sharex=True)
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
    for ax, name, high in ((axes[0], "% right", 100), (axes[1], "tokens of an answer", None)):
        ax.set_ylim(0, high)
        ax.set_ylabel(name, fontsize=11)
        ax.tick_params(labelsize=11)
    axes[1].set_xlabel("step of GRPO", fontsize=11)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", fontsize=11)
    return figures.describe(
        fig, f"GRPO, means of {window} steps at its beginning and end. {'; '.join(said)}."
    )
