"""The decoder computes what transformers' Llama computes, and says what it cannot run."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.llm.llama import KVCache, Llama, LlamaConfig, RMSNorm, causal

transformers = pytest.importorskip("transformers")

SHAPES = [  # heads, kv heads, head_dim, layers, hidden, tied
    (4, 4, 8, 2, 40, True),
    (4, 2, 8, 3, 24, False),
    (6, 1, 4, 1, 33, True),
    (8, 2, 16, 2, 96, False),
]


def config_of(heads, kv_heads, head_dim, layers, hidden, tied, **more):
    return LlamaConfig(
        vocab_size=97,
        hidden_size=heads * head_dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        **more,
    )


def theirs_like(ours):
    """transformers' model of the same config with the same weights."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**ours.config.to_dict()))
    found = model.load_state_dict(ours.state_dict())
    assert not found.missing_keys and not found.unexpected_keys
    return model.eval()


def randomised(config):
    """Weights large enough that a wrong norm, angle or mask shows."""
    torch.manual_seed(1)
    model = Llama(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0, 0.3)
            else:
                parameter.normal_(0.0, 1.2 / parameter.shape[1] ** 0.5)
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("theta", [10_000.0, 500.0])
@torch.no_grad()
def test_equal_to_transformers(shape, theta):
    ours = randomised(config_of(*shape, rope_theta=theta))
    ids = torch.randint(97, (3, 41))
    expected = theirs_like(ours)(ids).logits
    assert torch.allclose(ours(ids), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_gradients(shape):
    ours = randomised(config_of(*shape))
    theirs = theirs_like(ours)
    ids = torch.randint(97, (2, 20))
    loss = ours.loss(ids[:, :-1], ids[:, 1:])
    expected = theirs(ids, labels=ids).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    own = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, own[name].grad, atol=1e-5, rtol=1e-4), name


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), shape=st.sampled_from(SHAPES))
@torch.no_grad()
def test_with_a_cache_any_pieces_give_the_whole(cuts, shape):
    """Also against transformers' own cache, piece by piece."""
    ours = randomised(config_of(*shape))
    theirs = theirs_like(ours)
    ids = torch.randint(97, (2, sum(cuts)), generator=torch.Generator().manual_seed(len(cuts)))
    whole, cache, past = ours(ids), KVCache(shape[3]), None
    for piece, expected in zip(ids.split(cuts, 1), whole.split(cuts, 1), strict=True):
        assert torch.allclose(ours(piece, cache), expected, atol=1e-5, rtol=1e-5)
        out = theirs(piece, cache=past, use_cache=True)
        past = out.past_key_values
        assert torch.allclose(out.logits, expected, atol=1e-5, rtol=1e-5)
    assert len(cache) == ids.shape[1]


@torch.no_grad()
def test_no_token_sees_what_follows():
    ours = randomised(config_of(*SHAPES[1]))
    ids = torch.randint(97, (1, 12))
    other = ids.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 97
    same = ours(ids)[:, :7], ours(other)[:, :7]
    assert torch.allclose(*same, atol=1e-6)
    assert not torch.allclose(ours(ids)[:, 7:], ours(other)[:, 7:], atol=1e-2)


def test_causal_is_the_attention_of_unit_1_3():
    from aiinfra_labs.llm.attention import attention, causal_mask

    query, key, value = (torch.randn(2, 3, 9, 8) for _ in range(3))
    for new in (9, 4, 1):
        expected, _ = attention(query[:, :, -new:], key, value, causal_mask(new, 9))
        assert torch.allclose(causal(query[:, :, -new:], key, value), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rms_norm_is_torchs(dtype):
    x = torch.randn(4, 5, 32) * 300  # squares beyond float16
    norm = RMSNorm(32, 1e-5).to(dtype)
    expected = torch.nn.functional.rms_norm(x.to(dtype).float(), (32,), None, 1e-5)
    assert norm(x.to(dtype)).dtype == dtype
    assert torch.allclose(
        norm(x.to(dtype)).float(), expected, atol=2e-2 if dtype.itemsize == 2 else 1e-6
    )


def test_a_tied_embedding_is_counted_once():
    tied, untied = (Llama(config_of(4, 2, 8, 2, 40, t)) for t in (True, False))
    assert untied.parameter_count() - tied.parameter_count() == 97 * 32
    block = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40 + 2 * 32  # q, o; k, v; mlp; norms
    assert tied.parameter_count() == 2 * block + 97 * 32 + 32


def test_targets_of_minus_one_do_not_count():
    ours = randomised(config_of(*SHAPES[0]))
    ids = torch.randint(97, (1, 10))
    targets = ids.roll(-1, 1)
    half = targets.clone()
    half[:, 5:] = -1
    assert ours.loss(ids, half).item() == pytest.approx(
        ours.loss(ids[:, :5], targets[:, :5]).item()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_attention_heads": 5}, "hidden_size is 32 and num_attention_heads 5"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 4 and num_key_value_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
    ],
)
def test_a_shape_that_cannot_be(change, said):
    good = config_of(4, 2, 8, 2, 40, True).to_dict()
    with pytest.raises(ValueError, match=said):
        LlamaConfig(**(good | change))


def test_an_odd_head_dim_is_refused():
    with pytest.raises(ValueError, match="even"):
        Llama(config_of(4, 2, 7, 1, 8, True))


def test_a_text_longer_than_the_context():
    ours = Llama(config_of(4, 2, 8, 1, 40, True))
    with pytest.raises(ValueError, match="65 tokens, and the model's context is 64"):
        ours(torch.zeros(1, 65, dtype=torch.int64))
    cache = KVCache(1)
    ours(torch.zeros(1, 64, dtype=torch.int64), cache)
    with pytest.raises(ValueError, match="65 tokens"):
        ours(torch.zeros(1, 1, dtype=torch.int64), cache)


def test_ids_of_another_tokenizer():
    ours = Llama(config_of(4, 2, 8, 1, 40, True))
    with pytest.raises(ValueError, match="id 97, and the table has rows 0 to 96"):
        ours(torch.tensor([[3, 97]]))
