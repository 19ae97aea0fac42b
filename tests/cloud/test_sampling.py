"""The choice of all rows at once is unit 1.5's choice of each."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.cloud.serving.errors import RequestError
from aiinfra_labs.cloud.serving.sampling import choose, draw, penalised, race, shares
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.llm import sampling as one

settings_of_a_row = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 3, 1000]),
    top_p=st.sampled_from([0.0, 0.4, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.2, 1.0]),
)


def rows_of(count, seed, ties):
    logits = 3 * torch.randn(count, 23, generator=torch.Generator().manual_seed(seed))
    return logits.round() if ties else logits


@given(
    rows=st.lists(settings_of_a_row, min_size=1, max_size=6),
    seed=st.integers(0, 99),
    ties=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_each_row_is_as_if_it_were_alone(rows, seed, ties):
    logits = rows_of(len(rows), seed, ties)
    found = shares(logits, rows)
    for row, params in enumerate(rows):
        alone = one.Sampling(params.temperature, params.top_k, params.top_p, params.min_p)
        expected = alone(logits[row : row + 1], torch.zeros(1, 1, dtype=torch.int64)).softmax(-1)[0]
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=0)


def test_a_row_draws_the_same_in_any_company():
    logits = rows_of(5, 0, False)
    params = [SamplingParams(temperature=t) for t in (1.0, 0.0, 2.0, 0.5, 1.0)]
    together = choose(logits, params, [torch.Generator().manual_seed(i) for i in range(5)])
    for i in range(5):
        alone = choose(logits[i : i + 1], [params[i]], [torch.Generator().manual_seed(i)])
        assert alone == together[i]


@pytest.mark.parametrize("by", [draw, race])
def test_draws_are_as_often_as_their_shares(by):
    share = torch.tensor([0.5, 0.0, 0.25, 0.25])
    chance = torch.Generator().manual_seed(0)
    drawn = by(share.expand(20_000, -1), [chance] * 20_000)
    often = torch.bincount(drawn, minlength=4) / 20_000
    assert often[1] == 0
    torch.testing.assert_close(often, share, atol=0.012, rtol=0)


def test_the_penalty_is_unit_1_5s():
    logits = rows_of(1, 3, False)
    tokens = [4, 7, 7, 1]
    expected = one.repetition_penalty(logits, torch.tensor([tokens]), 1.3)[0]
    assert torch.equal(penalised(logits[0], tokens, 1.3), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"min_p": -1}, "min_p is -1"),
        ({"top_k": -2}, "top_k is -2"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"n": 0}, "n is 0"),
        ({"n": 2}, "all samples would be the same"),
        ({"stop": [""]}, "empty string"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"min_tokens": 20}, "min_tokens is 20 and max_tokens 16"),
        ({"beam_width": 2, "temperature": 1.0}, "beam search with"),
        ({"json": True, "min_tokens": 2}, "json and min_tokens"),
    ],
)
def test_settings_that_nothing_can_have(wrong, message):
    with pytest.raises(RequestError, match=message) as error:
        SamplingParams(**wrong)
    assert str(error.value).count("\n") == 2


def test_one_stop_string_need_not_be_a_list():
    assert SamplingParams(stop="\n").stop == ("\n",)
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")
