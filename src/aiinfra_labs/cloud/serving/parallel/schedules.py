"""In which order the stages of a pipeline work, and how long they stand idle. Unit 4.6.

A batch is cut into m micro-batches. Each goes forward through the p stages and then backward
through them in the other order. A stage's schedule is the list of its tasks: ("F", 2) is forward
with micro-batch 2, ("B", 2) backward with it. When each task can begin follows from the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .errors import Deadlock, SplitError

Task = tuple[str, int]  # "F" or "B", and the micro-batch
FORWARD, BACKWARD = 1, 2  # slots: backward multiplies twice as much, as in the published figures


def one_forward_one_backward(stage: int, stages: int, micro_batches: int) -> list[Task]:
    """1F1B (PipeDream-Flush): forward until the pipe is full, then backward and forward in turn.

    Stage 0 is the first. A stage keeps the activations of at most `stages - stage` micro-batches.
    Narayanan et al., arXiv:2104.04473, section 2.2.
    """
    ahead = min(stages - 1 - stage, micro_batches)  # the warm-up
    tasks: list[Task] = [("F", i) for i in range(ahead)]
    for i in range(micro_batches - ahead):
        tasks += [("F", ahead + i), ("B", i)]
    return tasks + [("B", i) for i in range(micro_batches - ahead, micro_batches)]


def all_forward_all_backward(stage: int, stages: int, micro_batches: int) -> list[Task]:
    """GPipe (arXiv:1811.06965): every micro-batch forward, then every one backward.

    As quick as 1F1B, but a stage keeps the activations of all micro-batches.
    """
    order = range(micro_batches)
    return [("F", i) for i in order] + [("B", i) for i in order]


def forward_only(stage: int, stages: int, micro_batches: int) -> list[Task]:
    """Inference: micro-batches follow each other through the stages."""
    return [("F", i) for i in range(micro_batches)]


@dataclass(frozen=True)
class Slot:
    """A task that has been given its time: `start` and `end` are counted in slots."""

    stage: int
    kind: str
    micro_batch: int
    start: int
    end: int


@dataclass(frozen=True)
class PipelineTimeline:
    """When each stage does what."""

    stages: int
    slots: tuple[Slot, ...]

    @property
    def length(self) -> int:
        """Slots until the last task has ended."""
        return max((slot.end for slot in self.slots), default=0)

    @property
    def busy(self) -> int:
        """Slots of all stages in which something is done."""
        return sum(slot.end - slot.start for slot in self.slots)

    @property
    def bubble(self) -> float:
        """The share of all slots in which a stage stands idle."""
        return 1 - self.busy / (self.stages * self.length) if self.length else 0.0

    def kept(self, stage: int) -> int:
        """The most micro-batches whose activations a stage has at once: forward done, backward not.

        0 where nothing goes backward, and nothing need be kept.
        """
        mine = sorted((s for s in self.slots if s.stage == stage), key=lambda s: s.start)
        if all(s.kind == "F" for s in mine):
            return 0
        most = now = 0
        for slot in mine:
            now += 1 if slot.kind == "F" else -1
            most = max(most, now)
        return most


def play(
    schedules: Sequence[Sequence[Task]], forward: int = FORWARD, backward: int = BACKWARD
) -> PipelineTimeline:
    """Each task begins as soon as its stage is free and what it needs is there.

    schedules: the tasks of each stage, in the order in which it does them. Forward needs the same
    micro-batch forward in the stage before; backward, backward in the stage after, and in the last
    stage its own forward. Messages take no time. Raises `Deadlock` where no stage can go on.
    """
    last = len(schedules) - 1
    done: dict[tuple[int, str, int], int] = {}  # (stage, kind, micro-batch): when it ended
    free = [0] * len(schedules)
    at = [0] * len(schedules)
    slots: list[Slot] = []
    moved = True
    while moved:
        moved = False
        for stage, tasks in enumerate(schedules):
            while at[stage] < len(tasks):
                kind, i = tasks[at[stage]]
                needed = [(stage - 1, "F", i)] if kind == "F" and stage else []
                if kind == "B":
                    needed = [(stage, "F", i)] + ([(stage + 1, "B", i)] if stage < last else [])
                if any(key not in done for key in needed):
                    break
                start = max([free[stage], *(done[key] for key in needed)])
                end = start + (forward if kind == "F" else backward)
                slots.append(Slot(stage, kind, i, start, end))
                done[stage, kind, i] = free[stage] = end
                at[stage] += 1
                moved = True
    stuck = {s: tasks[at[s]] for s, tasks in enumerate(schedules) if at[s] < len(tasks)}
    if stuck:
        said = ", ".join(f"stage {s} at {kind}{i}" for s, (kind, i) in stuck.items())
        raise Deadlock(
            f"no stage can go on: {said}",
            "each waits for a task of another stage, or of its own, that comes later in the "
            "schedule or not at all",
            "draw the first few tasks of two neighbouring stages, and see which needs which",
        )
    return PipelineTimeline(len(schedules), tuple(slots))


def bubble(stages: int, micro_batches: int) -> float:
    """The idle share of 1F1B and of GPipe: (p - 1) / (m + p - 1)."""
    return (stages - 1) / (micro_batches + stages - 1)


def stage_layers(layers: int, stages: int) -> list[range]:
    """The layers of each stage: neighbours, as evenly as they can be. Raises `SplitError`."""
    if not 1 <= stages <= layers:
        raise SplitError(
            f"{layers} layers cannot be divided among {stages} stages",
            "each stage has at least one layer of its own",
            f"1 to {layers} stages",
        )
    ends = [round(layers * (s + 1) / stages) for s in range(stages)]
    return [range(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


Schedule = Callable[[int, int, int], list[Task]]
