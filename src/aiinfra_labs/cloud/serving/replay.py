"""A workload against an engine, by a clock that counts: who got what, and when. Unit 4.3.

Which tokens a step computes follows from lengths and arrivals alone, not from what the tokens are.
So `engine_without_model` plans as any engine of its settings does, in a thousandth of the time,
and `replay` adds up what each step would take (`step_cost`). A test holds its plans to those of an
engine that computes. Where its memory goes, `kv_memory` looks up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .attention import PagedCache
from .disaggregation import Handover, export, fits, prefilled, take
from .engine import Engine, EngineConfig
from .errors import ServingError
from .model import CausalLM, ModelConfig
from .sampling_params import SamplingParams
from .scheduler import Plan
from .sequence import Sequence as Tokens
from .step_cost import Cost, RooflineCost, StepWork, step_work
from .workloads import RequestShape

Kind = Literal["prefill", "decode", "again"]


@dataclass(frozen=True)
class Served:
    """What one sequence got in one step. "again": tokens that were computed before."""

    name: str
    tokens: int
    kind: Kind
    again: int = 0  # of the tokens, those that were computed before
    gave: int = 0  # new tokens that came of it


@dataclass(frozen=True)
class Step:
    """One step: seconds by the clock of the run."""

    begin: float
    seconds: float
    work: StepWork
    served: tuple[Served, ...]
    waiting: tuple[str, ...]  # when it was planned, and not admitted
    preempted: tuple[str, ...]
    used_blocks: int

    @property
    def end(self) -> float:
        """When it ended, in seconds by the clock of the run."""
        return self.begin + self.seconds


@dataclass
class Times:
    """When a request came, and when each of its tokens did; seconds."""

    arrival: float
    prompt: int
    tokens: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Time to first token."""
        return self.tokens[0] - self.arrival

    @property
    def latency(self) -> float:
        """Seconds from the request's arrival to its last token."""
        return self.tokens[-1] - self.arrival

    @property
    def gaps(self) -> list[float]:
        """Between one token and the next."""
        return [b - a for a, b in zip(self.tokens, self.tokens[1:], strict=False)]

    @property
    def per_token(self) -> float:
        """Time per output token: the mean gap. nan for a single token."""
        gaps = self.gaps
        return sum(gaps) / len(gaps) if gaps else math.nan


@dataclass
class Timeline:
    """A run: its steps and its requests."""

    slots: int  # sequences that may run at once
    budget: int  # tokens of a step
    steps: list[Step] = field(default_factory=list)
    requests: dict[str, Times] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first request's arrival to the last token."""
        return self.steps[-1].end - min(t.arrival for t in self.requests.values())

    @property
    def throughput(self) -> float:
        """New tokens a second."""
        return sum(len(t.tokens) for t in self.requests.values()) / self.seconds

    @property
    def computed(self) -> int:
        """Tokens that went through the model."""
        return sum(step.work.tokens for step in self.steps)

    @property
    def again(self) -> int:
        """Of these, tokens that had been computed before: what preemption cost."""
        return sum(served.again for step in self.steps for served in step.served)

    @property
    def preemptions(self) -> int:
        """How often a sequence gave its blocks back and had to wait."""
        return sum(len(step.preempted) for step in self.steps)

    @property
    def slots_in_use(self) -> float:
        """The share of slots that got a token, of all slots in steps in which a request waited."""
        counted = [step for step in self.steps if step.waiting]
        if not counted:
            return math.nan
        return sum(len(step.served) for step in counted) / (self.slots * len(counted))

    @property
    def busy(self) -> float:
        """The share of the time in which some step ran: what nvidia-smi calls utilisation."""
        return sum(step.seconds for step in self.steps) / self.seconds

    def of_peak(self, cost: RooflineCost) -> float:
        """Operations over what the device could have done in that time (MFU)."""
        return sum(cost.flops(step.work) for step in self.steps) / (cost.peak * self.seconds)

    def meeting(self, first: float, per_token: float) -> float:
        """The share of requests whose first token came in time, and whose others did on average."""
        good = [
            t.first <= first and not t.per_token > per_token  # a single token has no other
            for t in self.requests.values()
        ]
        return sum(good) / len(good)

    def firsts(self) -> list[float]:
        """Times to first token, ascending."""
        return sorted(t.first for t in self.requests.values())

    def all_gaps(self) -> list[float]:
        """All gaps of all requests, ascending."""
        return sorted(gap for t in self.requests.values() for gap in t.gaps)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values: that of 0.99 is below 1 % of them."""
    if not values:
        raise ServingError("no values", "a percentile is one of them", "a run with requests")
    return values[max(0, math.ceil(share * len(values)) - 1)]


class Recorder:
    """Watches an engine's steps, and writes them down by a clock that the run sets."""

    def __init__(self, engine: Engine, cost: Cost, before: Recorder | None = None):
        """before: of the engine that hands its requests over to this one."""
        self.engine, self.cost = engine, cost
        self.timeline = Timeline(engine.config.max_sequences, engine.config.max_step_tokens)
        self.now = 0.0
        self._reached: dict[str, int] = {}  # tokens that were ever computed
        self._lengths: dict[str, int] = {}
        if before:
            self.timeline.requests = before.timeline.requests
            self._reached, self._lengths = before._reached, before._lengths
        engine.observers.append(self)

    def __call__(self, plan: Plan) -> None:
        work = step_work(plan)
        if not plan.work:
            return
        seconds = self.cost(work)
        begin, self.now = self.now, self.now + seconds
        served = tuple(self._served(w.sequence, w.start, w.tokens) for w in plan.work)
        scheduler = self.engine.scheduler
        left = {id(s) for s in plan.preempted}
        self.timeline.steps.append(
            Step(
                begin,
                seconds,
                work,
                served,
                tuple(s.request.id for s in scheduler.waiting if id(s) not in left),
                tuple(s.request.id for s in plan.preempted),
                self.engine.blocks.used,
            )
        )

    def _served(self, sequence: Tokens, start: int, tokens: int) -> Served:
        name = sequence.request.id
        before = self._reached.get(name, 0)
        again = max(0, min(before, start + tokens) - start)
        self._reached[name] = max(before, start + tokens)
        gave = sequence.length - self._lengths.get(name, 0)
        self._lengths[name] = sequence.length
        self.timeline.requests[name].tokens += [self.now] * gave
        decodes = start >= len(sequence.request.prompt)
        kind: Kind = "again" if again else "decode" if decodes else "prefill"
        return Served(name, tokens, kind, again, gave)

    def add(self, name: str, request: RequestShape, priority: int = 0) -> None:
        """Add a request that came at its own time."""
        self.timeline.requests[name] = Times(request.arrival, len(request.prompt_tokens))
        params = SamplingParams(max_tokens=request.new_tokens, ignore_eos=True)
        vocabulary = self.engine.model.config.vocab_size
        prompt = [token % vocabulary for token in request.prompt_tokens]
        self.engine.add_request(prompt, params, name, priority)


def replay(
    engine: Engine,
    requests: Sequence[RequestShape],
    cost: Cost,
    priority: Callable[[RequestShape], int] = lambda request: 0,
) -> Timeline:
    """Serve requests as they arrive, by the clock of `cost`; named "0", "1", ... in their order.

    A request that arrives within a step is seen when the step has ended, as by a real engine.
    """
    recorder = Recorder(engine, cost)
    todo = sorted(enumerate(requests), key=lambda pair: pair[1].arrival)
    place = 0
    while place < len(todo) or engine.unfinished:
        if not engine.unfinished:
            recorder.now = max(recorder.now, todo[place][1].arrival)
        while place < len(todo) and todo[place][1].arrival <= recorder.now:
            number, request = todo[place]
            recorder.add(str(number), request, priority(request))
            place += 1
        engine.step()
    engine.observers.remove(recorder)
    return recorder.timeline


def replay_apart(
    prefill: Engine,
    decode: Engine,
    requests: Sequence[RequestShape],
    cost: Cost,
    transfer: Callable[[int], float] = lambda tokens: 0.0,
) -> tuple[Timeline, Timeline]:
    """The same on two engines that run at the same time, each by a clock of its own.

    transfer: seconds that keys and values of so many tokens are on their way. Both timelines hold
    all requests; each has its own engine's steps.
    """
    one = Recorder(prefill, cost)
    two = Recorder(decode, cost, one)
    todo = sorted(enumerate(requests), key=lambda pair: pair[1].arrival)
    between: deque[tuple[float, Handover]] = deque()  # (when it is there, what)
    place = 0
    while place < len(todo) or prefill.unfinished or between or decode.unfinished:
        coming = todo[place][1].arrival if place < len(todo) else math.inf
        there = between[0][0] if between else math.inf
        next_one = one.now if prefill.unfinished else max(one.now, coming)
        next_two = two.now if decode.unfinished else max(two.now, there)
        if next_one <= next_two:  # whoever begins first, so that nothing comes from the future
            one.now = next_one
            while place < len(todo) and todo[place][1].arrival <= one.now:
                one.add(str(todo[place][0]), todo[place][1])
                place += 1
            prefill.step()
            for name in prefilled(prefill):
                handover = export(prefill, name)
                between.append((one.now + transfer(handover.computed), handover))
        else:
            two.now = next_two
            while between and between[0][0] <= two.now and fits(decode, between[0][1]):
                take(decode, between.popleft()[1])
            decode.step()
    prefill.observers.remove(one)
    decode.observers.remove(two)
    return one.timeline, two.timeline


class CountingEngine(Engine):
    """An engine that plans, keeps its books and computes nothing. `ran`: called in each step when
    a model would have filled the cache, and before tokens are chosen and sequences end."""

    def __init__(self, shape: ModelConfig, config: EngineConfig):
        super().__init__(CausalLM(shape), None, config)
        self.ran: list[Callable[[Plan], None]] = []
        self.runner = _NoModel(self.runner.cache, self.ran)  # type: ignore[assignment]

    def _choose(self, rows: Sequence[tuple[Tokens, Tensor]]) -> None:
        for sequence, _ in rows:  # whatever it would have been: the same for no two sequences
            self._append(sequence, 1_000 * sequence.request.arrival + sequence.index)


class _NoModel:
    """Takes the place of the model's runner: the cache counts as filled, and logits are zeros."""

    def __init__(self, cache: PagedCache, ran: Sequence[Callable[[Plan], None]]) -> None:
        self.cache, self.row, self.ran = cache, torch.zeros(1, 2), ran

    def run(self, plan: Plan) -> list[Tensor | None]:
        for work in plan.work:
            work.sequence.computed = work.start + work.tokens
        for look in self.ran:
            look(plan)
        return [self.row if work.gives_logits else None for work in plan.work]


def engine_without_model(
    config: EngineConfig, context: int = 1024, vocabulary: int | None = None
) -> CountingEngine:
    """An engine that plans, keeps its books and computes nothing.

    vocabulary: ids that prompts may have. Without it there are two, which make prompts look alike,
    so prefix caching must be off: raises `ServingError`.
    """
    if config.prefix_caching and vocabulary is None:
        raise ServingError(
            "prefix caching, and no model",
            "the prompts are not the real ones, and would all share their beginning",
            "EngineConfig(prefix_caching=False, ...), or vocabulary=... for real prompts",
        )
    smallest = ModelConfig(vocabulary or 2, 2, 2, 1, 1, 1, 2, context)
    return CountingEngine(smallest, config)
