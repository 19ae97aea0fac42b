"""A config.json is honoured, or refused by the name of the key; none is dropped without a word."""

import json
import logging
import shutil

import pytest
import torch
import transformers

from aiinfra_labs.bounds import SettingError
from aiinfra_labs.llm import bpe, course_model
from aiinfra_labs.llm.checkpoint import CheckpointError
from aiinfra_labs.llm.deepseek.balance_study import CONFIG
from aiinfra_labs.llm.deepseek.config import LEFT_OUT, DeepSeekConfig
from aiinfra_labs.llm.deepseek.model import DeepSeek
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.scale import parameters, shapes

logging.getLogger("transformers").setLevel(logging.ERROR)
LLAMA = transformers.LlamaConfig().to_dict()
SCALED = {"rope_type": "linear", "factor": 4.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model whose positions turn by another base than the usual one."""
    tokenizer = bpe.train(["abc abd " * 9], 266)
    torch.manual_seed(0)
    config = LlamaConfig(len(tokenizer), 32, 48, 2, 4, 2, 64, rope_theta=500_000.0)
    model = Llama(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(10)
    path = tmp_path_factory.mktemp("ours")
    course_model.save_model(path, model, tokenizer, {})
    return path


@pytest.fixture
def changed(folder, tmp_path):
    """The folder with other settings; None takes one out."""

    def change(**settings):
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        config = json.loads((tmp_path / "config.json").read_text()) | settings
        config = {key: value for key, value in config.items() if value != "out"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return change


def test_a_folder_that_transformers_wrote_computes_the_same(folder, tmp_path):
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs.save_pretrained(tmp_path)
    shutil.copy(folder / "tokenizer.json", tmp_path)
    back, _ = course_model.load_model(str(tmp_path))
    assert back.config.rope_theta == 500_000.0
    ids = torch.arange(60)[None] % back.config.vocab_size
    with torch.no_grad():
        assert (back(ids) - theirs(ids).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": SCALED},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_parameters": SCALED | {"rope_theta": 500_000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},  # and rope_theta
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_parameters": "default"},
        {"head_dim": 16},
        {"model_type": "mistral", "attention_bias": True},
        {"model_type": "mistral", "mlp_bias": True},
        {"attention_bias": 1.5},
        {"model_type": "mistral", "sliding_window": 0},
        {"hidden_act": "gelu"},
        {"sliding_window": 32},
        {"quantization_config": {"bits": 4}},
        {"pretraining_tp": 2},
        {"model_type": "qwen2"},
        {"something_new": 1},
        {"hidden_size": "out"},
        {"hidden_size": "32"},
        {"num_hidden_layers": 2.0},
        {"rms_norm_eps": -1.0},
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(changed, settings):
    *_, name = settings
    if name == "model_type":
        name = settings[name]
    with pytest.raises(CheckpointError, match=f"{name}.*\nWhy: .*\nTry: "):
        course_model.load_model(changed(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": None, "quantization_config": None},
        {"head_dim": 8, "attention_bias": False, "pretraining_tp": 1, "use_cache": True},
        {"rope_theta": "out", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    ],
)
def test_what_says_nothing_new_is_taken(changed, settings):
    assert course_model.load_model(changed(**settings))[0].config.rope_theta == 500_000.0


def test_what_a_llama_config_leaves_out_is_as_in_transformers():
    sizes = {key: LLAMA[key] for key in shapes.NEEDED}
    assert LlamaConfig.from_dict(sizes) == LlamaConfig.from_dict(LLAMA)


def test_what_a_deepseek_config_leaves_out_is_as_in_transformers():
    theirs = transformers.DeepseekV3Config().to_dict()
    assert {key: theirs[key] for key in LEFT_OUT} == LEFT_OUT
    without = {k: v for k, v in theirs.items() if k not in LEFT_OUT and k != "q_lora_rank"}
    assert DeepSeekConfig.from_dict(without) == DeepSeekConfig.from_dict(theirs)


def test_the_courses_own_configs_are_read_as_they_were():
    assert DeepSeekConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert LlamaConfig.from_dict(course_model.CONFIG.to_dict()) == course_model.CONFIG


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": {"type": "yarn", "factor": 40}},
        {"rope_interleave": False},
        {"head_dim": 128},
        {"num_key_value_heads": 4},
        {"topk_method": "greedy"},
        {"model_type": "deepseek_v2"},
        {"kv_lora_rank": 0},
        {"num_attention_heads": None},
        {"attention_bias": True},
    ],
)
def test_a_deepseek_that_is_none_of_ours_is_refused(change):
    config = transformers.DeepseekV3Config().to_dict() | change
    with pytest.raises(SettingError, match="Why: "):
        DeepSeekConfig.from_dict(config)


def test_a_deepseek_of_transformers_computes_the_same_from_its_config():
    small = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "moe_intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "kv_lora_rank": 16,
        "q_lora_rank": 24,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "rope_theta": 500_000.0,
    }
    torch.manual_seed(0)
    theirs = transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**small)).eval()
    ours = DeepSeek(DeepSeekConfig.from_dict(theirs.config.to_dict())).eval()
    ours.load_state_dict(theirs.state_dict())
    ids = torch.arange(40)[None] % 50
    with torch.no_grad():
        assert (ours(ids) - theirs(ids).logits).abs().max() < 1e-4


# --- the shapes of unit 1.6 -----------------------------------------------------------------------


def counted(kind, config):
    with torch.device("meta"):
        return sum(p.numel() for p in kind(config).parameters())


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (transformers.LlamaConfig(num_hidden_layers=2), transformers.LlamaForCausalLM),
        (transformers.MixtralConfig(num_hidden_layers=2), transformers.MixtralForCausalLM),
        (transformers.DeepseekV3Config(num_hidden_layers=4), transformers.DeepseekV3ForCausalLM),
        (
            transformers.DeepseekV3Config(num_hidden_layers=4, q_lora_rank=None),
            transformers.DeepseekV3ForCausalLM,
        ),
        (
            transformers.LlamaConfig(num_hidden_layers=1, head_dim=256),
            transformers.LlamaForCausalLM,
        ),
    ],
)
def test_a_shape_has_the_parameters_that_transformers_makes(config, kind):
    assert parameters.total(shapes.from_config(config.to_dict())) == counted(kind, config)


def test_the_courses_own_mixture_has_its_parameters():
    found = shapes.from_config(CONFIG.to_dict())
    assert parameters.total(found) == DeepSeek(CONFIG).parameter_count()
    assert parameters.active(found) < parameters.total(found)


@pytest.mark.parametrize(
    "config",
    [
        transformers.LlamaConfig(attention_bias=True).to_dict(),
        transformers.Qwen2Config().to_dict(),
        transformers.Qwen3Config().to_dict(),
        transformers.GPT2Config().to_dict(),
        transformers.GemmaConfig().to_dict(),
        LLAMA | {"num_experts_per_tok": 2},
        LLAMA | {"num_hidden_layers": 0},
        {key: value for key, value in LLAMA.items() if key != "vocab_size"},
        {},
        None,
        "llama-3-8b",
    ],
    ids=lambda config: str(config)[:20],
)
def test_a_shape_that_is_not_understood_is_refused(config):
    with pytest.raises(SettingError, match="\nWhy: .*\nTry: "):
        shapes.from_config(config)
