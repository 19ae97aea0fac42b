"""Who is in a step: the budget, the order, priorities, preemption, and static batches."""

import random

import pytest

from aiinfra_labs.cloud.serving.engine import EngineConfig
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.replay import engine_without_model
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.scheduler import StaticScheduler


class Run:
    """An engine without a model, and its plans: {name: (start, tokens)} for each step."""

    def __init__(self, **config):
        usual = {"num_blocks": 64, "block_size": 4, "max_step_tokens": 16, "max_sequences": 4}
        config = EngineConfig(prefix_caching=False, **(usual | config))
        self.engine = engine_without_model(config, 256)
        self.plans, self.preempted, self.new = [], [], []
        self.engine.observers.append(self.watch)

    def watch(self, plan):
        self.plans.append({w.sequence.request.id: (w.start, w.tokens) for w in plan.work})
        self.preempted.append([s.request.id for s in plan.preempted])
        self.new.append([s.request.id for s in plan.admitted])

    def add(self, name, prompt, new, priority=0):
        params = SamplingParams(max_tokens=new, ignore_eos=True)
        self.engine.add_request([0] * prompt, params, name, priority)

    def step(self, count=1):
        for _ in range(count):
            self.engine.step()
        return self.plans[-1] if self.plans else {}

    def finish(self, most=3000):
        for _ in range(most):
            if not self.engine.unfinished:
                assert self.engine.blocks.used == 0
                return self
            self.engine.step()
        raise AssertionError("requests starve")

    def admitted(self):
        """Names in the order in which each first got a token."""
        return list(dict.fromkeys(name for plan in self.plans for name in plan))


def crowd(run, seed, count=30):
    rng = random.Random(seed)
    for i in range(count):
        run.add(str(i), rng.randint(1, 60), rng.randint(1, 20))
        run.step(rng.randrange(3))
    return run


@pytest.mark.parametrize("scheduler", [EngineConfig.scheduler, StaticScheduler])
@pytest.mark.parametrize("budget", [1, 5, 16, 300])
def test_budget_and_slots_are_held_and_nobody_starves(scheduler, budget):
    run = crowd(Run(max_step_tokens=budget, scheduler=scheduler), budget).finish()
    assert max(sum(tokens for _, tokens in plan.values()) for plan in run.plans) <= budget
    assert max(map(len, run.plans)) <= 4
    assert run.admitted() == [str(i) for i in range(30)]  # none is overtaken


def test_a_prompt_is_cut_to_what_those_that_decode_leave():
    run = Run()
    run.add("a", 3, 9)
    run.add("b", 2, 9)
    assert run.step() == {"a": (0, 3), "b": (0, 2)}
    run.add("long", 40, 2)
    run.add("short", 1, 2)
    assert run.step() == {"a": (3, 1), "b": (2, 1), "long": (0, 14)}
    assert run.step() == {"a": (4, 1), "b": (3, 1), "long": (14, 14)}
    last = run.step()
    assert last == {"a": (5, 1), "b": (4, 1), "long": (28, 12), "short": (0, 1)}
    assert run.step()["long"] == (40, 1)  # it decodes


def test_without_chunks_a_prompt_waits_until_it_fits_whole():
    run = Run(chunked_prefill=False, max_step_tokens=256, num_blocks=100)
    run.add("a", 200, 2)
    run.add("b", 100, 2)
    run.add("c", 1, 2)
    assert run.step() == {"a": (0, 200)}  # c would fit, and overtakes nobody
    assert run.step() == {"a": (200, 1), "b": (0, 100), "c": (0, 1)}
    with pytest.raises(ServingError, match="no chunked prefill"):
        Run(chunked_prefill=False, max_step_tokens=255)


def test_a_smaller_priority_goes_first_and_takes_no_slot_away():
    run = Run(max_sequences=2)
    for name, priority in (("a", 0), ("b", 0), ("c", 0), ("d", -1), ("e", 1), ("f", -1)):
        run.add(name, 4, 6, priority)
        if name == "b":
            run.step()
    run.finish()
    assert run.admitted() == ["a", "b", "d", "f", "c", "e"]
    assert not any(run.preempted)


def test_the_last_come_gives_way_and_is_computed_again():
    run = Run(num_blocks=9)  # of 4 tokens
    run.add("a", 12, 16)
    run.add("b", 4, 16)
    run.add("c", 8, 16)
    while not any(run.preempted):
        plan = run.step()
    assert run.preempted[-1] == ["c"] and "c" not in plan
    known = len(run.engine.requests["c"].sequences[0].token_ids)
    assert known > 8  # its answer is kept
    run.finish()
    begins = [plan["c"] for plan in run.plans if plan.get("c", (1, 0))[0] == 0]
    assert len(begins) == 1 + sum("c" in names for names in run.preempted) == 3
    first = next(i for i, names in enumerate(run.preempted) if names)
    assert all("a" in plan for plan in run.plans[: first + 3])  # the first come gets on
    computed = sum(plan["c"][1] for plan in run.plans if "c" in plan)
    assert computed > 8 + 16 - 1  # more than its prompt, and each new token but the last


def test_a_priority_is_also_who_gives_way_last():
    run = Run(num_blocks=9)
    run.add("late but urgent", 8, 16, priority=-1)
    run.add("b", 12, 16)
    run.add("c", 4, 16, priority=-1)
    while not any(run.preempted):
        run.step()
    assert run.preempted[-1] == ["b"]
    run.finish()


def test_nobody_is_admitted_in_the_step_in_which_one_gives_way():
    run = crowd(Run(num_blocks=20), 3).finish()
    gave = [i for i, names in enumerate(run.preempted) if names]
    assert len(gave) >= 3
    assert not any(run.new[i] for i in gave), "a new one takes what was just given up"


def test_a_static_batch_waits_for_its_last():
    run = Run(scheduler=StaticScheduler, max_sequences=3, max_step_tokens=256)
    for i, new in enumerate((2, 9, 4, 3, 3)):
        run.add(str(i), 5, new)
    run.finish()
    alive = [set(plan) for plan in run.plans]
    assert alive[0] == {"0", "1", "2"} and alive[8] == {"1"}
    assert alive[9] == {"3", "4"}  # only when 1 has had its ninth token
    assert len(alive) == 9 + 3
    other = Run(max_sequences=3, max_step_tokens=256)
    for i, new in enumerate((2, 9, 4, 3, 3)):
        other.add(str(i), 5, new)
    other.finish()
    assert set(other.plans[2]) == {"1", "2", "3"}  # 0 has ended, and 3 has its slot
    assert len(other.plans) == 9
