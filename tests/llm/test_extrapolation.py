"""The small decoder of unit 1.2: what each way of positions can see, and what its losses mean."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from aiinfra_labs.llm import extrapolation, rope_scaling
from aiinfra_labs.llm.attention import attention, causal_mask
from aiinfra_labs.llm.checkpoint import CheckpointError
from aiinfra_labs.llm.corpus import Document
from aiinfra_labs.llm.extrapolation import (
    LONGER,
    RECIPE,
    SHAPE,
    TRAINED,
    WAYS,
    Angles,
    Attention,
    PositionModel,
    binned,
    byte_streams,
    load_stored,
    loss_by_position,
    save_stored,
    scalings,
    windows,
)
from aiinfra_labs.llm.positions import alibi_bias, alibi_slopes, rope_angles, rotate


@pytest.fixture
def model(request):
    torch.manual_seed(0)
    return PositionModel(request.param).eval()


@pytest.mark.parametrize("model", WAYS, indirect=True)
def test_no_token_sees_a_later_one(model):
    ids = torch.randint(256, (1, 20), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[0, 12:] = 7
    with torch.no_grad():
        before, after = model(ids), model(other)
    assert before.shape == (1, 20, 256)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-5)
    assert not torch.allclose(before[:, 12], after[:, 12], atol=1e-3)


@pytest.mark.parametrize("model", WAYS, indirect=True)
def test_only_learned_positions_end(model):
    ids = torch.zeros(1, TRAINED + 1, dtype=torch.int64)
    if model.way == "learned":
        with pytest.raises(ValueError, match="position 128, and the table has rows 0 to 127"):
            model(ids)
    else:
        assert model(ids).shape[1] == TRAINED + 1


@pytest.mark.parametrize("way", ["none", "rope", "alibi"])
def test_attention_equals_the_courses_own(way):
    """Unit 1.3's attention with the positions put in by hand, against torch's kernel."""
    torch.manual_seed(0)
    layer, x, t = Attention(SHAPE), torch.randn(2, 30, 128), 30
    angles = rope_angles(torch.arange(t), scalings(1)["as trained"].frequencies)
    bias = alibi_bias(alibi_slopes(4), t, t).masked_fill(~causal_mask(t, t), -math.inf)
    with torch.no_grad():
        given = layer(x, angles if way == "rope" else None, bias if way == "alibi" else None)
        split = layer.qkv_proj(x).view(2, t, 3, 4, 32).permute(2, 0, 3, 1, 4)
        query, key, value = split
        if way == "rope":
            query, key = rotate(query, *angles), rotate(key, *angles)
        if way == "alibi":
            scores = query @ key.transpose(-2, -1) / math.sqrt(32) + bias
            out = torch.softmax(scores, -1) @ value
        else:
            out, _ = attention(query, key, value, causal_mask(t, t))
        expected = layer.o_proj(out.transpose(1, 2).reshape(2, t, 128))
    assert torch.allclose(given, expected, atol=1e-5)


def test_yarns_scale_sharpens_the_scores():
    torch.manual_seed(0)
    model, ids = PositionModel("rope").eval(), torch.randint(256, (1, 16))
    with torch.no_grad():
        plain = model(ids)
        model.angles = replace(model.angles, scale=1.0)
        assert torch.equal(model(ids), plain)
        model.angles = replace(model.angles, scale=3.0)
        assert not torch.allclose(model(ids), plain, atol=1e-4)


def test_every_way_starts_from_the_same_weights():
    weights = []
    for way in WAYS:
        torch.manual_seed(3)
        weights.append(dict(PositionModel(way).named_parameters()))
    for other in weights[1:]:
        for name, weight in weights[0].items():
            assert torch.equal(weight, other[name]), name
    extra = {way: set(w) - set(weights[0]) for way, w in zip(WAYS, weights, strict=True)}
    assert {way for way, more in extra.items() if more} == {"learned"}


def test_an_unknown_way_is_named():
    with pytest.raises(ValueError, match="way is 'relative'"):
        PositionModel("relative")


# --- losses by position --------------------------------------------------------------------------


def test_loss_by_position_is_the_cross_entropy_of_each_place():
    torch.manual_seed(0)
    model, text = PositionModel("rope").eval(), torch.randint(256, (5, 33))
    losses = loss_by_position(model, text, batch=2)
    with torch.no_grad():
        log = torch.log_softmax(model(text[:, :-1]), -1)
    for t in (0, 7, 31):
        expected = -sum(log[b, t, text[b, t + 1]] for b in range(5)) / 5
        assert losses[t].item() == pytest.approx(expected.item(), abs=1e-4)
        whole = model.loss(text[:, :-1], text[:, 1:]).item()
    assert losses.mean().item() == pytest.approx(whole, abs=1e-4)
    assert torch.allclose(binned(losses, 16), torch.stack((losses[:16].mean(), losses[16:].mean())))


def test_windows_reach_from_end_to_end():
    text = windows(torch.arange(100, dtype=torch.uint8), 9, 4)
    assert text.shape == (4, 10) and text.dtype == torch.int64
    assert text[0, 0] == 0 and text[-1, -1] == 99
    assert (text.diff(dim=1) == 1).all()
    with pytest.raises(ValueError, match="9 tokens, and a window is 10"):
        windows(torch.zeros(9, dtype=torch.uint8), 9, 1)


def test_byte_streams_keep_what_is_held_out_apart():
    documents = [Document(f"f{i}.py", f"x{i} = 1\n") for i in range(60)]
    training, held_out = byte_streams(documents)
    for document in documents:
        kept, other = (held_out, training) if document.held_out else (training, held_out)
        assert document.text.encode() + b"\0" in bytes(kept.numpy())
        assert document.text.encode() not in bytes(other.numpy())
    assert len(held_out) and len(training)


def test_recipes_are_of_the_lengths_that_they_say():
    assert RECIPE.context == TRAINED == SHAPE.max_position_embeddings
    assert LONGER.context == 4 * TRAINED
    assert list(scalings(4)) == ["as trained", "linear", "NTK", "Llama 3", "YaRN"]


# --- the stored model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    _, held_out = byte_streams()
    return load_stored(), windows(held_out, 4 * TRAINED, 12)


def test_the_stored_model_reads_python(stored):
    """Far better than a byte's frequency alone, within the trained length."""
    model, text = stored
    within = loss_by_position(model, text[:, : TRAINED + 1])[16:].mean().item()
    counts = torch.bincount(text.flatten(), minlength=256).float()
    unigram = F.cross_entropy((counts + 1e-9).log().expand(len(text.flatten()), -1), text.flatten())
    assert within < 0.75 * unigram.item()


def test_the_stored_model_loses_its_way_and_llama_3s_rule_finds_it(stored):
    model, text = stored
    plain = loss_by_position(model, text)
    model.angles = Angles(rope_scaling.llama3(model.angles.frequencies, 4.0, TRAINED))
    stretched = loss_by_position(model, text)
    model.angles = scalings(1)["as trained"]
    past = slice(2 * TRAINED, None)
    assert plain[past].mean() > plain[64:TRAINED].mean() + 0.1
    assert stretched[past].mean() < plain[past].mean() - 0.05


def test_the_file_is_small_and_whole(tmp_path):
    assert extrapolation.stored_file().stat().st_size < 1_000_000
    torch.manual_seed(0)
    model = PositionModel("rope")
    save_stored(model, tmp_path / "m.safetensors")
    again = load_stored(tmp_path / "m.safetensors")
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
    (tmp_path / "m.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_stored(tmp_path / "m.safetensors")
