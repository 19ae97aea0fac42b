"""The figures of unit 1.4 that hold numbers: one word's row through one block, and one update.

Every number is computed here, from those of `plain_block` and `one_update`. Unit 1.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiinfra_labs.course.drawing import LARGE, arrow, box, drawing, ink, write

from .. import one_update as update
from .. import plain_block as plain
from ..plain_block import ENGLISH, WORDS, X
from .attention import BLUE, GREEN, ORANGE
from .four_words import softmax

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

IT = WORDS.index("它")
LEFT, RIGHT, WIDTH, HIGH = 0.0, 56.0, 44.0, 7.0  # of the boxes: the sum's, the parts'
MIDDLE = LEFT + WIDTH / 2


def through_a_block() -> Figure:
    """它 through one block: its row at the left, what the two parts read and add at the right."""
    x, read = X, plain.norm(X)
    scores = (read @ plain.W_Q) @ (read @ plain.W_K).T / np.sqrt(4)
    shares = softmax(scores)[IT]
    found = plain.attention(read)
    between = x + found
    reads = plain.norm(between)
    gate, up = (reads @ plain.W_GATE)[IT], (reads @ plain.W_UP)[IT]
    opened = gate / (1 + np.exp(-gate)) * up
    made = plain.feed_forward(reads)
    out = between + made
    with drawing(
        f"The row of {WORDS[IT]} ({ENGLISH[IT]}) has four columns, {', '.join(plain.COLUMNS)}: "
        f"{_told(x[IT])}. Divided by its rms it is {_told(read[IT])}. Attention takes shares of "
        f"{', '.join(f'{s:.2f} of {e}' for s, e in zip(shares, ENGLISH, strict=True))}, and finds "
        f"{_told(found[IT])}. That is added: {_told(between[IT])}. The norm of this is "
        f"{_told(reads[IT])}. The feed-forward network makes six products of it, {_told(opened)}, "
        f"and of these {_told(made[IT])}. That is added, too: {_told(out[IT])}.",
        4,
        121,
    ) as (fig, ax):
        write(ax, MIDDLE, 119, f"row of {WORDS[IT]} {ENGLISH[IT]}", LARGE, weight="bold")
        write(ax, RIGHT + WIDTH / 2, 119, "read, and added", LARGE, weight="bold")
        for left in (LEFT, RIGHT):
            for j, name in enumerate(plain.COLUMNS):
                write(ax, left + WIDTH * (j + 0.5) / 4, 114, name, LARGE)
        for high, low in ((104, 79), (66, 24), (11, None)):  # the sum runs on between its boxes
            if low is not None:
                arrow(ax, (MIDDLE, high), (MIDDLE, low - 5.5), "-|>", 2.5)
        _cells(ax, LEFT, 104, x[IT], BLUE)
        _read(ax, 107.5, x[IT])
        _cells(ax, RIGHT, 104, read[IT], None)
        arrow(ax, (RIGHT + WIDTH / 2, 104), (RIGHT + WIDTH / 2, 100.8), "-|>", 1.2)
        write(ax, RIGHT - 1.5, 95.5, "shares", LARGE, ha="right")
        _cells(ax, RIGHT, 92, shares, ORANGE, words=[*WORDS])
        arrow(ax, (RIGHT + WIDTH / 2, 92), (RIGHT + WIDTH / 2, 86.8), "-|>", 1.2)
        _cells(ax, RIGHT, 79.5, found[IT], ORANGE)
        _add(ax, 83, "attention")
        _cells(ax, LEFT, 66, between[IT], BLUE)
        _read(ax, 69.5, between[IT])
        _cells(ax, RIGHT, 66, reads[IT], None)
        arrow(ax, (RIGHT + WIDTH / 2, 66), (RIGHT + WIDTH / 2, 62.3), "-|>", 1.2)
        for y, name, row in ((55, "gate", gate), (46.5, "up", up), (38, "product", opened)):
            write(ax, RIGHT - 1.5, y + HIGH / 2, name, LARGE, ha="right")
            _cells(ax, RIGHT, y, row, GREEN, decimals=1)
        arrow(ax, (RIGHT + WIDTH / 2, 38), (RIGHT + WIDTH / 2, 31.8), "-|>", 1.2)
        _cells(ax, RIGHT, 24.5, made[IT], GREEN)
        _add(ax, 28, "feed-forward")
        _cells(ax, LEFT, 11, out[IT], BLUE)
        write(ax, MIDDLE, 5.5, "to the next block", LARGE)
    return fig


def _told(row: Array) -> str:
    return " ".join(f"{v + 0.0:.2f}" for v in row)


def _cells(
    ax: Axes,
    x: float,
    y: float,
    row: Array,
    colour: str | None,
    words: Sequence[str] = (),
    decimals: int = 2,
) -> None:
    """A row of numbers in a box of `WIDTH`; words: one above each number, in a higher box."""
    high = HIGH + 1.5 if words else HIGH
    box(ax, x, y, WIDTH, high, colour)
    for j, value in enumerate(row):
        middle = x + WIDTH * (j + 0.5) / len(row)
        if words:
            write(ax, middle, y + 6.3, words[j], LARGE)
        shown = f"{value:.{decimals}f}"
        shown = shown.lstrip("-") if float(shown) == 0 else shown.replace("-", "−")
        write(ax, middle, y + (2.4 if words else HIGH / 2), shown, LARGE)


def _read(ax: Axes, y: float, row: Array) -> None:
    """An arrow from the sum to a part's norm, and what the norm divides by."""
    arrow(ax, (LEFT + WIDTH, y), (RIGHT, y), "-|>", 1.2)
    write(ax, (LEFT + WIDTH + RIGHT) / 2, y + 2.8, f"÷ {np.sqrt((row**2).mean()):.2f}", LARGE)


def _add(ax: Axes, y: float, name: str) -> None:
    """An arrow from a part back to the sum, with a plus there and the part's name."""
    arrow(ax, (RIGHT, y), (MIDDLE + 2.6, y), "-|>", 1.2)
    ax.plot([MIDDLE], [y], "o", ms=17, mfc="white", mec=ink(), mew=1.6, zorder=5)
    write(ax, MIDDLE, y - 0.2, "+", 15, color="#101010", zorder=6)
    write(ax, (MIDDLE + RIGHT) / 2 + 2, y + 2.8, name, LARGE)


def one_update() -> Figure:
    """Four scores, their probabilities, the gradient, and both again after one update."""
    scores = update.SCORES
    after, loss, gradient = update.update(scores, update.TARGET, update.RATE)
    _, loss_after, _ = update.update(after, update.TARGET, update.RATE)
    shares, shares_after = (softmax(s) for s in (scores, after))
    told = "; ".join(
        f"{token}: score {s:.2f}, probability {p:.2f}, gradient {g:.2f}, new score {a:.2f}, new "
        f"probability {q:.2f}"
        for token, s, p, g, a, q in zip(
            update.TOKENS, scores, shares, gradient, after, shares_after, strict=True
        )
    )
    with drawing(
        f"Four tokens that may come next, and x is right. {told}. The loss falls from "
        f"{loss:.2f} to {loss_after:.2f}.",
        0,
        59,
    ) as (fig, ax):
        columns = ((7, "next"), (25, "score"), (43, "prob."), (62, "gradient"), (80, "score"))
        for x, name in (*columns, (95, "prob.")):
            write(ax, x, 52, name, LARGE, weight="bold")
        write(ax, 34, 58, "before the update", LARGE)
        write(ax, 86, 58, "after", LARGE)
        for i, token in enumerate(update.TOKENS):
            y = 40.5 - 8.5 * i
            box(ax, 0, y, 14, HIGH, GREEN if i == update.TARGET else None, token, LARGE)
            for x, value in ((25, scores[i]), (43, shares[i]), (62, gradient[i])):
                write(ax, x, y + HIGH / 2, f"{value:.2f}".replace("-", "−"), LARGE)
            box(ax, 73, y, 14, HIGH, BLUE, f"{after[i]:.2f}".replace("-", "−"), LARGE)
            write(ax, 95, y + HIGH / 2, f"{shares_after[i]:.2f}", LARGE)
        write(ax, 0, 5, "loss = −ln of", LARGE, ha="left")
        write(ax, 0, 0.5, "the green token's", LARGE, ha="left")
        write(ax, 43, 3, f"{loss:.2f}", LARGE, weight="bold")
        write(ax, 95, 3, f"{loss_after:.2f}", LARGE, weight="bold")
    return fig
