"""The drawings of unit 3.3: which sectors some lanes touch, and where the fields of structures lie.

Each returns a matplotlib figure with its alt text as the figure's label. A drawing needs no device
and no emulator: it is what the addresses say, to compare with what a kernel's report counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pieces import NORMAL, SMALL, Cell, arrow, draw_cells, drawing, frame, many, need, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LANES = 8  # of a warp's 32: the pattern is the same, and each can be seen
IN_SECTOR = 8  # float32
SECTORS = 8  # drawn
PATTERNS = (  # what is read, element of lane 0, elements from lane to lane
    ("x[i]", 0, 1),
    ("x[i + 1]", 1, 1),
    ("x[2 * i]", 0, 2),
    ("x[8 * i]", 0, 8),
)
FIELDS = ("token", "position", "length", "block", "temp.", "top_p", "top_k", "seed")


def touched(first: int, stride: int, lanes: int = LANES) -> list[int]:
    """The sectors of float32 that lanes 0, 1, ... touch, in order."""
    return sorted({(first + stride * lane) // IN_SECTOR for lane in range(lanes)})


def lanes_and_sectors() -> Figure:
    """Four ways in which the first eight lanes of a warp read float32, and the sectors they need.

    A row is 256 bytes of memory, 8 sectors. A tinted cell is the element of a lane; a thick frame
    is a sector that is fetched, with all that is in it.
    """
    counts = [len(touched(first, stride)) for _, first, stride in PATTERNS]
    alt = "Lanes 0 to 7 of a warp read float32 elements. " + " ".join(
        f"{name}: {many(count, 'sector')}."
        for (name, *_), count in zip(PATTERNS, counts, strict=True)
    )
    with drawing(alt, -len(PATTERNS) * 13 - 4, 6) as (fig, ax):
        for sector in range(SECTORS):
            write(ax, 20 + sector * 10 + 5, 3, f"+{32 * sector}", SMALL)
        write(ax, 18.5, 3, "byte", SMALL, ha="right")
        for row, (name, first, stride) in enumerate(PATTERNS):
            y = -(row + 1) * 13 + 4
            write(ax, 0, y + 4.6, name, NORMAL, ha="left", family="monospace")
            write(ax, 0, y + 0.2, many(counts[row], "sector"), SMALL, ha="left")
            _memory(ax, y, first, stride)
        _key(ax, -len(PATTERNS) * 13 - 2)
    return fig


def _memory(ax: Axes, y: float, first: int, stride: int) -> None:
    """8 sectors of 8 elements: those that lanes ask for tinted, the sectors fetched in a frame."""
    wide = 8.4 / IN_SECTOR  # within the frame of its sector
    for lane in range(LANES):
        sector, place = divmod(first + stride * lane, IN_SECTOR)
        draw_cells(ax, [Cell(20.8 + sector * 10 + place * wide, y, wide, 6, "element")])
    for sector in range(SECTORS):
        if sector in touched(first, stride):
            frame(ax, 20 + sector * 10 + 0.4, y - 0.9, 9.2, 7.8, "-")
        else:
            draw_cells(ax, [Cell(20 + sector * 10 + 0.3, y - 0.9, 9.4, 7.8, "missing")])


def _key(ax: Axes, y: float) -> None:
    draw_cells(ax, [Cell(4, y - 1.5, 3.4, 3, "element")])
    write(ax, 8.5, y, "asked for", SMALL, ha="left")
    frame(ax, 30, y - 1.7, 3.8, 3.4, "-")
    write(ax, 35, y, "sector, fetched", SMALL, ha="left")
    draw_cells(ax, [Cell(64, y - 1.7, 3.8, 3.4, "missing")])
    write(ax, 69, y, "sector, not fetched", SMALL, ha="left")


def structures_and_arrays(requests: int = 4) -> Figure:
    """The same fields as an array of structures and as a structure of arrays; one field marked.

    requests: how many, 2 to 8. A structure of 8 fields of 4 bytes fills a sector.
    """
    need(
        2 <= requests <= SECTORS,
        f"requests = {requests}",
        f"a sector is drawn for each, and more than {SECTORS} cannot be told apart",
        "4: the pattern is the same for any number",
    )
    marked = FIELDS.index("position")
    alt = (
        f"{many(requests, 'request')} of 8 fields of 4 bytes. As an array of structures the field "
        f"position is 4 bytes of each of {requests} sectors. As a structure of arrays the "
        f"positions lie side by side, {many(requests, 'number')} in 1 sector."
    )
    width = 100 / requests
    with drawing(alt, -46, 7) as (fig, ax):
        write(ax, 0, 4, "array of structures: one sector a request", NORMAL, ha="left")
        for r in range(requests):
            cells = [
                Cell(r * width + f * width / 8, -8, width / 8, 8, _kind(f == marked), 1)
                for f in range(8)
            ]
            draw_cells(ax, cells)
            write(ax, r * width + (marked + 0.5) * width / 8, -4, r, SMALL)
            frame(ax, r * width + 0.2, -8.8, width - 0.4, 9.6, "-")
            write(ax, (r + 0.5) * width, -11.5, f"request {r}", SMALL)
        write(ax, 0, -18, "structure of arrays: a field's values side by side", NORMAL, ha="left")
        shown = ("token", "position", "length")
        for row, name in enumerate(shown):
            y = -28 - row * 8
            write(ax, 14, y + 3, name, SMALL, ha="right")
            cells = [
                Cell(16 + 8.4 * r, y, 8.4, 6, _kind(name == "position"), 1) for r in range(requests)
            ]
            draw_cells(ax, cells)
            if name == "position":
                for r in range(requests):
                    write(ax, 16 + 8.4 * r + 4.2, y + 3, r, SMALL)
                frame(ax, 15.7, y - 0.6, 8.4 * 8 + 0.6, 7.2, "-")
        arrow(ax, (87.5, -33), (84.5, -33), "-|>", 1.2)
        write(ax, 94, -33, "1 sector", SMALL)
    return fig


def _kind(marked: bool) -> str:
    return "element" if marked else "missing"
