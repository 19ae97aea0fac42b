"""Unit 1.7: GRPO's terms by hand and by autograd; chains, their grading, and a run that learns."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from aiinfra_labs.llm.deepseek import chains, grpo, reasoner
from aiinfra_labs.llm.deepseek.chains import Chain
from aiinfra_labs.llm.deepseek.reasoner import NONE, Reinforcement, WarmUp
from aiinfra_labs.llm.llama import LlamaConfig

# --- the objective --------------------------------------------------------------------------------


def test_advantages_by_hand():
    found = grpo.advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert torch.allclose(found, torch.tensor([3.0, -1, -1, -1]) / math.sqrt(3), atol=1e-4)
    assert torch.equal(grpo.advantages(torch.tensor([[1.0, 1], [0, 0]])), torch.zeros(2, 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_advantages_are_numpys_standard_score(rewards):
    x = np.asarray(rewards)
    expected = (x - x.mean()) / (x.std() + 1e-6)
    found = grpo.advantages(torch.tensor(rewards, dtype=torch.float64))
    assert np.allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [  # inside; too far the good way (no slope); too far the wrong way (slope that brings it back)
        (1.1, 2.0, 2.2, 2.0),
        (1.5, 2.0, 2.4, 0.0),
        (0.5, 2.0, 1.0, 2.0),
        (0.9, -1.0, -0.9, -1.0),
        (0.5, -1.0, -0.8, 0.0),
        (1.5, -1.0, -1.5, -1.0),
    ],
)
def test_the_clip_by_hand(ratio, advantage, value, slope):
    x = torch.tensor(ratio, requires_grad=True)
    found = grpo.clipped_surrogate(x, torch.tensor(advantage), 0.2)
    found.backward()
    assert found.item() == pytest.approx(value) and x.grad.item() == pytest.approx(slope)


def test_the_kl_estimate_has_the_kls_mean():
    """Summed over a distribution, its mean is torch's KL(new || reference)."""
    new, reference = torch.randn(2, 12, dtype=torch.float64).log_softmax(-1)
    mean = (new.exp() * grpo.kl_estimate(new, reference)).sum()
    expected = F.kl_div(reference, new, log_target=True, reduction="sum")
    assert mean.item() == pytest.approx(expected.item())
    assert (grpo.kl_estimate(new, reference) >= 0).all()
    assert torch.equal(grpo.kl_estimate(new, new), torch.zeros(12, dtype=torch.float64))


def test_the_mean_is_over_each_answers_own_tokens():
    x = torch.tensor([[1.0, 2.0, 9.0], [5.0, 7.0, 9.0]])
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    assert grpo.mean_over_answers(x, mask).item() == pytest.approx((1 + 7) / 2)


def test_the_first_gradient_is_the_advantage():
    """Before any update the ratio is 1: d loss / d log p = -A / (G x the answer's tokens)."""
    old = torch.randn(3, 4)
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    new = old.clone().requires_grad_()
    advantage = torch.tensor([0.5, -1.0, 2.0])
    terms = grpo.objective(new, old, old, advantage, mask, clip=0.2, beta=0.3)
    terms.loss.backward()
    expected = -advantage[:, None] * mask / mask.sum(1, keepdim=True) / 3
    assert torch.allclose(new.grad, expected, atol=1e-6)
    assert terms.kl == 0 and terms.clipped == 0
    assert terms.surrogate == pytest.approx(0.5)  # the mean of the advantages


def test_the_whole_objective_by_plain_loops():
    generator = torch.Generator().manual_seed(5)
    new, old, held = (torch.randn(2, 3, 4, generator=generator) - 1 for _ in range(3))
    advantage = torch.randn(2, 3, generator=generator)
    mask = torch.tensor([[4, 2, 3], [1, 4, 2]])[..., None] > torch.arange(4)
    terms = grpo.objective(new, old, held, advantage, mask, clip=0.1, beta=0.2)
    total, cut = [], 0
    for q in range(2):
        for g in range(3):
            each = []
            for t in range(int(mask[q, g].sum())):
                ratio = math.exp(new[q, g, t] - old[q, g, t])
                a = float(advantage[q, g])
                gain = min(ratio * a, min(max(ratio, 0.9), 1.1) * a)
                cut += gain != ratio * a
                r = math.exp(held[q, g, t] - new[q, g, t])
                each.append(gain - 0.2 * (r - math.log(r) - 1))
            total.append(sum(each) / len(each))
    assert terms.loss.item() == pytest.approx(-sum(total) / 6, rel=1e-4)
    assert terms.clipped == pytest.approx(cut / int(mask.sum()))


# --- chains ---------------------------------------------------------------------------------------

CHAIN = Chain(3, (("+", 4), ("*", 3), ("+", 2)))


def test_a_chain_by_hand():
    assert CHAIN.question == "3+4*3+2=" and CHAIN.results == [2, 1, 3]
    assert CHAIN.solution(1) == ">2>1#3" and CHAIN.solution(2) == ">1#3"
    assert CHAIN.solution(3) == CHAIN.solution(NONE) == "#3"


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(0, 4),
    rest=st.lists(st.sampled_from(chains.OPERATIONS), min_size=1, max_size=8),
    stride=st.integers(1, 9),
)
def test_every_solution_is_rewarded_and_python_agrees(first, rest, stride):
    chain = Chain(first, tuple(rest))
    nested = str(first)
    for sign, digit in rest:
        nested = f"(({nested}){sign}{digit})%5"
    assert chain.results[-1] == eval(nested)
    text = chain.solution(stride)
    assert chain.reward(text) == 1
    assert chains.steps(text) == (len(rest) - 1) // stride
    assert chains.decode(chains.encode(text + "=12")) == text


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("#3", 1),
        (">4>4#3", 1),  # what was thought is not looked at
        (">2>1", 0),  # it never answers
        ("3", 0),
        ("#33", 0),
        ("#1", 0),
        ("", 0),
    ],
)
def test_only_the_answer_is_graded(text, reward):
    assert CHAIN.reward(text) == reward


def test_no_answer_is_likelier_than_another():
    asked = islice(chains.questions(0, (4,)), 4000)
    counts = np.bincount([c.results[-1] for c in asked], minlength=5)
    assert len(counts) == 5 and abs(counts / 4000 - 0.2).max() < 0.03


def test_no_held_out_question_is_trained_on():
    trained = set(islice((c.question for c in chains.questions(0, (2, 3))), 3000))
    held = set(islice((c.question for c in chains.questions(0, (2, 3), held_out=True)), 300))
    assert not trained & held and len(held) > 100


# --- the model ------------------------------------------------------------------------------------

TINY = LlamaConfig(len(chains.VOCABULARY), 32, 64, 1, 2, 2, 64)


def test_examples_ask_for_the_answers_tokens_alone():
    ids, targets = reasoner.examples([CHAIN, Chain(1, (("+", 1),))], [1, 1])
    assert "".join(chains.VOCABULARY[i] for i in ids[0]) == "3+4*3+2=>2>1#3"
    wanted = [chains.VOCABULARY[i] for i in targets[0] if i >= 0]
    assert wanted == [">2", ">1", "#3"]
    assert [chains.VOCABULARY[i] for i in targets[1] if i >= 0] == ["#2"]
    for row in range(2):  # a target is the next token
        for at, target in enumerate(targets[row].tolist()):
            assert target == -1 or target == ids[row, at + 1]


def test_a_rollouts_log_probabilities_are_those_it_was_drawn_with():
    """Greedy and drawn: token by token from the whole text, without a cache."""
    model = reasoner.new_model(3, TINY).eval()
    asked = list(islice(chains.questions(1, (3,)), 4))
    drawn = reasoner.rollout(model, asked, 2, 6, torch.Generator().manual_seed(0))
    t = drawn.mask.shape[-1]
    found = reasoner.log_probabilities(model, drawn.ids, t)
    rows = drawn.ids.flatten(0, 1)
    for row, ids in enumerate(rows):
        for i in range(t):
            start = len(ids) - t + i
            logits = model(ids[None, :start])[0, -1]
            expected = logits.log_softmax(-1)[ids[start]]
            assert found.flatten(0, 1)[row, i].item() == pytest.approx(expected.item(), abs=1e-4)
    greedy = reasoner.answer(model, rows[:, : len(chains.encode(asked[0].question))], 5, None)[0]
    text = torch.cat((rows[:, : len(chains.encode(asked[0].question))], greedy), 1)
    first = model(text[:, : len(chains.encode(asked[0].question))])[:, -1].argmax(-1)
    assert torch.equal(first, greedy[:, 0])


def test_nothing_follows_an_end():
    model = reasoner.new_model(3, TINY).eval()
    asked = list(islice(chains.questions(1, (2,)), 64))
    drawn = reasoner.rollout(model, asked, 1, 30, torch.Generator().manual_seed(0))
    for ids, mask in zip(drawn.ids.flatten(0, 1), drawn.mask.flatten(0, 1), strict=True):
        own = ids[-len(mask) :]
        ends = (torch.isin(own, torch.tensor(chains.ENDS))).nonzero()
        last = int(ends[0]) if len(ends) else len(mask) - 1
        assert mask.sum() == last + 1 and (own[last + 1 :] == chains.IDS[chains.PAD]).all()
    assert drawn.length == pytest.approx(float(drawn.mask.float().sum(-1).mean()))


def test_grpo_raises_what_is_rewarded(monkeypatch):
    """A rule that pays for answers that begin with '#': in a few steps most do."""
    monkeypatch.setattr(Chain, "reward", lambda self, text: float(text.startswith("#")))
    model = reasoner.new_model(0, TINY)
    shares, kls = [], []
    recipe = Reinforcement(
        steps=25, questions=4, answers=16, lengths=(2,), longest=4, learning_rate=3e-3
    )

    def note(step):
        shares.append(step.right)
        kls.append(step.kl)

    reasoner.reinforce(model, recipe, note)
    assert shares[0] < 0.4 and sum(shares[-3:]) / 3 > 0.8
    assert kls[-1] > kls[0] >= 0


def test_nothing_is_learned_where_nothing_is_ever_right(monkeypatch):
    monkeypatch.setattr(Chain, "reward", lambda self, text: 0.0)
    model = reasoner.new_model(0, TINY)
    before = [p.clone() for p in model.parameters()]
    steps = []
    recipe = Reinforcement(steps=2, questions=2, answers=4, lengths=(2,), longest=4, updates=1)
    reasoner.reinforce(model, recipe, steps.append)
    assert all(step.silent == 1 and step.right == 0 for step in steps)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-6)


def test_a_token_has_its_price():
    model = reasoner.new_model(0, TINY).eval()
    asked = list(islice(chains.questions(1, (2,)), 3))
    args = (model, asked, 2, 5)
    free = reasoner.rollout(*args, torch.Generator().manual_seed(0))
    paid = reasoner.rollout(*args, torch.Generator().manual_seed(0), token_cost=0.1)
    assert torch.allclose(free.reward - paid.reward, 0.1 * free.mask.sum(-1))


def test_a_warm_up_learns_one_operation():
    model = reasoner.new_model(0, TINY)
    losses = []
    recipe = WarmUp(steps=60, batch=32, lengths=(1,), strides=(1,), learning_rate=5e-3)
    reasoner.warm_up(model, recipe, lambda step, loss: losses.append(loss))
    assert losses[-1] < 0.6 * losses[0]
    score = reasoner.evaluate(model, 1, count=20)
    assert 0 <= score.sampled <= 1 and 1 <= score.length <= 10 and score.steps < 1
