"""The exercises of unit 1.5 on decoding: a cache, and a stream that stops in time.

What is graded is which tokens come, and what was computed for them: tokens read, calls made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise
from aiinfra_labs.llm.llama import KVCache, Llama, LlamaConfig
from aiinfra_labs.llm.positions import rope_angles
from aiinfra_labs.llm.stop_strings import StopStrings

from . import generation_views as views
from .generation import SKILL

CONFIG = LlamaConfig(60, 32, 48, 2, 4, 2, 256, tie_word_embeddings=False)


class CountedModel:
    """A small model that is told the positions; counts its calls and the tokens it reads."""

    def __init__(self, seed: int = 0):
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        self.llama = Llama(CONFIG).eval()
        torch.set_rng_state(state)
        for name, weight in self.llama.named_parameters():
            if "norm" not in name:
                weight.data.mul_(12)  # so that a token depends on all before it
        self.__read: list[tuple[list[int], list[int], int]] = []

    @property
    def calls(self) -> list[int]:
        """How many tokens each call has read."""
        return [len(ids) for ids, *_ in self.__read]

    @property
    def read(self) -> list[tuple[list[int], list[int], int]]:
        """Of each call the ids, their positions, and which cache was filled; 0 for none."""
        return list(self.__read)

    def __deepcopy__(self, known: dict) -> CountedModel:
        return self  # what a copy reads counts as well

    def new_cache(self) -> KVCache:
        """An empty cache, which the model fills."""
        return KVCache(CONFIG.num_hidden_layers)

    @torch.no_grad()
    def __call__(self, ids: Any, positions: Any, cache: KVCache | None = None) -> Tensor:
        """ids, positions: int64 [T]. Returns logits [T, 60], of the token after each."""
        ids, positions = torch.as_tensor(ids), torch.as_tensor(positions)
        if ids.dim() != 1 or ids.shape != positions.shape or not len(ids):
            raise ValueError(
                f"the model was given ids of shape {list(ids.shape)} and positions of shape "
                f"{list(positions.shape)}\n"
                "Why: it reads a row of tokens, each at its own position\n"
                "Try: torch.tensor([id]) for one token, and torch.tensor([position])"
            )
        self.__read.append(
            (ids.tolist(), positions.tolist(), id(cache) if cache is not None else 0)
        )
        decoder = self.llama.model
        cos, sin = rope_angles(positions, decoder.frequencies)
        x = decoder.embed_tokens(ids.long())[None]  # [1, T, C]
        for block in decoder.layers:
            x = block(x, cos, sin, cache)
        return self.llama.lm_head(decoder.norm(x))[0]


# --- 1.5.c -------------------------------------------------------------------------------------

TOKENS = "gives the likeliest token each time"
ONCE = "reads each token once"
CALLS = "reads the whole prompt in one call"


@exercise(
    "1.5.c",
    title="Prefill, then decode",
    points=6,
    central=ONCE,
    skill=SKILL,
    arguments=("model", "prompt", "count"),
    seconds=20.0,
    hints=(
        (
            TOKENS,
            "The logits behind the prompt's last token, `logits[-1]`, choose the first new token. "
            "It is then read itself, and the logits behind it choose the next.",
        ),
        (
            TOKENS,
            "A prompt of T tokens stands at positions 0 to T - 1. Where does the first new token "
            "stand? And the one after it?",
        ),
        (
            ONCE,
            "What the cache holds need not be read again: after the prompt, give the model one "
            "token a call, the one chosen last.",
        ),
        (ONCE, "The last token that you choose is the answer's end: nobody asks what follows it."),
        (CALLS, "`model(prompt, torch.arange(len(prompt)), cache)` is the prefill, all of it."),
    ),
)
def decode(function: Any, require: Any) -> None:
    """`count` new tokens by greedy decoding, with a cache."""
    with require(TOKENS) as r:
        for length, count in ((5, 1), (5, 2), (1, 6), (12, 20), (3, 0)):
            with r.input(f"a prompt of {length} tokens, {count} new ones"):
                _greedy(r, function, length, count)
    with require(ONCE) as r:
        for length, count in ((6, 4), (20, 12)):
            with r.input(f"a prompt of {length} tokens, {count} new ones"):
                model = _greedy(r, function, length, count)
                enough = length + count - 1
                r.that(
                    sum(model.calls) == enough,
                    what=f"{sum(model.calls)} tokens were read where {enough} suffice: {length} of "
                    f"the prompt, and {count - 1} of the {count} new ones",
                    why="a cache is there so that a new token costs what one token costs; without "
                    "it every step reads the whole text again"
                    if sum(model.calls) > enough + 1
                    else "what follows the last new token is not asked",
                    try_="print len(ids) at each call",
                )
                _is_the_text(r, model, length, count)
    with require(CALLS) as r:
        for length, count in ((6, 4), (20, 12)):
            with r.input(f"a prompt of {length} tokens, {count} new ones"):
                model = _greedy(r, function, length, count)
                r.that(
                    len(model.calls) == count,
                    what=f"the model was called {len(model.calls)} times, where {count} calls "
                    "suffice",
                    why="each call reads all weights: a prompt read token by token costs as many "
                    "steps of decoding",
                    try_="the first call takes the whole prompt, and chooses the first token",
                )


def _is_the_text(r: Any, model: CountedModel, length: int, count: int) -> None:
    """What was read is the prompt and the new tokens but the last, each at its own position."""
    prompt = prompt_of(length)
    text = [*prompt.tolist(), *reference(CountedModel(), prompt, count)][:-1]
    read = [at for ids, positions, _ in model.read for at in zip(ids, positions, strict=True)]
    for place, ((id, position), wanted) in enumerate(zip(read, text, strict=True)):
        r.that(
            (id, position) == (wanted, place),
            what=f"token {place} that was read is {id}, at position {position}; expected {wanted}, "
            f"at {place}",
            why="the cache is to hold the text, token by token: what else is read answers nothing",
            try_="give the model the prompt first, and then each token that you chose",
        )
    r.that(
        len({cache for *_, cache in model.read}) == 1 and 0 not in {c for *_, c in model.read},
        what="the calls did not share one cache",
        why="what one call has read must be there for the next",
        try_="cache = model.new_cache() once, and the same one in every call",
    )


def prompt_of(length: int) -> Tensor:
    return torch.randint(60, (length,), generator=torch.Generator().manual_seed(length))


def reference(model: CountedModel, prompt: Tensor, count: int, start: int | None = None) -> list:
    """Greedy tokens without a cache; with `start`, as if new ones stood at start, start + 1, ..."""
    ids, where = prompt.tolist(), list(range(len(prompt)))
    for i in range(count):
        logits = model(torch.tensor(ids), torch.tensor(where))
        ids.append(int(logits[-1].argmax()))
        where.append(len(where) if start is None else start + i)
    return ids[len(prompt) :]


def _greedy(r: Any, function: Any, length: int, count: int) -> CountedModel:
    prompt = prompt_of(length)
    expected = reference(CountedModel(), prompt, count)
    model = CountedModel()
    got = function(model, prompt.clone(), count)
    r.that(
        isinstance(got, list | tuple | Tensor),
        what="it returned nothing" if got is None else f"it returned a {type(got).__name__}",
        why="the new tokens are asked for, as a list of ids",
        try_="end with `return` and the list",
        slip=True,
    )
    mine = r.whole(got, "the list of new tokens")
    if mine != expected:
        what = f"the new tokens are {mine[:8]}, expected {expected[:8]}"
        r.that(False, what, *_which(mine, prompt, count, expected))
    return model


def _which(mine: list[int], prompt: Tensor, count: int, expected: list[int]) -> tuple[str, str]:
    """Why, and what to try, by the mistake that gives these tokens."""
    if mine == [*prompt.tolist(), *expected]:
        return "the prompt is returned, too", "return only what was chosen"
    if len(mine) != count:
        return f"there are {len(mine)} of them, and {count} were asked for", "count your choices"
    for start, said in (
        (0, "each new token was read as if it stood at the text's beginning: positions 0, 1, ..."),
        (len(prompt) - 1, "the first new token was read at the prompt's last position"),
        (len(prompt) + 1, "a position was left out between the prompt and the first new token"),
    ):
        if count > 1 and mine == reference(CountedModel(), prompt, count, start):
            return said, f"{len(prompt)} tokens stand at 0 to {len(prompt) - 1}: what is next?"
    if expected and mine[0] != expected[0]:
        return (
            "the first of them already differs: logits[i] is about the token after token i",
            "choose from the logits of the prompt's last token, logits[-1].argmax()",
        )
    return (
        "each token is the likeliest after all that came before it, at its own position",
        "print ids and positions at each call, for a prompt of 5 tokens",
    )


@decode.show
def _show_decode(function: Any) -> views.Picture:
    model = CountedModel()
    function(model, prompt_of(12), 10)
    return views.reads(model.calls, 12, 10)


# --- 1.5.d -------------------------------------------------------------------------------------

BEFORE = "sends the text before the stop string, and all of it"
ACROSS = "finds one that begins in one piece and ends in another"
PROMPTLY = "sends at once what cannot be part of it"
NO_MORE = "asks for no piece after the stop string"
TEXT = "the cat sat\non the mat\n\nthe dog"


@exercise(
    "1.5.d",
    title="A stream that stops in time",
    points=6,
    central=ACROSS,
    skill=SKILL,
    arguments=("pieces", "stop"),
    hints=(
        (
            BEFORE,
            "Keep what has come and is not sent yet in a string. If the stop string is in it, "
            "`held.find(stop)` says how much comes before.",
        ),
        (
            ACROSS,
            "When the held text *ends* with a beginning of the stop string, that end must wait. "
            "`held.endswith(stop[:n])`, for n from len(stop) - 1 down to 1.",
        ),
        (BEFORE, "When no piece follows, what was held back was no stop string: send it."),
        (PROMPTLY, "Only the longest such end waits; `yield` all that is before it."),
        (NO_MORE, "`return` in a generator ends it: nothing more is asked of `pieces`."),
    ),
)
def stream(function: Any, require: Any) -> None:
    """Yields the text of `pieces` up to the stop string, holding back no more than it must."""
    with require(BEFORE) as r:
        for pieces, stop in (
            (["ab", "cd"], "x"),
            (["ab", "cXd"], "X"),
            (["END", "a"], "END"),
            (["a\n", "b\n"], "\n\n"),
            ([], "x"),
            (["aXbX"], "X"),
        ):
            _sends(r, function, pieces, stop)
    with require(ACROSS) as r:
        for pieces, stop in (
            (["ab\n", "\ncd"], "\n\n"),
            (list("one END two"), "END"),
            (["xaa", "ab"], "aab"),
            (["</", "tool", "_call", "> x"], "</tool_call>"),
            (list("aabaabaac"), "aabaac"),
        ):
            _sends(r, function, pieces, stop)
    with require(PROMPTLY) as r:
        for pieces, stop in (
            (list(TEXT), "\n\n"),
            (list("a</b</to</tool>"), "</tool>"),
            (["the cat", " sat on", " the mat.", "\n", "\nthe dog"], "\n\n"),
            (["ab</", "cd</to", "ol", "</tool", ">e"], "</tool>"),
        ):
            _sends(r, function, pieces, stop, promptly=True)
    with require(NO_MORE) as r:
        for pieces, stop in ((["a", "X", "b", "c"], "X"), (list(TEXT), "\n\n")):
            asked, _ = _sends(r, function, pieces, stop)
            whole = next(n for n in range(len(pieces) + 1) if stop in "".join(pieces[:n]))
            r.that(
                asked <= whole,
                what=f"{asked} pieces were asked for, and the stop string was whole after {whole}",
                why="each further piece is a step of the model that nobody reads",
                try_="return as soon as the stop string is found",
            )


def watched(function: Any, pieces: list[str], stop: str) -> tuple[list[str], list[tuple[str, str]]]:
    """What is sent, and (text that had come, text that was sent) whenever more is asked for."""
    sent: list[str] = []
    asked: list[tuple[str, str]] = []

    def source() -> Iterator[str]:
        for n, piece in enumerate(pieces):
            asked.append(("".join(pieces[:n]), "".join(sent)))
            yield piece
        asked.append(("".join(pieces), "".join(sent)))

    _take(function(source(), stop), sent)
    return sent, asked


def _take(found: Any, sent: list[str]) -> None:
    for text in () if found is None else found:
        sent.append(text)  # one by one: the source looks at what was sent so far


def _sends(
    r: Any, function: Any, pieces: list[str], stop: str, promptly: bool = False
) -> tuple[int, list[str]]:
    text = "".join(pieces)
    shown = str(pieces) if len(pieces) < 7 else f"the characters of {text!r}, one by one"
    with r.input(f"pieces = {shown}, stop = {stop!r}"):

        def read(source: Iterator[str], stop: str) -> Any:
            found = function(source, stop)
            r.that(
                found is not None and not isinstance(found, str),
                what=f"it returned {'None' if found is None else 'one text'}, expected a generator",
                why="the caller shows each piece of text as soon as it is safe",
                try_="yield each piece, and return no text",
                slip=True,
            )
            return found

        sent, asked = watched(read, pieces, stop)
        expected = text.partition(stop)[0]
        got = "".join(sent)
        r.that(
            got == expected,
            what=f"{got!r} was sent, expected {expected!r}",
            why=_what_was_wrong(got, expected, text, stop),
            try_="follow the pieces one by one: what is held, what is sent?",
        )
        if promptly:
            _is_prompt(r, asked, stop)
        return sum(before != text for before, _ in asked) or len(pieces), sent


def _what_was_wrong(got: str, expected: str, text: str, stop: str) -> str:
    if got.startswith(expected) and len(got) > len(expected):
        if text[len(expected) :].startswith(stop):
            return "what was sent cannot be called back, and the stop string begins there"
        return "it is not in the text"
    if expected.startswith(got):
        return "the text goes on: what was held back was no stop string after all"
    return "the pieces joined, up to the stop string, are what a reader should see"


def _is_prompt(r: Any, asked: list[tuple[str, str]], stop: str) -> None:
    for came, sent in asked:
        if stop in came:
            return
        rule = StopStrings([stop])
        must = rule.feed(came)
        r.that(
            len(sent) >= len(must),
            what=f"after {came!r} had come, only {sent!r} was sent, and {must!r} can be",
            why="a reader waits for each character that is held back without need",
            try_="what of the held text could still be the beginning of the stop string? Only its "
            "very end",
        )


@stream.show
def _show_stream(function: Any) -> views.Picture:
    _, asked = watched(function, list(TEXT), "\n\n")
    return views.held_back(asked, "\\n\\n")
