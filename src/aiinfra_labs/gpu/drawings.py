"""The drawings of unit 3.2: the thread hierarchy, host and device, which thread has which element.

Each returns a matplotlib figure with its alt text as the figure's label, in the course's style:

    from aiinfra_labs.course import figures
    figures.show(drawings.thread_map(n=100, block=48))

Fills are a tint of a colour, so the page shows through and its text colour reads on them, on a
light page and on a dark one. A drawing needs no device and no emulator: it is what the formulas
say, to compare with what a kernel did.
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
INCH = 100 / 5.6  # units of a drawing: it is 100 wide, and 5.6 inches, which a phone still shows
SMALL, NORMAL, LARGE = 9, 10, 11  # points
ROW = 4.8  # of a map: its height
MOST_ROWS = 14  # of a map; those between are left out, and said to be
MOST_ACROSS = 48  # cells in a row of a 2-d map


# --- what a grid is made of -----------------------------------------------------------------------


def hierarchy() -> Figure:
    """Grid, cluster, block, warp, thread: each level is one piece of the level above, enlarged."""
    alt = (
        "Five levels, each one piece of the level above, enlarged. A grid holds all blocks of one "
        "launch. On Hopper and later, blocks may be grouped in clusters, drawn dashed because "
        "they are optional. A block's threads run on one SM, share its shared memory, and are "
        "divided into warps. A warp is 32 threads, lanes 0 to 31, that run one instruction at a "
        "time. A thread has registers of its own."
    )
    with _drawing(alt, -12, 112) as (fig, ax):
        _heading(ax, 107, "grid", "all blocks of a launch")
        _box(ax, 0, 80, 100, 24, "C0")
        for row in range(2):
            for column in range(4):
                x, y = 3 + column * 24.5, 94 - row * 11
                _box(ax, x, y - 0.5, 20.5, 7.5, "C1", f"block ({column}, {row})", NORMAL)
        _frame(ax, 1.5, 92, 48, 10.5, "--")
        _text(ax, 98.5, 107, "dashed: cluster (Hopper and later)", NORMAL, ha="right")
        _zoom(ax, (3, 23.5, 82.5), 72.5)

        _heading(ax, 69, "block", "on one SM; its threads can wait for each other")
        _box(ax, 0, 52, 100, 14, "C1")
        for warp in range(4):
            _box(ax, 3 + warp * 17.5, 54.5, 15, 9, "C2", f"warp {warp}", NORMAL)
        _box(ax, 73, 54.5, 24, 9, None, "shared memory", NORMAL)
        _zoom(ax, (20.5, 35.5, 54.5), 44.5)

        _heading(ax, 41, "warp", "32 threads (lanes), one instruction at a time")
        _box(ax, 0, 27, 100, 11, "C2")
        for lane in range(WARP):
            _box(ax, 1.3 + lane * 3.06, 29, 2.6, 7, "C3")
            if lane in (0, 5, 10, 15, 20, 25, 31):
                _text(ax, 2.6 + lane * 3.06, 32.3, lane, NORMAL)
        _zoom(ax, (1.3 + 5 * 3.06, 3.9 + 5 * 3.06, 29), 19)

        _heading(ax, 15.5, "thread", "lane 5 of warp 1: thread 37 of its block")
        _box(ax, 0, -11, 100, 23.5, "C3")
        _box(ax, 3, -8, 26, 17.5, None, "registers\nof its own", NORMAL)
        _text(ax, 64.5, 5.5, "who it is: threadIdx, blockIdx", NORMAL)
        _text(ax, 64.5, -0.2, "what it does: the kernel's code", NORMAL)
        _text(ax, 64.5, -5.9, "i = blockIdx.x · blockDim.x + threadIdx.x", NORMAL)
    return fig


# --- host and device ------------------------------------------------------------------------------


def host_device() -> Figure:
    """Two memories, the link between them, and the calls that use it, in their order."""
    alt = (
        "The host's memory holds a and out, the device's memory holds d_a and d_out, and PCIe "
        "joins host and device. In order: 1, cudaMalloc (device_array) makes room on the device. "
        "2, cudaMemcpy from host to device (to_device) copies a to d_a. 3, the launch runs the "
        "kernel on the SMs, which load from and store to the device's memory. 4, cudaMemcpy from "
        "device to host (copy_to_host) copies d_out to out. 5, cudaFree gives the memory back; in "
        "Python, when the array's last name is gone."
    )
    with _drawing(alt, -2, 96) as (fig, ax):
        for x, name, colour, runs, arrays in (
            (0, "host", "C0", "CPU", ("a", "out")),
            (73, "device", "C2", "SMs", ("d_a", "d_out")),
        ):
            _text(ax, x + 13.5, 93, name, LARGE, weight="bold")
            _box(ax, x, 0, 27, 89, colour)
            _box(ax, x + 3, 66, 21, 19, "C3" if name == "device" else None, runs, LARGE)
            _box(ax, x + 3, 3, 21, 53, None)
            _text(ax, x + 13.5, 51.5, "memory", NORMAL)
            _box(ax, x + 6, 29, 15, 14, "C1", arrays[0], LARGE)
            _box(ax, x + 6, 10, 15, 14, "C1", arrays[1], LARGE)
            _arrow(ax, (x + 13.5, 66), (x + 13.5, 56), "<|-|>", 1.4)
        _text(ax, 50, 93, "PCIe", LARGE, weight="bold")
        _call(ax, 80, "3  kernel launch", "kernel[grid, block](…)", 27, 73)
        _call(ax, 54, "1  cudaMalloc", "device_array", 27, 76)
        _call(ax, 36, "2  cudaMemcpy", "to_device", 21, 79, copies=True)
        _call(ax, 17, "4  cudaMemcpy", "copy_to_host", 79, 21, copies=True)
        _text(ax, 50, 4.8, "5  cudaFree", NORMAL, weight="bold")
        _text(ax, 50, 0.5, "when its last name goes", NORMAL)
    return fig


def _call(
    ax: Axes, y: float, cuda: str, python: str, start: float, end: float, copies: bool = False
) -> None:
    """An arrow between host and device, with CUDA's name above it and Python's below.

    A call that copies an array is drawn thick: it is the one that takes time.
    """
    _arrow(ax, (start, y), (end, y), "-|>", 3 if copies else 1.4)
    _text(ax, 50, y + 3.4, cuda, NORMAL, weight="bold")
    _text(ax, 50, y - 3.4, python, NORMAL)


# --- which thread has which element ---------------------------------------------------------------


def thread_map(n: int, block: int) -> Figure:
    """The threads of a launch over n elements, one warp a row; blocks by colour.

    Thread i has element i. The grid is the smallest that covers n: ceil(n / block) blocks. A
    hatched thread has no element and must do nothing; a dotted place has no thread, because the
    block is not a multiple of 32.

    n: elements, at least 1. block: threads a block, 1 to 1024.
    """
    _need(n >= 1, f"n = {n}", "a grid of no blocks cannot be launched", "n = 1 or more")
    _need_block(block)
    blocks, warps = -(-n // block), -(-block // WARP)
    idle = blocks * block - n
    alt = (
        f"{_many(n, 'element')}, {_many(blocks, 'block')} of {_many(block, 'thread')}, which makes "
        f"{_many(warps, 'warp')} a block and {_many(blocks * block, 'thread')} in all. "
        f"{_many(idle, 'thread')} of the last block "
        f"{'has' if idle == 1 else 'have'} no element."
    )
    rows = _rows_shown(blocks * warps)
    with _drawing(alt, -len(rows) * ROW - 9.5, 5) as (fig, ax):
        _text(ax, 23, 2, "lane", SMALL, ha="right")
        for lane in (0, 7, 15, 23, 31):
            _text(ax, 25 + lane * 1.8, 2, lane, SMALL)
        _text(ax, 83, 2, "elements", SMALL, ha="left")
        for place, row in enumerate(rows):
            y = -(place + 1) * ROW
            if row is None:
                more = _many(blocks * warps - len(rows) + 1, "warp")
                _text(ax, 53, y + ROW / 2, f"… {more} not drawn …", SMALL)
            else:
                _draw_warp(ax, y, *divmod(row, warps), n, block)
        _legend(ax, -len(rows) * ROW - 4.5, missing=block % WARP != 0)
    return fig


def _draw_warp(ax: Axes, y: float, block: int, warp: int, n: int, size: int) -> None:
    """One warp's 32 lanes: tinted with an element, hatched without one, dotted without thread."""
    first = block * size + warp * WARP
    lanes = min(WARP, size - warp * WARP)
    kinds = [
        "missing" if lane >= lanes else "element" if first + lane < n else "idle"
        for lane in range(WARP)
    ]
    places = enumerate(kinds)
    _draw_cells(
        ax, [Cell(24 + i * 1.8, y + 0.4, 1.8, ROW - 0.8, kind, block) for i, kind in places]
    )
    _text(ax, 23, y + ROW / 2, f"block {block}, warp {warp}", SMALL, ha="right")
    last = min(first + lanes, n) - 1
    span = f"{first} – {last}" if last > first else str(first) if last == first else "none"
    _text(ax, 83, y + ROW / 2, span, SMALL, ha="left")


def thread_map_2d(shape: tuple[int, int], block: tuple[int, int]) -> Figure:
    """The blocks of a 2-d launch over an image: x is the column, y the row.

    The first block shows its threads' numbers, if there is room, x fastest: 0 to 31 are its first
    warp. Hatched threads lie outside the image.

    shape: rows and columns of the image. block: threads in x and in y, as in the launch.
    """
    (rows, columns), (wide, high) = shape, block
    _need(
        rows >= 1 and columns >= 1,
        f"shape = {shape}",
        "a grid of no blocks cannot be launched",
        "at least 1 row and 1 column",
    )
    _need_block(wide * high if min(block) >= 1 else 0)
    across, down = -(-columns // wide), -(-rows // high)
    total = across * wide, down * high
    _need(
        max(total) <= MOST_ACROSS,
        f"the grid covers {total[0]} x {total[1]} elements",
        f"each thread is one cell, and more than {MOST_ACROSS} in a row cannot be told apart",
        "draw a small image: the pattern is the same",
    )
    idle = total[0] * total[1] - rows * columns
    alt = (
        f"An image of {_many(rows, 'row')} and {_many(columns, 'column')} under a grid of {across} "
        f"x {down} blocks of {wide} x {high} threads; {idle:,} of {total[0] * total[1]:,} threads "
        "lie outside the image. x is the column and y the row; a block numbers its threads along "
        "x first."
    )
    cell = min(92 / total[0], 92 / total[1], 8)
    with _drawing(alt, -total[1] * cell - 6.5, 9) as (fig, ax):
        _draw_plane(ax, shape, block, (across, down), cell)
        _number_threads(ax, wide, high, cell)
        for bx in range(across):
            middle = 8 + (bx + 0.5) * wide * cell
            _text(ax, middle, 2.3, _that_fits(f"blockIdx.x = {bx}", wide * cell), SMALL)
        for by in range(down):
            middle = -(by + 0.5) * high * cell
            name = _that_fits(f"blockIdx.y = {by}", high * cell)
            _text(ax, 5.6, middle, name, SMALL, rotation=90)
        _text(ax, 8, 7, "x: the column →", SMALL, ha="left")
        _text(ax, 1.5, 0, "← y: the row", SMALL, rotation=90, va="top")
        _legend(ax, -total[1] * cell - 4)
    return fig


def _draw_plane(
    ax: Axes, shape: tuple[int, int], block: tuple[int, int], grid: tuple[int, int], cell: float
) -> None:
    """Each thread of a 2-d grid as a cell, each block in a frame."""
    (rows, columns), (wide, high), (across, down) = shape, block, grid
    cells = []
    for y in range(down * high):
        for x in range(across * wide):
            kind = "element" if x < columns and y < rows else "idle"
            colour = x // wide + 2 * (y // high)
            cells.append(Cell(8 + x * cell, -(y + 1) * cell, cell, cell, kind, colour))
    _draw_cells(ax, cells)
    for by in range(down):
        for bx in range(across):
            corner = 8 + bx * wide * cell, -(by + 1) * high * cell
            _frame(ax, *corner, wide * cell, high * cell, "-")


def _number_threads(ax: Axes, wide: int, high: int, cell: float) -> None:
    """The first block's threads by number, if a cell has room for one."""
    if cell < 0.6 + 1.5 * len(str(wide * high - 1)):
        return
    for y in range(high):
        for x in range(wide):
            _text(ax, 8 + (x + 0.5) * cell, -(y + 0.5) * cell, y * wide + x, SMALL)


def _that_fits(name: str, room: float) -> str:
    """A block's name, or only its number, or nothing, by the room there is."""
    number = name.rsplit(" ", 1)[1]
    return next((text for text in (name, number) if 1.5 * len(text) < room), "")


def grid_stride(n: int, threads: int) -> Figure:
    """A grid-stride loop: thread t has elements t, t + threads, t + 2 threads, ... below n.

    One row is one round of the loop, one column one thread; thread 1 is framed.

    n: elements, at least 1. threads: of the whole grid, 1 to 32.
    """
    _need(n >= 1, f"n = {n}", "there is nothing to draw", "n = 1 or more")
    _need(
        1 <= threads <= WARP,
        f"threads = {threads}",
        f"each thread is one column, and more than {WARP} cannot be told apart",
        f"1 to {WARP}: the pattern is the same for any number",
    )
    rounds = -(-n // threads)
    marked = min(1, threads - 1)
    visits = [str(i) for i in range(marked, n, threads)]
    listed = ", ".join(visits if len(visits) < 6 else [*visits[:3], "…", visits[-1]]) or "none"
    alt = (
        f"{_many(threads, 'thread')}, {_many(n, 'element')}, {_many(rounds, 'round')} of the loop. "
        "In each round the threads have the elements of one row, side by side. "
        f"Thread {marked} has the elements {listed}."
    )
    cell = min(83 / threads, 10)
    numbered = cell > 0.8 + 1.5 * len(str(n - 1))
    rows = _rows_shown(rounds)
    with _drawing(alt, -len(rows) * ROW - 9, 10) as (fig, ax):
        _text(ax, 16, 7.5, f"thread {marked} (framed) has elements {listed}", SMALL, ha="left")
        _text(ax, 14.5, 2.3, "thread", SMALL, ha="right")
        for thread in range(threads):
            if cell > 3.5 or thread % 5 == 0:
                _text(ax, 16 + (thread + 0.5) * cell, 2.3, thread, SMALL)
        cells = []
        for place, number in enumerate(rows):
            y = -(place + 1) * ROW
            if number is None:
                more = _many(rounds - len(rows) + 1, "round")
                _text(ax, 16 + threads * cell / 2, y + ROW / 2, f"… {more} not drawn …", SMALL)
                continue
            _text(ax, 14.5, y + ROW / 2, f"round {number}", SMALL, ha="right")
            for thread in range(threads):
                element = number * threads + thread
                kind = "element" if element < n else "idle"
                x = 16 + thread * cell
                cells.append(Cell(x, y + 0.3, cell, ROW - 0.6, kind, thread))
                if numbered and element < n:
                    _text(ax, x + cell / 2, y + ROW / 2, element, SMALL)
        _draw_cells(ax, cells)
        _frame(ax, 16 + marked * cell, -len(rows) * ROW, cell, len(rows) * ROW, "-")
        _legend(ax, -len(rows) * ROW - 4.5, what="thread")
    return fig


# --- pieces ---------------------------------------------------------------------------------------


@contextmanager
def _drawing(alt: str, bottom: float, top: float) -> Iterator[tuple[Figure, Axes]]:
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


def _box(
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
        _text(ax, x + width / 2, y + height / 2, text, size)


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


def _draw_cells(ax: Axes, cells: list[Cell]) -> None:
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


def _frame(ax: Axes, x: float, y: float, width: float, height: float, line: str) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y), width, height, fill=False, linestyle=line, linewidth=1.6))


def _zoom(ax: Axes, part: tuple[float, float, float], below: float) -> None:
    """Lines from a piece's lower corners (left, right, y) to the full width of the level below."""
    left, right, y = part
    for start, end in ((left, 0), (right, 100)):
        ax.plot([start, end], [y, below], color=_ink(), lw=0.8, ls=":", alpha=0.9)


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], style: str, width: float
) -> None:
    look = {"arrowstyle": style, "color": _ink(), "lw": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def _heading(ax: Axes, y: float, name: str, what: str) -> None:
    _text(ax, 0, y, name, LARGE, ha="left", weight="bold")
    _text(ax, 2.2 + 2 * len(name), y, what, NORMAL, ha="left")


def _legend(ax: Axes, y: float, missing: bool = False, what: str = "block") -> None:
    """What tint, hatch and dots mean, below a map."""
    entries = [("element", f"colour: the {what}", 24), ("idle", "no element: nothing to do", 37)]
    if missing:
        entries.append(("missing", "no thread", 20))
    x = 7.0
    for kind, text, width in entries:
        _draw_cells(ax, [Cell(x, y - 1.5, 3.4, 3, kind)])
        _text(ax, x + 4.3, y, text, SMALL, ha="left")
        x += width + 5


def _text(ax: Axes, x: float, y: float, text: object, size: float, **more: Any) -> None:
    ax.text(x, y, str(text), fontsize=size, **{"ha": "center", "va": "center"} | more)


def _ink() -> str:
    """The style's text colour, for lines: the page's own colour once the figure is shown."""
    from matplotlib import rcParams

    return rcParams["text.color"]


def _rows_shown(count: int) -> list[int | None]:
    """Row numbers, all or the first and last ones around a gap (None)."""
    if count <= MOST_ROWS:
        return list(range(count))
    return [*range(MOST_ROWS - 5), None, *range(count - 4, count)]


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _need_block(threads: int) -> None:
    _need(
        1 <= threads <= MOST_THREADS,
        f"a block of {threads:,} threads",
        f"a block has 1 to {MOST_THREADS:,} threads",
        "a multiple of 32, such as 128 or 256",
    )


def _need(held: bool, what: str, why: str, try_: str) -> None:
    """Raise a `ValueError` in three parts unless the condition held."""
    if not held:
        raise ValueError(f"{what}\nWhy: {why}\nTry: {try_}")
