"""Workloads have the shapes that were published, and the same ones for the same seed."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aiinfra_labs.cloud.serving import workloads
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.workloads import Load, Spread, Text, digest, merge, scale_for
from aiinfra_labs.course import facts
from aiinfra_labs.llm import corpus, page_model
from aiinfra_labs.llm.bpe import Tokenizer

FACTS = facts.load("cloud")
TEXT = Text(range(5000))
SINGLE = {
    "chat": workloads.chat,
    "shared_prefix": workloads.shared_prefix,
    "long_documents": workloads.long_documents,
}
ALL = SINGLE | {"agents": workloads.agents}


def lengths(requests):
    """float64 [n] each: tokens of prompts, tokens of answers."""
    prompts = np.array([len(r.prompt_tokens) for r in requests], float)
    return prompts, np.array([r.new_tokens for r in requests], float)


def sessions(requests):
    found = defaultdict(list)
    for request in sorted(requests, key=lambda r: r.turn):
        found[request.session].append(request)
    return found


# --- the published figures ------------------------------------------------------------------------


def test_chat_has_the_means_of_sharegpt():
    prompts, answers = lengths(workloads.chat(20_000, Load(text=TEXT)))
    assert prompts.mean() == pytest.approx(FACTS["sharegpt.prompt_mean"].value, rel=0.03)
    assert answers.mean() == pytest.approx(FACTS["sharegpt.answer_mean"].value, rel=0.03)
    for what, found in (("prompt", prompts), ("answer", answers)):
        spread = FACTS[f"openchat.{what}_p90"].value / FACTS[f"openchat.{what}_median"].value
        assert np.quantile(found, 0.9) / np.median(found) == pytest.approx(spread, rel=0.04)


def test_documents_have_the_quantiles_of_arxiv_summarization():
    prompts, answers = lengths(workloads.long_documents(3000, Load(text=TEXT)))
    for what, found in (("prompt", prompts), ("answer", answers)):
        assert np.median(found) == pytest.approx(
            FACTS[f"arxiv_summary.{what}_median"].value, rel=0.04
        )
        assert np.quantile(found, 0.9) == pytest.approx(
            FACTS[f"arxiv_summary.{what}_p90"].value, rel=0.04
        )
    assert np.median(prompts) > 30 * np.median(answers)


def test_agents_have_the_means_of_swe_bench():
    """At a fiftieth of the length, which spares the test most of its work."""
    tasks = sessions(workloads.agents(500, Load(text=TEXT, scale=0.02)))
    fact = {name: FACTS[f"coding_agent.{name}"].value for name in (
        "calls_median", "calls_p90", "calls_mean", "first_context", "last_context", "answers",
        "delay_median", "delay_p99",
    )}  # fmt: skip
    calls = np.array([len(task) for task in tasks.values()])
    assert np.median(calls) == pytest.approx(fact["calls_median"], rel=0.05)
    assert np.quantile(calls, 0.9) == pytest.approx(fact["calls_p90"], rel=0.05)
    assert calls.mean() == pytest.approx(fact["calls_mean"], rel=0.1)  # a log-normal's is 34
    last = np.array([len(task[-1].prompt_tokens) for task in tasks.values()])
    assert {len(task[0].prompt_tokens) for task in tasks.values()} == {
        round(0.02 * fact["first_context"])
    }
    assert last.mean() == pytest.approx(0.02 * fact["last_context"], rel=0.07)
    answers = [sum(r.new_tokens for r in task) for task in tasks.values()]
    assert np.mean(answers) == pytest.approx(0.02 * fact["answers"], rel=0.07)
    waits = np.concatenate([np.diff([r.arrival for r in task]) for task in tasks.values()])
    assert np.median(waits) == pytest.approx(fact["delay_median"], rel=0.03)
    assert np.quantile(waits, 0.99) == pytest.approx(fact["delay_p99"], rel=0.06)


def test_an_agents_prompts_are_mostly_in_the_cache():
    """What a cache of unlimited size would find: the last prompt and answer, then new tokens."""
    cached = total = 0
    for task in sessions(workloads.agents(200, Load(text=TEXT, scale=0.02))).values():
        for before, request in zip(task, task[1:], strict=False):
            known = len(before.prompt_tokens)
            assert request.prompt_tokens[:known] == before.prompt_tokens
            assert len(request.prompt_tokens) > known + before.new_tokens
            cached += known + before.new_tokens
        total += sum(len(request.prompt_tokens) for request in task)
    published = FACTS["coding_agent.hit_rate"].value / 100
    assert cached / total == pytest.approx(published, abs=0.03)


def test_a_shared_prefix_is_shared():
    requests = workloads.shared_prefix(300, Load(text=TEXT), prefixes=3)
    length = FACTS["shared_prefix.tokens"].value
    beginnings = {tuple(r.prompt_tokens[:length]) for r in requests}
    assert len(beginnings) == 3
    assert len({tuple(r.prompt_tokens[: length + 8]) for r in requests}) > 250
    assert all(len(r.prompt_tokens) > length for r in requests)
    again = workloads.shared_prefix(10, Load(text=TEXT, rate=3.0), prefixes=3)
    assert {tuple(r.prompt_tokens[:length]) for r in again} <= beginnings


def test_chat_shares_nothing():
    requests = workloads.chat(300, Load(text=TEXT))
    assert len({tuple(r.prompt_tokens[:4]) for r in requests}) > 280
    assert sorted(r.session for r in requests) == list(range(300))


# --- arrivals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_arrivals(burstiness):
    """By the distribution's own test: intervals are gamma, and at 1 exponential."""
    load = Load(rate=5.0, burstiness=burstiness, text=TEXT, scale=0.01)
    arrivals = np.array([r.arrival for r in workloads.chat(4000, load)])
    intervals = np.diff(arrivals)
    assert (intervals >= 0).all() and intervals.mean() == pytest.approx(1 / 5, rel=0.1)
    assert intervals.std() / intervals.mean() == pytest.approx(burstiness**-0.5, rel=0.1)
    expected = stats.gamma(burstiness, scale=1 / (5 * burstiness))
    assert stats.kstest(intervals + 1e-7, expected.cdf).pvalue > 0.01
    if burstiness == 1:
        assert stats.kstest(intervals, stats.expon(scale=1 / 5).cdf).pvalue > 0.01


def test_all_at_once():
    assert {r.arrival for r in workloads.chat(20, Load(text=TEXT))} == {0.0}


def test_the_rate_changes_arrivals_alone():
    slow = workloads.chat(50, Load(rate=1.0, text=TEXT))
    bursts = workloads.chat(50, Load(rate=9.0, burstiness=0.5, text=TEXT))
    assert [r.arrival for r in slow] != [r.arrival for r in bursts]
    assert [r.prompt_tokens for r in slow] == [r.prompt_tokens for r in bursts]
    assert [r.new_tokens for r in slow] == [r.new_tokens for r in bursts]


# --- size -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(ALL)),
    st.integers(0, 2**32),
    st.floats(0.001, 0.6),
    st.integers(2, 2000),
)
def test_nothing_is_longer_than_the_context(kind, seed, scale, context):
    load = Load(rate=2.0, seed=seed, scale=scale, context=context, text=TEXT)
    for request in ALL[kind](5, load):
        assert request.prompt_tokens and request.new_tokens >= 1
        assert len(request.prompt_tokens) + request.new_tokens <= context
        assert request.kind == kind and request.arrival >= 0


@pytest.mark.parametrize("kind", sorted(SINGLE))
def test_the_courses_model_reads_99_of_100_whole(kind):
    requests = SINGLE[kind](2000, Load(text=TEXT, scale=scale_for(kind)))
    prompts, answers = lengths(requests)
    assert 0.98 < np.mean(prompts + answers <= 1024) <= 1.0


def test_agents_work_within_the_courses_model():
    load = Load(text=TEXT, scale=scale_for("agents"), context=1024)
    tasks = sessions(workloads.agents(100, load))
    assert np.mean([len(task) for task in tasks.values()]) > 20
    assert all([r.turn for r in task] == list(range(len(task))) for task in tasks.values())


def test_no_need_to_shrink():
    assert scale_for("chat", 10**6) == 1.0
    with pytest.raises(ServingError, match="no workload 'chats'"):
        scale_for("chats")


def test_merged_by_arrival():
    load = Load(rate=5.0, text=TEXT, scale=0.05)
    parts = [workloads.chat(30, load), workloads.agents(3, load), workloads.chat(20, load)]
    requests = merge(*parts)
    assert len(requests) == sum(map(len, parts))
    assert [r.arrival for r in requests] == sorted(r.arrival for r in requests)
    kinds = {session: {r.kind for r in turns} for session, turns in sessions(requests).items()}
    assert sorted(kinds) == list(range(30 + 3 + 20)) and all(len(k) == 1 for k in kinds.values())
    assert merge() == []


# --- the same for the same seed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("chat", "9f4b05c21838ad3f"),
        ("shared_prefix", "d5a2684385c3262c"),
        ("long_documents", "bf3715d4d405a84d"),
        ("agents", "41367fc5d7a26272"),
    ],
)
def test_the_same_on_every_machine(kind, expected):
    load = Load(rate=3.0, burstiness=0.5, seed=11, scale=scale_for(kind), context=1024, text=TEXT)
    assert digest(ALL[kind](25, load)) == expected
    other = Load(**{**vars(load), "seed": 12})
    assert digest(ALL[kind](25, other)) != expected


def test_text_of_the_held_out_documents():
    tokenizer = Tokenizer.load(page_model.folder() / "tokenizer.json")
    text = workloads.held_out_text(tokenizer, 3000)
    assert len(text.tokens) == 3000
    held_out = next(d.text for d in corpus.documents() if d.held_out)
    assert held_out.startswith(tokenizer.decode(text.tokens[:50]))
    (request,) = workloads.chat(1, Load(text=text, seed=3))
    assert tokenizer.decode(request.prompt_tokens) in 2 * tokenizer.decode(text.tokens)


@pytest.mark.parametrize("length", [0, 1, 7, 23])
def test_a_passage_goes_on_at_the_beginning(length):
    passage = Text(range(7)).passage(np.random.default_rng(0), length)
    assert len(passage) == length
    assert all((b - a) % 7 == 1 for a, b in zip(passage, passage[1:], strict=False))


@given(st.floats(1, 1e5), st.floats(0.01, 2.0))
def test_a_spread_by_mean_and_by_quantile(value, sigma):
    reference = stats.lognorm(sigma, scale=value)
    spread = Spread(value, sigma)
    assert spread.mean == pytest.approx(reference.mean())
    assert spread.quantile(workloads.Z90) == pytest.approx(reference.ppf(0.9))
    assert spread.quantile(workloads.Z99) == pytest.approx(reference.ppf(0.99))
    assert Spread.of_mean(spread.mean, sigma).median == pytest.approx(value)
    again = Spread.of_quantile(value, spread.quantile(workloads.Z99), workloads.Z99)
    assert again.sigma == pytest.approx(sigma)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": -1.0}, "rate is -1"),
        ({"rate": math.nan}, "rate is nan"),
        ({"burstiness": 0.0}, "burstiness is 0"),
        ({"burstiness": math.inf}, "burstiness is inf"),
        ({"scale": 0.0}, "scale is 0"),
        ({"context": 1}, "context is 1"),
    ],
)
def test_a_load_that_cannot_be(wrong, what):
    with pytest.raises(ServingError, match=what):
        Load(**wrong)


def test_what_else_cannot_be():
    with pytest.raises(ServingError, match="no text"):
        Text([])
    with pytest.raises(ServingError, match="0 prefixes"):
        workloads.shared_prefix(1, Load(text=TEXT), prefixes=0)
