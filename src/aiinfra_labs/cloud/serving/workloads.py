"""Requests that come as they do in practice, made from a seed. Units 4.2 and 4.3.

How many requests a server can hold, what it pays for padding and what a prefix cache saves depend
on the lengths of prompts and answers, on what prompts share, and on when they come. Each workload
here has a shape that was measured and published (`cloud/facts.toml`); where only a mean is
published, the spread is said to be chosen.

| workload | prompts | answers | share a beginning |
|---|---|---|---|
| `chat` | short, a few long | longer, spread widely | no |
| `shared_prefix` | a system prompt and a question | as in chat | yes |
| `long_documents` | thousands of tokens | short | no |
| `agents` | grow with each call | short | each with the call before it |

The model of the course reads 1,024 tokens: `scale_for` says by what to shrink a workload for it.
Prompts are passages of real text, as token ids, so that a model says something sensible behind
them. The same seed gives the same lengths and arrivals on every machine; the same text, too, with
the same tokenizer and release of Python (`llm.corpus`).
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from aiinfra_labs.llm import corpus
from aiinfra_labs.llm.bpe import Tokenizer

from .errors import ServingError

COURSE_CONTEXT = 1024  # positions of the course's model
TEXT_TOKENS = 150_000  # as much text as prompts are cut from
Z90, Z99 = 1.2815515655446004, 2.3263478740408408  # quantiles of the normal distribution


@dataclass(frozen=True)
class RequestShape:
    """A request before it is one: when it comes, what it holds, how much it asks for.

    arrival: seconds since the beginning. Requests of one session share a context that grows by
    turns; `turn` counts them from 0.
    """

    arrival: float
    prompt_tokens: list[int]
    new_tokens: int
    session: int
    turn: int = 0
    kind: str = "chat"


# --- lengths --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """A log-normal distribution: lengths of texts have long tails on one side.

    sigma: the standard deviation of the logarithm.
    """

    median: float
    sigma: float

    @classmethod
    def of_quantile(cls, median: float, value: float, z: float = Z90) -> Spread:
        """The one whose quantile at `z` standard deviations (by default 90 %) is `value`."""
        return cls(median, math.log(value / median) / z)

    @classmethod
    def of_mean(cls, mean: float, sigma: float) -> Spread:
        """The one with this mean: median x exp(sigma^2 / 2)."""
        return cls(mean / math.exp(sigma**2 / 2), sigma)

    @property
    def mean(self) -> float:
        """median x exp(sigma^2 / 2)."""
        return self.median * math.exp(self.sigma**2 / 2)

    def quantile(self, z: float) -> float:
        """The value at `z` standard deviations."""
        return self.median * math.exp(self.sigma * z)

    def draw(self, chance: np.random.Generator, count: int) -> np.ndarray:
        """float64 [count]."""
        return self.median * np.exp(self.sigma * chance.standard_normal(count))


@cache
def _facts() -> dict[str, Any]:
    text = files("aiinfra_labs.cloud").joinpath("facts.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def workload_figure(group: str, name: str) -> float:
    """A figure of `cloud/facts.toml`, such as workload_figure("sharegpt", "prompt_mean")."""
    return float(_facts()[group][name]["value"])


def _by_p90(group: str, what: str) -> Spread:
    median, p90 = workload_figure(group, f"{what}_median"), workload_figure(group, f"{what}_p90")
    return Spread.of_quantile(median, p90)


def chat_lengths() -> tuple[Spread, Spread]:
    """(prompts, answers): the means of ShareGPT in vLLM's paper, spread as in Sarathi-Serve's."""
    return (
        Spread.of_mean(
            workload_figure("sharegpt", "prompt_mean"), _by_p90("openchat", "prompt").sigma
        ),
        Spread.of_mean(
            workload_figure("sharegpt", "answer_mean"), _by_p90("openchat", "answer").sigma
        ),
    )


def document_lengths() -> tuple[Spread, Spread]:
    """(prompts, answers): papers and their abstracts, by median and 90 % quantile."""
    return _by_p90("arxiv_summary", "prompt"), _by_p90("arxiv_summary", "answer")


@dataclass(frozen=True)
class AgentLengths:
    """A coding agent's task. Of `result` and `answer` the means are published, sigma is chosen."""

    calls: Spread
    first: float  # tokens of the first prompt
    common: float  # of these, what all tasks begin with
    answer: Spread  # of one call
    result: Spread  # of a tool, or whatever else comes before the next call
    delay: Spread  # seconds between calls


def agent_lengths() -> AgentLengths:
    """Of 610 tasks of SWE-bench Pro, solved by Codex."""
    calls = _by_p90("coding_agent", "calls")
    first = workload_figure("coding_agent", "first_context")
    common, own = (workload_figure("coding_agent", f"{part}_prompt") for part in ("common", "own"))
    answer = workload_figure("coding_agent", "answers") / calls.mean
    delay = (
        workload_figure("coding_agent", "delay_median"),
        workload_figure("coding_agent", "delay_p99"),
    )
    return AgentLengths(
        calls=calls,
        first=first,
        common=first * common / (common + own),
        answer=Spread.of_mean(answer, sigma=0.7),
        result=Spread.of_mean(workload_figure("coding_agent", "growth") - answer, sigma=1.0),
        delay=Spread.of_quantile(*delay, z=Z99),
    )


def scale_for(kind: str, context: int = COURSE_CONTEXT) -> float:
    """By what to shrink a workload's lengths for a model of `context` positions, 1 at most.

    99 of 100 requests then fit whole; of `agents`, the mean of all last calls.
    """
    if kind == "agents":
        longest = workload_figure("coding_agent", "last_context")
    elif kind in ("chat", "shared_prefix", "long_documents"):
        lengths = document_lengths() if kind == "long_documents" else chat_lengths()
        longest = sum(spread.quantile(Z99) for spread in lengths)
        longest += workload_figure("shared_prefix", "tokens") if kind == "shared_prefix" else 0
    else:
        raise ServingError(
            f"there is no workload {kind!r}",
            "each has lengths of its own",
            "one of chat, shared_prefix, long_documents, agents",
        )
    return min(1.0, context / longest)


# --- text -----------------------------------------------------------------------------------------


class Text:
    """A long row of token ids that prompts are cut from. Raises `ServingError` for none."""

    def __init__(self, tokens: Sequence[int]):
        self.tokens = list(tokens)
        if not self.tokens:
            raise ServingError(
                "there is no text to make prompts of",
                "a prompt is a passage of it",
                "Text(ids) with at least one id",
            )

    def passage(self, chance: np.random.Generator, length: int) -> list[int]:
        """`length` tokens from a random place on; behind the last comes the first."""
        start = int(chance.integers(len(self.tokens)))
        found = self.tokens[start : start + length]
        while len(found) < length:
            found += self.tokens[: length - len(found)]
        return found


def held_out_text(tokenizer: Tokenizer, tokens: int = TEXT_TOKENS) -> Text:
    """The beginning of the documents that the course's model was not trained on."""
    ids: list[int] = []
    for document in corpus.documents():
        if document.held_out:
            ids += tokenizer.encode(document.text, special=False)
        if len(ids) >= tokens:
            break
    return Text(ids[:tokens])


@cache
def course_text() -> Text:
    """`held_out_text` in the ids of the model that pages serve."""
    from aiinfra_labs.llm import page_model  # loads PyTorch, which lengths and arrivals do not need

    return held_out_text(Tokenizer.load(page_model.folder() / "tokenizer.json"))


# --- workloads ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """How requests come, and how large they are.

    rate: requests a second (tasks, of agents); infinite: all at once. burstiness: the shape of the
    gamma distribution of the intervals, by the name and the meaning of `vllm bench serve`: 1 is a
    Poisson process, and below 1 requests come in bursts, the intervals' standard deviation being
    1 / sqrt(burstiness) of their mean. scale: what all lengths are multiplied by. context: the most
    that prompt and answer may have together; what is longer is cut. text: where prompts are cut
    from, by default `course_text()`. Raises `ServingError`.
    """

    rate: float = math.inf
    burstiness: float = 1.0
    seed: int = 0
    scale: float = 1.0
    context: int | None = None
    text: Text | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "burstiness", "scale"):
            value = getattr(self, name)
            if not value > 0 or (math.isinf(value) and name != "rate"):
                raise ServingError(f"{name} is {value}", "it multiplies or divides", "more than 0")
        if self.context is not None and self.context < 2:
            raise ServingError(
                f"context is {self.context}",
                "a prompt and an answer have a token each",
                "2 or more",
            )

    def chances(self) -> list[np.random.Generator]:
        """Three streams: of arrivals, of lengths, of text. One can change without the others."""
        return np.random.default_rng(self.seed).spawn(3)

    def arrivals(self, chance: np.random.Generator, count: int) -> list[float]:
        """Seconds, ascending, [count]; to the microsecond, so that machines agree."""
        if math.isinf(self.rate):
            return [0.0] * count
        intervals = chance.gamma(self.burstiness, 1 / (self.rate * self.burstiness), count)
        return [round(float(at), 6) for at in np.cumsum(intervals)]

    def scaled(self, lengths: Iterable[float]) -> list[int]:
        """Lengths in tokens, at least 1."""
        return [max(1, round(float(length) * self.scale)) for length in lengths]

    def fitted(self, request: RequestShape) -> RequestShape:
        """The request within the context: the answer is cut first, then the prompt's end."""
        if self.context is None:
            return request
        new = min(request.new_tokens, self.context - 1)
        return replace(
            request, prompt_tokens=request.prompt_tokens[: self.context - new], new_tokens=new
        )


def chat(count: int, load: Load) -> list[RequestShape]:
    """Single turns as in ShareGPT. Nothing is shared."""
    return _single(count, load, "chat", *chat_lengths(), lambda chance: [])


def long_documents(count: int, load: Load) -> list[RequestShape]:
    """A paper each, and a summary of it: the prompt is 30 times the answer."""
    return _single(count, load, "long_documents", *document_lengths(), lambda chance: [])


def shared_prefix(count: int, load: Load, prefixes: int = 1) -> list[RequestShape]:
    """Chat behind one of `prefixes` system prompts, which each request draws at random."""
    if prefixes < 1:
        raise ServingError(f"{prefixes} prefixes", "each request begins with one", "1 or more")
    chance = np.random.default_rng([load.seed, prefixes])
    text, (length,) = (
        load.text or course_text(),
        load.scaled([workload_figure("shared_prefix", "tokens")]),
    )
    common = [text.passage(chance, length) for _ in range(prefixes)]
    return _single(
        count,
        load,
        "shared_prefix",
        *chat_lengths(),
        lambda chance: common[int(chance.integers(prefixes))],
    )


def _single(
    count: int,
    load: Load,
    kind: str,
    prompts: Spread,
    answers: Spread,
    beginning: Callable[[np.random.Generator], list[int]],
) -> list[RequestShape]:
    """Requests that are a session each."""
    text = load.text or course_text()
    when, how_long, what = load.chances()
    arrivals = load.arrivals(when, count)
    prompt_lengths = load.scaled(prompts.draw(how_long, count))
    answer_lengths = load.scaled(answers.draw(how_long, count))
    rows = zip(arrivals, prompt_lengths, answer_lengths, strict=True)
    return [
        load.fitted(
            RequestShape(at, beginning(what) + text.passage(what, length), new, i, kind=kind)
        )
        for i, (at, length, new) in enumerate(rows)
    ]


def agents(tasks: int, load: Load, delays: float = 1.0) -> list[RequestShape]:
    """Tasks of a coding agent: each call's prompt is the last one, its answer, and a tool's result.

    What the model answered is a passage of text, as in the replay of a recording. The next call
    comes when the one before it came and a delay, which `delays` multiplies; the time that a server
    takes is not in it. A task ends where its next call would not fit into the context.
    """
    text, lengths = load.text or course_text(), agent_lengths()
    when, how_long, what = load.chances()
    first, common = load.scaled([lengths.first, lengths.common])
    system_prompt = text.passage(what, min(common, first))
    calls = [max(1, round(float(c))) for c in lengths.calls.draw(how_long, tasks)]
    found: list[RequestShape] = []
    for task, (at, turns) in enumerate(zip(load.arrivals(when, tasks), calls, strict=True)):
        prompt = system_prompt + text.passage(what, first - len(system_prompt))
        answers = load.scaled(lengths.answer.draw(how_long, turns))
        results = load.scaled(lengths.result.draw(how_long, turns))
        waits = lengths.delay.draw(how_long, turns) * delays
        for turn in range(turns):
            request = RequestShape(at, prompt, answers[turn], task, turn, "agents")
            if turn and load.context and len(prompt) + answers[turn] > load.context:
                break
            found.append(load.fitted(request))
            prompt = prompt + text.passage(what, answers[turn]) + text.passage(what, results[turn])
            at = round(at + float(waits[turn]), 6)
    return sorted(found, key=lambda request: (request.arrival, request.session, request.turn))


def merge(*workloads: Sequence[RequestShape]) -> list[RequestShape]:
    """Several workloads as one, by arrival. Sessions get new numbers, so that they stay apart."""
    found: list[RequestShape] = []
    before = 0
    for requests in workloads:
        found += [replace(r, session=r.session + before) for r in requests]
        before += 1 + max((r.session for r in requests), default=-1)
    return sorted(found, key=lambda request: (request.arrival, request.session, request.turn))


def digest(requests: Iterable[RequestShape]) -> str:
    """The same for the same requests: what a measurement notes down. 16 hexadecimal digits."""
    state = hashlib.sha256()
    for request in requests:
        state.update(json.dumps(asdict(request), sort_keys=True).encode())
    return state.hexdigest()[:16]
