"""The figures of unit 1.3 that hold numbers: one query, the matrices, all queries, two heads.

Every number is computed here, from those of `four_words`. Unit 1.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import LARGE, arrow, box, drawing, write
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.four_words import ENGLISH, IT, W_K, W_Q, W_V, WORDS, X

from .attention import BLUE, GREEN, ORANGE, heat_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
BOTH = [f"{word} {english}" for word, english in zip(WORDS, ENGLISH, strict=True)]


def softmax(scores: Array) -> Array:
    """Shares that sum to 1 along the last axis; a score of -inf gets 0."""
    each = np.exp(scores - scores.max(-1, keepdims=True))
    return each / each.sum(-1, keepdims=True)


def numbers(row: Array, decimals: int = 0) -> str:
    """A vector as text: "2 0 1 0"."""
    return "  ".join(f"{x:.{decimals}f}" for x in row + 0.0)


def one_query() -> Figure:
    """One query, four keys: scores, shares, and the mean of the values, with its numbers."""
    query, keys, values = (X @ W_Q)[IT], X @ W_K, X @ W_V
    products = keys @ query
    scores = products / np.sqrt(len(query))
    shares = softmax(scores)
    mean = shares @ values
    told = "; ".join(
        f"{word}: key {numbers(k)}, score {p:.0f} / 2 = {s:.0f}, share {share:.2f}, value "
        f"{numbers(v)}"
        for word, k, p, s, share, v in zip(
            BOTH, keys, products, scores, shares, values, strict=True
        )
    )
    alt = (
        f"{BOTH[IT]} has the query {numbers(query)}. It meets four keys. {told}. The mean of the "
        f"values with these shares is {numbers(mean, 2)}."
    )
    with drawing(alt, 0, 62) as (fig, ax):
        write(ax, 0, 57.5, f"{BOTH[IT]}  asks", LARGE, ha="left")
        box(ax, 26, 53.5, 22, 8, BLUE, numbers(query), LARGE)
        write(ax, 51, 57.5, "query", LARGE, ha="left")
        arrow(ax, (37, 53), (37, 49.5), "-|>", 1.2)
        for x, name in ((37, "key"), (57, "score"), (74, "share"), (90, "value")):
            write(ax, x, 47.2, name, LARGE, weight="bold")
        for i, word in enumerate(BOTH):
            y = 37.5 - 8.5 * i
            write(ax, 0, y + 3.75, word, LARGE, ha="left")
            box(ax, 27, y, 20, 7.5, ORANGE, numbers(keys[i]), LARGE)
            write(ax, 57, y + 3.75, f"{products[i]:.0f} / 2 = {scores[i]:.0f}", LARGE)
            _bar(ax, 68, y, 12, shares[i])
            box(ax, 81, y, 19, 7.5, GREEN, numbers(values[i]), LARGE)
        arrow(ax, (90.5, 11.8), (90.5, 8.6), "-|>", 1.2)
        box(ax, 64, 0.5, 36, 8, GREEN, numbers(mean, 2), LARGE)
        write(ax, 61, 4.5, "shares × values, added up", LARGE, ha="right")
    return fig


def _bar(ax: Axes, x: float, y: float, width: float, share: float) -> None:
    """A share as a filled part of a bar, and its number above."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y + 0.4), width, 2, fill=False, linewidth=0.8))
    ax.add_patch(Rectangle((x, y + 0.4), width * share, 2, facecolor=BLUE, edgecolor="none"))
    write(ax, x + width / 2, y + 5.1, f"{share:.2f}", LARGE)


def projections() -> Figure:
    """Where queries come from: the words' rows times a matrix."""
    queries = X @ W_Q
    alt = (
        "X has a row of 4 numbers for each of four words. X times the matrix W_Q are the queries "
        f"Q. The row of {BOTH[IT]}, {numbers(X[IT])}, becomes {numbers(queries[IT])}."
    )
    with drawing(alt, 0, 28) as (fig, ax):
        for i, word in enumerate(WORDS):
            write(ax, 12, 19.5 - 5.5 * i, word, LARGE, ha="right")
        _matrix(ax, 14, 0, X, BLUE)
        write(ax, 40, 11, "×", LARGE)
        _matrix(ax, 44.5, 0, W_Q, None)
        write(ax, 71, 11, "=", LARGE)
        _matrix(ax, 75, 0, queries, BLUE)
        for x, text in ((25, "$X$"), (55.5, "$W_Q$"), (86, "$Q$")):
            write(ax, x, 25.5, text, LARGE)
    return fig


def _matrix(ax: Axes, x: float, y: float, values: Array, colour: str | None) -> None:
    """A grid of 4 x 4 numbers, 22 units each way; the row of 它 in a box, if a colour is given."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y), 22, 22, fill=False, linewidth=0.9))
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            write(ax, x + 2.75 + 5.5 * j, y + 19.25 - 5.5 * i, f"{value + 0.0:.0f}", LARGE)
    if colour:
        box(ax, x + 0.3, y + 22 - 5.5 * (IT + 1), 21.4, 5.5, colour)


@styled
def everyone() -> Figure:
    """All four queries at once, free and causal: a table of shares each."""
    scores = (X @ W_Q) @ (X @ W_K).T / 2
    seen = np.tril(np.ones((4, 4), bool))
    free, causal = softmax(scores), softmax(np.where(seen, scores, -np.inf))
    fig, axes = figures.figure(alt="-", height=1.95, ncols=2, sharey=True)
    for ax, shares, title in (
        (axes[0], free, "every word is seen"),
        (axes[1], causal, "with a causal mask"),
    ):
        _shares(ax, shares, title)
        ax.set_aspect("auto")
        ax.set_xlabel("is looked at", fontsize=11)
    axes[0].set_ylabel("looks", fontsize=11)
    axes[0].set_yticks(range(4), BOTH)
    rows = "; ".join(
        f"{word}: {numbers(one, 2)}, causal {numbers(other, 2)}"
        for word, one, other in zip(BOTH, free, causal, strict=True)
    )
    return figures.describe(
        fig, f"The shares that each word gives to {', '.join(BOTH)}, in this order. {rows}."
    )


def split() -> Figure:
    """Queries are cut by columns for two heads; what the heads give is laid side by side again."""
    queries, keys, values = X @ W_Q, X @ W_K, X @ W_V
    halves = (slice(0, 2), slice(2, 4))
    given = np.hstack(
        [softmax(queries[:, h] @ keys[:, h].T / np.sqrt(2)) @ values[:, h] for h in halves]
    )
    alt = (
        f"The queries of {', '.join(BOTH)} are a table of 4 x 4. Its first two columns are head "
        f"0's queries, 4 x 2; its last two are head 1's. {BOTH[IT]}: {numbers(queries[IT])} "
        f"becomes {numbers(queries[IT, :2])} and {numbers(queries[IT, 2:])}. Each head computes "
        f"attention, and gives {BOTH[IT]} {numbers(given[IT, :2], 1)} and "
        f"{numbers(given[IT, 2:], 1)}. Side by side these are a table of 4 x 4 again, which is "
        "multiplied by W_O."
    )
    with drawing(alt, -6, 70) as (fig, ax):
        for y in (0, 41):
            for i, word in enumerate(WORDS):
                write(ax, 9, y + 19.25 - 5.5 * i, word, LARGE, ha="right")
        _halves(ax, 11, 41, queries, (0, 0))
        arrow(ax, (36, 52), (46, 52), "-|>", 1.5)
        _halves(ax, 49, 41, queries, (0, 22))
        for x in (54.5, 87.5):
            arrow(ax, (x, 39.5), (x, 30), "-|>", 1.5)
        write(ax, 71, 35, "attention", LARGE)
        _halves(ax, 49, 0, given, (0, 22), 1)
        arrow(ax, (46, 11), (36, 11), "-|>", 1.5)
        _halves(ax, 11, 0, given, (0, 0), 1)
        for x, text in ((22, "Q: 4 × 4"), (54.5, "head 0: 4 × 2"), (87, "head 1: 4 × 2")):
            write(ax, x, 67, text, LARGE, weight="bold")
        for x, text in ((22, "side by side"), (54.5, "head 0 gives"), (87, "head 1 gives")):
            write(ax, x, 26, text, LARGE, weight="bold")
        write(ax, 22, -4, "then times $W_O$", LARGE)
    return fig


def _halves(
    ax: Axes, x: float, y: float, values: Array, apart: tuple[float, float], decimals: int = 0
) -> None:
    """A table of 4 x 4 numbers as two boxes of 4 x 2, each moved to the right by `apart`."""
    for half, colour in enumerate((BLUE, GREEN)):
        left = x + 11 * half + apart[half]
        box(ax, left, y, 11, 22, colour)
        for i, row in enumerate(values):
            for j in (0, 1):
                number = f"{row[2 * half + j] + 0.0:.{decimals}f}"
                write(ax, left + 2.75 + 5.5 * j, y + 19.25 - 5.5 * i, number, LARGE)


@styled
def two_heads() -> Figure:
    """What 它 gives to each word, and what it gets: one head of 4 features, two heads of 2."""
    query, key, value = X @ W_Q, X @ W_K, X @ W_V
    rows, outputs, names = [], [], []
    for name, part in (("one head", slice(0, 4)), ("head 0", slice(0, 2)), ("head 1", slice(2, 4))):
        width = part.stop - part.start
        shares = softmax(query[IT, part] @ key[:, part].T / np.sqrt(width))
        rows.append(shares)
        outputs.append(numbers(shares @ value[:, part], 2))
        names.append(f"{name}\nD = {width}")
    fig, ax = figures.figure(alt="-", height=2.3)
    _shares(ax, np.array(rows), "", BOTH)
    ax.set_aspect("auto")
    ax.set_yticks(range(3), names)
    ax.tick_params(labeltop=True, labelbottom=False)
    ax.axhline(0.5, color=figures.INK, lw=1)
    right = ax.secondary_yaxis("right")
    # Two numbers a line, so that those of one head stand below the same numbers of head 0.
    pairs = [row.split() for row in outputs]
    lines = ["\n".join(" ".join(row[i : i + 2]) for i in range(0, len(row), 2)) for row in pairs]
    right.set_yticks(range(3), lines)
    right.tick_params(length=0, labelsize=11)
    right.spines[:].set_visible(False)
    ax.text(3.55, -0.56, f"{WORDS[IT]} gets", ha="left", va="bottom", fontsize=11)
    told = "; ".join(
        f"{name.splitlines()[0]}: {numbers(shares, 2)}, and gets {got}"
        for name, shares, got in zip(names, rows, outputs, strict=True)
    )
    return figures.describe(fig, f"{BOTH[IT]} gives to {', '.join(BOTH)}: {told}.")


def _shares(ax: Axes, shares: Array, title: str, names: Sequence[str] = WORDS) -> None:
    """A table of shares with its numbers; nothing is written where nothing is seen."""
    heat_map(ax, 0.7 * shares, names)  # so that the page's own text colour reads on the darkest
    ax.set_title(title, fontsize=11)
    ax.tick_params(labelsize=11)
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share:
                ax.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=11)
