"""`cuda.profile()` and `cuda.check()`: doors to the counters and to the checkers. Unit 3.2."""

from __future__ import annotations

from typing import Any

from . import dispatch, memory
from .counting import CountingMachine
from .errors import EmulatorError
from .machine import Launch, Line
from .report import Counters, Report, total


class Profile:
    """Collects a `Report` for each launch inside `with cuda.profile() as p:`.

    p.launches: one report a launch. p.report: their sum.
    p.bytes_to_device, p.bytes_to_host: what cudaMemcpy moved meanwhile.
    """

    machine_class = CountingMachine

    def __init__(self, kernel: Any = None):
        self.kernel = kernel
        self.launches: list[Report] = []
        self.bytes_to_device = self.bytes_to_host = 0

    @property
    def report(self) -> Report:
        return total(self.launches)

    def __enter__(self) -> Profile:
        dispatch._listeners.append(self)
        memory._copy_listeners.append(self._copied)
        return self

    def __exit__(self, *exception: object) -> None:
        dispatch._listeners.remove(self)
        memory._copy_listeners.remove(self._copied)

    def __getitem__(self, configuration: Any) -> Any:
        """`cuda.profile(kernel)[grid, block](...)` launches and returns the report."""
        configured = self.kernel[configuration]

        def run(*args: Any) -> Report:
            with Profile() as p:
                configured(*args)
            return p.report

        return run

    def _copied(self, direction: str, nbytes: int) -> None:
        name = f"bytes_{direction}"
        setattr(self, name, getattr(self, name) + nbytes)

    # --- called by the launch ------------------------------------------------------------

    def begin(self, launch: Launch) -> None:
        pass

    def end(self, launch: Launch) -> None:
        report = Report(kernel=launch.kernel, grid=launch.grid, block=launch.block)
        lines: dict[Line, Counters] = launch.lines
        files = {line.file for line in lines}
        home = next((line.file for line in lines if line.function == launch.kernel), "")
        for line, counters in lines.items():
            key: Any = line.number
            if len(files) > 1 and line.file != home:  # a device function from another file
                key = f"{line.file.rpartition('/')[2]}:{line.number}"
            report.lines[key] = report.lines.get(key, Counters()) + counters
            report.source[key] = line.text
        for name in vars(Counters()):
            setattr(report, name, sum(getattr(c, name) for c in report.lines.values()))
        for array, line in launch.negative_indices:
            report.notes.append(
                f"line {line.number}: a negative index of {array} wraps round, as in Numba; in "
                "CUDA C it is out of bounds"
            )
        self.launches.append(report)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def __repr__(self) -> str:
        return str(self.report)


class Check:
    """`with cuda.check() as c:` collects findings; with raise_=False nothing is raised.

    Bounds and limits are checked in every launch; here a launch that fails becomes a finding.
    """

    def __init__(self, raise_: bool = True):
        self.raise_ = raise_
        self.findings: list[EmulatorError] = []

    def __enter__(self) -> Check:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, EmulatorError):
            self.findings.append(error)
            return not self.raise_
        return False


def profile(kernel: Any = None) -> Profile:
    """A `Profile`: `with cuda.profile() as p:`, or `cuda.profile(kernel)[grid, block](...)`."""
    return Profile(kernel)


def check(raise_: bool = True) -> Check:
    """A `Check`: `with cuda.check(raise_=False) as c: ...` leaves `c.findings`."""
    return Check(raise_)
