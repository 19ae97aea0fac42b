"""The drawings of unit 1.4: one block with its shapes, and the two kinds of stack.

    from aiinfra_labs.course import figures
    figures.show(drawings.block(course_model.CONFIG))

Each returns a matplotlib figure with its alt text as the figure's label. B: batch, T: tokens, C:
hidden size, D: head_dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiinfra_labs.course.drawing import LARGE, NORMAL, SMALL, arrow, box, drawing, ink, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..llama import LlamaConfig

STREAM = 12  # x of the sum that runs through all blocks


def block(config: LlamaConfig) -> Figure:
    """A pre-norm block: the sum at the left, what is read from it and added to it at the right."""
    c, hidden = config.hidden_size, config.intermediate_size
    heads, kv_heads, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    alt = (
        f"One block, from bottom to top. At the left the sum x, of shape [B, T, {c}], runs "
        "straight through. Attention reads it through a norm: queries, keys and values, turned "
        f"by their positions, {heads} query heads and {kv_heads} key and value heads of {d}; the "
        f"result, [B, T, {c}] again, is added to the sum. Then SwiGLU reads the sum through a norm "
        f"of its own, widens it to {hidden}, and is added in turn."
    )
    with drawing(alt, 0, 106) as (fig, ax):
        arrow(ax, (STREAM, 3), (STREAM, 103), "-|>", 3)
        write(ax, STREAM + 3, 3, f"x  [B, T, {c}]", NORMAL, ha="left")
        write(ax, STREAM + 3, 102, f"x  [B, T, {c}]  to the next block", NORMAL, ha="left")
        _branch(
            ax,
            10,
            "attention",
            "C0",
            (
                (f"q [B, {heads}, T, {d}]", f"k, v [B, {kv_heads}, T, {d}]"),
                (f"scores [B, {heads}, T, T]", "causal, softmax"),
            ),
            "mixes tokens",
        )
        _branch(
            ax,
            56,
            "SwiGLU",
            "C1",
            (
                (f"gate [B, T, {hidden}]", f"up [B, T, {hidden}]"),
                (f"silu(gate) · up [B, T, {hidden}]", "down"),
            ),
            "each token by itself",
        )
    return fig


def _branch(
    ax: Axes,
    y: float,
    name: str,
    colour: str,
    lines: tuple[tuple[str, str], ...],
    what: str,
) -> None:
    """Out of the sum at `y`, through norm and part, and back into it 40 higher."""
    low, middle, high = y, y + 18, y + 38
    ax.plot([STREAM, 34], [low, low], color=ink(), lw=1.4, ls="-")
    arrow(ax, (34, low), (34, low + 4), "-|>", 1.4)
    box(ax, 22, low + 4, 24, 7, "C2", "RMSNorm", NORMAL)
    arrow(ax, (34, low + 11), (34, middle - 1.5), "-|>", 1.4)
    box(ax, 20, middle - 1.5, 79, 18, colour)
    write(ax, 34, middle + 9.5, name, LARGE, weight="bold")
    write(ax, 34, middle + 4, what, SMALL)
    for row, pair in enumerate(lines):
        write(ax, 74, middle + 11.5 - row * 7.5, "\n".join(pair), SMALL)
    ax.plot([34, 34], [middle + 16.5, high], color=ink(), lw=1.4, ls="-")
    arrow(ax, (34, high), (STREAM + 2.6, high), "-|>", 1.4)
    ax.plot([STREAM], [high], "o", ms=17, mfc="white", mec=ink(), mew=1.6, zorder=5)
    write(ax, STREAM, high - 0.2, "+", 15, color="#101010", zorder=6)


def stacks() -> Figure:
    """The paper's encoder and decoder, and a decoder alone: what sees what."""
    alt = (
        "Left, the encoder-decoder: the source goes into the encoder, where each token sees all "
        "others; its output, the memory, goes to every layer of the decoder. The decoder's layers "
        "have three parts: masked self-attention over the target so far, cross-attention to the "
        "memory, and a feed-forward network. Right, the decoder alone: prompt and answer are one "
        "row of tokens, and its layers have two parts, causal self-attention and a feed-forward "
        "network."
    )
    with drawing(alt, -9, 92) as (fig, ax):
        write(ax, 29, 89, "encoder-decoder", LARGE, weight="bold")
        write(ax, 84, 89, "decoder only", LARGE, weight="bold")
        _stack(ax, 0, 24, "C0", ("self-attention\nsees all", "feed-forward"), "source")
        _stack(
            ax,
            35,
            25,
            "C1",
            ("masked\nself-attention", "cross-attention\nto the memory", "feed-forward"),
            "target so far",
        )
        _stack(ax, 71, 27, "C1", ("causal\nself-attention", "feed-forward"), "prompt and answer")
        ax.plot([12, 12, 30, 30], [66, 75, 75, 38], color=ink(), lw=2, ls="-")
        arrow(ax, (30, 38), (36.5, 38), "-|>", 2)
        write(ax, 21, 78.5, "memory", NORMAL)
        for x in (47.5, 84.5):
            arrow(ax, (x, 66), (x, 76), "-|>", 2)
            write(ax, x, 79.5, "next token", NORMAL)
    return fig


def _stack(
    ax: Axes, x: float, width: float, colour: str, parts: tuple[str, ...], below: str
) -> None:
    """A layer with its parts from bottom to top, "N times", and what goes in."""
    middle = x + width / 2
    box(ax, x, 8, width, 58, colour)
    height = 48 / len(parts)
    for place, part in enumerate(parts):
        box(ax, x + 1.5, 12 + place * height, width - 3, height - 4, None, part, NORMAL)
    write(ax, x + width - 1, 63.6, "× N", SMALL, ha="right")
    arrow(ax, (middle, 0), (middle, 8), "-|>", 2)
    write(ax, middle, -4, below, NORMAL)
