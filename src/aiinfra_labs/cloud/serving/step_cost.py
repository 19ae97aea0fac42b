"""What a step takes, as a formula: the clock of a run that counts instead of measuring. Unit 4.3.

A step reads all weights once, computes each of its tokens, and lets each look back at its own
sequence. `Linear` adds the three up, with constants fitted to what a machine measured.
`RooflineCost` takes the larger of arithmetic and memory, as a GPU does that overlaps them (unit
3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiinfra_labs.llm.scale import memory
from aiinfra_labs.llm.scale.parameters import multiplied
from aiinfra_labs.llm.scale.shapes import Shape

from .errors import ServingError
from .scheduler import Plan


@dataclass(frozen=True)
class StepWork:
    """What is in a step. A sequence that decodes has 1 token, and as many pairs as it is long."""

    tokens: int  # computed
    pairs: int  # (token, token that it looks at), its own included
    context: int  # tokens whose keys and values are read, each once
    sequences: int

    def __add__(self, other: StepWork) -> StepWork:
        return StepWork(
            self.tokens + other.tokens,
            self.pairs + other.pairs,
            self.context + other.context,
            self.sequences + other.sequences,
        )


def work_of(start: int, tokens: int) -> StepWork:
    """`tokens` tokens of one sequence from `start` on: the i-th of them looks at start + i + 1."""
    return StepWork(tokens, tokens * start + tokens * (tokens + 1) // 2, start + tokens, 1)


def step_work(plan: Plan) -> StepWork:
    """All that a plan computes: the sum of `work_of`, in one pass, for runs of many steps."""
    tokens = pairs = context = 0
    for work in plan.work:
        n = work.tokens
        tokens += n
        pairs += n * work.start + n * (n + 1) // 2
        context += work.start + n
    return StepWork(tokens, pairs, context, len(plan.work))


Cost = Callable[[StepWork], float]  # seconds


@dataclass(frozen=True)
class Linear:
    """seconds = fixed + per_token x tokens + per_pair x pairs + per_context x context."""

    fixed: float  # of a step, whatever is in it: reading the weights, launching the layers
    per_token: float
    per_pair: float
    per_context: float  # of a token whose keys and values are fetched

    def __call__(self, work: StepWork) -> float:
        return (
            self.fixed
            + self.per_token * work.tokens
            + self.per_pair * work.pairs
            + self.per_context * work.context
        )

    @property
    def turning_tokens(self) -> float:
        """Tokens that cost as much as the step itself: fewer leave it half idle."""
        return self.fixed / self.per_token


def fitted(samples: Iterable[tuple[StepWork, float]]) -> Linear:
    """The constants, none below 0, that come nearest to measured (work, seconds).

    Each sample counts by its relative error, so that short steps fit as well as long ones. Raises
    `ServingError` for fewer samples than constants.
    """
    import numpy as np
    from scipy.optimize import nnls

    found = list(samples)
    if len(found) < 4:
        raise ServingError(
            f"{len(found)} measured steps",
            "four constants are looked for",
            "steps of several sizes, of long and of short sequences",
        )
    rows = np.array([[1.0, work.tokens, work.pairs, work.context] for work, _ in found])
    seconds = np.array([value for _, value in found])
    scale = rows.max(axis=0)  # else a pair's constant is lost beside a step's
    constants, _ = nnls(rows / scale / seconds[:, None], np.ones(len(found)))
    return Linear(*(constants / scale).tolist())


@dataclass(frozen=True)
class RooflineCost:
    """seconds = overhead + max(operations / peak, bytes / bandwidth), for a model's shape.

    peak: operations/s. bandwidth: bytes/s. overhead: of a step, seconds. What a kernel reaches of
    either is below: these are the least times that the device allows.
    """

    shape: Shape
    peak: float
    bandwidth: float
    overhead: float = 0.0
    itemsize: int = 2  # bytes of a number

    def flops(self, work: StepWork) -> float:
        """The last matrix counts for one token of each sequence, as `llm.phases` has it."""
        s = self.shape
        last = s.vocabulary * s.width
        matrices = 2 * (multiplied(s) - last) * work.tokens + 2 * last * work.sequences
        return matrices + 4 * s.layers * s.heads * s.head_dim * work.pairs

    def bytes(self, work: StepWork) -> float:
        """Weights once, and the keys and values of each sequence once."""
        return self.itemsize * multiplied(self.shape) + work.context * memory.kv_bytes(
            self.shape, self.itemsize
        )

    def __call__(self, work: StepWork) -> float:
        slower = max(self.flops(work) / self.peak, self.bytes(work) / self.bandwidth)
        return self.overhead + slower

    @property
    def turning_tokens(self) -> float:
        """Tokens that compute for as long as the weights take to read."""
        one, none = self.flops(StepWork(1, 0, 0, 0)), StepWork(0, 0, 0, 0)
        return self.bytes(none) / self.bandwidth / (one / self.peak)
