"""Reading a `config.json`: each key is understood, or is an error that names it. Units 1.4 to 1.7.

A key that is dropped changes what the model computes, without a word: other positions, other
heads, other layers. So a reader names the keys that it builds from; here stand the keys that change
nothing in evaluation, and those that change nothing with the value that they have. The names are
those of Hugging Face's `transformers`: https://huggingface.co/docs/transformers/main_classes/configuration
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aiinfra_labs.bounds import SettingError

# Of files, of training, of how results are returned: no layer is built from them.
NEUTRAL = {
    *("architectures", "auto_map", "dtype", "model_type", "tokenizer_class", "torch_dtype"),
    *("transformers_version", "_name_or_path", "_attn_implementation_autoset"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
    *("attention_dropout", "aux_loss_alpha", "initializer_range", "num_nextn_predict_layers"),
    *("router_aux_loss_coef", "router_jitter_noise", "seq_aux"),
    *("chunk_size_feed_forward", "ep_size", "use_cache"),
    *("id2label", "label2id", "problem_type"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "return_dict"),
}
# With these values, a key says what is so anyway.
AS_IF_ABSENT = {
    "attention_bias": False,
    "hidden_act": "silu",
    "is_encoder_decoder": False,
    "mlp_bias": False,
    "moe_layer_freq": 1,
    "pretraining_tp": 1,
    "rope_interleave": True,
    "use_sliding_window": False,
}
PLAIN = "default"  # a rope_type: frequencies as RoPE has them


def read(
    config: Mapping[str, Any], fields: Collection[str], families: Collection[str], name: str
) -> dict[str, Any]:
    """Those of `fields` that the config has, with a value. RoPE's base is found in either place.

    families: the values of model_type that may be there. name: of the reader, for the error.
    Raises `SettingError` for a key that is not understood, or a family that is none of these.
    """
    if not isinstance(config, Mapping):
        raise SettingError(
            f"a config is {type(config).__name__}",
            "it holds settings by name, as config.json does",
            "the dict that json.loads makes of config.json",
        )
    family = config.get("model_type")
    if family is not None and family not in families:
        raise SettingError(
            f"the config is of a model of type {family!r}",
            f"{name} has other layers, and with these weights it would compute something else",
            f"a model of type {' or '.join(families)}",
        )
    base = _rope_theta(config, name)
    found = {} if base is None else {"rope_theta": base}
    for key, value in config.items():
        if key in ("rope_parameters", "rope_scaling", "rope_theta") or value is None:
            continue
        if key in fields:
            found[key] = value
        elif key not in NEUTRAL and AS_IF_ABSENT.get(key, _NOTHING) != value:
            raise SettingError(
                f"the config sets {key} to {value!r:.80}",
                f"{name} does not know this key, and to drop it might change what is computed",
                f"a config without it, or with {key} {AS_IF_ABSENT[key]!r}"
                if key in AS_IF_ABSENT
                else "a config without it, if it changes nothing in evaluation",
            )
    return found


def needed(found: Mapping[str, Any], fields: Collection[str]) -> None:
    """Raise `SettingError` unless all `fields` are there."""
    missing = [field for field in fields if field not in found]
    if missing:
        raise SettingError(
            f"the config has no {missing[0]}",
            "a model is built from its sizes, and nothing else tells this one",
            "the config.json that was saved with the weights",
        )


def agrees(found: dict[str, Any], key: str, value: Any, why: str) -> None:
    """Take a key that repeats what follows from others. Raises `SettingError` if it differs."""
    there = found.pop(key, value)
    if there != value:
        raise SettingError(
            f"the config sets {key} to {there!r}, and from the other sizes follows {value!r}",
            why,
            "another model of this course that has the key, or the config of another checkpoint",
        )


_NOTHING = object()


def _rope_theta(config: Mapping[str, Any], name: str) -> Any:
    """RoPE's base, from `rope_theta` or `rope_parameters`; None where the config has neither."""
    base = config.get("rope_theta")
    for place in ("rope_parameters", "rope_scaling"):
        rule = config.get(place)
        if rule is None:
            continue
        if not isinstance(rule, Mapping):
            raise SettingError(
                f"the config sets {place} to {rule!r:.60}",
                "it is a rule for positions: its rope_type, and what that needs",
                '{"rope_type": "default", "rope_theta": 10000.0}',
            )
        kind = rule.get("rope_type", rule.get("type", PLAIN))
        others = sorted(set(rule) - {"rope_type", "type", "rope_theta"})
        if kind != PLAIN or others:
            raise SettingError(
                f"the config sets {place} to {dict(rule)!r:.120}",
                f"{name} turns by RoPE's own frequencies; with others, each position would mean "
                "another angle than in training",
                "a config without scaling; the engine of unit 4.3 reads linear, llama3 and yarn, "
                "and `rope_scaling` has the rules",
            )
        there = rule.get("rope_theta", base)
        if base is not None and there != base:
            raise SettingError(
                f"the config sets rope_theta to {base!r}, and in {place} to {there!r}",
                "there is one base, and it is not clear which one",
                "the config.json that was saved with the weights",
            )
        base = there
    return base
