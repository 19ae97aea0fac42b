"""A notebook run anew from the top, in a clean process: `aiinfra check`, and what a class collects.

What a notebook shows may come from cells that were changed since. A run of its own, with a
progress file of its own, says what its code is worth; and a judge in another process says it, which
the notebook's code cannot reach (`judging/judge.py`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        import nbformat
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

        from .judging.notebooks import JudgingClient

        notebook = nbformat.read(path, as_version=4)
    except ImportError as error:
        raise RerunError(
            f"{error.name} is not installed",
            "a notebook is run as JupyterLab would run it",
            "pip install nbclient nbformat ipykernel",
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise RerunError(
            f"{path} cannot be read: {error}",
            "it is missing, or is no notebook",
            "give the path of a notebook, for example work/3-gpu/02-cuda-model.ipynb",
        ) from error
    place = {"metadata": {"path": str(path.resolve().parent)}}
    with _own_home():
        # The course's own kernel: the notebook may name one of another machine.
        client = JudgingClient(
            notebook, timeout=timeout, allow_errors=True, resources=place, kernel_name="python3"
        )
        try:
            client.execute()
        except (CellTimeoutError, DeadKernelError) as error:
            raise RerunError(
                f"{path.name} did not run to its end: {type(error).__name__}",
                "a cell takes too long, or its kernel died, perhaps for want of memory",
                "run it in JupyterLab, cell by cell",
            ) from error
    found = client.judged.results
    unit = notebook.metadata.get("aiinfra", {}).get("unit") or _unit_of(path)
    results = tuple(
        found.get(e.id) or Result(e.id, e.title, NOT_ATTEMPTED, points=e.points)
        for e in all_exercises()
        if e.unit == unit
    )
    exercises = tuple((result.id, result.score, result.points) for result in results)
    errors = tuple(
        f"{output.ename}: {output.evalue}"
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    )
    if client.ended:
        errors += ("an end of the kernel: the cells after it were not run",)
    return Rerun(exercises, errors, results)


def _unit_of(path: Path) -> str:
    """A notebook that lost its metadata is known by its name."""
    return next((unit.id for unit in UNITS.values() if unit.stem == path.stem), "")


@contextmanager
def _own_home() -> Iterator[Path]:
    """A data folder for the kernels that are started within the block."""
    before = os.environ.get("AIINFRA_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIINFRA_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ["AIINFRA_HOME"]
            if before is not None:
                os.environ["AIINFRA_HOME"] = before
