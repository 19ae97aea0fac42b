"""Sentences with 它, the models that read them, and what is said of these models."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch

from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm import coreference, pronoun_model
from aiinfra_labs.llm.coreference import (
    FITS,
    IT,
    NOUNS,
    TALK,
    Sentence,
    fill,
    held_out,
    pairs,
    sentences,
    talk_sentence,
)
from aiinfra_labs.llm.pronoun_model import (
    LONGEST,
    PronounConfig,
    PronounModel,
    accuracy,
    batch_of,
    load_stored,
    looked_at,
    train_pronouns,
)
from aiinfra_labs.llm.pronoun_study import (
    STRONG,
    detour_closed,
    hidden,
    look,
    names_absent,
    study,
    without_head,
)

MANY = 4000


@pytest.fixture(scope="module")
def training():
    return list(islice(sentences(1), MANY))


@pytest.fixture(scope="module")
def testing():
    return list(islice(sentences(1, test=True), MANY))


@pytest.fixture(scope="module")
def results():
    return measured("coreference")[0]


def seen_adjective(sentence):
    """The word behind the 很 behind 它."""
    assert sentence.words[sentence.it + 1] == "很"
    return sentence.words[sentence.it + 2]


# --- sentences ------------------------------------------------------------------------------------


def test_the_adjective_fits_the_noun_that_is_meant_and_no_other(training, testing):
    for sentence in training + testing:
        assert sentence.words[sentence.it] == IT and sentence.words.count(IT) == 1
        assert seen_adjective(sentence) in FITS[sentence.noun]
        if sentence.other is not None:
            assert seen_adjective(sentence) not in FITS[sentence.words[sentence.other]]
        named = [word for word in sentence.words if word in NOUNS]
        assert len(named) == (1 if sentence.other is None else 2)


def test_neither_order_nor_nearness_tells(training, testing):
    for some in (training, testing):
        two = [s for s in some if s.other is not None]
        first = sum(s.referent < s.other for s in two) / len(two)
        near = sum(abs(s.referent - s.it) < abs(s.other - s.it) for s in two) / len(two)
        assert abs(first - 0.5) < 0.04 and abs(near - 0.5) < 0.04


def test_the_test_s_pairs_are_met_by_no_training_sentence(training, testing):
    def met(some):
        return {frozenset((s.noun, s.words[s.other])) for s in some if s.other is not None}

    assert met(training) & met(testing) == set()
    assert len(met(testing)) == len(pairs(test=True)) / 2 >= 30
    assert {s.noun for s in testing} == {s.noun for s in training} == set(NOUNS)
    assert all(held_out(a, b) == held_out(b, a) for a, b in pairs(test=True))


def test_no_training_sentence_says_what_the_talk_says(training):
    many = [*training, *islice(sentences(0), 40_000)]
    assert not any(str(talk_sentence())[:-1] in str(sentence) for sentence in many)
    assert any("我喜欢吃苹果" in str(s) for s in many) and any("它很甜" in str(s) for s in many)


def test_every_word_is_known_and_no_sentence_is_too_long(training, testing):
    known = set(coreference.vocabulary())
    for sentence in training + testing:
        assert set(sentence.words) <= known and len(sentence.words) <= LONGEST
    assert len(known) == len(coreference.vocabulary())


def test_a_template_is_filled():
    assert fill("因为 它 很 X ， 我 用 A 换 了 B 。", "苹果", "饿", "小猫") == Sentence(
        ("因为", "它", "很", "饿", "，", "我", "用", "苹果", "换", "了", "小猫", "。"), 1, 10, 7
    )
    assert fill("我 看见 A ， 它 很 X 。", "苹果", "甜").other is None
    assert str(talk_sentence()) == "我喜欢吃苹果，它很甜。" and talk_sentence().noun == "苹果"
    assert talk_sentence().words == TALK


# --- the model ------------------------------------------------------------------------------------

SMALL = PronounConfig(size=16, heads=2, steps=3, batch=8)


def some_batch(model, count=20, seed=5):
    return batch_of(islice(sentences(seed, test=True), count), model.ids)


def test_an_unknown_word_is_named():
    model = PronounModel(SMALL)
    with pytest.raises(ValueError, match="the word 芒果 is not among the model's 63\nWhy.*\nTry"):
        batch_of([Sentence(("芒果", "，", "它"), 2, 0)], model.ids)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, causal=True), replace(SMALL, blind=True)])
def test_a_model_sees_what_it_may(config):
    torch.manual_seed(0)
    model = PronounModel(config)
    batch = some_batch(model)
    _, weights = model(batch.ids, batch.it)
    assert weights.shape == (20, 2, 2, batch.ids.shape[1], batch.ids.shape[1])
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    padding = (batch.ids == 0)[:, None, None, None, :].expand_as(weights)
    assert weights[padding].eq(0).all()
    after = torch.ones(weights.shape[-2:]).triu(1).bool().expand_as(weights)
    assert weights[after].eq(0).all() == config.causal
    nouns = [model.ids[noun] for noun in NOUNS]
    for i, it in enumerate(batch.it):
        at = [k for k, id in enumerate(batch.ids[i].tolist()) if id in nouns]
        assert weights[i, :, :, it, at].eq(0).all() == config.blind or config.causal
        if not config.causal:  # another word than 它 does see them
            assert weights[i, :, :, it - 1, at].gt(0).all()


def test_padding_changes_nothing():
    torch.manual_seed(0)
    model = PronounModel(SMALL).eval()
    short, long = (fill(t, "苹果", "甜", "桌子") for t in coreference.PAIRS[:4:3])
    alone, beside = (batch_of(some, model.ids) for some in ([short], [short, long]))
    torch.testing.assert_close(model(alone.ids, alone.it)[0][0], model(beside.ids, beside.it)[0][0])


def test_looked_at_is_the_weight_of_it_on_its_noun():
    model = PronounModel(SMALL)
    batch = some_batch(model)
    _, weights = model(batch.ids, batch.it)
    got = looked_at(weights, batch)
    for i in range(len(batch)):
        expected = weights[i, :, :, batch.it[i], batch.referent[i]]
        assert torch.equal(got[i], expected)


def test_training_lowers_the_loss():
    losses = []
    train_pronouns(replace(PronounConfig(), steps=120), lambda step, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_a_seed_gives_one_model_and_another_another():
    one, same, other = (train_pronouns(replace(SMALL, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)


def test_paid_it_looks_there():
    shares = []
    for pay in (0.0, 20.0):
        model = train_pronouns(replace(SMALL, steps=60, batch=32, pay=pay))
        batch = some_batch(model)
        shares.append(looked_at(model(batch.ids, batch.it)[1], batch).mean().item())
    assert shares[1] > shares[0] + 0.1


# --- what is taken away ---------------------------------------------------------------------------


def test_a_head_that_is_taken_away_adds_nothing():
    """Its columns of o_proj set to zero are the same model."""
    torch.manual_seed(0)
    model, same = PronounModel(SMALL), PronounModel(SMALL)
    same.load_state_dict(model.state_dict())
    batch = some_batch(model)
    with torch.no_grad():
        same.layers[1].attention.o_proj.weight[:, :8] = 0
        before = model(batch.ids, batch.it)[0]
        with without_head(model, 1, 0):
            got = model(batch.ids, batch.it)[0]
        torch.testing.assert_close(got, same(batch.ids, batch.it)[0])
        assert not torch.allclose(got, before)
        assert torch.equal(model(batch.ids, batch.it)[0], before)  # and it is back


def test_a_hidden_noun_is_hidden_from_it_alone():
    model = PronounModel(SMALL)
    batch = some_batch(model)
    _, before = model(batch.ids, batch.it)
    _, after = model(batch.ids, batch.it, hidden(model, batch, layers=[1]))
    looks = looked_at(after, batch)
    assert looks[:, 1].eq(0).all() and looks[:, 0].gt(0).all()
    assert torch.equal(after[:, 0], before[:, 0])
    others = torch.ones(after.shape[:-1], dtype=torch.bool)
    others[torch.arange(len(batch)), :, :, batch.it] = False
    torch.testing.assert_close(after[:, 1][others[:, 1]].gt(0), before[:, 1][others[:, 1]].gt(0))


# --- what is stored, and what is said of it -------------------------------------------------------


@pytest.mark.parametrize("name", ["free", "blind"])
def test_the_stored_models_are_those_of_the_results(name, results):
    model = load_stored(name)
    assert model.config == replace(PronounConfig(), blind=name == "blind")
    kept = results["ways"][name][0]
    found = study(model)
    assert found["accuracy"] > 0.95 and found["says"] == "苹果"
    for key in ("accuracy", "strong_test", "hidden"):
        assert found[key] == pytest.approx(kept[key], abs=0.005), key
    for key in ("talk", "test", "without_head", "hidden_in"):
        assert torch.tensor(found[key]).sub(torch.tensor(kept[key])).abs().max() < 0.01, key
    size = pronoun_model.stored_file(name).stat().st_size
    assert size < 200_000


def test_the_results_are_whole(results):
    assert results["config"] == json.loads(json.dumps(vars(PronounConfig())))
    for models in results["ways"].values():
        assert [m["seed"] for m in models] == list(range(len(results["ways"]["free"])))
    assert len(results["ways"]["free"]) >= 5


def test_what_the_page_says_of_the_results(results):
    """The findings, in words on the page, hold in the stored results."""
    ways = results["ways"]

    def most(model):
        return max(map(max, model["talk"]))

    assert all(most(m) == 0 and m["strong_test"] == 0 for m in ways["blind"])
    assert min(m["accuracy"] for m in ways["blind"]) > 0.95
    assert max(m["accuracy"] for m in ways["causal"]) < 0.5
    assert min(most(m) for m in ways["causal"]) > 0.9
    assert min(most(m) for m in ways["paid"]) > STRONG
    assert max(m["hidden"] for m in ways["free"]) < 0.5
    assert all(m["says"] == "苹果" for name in ("free", "blind", "paid") for m in ways[name])
    shares = [share for m in ways["free"] for layer in m["talk"] for share in layer]
    assert min(shares) < 0.05 and max(shares) > STRONG


def test_without_its_noun_the_free_model_guesses_one_that_the_adjective_fits(testing):
    """It names neither of the sentence's nouns, mostly, but one of which the adjective is said."""
    model, some = load_stored("free"), testing[:500]
    batch = batch_of(some, model.ids)
    masks = hidden(model, batch, [0, 1])
    with torch.no_grad():
        named = [NOUNS[i] for i in model(batch.ids, batch.it, masks)[0].argmax(-1)]
    absent = [(s, noun) for s, noun in zip(some, named, strict=True) if noun not in s.words]
    assert names_absent(model, batch, masks) == pytest.approx(len(absent) / len(some))
    assert len(absent) > len(some) / 2
    assert sum(seen_adjective(s) in FITS[noun] for s, noun in absent) > 0.95 * len(absent)
    assert names_absent(model, batch) < 0.05


def test_the_blind_model_needs_the_adjective_s_look_at_the_nouns(testing):
    model, some = load_stored("blind"), testing[:500]
    batch = batch_of(some, model.ids)
    seen, closed = model.seen(batch.ids), detour_closed(model, batch, [0])[0]
    for i, sentence in enumerate(some):
        adjective = sentence.words.index(seen_adjective(sentence), sentence.it)
        gone = (seen[i, 0] & ~closed[i, 0]).nonzero().tolist()
        assert gone == [[adjective, sentence.words.index(w)] for w in sentence.words if w in NOUNS]
    assert accuracy(model, batch, detour_closed(model, batch, [0])) < 0.5
    assert accuracy(model, batch, detour_closed(model, batch, [1])) > 0.95


def test_the_claim_s_figures_are_the_results(results):
    claim = next(c for c in all_claims() if c.id == "attention-coref")
    free, blind = results["ways"]["free"], results["ways"]["blind"]
    shares = [share for m in free for layer in m["talk"] for share in layer]
    with_one = sum(max(map(max, m["talk"])) >= STRONG for m in free)
    low, high = (f(m["accuracy"] for m in free) for f in (min, max))
    low_blind, high_blind = (f(m["accuracy"] for m in blind) for f in (min, max))
    for said in (
        f"{len(free)} small models",
        f"{low:.1%} to {high:.1%}",
        f"in {with_one} some head",
        f"{sum(s >= STRONG for s in shares)} of all {len(shares)} heads",
        f"{low_blind:.1%} to {high_blind:.1%}",
    ):
        assert said in claim.figure, said
    assert claim.verdict == "corrected"


def test_the_talk_s_sentence_is_read(results):
    says, looks = look(load_stored("free"), talk_sentence())
    assert says == "苹果" and looks.shape == (2, 4, 9, 9)
    assert accuracy(load_stored("blind"), some_batch(load_stored("blind"), 200)) > 0.95
