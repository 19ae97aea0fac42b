"""Each rule of scaling equals transformers' `ROPE_INIT_FUNCTIONS`."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.llm import rope_scaling
from aiinfra_labs.llm.positions import rope_frequencies


def theirs(kind, head_dim, base, length=None, longest=32_768, **parameters):
    """(inv_freq, attention_factor) of transformers."""
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        max_position_embeddings=longest,
        rope_parameters={"rope_type": kind, "rope_theta": base, **parameters},
    )
    return rope.ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)


def close(ours, other):
    return torch.allclose(ours, other, rtol=1e-5, atol=0)


SHAPES = [(32, 10_000.0), (64, 10_000.0), (128, 500_000.0), (128, 1_000_000.0)]


@pytest.mark.parametrize(("head_dim", "base"), SHAPES)
@pytest.mark.parametrize("factor", [1.0, 2.0, 8.0])
def test_linear(head_dim, base, factor):
    found, scale = theirs("linear", head_dim, base, factor=factor)
    assert close(rope_scaling.linear(rope_frequencies(head_dim, base), factor), found)
    assert scale == 1


@pytest.mark.parametrize(("head_dim", "base"), SHAPES)
@pytest.mark.parametrize(("factor", "length"), [(2.0, 100), (2.0, 8192), (4.0, 6000)])
def test_dynamic_ntk(head_dim, base, factor, length):
    found, _ = theirs("dynamic", head_dim, base, length=length, longest=2048, factor=factor)
    assert close(rope_scaling.dynamic_ntk(head_dim, base, factor, length, 2048), found)


@pytest.mark.parametrize(("head_dim", "base"), SHAPES)
@pytest.mark.parametrize(("factor", "trained"), [(8.0, 8192), (32.0, 8192), (4.0, 512)])
def test_llama3(head_dim, base, factor, trained):
    found, _ = theirs(
        "llama3",
        head_dim,
        base,
        factor=factor,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=trained,
    )
    assert close(rope_scaling.llama3(rope_frequencies(head_dim, base), factor, trained), found)


@pytest.mark.parametrize(("head_dim", "base"), SHAPES)
@pytest.mark.parametrize(("factor", "trained"), [(4.0, 128), (4.0, 32_768), (40.0, 4096)])
def test_yarn(head_dim, base, factor, trained):
    found, scale = theirs(
        "yarn", head_dim, base, factor=factor, original_max_position_embeddings=trained
    )
    ours, our_scale = rope_scaling.yarn(head_dim, base, factor, trained)
    assert close(ours, found)
    assert our_scale == pytest.approx(scale)


@given(st.sampled_from([16, 32, 64, 128]), st.floats(1.0, 64.0))
@settings(max_examples=40, deadline=None)
def test_what_all_rules_share(head_dim, factor):
    """The slowest pair is divided by the factor, none by more, and none turns faster."""
    plain = rope_frequencies(head_dim)
    rules = {
        "linear": rope_scaling.linear(plain, factor),
        "ntk": rope_scaling.ntk(head_dim, 10_000.0, factor),
        "llama3": rope_scaling.llama3(plain, factor, 256),
        "yarn": rope_scaling.yarn(head_dim, 10_000.0, factor, 256)[0],
    }
    for name, scaled in rules.items():
        ratio = plain / scaled
        assert ratio[-1].item() == pytest.approx(factor, rel=1e-3), name
        assert (ratio > 1 - 1e-4).all() and (ratio < factor * (1 + 1e-3)).all(), name
        if name != "linear":
            assert ratio[0].item() == pytest.approx(1, rel=1e-5), name


def test_turns():
    assert rope_scaling.rotations(rope_frequencies(4), 100)[0].item() == pytest.approx(
        100 / (2 * math.pi)
    )


@pytest.mark.parametrize("factor", [0.5, 0.0, -2.0, float("nan")])
def test_a_factor_below_one_is_refused(factor):
    for rule in (
        lambda: rope_scaling.linear(rope_frequencies(8), factor),
        lambda: rope_scaling.ntk(8, 10_000.0, factor),
        lambda: rope_scaling.llama3(rope_frequencies(8), factor, 128),
        lambda: rope_scaling.yarn(8, 10_000.0, factor, 128),
    ):
        with pytest.raises(ValueError, match="factor is"):
            rule()
