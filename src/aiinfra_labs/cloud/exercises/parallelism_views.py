"""What `show` draws in unit 4.6: the learner's own bytes, rows, schedule, groups and moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiinfra_labs.cloud.drawings import parallelism as drawings
from aiinfra_labs.cloud.serving.parallel.schedules import PipelineTimeline
from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import PALETTE, Picture, styled
from aiinfra_labs.course.parts import CourseError


def drawable(held: bool, what: str) -> None:
    """Raise `CourseError` for what cannot be drawn."""
    if not held:
        raise CourseError(
            f"{what} cannot be drawn",
            "the exercise asks for something else",
            "check says more; run it first",
        )


COLOURS = tuple(PALETTE.values())


@styled
def volumes(found: Mapping[int, float]) -> Picture:
    """What a rank sends, as a multiple of the tensor, against the number of ranks."""
    fig, ax = figures.figure(alt="-", height=2.6)
    least = [2 * (n - 1) / n for n in found]
    ax.plot(list(found), least, "o:", color=figures.INK, label="2 (N - 1)/N")
    ax.plot(list(found), list(found.values()), "s-", color="C0", label="yours")
    ax.set(xlabel="ranks", ylabel="bytes sent, tensors", ylim=(0, None))
    ax.set_xticks(list(found))
    ax.legend()
    said = ", ".join(f"{v:.2f} with {n}" for n, v in found.items())
    figures.describe(fig, f"What one of your ranks sends, in tensors: {said} ranks.")
    return Picture(fig)


@styled
def rows(parts: Sequence[Sequence[int]], names: Mapping[str, int]) -> Picture:
    """Which rows of a merged matrix each rank holds."""
    total = sum(names.values())
    drawable(all(isinstance(mine, list) for mine in parts), "a part that is no tensor")
    fig, ax = figures.figure(alt="-", height=2.4)
    for rank, mine in enumerate(parts):
        for row in mine:
            ax.barh(rank, 1, 0.8, left=row, color=COLOURS[rank])
    edge, said = 0, []
    for name, count in names.items():
        ax.axvline(edge, color=figures.INK, lw=1.2)
        ax.text(edge + count / 2, -0.75, name, ha="center", va="bottom")
        each = [sum(edge <= row < edge + count for row in mine) for mine in parts]
        said.append(f"{name} {', '.join(map(str, each))}")
        edge += count
    ax.set(xlabel="row of qkv_proj: 8 query heads, 4 kv heads, of 4 rows", xlim=(0, total))
    ax.set_yticks(range(len(parts)), [f"rank {r}" for r in range(len(parts))])
    ax.invert_yaxis()
    figures.describe(fig, f"Rows that your ranks hold, rank by rank: {'; '.join(said)}.")
    return Picture(fig)


def chart(timeline: PipelineTimeline, least: float) -> Picture:
    """The learner's schedule as a time chart."""
    title = f"yours: idle {timeline.bubble:.1%}, least {least:.1%}"
    return Picture(drawings.pipeline(timeline, title))


@styled
def grid(found: Sequence[Mapping[str, Any]], sizes: tuple[int, ...]) -> Picture:
    """Every rank of 16, with a colour for each of the learner's groups, once a kind."""
    fig, axes = figures.figure(alt="-", width=6.4, height=2.3, ncols=3)
    said = []
    kinds = {"tensor", "data", "pipeline"}
    drawable(all(isinstance(each, dict) and set(each) == kinds for each in found), "these groups")
    for ax, kind in zip(axes, ("tensor", "data", "pipeline"), strict=True):
        groups = list(dict.fromkeys(tuple(each[kind]) for each in found))
        for rank, each in enumerate(found):
            k = groups.index(tuple(each[kind]))
            colour = COLOURS[k % len(COLOURS)]
            x, y = rank % 4, rank // 4
            look = {"color": colour, "hatch": drawings.HATCHES[k // len(COLOURS) % 4]}
            ax.bar(x, 0.86, 0.86, bottom=y, edgecolor=figures.INK, lw=0.4, **look)
            ax.text(
                x,
                y + 0.43,
                rank,
                ha="center",
                va="center",
                fontsize=8.5,
                color=figures.ink_on(colour),
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
            )
        ax.set_title(f"{kind}: {len(groups)} groups")
        ax.invert_yaxis()
        ax.set_axis_off()
        said.append(f"{kind} {', '.join(str(list(g)) for g in groups)}")
    figures.describe(
        fig,
        f"Your groups of 16 ranks, tensor {sizes[0]}, data {sizes[1]}, pipeline {sizes[2]}; ranks "
        f"of one colour are one group: {'; '.join(said)}.",
    )
    return Picture(fig)


@styled
def moments(kept: Mapping[int, float]) -> Picture:
    """Bytes of Adam's moments a weight on each rank, by the learner's step."""
    fig, ax = figures.figure(alt="-", height=2.6)
    ax.plot(list(kept), [8 / n for n in kept], "o:", color=figures.INK, label="8/N")
    ax.plot(list(kept), list(kept.values()), "s-", color="C0", label="yours")
    ax.set(xlabel="ranks", ylabel="bytes of moments a weight", ylim=(0, None))
    ax.set_xticks(list(kept))
    ax.legend()
    said = ", ".join(f"{v:.2f} on {n}" for n, v in kept.items())
    figures.describe(fig, f"Bytes of Adam's moments a weight on each rank, yours: {said} ranks.")
    return Picture(fig)
