"""What a step takes, as a formula: the clock of a run that counts instead of measuring. Unit 4.3.

A step reads all weights once, computes each of its tokens, and lets each look back at its own
sequence. `Linear` adds the three up, with constants fitted to what a machine measured.
`RooflineCost` takes the larger of arithmetic and memory for each kind of kernel, and adds these up:
a kernel may overlap the two (unit 3.1), and the next kernel begins when it has ended.
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
        """Tokens that cost as much as the step itself: with so many it takes twice as long."""
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
class KernelCost:
    """One kind of kernel in a step: flops: operations. bytes: read at least, each once."""

    name: str
    flops: float
    bytes: float


@dataclass(frozen=True)
class RooflineCost:
    """seconds = overhead + the sum over kernels of max(operations / peak, bytes / bandwidth).

    peak: operations/s. bandwidth: bytes/s. overhead: of a step, seconds. What a kernel reaches of
    either is below: these are the least times that the device allows.
    """

    shape: Shape
    peak: float
    bandwidth: float
    overhead: float = 0.0
    itemsize: int = 2  # bytes of a number

    def kernels(self, work: StepWork) -> tuple[KernelCost, KernelCost, KernelCost]:
        """What a step runs, by what it reads. All products of the layers have one balance.

        The last matrix counts for one token of each sequence, as `llm.phases` has it.
        """
        s, size = self.shape, self.itemsize
        last = s.vocabulary * s.width
        layers = multiplied(s) - last
        pair = 4 * s.layers * s.heads * s.head_dim  # two products
        return (
            KernelCost("layers", 2 * layers * work.tokens, size * layers),
            KernelCost("attention", pair * work.pairs, memory.kv_bytes(s, size) * work.context),
            KernelCost("last matrix", 2 * last * work.sequences, size * last),
        )

    def flops(self, work: StepWork) -> float:
        """Operations of a step."""
        return sum(kernel.flops for kernel in self.kernels(work))

    def bytes(self, work: StepWork) -> float:
        """Weights once, and the keys and values of each sequence once."""
        return sum(kernel.bytes for kernel in self.kernels(work))

    def seconds(self, kernel: KernelCost) -> float:
        """The least time of one kernel: whichever of arithmetic and memory takes longer."""
        return max(kernel.flops / self.peak, kernel.bytes / self.bandwidth)

    def __call__(self, work: StepWork) -> float:
        return self.overhead + sum(map(self.seconds, self.kernels(work)))

    @property
    def turning_tokens(self) -> float:
        """Tokens that a product computes for as long as its weights take to read: any model's."""
        return self.itemsize / 2 * self.peak / self.bandwidth
