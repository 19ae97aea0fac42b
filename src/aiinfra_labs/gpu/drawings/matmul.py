"""The drawings of unit 3.5: the tiles of a product, and the order of a step. Unit 3.5."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .pieces import NORMAL, SMALL, arrow, box, drawing, frame, need, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GROUPS = 12  # of a row of steps; what follows repeats
GLOBAL_LOAD, SHARED_LOAD, SHARED_STORE = "global load", "shared load", "shared store"
# what a group of events is called, its colour, and how wide it is drawn
_LOOKS = {
    GLOBAL_LOAD: ("load", "C1", 7.0),
    SHARED_STORE: ("fill", "C2", 7.0),
    SHARED_LOAD: ("maths", "C0", 15.0),
    "global store": ("store", "C3", 7.0),
}


def tiles(block_m: int, block_n: int, block_k: int, thread_m: int, thread_n: int) -> Figure:
    """A, B and C with one block's tiles in them, and one thread's elements in the block's.

    Lengths in elements. The matrices are drawn as four tiles wide; a step along K is drawn wider
    than it is.
    """
    alt = (
        f"C equals A times B. One block computes a tile of {block_m} by {block_n} elements of C. "
        f"For it, the block goes along K in steps of {block_k}: at each step it loads {block_m} by "
        f"{block_k} elements of A, from the rows of its tile, and {block_k} by {block_n} elements "
        f"of B, from its columns. Within the tile one thread computes {thread_m} by {thread_n} "
        f"elements, from {thread_m} values of A and {thread_n} of B for each k."
    )
    with drawing(alt, -1, 82) as (fig, ax):
        for name, x, y in (("A", 0, 0), ("B", 46, 42), ("C", 46, 0)):
            frame(ax, x, y, 40, 36, "-")
            write(ax, x + 3, y + 3, name, NORMAL)
        box(ax, 0, 14, 40, 12, "C0")  # the rows of A that the block needs
        box(ax, 12, 14, 8, 12, "C1")
        box(ax, 58, 42, 14, 36, "C0")
        box(ax, 58, 58, 14, 8, "C1")
        box(ax, 58, 14, 14, 12, "C2")
        box(ax, 62, 18, 4, 4, "C3")
        write(ax, 16, 29, f"{block_m} x {block_k}", SMALL)
        write(ax, 20, 10, "a step along K →", SMALL)
        write(ax, 65, 81, f"{block_k} x {block_n}", SMALL)
        write(ax, 79, 62, "a step ↓", SMALL)
        write(ax, 65, 10, f"block: {block_m} x {block_n}", SMALL)
        write(ax, 88.5, 24, f"thread:\n{thread_m} x {thread_n}", SMALL, ha="left")
        arrow(ax, (88, 23), (66.5, 20.5), "-|>", 1.0)
    return fig


def steps(rows: Sequence[tuple[str, Sequence[str]]], said: str) -> Figure:
    """What blocks do, in order: loads, filling the tile, maths, and barriers as bars.

    rows: the name of a kernel and its events, as `block_timeline.Event.what` names them. An arc
    leads from a load to where its values are used; what lies under it hides the wait. said: what
    the drawing shows, for who cannot see it.
    """
    need(len(rows) > 0, "no kernel to draw", "a row is a kernel's events", "give one or more rows")
    high = 25
    with drawing(said, -high * len(rows), -1) as (fig, ax):
        for place, (name, events) in enumerate(rows):
            y = -high * (place + 1)
            write(ax, 0, y + 20.5, name, NORMAL, ha="left", weight="bold")
            _draw_row(ax, y + 4, [(what, len(list(found))) for what, found in groupby(events)])
    return fig


def _draw_row(ax: Axes, y: float, groups: list[tuple[str, int]]) -> None:
    x, asked = 0.0, None  # where the last load ended that nothing has used yet
    for what, times in groups[:MOST_GROUPS]:
        if x > 93:
            break
        if what == "barrier":
            ax.plot([x + 1, x + 1], [y - 2.5, y + 9.5], color="C4", lw=2.2, ls="-")
            x += 2
            continue
        name, colour, width = _LOOKS[what]
        box(ax, x, y, width, 7, colour, name, SMALL)
        write(ax, x + width / 2, y - 2.6, f"x {times}", SMALL)
        if what == GLOBAL_LOAD:
            asked = x + width / 2
        elif what == SHARED_STORE and asked is not None:
            _arc(ax, asked, x + width / 2, y + 7.3)
            asked = None
        x += width + 0.6
    if x < 97:
        write(ax, x + 2.2, y + 3, "…", NORMAL)


def _arc(ax: Axes, start: float, end: float, y: float) -> None:
    """From a load to the store that needs its values."""
    from matplotlib.patches import FancyArrowPatch

    from .pieces import ink

    bend = -0.5 if end - start < 12 else -0.22
    ax.add_patch(
        FancyArrowPatch(
            (start, y),
            (end, y),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=9,
            lw=1.2,
            color=ink(),
        )
    )
