"""nbgrader's steps of grading that the course has its own way of: see `nbgrader_config.py`.

`RestoreCells` takes the place of the steps that put a submission's graded cells right, and
`ExecuteAndJudge` that of `Execute`: graded checks are judged in another process.

nbgrader reads the points of a graded cell from its outputs, which the kernel makes, and the kernel
is the learner's. Here the outputs of a graded cell are made by the autograder, from the judge's
result: an error where there are no points, else the score.
"""

from __future__ import annotations

import re
from typing import Any

from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute, OverwriteCells
from traitlets import Integer

from ..results import Result
from .bounded import Bounded
from .client import Judge
from .notebooks import checked, in_a_judged_kernel, judge_cell, output_of

_HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair: no file can hold it


class RestoreCells(OverwriteCells):
    """The graded cells of a submission, as they were released.

    A learner may have copied, split, changed or deleted one, or its metadata. The gradebook says
    what each was. Of several copies the last one counts, as with definitions in Python; a check
    that is missing comes back behind the cells that were before it. No submission may keep the
    others from being graded, as an empty `nbgrader` in a cell's metadata otherwise does.
    """

    def preprocess(self, nb: Any, resources: Any) -> Any:
        course = resources["nbgrader"]
        with Gradebook(course["db_url"]) as gradebook:
            released = gradebook.find_notebook(course["notebook"], course["assignment"])
            known = {cell.name: _released(cell, released) for cell in released.source_cells}
            kept: dict[str, int] = {}  # where the last copy of each stands
            for index, cell in enumerate(nb.cells):
                cell.source = _HALF.sub("\ufffd", cell.source)
                id = _grade_id(cell)
                if id in known:
                    kept[id] = index
            for index, cell in enumerate(nb.cells):
                id = _grade_id(cell)
                if kept.get(id) == index:
                    cell.metadata["nbgrader"] = NotebookNode(known[id])
                else:
                    cell.metadata.pop("nbgrader", None)
            nb.cells = self._with_missing(nb.cells, kept, released, known)
        return super().preprocess(nb, resources)

    def _with_missing(
        self, cells: list[Any], kept: dict[str, int], released: Any, known: dict[str, dict]
    ) -> list[Any]:
        """The cells, and each graded one that is missing behind the last cell that was before."""
        behind: dict[int, list[Any]] = {}
        place = len(cells) - 1
        for cell in released.source_cells:
            if cell.name in kept:
                place = kept[cell.name]
            elif known[cell.name]["grade"]:
                self.log.warning("cell %s is missing: it is added", cell.name)
                new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
                missing = new(cell.source, metadata={"nbgrader": known[cell.name]})
                behind.setdefault(place, []).append(missing)
        made = list(behind.get(-1, []))  # of a notebook without cells
        for index, cell in enumerate(cells):
            made += [cell, *behind.get(index, [])]
        return made


def _grade_id(cell: Any) -> str | None:
    """The id under which nbgrader knows a cell, if its metadata still has one."""
    given = cell.metadata.get("nbgrader")
    id = given.get("grade_id") if isinstance(given, dict) else None
    return id if isinstance(id, str) else None


def _released(cell: Any, notebook: Any) -> dict[str, Any]:
    """The metadata with which a cell was released, from the gradebook's rows."""
    graded, tasks = notebook.grade_cells, notebook.task_cells
    points = {one.name: one.max_score for one in (*graded, *tasks)}
    made = {
        "grade_id": cell.name,
        "grade": any(one.name == cell.name for one in graded),
        "solution": cell.name in {one.name for one in notebook.solution_cells},
        "task": any(one.name == cell.name for one in tasks),
        "locked": bool(cell.locked),
        "checksum": cell.checksum,
        "cell_type": cell.cell_type,
        "schema_version": 3,
    }
    if cell.name in points:
        made["points"] = points[cell.name]
    return made


class ExecuteAndJudge(Bounded, Execute):
    """Runs a submission; a graded cell that checks exercises gets the judge's points."""

    timeout = Integer(
        600, help="Seconds for one cell; an exercise has a limit of its own.", allow_none=True
    ).tag(config=True)

    def preprocess(self, *args: Any, **kwargs: Any) -> Any:
        self.ended = False
        with Judge() as self.judge, in_a_judged_kernel():
            return super().preprocess(*args, **kwargs)

    async def async_execute_cell(
        self, cell: Any, cell_index: int, *args: Any, **kwargs: Any
    ) -> Any:
        run = super().async_execute_cell
        graded = cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "code"
        checks = checked(cell.source) if graded else []
        if not checks:
            return await self._run(run, cell, cell_index, *args, **kwargs)
        results = [await judge_cell(self, run, cell, cell_index, check) for check in checks]
        cell.outputs = graded_outputs(results)
        return cell

    execute_cell = run_sync(async_execute_cell)

    async def _run(self, run: Any, cell: Any, *args: Any, **kwargs: Any) -> Any:
        """An ungraded cell. One that ends the kernel loses what comes after it, and no more."""
        if not self.ended:
            try:
                return await run(cell, *args, **kwargs)
            except DeadKernelError:
                self.ended = True
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "code":
            cell.outputs = [new_output("error", ename="DeadKernelError", evalue="", traceback=[])]
        return cell


def graded_outputs(results: list[Result]) -> list[Any]:
    """What nbgrader reads the points from, and a learner the reasons."""
    score = sum(result.score for result in results)
    outputs = [output_of(result) for result in results]
    if not score:
        said = "\n".join(map(str, results))
        error = new_output("error", ename="ExerciseFailed", evalue=said, traceback=[said])
        return [*outputs, error]
    return [*outputs, new_output("execute_result", {"text/plain": f"{score:g}"})]
