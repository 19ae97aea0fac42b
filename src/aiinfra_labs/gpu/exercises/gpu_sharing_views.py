"""What `show` draws of an answer to unit 3.9: the board it plans, the memory it holds. Unit 3.9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.gpu.sharing.choice import Option, keeps_promises, may_share
from aiinfra_labs.gpu.sharing.mig import Board, Gpu, MigProfile, legal_starts
from aiinfra_labs.gpu.sharing.simulation import Served
from aiinfra_labs.gpu.sharing.time_slicing import round_robin

from .thread_views import BLOCKS, INK, Picture, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT, WRONG, NOT_ASKED = BLOCKS[2], "#f2b5a7", "#ffffff"


def starts_by_profile(board: Board, rows: Sequence[tuple[MigProfile, Sequence[int]]]) -> Picture:
    """For each profile, the places that the learner's function calls legal, and those that are."""
    gpu = board.gpu
    figure, (ax,) = axes(1, 8, 0.55 * len(rows) + 1.6)
    _slices(ax, gpu, len(rows) + 1)
    for instance in board.instances.values():
        _bar(ax, 0, instance.start, instance.profile.memory, "#c9c9c9", instance.profile.name)
    wrong = 0
    for row, (profile, said) in enumerate(rows, 1):
        legal = legal_starts(profile, board.taken)
        for start in sorted({*legal, *said}):
            right = (start in said) == (start in legal)
            wrong += not right
            text = "" if right else "missed" if start in legal else "blocked"
            _bar(ax, row, start, profile.memory, RIGHT if right else WRONG, text)
    names = ["in use", *(profile.name for profile, _ in rows)]
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("memory slice; green: a place that you found and that is legal")
    return Picture(figure, f"{board!r}; {wrong} of your places are wrong or missing")


def plan(gpu: Gpu, requests: Sequence[str], starts: Any) -> Picture:
    """The learner's plan on the board, a row for each request."""
    figure, (ax,) = axes(1, 8, 0.5 * len(requests) + 1.4)
    _slices(ax, gpu, len(requests))
    placed = list(starts) if isinstance(starts, list | tuple) else [None] * len(requests)
    used: set[int] = set()
    for row, name in enumerate(requests):
        profile, start = gpu.profile(name), placed[row] if row < len(placed) else None
        if not isinstance(start, int | np.integer):
            ax.text(0, row, "no start", va="center", fontsize=9, color=INK)
            continue
        own = set(profile.slices(start))
        right = start in profile.starts and used.isdisjoint(own)
        _bar(ax, row, start, profile.memory, RIGHT if right else WRONG, f"{name} at {start}")
        used |= own
    ax.set_yticks(range(len(requests)), requests)
    ax.set_xlabel("memory slice; red: not one of its places, or a slice that is taken")
    return Picture(figure, f"{', '.join(requests)} on an empty {gpu.name}: your starts {starts}")


def memory_life(
    history: Sequence[Sequence[int]], refusals: Sequence[tuple[int, int]], limit: int
) -> Picture:
    """What two processes hold over time, and where one was refused. history: [steps][2] bytes."""
    figure, (ax,) = axes(1, 8, 3.2)
    held = np.array(history)
    steps = np.arange(len(held))
    ax.stackplot(
        steps,
        held.T,
        step="post",
        colors=BLOCKS[:2],
        edgecolor=INK,
        linewidth=0.4,
        labels=["process 0", "process 1"],
    )
    ax.axhline(limit, color="#b03a00", lw=1.5)
    ax.text(0, limit + 2, f"limit: {limit}", fontsize=9, color="#b03a00")
    if refusals:
        at = [step for step, _ in refusals]
        ax.plot(at, held[at].sum(axis=1), "x", color=INK, label="refused")
    ax.set_ylim(0, 1.25 * max(limit, held.sum(axis=1).max()))
    ax.set_xlabel("allocate or free, at random")
    ax.set_ylabel("bytes held")
    ax.legend(loc="upper right", fontsize=9, ncols=3)
    most = int(held.sum(axis=1).max())
    return Picture(
        figure,
        f"Two processes under one limit of {limit} bytes: together they hold at most {most}, and "
        f"are refused {len(refusals)} times",
    )


def time_slices(
    jobs: Sequence[tuple[int, int]], slice_us: int, switch_us: int, ends: Any
) -> Picture:
    """From arrival to end: where the learner's ends lie, and where they should."""
    figure, (ax,) = axes(1, 8, 0.6 * len(jobs) + 1.4)
    expected = round_robin(jobs, slice_us, switch_us)
    got = list(ends) if isinstance(ends, list | tuple) else []
    for job, (arrival, work) in enumerate(jobs):
        end = expected[job]
        ax.barh(job, end - arrival, left=arrival, height=0.5, color=BLOCKS[0], edgecolor=INK)
        ax.text(arrival, job, f" {work / 1000:g} ms of work", va="center", fontsize=9, color=INK)
        if job < len(got) and isinstance(got[job], int | float | np.number):
            ax.plot([got[job]] * 2, [job - 0.42, job + 0.42], color="#b03a00", lw=3)
    ax.set_yticks(range(len(jobs)), [f"job {job}" for job in range(len(jobs))])
    ax.invert_yaxis()
    ax.set_xlabel(
        f"microseconds, slices of {slice_us}, switches of {switch_us}; bar: from arrival to end; "
        "thick line: your end"
    )
    return Picture(figure, f"Jobs {list(jobs)} end at {expected}; your function says {got}")


def choice(
    name: str,
    rows: Sequence[tuple[Option, dict[str, Served] | None]],
    chosen: Any,
    tried: Sequence[Option],
) -> Picture:
    """The p99 of one tenant under each option, with the learner's choice marked."""
    figure, (ax,) = axes(1, 8, 0.42 * len(rows) + 1.3)
    told = []
    for row, (option, served) in enumerate(rows):
        if served is None:
            ax.text(0, row, " no place", va="center", fontsize=9)
            told.append(f"{option}: no place")
            continue
        tenant = served[name].tenant
        will_do = keeps_promises(served) and may_share([tenant], option)
        p99 = served[name].p99
        ax.barh(row, p99, height=0.6, color=RIGHT if will_do else WRONG, edgecolor=INK)
        mark = ("  your choice" if option == chosen else "") + (
            "" if option in tried else "  (not tried)"
        )
        ax.text(p99, row, f" {p99:.0f} ms{mark}", va="center", fontsize=9)
        told.append(f"{option}: {p99:.0f} ms")
        ax.axvline(tenant.slo_ms, color="#b03a00", lw=1.2)
    ax.set_yticks(range(len(rows)), [str(option) for option, _ in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.6 * max(s[name].p99 for _, s in rows if s))
    ax.set_xlabel(f"p99 of {name}, ms; line: what it was promised")
    return Picture(figure, f"p99 of {name}: {'; '.join(told)}. Chosen: {chosen}")


def _slices(ax: Axes, gpu: Gpu, rows: int) -> None:
    ax.set_xlim(-0.02, gpu.memory_slices + 0.02)
    ax.set_ylim(rows - 0.4, -0.6)
    ax.set_xticks(np.arange(gpu.memory_slices) + 0.5, range(gpu.memory_slices))
    ax.tick_params(length=0)
    for edge in range(gpu.memory_slices + 1):
        ax.axvline(edge, color="#cccccc", lw=0.6, zorder=0)


def _bar(ax: Axes, row: float, start: int, size: int, colour: str, text: str) -> None:
    ax.barh(row, size - 0.08, left=start + 0.04, height=0.7, color=colour, edgecolor=INK, lw=0.8)
    ax.text(start + size / 2, row, text, ha="center", va="center", fontsize=8, color=INK)
