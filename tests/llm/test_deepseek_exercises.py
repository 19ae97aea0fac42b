"""The exercises of unit 1.7 and their pictures, and that its verdicts are what can be computed."""

import re
from dataclasses import replace

import pytest
import torch

import planting
from aiinfra_labs.course import facts, figures, show
from aiinfra_labs.course.checking import try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.llm.deepseek import balance, cache_sizes, grpo
from aiinfra_labs.llm.deepseek.config import DeepSeekConfig
from aiinfra_labs.llm.deepseek.mla import LatentAttention
from aiinfra_labs.llm.deepseek.moe import Routing, choose
from aiinfra_labs.llm.exercises import deepseek, deepseek_experts, deepseek_grpo
from aiinfra_labs.llm.scale.parameters import active, total
from planting import name_of

EXERCISES = ("1.7.a", "1.7.b", "1.7.c", "1.7.d", "1.7.e")
FACTS = facts.load("llm")


planted = planting.planted("llm", "deepseek")


def said_of(result):
    return "\n".join(str(r) for r in result.requirements if not r.passed)


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=name_of)
def test_a_right_answer_has_a_picture_in_the_pages_colours(exercise, answer):
    html = show(exercise, answer)._repr_html_()
    assert html.count("<svg") == 1
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)  # black ones would not be seen in the dark
    assert texts and all("currentColor" in group for group in texts)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("given", [None, 3, "many", [1, 2], torch.zeros(0)], ids=str)
def test_what_is_no_answer_is_said_in_words(exercise, given):
    result = try_out(find(exercise), lambda *arguments: given)
    assert not result.passed and result.score == 0
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_), str(outcome)
        assert "Traceback" not in str(outcome)


@pytest.mark.parametrize("exercise", ["1.7.a", "1.7.e"])
@pytest.mark.parametrize("given", [None, 3, [1, 2], torch.zeros(3)], ids=str)
def test_show_says_in_words_what_it_cannot_draw(exercise, given):
    said = str(show(exercise, lambda *arguments: given))
    assert "Why:" in said and "Try:" in said and "Error" not in said


def test_show_draws_the_learners_own_numbers():
    right, wrong = planted.keys_by_unflatten, planted.keys_all_heads_first
    assert "0 of 36 numbers of the keys" in repr(show("1.7.a", right))
    assert "0 of 36 numbers of the keys" not in repr(show("1.7.a", wrong))
    made = re.search(r"yours ([\d.]+)", repr(show("1.7.b", planted.expanded)))
    spared = re.search(r"yours ([\d.]+)", repr(show("1.7.b", planted.absorbed_by_einsum)))
    assert float(made[1]) > 5 * float(spared[1])
    assert "512 in all" in repr(show("1.7.c", planted.mixture_of_all))  # 8 experts x 64 tokens
    assert "128 in all" in repr(show("1.7.c", planted.mixture_by_expert))
    assert repr(show("1.7.d", planted.bias_by_sign)) != repr(
        show("1.7.d", planted.bias_the_other_way)
    )


# --- the references of the exercises are the library's own parts ----------------------------------


def test_keys_and_values_are_the_librarys():
    config = DeepSeekConfig(
        vocab_size=9, hidden_size=24, intermediate_size=8, moe_intermediate_size=8,
        num_hidden_layers=1, num_attention_heads=3, kv_lora_rank=10, qk_nope_head_dim=6,
        qk_rope_head_dim=4, v_head_dim=5, n_routed_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    layer = LatentAttention(config, 0)
    kept, query = torch.randn(2, 7, 14), (torch.randn(2, 3, 1, 6), torch.randn(2, 3, 1, 4))
    up = layer.kv_b_proj.weight
    key, value = deepseek.expanded_by_heads(kept[..., :10], kept[..., 10:], up, 3, 6)
    both = torch.cat(query, -1)
    scores = (both @ key.transpose(2, 3) / 10**0.5).softmax(-1) @ value
    assert torch.allclose(layer.expanded(*query, kept), scores, atol=1e-6)
    rows = up.unflatten(0, (3, 11))
    found = deepseek.attention_by_heads(
        query[0][:, :, 0], query[1][:, :, 0], kept[..., :10], kept[..., 10:],
        rows[:, :6], rows[:, 6:],
    )  # fmt: skip
    assert torch.allclose(layer.absorbed(*query, kept)[:, :, 0], found, atol=1e-6)


def test_the_mixture_is_the_librarys_choice():
    x, scores = deepseek_experts.routed(12, 8, 6, 3)
    bias = torch.linspace(-0.3, 0.3, 8)
    chosen = choose(scores, bias, 3)
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    experts = deepseek_experts.experts_of(8, 6)
    expected = torch.zeros(12, 6)
    for t in range(12):
        for w, i in zip(weights[t], chosen[t].tolist(), strict=True):
            expected[t] += w * experts[i](x[t : t + 1])[0]
    found = deepseek_experts.mixed(x, scores, bias, 3, experts, torch.zeros_like)
    assert torch.allclose(found, expected, atol=1e-5)
    routing = Routing(scores, chosen, weights)
    assert routing.load.sum() == 36


def test_the_simulated_router_is_evened_out_by_the_librarys_bias():
    curve = deepseek_experts.simulated(lambda b, n: balance.move_bias(b, n, 0.01), 400)
    assert curve[0] > 1.5 and sum(curve[-50:]) / 50 < 0.4


def test_the_loss_is_the_librarys():
    given = deepseek_grpo.case([1.0, 0.0, 0.0, 1.0], [6, 2, 5, 6], 3, moved=0.5)
    away = given.new + 0.4 * torch.randn(
        given.new.shape, generator=torch.Generator().manual_seed(0)
    )
    terms = grpo.objective(
        given.new, given.old, away, grpo.advantages(given.rewards), given.mask, 0.2, 0.3
    )
    expected = deepseek_grpo.reference_loss(replace(given, reference=away, beta=0.3))
    assert terms.loss.item() == pytest.approx(expected.item(), rel=1e-5)


# --- the verdicts ---------------------------------------------------------------------------------


def verdicts():
    return {claim.id: claim for claim in all_claims() if claim.unit == "1.7"}


def test_every_claim_of_the_unit_has_a_verdict():
    assert {claim.id: claim.verdict for claim in verdicts().values()} == {
        "mla-75": "corrected",
        "moe-64": "corrected",
        "deepseek-lineage": "corrected",
        "aime-79.8": "cited",
        "humaneval-96.3": "corrected",
        "inference-90": "corrected",
    }


def percent(share):
    return f"{share:.1%}".replace("%", " %")


def test_the_verdict_on_the_cache_is_what_configs_give():
    said = verdicts()["mla-75"].figure
    v2, old = cache_sizes.shape("deepseek-v2"), cache_sizes.shape("deepseek-67b")
    bits = FACTS["deepseek.v2_cache_bits"].value
    assert percent(cache_sizes.saved(v2, old, bits, 16)) in said
    assert percent(FACTS["deepseek.v2_cache_saved"].value / 100) in said
    assert percent(cache_sizes.saved(v2, old)) in said
    for heads in (128, 8):
        assert percent(cache_sizes.saved(v2, cache_sizes.with_kv_heads(v2, heads))) in said
    assert f"{cache_sizes.equal_kv_heads(v2)} times multi-query" in said
    nine = cache_sizes.with_kv_heads(v2, 1)
    assert cache_sizes.numbers(v2) / (9 * cache_sizes.numbers(nine)) == 0.25
    assert all(m.shape.latent or m.shape.kv_heads != 9 for m in cache_sizes.models().values())


def test_the_verdict_on_experts_is_what_configs_give():
    said = verdicts()["moe-64"].figure
    for key in ("deepseek-moe-16b", "deepseek-v2", "deepseek-v3"):
        s = cache_sizes.shape(key)
        assert (
            f"{s.experts.routed}" in said
            and f"{s.experts.chosen} a token" in said
            or (f"{s.experts.chosen} of them a token" in said)
        )
        assert f"{active(s) / 1e9:.1f} of {total(s) / 1e9:.1f} B" in said


def test_the_verdict_on_cost_is_what_configs_and_the_paper_give():
    said = verdicts()["inference-90"].figure
    v2, old = cache_sizes.shape("deepseek-v2"), cache_sizes.shape("deepseek-67b")
    assert f"{100 * (1 - active(v2) / active(old)):.0f} % fewer" in said
    times = FACTS["deepseek.v2_throughput"].value
    assert f"{times} times" in said and f"{100 * (1 - 1 / times):.0f} % less time" in said
    r1, o1 = FACTS["deepseek.r1_price"].value, FACTS["deepseek.o1_price"].value
    assert f"{r1} $" in said and f"{o1} $" in said and f"{100 * (1 - r1 / o1):.0f} % less" in said


@pytest.mark.parametrize(
    ("claim", "names"),
    [
        ("aime-79.8", ("r1_aime", "o1_aime", "human_aime")),
        ("humaneval-96.3", ("r1_codeforces_percentile", "r1_livecodebench", "r1_swe_bench")),
        ("deepseek-lineage", ("r1_aime", "gpt4o_aime")),
    ],
)
def test_the_verdicts_on_scores_quote_the_facts(claim, names):
    for name in names:
        assert f"{FACTS[f'deepseek.{name}'].value}" in verdicts()[claim].figure
