"""The drawings of unit 3.5: outer products, tiles, the lanes of a warp, the order of a step.

Unit 3.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .pieces import box, drawing, frame, need, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

READ, BIG = 11, 13  # points: on a phone, 11 are 9 pixels
MOST_GROUPS = 11  # of a row of steps; what follows repeats
GLOBAL_LOAD, SHARED_LOAD, SHARED_STORE = "global load", "shared load", "shared store"
# what a group of events is called, its colour, and how wide it is drawn
_LOOKS = {
    GLOBAL_LOAD: ("load", "C1", 9.0),
    SHARED_STORE: ("fill", "C2", 8.0),
    SHARED_LOAD: ("maths", "C0", 15.0),
    "global store": ("store", "C3", 10.0),
}


def outer(of_a: Sequence[float] = (2, 1, 3, 5), of_b: Sequence[float] = (4, 1, 2, 3)) -> Figure:
    """One element of C and a tile of 4 x 4, for one k: what is loaded, and what comes of it."""
    need(
        len(of_a) == len(of_b) == 4,
        f"{len(of_a)} values of A and {len(of_b)} of B",
        "a tile of 4 x 4 is drawn",
        "four of each",
    )
    listed = [", ".join(f"{value:g}" for value in values) for values in (of_a, of_b)]
    alt = (
        f"For one k. One element of C takes 2 loads for 1 product: {of_a[0]:g} times {of_b[0]:g} "
        f"is {of_a[0] * of_b[0]:g}. A tile of 4 by 4 elements takes 8 loads for 16 products: each "
        f"of {listed[0]} from A times each of {listed[1]} from B."
    )
    with drawing(alt, -48, 5) as (fig, ax):
        for at, side, text in ((0, 1, "2 loads, 1 product"), (35, 4, "8 loads, 16 products")):
            write(ax, at, 2, f"{side} x {side}", BIG, ha="left", weight="bold")
            write(ax, at, -3.5, text, READ, ha="left")
            for j in range(side):
                box(ax, at + 14 + 13 * j, -15, 12, 6.8, "C1", f"{of_b[j]:g}", BIG)
            for i in range(side):
                y = -24 - 8 * i
                box(ax, at, y, 12, 6.8, "C0", f"{of_a[i]:g}", BIG)
                for j in range(side):
                    box(ax, at + 14 + 13 * j, y, 12, 6.8, "C2", f"{of_a[i] * of_b[j]:g}", BIG)
            write(ax, at + 7, -10.2, "B →", READ)
            write(ax, at + 6, -15.2, "A ↓", READ)
    return fig


def tiles(
    side: int, block_m: int, block_n: int, block_k: int, thread_m: int = 1, thread_n: int = 1
) -> Figure:
    """A, B and C with one block's tiles in them, and a thread's elements in the block's, to scale.

    Lengths in elements; side: of the three matrices. The block is the second one down and across.
    """
    need(
        2 * max(block_m, block_n) <= side and block_k <= side,
        f"a tile of {block_m} x {block_n} in matrices of {side} x {side}",
        "the second block down and across is drawn",
        "matrices of at least two tiles a side",
    )
    alt = (
        f"To scale: C equals A times B, all {side} by {side}. One block computes a tile of "
        f"{block_m} by {block_n} elements of C. For it, the block goes along K in steps of "
        f"{block_k}: at each step it loads {block_m} by {block_k} elements of A, from the rows of "
        f"its tile, and {block_k} by {block_n} elements of B, from its columns. Within the tile "
        f"one thread computes {thread_m} by {thread_n} elements."
    )
    size = 22.0
    unit = size / side
    low, right = 0.0, 27.0  # the lower edge of A and C, the left edge of B and C
    high = low + size + 5  # the lower edge of B
    down = low + size - 2 * block_m * unit  # the lower edge of the block's rows
    left = right + block_n * unit
    with drawing(alt, -1, high + size + 1) as (fig, ax):
        for name, x, y in (("A", 0, low), ("B", right, high), ("C", right, low)):
            frame(ax, x, y, size, size, "-")
            write(ax, x + 4, y + 4, name, BIG, weight="bold")
        box(ax, 0, down, size, block_m * unit, "C0")
        box(ax, left, high, block_n * unit, size, "C1")
        box(ax, left, down, block_n * unit, block_m * unit, "C2")
        step = 2 * block_k  # the step that is drawn: the third
        box(ax, step * unit, down, block_k * unit, block_m * unit, "C4")
        box(ax, left, high + size - (step + block_k) * unit, block_n * unit, block_k * unit, "C4")
        thread = left + block_n * unit / 2, down + block_m * unit / 2
        box(ax, *thread, thread_n * unit, thread_m * unit, "C4")
        lines = (
            "red: a block loads",
            "in a step along K",
            f"{block_m} x {block_k} of A →",
            f"{block_k} x {block_n} of B ↓",
            "green: it computes",
            f"{block_m} x {block_n} of C",
            f"(red in it: a thread's {thread_m} x {thread_n})",
            f"matrices: {side} x {side}",
        )
        for place, text in enumerate(lines):
            write(ax, 54, high + size - 3 - 6 * place, text, READ, ha="left")
    return fig


def warps(lanes: Sequence[tuple[int, int]], rows: int, columns: int) -> Figure:
    """A block's tile of 128 x 128 among 8 warps, and the lanes on one quarter of a warp's part.

    lanes: (row, column) of the first element of each of 32 lanes, in the warp's part. rows,
    columns: of that part; each lane has 4 x 4 elements in each quarter of it.
    """
    need(len(lanes) == 32, f"{len(lanes)} lanes", "a warp has 32", "one place for each")
    pairs = sorted(lane for lane, place in enumerate(lanes) if place[0] == lanes[0][0])
    alt = (
        f"A block's tile of 128 by 128 elements is cut into 8 parts of {rows} by {columns}, one a "
        f"warp. In each quarter of a warp's part, {rows // 2} by {columns // 2}, the 32 lanes lie "
        f"8 down and 4 across, each with 4 by 4 elements. Lanes "
        f"{', '.join(map(str, pairs))} share the first rows; neighbouring numbers, such as 0 and "
        f"1, lie side by side."
    )
    with drawing(alt, -72, 5) as (fig, ax):
        size = 32.0
        unit = size / 128
        write(ax, 0, 2, "the block: 8 warps", BIG, ha="left", weight="bold")
        for warp in range(8):
            x, y = warp % 4 * columns * unit, -3 - (warp // 4 + 1) * rows * unit
            box(ax, x, y, columns * unit - 0.6, rows * unit - 0.6, "C0" if not warp else None)
            write(ax, x + columns * unit / 2 - 0.3, y + 3, f"{warp}", READ)
        quarter = columns // 2 * unit, rows // 2 * unit
        box(ax, 0, -3.6 - quarter[1], quarter[0], quarter[1], "C2")
        for place, text in enumerate(
            (
                f"a warp has {rows} x {columns},",
                f"in quarters of {rows // 2} x {columns // 2}",
                "(green). A lane has 4 x 4",
                "elements in each quarter:",
                "8 x 8 in all.",
            )
        ):
            write(ax, 40, -6 - 6 * place, text, READ, ha="left")
        write(ax, 0, -40, "a quarter: 32 lanes", BIG, ha="left", weight="bold")
        for lane, (row, column) in enumerate(lanes):
            x, y = column / 4 * 12, -43 - (row / 4 + 1) * 3.6
            box(ax, x, y, 11.4, 3.3, {0: "C2", 1: "C0", 2: "C1"}.get(lane), f"{lane}", READ)
        for place, text in enumerate(
            (
                "A box is 4 x 4 elements.",
                "0 and 1: the same rows,",
                "one address in A's tile.",
                "0 and 2: same columns,",
                "one address in B's tile.",
            )
        ):
            write(ax, 52, -45 - 5.7 * place, text, READ, ha="left")
    return fig


def instructions(costs: Mapping[str, float], most: float = 8) -> Figure:
    """What a kernel runs for each multiply-add: the multiply-add itself, and the others.

    costs: instructions for each multiply-add, by the kernel's name. A bar ends at `most`.
    """
    need(
        all(cost >= 1 for cost in costs.values()) and len(costs) > 0,
        f"instructions for each multiply-add: {', '.join(f'{c:g}' for c in costs.values())}",
        "the multiply-add is one of them",
        "count it, too",
    )
    told = ", ".join(f"{name} {cost:.2f}" for name, cost in costs.items())
    alt = f"Instructions for each multiply-add, of which one is the multiply-add itself: {told}."
    unit = 50 / most
    with drawing(alt, -7 * len(costs) - 8, 7) as (fig, ax):
        write(ax, 0, 3.6, "instructions for each multiply-add", BIG, ha="left", weight="bold")
        for place, (name, cost) in enumerate(costs.items()):
            y = -7 * place - 6
            write(ax, 33, y + 2.7, name, READ, ha="right")
            box(ax, 35, y, unit, 5.4, "C0")
            rest = min(cost, most) - 1
            box(ax, 35 + unit, y, rest * unit, 5.4, "C1")
            text = f"{cost:.2f}" if cost <= most else f"… {cost:.0f}"
            write(ax, 36 + (1 + rest) * unit, y + 2.7, text, BIG, ha="left")
        y = -7 * len(costs) - 6.5
        box(ax, 20, y, 4, 4, "C0")
        write(ax, 26, y + 2, "multiply-add", READ, ha="left")
        box(ax, 56, y, 4, 4, "C1")
        write(ax, 62, y + 2, "other instructions", READ, ha="left")
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
            write(ax, 0, y + 20.5, name, BIG, ha="left", weight="bold")
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
        box(ax, x, y, width, 7, colour, name, READ)
        write(ax, x + width / 2, y - 2.6, f"x {times}", READ)
        if what == GLOBAL_LOAD:
            asked = x + width / 2
        elif what == SHARED_STORE and asked is not None:
            _arc(ax, asked, x + width / 2, y + 7.3)
            asked = None
        x += width + 0.6
    if x < 97:
        write(ax, x + 2.2, y + 3, "…", READ)


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
