"""What `show` draws of a report: one bar for each line of the learner's kernel. Unit 3.8."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .thread_views import BLOCKS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aiinfra_labs.gpu.emulator import Report

WIDEST = 46  # characters of a line that are shown


def draw_lines(ax: Axes, report: Report, value: Callable[[Any], float], enough: float) -> str:
    """A bar for each source line; those above `enough` in the colour of what is to be changed.

    value: of a line's figures. Returns what the drawing shows, in one sentence.
    """
    numbers = sorted(number for number in report.lines if isinstance(number, int))
    values = [value(report.lines[number]) for number in numbers]
    for k, found in enumerate(values):
        colour = BLOCKS[1] if found > enough else BLOCKS[0]
        ax.barh(k, found, 0.7, color=colour, edgecolor=INK)
        ax.text(found, k, f" {found:,.4g}", va="center", fontsize=9)
    ax.set_yticks(range(len(numbers)), [_source(report, number) for number in numbers])
    ax.tick_params(axis="y", labelsize=8)
    for label in ax.get_yticklabels():
        label.set_family("monospace")
    ax.set_xlim(0, 1.2 * max([*values, enough, 1]))
    ax.invert_yaxis()
    above = [(n, v) for n, v in zip(numbers, values, strict=True) if v > enough]
    if not above:
        return f"no line has more than {enough:g}"
    return "; ".join(f"line {n}, {report.source[n]}: {v:,.4g}" for n, v in above)


def _source(report: Report, number: int) -> str:
    text = report.source.get(number, "")
    return f"{number}  {text if len(text) <= WIDEST else text[: WIDEST - 1] + '…'}"
