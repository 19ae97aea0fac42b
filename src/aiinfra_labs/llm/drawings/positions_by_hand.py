"""The figures of unit 1.2 that hold numbers: two orders of three words, two hands of a clock.

Every number is computed here, from those of `three_words`. Unit 1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import LARGE, box, drawing, write
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.three_words import (
    HOUR,
    KEY,
    QUERY,
    SPEEDS,
    TABLE,
    WORDS,
    Array,
    added,
    rows,
    turned,
)

from . import four_words
from .attention import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORDERS = ("狗咬人", "人咬狗")
ASKS = "狗"


def numbers(row: Array, decimals: int) -> str:
    """A vector as text: "2  0  0  1"."""
    return four_words.numbers(row, decimals).replace("-", "−")


def english(words: str) -> str:
    """The words one by one: "dog bites man"."""
    return " ".join(WORDS[word] for word in words)


def asked(words: str, with_positions: bool) -> tuple[Array, Array, Array, Array]:
    """What 狗 meets in a sentence: rows [T, C], scores [T], shares [T], and its result [C]."""
    x = rows(words) + (added(len(words)) if with_positions else 0.0)
    scores = x @ x[words.index(ASKS)] / np.sqrt(x.shape[1])
    shares = four_words.softmax(scores)
    return x, scores, shares, shares @ x


def two_orders(with_positions: bool) -> Figure:
    """The same three words in two orders: what 狗 (dog) gets from attention."""
    decimals = 2 if with_positions else 0
    told = []
    for words in ORDERS:
        x, scores, shares, result = asked(words, with_positions)
        each = "; ".join(
            f"{word} {WORDS[word]}: {numbers(row, decimals)}, score {s:.2f}, share {share:.2f}"
            for word, row, s, share in zip(words, x, scores, shares, strict=True)
        )
        told.append(f"{words} ({english(words)}): {each}; 狗 gets {numbers(result, 2)}.")
    what = "With a position added to each word" if with_positions else "Without positions"
    alt = f"{what}, 狗 (dog) asks in two sentences. {' '.join(told)}"
    with drawing(alt, 0, 83) as (fig, ax):
        for words, bottom in zip(ORDERS, (43, 0), strict=True):
            _sentence(ax, bottom, words, with_positions, decimals)
    return fig


def _sentence(ax: Axes, bottom: float, words: str, with_positions: bool, decimals: int) -> None:
    x, scores, shares, result = asked(words, with_positions)
    write(ax, 0, bottom + 37, f"{words}  {english(words)}", LARGE, ha="left", weight="bold")
    head = "row + position" if with_positions else "row"
    for where, name in ((70, "score"), (90, "share")):
        write(ax, where, bottom + 37, name, LARGE)
    write(ax, 62, bottom + 37, head, LARGE, ha="right")
    for i, word in enumerate(words):
        y = bottom + 27 - 8 * i
        asking = word == ASKS
        name = f"{i}: {word} {WORDS[word]}" if with_positions else f"{word} {WORDS[word]}"
        write(ax, 0, y + 3.4, name, LARGE, ha="left", weight="bold" if asking else "normal")
        colour = BLUE if asking else ORANGE
        box(ax, 20, y, 42, 6.8, colour, numbers(x[i], decimals), LARGE)
        write(ax, 70, y + 3.4, f"{scores[i]:.2f}", LARGE)
        _share(ax, 77, y + 3.4, 13, shares[i])
    write(ax, 18, bottom + 4, "狗 gets", LARGE, ha="right")
    box(ax, 20, bottom + 0.5, 42, 7, GREEN, numbers(result, 2), LARGE)
    write(ax, 65, bottom + 4, "= shares × rows", LARGE, ha="left")


def _share(ax: Axes, x: float, y: float, width: float, share: float) -> None:
    """A share as a filled part of a bar, and its number to the right."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y - 1.4), width, 2.8, fill=False, linewidth=0.8))
    ax.add_patch(Rectangle((x, y - 1.4), width * share, 2.8, facecolor=BLUE, edgecolor="none"))
    write(ax, x + width + 1.5, y, f"{share:.2f}", LARGE, ha="left")


@styled
def dials(at: Sequence[tuple[int, int]] = ((0, 0), (3, 1), (103, 101))) -> Figure:
    """A query and a key as two hands of a clock, at several pairs of positions."""
    fig, axes = figures.figure(alt="-", height=2.75, ncols=len(at), squeeze=False)
    told = []
    for ax, (m, n) in zip(axes[0], at, strict=True):
        query, key = turned(QUERY, m, HOUR), turned(KEY, n, HOUR)
        _dial(ax, query, key)
        ax.set_title(f"query at {m}\nkey at {n}", fontsize=10)
        score = f"{query @ key:.2f}"
        ax.text(
            0,
            -2.75,
            f"q  {numbers(query, 2)}\nk  {numbers(key, 2)}",
            fontsize=10,
            ha="center",
            va="top",
        )
        ax.text(0, -4.35, f"score {score}", fontsize=11, ha="center", va="top", weight="bold")
        told.append(
            f"query at {m} is {numbers(query, 2)}, key at {n} is {numbers(key, 2)}, score {score}"
        )
    hours = f"Two hands on a clock, turned by 30 degrees a position. {'; '.join(told)}."
    return figures.describe(fig, hours)


def _dial(ax: Axes, query: Array, key: Array) -> None:
    from matplotlib.patches import Circle

    ax.add_patch(Circle((0, 0), 2.45, fill=False, lw=1))
    for hour in range(12):
        angle = hour * np.pi / 6
        ends = np.array([[2.25], [2.45]]) * [np.cos(angle), np.sin(angle)]
        ax.plot(*ends.T, color=figures.INK, lw=1)
    for vector, colour, name in ((query, "C0", "q"), (key, "C1", "k")):
        look = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", vector, (0, 0), arrowprops=look)
        side = np.array([-vector[1], vector[0]]) / np.linalg.norm(vector)
        other = key if name == "q" else query
        side *= -0.42 * np.sign(side @ other)
        ax.text(*(0.62 * vector + side), name, fontsize=11, ha="center", va="center", color=colour)
    ax.set(xlim=(-2.6, 2.6), ylim=(-5.2, 2.6), aspect="equal")
    ax.axis("off")


def every_place(way: str, count: int = 5) -> Array:
    """Scores of 狗's row as a query with 人's as a key, at each of `count` positions: [m, n].

    way: "added" or "turned". Not divided by anything.
    """
    query, key = TABLE[0], TABLE[2]
    if way == "added":
        where = added(count)
        return (query + where) @ (key + where).T
    queries, keys = (np.array([turned(x, p, SPEEDS) for p in range(count)]) for x in (query, key))
    return queries @ keys.T


@styled
def places(way: str) -> Figure:
    """The score of one query and one key at each pair of positions, with its numbers."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    scores = every_place(way)
    told = "; ".join(numbers(row, 2) for row in scores)
    fig, ax = figures.figure(
        alt=f"Scores of one query and one key, positions {way}: a row for each position of the "
        f"query, a column for each of the key, 0 to {len(scores) - 1}. {told}.",
        width=3.6,
        height=3.0,
    )
    for m, row in enumerate(scores):
        for n, score in enumerate(row):
            if m - n == 2:
                edge = {"facecolor": to_rgba("C0", 0.26), "edgecolor": "C0"}
                ax.add_patch(Rectangle((n - 0.5, m - 0.5), 1, 1, **edge))
            ax.text(n, m, numbers(np.array([score]), 2), ha="center", va="center", fontsize=11)
    ax.set(xlim=(-0.5, len(row) - 0.5), ylim=(len(scores) - 0.5, -0.5))
    ax.set(xticks=range(len(row)), yticks=range(len(scores)), title=way)
    ax.set(xlabel="position of the key", ylabel="position of the query")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return fig
