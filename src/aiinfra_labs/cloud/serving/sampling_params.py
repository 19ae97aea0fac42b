"""How a request wants its tokens chosen: vLLM's `SamplingParams`, each value checked. Unit 4.3.

A setting may come from anywhere: a notebook, a command line, the body of an HTTP request. Whatever
is in it, there are two ends: a `RequestError` here, before an engine has heard of it, or values
that no step can fail on. So each value is brought into the type that the engine computes with
(5.0 becomes 5, NumPy's numbers Python's), has bounds within which float32 stays finite, and is
copied: what the caller does to a list or a schema afterwards changes nothing here.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from torch import Tensor

from .errors import RequestError, quoted

LARGEST_WHOLE = 2**63 - 1
LARGEST = 3.4e38  # of float32, in which the engine divides logits
GREEDY_BELOW = 1e-5  # as in vLLM: the second likeliest would have to be as likely to a digit
# Logits of one sequence, float [V], and its new tokens so far; returns the logits to choose from.
LogitsProcessor = Callable[[list[int], Tensor], Tensor]


@dataclass(frozen=True)
class SamplingParams:
    """vLLM's names. The defaults are vLLM's but for temperature: 0, the likeliest token.

    None means the default, as null does in a JSON body. Raises `RequestError`.
    """

    temperature: float = 0.0  # below 0.00001: the likeliest token
    top_k: int | None = None  # None, 0 or -1: all tokens
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # of tokens in prompt and answer: logits divided by it
    seed: int | None = None  # None: the engine's own seed, and the request's arrival number
    n: int = 1  # samples of one prompt
    beam_width: int = 0  # 0: no beam search
    length_penalty: float = 1.0  # of beams: score / length ** length_penalty
    max_tokens: int | None = 16  # None: as many as the context has room for
    min_tokens: int = 0  # before these no end is taken
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None  # so many likeliest tokens with each new one; 0: the new one alone
    json: bool | dict[str, Any] = False  # True: any JSON object; a dict: its JSON Schema
    presence_penalty: float = 0.0  # taken off the logits of tokens that the answer has
    frequency_penalty: float = 0.0  # the same, as many times as it has them
    logit_bias: dict[int, float] = field(default_factory=dict)  # added to a token's logit
    prompt_logprobs: int | None = None  # as logprobs, for each token of the prompt but the first
    include_stop_str_in_output: bool = False  # the stop string or token ends the text within it
    bad_words: tuple[str, ...] = ()  # texts whose last token is not taken behind the others
    logits_processors: tuple[LogitsProcessor, ...] = ()  # the caller's own, one after the other

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None and one.name not in OPTIONAL:
                value = {} if one.default is MISSING else one.default
            object.__setattr__(self, one.name, CHECKS[one.name](one.name, value))
        if self.beam_width and (self.n > 1 or not self.greedy or self.json is not False):
            raise RequestError(
                "a beam search with n, temperature or json",
                "it looks for the likeliest texts, draws none, and has no grammar",
                "beam_width alone, or samples without it",
            )
        if self.json is not False and self.min_tokens:
            raise RequestError(
                f"json and min_tokens {self.min_tokens}",
                "behind the last bracket nothing can follow",
                "minItems in the schema",
            )
        if self.n > 1 and self.greedy:
            raise RequestError(
                f"n is {self.n} and temperature {self.temperature:g}",
                "all samples would be the same text",
                "a temperature above 0, or beam_width for the likeliest texts",
            )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}",
                "an answer cannot be longer than it may be",
                "min_tokens up to max_tokens",
            )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature < GREEDY_BELOW


# --- one check a kind of value --------------------------------------------------------------------

Check = Callable[[str, Any], Any]  # a name and what was given; returns what is kept


def _number(least: float, most: float, why: str, try_: str) -> Check:
    """A finite number between two bounds, both included."""

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise RequestError(f"{name} is {quoted(value)}", "it is a number", try_)
        try:
            found = float(value)
        except Exception:  # too large, or a number of a class that has no float
            found = math.nan
        if not least <= found <= most:  # nan as well
            raise RequestError(f"{name} is {quoted(value)}", why, try_)
        return found

    return check


def _whole(least: int, why: str, most: int = LARGEST_WHOLE) -> Check:
    """A whole number from `least` on; a float without a fraction is one, as it comes from JSON."""

    def check(name: str, value: Any) -> int | None:
        if value is None:
            return None
        bounds = f"{least} or more" if most == LARGEST_WHOLE else f"{least} to {most}"
        found = as_whole(value)
        if found is None:
            raise RequestError(f"{name} is {quoted(value)}", "it is a whole number", bounds)
        if found > most:
            raise RequestError(
                f"{name} is {quoted(found)}", "it is kept in 64 bits", f"{least} to {most}"
            )
        if found < least:
            raise RequestError(f"{name} is {found}", why, bounds)
        return found

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{name} is {quoted(value)}", "it is yes or no", "True or False")
    return value


def _top_k(name: str, value: Any) -> int | None:
    found = _whole(-1, "no token would be left to choose from")(name, value)
    return None if found in (0, -1) else found  # both are vLLM's "all tokens"


def _stop(name: str, value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else _row(name, value, "texts")
    for stop in stops:
        if not isinstance(stop, str):
            raise RequestError(
                f"{name} holds {quoted(stop)}", "an answer is searched for texts", "texts alone"
            )
        if not stop:
            raise RequestError(
                f"{name} is {quoted(stops)}",
                "every text holds an empty string at its very beginning",
                "texts of at least one character, or none",
            )
        if not is_text(stop):
            raise RequestError(
                f"{name} holds {quoted(stop)}, which is no Unicode text",
                "half a pair of surrogates stands in no answer",
                "the whole character",
            )
    return stops


def _stop_token_ids(name: str, value: Any) -> tuple[int, ...]:
    found = []
    for id in _row(name, value, "token ids"):
        whole = as_whole(id)
        if whole is None:
            raise RequestError(
                f"stop token {quoted(id)}",
                "tokens are numbers",
                "engine.tokenizer.encode(text), if that is one token; else a stop string",
            )
        found.append(whole)
    return tuple(found)


def _logit_bias(name: str, value: Any) -> dict[int, float]:
    """By token id; an id may be written as a text, since names in a JSON body are texts."""
    if not isinstance(value, Mapping):
        raise RequestError(
            f"{name} is {quoted(value)}", "it says what is added to which token", "{id: number}"
        )
    found = {}
    for id, bias in value.items():
        whole = int(id) if isinstance(id, str) and id.isdecimal() and len(id) < 12 else as_whole(id)
        if whole is None:
            raise RequestError(
                f"{name} holds the token {quoted(id)}",
                "tokens are numbers",
                "engine.tokenizer.encode(text), if that is one token",
            )
        found[whole] = _bias(f"{name} of token {quoted(whole)}", bias)
    return found


def _logits_processors(name: str, value: Any) -> tuple[LogitsProcessor, ...]:
    row = (value,) if callable(value) else _row(name, value, "functions")
    for one in row:
        if not callable(one):
            raise RequestError(
                f"{name} holds {quoted(one)}",
                "each is called with the new tokens and the logits of a step",
                "functions (token_ids, logits) -> logits",
            )
    return row


def _json(name: str, value: Any) -> bool | dict[str, Any]:
    if isinstance(value, bool):
        return value
    try:
        copied = json.loads(value if isinstance(value, str) else json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{name} cannot be read as JSON: {error}",
            "a schema is JSON itself",
            "True for any object, or a JSON Schema as a dict",
        ) from None
    if not isinstance(copied, dict):
        raise RequestError(
            f"{name} is {quoted(value)}",
            "it says which values may be written",
            "True for any object, or a JSON Schema as a dict",
        )
    return copied


def _row(name: str, value: Any, of: str) -> tuple[Any, ...]:
    try:
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError("it can be iterated over, and is no list")
        return tuple(value)
    except Exception:  # a class of the caller's may raise whatever it likes
        raise RequestError(
            f"{name} is {quoted(value)}", f"it is a list of {of}", "a list, or None"
        ) from None


def as_whole(value: Any) -> int | None:
    """A whole number as an int; None for anything else, True and False among it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    try:
        found = int(value)
    except (ValueError, OverflowError):  # nan, infinity
        return None
    return found if value == found else None


def is_text(value: str) -> bool:
    """Whether a str is Unicode text: without half a pair of surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


OPTIONAL = (
    "top_k",
    "seed",
    "max_tokens",
    "logprobs",
    "prompt_logprobs",
)  # where None has a meaning of its own
_bias = _number(-100, 100, "at 100 no other token is left, and at -100 it is not", "-100 to 100")
_penalty = _number(
    -2,
    2,
    "it is taken off a logit, where 2 is much; below 0 it makes what was said likelier",
    "a number from -2 to 2; 0 for none",
)
_share = _number(0, 1, "it is a share of probability", "a number from 0 to 1")
CHECKS: dict[str, Check] = {
    "temperature": _number(
        0,
        LARGEST,
        "logits are divided by it: below 0 the least likely token would become the most likely, "
        "and nan or an infinity leaves no order",
        "0 for the likeliest token each time, 1 for the model's own probabilities",
    ),
    "top_k": _top_k,
    "top_p": _share,
    "min_p": _share,
    "repetition_penalty": _number(
        1e-3,
        1e3,
        "logits are divided by it, and keep their sign",
        "1 for none, 1.1 for some; 0.001 to 1000",
    ),
    "seed": _whole(-(2**63), "it is written in 64 bits", 2**64 - 1),
    "n": _whole(1, "a request asks for at least one answer"),
    "beam_width": _whole(0, "it counts beams, and 0 is no beam search"),
    "length_penalty": _number(
        -50,
        50,
        "a score is divided by the length to this power, which has to stay a number",
        "1 for the mean, above it for longer texts; -50 to 50",
    ),
    "max_tokens": _whole(1, "the answer would have no token, and cost a whole prefill"),
    "min_tokens": _whole(0, "it counts tokens"),
    "stop": _stop,
    "stop_token_ids": _stop_token_ids,
    "ignore_eos": _flag,
    "logprobs": _whole(0, "it counts tokens"),
    "json": _json,
    "presence_penalty": _penalty,
    "frequency_penalty": _penalty,
    "logit_bias": _logit_bias,
    "prompt_logprobs": _whole(0, "it counts tokens"),
    "include_stop_str_in_output": _flag,
    "bad_words": _stop,
    "logits_processors": _logits_processors,
}
