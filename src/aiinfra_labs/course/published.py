"""A page as the site shows it: without sections whose results are not stored, prints whole.

A section that needs a GPU is written before somebody has measured. Its cells, the heading's too,
have the tag `needs-gpu-results` or, for one ladder of `benchmarks/gpu.py` or one other benchmark,
`needs-gpu-results:transpose`. They are on the site when such a result is stored, and not before.
"""

from __future__ import annotations

import copy
from pathlib import Path

from . import on_gpu, streams
from .measured import measured
from .merging import Cell, Notebook

NEEDS = "needs-gpu-results"
_ANY = ("gpu", "gpu_truth")  # the benchmarks that only a GPU can run


def needs(cell: Cell) -> list[str]:
    """What results a cell needs: "" stands for any of a GPU."""
    tags = cell.get("metadata", {}).get("tags", [])
    return [
        tag.partition(":")[2].strip() for tag in tags if tag == NEEDS or tag.startswith(f"{NEEDS}:")
    ]


def has_results(name: str, folder: Path | None = None) -> bool:
    """Whether results of a GPU are stored: a ladder's, a benchmark's, or for "" any."""
    if name and on_gpu.stored(name, folder):
        return True
    for benchmark in [name] if name else _ANY:
        try:
            measured(benchmark, folder)
        except FileNotFoundError:
            continue
        return True
    return False


def is_left_out(cell: Cell, folder: Path | None = None) -> bool:
    """Whether the site leaves a cell out, since what it needs is not stored."""
    return not all(has_results(name, folder) for name in needs(cell))


def published(notebook: Notebook, folder: Path | None = None) -> Notebook:
    """The notebook of a page as the site reads it; `folder` is that of the results.

    A cell that is left out becomes an empty one, so that a warning of the build still counts the
    cells as their author does.
    """
    shown = copy.deepcopy(notebook)
    for place, cell in enumerate(shown["cells"]):
        if is_left_out(cell, folder):
            empty = {"cell_type": "markdown", "metadata": {}, "source": ""}
            shown["cells"][place] = {**empty, **({"id": cell["id"]} if "id" in cell else {})}
    streams.join(shown)
    return shown
