"""Whatever the engine does, greedy answers are `transformers`' own, token by token."""

import itertools
import random

import pytest
import torch
from random_checkpoints import is_greedy, mixed_requests

from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.speculative import DraftModel, PromptLookup
from aiinfra_labs.llm import beam

REQUESTS = mixed_requests(200)
# (prefix caching, chunks and small steps, a pool so small that some give way, who guesses):
# every pair of choices comes together at least once.
WAYS = [
    (True, True, True, None),
    (False, False, False, None),
    (True, True, False, "lookup"),
    (False, False, True, "lookup"),
    (True, False, True, "draft"),
    (False, True, False, "draft"),
]


def serve(engine, requests, seed=0):
    """Answers by the number of the request, which come in a random order at random times."""
    rng = random.Random(seed)
    todo = list(enumerate(requests))
    rng.shuffle(todo)
    answers, preempted = {}, []
    engine.observers.append(lambda plan: preempted.extend(plan.preempted))
    while todo or engine.unfinished:
        for _ in range(min(len(todo), rng.randrange(0, 12))):
            number, (prompt, new) = todo.pop()
            engine.add_request(prompt, SamplingParams(max_tokens=new), str(number))
        for output in engine.step():
            answers[int(output.request_id)] = output.outputs[0].token_ids
    assert engine.blocks.used == 0
    return answers, len(preempted)


def engine_for(model, prefix, chunks, small, guess):
    config = EngineConfig(
        num_blocks=18 if small else 256,
        block_size=8,
        max_step_tokens=24 if chunks else 128,
        prefix_caching=prefix,
        chunked_prefill=chunks,
        attention="torch",
    )
    proposer = {"lookup": PromptLookup(3), "draft": DraftModel(model, 3)}.get(guess)
    return Engine(model, None, config, proposer)


def test_the_ways_cover_every_pair():
    for a, b in itertools.combinations(range(4), 2):
        choices = [sorted({w[i] for w in WAYS}, key=str) for i in (a, b)]
        pairs = {(w[a], w[b]) for w in WAYS}
        assert pairs == set(itertools.product(*choices))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_greedy_is_transformers(family, way):
    theirs, ours = family
    engine = engine_for(ours, *way)
    answers, preempted = serve(engine, REQUESTS, seed=WAYS.index(way))
    assert len(answers) == len(REQUESTS)
    for number, (prompt, new) in enumerate(REQUESTS):
        assert len(answers[number]) == new
        assert is_greedy(theirs, prompt, answers[number]), (number, way)
    assert bool(preempted) == way[2]  # a small pool is small enough to matter
    if way[3] == "draft":
        assert engine.accepted > 0.8 * engine.drafted  # it guesses with the model itself
    if way[3] == "lookup":
        assert 0 < engine.accepted < engine.drafted


def test_transformers_generate_says_the_same(llama):
    """`is_greedy` is what `generate` does."""
    theirs, *_ = llama
    for prompt, new in REQUESTS[:5]:
        ids = torch.tensor([prompt])
        found = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False
        )
        assert is_greedy(theirs, prompt, found[0, len(prompt) :].tolist())
        assert not is_greedy(theirs, prompt, [(found[0, -1].item() + 1) % 97])


@pytest.mark.parametrize("attention", ["numpy", "compiled", "kernel"])
def test_the_other_attentions(llama, attention):
    theirs, ours, _ = llama
    config = EngineConfig(num_blocks=64, block_size=8, max_step_tokens=24, attention=attention)
    few = mixed_requests(3 if attention == "kernel" else 12, seed=5, longest=12, most=6)
    answers, _ = serve(Engine(ours, None, config), few)
    assert all(is_greedy(theirs, p, answers[i]) for i, (p, _) in enumerate(few))


def test_a_prefix_is_computed_once(llama):
    _, ours, _ = llama
    engine = Engine(ours, None, EngineConfig(num_blocks=300, block_size=8, attention="torch"))
    shared = list(range(64))
    computed = []
    engine.observers.append(lambda plan: computed.append(plan.tokens))
    for i in range(200):
        engine.add_request([*shared, i % 90, i // 90], SamplingParams(max_tokens=1))
    outputs = []
    while engine.unfinished:
        outputs += engine.step()
        engine.blocks.check(s for r in engine.requests.values() for s in r.sequences)
    assert sum(computed) == 64 + 200 * 2  # the prefix once, and each one's own two tokens
    assert sorted(o.cached_tokens for o in outputs) == [0] + [64] * 199


@pytest.mark.parametrize(("blocks", "budget"), [(64, 128), (12, 9)])
def test_beam_search_is_that_of_unit_1_5(llama, blocks, budget):
    """Which is `transformers`' own (tests/llm/test_beam.py); here with pre-emption, too."""
    from aiinfra_labs.llm import course_model
    from aiinfra_labs.llm.llama import Llama, LlamaConfig

    theirs, ours, _ = llama
    fields = set(LlamaConfig.__dataclass_fields__) - {"rope_theta", "sliding_window"}
    shape = {k: getattr(theirs.config, k) for k in fields}
    model = Llama(LlamaConfig(**shape)).eval()
    course_model.checkpoint.fill(model, dict(theirs.named_parameters()), "theirs")
    config = EngineConfig(
        num_blocks=blocks, block_size=4, max_step_tokens=budget, attention="torch"
    )
    cases = [([3, 14, 15, 9, 26], 7, 3, None, 1.0), ([5, 3], 9, 4, 11, 0.6), ([1], 6, 2, 40, 2.0)]
    engine = Engine(ours, None, config)
    for i, (prompt, new, width, end, penalty) in enumerate(cases):
        ends = () if end is None else (end,)
        params = SamplingParams(
            beam_width=width, max_tokens=new, stop_token_ids=ends, length_penalty=penalty
        )
        engine.add_request(prompt, params, str(i))
    for prompt, new in mixed_requests(6, seed=8, longest=20) if blocks == 64 else []:
        engine.add_request(prompt, SamplingParams(max_tokens=new))  # company
    done = {}
    while engine.unfinished:
        done |= {o.request_id: o for o in engine.step()}
        engine.blocks.check(s for r in engine.requests.values() for s in r.sequences)
    for i, (prompt, new, width, end, penalty) in enumerate(cases):
        expected = beam.beam_search(model, torch.tensor(prompt), width, new, end, penalty)
        got = done[str(i)].outputs
        assert [tuple(o.token_ids) for o in got] == [h.ids for h in expected]
        assert [o.cumulative_logprob for o in got] == pytest.approx(
            [h.score for h in expected], abs=1e-4
        )
