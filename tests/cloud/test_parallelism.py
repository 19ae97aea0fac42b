"""Unit 4.6, with ranks as threads: every way of dividing a model gives what one process gives."""

import copy
import math
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.parallel import (
    pipeline,
    rings,
    schedules,
    tensor,
    threads,
    training,
    zero,
)
from aiinfra_labs.cloud.serving.parallel.collectives import wire_bytes
from aiinfra_labs.cloud.serving.parallel.errors import Deadlock, SplitError
from aiinfra_labs.cloud.serving.parallel.grid import Grid
from aiinfra_labs.cloud.serving.parallel.sharded import (
    ShardedLM,
    equal_sequences,
    positions_of,
)
from aiinfra_labs.course.guard import Alarm, TimeLimit, learners_lines

LLAMA = ModelConfig(101, 32, 48, 4, 4, 2, 8, 64)  # 101 rows of vocabulary: no multiple of anything
FAMILIES = {
    "llama": LLAMA,
    "qwen2": replace(LLAMA, qkv_bias=True, tie_word_embeddings=False),
    "qwen3": replace(LLAMA, qk_norm=True, head_dim=16),
    "biases and windows": replace(
        LLAMA, qkv_bias=True, o_bias=True, mlp_bias=True, windows=(None, 3, None, 5)
    ),
}


def random_model(config, seed=0):
    torch.manual_seed(seed)
    model = CausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(0.3 * torch.randn(weight.shape) + ("norm" in name))
    return model


def batch(config, rows=4, length=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (2, rows, length), generator=generator)


def whole_logits(model, ids):
    hidden = model(ids.flatten(), positions_of(*ids.shape), equal_sequences(len(ids)))
    return model.logits(hidden).view(*ids.shape, -1)


def on_grid(grid, config, model, work):
    """`work(part)` on each rank of a grid, as threads."""

    def rank_of(rank, wire):
        def join(groups):
            return next((wire.comm(rank, g) for g in groups if rank in g), None)

        dtype = next(model.parameters()).dtype
        return work(ShardedLM(config, grid.comms(rank, join)).to(dtype).take(model))

    return threads.run(grid.size, rank_of)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    config = FAMILIES[request.param]
    model = random_model(config)
    ids, targets = batch(config)
    with torch.no_grad():
        return config, model, ids, targets, whole_logits(model, ids)


# --- rings ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(0, 40), st.integers(0, 1000))
def test_a_ring_sums_as_numpy_does_and_sends_what_the_formula_says(size, length, seed):
    numbers = np.random.default_rng(seed).integers(-99, 99, (size, length)).astype(np.float32)
    wire = threads.Wire(size)
    found = threads.run(
        size,
        lambda rank, w: rings.all_reduce(torch.from_numpy(numbers[rank]), w.comm(rank)),
        wire,
    )
    for got in found:
        assert np.array_equal(got.numpy(), numbers.sum(0))
    for traffic in wire.traffic:
        exact = 2 * (size - 1) * 4 * length / size
        assert abs(traffic.bytes - exact) <= 2 * (size - 1) * 4  # a piece is a whole number long
        if length % size == 0:
            assert traffic.bytes == wire_bytes("all-reduce", 4 * length, size)


def test_a_ring_gives_every_rank_the_same_bits():
    given = [torch.randn(1000) for _ in range(5)]
    found = threads.run(5, lambda rank, w: rings.all_reduce(given[rank], w.comm(rank)))
    assert all(torch.equal(got, found[0]) for got in found)
    assert torch.allclose(found[0], torch.stack(given).sum(0), atol=1e-5)


def test_the_other_collectives():
    def work(rank, wire):
        comm = wire.comm(rank)
        x = torch.arange(8.0) + rank
        most = comm.all_reduce(torch.tensor([float(rank)]), "max")
        return comm.reduce_scatter(x), comm.all_gather(torch.full((2,), float(rank))), most

    found = threads.run(4, work)
    total = 4 * torch.arange(8.0) + 6
    for rank, (part, gathered, most) in enumerate(found):
        assert part.tolist() == total[2 * rank : 2 * rank + 2].tolist()
        assert gathered.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert most.tolist() == [3.0]


def test_ranks_that_wait_for_each_other_are_told():
    def work(rank, wire):
        return wire.comm(rank).receive(torch.empty(3), 1 - rank)

    with pytest.raises(Deadlock, match="rank 0 for rank 1, rank 1 for rank 0"):
        threads.run(2, work)


def test_a_rank_that_has_left_is_named():
    def work(rank, wire):
        return rank and wire.comm(rank).receive(torch.empty(3), 0)

    with pytest.raises(Deadlock, match="rank 0 has ended"):
        threads.run(3, work)


def test_the_first_error_is_the_one_that_is_seen():
    def work(rank, wire):
        if rank == 1:
            raise KeyError("mine")
        return wire.comm(rank).receive(torch.empty(3), 1)

    with pytest.raises(KeyError, match="mine"):
        threads.run(3, work)


def endless(rank, wire):
    while rank == 1:
        pass
    return wire.comm(rank).receive(torch.empty(3), 1)


def test_an_endless_rank_is_stopped_and_its_line_is_named():
    before = set(threading.enumerate())
    with pytest.raises(TimeLimit) as caught, Alarm(0.3):
        threads.run(3, endless)
    assert any("endless" in line for line in learners_lines(caught.value.__traceback__))
    for thread in set(threading.enumerate()) - before:
        thread.join(300)
        assert not thread.is_alive()


SPIN = """
import ctypes, sys, threading
from aiinfra_labs.cloud.serving.parallel import threads

# What a rank leaves behind that ends before the exception that was sent to it has come.
me = ctypes.c_ulong(threading.get_ident())
ctypes.pythonapi.PyThreadState_SetAsyncExc(me, None)
threads._stop([], threads.Wire(1), KeyboardInterrupt())
sys.settrace(lambda frame, event, argument: None)
(lambda: None)()  # CPython 3.11 spun here for ever
print("reached the end")
"""


def test_after_a_stop_a_traced_function_runs():
    done = subprocess.run([sys.executable, "-c", SPIN], capture_output=True, text=True, timeout=900)
    assert done.stdout == "reached the end\n", done.stderr


# --- the same logits ------------------------------------------------------------------------------

SERVED = [Grid(2), Grid(4), Grid(1, 1, 2), Grid(1, 1, 4), Grid(2, 1, 2)]


@pytest.mark.parametrize("grid", SERVED, ids=str)
def test_logits_equal_one_process(case, grid):
    config, model, ids, _, expected = case
    found = on_grid(grid, config, model, lambda part: pipeline.logits(part, ids, 2))
    there = [got for got in found if got is not None]
    assert len(there) == grid.tensor  # the last stage's ranks
    for got in there:
        assert (got - expected).abs().max() < 1e-4


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_logits_are_the_same_for_any_shape_that_can_be_divided(data):
    size = data.draw(st.sampled_from([2, 3, 4]))
    kv = data.draw(st.sampled_from([k for k in (1, 2, 3, 4, 6) if not k % size or not size % k]))
    heads = math.lcm(kv, size) * data.draw(st.integers(1, 2))
    config = ModelConfig(
        vocab_size=data.draw(st.integers(16, 50)),
        hidden_size=8,
        intermediate_size=size * data.draw(st.integers(1, 4)),
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=4,
        max_position_embeddings=16,
        tie_word_embeddings=data.draw(st.booleans()),
        qkv_bias=data.draw(st.booleans()),
        qk_norm=data.draw(st.booleans()),
        o_bias=data.draw(st.booleans()),
        mlp_bias=data.draw(st.booleans()),
        windows=data.draw(st.sampled_from([(), (2, None), (3, 4)])),
    )
    model, (ids, _) = random_model(config), batch(config, rows=2, length=5)
    with torch.no_grad():
        expected = whole_logits(model, ids)
    for got in on_grid(Grid(size), config, model, lambda part: pipeline.logits(part, ids)):
        assert (got - expected).abs().max() < 1e-4


def test_a_part_is_called_as_the_whole_is(case):
    """What an engine does: forward and logits, with an `attend` of its own for its own heads."""
    config, model, ids, _, expected = case

    def work(part):
        assert part.config.num_key_value_heads == 1 and part.config.num_attention_heads == 2
        with torch.no_grad():
            hidden = part(ids.flatten(), positions_of(*ids.shape), equal_sequences(len(ids)))
            return part.logits(hidden[-1:])

    for got in on_grid(Grid(2), config, model, work):
        assert (got - expected[-1, -1:]).abs().max() < 1e-4


@pytest.mark.parametrize("size", [2, 4])
def test_every_weight_is_held_once_but_for_norms_and_shared_kv_heads(case, size):
    config, model, *_ = case
    parts = on_grid(Grid(size), config, model, lambda part: dict(part.named_parts()))
    d, kv = config.head_dim, config.num_key_value_heads
    for name, weight in model.named_parameters():
        held = sum(part[name].numel() for part in parts if name in part)
        more = 0
        if "norm" in name or name.endswith(("o_proj.bias", "down_proj.bias")):
            more = (size - 1) * weight.numel()
        elif ".qkv_proj." in name and kv < size:
            more = 2 * (size - kv) * d * weight[0].numel()
        assert held == weight.numel() + more, name


def test_a_block_speaks_twice_forward_and_twice_backward():
    """By count and by formula: 2 all-reduces of [T, C] a layer each way, and the vocabulary's."""
    config = replace(LLAMA, num_hidden_layers=3)
    model, (ids, targets) = random_model(config), batch(config)
    whole = ids.numel() * config.hidden_size * 4

    def work(part):
        traffic = part.comms.tensor.traffic
        pipeline.logits(part, ids)
        served = dict(traffic.sent), traffic.calls["all-reduce"]
        traffic.clear()
        pipeline.backward(part, ids, targets, 1)
        return *served, traffic.sent["all-reduce"]

    for sent, calls, trained in on_grid(Grid(2), config, model, work):
        assert calls == 2 * 3 + 1  # and one for the embedding
        assert sent["all-reduce"] == 7 * wire_bytes("all-reduce", whole, 2)
        padded = 2 * -(-config.vocab_size // 2) * 4 * ids.numel()
        assert sent["all-gather"] == wire_bytes("all-gather", padded, 2)
        # Training: the same, 2 x 3 backward, one more for the head's input, and the loss's three
        # numbers a token, where the logits would have been `padded`.
        loss = 3 * wire_bytes("all-reduce", 4 * ids.numel(), 2)
        assert trained == (7 + 7) * wire_bytes("all-reduce", whole, 2) + loss


def test_the_loss_needs_no_logits_in_one_place(case):
    config, model, ids, targets, expected = case
    wanted = F.cross_entropy(expected.flatten(0, 1), targets.flatten(), reduction="sum")

    def work(part):
        with torch.no_grad():
            hidden = part(ids.flatten(), positions_of(*ids.shape), equal_sequences(len(ids)))
            return part.lm_head.cross_entropy(hidden, targets.flatten())

    for got in on_grid(Grid(4), config, model, work):
        assert got == pytest.approx(float(wanted), rel=1e-5)


# --- the same training ----------------------------------------------------------------------------


def alone(model, ids, targets, steps=3, rate=1e-2):
    """One process: the losses, and the weights at the end."""
    model = copy.deepcopy(model)
    adam, losses = torch.optim.Adam(model.parameters(), lr=rate), []
    for _ in range(steps):
        adam.zero_grad()
        loss = F.cross_entropy(whole_logits(model, ids).flatten(0, 1), targets.flatten())
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    return losses, dict(model.named_parameters())


# Adam divides a gradient by its own size: one that should be 0 and is rounding moves a weight by up
# to the rate, 1e-2, in a step. So weights are compared in float64. There a gradient's rounding is
# about 1e-15, and Adam's 1e-8 below the fraction lets it move a weight by 1e-2 * 1e-15 / 1e-8 =
# 1e-9 in a step; after three steps less than 1e-8. The losses follow.
EXACT = 1e-8


@pytest.fixture(scope="module")
def trained(case):
    config, model, ids, targets, _ = case
    model = copy.deepcopy(model).double()
    return model, *alone(model, ids, targets)


TRAINED = [Grid(1, 2, 1), Grid(2, 1, 1), Grid(1, 1, 4), Grid(2, 2, 2)]


@pytest.mark.parametrize("grid", TRAINED, ids=str)
def test_training_equals_one_process(case, trained, grid):
    config, _, ids, targets, _ = case
    model, losses, weights = trained

    def work(part):
        adam = torch.optim.Adam(part.parameters(), lr=1e-2)
        mine = [training.step(part, adam, ids, targets, parts=2) for _ in range(3)]
        place, size = part.comms.tensor.rank, part.comms.tensor.size
        off = [
            (p - tensor.shard(name, weights[name], config, place, size)).detach().abs().max()
            for name, p in part.named_parts()
        ]
        return part.comms.is_last, mine, float(max(off))

    for is_last, mine, off in on_grid(grid, config, model, work):
        assert off < EXACT
        if is_last:
            assert mine == pytest.approx(losses, abs=EXACT)


def test_the_schedule_does_not_change_the_gradient(case):
    config, model, ids, targets, _ = case

    def work(part):
        found = {}
        for schedule in (
            schedules.one_forward_one_backward,
            schedules.all_forward_all_backward,
        ):
            part.zero_grad()
            stage = pipeline.backward(part, ids, targets, 4, schedule)
            found[schedule] = [p.grad.clone() for p in part.parameters()], stage.most_kept
        (a, few), (b, all_) = found.values()
        assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a, b, strict=True))
        return few, all_

    kept = on_grid(Grid(1, 1, 4), config, model, work)
    assert kept == [(4, 4), (3, 4), (2, 4), (1, 4)]  # as the schedule says, counted at work


@pytest.mark.parametrize("stage", zero.STAGES)
def test_zero_equals_one_process_and_holds_what_the_formula_says(case, trained, stage):
    config, _, ids, targets, _ = case
    model, losses, weights = trained
    count = sum(p.numel() for p in model.parameters())

    def work(rank, wire):
        run = zero.Zero(copy.deepcopy(model), wire.comm(rank), stage, 1e-2)
        mine = [run.step(ids, targets) for _ in range(3)]
        with run.weights() as whole:
            off = max(
                float((p - weights[n]).abs().max().detach()) for n, p in whole.named_parameters()
            )
        run.backward(ids, targets)
        held = run.held()
        return mine, off, held, run.most_weights

    for mine, off, held, most in threads.run(4, work):
        assert mine == pytest.approx(losses, abs=1e-5)
        assert off < 1e-4
        # The formula is for float32. Parameters of a length that 4 does not divide are filled up.
        assert held.total == pytest.approx(2 * zero.bytes_by_formula(count, 4, stage), rel=0.01)
        if stage == 3:
            assert held.weights < most < 8 * count  # some blocks at a time, never all of them


def test_zero_sends_as_much_as_plain_data_parallelism_and_stage_3_half_as_much_again():
    model, (ids, targets) = random_model(LLAMA), batch(LLAMA)
    count = sum(p.numel() for p in model.parameters())

    def work(rank, wire, stage):
        run = zero.Zero(copy.deepcopy(model), wire.comm(rank), stage)
        run.step(ids, targets)
        return wire.traffic[rank].bytes / (4 * count)

    sent = {stage: threads.run(4, lambda r, w, s=stage: work(r, w, s))[0] for stage in zero.STAGES}
    for stage in (0, 1, 2):
        assert sent[stage] == pytest.approx(2 * 3 / 4, rel=0.01)
    # Blocks are fetched twice; embedding and head once, for they stay for the whole step.
    outside = sum(p.numel() for n, p in model.named_parameters() if "layers" not in n)
    assert sent[3] == pytest.approx((3 - outside / count) * 3 / 4, rel=0.01)


# --- schedules ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 20))
def test_the_bubble_is_what_the_formula_says(stages, m):
    for make in (schedules.one_forward_one_backward, schedules.all_forward_all_backward):
        line = schedules.play([make(s, stages, m) for s in range(stages)])
        assert line.bubble == pytest.approx((stages - 1) / (m + stages - 1))
        assert line.busy == 3 * stages * m
        kept = [line.kept(s) for s in range(stages)]
        if make is schedules.one_forward_one_backward:
            assert kept == [min(m, stages - s) for s in range(stages)]
        else:
            assert kept == [m] * stages


def test_inference_has_the_same_bubble_and_keeps_nothing():
    line = schedules.play([schedules.forward_only(s, 4, 8) for s in range(4)])
    assert line.bubble == pytest.approx(3 / 11) and line.kept(0) == 0


def test_a_schedule_that_cannot_go_on_says_where():
    with pytest.raises(Deadlock, match="stage 0 at B0, stage 1 at F0"):
        schedules.play([[("B", 0), ("F", 0)], [("F", 0), ("B", 0)]])


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [(4, 1, [4]), (4, 4, [1] * 4), (5, 2, [2, 3]), (7, 3, [2, 3, 2])],
)
def test_stages_have_neighbouring_layers(layers, stages, expected):
    found = schedules.stage_layers(layers, stages)
    assert [len(r) for r in found] == expected
    assert [i for r in found for i in r] == list(range(layers))


# --- grids ----------------------------------------------------------------------------------------


def test_groups_are_megatrons():
    """As its documentation of `initialize_model_parallel` lists them: 16 GPUs, 2 x 4."""
    grid = Grid(tensor=2, data=2, pipeline=4)
    assert grid.groups("tensor") == [[2 * i, 2 * i + 1] for i in range(8)]
    assert grid.groups("data") == [
        [0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]
    ]  # fmt: skip
    assert grid.groups("pipeline") == [
        [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]
    ]  # fmt: skip
    assert grid.ends() == [[0, 12], [1, 13], [2, 14], [3, 15]]


# --- what cannot be divided -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "size", "said"),
    [
        (LLAMA, 3, "4 attention heads cannot be divided among 3 ranks"),
        (replace(LLAMA, intermediate_size=50), 4, "50 columns of the MLP"),
        (
            replace(LLAMA, num_attention_heads=12, num_key_value_heads=3, intermediate_size=24),
            2,
            "3 kv heads",
        ),
        (replace(LLAMA, vocab_size=5), 4, "5 tokens of vocabulary leave the last of 4 ranks none"),
    ],
)
def test_what_cannot_be_divided_is_said(config, size, said):
    with pytest.raises(SplitError, match=said):
        tensor.local_config(config, size)


def test_what_else_cannot_be_divided_is_said(case):
    config, model, ids, targets, _ = case
    with pytest.raises(SplitError, match="4 layers cannot be divided among 5"):
        schedules.stage_layers(4, 5)
    with pytest.raises(SplitError, match="4 sequences cannot be cut into 3"):
        pipeline.micro_batches(ids, 3)
    with pytest.raises(SplitError, match="ZeRO has no stage 4"):
        zero.Zero(model, None, 4)
    with pytest.raises(SplitError, match="a grid of 0 x 1 x 1"):
        Grid(0)
    with pytest.raises(SplitError, match="rank 4 in a grid of 4"):
        Grid(2, 2).comms(4, lambda groups: None)

    def work(part):
        training.step(part, torch.optim.Adam(part.parameters()), ids, targets)

    with pytest.raises(SplitError, match="2 kv heads on 4 ranks cannot be trained"):
        on_grid(Grid(4), config, model, work)
    with pytest.raises(SplitError, match="4 sequences cannot be divided among 3"):
        on_grid(Grid(1, 3), config, model, work)
