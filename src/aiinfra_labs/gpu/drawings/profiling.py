"""The drawings of unit 3.8: the loop of whoever profiles, and what a program's time goes to.

Each returns a matplotlib figure with its alt text as the figure's label, in the course's style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .pieces import LARGE, NORMAL, SMALL, arrow, box, drawing, need, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT = 15  # where a timeline begins, behind the names of its rows
ROW = 8.0  # height of a row
GAP = 3.4  # between rows


def loop() -> Figure:
    """Question, figures, hypothesis, change, comparison; and back, until nothing is worth it."""
    alt = (
        "A loop of five boxes. Question: what bounds this launch? Figures: the report, by line. "
        "Hypothesis: this line, because of this figure, and how far the figure should fall. "
        "Change: one. Compare: did the figure fall, and what rose? From there back to the "
        "question; or, where the figure did not fall, back to the hypothesis, with the change "
        "taken back. The way out: what is left is what must be moved."
    )
    with drawing(alt, -3, 64) as (fig, ax):
        places = {
            "question": (0, 44, "C0", "what bounds it?"),
            "figures": (36, 44, "C1", "the report, by line"),
            "hypothesis": (72, 44, "C2", "this line, this much"),
            "change": (72, 8, "C3", "one of them"),
            "compare": (36, 8, "C1", "what fell, what rose?"),
        }
        for name, (x, y, colour, said) in places.items():
            box(ax, x, y, 28, 15, colour)
            write(ax, x + 14, y + 10, name, LARGE, weight="bold")
            write(ax, x + 14, y + 4.3, said, NORMAL)
        box(ax, 0, 8, 28, 15, None)
        write(ax, 14, 18, "done", LARGE, weight="bold")
        write(ax, 14, 12.3, "the least is moved", NORMAL)
        arrow(ax, (28, 51.5), (36, 51.5), "-|>", 1.6)
        arrow(ax, (64, 51.5), (72, 51.5), "-|>", 1.6)
        arrow(ax, (92, 44), (92, 23), "-|>", 1.6)
        arrow(ax, (72, 15.5), (64, 15.5), "-|>", 1.6)
        arrow(ax, (36, 15.5), (28, 15.5), "-|>", 1.6)
        arrow(ax, (46, 23), (16, 44), "-|>", 1.6)
        arrow(ax, (56, 23), (80, 44), "-|>", 1.6)
        write(ax, 18, 33.5, "it fell: next", SMALL)
        write(ax, 74, 35.5, "it did not:", SMALL, ha="left")
        write(ax, 70, 31, "take it back", SMALL, ha="left")
        write(ax, 50, -0.5, "one change at a time, or no figure says which one did it", NORMAL)
    return fig


@dataclass(frozen=True)
class Span:
    """Something that takes time: seconds from the beginning, and its kind."""

    start: float
    seconds: float
    kind: str  # "copy" or "kernel"


@dataclass(frozen=True)
class Program:
    """A program's spans in their order; `name` stands above its timeline."""

    name: str
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        """Until the last span has ended."""
        return max(span.start + span.seconds for span in self.spans)


def program(name: str, steps: Sequence[tuple[str, float]]) -> Program:
    """Steps (kind, seconds), each after the one before it, without the gaps between them."""
    now, spans = 0.0, []
    for kind, seconds in steps:
        spans.append(Span(now, seconds, kind))
        now += seconds
    return Program(name, tuple(spans))


def timeline(programs: Sequence[Program]) -> Figure:
    """Copies and kernels of each program on rows of their own, each program on its own scale."""
    need(bool(programs), "no programs", "there is nothing to draw", "give at least one")
    alt = "; ".join(_said(p) for p in programs) + ". A model, without the gaps between launches."
    height = len(programs) * (2 * (ROW + GAP) + 13) - 6
    with drawing(alt, -height, 3) as (fig, ax):
        top = 0.0
        for p in programs:
            _draw_program(ax, top, p)
            top -= 2 * (ROW + GAP) + 13
    return fig


def _said(p: Program) -> str:
    return ", ".join(
        [f"{p.name}: {1e6 * p.seconds:.3g} microseconds"]
        + [f"of which {kind} {_share(p, kind):.1%}" for kind in ("copy", "kernel")]
    )


def _share(p: Program, kind: str) -> float:
    return sum(span.seconds for span in p.spans if span.kind == kind) / p.seconds


def _draw_program(ax: Axes, top: float, p: Program) -> None:
    write(ax, 0, top, p.name, LARGE, ha="left", weight="bold")
    write(ax, 100, top, f"{1e6 * p.seconds:.3g} µs", NORMAL, ha="right")
    scale = (100 - LEFT) / p.seconds
    for row, (kind, name, colour) in enumerate((("copy", "link", "C1"), ("kernel", "SMs", "C0"))):
        y = top - 4 - ROW - row * (ROW + GAP)
        write(ax, LEFT - 2, y + ROW / 2, name, NORMAL, ha="right")
        ax.plot([LEFT, 100], [y, y], color=colour, lw=0.8, ls="-", alpha=0.6)
        for span in p.spans:
            if span.kind == kind:
                width = max(span.seconds * scale, 0.25)  # a sliver can still be seen
                box(ax, LEFT + span.start * scale, y, width, ROW, colour)
        write(ax, 100, y - 1.7, f"{_share(p, kind):.1%}", SMALL, ha="right")
