"""Admission: a request is looked at before it is let in, and what cannot be served is refused.

Unit 4.3. A step serves many requests at once, so that none may fail it. All that could is looked
for here, once, before the engine has changed: the prompt, the settings against this model (by
themselves `sampling_params` has checked them), the room in context and cache, the names.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Container, Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .constrained import JsonConstraint, Kept, Vocabulary
from .errors import RequestError, ServingError, quoted
from .grammar import Grammar
from .sampling_params import SamplingParams, as_whole, is_text
from .sequence import Request
from .tokenizer import Tokenizer

# Schemas that are kept for the next request with the same one.
CONSTRAINTS, CONSTRAINT_BYTES = 64, 16 << 20


@dataclass
class Admission:
    """What a request may ask of one engine: the numbers that it is held to, and its tokenizer."""

    tokenizer: Tokenizer | None
    vocab_size: int
    context: int  # positions that the model knows
    block_size: int
    num_blocks: int
    max_sequences: int
    end_ids: tuple[int, ...]
    usual: SamplingParams = field(default_factory=SamplingParams)  # of a request without settings
    constraints: Kept[JsonConstraint] = field(  # each is built once, here and not in a step
        default_factory=lambda: Kept(
            CONSTRAINT_BYTES, lambda constraint: constraint.nbytes, CONSTRAINTS
        )
    )

    def check(
        self,
        arrival: int,
        taken: Container[str],
        prompt: str | Row[int],
        params: SamplingParams | None = None,
        request_id: str | None = None,
        priority: int = 0,
        stream: bool = False,
        cache_key: str = "",
    ) -> Request:
        """The request, if it can be served to its end whatever else is served beside it.

        taken: ids of requests that are there already. Raises `RequestError`.
        """
        try:
            params = self.usual if params is None else _params(params)
            ids = self._ids(prompt)
            name = _free_name(arrival, taken) if request_id is None else _name(request_id, taken)
            request = Request(
                name,
                ids,
                params,
                arrival,
                _priority(priority),
                prompt if isinstance(prompt, str) else None,
                _cache_key(cache_key),
                self._new_tokens(ids, params),
                bool(stream),
                ends=frozenset(() if params.ignore_eos else self.end_ids)
                | frozenset(params.stop_token_ids),
            )
            self._settings(request)
            request.bad_words = self._bad_words(params.bad_words)
            request.grammar = self._grammar(params)
            return request
        except ServingError:
            raise
        except Exception as error:  # whatever it is, it is this request's
            raise RequestError(
                f"the request cannot be read: {type(error).__name__}: {error}",
                "something in it is of a kind that the engine does not expect",
                "a text or a list of ids, and SamplingParams",
            ) from error

    def _ids(self, prompt: str | Row[int]) -> list[int]:
        """The prompt as ids: of a text, or of any row of whole numbers."""
        if isinstance(prompt, str):
            prompt = self._encoded(prompt)
        if hasattr(prompt, "tolist"):  # a tensor or an array
            prompt = prompt.tolist()
        if isinstance(prompt, (bytes, bytearray, Mapping)) or not isinstance(prompt, Row):
            raise RequestError(
                f"the prompt is {quoted(prompt)}",
                "the model continues a text, or the ids of one",
                "a str, or a list of ids",
            )
        if not prompt:
            raise RequestError(
                "the prompt is empty",
                "the first logits are those behind the prompt's last token, and there is none",
                "at least one token, such as the one that begins a document",
            )
        ids = []
        for id in prompt:
            whole = id if type(id) is int else None if isinstance(id, float) else as_whole(id)
            if whole is None or not 0 <= whole < self.vocab_size:
                raise RequestError(
                    f"the prompt holds {quoted(id)}",
                    f"ids are whole numbers from 0 to {self.vocab_size - 1}, each a row of the "
                    "embedding",
                    "engine.tokenizer.encode(text)",
                )
            ids.append(whole)
        return ids

    def _encoded(self, text: str, whole: bool = True) -> list[int]:
        """whole: a whole prompt, which may begin with a token that every text begins with."""
        if self.tokenizer is None:
            raise RequestError(
                "a prompt that is text, and an engine without a tokenizer",
                "the model reads ids",
                "a list of ids, or an engine from a folder with tokenizer.json",
            )
        if not is_text(text):
            raise RequestError(
                f"the prompt is no Unicode text: {quoted(text)}",
                "it holds half a pair of surrogates, which stands for no character",
                'text.encode("utf-16", "surrogatepass").decode("utf-16"), or errors="replace"',
            )
        ids = self.tokenizer.encode(text) if whole else self.tokenizer.encode(text, False)
        if whole and len(ids) > 1 and ids[0] == ids[1]:
            own = self.tokenizer.encode(text, False)
            if own != ids and ids[1 : len(own) + 1] == own:
                self._begins_twice(text, ids[0])
        return ids

    def _begins_twice(self, text: str, id: int) -> None:
        """Warn of a text that spells the token which the tokenizer sets before every text."""
        ends = (n for n in range(1, len(text)) if self.tokenizer.encode(text[:n], False) == [id])
        token = text[: next(ends, len(text))]
        warnings.warn(
            f"the prompt begins with {quoted(token)}, and the tokenizer sets the same token before "
            "it once more: the model reads two, as it never did in training. A chat template has "
            "written the first: LLM.chat takes the messages themselves, and "
            "tokenizer.encode(text, add_special_tokens=False) gives ids with one.",
            stacklevel=2,
        )

    def _new_tokens(self, ids: list[int], params: SamplingParams) -> int:
        """How many tokens may follow: what was asked for, or what the context leaves."""
        if len(ids) >= self.context:
            raise RequestError(
                f"the prompt has {len(ids):,} tokens, and the model's context is {self.context:,}",
                "it was trained on positions up to there, and a new token needs one, too",
                f"{self.context - 1:,} tokens at most",
            )
        room = self.context - len(ids)
        most = room if params.max_tokens is None else min(params.max_tokens, room)
        needed = -(-(len(ids) + most - 1) // self.block_size)  # the last token is never read
        if needed > self.num_blocks:
            at_most = max(0, self.num_blocks * self.block_size + 1 - len(ids))
            raise RequestError(
                f"{len(ids):,} tokens of prompt and {most:,} new ones take {needed:,} blocks, and "
                f"the whole cache has {self.num_blocks:,}",
                "the request could not be ended, even if it were alone",
                f"{at_most:,} new tokens at most, a shorter prompt, or a larger num_blocks",
            )
        return most

    def _settings(self, request: Request) -> None:
        """The settings, held to this model and this engine."""
        params, last = request.params, self.vocab_size - 1
        for token in params.stop_token_ids:
            if not 0 <= token <= last:
                raise RequestError(
                    f"stop token {quoted(token)}",
                    f"the model's tokens are 0 to {last}, and it would never come",
                    "engine.tokenizer.encode(text), if that is one token; else a stop string",
                )
        for token in params.logit_bias:
            if not 0 <= token <= last:
                raise RequestError(
                    f"logit_bias of token {quoted(token)}",
                    f"the model's tokens are 0 to {last}",
                    "engine.tokenizer.encode(text), if that is one token",
                )
        if params.min_tokens and len(request.ends) > last:
            raise RequestError(
                f"min_tokens {params.min_tokens}, and every token of the model ends the text",
                "no token would be left to choose from before these",
                "fewer stop_token_ids, or no min_tokens",
            )
        if params.stop and self.tokenizer is None:
            raise RequestError(
                "stop strings, and an engine without a tokenizer",
                "they are looked for in text",
                "stop_token_ids",
            )
        if params.stop and params.beam_width:
            raise RequestError(
                "stop strings, and a beam search",
                "beams are compared by whole tokens",
                "stop_token_ids",
            )
        for name in ("n", "beam_width"):
            if (wanted := getattr(params, name)) > self.max_sequences:
                raise RequestError(
                    f"{name} is {quoted(wanted)}, and the engine runs {self.max_sequences} "
                    "sequences at once",
                    "those of one request go on together",
                    f"{self.max_sequences} or fewer, or a larger max_sequences",
                )

    def _bad_words(self, words: tuple[str, ...]) -> list[list[int]]:
        """The ids of each word, as it stands at the beginning of a text and behind a space."""
        if words and self.tokenizer is None:
            raise RequestError(
                "bad words, and an engine without a tokenizer",
                "they are looked for as the tokens that spell them",
                "logit_bias with the ids, or an engine from a folder with tokenizer.json",
            )
        found: list[list[int]] = []
        for word in words:
            for text in (word, f" {word.lstrip()}"):
                ids = self._encoded(text, whole=False)
                if ids and ids not in found:
                    found.append(ids)
        return found

    def _grammar(self, params: SamplingParams) -> Grammar | None:
        """The state that the constraint begins with; None without one."""
        wanted = params.json
        if wanted is False:
            return None
        if self.tokenizer is None:
            raise RequestError(
                "json, and an engine without a tokenizer",
                "which tokens may follow depends on the characters that they spell",
                "an engine from a folder with tokenizer.json",
            )
        if not self.end_ids:
            raise RequestError(
                "json, and a model without an end token",
                "after the closing bracket nothing may follow but the end",
                "EngineConfig(end_ids=...)",
            )
        key = json.dumps(wanted, sort_keys=True)
        schema = {"type": "object"} if wanted is True else wanted
        constraint = self.constraints.get(key, lambda: JsonConstraint(self.vocabulary, schema))
        return Grammar(constraint, constraint.start, self.end_ids)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bytes of all tokens, for every constraint: what strings allow is found once."""
        assert self.tokenizer is not None, "text is needed"
        found = self.tokenizer.token_bytes()
        return Vocabulary(found + [None] * (self.vocab_size - len(found)))


def _params(params: Any) -> SamplingParams:
    if not isinstance(params, SamplingParams):
        raise RequestError(
            f"the settings are {quoted(params)}",
            "what a request may ask for has names, and each value is checked",
            "SamplingParams(...), or none",
        )
    return params


def _free_name(arrival: int, taken: Container[str]) -> str:
    """The arrival number; with a mark behind it where a caller has used just that as a name."""
    name = str(arrival)
    while name in taken:
        name += "'"
    return name


def _name(name: Any, taken: Container[str]) -> str:
    if not isinstance(name, str):
        raise RequestError(
            f"the request's id is {quoted(name)}",
            "outputs and aborts go by the id, which is a text",
            "a str, or none: the engine finds one",
        )
    if name in taken:
        raise RequestError(
            f"there is a request {name!r} already",
            "outputs and aborts go by the id",
            "another id, or none: the engine finds one",
        )
    return name


def _priority(value: Any) -> int:
    """Requests are sorted by it, so that any two have to be comparable."""
    found = as_whole(value)
    if found is None:
        raise RequestError(
            f"priority is {quoted(value)}",
            "those that wait are sorted by it: the smallest goes first",
            "a whole number; 0 is the usual one",
        )
    return found


def _cache_key(value: Any) -> str:
    if not isinstance(value, str) or not is_text(value):
        raise RequestError(
            f"cache_key is {quoted(value)}",
            "it is part of the names under which blocks are found again, and these are made of "
            "UTF-8",
            'a text such as a LoRA adapter\'s name; "" without one',
        )
    return value
