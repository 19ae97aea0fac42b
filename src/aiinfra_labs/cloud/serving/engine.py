"""The engine: requests in, texts out, a step at a time. Unit 4.3.

    engine = Engine.from_folder("model")
    engine.add_request("def read(", SamplingParams(max_tokens=40))
    while engine.unfinished:
        for output in engine.step():
            print(output.outputs[0].text)

A step plans (`scheduler`), computes (`model_runner`), chooses (`sampling`), and ends what has come
to its end. Nothing in it waits: requests may be added and aborted between any two steps.

One request's fault is that request's. `requests` refuses what cannot be served; and where something
fails in a step for one request alone, such as a caller's own code, that request ends with
finish_reason "error", and the others get on.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from . import beam, loader, speculative
from .attention import PagedCache, attention_named
from .block_manager import BlockManager
from .chance import Chance
from .constrained import JsonConstraint, Kept
from .errors import ServingError
from .free_memory import blocks_that_fit
from .generation_config import sampling_defaults
from .logits import process_logits, record_logprobs, record_prompt_logprobs
from .model import CausalLM, ModelConfig
from .model_runner import ModelRunner
from .output import RequestOutput, SequenceText, output
from .requests import Admission
from .sampling import choose, draw, race
from .sampling_params import SamplingParams
from .scheduler import Plan, Scheduler
from .sequence import Request, Sequence, Status
from .tokenizer import FileTokenizer, Tokenizer
from .turns import Turns


@dataclass(frozen=True)
class EngineConfig:
    """How much the engine may take, and what it may do."""

    num_blocks: int | None = 512  # of the KV cache; None: what free memory has room for
    block_size: int = 16  # tokens
    max_step_tokens: int = 512  # computed in one step
    max_sequences: int = 256  # running at once
    prefix_caching: bool = True
    chunked_prefill: bool = True
    attention: str = "auto"  # or one of attention.ATTENTIONS
    end_ids: tuple[int, ...] = ()  # tokens that end every text
    seed: int = 0  # of requests without a seed of their own
    scheduler: type[Scheduler] = Scheduler
    cache: Callable[..., PagedCache] = field(default=PagedCache)
    blocks: Callable[..., BlockManager] = field(default=BlockManager)  # or contiguous memory
    memory_share: float | None = None  # of free memory, where num_blocks is None: `free_memory`

    def sized(self, shape: ModelConfig, dtype: torch.dtype, device: torch.device) -> EngineConfig:
        """The same, with a number of blocks. Raises `ServingError` where there is no room."""
        if self.num_blocks is not None:
            return self
        size = blocks_that_fit(
            shape, self.block_size, self.max_sequences, dtype.itemsize, device, self.memory_share
        )
        return replace(self, num_blocks=size)

    def cache_for(self, model: CausalLM) -> PagedCache:
        """Room for a model's keys and values; a rank's part of a model has its own kv heads."""
        shape = model.config
        return self.cache(
            shape.num_hidden_layers,
            self.num_blocks,
            self.block_size,
            shape.num_key_value_heads,
            shape.head_dim,
            model.dtype,
            model.device,
        )


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
        shape = model.config
        config = (config or EngineConfig()).sized(shape, model.dtype, model.device)
        self.config = config
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
        cache = config.cache_for(model)
        attention = attention_named(config.attention, model.device, model.dtype)
        self.runner = ModelRunner(model, cache, attention)
        self.proposer = proposer
        self.draw = draw
        if isinstance(proposer, speculative.DraftModel):
            proposer.attach(self.runner)
            self.draw = race  # by which a draft and the model agree as often as they are alike
        self.admission = Admission(
            tokenizer,
            shape.vocab_size,
            context,
            config.block_size,
            config.num_blocks,
            config.max_sequences,
            config.end_ids,
        )
        self.requests: dict[str, Request] = {}
        self.arrivals = self.steps = 0
        self.drafted = self.accepted = 0  # tokens that were guessed, and that were right
        self.observers: list[Callable[[Plan], None]] = []  # called after each step
        self.undelivered: list[RequestOutput] = []  # what `step` will return
        self.turns = Turns()  # of the threads that use this engine
        self._abandoned: deque[str] = deque()  # requests whose callers are gone
        self._stepping = False

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
        engine = cls(model, tokenizer, config, proposer)
        engine.admission.usual = sampling_defaults(folder)
        return engine

    # --- requests in ------------------------------------------------------------------------------

    def add_request(
        self,
        prompt: str | Row[int],
        params: SamplingParams | None = None,
        request_id: str | None = None,
        priority: int = 0,
        stream: bool = False,
        cache_key: str = "",
        deliver: Callable[[RequestOutput], None] | None = None,
    ) -> str:
        """Let a request wait for its turn; returns its id.

        prompt: text, or ids. priority: smaller is served earlier. stream: give an output at every
        step. cache_key: what else keys and values depend on. deliver: takes each output of the
        request, whoever steps the engine; without it `step` returns them. Raises `RequestError`,
        and nothing has changed.
        """
        with self.turns:
            request = self.admission.check(
                self.arrivals,
                self.requests,
                prompt,
                params,
                request_id,
                priority,
                stream,
                cache_key,
            )
            request.deliver = deliver
            first = self.new_sequence(request, 0)
            request.sequences = [first]
            self.arrivals += 1
            self.requests[request.id] = request
            self.scheduler.add(first)
            return request.id

    def abort(self, request_id: str) -> RequestOutput | None:
        """End a request now, and give back all that it holds; None if there is no such request.

        Whoever waits for it gets what it has so far, with finish_reason "abort".
        """
        with self.turns:
            request = self.requests.pop(request_id, None)
            if request is None:
                return None
            self._end(request, "abort")
            last = output(request)
            if request.deliver:
                self._hand_over(request, last)
            return last

    def abandon(self, request_id: str) -> None:
        """The same a little later, by whoever uses the engine next; waits for nobody.

        For finalizers, which run in the middle of anything.
        """
        self._abandoned.append(request_id)

    @property
    def constraints(self) -> Kept[JsonConstraint]:
        """Constraints of the schemas that requests brought lately, for the next ones."""
        return self.admission.constraints

    @property
    def unfinished(self) -> int:
        """Requests that are waiting or running, or whose last output `step` has yet to return."""
        self._end_abandoned()
        return len(self.requests) + sum(output.finished for output in self.undelivered)

    def _end_abandoned(self) -> None:
        while self._abandoned:
            self.abort(self._abandoned.popleft())

    # --- a step -----------------------------------------------------------------------------------

    def step(self) -> list[RequestOutput]:
        """One step: outputs of requests that stream and got on, and of all that have ended.

        Also those that ended in a step of another caller (`run_step`), and were not returned yet;
        outputs of requests with an outbox of their own lie there. If the model fails, the error
        goes on to the caller; no request is lost, and what the step would have written is computed
        again.
        """
        with self.turns:
            self.run_step()
            outputs, self.undelivered = self.undelivered, []
            return outputs

    def run_step(self) -> None:
        """One step, whose outputs go to their outboxes, or wait for a call of `step`."""
        with self.turns:
            if self._stepping:
                raise ServingError(
                    "a step within a step",
                    "an observer or an outbox is called while the engine's books are open",
                    "engine.abort and engine.add_request there, and the step when this one is over",
                )
            self._end_abandoned()
            self._stepping = True
            try:
                self._step()
            finally:
                self._stepping = False

    def _step(self) -> None:
        if self.proposer:
            vocabulary = self.model.config.vocab_size
            speculative.propose(self.proposer, self.scheduler, self.runner.cache, vocabulary)
        plan = self.scheduler.schedule()
        try:
            if self.proposer:
                self.proposer.copy(plan.copies)
            logits = self.runner.run(plan) if plan.work else []
        except BaseException:
            self.blocks.forget()  # blocks were registered that the step has not filled
            self._preempt_all(plan)
            raise
        self.steps += 1
        touched: dict[str, Request] = {}
        try:
            self._advance(plan, logits, touched)
            self._tell(plan)
        except BaseException:  # Ctrl-C: who was in the middle of something begins that again
            self._preempt_all(plan)
            touched |= {r.id: r for r in self.requests.values() if r.finished}
            raise
        finally:
            for request in touched.values():
                if self.requests.get(request.id) is not request:
                    continue  # aborted meanwhile, by an observer or by another's outbox
                if request.finished:
                    del self.requests[request.id]
                if request.finished or request.stream:
                    self._hand_over(request, output(request))

    def _tell(self, plan: Plan) -> None:
        """Call the observers. What one of them does wrong ends no request."""
        for observer in list(self.observers):
            try:
                observer(plan)
            except Exception as error:
                warnings.warn(f"an observer of the engine failed: {error!r}", stacklevel=2)

    def _hand_over(self, request: Request, out: RequestOutput) -> None:
        if request.deliver is None:
            self.undelivered.append(out)
            return
        try:
            request.deliver(out)
        except Exception as error:  # nobody is there: a loop that was closed
            warnings.warn(f"request {request.id!r} cannot be delivered: {error!r}", stacklevel=2)
            request.deliver = _nobody
            self._abandoned.append(request.id)

    def _preempt_all(self, plan: Plan) -> None:
        for sequence in list(self.scheduler.running):
            self.scheduler.preempt(sequence, plan)

    def _advance(
        self, plan: Plan, logits: list[Tensor | None], touched: dict[str, Request]
    ) -> None:
        """Take in what the step has computed. touched: the requests that got on."""
        for sequence in plan.admitted:
            if sequence.request.cached_tokens is None:  # later it would find what was its own
                sequence.request.cached_tokens = sequence.cached
        rows: list[tuple[Sequence, Tensor]] = []  # one token to choose from one row
        for work, found in zip(plan.work, logits, strict=True):
            sequence, request = work.sequence, work.sequence.request
            sequence.computed = work.start + work.tokens - work.drafts
            if found is None:
                continue
            touched[request.id] = request
            try:
                if work.all_logits:
                    record_prompt_logprobs(found, sequence, work.start)
                    if not work.gives_logits:
                        continue
                    found = found[-1 - work.drafts :]
                if request.is_beam:
                    beam.hold(sequence, found[0])
                elif work.drafts:
                    self._verify(sequence, found)
                else:
                    rows += [(member, found[0]) for member in self._forks(sequence)]
            except Exception as error:
                self._fail(request, error)
        if rows:
            self._choose(rows)
        for request in touched.values():
            if request.is_beam and not request.finished:
                try:
                    beam.step(request, self.scheduler, self._text)
                except Exception as error:
                    self._fail(request, error)

    def _choose(self, rows: list[tuple[Sequence, Tensor]]) -> None:
        """One token for each sequence, and what follows from it."""
        sequences = [sequence for sequence, _ in rows]
        raw = torch.stack([row for _, row in rows])  # [R, V]
        wanted, failed = process_logits(raw, sequences)
        for row, error in failed.items():
            self._fail(sequences[row].request, error)
        # Its own code may have aborted a request, or the failure of one sample all of them.
        live = [row for row, s in enumerate(sequences) if s.status is not Status.FINISHED]
        if not live:
            return
        if len(live) < len(sequences):
            sequences = [sequences[row] for row in live]
            raw, wanted = raw[live], wanted[live]
        params = [s.request.params for s in sequences]
        sources = [
            None if p.greedy else s.chance.at(len(s.token_ids))  # type: ignore[union-attr]
            for p, s in zip(params, sequences, strict=True)
        ]
        chosen = choose(wanted, params, sources, self.draw).tolist()
        record_logprobs(raw, sequences, chosen)
        for sequence, token in zip(sequences, chosen, strict=True):
            try:
                self._append(sequence, token)
            except Exception as error:
                self._fail(sequence.request, error)

    def _verify(self, sequence: Sequence, logits: Tensor) -> None:
        """Keep what is right of a draft. logits: [drafts + 1, V]."""
        draft, known = sequence.draft[: len(logits) - 1], len(sequence.token_ids)
        rows = []
        for place in range(len(logits)):
            row, failed = process_logits(logits[place : place + 1], [sequence], draft[:place])
            if failed and not place:
                raise failed[0]
            if failed:  # behind a draft that is wrong, perhaps: it will be seen again, or not
                draft = draft[: place - 1]
                break
            rows.append(row)
        tokens = speculative.verify(sequence, draft, torch.cat(rows)[: len(draft) + 1], self.draw)
        self.drafted += len(draft)
        self.accepted += len(tokens) - 1
        sequence.draft, sequence.draft_shares = [], None
        for place, token in enumerate(tokens):
            record_logprobs(logits[place : place + 1], [sequence], [token])
            sequence.computed = known + place  # the keys of all tokens before this one are right
            if self._append(sequence, token):
                return
        sequence.draft_computed = min(sequence.draft_computed, sequence.computed)
        self.blocks.shrink(sequence, sequence.computed + 1)

    def _append(self, sequence: Sequence, token: int) -> bool:
        """Take a token into the sequence; returns whether the sequence has ended."""
        if sequence.status is Status.FINISHED:  # its request failed, or was aborted in this step
            return True
        request = sequence.request
        sequence.token_ids.append(token)
        if sequence.grammar is not None:
            sequence.grammar = sequence.grammar.advance(token)
        if token in request.ends:
            if request.params.include_stop_str_in_output:
                sequence.text.feed(token)  # as in vLLM; the model's own end is no text anyway
            self._finish(sequence, "stop", token)
        elif stop := sequence.text.feed(token):
            self._finish(sequence, "stop", stop)
        elif sequence.length >= request.max_new_tokens:
            self._finish(sequence, "length")
        return sequence.status is Status.FINISHED

    def _finish(self, sequence: Sequence, reason: str, what: str | int | None = None) -> None:
        self.scheduler.remove(sequence)
        sequence.finish_reason, sequence.stop_reason = reason, what
        stop = sequence.text.finish()
        if stop and reason in ("stop", "length"):
            sequence.finish_reason, sequence.stop_reason = "stop", stop

    def _end(self, request: Request, reason: str) -> None:
        """End what has not ended of a request, from outside."""
        for sequence in request.sequences:
            if sequence.status is Status.FINISHED:
                continue
            self.scheduler.remove(sequence)
            sequence.finish_reason = reason
            try:
                beam.spell(sequence) if request.is_beam else sequence.text.finish()
            except Exception as error:  # what is left of the text cannot be read
                warnings.warn(f"request {request.id!r}: {error!r}", stacklevel=2)

    def _fail(self, request: Request, error: Exception) -> None:
        """End a request that cannot go on; all others do."""
        if request.error is None:
            what = "" if isinstance(error, ServingError) else f"{type(error).__name__}: "
            request.error = f"{what}{error}"
        if request.sequences:
            request.whole = []
        for sequence in request.whole:
            sequence.finish_reason = "error"
        self._end(request, "error")

    def _forks(self, first: Sequence) -> list[Sequence]:
        """The sequences that choose from a prompt's logits: the first time, all `n` of them."""
        request = first.request
        if first.length or len(request.sequences) == request.params.n:
            return [first]
        for index in range(len(request.sequences), request.params.n):
            other = self.new_sequence(request, index)
            self.blocks.fork(first, other)
            self.scheduler.run(other)
            request.sequences.append(other)
        return request.sequences

    def new_sequence(self, request: Request, index: int) -> Sequence:
        """A sequence of a request: its prompt, its own chance, and an empty text."""
        return Sequence(
            request,
            index,
            list(request.prompt),
            Chance.of(request.params.seed, self.config.seed, request.arrival, index),
            grammar=request.grammar,
            text=self._text(request),
        )

    def _text(self, request: Request) -> SequenceText:
        params = request.params
        return SequenceText(
            self.tokenizer, params.stop, params.min_tokens, params.include_stop_str_in_output
        )


def _nobody(out: RequestOutput) -> None:
    """Takes the outputs of a request whose caller is gone."""
