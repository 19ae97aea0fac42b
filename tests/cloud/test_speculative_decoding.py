"""Speculation draws what the model draws: 100,000 samples against the model's own distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aiinfra_labs.cloud.serving import speedup
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.speculative import PromptLookup, accept, accept_greedy
from aiinfra_labs.llm import phases
from aiinfra_labs.llm.scale.shapes import shape

SAMPLES, WORDS, K = 100_000, 4, 2
RNG = np.random.default_rng(0)
# What follows each token, for model and draft: float64 [WORDS + 1, WORDS], the last row at first.
MODEL, DRAFT = (RNG.dirichlet(np.ones(WORDS), WORDS + 1) for _ in range(2))


def drawn(rows, rng):
    """A token from each row of shares: int64 [N]."""
    sums = rows.cumsum(axis=1)
    return (rng.random((len(rows), 1)) * sums[:, -1:] > sums).sum(axis=1)


def sampled(rule, count=SAMPLES, seed=1):
    """`count` steps of speculation by a rule: a list of token lists, 1 to K + 1 long each."""
    rng, chance = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    first = drawn(np.repeat(DRAFT[-1:], count, axis=0), rng)
    drafts = np.stack([first, drawn(DRAFT[first], rng)], axis=1)  # [N, K]
    p, q = torch.from_numpy(MODEL), torch.from_numpy(DRAFT)
    found = []
    for draft in drafts.tolist():
        rows = [-1, *draft]
        found.append(rule(p[rows], draft, q[rows[:-1]], chance))
    return found


def p_values(found):
    """Of chi-squared: the first token, and the one behind each first token."""
    values = [_p_value([f[0] for f in found], MODEL[-1])]
    for token in range(WORDS):
        second = [f[1] for f in found if len(f) > 1 and f[0] == token]
        values.append(_p_value(second, MODEL[token]))
    return np.array(values)


def _p_value(tokens, shares):
    counts = np.bincount(tokens, minlength=WORDS)
    return stats.chisquare(counts, len(tokens) * shares / shares.sum()).pvalue


def test_100_000_samples_are_distributed_as_the_model():
    found = sampled(accept)
    assert len(found) == SAMPLES
    assert (p_values(found) > 1e-3).all()
    kept = np.mean([len(f) > 1 for f in found])  # corollary 3.6: the first draft is accepted
    assert kept == pytest.approx(np.minimum(MODEL[-1], DRAFT[-1]).sum(), abs=0.01)


def again_from_p(model, draft, drawn_from, chance):
    """The mistake that is made most: what comes instead is drawn from p."""
    for place, token in enumerate(draft):
        p, q = model[place], drawn_from[place]
        if torch.rand((), generator=chance, dtype=torch.float64) * q[token] >= p[token]:
            return [*draft[:place], int(torch.multinomial(p, 1, generator=chance))]
    return [*draft, int(torch.multinomial(model[-1], 1, generator=chance))]


def test_the_test_finds_a_wrong_rule():
    assert p_values(sampled(again_from_p, 5_000)).min() < 1e-9


def test_a_draft_that_was_no_draw():
    """Prompt lookup: q is 1 at its token."""
    chance = torch.Generator().manual_seed(0)
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    found = [accept(p, [1], None, chance) for _ in range(10_000)]
    counts = np.bincount([f[0] for f in found], minlength=3)
    assert stats.chisquare(counts, 10_000 * p[0].double().numpy()).pvalue > 1e-3
    assert {len(f) for f in found if f[0] == 1} == {2}
    assert all(len(f) == 1 for f in found if f[0] != 1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_certain_cases(data):
    size = data.draw(st.integers(2, 6))
    shares = st.lists(st.floats(0.01, 1), min_size=size, max_size=size)
    p = torch.tensor(data.draw(shares), dtype=torch.float64)
    p /= p.sum()
    token = data.draw(st.integers(0, size - 1))
    chance = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    rows = torch.stack([p, p])
    assert accept(rows, [token], p[None], chance)[0] == token  # p = q: always accepted
    without = torch.where(torch.arange(size) == token, 0, p)
    found = accept(torch.stack([without, p]), [token], p[None], chance)
    assert len(found) == 1 and found[0] != token  # p is 0 there: never
    assert 0 <= found[0] < size
    assert len(accept(rows, [], None, chance)) == 1


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), min_size=7, max_size=7))
def test_greedy_is_the_common_beginning_and_one_more(draft, chosen):
    found = accept_greedy(chosen[: len(draft) + 1], draft)
    assert found == chosen[: len(found)] and found[:-1] == draft[: len(found) - 1]
    assert len(found) == len(draft) + 1 or found[-1] != draft[len(found) - 1]


# --- prompt lookup ------------------------------------------------------------------------------


def by_hand(ids, count, longest, shortest):
    for size in range(longest, shortest - 1, -1):
        for start in range(len(ids) - size - 1, -1, -1):
            if size < len(ids) and ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return []


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 2),
)
@settings(max_examples=300, deadline=None)
def test_lookup(ids, count, shortest, more):
    proposer = PromptLookup(5, shortest + more, shortest)
    assert proposer.lookup(ids, count) == by_hand(ids, count, shortest + more, shortest)


@pytest.mark.parametrize(("most", "longest", "shortest"), [(0, 3, 1), (4, 2, 3), (4, 3, 0)])
def test_a_lookup_that_cannot_be(most, longest, shortest):
    with pytest.raises(ServingError, match="a lookup of"):
        PromptLookup(most, longest, shortest)


# --- how much faster ----------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.0, 0.3, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_expected_tokens_are_those_of_a_simulation(a, k):
    found = speedup.simulate(a, k, 50_000)
    assert found.min() >= 1 and found.max() <= k + 1
    error = 5 * found.std() / len(found) ** 0.5
    assert speedup.expected_tokens(a, k) == pytest.approx(found.mean(), abs=error + 1e-12)
    assert speedup.expected_tokens(a, k) == pytest.approx(sum(a**i for i in range(k + 1)))


def test_the_papers_own_numbers():
    """Leviathan et al., table 2: T5-XXL, temperature 0, English to German and summaries."""
    assert speedup.speedup(0.75, 7, 0.02) == pytest.approx(3.2, abs=0.1)
    assert speedup.speedup(0.65, 5, 0.02) == pytest.approx(2.4, abs=0.1)


@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 0.5), min_size=0, max_size=6))
@settings(deadline=None)
def test_the_best_is_no_slower_than_any(a, c, steps):
    verify = np.cumsum([1.0, *steps]).tolist()
    k, found = speedup.best_drafts(a, c, verify)
    each = [1.0] + [speedup.speedup(a, n, c, verify[n]) for n in range(1, len(verify))]
    assert found == max(each) and each.index(found) == k


def test_a_verified_step_reads_what_a_step_reads():
    llama = shape("llama-3-8b")
    one, four = phases.decode(llama, 2048, 8), speedup.verify(llama, 2048, 3, 8)
    assert four.bytes == one.bytes and four.flops == 4 * one.flops
    assert speedup.verify(llama, 2048, 0, 8) == one


def test_drafts_that_products_must_pay_for_do_not_hide_behind_the_cache():
    """256 sequences of 2,048 tokens: five tokens each are 1,280 rows, over the ridge of 295."""
    llama, peak, bandwidth = shape("llama-3-8b"), 989.4e12, 3.35e12
    one, five = (speedup.verify(llama, 2048, k, 256).seconds(peak, bandwidth) for k in (0, 4))
    assert five / one == pytest.approx(1.6, abs=0.01)
    assert speedup.speedup(0.7, 4, 0.05, five / one) == pytest.approx(1.54, abs=0.01)
