"""A notebook's cells, each within bounds: none may keep what is graded from coming to its end.

A cell that runs too long or writes too much is interrupted, and the cells after it are run. One
that goes on all the same loses its kernel, and what was earned before stays. A cell that is no
text, since half of a surrogate pair stands in it, is not run.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from traitlets import Integer

MOST_OUTPUT = 10_000_000  # characters of one cell
_TO_STOP = 10.0  # seconds in which an interrupted cell must end


class Bounded(NotebookClient):
    """Runs cells within the bounds of their time and of what they write."""

    most_output = MOST_OUTPUT
    startup_timeout = Integer(600)  # seconds; where a whole class is graded, a minute is too short
    _written = 0
    _over = ""  # by what a cell is over its bounds

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, *args: Any, **kwargs: Any
    ) -> NotebookNode:
        self._written, self._over = 0, ""
        try:
            cell.source.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(cell.source[error.start]):04X}, half of a surrogate pair"
            cell.outputs = [_error("NotText", f"the cell was not run: it holds {half}")]
            return cell
        run = super().async_execute_cell
        try:
            return await run(cell, cell_index, *args, **kwargs)
        finally:
            if self._over:
                others = [o for o in cell.outputs if o.output_type != "error"]
                cell.outputs = [*others, _error("Stopped", f"the cell {self._over}")]

    def output(self, outs: list, msg: dict, *args: Any, **kwargs: Any) -> NotebookNode | None:
        """Keep an output; what a cell writes beyond the bound is left out, and ends the cell."""
        self._written += _length(msg["content"])
        if self._written <= self.most_output:
            return super().output(outs, msg, *args, **kwargs)
        if not self._over:
            self._over = f"had written over {self.most_output:,} characters"
            self._stopping = asyncio.ensure_future(ensure_async(self.km.interrupt_kernel()))
        return None

    async def _async_handle_timeout(self, timeout: int, cell: NotebookNode | None = None) -> None:
        """Interrupt the cell; if it goes on, end its kernel. Called when its time is up."""
        self._over = self._over or f"had run for {timeout} s"
        await ensure_async(self.km.interrupt_kernel())
        for _ in range(round(_TO_STOP / 0.1)):
            if await ensure_async(self.kc.shell_channel.msg_ready()):
                return
            await asyncio.sleep(0.1)
        await ensure_async(self.km.shutdown_kernel(now=True))
        raise DeadKernelError("the cell went on after it was interrupted")


def _length(content: dict) -> int:
    """Characters of one message: of a stream, or of all forms of a rich output."""
    return len(content.get("text", "")) + sum(len(str(v)) for v in content.get("data", {}).values())


def _error(name: str, said: str) -> NotebookNode:
    return new_output("error", ename=name, evalue=said, traceback=[f"{name}: {said}"])
