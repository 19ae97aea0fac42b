"""A request is looked at before it is let in: what cannot be served is refused. Unit 4.3."""

from __future__ import annotations

import json
from collections.abc import Sequence as Row
from typing import TYPE_CHECKING, Any

from .constrained import JsonConstraint
from .errors import RequestError
from .sampling import SamplingParams
from .sequence import Request

if TYPE_CHECKING:
    from .engine import Engine


def checked(
    engine: Engine,
    prompt: str | Row[int],
    params: SamplingParams,
    request_id: str | None,
    priority: int,
    stream: bool,
    cache_key: str,
) -> Request:
    """The request, if the engine can serve it to its end whatever else it serves."""
    ids = _ids(engine, prompt)
    name = str(engine.arrivals) if request_id is None else request_id
    if name in engine.requests:
        raise RequestError(
            f"there is a request {name!r} already",
            "outputs and aborts go by the id",
            "another id, or none: the engine finds one",
        )
    most = _new_tokens(engine, ids, params)
    text = prompt if isinstance(prompt, str) else None
    request = Request(name, ids, params, engine.arrivals, priority, text, cache_key, most, stream)
    _settings(engine, params)
    grammar(engine, request)  # an unknown schema is noticed now
    return request


def _ids(engine: Engine, prompt: str | Row[int]) -> list[int]:
    if isinstance(prompt, str):
        if engine.tokenizer is None:
            raise RequestError(
                "a prompt that is text, and an engine without a tokenizer",
                "the model reads ids",
                "a list of ids, or an engine from a folder with tokenizer.json",
            )
        prompt = engine.tokenizer.encode(prompt)
    ids, vocabulary = list(prompt), engine.model.config.vocab_size
    if not ids:
        raise RequestError(
            "the prompt is empty",
            "the first logits are those behind the prompt's last token, and there is none",
            "at least one token, such as the one that begins a document",
        )
    for id in ids:
        if not isinstance(id, int) or not 0 <= id < vocabulary:
            raise RequestError(
                f"the prompt holds {id!r}",
                f"ids are whole numbers from 0 to {vocabulary - 1}, each a row of the embedding",
                "engine.tokenizer.encode(text)",
            )
    return ids


def _new_tokens(engine: Engine, ids: list[int], params: SamplingParams) -> int:
    """How many tokens may follow: what was asked for, or what the context leaves."""
    context = engine.model.config.max_position_embeddings
    if len(ids) >= context:
        raise RequestError(
            f"the prompt has {len(ids):,} tokens, and the model's context is {context:,}",
            "it was trained on positions up to there, and a new token needs one, too",
            f"{context - 1:,} tokens at most",
        )
    room = context - len(ids)
    most = room if params.max_tokens is None else min(params.max_tokens, room)
    size, blocks = engine.config.block_size, engine.config.num_blocks
    needed = -(-(len(ids) + most - 1) // size)  # the last token is never read
    if needed > blocks:
        raise RequestError(
            f"{len(ids):,} tokens of prompt and {most:,} new ones take {needed:,} blocks, and the "
            f"whole cache has {blocks:,}",
            "the request could not be ended, even if it were alone",
            f"{max(0, blocks * size + 1 - len(ids)):,} new tokens at most, a shorter prompt, or a "
            "larger num_blocks",
        )
    return most


def _settings(engine: Engine, params: SamplingParams) -> None:
    vocabulary, most = engine.model.config.vocab_size, engine.config.max_sequences
    for token in params.stop_token_ids:
        if not isinstance(token, int) or not 0 <= token < vocabulary:
            raise RequestError(
                f"stop token {token!r}",
                f"the model's tokens are 0 to {vocabulary - 1}, and it would never come",
                "engine.tokenizer.encode(text), if that is one token; else a stop string",
            )
    if params.stop and engine.tokenizer is None:
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
        if (wanted := getattr(params, name)) > most:
            raise RequestError(
                f"{name} is {wanted}, and the engine runs {most} sequences at once",
                "those of one request go on together",
                f"{most} or fewer, or a larger max_sequences",
            )


def grammar(engine: Engine, request: Request) -> Grammar | None:
    """The state that a request's constraint begins with; None without one."""
    wanted = request.params.json
    if wanted is False:
        return None
    if engine.tokenizer is None:
        raise RequestError(
            "json, and an engine without a tokenizer",
            "which tokens may follow depends on the characters that they spell",
            "an engine from a folder with tokenizer.json",
        )
    if not engine.config.end_ids:
        raise RequestError(
            "json, and a model without an end token",
            "after the closing bracket nothing may follow but the end",
            "EngineConfig(end_ids=...)",
        )
    key = json.dumps(wanted, sort_keys=True)
    schema = {"type": "object"} if wanted is True else wanted
    known = engine.constraints
    if key not in known:
        known[key] = JsonConstraint(engine.vocabulary, schema)
    return Grammar(known[key], known[key].start, engine.config.end_ids)


class Grammar:
    """A constraint and the state that a sequence is in."""

    def __init__(self, constraint: JsonConstraint, state: Any, ends: tuple[int, ...]):
        self.constraint, self.state, self.ends = constraint, state, ends

    def mask(self) -> Any:
        """Which tokens may follow: bool [V]. Behind a whole value, the end alone."""
        allowed = self.constraint.mask(self.state)
        if self.constraint.complete(self.state):
            allowed = allowed.clone()
            allowed[list(self.ends)] = True
        return allowed

    def advance(self, token: int) -> Grammar:
        """The state behind a token."""
        if token in self.ends:
            return self
        return Grammar(self.constraint, self.constraint.advance(self.state, token), self.ends)
