"""Every key of a config.json is honoured as `transformers` honours it, or refused by its name."""

import json
import os
import subprocess
import sys

import pytest
import torch
from random_checkpoints import SHAPE
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aiinfra_labs.cloud.serving import loader
from aiinfra_labs.cloud.serving.errors import LoadError
from aiinfra_labs.cloud.serving.model import causal_attention
from aiinfra_labs.llm import rope_scaling
from aiinfra_labs.llm.positions import rope_frequencies

IDS = torch.randint(97, (60,), generator=torch.Generator().manual_seed(1))
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a random Llama whose heads have 32 dimensions, and its config.json."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE | {"hidden_size": 128}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.uniform_(0.5, 1.5) if "norm" in name else weight.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder, json.loads((folder / "config.json").read_text())


@pytest.fixture
def folder(saved, tmp_path):
    """The same, to change: the weights are linked."""
    os.link(saved[0] / "model.safetensors", tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def write(saved, folder):
    def write(remove=(), **changed):
        config = {name: value for name, value in saved[1].items() if name not in remove}
        (folder / "config.json").write_text(json.dumps(config | changed))

    write()
    return write


def off(folder):
    """How far our logits lie from transformers', of the same folder."""
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = loader.load(folder)
    ids = IDS[: ours.config.max_position_embeddings]
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0]
        found = ours.logits(ours(ids, torch.arange(len(ids)), causal_attention))
    assert expected.std() > 0.3
    return (found - expected).abs().max()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"attention_factor": 1.0},
        {"attention_factor": 0.5},
        {"mscale": 1.0, "mscale_all_dim": 1.0},
        {"mscale": 0.7, "mscale_all_dim": 1.3},
        {"mscale": 2.0},  # alone it has no effect
        {"mscale": 0, "mscale_all_dim": 0},
        {"truncate": False},
        {"truncate": False, "beta_fast": 8, "beta_slow": 2},
        {"beta_fast": None, "beta_slow": None},
        {"factor": None},
        {"original_max_position_embeddings": 64},
        {"factor": 1.0},
        {"rope_theta": 500.0},
        {"finetuned": True},
        {"attn_factor": 1.0, "extrapolation_factor": 1.0},
        {"original_max_position_embeddings": 5},  # the slowest pair makes no turn
    ],
)
def test_yarn(write, folder, more):
    write(rope_parameters=YARN | more)
    assert off(folder) < 1e-4


def test_a_key_of_yarn_that_is_read_in_two_ways(write, folder):
    """As of DeepSeek-R1-0528-Qwen3-8B: transformers passes it over, and it is not lost silently."""
    write(rope_parameters=YARN | {"attn_factor": 0.8782488562869419})
    with pytest.warns(UserWarning, match="attn_factor of 0.878.*vLLM multiplies"):
        assert off(folder) < 1e-4


@pytest.mark.parametrize(
    "rule",
    [
        LLAMA3,
        LLAMA3 | {"high_freq_factor": 8.0, "rope_theta": 1000.0},
        {"rope_type": "linear", "factor": 2.0},
        {"type": "linear", "factor": 2},
        {"rope_type": "default", "rope_theta": 500.0},
        {"rope_type": "linear", "type": "dynamic", "factor": 2.0},  # rope_type goes before
    ],
)
@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
def test_rules_in_both_places(write, folder, rule, name):
    write(["rope_parameters"], **{name: rule, "rope_theta": 2000.0})
    assert off(folder) < 1e-4


def test_both_places_at_once(write, folder):
    """As Qwen's README says how to add YaRN, to a file that transformers 5 saved."""
    write(rope_scaling={k: v for k, v in YARN.items() if k != "rope_theta"})
    assert loader.load_config(folder).rope_scaling["rope_type"] == "yarn"
    assert off(folder) < 1e-4
    write(rope_parameters={"rope_type": "default", "rope_theta": 1e6}, rope_scaling=YARN)
    with pytest.raises(LoadError, match="rope_theta of 1000000.0 in rope_parameters.*10000.0"):
        loader.load(folder)
    write(rope_parameters=LLAMA3, rope_scaling=YARN)
    with pytest.raises(LoadError, match="rope_type of 'llama3' in rope_parameters"):
        loader.load(folder)


def test_trained_length_beside_the_rule(write, folder):
    write(rope_parameters=YARN, original_max_position_embeddings=64)
    assert loader.load_config(folder).max_position_embeddings == 256
    assert off(folder) < 1e-4


@pytest.mark.parametrize(("factor", "context"), [(4.0, 128), (2.5, 80), (None, 128)])
def test_context_of_yarn(write, folder, factor, context):
    write(rope_parameters=YARN | {"factor": factor})
    found = loader.load_config(folder)
    assert found.max_position_embeddings == context
    assert len(loader.load(folder).cos) == context


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (YARN | {"ext_factor": 2}, "key ext_factor of 2"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 8}, "beta_fast"),
        ({"rope_type": "default", "factor": 2.0}, "factor of 2.0"),
        ({"rope_type": "dynamic", "factor": 2.0}, "'dynamic'"),
        ({"rope_type": "linear"}, "no factor"),
        ({"rope_type": "linear", "factor": None}, "no factor"),
        ({"rope_type": "linear", "factor": 0.5}, "factor is 0.5"),
        ({"rope_type": "linear", "factor": True}, "factor is True"),
        (YARN | {"factor": "4"}, "factor is '4'"),
        (YARN | {"factor": float("nan")}, "factor is nan"),
        (YARN | {"attention_factor": -1}, "attention_factor is -1"),
        (YARN | {"attn_factor": "1"}, "attn_factor is '1'"),
        (LLAMA3 | {"attn_factor": 1.0}, "attn_factor of 1.0"),
        (YARN | {"truncate": 1}, "truncate is 1"),
        (YARN | {"beta_fast": 1, "beta_slow": 2}, "beta_slow is 2 and beta_fast 1"),
        (YARN | {"original_max_position_embeddings": 0}, "original_max_position_embeddings is 0"),
        (LLAMA3 | {"low_freq_factor": None}, "no low_freq_factor"),
        (LLAMA3 | {"high_freq_factor": 1.0}, "low_freq_factor is 1.0 and high_freq_factor 1.0"),
        ({"rope_type": "default", "rope_theta": -5}, "rope_theta is -5"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"full_attention": {"rope_type": "default"}}, "same for all layers"),
        ("yarn", "rope_parameters of 'yarn'"),
    ],
)
def test_a_rule_that_is_refused(write, folder, rule, message):
    write(rope_parameters=rule)
    with pytest.raises(LoadError, match=message) as error:
        loader.load(folder)
    assert str(error.value).count("\n") == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"sliding_window": 8}, "sliding_window"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types.*no window"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layer_types"),
        ({"layer_types": ["full_attention"]}, "each of the 2 layers"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
        ({"model_type": "mistral", "sliding_window": "8"}, "sliding_window is '8'"),
        (
            {"model_type": "mistral", "layer_types": ["full_attention", "sliding_attention"]},
            "passes layer_types over",
        ),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias to True"),
        ({"model_type": "qwen3", "mlp_bias": True}, "mlp_bias to True"),
        (
            {"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": -1},
            "max_window_layers is -1",
        ),
        (
            {"model_type": "qwen3", "layer_types": ["sliding_attention"] * 2},
            "no window(.|\n)*use_sliding_window",
        ),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"logits_scaling": 8.0}, "logits_scaling"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier"),
        ({"query_pre_attn_scalar": 224}, "query_pre_attn_scalar"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "auto_map"),
        ({"hidden_act": None}, "hidden_act"),
        ({"num_attention_heads": 0}, "num_attention_heads of 0"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers of '2'"),
        ({"vocab_size": 97.0}, "vocab_size of 97.0"),
        ({"num_key_value_heads": 3}, "4 heads, and 3 kv heads"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps is '1e-6'"),
    ],
)
def test_a_key_that_is_refused(write, folder, changed, message):
    write(**changed)
    with pytest.raises(LoadError, match=message) as error:
        loader.load(folder)
    assert str(error.value).count("\n") == 2


def test_keys_that_say_nothing_about_the_answer(write, folder):
    write(
        attention_bias=False,
        final_logit_softcapping=None,
        layer_types=["full_attention"] * 2,
        pretraining_tp=2,
        attention_dropout=0.1,
        _name_or_path="somewhere/else",
        temperature=0.6,
    )
    assert off(folder) < 1e-4


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_all_keys_that_transformers_writes_are_known(kind, tmp_path):
    kind().save_pretrained(tmp_path)
    everything = json.loads((tmp_path / "config.json").read_text()) | kind().to_dict()
    (tmp_path / "config.json").write_text(json.dumps(everything))
    found = loader.load_config(tmp_path)
    assert (found.hidden_size, found.vocab_size) == (kind().hidden_size, kind().vocab_size)


def test_qwen3_without_its_head_dim(tmp_path):
    """transformers then takes 128, whatever hidden_size / heads is."""
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**SHAPE | {"hidden_size": 32})).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert loader.load_config(tmp_path).head_dim == 128
    loader.load(tmp_path)


def test_untied_weights_where_the_config_ties(write, folder):
    write(tie_word_embeddings=True)
    with pytest.raises(LoadError, match="ties lm_head.weight to the embedding"):
        loader.load(folder)


def test_integers_are_no_weights(write, folder):
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    (folder / "model.safetensors").unlink()
    save_file(tensors | {name: tensors[name].to(torch.int8)}, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"down_proj.weight holds int8"):
        loader.load(folder)


def test_numbers_too_large_for_half_precision(write, folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors["model.norm.weight"][3] = 1e5
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"norm.weight holds numbers up to 1e\+05"):
        loader.load(folder, torch.float16)
    assert loader.load(folder, torch.bfloat16).norm.weight[3] > 9e4


def test_whole_pairs_or_not():
    """YaRN's ramp ends at whole pairs, or where the formula puts it."""
    whole, _ = rope_scaling.yarn(64, 10_000.0, 4.0, 2048)
    exact, _ = rope_scaling.yarn(64, 10_000.0, 4.0, 2048, whole_pairs=False)
    assert not torch.equal(whole, exact)
    kept = rope_frequencies(64)
    for scaled in (whole, exact):
        assert ((kept / 4 <= scaled * 1.0001) & (scaled <= kept * 1.0001)).all()


LOADING = """
import sys
from aiinfra_labs.cloud.serving import loader

def peak():  # bytes
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

loader.load(sys.argv[2])  # a small one: all code is there
before = peak()
model = loader.load(sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_memory_at_the_peak(saved, tmp_path):
    """The model, its largest tensor, and no copy of the file: read whole it would be 2 of them."""
    config = LlamaConfig(
        **SHAPE | {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 80e6
    done = subprocess.run(
        [sys.executable, "-c", LOADING, tmp_path, saved[0]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.5 * size  # 1, the largest tensor of 3 MB, and the allocator's rest
