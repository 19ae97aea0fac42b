"""The batch timeline: who is prefilled, decoded, preempted or waits in each step. Unit 4.3.

`BatchTimeline({"static": timeline, ...})` shows recorded runs of one workload (`serving.replay`),
one for each policy, one below the other on one axis of steps. All of them are stored in the widget,
so it works on a static page; `batch_timeline.js` counts by `figures` and `totals`, too, and a test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aiinfra_labs import bounds
from aiinfra_labs.course.framing import framed, scripted

from ..serving.replay import Timeline

HERE = Path(__file__).parent
MOST_STEPS = 160  # of a run: a column of a picture that a phone still shows


class BatchTimelineError(bounds.SettingError):
    """Runs that cannot be shown, in three parts."""


@dataclass(frozen=True)
class Figures:
    """Counts of one step."""

    tokens: int
    prefill: int  # sequences whose prompt is computed
    decode: int
    again: int  # sequences that compute what they had computed before
    idle: int  # slots without a token
    waiting: int
    preempted: int


@dataclass(frozen=True)
class Totals:
    """Counts of a run."""

    steps: int
    tokens: int  # computed
    again: int  # of these, before
    preempted: int
    slots_in_use: float  # of all slots of all steps in which somebody waited, 0 if nobody did


def run_of(timeline: Timeline) -> dict[str, Any]:
    """A run as plain data: its slots, its budget, and a dict for each step.

    {"served": [[name, kind, tokens, again, gave]], "waiting": [names], "preempted": [names]}
    """
    steps = [
        {
            "served": [[s.name, s.kind, s.tokens, s.again, s.gave] for s in step.served],
            "waiting": list(step.waiting),
            "preempted": list(step.preempted),
        }
        for step in timeline.steps
    ]
    return {"slots": timeline.slots, "budget": timeline.budget, "steps": steps}


def figures(run: Mapping[str, Any], step: int) -> Figures:
    """What is counted in a step of a run."""
    found = run["steps"][step]
    kinds = [kind for _, kind, *_ in found["served"]]
    return Figures(
        tokens=sum(tokens for _, _, tokens, *_ in found["served"]),
        prefill=kinds.count("prefill"),
        decode=kinds.count("decode"),
        again=kinds.count("again"),
        idle=run["slots"] - len(kinds),
        waiting=len(found["waiting"]),
        preempted=len(found["preempted"]),
    )


def totals(run: Mapping[str, Any]) -> Totals:
    """What is counted in a whole run."""
    steps = run["steps"]
    served = [row for step in steps for row in step["served"]]
    full = [len(step["served"]) for step in steps if step["waiting"]]
    return Totals(
        steps=len(steps),
        tokens=sum(row[2] for row in served),
        again=sum(row[3] for row in served),
        preempted=sum(len(step["preempted"]) for step in steps),
        slots_in_use=sum(full) / (run["slots"] * len(full)) if full else 0.0,
    )


class BatchTimeline(anywidget.AnyWidget):
    """A picture a policy, in it a row a request and a column a step; a slider over the steps."""

    _esm = scripted(HERE / "batch_timeline.js")
    _css = framed(HERE / "batch_timeline.css")

    runs = traitlets.Dict(help="Runs by policy: see `run_of`.").tag(sync=True)
    order = traitlets.List(help="The policies, the first one at the top.").tag(sync=True)
    requests = traitlets.List(help="[name, prompt tokens, new tokens], a row each.").tag(sync=True)
    step = traitlets.Int(0, min=0, help="The step that is looked at.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    def __init__(self, timelines: Mapping[str, Timeline], **settings: Any):
        if not timelines or not all(t.steps for t in timelines.values()):
            raise BatchTimelineError(
                "a run without a step",
                "the timeline shows what each step of an engine did",
                "replay(engine, requests, cost) for each policy",
            )
        longest = max(len(t.steps) for t in timelines.values())
        if longest > MOST_STEPS:
            raise BatchTimelineError(
                f"{longest} steps",
                f"each is a column, and more than {MOST_STEPS} are too narrow to be seen",
                "fewer requests, or shorter ones",
            )
        first = next(iter(timelines.values()))
        names = sorted(first.requests, key=lambda name: (first.requests[name].arrival, name))
        for name, timeline in timelines.items():
            if set(timeline.requests) != set(names):
                raise BatchTimelineError(
                    f"{name!r} is a run of other requests",
                    "policies are compared on one workload",
                    "the same requests for each",
                )
        rows = [[n, first.requests[n].prompt, len(first.requests[n].tokens)] for n in names]
        super().__init__(
            runs={name: run_of(t) for name, t in timelines.items()},
            order=list(timelines),
            requests=rows,
            **settings,
        )

    def figures(self, policy: str) -> Figures | None:
        """The counts of the step that is looked at; None where that run has ended before."""
        run = self.runs[policy]
        return figures(run, self.step) if self.step < len(run["steps"]) else None

    def __repr__(self) -> str:
        said = (f"{name} {totals(run).steps} steps" for name, run in self.runs.items())
        return f"BatchTimeline({', '.join(said)})"
