"""How a config.json says that positions turn, read as `transformers` reads it. Unit 4.3.

Files of many years are about. The rule stands in `rope_parameters` (transformers 5) or in
`rope_scaling` (before), its kind in `rope_type` or in `type`, and `rope_theta` within the rule or
beside it. A key that is passed over turns every query by another angle, and nobody notices: so each
key is honoured, or refused by name.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from .errors import LoadError

# What each rule reads, beside its kind and rope_theta. Of yarn's, those in OPTIONAL may be missing.
RULES = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "beta_fast",
        "beta_slow",
        "truncate",
    ),
}
OPTIONAL = ("attention_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate")
SAYS_NOTHING = ("finetuned",)  # the first YaRN models note how they came about
# Keys of YaRN's authors, which transformers passes over and vLLM multiplies by: with 1 both agree.
AUTHORS = ("attn_factor", "extrapolation_factor")
DEFAULT_THETA = 10_000.0


def rope_rule(found: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """(rope_theta, the rule) of a config.json: {} or {"rope_type": "yarn", "factor": 4.0, ...}.

    In the rule stand only keys that have an effect. Raises `LoadError`.
    """
    raw = _the_one(found)
    kind = raw.get("rope_type") or raw.get("type") or "default"
    if kind not in RULES:
        raise LoadError(
            f"positions are scaled by {kind!r}",
            "another rule turns the same queries by other angles",
            f"one of {', '.join(RULES)}",
        )
    _partial(found, raw)
    theta = raw.get("rope_theta") or found.get("rope_theta") or DEFAULT_THETA
    _number("rope_theta", theta, above=1)
    rule: dict[str, Any] = {"rope_type": kind}
    for key, value in raw.items():
        if key in ("rope_type", "type", "rope_theta", "partial_rotary_factor", *SAYS_NOTHING):
            continue
        if value is None:
            continue  # as if it were missing
        if kind == "yarn" and key in AUTHORS:
            _passed_over(key, value)
            continue
        if key not in RULES[kind]:
            raise LoadError(
                f"the rule for positions, {kind}, has the key {key} of {value!r}",
                "this engine does not know what it does there, and other angles give other answers",
                f"only {', '.join(RULES[kind]) or 'rope_theta'}",
            )
        rule[key] = value
    if kind == "default":
        return float(theta), {}
    _complete(rule, found)
    _checked(rule)
    return float(theta), rule


def context_of(rule: dict[str, Any], trained: int) -> int:
    """The positions that a model has under a rule: YaRN's are `factor` times those of training."""
    if rule.get("rope_type") != "yarn":
        return trained
    return int(rule["original_max_position_embeddings"] * rule["factor"])


def _the_one(found: dict[str, Any]) -> dict[str, Any]:
    """The rule, where two names can hold one. `rope_scaling` goes before, as in transformers."""
    both = []
    for name in ("rope_scaling", "rope_parameters"):
        rule = found.get(name) or {}
        if not isinstance(rule, dict) or any(isinstance(value, dict) for value in rule.values()):
            raise LoadError(
                f"config.json has {name} of {rule!r}",
                "a rule for positions is one object, and the same for all layers",
                '{"rope_type": "default", "rope_theta": 10000.0}',
            )
        both.append(rule)
    scaling, parameters = both
    if not scaling:
        return dict(parameters)
    for key, value in parameters.items():
        # What the other one would lose in silence: its theta, or a rule that is none.
        kept = scaling.get(key)
        if key == "rope_theta":
            kept = kept or found.get("rope_theta") or DEFAULT_THETA
        default = key in ("rope_type", "type") and value == "default"
        if value is not None and value != kept and not default:
            raise LoadError(
                f"config.json has {key} of {value!r} in rope_parameters, and rope_scaling says "
                f"{kept!r}",
                "only one of the two is read, so that a part of the rule would be lost",
                "all keys in rope_parameters, and no rope_scaling",
            )
    return dict(scaling)


def _partial(found: dict[str, Any], raw: dict[str, Any]) -> None:
    share = raw.get("partial_rotary_factor") or found.get("partial_rotary_factor") or 1
    if share != 1:
        raise LoadError(
            f"partial_rotary_factor is {share!r}",
            "here all dimensions of a head are turned, as these families were trained",
            "a checkpoint with 1, or without it",
        )


def _passed_over(key: str, value: Any) -> None:
    _number(key, value, above=0)
    if value != 1:
        warnings.warn(
            f"the rule for positions, yarn, has {key} of {value}: transformers passes this key "
            "over, and so does this engine, while vLLM multiplies by it. Its answers may differ "
            "from these; attention_factor is the key that all read.",
            stacklevel=2,
        )


def _complete(rule: dict[str, Any], found: dict[str, Any]) -> None:
    """What another key says: transformers' defaults."""
    kind = rule["rope_type"]
    if "original_max_position_embeddings" in RULES[kind]:
        name = "original_max_position_embeddings"
        if found.get(name) is not None:
            rule[name] = found[name]  # beside the rule it goes before, as in transformers
        rule.setdefault(name, found.get("max_position_embeddings"))
    if kind == "yarn" and "factor" not in rule:
        _number(name, rule[name], above=0)
        rule["factor"] = found["max_position_embeddings"] / rule[name]
    for key in RULES[kind]:
        if key not in OPTIONAL and rule.get(key) is None:
            raise LoadError(
                f"the rule for positions, {kind}, has no {key}",
                "without it the angles are not known",
                f"all of {', '.join(k for k in RULES[kind] if k not in OPTIONAL)}",
            )


def _checked(rule: dict[str, Any]) -> None:
    """Numbers where numbers must be, in an order that the formula has."""
    for key, value in rule.items():
        if key == "truncate":
            if not isinstance(value, bool):
                raise LoadError(f"truncate is {value!r}", "it is a switch", "true or false")
        elif key == "factor":
            _number(key, value, least=1)
        elif key != "rope_type":
            # 0 is "not given" for these, as in transformers
            least_is_0 = key in ("mscale", "mscale_all_dim", "beta_fast", "beta_slow")
            _number(key, value, **({"least": 0} if least_is_0 else {"above": 0}))
    for low, high, defaults in (
        ("low_freq_factor", "high_freq_factor", (1, 4)),
        ("beta_slow", "beta_fast", (1, 32)),
    ):
        slow, fast = rule.get(low) or defaults[0], rule.get(high) or defaults[1]
        if slow >= fast:
            raise LoadError(
                f"{low} is {slow} and {high} {fast}",
                "between the two lies the ramp from divided frequencies to kept ones",
                f"{high} larger than {low}",
            )


def _number(name: str, value: Any, least: float = -math.inf, above: float = -math.inf) -> None:
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not right or not math.isfinite(value) or value < least or value <= above:
        bound = f"of at least {least}" if least > -math.inf else f"above {above}"
        raise LoadError(
            f"{name} is {value!r} in config.json",
            "the angles of all positions are computed with it",
            f"a number {bound}",
        )
