"""One request's fault is that request's: it is refused, or ends alone, and the others get on."""

import contextlib
import decimal
import fractions
import math
import random
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_checkpoints import is_greedy

from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import RequestError, ServingError
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.speculative import DraftModel, PromptLookup

V = 97


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = CausalLM(ModelConfig(V, 16, 24, 1, 2, 1, 8, 96)).eval().requires_grad_(False)
    for name, p in made.named_parameters():
        p.uniform_(0.5, 1.5) if "norm" in name else p.normal_(std=0.4)
    return made


def engine_of(model, proposer=None, **changed):
    changed = {"num_blocks": 80, "block_size": 4, "attention": "torch"} | changed
    return Engine(model, None, EngineConfig(**changed), proposer)


def finish(engine, most=400):
    """All last outputs by id; every step is one that does not fail."""
    done = {}
    for _ in range(most):
        if not engine.unfinished:
            assert not engine.blocks.used and not engine.scheduler.waiting
            return done
        done |= {o.request_id: o for o in engine.step() if o.finished}
    raise AssertionError(f"never ended: {list(engine.requests)}")


def with_company(engine, bad):
    """What becomes of three good requests when `bad` adds another to them."""
    for i in range(3):
        engine.add_request([1, 2, i], SamplingParams(max_tokens=6), f"good{i}")
    engine.step()
    books = (engine.arrivals, list(engine.requests), len(engine.scheduler.waiting))
    try:
        bad(engine)
        refused = None
    except RequestError as error:
        refused = str(error)
        assert refused.count("\nWhy: ") == refused.count("\nTry: ") == 1
        assert books == (engine.arrivals, list(engine.requests), len(engine.scheduler.waiting))
    done = finish(engine)
    for i in range(3):
        assert done[f"good{i}"].outputs[0].finish_reason == "length"
        assert len(done[f"good{i}"].outputs[0].token_ids) == 6
    return refused, done


# --- settings of all kinds ------------------------------------------------------------------------

ODD = [
    *(None, True, False, 0, 1, -1, 2, 3.0, 5.0, 1.5, -0.0, 1e-46, 1e-310, 5e-324, 1e-6, 1e38),
    *(1e39, 1e308, math.inf, -math.inf, math.nan, 2**31, 2**32, 2**63, 2**64 - 1, 2**64),
    *(-(2**63), -(2**64), 10**400, 10**5000, 1j, "", "x", "5", "\ud83d", "a" * 1000, b"x", []),
    *([1], [1.0], [None], ["a"], [""], ["\ud83d"], [b"x"], [[1]], (0, 96), [97], [-1]),
    *(list(range(V)), {}, {"type": "integer"}, {"type": "nothing"}, {1: 2}, {"a": math.nan}),
    *({1, 2}, range(3), object(), decimal.Decimal("0.5"), fractions.Fraction(1, 3)),
    *(fractions.Fraction(10**400, 3), np.float32(0.5), np.int64(2), np.float64("nan")),
    *(np.array([1, 2]), torch.tensor(1.0), torch.tensor([1]), lambda x: x),
]
NAMES = [f.name for f in fields(SamplingParams)]


def params_or_none(chosen):
    """The settings, if they can be: else what refuses them says it in three parts."""
    try:
        return SamplingParams(**chosen)
    except RequestError as error:
        assert str(error).count("\nWhy: ") == str(error).count("\nTry: ") == 1
        return None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("usual", [{}, {"temperature": 1.0}], ids=["greedy", "drawn"])
def test_whatever_one_setting_is_no_step_fails(model, name, usual):
    """One engine serves all that is not refused, at once."""
    engine = engine_of(model, num_blocks=600)
    added = 0
    for value in ODD:
        params = params_or_none(usual | {name: value})
        if params is None:
            continue
        try:
            engine.add_request([5, 6], params)
            added += 1
        except RequestError:
            pass
    engine.add_request([1, 2, 3], SamplingParams(max_tokens=6), "good")
    done = finish(engine)
    assert len(done) == added + 1 and len(done["good"].outputs[0].token_ids) == 6


@given(
    chosen=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(ODD), max_size=5),
    drafts=st.integers(0, 2),
    prompt=st.sampled_from([[1], [5, 6, 5, 6, 5], list(range(20))]),
)
@settings(max_examples=250, deadline=None)
def test_whatever_the_settings_are_no_step_fails(model, chosen, drafts, prompt):
    params = params_or_none(chosen)
    if params is None:
        return
    proposer = [None, PromptLookup(3), DraftModel(model, 2)][drafts]
    engine = engine_of(model, proposer, max_sequences=4)
    with_company(engine, lambda e: e.add_request(prompt, params, "odd"))


@pytest.mark.parametrize("value", ODD, ids=lambda v: f"{type(v).__name__}")
def test_whatever_else_a_request_brings_no_step_fails(model, value):
    engine = engine_of(model, num_blocks=200)
    adds = [
        lambda: engine.add_request(value),
        lambda: engine.add_request([1, value]),
        lambda: engine.add_request([1, 2], value),
        lambda: engine.add_request([1, 2], None, value),
        lambda: engine.add_request([1, 2], priority=value),
        lambda: engine.add_request([1, 2], cache_key=value),
    ]
    with_company(engine, lambda e: random.Random(0))
    for add in adds:
        try:
            add()
        except RequestError as error:
            assert str(error).count("\nWhy: ") == str(error).count("\nTry: ") == 1
    finish(engine)


def test_a_whole_number_may_come_as_a_float():
    params = SamplingParams(temperature=1, top_k=5.0, n=2.0, logprobs=np.int64(2), seed=7.0)
    assert (params.top_k, params.n, params.logprobs, params.seed) == (5, 2, 2, 7)
    assert all(type(v) is int for v in (params.top_k, params.n, params.logprobs, params.seed))


def test_none_is_the_default_as_null_in_json():
    assert SamplingParams(**{name: None for name in NAMES if name != "max_tokens"}) == (
        SamplingParams()
    )
    assert SamplingParams(max_tokens=None).max_tokens is None


@pytest.mark.parametrize("everything", [None, 0, -1])
def test_top_k_of_all_tokens_has_vllms_names(everything):
    assert SamplingParams(top_k=everything).top_k is None


def test_a_tiny_temperature_is_the_likeliest_token(model):
    plain = LLM(engine_of(model)).generate([[1, 2, 3]], SamplingParams(max_tokens=8))
    cold = LLM(engine_of(model)).generate([[1, 2, 3]], SamplingParams(1e-46, max_tokens=8))
    assert plain[0].outputs[0].token_ids == cold[0].outputs[0].token_ids


def test_a_schema_that_is_changed_afterwards_changes_nothing():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    params = SamplingParams(json=schema)
    schema["properties"]["a"]["type"] = "nothing"
    assert params.json["properties"]["a"] == {"type": "integer"}


@pytest.mark.parametrize(
    "prompt", [np.array([1, 2, 3]), torch.tensor([1, 2, 3]), (1, 2, 3), range(1, 4)]
)
def test_ids_may_come_as_an_array(model, prompt):
    expected = LLM(engine_of(model)).generate([[1, 2, 3]], SamplingParams(max_tokens=4))
    for given_as in (prompt, [prompt]):
        found = LLM(engine_of(model)).generate(given_as, SamplingParams(max_tokens=4))
        assert found[0].prompt_token_ids == [1, 2, 3]
        assert found[0].outputs[0].token_ids == expected[0].outputs[0].token_ids


def test_a_list_takes_all_its_requests_back_whatever_refuses_one(model):
    llm = LLM(engine_of(model))
    for bad in ([97], 5, b"ab", {"a": 1}, [None], [True], [1.0], {1, 2}):
        with pytest.raises(RequestError, match="^prompt 1: "):
            llm.generate([[1, 2], bad], SamplingParams(max_tokens=2))
        assert not llm.engine.unfinished


# --- what fails in a step -------------------------------------------------------------------------


def test_logits_of_one_row_that_are_no_numbers_end_one_request(model):
    engine = engine_of(model)
    run, turn = engine.runner.run, []

    def broken(plan):
        turn.append(plan)
        return [
            torch.full_like(found, math.nan)
            if work.sequence.request.id == "bad" and len(turn) > 2
            else found
            for work, found in zip(plan.work, run(plan), strict=True)
        ]

    engine.runner.run = broken
    _, done = with_company(engine, lambda e: e.add_request([5, 6], SamplingParams(), "bad"))
    (text,) = done["bad"].outputs
    assert text.finish_reason == "error" and len(text.token_ids) == 1
    assert "no numbers\nWhy: " in done["bad"].error


@pytest.mark.parametrize("kind", [{}, {"beam_width": 2}, {"n": 3, "temperature": 1.0}])
def test_a_text_that_cannot_be_written_ends_one_request(model, kind):
    """A tokenizer that fails on what the model says."""
    engine = engine_of(model)

    def bad(e):
        e._text = lambda request: _Broken()
        e.add_request([5, 6], SamplingParams(**kind), "bad")

    _, done = with_company(engine, bad)
    assert done["bad"].error.startswith("ZeroDivisionError")
    assert all(o.finish_reason == "error" for o in done["bad"].outputs) and done["bad"].outputs


class _Broken:
    sent = ""

    def feed(self, id):
        return 1 / 0

    finish = delta = lambda self: ""


def test_a_generate_of_nothing_but_errors_raises(model):
    engine = engine_of(model)
    engine.runner.run = lambda plan: [torch.full((1, V), math.nan) for _ in plan.work]
    with pytest.raises(ServingError, match="no numbers"):
        LLM(engine).generate([[1], [2]])
    with pytest.raises(ServingError, match="no numbers"):
        list(LLM(engine).stream([1, 2]))
    assert not engine.unfinished


def test_a_proposer_that_fails_costs_its_drafts(model):
    class Bad:
        most = 3
        drafts = ([V, 1], [1, -1], [1] * 50, None)
        turn = 0

        def propose(self, sequences, counts):
            self.turn += 1
            for sequence in sequences:
                sequence.draft = list(self.drafts[self.turn % 4])

        def copy(self, pairs):
            pass

    plain = finish_one(engine_of(model))
    with pytest.warns(UserWarning, match="no drafts in this step"):
        assert finish_one(engine_of(model, Bad())) == plain


def finish_one(engine):
    engine.add_request([1, 2, 3], SamplingParams(max_tokens=30), "a")
    return finish(engine)["a"].outputs[0].token_ids


def test_an_interrupt_in_the_middle_of_a_step_loses_nothing(llama):
    """Ctrl-C may come anywhere; whoever goes on gets the same answers."""
    theirs, ours, _ = llama
    engine = engine_of(ours)
    for i in range(4):
        engine.add_request([1, 2, i], SamplingParams(max_tokens=6), str(i))
    real, count = engine._append, [0]

    def interrupted(sequence, token):
        count[0] += 1
        if count[0] % 5 == 0:
            raise KeyboardInterrupt
        return real(sequence, token)

    engine._append = interrupted
    done = {}
    for _ in range(100):
        if not engine.unfinished:
            break
        with contextlib.suppress(KeyboardInterrupt):
            done |= {o.request_id: o for o in engine.step()}
    assert len(done) == 4 and not engine.blocks.used
    for i in range(4):
        assert len(done[str(i)].outputs[0].token_ids) == 6
        assert is_greedy(theirs, [1, 2, i], done[str(i)].outputs[0].token_ids)
