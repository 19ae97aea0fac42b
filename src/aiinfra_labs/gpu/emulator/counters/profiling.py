"""`cuda.profile()`: the door to the counters. Unit 3.2."""

from __future__ import annotations

from typing import Any

from ..api import memory
from ..devices import get_current_device
from ..lanes import dispatch
from ..lanes.launching import Launch
from .counting import Counting
from .figures import Counters
from .observing import Observer
from .report import Report, sum_of_reports


class Profile:
    """Collects a `Report` for each launch inside `with cuda.profile() as p:`.

    p.launches: one report a launch. p.report: their sum.
    p.bytes_to_device, p.bytes_to_host: what cudaMemcpy moved meanwhile.
    """

    def __init__(self, kernel: Any = None):
        self.kernel = kernel
        self.launches: list[Report] = []
        self.bytes_to_device = self.bytes_to_host = 0

    @property
    def report(self) -> Report:
        """The sum of all launches."""
        return sum_of_reports(self.launches)

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

    def observer(self, launch: Launch) -> Observer:
        """What counts in one launch."""
        return Counting()

    def end(self, launch: Launch, observer: Counting) -> None:
        """Make the launch's report of what was counted."""
        observer.finish()
        found = observer.lines
        report = Report(kernel=launch.kernel, grid=launch.grid, block=launch.block)
        report.device = get_current_device().key
        report.shared_bytes = observer.shared_bytes + launch.shared
        dram = observer.cache.dram_bytes()
        report.dram_bytes_read, report.dram_bytes_written = dram or (None, None)
        files = {line.file for line in found}
        home = next((line.file for line in found if line.function == launch.kernel), "")
        for line, counters in found.items():
            key: Any = line.number
            if len(files) > 1 and line.file != home:  # a device function from another file
                key = f"{line.file.rpartition('/')[2]}:{line.number}"
            report.lines[key] = report.lines.get(key, Counters()) + counters
            report.source[key] = line.text
        for name in vars(Counters()):
            setattr(report, name, sum(getattr(c, name) for c in report.lines.values()))
        if dram is None:
            report.notes.append(
                "the bytes of DRAM are not known: the lines that the launch touches crowd into few "
                "sets of the L2, and the model of the cache gave up"
            )
        report.spared, notes = compiled(observer)
        report.notes += notes
        if launch.waited:
            report.notes.append(
                "threads waited for each other: how often such a loop goes round depends on whose "
                "turn it is, here as on a GPU"
            )
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


def compiled(seen: Counting) -> tuple[Counters, list[str]]:
    """What a compiler is known to spare of what the source says: how much, and why, by line."""
    again = sorted(seen.again.items(), key=lambda found: (found[0][0].number, found[0][1]))
    parted = [(line, c) for line, c in seen.choices.items() if c.divergent_branches]
    notes = [
        f"line {line.number}: {c.global_load_requests:,} of its global load requests are for an "
        f"element of {array} that its lanes have in registers: a compiler spares them"
        for (line, array), c in again
    ] + [
        f"line {line.number}: {c.divergent_branches:,} of its divergent branches are `a if c else "
        "b`: a compiler makes a select of it, which parts no warp"
        for line, c in sorted(parted, key=lambda found: found[0].number)
    ]
    spared = sum((c for _, c in [*again, *parted]), Counters())
    return spared, notes


def profile(kernel: Any = None) -> Profile:
    """A `Profile`: `with cuda.profile() as p:`, or `cuda.profile(kernel)[grid, block](...)`."""
    return Profile(kernel)
