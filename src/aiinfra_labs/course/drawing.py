"""What a drawing is made of, in every chapter: boxes, arrows, text.

A drawing is 100 units wide and any height; `drawing` opens it in the course's style, with its alt
text. Fills are a tint of a colour, so the page shows through and its text colour reads on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .figures import in_the_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TINT = 0.26
SMALL, NORMAL, LARGE = 9, 10, 11  # points
INCH = 100 / 5.6  # units of a drawing: it is 100 wide, and 5.6 inches, which a phone still shows


@contextmanager
def drawing(
    alt: str, bottom: float, top: float, width: float = 100
) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the style with bare axes: `width` units wide, from `bottom` to `top` high.

    At most 86 units wide, a drawing keeps its `SMALL` words at 9 pixels on a phone; a panel of two,
    which stands alone there, is about 60.
    """
    from matplotlib.figure import Figure

    with in_the_style():
        fig = Figure(figsize=((width + 2) / INCH, (top - bottom + 2) / INCH))
        fig.set_label(alt)
        ax = fig.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(-1, width + 1)
        ax.set_ylim(bottom - 1, top + 1)
        yield fig, ax


def box(
    ax: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str | None,
    text: str = "",
    size: float = NORMAL,
) -> None:
    """A box in a tint of a palette colour, or with no fill, and its name in the middle."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    look = {"facecolor": to_rgba(colour, TINT), "edgecolor": colour} if colour else {"fill": False}
    corners = f"round,pad=0,rounding_size={min(width, height, 8) * 0.15}"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=corners, linewidth=1.2, **look))
    if text:
        write(ax, x + width / 2, y + height / 2, text, size)


def frame(ax: Axes, x: float, y: float, width: float, height: float, line: str) -> None:
    """Draw a rectangle's outline; line: its style, as matplotlib names it."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y), width, height, fill=False, linestyle=line, linewidth=1.6))


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], style: str, width: float
) -> None:
    """Draw an arrow from one point to another; width: of its line, in points."""
    look = {"arrowstyle": style, "color": ink(), "lw": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def write(ax: Axes, x: float, y: float, text: object, size: float, **more: Any) -> None:
    """Write a text centred at a point; size: in points."""
    ax.text(x, y, str(text), fontsize=size, **{"ha": "center", "va": "center"} | more)


def ink() -> str:
    """The style's text colour, for lines: the page's own colour once the figure is shown."""
    from matplotlib import rcParams

    return rcParams["text.color"]


def many(count: int, noun: str) -> str:
    """A count with its noun: '1 block', '2 blocks'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def need(held: bool, what: str, why: str, try_: str) -> None:
    """Raise a `ValueError` in three parts unless the condition held."""
    if not held:
        raise ValueError(f"{what}\nWhy: {why}\nTry: {try_}")
