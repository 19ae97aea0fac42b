"""Checkpoints of `transformers`, and what is wrong with some."""

import json
import shutil

import pytest
import torch
from random_checkpoints import SCALED, saved
from safetensors.torch import load_file, save_file

from aiinfra_labs.cloud.serving import loader
from aiinfra_labs.cloud.serving.errors import LoadError
from aiinfra_labs.cloud.serving.model import causal_attention

IDS = torch.randint(97, (40,), generator=torch.Generator().manual_seed(1))


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.logits(model(ids, torch.arange(len(ids)), causal_attention))


def test_logits_equal_transformers(family):
    theirs, ours = family
    with torch.no_grad():
        expected = theirs(IDS[None]).logits[0]
    assert expected.std() > 0.3  # not all alike
    torch.testing.assert_close(logits(ours), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", sorted(SCALED))
def test_scaled_positions_equal_transformers(rule, tmp_path):
    theirs = saved(rule, tmp_path)
    with torch.no_grad():
        expected = theirs(IDS[None]).logits[0]
    torch.testing.assert_close(logits(loader.load(tmp_path)), expected, atol=1e-4, rtol=0)


def test_a_checkpoint_in_several_files(llama, tmp_path):
    theirs, ours, _ = llama
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(logits(loader.load(tmp_path)), logits(ours))
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(LoadError, match="no whole checkpoint"):
        loader.load(tmp_path)


@pytest.fixture
def copy(llama, tmp_path):
    shutil.copytree(llama[2], tmp_path / "model")
    return tmp_path / "model"


def with_config(folder, **changed):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def with_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "gpt2"}, "type 'gpt2'"),
        ({"attention_bias": True}, "no tensor layers.0.self_attn.qk?v?_proj.bias"),
        ({"mlp_bias": True}, "no tensor layers.0.mlp.gate_proj.bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope'"),
        ({"intermediate_size": 64}, r"gate_proj.weight is \[48, 32\].*\[64, 32\]"),
        ({"num_hidden_layers": 3}, "no tensor layers.2"),
        ({"num_hidden_layers": 1}, "has layers.1"),
    ],
)
def test_a_config_that_does_not_fit(copy, changed, message):
    with_config(copy, **changed)
    with pytest.raises(LoadError, match=message) as error:
        loader.load(copy)
    assert str(error.value).count("\n") == 2  # what, why, what to try


def test_a_config_without_a_size(copy):
    (copy / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(LoadError, match="no num_attention_heads"):
        loader.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_config_that_is_none(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(LoadError, match="config.json cannot be read"):
        loader.load(copy)


def test_weights_that_are_missing_misshaped_or_no_numbers(copy):
    name = "model.layers.0.self_attn.k_proj.weight"
    with_tensors(copy, lambda t: t.__setitem__(name, t[name][:3].clone()))
    with pytest.raises(LoadError, match=r"k_proj.weight is \[3, 32\]"):
        loader.load(copy)
    with_tensors(copy, lambda t: t.__setitem__(name, torch.full((16, 32), torch.nan)))
    with pytest.raises(LoadError, match="k_proj|q_proj"):
        loader.load(copy)
    with_tensors(copy, lambda t: t.pop(name))
    with pytest.raises(LoadError, match="no tensor layers.0.self_attn.k_proj.weight"):
        loader.load(copy)


def test_a_file_that_is_cut_off_or_not_there(copy, tmp_path):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LoadError, match="no whole checkpoint"):
        loader.load(copy)
    file.unlink()
    with pytest.raises(LoadError, match="no \\*.safetensors"):
        loader.load(copy)
    with pytest.raises(LoadError, match="has no config.json"):
        loader.load(tmp_path)


def test_ends_of_text(copy):
    with_config(copy, eos_token_id=5)
    (copy / "generation_config.json").unlink(missing_ok=True)
    assert loader.end_ids(copy) == (5,)
    (copy / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    assert loader.end_ids(copy) == (3, 4)
