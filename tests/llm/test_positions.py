"""Positions against what we did not write: transformers, NumPy; and what they must keep to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.llm.attention import attention, causal_mask
from aiinfra_labs.llm.embedding import bytes_read, embed, gradient_rows, one_hot_product
from aiinfra_labs.llm.positions import (
    LearnedPositions,
    alibi_bias,
    alibi_slopes,
    halves_first,
    rope_angles,
    rope_frequencies,
    rotate,
    sinusoidal,
)

# --- embedding -----------------------------------------------------------------------------------


def test_a_lookup_is_a_one_hot_product():
    torch.manual_seed(0)
    table, ids = torch.randn(11, 6), torch.randint(11, (2, 7))
    assert torch.equal(embed(ids, table), one_hot_product(ids, table))
    assert torch.equal(embed(ids, table), torch.nn.functional.embedding(ids, table))
    assert embed(torch.zeros(0, dtype=torch.int64), table).shape == (0, 6)


@pytest.mark.parametrize("wrong", [11, -1])
def test_an_id_without_a_row_is_named(wrong):
    with pytest.raises(ValueError, match=f"id {wrong}, and the table has rows 0 to 10"):
        embed(torch.tensor([3, wrong]), torch.zeros(11, 6))


def test_only_the_rows_of_seen_tokens_get_a_gradient():
    table = torch.randn(9, 4, requires_grad=True)
    ids = torch.tensor([[2, 5], [5, 8]])
    embed(ids, table).pow(2).sum().backward()
    assert torch.equal(table.grad.abs().sum(1) > 0, gradient_rows(ids, 9))
    assert gradient_rows(ids, 9).sum() == 3


def test_a_product_reads_the_table_for_each_token():
    assert bytes_read(10, 4096, 256) == (10 * 512, 10 * 4096 * 512)


# --- sinusoidal and learned ----------------------------------------------------------------------


def test_sinusoidal_is_the_papers_formula():
    got = sinusoidal(torch.arange(50), 16).numpy()
    for p in (0, 1, 7, 49):
        for i in range(8):
            angle = p / 10_000 ** (2 * i / 16)
            assert got[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert got[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)


@given(st.integers(0, 2000), st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_a_step_of_k_is_the_same_linear_map_everywhere(position, step):
    """PE(p + k) = R(k) PE(p): the reason that the paper gives for the formula."""
    width = 32
    here, there = sinusoidal(torch.tensor([position, position + step]).double(), width)
    angles = step * rope_frequencies(width)
    sin, cos = here[0::2], here[1::2]
    moved_sin = sin * angles.cos() + cos * angles.sin()
    moved_cos = cos * angles.cos() - sin * angles.sin()
    assert torch.allclose(there[0::2], moved_sin, atol=5e-4)  # float32 angles up to 2,500
    assert torch.allclose(there[1::2], moved_cos, atol=5e-4)


def test_learned_positions_end_with_their_table():
    positions = LearnedPositions(8, 4)
    assert positions(torch.arange(8)).shape == (8, 4)
    with pytest.raises(ValueError, match="position 8, and the table has rows 0 to 7"):
        positions(torch.arange(9))


# --- RoPE ----------------------------------------------------------------------------------------


def test_rope_equals_transformers():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=128, num_attention_heads=4, rope_theta=500_000.0)
    theirs = llama.LlamaRotaryEmbedding(config)
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 40, 32), torch.randn(2, 4, 40, 32)
    positions = torch.arange(40)
    cos, sin = theirs(q, positions[None])
    their_q, their_k = llama.apply_rotary_pos_emb(q, k, cos, sin)
    angles = rope_angles(positions, rope_frequencies(32, 500_000.0))
    assert torch.allclose(rotate(q, *angles), their_q, atol=1e-5)
    assert torch.allclose(rotate(k, *angles), their_k, atol=1e-5)


def test_rope_is_a_product_of_complex_numbers():
    """RoFormer's own form: (x1 + i x2) e^(i p w)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 8))
    positions = rng.integers(0, 1000, 20)
    frequencies = 10_000.0 ** (-np.arange(0, 8, 2) / 8)
    turned = (x[:, :4] + 1j * x[:, 4:]) * np.exp(1j * positions[:, None] * frequencies)
    angles = rope_angles(torch.from_numpy(positions), rope_frequencies(8))
    got = rotate(torch.from_numpy(x), *angles).numpy()
    assert np.allclose(got, np.concatenate((turned.real, turned.imag), 1), atol=2e-4)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 1000), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_rope_scores_depend_on_the_distance_alone(m, n, shift, seed):
    """<R(m) q, R(n) k> = <R(m + s) q, R(n + s) k>, and lengths stay."""
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 16, generator=generator)
    frequencies = rope_frequencies(16)

    def at(x, position):
        return rotate(x, *rope_angles(torch.tensor(position), frequencies))

    here, there = at(q, m) @ at(k, n), at(q, m + shift) @ at(k, n + shift)
    assert here.item() == pytest.approx(there.item(), abs=5e-3)  # float32 angles up to 4,000
    assert at(q, m).norm().item() == pytest.approx(q.norm().item(), rel=1e-5)
    assert torch.equal(at(q, 0), q)


def test_the_two_pairings_score_alike():
    """Neighbours, by complex numbers as Meta's code has it, and halves of the reordered vector."""
    rng = np.random.default_rng(1)
    q, k = rng.normal(size=(2, 8))
    angles = rope_frequencies(8).numpy()

    def neighbours(x, position):
        return ((x[0::2] + 1j * x[1::2]) * np.exp(1j * position * angles)).view(np.float64)

    def halves(x, position):
        at = rope_angles(torch.tensor(position), rope_frequencies(8))
        return rotate(halves_first(torch.from_numpy(x)), *at).numpy()

    assert neighbours(q, 9) @ neighbours(k, 4) == pytest.approx(halves(q, 9) @ halves(k, 4))
    assert np.allclose(halves_first(torch.from_numpy(neighbours(q, 9))), halves(q, 9), atol=1e-5)
    assert neighbours(q, 9) @ neighbours(k, 4) != pytest.approx(halves(q, 9) @ neighbours(k, 4))


def test_rope_needs_pairs():
    with pytest.raises(ValueError, match="head_dim is 7"):
        rope_frequencies(7)


# --- ALiBi ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20, 32, 71, 112])
def test_alibi_slopes_equal_blooms(heads):
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    assert torch.allclose(alibi_slopes(heads), theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("heads", [4, 12, 32])
def test_alibi_gives_the_weights_that_bloom_gives(heads):
    """BLOOM adds slope x the key's position: softmax does not see the difference."""
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 9), heads, torch.float32)  # [H, 1, S]
    torch.manual_seed(0)
    scores = torch.randn(heads, 9, 9)
    hidden = ~causal_mask(9, 9)
    ours = alibi_bias(alibi_slopes(heads), 9, 9)
    weights = [
        torch.softmax((scores + bias).masked_fill(hidden, -math.inf), -1) for bias in (ours, theirs)
    ]
    assert torch.allclose(*weights, atol=1e-6)


def test_alibi_of_the_last_queries_is_the_end_of_the_whole():
    """In decoding, one query stands at the last key."""
    slopes = alibi_slopes(4)
    whole = alibi_bias(slopes, 10, 10)
    assert torch.equal(alibi_bias(slopes, 1, 10), whole[:, -1:])
    assert torch.equal(alibi_bias(slopes, 3, 10), whole[:, -3:])
    assert (whole.diagonal(dim1=1, dim2=2) == 0).all()
    assert whole[0, 7, 5] == -2 * slopes[0]


def test_no_heads_have_no_slopes():
    with pytest.raises(ValueError, match="heads is 0"):
        alibi_slopes(0)


# --- attention without positions -----------------------------------------------------------------


def test_attention_without_positions_is_a_set():
    torch.manual_seed(0)
    x, order = torch.randn(9, 16), torch.randperm(9)
    assert torch.allclose(attention(x, x, x)[0][order], attention(*[x[order]] * 3)[0], atol=1e-5)
    angles = rope_angles(torch.arange(9), rope_frequencies(16))

    def with_rope(x):
        turned = rotate(x, *angles)
        return attention(turned, turned, x)[0]

    assert not torch.allclose(with_rope(x)[order], with_rope(x[order]), atol=1e-2)


def test_a_causal_mask_alone_tells_the_order():
    torch.manual_seed(0)
    x, order = torch.randn(9, 16), torch.randperm(9)
    mask = causal_mask(9, 9)
    one, other = attention(x, x, x, mask)[0], attention(*[x[order]] * 3, mask)[0]
    assert not torch.allclose(one[order], other, atol=1e-2)
