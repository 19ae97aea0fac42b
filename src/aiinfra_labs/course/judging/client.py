"""Starting a judge, and asking it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..parts import CourseError
from ..results import Result, result_of
from . import answering

_ROOT = Path(__file__).resolve().parents[3]  # the folder that holds the package
_DROPPED = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "NBGRADER_EXECUTION")


class JudgeError(CourseError):
    """A judge that cannot be asked."""


class Judge:
    """A judge's process. It is started at the first question, and ends with the block.

    environment: variables of the process, beside those of this one.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.environment = dict(environment or {})

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if it runs: by itself within 5 seconds, else killed."""
        if self.process is not None:
            self.process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def begin(self, id: str, process: int | None, seconds: float | None = None) -> str:
        """Begin to judge exercise `id`; the address to which its answer must connect.

        process: the id of the answer's process, whose time is counted. seconds: how long one
        requirement may run before it counts as endless; the exercise's own unless given.
        """
        if self.process is None or self.process.poll() is not None:
            environment = {k: v for k, v in os.environ.items() if k not in _DROPPED}
            environment |= self.environment
            environment |= {"PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.judge"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        self._say({"id": id, "process": process, "seconds": seconds})
        return self._hear()["address"]

    def result(self) -> Result:
        """The result of what was begun."""
        return result_of(self._hear()["result"])

    def _say(self, message: dict) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise JudgeError(
                "the judge ended before it had judged",
                "it ran out of memory, or was killed",
                "grade again, with fewer programs open",
            )
        return json.loads(line)


def graded(id: str, obj: Any) -> Result:
    """Have this process's object judged by a judge of its own: under nbgrader, `check` does."""
    with Judge() as judge:
        answering.answer(judge.begin(id, os.getpid()), obj)
        return judge.result()
