"""The figures of unit 1.3: shapes, masks, shared heads, and what was measured. Unit 1.3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import NORMAL, SMALL, arrow, box, drawing, write
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.attention import causal_mask
from aiinfra_labs.llm.attention_cost import fused_traffic, written_traffic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = (figures.PALETTE[name] for name in ("blue", "orange", "green"))
STRONG = 0.95  # what the talk calls usual


def flow() -> Figure:
    """From x to the output of one head, with the shape of each step."""
    alt = (
        "x, T by C, is projected to queries, keys and values, each T by D. Queries times keys, "
        "over the root of D, give scores, T by T; a mask and softmax make them weights, whose rows "
        "sum to 1; weights times values are the output, T by D."
    )
    with drawing(alt, 0, 44) as (fig, ax):
        box(ax, 0, 17, 11, 11, None, "x\nT × C")
        rows = (("Q", BLUE, 33), ("K", ORANGE, 17), ("V", GREEN, 1))
        for name, colour, y in rows:
            box(ax, 20, y, 13, 11, colour, f"{name}\nT × D")
            arrow(ax, (11.5, 22.5), (19.5, y + 5.5), "-|>", 1)
        box(ax, 42, 25, 18, 11, None, "Q Kᵀ / √D\nT × T")
        box(ax, 68, 25, 18, 11, None, "mask, softmax\nT × T", SMALL)
        box(ax, 84, 1, 16, 11, None, "weights · V\nT × D", SMALL)
        arrow(ax, (33.5, 38), (41.5, 32.5), "-|>", 1)
        arrow(ax, (33.5, 23), (41.5, 28.5), "-|>", 1)
        arrow(ax, (60.5, 30.5), (67.5, 30.5), "-|>", 1)
        arrow(ax, (86, 24.5), (90, 12.8), "-|>", 1)
        arrow(ax, (33.5, 6.5), (83.5, 6.5), "-|>", 1)
        write(ax, 64, 40.5, "who looks at whom", NORMAL)
        write(ax, 58, 9.5, "what they bring back", NORMAL)
    return fig


def sharing(heads: int = 8) -> Figure:
    """Which query head reads which kv head: as many, some, one."""
    alt = (
        f"Three ways for {heads} query heads. Multi-head: {heads} kv heads, one each. "
        "Grouped-query: 2 kv heads, each for 4 neighbours. Multi-query: one kv head for all."
    )
    with drawing(alt, 0, 30) as (fig, ax):
        ways = (("multi-head", heads), ("grouped-query", 2), ("multi-query", 1))
        for column, (name, kv_heads) in enumerate(ways):
            left, width, step = 35 * column, 30, 30 / heads
            write(ax, left + width / 2, 27.5, name, NORMAL)
            group = heads // kv_heads
            for head in range(heads):
                x = left + head * step
                box(ax, x + 0.4, 17, step - 0.8, 5, BLUE, "")
                middle = left + (head // group + 0.5) * group * step
                ax.plot([x + step / 2, middle], [16.6, 8.4], color=BLUE, lw=1, ls="-")
            for kv in range(kv_heads):
                middle = left + (kv + 0.5) * group * step
                box(ax, middle - step / 2 + 0.4, 3, step - 0.8, 5, ORANGE, "")
            each = "1 head" if kv_heads == 1 else f"{kv_heads} heads"
            write(ax, left + width / 2, 0.3, f"K, V: {each}", SMALL)
        write(ax, 50, 23.9, f"Q: {heads} heads each", SMALL)
    return fig


def heat_map(ax: Axes, weights: Any, words: Sequence[str], lines: Sequence[str] = ()) -> None:
    """Weights [T, S] as squares of one colour, 0 to 1: a row for each word that looks."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    colours = LinearSegmentedColormap.from_list("look", [to_rgba(BLUE, 0.06), to_rgba(BLUE, 1)])
    ax.imshow(weights, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks(range(len(words)), words)
    ax.set_yticks(range(len(lines or words)), lines or words)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def heads_on(looks: Tensor, words: Sequence[str], it: int, referent: int) -> Figure:
    """Every head's map of one sentence. looks: [layers, heads, T, T]."""
    layers, heads = looks.shape[:2]
    shares = [f"{looks[i, j, it, referent]:.2f}" for i in range(layers) for j in range(heads)]
    fig, axes = figures.figure(
        alt=f"The attention of {layers * heads} heads on {''.join(words)}, a map each. {words[it]} "
        f"gives {words[referent]}, head by head, {', '.join(shares)}.",
        height=1.8 * layers + 0.3,
        nrows=layers,
        ncols=heads,
        squeeze=False,
    )
    for layer in range(layers):
        for head in range(heads):
            ax, share = axes[layer][head], looks[layer, head, it, referent]
            heat_map(ax, looks[layer, head], words)
            ax.tick_params(labelsize=7.5)
            ax.tick_params(axis="x", labelrotation=90)
            ax.set_title(f"{layer}.{head}: {share:.2f}", fontsize=9.5)
            ax.add_patch(_ring(referent, it))
    return fig


def _ring(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    return Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=1.8, clip_on=False)


@styled
def masks(real: Tensor) -> Figure:
    """Causal, padding, and both. real: bool [S], of one sentence."""
    s = len(real)
    causal, padding = causal_mask(s, s), real.expand(s, s)
    gone = ", ".join(str(i) for i in range(s) if not real[i])
    fig, axes = figures.figure(
        alt=f"Three masks of {s} tokens, of which {gone} are padding. Causal: a filled triangle, "
        "each query sees the keys up to itself. Padding: whole columns are empty. Both: the "
        "triangle without these columns.",
        height=2.2,
        ncols=3,
    )
    for ax, mask, name in zip(
        axes, (causal, padding, causal & padding), ("causal", "padding", "both"), strict=True
    ):
        heat_map(ax, mask.float() * 0.75, [str(i) for i in range(s)])
        ax.set_title(name)
    axes[0].set_ylabel("query")
    axes[1].set_xlabel("key")
    return fig


@styled
def saturation(sizes: Sequence[int] = (4, 16, 64, 256, 1024), keys: int = 64) -> Figure:
    """How sharp a softmax of random scores is, and the gradient that it lets through."""
    rows = {True: [], False: []}
    for d in sizes:
        query, key = (
            torch.randn(400, d, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
        )
        scores = (query @ key.T)[:, :keys]
        for divided in rows:
            weights = torch.softmax(scores / (math.sqrt(d) if divided else 1), dim=-1)
            # d weights_i / d scores_i is w (1 - w); the sum over a row is 0 where one takes all.
            slope = (weights * (1 - weights)).sum(-1).mean().item()
            rows[divided].append((weights.amax(-1).mean().item(), slope))
    last = {name: rows[name][-1] for name in rows}
    fig, axes = figures.figure(
        alt=f"Against D from {sizes[0]} to {sizes[-1]}, for {keys} keys. Left, the largest weight "
        f"of a row: divided by the root of D it stays at {last[True][0]:.2f}, undivided it "
        f"climbs to {last[False][0]:.2f}. Right, the softmax's slope summed over a row: "
        f"{last[True][1]:.2f} divided, {last[False][1]:.2f} undivided.",
        height=2.6,
        ncols=2,
    )
    for column, (ax, name) in enumerate(
        zip(axes, ("largest weight of a row", "slope, summed over a row"), strict=True)
    ):
        for divided, colour, label in ((True, BLUE, "Q Kᵀ / √D"), (False, ORANGE, "Q Kᵀ")):
            ys = [row[column] for row in rows[divided]]
            ax.plot(sizes, ys, marker="o", color=colour, label=label)
        ax.set_xscale("log", base=4)
        ax.set_xticks(sizes, [str(d) for d in sizes])
        ax.set(xlabel="D", title=name, ylim=(0, 1.05))
    axes[1].legend(loc="lower left", borderaxespad=0)
    return fig


WAYS = {"free": BLUE, "blind": ORANGE, "paid": GREEN, "causal": figures.PALETTE["purple"]}


@styled
def seeds(ways: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Each model's most attentive head on the talk's sentence, and how often the model is right."""
    most = {way: [max(map(max, m["talk"])) for m in ways[way]] for way in WAYS}
    right = {way: [m["accuracy"] for m in ways[way]] for way in WAYS}
    said = "; ".join(
        f"{way}: attention {min(most[way]):.2f} to {max(most[way]):.2f}, right in "
        f"{min(right[way]):.0%} to {max(right[way]):.0%}"
        for way in WAYS
    )
    fig, axes = figures.figure(
        alt=f"{len(most['free'])} models of each kind. {said}.", height=2.9, ncols=2
    )
    for ax, values, title in (
        (axes[0], most, "它 → 苹果, the head that looks most"),
        (axes[1], right, "right, of held-out sentences"),
    ):
        for column, (way, colour) in enumerate(WAYS.items()):
            count = len(values[way])
            xs = [column + 0.5 * (i / max(1, count - 1) - 0.5) for i in range(count)]
            ax.plot(xs, values[way], "o", ms=4.5, color=colour, alpha=0.8)
        ax.set_xticks(range(len(WAYS)), list(WAYS))
        ax.set(ylim=(-0.04, 1.05))
        ax.set_title(title, fontsize=9.5)
    for ax, level, name in ((axes[0], STRONG, "0.95"), (axes[1], 0.5, "one of two nouns")):
        ax.axhline(level, ls="--", lw=1, color=figures.INK)
        ax.text(3.4, level - 0.03, name, ha="right", va="top", fontsize=9)
    return fig


@styled
def growth(shape: Any, lengths: Sequence[int]) -> Figure:
    """Operations and bytes of a prompt of T tokens in a model of this shape (unit 1.6's)."""
    from aiinfra_labs.llm.scale import flops, parameters

    weights = [2 * parameters.multiplied(shape) * t for t in lengths]
    scores = [flops.attention(shape, t, t) for t in lengths]
    written = [shape.layers * written_traffic(shape.heads, t, t, shape.head_dim) for t in lengths]
    fused = [shape.layers * fused_traffic(shape.heads, t, t, shape.head_dim) for t in lengths]
    last = lengths[-1]
    fig, axes = figures.figure(
        alt=f"Against the prompt's length up to {last:,} tokens, on logarithmic axes. Left, "
        "operations: products with weights grow with T, attention with T squared, and passes them "
        f"before the end. Right, bytes moved by attention: {written[-1] / 1e9:,.0f} GB where "
        f"scores are written down, {fused[-1] / 1e9:,.0f} GB where they are not.",
        height=2.9,
        ncols=2,
    )
    for ax, rows, title in (
        (axes[0], ((weights, "weights", BLUE), (scores, "attention", ORANGE)), "operations"),
        (axes[1], ((fused, "fused", BLUE), (written, "scores written", ORANGE)), "bytes"),
    ):
        for ys, name, colour in rows:
            ax.plot(lengths, ys, marker="o", ms=4, color=colour, label=name)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set(xlabel="T, tokens", title=title)
        ax.legend()
    return fig
