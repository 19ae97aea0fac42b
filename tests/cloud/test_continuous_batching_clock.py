"""The clocks of unit 4.3, and runs that are counted instead of computed."""

import math

import pytest
import torch

from aiinfra_labs.cloud.serving import workloads
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.replay import (
    engine_without_model,
    percentile,
    replay,
    replay_apart,
)
from aiinfra_labs.cloud.serving.scheduler import StaticScheduler
from aiinfra_labs.cloud.serving.step_cost import (
    Linear,
    RooflineCost,
    StepWork,
    fitted,
    step_work,
    work_of,
)
from aiinfra_labs.cloud.serving.workloads import RequestShape
from aiinfra_labs.llm import phases
from aiinfra_labs.llm.scale.shapes import shape

COST = Linear(4.0, 0.5, 0.01, 0.02)
TEXT = workloads.Text([0, 1])


def config(**more):
    usual = {"num_blocks": 128, "max_step_tokens": 32, "max_sequences": 4, "attention": "torch"}
    return EngineConfig(prefix_caching=False, **(usual | more))


def requests(count=12, rate=0.02, seed=0):
    scale = 0.1 * workloads.scale_for("chat")
    load = workloads.Load(rate=rate, seed=seed, scale=scale, context=200, text=TEXT)
    return workloads.chat(count, load)


# --- the clocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "tokens"), [(0, 1), (0, 7), (5, 1), (9, 4)])
def test_the_pairs_of_a_step_are_counted_one_by_one(start, tokens):
    pairs = sum(1 for q in range(start, start + tokens) for k in range(start + tokens) if k <= q)
    assert work_of(start, tokens) == StepWork(tokens, pairs, start + tokens, 1)


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2"])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_the_roofline_is_unit_1_5_s(name, itemsize):
    found = shape(name)
    roof = RooflineCost(found, 1e12, 1e9, itemsize=itemsize)
    context, batch = 300, 5
    one = phases.decode(found, context, batch, itemsize)
    work = sum((work_of(context - 1, 1) for _ in range(batch)), StepWork(0, 0, 0, 0))
    assert roof.flops(work) == pytest.approx(one.flops)
    assert roof.bytes(work) == pytest.approx(one.bytes)
    assert roof(work) == pytest.approx(one.seconds(1e12, 1e9))
    # unit 1.5 counts every pair of a prompt's tokens; a causal kernel, half of them
    prompt, mine = phases.prefill(found, 64, itemsize=itemsize), work_of(0, 64)
    spared = 4 * found.layers * found.heads * found.head_dim * (64 * 64 - mine.pairs)
    assert roof.flops(mine) == pytest.approx(prompt.flops - spared)
    assert roof.bytes(mine) == pytest.approx(prompt.bytes)


def test_a_step_turns_dear_where_arithmetic_takes_as_long_as_the_weights():
    roof = RooflineCost(shape("llama-3-8b"), 989e12, 3.35e12)
    assert roof.turning_tokens == pytest.approx(989 / 3.35)
    few, many = int(0.9 * roof.turning_tokens), int(2 * roof.turning_tokens)
    idle = roof(StepWork(0, 0, 0, 0))
    assert roof(StepWork(few, 0, 0, few)) == pytest.approx(idle)
    assert roof(StepWork(many, 0, 0, many)) == pytest.approx(2 * idle, rel=0.01)
    assert COST.turning_tokens == 8


def test_kernels_of_a_step_run_one_after_another():
    """A chunk's arithmetic does not hide behind the caches of those that decode beside it."""
    roof = RooflineCost(shape("llama-3-8b"), 989e12, 3.35e12)
    chunk, decoding = work_of(0, 2048), StepWork(64, 64 * 4096, 64 * 4096, 64)
    layers, attention, last = roof.kernels(chunk + decoding)
    assert layers.flops / roof.peak > layers.bytes / roof.bandwidth  # bound by arithmetic
    assert attention.flops / roof.peak < attention.bytes / roof.bandwidth  # and by memory
    assert last.flops / roof.peak < last.bytes / roof.bandwidth
    both = layers.flops / roof.peak + (attention.bytes + last.bytes) / roof.bandwidth
    assert roof(chunk + decoding) == pytest.approx(both)
    whole = max(
        roof.flops(chunk + decoding) / roof.peak, roof.bytes(chunk + decoding) / roof.bandwidth
    )
    assert both > 1.2 * whole


def test_the_fit_finds_constants_that_are_there():
    works = [work_of(s, n) for s in (0, 40, 900) for n in (1, 8, 100)]
    works += [StepWork(n, n * c, n * c, n) for n in (4, 16) for c in (10, 500)]
    found = fitted((work, COST(work)) for work in works)
    for name in ("fixed", "per_token", "per_pair", "per_context"):
        assert getattr(found, name) == pytest.approx(getattr(COST, name), rel=1e-6)
    noisy = fitted((w, COST(w) * (1 + 0.02 * (-1) ** i)) for i, w in enumerate(works))
    assert all(abs(noisy(w) / COST(w) - 1) < 0.05 for w in works)
    with pytest.raises(ServingError, match="2 measured steps"):
        fitted([(works[0], 1.0), (works[1], 2.0)])


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"num_blocks": 6},
        {"scheduler": StaticScheduler, "max_step_tokens": 256, "chunked_prefill": False},
    ],
    ids=["chunked", "small pool", "static"],
)
def test_plans_without_a_model_are_those_with_one(rule):
    torch.manual_seed(0)
    model = CausalLM(ModelConfig(2, 8, 8, 1, 1, 1, 8, 256))
    real = replay(Engine(model, None, config(**rule)), requests(), COST)
    counted = replay(engine_without_model(config(**rule), 256), requests(), COST)
    assert real.steps == counted.steps
    assert real.requests == counted.requests
    assert bool(real.preemptions) == (rule.get("num_blocks") == 6)


def test_every_token_has_its_time():
    found = requests()
    timeline = replay(engine_without_model(config(num_blocks=6), 256), found, COST)
    ends = {step.end for step in timeline.steps}
    for name, times in timeline.requests.items():
        asked = found[int(name)]
        assert len(times.tokens) == asked.new_tokens
        assert times.tokens == sorted(times.tokens) and set(times.tokens) <= ends
        assert times.first > 0 and times.tokens[0] > times.arrival
        total = times.first + sum(times.gaps)
        assert times.latency == pytest.approx(total)
    for step in timeline.steps:  # a context is never below its tokens, and each is a sequence's
        assert step.work.tokens == sum(served.tokens for served in step.served)
        assert step.work.sequences == len(step.served)
        assert step.work.pairs >= step.work.context >= step.work.tokens
    for before, after in zip(timeline.steps, timeline.steps[1:], strict=False):
        assert after.begin >= before.end  # one engine, one step at a time
        assert before.seconds == COST(before.work)
    prompts = sum(len(r.prompt_tokens) for r in found)
    fresh = prompts + sum(r.new_tokens - 1 for r in found)
    assert timeline.computed - timeline.again == fresh and timeline.again > 0


def test_a_run_by_hand():
    """Two requests, a clock of steps: both latencies, and what of the slots is used."""
    some = [RequestShape(0.0, [0] * 6, 3, 0), RequestShape(0.5, [0] * 2, 1, 1)]
    one = engine_without_model(config(max_step_tokens=4, max_sequences=1), 64)
    timeline = replay(one, some, lambda work: 1.0)
    first, second = timeline.requests["0"], timeline.requests["1"]
    assert first.tokens == [2.0, 3.0, 4.0] and second.tokens == [5.0]
    assert first.per_token == 1 and math.isnan(second.per_token)
    assert second.first == 4.5
    assert [s.waiting for s in timeline.steps] == [(), ("1",), ("1",), ("1",), ()]
    assert timeline.slots_in_use == 1.0 and timeline.busy == 1.0
    assert timeline.throughput == 4 / 5
    assert timeline.meeting(2.0, 1.0) == 0.5 and timeline.meeting(4.5, 0.5) == 0.5
    static = engine_without_model(
        config(scheduler=StaticScheduler, max_step_tokens=64, max_sequences=2), 64
    )
    three = [RequestShape(0.0, [0], new, i) for i, new in enumerate((1, 4, 1))]
    used = replay(static, three, lambda work: 1.0)
    assert used.slots_in_use == (2 + 1 + 1 + 1) / (2 * 4)


def test_the_work_of_a_plan_is_the_sum_of_its_sequences():
    one, plans = engine_without_model(config(), 256), []
    one.observers.append(
        lambda plan: plans.append((step_work(plan), [(w.start, w.tokens) for w in plan.work]))
    )
    replay(one, requests(), COST)
    assert len(plans) > 20
    for found, parts in plans:
        assert found == sum((work_of(*part) for part in parts), StepWork(0, 0, 0, 0))


def test_percentiles_are_values():
    assert [percentile([1, 2, 3, 4], s) for s in (0.0, 0.25, 0.5, 0.9, 1.0)] == [1, 1, 2, 4, 4]
    with pytest.raises(ServingError, match="no values"):
        percentile([], 0.5)


def test_two_engines_overlap_and_lose_nothing():
    found = requests(20, rate=0.05)
    prefill = engine_without_model(config(max_step_tokens=256), 256)
    decode = engine_without_model(config(num_blocks=40), 256)
    one, two = replay_apart(prefill, decode, found, COST, lambda tokens: 3.0)
    assert one.requests is two.requests
    for name, times in one.requests.items():
        asked = found[int(name)]
        assert len(times.tokens) == asked.new_tokens
        if asked.new_tokens > 1:
            assert times.gaps[0] > 3.0  # on its way
    assert {s.kind for step in one.steps for s in step.served} == {"prefill"}
    assert {s.kind for step in two.steps for s in step.served} <= {"decode", "again"}
    starts = [step.begin for step in two.steps]
    assert any(s.begin < b < s.end for s in one.steps for b in starts)  # at the same time
    assert prefill.blocks.used == decode.blocks.used == 0


def test_prefix_caching_without_a_model_is_refused():
    with pytest.raises(ServingError, match="all share their beginning"):
        engine_without_model(EngineConfig())
