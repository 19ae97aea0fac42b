"""What `show` draws: which thread of the learner's launch touched which element. Unit 3.2."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .thread_map import TracedLaunch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 32  # elements in a row of the drawing: as many as a warp has threads
# Okabe and Ito's palette, told apart with every kind of colour vision; lightened to carry text.
BLOCKS = ("#9fd3f0", "#f7cf82", "#8fd6bf", "#e6b3d1", "#f5e98a", "#b9c7f2")
LEAST = 760  # pixels across in which the numbers in the cells can still be read
NOBODY = "#ffffff"
INK = "#1a1a1a"
_MARKS = "hatched: nobody; thick frame: written again"


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows in words: its alt text in a notebook, its text in a terminal."""

    figure: Figure
    alt: str
    dpi: int = 100

    def _repr_html_(self) -> str:
        png = io.BytesIO()
        self.figure.savefig(png, format="png", dpi=self.dpi, facecolor="white", bbox_inches="tight")
        data = base64.b64encode(png.getvalue()).decode()
        # Its own paper, in dark themes, too; where the page is narrow, it is moved, not shrunk.
        least = min(round(self.figure.get_figwidth() * self.dpi), LEAST)
        look = f"min-width:{least}px;max-width:100%;background:#fff;border-radius:6px"
        source = f"data:image/png;base64,{data}"
        picture = f'<img alt="{escape(self.alt)}" style="{look}" src="{source}">'
        return f'<div style="overflow-x:auto" tabindex="0">{picture}</div>'

    def __repr__(self) -> str:
        return self.alt


def axes(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes in a row, in inches. It belongs to no window, and is not shown."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def draw_line(ax: Axes, traced: TracedLaunch, position: int) -> str:
    """A 1-d array in rows of 32 elements: colour is the block that wrote, number the thread.

    Returns what the drawing shows, in one sentence.
    """
    writer, times = traced.thread_of("store", position), traced.times("store", position)
    rows = -(-writer.size // ROW)
    cells = np.full((2, rows * ROW), -2)  # -2: no element there
    cells[0, : writer.size], cells[1, : writer.size] = writer, times
    _draw_cells(ax, *cells.reshape(2, rows, ROW), traced.threads_per_block)
    ax.set_yticks(range(rows), [f"{row * ROW}" for row in range(rows)])
    ax.set_ylabel("element")
    ax.set_xticks(range(0, ROW, 8))
    ax.set_xlabel(f"number: the thread that wrote it; colour: its block; {_MARKS}")
    return _summary(times)


def draw_plane(ax: Axes, traced: TracedLaunch, position: int) -> str:
    """A 2-d array: colour is the block that wrote the element, number the thread in its block."""
    writer, times = traced.thread_of("store", position), traced.times("store", position)
    in_block = np.where(writer >= 0, writer % traced.threads_per_block, writer)
    _draw_cells(ax, writer, times, traced.threads_per_block, in_block)
    ax.set_yticks(range(writer.shape[0]))
    ax.set_ylabel("row (y)")
    ax.set_xlabel(f"column (x)\n{_MARKS}")
    return _summary(times)


def draw_numbers(ax: Axes, values: np.ndarray, what: str) -> None:
    """A 2-d array of small numbers, each in its cell and by its shade."""
    ax.imshow(values, cmap="Blues", vmin=0, vmax=2 * max(int(values.max()), 1))
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, value, ha="center", va="center", fontsize=8, color=INK)
    ax.set_title(what, fontsize=10)
    ax.set_xlabel("column (x)")
    ax.set_ylabel("row (y)")


def draw_image(ax: Axes, pixels: np.ndarray, title: str) -> None:
    """A photograph; pixels that nobody wrote (NaN) are drawn in orange."""
    if pixels.ndim == 2:
        import matplotlib

        colours = matplotlib.colormaps["gray"].with_extremes(bad="#d55e00")
        ax.imshow(np.ma.masked_invalid(pixels), cmap=colours, vmin=0, vmax=255)
    else:
        ax.imshow(pixels)
    ax.set_title(title, fontsize=10)
    ax.axis("off")


def draw_bars(ax: Axes, rows: list[tuple[str, int, int]]) -> None:
    """For each row, its name, what the learner's code needed and what is enough, in bytes."""
    for k, (_, used, enough) in enumerate(rows):
        ax.barh(k - 0.2, used, 0.36, color=BLOCKS[1], edgecolor=INK, label="yours" * (k == 0))
        ax.barh(k + 0.2, enough, 0.36, color=BLOCKS[0], edgecolor=INK, label="enough" * (k == 0))
        ax.text(used, k - 0.2, f" {used:,}", va="center", fontsize=9)
        ax.text(enough, k + 0.2, f" {enough:,}", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.set_xlim(0, 1.5 * max(max(row[1:]) for row in rows) or 1)
    ax.set_xlabel("bytes copied")
    ax.invert_yaxis()
    ax.legend(loc="center right", fontsize=9)


def _draw_cells(
    ax: Axes, writer: np.ndarray, times: np.ndarray, threads_per_block: int, number: Any = None
) -> None:
    """One cell an element. writer: its thread, -1 for nobody, -2 where there is no element."""
    number = writer if number is None else number
    size = 7 if writer.shape[1] > 20 else 8
    for (row, column), thread in np.ndenumerate(writer):
        if thread == -2:
            continue
        colour = NOBODY if thread < 0 else BLOCKS[thread // threads_per_block % len(BLOCKS)]
        again = times[row, column] > 1
        cell = _cell(column, row, colour, again)
        cell.set_hatch("////" if thread < 0 else None)
        ax.add_patch(cell)
        if thread >= 0:
            shown = {"fontsize": size, "weight": "bold"} if again else {"fontsize": size}
            ax.text(column, row, number[row, column], ha="center", va="center", **shown)
    ax.set_xlim(-0.6, writer.shape[1] - 0.4)
    ax.set_ylim(writer.shape[0] - 0.4, -0.6)
    ax.set_aspect("equal")
    ax.tick_params(length=0, labelsize=8)
    for side in ax.spines.values():
        side.set_visible(False)


def _cell(column: int, row: int, colour: str, framed: bool) -> Any:
    from matplotlib.patches import Rectangle

    side = 0.84 if framed else 1.0  # a thick frame stays inside its cell
    corner = (column - side / 2, row - side / 2)
    edge, width = ("#b03a00", 2.0) if framed else ("#888888", 0.5)
    return Rectangle(corner, side, side, facecolor=colour, edgecolor=edge, lw=width)


def _summary(times: np.ndarray) -> str:
    once, never, often = ((times == 1).sum(), (times == 0).sum(), (times > 1).sum())
    return f"{once:,} of {times.size:,} written once, {never:,} never, {often:,} more than once"
