"""Time slices: one context at a time has the whole GPU, and they take turns. Unit 3.9.

NVIDIA's driver gives each process with work a slice in turn. A process that has no more work ends
its slice early; a change of process costs a switch. What a slice does not give is a limit: neither
on memory nor on how many others there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import simpy

from aiinfra_labs import bounds

SLICE_US = 2000  # microseconds
SWITCH_US = 100


def time_slices(
    jobs: Sequence[tuple[int, int]], slice_us: int, switch_us: int = 0
) -> list[tuple[int, int, int]]:
    """Who runs when, if jobs take turns of `slice_us` on one GPU: (job, begin, end) of each turn.

    jobs: (arrival, work) of each, whole microseconds; each belongs to a process of its own. A job
    whose slice ends goes to the back of the queue, behind those that arrived by then. A switch is
    paid whenever another job runs than the last, and not before the first. Raises ValueError for a
    slice below 1 microsecond, or an arrival, work or switch that is negative or no whole number.
    """
    check_slices(slice_us, switch_us)
    for number, job in enumerate(jobs):
        if not isinstance(job, Sequence) or len(job) != 2:
            raise bounds.SettingError(
                f"job {number} is {job!r:.60}",
                "each job has an arrival and its work, in microseconds",
                "(0, 5000)",
            )
        bounds.whole(f"the arrival of job {number}", job[0], "microseconds from the start", 0)
        bounds.whole(f"the work of job {number}", job[1], "microseconds", 0)
    waiting = deque(sorted(range(len(jobs)), key=lambda i: (jobs[i][0], i)))
    left = [work for _, work in jobs]
    queue: deque[int] = deque()
    taken: list[tuple[int, int, int]] = []
    now = 0
    while waiting or queue:
        if not queue:
            now = max(now, jobs[waiting[0]][0])
        while waiting and jobs[waiting[0]][0] <= now:
            queue.append(waiting.popleft())
        job = queue.popleft()
        if taken and taken[-1][0] != job:
            now += switch_us
        ran = min(slice_us, left[job])
        taken.append((job, now, now + ran))
        now += ran
        left[job] -= ran
        while waiting and jobs[waiting[0]][0] <= now:
            queue.append(waiting.popleft())
        if left[job]:
            queue.append(job)
    return taken


def check_slices(slice_us: int, switch_us: int) -> None:
    """Raise ValueError for a slice of no time, or a switch of less than none. Microseconds."""
    bounds.whole("slice_us", slice_us, "in a slice of no time no job gets on, and none ever ends")
    bounds.whole("switch_us", switch_us, "microseconds that a change of process takes", 0)


def round_robin(jobs: Sequence[tuple[int, int]], slice_us: int, switch_us: int = 0) -> list[int]:
    """When each job ends, in microseconds, if they take `turns`. Arguments and errors: see there.

    A job without work ends when its turn comes.
    """
    ends = [0] * len(jobs)
    for job, _, end in time_slices(jobs, slice_us, switch_us):
        ends[job] = end
    return ends


@dataclass
class _Kernel:
    left: int  # microseconds of work
    done: simpy.Event


class TimeSlicedGpu:
    """A GPU in a simulation whose processes take turns; each gives it one kernel at a time.

    `yield from gpu.run(process, work)` ends when the kernel has run. `busy` counts microseconds in
    which a kernel ran, `switching` those that went to switches, `ran` the work of each process.
    """

    def __init__(self, env: simpy.Environment, slice_us: int = SLICE_US, switch: int = SWITCH_US):
        check_slices(slice_us, switch)
        self.env, self.slice_us, self.switch_us = env, slice_us, switch
        self.busy = self.switching = 0
        self.ran: dict[str, int] = {}
        self._kernels: dict[str, _Kernel] = {}
        self._ring: deque[str] = deque()
        self._work_came = env.event()
        env.process(self._turns())

    def run(self, process: str, work: int) -> Generator[simpy.Event, None, None]:
        """Run a kernel of `work` microseconds for `process`, in as many slices as it takes.

        Raises ValueError where the work is below 0, or the process has a kernel that still runs.
        """
        bounds.whole("work", work, "microseconds of a kernel", 0)
        if process in self._kernels:
            raise bounds.SettingError(
                f"{process!r} gives a second kernel while its first runs",
                "each process of this model gives the GPU one kernel at a time",
                "yield from run(...) to its end, and then the next",
            )
        if not work:
            return
        if process not in self.ran:
            self.ran[process] = 0
            self._ring.append(process)
        kernel = self._kernels[process] = _Kernel(work, self.env.event())
        if not self._work_came.triggered:
            self._work_came.succeed()
        yield kernel.done

    def _turns(self) -> Generator[simpy.Event, None, None]:
        last = None
        while True:
            while not self._kernels:
                self._work_came = self.env.event()
                yield self._work_came
            while self._ring[0] not in self._kernels:
                self._ring.rotate(-1)
            process = self._ring[0]
            if last is not None and process != last:
                self.switching += self.switch_us
                yield self.env.timeout(self.switch_us)
            last = process
            yield from self._slice(process)
            self._ring.rotate(-1)

    def _slice(self, process: str) -> Generator[simpy.Event, None, None]:
        """One turn: kernel after kernel, until the slice is over or the process has none."""
        left = self.slice_us
        while left and process in self._kernels:
            kernel = self._kernels[process]
            ran = min(left, kernel.left)
            yield self.env.timeout(ran)
            self.busy += ran
            self.ran[process] += ran
            left -= ran
            kernel.left -= ran
            if not kernel.left:
                del self._kernels[process]
                kernel.done.succeed()
                yield self.env.timeout(0)  # the process may launch its next kernel at once
