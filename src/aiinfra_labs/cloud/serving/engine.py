"""The engine: requests in, texts out, a step at a time. Unit 4.3.

    engine = Engine.from_folder("model")
    engine.add_request("def read(", SamplingParams(max_tokens=40))
    while engine.unfinished:
        for output in engine.step():
            print(output.outputs[0].text)

A step plans (`scheduler`), computes (`model_runner`), chooses (`sampling`), and ends what has come
to its end. Nothing in it waits: requests may be added and aborted between any two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from . import beam, loader, requests, speculative
from .attention import PagedCache, attention_named
from .block_manager import BlockManager
from .constrained import JsonConstraint, Vocabulary
from .errors import ServingError
from .logits import adjust, log_shares, note
from .model import CausalLM
from .model_runner import ModelRunner
from .output import RequestOutput, SequenceText, output
from .sampling import SamplingParams, choose, shares
from .scheduler import Plan, Scheduler
from .sequence import Request, Sequence, Status
from .tokenizer import FileTokenizer, Tokenizer


@dataclass(frozen=True)
class EngineConfig:
    """How much the engine may take, and what it may do."""

    num_blocks: int = 512  # of the KV cache
    block_size: int = 16  # tokens
    max_step_tokens: int = 512  # computed in one step
    max_sequences: int = 256  # running at once
    prefix_caching: bool = True
    chunked_prefill: bool = True
    attention: str = "auto"  # or one of attention.ATTENTIONS
    end_ids: tuple[int, ...] = ()  # tokens that end every text
    scheduler: type[Scheduler] = Scheduler
    cache: Callable[..., PagedCache] = field(default=PagedCache)
    blocks: Callable[..., BlockManager] = field(default=BlockManager)  # or contiguous memory


class Engine:
    """One model that serves many requests at once."""

    def __init__(
        self,
        model: CausalLM,
        tokenizer: Tokenizer | None = None,
        config: EngineConfig | None = None,
        proposer: speculative.Proposer | None = None,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.config = config = config or EngineConfig()
        shape = model.config
        context = shape.max_position_embeddings
        if not config.chunked_prefill and config.max_step_tokens < context:
            raise ServingError(
                f"a step of {config.max_step_tokens} tokens and no chunked prefill",
                f"a prompt may have up to {context} tokens, and would never fit into one step",
                f"max_step_tokens of {context} or more, or chunked prefill",
            )
        self.blocks = config.blocks(config.num_blocks, config.block_size, config.prefix_caching)
        self.scheduler = config.scheduler(
            self.blocks, config.max_step_tokens, config.max_sequences, config.chunked_prefill
        )
        cache = config.cache(
            shape.num_hidden_layers,
            config.num_blocks,
            config.block_size,
            shape.num_key_value_heads,
            shape.head_dim,
            model.dtype,
            model.device,
        )
        attention = attention_named(config.attention, model.device, model.dtype)
        self.runner = ModelRunner(model, cache, attention)
        self.proposer = proposer
        if isinstance(proposer, speculative.DraftModel):
            proposer.attach(self.runner)
        self.requests: dict[str, Request] = {}
        self.arrivals = self.steps = 0
        self.drafted = self.accepted = 0  # tokens that were guessed, and that were right
        self.observers: list[Callable[[Plan], None]] = []  # called after each step
        self.constraints: dict[str, JsonConstraint] = {}  # by schema: each is built once

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        config: EngineConfig | None = None,
        proposer: speculative.Proposer | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Engine:
        """An engine for the checkpoint in a folder. Raises `LoadError`."""
        folder = Path(folder)
        model = loader.load(folder, dtype, device)
        tokenizer = FileTokenizer(folder / "tokenizer.json")
        if len(tokenizer) > model.config.vocab_size:
            raise loader.LoadError(
                f"the tokenizer has {len(tokenizer):,} tokens, and the model "
                f"{model.config.vocab_size:,}",
                "each id needs a row of the model's embedding, and means what it meant in training",
                "the tokenizer.json that was saved with this model",
            )
        config = config or EngineConfig()
        if not config.end_ids:
            config = replace(config, end_ids=loader.end_ids(folder))
        return cls(model, tokenizer, config, proposer)

    # --- requests in ------------------------------------------------------------------------------

    def add_request(
        self,
        prompt: str | Row[int],
        params: SamplingParams | None = None,
        request_id: str | None = None,
        priority: int = 0,
        stream: bool = False,
        cache_key: str = "",
    ) -> str:
        """Let a request wait for its turn; returns its id.

        prompt: text, or ids. priority: smaller is served earlier. stream: give an output at every
        step. cache_key: what else keys and values depend on. Raises `RequestError`, and nothing has
        changed.
        """
        request = requests.checked(
            self, prompt, params or SamplingParams(), request_id, priority, stream, cache_key
        )
        first = self._sequence(request, 0)
        request.sequences = [first]
        self.arrivals += 1
        self.requests[request.id] = request
        self.scheduler.add(first)
        return request.id

    def abort(self, request_id: str) -> RequestOutput | None:
        """End a request now, and give back all that it holds; None if there is no such request."""
        request = self.requests.pop(request_id, None)
        if request is None:
            return None
        for sequence in request.sequences:
            if sequence.status is not Status.FINISHED:
                self._finish(sequence, "abort")
        return output(request)

    @property
    def unfinished(self) -> int:
        """Requests that are waiting or running."""
        return len(self.requests)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bytes of all tokens, for every constraint: what strings allow is found once."""
        assert self.tokenizer is not None, "text is needed"
        found = self.tokenizer.token_bytes()
        return Vocabulary(found + [None] * (self.model.config.vocab_size - len(found)))

    # --- a step -----------------------------------------------------------------------------------

    def step(self) -> list[RequestOutput]:
        """One step: outputs of requests that stream and got on, and of all that have ended.

        If the model fails, the error goes on to the caller; no request is lost, and what the step
        would have written is computed again.
        """
        if self.proposer:
            self._propose(self.proposer)
        plan = self.scheduler.schedule()
        try:
            if self.proposer:
                self.proposer.copy(plan.copies)
            logits = self.runner.run(plan) if plan.work else []
        except BaseException:
            self.blocks.forget()  # blocks were registered that the step has not filled
            for sequence in list(self.scheduler.running):
                self.scheduler.preempt(sequence, plan)
            raise
        self.steps += 1
        touched = self._advance(plan, logits)
        for observer in self.observers:
            observer(plan)
        outputs = []
        for request in touched:
            if request.finished:
                del self.requests[request.id]
            if request.finished or request.stream:
                outputs.append(output(request))
        return outputs

    def _advance(self, plan: Plan, logits: list[Tensor | None]) -> list[Request]:
        """Take in what the step has computed. Returns the requests that got on."""
        for sequence in plan.admitted:
            if not sequence.length:
                sequence.request.cached_tokens = sequence.cached
        rows: list[tuple[Sequence, Tensor]] = []  # one token to choose from one row
        touched: dict[int, Request] = {}
        for work, found in zip(plan.work, logits, strict=True):
            sequence = work.sequence
            sequence.computed = work.start + work.tokens - work.drafts
            if found is None:
                continue
            request = sequence.request
            touched[id(request)] = request
            if request.is_beam:
                sequence.held = log_shares(found[0])
            elif work.drafts:
                self._verify(sequence, found)
            else:
                rows += [(member, found[0]) for member in self._forks(sequence)]
        if rows:
            self._choose(rows)
        for request in touched.values():
            if request.is_beam:
                ends = frozenset(self._ends(request))
                beam.step(request, self.scheduler, ends, self._text)
        return list(touched.values())

    def _choose(self, rows: list[tuple[Sequence, Tensor]]) -> None:
        """One token for each sequence, and what follows from it."""
        sequences = [sequence for sequence, _ in rows]
        raw = torch.stack([row for _, row in rows])  # [R, V]
        wanted = adjust(raw, sequences, self._ends)
        params = [s.request.params for s in sequences]
        chosen = choose(wanted, params, [s.generator for s in sequences]).tolist()
        note(raw, sequences, chosen)
        for sequence, token in zip(sequences, chosen, strict=True):
            self._append(sequence, token)

    def _append(self, sequence: Sequence, token: int) -> bool:
        """Take a token into the sequence; returns whether the sequence ends with it."""
        request = sequence.request
        sequence.token_ids.append(token)
        if sequence.grammar is not None:
            sequence.grammar = sequence.grammar.advance(token)
        if token in self._ends(request):
            self._finish(sequence, "stop", token)
        elif stop := sequence.text.feed(token):
            self._finish(sequence, "stop", stop)
        elif sequence.length >= request.max_new_tokens:
            self._finish(sequence, "length")
        return sequence.status is Status.FINISHED

    def _finish(self, sequence: Sequence, reason: str, what: str | int | None = None) -> None:
        self.scheduler.remove(sequence)
        sequence.finish_reason, sequence.stop_reason = reason, what
        sequence.text.finish()

    def _forks(self, first: Sequence) -> list[Sequence]:
        """The sequences that choose from a prompt's logits: the first time, all `n` of them."""
        request = first.request
        if first.length or len(request.sequences) == request.params.n:
            return [first]
        for index in range(1, request.params.n):
            other = self._sequence(request, index)
            self.blocks.fork(first, other)
            self.scheduler.run(other)
            request.sequences.append(other)
        return request.sequences

    def _sequence(self, request: Request, index: int) -> Sequence:
        seed = request.params.seed if request.params.seed is not None else request.arrival
        return Sequence(
            request,
            index,
            list(request.prompt),
            torch.Generator().manual_seed(seed + index),
            grammar=requests.grammar(self, request),
            text=self._text(request),
        )

    def _text(self, request: Request) -> SequenceText:
        return SequenceText(self.tokenizer, request.params.stop)

    def _ends(self, request: Request) -> tuple[int, ...]:
        own = request.params.stop_token_ids
        return own if request.params.ignore_eos else (*self.config.end_ids, *own)

    # --- speculation ------------------------------------------------------------------------------

    def _propose(self, proposer: speculative.Proposer) -> None:
        """Drafts for the sequences that decode, where there is room for them."""
        sequences, counts = [], []
        # What is drafted must not take the place of another sequence's next token.
        room = self.config.max_step_tokens - len(self.scheduler.running)
        for sequence in self.scheduler.running:
            sequence.draft, request = [], sequence.request
            # The last step's budget may have cut the draft off: then none of it was verified.
            sequence.draft_computed = min(sequence.draft_computed, sequence.computed)
            most = min(proposer.most, request.max_new_tokens - sequence.length - 1, room)
            if most < 1 or sequence.missing != 1 or request.is_beam or sequence.grammar is not None:
                continue
            if self._reserve(sequence, len(sequence.token_ids) + most):
                sequences.append(sequence)
                counts.append(most)
                room -= most
        if sequences:
            proposer.propose(sequences, counts)

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Room for tokens that may come, unless another sequence would have to give way."""
        spare = len(self.scheduler.running)
        if self.blocks.needed(sequence, tokens) + spare > len(self.blocks.free_blocks):
            return False
        if copy := self.blocks.grow(sequence, tokens):
            self.runner.cache.copy([copy])
            self.proposer.copy([copy])  # type: ignore[union-attr]
        return True

    def _verify(self, sequence: Sequence, logits: Tensor) -> None:
        """Keep what is right of a draft. logits: [drafts + 1, V]."""
        draft, known = sequence.draft[: len(logits) - 1], len(sequence.token_ids)
        params = sequence.request.params
        rows = torch.cat(
            [
                adjust(logits[i : i + 1], [sequence], self._ends, draft[:i])
                for i in range(len(logits))
            ]
        )
        if params.greedy:
            tokens = speculative.accept_greedy(rows.argmax(dim=-1).tolist(), draft)
        else:
            p = shares(rows, [params] * len(rows))
            assert sequence.generator is not None
            tokens = speculative.accept(p, draft, sequence.draft_shares, sequence.generator)
        self.drafted += len(draft)
        self.accepted += len(tokens) - 1
        sequence.draft, sequence.draft_shares = [], None
        for place, token in enumerate(tokens):
            note(logits[place : place + 1], [sequence], [token])
            sequence.computed = known + place  # the keys of all tokens before this one are right
            if self._append(sequence, token):
                return
        sequence.draft_computed = min(sequence.draft_computed, sequence.computed)
        self.blocks.shrink(sequence, sequence.computed + 1)
