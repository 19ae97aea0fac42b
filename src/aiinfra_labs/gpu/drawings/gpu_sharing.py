"""The drawings of unit 3.9: a GPU shared in space and in time, a MIG board, turns on one GPU.

Each returns a matplotlib figure with its alt text as the figure's label:

    figures.show(drawings.board(Board("h100-80gb")))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiinfra_labs.gpu.sharing import time_slicing
from aiinfra_labs.gpu.sharing.mig import Board, legal_starts

from .pieces import LARGE, NORMAL, SMALL, box, drawing, frame, ink, need, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPUTE = {1: "C0", 2: "C2", 3: "C1", 4: "C3", 7: "C4"}  # a colour for each size of instance
TENANTS = ("C0", "C1", "C2")
MOST_TURNS = 24


# --- space and time -------------------------------------------------------------------------------


def ways() -> Figure:
    """Three tenants on one GPU: multiprocessors upwards, time to the right, memory beside it."""
    alt = (
        "Three drawings of one GPU, with its multiprocessors upwards and time to the right, and "
        "its memory as a bar beside it. MIG: three bands, each tenant has its own multiprocessors "
        "all the time, and its own part of the memory. Time slicing: stripes, one tenant at a time "
        "has all multiprocessors, with a gap at each switch; the memory is not divided. HAMi: the "
        "same stripes, with pauses in which a tenant's launches wait; the memory is divided by "
        "limits that a library keeps."
    )
    with drawing(alt, 0, 92) as (fig, ax):
        _way(ax, 64, "MIG", "bands: own multiprocessors, own memory")
        for tenant, (low, high) in enumerate(((0, 6), (6.6, 15.4), (16, 22))):
            box(ax, 18, 64 + low, 66, high - low, TENANTS[tenant])
            box(ax, 92, 64 + low, 8, high - low, TENANTS[tenant])
        _way(ax, 34, "time slicing", "turns: all multiprocessors, one memory for all")
        for turn in range(9):
            box(ax, 18 + 7.4 * turn, 34, 6.6, 22, TENANTS[turn % 3])
        frame(ax, 92, 34, 8, 22, "-")
        for tenant, (low, high) in enumerate(((0, 5), (5, 15), (15, 19))):
            box(ax, 92, 34 + low, 8, high - low, TENANTS[tenant])
        _way(ax, 4, "HAMi", "turns, with limits on launches and on memory")
        for turn, tenant in enumerate((0, 1, 2, 0, None, 2, 0, 1, 2)):
            if tenant is not None:
                box(ax, 18 + 7.4 * turn, 4, 6.6, 22, TENANTS[tenant])
            else:
                write(ax, 18 + 7.4 * turn + 3.3, 15, "waits", SMALL, rotation=90)
        for tenant, (low, high) in enumerate(((0, 6), (6.6, 15.4), (16, 22))):
            box(ax, 92, 4 + low, 8, high - low, None)
            box(ax, 92, 4 + low, 8, (high - low) * 0.8, TENANTS[tenant])
        write(ax, 51, 1, "time", SMALL)
        write(ax, 95.5, 1, "memory", SMALL)
        return fig


def _way(ax: Axes, low: float, name: str, what: str) -> None:
    write(ax, 0, low + 25, name, LARGE, ha="left", weight="bold")
    write(ax, 100, low + 25, what, SMALL, ha="right")
    write(ax, 15, low + 11, "multiprocessors", SMALL, rotation=90)


# --- a board --------------------------------------------------------------------------------------


def board(of: Board, profile: str = "") -> Figure:
    """The memory slices of a board, its instances, and where `profile` may begin, if one is named.

    A place that meets an instance is drawn with dashes, and named as blocked.
    """
    gpu = of.gpu
    slices = gpu.memory_slices
    width = 100 / slices
    free = ", ".join(map(str, of.free)) or "none"
    inside = "; ".join(map(str, sorted(of.instances.values()))) or "no instance"
    alt = f"{gpu.name}, memory slices 0 to {slices - 1}: {inside}; free slices: {free}."
    if profile:
        wanted = gpu.profile(profile)
        legal = legal_starts(wanted, of.taken)
        places = f"at {', '.join(map(str, legal))}" if legal else "nowhere"
        alt += f" {profile} takes {wanted.memory} and may begin {places}."
    with drawing(alt, -13 if profile else 3, 24) as (fig, ax):
        for slice_ in range(slices):
            write(ax, (slice_ + 0.5) * width, 22, slice_, SMALL)
            if slice_ in of.free:
                frame(ax, slice_ * width + 0.5, 4, width - 1, 14, ":")
        for instance in of.instances.values():
            colour = COMPUTE[instance.profile.compute]
            left = instance.start * width + 0.5
            name = instance.profile.name
            if instance.profile.memory == 1:
                name = name.replace(".", ".\n")
            box(ax, left, 4, instance.profile.memory * width - 1, 14, colour, name, NORMAL)
        if profile:
            for start in wanted.starts:
                left, across = start * width + 0.8, wanted.memory * width - 1.6
                open_ = start in legal
                frame(ax, left, -11, across, 11, "-" if open_ else "--")
                text = "free" if open_ else "blocked"
                label = f"{profile} at {start}: {text}" if wanted.memory > 2 else text
                write(ax, left + across / 2, -5.5, label, SMALL)
        return fig


# --- turns ----------------------------------------------------------------------------------------


def time_slices(jobs: Sequence[tuple[int, int]], slice_us: int, switch_us: int) -> Figure:
    """Who runs when, for jobs of (arrival, work) in microseconds: a line for each job."""
    runs = time_slicing.time_slices(jobs, slice_us, switch_us)
    need(
        len(runs) <= MOST_TURNS,
        f"{len(runs)} turns",
        f"a drawing of more than {MOST_TURNS} turns cannot be read",
        "shorter jobs, or longer slices",
    )
    last = runs[-1][2]
    ends = [max(end for job, _, end in runs if job == number) for number in range(len(jobs))]
    told = "; ".join(
        f"job {number} arrives at {arrival / 1000:g} ms, works {work / 1000:g} ms, ends at "
        f"{ends[number] / 1000:g} ms"
        for number, (arrival, work) in enumerate(jobs)
    )
    alt = f"Jobs take turns of {slice_us / 1000:g} ms, {switch_us / 1000:g} ms a switch: {told}."
    row, left = 9.0, 12.0
    scale = (99 - left) / last
    top = row * len(jobs)
    with drawing(alt, -8, top) as (fig, ax):
        for number, (arrival, _) in enumerate(jobs):
            y = top - row * (number + 1) + 1
            write(ax, 0, y + 3.2, f"job {number}", NORMAL, ha="left")
            arrives = left + arrival * scale
            ax.plot([arrives, arrives], [y - 0.6, y + 7], color=ink(), lw=1.2, ls=":")
            waits = [arrives, left + ends[number] * scale]
            ax.plot(waits, [y + 3.2, y + 3.2], color=ink(), lw=0.8, ls="-", alpha=0.6)
        for job, begin, end in runs:
            y = top - row * (job + 1) + 1
            width = (end - begin) * scale
            box(ax, left + begin * scale, y, width, 6.4, TENANTS[job % len(TENANTS)])
        ax.plot([left, 99], [-1, -1], color=ink(), lw=0.8, ls="-")
        step = max(1, round(last / 1000 / 8))
        for tick in range(0, last // 1000 + 1, step):
            x = left + tick * 1000 * scale
            ax.plot([x, x], [-1, -2], color=ink(), lw=0.8, ls="-")
            write(ax, x, -5, tick, SMALL)
        write(ax, 0, -5, "ms", SMALL, ha="left")
        return fig
