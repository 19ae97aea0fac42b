"""What a profiled launch reports. Unit 3.2; unit 3.8 compares it with Nsight Compute.

Each figure stands for a metric of Nsight Compute, whose name `metrics` uses. `warp_instructions`
and `thread_instructions` count operations of the source, not machine instructions: their ratio
stands for the metric, their sizes do not.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field, fields
from typing import Any

NSIGHT = {
    "global_load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "global_load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "global_store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "global_store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "divergent_branches": "smsp__sass_branch_targets_threads_divergent",
    "lanes_per_instruction": "smsp__thread_inst_executed_per_inst_executed.ratio",
}


@dataclass
class Counters:
    """Sums over one launch, or over one source line of it."""

    global_load_requests: int = 0
    global_load_sectors: int = 0
    global_load_bytes: int = 0  # asked for by the threads, not moved
    global_store_requests: int = 0
    global_store_sectors: int = 0
    global_store_bytes: int = 0
    branches: int = 0
    divergent_branches: int = 0
    warp_instructions: int = 0
    thread_instructions: int = 0
    flops: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counters)))

    @property
    def lanes_per_instruction(self) -> float:
        """Average active lanes of a warp instruction: 32 without divergence or partial warps."""
        return self.thread_instructions / self.warp_instructions if self.warp_instructions else 0.0

    @property
    def sectors_per_load(self) -> float:
        """4 for a coalesced float32 load, 32 at worst."""
        return _ratio(self.global_load_sectors, self.global_load_requests)

    @property
    def sectors_per_store(self) -> float:
        return _ratio(self.global_store_sectors, self.global_store_requests)

    @property
    def bytes_moved(self) -> int:
        """Between the memory pipe and the caches: 32 bytes a sector."""
        return 32 * (self.global_load_sectors + self.global_store_sectors)

    @property
    def bytes_requested(self) -> int:
        return self.global_load_bytes + self.global_store_bytes

    @property
    def metrics(self) -> dict[str, float]:
        """The figures under their Nsight Compute names."""
        return {metric: getattr(self, name) for name, metric in NSIGHT.items()}


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


@dataclass
class Report(Counters):
    """One launch, or the sum of several.

    lines: the same figures by source line; the key is the line's number.
    notes: things that the figures do not show, such as an index that wrapped.
    """

    kernel: str = ""
    grid: tuple[int, int, int] = (0, 0, 0)
    block: tuple[int, int, int] = (0, 0, 0)
    lines: dict[Any, Counters] = field(default_factory=dict)
    source: dict[Any, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    launches: int = 1

    @property
    def threads(self) -> int:
        gx, gy, gz = self.grid
        bx, by, bz = self.block
        return gx * gy * gz * bx * by * bz

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        figures = {f.name: getattr(self, f.name) for f in fields(Counters)}
        return {
            "kernel": self.kernel,
            "grid": list(self.grid),
            "block": list(self.block),
            "launches": self.launches,
            **figures,
            "metrics": self.metrics,
            "lines": {
                str(number): {f.name: getattr(c, f.name) for f in fields(Counters)}
                for number, c in self.lines.items()
            },
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, str]]:
        """The figures worth reading first, as (name, value)."""
        table = [
            ("threads launched", f"{self.threads:,}"),
            ("global load requests", f"{self.global_load_requests:,}"),
            ("sectors per load request", f"{self.sectors_per_load:.2f}"),
            ("global store requests", f"{self.global_store_requests:,}"),
            ("sectors per store request", f"{self.sectors_per_store:.2f}"),
            ("bytes requested", f"{self.bytes_requested:,}"),
            ("bytes moved", f"{self.bytes_moved:,}"),
            ("branches", f"{self.branches:,}"),
            ("divergent branches", f"{self.divergent_branches:,}"),
            ("active lanes per instruction", f"{self.lanes_per_instruction:.2f}"),
            ("floating-point operations", f"{self.flops:,}"),
        ]
        return table if self.launches == 1 else table[1:]

    def _title(self) -> str:
        if self.launches == 0:
            return "no launches"
        if self.launches > 1:
            return f"{self.launches} launches"
        return f"{self.kernel}[{_dims(self.grid)}, {_dims(self.block)}]"

    def _line_rows(self) -> list[tuple[str, ...]]:
        shown = [
            (number, c)
            for number, c in sorted(self.lines.items(), key=lambda item: str(item[0]).zfill(9))
            if c.global_load_requests or c.global_store_requests or c.branches or c.flops
        ]
        return [
            (
                str(number),
                self.source.get(number, ""),
                f"{c.sectors_per_load:.2f}" if c.global_load_requests else "",
                f"{c.sectors_per_store:.2f}" if c.global_store_requests else "",
                f"{c.divergent_branches:,} of {c.branches:,}" if c.branches else "",
            )
            for number, c in shown
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        text = [self._title(), *(f"  {name:<{width}}  {value:>14}" for name, value in self.rows())]
        lines = self._line_rows()
        if lines:
            code = max(len(row[1]) for row in lines)
            text.append(f"  {'line':>4}  {'':<{code}}  sectors/load  sectors/store  divergent")
            text += [
                f"  {number:>4}  {source:<{code}}  {load:>12}  {store:>13}  {split:>9}"
                for number, source, load, store, split in lines
            ]
        return "\n".join(text + [f"  note: {note}" for note in self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        esc = html.escape
        figures = "".join(
            f"<tr><td style='text-align:left'>{esc(n)}</td><td>{esc(v)}</td></tr>"
            for n, v in self.rows()
        )
        lines = "".join(
            f"<tr><td>{esc(a)}</td><td style='text-align:left'><code>{esc(b)}</code></td>"
            f"<td>{esc(c)}</td><td>{esc(d)}</td><td>{esc(e)}</td></tr>"
            for a, b, c, d, e in self._line_rows()
        )
        notes = "".join(f"<p>Note: {esc(n)}</p>" for n in self.notes)
        return (
            f"<table class='aiinfra-report'><caption>{esc(self._title())}</caption>"
            f"<tbody>{figures}</tbody></table>"
            "<table class='aiinfra-report'><thead><tr><th>line</th><th>source</th>"
            "<th>sectors per load</th><th>sectors per store</th><th>divergent branches</th></tr>"
            f"</thead><tbody>{lines}</tbody></table>{notes}"
        )


def _dims(size: tuple[int, int, int]) -> str:
    kept = list(size)
    while len(kept) > 1 and kept[-1] == 1:
        kept.pop()
    return str(kept[0]) if len(kept) == 1 else str(tuple(kept))


def total(reports: list[Report]) -> Report:
    """The sum of several launches, lines of the same number added."""
    result = Report(kernel=", ".join(dict.fromkeys(r.kernel for r in reports)))
    if len(reports) == 1:
        result.grid, result.block = reports[0].grid, reports[0].block
    result.launches = len(reports)
    for report in reports:
        for f in fields(Counters):
            setattr(result, f.name, getattr(result, f.name) + getattr(report, f.name))
        for number, counters in report.lines.items():
            result.lines[number] = result.lines.get(number, Counters()) + counters
        result.source |= report.source
        result.notes += [n for n in report.notes if n not in result.notes]
    return result
