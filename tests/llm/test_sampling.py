"""Each filter is `transformers`' own, on random logits; and a draw has the softmax's odds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers.generation import logits_process as theirs

from aiinfra_labs.llm import sampling
from aiinfra_labs.llm.sampling import Sampling, SamplingError, draw, entropy

IDS = torch.zeros(1, 1, dtype=torch.int64)


def random_logits(seed, rows=4, vocabulary=300):
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def same(ours, expected):
    """Equal probabilities, and the same tokens ruled out."""
    assert torch.equal(ours == -math.inf, expected == -math.inf)
    assert torch.allclose(ours.softmax(-1), expected.softmax(-1), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("t", [0.05, 0.7, 1.0, 1.5, 30.0])
def test_temperature(seed, t):
    logits = random_logits(seed)
    same(sampling.temperature(logits, t), theirs.TemperatureLogitsWarper(t)(IDS, logits))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 50, 299, 300, 1000])
def test_top_k(seed, k):
    logits = random_logits(seed).round(decimals=1)  # with ties
    assert torch.equal(sampling.top_k(logits, k), theirs.TopKLogitsWarper(k)(IDS, logits))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 0.5, 0.9, 0.95, 0.999, 1.0])
def test_top_p(seed, p):
    logits = random_logits(seed)
    assert torch.equal(sampling.top_p(logits, p), theirs.TopPLogitsWarper(p)(IDS, logits))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("p", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_min_p(seed, p):
    logits = random_logits(seed)
    assert torch.equal(sampling.min_p(logits, p), theirs.MinPLogitsWarper(p)(IDS, logits))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.1, 2.0])
def test_repetition_penalty(seed, penalty):
    logits = random_logits(seed)
    ids = torch.randint(300, (4, 40), generator=torch.Generator().manual_seed(seed))
    ids[:, 1] = ids[:, 0]  # a token that stands there twice
    expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
    assert torch.equal(sampling.repetition_penalty(logits, ids, penalty), expected)


@pytest.mark.parametrize("seed", range(5))
def test_all_in_a_row(seed):
    logits = random_logits(seed)
    ids = torch.randint(300, (4, 9), generator=torch.Generator().manual_seed(seed))
    expected = logits
    for step in (
        theirs.RepetitionPenaltyLogitsProcessor(1.3),
        theirs.TemperatureLogitsWarper(1.4),
        theirs.TopKLogitsWarper(60),
        theirs.TopPLogitsWarper(0.9),
        theirs.MinPLogitsWarper(0.05),
    ):
        expected = step(ids, expected)
    found = Sampling(1.4, top_k=60, top_p=0.9, min_p=0.05, repetition_penalty=1.3)(logits, ids)
    same(found, expected)


def test_top_p_keeps_the_token_that_crosses():
    logits = torch.tensor([0.25, 0.5, 0.125, 0.125]).log()[None]
    kept = [(sampling.top_p(logits, p)[0] > -math.inf).tolist() for p in (0.5, 0.6, 0.75, 0.8)]
    assert kept[0] == [False, True, False, False]
    assert kept[1] == kept[2] == [True, True, False, False]
    assert kept[3] == [True, True, False, True]  # of two that tie, the larger id


def test_temperature_zero_takes_the_first_of_the_largest():
    logits = torch.tensor([[1.0, 7.0, 7.0, -math.inf]])
    assert sampling.temperature(logits, 0).softmax(-1).tolist() == [[0, 1, 0, 0]]
    assert Sampling().choose(logits, IDS, Sampling().generators(IDS)).tolist() == [1]


def test_a_tiny_temperature_gives_no_nan():
    logits = torch.tensor([[1.0, 7.0, 3.0, -math.inf]])
    assert sampling.temperature(logits, 1e-38).softmax(-1).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("temperature", t) for t in (-0.1, math.nan, math.inf)),
        *(("top_k", k) for k in (0, -1)),
        *((name, p) for name in ("top_p", "min_p") for p in (-0.1, 1.1, math.nan)),
        *(("repetition_penalty", p) for p in (0.0, -1.0, math.nan)),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_any_work(setting, value):
    with pytest.raises(SamplingError, match=f"{setting} is {value}") as error:
        Sampling(**{"temperature": 1.0, setting: value})
    assert str(error.value).count("\n") == 2


@pytest.mark.parametrize("seed", range(3))
def test_draws_are_as_frequent_as_the_softmax_says(seed):
    logits = random_logits(seed, 1, 6) / 2
    logits[0, 3] = -math.inf
    chance = [torch.Generator().manual_seed(seed)]
    n = 4000
    drawn = torch.cat([draw(logits, chance) for _ in range(n)])
    counts = np.bincount(drawn.numpy(), minlength=6)
    expected = n * logits[0].softmax(-1).double().numpy()
    assert counts[3] == 0
    likely = np.arange(6) != 3
    expected = expected[likely] * counts.sum() / expected[likely].sum()
    assert stats.chisquare(counts[likely], expected).pvalue > 1e-3


def test_a_prompt_draws_the_same_in_any_company_and_place():
    logits, how = random_logits(0, 3), Sampling(temperature=1.0, seed=7)
    prompts = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    together = draw(logits, how.generators(prompts))
    for row, prompt in enumerate(prompts):
        assert draw(logits[row : row + 1], how.generators(torch.tensor([prompt]))) == together[row]
        for place in range(3):  # behind others, and before them
            company = [*prompts[:row], *prompts[row + 1 :]]
            company.insert(place, prompt)
            mixed = draw(logits[[row] * 3], how.generators(company))
            assert mixed[place] == together[row]


def numbers(seed, prompts):
    return [torch.rand((), generator=g).item() for g in Sampling(seed=seed).generators(prompts)]


def test_copies_of_a_prompt_draw_each_their_own_and_the_first_as_alone():
    drawn = numbers(3, [[1, 2], [1, 2], [5], [1, 2]])
    assert len(set(drawn)) == 4 and drawn[0] == numbers(3, [[1, 2]])[0]


def test_no_two_seeds_or_prompts_share_their_numbers():
    seeds = [*range(-50, 50), 2**63, 2**64 - 1]
    drawn = [x for s in seeds for x in numbers(s, [[1], [1], [2], [1, 2], [12], [0, 1]])]
    # of 600 numbers of 24 bits, one pair in a hundred runs would be equal by chance
    assert len(drawn) - len(set(drawn)) <= 1


@pytest.mark.parametrize("row", [[math.nan, 0, 0], [-math.inf] * 3, [0, math.inf, 0]])
def test_logits_that_leave_nothing_to_draw_are_told(row):
    logits = torch.tensor([[0.0, 1, 2], row])
    ids = torch.zeros(2, 1, dtype=torch.int64)
    for how in (Sampling(), Sampling(temperature=1.0), Sampling(0.7, top_k=2, top_p=0.9)):
        with pytest.raises(SamplingError, match="the largest logit of row 1 is") as error:
            how.choose(logits, ids, how.generators([[0], [1]]))
        assert str(error.value).count("\n") == 2
    for function in (entropy, lambda x: draw(x, Sampling().generators([[0], [1]]))):
        with pytest.raises(SamplingError, match="the largest logit of row 1 is"):
            function(logits)


class Largest:
    """In place of torch.rand: the largest number below 1."""

    def __call__(self, *args, **kwargs):
        return torch.tensor(math.nextafter(1.0, 0.0), dtype=torch.float64)


@pytest.mark.parametrize("last", [-math.inf, -800.0, 0.0])
def test_the_largest_number_draws_a_token_that_can_be_drawn(monkeypatch, last):
    monkeypatch.setattr(torch, "rand", Largest())
    logits = torch.tensor([[0.3, 1.1, -0.4, last]] * 50) + torch.linspace(0, 3, 50)[:, None]
    drawn = draw(logits, Sampling().generators([[i] for i in range(50)]))
    assert ((drawn == 3) == (last == 0.0)).all() and (drawn >= 2).all()


@pytest.mark.parametrize("t", [1e-50, 1e-300, 5e-324, 1e-40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_temperature_that_the_type_rounds_to_zero_takes_the_likeliest(t, dtype):
    how, logits = Sampling(temperature=t), torch.tensor([[1.0, 2, 3, 0]], dtype=dtype)
    assert how.choose(logits, IDS, how.generators([[0]])).tolist() == [2]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.3, 0.5, 0.51, 0.75, 0.9])
def test_top_p_breaks_ties_by_the_larger_id(p):
    few = torch.zeros(1, 4)
    assert torch.equal(sampling.top_p(few, p), theirs.TopPLogitsWarper(p)(IDS, few))
    for logits in (torch.zeros(2, 50), random_logits(0).round()):
        kept = sampling.top_p(logits, p) > -math.inf
        # Of many, transformers' sort leaves open which of them; how many of each size is the same.
        expected = theirs.TopPLogitsWarper(p)(IDS, logits) > -math.inf
        for row in range(len(logits)):
            assert torch.equal(
                logits[row][kept[row]].sort()[0], logits[row][expected[row]].sort()[0]
            )
            for value in logits[row].unique():
                places = (logits[row] == value).nonzero().flatten()
                kept_here = kept[row][places].nonzero().flatten()
                assert kept_here.tolist() == [*range(len(places) - len(kept_here), len(places))]


def test_entropy_has_a_gradient_where_tokens_are_ruled_out():
    logits = torch.tensor([[0.0, 1.0, -math.inf]], requires_grad=True)
    entropy(logits).sum().backward()
    assert logits.grad[0, :2].isfinite().all() and logits.grad[0, :2].any()


def test_entropy():
    assert entropy(torch.zeros(1, 8)).item() == pytest.approx(3)
    assert entropy(sampling.temperature(random_logits(0), 0)).tolist() == [0] * 4
    logits = random_logits(1)
    expected = stats.entropy(logits.double().softmax(-1).numpy(), base=2, axis=-1)
    assert entropy(logits).numpy() == pytest.approx(expected, rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=30), st.floats(0.1, 3), st.floats(1.01, 3))
def test_entropy_grows_with_temperature(logits, t, factor):
    row = torch.tensor([logits], dtype=torch.float64)
    cold, warm = (entropy(sampling.temperature(row, x)).item() for x in (t, t * factor))
    assert warm >= cold - 1e-9
