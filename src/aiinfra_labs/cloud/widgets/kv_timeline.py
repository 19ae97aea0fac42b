"""The paged KV timeline: blocks taken, shared, copied and evicted, step by step. Unit 4.2.

`record(engine)` watches a real run; `KVTimeline(recording)` shows it. Every step's tables are
stored in the widget, so it works on a static page; `kv_timeline.js` counts by `figures`, too, and a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aiinfra_labs import bounds
from aiinfra_labs.course.framing import framed, scripted

from ..serving.engine import Engine
from ..serving.scheduler import Plan
from ..serving.sequence import Sequence, Status

HERE = Path(__file__).parent
MOST_ENTRIES = 200_000  # of all tables of all steps: they are stored in the notebook


class TimelineError(bounds.SettingError):
    """A recording that cannot be shown, in three parts."""


@dataclass
class Recording:
    """An engine's run. A frame is what holds after a step:

    {"rows": [[name, tokens in the cache, [blocks]], ...], "waiting": [names],
     "cached": [blocks that are free and can still be found], "events": [what happened]}
    """

    num_blocks: int
    block_size: int
    frames: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Figures:
    """Counts of one frame. used + cached + free are all blocks."""

    used: int  # named by a table
    shared: int  # of these, by two or more
    cached: int  # free, and can be found again by their content
    free: int  # free, and empty
    saved: int  # blocks that would be needed besides if none were shared
    empty: int  # slots of used blocks that hold no token


def record(engine: Engine) -> Recording:
    """Begin to note every step of `engine`, from now on."""
    blocks = engine.blocks
    recording = Recording(blocks.num_blocks, blocks.block_size)
    hashes = list(blocks.hashes)  # as they were after the last step
    known: dict[str, Sequence] = {}  # by name, those that were running

    def note(plan: Plan) -> None:
        nonlocal hashes
        events = [
            f"{_name(s)} starts{' again' if s.preemptions else ''}"
            + (f", {s.cached} tokens of it in the cache" if s.cached else "")
            for s in plan.admitted
        ]
        events += [f"block {old} is copied to {new}" for old, new in plan.copies]
        events += [f"{_name(s)} gives its blocks back and waits" for s in plan.preempted]
        running = engine.scheduler.running
        for sequence in running:
            name = _name(sequence)
            if name not in known and sequence not in plan.admitted:
                events.append(f"{name} forks: it shares all blocks so far")
        for name, sequence in (known | {_name(s): s for s in plan.admitted}).items():
            if sequence.status is Status.FINISHED:
                events.append(f"{name} ends")
        known.clear()
        known.update({_name(s): s for s in running})
        lost = [b for b, h in enumerate(hashes) if h is not None and blocks.hashes[b] != h]
        if lost:
            events.append(f"evicted: what was in block{'s' * (len(lost) > 1)} {_listed(lost)}")
        hashes = list(blocks.hashes)
        cached = [b for b in blocks.free_blocks if hashes[b] is not None]
        rows = [[_name(s), s.computed, list(s.block_table)] for s in running]
        waiting = [_name(s) for s in engine.scheduler.waiting]
        recording.frames.append(
            {"rows": rows, "waiting": waiting, "cached": sorted(cached), "events": events}
        )

    engine.observers.append(note)
    return recording


def _name(sequence: Sequence) -> str:
    params = sequence.request.params
    several = params.n > 1 or params.beam_width > 0
    return sequence.request.id + (str(sequence.index + 1) if several else "")


def _listed(blocks: list[int]) -> str:
    return ", ".join(map(str, blocks))


def figures(frame: Mapping[str, Any], num_blocks: int, block_size: int) -> Figures:
    """What is counted in a frame."""
    filled: dict[int, int] = {}
    references: dict[int, int] = {}
    for _, tokens, table in frame["rows"]:
        for place, block in enumerate(table):
            mine = min(max(tokens - place * block_size, 0), block_size)
            filled[block] = max(mine, filled.get(block, 0))
            references[block] = references.get(block, 0) + 1
    used, cached = len(filled), len(frame["cached"])
    return Figures(
        used=used,
        shared=sum(count > 1 for count in references.values()),
        cached=cached,
        free=num_blocks - used - cached,
        saved=sum(references.values()) - used,
        empty=block_size * used - sum(filled.values()),
    )


class KVTimeline(anywidget.AnyWidget):
    """The pool of blocks after each step of a recorded run, with a slider over the steps."""

    _esm = scripted(HERE / "kv_timeline.js")
    _css = framed(HERE / "kv_timeline.css")

    frames = traitlets.List(help="What holds after each step: see `Recording`.").tag(sync=True)
    num_blocks = traitlets.Int(1, min=1, help="Blocks of the pool.").tag(sync=True)
    block_size = traitlets.Int(16, min=1, help="Tokens of a block.").tag(sync=True)
    step = traitlets.Int(0, min=0, help="The step that is shown.").tag(sync=True)
    follow = traitlets.Unicode("", help="A sequence whose blocks stand out.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    def __init__(self, recording: Recording, **settings: Any):
        if not recording.frames:
            raise TimelineError(
                "a recording without a step",
                "the timeline shows what holds after each step of an engine",
                "record(engine) before the engine's first step",
            )
        entries = sum(len(table) for f in recording.frames for _, _, table in f["rows"])
        if entries > MOST_ENTRIES:
            raise TimelineError(
                f"{entries:,} entries of block tables",
                f"all are stored in the notebook; more than {MOST_ENTRIES:,} make it slow",
                "fewer requests, fewer steps, or larger blocks",
            )
        super().__init__(
            frames=recording.frames,
            num_blocks=recording.num_blocks,
            block_size=recording.block_size,
            **settings,
        )

    @traitlets.validate("step")
    def _within_the_run(self, proposal: Any) -> int:
        return min(proposal["value"], max(len(self.frames) - 1, 0))

    @property
    def figures(self) -> Figures:
        """The counts of what is shown now."""
        return figures(self.frames[self.step], self.num_blocks, self.block_size)

    def __repr__(self) -> str:
        counts = self.figures
        return (
            f"KVTimeline(step {self.step + 1} of {len(self.frames)}: {counts.used} of "
            f"{self.num_blocks} blocks used, {counts.shared} shared, {counts.cached} cached)"
        )
