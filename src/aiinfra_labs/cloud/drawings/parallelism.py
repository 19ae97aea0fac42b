"""The drawings of unit 4.6: rings, who holds what, pipelines as time charts, bytes and memory.

Each returns a matplotlib figure with its alt text, in the course's style:

    from aiinfra_labs.course import figures
    figures.show(drawings.pipeline(timeline))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aiinfra_labs.cloud.serving.parallel.schedules import PipelineTimeline
from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import SMALL, arrow, box, drawing, write
from aiinfra_labs.course.figures import PALETTE, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HATCHES = ("", "//", "..", "xx")  # so that no part is told by its colour alone


# --- a ring ---------------------------------------------------------------------------------------


def ring(size: int = 4) -> Figure:
    """Who holds the sum of which piece, before and after each step of a ring all-reduce."""
    steps = 2 * (size - 1)
    row, width = 11, 100 / (steps + 1) - 2.2
    top = row * size + 5
    alt = (
        f"A ring all-reduce of {size} ranks in {steps} steps. Each rank's tensor is cut into "
        f"{size} pieces. In the first {size - 1} steps a piece is sent to the next rank and added "
        f"there, until each rank has one complete sum; in the other {size - 1} the complete pieces "
        "are passed on, until all have all."
    )
    have = [[1 for _ in range(size)] for _ in range(size)]  # ranks summed in [rank][piece]
    with drawing(alt, 0, top) as (fig, ax):
        for step in range(steps + 1):
            x = step * 100 / (steps + 1) + 1.1
            write(ax, x + width / 2, top - 2, "start" if not step else f"step {step}", SMALL)
            for rank in range(size):
                y = top - 5 - row * (rank + 1) + 1
                for piece in range(size):
                    _piece(ax, x + piece * width / size, y, width / size, have[rank][piece], size)
            if step < steps:
                have = _next(have, step, size)
        for rank in range(size):
            write(ax, 0, top - 5 - row * (rank + 1) + 8.4, f"rank {rank}", SMALL, ha="left")
    return fig


def _piece(ax: Axes, x: float, y: float, width: float, summed: int, size: int) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    colour = PALETTE["green"] if summed == size else PALETTE["blue"]
    alpha = 0.85 if summed == size else 0.12 + 0.5 * (summed - 1) / max(1, size - 1)
    look = {"facecolor": to_rgba(colour, alpha), "edgecolor": colour, "linewidth": 0.8}
    ax.add_patch(Rectangle((x, y), width * 0.9, 5.4, **look))
    more = {"color": figures.ink_on(colour)} if summed == size else {}
    write(ax, x + width * 0.45, y + 2.6, summed, 7.5, **more)


def _next(have: list[list[int]], step: int, size: int) -> list[list[int]]:
    """After one more step: the pieces that were sent have been added, or copied."""
    after = [row[:] for row in have]
    for rank in range(size):
        before = (rank - 1) % size
        if step < size - 1:
            piece = (before - step - 1) % size
            after[rank][piece] = have[rank][piece] + have[before][piece]
        else:
            piece = (before - (step - size + 1)) % size
            after[rank][piece] = have[before][piece]
    return after


# --- who holds what -------------------------------------------------------------------------------


def modes() -> Figure:
    """Four ranks and one model of four layers, divided in four ways."""
    alt = (
        "One model of four layers on four ranks, in four ways. Data: each rank has the whole "
        "model, and another part of the batch. Tensor: each has a quarter of every layer, and the "
        "whole batch. Pipeline: each has one layer, and the batch passes through. Mixed: two "
        "stages of two layers, each of these divided between two ranks."
    )
    names = {"data": "whole model each", "tensor": "a part of each layer"}
    names |= {"pipeline": "some layers each", "mixed": "tensor 2 x pipeline 2"}
    with drawing(alt, 0, 62) as (fig, ax):
        for column, (mode, said) in enumerate(names.items()):
            x0 = 5 + column * 24.3
            write(ax, x0 + 11, 59, mode, 10.5)
            write(ax, x0 + 11, 54.5, said, 8)
            for layer in range(4):
                for rank in range(4):
                    x, y = x0 + rank * 5.4, 41 - layer * 11
                    share = _share(mode, layer, rank)
                    height = 9 * share
                    if share:
                        top = _offset(mode, rank) * 9
                        box(ax, x, y + 9 - top - height, 4.8, height, _colour(rank))
            for rank in range(4):
                write(ax, x0 + rank * 5.4 + 2.4, 4, rank, 8.5)
        write(ax, 0, 0.2, "rank", 8, ha="left")
        write(ax, 0, 53, "layer", 8, ha="left")
        for layer in range(4):
            write(ax, 2, 45.5 - layer * 11, layer, 8)
    return fig


def _share(mode: str, layer: int, rank: int) -> float:
    """How much of a layer a rank holds."""
    if mode == "data":
        return 1.0
    if mode == "tensor":
        return 0.25
    if mode == "pipeline":
        return 1.0 if layer == rank else 0.0
    return 0.5 if layer // 2 == rank // 2 else 0.0


def _offset(mode: str, rank: int) -> float:
    return {"tensor": 0.25 * rank, "mixed": 0.5 * (rank % 2)}.get(mode, 0.0)


def _colour(rank: int) -> str:
    return [PALETTE[name] for name in ("blue", "orange", "green", "purple")][rank]


def block(size: int = 2) -> Figure:
    """A block's four matrices on two ranks, and where the ranks speak."""
    alt = (
        "A block on two ranks. Each rank has half of the rows of qkv_proj, attention over half of "
        "the heads, and half of the columns of o_proj; their outputs are summed by an all-reduce. "
        "Then each has half of gate_up_proj's rows and half of down_proj's columns, and another "
        "all-reduce follows."
    )
    with drawing(alt, 0, 33) as (fig, ax):
        stations = (
            ("x", 3, 8, None),
            ("qkv\nrows", 15, 10, 0),
            ("heads", 28, 10, 0),
            ("o\ncolumns", 41, 10, 0),
            ("gate, up\nrows", 65.5, 10, 0),
            ("down\ncolumns", 78, 10, 0),
        )
        for rank in range(size):
            y = 19 - rank * 18
            colour = _colour(rank)
            write(ax, 0, y + 12.3, f"rank {rank}", SMALL, ha="left")
            for name, x, width, kind in stations:
                box(ax, x, y, width, 10, colour if kind is not None else None, name, 8.5)
            for start, end in ((11, 15), (25, 28), (38, 41), (51, 54), (62.5, 65.5), (75.5, 78)):
                arrow(ax, (start, y + 5), (end, y + 5), "->", 1)
            arrow(ax, (88, y + 5), (91, y + 5), "->", 1)
        for x in (54, 91):
            box(ax, x, 1, 8.5, 28, PALETTE["red"], "all-\nreduce", 8)
    return fig


# --- pipelines ------------------------------------------------------------------------------------


@styled
def pipeline(timeline: PipelineTimeline, title: str = "") -> Figure:
    """What each stage does in each slot; what is left white is the bubble."""
    fig, ax = figures.figure(alt="-", height=0.75 + 0.36 * timeline.stages)
    bars(ax, timeline)
    if title:
        ax.set_title(title)
    most = ", ".join(str(timeline.kept(s)) for s in range(timeline.stages))
    return figures.describe(
        fig,
        f"{title or 'A pipeline'}: {timeline.stages} stages, {timeline.length} slots, idle in "
        f"{timeline.bubble:.1%} of them. Activations kept at once, by stage: {most}.",
    )


def bars(ax: Axes, timeline: PipelineTimeline) -> None:
    """A bar for each task, with the number of its micro-batch."""
    for slot in timeline.slots:
        forward = slot.kind == "F"
        colour = PALETTE["blue" if forward else "orange"]
        ax.barh(
            slot.stage,
            slot.end - slot.start - 0.08,
            0.8,
            left=slot.start + 0.04,
            color=colour,
            hatch="" if forward else "//",
            edgecolor=figures.INK,
            linewidth=0.4,
        )
        ax.text(
            (slot.start + slot.end) / 2,
            slot.stage,
            slot.micro_batch,
            ha="center",
            va="center",
            fontsize=7.5,
            color=figures.ink_on(colour),
            bbox=None if forward else {"facecolor": colour, "edgecolor": "none", "pad": 0.6},
        )
    ax.set_yticks(range(timeline.stages), [f"stage {s}" for s in range(timeline.stages)])
    ax.invert_yaxis()
    ax.set(xlabel="slot; plain: forward, hatched: backward", xlim=(0, timeline.length))


@styled
def bubbles(stages: Sequence[int], micro_batches: Sequence[int], measured: Mapping) -> Figure:
    """The idle share against the micro-batches: lines by formula, dots counted in schedules."""
    fig, ax = figures.figure(alt="-", height=2.8)
    said = []
    for k, p in enumerate(stages):
        line = [100 * (p - 1) / (m + p - 1) for m in micro_batches]
        ax.plot(micro_batches, line, color=f"C{k}", label=f"{p} stages")
        dots = {m: 100 * share for (q, m), share in measured.items() if q == p}
        ax.plot(list(dots), list(dots.values()), "o", color=f"C{k}")
        said.append(f"{p} stages {line[0]:.0f} % at {micro_batches[0]}, {line[-1]:.0f} % at ")
        said[-1] += f"{micro_batches[-1]}"
    ax.set(xscale="log", xlabel="micro-batches", ylabel="idle, % of all slots")
    ax.set_xticks(micro_batches, [str(m) for m in micro_batches])
    ax.minorticks_off()
    ax.set_ylim(0)
    ax.grid(True)
    ax.legend()
    return figures.describe(
        fig, f"The bubble shrinks with the number of micro-batches: {'; '.join(said)}."
    )


# --- bytes and memory -----------------------------------------------------------------------------


@styled
def sent(found: Mapping[str, float], unit: str, title: str) -> Figure:
    """What each rank sends, a bar for each way of dividing the model."""
    fig, ax = figures.figure(alt="-", height=0.9 + 0.34 * len(found))
    rows = np.arange(len(found))
    ax.barh(rows, list(found.values()), 0.62, color="C0")
    most = max(found.values()) or 1
    for row, value in zip(rows, found.values(), strict=True):
        ax.text(value + 0.01 * most, row, f"{value:,.1f}", va="center")
    ax.set_yticks(rows, list(found))
    ax.invert_yaxis()
    ax.set(xlabel=f"{unit}; {title}", xlim=(0, 1.15 * most))
    said = ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
    return figures.describe(fig, f"{title}, {unit}: {said}.")


@styled
def held(found: Mapping[str, Sequence[float]], ranks: int) -> Figure:
    """Bytes a parameter on each rank: weights, gradients and moments, a bar for each stage."""
    fig, ax = figures.figure(alt="-", height=0.9 + 0.34 * len(found))
    rows, left = np.arange(len(found)), np.zeros(len(found))
    for k, name in enumerate(("weights", "gradients", "moments")):
        share = [parts[k] for parts in found.values()]
        ax.barh(rows, share, 0.66, left=left, color=f"C{k}", hatch=HATCHES[k], label=name)
        left = left + share
    for row, whole in zip(rows, left, strict=True):
        ax.text(whole + 0.15, row, f"{whole:.1f}", va="center")
    ax.set_yticks(rows, list(found))
    ax.invert_yaxis()
    ax.set(xlabel=f"bytes a parameter on each of {ranks} ranks", xlim=(0, 1.1 * left.max()))
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    said = ", ".join(f"{name} {w:.1f}" for name, w in zip(found, left, strict=True))
    return figures.describe(
        fig, f"Bytes a parameter that each of {ranks} ranks holds, counted: {said}."
    )
