"""What a caller gets back: texts, while they grow and when they are whole. Unit 4.3."""

from __future__ import annotations

from dataclasses import dataclass

from aiinfra_labs.llm.stop_strings import StopStrings

from .sequence import Request, Sequence
from .tokenizer import TextStream, Tokenizer


@dataclass(frozen=True)
class CompletionOutput:
    """One text. By vLLM's names, and `delta`: what is new since the last output."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None  # "stop", "length", "abort", "error", or None while it grows
    stop_reason: str | int | None  # the stop string or token that ended it
    logprobs: list[dict[int, float]]  # a dict a token, if they were asked for
    cumulative_logprob: float  # 0 unless they were
    delta: str = ""


@dataclass(frozen=True)
class RequestOutput:
    """All texts of a request."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    cached_tokens: int = 0  # of the prompt, found in the cache
    prompt_logprobs: list[dict[int, float] | None] | None = None  # a token, None for the first
    error: str | None = None  # for a finish_reason of "error": what happened


class SequenceText:
    """The text of a sequence: whole characters, and no part of a stop string."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        stops: tuple[str, ...],
        min_tokens: int = 0,
        include_stop: bool = False,
    ):
        """min_tokens: up to so many, no stop string is looked for (as in vLLM). include_stop: the
        stop string is the end of the text, not what comes behind it."""
        self.stream: TextStream | None = tokenizer.stream() if tokenizer else None
        self.stops = StopStrings(stops)
        self.min_tokens, self.tokens, self.include_stop = min_tokens, 0, include_stop
        self.sent, self.reported = "", 0

    def feed(self, id: int) -> str | None:
        """Take a token; returns the stop string that it completes, if it does."""
        self.tokens += 1
        if self.stream:
            new = self.stream.feed(id)
            if self.tokens > self.min_tokens:
                new = self.stops.feed(new)
            self.sent += new
        return self._found()

    def finish(self) -> str | None:
        """No token follows: what was held back is text as well.

        Returns a stop string that is certain only now, since another one might have begun earlier.
        """
        if not self.stream or self.stops.found:
            return None
        self.sent += self.stops.feed(self.stream.finish()) + self.stops.finish()
        return self._found()

    def _found(self) -> str | None:
        if self.stops.found and self.include_stop:
            self.sent += self.stops.found
        return self.stops.found or None

    def delta(self) -> str:
        """What was not reported yet."""
        new = self.sent[self.reported :]
        self.reported = len(self.sent)
        return new


def completion(sequence: Sequence) -> CompletionOutput:
    """A sequence as its caller sees it."""
    text: SequenceText = sequence.text
    delta = text.delta()
    return CompletionOutput(
        index=sequence.index,
        text=text.sent,
        token_ids=sequence.new_token_ids,
        finish_reason=sequence.finish_reason,
        stop_reason=sequence.stop_reason,
        logprobs=list(sequence.logprobs),
        cumulative_logprob=sequence.score,
        delta=delta,
    )


def output(request: Request) -> RequestOutput:
    """A request as its caller sees it."""
    shown = (request.finished and request.whole) or request.sequences
    return RequestOutput(
        request_id=request.id,
        prompt=request.text,
        prompt_token_ids=list(request.prompt),
        outputs=[completion(sequence) for sequence in shown],
        finished=request.finished,
        cached_tokens=request.cached_tokens or 0,
        prompt_logprobs=(
            None if request.params.prompt_logprobs is None else list(request.prompt_logprobs)
        ),
        error=request.error,
    )
