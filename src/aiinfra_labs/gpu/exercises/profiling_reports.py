"""Exercise 3.8.a: read a report as Nsight Compute's rules do, and name fault and line. Unit 3.8.

The learner's function is tried on the reports of `profiling_faults.py`, whose kernels it never
sees: it has the figures alone.
"""

from __future__ import annotations

from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.course.tables import table
from aiinfra_labs.gpu import emulator

from . import profiling_faults as faults

SKILL = "Profiling"
NAMES = "names the fault of a report"
LINE = "names the line that costs most"
NOTHING = "finds nothing in a sound kernel"
LOOK = {
    faults.STRIDED: "at sectors_per_load and sectors_per_store of each line",
    faults.FLOAT64: 'at flops_by_dtype["fp64"] of each line',
    faults.CONFLICTS: "at bank_conflicts of each line, of loads and of stores",
    faults.CONTENTION: "at turns_per_atomic of each line",
    faults.DIVERGENCE: "at lanes_per_instruction of the report, then at divergent_branches",
    faults.SOUND: "at what the figure would be if the kernel were as good as it can be",
}


@exercise(
    "3.8.a",
    title="Read a report: which fault, and on which line?",
    points=4,
    central=NAMES,
    skill=SKILL,
    arguments=("report",),
    hints=(
        (
            NAMES,
            "`for number, line in report.lines.items():` gives each line's number and its figures, "
            "by the same names as the report's. Begin with the fault that leaves no doubt: a "
            "float32 kernel has no float64 operations at all.",
        ),
        (
            NAMES,
            "A fault may be in a store: `sectors_per_store`, and `bank_conflicts`, which counts "
            "loads and stores. Divergence shows in the report as a whole: "
            "`report.lanes_per_instruction` says how many of 32 lanes work on the average.",
        ),
        (
            LINE,
            "Two lines may show the same fault. One that runs once for each thread costs less than "
            "one in a loop: compare totals (`global_load_sectors`), not sectors a request.",
        ),
        (
            NOTHING,
            "32 lanes of 8 bytes fill 8 sectors; a view that begins inside a sector touches one "
            "more; one lane that stores for its warp parts a branch, and costs next to nothing.",
        ),
    ),
)
def diagnose(function: Any, require: Any) -> None:
    """(fault, line) of a report: "strided", "float64", "bank conflicts", "contention",
    "divergence" or "sound", and the number of the line that costs most, None where all is sound."""
    faulty = [k for k, c in enumerate(faults.CASES) if c.fault != faults.SOUND]
    sound = [k for k, c in enumerate(faults.CASES) if c.fault == faults.SOUND]
    with require(NAMES) as r:
        for k in faulty:
            case = faults.CASES[k]
            with r.input(case.said):
                fault, _ = _answer(r, function, k)
                r.that(
                    fault == case.fault,
                    what=f"it said {fault!r}; the fault is {case.fault!r}",
                    why=_evidence(k),
                    try_=f"look {LOOK[case.fault]}",
                )
    with require(LINE) as r:
        for k in faulty:
            case, report = faults.CASES[k], faults.report_of(k)
            with r.input(case.said):
                _, line = _answer(r, function, k)
                r.that(
                    line == case.number,
                    what=f"it named {_line(report, line)}; the most is lost on line {case.number}",
                    why=f"line {case.number} is `{report.source[case.number]}`: {_evidence(k)}",
                    try_="of the lines with the fault, take the one with the largest total",
                )
    with require(NOTHING) as r:
        for k in sound:
            case, report = faults.CASES[k], faults.report_of(k)
            with r.input(case.said):
                fault, line = _answer(r, function, k)
                r.that(
                    fault == faults.SOUND,
                    what=f"it said {fault!r}, on {_line(report, line)}; the kernel is sound",
                    why=_evidence(k),
                    try_="give each fault a limit that what is harmless stays below",
                )
                r.that(
                    line is None,
                    what=f"it said {faults.SOUND!r}, and named {_line(report, line)}",
                    why="where nothing is lost no line is to be changed",
                    try_="return the pair of the word and None",
                )


def _answer(r: Any, function: Any, k: int) -> tuple[Any, Any]:
    got = function(faults.report_of(k))
    r.that(
        isinstance(got, tuple | list) and len(got) == 2,
        what=f"it returned {'nothing' if got is None else repr(got)}",
        why="a diagnosis is a pair: the fault, and the number of a line",
        try_="return fault, line",
        slip=True,
    )
    fault, line = got
    r.that(
        fault in faults.FAULTS,
        what=f"it named the fault {fault!r}",
        why=f"the faults are {', '.join(map(repr, faults.FAULTS))}",
        try_="spell it as it is there",
    )
    return fault, line


def _line(report: emulator.Report, number: Any) -> str:
    source = report.source.get(number) if isinstance(number, int) else None
    return f"line {number}, `{source}`" if source else f"{number!r}, which is no line of it"


def _evidence(k: int) -> str:
    """The figures that speak for a case's fault, or for its having none."""
    case, report = faults.CASES[k], faults.report_of(k)
    line = report.lines[case.number] if case.number else None
    match case.fault:
        case faults.STRIDED:
            total = line.global_load_sectors + line.global_store_sectors
            most = max(line.sectors_per_load, line.sectors_per_store)
            return f"{most:.3g} sectors a request there, {total:,} in all; 4 to 8 would do"
        case faults.FLOAT64:
            return f"{line.flops_by_dtype['fp64']:,} float64 operations there, on float32 arrays"
        case faults.CONFLICTS:
            return f"{line.bank_conflicts:,} bank conflicts there, more than it has requests"
        case faults.CONTENTION:
            return f"{line.turns_per_atomic:.3g} turns for each atomic request there"
        case faults.DIVERGENCE:
            return (
                f"of 32 lanes {report.lanes_per_instruction:.3g} are active on the average, and "
                f"{line.divergent_branches:,} branches part a warp there"
            )
    return (
        f"at most {_most_sectors(report):.3g} sectors a request, no float64 operations, no bank "
        f"conflicts, {report.lanes_per_instruction:.3g} of 32 lanes active"
    )


def _most_sectors(report: emulator.Report) -> float:
    return max(max(c.sectors_per_load, c.sectors_per_store) for c in report.lines.values())


@diagnose.show
def _show_diagnose(function: Any) -> Any:
    rows = []
    for k, case in enumerate(faults.CASES):
        report = faults.report_of(k)
        got = function(report)
        fault, line = got if isinstance(got, tuple | list) and len(got) == 2 else (got, None)
        source = report.source.get(line, "") if isinstance(line, int) else ""
        rows.append(
            (case.name, fault, line if line is not None else "", f"`{source}`" * bool(source))
        )
    return table(("report of", "your function says", "line", "which is"), rows)
