"""Training with the rounding in it, distillation, perplexity and the int8 cache of unit 4.5."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.cloud.serving.attention import Layout, PagedCache
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig, causal_attention
from aiinfra_labs.cloud.serving.quantization import distillation, kv_int8, layers, perplexity, qat
from aiinfra_labs.cloud.serving.quantization.integers import Scheme, rounded, ternary
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.llm.training import Recipe

CONFIG = ModelConfig(17, 32, 48, 2, 4, 2, 8, 64)
RECIPE = Recipe(60, 8, 24, learning_rate=6e-3, final_learning_rate=6e-4, warm_up=5)


def model(seed=0):
    torch.manual_seed(seed)
    return CausalLM(CONFIG).eval().requires_grad_(False)


def tokens(count=2000):
    """A text with a rule: each token is the sum of the two before it, but for some noise."""
    rng = np.random.default_rng(0)
    found = [1, 2]
    for _ in range(count):
        noise = rng.integers(17) if rng.random() < 0.1 else 0
        found.append(int(found[-1] + found[-2] + noise) % 17)
    return torch.tensor(found, dtype=torch.int16)


@pytest.fixture(scope="module")
def trained():
    """A model that knows the rule."""
    found = model()
    for name, weight in found.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(weight, std=0.08)
    losses = distillation.tune(found, tokens(), Recipe(200, 8, 24, learning_rate=6e-3, warm_up=20))
    assert losses[-1] < 0.6 * losses[0]
    return found


def held_out():
    return tokens(3000)[-800:].long().unfold(0, 25, 25)


# --- straight through ---------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [Scheme(2, 8, False), Scheme(4), ternary(8)], ids=str)
def test_forward_is_rounded_and_the_gradient_goes_straight_through(scheme):
    w = torch.randn(6, 16, requires_grad=True)
    x = torch.randn(5, 16)
    used = qat.straight_through(w, lambda v: rounded(v, scheme))
    torch.testing.assert_close(used, rounded(w.detach(), scheme))
    loss = ((x @ used.t()) ** 2).sum()
    loss.backward()
    at_rounded = rounded(w.detach(), scheme).requires_grad_()
    ((x @ at_rounded.t()) ** 2).sum().backward()
    torch.testing.assert_close(w.grad, at_rounded.grad)


def test_the_gradient_is_that_of_torchs_fake_quantize_within_the_range():
    w = torch.randn(6, 16)
    scheme = Scheme(4)
    ours, theirs = w.clone().requires_grad_(), w.clone().requires_grad_()
    used = qat.straight_through(ours, lambda v: rounded(v, scheme))
    scale = (w.abs().amax(1) / 7).half().float()
    zeros = torch.zeros(6, dtype=torch.int32)
    their_used = torch.fake_quantize_per_channel_affine(theirs, scale, zeros, 0, -7, 7)
    torch.testing.assert_close(used, their_used, rtol=0, atol=1e-6)
    (used**3).sum().backward()
    (their_used**3).sum().backward()
    inside = w.abs() < 6.9 * scale[:, None]
    torch.testing.assert_close(ours.grad[inside], theirs.grad[inside])


def test_what_is_prepared_computes_as_what_is_converted():
    m, ids = model(), torch.arange(12)
    qat.prepare(m, Scheme(4, 16))
    assert qat.is_prepared(m)
    before = m.logits(m(ids, ids, causal_attention))
    qat.convert(m)
    assert not qat.is_prepared(m)
    assert all(isinstance(layer, layers.QuantizedLinear) for _, layer in layers.linears(m))
    torch.testing.assert_close(m.logits(m(ids, ids, causal_attention)), before)


def test_training_with_the_rounding_beats_rounding_after_training(trained):
    text, scheme = held_out(), Scheme(2, 16, symmetric=False)
    whole = perplexity.perplexity(trained, text)
    after = perplexity.perplexity(layers.quantize_linears(copy.deepcopy(trained), scheme), text)
    aware = qat.prepare(copy.deepcopy(trained), scheme)
    distillation.tune(aware, tokens(), RECIPE)
    with_it = perplexity.perplexity(qat.convert(aware), text)
    assert whole < after and with_it < after - 0.5 * (after - whole), (whole, after, with_it)
    # the same training without the rounding in it, rounded afterwards, does not get there
    tuned = copy.deepcopy(trained)
    distillation.tune(tuned, tokens(), RECIPE)
    plain = perplexity.perplexity(layers.quantize_linears(tuned, scheme), text)
    assert with_it < plain, (with_it, plain)


# --- distillation -------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_divergence_is_scipys(seed, temperature):
    from scipy.special import rel_entr, softmax

    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 3, 4, 9)) * 3
    got = distillation.divergence(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    p, q = softmax(student / temperature, -1), softmax(teacher / temperature, -1)
    expected = temperature**2 * rel_entr(q, p).sum(-1).mean()
    assert float(got) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_shallower_model_has_the_layers_that_were_asked_for():
    m = model()
    small = distillation.shallower(m, [1])
    assert small.config.num_hidden_layers == 1
    for (name, a), (_, b) in zip(
        small.layers[0].named_parameters(), m.layers[1].named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    assert small.lm_head.weight is small.embed_tokens.weight
    assert torch.equal(small.norm.weight, m.norm.weight)
    ids = torch.arange(9)
    whole = distillation.shallower(m, [0, 1])
    assert torch.equal(whole(ids, ids, causal_attention), m(ids, ids, causal_attention))


def test_a_student_learns_from_its_teacher_alone(trained):
    before = [p.clone() for p in trained.parameters()]
    student = distillation.shallower(trained, [0])
    losses = distillation.tune(student, tokens(), RECIPE, teacher=trained)
    assert losses[-1] < 0.7 * losses[0]
    for a, b in zip(trained.parameters(), before, strict=True):
        assert torch.equal(a, b) and a.grad is None
    assert not any(p.requires_grad for p in student.parameters())


# --- perplexity ---------------------------------------------------------------------------------


def test_perplexity_is_that_of_transformers():
    from transformers import LlamaConfig, LlamaForCausalLM

    from aiinfra_labs.cloud.serving.loader import fill

    c = CONFIG
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            intermediate_size=c.intermediate_size,
            num_hidden_layers=c.num_hidden_layers,
            num_attention_heads=c.num_attention_heads,
            num_key_value_heads=c.num_key_value_heads,
            max_position_embeddings=c.max_position_embeddings,
            rms_norm_eps=c.rms_norm_eps,
            tie_word_embeddings=True,
        )
    ).eval()
    ours = model()
    state = {n: t for n, t in theirs.state_dict().items() if n != "lm_head.weight"}
    fill(ours, {n.removeprefix("model."): t for n, t in state.items()})
    text = held_out()
    with torch.no_grad():
        losses = [theirs(row[None], labels=row[None]).loss.item() for row in text]
    assert perplexity.perplexity(ours, text) == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    ids, targets = text[:, :-1], text[:, 1:]
    assert perplexity.loss(ours, ids, targets).item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_model_that_knows_nothing_has_the_vocabulary_for_its_perplexity():
    m = model()
    m.norm.weight.zero_()
    assert perplexity.perplexity(m, held_out()) == pytest.approx(17, rel=1e-5)


def test_windows_attention_is_causal_attention_of_each():
    q, k, v = torch.randn(12, 4, 8), torch.randn(12, 2, 8), torch.randn(12, 2, 8)
    got = perplexity.windows_attention(3)(0, q, k, v)
    for i in range(3):
        part = slice(4 * i, 4 * i + 4)
        torch.testing.assert_close(got[part], causal_attention(0, q[part], k[part], v[part]))


# --- the cache ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-2, 1e3))
def test_a_key_is_off_by_half_a_step_at_most(seed, size):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 3, 16)) * size).float()
    codes, scale = kv_int8.quantize_heads(x)
    assert codes.dtype == torch.int8 and codes.shape == x.shape
    assert scale.dtype == torch.float16 and scale.shape == x.shape[:-1]
    error = (kv_int8.dequantize_heads(codes, scale) - x).abs()
    step = x.abs().amax(-1, keepdim=True) / 127
    assert (error <= (0.5 + 127 * 2**-11 + 0.02) * step + 1e-7).all()
    assert torch.equal(kv_int8.quantize_heads(x[2:4])[0], codes[2:4])  # whoever stands beside it


def test_no_head_and_no_token_spoils_another():
    x = torch.randn(6, 2, 16)
    before = kv_int8.dequantize_heads(*kv_int8.quantize_heads(x))
    x[3, 1] *= 1000
    after = kv_int8.dequantize_heads(*kv_int8.quantize_heads(x))
    others = torch.ones(6, 2, dtype=torch.bool)
    others[3, 1] = False
    assert torch.equal(before[others], after[others])


def test_attention_over_an_int8_cache_is_close(trained):
    text = held_out()
    exact = perplexity.perplexity(trained, text, causal_attention)
    rough = perplexity.perplexity(trained, text, kv_int8.rounded_attention(causal_attention))
    assert rough != exact and rough == pytest.approx(exact, rel=0.01)
    assert exact == pytest.approx(perplexity.perplexity(trained, text), rel=1e-4)


def test_bytes_of_a_token():
    codes, scale = kv_int8.quantize_heads(torch.randn(2, 2, CONFIG.num_key_value_heads, 8))
    stored = codes.nbytes + scale.nbytes  # of a key and a value, in two layers
    assert kv_int8.bytes_per_token(CONFIG) == stored
    assert CONFIG.kv_bytes_per_token == 4 * codes.numel()


# --- plugged into the engine --------------------------------------------------------------------


def served(m, cache, **config):
    """Greedy tokens of mixed requests, twice, so that prefixes are found again."""
    config = EngineConfig(num_blocks=64, block_size=4, max_step_tokens=16, cache=cache, **config)
    engine = Engine(m, config=config)
    prompts = [list(range(1, 3 + 5 * i)) for i in range(3)] * 2
    outputs = LLM(engine).generate(prompts, SamplingParams(max_tokens=12, ignore_eos=True))
    return [o.outputs[0].token_ids for o in outputs], engine


@pytest.mark.parametrize("attention", ["numpy", "torch", "compiled"])
def test_the_engine_serves_from_an_int8_cache(trained, attention):
    """Greedy tokens equal those of the model whose attention sees rounded keys and values."""
    got, engine = served(trained, kv_int8.Int8PagedCache, attention=attention)
    through = kv_int8.rounded_attention(causal_attention)
    for prompt, tokens in zip([list(range(1, 3 + 5 * i)) for i in range(3)] * 2, got, strict=True):
        ids = torch.tensor(prompt + list(tokens))
        logits = perplexity.logits(trained, ids[None], through)[0]
        behind = logits[len(prompt) - 1 : -1]
        chosen = behind.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        assert (behind.amax(1) - chosen < 1e-3).all()
    cache = engine.runner.cache
    slots = 64 * 4
    assert cache.nbytes == slots * kv_int8.bytes_per_token(CONFIG)
    assert cache.keys.dtype == torch.int8


def test_the_engine_serves_a_quantized_model_unchanged(trained):
    small = layers.quantize_linears(copy.deepcopy(trained), Scheme(4, 16))
    got, engine = served(small, PagedCache, attention="torch")
    assert engine.model is small and len(got) == 6
    ids = torch.tensor(list(range(1, 13)) + list(got[2])[:-1])
    logits = perplexity.logits(small, ids[None])[0]
    assert logits[11:].argmax(-1).tolist() == list(got[2])


def test_an_int8_cache_hands_its_blocks_over_and_copies_them():
    one, other = (kv_int8.Int8PagedCache(2, 6, 4, 2, 8) for _ in range(2))
    slots = torch.arange(4, 24)  # all but block 0
    for layer in range(2):
        one.write(layer, slots, torch.randn(20, 2, 8), torch.randn(20, 2, 8))
    other.put([0, 2], *one.read([1, 5]))
    for mine, theirs in ((other.keys, one.keys), (other.key_scales, one.key_scales)):
        assert torch.equal(mine[:, [0, 2]], theirs[:, [1, 5]])
    one.copy([(1, 3), (3, 4)])
    for x in (one.keys, one.values, one.key_scales, one.value_scales):
        assert torch.equal(x[:, 4], x[:, 1])
    assert torch.equal(one.layer(1)[0][4], one.read([4])[0][1, 0])


def test_only_the_blocks_of_a_step_are_read():
    table = np.array([[7, 3, 0], [3, 9, 2]], np.int32)
    layout = Layout(np.array([1, 2]), np.array([5, 12]), table, 4)
    blocks, again = kv_int8.compact(layout)
    assert blocks.tolist() == [2, 3, 7, 9]
    assert again.block_table.tolist() == [[2, 1, 0], [1, 3, 0]]
    assert torch.equal(blocks[again.block_table[1]], torch.tensor([3, 9, 2]))
