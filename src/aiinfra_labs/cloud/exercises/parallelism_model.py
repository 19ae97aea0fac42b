"""The exercises of unit 4.6 on how a model is divided: matrices, stages, and who talks to whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from aiinfra_labs.cloud.serving.model import MLP, Attention, ModelConfig, causal_attention
from aiinfra_labs.cloud.serving.parallel import schedules, tensor
from aiinfra_labs.cloud.serving.parallel.errors import Deadlock
from aiinfra_labs.cloud.serving.parallel.grid import KINDS, Grid
from aiinfra_labs.course import exercise
from aiinfra_labs.course.comparing import is_whole
from aiinfra_labs.course.drawing import many

from . import parallelism_views as views
from .parallelism import SKILL

# --- 4.6.b -------------------------------------------------------------------------------------

IN_MLP = "divides the MLP, so that the ranks' outputs sum to the whole"
IN_ATTENTION = "divides attention by heads"
BIAS = "divides a bias as the rows that it belongs to"
SHARED = "keeps a kv head on several ranks where there are fewer heads than ranks"
WHOLE = "leaves a norm whole"
SHAPE = ModelConfig(64, 24, 32, 1, 4, 4, 6, 32)


@exercise(
    "4.6.b",
    title="Which rank holds which rows",
    points=8,
    central=IN_ATTENTION,
    skill=SKILL,
    arguments=("name", "weight", "rank", "size", "heads", "kv_heads", "head_dim"),
    hints=(
        (
            IN_MLP,
            "gate_up_proj holds two matrices, gate above up. Column j of gate is multiplied with "
            "column j of up, so a rank needs the same rows of both: `gate, up = weight.chunk(2)`.",
        ),
        (
            IN_MLP,
            "down_proj is cut by its columns, dim 1: these belong to what the rank has made.",
        ),
        (
            IN_ATTENTION,
            "qkv_proj holds three matrices below each other: heads x head_dim rows of q, then "
            "kv_heads x head_dim of k, then as many of v. Cut each of the three, and put the "
            "rank's parts below each other: `torch.cat`.",
        ),
        (BIAS, "A bias has rows and no columns. Cutting along dim 0 serves both."),
        (
            SHARED,
            "With 8 ranks and 2 kv heads, ranks 0 to 3 need head 0: rank x kv_heads // size.",
        ),
        (WHOLE, "Whatever is none of the four matrices is returned as it is."),
    ),
)
def shard(function: Any, require: Any) -> None:
    """A rank's part of a parameter of a block, so that two all-reduces a block are enough."""
    with require(IN_MLP) as r:
        for size in (1, 2, 4):
            _mlp(r, function, size)
    with require(IN_ATTENTION) as r:
        for heads, kv_heads, size in ((4, 4, 1), (4, 4, 2), (4, 2, 2), (8, 4, 4)):
            _attention(r, function, replace(SHAPE, **_heads(heads, kv_heads)), size)
        _attention(r, function, replace(SHAPE, head_dim=10, **_heads(4, 2)), 2)
    with require(BIAS) as r:
        config = replace(SHAPE, qkv_bias=True)
        _attention(r, function, replace(config, **_heads(4, 2)), 2)
        _attention(r, function, replace(config, **_heads(4, 4)), 4)
    with require(SHARED) as r:
        for heads, kv_heads, size in ((4, 1, 2), (4, 2, 4), (8, 2, 8)):
            _attention(r, function, replace(SHAPE, **_heads(heads, kv_heads)), size)
    with require(WHOLE) as r:
        weight = torch.arange(24.0)
        for name in ("input_layernorm", "q_norm"):
            _part(r, function, name, weight, SHAPE, 1, 2, (24,))


def _heads(heads: int, kv_heads: int) -> dict[str, int]:
    return {"num_attention_heads": heads, "num_key_value_heads": kv_heads}


def _random(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 3)
    return module


def _part(
    r: Any,
    function: Any,
    name: str,
    weight: Tensor,
    config: ModelConfig,
    rank: int,
    size: int,
    shape: tuple[int, ...],
) -> Tensor:
    """The learner's part, of the shape that it must have."""
    h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    got = function(name, weight.detach().clone(), rank, size, h, k, d)
    r.that(
        isinstance(got, Tensor),
        what=f"rank {rank}'s part of {name} is "
        f"{'None' if got is None else f'a {type(got).__name__}'}",
        why="a rank holds a tensor",
        try_="end every branch of the function with return and a tensor",
        slip=True,
    )
    r.that(
        tuple(got.shape) == shape,
        what=f"rank {rank}'s part of {name}, {list(weight.shape)}, is {list(got.shape)}, expected "
        f"{list(shape)}",
        why=_why_shape(name, tuple(got.shape), tuple(weight.shape), shape, size),
        try_="print name, weight.shape and what you return, for each rank",
    )
    r.that(
        got.dtype == weight.dtype,
        what=f"rank {rank}'s part of {name} has dtype {got.dtype}, expected {weight.dtype}",
        why="a part takes as many bytes a number as the whole",
        try_="cut and put together, and compute nothing",
    )
    return got.detach()


def _why_shape(
    name: str, got: tuple[int, ...], whole: tuple[int, ...], shape: tuple[int, ...], size: int
) -> str:
    if got == whole and size > 1 and shape != whole:
        return f"it is the whole: {size} ranks would hold it {size} times, and sum it {size} times"
    if shape == whole:
        return "a norm weighs numbers that every rank has: each needs all of it"
    if name in ("o_proj", "down_proj"):
        return "its input is what this rank has made: a part of the columns"
    if name == "qkv_proj":
        return "its rows are those of the rank's query heads, and of the kv heads that these ask"
    return "each rank has as many rows of it as any other"


def _mlp(r: Any, function: Any, size: int) -> None:
    with r.input(f"an MLP of {SHAPE.intermediate_size} columns on {many(size, 'rank')}"):
        whole = _random(MLP(SHAPE))
        local = replace(SHAPE, intermediate_size=SHAPE.intermediate_size // size)
        x = _inputs()
        total = torch.zeros(len(x), SHAPE.hidden_size)
        for rank in range(size):
            mine = MLP(local)
            for name in ("gate_up_proj", "down_proj"):
                weight, room = getattr(whole, name).weight, getattr(mine, name).weight
                shape = tuple(room.shape)
                part = _part(r, function, name, weight, SHAPE, rank, size, shape)
                with torch.no_grad():
                    room.copy_(part)
            total += mine(x).detach()
        why = (
            "silu(gate) is multiplied with up column by column: a rank must hold the same columns "
            "of both, and the same of down_proj"
        )
        if size > 1 and _is(function, "gate_up_proj", whole.gate_up_proj.weight, size):
            why = "gate and up lie below each other: the first ranks got all of gate, and no up"
        _sums(r, total, whole(x).detach(), why)


def _attention(r: Any, function: Any, config: ModelConfig, size: int) -> None:
    h, k = config.num_attention_heads, config.num_key_value_heads
    bias = ", with a bias" if config.qkv_bias else ""
    with r.input(f"attention, {h} heads and {many(k, 'kv head')}, {many(size, 'rank')}{bias}"):
        whole = _random(Attention(config, 0), seed=h + k)
        local = tensor.local_config(config, size)
        x, turn = _inputs(), torch.zeros(5, 1, config.head_dim // 2)
        cos, sin = turn + 1, turn
        total = torch.zeros(len(x), config.hidden_size)
        for rank in range(size):
            mine = Attention(local, 0)
            rooms = dict(mine.named_parameters())
            for full, weight in whole.named_parameters():
                name, room = full.split(".")[0], rooms[full]
                shape = tuple(room.shape)
                part = _part(r, function, name, weight, config, rank, size, shape)
                with torch.no_grad():
                    room.copy_(part)
            total += mine(x, cos, sin, causal_attention).detach()
        why = "each query head must meet its own kv head, and the columns of o_proj that are its"
        if size > 1 and _is(function, "qkv_proj", whole.qkv_proj.weight, size, config):
            why = "q, k and v lie below each other: cut as one matrix, a rank gets queries alone"
        _sums(r, total, whole(x, cos, sin, causal_attention).detach(), why)


def _inputs() -> Tensor:
    return torch.randn(5, SHAPE.hidden_size, generator=torch.Generator().manual_seed(9))


def _is(function: Any, name: str, weight: Tensor, size: int, config: ModelConfig = SHAPE) -> bool:
    """Whether the learner cuts a merged matrix as if it were one."""
    h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    got = function(name, weight.detach().clone(), 0, size, h, k, d)
    plain = weight.chunk(size)[0]
    return got.shape == plain.shape and bool(torch.equal(got, plain))


def _sums(r: Any, got: Tensor, expected: Tensor, why: str) -> None:
    error = float((got - expected).abs().max())
    r.that(
        error < 1e-4,
        what=f"the ranks' outputs sum to something that is {error:.3g} off",
        why=why,
        try_="fill the weight with its row numbers, torch.arange(rows)[:, None], and print the "
        "parts",
    )


@shard.show
def _show_shard(function: Any) -> views.Picture:
    names, (h, k, d) = {"q": 8 * 4, "k": 4 * 4, "v": 4 * 4}, (8, 4, 4)
    rows = torch.arange(sum(names.values()))[:, None].float()
    parts = [function("qkv_proj", rows.clone(), rank, 4, h, k, d) for rank in range(4)]
    found = [p.flatten().long().tolist() if isinstance(p, Tensor) else None for p in parts]
    return views.rows(found, names)


# --- 4.6.c -------------------------------------------------------------------------------------

COMPLETE = "takes every micro-batch forward and backward once, in each stage"
RUNS = "never waits for what comes later"
BUBBLE = "stands idle for (p - 1)/(m + p - 1) of the time, and no more"
MEMORY = "keeps the activations of at most p - stage micro-batches"
PIPES = ((1, 1), (1, 3), (2, 1), (2, 4), (3, 2), (4, 1), (5, 2), (4, 4), (4, 8), (3, 7))


@exercise(
    "4.6.c",
    title="One forward, one backward",
    points=6,
    central=BUBBLE,
    skill=SKILL,
    arguments=("stage", "stages", "micro_batches"),
    hints=(
        (
            COMPLETE,
            "Return a list such as [('F', 0), ('F', 1), ('B', 0), ('B', 1)]. Where there are fewer "
            "micro-batches than stages, the warm-up must not run past the last of them.",
        ),
        (
            RUNS,
            "A micro-batch goes backward in the order in which it went forward: B0 before B1.",
        ),
        (
            BUBBLE,
            "Stage s has p - 1 - s stages behind it. It goes forward that many times before its "
            "first backward can come, and then it does one forward, one backward in turn.",
        ),
        (
            MEMORY,
            "After the warm-up every forward is followed by a backward at once: the number of "
            "micro-batches that are kept never grows.",
        ),
    ),
)
def schedule(function: Any, require: Any) -> None:
    """The tasks of a stage in their order: 1F1B, with the smallest bubble and few activations."""
    with require(COMPLETE) as r:
        for stages, m in PIPES:
            _complete(r, function, stages, m)
    with require(RUNS) as r:
        for stages, m in PIPES:
            with r.input(_pipe(stages, m)):
                _played(r, function, stages, m)
    with require(BUBBLE) as r:
        for stages, m in PIPES:
            with r.input(_pipe(stages, m)):
                line = _played(r, function, stages, m)
                least = schedules.bubble(stages, m)
                r.that(
                    line.bubble <= least + 1e-9,
                    what=f"idle in {line.bubble:.1%} of the slots, {least:.1%} are enough",
                    why=_why_idle(line, stages, m),
                    try_=f'show("{schedule.id}", name) draws it: look at the last stage first',
                )
    with require(MEMORY) as r:
        for stages, m in PIPES:
            with r.input(_pipe(stages, m)):
                line = _played(r, function, stages, m)
                for stage in range(stages):
                    r.at_most(
                        line.kept(stage),
                        min(m, stages - stage),
                        f"micro-batches are kept at once in stage {stage}",
                        why="each keeps what its backward will need; with all forwards first that "
                        "is every micro-batch of the batch",
                        try_="begin with backward as soon as the first gradient can be there",
                    )


def _pipe(stages: int, m: int) -> str:
    return f"{many(stages, 'stage')}, {m} micro-batch{'' if m == 1 else 'es'}"


def _complete(r: Any, function: Any, stages: int, m: int) -> None:
    for stage in range(stages):
        with r.input(f"stage {stage} of {_pipe(stages, m)}"):
            got = function(stage, stages, m)
            r.that(
                _is_schedule(got),
                what=f"{_few(got)} was returned",
                why="a schedule is a list of pairs: ('F', 0), ('B', 0), ...",
                try_="make it a list of tuples",
                slip=True,
            )
            for kind in "FB":
                mine = sorted(i for k, i in got if k == kind)
                r.that(
                    mine == list(range(m)),
                    what=f"{kind} is there for micro-batches {_few(mine)}, expected each of 0 to "
                    f"{m - 1} once",
                    why="a micro-batch that is left out, or done twice, changes the gradient",
                    try_="count the tasks of a stage: 2 for each micro-batch",
                )


def _is_schedule(got: Any) -> bool:
    return isinstance(got, list | tuple) and all(
        isinstance(task, tuple) and len(task) == 2 and task[0] in ("F", "B") and is_whole(task[1])
        for task in got
    )


def _few(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:56] + " ..."


def _played(r: Any, function: Any, stages: int, m: int) -> schedules.PipelineTimeline:
    tasks = [function(stage, stages, m) for stage in range(stages)]
    wanted = sorted((kind, i) for kind in "FB" for i in range(m))
    r.that(
        all(_is_schedule(each) and sorted(each) == wanted for each in tasks),
        what="some stage's schedule is not complete",
        why="what is left out takes no time, and keeps nothing",
        try_="mend the first requirement first",
        slip=not all(map(_is_schedule, tasks)),
    )
    try:
        return schedules.play(tasks)
    except Deadlock as stuck:
        r.that(False, what=stuck.what, why=stuck.why, try_=stuck.try_)
        raise


def _why_idle(line: schedules.PipelineTimeline, stages: int, m: int) -> str:
    if line.length >= stages * m * (schedules.FORWARD + schedules.BACKWARD):
        return "one stage works at a time: each micro-batch is done before the next one begins"
    return "a stage waits for a gradient while it could go forward with the next micro-batch"


@schedule.show
def _show_schedule(function: Any) -> views.Picture:
    tasks = [function(stage, 4, 8) for stage in range(4)]
    views.drawable(all(_is_schedule(each) for each in tasks), "this schedule")
    return views.chart(schedules.play(tasks), schedules.bubble(4, 8))


# --- 4.6.d -------------------------------------------------------------------------------------

PUBLISHED = "makes the groups that Megatron-LM's documentation lists for 16 GPUs"
ANY = "makes them for any sizes"
NODE = "keeps every tensor group within a node of 8 GPUs"
# megatron.core.parallel_state.initialize_model_parallel: tensor 2, pipeline 4, 16 GPUs.
MEGATRON = {
    "tensor": [[2 * i, 2 * i + 1] for i in range(8)],
    "data": [[4 * i + j, 4 * i + j + 2] for i in range(4) for j in range(2)],
    "pipeline": [[i, i + 4, i + 8, i + 12] for i in range(4)],
}


@exercise(
    "4.6.d",
    title="Whom a rank talks to",
    points=4,
    central=ANY,
    skill=SKILL,
    arguments=("rank", "tensor", "data", "pipeline"),
    hints=(
        (
            PUBLISHED,
            "Write rank as t + tensor x (d + data x p). Then t = rank % tensor, "
            "d = rank // tensor % data, p = rank // (tensor x data).",
        ),
        (
            PUBLISHED,
            "Each group varies one of t, d, p and holds the other two fixed: put the rank together "
            "again for each value.",
        ),
        (ANY, "A size of 1 makes groups of one: the rank itself."),
        (NODE, "Neighbouring ranks share a node, so t must be what changes first."),
    ),
)
def groups(function: Any, require: Any) -> None:
    """The ranks of this rank's tensor, data and pipeline group, in Megatron-LM's order."""
    with require(PUBLISHED) as r:
        for rank in range(16):
            expected = {kind: next(g for g in MEGATRON[kind] if rank in g) for kind in KINDS}
            _grouped(r, function, rank, (2, 2, 4), expected)
    with require(ANY) as r:
        for sizes in ((1, 1, 1), (1, 4, 1), (2, 1, 1), (1, 1, 3), (2, 3, 2), (3, 2, 2)):
            grid = Grid(*sizes)
            for rank in range(grid.size):
                expected = {kind: next(g for g in grid.groups(kind) if rank in g) for kind in KINDS}
                _grouped(r, function, rank, sizes, expected)
    with require(NODE) as r:
        for sizes in ((8, 2, 2), (4, 4, 2), (8, 1, 4)):
            for rank in range(sizes[0] * sizes[1] * sizes[2]):
                with r.input(f"rank {rank}; tensor, data, pipeline = {sizes}"):
                    got = _asked(r, function, rank, sizes)["tensor"]
                    nodes = sorted({other // 8 for other in got})
                    r.that(
                        len(nodes) == 1 and len(got) == sizes[0],
                        what=f"the tensor group {got} lies in nodes {nodes}",
                        why="it speaks twice a layer, and between nodes a link is many times "
                        "slower than within one",
                        try_="let neighbouring ranks differ in their tensor coordinate",
                    )


def _asked(r: Any, function: Any, rank: int, sizes: tuple[int, ...]) -> dict[str, list[int]]:
    got = function(rank, *sizes)
    r.that(
        isinstance(got, dict) and set(got) == set(KINDS),
        what=f"{_few(got)} was returned",
        why=f"a dict was asked for, with {', '.join(KINDS)}",
        try_='return {"tensor": [...], "data": [...], "pipeline": [...]}',
        slip=not isinstance(got, dict),
    )
    return {kind: r.whole(got[kind], f"the {kind} group") for kind in KINDS}


def _grouped(
    r: Any, function: Any, rank: int, sizes: tuple[int, ...], expected: dict[str, list[int]]
) -> None:
    with r.input(f"rank {rank}; tensor, data, pipeline = {sizes}"):
        got = _asked(r, function, rank, sizes)
        for kind in KINDS:
            r.that(
                got[kind] == expected[kind],
                what=f"its {kind} group is {_few(got[kind])}, expected {_few(expected[kind])}",
                why=_why_group(kind, rank, sizes, got, expected),
                try_="write down t, d and p of every rank of a small grid, in three columns",
            )


def _why_group(
    kind: str,
    rank: int,
    sizes: tuple[int, ...],
    got: dict[str, list[int]],
    expected: dict[str, list[int]],
) -> str:
    t, d, p = sizes
    inner, within, outer = rank % t, rank // t % p, rank // (t * p)
    exchanged = {
        "data": [inner + t * (within + p * i) for i in range(d)],
        "pipeline": [inner + t * (i + p * outer) for i in range(p)],
    }
    if rank not in got[kind]:
        return "a rank is in its own groups"
    if sorted(got[kind]) == expected[kind]:
        return "the order counts: stage 0 first, and every rank of a group sees the same list"
    if got[kind] == exchanged.get(kind):
        return "data and pipeline are exchanged: the pipeline's ranks lie furthest apart"
    if len(got[kind]) == len(expected[kind]):
        return "its ranks differ in this coordinate alone; neighbours differ in tensor, then data"
    return f"there is one rank for each value of the {kind} coordinate"


@groups.show
def _show_groups(function: Any) -> views.Picture:
    sizes = (2, 2, 4)
    return views.grid([function(rank, *sizes) for rank in range(16)], sizes)
