"""Where KV memory goes: a workload run through an engine that has no model. Unit 4.2.

Which blocks are taken and given back depends on lengths alone, so that a run of hundreds of
requests takes a second, with the very scheduler and block manager that serve a model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from aiinfra_labs.llm.phases import PhaseCost
from aiinfra_labs.llm.scale import memory
from aiinfra_labs.llm.scale.parameters import multiplied
from aiinfra_labs.llm.scale.shapes import Shape

from .block_manager import BlockManager
from .contiguous import kept_tokens
from .engine import EngineConfig
from .errors import ServingError
from .replay import engine_without_model
from .sampling_params import SamplingParams
from .scheduler import Plan, Scheduler
from .sequence import Request, Sequence
from .step_cost import step_work
from .workloads import RequestShape


@dataclass(frozen=True)
class Usage:
    """Slots of the cache, one for each token's keys and values, by what they are good for.

    tokens: they hold one. reserved: they will, later. internal: taken, and never used. external:
    taken by nobody. saved: what sequences would need besides if none shared a block.
    """

    tokens: float
    reserved: float
    internal: float
    external: float
    saved: float = 0.0

    @property
    def total(self) -> float:
        """All slots of the cache."""
        return self.tokens + self.reserved + self.internal + self.external

    @property
    def waste(self) -> float:
        """The share of all slots that holds no token."""
        return 1 - self.tokens / self.total

    @property
    def sharing(self) -> float:
        """The share of blocks that sharing saves: saved / (used + saved)."""
        used = self.total - self.external
        return self.saved / (used + self.saved) if used else 0.0


def usage(blocks: BlockManager, sequences: Iterable[Sequence]) -> Usage:
    """What lies in the cache now."""
    size, count = blocks.block_size, blocks.num_blocks
    tokens, later = np.zeros(count, int), np.zeros(count, int)  # slots of a block: now, in the end
    taken = np.zeros(count, bool)
    named = 0
    for sequence in sequences:
        table = np.array(sequence.block_table, int)  # no block twice, so that indexing adds up
        starts = size * np.arange(len(table))
        for slots, end in ((tokens, sequence.computed), (later, kept_tokens(sequence))):
            slots[table] = np.maximum(slots[table], np.clip(end - starts, 0, size))
        taken[table] = True
        named += len(table)
    hold, will, used = int(tokens.sum()), int(later.sum()), int(taken.sum())
    return Usage(
        tokens=hold,
        reserved=will - hold,
        internal=size * used - will,
        external=size * (count - used),
        saved=size * (named - used),
    )


@dataclass
class Replay:
    """What a workload did. A step's figures stand at its place in the lists."""

    batch: list[int] = field(default_factory=list)  # sequences that were computed
    tokens: list[int] = field(default_factory=list)  # that were computed
    context: list[int] = field(default_factory=list)  # tokens in the cache that were read
    pairs: list[int] = field(default_factory=list)  # of a query and a key
    full: list[bool] = field(default_factory=list)  # whether others waited for room
    seen: list[Usage] = field(default_factory=list)  # of every few steps while others waited
    needed: int = 0  # tokens that had to be computed at least once, without a prefix cache
    found: int = 0  # tokens of prompts that were in the cache
    preempted: int = 0
    most_blocks: int = 0

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return len(self.batch)

    @property
    def at_once(self) -> float:
        """Sequences in a step, on average, while others waited."""
        counted = [n for n, full in zip(self.batch, self.full, strict=True) if full]
        return sum(counted) / len(counted) if counted else 0.0

    @property
    def mean(self) -> Usage:
        """Of the steps while others waited. Raises `ServingError` if there was none."""
        if not self.seen:
            raise ServingError(
                "nobody waited for room in this run, where it was looked at",
                "the share of a pool that is used says nothing as long as the pool is not full",
                "more requests, fewer blocks, or every=1",
            )
        rows = [(u.tokens, u.reserved, u.internal, u.external, u.saved) for u in self.seen]
        return Usage(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))

    def seconds(self, shape: Shape, peak: float, bandwidth: float, itemsize: int = 2) -> float:
        """The least time of all steps on a machine, by the roofline of each of two parts.

        A step's matrix products run, and then its attention: each takes the time of its arithmetic
        or of its bytes, whichever is longer. peak: operations/s. bandwidth: bytes/s. Weights are
        read once a step (unit 1.5).
        """
        weights = multiplied(shape)
        kv = memory.kv_bytes(shape, itemsize)
        a_pair = 4 * shape.layers * shape.heads * shape.head_dim  # two products
        rows = zip(self.tokens, self.context, self.pairs, strict=True)
        return sum(
            PhaseCost(
                2 * weights * tokens + a_pair * pairs,
                weights * itemsize,
                kv * context,
                a_pair * pairs,
            ).seconds(peak, bandwidth)
            for tokens, context, pairs in rows
        )


def replay_memory(
    shapes: Iterable[RequestShape],
    blocks: BlockManager,
    max_tokens: int = 2048,
    max_sequences: int = 1024,
    every: int = 8,
    samples: int = 1,
) -> Replay:
    """Serve requests that have all come already, and note where the memory goes.

    every: how many steps from one look at all blocks to the next. samples: answers of each prompt,
    which share its blocks. Raises `ServingError` where one request alone does not fit.
    """
    done, shapes = Replay(), list(shapes)
    if not shapes:
        return done
    for shape in shapes:
        sequence = waiting(shape)
        done.needed += kept_tokens(sequence)
        if blocks.blocks_for(kept_tokens(sequence)) > blocks.num_blocks:
            raise _too_large(sequence, blocks)
    config = EngineConfig(
        num_blocks=blocks.num_blocks,
        block_size=blocks.block_size,
        max_step_tokens=max_tokens,
        max_sequences=max_sequences,
        prefix_caching=blocks.prefix_caching,
        attention="torch",
        blocks=lambda *_: blocks,
    )
    context = max(len(shape.prompt_tokens) + shape.new_tokens for shape in shapes)
    vocabulary = 1 + max(max(shape.prompt_tokens) for shape in shapes)
    engine = engine_without_model(config, context, vocabulary)
    engine.ran.append(lambda plan: _note(done, plan, engine.scheduler, every))
    for shape in shapes:
        params = SamplingParams(
            max_tokens=shape.new_tokens, ignore_eos=True, n=samples, temperature=1.0
        )
        engine.add_request(shape.prompt_tokens, params)
    last: deque[Plan] = deque(maxlen=1)
    engine.observers.append(last.append)
    while engine.unfinished:
        engine.step()
        if not last[0].work and not last[0].preempted:
            raise _too_large(engine.scheduler.waiting[0], blocks)
    return done


def _too_large(sequence: Sequence, blocks: BlockManager) -> ServingError:
    return ServingError(
        f"a request of {kept_tokens(sequence):,} tokens finds no room in {blocks.num_blocks:,} "
        f"blocks of {blocks.block_size}, though it is alone",
        "it could not be served to its end, and all behind it would wait for ever",
        "more blocks, or shorter requests",
    )


def waiting(shape: RequestShape, arrival: int = 0) -> Sequence:
    """A request's sequence before its first step."""
    params = SamplingParams(max_tokens=shape.new_tokens)
    request = Request(
        str(arrival), shape.prompt_tokens, params, arrival, max_new_tokens=shape.new_tokens
    )
    request.sequences = [Sequence(request, 0, list(shape.prompt_tokens))]
    return request.sequences[0]


def _note(done: Replay, plan: Plan, scheduler: Scheduler, every: int) -> None:
    work = step_work(plan)
    done.batch.append(work.sequences)
    done.tokens.append(work.tokens)
    done.context.append(work.context)
    done.pairs.append(work.pairs)
    done.full.append(bool(scheduler.waiting))
    done.preempted += len(plan.preempted)
    done.found += sum(sequence.cached for sequence in plan.admitted)
    done.most_blocks = max(done.most_blocks, scheduler.blocks.used)
    if scheduler.waiting and done.steps % every == 0:
        done.seen.append(usage(scheduler.blocks, scheduler.running))
