"""Prefill on one engine, decode on another: a sequence and its KV blocks change hands. Unit 4.3.

A prompt's chunk in a step makes every sequence of that step wait for it. Two engines, one for each
phase, keep them apart (Zhong et al., "DistServe", arXiv:2401.09670; Patel et al., "Splitwise",
arXiv:2311.18677); the price is that keys and values travel.

    pair = Pair(Engine(model, ...), Engine(model, ...))
    pair.add_request(prompt, SamplingParams(max_tokens=40))
    while pair.unfinished:
        outputs = pair.step()

Only the blocks' contents and the tokens cross: block numbers are each engine's own. Where the
decoding engine preempts, it computes the tokens again itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .chance import Chance
from .engine import Engine
from .errors import RequestError, ServingError
from .output import RequestOutput
from .sampling_params import SamplingParams
from .sequence import Sequence, Status


@dataclass(frozen=True)
class Handover:
    """A sequence between two engines: its request, its tokens, and what is computed of them."""

    request_id: str
    prompt: list[int]
    text: str | None
    params: SamplingParams
    priority: int
    cache_key: str
    stream: bool
    new_token_ids: list[int]  # chosen already; the last one is not computed yet
    computed: int  # tokens whose keys and values are in the blocks
    keys: Tensor  # [layers, blocks, block_size, K, D]
    values: Tensor
    chance: Chance  # the second engine draws what the first would have drawn
    logprobs: list[dict[int, float]]
    score: float
    cached_tokens: int
    prompt_logprobs: list[dict[int, float] | None]
    deliver: Callable[[RequestOutput], None] | None

    @property
    def nbytes(self) -> int:
        """What has to be carried, tokens aside."""
        return self.keys.nbytes + self.values.nbytes


def export(engine: Engine, request_id: str) -> Handover:
    """Take a request that decodes out of an engine, which forgets it and has its blocks back.

    Raises `ServingError` unless all of its prompt is computed and nothing else is missing.
    """
    request = engine.requests[request_id]
    (sequence,) = request.sequences
    if sequence.status is not Status.RUNNING or not sequence.length or sequence.missing != 1:
        raise ServingError(
            f"request {request_id!r} is {sequence.status.value}, with {sequence.missing} tokens "
            "to compute",
            "a sequence is handed over when its prompt is computed and its first token chosen",
            "step the engine until `prefilled(engine)` names it",
        )
    blocks = sequence.block_table[: engine.blocks.blocks_for(sequence.computed)]
    keys, values = engine.runner.cache.read(blocks)
    assert sequence.chance is not None
    handover = Handover(
        request.id,
        list(request.prompt),
        request.text,
        request.params,
        request.priority,
        request.cache_key,
        request.stream,
        sequence.new_token_ids,
        sequence.computed,
        keys,
        values,
        sequence.chance,
        sequence.logprobs,
        sequence.score,
        request.cached_tokens or 0,
        request.prompt_logprobs,
        request.deliver,
    )
    engine.scheduler.remove(sequence)
    del engine.requests[request_id]
    return handover


def prefilled(engine: Engine) -> list[str]:
    """Requests of an engine that have their first token, and go on."""
    return [
        s.request.id
        for s in engine.scheduler.running
        if s.length and s.missing == 1 and len(s.request.sequences) == 1
    ]


def fits(engine: Engine, handover: Handover) -> bool:
    """Whether an engine has a slot, and blocks for all tokens and the next step."""
    needed = engine.blocks.blocks_for(handover.computed + 1)
    kept = engine.scheduler.watermark if engine.scheduler.running else 0
    free = len(engine.blocks.free_blocks)
    return engine.scheduler.free_slots() > 0 and needed + kept <= free


def take(engine: Engine, handover: Handover) -> None:
    """Let a sequence go on in this engine, which `fits` it. Raises `RequestError` like a request.

    The engine's own block size and model must be those that the blocks were made with.
    """
    cache = engine.runner.cache
    theirs, ours = list(handover.keys.shape), list(cache.keys.shape)
    if [theirs[0], *theirs[2:]] != [ours[0], *ours[2:]]:
        raise ServingError(
            f"blocks of {theirs}, and a cache of {ours}: layers, blocks, tokens, kv heads, size",
            "a block is copied as it is",
            "two engines with one model and one block size",
        )
    request = engine.admission.check(
        engine.arrivals,
        engine.requests,
        handover.prompt,
        handover.params,
        handover.request_id,
        handover.priority,
        handover.stream,
        handover.cache_key,
    )
    request.text, request.deliver = handover.text, handover.deliver
    request.cached_tokens = handover.cached_tokens
    request.prompt_logprobs = list(handover.prompt_logprobs)
    sequence = engine.new_sequence(request, 0)
    request.sequences = [sequence]
    _catch_up(sequence, handover)
    engine.arrivals += 1
    engine.requests[request.id] = request
    engine.blocks.grow(sequence, handover.computed)
    cache.put(sequence.block_table, handover.keys, handover.values)
    sequence.computed = handover.computed
    engine.blocks.register(sequence, sequence.computed)
    engine.scheduler.run(sequence)


def _catch_up(sequence: Sequence, handover: Handover) -> None:
    """Take in the tokens that were chosen elsewhere, as if they had been chosen here."""
    for token in handover.new_token_ids:
        sequence.token_ids.append(token)
        if sequence.grammar is not None:
            sequence.grammar = sequence.grammar.advance(token)
        sequence.text.feed(token)
    sequence.text.delta()  # the caller has it already
    sequence.logprobs, sequence.score = list(handover.logprobs), handover.score
    sequence.chance = handover.chance


class Pair:
    """Two engines of one model in one process: one computes prompts, the other decodes."""

    def __init__(self, prefill: Engine, decode: Engine):
        self.prefill, self.decode = prefill, decode
        self.between: deque[Handover] = deque()  # have no room yet; the first come goes first
        self.carried = 0  # bytes

    def add_request(
        self,
        prompt: str | Row[int],
        params: SamplingParams | None = None,
        request_id: str | None = None,
        **more: Any,
    ) -> str:
        """As `Engine.add_request`. Raises `RequestError`, too, for what cannot change hands."""
        params = params or SamplingParams()
        if params.n > 1 or params.beam_width:
            raise RequestError(
                f"n {params.n} and beam_width {params.beam_width}, and two engines",
                "the sequences of one request share blocks, and are handed over one by one",
                "one sequence a request, or one engine",
            )
        name = str(self.prefill.arrivals) if request_id is None else request_id
        if any(handover.request_id == name for handover in self.between):
            raise RequestError(
                f"there is a request {name!r} already",
                "it is between the two engines",
                "another id, or none",
            )
        self.decode.admission.check(0, self.decode.requests, prompt, params, name)
        return self.prefill.add_request(prompt, params, name, **more)

    def abort(self, request_id: str) -> RequestOutput | None:
        """End a request, wherever it is; None if it is between the engines, or unknown."""
        self.between = deque(h for h in self.between if h.request_id != request_id)
        return self.prefill.abort(request_id) or self.decode.abort(request_id)

    @property
    def unfinished(self) -> int:
        """Requests that have not ended: of both engines, and those between them."""
        return self.prefill.unfinished + len(self.between) + self.decode.unfinished

    def step(self) -> list[RequestOutput]:
        """A step of each, one after the other; in processes of their own they overlap."""
        outputs = self.prefill.step() if self.prefill.unfinished else []
        for name in prefilled(self.prefill):
            self.between.append(export(self.prefill, name))
            self.carried += self.between[-1].nbytes
        while self.between and fits(self.decode, self.between[0]):
            take(self.decode, self.between.popleft())
        return outputs + (self.decode.step() if self.decode.unfinished else [])
