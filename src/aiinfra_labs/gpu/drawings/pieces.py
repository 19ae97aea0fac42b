"""What the drawings of chapter 3 are made of: boxes, cells, arrows, text. Units 3.2 to 3.9.

A drawing is 100 units wide and any height; `drawing` opens it in the course's style, with its alt
text. Fills are a tint of a colour, so the page shows through and its text colour reads on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = "aiinfra_labs.course.aiinfra"
WARP = 32  # threads
MOST_THREADS = 1024  # of a block
COLOURS = ("C0", "C1", "C2", "C3")  # of the style's palette
TINT = 0.26
SMALL, NORMAL, LARGE = 9, 10, 11  # points
INCH = 100 / 5.6  # units of a drawing: it is 100 wide, and 5.6 inches, which a phone still shows
MOST_ROWS = 14  # of a map; those between are left out, and said to be


@contextmanager
def drawing(alt: str, bottom: float, top: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the style with bare axes: 100 units wide, from `bottom` to `top` high."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(102 / INCH, (top - bottom + 2) / INCH))
        fig.set_label(alt)
        ax = fig.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(-1, 101)
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


@dataclass(frozen=True)
class Cell:
    """One thread's place. kind: "element", "idle" (no element) or "missing" (no thread)."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    colour: int = 0  # of COLOURS, which repeat

    @property
    def look(self) -> tuple[str, str]:
        return self.kind, COLOURS[self.colour % len(COLOURS)]

    @property
    def corners(self) -> list[tuple[float, float]]:
        """The rectangle's five points, drawn a little smaller than the place."""
        left, right = self.x + 0.1, self.x + self.width - 0.1
        low, high = self.y + 0.1, self.y + self.height - 0.1
        return [(left, low), (right, low), (right, high), (left, high), (left, low)]


def draw_cells(ax: Axes, cells: list[Cell]) -> None:
    """All cells that look alike as one path: a page of hundreds of them stays small."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    rectangle = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    for kind, colour in sorted({cell.look for cell in cells}):
        looks: dict[str, dict[str, Any]] = {
            "element": {"facecolor": to_rgba(colour, TINT), "edgecolor": colour},
            "idle": {"fill": False, "hatch": "//////", "edgecolor": colour},
            "missing": {"fill": False, "linestyle": ":", "alpha": 0.6},
        }
        alike = [cell for cell in cells if cell.look == (kind, colour)]
        points = [point for cell in alike for point in cell.corners]
        path = Path(points, rectangle * len(alike))
        line = 0.9 if alike[0].height > 2.5 else 0.5
        ax.add_patch(PathPatch(path, linewidth=line, gid=kind, **looks[kind]))


def frame(ax: Axes, x: float, y: float, width: float, height: float, line: str) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y), width, height, fill=False, linestyle=line, linewidth=1.6))


def zoom(ax: Axes, part: tuple[float, float, float], below: float) -> None:
    """Lines from a piece's lower corners (left, right, y) to the full width of the level below."""
    left, right, y = part
    for start, end in ((left, 0), (right, 100)):
        ax.plot([start, end], [y, below], color=ink(), lw=0.8, ls=":", alpha=0.9)


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], style: str, width: float
) -> None:
    look = {"arrowstyle": style, "color": ink(), "lw": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def heading(ax: Axes, y: float, name: str, what: str) -> None:
    write(ax, 0, y, name, LARGE, ha="left", weight="bold")
    write(ax, 2.2 + 2 * len(name), y, what, NORMAL, ha="left")


def legend(ax: Axes, y: float, missing: bool = False, what: str = "block") -> None:
    """What tint, hatch and dots mean, below a map."""
    entries = [("element", f"colour: the {what}", 24), ("idle", "no element: nothing to do", 37)]
    if missing:
        entries.append(("missing", "no thread", 20))
    x = 7.0
    for kind, text, width in entries:
        draw_cells(ax, [Cell(x, y - 1.5, 3.4, 3, kind)])
        write(ax, x + 4.3, y, text, SMALL, ha="left")
        x += width + 5


def write(ax: Axes, x: float, y: float, text: object, size: float, **more: Any) -> None:
    ax.text(x, y, str(text), fontsize=size, **{"ha": "center", "va": "center"} | more)


def ink() -> str:
    """The style's text colour, for lines: the page's own colour once the figure is shown."""
    from matplotlib import rcParams

    return rcParams["text.color"]


def rows_shown(count: int) -> list[int | None]:
    """Row numbers, all or the first and last ones around a gap (None)."""
    if count <= MOST_ROWS:
        return list(range(count))
    return [*range(MOST_ROWS - 5), None, *range(count - 4, count)]


def many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def need_block(threads: int) -> None:
    need(
        1 <= threads <= MOST_THREADS,
        f"a block of {threads:,} threads",
        f"a block has 1 to {MOST_THREADS:,} threads",
        "a multiple of 32, such as 128 or 256",
    )


def need(held: bool, what: str, why: str, try_: str) -> None:
    """Raise a `ValueError` in three parts unless the condition held."""
    if not held:
        raise ValueError(f"{what}\nWhy: {why}\nTry: {try_}")
