"""The drawings of unit 3.2: the thread hierarchy, host and device, which thread has which element.

Each returns a matplotlib figure with its alt text as the figure's label, in the course's style:

    from aiinfra_labs.course import figures
    figures.show(drawings.thread_map(n=100, block=48))

Fills are a tint of a colour, so the page shows through and its text colour reads on them, on a
light page and on a dark one. A drawing needs no device and no emulator: it is what the formulas
say, to compare with what a kernel did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pieces import (
    LARGE,
    NORMAL,
    SMALL,
    WARP,
    Cell,
    arrow,
    box,
    draw_cells,
    drawing,
    frame,
    heading,
    ink,
    legend,
    many,
    need,
    need_block,
    rows_shown,
    write,
    zoom,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 86  # of a drawing: its labels then have 9 pixels on a phone
ROW = 4.8  # of a map: its height
LEFT, LANE, RIGHT = 24, 1.38, 69.7  # of a map: where lanes begin, a lane's width, the elements
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
    with drawing(alt, -12, 112, WIDE) as (fig, ax):
        heading(ax, 107, "grid", "all blocks of a launch")
        box(ax, 0, 80, WIDE, 24, "C0")
        for row in range(2):
            for column in range(4):
                x, y = 2.5 + column * 21, 94 - row * 11
                box(ax, x, y - 0.5, 18, 7.5, "C1", f"block ({column}, {row})", NORMAL)
        frame(ax, 1.2, 92, 41.3, 10.5, "--")
        write(ax, WIDE, 107, "dashed: cluster (Hopper)", NORMAL, ha="right")
        zoom(ax, (2.5, 20.5, 82.5), 72.5, WIDE)

        heading(ax, 69, "block", "on one SM; its threads can wait for each other")
        box(ax, 0, 52, WIDE, 14, "C1")
        for warp in range(4):
            box(ax, 2.5 + warp * 14.5, 54.5, 13, 9, "C2", f"warp {warp}", NORMAL)
        box(ax, 62, 54.5, 22, 9, None, "shared memory", NORMAL)
        zoom(ax, (17, 30, 54.5), 44.5, WIDE)

        heading(ax, 41, "warp", "32 lanes, one instruction at a time")
        box(ax, 0, 27, WIDE, 11, "C2")
        for lane in range(WARP):
            box(ax, 1.2 + lane * 2.62, 29, 2.2, 7, "C3")
            if lane in (0, 5, 10, 15, 20, 25, 31):
                write(ax, 2.3 + lane * 2.62, 32.3, lane, NORMAL)
        zoom(ax, (1.2 + 5 * 2.62, 3.4 + 5 * 2.62, 29), 19, WIDE)

        heading(ax, 15.5, "thread", "lane 5 of warp 1: thread 37 of its block")
        box(ax, 0, -11, WIDE, 23.5, "C3")
        box(ax, 2.5, -8, 20, 17.5, None, "registers\nof its own", NORMAL)
        write(ax, 55, 5.5, "who it is: threadIdx, blockIdx", NORMAL)
        write(ax, 55, -0.2, "what it does: the kernel's code", NORMAL)
        write(ax, 55, -5.9, "i = blockIdx.x · blockDim.x + threadIdx.x", NORMAL)
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
    with drawing(alt, -2, 96, WIDE) as (fig, ax):
        for x, name, colour, runs, arrays in (
            (0, "host", "C0", "CPU", ("a", "out")),
            (64, "device", "C2", "SMs", ("d_a", "d_out")),
        ):
            write(ax, x + 11, 93, name, LARGE, weight="bold")
            box(ax, x, 0, 22, 89, colour)
            box(ax, x + 2.5, 66, 17, 19, "C3" if name == "device" else None, runs, LARGE)
            box(ax, x + 2.5, 3, 17, 53, None)
            write(ax, x + 11, 51.5, "memory", NORMAL)
            box(ax, x + 5, 29, 12, 14, "C1", arrays[0], LARGE)
            box(ax, x + 5, 10, 12, 14, "C1", arrays[1], LARGE)
            arrow(ax, (x + 11, 66), (x + 11, 56), "<|-|>", 1.4)
        write(ax, WIDE / 2, 93, "PCIe", LARGE, weight="bold")
        _call(ax, 80, "3  kernel launch", "kernel[grid, block](…)", 22, 64)
        _call(ax, 54, "1  cudaMalloc", "device_array", 22, 66.5)
        _call(ax, 36, "2  cudaMemcpy", "to_device", 17, 69, copies=True)
        _call(ax, 17, "4  cudaMemcpy", "copy_to_host", 69, 17, copies=True)
        write(ax, WIDE / 2, 4.8, "5  cudaFree", NORMAL, weight="bold")
        write(ax, WIDE / 2, 0.5, "when its last name goes", NORMAL)
    return fig


def _call(
    ax: Axes, y: float, cuda: str, python: str, start: float, end: float, copies: bool = False
) -> None:
    """An arrow between host and device, with CUDA's name above it and Python's below.

    A call that copies an array is drawn thick: it is the one that takes time.
    """
    arrow(ax, (start, y), (end, y), "-|>", 3 if copies else 1.4)
    write(ax, WIDE / 2, y + 3.4, cuda, NORMAL, weight="bold")
    write(ax, WIDE / 2, y - 3.4, python, NORMAL)


# --- which thread has which element ---------------------------------------------------------------


def thread_map(n: int, block: int, marked: tuple[int, int] | None = None) -> Figure:
    """The threads of a launch over n elements, one warp a row; blocks by colour.

    Thread i has element i. The grid is the smallest that covers n: ceil(n / block) blocks. A
    hatched thread has no element and must do nothing; a dotted place has no thread, because the
    block is not a multiple of 32.

    n: elements, at least 1. block: threads a block, 1 to 1024. marked: a block, and a thread of it,
    whose place is filled and whose number is worked out above the map.
    """
    need(n >= 1, f"n = {n}", "a grid of no blocks cannot be launched", "n = 1 or more")
    need_block(block)
    blocks, warps = -(-n // block), -(-block // WARP)
    idle = blocks * block - n
    alt = (
        f"{many(n, 'element')}, {many(blocks, 'block')} of {many(block, 'thread')}, which makes "
        f"{many(warps, 'warp')} a block and {many(blocks * block, 'thread')} in all. "
        f"{many(idle, 'thread')} of the last block "
        f"{'has' if idle == 1 else 'have'} no element."
    )
    if marked is not None:
        need(
            0 <= marked[0] < blocks and 0 <= marked[1] < block,
            f"marked = {marked}",
            f"the launch has {many(blocks, 'block')} of {many(block, 'thread')}",
            "a block and a thread of it, both counted from 0",
        )
        alt += f" Block {marked[0]}, thread {marked[1]} has number {_number(marked, block)}."
    from matplotlib.patches import Rectangle

    rows = rows_shown(blocks * warps)
    top = 5 if marked is None else 12
    with drawing(alt, -len(rows) * ROW - 9.5, top, WIDE) as (fig, ax):
        if marked is not None:
            said = f"block {marked[0]}, thread {marked[1]} (filled): i = {_number(marked, block)}"
            write(ax, WIDE / 2, 9, said, LARGE)
        write(ax, LEFT - 1, 2, "lane", SMALL, ha="right")
        for lane in (0, 7, 15, 23, 31):
            write(ax, LEFT + (lane + 0.5) * LANE, 2, lane, SMALL)
        write(ax, RIGHT, 2, "elements", SMALL, ha="left")
        for place, row in enumerate(rows):
            y = -(place + 1) * ROW
            if row is None:
                more = many(blocks * warps - len(rows) + 1, "warp")
                write(ax, WIDE / 2, y + ROW / 2, f"… {more} not drawn …", SMALL)
                continue
            _draw_warp(ax, y, *divmod(row, warps), n, block)
            if marked is not None and row == marked[0] * warps + marked[1] // WARP:
                x = LEFT + marked[1] % WARP * LANE
                ax.add_patch(Rectangle((x, y + 0.4), LANE, ROW - 0.8, color=ink()))
        legend(ax, -len(rows) * ROW - 4.5, missing=block % WARP != 0)
    return fig


def _number(marked: tuple[int, int], block: int) -> str:
    return f"{marked[0]} · {block} + {marked[1]} = {marked[0] * block + marked[1]}"


def _draw_warp(ax: Axes, y: float, block: int, warp: int, n: int, size: int) -> None:
    """One warp's 32 lanes: tinted with an element, hatched without one, dotted without thread."""
    first = block * size + warp * WARP
    lanes = min(WARP, size - warp * WARP)
    kinds = [
        "missing" if lane >= lanes else "element" if first + lane < n else "idle"
        for lane in range(WARP)
    ]
    places = enumerate(kinds)
    cells = [Cell(LEFT + i * LANE, y + 0.4, LANE, ROW - 0.8, kind, block) for i, kind in places]
    draw_cells(ax, cells)
    write(ax, LEFT - 1, y + ROW / 2, f"block {block}, warp {warp}", SMALL, ha="right")
    last = min(first + lanes, n) - 1
    span = f"{first} – {last}" if last > first else str(first) if last == first else "none"
    write(ax, RIGHT, y + ROW / 2, span, SMALL, ha="left")


def warp_passes(condition: Sequence[bool], yes: str, no: str) -> Figure:
    """The passes that one warp makes through an `if`: in each, some lanes work and the rest wait.

    condition: what each of 32 lanes finds. yes, no: the line that the lanes run then, and else.
    """
    need(
        len(condition) == WARP,
        f"{len(condition)} lanes",
        "a warp has 32",
        "one True or False for each lane",
    )
    sides = [(yes, [bool(c) for c in condition]), (no, [not c for c in condition])]
    passes = [(line, lanes) for line, lanes in sides if any(lanes)]
    taken = "1 pass" if len(passes) == 1 else f"{len(passes)} passes"
    alt = f"One warp takes {taken} through an if. "
    alt += " ".join(
        f"In the pass that runs {line}, {many(sum(lanes), 'lane')} of 32 work and the rest wait."
        for line, lanes in passes
    )
    left, lane, high = 22, 2, 5
    with drawing(alt, -len(passes) * 7 - 5, 5, WIDE) as (fig, ax):
        write(ax, left - 1, 2, "lane", SMALL, ha="right")
        for at in (0, 7, 15, 23, 31):
            write(ax, left + (at + 0.5) * lane, 2, at, SMALL)
        cells = []
        for number, (line, works) in enumerate(passes):
            y = -(number + 1) * 7 + 1
            write(ax, left - 1, y + high / 2, line, SMALL, ha="right")
            for at, at_work in enumerate(works):
                kind = "element" if at_work else "missing"
                cells.append(Cell(left + at * lane, y, lane, high, kind, 2 * number))
        draw_cells(ax, cells)
        write(ax, WIDE / 2, -len(passes) * 7 - 3, "tinted: works.  dotted: waits", SMALL)
    return fig


def thread_map_2d(shape: tuple[int, int], block: tuple[int, int]) -> Figure:
    """The blocks of a 2-d launch over an image: x is the column, y the row.

    The first block shows its threads' numbers, if there is room, x fastest: 0 to 31 are its first
    warp. Hatched threads lie outside the image.

    shape: rows and columns of the image. block: threads in x and in y, as in the launch.
    """
    (rows, columns), (wide, high) = shape, block
    need(
        rows >= 1 and columns >= 1,
        f"shape = {shape}",
        "a grid of no blocks cannot be launched",
        "at least 1 row and 1 column",
    )
    need_block(wide * high if min(block) >= 1 else 0)
    across, down = -(-columns // wide), -(-rows // high)
    total = across * wide, down * high
    need(
        max(total) <= MOST_ACROSS,
        f"the grid covers {total[0]} x {total[1]} elements",
        f"each thread is one cell, and more than {MOST_ACROSS} in a row cannot be told apart",
        "draw a small image: the pattern is the same",
    )
    idle = total[0] * total[1] - rows * columns
    alt = (
        f"An image of {many(rows, 'row')} and {many(columns, 'column')} under a grid of {across} "
        f"x {down} blocks of {wide} x {high} threads; {idle:,} of {total[0] * total[1]:,} threads "
        "lie outside the image. x is the column and y the row; a block numbers its threads along "
        "x first."
    )
    cell = min(78 / total[0], 92 / total[1], 8)
    with drawing(alt, -total[1] * cell - 6.5, 9, WIDE) as (fig, ax):
        _draw_plane(ax, shape, block, (across, down), cell)
        _number_threads(ax, wide, high, cell)
        for bx in range(across):
            middle = 8 + (bx + 0.5) * wide * cell
            write(ax, middle, 2.3, _that_fits(f"blockIdx.x = {bx}", wide * cell), SMALL)
        for by in range(down):
            middle = -(by + 0.5) * high * cell
            name = _that_fits(f"blockIdx.y = {by}", high * cell)
            write(ax, 5.6, middle, name, SMALL, rotation=90)
        write(ax, 8, 7, "x: the column →", SMALL, ha="left")
        write(ax, 1.5, 0, "← y: the row", SMALL, rotation=90, va="top")
        legend(ax, -total[1] * cell - 4)
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
    draw_cells(ax, cells)
    for by in range(down):
        for bx in range(across):
            corner = 8 + bx * wide * cell, -(by + 1) * high * cell
            frame(ax, *corner, wide * cell, high * cell, "-")


def _number_threads(ax: Axes, wide: int, high: int, cell: float) -> None:
    """The first block's threads by number, if a cell has room for one."""
    if cell < 0.6 + 1.5 * len(str(wide * high - 1)):
        return
    for y in range(high):
        for x in range(wide):
            write(ax, 8 + (x + 0.5) * cell, -(y + 0.5) * cell, y * wide + x, SMALL)


def _that_fits(name: str, room: float) -> str:
    """A block's name, or only its number, or nothing, by the room there is."""
    number = name.rsplit(" ", 1)[1]
    return next((text for text in (name, number) if 1.35 * len(text) < room), "")


def grid_stride(n: int, threads: int) -> Figure:
    """A grid-stride loop: thread t has elements t, t + threads, t + 2 threads, ... below n.

    One row is one round of the loop, one column one thread; thread 1 is framed.

    n: elements, at least 1. threads: of the whole grid, 1 to 32.
    """
    need(n >= 1, f"n = {n}", "there is nothing to draw", "n = 1 or more")
    need(
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
        f"{many(threads, 'thread')}, {many(n, 'element')}, {many(rounds, 'round')} of the loop. "
        "In each round the threads have the elements of one row, side by side. "
        f"Thread {marked} has the elements {listed}."
    )
    cell = min((WIDE - 15) / threads, 8.8)
    numbered = cell > 0.8 + 1.5 * len(str(n - 1))
    rows = rows_shown(rounds)
    with drawing(alt, -len(rows) * ROW - 9, 10, WIDE) as (fig, ax):
        write(ax, 15, 7.5, f"thread {marked} (framed) has elements {listed}", SMALL, ha="left")
        write(ax, 14, 2.3, "thread", SMALL, ha="right")
        for thread in range(threads):
            if cell > 3.5 or thread % 5 == 0:
                write(ax, 15 + (thread + 0.5) * cell, 2.3, thread, SMALL)
        cells = []
        for place, number in enumerate(rows):
            y = -(place + 1) * ROW
            if number is None:
                more = many(rounds - len(rows) + 1, "round")
                write(ax, 15 + threads * cell / 2, y + ROW / 2, f"… {more} not drawn …", SMALL)
                continue
            write(ax, 14, y + ROW / 2, f"round {number}", SMALL, ha="right")
            for thread in range(threads):
                element = number * threads + thread
                kind = "element" if element < n else "idle"
                x = 15 + thread * cell
                cells.append(Cell(x, y + 0.3, cell, ROW - 0.6, kind, thread))
                if numbered and element < n:
                    write(ax, x + cell / 2, y + ROW / 2, element, SMALL)
        draw_cells(ax, cells)
        frame(ax, 15 + marked * cell, -len(rows) * ROW, cell, len(rows) * ROW, "-")
        legend(ax, -len(rows) * ROW - 4.5, what="thread")
    return fig
