"""What the drawings of chapter 3 are made of: the course's pieces and threads. Units 3.2 to 3.9."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiinfra_labs.course.drawing import (
    INCH,
    LARGE,
    NORMAL,
    SMALL,
    TINT,
    arrow,
    box,
    drawing,
    frame,
    ink,
    many,
    need,
    write,
)
from aiinfra_labs.course.figures import READABLE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "INCH",
    "LARGE",
    "NORMAL",
    "READABLE",
    "SMALL",
    "STYLE",
    "TINT",
    "WARP",
    "Cell",
    "arrow",
    "box",
    "draw_cells",
    "drawing",
    "frame",
    "heading",
    "ink",
    "legend",
    "many",
    "need",
    "need_block",
    "rows_shown",
    "write",
    "zoom",
]

WARP = 32  # threads
MOST_THREADS = 1024  # of a block
COLOURS = ("C0", "C1", "C2", "C3")  # of the style's palette
MOST_ROWS = 14  # of a map; those between are left out, and said to be


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
        """Cells that look alike are drawn at once: (kind, colour)."""
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


def zoom(ax: Axes, part: tuple[float, float, float], below: float, width: float) -> None:
    """Lines from a piece's lower corners (left, right, y) to the full width of the level below."""
    left, right, y = part
    for start, end in ((left, 0), (right, width)):
        ax.plot([start, end], [y, below], color=ink(), lw=0.8, ls=":", alpha=0.9)


def heading(ax: Axes, y: float, name: str, what: str) -> None:
    """Write a name, and behind it what it is, above a part of a drawing."""
    write(ax, 0, y, name, LARGE, ha="left", weight="bold")
    write(ax, 2.2 + 2 * len(name), y, what, NORMAL, ha="left")


def legend(ax: Axes, y: float, missing: bool = False, what: str = "block") -> None:
    """What tint, hatch and dots mean, below a map."""
    entries = [
        ("element", f"colour: the {what}", 17 + len(what)),
        ("idle", "no element: nothing to do", 33),
    ]
    if missing:
        entries.append(("missing", "no thread", 15))
    x = 1.0
    for kind, text, width in entries:
        draw_cells(ax, [Cell(x, y - 1.5, 3.4, 3, kind)])
        write(ax, x + 4.3, y, text, SMALL, ha="left")
        x += width + 5


def rows_shown(count: int) -> list[int | None]:
    """Row numbers, all or the first and last ones around a gap (None)."""
    if count <= MOST_ROWS:
        return list(range(count))
    return [*range(MOST_ROWS - 5), None, *range(count - 4, count)]


def need_block(threads: int) -> None:
    """Raise ValueError for a block that no launch could have."""
    need(
        1 <= threads <= MOST_THREADS,
        f"a block of {threads:,} threads",
        f"a block has 1 to {MOST_THREADS:,} threads",
        "a multiple of 32, such as 128 or 256",
    )
