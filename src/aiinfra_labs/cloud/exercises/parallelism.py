"""The exercises of unit 4.6 on what ranks say to each other: a ring, and ZeRO's step.

Also the verdict on its claim. A learner's function runs on several ranks at once, as threads of
this process, and every message is counted. The exercises on how a model is divided are in
`parallelism_model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.cloud.serving.parallel import threads
from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.drawing import many

from . import parallelism_views as views

SKILL = "Parallelism"

examine(
    "parallel-modes",
    verdict="reproduced",
    figure="All four modes run here on real processes and give what one process gives: logits "
    "within 1e-4 on random Llama, Qwen2 and Qwen3 checkpoints, training within 1e-4 of its "
    "weights. They are no four equals: only tensor parallelism shortens one token's time, and says "
    "most (two all-reduces a layer); a pipeline says least and idles (p-1)/(m+p-1) of the time; "
    "data parallelism says nothing while it serves and makes no request faster. Mixed is how large "
    "models run: Llama 3.1 405B was trained with tensor 8, pipeline 16, data 128.",
    how="bytes counted in the collectives on gloo and by formula, idle slots counted in the "
    "schedule, bytes of the tensors that each rank holds; GPUs and nccl were not tried",
    source="https://arxiv.org/abs/2104.04473",
)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """The same whole numbers on every machine, as float32: sums of them are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-50, 50, shape, generator=generator).float()


def a_vector(r: Any, got: Any, length: int, name: str) -> Tensor:
    """The value as a tensor [length]; fails the requirement unless it is one."""
    r.that(
        isinstance(got, Tensor),
        what=f"{name} is {'None' if got is None else f'a {type(got).__name__}'}",
        why="the other ranks' code goes on with a tensor",
        try_="end the function with return and that tensor",
        slip=True,
    )
    r.that(
        got.shape == (length,),
        what=f"{name} has shape {tuple(got.shape)}, expected ({length},)",
        why="it has as many numbers as what the rank was given",
        try_="print the shapes of the pieces that it is made from",
    )
    return got.detach()


def on_ranks(size: int, work: Callable[[int, Any], Any]) -> tuple[list[Any], list[int]]:
    """`work(rank, comm)` on each rank; what each returned, and the bytes that each sent."""
    wire = threads.Wire(size)
    results = threads.run(size, lambda rank, w: work(rank, w.comm(rank)), wire)
    return results, [traffic.bytes for traffic in wire.traffic]


# --- 4.6.a -------------------------------------------------------------------------------------

SUM = "gives every rank the sum"
UNEVEN = "sums tensors whose length is no multiple of the ranks"
BYTES = "sends no more than 2 (N - 1)/N of the tensor from any rank"
SAME = "ends with the same bits on every rank"


@exercise(
    "4.6.a",
    title="All-reduce in a ring",
    points=6,
    central=UNEVEN,
    skill=SKILL,
    arguments=("x", "rank", "size", "shift"),
    hints=(
        (
            SUM,
            "First phase: in step s, rank r gives away piece (r - s) mod N and adds what it "
            "receives to piece (r - s - 1) mod N. After N - 1 steps one of its pieces is complete.",
        ),
        (
            SUM,
            "Second phase: pass the complete piece on. In step s, rank r gives piece "
            "(r + 1 - s) mod N, and what it receives *replaces* its piece (r - s) mod N.",
        ),
        (
            UNEVEN,
            "`x.tensor_split(N)` gives N pieces whatever the length; `x.chunk(N)` may give fewer.",
        ),
        (BYTES, "Each `shift` carries one piece, an Nth of x, and there are 2 (N - 1) of them."),
        (
            SAME,
            "a + b + c rounds differently in another order. Let one rank complete a piece, and the "
            "others copy it.",
        ),
    ),
)
def ring(function: Any, require: Any) -> None:
    """The sum of all ranks' tensors, by messages to the next rank in the ring alone."""
    with require(SUM) as r:
        for size, length in ((1, 4), (2, 2), (2, 8), (3, 6), (4, 12), (5, 20)):
            _reduced(r, function, size, length)
    with require(UNEVEN) as r:
        for size, length in ((2, 3), (3, 4), (4, 7), (4, 2), (5, 1), (3, 100)):
            _reduced(r, function, size, length)
    with require(BYTES) as r:
        for size, length in ((2, 8), (3, 300), (4, 400), (5, 1000)):
            with r.input(f"{size} ranks, {length} numbers of 4 bytes each"):
                sent = _reduced(r, function, size, length)
                allowed = 2 * (size - 1) * 4 * -(-length // size)
                r.that(
                    max(sent) <= allowed,
                    what=f"a rank sends {max(sent):,} bytes, {max(sent) / (4 * length):.3g} times "
                    f"the tensor; {allowed:,} are enough",
                    why=_why_so_many(max(sent), size, 4 * length),
                    try_="print the length of every tensor that you give to shift, and count them",
                )
    with require(SAME) as r:
        for size in (2, 3, 5):
            with r.input(f"{size} ranks, random fractions"):
                given = [torch.randn(64, generator=_seeded(rank)) for rank in range(size)]
                found, _ = on_ranks(size, lambda k, comm, g=given: _call(function, g[k], k, comm))
                total = torch.stack(given).sum(0)
                for rank, got in enumerate(found):
                    a_vector(r, got, 64, f"the result of rank {rank}")
                    near = torch.isclose(got, total, atol=1e-5)
                    r.that(
                        bool(near.all()),
                        what=f"rank {rank} has {int(near.sum())} of 64 sums",
                        why="what is not the sum cannot be the same sum everywhere",
                        try_="mend the requirements above first",
                    )
                    r.that(
                        torch.equal(got, found[0]),
                        what=f"rank {rank} and rank 0 differ in "
                        f"{int((got != found[0]).sum())} of 64 numbers, in their last bits",
                        why="each rank summed in an order of its own, and ranks whose weights "
                        "drift apart train different models",
                        try_="let each piece be summed once, and sent round as it is",
                    )


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _call(function: Any, x: Tensor, rank: int, comm: Any) -> Any:
    """The learner's function, with a `shift` that says what it wants."""

    def shift(piece: Any) -> Tensor:
        if not isinstance(piece, Tensor):
            raise TypeError(f"shift was given {type(piece).__name__}, and sends a tensor")
        return comm.shift(piece)

    return function(x.clone(), rank, comm.size, shift)


def _reduced(r: Any, function: Any, size: int, length: int) -> list[int]:
    """Try it; returns the bytes that each rank sent."""
    with r.input(f"{many(size, 'rank')}, {many(length, 'number')} on each"):
        given = [numbers(length, seed=rank) for rank in range(size)]
        total = torch.stack(given).sum(0)
        found, sent = on_ranks(size, lambda k, comm: _call(function, given[k], k, comm))
        for rank, got in enumerate(found):
            got = a_vector(r, got, length, f"the result of rank {rank}")
            r.that(
                torch.equal(got.float(), total),
                what=f"rank {rank} has {int((got.float() == total).sum())} of {length} sums",
                why=_why_not(got, given[rank], total, size),
                try_="write down, for 3 ranks, which piece each gives and takes in each step",
            )
        return sent


def _why_not(got: Tensor, own: Tensor, total: Tensor, size: int) -> str:
    right = (got == total).reshape(-1)
    if torch.equal(got, own):
        return "it is what the rank was given: nothing was added"
    if torch.equal(got, total / size):
        return "it is the mean: this all-reduce sums"
    pieces = [bool(p.all()) for p in right.tensor_split(size)]
    if sum(pieces) == 1:
        return "one piece is complete, and the others are not: they must still be passed round"
    if any(pieces):
        return f"{sum(pieces)} of {size} pieces are complete: a step is missing, or one is doubled"
    return "no piece is complete: a piece must pass every rank once, and be added to there"


def _why_so_many(sent: int, size: int, whole: int) -> str:
    if sent >= (size - 1) * whole:
        return "whole tensors are sent on; a piece of 1/N at a time reaches everybody as well"
    return f"a ring of {size} needs 2 x {size - 1} messages of 1/{size} of the tensor"


@ring.show
def _show_ring(function: Any) -> views.Picture:
    sent = {}
    for size in (2, 3, 4, 8):
        given = [numbers(960, seed=rank) for rank in range(size)]
        _, each = on_ranks(size, lambda k, comm, g=given: _call(function, g[k], k, comm))
        sent[size] = max(each) / (4 * 960)
    return views.volumes(sent)


# --- 4.6.e -------------------------------------------------------------------------------------

PART = "gives Adam this rank's part alone"
STEP = "ends with the weights that one process would have"
PADDED = "works where the length is no multiple of the ranks"
VOLUME = "sends no more than plain data parallelism"


@exercise(
    "4.6.e",
    title="ZeRO: a step of which each rank does a part",
    points=6,
    central=STEP,
    skill=SKILL,
    arguments=("weights", "gradients", "rank", "size", "reduce_scatter", "all_gather", "adam"),
    hints=(
        (
            PART,
            "`reduce_scatter(gradients)` gives the sum over all ranks of this rank's part. The "
            "same part of the weights starts at rank x length of a part.",
        ),
        (
            STEP,
            "Each rank's gradients are of its own part of the batch. Those of the whole batch are "
            "the sum over all ranks, which is what `reduce_scatter` gives.",
        ),
        (
            STEP,
            "`adam(weights, gradients)` returns the new weights of that part; `all_gather` puts "
            "the parts of all ranks one behind the other.",
        ),
        (
            PADDED,
            "`torch.nn.functional.pad(x, (0, more))` adds zeros at the end: enough for a multiple "
            "of size. Cut them off again at the end: `[:len(weights)]`.",
        ),
        (VOLUME, "One reduce-scatter and one all-gather of the whole are enough."),
    ),
)
def zero(function: Any, require: Any) -> None:
    """A step of ZeRO stage 1 on flat weights: Adam's moments are kept by one rank for each."""
    with require(PART) as r:
        for size, length in ((1, 4), (2, 8), (4, 12)):
            _stepped(r, function, size, length, steps=1, only_part=True)
    with require(STEP) as r:
        for size, length in ((1, 4), (2, 8), (3, 12), (4, 64)):
            _stepped(r, function, size, length, steps=3)
    with require(PADDED) as r:
        for size, length in ((2, 7), (3, 10), (4, 5), (4, 2)):
            _stepped(r, function, size, length, steps=2)
    with require(VOLUME) as r:
        for size, length in ((2, 8), (4, 64)):
            _stepped(r, function, size, length, steps=1, volume=True)


class PartOfAdam:
    """Adam on whatever part it is given; it keeps the two moments of that part."""

    RATE, BETAS, EPS = 0.1, (0.9, 0.999), 1e-8

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.first = self.second = torch.zeros(0)

    def __call__(self, weights: Tensor, gradients: Tensor) -> Tensor:
        """The weights after one more step: float32 [m], as the moments and what is given."""
        if not self.lengths:
            self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)
        if not weights.shape == gradients.shape == self.first.shape:
            raise ValueError(
                f"adam was given {len(weights)} weights and {len(gradients)} gradients, and keeps "
                f"the moments of {len(self.first)}"
            )
        self.lengths.append(len(weights))
        (b1, b2), steps = self.BETAS, len(self.lengths)
        self.first = b1 * self.first + (1 - b1) * gradients
        self.second = b2 * self.second + (1 - b2) * gradients**2
        mean, square = self.first / (1 - b1**steps), self.second / (1 - b2**steps)
        return weights - self.RATE * mean / (square.sqrt() + self.EPS)


def _stepped(
    r: Any,
    function: Any,
    size: int,
    length: int,
    steps: int,
    only_part: bool = False,
    volume: bool = False,
) -> None:
    with r.input(f"{many(size, 'rank')}, {length} weights, {many(steps, 'step')}"):
        start = torch.randn(length, generator=_seeded(1))
        gradients = [
            [torch.randn(length, generator=_seeded(10 * s + k)) for k in range(size)]
            for s in range(steps)
        ]
        parts = [PartOfAdam() for _ in range(size)]

        def work(rank: int, comm: Any) -> Any:
            weights = start.clone()
            for step in range(steps):
                weights = function(
                    weights,
                    gradients[step][rank].clone(),
                    rank,
                    size,
                    _even(comm.reduce_scatter, size),
                    comm.all_gather,
                    parts[rank],
                )
                a_vector(r, weights, length, f"what rank {rank} returns")
            return weights

        found, sent = on_ranks(size, work)
        part = -(-length // size)
        kept = max((n for p in parts for n in p.lengths), default=0)
        r.that(
            kept and kept <= part,
            what=f"adam is given {kept} weights on a rank, expected {part}"
            if kept
            else "adam is called on no rank",
            why=f"it keeps two moments for each weight that it sees: one weight in {size} is this "
            "rank's, and the other ranks keep theirs",
            try_="give it the slice of the weights that belongs to this rank",
        )
        if volume:
            allowed = 2 * (size - 1) * 4 * part
            r.that(
                max(sent) <= allowed,
                what=f"a rank sends {max(sent)} bytes, where an all-reduce of the gradients sends "
                f"{allowed}",
                why="a reduce-scatter and an all-gather are the two halves of an all-reduce",
                try_="call each of the two once",
            )
        if only_part:
            return
        expected = _alone(start, gradients)
        for rank, got in enumerate(found):
            error = float((got - expected).abs().max())
            r.that(
                error < 1e-5,
                what=f"after {many(steps, 'step')}, rank {rank} is {error:.3g} off in some weight",
                why=_why_off(got, start, gradients, size),
                try_="print the gradient that you give to adam beside the sum over all ranks",
            )


def _even(reduce_scatter: Callable[[Tensor], Tensor], size: int) -> Callable[[Tensor], Tensor]:
    """As torch.distributed's, which takes no tensor that cannot be divided."""

    def checked(x: Tensor) -> Tensor:
        if len(x) % size:
            raise ValueError(f"reduce_scatter of {len(x)} numbers among {size} ranks: not equal")
        return reduce_scatter(x)

    return checked


def _alone(start: Tensor, gradients: list[list[Tensor]]) -> Tensor:
    """The same steps on one process, on the gradients of the whole batch."""
    adam, weights = PartOfAdam(), start
    for each in gradients:
        weights = adam(weights, torch.stack(each).sum(0))
    return weights


def _why_off(got: Tensor, start: Tensor, gradients: list[list[Tensor]], size: int) -> str:
    if torch.equal(got, start):
        return "the weights are as they were: the new parts must come back from all ranks"
    first = _alone(start, [[g[0]] for g in gradients])
    if torch.allclose(got[: len(got) // size], first[: len(got) // size], atol=1e-5):
        return "that is the step of this rank's own gradients: the others' must be added first"
    return "one process steps once, on the sum of all ranks' gradients"


@zero.show
def _show_zero(function: Any) -> views.Picture:
    kept = {}
    for size in (1, 2, 3, 4, 6, 8):
        parts = [PartOfAdam() for _ in range(size)]

        def work(rank: int, comm: Any, size: int = size, parts: Any = parts) -> Any:
            return function(
                torch.zeros(960),
                torch.ones(960),
                rank,
                size,
                comm.reduce_scatter,
                comm.all_gather,
                parts[rank],
            )

        on_ranks(size, work)
        kept[size] = 8 * max(n for p in parts for n in p.lengths) / 960
    return views.moments(kept)
