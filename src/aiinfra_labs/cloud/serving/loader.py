"""A model from a local folder: config.json and *.safetensors, as `transformers` saves them.

Unit 4.3. Llama, Qwen2 and Qwen3. Every tensor of the file must have a place in the model and every
place a tensor; what does not fit is named before anything is built.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import LoadError
from .model import CausalLM, ModelConfig

FAMILIES = ("llama", "qwen2", "qwen3")
SCALINGS = ("default", "linear", "llama3", "yarn")
# What the checkpoint keeps apart and the model below each other.
MERGED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
COMPUTED = ("rotary_emb.inv_freq",)  # in old files: a table that the model makes itself


def load(
    folder: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> CausalLM:
    """The model of a folder, ready to run. Raises `LoadError`."""
    folder = Path(folder)
    config = load_config(folder)
    model = CausalLM(config)
    fill(model, read_tensors(folder))
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


# --- config.json ----------------------------------------------------------------------------------


def load_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder. Raises `LoadError` for one that is not supported."""
    found = read_json(folder / "config.json")
    family = found.get("model_type")
    if family not in FAMILIES:
        raise LoadError(
            f"{folder.name} holds a model of type {family!r}",
            "each family has its own layers",
            f"a checkpoint of {', '.join(FAMILIES)}",
        )
    _refuse(found, family)
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    rope = {("rope_type" if k == "type" else k): v for k, v in rope.items()}
    if rope.get("rope_type", "default") not in SCALINGS:
        raise LoadError(
            f"positions are scaled by {rope['rope_type']!r}",
            "another rule turns the same queries by other angles",
            f"one of {', '.join(SCALINGS)}",
        )
    try:
        heads = found["num_attention_heads"]
        return ModelConfig(
            vocab_size=found["vocab_size"],
            hidden_size=found["hidden_size"],
            intermediate_size=found["intermediate_size"],
            num_hidden_layers=found["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=found.get("num_key_value_heads") or heads,
            head_dim=found.get("head_dim") or found["hidden_size"] // heads,
            max_position_embeddings=found["max_position_embeddings"],
            rope_theta=rope.get("rope_theta") or found.get("rope_theta") or 10_000.0,
            rope_scaling={k: v for k, v in rope.items() if k != "rope_theta"},
            rms_norm_eps=found.get("rms_norm_eps", 1e-6),
            tie_word_embeddings=found.get("tie_word_embeddings", False),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
        )
    except KeyError as missing:
        raise LoadError(
            f"config.json of {folder.name} has no {missing.args[0]}",
            "the model is built from its sizes",
            "the config.json that was saved with these weights",
        ) from None


def end_ids(folder: Path) -> tuple[int, ...]:
    """The tokens that end a text, by generation_config.json or else config.json."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            found = read_json(folder / name).get("eos_token_id")
            if found is not None:
                return tuple(found) if isinstance(found, list) else (found,)
    return ()


def _refuse(found: dict[str, Any], family: str) -> None:
    """What the model would get wrong without a word."""
    odd = {
        "attention_bias": found.get("attention_bias") and family != "qwen2",
        "mlp_bias": found.get("mlp_bias"),
        "use_sliding_window": found.get("use_sliding_window"),
        "quantization_config": found.get("quantization_config"),
        "hidden_act": found.get("hidden_act", "silu") != "silu",
    }
    for name, there in odd.items():
        if there:
            raise LoadError(
                f"config.json sets {name} to {found[name]!r}",
                "this engine has no such layer, and its answers would be wrong",
                "a checkpoint without it",
            )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `LoadError`."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
        return found
    except FileNotFoundError:
        raise LoadError(
            f"{file.parent.name or file.parent} has no {file.name}",
            "a model is its weights, the shape they have, and the tokenizer of its ids",
            "a folder with config.json, *.safetensors and tokenizer.json",
        ) from None
    except (ValueError, OSError) as error:
        raise LoadError(
            f"{file.name} cannot be read: {error}", "it holds JSON", "the file as it was saved"
        ) from None


# --- *.safetensors --------------------------------------------------------------------------------


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of all *.safetensors, by name. Raises `LoadError`."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():  # a large checkpoint says which of its files holds what
        names = set(read_json(index).get("weight_map", {}).values())
        files = [folder / name for name in sorted(names)]
    elif (folder / "model.safetensors").exists():
        files = [folder / "model.safetensors"]  # whatever else lies beside it
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise LoadError(
                f"{file.name} is no whole checkpoint: {error}",
                "its header or its numbers are cut off, or it is missing",
                "copy it again",
            ) from None
    if not tensors:
        raise LoadError(
            f"{folder.name} has no *.safetensors",
            "the weights are read from there; other formats can hold code, and are not opened",
            "model.save_pretrained(folder) of transformers writes one",
        )
    return tensors


def fill(model: CausalLM, tensors: dict[str, Tensor]) -> None:
    """Copy a checkpoint into the model, all or nothing. Raises `LoadError`."""
    tensors = {n.removeprefix("model."): t for n, t in tensors.items() if not n.endswith(COMPUTED)}
    taken: set[str] = set()
    chosen: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        parts = _parts(name)
        for part in parts:
            if part not in tensors:
                raise LoadError(
                    f"the checkpoint has no tensor {part}",
                    "it is of a model of another shape, or a file of it is missing",
                    "the config.json and all *.safetensors of one model",
                )
        found = [tensors[part] for part in parts]
        rows = _rows(model.config, name, parameter)
        for part, tensor, count in zip(parts, found, rows, strict=True):
            expected = (count, *parameter.shape[1:])
            if tuple(tensor.shape) != expected:
                raise LoadError(
                    f"{part} is {list(tensor.shape)} in the checkpoint, and {list(expected)} by "
                    "config.json",
                    "weights and config are of two models",
                    "the config.json that was saved with these weights",
                )
        chosen[name] = found[0] if len(found) == 1 else torch.cat(found)
        if not torch.isfinite(chosen[name]).all():
            raise LoadError(
                f"{parts[0]} holds numbers that are none (nan or infinite)",
                "every answer would be nan",
                "an earlier checkpoint: this one was damaged, or its training went wrong",
            )
        taken |= set(parts)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if left := sorted(set(tensors) - taken - tied):
        raise LoadError(
            f"the checkpoint has {left[0]}, which the model has not",
            f"{len(left)} of its tensors have no place, so that it is another model",
            "the config.json that was saved with these weights",
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(chosen[name])


def _parts(name: str) -> list[str]:
    """The checkpoint's names of what the model calls `name`."""
    for merged, parts in MERGED.items():
        if f".{merged}." in name:
            return [re.sub(rf"\b{merged}\b", part, name) for part in parts]
    return [name]


def _rows(config: ModelConfig, name: str, parameter: Tensor) -> list[int]:
    """How many rows of the parameter each part has."""
    if ".qkv_proj." in name:
        kv = config.num_key_value_heads * config.head_dim
        return [config.num_attention_heads * config.head_dim, kv, kv]
    if ".gate_up_proj." in name:
        return [config.intermediate_size] * 2
    return [len(parameter)]
