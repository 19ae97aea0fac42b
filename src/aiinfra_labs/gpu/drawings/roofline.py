"""The roofline, drawn: intensity and operations/s, both in powers of ten. Unit 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..roofline import Point, Roofline
from .pieces import READABLE, STYLE, ink, need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Where a label may stand, from its point, in points of print: the first that is free is taken.
_PLACES = (
    (8, -3, "left"),
    (-8, -3, "right"),
    (8, -12, "left"),
    (6, -17, "left"),
    (-8, 7, "right"),
    (-5, 11, "right"),
    (0, 9, "center"),
    (0, -16, "center"),
    (8, 7, "left"),
    (-8, -14, "right"),
    (14, -22, "left"),
    (-14, 18, "right"),
)
_MARKERS = "osD^vPX"


def roofline(
    roofs: Sequence[Roofline],
    points: Sequence[Point] = (),
    alt: str | None = None,
    width: float = 5.6,
    height: float = 3.8,
) -> Figure:
    """Roofs and the kernels under them, on two logarithmic axes.

    A filled mark was measured (`Point.performance`); a hollow one stands on its roof, where the
    model allows it to be at most. Names stand beside the marks, where each has room, else in a
    legend below. alt: what to say instead of naming roofs and points.
    """
    need(len(roofs) > 0, "no roof to draw", "a kernel is judged by a device", 'roofline("h100")')
    need(
        all(0 <= p.roof < len(roofs) for p in points),
        f"a point under roof {max((p.roof for p in points), default=0)} of {len(roofs)}",
        "roofs are numbered from 0",
        "Point(..., roof=0) for the first",
    )
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        fig.set_label(alt or _said(roofs, points))
        ax = fig.subplots()
        low, high = _span(roofs, points)
        for k, roof in enumerate(roofs):
            corner = sorted((low, min(max(roof.ridge, low), high), high))
            ax.plot(corner, roof.attainable(corner), color=f"C{k}", label=roof.name)
        ax.set(xscale="log", yscale="log", xlim=(low, high))
        ax.set_xlabel("operations for each byte of DRAM traffic")
        ax.set_ylabel("operations/s")
        _ticks(ax)
        ax.grid(True)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
        marks = [(p.intensity, _performance(p, roofs), p) for p in points]
        drawn = []
        for k, (x, y, point) in enumerate(marks):
            colour = f"C{point.roof}"
            face = "none" if point.performance is None else colour
            look = {"marker": _MARKERS[k % len(_MARKERS)], "mec": colour, "mfc": face}
            drawn += ax.plot([x], [y], ls="none", ms=7, mew=1.6, zorder=3, clip_on=False, **look)
        bottom = min([y for _, y, _ in marks] + [float(r.attainable(low)) for r in roofs])
        ax.set_ylim(bottom / 2.5, max(r.peak for r in roofs) * 2.5)
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        if not _label(ax, marks, roofs, canvas.get_renderer()):
            names = [point.name for point in points]
            rows = -(-len(names) // 2)
            fig.set_size_inches(width, height + 0.2 * rows)
            fig.legend(drawn, names, loc="outside lower center", ncols=2)
    return fig


def _performance(point: Point, roofs: Sequence[Roofline]) -> float:
    on_the_roof = float(roofs[point.roof].attainable(point.intensity))
    return on_the_roof if point.performance is None else point.performance


def _span(roofs: Sequence[Roofline], points: Sequence[Point]) -> tuple[float, float]:
    """Intensities from which and to which it is drawn: each ridge and each point well inside."""
    inside = [r.ridge for r in roofs] + [p.intensity for p in points]
    return min(0.1, min(inside) / 3), max(100.0, max(inside) * 8)


def _ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    ax.yaxis.set_major_locator(LogLocator(numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: in_words(y)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())


def in_words(rate: float) -> str:
    """Operations/s with a unit that keeps the figure short: 2e13 is "20 T"."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if rate >= size * 0.9999:
            return f"{rate / size:.3g} {letter}"
    return f"{rate:.3g}"


def _label(
    ax: Axes, marks: list[tuple[float, float, Point]], roofs: Sequence[Roofline], renderer: Any
) -> bool:
    """A name beside each point, clear of marks, lines and other names; none, if one has no room."""
    frame = _corners(ax.get_window_extent(renderer))
    pad = 10 * ax.figure.dpi / 72  # pixels around a mark that the names of others keep off
    places = ax.transData.transform([(x, y) for x, y, _ in marks]) if marks else []
    taken = [(x - pad, y - pad, x + pad, y + pad) for x, y in places]
    lines = _along(ax, roofs)
    names = []
    for k, (x, y, point) in enumerate(marks):
        others = taken[:k] + taken[k + 1 :] + lines
        for dx, dy, side in _PLACES:
            look = {"textcoords": "offset points", "ha": side, "fontsize": READABLE, "color": ink()}
            text = ax.annotate(point.name, (x, y), (dx, dy), **look)
            box = _corners(text.get_window_extent(renderer))
            if not any(_overlap(box, other) for other in others) and not _outside(box, frame):
                names.append(text)
                taken.append(box)
                break
            text.remove()
        else:
            for text in names:
                text.remove()
            return False
    return True


def _along(ax: Axes, roofs: Sequence[Roofline]) -> list[tuple[float, ...]]:
    """Small boxes along each roof, in pixels: where a name would cover a line."""
    import numpy as np

    x = np.geomspace(*ax.get_xlim(), 200)
    found = []
    for roof in roofs:
        line = ax.transData.transform(np.column_stack([x, roof.attainable(x)]))
        found += [(px - 2, py - 2, px + 2, py + 2) for px, py in line]
    return found


def _corners(box: Any) -> tuple[float, ...]:
    return box.x0, box.y0, box.x1, box.y1


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(across, 0) * max(down, 0)


def _outside(box: tuple[float, ...], frame: tuple[float, ...]) -> bool:
    return box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]


def _said(roofs: Sequence[Roofline], points: Sequence[Point]) -> str:
    """The alt text: each roof with its corner, each point with what bounds it."""
    said = [
        f"{r.name}: at most {in_words(r.peak)} operations/s and {in_words(r.bandwidth)}B/s, which "
        f"meet at {r.ridge:.3g} operations a byte."
        for r in roofs
    ]
    for point in points:
        roof = roofs[point.roof]
        at = in_words(_performance(point, roofs))
        measured = "at most" if point.performance is None else "measured"
        said.append(
            f"{point.name} has {point.intensity:.3g} operations a byte, {measured} {at} "
            f"operations/s, bound by {roof.bound_by(point.intensity)}."
        )
    return "A roofline on logarithmic axes. " + " ".join(said)
