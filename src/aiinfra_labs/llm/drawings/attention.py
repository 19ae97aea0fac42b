"""The figures of unit 1.3 that show shared heads, trained models, and cost. Unit 1.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import LARGE, arrow, box, drawing, write
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.attention_cost import causal_flops, fused_traffic, written_traffic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

BLUE, ORANGE, GREEN = (figures.PALETTE[name] for name in ("blue", "orange", "green"))
STRONG = 0.95  # what the talk calls usual


def sharing(heads: int = 8) -> Figure:
    """Which query head reads which kv head: as many, some, one."""
    alt = (
        f"Three ways for {heads} query heads. Multi-head: {heads} kv heads, one each. "
        "Grouped-query: 2 kv heads, each for 4 neighbours. Multi-query: one kv head for all."
    )
    step = 66 / heads
    with drawing(alt, 0, 71) as (fig, ax):
        ways = (("multi-head", heads), ("grouped-query", 2), ("multi-query", 1))
        for place, (name, kv_heads) in enumerate(ways):
            y, group = 50 - 25 * place, heads // kv_heads
            each = "1 kv head" if kv_heads == 1 else f"{kv_heads} kv heads"
            write(ax, 0, y + 17.5, name, LARGE, ha="left", weight="bold")
            write(ax, 0, y + 11, f"{heads} query heads", LARGE, ha="left")
            write(ax, 0, y + 4.5, each, LARGE, ha="left")
            for head in range(heads):
                x = 34 + head * step
                box(ax, x + 0.5, y + 14, step - 1, 7, BLUE, f"{head}", LARGE)
                middle = 34 + (head // group + 0.5) * group * step
                ax.plot([x + step / 2, middle], [y + 13.7, y + 8.3], color=BLUE, lw=1.2, ls="-")
            for kv in range(kv_heads):
                middle = 34 + (kv + 0.5) * group * step
                box(ax, middle - step / 2 + 0.5, y + 1, step - 1, 7, ORANGE, f"{kv}", LARGE)
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
def it_looks(looks: Tensor, words: Sequence[str], english: Sequence[str], it: int) -> Figure:
    """What one word gives to each word, a row for each head. looks: [layers, heads, T, T]."""
    layers, heads = looks.shape[:2]
    rows = looks[:, :, it].flatten(0, 1)  # [layers heads, T]
    names = [f"{layer}.{head}" for layer in range(layers) for head in range(heads)]
    best = [
        f"head {name} gives {words[int(row.argmax())]} {row.max():.2f}"
        for name, row in zip(names, rows, strict=True)
    ]
    fig, ax = figures.figure(
        alt=f"What {words[it]} gives to each word of {''.join(words)} ({' '.join(english)}), a row "
        f"for each of {layers * heads} heads. The most: {', '.join(best)}.",
        height=0.24 * len(rows) + 0.55,
    )
    both = [f"{word}\n{meaning}" for word, meaning in zip(words, english, strict=True)]
    heat_map(ax, 0.7 * rows, both, names)
    ax.set_aspect("auto")
    ax.tick_params(labelsize=11, labeltop=True, labelbottom=False)
    ax.set_ylabel("layer.head", fontsize=11)
    for i, row in enumerate(rows.tolist()):
        for j, share in enumerate(row):
            if share >= 0.005:
                ax.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=10.5)
    ax.axhline(heads - 0.5, color=figures.INK, lw=1)
    return fig


def detour(first: float, second: float) -> Figure:
    """How a word gets what it may not look at: through a word that looked there before.

    first: what 甜 gives 苹果 in layer 0. second: what 它 gives 甜 in layer 1.
    """
    alt = (
        f"Two layers. In layer 0, 甜 (sweet) looks at 苹果 (apple) {first:.2f}. In layer 1, 它 "
        f"(it) looks at 甜 {second:.2f}. No arrow goes from 苹果 to 它."
    )
    passed = {("苹果", 34), ("甜", 17), ("它", 0)}  # who holds the apple, and when
    with drawing(alt, 0, 43) as (fig, ax):
        for x, word, english in ((14, "苹果", "apple"), (50, "它", "it"), (86, "甜", "sweet")):
            for y in (34, 17, 0):
                colour = ORANGE if (word, y) in passed else None
                box(ax, x - 13, y, 26, 8.5, colour, f"{word} {english}", LARGE)
        arrow(ax, (27.5, 34), (72.5, 25.8), "-|>", 2)
        arrow(ax, (77, 16.7), (60, 8.8), "-|>", 2)
        for y, name in ((29.5, "layer 0"), (12.5, "layer 1")):
            write(ax, 1, y, name, LARGE, ha="left", weight="bold")
        write(ax, 99, 30.5, f"甜 looks at 苹果: {first:.2f}", LARGE, ha="right")
        write(ax, 99, 12.5, f"它 looks at 甜: {second:.2f}", LARGE, ha="right")
    return fig


WAYS = {"free": BLUE, "blind": ORANGE, "paid": GREEN, "causal": figures.PALETTE["purple"]}
MARKS = {"free": "o", "blind": "s", "paid": "^", "causal": "D"}


@styled
def looking_and_right(ways: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """A point for each model: how much its most attentive head looks, and how often it is right."""
    most = {way: [max(map(max, m["talk"])) for m in ways[way]] for way in WAYS}
    right = {way: [m["accuracy"] for m in ways[way]] for way in WAYS}
    said = "; ".join(
        f"{way}: attention {min(most[way]):.2f} to {max(most[way]):.2f}, right in "
        f"{min(right[way]):.0%} to {max(right[way]):.0%}"
        for way in WAYS
    )
    fig, ax = figures.figure(alt=f"{len(most['free'])} models of each kind. {said}.", height=1.85)
    for way, colour in WAYS.items():
        ax.plot(most[way], right[way], MARKS[way], ms=7, color=colour, alpha=0.75)
    for way, x, y, side in (
        ("blind", 0.04, 0.98, "left"),
        ("free", 0.89, 0.99, "right"),
        ("paid", 0.97, 0.83, "right"),
        ("causal", 0.91, 0.37, "right"),
    ):
        ax.text(x, y, way, ha=side, va="center", fontsize=12)
    ax.set(xlim=(-0.03, 1.04), ylim=(0, 1.06))
    ax.tick_params(labelsize=11)
    ax.text(0.45, 0.6, "each mark is one model", ha="center", va="center", fontsize=11)
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    ax.set_xlabel("share that 它 gives 苹果, in the head where it is largest", fontsize=11)
    ax.set_ylabel("right", fontsize=11)
    return fig


@styled
def growth(shape: Any, lengths: Sequence[int]) -> Figure:
    """Operations and bytes of a prompt of T tokens in a model of this shape (unit 1.6's)."""
    from aiinfra_labs.llm.scale import parameters

    weights = [2 * parameters.multiplied(shape) * t for t in lengths]
    pairs = [causal_flops(shape, t) for t in lengths]
    written = [shape.layers * written_traffic(shape.heads, t, t, shape.head_dim) for t in lengths]
    fused = [shape.layers * fused_traffic(shape.heads, t, t, shape.head_dim) for t in lengths]
    last = lengths[-1]
    # 4 layers heads D T (T + 1) / 2 operations of attention are 2 weights T at this T.
    equal = -(-parameters.multiplied(shape) // (shape.layers * shape.heads * shape.head_dim)) - 1
    fig, axes = figures.figure(
        alt=f"Against the prompt's length up to {last:,} tokens, on logarithmic axes. Above, "
        "operations: products with weights grow with T, attention with T squared, and passes them "
        f"at {equal:,} tokens. Below, bytes moved by attention: {written[-1] / 1e9:,.0f} GB where "
        f"scores are written down, {fused[-1] / 1e9:,.0f} GB where they are not.",
        height=3.7,
        nrows=2,
        sharex=True,
    )
    for ax, rows, title in (
        (axes[0], ((weights, "products with weights", BLUE), (pairs, "attention", ORANGE)),
         "operations of a prompt"),
        (axes[1], ((fused, "scores stay on the chip", BLUE), (written, "scores written", ORANGE)),
         "bytes that attention moves, in all layers"),
    ):  # fmt: skip
        for ys, name, colour in rows:
            ax.plot(lengths, ys, marker="o", ms=5, color=colour, label=name)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_title(title, fontsize=11)
        ax.tick_params(labelsize=11)
        ax.legend(fontsize=11)
    axes[0].axvline(equal, color=figures.INK, lw=1, ls=":")
    axes[0].text(0.98 * equal, weights[0], f"equal at {equal:,} ", ha="right", fontsize=11)
    ticks = lengths[::2]
    axes[1].set_xticks(ticks, [f"{t:,}" if t < 1024 else f"{t // 1024}k" for t in ticks])
    axes[1].minorticks_off()
    axes[1].set_xlabel("T, tokens", fontsize=11)
    return fig
