"""What `show` draws for 3.6.a to 3.6.c: who works at each step, whose value reaches which lane.

Unit 3.6.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.gpu.emulator import Access, Report

from .thread_views import INK, Picture, axes, draw_numbers

MOST_STEPS = 24  # rows that can be told apart


def loads_of_the_busiest(accesses: list[Access], threads: int) -> int:
    """How many values one thread reads from any memory: the most over all threads."""
    warps = -(-threads // 32)
    total: dict[int, np.ndarray] = {}  # by first block of a batch: int64 [warps, 32]
    for access in accesses:
        if access.kind == "load":
            lanes = (access.addresses >= 0).astype(np.int64)
            total[access.first_block] = total.get(access.first_block, 0) + lanes
    assert all(len(lanes) % warps == 0 for lanes in total.values())
    return max((int(lanes.max()) for lanes in total.values()), default=0)


def steps(accesses: list[Access], report: Report) -> Picture:
    """One block: how many lanes of each warp store at each step; one step, one store or atomic.

    accesses: of a launch of one block. report: of the same.
    """
    stores = [a for a in accesses if a.kind != "load"][:MOST_STEPS]
    if not stores:
        raise CourseError(
            "the kernel stores nothing",
            "a step is drawn where a thread stores what it has added up",
            "begin with one element for each thread, stored in shared memory",
        )
    active = np.array([(a.addresses >= 0).sum(axis=1) for a in stores])  # [steps, warps]
    figure, (ax,) = axes(1, 7.5, 1.4 + 0.32 * len(active))
    ax.imshow(active, cmap="Blues", vmin=0, vmax=56, aspect="auto")
    for (step, warp), lanes in np.ndenumerate(active):
        text = str(lanes) if lanes else ""
        ax.text(warp, step, text, ha="center", va="center", fontsize=9, color=INK)
    ax.set_yticks(range(len(stores)), [f"{a.array}, line {a.line}" for a in stores])
    ax.set_xticks(range(active.shape[1]), [f"warp {w}" for w in range(active.shape[1])])
    ax.set_xlabel("number: lanes of 32 that store at this step; empty: the warp has nothing to do")
    said = (
        f"{len(stores)} steps, {report.divergent_branches} divergent branches, "
        f"{report.bank_conflicts} bank conflicts, {report.shuffles} shuffles"
    )
    ax.set_title(f"one block of 256 threads: {said}", fontsize=10)
    rows = "; ".join(" ".join(map(str, row)) for row in active)
    return Picture(figure, f"One block of 256 threads: {said}. Lanes that store, by warp: {rows}.")


def reaches(contribution: np.ndarray) -> Picture:
    """Which lane's value reaches which lane: float [from, to], how often it was added."""
    figure, (ax,) = axes(1, 5.6, 5.4)
    shown = np.nan_to_num(contribution)
    ax.imshow(shown.T, cmap="Blues", vmin=0, vmax=2)
    for source, target in np.argwhere((shown != 0) & (shown != 1)):
        ax.text(source, target, f"{shown[source, target]:g}", ha="center", va="center", fontsize=6)
    ax.set_xlabel("lane whose value it is")
    ax.set_ylabel("lane that has added it")
    right = np.triu(np.ones((32, 32)))
    missing, extra = int((shown < right).sum()), int((shown > right).sum())
    said = f"{missing} values missing, {extra} added too often"
    ax.set_title(f"dark: added once; {said}", fontsize=10)
    return Picture(
        figure,
        f"Lane by lane, which values each has added: {said}. On and left of the diagonal "
        "each should be there once, right of it none.",
    )


def readings(times: np.ndarray, got: np.ndarray, expected: np.ndarray) -> Picture:
    """How often each element of x was read, and the sums: int [rows, columns], float [rows]."""
    figure, (ax,) = axes(1, 10.5, 0.9 + 0.35 * len(times))
    draw_numbers(ax, times, "")
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    sums = ", ".join(f"{a:.4g} of {b:.4g}" for a, b in zip(got, expected, strict=True))
    often = {int(times.min()), int(times.max())}
    read = "once" if often == {1} else f"{' to '.join(map(str, sorted(often)))} times"
    said = f"each element read {read}; sums: {sums}"
    ax.set_title(said, fontsize=10)
    return Picture(figure, f"{len(times)} rows of {times.shape[1]} columns: {said}.")


__all__ = ["Picture", "loads_of_the_busiest", "readings", "reaches", "steps"]
