"""nbgrader's `Execute`, with the graded checks judged in another process: see `nbgrader_config.py`.

nbgrader reads the points of a graded cell from its outputs, which the kernel makes, and the kernel
is the learner's. Here the outputs of a graded cell are made by the autograder, from the judge's
result: an error where there are no points, else the score.
"""

from __future__ import annotations

from typing import Any

from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from traitlets import Integer

from ..results import Result
from .client import Judge
from .notebooks import checked, in_a_judged_kernel, judge_cell, output_of


class ExecuteAndJudge(Execute):
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
