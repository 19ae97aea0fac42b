"""What the benchmarks measured, for pages to quote: `measured("emulator")`.

`benchmarks/NAME.py` writes `benchmarks/results/NAME-MACHINE.json`. A page reads its figures from
there, so that no figure is typed twice and each bears the machine that it was measured on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def results_folder(start: Path | None = None) -> Path:
    """`benchmarks/results` of the course that `start` (by default, this file) lies in."""
    start = Path(__file__).resolve() if start is None else start.resolve()
    for folder in (start, *start.parents):
        if (folder / "benchmarks" / "results").is_dir():
            return folder / "benchmarks" / "results"
    raise FileNotFoundError(
        f"no benchmarks/results above {start.name}: the results lie beside the course, not in the "
        "installed package"
    )


def measured(name: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The results of a benchmark, one for each machine, the newest first.

    Each has `machine` (cpu, cores, python, numpy, numba, date) beside its figures. Raises
    `FileNotFoundError` where nothing was measured, with the command that measures it.
    """
    files = sorted((folder or results_folder()).glob(f"{name}-*.json"))
    if not files:
        raise FileNotFoundError(
            f"nothing is measured for {name!r}: run python benchmarks/{name}.py"
        )
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sorted(found, key=lambda figures: figures["machine"]["date"], reverse=True)
