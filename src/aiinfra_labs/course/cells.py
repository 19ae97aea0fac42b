"""Which names a notebook still has from before, because the cell that defines them failed.

After a syntax error the old function is still there, and a check would try that one. IPython tells
after each cell how it ended; what a failed cell would have defined, and did not, is noted.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from typing import Any

from .parts import Parts

_HEAD = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)|^(\w+)\s*=(?!=)", re.MULTILINE)


@dataclass(frozen=True)
class Failed:
    """A cell that failed before it defined a name: how it ended, and the object from before."""

    error: str
    place: str
    before: Any


class Cells:
    """Follows the cells of one IPython shell."""

    def __init__(self, shell: Any):
        self.shell = shell
        self.failed: dict[str, Failed] = {}
        self._before: dict[str, Any] = {}
        shell.events.register("pre_run_cell", self.begins)
        shell.events.register("post_run_cell", self.ends)

    def begins(self, info: Any) -> None:
        """Note the objects that the cell is about to define anew. info: IPython's, of the cell."""
        names = self.shell.user_ns
        self._before = {n: names[n] for n in _defined(info.raw_cell or "") if n in names}

    def ends(self, result: Any) -> None:
        """Note the names that the cell has left as they were, if it failed. result: IPython's."""
        info = result.info
        if info is None or info.silent:
            return
        error = result.error_before_exec or result.error_in_exec
        for name in _defined(info.raw_cell or ""):
            now = self.shell.user_ns.get(name)
            if error is not None and name in self._before and now is self._before[name]:
                self.failed[name] = Failed(_said(error), _line(error), now)
            else:
                self.failed.pop(name, None)

    def stale(self, obj: Any) -> Parts | None:
        """Why `obj` is not what its cell says now; None when it is."""
        for name, failed in self.failed.items():
            if failed.before is obj and self.shell.user_ns.get(name) is obj:
                return Parts(
                    f"the cell that defines {name} failed when it was last run: {failed.error}",
                    f"so {name} is still the one from before, and not what the cell says now; "
                    "nothing was checked",
                    "mend the cell, run it, and check again",
                    (failed.place,) if failed.place else (),
                )
        return None


def _defined(source: str) -> list[str]:
    """The names that a cell defines at its top level, as far as can be told."""
    try:
        found = []
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.append(node.name)
            elif isinstance(node, ast.Assign):
                found += [t.id for t in node.targets if isinstance(t, ast.Name)]
        return found
    except (SyntaxError, ValueError, RecursionError):
        return [a or b for a, b in _HEAD.findall(source)]


def _said(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"


def _line(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {(error.text or '').strip()}"
    return ""


_cells: Cells | None = None


def follow() -> None:
    """Follow the cells of the notebook in which the course is imported, if it is in one."""
    global _cells
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and (_cells is None or _cells.shell is not shell):
        _cells = Cells(shell)


def stale(obj: Any) -> Parts | None:
    """Why `obj` is not what its cell says now; None when it is, or where there are no cells."""
    return None if _cells is None else _cells.stale(obj)
