"""Unit 1.6: parameters, operations and bytes by formula are those of modules that exist."""

import math

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aiinfra_labs.course import facts
from aiinfra_labs.llm.llama import KVCache, Llama, LlamaConfig
from aiinfra_labs.llm.scale import flops, memory, shapes
from aiinfra_labs.llm.scale.parameters import PARTS, active, multiplied, parameters, total
from aiinfra_labs.llm.scale.shapes import Shape, from_config, known, shape

FACTS = facts.load("llm")


def on_meta(kind, config):
    """A module whose tensors have shapes and no memory."""
    with torch.device("meta"):
        return kind(config)


def elements(module):
    return sum(p.numel() for p in module.parameters())


@st.composite
def configs(draw):
    kv_heads, group = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    heads = kv_heads * group
    return LlamaConfig(
        vocab_size=draw(st.integers(2, 500)),
        hidden_size=heads * 2 * draw(st.integers(1, 8)),
        intermediate_size=draw(st.integers(1, 200)),
        num_hidden_layers=draw(st.integers(1, 5)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=draw(st.booleans()),
    )


# --- parameters -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(configs())
def test_parameters_are_those_of_our_model(config):
    found = from_config(config.to_dict())
    assert total(found) == elements(on_meta(Llama, config))
    assert total(found) == active(found)
    assert list(parameters(found)) == list(PARTS)


LLAMA = {
    "llama-3-8b": (4096, 32, 32, 14336),
    "llama-3-70b": (8192, 80, 64, 28672),
    "llama-3-405b": (16384, 126, 128, 53248),
}


@pytest.mark.parametrize("key", LLAMA)
def test_parameters_are_those_of_transformers_llama(key):
    width, layers, heads, mlp = LLAMA[key]
    config = transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        intermediate_size=mlp,
    )
    assert total(shape(key)) == elements(on_meta(transformers.LlamaForCausalLM, config))
    assert from_config(config.to_dict()) == shape(key)


@pytest.mark.parametrize(("key", "more"), [("gpt2", {}), ("gpt3", {"n_positions": 2048})])
def test_parameters_are_those_of_transformers_gpt2(key, more):
    s = shape(key)
    config = transformers.GPT2Config(n_embd=s.width, n_layer=s.layers, n_head=s.heads, **more)
    assert total(s) == elements(on_meta(transformers.GPT2LMHeadModel, config))


def test_parameters_are_those_of_transformers_gemma():
    """PaLM is in no library. Gemma has its one kv head, its gate, its tied table and wide heads."""
    config = transformers.GemmaConfig(
        vocab_size=256000,
        hidden_size=2048,
        num_hidden_layers=18,
        num_attention_heads=8,
        num_key_value_heads=1,
        head_dim=256,
        intermediate_size=16384,
    )
    model = on_meta(transformers.GemmaForCausalLM, config)
    assert total(Shape(18, 2048, 8, 1, 256, 16384, 256000)) == elements(model)


def test_parameters_are_those_of_transformers_deepseek_v3():
    model = on_meta(transformers.DeepseekV3ForCausalLM, transformers.DeepseekV3Config())
    s = shape("deepseek-v3")
    assert total(s) == elements(model)
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    assert active(s) == total(s) - experts * (256 - 8) // 256


def test_parameters_are_those_of_transformers_mixtral():
    """A mixture without shared experts, and with ordinary attention."""
    model = on_meta(transformers.MixtralForCausalLM, transformers.MixtralConfig())
    experts = shapes.Experts(routed=8, chosen=2, shared=0, width=14336)
    s = Shape(32, 4096, 32, 8, 128, 14336, 32000, tied=False, experts=experts)
    assert total(s) == elements(model)


@pytest.mark.parametrize(
    ("key", "unit"),
    [("gpt3", 1e9), ("palm", 1e9), ("llama-3-405b", 1e9), ("deepseek-v3", 1e9)],
)
def test_totals_are_the_published_ones(key, unit):
    published = FACTS[f"{key}.parameters"].value * unit
    assert total(shape(key)) == pytest.approx(published, rel=0.0025)


def test_active_parameters_are_the_published_ones():
    """37 B without the table of embeddings, which is looked up."""
    assert round(multiplied(shape("deepseek-v3")) / 1e9) == FACTS["deepseek-v3.active"].value


def test_twelve_d_squared():
    """A GPT block is 12 d^2 and a little: the rule of thumb."""
    s = shape("gpt3")
    found = parameters(s)
    assert found["attention"] + found["mlp"] == pytest.approx(12 * 96 * 12288**2, rel=1e-4)


def test_every_shape_has_its_source():
    assert all(model.source.startswith("https://") for model in known().values())


@pytest.mark.parametrize(
    ("change", "what"), [({"layers": 0}, "layers is 0"), ({"kv_heads": 3}, "4 heads and 3 kv")]
)
def test_a_shape_that_cannot_be_is_refused(change, what):
    numbers = {"layers": 1, "width": 8, "heads": 4, "kv_heads": 2, "head_dim": 2}
    with pytest.raises(ValueError, match=what) as error:
        Shape(**numbers | {"mlp_width": 8, "vocabulary": 9} | change)
    assert "Why:" in str(error.value) and "Try:" in str(error.value)


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="llama-3-8b"):
        shape("gpt4")


# --- operations -----------------------------------------------------------------------------------

SMALL = LlamaConfig(67, 24, 40, 3, 6, 2)


@pytest.fixture
def by_products():
    """Attention by two matrix products: torch does not count the CPU's fused call."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.usefixtures("by_products")
@pytest.mark.parametrize("config", [SMALL, LlamaConfig(50, 16, 24, 2, 2, 2)])
@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (2, 7), (3, 32)])
def test_operations_are_those_that_torch_counts(config, batch, tokens):
    model, s = Llama(config), from_config(config.to_dict())
    ids = torch.randint(config.vocab_size, (batch, tokens))
    with FlopCounterMode(display=False) as ahead:
        loss = model.loss(ids, ids)
    assert ahead.get_total_flops() == flops.forward(s, tokens, batch)
    with FlopCounterMode(display=False) as back:
        loss.backward()
    counted = ahead.get_total_flops() + back.get_total_flops()
    assert counted == flops.step(s, tokens, batch)


@pytest.mark.usefixtures("by_products")
def test_operations_of_the_next_token_are_those_that_torch_counts():
    model, s = Llama(SMALL).eval(), from_config(SMALL.to_dict())
    cache = KVCache(SMALL.num_hidden_layers)
    with torch.no_grad():
        model(torch.zeros(1, 9, dtype=torch.long), cache)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 1, dtype=torch.long), cache)
    assert counter.get_total_flops() == flops.decode(s, 10)  # the new token sees itself, too


def test_operations_of_latent_attention_are_those_that_torch_counts():
    config = transformers.DeepseekV3Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=12,
        kv_lora_rank=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
        first_k_dense_replace=2,
        attn_implementation="eager",
    )
    model = transformers.DeepseekV3ForCausalLM(config).eval()
    s = Shape(2, 32, 4, 4, 6, 24, 50, tied=False, latent=shapes.Latent(12, 8, 4, 5))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 11, dtype=torch.long), use_cache=False)
    rope = 2 * 11 * 2  # the library makes its angles by a product of 4/2 x 1 x 11
    assert abs(counter.get_total_flops() - flops.forward(s, 11)) in (0, rope)


@pytest.mark.parametrize(
    ("key", "parameters", "tokens"),
    [("gpt3", 174.6e9, 300e9), ("llama-3-405b", 405e9, 15.6e12)],
)
def test_six_n_d_is_the_published_count(key, parameters, tokens):
    published = FACTS[f"{key}.flops"].value
    assert flops.training(parameters, tokens) == pytest.approx(published, rel=0.005)


def test_palms_count_has_the_attention():
    """6 N D alone gives 2.53e24; the appendix adds 12 L H Q T a token."""
    s, tokens = shape("palm"), FACTS["palm.tokens"].value * 1e9
    found = flops.a_token(s, 2048) * tokens
    assert found == pytest.approx(FACTS["palm.flops"].value, rel=0.002)
    a = flops.a_token(s, 2048) - 6 * multiplied(s)
    assert a == 12 * 118 * 48 * 256 * 2048


# --- weights, optimiser, cache --------------------------------------------------------------------


def test_sixteen_bytes_a_parameter_are_there_after_a_step():
    """In float32 as well: 4 + 4 + 8. Counted in the tensors themselves."""
    model = Llama(SMALL)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(SMALL.vocab_size, (2, 5))
    model.loss(ids, ids).backward()
    optimizer.step()
    weights = list(model.parameters())
    moments = [
        tensor
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if name != "step"
    ]
    there = sum(
        t.numel() * t.element_size() for t in (*weights, *(w.grad for w in weights), *moments)
    )
    n = total(from_config(SMALL.to_dict()))
    assert there == memory.FLOAT32.total * n == memory.MIXED.total * n
    assert memory.model_states(n, states=memory.FLOAT32) == there


@pytest.mark.parametrize("stage", memory.STAGES)
def test_zero_is_what_its_paper_gives(stage):
    """Figure 1 of arXiv:1910.02054: 7.5 B parameters on 64 GPUs, in GB."""
    found = memory.model_states(7.5e9, gpus=64, stage=stage)
    assert round(found / 1e9, 1) == FACTS[f"zero.stage{stage}"].value


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10**12), st.integers(1, 4096))
def test_each_stage_keeps_less(n, gpus):
    stages = [memory.model_states(n, gpus, stage) for stage in memory.STAGES]
    assert stages == sorted(stages, reverse=True)
    assert stages[0] == 16 * n and math.isclose(stages[3] * gpus, 16 * n)


@pytest.mark.parametrize(
    ("gpus", "stage", "what"), [(0, 1, "gpus is 0"), (8, 4, "stage is 4"), (8, -1, "stage is -1")]
)
def test_what_zero_has_not_is_refused(gpus, stage, what):
    with pytest.raises(ValueError, match=what):
        memory.model_states(1e9, gpus, stage)


def test_the_cache_holds_what_the_formula_says():
    model, cache = Llama(SMALL).eval(), KVCache(SMALL.num_hidden_layers)
    with torch.no_grad():
        model(torch.zeros(2, 9, dtype=torch.long), cache)
    there = sum(t.nbytes for t in (*cache.keys, *cache.values))
    assert there == 2 * 9 * memory.kv_bytes(from_config(SMALL.to_dict()), itemsize=4)


def test_the_cache_of_latent_attention():
    """DeepSeek-V3: 61 layers of 512 + 64 numbers; the 70.3 KB of arXiv:2505.09343, Table 1."""
    assert memory.kv_bytes(shape("deepseek-v3")) == 61 * 576 * 2 == 70_272
    assert memory.kv_bytes(shape("llama-3-405b")) == 516_096  # and 516 KB there
