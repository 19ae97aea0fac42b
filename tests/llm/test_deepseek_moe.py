"""Unit 1.7: experts, router and the whole decoder are transformers'; balance does what it says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.llm.deepseek.balance import (
    auxiliary_loss,
    busiest_device,
    move_bias,
    violation,
)
from aiinfra_labs.llm.deepseek.balance_study import CONFIG, Way, study
from aiinfra_labs.llm.deepseek.config import DeepSeekConfig
from aiinfra_labs.llm.deepseek.mla import LatentCache
from aiinfra_labs.llm.deepseek.model import DeepSeek
from aiinfra_labs.llm.deepseek.moe import MoE, Routing, choose
from aiinfra_labs.llm.training import Recipe

transformers = pytest.importorskip("transformers")

BASE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 64,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 64,
}
KINDS = {
    "one group": {},
    "two of four groups": {"n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5},
    "64 experts, 2 shared": {
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "q_lora_rank": None,
    },
    "as it comes": {"norm_topk_prob": False, "first_k_dense_replace": 2},
}


def config_of(kind):
    return DeepSeekConfig(**(BASE | KINDS[kind]))


def randomised(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            many = parameter.dim() > 1
            parameter.copy_(1.2 * noise / parameter.shape[-1] ** 0.5 if many else 1 + 0.3 * noise)
        for name, buffer in module.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
    return module.eval()


def theirs_like(ours):
    heads = ours.config.num_attention_heads
    config = transformers.DeepseekV3Config(
        **ours.config.to_dict(), num_key_value_heads=heads, attn_implementation="eager"
    )
    model = transformers.DeepseekV3ForCausalLM(config)
    found = model.load_state_dict(ours.state_dict())
    assert not found.missing_keys and not found.unexpected_keys
    return model.eval()


# --- against transformers -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_decoder_is_transformers(kind):
    ours = randomised(DeepSeek(config_of(kind)))
    ids = torch.randint(97, (2, 23), generator=torch.Generator().manual_seed(0))
    expected = theirs_like(ours)(ids).logits
    assert expected.abs().max() > 1
    assert torch.allclose(ours(ids), expected, atol=1e-5, rtol=1e-5)
    cache, pieces = LatentCache(3), []
    for piece in ids.split([9, 1, 1, 12], 1):
        pieces.append(ours(piece, cache, absorb=True))
    assert torch.allclose(torch.cat(pieces, 1), expected, atol=2e-5, rtol=2e-5)


def test_the_decoders_gradients_are_transformers():
    ours = randomised(DeepSeek(config_of("two of four groups")))
    theirs, ids = theirs_like(ours), torch.randint(97, (2, 12))
    loss, expected = ours.loss(ids[:, :-1], ids[:, 1:]), theirs(ids, labels=ids).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    own = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, own[name].grad, atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_mixture_is_transformers(kind):
    ours = randomised(DeepSeek(config_of(kind)))
    mine, theirs = ours.mixtures()[0], theirs_like(ours).model.layers[-1].mlp
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 31, 48, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(mine(x), theirs(x), atol=1e-5, rtol=1e-5)
    _, weights, experts = theirs.gate(x)
    order, wanted = mine.routing.experts.sort(1), experts.sort(1)
    assert torch.equal(order[0], wanted[0])
    found = mine.routing.weights.gather(1, order[1])
    assert torch.allclose(found, weights.gather(1, wanted[1]), atol=1e-6)


@torch.no_grad()
def test_softmax_scores_are_v2s():
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe

    more = {"scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 16.0}
    ours = randomised(MoE(DeepSeekConfig(**(BASE | more))))
    ours.gate.e_score_correction_bias.zero_()  # V2 has none
    config = transformers.DeepseekV2Config(**(BASE | more), n_shared_experts=1)
    theirs = DeepseekV2Moe(config)
    weights = {n: t for n, t in ours.state_dict().items() if "bias" not in n}
    assert not any(theirs.load_state_dict(weights))
    x = torch.randn(1, 20, 48)
    assert torch.allclose(ours(x), theirs(x), atol=1e-4, rtol=1e-5)


# --- routing --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), reached=st.integers(1, 4))
def test_the_choice_is_the_best_within_reach(seed, k, reached):
    generator = torch.Generator().manual_seed(seed)
    scores, bias = torch.rand(6, 16, generator=generator), torch.rand(16, generator=generator)
    chosen = choose(scores, bias, k, 4, reached)
    for token in range(6):
        wanted = scores[token] + bias
        groups = wanted.view(4, 4).sort(1, descending=True)[0][:, :2].sum(1)
        near = set(groups.argsort(descending=True)[:reached].tolist())
        best = sorted((i for i in range(16) if i // 4 in near), key=lambda i: -float(wanted[i]))[:k]
        assert set(chosen[token].tolist()) == set(best)


def test_a_bias_changes_who_and_not_how_much():
    config = DeepSeekConfig(**(BASE | {"norm_topk_prob": False}))
    layer = randomised(MoE(config))
    x = torch.randn(40, 48)
    layer.gate.e_score_correction_bias.zero_()
    before = layer.gate(x)
    layer.gate.e_score_correction_bias[5] = 10.0
    after = layer.gate(x)
    assert (after.experts == 5).any(1).all() and not (before.experts == 5).any(1).all()
    assert torch.equal(after.weights, after.scores.gather(1, after.experts))
    assert torch.equal(before.scores, after.scores)


def test_shapes_that_cannot_be():
    for more, said in (
        ({"n_group": 3}, "8 experts in 3 groups"),
        ({"num_experts_per_tok": 9}, "9 experts a token"),
        ({"n_group": 4, "topk_group": 1, "num_experts_per_tok": 3}, "reaches 2 experts"),
        ({"scoring_func": "tanh"}, "'tanh'"),
    ):
        with pytest.raises(ValueError, match=said):
            DeepSeekConfig(**(BASE | more))


def test_a_text_longer_than_the_context():
    with pytest.raises(ValueError, match="65 tokens, and the context is 64"):
        DeepSeek(config_of("one group"))(torch.zeros(1, 65, dtype=torch.int64))


# --- balance --------------------------------------------------------------------------------------


def test_violation_by_hand():
    assert violation(torch.tensor([5, 5, 5, 5])) == 0
    assert violation(torch.tensor([20, 0, 0, 0])) == 3
    assert violation(torch.tensor([1, 2, 3])) == pytest.approx(0.5)
    assert busiest_device(torch.tensor([4, 0, 2, 2]), 2) == 1
    assert busiest_device(torch.tensor([6, 2, 0, 0]), 2) == 2


def test_the_auxiliary_loss_by_hand():
    """2 tokens, 2 experts, 1 each: f = 2 x share of tokens, P = mean of normalised scores."""
    scores = torch.tensor([[0.6, 0.2], [0.9, 0.1]], requires_grad=True)
    routing = Routing(scores, torch.tensor([[0], [0]]), torch.ones(2, 1))
    p = (0.75 + 0.9) / 2
    assert auxiliary_loss(routing).item() == pytest.approx(2 * p + 0 * (1 - p))
    even = Routing(torch.full((4, 4), 0.3), torch.tensor([[0], [1], [2], [3]]), torch.ones(4, 1))
    assert auxiliary_loss(even).item() == pytest.approx(1)
    auxiliary_loss(routing).backward()
    assert (scores.grad[:, 0] > 0).all() and (scores.grad[:, 1] < 0).all()  # down with the busy one


def test_the_auxiliary_loss_is_transformers():
    """Its load_balancing_loss_func, of softmax scores; it counts K experts a token, not one."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(4))
    for k in (1, 2):
        expected = load_balancing_loss_func((logits,), 8, k)
        scores = logits.softmax(-1)
        routing = Routing(scores, scores.topk(k)[1], torch.ones(50, k))
        assert auxiliary_loss(routing).item() == pytest.approx(expected.item() / k, rel=1e-5)


def test_the_bias_moves_by_gamma_against_the_error():
    bias = torch.tensor([0.5, -0.5, 0.0])
    moved = move_bias(bias, torch.tensor([9, 1, 5]), 0.25)
    assert moved.tolist() == [0.25, -0.25, 0.0]
    assert bias.tolist() == [0.5, -0.5, 0.0]


def test_the_bias_balances_scores_that_favour_some():
    """Without it half of the experts are idle; with it, moved step by step, all have like loads."""
    chance = torch.Generator().manual_seed(0)
    favour = torch.linspace(0, 0.5, 16)  # on top of scores from 0 to 1
    bias = torch.zeros(16)

    def load(bias):
        scores = torch.rand(4096, 16, generator=chance) * 0.2 + favour
        return torch.bincount((scores + bias).topk(2).indices.flatten(), minlength=16)

    before = load(bias)
    for _ in range(200):
        bias = move_bias(bias, load(bias), 0.005)
    after = load(bias)
    assert (before == 0).sum() >= 8 and before.max() > 4 * before.float().mean()
    assert after.min() > 0 and after.max() < 1.5 * after.float().mean()


SMALL = DeepSeekConfig(
    **(
        CONFIG.to_dict()
        | {"vocab_size": 30, "hidden_size": 16, "n_routed_experts": 16, "moe_intermediate_size": 4}
    )
)


def test_a_study_trains_balances_and_measures():
    tokens = torch.randint(30, (3000,), generator=torch.Generator().manual_seed(0))
    recipe = Recipe(steps=40, batch=8, context=16, learning_rate=1e-2, warm_up=5)
    plain, biased = (
        study(way, tokens[:2000], tokens[2000:], recipe, SMALL, every=20)
        for way in (Way(), Way(gamma=0.02))
    )
    for found in (plain, biased):
        rows = torch.tensor(found["load"])
        assert rows.shape == (2, 2, 16)  # rows, layers, experts
        assert (rows.sum(-1) == 20 * 8 * 16 * 6).all()  # every token goes through 6
        assert torch.tensor(found["held_out_load"]).sum().item() == 2 * 1000 * 6
        assert len(found["violation"]) == 40 and 2 < found["loss"] < 5
    ends = [sum(found["violation"][-20:]) / 20 for found in (plain, biased)]
    # The bias is the only difference. That it balances is shown by the stored, longer runs: after
    # 40 steps the noise of the batches is as large as what it has done.
    assert ends[1] != ends[0]


def test_alpha_is_in_the_loss_while_it_is_trained_alone():
    from aiinfra_labs.llm.deepseek.balance_study import Balanced

    torch.manual_seed(0)
    model, ids = Balanced(SMALL, alpha=10.0), torch.randint(30, (2, 9))
    model.train()
    with_it = model.loss(ids[:, :-1], ids[:, 1:])
    model.eval()
    without = model.loss(ids[:, :-1], ids[:, 1:])
    extra = 10 * sum(auxiliary_loss(r).item() for r in model.routings())
    assert with_it.item() - without.item() == pytest.approx(extra, rel=1e-4)
