"""A notebook run from top to bottom, with each of its checks judged in another process.

The cells run in a kernel, as in JupyterLab. Where a cell checks an exercise, the judge calls what
the kernel holds under that name, whatever `check` means there, and the score is the judge's.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode
from nbformat.v4 import new_output

from ..parts import Parts
from ..results import FAILED, Outcome, Result
from .bounded import Bounded
from .client import Judge, JudgeError

JUDGED = "AIINFRA_JUDGED"  # in the kernel's environment: its own `check` and `show` do nothing
_ANSWER = "__import__({module!r}, fromlist=['answer']).answer({address!r}, {name})"


@dataclass(frozen=True)
class Checked:
    """A call `check("3.2.a", name)` in a cell: the exercise's id, and the text of what is given."""

    id: str
    name: str


def checked(source: str) -> list[Checked]:
    """The checks that a cell makes with an exercise's id written out, in order.

    Lines of IPython's own, such as `%%time` above the check, are left out.
    """
    lines = ["" if line.lstrip()[:1] in ("%", "!") else line for line in source.split("\n")]
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [check for call in calls if (check := _check_of(call)) is not None]


def _check_of(call: ast.Call) -> Checked | None:
    called = getattr(call.func, "attr", getattr(call.func, "id", None))
    given = dict(zip(("id", "obj"), call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords}
    id = given.get("id")
    known = isinstance(id, ast.Constant) and isinstance(id.value, str)
    if called != "check" or not known or set(given) != {"id", "obj"} or len(call.args) > 2:
        return None
    return Checked(id.value, ast.unparse(given["obj"]))


@dataclass
class Judged:
    """What the judge found, by exercise, while a notebook ran."""

    results: dict[str, Result] = field(default_factory=dict)


class JudgingClient(Bounded):
    """`NotebookClient` whose checks are judged; `judged` holds the results.

    environment: variables of the kernel and of the judge, beside those of this process.
    """

    def __init__(self, *args: Any, environment: Mapping[str, str] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.environment = {**(environment or {}), JUDGED: "1"}
        self.judged, self.judge = Judged(), Judge(self.environment)
        self.ended = False

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        with self.judge:
            return super().execute(*args, env=os.environ | self.environment, **kwargs)

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, *args: Any, **kwargs: Any
    ) -> NotebookNode:
        run = super().async_execute_cell
        checks = checked(cell.source) if cell.cell_type == "code" else []
        if not checks:
            if not self.ended:
                try:
                    return await run(cell, cell_index, *args, **kwargs)
                except DeadKernelError:
                    self.ended = True  # what was earned before it stays
            return cell
        results = [await judge_cell(self, run, cell, cell_index, check) for check in checks]
        for result in results:
            before = self.judged.results.get(result.id)
            if before is None or result.score > before.score:
                self.judged.results[result.id] = result
        cell.outputs = [output_of(result) for result in results]
        return cell

    execute_cell = run_sync(async_execute_cell)


async def judge_cell(client: Any, run: Any, cell: Any, index: int, check: Checked) -> Result:
    """The judge's result for one check. `run` executes a cell in the kernel of `client`.

    A kernel that ends meanwhile is remembered: what was earned before it stays.
    """
    if client.ended:
        return _failed(check.id, _NO_KERNEL)
    try:
        address = client.judge.begin(check.id, _process(client))
        source = _ANSWER.format(
            module=f"{__package__}.answering", address=address, name=f"({check.name})"
        )
        asking = NotebookNode(cell | {"source": source, "outputs": []})
        asking.metadata = NotebookNode({"tags": ["raises-exception"]})
        ended = None
        try:
            await run(asking, index, store_history=False)
            ended = _error(asking)
        except DeadKernelError:
            client.ended, ended = True, _NO_KERNEL.what
        finally:
            client.nb.cells[index] = cell  # where nbclient has put what it ran
            # Whoever ends without having answered: the judge waits no longer.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
                stream.connect(address)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(None, client.judge.result)
    except JudgeError as error:
        client.judge.close()
        return _failed(check.id, Parts(error.what, error.why, error.try_))
    if ended is not None and not result.score:
        what = f"{ended} (when `{check.name}` was looked up for the check)"
        why = "the cell above, which defines it, may have failed"
        return replace(_failed(check.id, Parts(what, why, "run the notebook from the top")),
                       title=result.title, points=result.points)  # fmt: skip
    return result


_NO_KERNEL = Parts(
    "the kernel ended",
    "the code of this cell, or of one above it, ended the process, perhaps for want of memory",
    "run the notebook in JupyterLab, cell by cell: which one ends the kernel?",
)


def _process(client: Any) -> int | None:
    provisioner = getattr(getattr(client, "km", None), "provisioner", None)
    return getattr(provisioner, "pid", None)


def _error(cell: Any) -> str | None:
    """The error with which a cell ended, in one line."""
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return None


def _failed(id: str, parts: Parts) -> Result:
    outcome = Outcome("can be tried", False, 0.0, "", parts.what, parts.why, parts.try_)
    return Result(id, "", FAILED, requirements=(outcome,))


def output_of(result: Result) -> Any:
    """A result as the output of a cell."""
    data = {"text/plain": str(result), "text/html": result._repr_html_()}
    return new_output("display_data", data)


@contextlib.contextmanager
def in_a_judged_kernel() -> Iterator[None]:
    """The kernels that are started within the block leave checking to the judge."""
    before = os.environ.get(JUDGED)
    os.environ[JUDGED] = "1"
    try:
        yield
    finally:
        del os.environ[JUDGED]
        if before is not None:
            os.environ[JUDGED] = before
