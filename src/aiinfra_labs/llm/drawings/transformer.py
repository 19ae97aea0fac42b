"""The drawings of unit 1.4 on encoder and decoder: the two kinds of stack, and what looks where.

    from aiinfra_labs.course import figures
    figures.show(drawings.stacks())

Each returns a matplotlib figure with its alt text as the figure's label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import LARGE, arrow, box, drawing, ink, write
from aiinfra_labs.course.figures import styled

from .attention import heat_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor


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
        _stack(ax, 0, 24, "C0", ("self-\nattention\nsees all", "feed-forward"), "source")
        _stack(
            ax,
            35,
            25,
            "C1",
            ("masked self-\nattention", "cross-\nattention to\nthe memory", "feed-forward"),
            "target so far",
        )
        _stack(ax, 71, 27, "C1", ("causal self-\nattention", "feed-forward"), "prompt and answer")
        ax.plot([12, 12, 30, 30], [66, 75, 75, 38], color=ink(), lw=2, ls="-")
        arrow(ax, (30, 38), (36.5, 38), "-|>", 2)
        write(ax, 21, 78.5, "memory", LARGE)
        for x in (47.5, 84.5):
            arrow(ax, (x, 66), (x, 76), "-|>", 2)
            write(ax, x, 79.5, "next token", LARGE)
    return fig


def _stack(
    ax: Axes, x: float, width: float, colour: str, parts: tuple[str, ...], below: str
) -> None:
    """A layer with its parts from bottom to top, "N times", and what goes in."""
    middle = x + width / 2
    box(ax, x, 8, width, 58, colour)
    height = 48 / len(parts)
    for place, part in enumerate(parts):
        box(ax, x + 1.5, 12 + place * height, width - 3, height - 4, None, part, LARGE)
    write(ax, x + width - 1, 63.6, "× N", LARGE, ha="right")
    arrow(ax, (middle, 0), (middle, 8), "-|>", 2)
    write(ax, middle, -4, below, LARGE)


@styled
def digits_look(weights: Tensor, words: Sequence[str], digits: str) -> Figure:
    """Shares that each written digit takes from the words that were read: a panel with numbers.

    weights: float [digits, words], each row summing to 1.
    """
    shares = weights.numpy()
    most = "; ".join(
        f"{digit}: {words[int(row.argmax())]}" for digit, row in zip(digits, shares, strict=True)
    )
    fig, ax = figures.figure(
        f"Where the digits of {digits} look: a share for each word of {' '.join(words)}. "
        f"The largest share of each digit: {most}.",
        3.6,
        3.4,
    )
    heat_map(ax, 0.7 * shares, words)  # so that the page's own text colour reads on the darkest
    ax.set_aspect("auto")
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 0.005:
                ax.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=10)
    ax.set_xticks(range(len(words)), words, rotation=35, ha="right", fontsize=10)
    ax.set_yticks(range(len(digits)), list(digits), fontsize=11)
    ax.set_ylabel("digit written", fontsize=10)
    ax.grid(False)
    return fig
