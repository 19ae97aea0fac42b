"""config.json: the shape of a model, and every key of it honoured or refused. Unit 4.3.

A key that changes the answer and is passed over gives another model without a word. So each key is
one that is read here, one that is known to say nothing about the answer, or an error that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import LoadError
from .model import ModelConfig
from .rope_rule import context_of, rope_rule

FAMILIES = ("llama", "mistral", "ministral", "qwen2", "qwen3")
SIZES = (
    "num_attention_heads",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "max_position_embeddings",
)
READ = (
    *SIZES,
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "eos_token_id",
    "attention_bias",
    "mlp_bias",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "layer_types",
)
# What a file may say of the model, its training and how it was saved. None of it is arithmetic that
# an answer depends on: dropout is off, and pretraining_tp cuts a product into parts that add up.
SAYS_NOTHING = (
    *("model_type", "architectures", "_name_or_path", "transformers_version", "torch_dtype"),
    *("dtype", "initializer_range", "use_cache", "bos_token_id", "pad_token_id", "unk_token_id"),
    *("sep_token_id", "decoder_start_token_id", "attention_dropout", "hidden_dropout"),
    *("resid_pdrop", "embd_pdrop", "pretraining_tp"),
    *("_attn_implementation", "attn_implementation", "_attn_implementation_autoset"),
    *("output_attentions", "output_hidden_states", "return_dict", "return_dict_in_generate"),
    *("chunk_size_feed_forward", "is_decoder", "id2label", "label2id", "num_labels"),
    *("problem_type", "task_specific_params", "finetuning_task", "tokenizer_class", "prefix"),
    *("torchscript", "gradient_checkpointing", "use_bfloat16", "tf_legacy_loss"),
    *("pruned_heads", "unsloth_version", "unsloth_fixed", "model_max_length"),
    *("max_sequence_length", "tokenizer_model_max_length", "tokenizer_padding_side", "license"),
    # defaults of `generate`, which once stood here and not in generation_config.json
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "temperature"),
    *("top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "output_scores"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_beam_groups"),
    *("num_return_sequences", "remove_invalid_values", "forced_bos_token_id", "suppress_tokens"),
    *("forced_eos_token_id", "begin_suppress_tokens", "exponential_decay_length_penalty"),
    *("diversity_penalty",),
)
# Where a family's file may leave a size out: what `transformers` takes then.
DEFAULTS = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "ministral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {
        "num_key_value_heads": 32,
        "head_dim": 128,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
}
FULL, SLIDING = "full_attention", "sliding_attention"


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
    sizes = {name: _size(found, name, folder) for name in SIZES}
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    found = DEFAULTS[family] | found
    kv_heads, head_dim = heads, hidden // heads  # a null says so, too
    if found.get("num_key_value_heads") is not None:
        kv_heads = _size(found, "num_key_value_heads", folder)
    if found.get("head_dim") is not None:
        head_dim = _size(found, "head_dim", folder)
    theta, rule = rope_rule(found)
    _fit(heads, kv_heads, head_dim)
    epsilon, tied = found.get("rms_norm_eps", 1e-6), found.get("tie_word_embeddings", False)
    if not isinstance(epsilon, (int, float)) or not 0 <= epsilon < 1:
        raise LoadError(
            f"rms_norm_eps is {epsilon!r}",
            "it is added to a mean of squares, lest that be 0",
            "a small number, such as 1e-6",
        )
    every_bias = found.get("attention_bias", False) if family in ("llama", "qwen3") else False
    return ModelConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=hidden,
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=context_of(rule, sizes["max_position_embeddings"]),
        rope_theta=theta,
        rope_scaling=rule,
        rms_norm_eps=epsilon,
        tie_word_embeddings=bool(tied),
        qkv_bias=family == "qwen2" or bool(every_bias),
        o_bias=bool(every_bias),
        mlp_bias=bool(found.get("mlp_bias", False)),
        qk_norm=family == "qwen3",
        windows=_windows(found, family, sizes["num_hidden_layers"]),
    )


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
        # Qwen2's queries, keys and values have a bias whatever the key says
        "attention_bias": found.get("attention_bias") and family in ("mistral", "ministral"),
        "mlp_bias": found.get("mlp_bias") and family != "llama",
        "use_sliding_window": found.get("use_sliding_window") and not family.startswith("qwen"),
        # Some readers of a Llama's file pass the window over, and others heed it
        "sliding_window": found.get("sliding_window") and family == "llama",
        "quantization_config": found.get("quantization_config"),
        "hidden_act": found.get("hidden_act", "silu") != "silu",
    }
    for name, there in odd.items():
        if there:
            raise LoadError(
                f"config.json sets {name} to {found[name]!r}",
                f"no {family} of transformers has such a layer, nor has this engine, and its "
                "answers might be wrong",
                'a checkpoint without it, or the model_type that has it: "mistral" for a window of '
                "all layers",
            )
    for name, value in found.items():
        unset = value is None or value is False or value == [] or value == {}
        if not unset and name not in (*READ, *SAYS_NOTHING, *odd):
            raise LoadError(
                f"config.json sets {name} to {value!r}",
                "this engine does not know the key, and if it changes the model, the answers "
                "would be wrong",
                "config.json without the key, if it says nothing about the layers",
            )


def _windows(found: dict[str, Any], family: str, layers: int) -> tuple[int | None, ...]:
    """How far each layer looks back, None: over all; (): all of them do. As `transformers` says it.

    Qwen's files name a window and use it only where use_sliding_window is set.
    """
    window = found.get("sliding_window")
    if family.startswith("qwen") and not found.get("use_sliding_window"):
        window = None
    if window is not None:
        _whole("sliding_window", window, "tokens that a query looks back over, its own included", 1)
    kinds = found.get("layer_types")
    if kinds is None:
        first = 0
        if family.startswith("qwen") and window is not None:
            first = found.get("max_window_layers")
            _whole("max_window_layers", first, "from this layer on there is a window", 0)
        kinds = [SLIDING if window is not None and i >= first else FULL for i in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or set(kinds) - {FULL, SLIDING}:
        raise LoadError(
            f"layer_types is {kinds!r:.120}",
            f"it says of each of the {layers} layers how far it looks back, and this engine has "
            "other layers not",
            f"{FULL} or {SLIDING} for each layer",
        )
    if SLIDING in kinds and window is None:
        raise LoadError(
            f"layer_types has {SLIDING}, and there is no window",
            "how far such a layer looks back is not known",
            "sliding_window, and for a Qwen use_sliding_window of true",
        )
    if family == "mistral" and window is not None and FULL in kinds:
        raise LoadError(
            f"layer_types has {FULL}, and sliding_window is {window}",
            "a mistral of transformers passes layer_types over, and has the window in all layers",
            'model_type of "ministral", whose layers differ',
        )
    return tuple(window if kind == SLIDING else None for kind in kinds) if SLIDING in kinds else ()


def _whole(name: str, value: Any, why: str, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise LoadError(f"{name} is {value!r}", why, f"a whole number of at least {least}")


def _size(found: dict[str, Any], name: str, folder: Path) -> int:
    if name not in found:
        raise LoadError(
            f"config.json of {folder.name} has no {name}",
            "the model is built from its sizes",
            "the config.json that was saved with these weights",
        )
    value = found[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise LoadError(
            f"config.json of {folder.name} has {name} of {value!r}",
            "it is the size of a tensor",
            "a whole number above 0, as in the file that was saved with these weights",
        )
    return value


def _fit(heads: int, kv_heads: int, head_dim: int) -> None:
    """Sizes that go together."""
    if heads % kv_heads:
        raise LoadError(
            f"{heads} heads, and {kv_heads} kv heads",
            "each kv head serves the same number of heads",
            "a number of kv heads that divides the heads",
        )
    if head_dim % 2:
        raise LoadError(
            f"head_dim is {head_dim}",
            "positions turn pairs of dimensions",
            "an even number, as in the file that was saved with these weights",
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
