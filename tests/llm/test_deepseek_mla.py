"""Unit 1.7: latent attention is transformers', in both forms, and costs what is said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aiinfra_labs.llm.deepseek import cache_sizes, mla_cost
from aiinfra_labs.llm.deepseek.config import DeepSeekConfig
from aiinfra_labs.llm.deepseek.mla import LatentAttention, LatentCache
from aiinfra_labs.llm.positions import rope_angles, rope_frequencies
from aiinfra_labs.llm.scale.parameters import active, total
from aiinfra_labs.llm.scale.shapes import Latent, Shape

transformers = pytest.importorskip("transformers")

SHAPES = [  # hidden, heads, q rank, kv rank, N, R, V
    (48, 4, 20, 16, 8, 4, 12),
    (32, 2, None, 8, 16, 8, 4),
    (40, 5, 12, 24, 4, 2, 8),
]


def config_of(hidden, heads, q_rank, kv_rank, nope, rope, v, **more):
    return DeepSeekConfig(
        **{
            "vocab_size": 97,
            "hidden_size": hidden,
            "intermediate_size": 64,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": heads,
            "q_lora_rank": q_rank,
            "kv_lora_rank": kv_rank,
            "qk_nope_head_dim": nope,
            "qk_rope_head_dim": rope,
            "v_head_dim": v,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "n_shared_experts": 2,
            "max_position_embeddings": 64,
            **more,
        }
    )


def randomised(module, seed=1):
    """Weights large enough that a wrong norm, angle, scale or mask shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            many = parameter.dim() > 1
            parameter.copy_(1.2 * noise / parameter.shape[-1] ** 0.5 if many else 1 + 0.3 * noise)
    return module.eval()


def angles(config, start, end):
    return rope_angles(
        torch.arange(start, end), rope_frequencies(config.qk_rope_head_dim, config.rope_theta)
    )


def theirs(version, config, attention):
    """transformers' latent attention with the same weights, as a function of x [B, T, C]."""
    if version == "V3":
        from transformers.models.deepseek_v3 import modeling_deepseek_v3 as m

        kind = transformers.DeepseekV3Config
        module, rotary = m.DeepseekV3Attention, m.DeepseekV3RotaryEmbedding
    else:
        from transformers.models.deepseek_v2 import modeling_deepseek_v2 as m

        kind = transformers.DeepseekV2Config
        module, rotary = m.DeepseekV2Attention, m.DeepseekV2RotaryEmbedding
    heads = config.num_attention_heads
    their = kind(**config.to_dict(), num_key_value_heads=heads, attn_implementation="eager")
    made = module(their, 0).eval()
    found = made.load_state_dict(attention.state_dict())
    assert not found.missing_keys and not found.unexpected_keys

    def run(x):
        t = x.shape[1]
        mask = torch.full((t, t), -torch.inf).triu(1)[None, None]
        where = rotary(their)(x, torch.arange(t)[None])
        return made(x, position_embeddings=where, attention_mask=mask)[0]

    return run


@pytest.mark.parametrize("absorb", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("version", ["V2", "V3"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_attention_is_transformers(shape, version, absorb):
    config = config_of(*shape)
    ours = randomised(LatentAttention(config, 0))
    x = torch.randn(2, 19, config.hidden_size, generator=torch.Generator().manual_seed(3))
    expected = theirs(version, config, ours)(x)
    got = ours(x, *angles(config, 0, 19), absorb=absorb)
    assert expected.abs().max() > 0.5
    assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    shape=st.sampled_from(SHAPES),
    absorb=st.booleans(),
)
@torch.no_grad()
def test_with_a_cache_any_pieces_give_the_whole(cuts, shape, absorb):
    config = config_of(*shape)
    ours, t = randomised(LatentAttention(config, 0)), sum(cuts)
    x = torch.randn(2, t, config.hidden_size, generator=torch.Generator().manual_seed(t))
    whole, cache, start = ours(x, *angles(config, 0, t)), LatentCache(1), 0
    for piece, expected in zip(x.split(cuts, 1), whole.split(cuts, 1), strict=True):
        end = start + piece.shape[1]
        got = ours(piece, *angles(config, start, end), cache, absorb)
        assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)
        start = end
    numbers = config.kv_lora_rank + config.qk_rope_head_dim
    assert len(cache) == t and cache.nbytes == 2 * t * numbers * 4


def test_both_forms_have_the_same_gradients():
    config = config_of(*SHAPES[0])
    ours = randomised(LatentAttention(config, 0))
    x = torch.randn(2, 9, config.hidden_size)
    found = []
    for absorb in (False, True):
        loss = ours(x, *angles(config, 0, 9), absorb=absorb).pow(2).sum()
        found.append(torch.autograd.grad(loss, list(ours.parameters())))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


@torch.no_grad()
def test_no_token_sees_what_follows():
    config = config_of(*SHAPES[0])
    ours = randomised(LatentAttention(config, 0))
    x = torch.randn(1, 8, config.hidden_size)
    other = x.clone()
    other[:, 5:] += 1
    for absorb in (False, True):
        one, two = (ours(y, *angles(config, 0, 8), absorb=absorb) for y in (x, other))
        assert torch.allclose(one[:, :5], two[:, :5], atol=1e-6)
        assert not torch.allclose(one[:, 5:], two[:, 5:], atol=1e-2)


# --- what it costs --------------------------------------------------------------------------------


def shape_of(config):
    return Shape(
        layers=1,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_dim=config.qk_nope_head_dim,
        mlp_width=1,
        vocabulary=1,
        latent=Latent(
            config.q_lora_rank, config.kv_lora_rank, config.qk_rope_head_dim, config.v_head_dim
        ),
    )


@pytest.mark.parametrize("context", [1, 7, 40])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
@torch.no_grad()
def test_operations_are_those_that_torch_counts(shape, context):
    config = config_of(*shape)
    ours = randomised(LatentAttention(config, 0))
    x = torch.randn(1, context, config.hidden_size)
    kept = ours.compress(x, *angles(config, 0, context))
    query = ours.queries(x[:, -1:], *angles(config, context - 1, context))
    for form, cost in ((ours.expanded, mla_cost.expanded), (ours.absorbed, mla_cost.absorbed)):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            form(*query, kept)
        assert counter.get_total_flops() == cost(shape_of(config), context).flops
        found = cost(shape_of(config), context)
        assert found.read == kept.numel()
        width = kept.shape[-1] if form == ours.absorbed else query[0].shape[-1] + query[1].shape[-1]
        value = config.kv_lora_rank if form == ours.absorbed else config.v_head_dim
        assert found.pairs == 2 * context * config.num_attention_heads * (width + value)


def test_grouped_operations_are_those_that_torch_counts():
    shape = Shape(1, 64, 8, 2, 8, 1, 1)
    query, key = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 33, 8)
    with FlopCounterMode(display=False) as counter:
        (query @ key.transpose(2, 3)).softmax(-1) @ key
    found = mla_cost.grouped(shape, 33)
    assert counter.get_total_flops() == found.flops and found.read == 2 * key.numel()
    assert found.intensity() == shape.heads / shape.kv_heads  # whatever the context is


def test_the_intensity_is_of_attention_alone():
    """What goes into the latent's space and out of it reads weights, and is another kernel."""
    v2 = cache_sizes.shape("deepseek-v2")
    short, long = (mla_cost.absorbed(v2, context) for context in (1, 4096))
    assert short.intensity() == pytest.approx(long.intensity()) == pytest.approx(241.8, abs=0.05)
    assert short.flops - short.pairs == long.flops - long.pairs == 2 * 128 * 512 * 256


def test_the_figures_of_the_papers():
    """DeepSeek-V2, arXiv:2405.04434: 93.3 % and 2.25 groups. arXiv:2505.09343, table 1: KB."""
    v2, v3 = cache_sizes.shape("deepseek-v2"), cache_sizes.shape("deepseek-v3")
    old = cache_sizes.shape("deepseek-67b")
    assert round(100 * cache_sizes.saved(v2, old, 6, 16), 1) == 93.3
    assert cache_sizes.equal_kv_heads(v2) == 2.25
    assert cache_sizes.token_bytes(v3) == 70_272
    assert cache_sizes.token_bytes(cache_sizes.shape("llama-3-405b")) == 516_096
    assert cache_sizes.saved(v2, old) == pytest.approx(1 - 60 * 576 / (95 * 2 * 8 * 128))


def test_the_cache_of_every_kind_is_that_of_transformers():
    """Numbers of one token in one layer, counted in transformers' own cache."""
    ids = torch.zeros(1, 5, dtype=torch.int64)
    for kv_heads in (4, 2, 1):
        config = transformers.LlamaConfig(
            vocab_size=10, hidden_size=32, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=4, num_key_value_heads=kv_heads,
        )  # fmt: skip
        cache = transformers.LlamaForCausalLM(config)(ids, use_cache=True).past_key_values
        there = sum(x.numel() for x in (cache.layers[0].keys, cache.layers[0].values)) // 5
        assert there == cache_sizes.numbers(Shape(1, 32, 4, kv_heads, 8, 8, 10))
    config = config_of(*SHAPES[0], num_hidden_layers=1)
    their = transformers.DeepseekV3Config(**config.to_dict(), num_key_value_heads=4)
    cache = transformers.DeepseekV3ForCausalLM(their)(ids, use_cache=True).past_key_values
    there = sum(x.numel() for x in (cache.layers[0].keys, cache.layers[0].values)) // 5
    assert there == cache_sizes.numbers(shape_of(config)) == 16 + 4


def test_other_heads_of_the_same_model():
    v2 = cache_sizes.shape("deepseek-v2")
    whole, one = (cache_sizes.with_kv_heads(v2, n) for n in (128, 1))
    assert cache_sizes.numbers(whole) == 128 * cache_sizes.numbers(one) == 2 * 128 * 128
    assert cache_sizes.saved(v2, one) < 0 < cache_sizes.saved(v2, whole)


def elements(kind, config):
    with torch.device("meta"):
        return sum(p.numel() for p in kind(config).parameters())


def test_parameters_of_deepseeks_models():
    """67B and V2 as transformers builds them; 16B, which it does not have, as published."""
    config = transformers.LlamaConfig(
        vocab_size=102400, hidden_size=8192, intermediate_size=22016, num_hidden_layers=95,
        num_attention_heads=64, num_key_value_heads=8,
    )  # fmt: skip
    there = elements(transformers.LlamaForCausalLM, config)
    assert total(cache_sizes.shape("deepseek-67b")) == there
    config = transformers.DeepseekV2Config(
        vocab_size=102400, hidden_size=5120, intermediate_size=12288, num_hidden_layers=60,
        num_attention_heads=128, num_key_value_heads=128, q_lora_rank=1536, kv_lora_rank=512,
        n_routed_experts=160, n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1,
        moe_intermediate_size=1536,
    )  # fmt: skip
    v2 = cache_sizes.shape("deepseek-v2")
    assert total(v2) == elements(transformers.DeepseekV2ForCausalLM, config)
    assert round(total(v2) / 1e9) == 236 and round(active(v2) / 1e9) == 21
    small = cache_sizes.shape("deepseek-moe-16b")
    assert round(total(small) / 1e9, 1) == 16.4 and round(active(small) / 1e9, 1) == 2.8
