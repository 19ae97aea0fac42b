"""Token by token as `transformers`, with a cache as without, and in whole characters."""

import math

import pytest
import torch
from random_models import SHAPES, as_theirs, prompts, random_model

from aiinfra_labs.llm import bpe
from aiinfra_labs.llm.generation import (
    PromptError,
    decode,
    generate,
    generate_without_cache,
    prefill,
    stream_generate,
    tokens,
)
from aiinfra_labs.llm.kv_cache import PreallocatedCache
from aiinfra_labs.llm.llama import KVCache, LlamaConfig
from aiinfra_labs.llm.sampling import Sampling, SamplingError


@pytest.fixture(params=SHAPES)
def model(request):
    return random_model(SHAPES[request.param])


@pytest.mark.parametrize("length", [1, 7])
def test_greedy_is_transformers_token_by_token(model, length):
    prompt = prompts(model.config, 2, length)
    expected = as_theirs(model).generate(
        prompt, max_new_tokens=30, do_sample=False, pad_token_id=0, attention_mask=prompt * 0 + 1
    )
    found = generate(model, prompt, 30)
    assert torch.equal(found, expected)
    if length > 1:  # a text that repeats itself proves little
        assert len(set(found[0, length:].tolist())) > 5


def test_the_repetition_penalty_sees_all_tokens_so_far(model):
    prompt = prompts(model.config)
    expected = as_theirs(model).generate(
        prompt,
        max_new_tokens=25,
        do_sample=False,
        repetition_penalty=1.6,
        pad_token_id=0,
        attention_mask=prompt * 0 + 1,
    )
    assert torch.equal(generate(model, prompt, 25, Sampling(repetition_penalty=1.6)), expected)
    assert not torch.equal(generate(model, prompt, 25), expected)


def test_an_end_ends_a_row_and_the_batch(model):
    prompt = prompts(model.config)
    plain = generate(model, prompt, 20)
    end = int(plain[0, 7 + 4])
    found = generate(model, prompt, 20, end=[end])
    expected = as_theirs(model).generate(
        prompt,
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        attention_mask=prompt * 0 + 1,
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("cache", ["joined", "preallocated"])
def test_cached_logits_are_the_uncached(model, cache):
    config = model.config
    ids = prompts(config, 3, 40)
    whole = model(ids)
    for split in (1, 13, 39):
        kv = KVCache(config.num_hidden_layers)
        if cache == "preallocated":
            kv = PreallocatedCache(config, 3, 40)
        with torch.inference_mode():
            logits = [prefill(model, ids[:, :split], kv)]
            logits += [decode(model, ids[:, i], kv) for i in range(split, 40)]
        found = torch.stack(logits, dim=1)
        assert (found - whole[:, split - 1 :]).abs().max() < 1e-5 * whole.abs().max().clamp(min=1)
        assert len(kv) == 40


def test_several_tokens_onto_a_cache(model):
    ids = prompts(model.config, 1, 20)
    kv = PreallocatedCache(model.config, 1, 20)
    with torch.inference_mode():
        for a, b in ((0, 5), (5, 6), (6, 20)):
            found = model(ids[:, a:b], kv)
            assert torch.allclose(found, model(ids)[:, a:b], atol=1e-4)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.9, top_k=20, top_p=0.9, seed=3)])
def test_with_a_cache_and_without_come_the_same_tokens(model, sampling):
    prompt = prompts(model.config)
    found = generate(model, prompt, 25, sampling)
    assert torch.equal(found, generate_without_cache(model, prompt, 25, sampling))


def test_a_seed_gives_a_text_and_another_another(model):
    prompt = prompts(model.config, 1)
    texts = [generate(model, prompt, 25, Sampling(1.2, seed=s)).tolist() for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_cache_takes_what_the_formula_says():
    config = SHAPES["grouped"]
    cache = PreallocatedCache(config, 3, 10)
    assert cache.nbytes == 2 * 3 * config.num_hidden_layers * 2 * config.head_dim * 10 * 4
    with pytest.raises(ValueError, match="11 tokens, and the cache has room for 10"):
        random_model(config)(prompts(config, 3, 11), cache)


@pytest.mark.parametrize(
    ("prompt", "new", "said"),
    [
        ([], 5, "the prompt is empty"),
        (list(range(65)), 5, "the prompt has 65 tokens, and the model's context is 64"),
        (list(range(60)), 5, "60 tokens of prompt and 5 new ones"),
        ([1, 2], -1, "new_tokens is -1"),
        ([1, 97], 5, "the prompt holds 1 to 97"),
        ([-1], 5, "the prompt holds -1 to -1"),
        ([0.5], 5, "the prompt holds 0.5"),
    ],
)
def test_a_prompt_that_cannot_be_continued(prompt, new, said):
    model = random_model(SHAPES["grouped"])
    with pytest.raises(PromptError, match=said) as error:
        tokens(model, torch.tensor(prompt), new)  # at once, and not when the first token is asked
    assert str(error.value).count("\n") == 2


def test_the_last_position_can_be_filled():
    model = random_model(SHAPES["grouped"])
    assert generate(model, torch.arange(60), 4).shape == (1, 64)
    assert generate(model, torch.arange(64), 0).shape == (1, 64)


def test_a_temperature_that_cannot_be():
    for t in (-1.0, math.nan):
        with pytest.raises(SamplingError):
            Sampling(temperature=t)


# --- text -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bytewise():
    """A vocabulary of bytes alone: each Chinese character is three tokens."""
    return bpe.Tokenizer([], ["<|end|>"])


@pytest.fixture
def says(bytewise, monkeypatch):
    """`says(text)`: the steps of a model that says this text."""

    def use(text, after=""):
        def steps(model, ids, new_tokens, sampling, end):
            for id in bytewise.encode(text + after)[:new_tokens]:
                taken.append(id)
                yield torch.tensor([id])

        taken = []
        monkeypatch.setattr("aiinfra_labs.llm.generation.tokens", steps)
        return taken

    return use


def test_text_comes_in_whole_characters(bytewise, says):
    says("它很甜。")
    assert list(stream_generate(None, bytewise, "x", 99)) == ["它", "很", "甜", "。"]
    assert list(stream_generate(None, bytewise, "x", 4)) == ["它", "�"]


def test_text_ends_before_a_stop_string_and_no_token_is_asked_for_after_it(bytewise, says):
    taken = says("a\nb\n\nc", after="d" * 50)
    assert list(stream_generate(None, bytewise, "x", 99, stop=["\n\n"])) == ["a", "\nb"]
    assert len(taken) == len("a\nb\n\n")


def test_what_was_held_back_comes_at_the_end(bytewise, says):
    says("a\n")
    assert "".join(stream_generate(None, bytewise, "x", 99, stop=["\n\n"])) == "a\n"


def test_text_ends_before_an_end(bytewise, says):
    says("ab<|end|>c")
    end = bytewise.special["<|end|>"]
    assert "".join(stream_generate(None, bytewise, "x", 99, end=[end])) == "ab"


def test_the_joined_stream_is_the_decoded_text():
    torch.manual_seed(0)
    tokenizer = bpe.Tokenizer([], ["<|end|>"])
    model = random_model(LlamaConfig(len(tokenizer), 32, 48, 2, 4, 2, 128))
    sampling = Sampling(1.0, seed=2)
    ids = generate(model, torch.tensor(tokenizer.encode("def")), 90, sampling)
    pieces = list(stream_generate(model, tokenizer, "def", 90, sampling))
    assert "".join(pieces) == tokenizer.decode(ids[0, 3:].tolist())
    assert all(pieces) and len(pieces) > 30
