"""Attention by hand: torch's own, on any shape; what a mask hides is hidden; no key is copied."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

from aiinfra_labs.llm.attention import (
    MultiHeadAttention,
    attention,
    causal_mask,
    grouped_attention,
    merge_heads,
    repeat_kv,
    split_heads,
)
from aiinfra_labs.llm.attention_cost import allocated

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
small = st.integers(1, 5)
length = st.integers(1, 9)
seeds = st.integers(0, 2**31)


def normal(seed, *shape, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator)


def some_mask(seed, *shape):
    """Random, and every query sees a key at least: torch's answer to none differs by its kernel."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    return mask


# --- equal to torch's own -------------------------------------------------------------------------


@given(
    seeds, small, small, length, length, small, small, st.sampled_from(("none", "bool", "lower"))
)
@settings(max_examples=80, deadline=None)
def test_it_is_torch_s_scaled_dot_product_attention(seed, b, heads, t, s, d, v, kind):
    if kind == "lower":
        t = min(t, s)
    query, key = normal(seed, b, heads, t, d, scale=3), normal(seed + 1, b, heads, s, d, scale=3)
    value = normal(seed + 2, b, heads, s, v)
    mask = {"none": None, "bool": some_mask(seed, b, heads, t, s), "lower": causal_mask(t, s)}[kind]
    theirs = causal_lower_right(t, s) if kind == "lower" else mask
    out, weights = attention(query, key, value, mask)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=theirs)
    torch.testing.assert_close(out, expected, **CLOSE)
    torch.testing.assert_close(weights.sum(-1), torch.ones(b, heads, t), **CLOSE)
    assert (weights >= 0).all()


@given(seeds, length, small)
@settings(max_examples=30, deadline=None)
def test_without_a_batch_and_with_causal_queries_it_is_torch_s(seed, t, d):
    query, key, value = (normal(seed + i, t, d) for i in range(3))
    out, _ = attention(query, key, value, causal_mask(t, t))
    expected = F.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)
    torch.testing.assert_close(out, expected[0], **CLOSE)


@given(seeds, small, small, small, length, length, small, st.booleans())
@settings(max_examples=60, deadline=None)
def test_grouped_heads_are_torch_s_enable_gqa(seed, b, kv_heads, group, t, s, d, masked):
    query = normal(seed, b, kv_heads * group, t, d)
    key, value = (normal(seed + i, b, kv_heads, s, d) for i in (1, 2))
    mask = some_mask(seed, b, 1, t, s) if masked else None
    out, weights = grouped_attention(query, key, value, mask)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(out, expected, **CLOSE)
    copied, by_copies = attention(query, repeat_kv(key, group), repeat_kv(value, group), mask)
    torch.testing.assert_close(out, copied, **CLOSE)
    torch.testing.assert_close(weights, by_copies, **CLOSE)


def as_torch_s(ours: MultiHeadAttention) -> nn.MultiheadAttention:
    """torch's module with our weights: it keeps the three projections in one matrix."""
    size = ours.q_proj.in_features
    theirs = nn.MultiheadAttention(size, ours.heads, batch_first=True)
    with torch.no_grad():
        parts = (ours.q_proj, ours.k_proj, ours.v_proj)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.o_proj.weight)
        theirs.out_proj.bias.copy_(ours.o_proj.bias)
    return theirs


@given(seeds, small, st.sampled_from((1, 2, 4)), small, length, length, st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_module_is_torch_s_multihead_attention(seed, b, heads, d, t, s, masked):
    torch.manual_seed(seed)
    ours = MultiHeadAttention(heads * d, heads)
    theirs = as_torch_s(ours)
    x, source = normal(seed, b, t, heads * d), normal(seed + 1, b, s, heads * d)
    real = some_mask(seed, b, s) if masked else None
    mask = None if real is None else real[:, None, None, :]
    padding = None if real is None else ~real  # theirs is True where a key is hidden
    out, weights = ours(x, source, mask)
    expected, looks = theirs(
        x, source, source, key_padding_mask=padding, average_attn_weights=False
    )
    torch.testing.assert_close(out, expected, **CLOSE)
    torch.testing.assert_close(weights, looks, **CLOSE)


def test_of_itself_it_asks_itself():
    torch.manual_seed(0)
    ours = MultiHeadAttention(12, 4, kv_heads=2, bias=False)
    x = normal(0, 2, 5, 12)
    assert torch.equal(ours(x)[0], ours(x, x)[0])
    assert ours.k_proj.weight.shape == (6, 12) and ours.k_proj.bias is None


def test_gradients_are_torch_s():
    query, key, value = (normal(i, 2, 3, 5, 4).requires_grad_() for i in range(3))
    mask = causal_mask(5, 5)
    ours = torch.autograd.grad(
        attention(query, key, value, mask)[0].square().sum(), (query, key, value)
    )
    theirs = torch.autograd.grad(
        F.scaled_dot_product_attention(query, key, value, is_causal=True).square().sum(),
        (query, key, value),
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


# --- what attention is ----------------------------------------------------------------------------


@given(seeds, length, length, small)
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_keys_does_not_matter(seed, t, s, d):
    """It sees a set: without positions, a sentence and its words shuffled are one."""
    query, key, value = normal(seed, t, d), normal(seed + 1, s, d), normal(seed + 2, s, d)
    order = torch.randperm(s, generator=torch.Generator().manual_seed(seed))
    out, weights = attention(query, key, value)
    moved, moved_weights = attention(query, key[order], value[order])
    torch.testing.assert_close(moved, out, **CLOSE)
    torch.testing.assert_close(moved_weights, weights[:, order], **CLOSE)


def test_equal_keys_share_and_a_close_one_takes_all():
    value = torch.tensor([[1.0], [2.0], [6.0]])
    out, weights = attention(torch.ones(1, 4), torch.ones(3, 4), value)
    torch.testing.assert_close(weights, torch.full((1, 3), 1 / 3))
    assert out.item() == pytest.approx(3)
    key = torch.tensor([[0.0], [50.0], [0.0]]).expand(3, 4)
    assert attention(torch.ones(1, 4), key, value)[0].item() == pytest.approx(2)


@pytest.mark.parametrize("scale", [1e4, 1e18])
def test_large_scores_are_no_trouble(scale):
    query, key, value = (normal(i, 6, 8) for i in range(3))
    out, weights = attention(scale * query, key, value, causal_mask(6, 6))
    assert out.isfinite().all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(6), **CLOSE)


def test_a_query_that_sees_nothing_gets_zeros_and_harms_no_other():
    query, key, value = (normal(i, 3, 4).requires_grad_() for i in range(3))
    mask = torch.tensor([[True, False, True], [False] * 3, [True] * 3])
    out, weights = attention(query, key, value, mask)
    assert out[1].eq(0).all() and weights[1].eq(0).all()
    expected, _ = attention(query[[0, 2]], key, value, mask[[0, 2]])
    torch.testing.assert_close(out[[0, 2]], expected, **CLOSE)
    assert weights[0, 1] == 0
    gradients = torch.autograd.grad(out.square().sum(), (query, key, value))
    theirs = torch.autograd.grad(expected.square().sum(), (query, key, value))
    for one, other in zip(gradients, theirs, strict=True):  # no nan on the way back, either
        torch.testing.assert_close(one, other, **CLOSE)


def test_the_last_of_causal_queries_sees_all():
    assert causal_mask(1, 4).all()
    assert causal_mask(2, 3).tolist() == [[True, True, False], [True, True, True]]
    assert torch.equal(causal_mask(4, 4), torch.ones(4, 4, dtype=torch.bool).tril())
    t, s = 3, 7
    whole, lower = causal_mask(s, s), causal_mask(t, s)
    assert torch.equal(lower, whole[-t:])


@given(seeds, length)
@settings(max_examples=20, deadline=None)
def test_no_future_key_is_seen(seed, t):
    query, key, value = (normal(seed + i, t, 4) for i in range(3))
    out, _ = attention(query, key, value, causal_mask(t, t))
    for cut in range(t):
        changed_key, changed_value = key.clone(), value.clone()
        changed_key[cut:], changed_value[cut:] = 100.0, -100.0
        changed, _ = attention(query, changed_key, changed_value, causal_mask(t, t))
        assert torch.equal(changed[:cut], out[:cut])
        assert not torch.allclose(changed[cut:], out[cut:])


# --- heads ----------------------------------------------------------------------------------------


@given(seeds, small, length, small, small)
@settings(max_examples=30, deadline=None)
def test_heads_are_slices_of_the_features(seed, b, t, heads, d):
    x = normal(seed, b, t, heads * d)
    split = split_heads(x, heads)
    assert split.shape == (b, heads, t, d)
    for head in range(heads):
        assert torch.equal(split[:, head], x[..., head * d : (head + 1) * d])
    assert torch.equal(merge_heads(split), x)


def test_no_key_is_copied():
    """One query against a long cache: less is allocated than one copy of the keys takes."""
    query = normal(0, 1, 32, 1, 128)
    key, value = (normal(i, 1, 8, 1024, 128) for i in (1, 2))
    kept = allocated(lambda: grouped_attention(query, key, value))
    copied = allocated(
        lambda: attention(query, repeat_kv(key, 4), repeat_kv(value, 4)),
    )
    assert kept < key.nbytes / 2
    assert copied > 8 * key.nbytes


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="6 query heads and 4 kv heads\nWhy.*\nTry"):
        grouped_attention(normal(0, 1, 6, 2, 4), normal(1, 1, 4, 2, 4), normal(2, 1, 4, 2, 4))
    with pytest.raises(ValueError, match="size 10, 4 heads, 4 kv heads"):
        MultiHeadAttention(10, 4)
    with pytest.raises(ValueError, match="size 12, 4 heads, 3 kv heads"):
        MultiHeadAttention(12, 4, 3)


# --- why it is divided by the root of D ----------------------------------------------------------


@pytest.mark.parametrize("d", [16, 64, 256])
def test_the_variance_of_a_score_is_d_and_divided_it_is_one(d):
    scores = normal(0, 400, d) @ normal(1, 400, d).T
    assert scores.var().item() == pytest.approx(d, rel=0.05)
    assert (scores / math.sqrt(d)).var().item() == pytest.approx(1, rel=0.05)
