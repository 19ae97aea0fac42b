"""A request, and the sequences of tokens that it asks for. Unit 4.2.

A request has one sequence, or several: `n` samples of one prompt, or the beams of a search. They
share the blocks of what they have in common. A sequence's tokens are known (the prompt, and what
was chosen); `computed` says for how many of them keys and values are in the cache. Whatever the
engine does - a prompt in chunks, one new token, a recomputation after preemption, a draft to be
verified - is to bring `computed` up to the number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch

from .chance import Chance
from .grammar import Grammar
from .sampling_params import SamplingParams


class Status(Enum):
    """Where a sequence is."""

    WAITING = "waiting"  # has no blocks; new, or preempted
    RUNNING = "running"  # has blocks
    FINISHED = "finished"


@dataclass(eq=False)
class Sequence:
    """One row of tokens, and where its keys and values lie."""

    request: Request
    index: int  # among the request's own
    token_ids: list[int]
    chance: Chance | None = None
    computed: int = 0  # tokens whose keys and values are in the cache
    block_table: list[int] = field(default_factory=list)  # token t: block_table[t // block_size]
    block_hashes: list[bytes] = field(default_factory=list)  # of the full blocks, as far as known
    draft: list[int] = field(default_factory=list)  # tokens proposed behind the known ones
    draft_shares: torch.Tensor | None = None  # what each was drawn from, [drafts, vocabulary]
    draft_computed: int = 0  # tokens that the draft model has in its cache
    status: Status = Status.WAITING
    finish_reason: str | None = None  # "stop", "length", "abort" or "error"
    stop_reason: str | int | None = None  # the stop string or the token that ended it
    logprobs: list[dict[int, float]] = field(default_factory=list)  # a dict a new token, if asked
    score: float = 0.0  # sum of log-probabilities of the new tokens
    held: torch.Tensor | None = None  # a beam's log-probabilities, until all beams have theirs
    held_own: torch.Tensor | None = None  # the same before any setting, if they were asked for
    grammar: Grammar | None = None  # the state of a constraint
    text: Any = None  # what turns tokens into text: `output.SequenceText`
    cached: int = 0  # tokens that were found in the cache when it last was admitted
    preemptions: int = 0

    @property
    def order(self) -> tuple[int, int, int]:
        """Who comes first: a smaller priority, then the earlier arrival."""
        return (self.request.priority, self.request.arrival, self.index)

    @property
    def new_token_ids(self) -> list[int]:
        """The ids behind the prompt."""
        return self.token_ids[len(self.request.prompt) :]

    @property
    def length(self) -> int:
        """New tokens so far."""
        return len(self.token_ids) - len(self.request.prompt)

    @property
    def missing(self) -> int:
        """Known tokens that are not in the cache. One, for a sequence that decodes."""
        return len(self.token_ids) - self.computed


@dataclass(eq=False)
class Request:
    """What one caller asked for."""

    id: str
    prompt: Row[int]
    params: SamplingParams
    arrival: int  # 0, 1, 2, ... in the order of `add_request`
    priority: int = 0
    text: str | None = None  # the prompt, if it was given as text
    cache_key: str = ""  # what else keys and values depend on, such as a LoRA adapter
    max_new_tokens: int = 0  # params.max_tokens, or what the context leaves
    stream: bool = False  # give an output at every step, not at the end alone
    sequences: list[Sequence] = field(default_factory=list)
    whole: list[Sequence] = field(default_factory=list)  # finished beams, the best first
    cached_tokens: int | None = None  # of the prompt, found in the cache; None before it is known
    ends: frozenset[int] = frozenset()  # tokens that end the text
    grammar: Grammar | None = None  # the state that its constraint begins with
    bad_words: list[list[int]] = field(default_factory=list)  # ids, the last of which is not taken
    prompt_logprobs: list[dict[int, float] | None] = field(default_factory=list)
    error: str | None = None  # what ended it, where that was no end of a text
    deliver: Callable[[Any], None] | None = None  # takes its outputs; None: `step` returns them

    def __post_init__(self) -> None:
        params = self.params
        self.width = max(params.n, params.beam_width)  # sequences at once, at most
        self.changes_logits = bool(
            params.repetition_penalty != 1
            or params.presence_penalty
            or params.frequency_penalty
            or params.logit_bias
            or params.bad_words
            or params.logits_processors
        )

    @property
    def finished(self) -> bool:
        """Whether all its sequences have ended."""
        return all(s.status is Status.FINISHED for s in self.sequences)

    @property
    def is_beam(self) -> bool:
        """Whether its sequences are beams of one search."""
        return self.params.beam_width > 0

    @property
    def slots(self) -> int:
        """Running sequences that one of its sequences stands for.

        Before the samples of a prompt have parted, one stands for all; beams stand for each other.
        """
        return self.width if self.is_beam or len(self.sequences) < self.params.n else 1

    @property
    def lacks_prompt_logprobs(self) -> bool:
        """Whether the whole prompt is still to be computed, since each token's logits are asked."""
        return self.params.prompt_logprobs is not None and (
            len(self.prompt_logprobs) < len(self.prompt)
        )
