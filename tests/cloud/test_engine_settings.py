"""What each setting does: as `transformers` where it has the same, else as vLLM says."""

import itertools
import json
import random
import subprocess
import sys

import pytest
import torch

from aiinfra_labs.cloud.serving.chance import Chance
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import LoadError, RequestError, ServingError
from aiinfra_labs.cloud.serving.generation_config import sampling_defaults
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.cloud.serving.output import SequenceText
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.speculative import DraftModel, PromptLookup
from aiinfra_labs.llm import page_model


def engine_of(llama, proposer=None, **changed):
    changed = {"num_blocks": 256, "block_size": 4, "attention": "torch"} | changed
    return Engine(llama[1], None, EngineConfig(**changed), proposer)


def outputs_of(llama, prompt, engine=None, **chosen):
    return LLM(engine or engine_of(llama)).generate([prompt], SamplingParams(**chosen))[0].outputs


def logits_of(llama, ids):
    """transformers' logits behind each token: [T, V]."""
    with torch.no_grad():
        return llama[0](torch.tensor([ids])).logits[0]


def transformers_of(llama, prompt, new, **chosen):
    """[new tokens] of each text that `generate` returns."""
    ids = torch.tensor([prompt])
    found = llama[0].generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, pad_token_id=0, **chosen
    )
    return [row[len(prompt) :].tolist() for row in found]


PROMPT = [3, 14, 15, 9, 26, 5, 35]

# --- as transformers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"repetition_penalty": 1.8}, {"repetition_penalty": 1.8}),
        ({"repetition_penalty": 0.6}, {"repetition_penalty": 0.6}),
        (
            {"logit_bias": {7: 3.0, "12": -4, 60: 2.5}},
            {"sequence_bias": {(7,): 3.0, (12,): -4.0, (60,): 2.5}},
        ),
        (
            {"logit_bias": {7: 3.0}, "repetition_penalty": 1.5},
            {"sequence_bias": {(7,): 3.0}, "repetition_penalty": 1.5},
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("beams", [0, 3])
def test_penalties_and_biases_are_transformers(llama, ours, theirs, beams):
    plain = [o.token_ids for o in outputs_of(llama, PROMPT, max_tokens=9, beam_width=beams)]
    found = [o.token_ids for o in outputs_of(llama, PROMPT, max_tokens=9, beam_width=beams, **ours)]
    more = {"num_beams": beams, "num_return_sequences": beams} if beams else {}
    assert found == transformers_of(llama, PROMPT, 9, do_sample=False, **theirs, **more)
    assert found != plain


@pytest.mark.parametrize("beams", [0, 3])
def test_min_tokens_is_transformers(llama, beams):
    plain = outputs_of(llama, PROMPT, max_tokens=9, beam_width=beams)[0].token_ids
    end = plain[1]
    chosen = {"max_tokens": 9, "beam_width": beams, "stop_token_ids": [end]}
    more = {"num_beams": beams, "num_return_sequences": beams} if beams else {}
    for least in (0, 6):
        found = outputs_of(llama, PROMPT, min_tokens=least, **chosen)
        expected = transformers_of(
            llama, PROMPT, 9, do_sample=False, eos_token_id=end, min_new_tokens=least, **more
        )
        for ours, row in zip(found, expected, strict=True):
            cut = row[: row.index(end) + 1] if end in row else row
            assert ours.token_ids == cut and len(cut) > min(least, 9) - (end not in row)


def test_bad_words_are_transformers(llama):
    class Numbers:  # a text is ids between spaces
        def encode(self, text, add_special_tokens=True):
            return [int(part) for part in text.split()]

        def stream(self):
            return type("", (), {"feed": lambda s, id: f"{id} ", "finish": lambda s: ""})()

    plain = transformers_of(llama, PROMPT, 10, do_sample=False)[0]
    words = [plain[2:3], plain[3:5], [1, 2, 3]]
    engine = Engine(llama[1], Numbers(), EngineConfig(64, attention="torch"))
    chosen = SamplingParams(max_tokens=10, bad_words=[" ".join(map(str, w)) for w in words])
    found = LLM(engine).generate([PROMPT], chosen)[0].outputs[0].token_ids
    expected = transformers_of(llama, PROMPT, 10, do_sample=False, bad_words_ids=words)[0]
    assert found == expected != plain


@pytest.mark.parametrize("draft", [None, "lookup", "draft"])
def test_presence_and_frequency_are_openais(llama, draft):
    """logit - count * frequency - (count > 0) * presence, of the answer's own tokens (OpenAI)."""
    presence, frequency, ids = 1.5, 0.7, list(PROMPT)
    for _ in range(14):
        row = logits_of(llama, ids)[-1]
        counts = torch.bincount(torch.tensor(ids[len(PROMPT) :], dtype=torch.long), minlength=97)
        ids.append(int((row - frequency * counts - presence * (counts > 0)).argmax()))
    proposer = {"lookup": PromptLookup(3), "draft": DraftModel(llama[1], 3)}.get(draft)
    found = outputs_of(
        llama,
        PROMPT,
        engine_of(llama, proposer),
        max_tokens=14,
        presence_penalty=presence,
        frequency_penalty=frequency,
    )
    assert found[0].token_ids == ids[len(PROMPT) :]


@pytest.mark.parametrize("budget", [4, 30])
def test_log_probabilities_of_the_prompt_are_the_models(llama, budget):
    """In chunks, beside a twin whose blocks are in the cache, and when blocks give out."""
    engine = engine_of(llama, num_blocks=12, max_step_tokens=budget)
    preempted = []
    engine.observers.append(lambda plan: preempted.extend(plan.preempted))
    prompts = [list(range(k, k + 17)) for k in (1, 1, 40)]
    params = SamplingParams(max_tokens=12, prompt_logprobs=2)
    plain = LLM(engine_of(llama)).generate(prompts, SamplingParams(max_tokens=12))
    for output, expected in zip(LLM(engine).generate(prompts, params), plain, strict=True):
        assert output.outputs[0].token_ids == expected.outputs[0].token_ids
        prompt, found = output.prompt_token_ids, output.prompt_logprobs
        assert len(found) == len(prompt) and found[0] is None
        for row, token, one in zip(
            logits_of(llama, prompt).log_softmax(-1), prompt[1:], found[1:], strict=False
        ):
            assert token in one and len(one) in (2, 3)
            for id, value in one.items():
                assert value == pytest.approx(float(row[id]), abs=1e-4)
    assert preempted and plain[0].prompt_logprobs is None


def test_log_probabilities_of_beams_are_the_models_own(llama):
    """Whatever a setting makes of them for the search."""
    for out in outputs_of(
        llama, PROMPT, beam_width=3, max_tokens=6, logprobs=2, repetition_penalty=2
    ):
        rows = logits_of(llama, PROMPT + out.token_ids).log_softmax(-1)[len(PROMPT) - 1 :]
        assert len(out.logprobs) == len(out.token_ids) == 6
        for row, token, one in zip(rows, out.token_ids, out.logprobs, strict=False):
            assert one[token] == pytest.approx(float(row[token]), abs=1e-4)


# --- with drafts, and as others have reported -----------------------------------------------------


@pytest.mark.parametrize("kind", ["lookup", "draft"])
@pytest.mark.parametrize(
    "chosen",
    [
        {"logprobs": 3},
        {"logit_bias": {7: 4, 8: -100}, "logprobs": 0},
        {"prompt_logprobs": 1, "logprobs": 1},
        {"repetition_penalty": 1.3, "min_tokens": 12, "stop_token_ids": [8, 7]},
        {"presence_penalty": 1, "temperature": 0.8, "seed": 3, "logprobs": 1},
    ],
    ids=str,
)
def test_drafts_change_no_figure(llama, kind, chosen):
    """Log-probabilities of 0 and settings that are passed over, seen in other engines' drafts."""
    prompt = [1, 2, 3, 1, 2, 3, 1, 2]
    found = []
    for proposer in (None, PromptLookup(4) if kind == "lookup" else DraftModel(llama[1], 3)):
        if proposer is None and kind == "draft" and "seed" in chosen:
            continue  # that engine draws in another way
        engine = engine_of(llama, proposer)
        params = SamplingParams(**{"max_tokens": 24} | chosen)
        found.append(LLM(engine).generate([prompt], params)[0])
        assert proposer is None or engine.drafted or kind == "lookup"  # it may find nothing
    one, other = found[0], found[-1]
    assert one.outputs[0].token_ids == other.outputs[0].token_ids
    for ours, theirs in zip(one.outputs[0].logprobs, other.outputs[0].logprobs, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    for ours, theirs in zip(
        (one.prompt_logprobs or [])[1:], (other.prompt_logprobs or [])[1:], strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("kind", [{}, {"temperature": 1.0, "n": 3}, {"beam_width": 3}], ids=str)
def test_a_text_that_ends_with_its_first_token(llama, kind):
    """By an end that is the only token left; others go on."""
    engine = engine_of(llama, PromptLookup(3), end_ids=(9,))
    engine.add_request([1, 2, 3], SamplingParams(max_tokens=8), "good")
    bias = {id: -100 for id in range(97) if id != 9}
    engine.add_request([5, 6], SamplingParams(max_tokens=8, logit_bias=bias, **kind), "short")
    done = {}
    while engine.unfinished:
        done |= {o.request_id: o for o in engine.step()}
    assert done["short"].outputs[0].token_ids == [9]
    assert done["short"].outputs[0].finish_reason == "stop"
    assert done["good"].outputs[0].token_ids[:1] and not engine.blocks.used


def test_a_seed_holds_beside_requests_without_one(llama):
    def text(*others):
        engine = engine_of(llama)
        for params in others:
            engine.add_request(PROMPT[::-1], params)
        return outputs_of(llama, PROMPT, engine, temperature=0.8, seed=42, max_tokens=16)

    free = SamplingParams(temperature=0.8, max_tokens=16)
    assert text()[0].token_ids == text(free)[0].token_ids == text(free, free)[0].token_ids


def test_an_id_of_the_callers_is_no_obstacle_to_the_engines(llama):
    engine = engine_of(llama)
    names = [engine.add_request([1], SamplingParams(max_tokens=2), id) for id in ("1", None, None)]
    names.append(engine.add_request([1], SamplingParams(max_tokens=2), "1'"[:1] + "x"))
    assert len(set(names)) == 4
    with pytest.raises(RequestError, match="there is a request '1' already"):
        engine.add_request([1], request_id="1")
    done = []
    while engine.unfinished:
        done += [o.request_id for o in engine.step()]
    assert sorted(done) == sorted(names)
    assert engine.add_request([1], request_id="1") == "1"  # that one has ended


# --- a caller's own code --------------------------------------------------------------------------


def test_logits_processors_are_called_in_turn(llama):
    seen = []

    def only(*allowed):
        def processor(token_ids, logits):
            seen.append(list(token_ids))
            kept = torch.full_like(logits, -torch.inf)
            kept[list(allowed)] = logits[list(allowed)]
            return kept

        return processor

    (out,) = outputs_of(llama, PROMPT, max_tokens=3, logits_processors=[only(1, 2, 3), only(3, 4)])
    assert out.token_ids == [3, 3, 3]
    assert seen[::2] == [[], [3], [3, 3]]


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (lambda ids, logits: 1 / 0, "ZeroDivisionError"),
        (lambda ids, logits: None, "a logits processor returned None\nWhy"),
        (lambda ids, logits: logits[:5], "a logits processor returned tensor"),
        (lambda ids, logits: logits * float("nan"), "no token is left"),
        (lambda ids, logits: logits - float("inf"), "no token is left"),
        (lambda ids, logits: logits.fill_(-float("inf")) if len(ids) > 1 else logits, "no token"),
    ],
)
@pytest.mark.parametrize("kind", [{}, {"beam_width": 2}, {"temperature": 1.0, "n": 2}])
def test_a_logits_processor_that_is_broken_ends_its_own_request(llama, processor, said, kind):
    for proposer in (None, PromptLookup(3)):
        engine = engine_of(llama, proposer)
        good = [engine.add_request([1, 2, i], SamplingParams(max_tokens=6)) for i in range(3)]
        params = SamplingParams(max_tokens=6, logits_processors=[processor], **kind)
        engine.add_request([5, 6, 5, 6, 5], params, "bad")
        done = {}
        while engine.unfinished:
            done |= {o.request_id: o for o in engine.step()}
        assert [len(done[name].outputs[0].token_ids) for name in good] == [6] * 3
        assert done["bad"].error.startswith(said)
        assert {o.finish_reason for o in done["bad"].outputs} == {"error"}


# --- chance ---------------------------------------------------------------------------------------


def test_seeds_never_coincide():
    """By the first number of each: of requests with and without a seed, samples, and places."""
    seeds = [None, *range(-3, 4), 2**32, 2**32 + 1, 2**63, 2**64 - 1, -(2**63)]
    keys = itertools.product(seeds, (0, 1), range(3), range(4))
    found = {}
    for seed, engine_seed, arrival, sample in keys:
        chance = Chance.of(seed, engine_seed, arrival, sample)
        who = (seed, sample) if seed is not None else (None, engine_seed, arrival, sample)
        for place in range(3):
            number = float(torch.rand((), generator=chance.at(place), dtype=torch.float64))
            assert found.setdefault(number, (who, place)) == (who, place)


def test_samples_and_neighbours_differ(llama):
    engine = engine_of(llama)
    params = SamplingParams(temperature=1.5, n=4, max_tokens=12)
    outputs = LLM(engine).generate([PROMPT] * 10, params)
    assert len({tuple(o.token_ids) for out in outputs for o in out.outputs}) == 40
    again = LLM(engine_of(llama)).generate([PROMPT] * 10, params)
    assert [[o.token_ids for o in out.outputs] for out in again] == [
        [o.token_ids for o in out.outputs] for out in outputs
    ]
    other = LLM(engine_of(llama, seed=1)).generate([PROMPT] * 10, params)
    assert other[0].outputs[0].token_ids != outputs[0].outputs[0].token_ids
    one, two = (
        outputs_of(llama, PROMPT, temperature=1.5, n=2, seed=s, max_tokens=12) for s in (7, 8)
    )
    assert one[1].token_ids != two[0].token_ids
    large = outputs_of(llama, PROMPT, temperature=1.5, n=2, seed=7 + 2**32, max_tokens=12)
    assert large[0].token_ids != one[0].token_ids  # PyTorch alone would keep 32 bits


@pytest.mark.parametrize("kind", [None, "lookup", "draft"])
def test_a_seed_gives_the_same_text_in_any_company(llama, kind):
    """Though how much is drafted depends on the room that the others leave."""

    def text(company, **changed):
        proposer = {"lookup": PromptLookup(4), "draft": DraftModel(llama[1], 3)}.get(kind)
        engine = engine_of(llama, proposer, **({"num_blocks": 30} | changed))
        prompt = [1, 2, 3, 1, 2, 3, 1, 2]
        engine.add_request(prompt, SamplingParams(0.7, top_k=5, seed=11, max_tokens=40), "x")
        for i in range(company):
            params = SamplingParams(temperature=1.0, seed=i, max_tokens=30)
            engine.add_request([i, 2, 3, 1, 2, 3] * 2, params)
        done = {}
        while engine.unfinished:
            done |= {o.request_id: o for o in engine.step()}
        return done["x"].outputs[0].token_ids, engine.accepted / max(1, engine.drafted)

    alone, rate = text(0)
    assert text(10)[0] == text(3, max_step_tokens=12)[0] == alone
    assert kind != "draft" or rate > 0.9  # the model drafts for itself, by the same chance


def test_a_step_that_broke_off_draws_the_same_again(llama):
    def text(breaks):
        engine = engine_of(llama, DraftModel(llama[1], 3))
        engine.add_request(PROMPT, SamplingParams(1.0, seed=5, max_tokens=20))
        run, count = engine.runner.run, [0]

        def broken(plan):
            count[0] += 1
            if breaks and count[0] % 3 == 0:
                raise OSError("the device is gone")
            return run(plan)

        engine.runner.run = broken
        while True:
            try:
                if found := engine.step():
                    return found[0].outputs[0].token_ids
            except OSError:
                pass

    assert text(True) == text(False)


# --- slots, counts, ends --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"temperature": 1.0, "n": 5}, {"beam_width": 5}], ids=str)
@pytest.mark.parametrize("blocks", [400, 16])
def test_slots_are_counted_with_samples_and_beams(llama, kind, blocks):
    engine, most, gave = engine_of(llama, max_sequences=8, num_blocks=blocks), [], []
    engine.observers.append(lambda plan: most.append(len(engine.scheduler.running)))
    engine.observers.append(lambda plan: gave.extend(plan.preempted))
    rng = random.Random(0)
    for i in range(24):
        wide = kind if rng.random() < 0.5 else {}
        engine.add_request([1, 2, i], SamplingParams(max_tokens=rng.randrange(2, 12), **wide))
    done = 0
    while engine.unfinished:
        done += len(engine.step())
    assert done == 24 and max(most) == 8
    assert gave or blocks == 400 or "n" not in kind


def test_what_it_computed_itself_was_not_found_in_the_cache(llama):
    engine, rng = engine_of(llama, num_blocks=40, max_step_tokens=16), random.Random(0)
    gave = []
    engine.observers.append(lambda plan: gave.extend(plan.preempted))
    for i in range(12):
        prompt = [i, *(rng.randrange(97) for _ in range(8 if i < 6 else 60))]
        engine.add_request(prompt, SamplingParams(max_tokens=60 if i < 6 else 8))
    found = []
    while engine.unfinished:
        found += [o.cached_tokens for o in engine.step()]
    assert gave and found == [0] * 12


def test_a_stop_string_that_might_have_begun_earlier():
    """The second stands there, and the first would have begun before it, had it come."""

    class Letters:
        def stream(self):
            return self

        def feed(self, id):
            return chr(id)

        def finish(self):
            return ""

    def read(text, *stops, **more):
        made = SequenceText(Letters(), stops, **more)
        for letter in text:
            if stop := made.feed(ord(letter)):
                return made.sent, stop
        stop = made.finish()
        return made.sent, stop

    assert read("object.\n", "t.\nnever", ".\n") == ("object", ".\n")
    assert read("object", "never") == ("object", None)
    assert read("abcd", "bc", include_stop=True) == ("abc", "bc")
    both = read("object.\n", "t.\nnever", ".\n", include_stop=True)
    assert both == ("object.\n", ".\n")
    assert read("xxabxx", "x", min_tokens=3) == ("xxab", "x")


@pytest.fixture(scope="module")
def course():
    return LLM(page_model.folder(), EngineConfig(num_blocks=128, attention="torch"))


def test_a_stop_string_ends_the_text_and_is_named(course):
    prompt = "def read(path):\n"
    plain = course.generate(prompt, SamplingParams(max_tokens=10))[0].outputs[0].text
    stops = (plain[-3:] + "never", plain[-2:])
    (one,) = course.generate(prompt, SamplingParams(max_tokens=10, stop=stops))[0].outputs
    assert (one.text, one.finish_reason, one.stop_reason) == (plain[:-2], "stop", stops[1])
    both = SamplingParams(max_tokens=10, stop=plain[5:8], include_stop_str_in_output=True)
    (one,) = course.generate(prompt, both)[0].outputs
    assert one.text == plain[:8] and one.stop_reason == plain[5:8]
    assert "".join(course.stream(prompt, both)) == plain[:8]


def test_a_stop_token_is_in_the_text_where_stops_are(course):
    """As in vLLM, whose setting is of both: it was a part of token_ids, and never of the text."""
    prompt = "def read(path):\n"
    plain = course.generate(prompt, SamplingParams(max_tokens=10))[0].outputs[0]
    ids, tokenizer = list(plain.token_ids), course.engine.tokenizer
    place = next(i for i in range(2, 10) if ids[i] not in ids[:i])
    for include, end in ((False, place), (True, place + 1)):
        params = SamplingParams(
            max_tokens=10, stop_token_ids=[ids[place]], include_stop_str_in_output=include
        )
        (one,) = course.generate(prompt, params)[0].outputs
        assert one.text == tokenizer.decode(ids[:end]) and one.stop_reason == ids[place]
        assert list(one.token_ids) == ids[: place + 1]
        assert "".join(course.stream(prompt, params)) == one.text


# --- LLM by vLLM's names --------------------------------------------------------------------------


def test_the_settings_of_an_engine_have_vllms_names():
    llm = LLM(
        model=page_model.folder(),
        max_num_seqs=3,
        max_num_batched_tokens=32,
        block_size=8,
        enable_prefix_caching=False,
        num_gpu_blocks_override=40,
        attention="torch",
        dtype="bfloat16",
        seed=4,
    )
    config = llm.engine.config
    assert (config.max_sequences, config.max_step_tokens, config.block_size) == (3, 32, 8)
    assert (config.prefix_caching, config.num_blocks, config.seed) == (False, 40, 4)
    assert llm.engine.model.dtype == torch.bfloat16
    with pytest.raises(ServingError, match="no setting 'max_num_sequences'\nWhy"):
        LLM(page_model.folder(), max_num_sequences=3)
    with pytest.raises(ServingError, match="an engine, and settings for one: seed"):
        LLM(llm.engine, seed=3)
    for wrong in ("float33", "int8", None, 5):
        with pytest.raises(ServingError, match="dtype is"):
            LLM(page_model.folder(), dtype=wrong)


def test_requests_without_settings_have_the_models(llama, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in page_model.folder().iterdir():
        (folder / file.name).symlink_to(file)
    file = folder / "generation_config.json"
    recommended = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    file.write_text(json.dumps(recommended | {"max_new_tokens": 5, "eos_token_id": [3, 4]}))
    llm = LLM(folder, attention="torch", num_blocks=64)
    assert llm.engine.admission.usual == SamplingParams(0.7, 20, 0.8, max_tokens=5)
    assert len(llm.generate("def ")[0].outputs[0].token_ids) <= 5
    for found, expected in (
        ({"do_sample": False, "temperature": 0.6}, SamplingParams()),
        ({"do_sample": True}, SamplingParams(temperature=1.0)),
        ({"repetition_penalty": 1.1}, SamplingParams(repetition_penalty=1.1)),
        ({"temperature": None}, SamplingParams()),
    ):
        file.write_text(json.dumps(found))
        assert sampling_defaults(folder) == expected
    file.write_text('{"temperature": -1}')
    with pytest.raises(LoadError, match="no request may ask for: temperature is -1"):
        sampling_defaults(folder)
    file.unlink()
    assert sampling_defaults(folder) == SamplingParams()


def test_the_package_gives_its_names_and_costs_no_torch():
    code = (
        "import sys, aiinfra_labs.cloud.serving as s; assert 'torch' not in sys.modules;"
        "assert 'LLM' in dir(s); from aiinfra_labs.cloud.serving import *;"
        "from aiinfra_labs.cloud.serving.llm import LLM as same; assert LLM is same;"
        "assert all(getattr(s, n).__name__ == n for n in s.__all__); s.nothing"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1].endswith("has no attribute 'nothing'")


def test_settings_that_are_for_words_need_a_tokenizer(llama):
    for chosen in ({"bad_words": "x"}, {"stop": "x"}, {"json": True}):
        with pytest.raises(RequestError, match="without a tokenizer"):
            engine_of(llama).add_request([1], SamplingParams(**chosen))
