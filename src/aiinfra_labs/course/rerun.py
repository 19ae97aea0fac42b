"""A notebook run anew from the top, in a clean process: `aiinfra check`, and what a class collects.

What a notebook shows may come from cells that were changed since. A run of its own, with a
progress file of its own, says what its code is worth; and a judge in another process says it, which
the notebook's code cannot reach (`judging/judge.py`).
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .parts import CourseError
from .registry import all_exercises
from .results import NOT_ATTEMPTED, Result
from .units import UNITS


class RerunError(CourseError):
    """A notebook that cannot be run."""


@dataclass(frozen=True)
class Rerun:
    """What the run gave: (id, score, points) of each exercise of the unit, and errors in cells.

    `results` says of each exercise why it has its points.
    """

    exercises: tuple[tuple[str, float, float], ...]
    errors: tuple[str, ...]
    results: tuple[Result, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every exercise has all its points, and no cell failed."""
        return not self.errors and all(score == points for _, score, points in self.exercises)


def rerun(path: Path, timeout: int = 600) -> Rerun:
    """Run the notebook in a kernel of its own. `timeout` is in seconds, for one cell."""
    try:
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

        from .judging.notebooks import JudgingClient
    except ImportError as error:
        raise RerunError(
            f"{error.name} is not installed",
            "a notebook is run as JupyterLab would run it",
            "pip install nbclient nbformat ipykernel",
        ) from error
    notebook = _notebook(path)
    place = {"metadata": {"path": str(path.resolve().parent)}}
    with tempfile.TemporaryDirectory() as home:
        # The course's own kernel: the notebook may name one of another machine.
        client = JudgingClient(
            notebook,
            timeout=timeout,
            allow_errors=True,
            resources=place,
            kernel_name="python3",
            environment={"AIINFRA_HOME": home},
        )
        try:
            client.execute()
            ended = "its kernel ended" if client.ended else ""
        except (CellTimeoutError, DeadKernelError) as error:
            ended = type(error).__name__
    found = client.judged.results
    if ended and not found:
        raise RerunError(
            f"{path.name} did not run to its end: {ended}",
            "a cell takes too long, or its kernel died, perhaps for want of memory",
            "run it in JupyterLab, cell by cell",
        )
    unit = _unit_of(notebook, path) or next((id.rpartition(".")[0] for id in found), "")
    results = tuple(
        found.get(e.id) or Result(e.id, e.title, NOT_ATTEMPTED, points=e.points)
        for e in all_exercises()
        if e.unit == unit
    )
    if not results:
        raise RerunError(
            f"{path.name} has no exercise",
            "neither its metadata, nor its name, nor a check in it says of which unit it is",
            "give the path of a lab, for example work/3-gpu/02-cuda-model.ipynb",
        )
    exercises = tuple((result.id, result.score, result.points) for result in results)
    errors = tuple(
        f"{output.ename}: {output.evalue}"
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    )
    if ended:
        errors += ("an end of the kernel: the cells after it were not run",)
    return Rerun(exercises, errors, results)


def _notebook(path: Path) -> Any:
    """The notebook of a file. Raises `RerunError` for one that is missing, cut off or none."""
    import nbformat

    try:
        # An editor of Windows may have put a mark in front of the text.
        text = path.read_bytes().decode("utf-8-sig")
        with warnings.catch_warnings():  # of ids that cells of an older notebook do not have
            warnings.simplefilter("ignore")
            notebook = nbformat.reads(text, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.setdefault("outputs", [])
            nbformat.validate(notebook, relax_add_props=True)
        return notebook
    except (OSError, ValueError, TypeError, AttributeError, nbformat.ValidationError) as error:
        said = str(error).partition("\n")[0]
        raise RerunError(
            f"{path} cannot be read: {said[:300]}",
            "it is missing, was saved half-way, or is no notebook",
            "give the path of a notebook, for example work/3-gpu/02-cuda-model.ipynb; JupyterLab "
            "keeps an older version of each: File, Revert Notebook to Checkpoint",
        ) from error


def _unit_of(notebook: Any, path: Path) -> str:
    """What its metadata says; a notebook that lost its metadata is known by its name."""
    about = notebook.metadata.get("aiinfra")
    unit = about.get("unit") if isinstance(about, dict) else None
    if isinstance(unit, str) and unit in UNITS:
        return unit
    return next((unit.id for unit in UNITS.values() if unit.stem == path.stem), "")
