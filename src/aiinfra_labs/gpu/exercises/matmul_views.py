"""What `show` draws of a learner's product of matrices: Unit 3.5.

The first warp's addresses, the bytes that were loaded, a thread's elements, the order of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.gpu.drawings import matmul as drawings

from .block_timeline import BARRIER, Event, maths_in_flight
from .shared_memory_views import Drawing
from .thread_map import TracedLaunch

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def first_warp(traced: TracedLaunch, what: str) -> Drawing:
    """Which elements of a, b and c the first warp touches in one request of each.

    traced: a launch on a [16, 8], b [8, 64] and c [16, 64].
    """
    touched = []
    for position, (name, kind) in enumerate((("a", "load"), ("b", "load"), ("c", "store"))):
        accesses = traced.accesses(kind, position)
        shape = traced.args[position].shape
        elements = accesses[0].elements[0] if accesses else np.empty(0, np.int64)
        elements = elements[elements >= 0]
        sectors = len(np.unique(elements // 8))
        touched.append((name, kind, shape, elements, sectors))
    said = "; ".join(
        f"its {kind} of {name} touches {len(np.unique(e))} elements in {s} sectors"
        for name, kind, _, e, s in touched
    )
    fig, axes = figures.figure(
        alt=f"{what}. The first warp: {said}.",
        height=3.4,
        nrows=2,
        ncols=2,
        gridspec_kw={"width_ratios": (1, 8), "height_ratios": (1, 2)},
    )
    axes[0][0].set_axis_off()
    places = {"a": axes[1][0], "b": axes[0][1], "c": axes[1][1]}
    for name, kind, shape, elements, sectors in touched:
        _elements(places[name], shape, elements)
        places[name].set_title(f"{name}: {sectors} sectors a {kind}", fontsize=8)
    fig.suptitle(f"{what}\nwhat the first warp touches at a time", fontsize=9)
    return Drawing(fig)


def _elements(ax: Axes, shape: tuple[int, int], elements: np.ndarray) -> None:
    """A matrix as a frame, with the elements that are touched as filled cells."""
    from matplotlib.patches import Rectangle

    rows, columns = shape
    for element in np.unique(elements).tolist():
        row, column = divmod(element, columns)
        ax.add_patch(Rectangle((column, row), 1, 1, color=figures.PALETTE["orange"]))
    ax.set(xlim=(0, columns), ylim=(rows, 0), xticks=[0, columns], yticks=[0, rows])
    ax.grid(False)
    ax.set_aspect("auto")
    for side in ax.spines.values():
        side.set_visible(True)


def traffic(rows: Sequence[tuple[str, int]], what: str, report: Any) -> Drawing:
    """Bytes from global memory: of the naive kernel, of the learner's, and as many as suffice."""
    said = "; ".join(f"{name} {value:,}" for name, value in rows)
    conflicts = f"{report.bank_conflicts:,} bank conflicts"
    alt = f"{what}, bytes that threads ask global memory for: {said}. {conflicts}."
    fig, ax = figures.figure(alt=alt, height=1.7)
    colours = {"yours": "orange", "enough": "green"}
    for k, (name, value) in enumerate(rows):
        ax.barh(k, value, 0.6, color=figures.PALETTE[colours.get(name, "blue")])
        ax.text(value, k, f" {value:,}", va="center")
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.set_xlim(0, 1.35 * max(value for _, value in rows))
    ax.set_xlabel("bytes that threads ask global memory for")
    ax.set_xticks([])
    ax.set_title(f"{what}; {conflicts}", fontsize=9)
    ax.invert_yaxis()
    return Drawing(fig)


def thread_tiles(traced: TracedLaunch, each: float, conflicts: int, most: float) -> Drawing:
    """Which elements of c [64, 64] the threads 0, 1 and 16 of a block write.

    each: wavefronts for each multiply-add of a warp; most: as many as are allowed.
    """
    from matplotlib.patches import Rectangle

    writer = traced.thread_of("store", 2)
    told = f"{each:.3g} wavefronts for each multiply-add, at most {most} allowed"
    fig, ax = figures.figure(
        alt=f"Elements of c that the threads 0, 1 and 16 write: "
        f"{', '.join(str(int((writer == t).sum())) for t in (0, 1, 16))}. {told}; "
        f"{conflicts:,} bank conflicts.",
        width=4.6,
        height=4.6,
    )
    for thread, colour in ((0, "orange"), (1, "blue"), (16, "green")):
        for k, (row, column) in enumerate(np.argwhere(writer == thread).tolist()):
            name = f"thread {thread}" if k == 0 else None
            patch = Rectangle((column, row), 1, 1, color=figures.PALETTE[colour], label=name)
            ax.add_patch(patch)
    ax.set(xlim=(0, 64), ylim=(64, 0), xticks=range(0, 65, 16), yticks=range(0, 65, 16))
    ax.set_aspect("equal")
    ax.set_xlabel("column of c")
    ax.set_ylabel("row of c")
    if ax.patches:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8)
    ax.set_title(f"{told}\n{conflicts:,} bank conflicts", fontsize=9)
    return Drawing(fig)


def steps(events: Sequence[Event], what: str) -> Drawing:
    """The order of loads, stores and barriers, and how much maths hides each load."""
    if not events:
        raise CourseError(
            "the kernel touches no memory: there is nothing to draw",
            "its steps are what it loads, stores and waits for",
            "begin with your kernel of 3.5.b",
        )
    barriers = sum(event.what == BARRIER for event in events)
    hidden = maths_in_flight(events)
    least = f"{min(hidden)} shared loads hide a load" if hidden else "one tile only"
    title = f"{what}, {barriers} barriers; {least}"
    return Drawing(drawings.steps([(title, [event.what for event in events])], f"{title}."))
