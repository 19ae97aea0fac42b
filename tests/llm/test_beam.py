"""Beam search is `transformers`', and with enough beams the best of all texts."""

import itertools

import pytest
import torch
from random_models import SHAPES, as_theirs, prompts, random_model

from aiinfra_labs.llm.beam import beam_search
from aiinfra_labs.llm.generation import PromptError, generate
from aiinfra_labs.llm.llama import LlamaConfig


def theirs(model, prompt, beams, new_tokens, end, penalty):
    found = as_theirs(model).generate(
        prompt,
        attention_mask=prompt * 0 + 1,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=model.config.vocab_size - 1,
        length_penalty=penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return found.sequences[:, prompt.shape[1] :].tolist(), found.sequences_scores.tolist()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (4, 0.5), (5, 0.0)])
def test_it_is_transformers(name, beams, penalty):
    model = random_model(SHAPES[name], scale=3.0)
    for seed in range(3):
        prompt = prompts(model.config, 1, 5, seed)
        for end in (None, 3):
            expected, scores = theirs(model, prompt, beams, 12, end, penalty)
            found = beam_search(model, prompt[0], beams, 12, end, penalty)
            for text, ids, score in zip(found, expected, scores, strict=True):
                assert list(text.ids) == ids[: len(text.ids)], (seed, end)
                assert text.score == pytest.approx(score, abs=1e-4)


def test_with_all_beams_it_finds_the_likeliest_text():
    model = random_model(LlamaConfig(5, 16, 24, 2, 2, 1, 32))
    prompt = torch.tensor([1, 2])
    texts = list(itertools.product(range(5), repeat=4))
    with torch.inference_mode():
        rows = torch.cat((prompt.expand(len(texts), -1), torch.tensor(texts)), dim=1)
        logs = model(rows)[:, 1:-1].log_softmax(-1)
        sums = logs.gather(-1, rows[:, 2:, None])[..., 0].sum(-1)
    found = beam_search(model, prompt, 125, 4, length_penalty=0.0)
    assert found[0].ids == texts[int(sums.argmax())]
    assert found[0].score == pytest.approx(float(sums.max()), abs=1e-4)
    # One beam is greedy, and greedy missed it.
    greedy = beam_search(model, prompt, 1, 4, length_penalty=0.0)[0]
    assert list(greedy.ids) == generate(model, prompt, 4)[0, 2:].tolist()
    assert greedy.score < found[0].score


def test_no_beam_is_refused():
    model = random_model(SHAPES["grouped"])
    for beams, new in ((0, 3), (2, 0)):
        with pytest.raises(PromptError, match="is 0"):
            beam_search(model, torch.tensor([1]), beams, new)
