"""What a caller sees: texts, samples, ends, errors, and that one request's fault is its own."""

import asyncio
import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from random_checkpoints import is_greedy

from aiinfra_labs.cloud.serving.async_engine import AsyncEngine
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import LoadError, RequestError, ServingError
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.scheduler import StaticScheduler
from aiinfra_labs.cloud.serving.speculative import DraftModel, PromptLookup
from aiinfra_labs.course import cli
from aiinfra_labs.llm import generation, page_model
from aiinfra_labs.llm.sampling import Sampling

TORCH = EngineConfig(num_blocks=128, attention="torch")
PROMPT = "def read_lines(path):\n"


def small(llama, **changed):
    changed = {"num_blocks": 32, "block_size": 4, "attention": "torch"} | changed
    return Engine(llama[1], None, EngineConfig(**changed))


def run(engine):
    """All that comes out until the engine is empty, in order."""
    found = []
    while engine.unfinished:
        found += engine.step()
    return found


@pytest.fixture(scope="module")
def course():
    """An engine with the course's model."""
    return Engine.from_folder(page_model.folder(), TORCH)


# --- texts ----------------------------------------------------------------------------------------


def test_the_courses_model_writes_what_chapter_1_generates(course):
    model, tokenizer = page_model.load()
    assert course.config.end_ids == (tokenizer.special["<|end|>"],)
    prompts = [PROMPT, "class Node:\n", "import os\n\n# 它很甜\n"]
    outputs = LLM(course).generate(prompts, SamplingParams(max_tokens=24, ignore_eos=True))
    for prompt, output in zip(prompts, outputs, strict=True):
        ids = torch.tensor(tokenizer.encode(prompt))
        expected = generation.generate(model, ids, 24)[0].tolist()
        assert output.prompt_token_ids + output.outputs[0].token_ids == expected
        assert output.outputs[0].text == tokenizer.decode(expected[len(ids) :])


def test_a_seed_draws_the_same_in_any_company(course):
    params = SamplingParams(temperature=1.0, top_p=0.9, seed=7, max_tokens=20)
    alone = LLM(course).generate(PROMPT, params)[0]
    others = [SamplingParams(temperature=0.7, seed=i, max_tokens=9) for i in range(5)]
    crowd = LLM(course).generate(
        ["x = "] * 3 + [PROMPT] + ["def "] * 2, others[:3] + [params] + others[3:]
    )
    assert crowd[3].outputs[0].token_ids == alone.outputs[0].token_ids
    other = LLM(course).generate(
        PROMPT, SamplingParams(temperature=1.0, top_p=0.9, seed=8, max_tokens=20)
    )
    assert other[0].outputs[0].token_ids != alone.outputs[0].token_ids


def test_pieces_of_a_stream_are_the_text(course):
    llm, params = LLM(course), SamplingParams(max_tokens=30, stop=("return",))
    whole = llm.generate(PROMPT, params)[0].outputs[0]
    pieces = list(llm.stream(PROMPT, params))
    assert "".join(pieces) == whole.text and len(pieces) > 3


def test_a_stream_that_is_left_ends_its_request(course):
    pieces = LLM(course).stream(PROMPT, SamplingParams(max_tokens=50))
    next(pieces)
    assert course.unfinished == 1
    pieces.close()
    assert not course.unfinished and not course.blocks.used


def test_a_stop_string_ends_the_text_before_it(course):
    plain = LLM(course).generate(PROMPT, SamplingParams(max_tokens=30))[0].outputs[0]
    stop = plain.text[10:14]
    cut = LLM(course).generate(PROMPT, SamplingParams(max_tokens=30, stop=stop))[0].outputs[0]
    assert cut.text == plain.text[: plain.text.index(stop)]
    assert (cut.finish_reason, cut.stop_reason) == ("stop", stop)
    assert len(cut.token_ids) < len(plain.token_ids)


def test_ends_by_tokens(llama):
    engine = small(llama)
    plain = LLM(engine).generate([[1, 2, 3]], SamplingParams(max_tokens=12))[0].outputs[0]
    assert plain.finish_reason == "length"
    end = plain.token_ids[4]
    first = plain.token_ids.index(end)
    by_token = LLM(engine).generate(
        [[1, 2, 3]], SamplingParams(max_tokens=12, stop_token_ids=(end,))
    )
    assert by_token[0].outputs[0].token_ids == plain.token_ids[: first + 1]
    assert by_token[0].outputs[0].stop_reason == end
    model_end = small(llama, end_ids=(end,))
    assert (
        LLM(model_end).generate([[1, 2, 3]], SamplingParams(max_tokens=12))[0].outputs[0].token_ids
        == plain.token_ids[: first + 1]
    )
    later = SamplingParams(max_tokens=12, min_tokens=first + 3)
    assert (
        LLM(model_end).generate([[1, 2, 3]], later)[0].outputs[0].token_ids[:first]
        == plain.token_ids[:first]
    )
    assert len(LLM(model_end).generate([[1, 2, 3]], later)[0].outputs[0].token_ids) >= first + 3
    ignoring = SamplingParams(max_tokens=12, ignore_eos=True)
    assert LLM(model_end).generate([[1, 2, 3]], ignoring)[0].outputs[0].token_ids == plain.token_ids


def test_json_is_json(course):
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["read", "write"]}, "size": {"type": "integer"}},
        "required": ["name", "size"],
        "additionalProperties": False,
    }
    prompts = ["config = "] * 6
    params = [
        SamplingParams(temperature=1.0, seed=i, max_tokens=120, json=schema) for i in range(6)
    ]
    whole = 0
    for output in LLM(course).generate(prompts, params):
        one = output.outputs[0]
        if one.finish_reason == "stop":
            found = json.loads(one.text)
            assert set(found) == {"name", "size"} and isinstance(found["size"], int)
            whole += 1
    assert whole >= 3


def test_log_probabilities_are_the_models_own(llama):
    theirs = llama[0]
    engine = small(llama)
    params = SamplingParams(max_tokens=5, logprobs=3, temperature=0.5, seed=1)
    one = LLM(engine).generate([[5, 6, 7]], params)[0].outputs[0]
    with torch.no_grad():
        ids = torch.tensor([[5, 6, 7, *one.token_ids]])
        expected = theirs(ids).logits[0, 2:-1].log_softmax(-1)
    for row, token, found in zip(expected, one.token_ids, one.logprobs, strict=True):
        assert token in found and len(found) in (3, 4)
        for id, value in found.items():
            assert value == pytest.approx(float(row[id]), abs=1e-4)
    assert one.cumulative_logprob == pytest.approx(
        sum(float(r[t]) for r, t in zip(expected, one.token_ids, strict=True)), abs=1e-3
    )


def test_samples_share_the_prompt_and_differ(llama):
    engine = small(llama)
    used = []
    engine.observers.append(lambda plan: used.append((engine.blocks.used, plan.copies)))
    params = SamplingParams(n=4, temperature=1.0, max_tokens=3, seed=3)
    engine.add_request(list(range(18)), params)
    outputs = run(engine)[0].outputs
    assert len({tuple(o.token_ids) for o in outputs}) > 1
    assert [o.index for o in outputs] == [0, 1, 2, 3]
    assert max(n for n, _ in used) <= 4 + 4 * 2  # four full blocks once, and each one's own
    assert sum(len(c) for _, c in used) == 3  # the last block copied for all but one
    for fewer in (1, 2):  # the first ones are the same, however many are asked for
        params = SamplingParams(temperature=1.0, max_tokens=3, seed=3, n=fewer)
        found = LLM(small(llama)).generate([list(range(18))], params)[0].outputs
        assert [o.token_ids for o in found] == [o.token_ids for o in outputs[:fewer]]


def test_priority_goes_before_arrival(llama):
    engine = small(llama, max_sequences=1)
    for name, priority in (("late", 5), ("first", 0), ("second", 0)):
        engine.add_request([1, 2], SamplingParams(max_tokens=2), name, priority)
    assert [o.request_id for o in run(engine)] == ["first", "second", "late"]


def test_static_batches_wait_for_their_longest(llama):
    steps = {}
    for kind in (StaticScheduler, EngineConfig.scheduler):
        engine = small(llama, num_blocks=64, max_sequences=4, scheduler=kind)
        for i in range(16):
            engine.add_request([i, i + 1], SamplingParams(max_tokens=20 if i % 4 == 0 else 2))
        run(engine)
        steps[kind] = engine.steps
    assert steps[StaticScheduler] == 4 * 20
    assert steps[EngineConfig.scheduler] < 40


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], {}, "the prompt is empty"),
        ([97], {}, "the prompt holds 97"),
        ([-1], {}, "the prompt holds -1"),
        ([1.5], {}, "the prompt holds 1.5"),
        ([1] * 128, {}, "128 tokens, and the model's context is 128"),
        ([1] * 100, {"max_tokens": 28}, "the whole cache has 30"),
        ([1], {"stop_token_ids": (97,)}, "stop token 97"),
        ([1], {"stop": "x"}, "without a tokenizer"),
        ([1], {"json": True}, "without a tokenizer"),
        ("text", {}, "without a tokenizer"),
        ([1], {"n": 300, "temperature": 1.0}, "n is 300"),
        ([1], {"beam_width": 300}, "beam_width is 300"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_and_others_go_on(
    llama, prompt, params, message
):
    engine = small(llama, num_blocks=30)
    engine.add_request([1, 2, 3], SamplingParams(max_tokens=5))
    with pytest.raises(RequestError, match=message) as error:
        engine.add_request(prompt, SamplingParams(**params))
    assert str(error.value).count("\n") == 2
    (output,) = run(engine)
    assert is_greedy(llama[0], [1, 2, 3], output.outputs[0].token_ids)
    assert engine.arrivals == 1


def test_a_schema_that_is_not_supported_is_refused(course):
    with pytest.raises(ServingError, match="patternProperties"):
        course.add_request("x", SamplingParams(json={"type": "object", "patternProperties": {}}))
    assert not course.unfinished


def test_the_largest_request_that_fits_alone_is_served(llama):
    engine = small(llama, num_blocks=8)  # 32 tokens
    engine.add_request([1] * 20, SamplingParams(max_tokens=13))
    engine.add_request([2] * 25, SamplingParams(max_tokens=8))
    answers = run(engine)
    assert [len(o.outputs[0].token_ids) for o in answers] == [13, 8]
    with pytest.raises(RequestError, match="13 new tokens at most"):
        engine.add_request([1] * 20, SamplingParams(max_tokens=14))


def test_no_limit_is_what_the_context_leaves(llama):
    engine = small(llama)
    engine.add_request([1] * 120, SamplingParams(max_tokens=None))
    assert len(run(engine)[0].outputs[0].token_ids) == 8


def test_an_id_that_is_taken(llama):
    engine = small(llama)
    engine.add_request([1], request_id="a")
    with pytest.raises(RequestError, match="a request 'a' already"):
        engine.add_request([2], request_id="a")


def test_a_model_that_fails_loses_nothing(llama):
    engine = small(llama)
    for i in range(4):
        engine.add_request([1, 2, 3, 4, 5, i], SamplingParams(max_tokens=6), str(i))
    engine.step()
    real, engine.runner.attention = engine.runner.attention, None
    with pytest.raises(TypeError):
        engine.step()
    engine.runner.attention = real
    for output in run(engine):
        assert is_greedy(llama[0], output.prompt_token_ids, output.outputs[0].token_ids)
    assert not engine.blocks.used


def test_logits_that_are_no_numbers(llama):
    engine = small(llama)
    engine.runner.model.logits, real = (
        lambda hidden: hidden.new_full((len(hidden), 97), math.nan),
        engine.runner.model.logits,
    )
    try:
        with pytest.raises(ServingError, match="no numbers"):
            LLM(engine).generate([[1, 2]], SamplingParams(max_tokens=3))
    finally:
        del engine.runner.model.logits
    assert not engine.unfinished
    assert real([0] and torch.zeros(1, 32)).shape == (1, 97)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_blocks": 0}, "0 blocks"),
        ({"block_size": 0}, "of 0 tokens"),
        ({"max_step_tokens": 0}, "a step of 0 tokens"),
        ({"max_step_tokens": 64, "chunked_prefill": False}, "no chunked prefill"),
        ({"attention": "fast"}, "attention 'fast'"),
    ],
)
def test_an_engine_that_cannot_be(llama, config, message):
    with pytest.raises(ServingError, match=message):
        small(llama, **config)


def test_a_draft_model_of_other_words(llama, course):
    with pytest.raises(ServingError, match="4,096 tokens, and the model 97"):
        Engine(llama[1], None, TORCH, DraftModel(course.model))
    with pytest.raises(ServingError, match="at least one token"):
        PromptLookup(0)


def test_a_tokenizer_of_another_model(llama, tmp_path):
    import shutil

    shutil.copytree(llama[2], tmp_path / "mixed")
    shutil.copy(page_model.folder() / "tokenizer.json", tmp_path / "mixed")
    with pytest.raises(LoadError, match="4,096 tokens, and the model 97"):
        Engine.from_folder(tmp_path / "mixed")
    (tmp_path / "mixed" / "tokenizer.json").write_text("{")
    with pytest.raises(LoadError, match="tokenizer.json is no tokenizer"):
        Engine.from_folder(tmp_path / "mixed")


def test_a_list_of_prompts_says_which_is_wrong(llama):
    llm = LLM(small(llama))
    with pytest.raises(RequestError, match="prompt 2: the prompt is empty"):
        llm.generate([[1], [2], []])
    assert not llm.engine.unfinished
    with pytest.raises(RequestError, match="2 prompts and 1 settings"):
        llm.generate([[1], [2]], [SamplingParams()])


# --- many callers ---------------------------------------------------------------------------------


def test_async_callers_each_get_their_own(llama):
    async def ask(engine, prompt):
        last = None
        async for output in engine.generate(prompt, SamplingParams(max_tokens=6)):
            last = output
        return last

    async def leave(engine):
        async for _ in engine.generate([9, 9], SamplingParams(max_tokens=100)):
            break

    async def everything():
        engine = AsyncEngine(small(llama))
        try:
            prompts = [[i, i + 1, i + 2] for i in range(12)]
            first, *found = await asyncio.gather(leave(engine), *(ask(engine, p) for p in prompts))
            with pytest.raises(RequestError, match="empty"):
                await ask(engine, [])
            gone = asyncio.create_task(ask(engine, [5] * 20))
            await asyncio.sleep(0.01)
            gone.cancel()
            for _ in range(500):
                if not engine.engine.unfinished:
                    break
                await asyncio.sleep(0.01)
            assert not engine.engine.unfinished and not engine.engine.blocks.used
            engine.engine.runner.attention = None
            with pytest.raises(TypeError):
                await ask(engine, [1])
        finally:
            engine.close()
        with pytest.raises(ServingError, match="closed"):
            await ask(engine, [1])
        return found

    with ThreadPoolExecutor(1) as thread:  # a browser's test may have left a loop in this one
        found = thread.submit(lambda: asyncio.run(everything())).result()
    assert len(found) == 12
    for output in found:
        assert is_greedy(llama[0], output.prompt_token_ids, output.outputs[0].token_ids)


def test_the_command(capsys, monkeypatch, llama):
    assert cli.main(["generate", "def main(", "--max-tokens", "8"]) == 0
    assert capsys.readouterr().out.startswith("def main(")
    monkeypatch.setattr("sys.stdin.read", lambda: "import os\nclass A:\n", raising=False)
    assert cli.main(["generate", "-", "--max-tokens", "3"]) == 0
    lines = capsys.readouterr().out
    assert "import os" in lines and "class A:" in lines
    assert cli.main(["generate", "x", "--temperature", "-1"]) == 1
    assert "temperature is -1.0\nWhy:" in capsys.readouterr().err
    assert cli.main(["generate", "x", "--model", str(llama[2])]) == 1
    assert "tokenizer.json is no tokenizer" in capsys.readouterr().err


def test_sampling_of_chapter_1_has_the_same_defaults():
    ours, theirs = SamplingParams(), Sampling()
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
        assert getattr(ours, name) == getattr(theirs, name)
