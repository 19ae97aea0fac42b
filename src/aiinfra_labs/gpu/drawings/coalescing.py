"""The drawings of unit 3.3: which sectors a warp touches, and where the fields of structures lie.

Each returns a matplotlib figure with its alt text as the figure's label. A drawing needs no device
and no emulator: it is what the addresses say, to compare with what a kernel's report counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pieces import LARGE, NORMAL, SMALL, Cell, draw_cells, drawing, frame, many, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 86  # units: on a phone, words of 9 points are still 9 pixels high
LANES = 32
IN_SECTOR = 8  # float32
SECTOR = 32  # bytes
STRIDES = (1, 2, 32)
MOST_ROWS = 4  # of a stride: the rows between the third and the last are left out

# Eight requests that an engine serves, as `kernels.coalescing.REQUEST` has them.
FIELDS = ("token", "pos", "len", "block", "temp", "top_p", "top_k", "seed")
MARKED = FIELDS.index("pos")
REQUESTS = (
    (311, 17, 512, 4, 0.7, 0.9, 40, 1),
    (42, 230, 256, 9, 0.0, 1.0, 1, 2),
    (7, 5, 64, 2, 1.0, 0.9, 50, 3),
    (980, 41, 512, 7, 0.7, 0.8, 40, 4),
    (15, 96, 128, 1, 0.0, 1.0, 1, 5),
    (604, 388, 512, 8, 0.5, 0.9, 20, 6),
    (88, 12, 64, 3, 0.7, 0.9, 40, 7),
    (259, 73, 256, 6, 1.0, 0.8, 50, 8),
)


def touched(first: int, stride: int, lanes: int = LANES) -> list[int]:
    """The sectors of float32 that lanes 0, 1, ... touch, in order."""
    return sorted({(first + stride * lane) // IN_SECTOR for lane in range(lanes)})


# --- one warp's addresses -------------------------------------------------------------------------


def warp_and_sectors() -> Figure:
    """The 32 float32 that a warp reads with three strides, and the sectors that they lie in.

    A row is 64 bytes of memory, two sectors. A number is a lane's, in the element that the lane
    reads; a thick frame is a sector that is fetched, with all that is in it.
    """
    told = [
        f"Stride {stride}: {many(len(touched(0, stride)), 'sector')}, "
        f"{SECTOR * len(touched(0, stride)):,} bytes."
        for stride in STRIDES
    ]
    alt = f"The 32 lanes of a warp read 32 float32, 128 bytes. {' '.join(told)}"
    high = sum(8.5 + 8 * len(_rows(stride)) for stride in STRIDES)
    with drawing(alt, -high - 2, 3, WIDE) as (fig, ax):
        top = 0.0
        for stride in STRIDES:
            top = _one_stride(ax, top, stride)
        _key(ax, top)
    return fig


def _rows(stride: int) -> list[int | None]:
    """The rows of two sectors that hold a lane's element; None where some are left out."""
    rows = sorted({sector // 2 for sector in touched(0, stride)})
    return rows if len(rows) <= MOST_ROWS else [*rows[:2], None, rows[-1]]


def _one_stride(ax: Axes, top: float, stride: int) -> float:
    """One panel, its head at `top`; where the next one begins."""
    sectors = touched(0, stride)
    name = "x[i]" if stride == 1 else f"x[{stride} * i]"
    write(ax, 0, top, f"stride {stride}", LARGE, ha="left", weight="bold")
    write(ax, 21, top, name, LARGE, ha="left", family="monospace")
    cost = f"{many(len(sectors), 'sector')}, {SECTOR * len(sectors):,} bytes"
    write(ax, WIDE, top, cost, LARGE, ha="right", weight="bold")
    lane_of = {stride * lane: lane for lane in range(LANES)}
    wide = 4.3  # of an element
    y = top - 10
    for row in _rows(stride):
        if row is None:
            left_out = len({sector // 2 for sector in sectors}) - MOST_ROWS + 1
            write(ax, 49, y + 3, f"and {left_out} more like these", NORMAL)
            y -= 8
            continue
        write(ax, 13, y + 2.9, f"byte {64 * row:,}", SMALL, ha="right")
        for half in range(2):
            sector, left = 2 * row + half, 14 + half * (8 * wide + 2.4)
            fetched = sector in sectors
            cells, lanes = [], []
            for place in range(IN_SECTOR):
                lane = lane_of.get(sector * IN_SECTOR + place)
                if lane is not None:
                    cells.append(Cell(left + place * wide, y, wide, 6, "element"))
                    lanes.append((left + (place + 0.5) * wide, lane))
            if fetched:
                draw_cells(ax, cells)
                frame(ax, left - 0.3, y - 0.5, 8 * wide + 0.6, 7, "-")
            else:
                draw_cells(ax, [Cell(left - 0.3, y - 0.5, 8 * wide + 0.6, 7, "missing")])
            for x, lane in lanes:
                write(ax, x, y + 2.9, lane, SMALL)
        y -= 8
    return y + 1.5


def _key(ax: Axes, y: float) -> None:
    draw_cells(ax, [Cell(0, y - 1.7, 4, 3.4, "element")])
    write(ax, 5, y, "lane's element", SMALL, ha="left")
    frame(ax, 31, y - 1.7, 4, 3.4, "-")
    write(ax, 36, y, "fetched", SMALL, ha="left")
    draw_cells(ax, [Cell(52, y - 1.7, 4, 3.4, "missing")])
    write(ax, 57, y, "not fetched", SMALL, ha="left")


# --- structures and arrays ------------------------------------------------------------------------


def structures_and_arrays() -> Figure:
    """Eight requests as an array of structures, and as a structure of arrays: one, turned.

    A row is one sector of memory. The field `position` is tinted; a thick frame is a sector that a
    kernel fetches which needs all positions.
    """
    count = len(REQUESTS)
    alt = (
        f"{count} requests of 8 fields of 4 bytes. As an array of structures, a sector holds one "
        f"request, and the {count} positions lie in {count} sectors. As a structure of arrays, a "
        f"sector holds one field of all {count} requests, and the {count} positions lie in 1."
    )
    turned = tuple(zip(*REQUESTS, strict=True))
    numbers = tuple(f"req. {r}" for r in range(count))
    high = 5.4 * 8 + 15
    with drawing(alt, -2 * high + 7, 3, WIDE) as (fig, ax):
        _matrix(ax, 0, "array of structures", REQUESTS, numbers, FIELDS, range(8))
        _matrix(ax, -high, "structure of arrays", turned, FIELDS, numbers, [MARKED])
    return fig


def _matrix(
    ax: Axes,
    top: float,
    name: str,
    values: tuple,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    fetched: range | list[int],
) -> None:
    """A sector a row, with what it holds; `fetched` are the rows that hold a position."""
    wide, tall = 9.3, 5.4
    write(ax, 0, top, name, LARGE, ha="left", weight="bold")
    cost = f"8 positions in {many(len(fetched), 'sector')}"
    write(ax, WIDE, top, cost, LARGE, ha="right", weight="bold")
    for c, column in enumerate(columns):
        write(ax, 11.2 + (c + 0.5) * wide, top - 5, column, SMALL)
    cells = []
    for r, row in enumerate(rows):
        y = top - 7.5 - (r + 1) * tall
        write(ax, 10, y + tall / 2, row, SMALL, ha="right")
        for c, value in enumerate(values[r]):
            marked = (c if len(fetched) > 1 else r) == MARKED  # a row a request, or a row a field
            cells.append(
                Cell(11.2 + c * wide, y, wide, tall, "element" if marked else "missing", 1)
            )
            write(ax, 11.2 + (c + 0.5) * wide, y + tall / 2 - 0.1, value, SMALL)
    draw_cells(ax, cells)
    for r in fetched:
        frame(ax, 11.2, top - 7.2 - (r + 1) * tall, 8 * wide, tall - 0.6, "-")
