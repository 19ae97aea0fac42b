"""What a profiled launch reports, by launch and by line, and two reports side by side. Unit 3.8."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import EmulatorError
from .figures import Counters
from .occupancy import Occupancy, occupancy_of
from .showing import ReportTable, count

if TYPE_CHECKING:
    from .roofline import Estimate

DRAM_METRICS = {
    "dram_bytes_read": "dram__bytes_read.sum",
    "dram_bytes_written": "dram__bytes_write.sum",
}
OCCUPANCY_METRIC = "sm__warps_active.avg.pct_of_peak_sustained_active"  # here the theoretical one


@dataclass(repr=False)
class Report(Counters):
    """One launch, or the sum of several.

    lines: the same figures by source line; the key is the line's number.
    notes: things that the figures do not show, such as an index that wrapped.
    dram_bytes_read, dram_bytes_written: by the model of the L2 in `cache.py`, for the launch as a
    whole; None where the model gave up.
    spared: of the figures, what a compiler is known to make nothing of; rows show both.
    shared_bytes: shared memory of a block. registers: of a thread; None where no compiler said.
    """

    kernel: str = ""
    grid: tuple[int, int, int] = (0, 0, 0)
    block: tuple[int, int, int] = (0, 0, 0)
    lines: dict[Any, Counters] = field(default_factory=dict)
    source: dict[Any, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spared: Counters = field(default_factory=Counters)
    launches: int = 1
    dram_bytes_read: int | None = 0
    dram_bytes_written: int | None = 0
    shared_bytes: int = 0
    registers: int | None = None
    device: str = ""

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads_per_block(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def threads(self) -> int:
        """Threads of the grid."""
        return self.blocks * self.threads_per_block

    @property
    def dram_bytes(self) -> int | None:
        """Bytes that cross the DRAM bus; None where the model of the L2 gave up."""
        if self.dram_bytes_read is None or self.dram_bytes_written is None:
            return None
        return self.dram_bytes_read + self.dram_bytes_written

    @property
    def arithmetic_intensity(self) -> float | None:
        """Floating-point operations for each byte of DRAM traffic; None where that is not known."""
        return self.flops / self.dram_bytes if self.dram_bytes else None

    @property
    def metrics(self) -> dict[str, float]:
        """The figures under their Nsight Compute names; what is not known is left out."""
        found = super().metrics
        for name, metric in DRAM_METRICS.items():
            if getattr(self, name) is not None:
                found[metric] = getattr(self, name)
        if self.registers is not None and self.threads:
            found[OCCUPANCY_METRIC] = 100 * self.occupancy().fraction
        return found

    def occupancy(self, registers: int | None = None, device: str | None = None) -> Occupancy:
        """The share of an SM's warps that this launch can keep there; see `occupancy.py`."""
        if not self.threads:
            raise EmulatorError(
                "this report is the sum of several launches",
                "each launch has blocks of its own size, and so an occupancy of its own",
                "take one of them: p.launches[0].occupancy()",
            )
        return occupancy_of(
            self.threads_per_block,
            registers=self.registers if registers is None else registers,
            shared=self.shared_bytes,
            device=device or self.device or None,
        )

    def estimate(self, device: str | None = None) -> Estimate:
        """How long it would take on a device, by the roofline model; see `roofline.py`."""
        from .roofline import estimate

        return estimate(self, device or self.device or None)

    def compare(self, other: Report) -> Comparison:
        """This report and another, figure by figure."""
        return Comparison(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kernel": self.kernel,
            "grid": list(self.grid),
            "block": list(self.block),
            "launches": self.launches,
            "device": self.device,
            "shared_bytes": self.shared_bytes,
            "registers": self.registers,
            **self.figures(),
            "dram_bytes_read": self.dram_bytes_read,
            "dram_bytes_written": self.dram_bytes_written,
            "metrics": self.metrics,
            "lines": {str(number): c.figures() for number, c in self.lines.items()},
            "notes": list(self.notes),
        }

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each source line."""
        try:  # the one thing here that is more than NumPy, and only where it is asked for
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise EmulatorError(
                "to_frame() needs pandas, which is not installed here",
                "a DataFrame is pandas' own",
                "pip install pandas, or use to_dict(), which needs nothing",
            ) from None
        rows = [{"source": self.source.get(k, "")} | c.figures() for k, c in self.lines.items()]
        return pandas.DataFrame(rows, index=pandas.Index(self.lines, name="line"))

    def rows(self) -> list[tuple[str, str]]:
        """The figures worth reading first, as (name, value)."""
        machines = self.compiled()
        found = []
        for name, value, shown in _ROWS:
            if shown(self):
                own, theirs = value(self), value(machines)
                found.append((name, own if own == theirs else f"{own} (compiled: {theirs})"))
        return found

    def compiled(self) -> Report:
        """The same report without what a compiler is known to spare."""
        left = {f.name: getattr(self, f.name) - getattr(self.spared, f.name) for f in _FIGURES}
        return replace(self, **left, spared=Counters())

    def _title(self) -> str:
        if self.launches == 0:
            return "no launches"
        if self.launches > 1:
            return f"{self.launches} launches"
        return f"{self.kernel}[{_dims(self.grid)}, {_dims(self.block)}]"

    def _line_table(self) -> ReportTable | None:
        """A row for each line that did something; a column for each figure that some line has."""
        shown = [
            (number, c)
            for number, c in sorted(self.lines.items(), key=lambda item: str(item[0]).zfill(9))
            if any(has(c) for _, _, has in _LINE_COLUMNS)
        ]
        columns = [column for column in _LINE_COLUMNS if any(column[2](c) for _, c in shown)]
        if not columns:
            return None
        rows = [
            [str(number), self.source.get(number, "")]
            + [value(c) if has(c) else "" for _, value, has in columns]
            for number, c in shown
        ]
        return ReportTable(
            rows, ["line", "source", *(name for name, _, _ in columns)], left=2, code=1
        )

    def __str__(self) -> str:
        tables = [ReportTable(self.rows(), title=self._title()), self._line_table()]
        text = [table.text() for table in tables if table is not None]
        return "\n".join(text + [f"  note: {note}" for note in self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [ReportTable(self.rows(), title=self._title()), self._line_table()]
        notes = ReportTable([[f"Note: {note}"] for note in self.notes]).html() if self.notes else ""
        return "".join(table.html() for table in tables if table is not None) + notes


_FIGURES = fields(Counters)


def _always(c: Any) -> bool:
    return True


# (name, its value as text, whether it is shown)
_ROWS = [
    ("threads launched", lambda r: count(r.threads), lambda r: r.launches == 1),
    ("global load requests", lambda r: count(r.global_load_requests), _always),
    ("sectors per load request", lambda r: f"{r.sectors_per_load:.2f}", _always),
    ("global store requests", lambda r: count(r.global_store_requests), _always),
    ("sectors per store request", lambda r: f"{r.sectors_per_store:.2f}", _always),
    ("bytes requested", lambda r: count(r.bytes_requested), _always),
    ("bytes moved", lambda r: count(r.bytes_moved), _always),
    ("DRAM bytes read", lambda r: count(r.dram_bytes_read), _always),
    ("DRAM bytes written", lambda r: count(r.dram_bytes_written), _always),
    (
        "shared load requests",
        lambda r: count(r.shared_load_requests),
        lambda r: r.shared_load_requests,
    ),
    (
        "wavefronts per shared load",
        lambda r: f"{r.wavefronts_per_shared_load:.2f}",
        lambda r: r.shared_load_requests,
    ),
    (
        "shared store requests",
        lambda r: count(r.shared_store_requests),
        lambda r: r.shared_store_requests,
    ),
    (
        "wavefronts per shared store",
        lambda r: f"{r.wavefronts_per_shared_store:.2f}",
        lambda r: r.shared_store_requests,
    ),
    (
        "bank conflicts",
        lambda r: count(r.bank_conflicts),
        lambda r: r.shared_load_requests or r.shared_store_requests,
    ),
    ("atomic requests", lambda r: count(r.atomic_requests), lambda r: r.atomic_requests),
    (
        "turns per atomic request",
        lambda r: f"{r.turns_per_atomic:.2f}",
        lambda r: r.atomic_requests,
    ),
    (
        "local load requests",
        lambda r: count(r.local_load_requests),
        lambda r: r.local_load_requests,
    ),
    (
        "local store requests",
        lambda r: count(r.local_store_requests),
        lambda r: r.local_store_requests,
    ),
    ("shuffles", lambda r: count(r.shuffles), lambda r: r.shuffles),
    ("branches", lambda r: count(r.branches), _always),
    ("divergent branches", lambda r: count(r.divergent_branches), _always),
    ("active lanes per instruction", lambda r: f"{r.lanes_per_instruction:.2f}", _always),
    ("floating-point operations", lambda r: count(r.flops), _always),
    ("floating-point divisions", lambda r: count(r.divisions), lambda r: r.divisions),
    ("square roots", lambda r: count(r.square_roots), lambda r: r.square_roots),
    (
        "operations per DRAM byte",
        lambda r: f"{r.arithmetic_intensity:.3g}",
        lambda r: r.flops and r.arithmetic_intensity is not None,
    ),
]
_LINE_COLUMNS = [
    ("sectors/load", lambda c: f"{c.sectors_per_load:.2f}", lambda c: c.global_load_requests),
    ("sectors/store", lambda c: f"{c.sectors_per_store:.2f}", lambda c: c.global_store_requests),
    (
        "bank conflicts",
        lambda c: count(c.bank_conflicts),
        lambda c: c.shared_load_requests or c.shared_store_requests,
    ),
    ("turns/atomic", lambda c: f"{c.turns_per_atomic:.2f}", lambda c: c.atomic_requests),
    (
        "divergent",
        lambda c: f"{c.divergent_branches:,} of {c.branches:,}",
        lambda c: c.branches,
    ),
    ("flops", lambda c: count(c.flops), lambda c: c.flops),
]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two reports side by side."""

    a: Report
    b: Report

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(name, in a, in b, what became of it) for each figure that either report shows."""
        rows = []
        for name, value, shown in _ROWS:
            if shown(self.a) or shown(self.b):
                a, b = (value(r) if shown(r) else "0" for r in (self.a, self.b))
                rows.append((name, a, b, _change(a, b)))
        return rows

    def to_dict(self) -> dict[str, tuple[int, int]]:
        """Every figure by its plain name: (in a, in b)."""
        a, b = self.a.figures(), self.b.figures()
        return {name: (a[name], b[name]) for name in a}

    def _table(self) -> ReportTable:
        names = [r._title() for r in (self.a, self.b)]
        if names[0] == names[1]:
            names = [f"{name} ({letter})" for name, letter in zip(names, "ab", strict=True)]
        return ReportTable(self.rows(), ["", *names, "change"])

    def __str__(self) -> str:
        return self._table().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table().html()


def compare(a: Report, b: Report) -> Comparison:
    """Two reports, figure by figure: `cuda.compare(naive, tiled)`."""
    return Comparison(a, b)


def _change(a: str, b: str) -> str:
    """ "x 0.25" where a fourth is left, "same" where nothing changed."""
    if a == b:
        return "same"
    if "-" in (a, b):
        return ""
    x, y = (float(v.replace(",", "")) for v in (a, b))
    return f"x {y / x:.3g}" if x else "new"


def _dims(size: tuple[int, int, int]) -> str:
    kept = list(size)
    while len(kept) > 1 and kept[-1] == 1:
        kept.pop()
    return str(kept[0]) if len(kept) == 1 else str(tuple(kept))


def sum_of_reports(reports: list[Report]) -> Report:
    """The sum of several launches, lines of the same number added."""
    if len(reports) == 1:
        return reports[0]
    result = Report(kernel=", ".join(dict.fromkeys(r.kernel for r in reports)))
    result.launches = len(reports)
    if len({r.device for r in reports}) == 1:
        result.device = reports[0].device
    for report in reports:
        for f in fields(Counters):
            setattr(result, f.name, getattr(result, f.name) + getattr(report, f.name))
        for name in DRAM_METRICS:
            a, b = getattr(result, name), getattr(report, name)
            setattr(result, name, None if a is None or b is None else a + b)
        for number, counters in report.lines.items():
            result.lines[number] = result.lines.get(number, Counters()) + counters
        result.spared += report.spared
        result.source |= report.source
        result.notes += [n for n in report.notes if n not in result.notes]
    return result
