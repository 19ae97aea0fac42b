"""The exercises of unit 4.4 on a whole step: a draft verified at once, and whether it pays.

The model here is a rule and no network: what follows depends on the last four tokens in its cache.
So a token that was rejected and left in the cache shows at once, and calls and reads are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiinfra_labs.course import exercise

from . import speculative_decoding_views as views
from .speculative_decoding import SKILL

WORDS = 50  # tokens of the model's vocabulary


class Cache:
    """What the model has read and keeps: its length, and `cut(n)` to forget all but n tokens."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.cuts = 0

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> None:
        """Forget all tokens but the first `length`."""
        if not 0 <= length <= len(self.ids):
            raise ValueError(
                f"cut({length}), and the cache holds {len(self.ids)} tokens\n"
                "Why: it can forget tokens, and not read new ones by that\n"
                f"Try: a length from 0 to {len(self.ids)}"
            )
        self.cuts += len(self.ids) - length
        del self.ids[length:]


class CountedModel:
    """Says what follows each token that it reads, and counts what it was given."""

    def __init__(self) -> None:
        self.calls: list[int] = []  # tokens read, a number a call
        self.furthest = 0  # tokens in the cache, at most

    def __deepcopy__(self, known: dict) -> CountedModel:
        return self  # what a copy reads counts as well

    def new_cache(self) -> Cache:
        """An empty cache, which the model fills."""
        return Cache()

    def __call__(self, ids: Sequence[int], cache: Cache) -> list[int]:
        """Read ids behind what the cache holds: the likeliest next token behind each of them."""
        ids = [int(x) for x in ids]
        if not ids:
            raise ValueError(
                "the model was given no tokens\n"
                "Why: it says what follows each token that it reads\n"
                "Try: at least the last token of the text, if the cache does not hold it yet"
            )
        self.calls.append(len(ids))
        found = []
        for id in ids:
            cache.ids.append(id)
            found.append(follows(cache.ids))
        self.furthest = max(self.furthest, len(cache))
        return found


def follows(ids: Sequence[int]) -> int:
    """The token behind a text: of its last four, in an order that looks like none."""
    mixed = 17
    for id in ids[-4:]:
        mixed = (mixed * 31 + id * 7 + 5) % 10_007
    return mixed % WORDS


def continued(prompt: Sequence[int], count: int) -> list[int]:
    """`count` tokens behind a prompt, one after another."""
    text = list(prompt)
    for _ in range(count):
        text.append(follows(text))
    return text[len(prompt) :]


class Guess:
    """A draft: right, but for every so-manieth place of the text (0: always right, 1: never)."""

    def __init__(self, wrong_every: int):
        self.wrong_every = wrong_every
        self.drafted = 0

    def __call__(self, text: Sequence[int], count: int) -> list[int]:
        """`count` tokens that may follow a text."""
        ids = [int(x) for x in text]
        start = len(ids)
        for _ in range(count):
            token = follows(ids)
            if self.wrong_every and len(ids) % self.wrong_every == 0:
                token = (token + 1) % WORDS
            ids.append(token)
        self.drafted += max(count, 0)
        return ids[start:]


# --- 4.4.c -------------------------------------------------------------------------------------

TOKENS = "gives the model's own tokens, whatever is guessed"
AT_ONCE = "verifies a whole draft in one call"
ALL_RIGHT = "takes one token more than was accepted"
NO_FURTHER = "reads nothing twice, and nothing behind the last token"
# (tokens of prompt, new tokens, drafted a step, wrong every): small ones first.
RUNS = ((3, 1, 2, 0), (3, 4, 2, 1), (4, 9, 3, 0), (5, 12, 3, 4), (1, 20, 4, 3), (6, 17, 1, 2))


@exercise(
    "4.4.c",
    title="Speculate",
    points=7,
    central=ALL_RIGHT,
    skill=SKILL,
    arguments=("model", "guess", "prompt", "count", "k"),
    hints=(
        (
            TOKENS,
            "The first call reads the prompt; the last of what it returns is the first new token. "
            "From then on the cache lacks one token of the text: the last one.",
        ),
        (
            TOKENS,
            "Read `[last, *draft]`: answer i is what follows the draft's first i tokens. Go along "
            "while draft[i] == answers[i].",
        ),
        (
            TOKENS,
            "Behind a wrong token the cache holds what was never said. `cache.cut(n)`: which n? "
            "All of the text but its last token, which is not read yet.",
        ),
        (AT_ONCE, "One call of the model a step, however many tokens were guessed."),
        (
            ALL_RIGHT,
            "Where the draft goes wrong, the model's own answer is the right token, and it is "
            "there already. Where all is right, the last answer is one token more.",
        ),
        (
            NO_FURTHER,
            "A step gives one token more than it accepts. With m tokens to go, how many drafts "
            "are worth reading? At most m - 1.",
        ),
    ),
)
def speculate(function: Any, require: Any) -> None:
    """`count` tokens by greedy decoding, with drafts that are verified and a cache."""
    with require(TOKENS) as r:
        for run in RUNS:
            _speculates(r, function, run)
    with require(AT_ONCE) as r:
        for run in RUNS[2:]:
            model = _speculates(r, function, run)
            longest = max(model.calls[1:], default=0)
            with r.input(_named(run)):
                r.that(
                    longest > 1,
                    what=f"the model read at most {longest} token a call after the prompt",
                    why="each call reads all weights once; read for one token at a time, a draft "
                    "spares nothing",
                    try_="give the last token and the whole draft to one call",
                )
    with require(ALL_RIGHT) as r:
        for run in RUNS:
            model = _speculates(r, function, run)
            enough = len(reference(run).calls)
            with r.input(_named(run)):
                r.that(
                    len(model.calls) <= enough,
                    what=f"the model was called {len(model.calls)} times, where {enough} calls "
                    "suffice",
                    why="each step gives what was accepted and one token of the model's own: the "
                    "one that the draft missed, or the one behind it",
                    try_="print what each step adds to the text",
                )
    with require(NO_FURTHER) as r:
        for run in RUNS:
            model = _speculates(r, function, run)
            length, count, k, _ = run
            with r.input(_named(run)):
                longest = max(model.calls[1:], default=0)
                r.that(
                    longest <= k + 1,
                    what=f"a call read {longest} tokens, where {k + 1} suffice: the last one of "
                    f"the text, and {k} drafts",
                    why="what the cache holds is not read again",
                    try_="print len(cache) and what you give to the model",
                )
                r.that(
                    model.furthest <= length + count - 1,
                    what=f"the cache held {model.furthest} tokens at its fullest, and the text "
                    f"has {length + count}, whose last nobody reads",
                    why="drafts for tokens that were not asked for are read in vain",
                    try_="guess min(k, tokens to go - 1)",
                )


def reference(run: tuple[int, int, int, int]) -> CountedModel:
    """The model after a run as it should be."""
    length, count, k, wrong_every = run
    model, guess = CountedModel(), Guess(wrong_every)
    cache, text = model.new_cache(), prompt_of(length)
    text.append(model(text, cache)[-1])
    while (to_go := length + count - len(text)) > 0:
        draft = guess(text, min(k, to_go - 1))
        answers = model([text[-1], *draft], cache)
        right = 0
        while right < len(draft) and draft[right] == answers[right]:
            right += 1
        text += answers[: right + 1]
        cache.cut(len(text) - 1)
    return model


def prompt_of(length: int) -> list[int]:
    return [(7 * i * i + 3) % WORDS for i in range(length)]


def _named(run: tuple[int, int, int, int]) -> str:
    length, count, k, wrong = run
    kind = {0: "always right", 1: "always wrong"}.get(wrong, f"wrong at every {wrong}th place")
    return f"a prompt of {length}, {count} new tokens, k = {k}, drafts that are {kind}"


def _speculates(r: Any, function: Any, run: tuple[int, int, int, int]) -> CountedModel:
    length, count, k, wrong_every = run
    prompt, model, guess = prompt_of(length), CountedModel(), Guess(wrong_every)
    with r.input(_named(run)):
        found = function(model, guess, list(prompt), count, k)
        r.that(
            isinstance(found, list | tuple),
            what="it returned nothing" if found is None else f"it returned {found!r}",
            why="the new tokens are asked for, as a list of ids",
            try_="end with `return` and the list",
            slip=True,
        )
        got, wanted = r.whole(found, "the list of new tokens"), continued(prompt, count)
        if got != wanted:
            what = f"the new tokens are {got[:12]}, expected {wanted[:12]}"
            r.that(False, what, *_why_tokens(got, wanted, prompt, wrong_every))
    return model


def _why_tokens(
    got: list[int], wanted: list[int], prompt: list[int], wrong_every: int
) -> tuple[str, str]:
    if got[: len(prompt)] == prompt and got[len(prompt) :] == wanted:
        return "the prompt is returned, too", "return only what is new"
    if got[: len(wanted)] == wanted:
        return (
            f"there are {len(got)} of them, and {len(wanted)} were asked for",
            "a step may give more than is left to go",
        )
    if wanted[: len(got)] == got:
        return f"there are only {len(got)} of them", "print how the text grows, step by step"
    first = next(i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b)
    if wrong_every and got[first] == (wanted[first] + 1) % WORDS:
        return (
            f"new token {first} is what was guessed, and the model says another",
            "compare draft[i] with the model's answer behind the token before it",
        )
    return (
        f"from new token {first} on they are others: the model answered behind another text than "
        "the one that you give, such as one that still holds a rejected token",
        "print cache.ids before each call, and compare it with the text",
    )


@speculate.show
def _show_speculate(function: Any) -> views.Picture:
    run = (5, 16, 4, 6)
    length, count, k, wrong = run
    model = CountedModel()
    function(model, Guess(wrong), prompt_of(length), count, k)
    return views.calls(model.calls, length, count)


# --- 4.4.d -------------------------------------------------------------------------------------

TOKENS_A_STEP = "counts a step's tokens as 1 + a + ... + a^k"
COSTS = "divides by the time of k drafts and of one verified step"
NEVER = "leaves it where it does not pay: k = 0, speed-up 1"
CERTAIN = "knows a rate of 1, and of 0"


@exercise(
    "4.4.d",
    title="Does it pay?",
    points=6,
    central=COSTS,
    skill=SKILL,
    arguments=("a", "draft", "verify"),
    hints=(
        (
            TOKENS_A_STEP,
            "The step's own token comes always, the first draft with a, the second only if the "
            "first was right as well: a x a. Add them up to a^k.",
        ),
        (COSTS, "k drafts one after another take k x draft, the verified step verify[k]."),
        (NEVER, "k = 0 is no speculation: one token in the time of one step."),
        (CERTAIN, "(1 - a^(k+1)) / (1 - a) has no value at a = 1. The sum has one."),
    ),
)
def best(function: Any, require: Any) -> None:
    """(k, speed-up) of the fastest number of drafts, 0 included."""
    flat = [1.0] * 9
    steep = [1.0, 1.3, 1.6, 1.9, 2.2, 2.5]
    with require(TOKENS_A_STEP) as r:
        for a in (0.5, 0.8, 0.9):
            _pays(r, function, a, 0.0, [1.0, 1.0, 1.0])
    with require(COSTS) as r:
        for a, draft in ((0.8, 0.1), (0.6, 0.05), (0.9, 0.3)):
            _pays(r, function, a, draft, flat)
        for a, draft in ((0.9, 0.0), (0.8, 0.05)):
            _pays(r, function, a, draft, steep)
    with require(NEVER) as r:
        for a, draft, verify in ((0.3, 0.4, flat), (0.2, 0.0, steep), (0.5, 0.6, steep)):
            _pays(r, function, a, draft, verify)
    with require(CERTAIN) as r:
        for a, draft, verify in ((1.0, 0.1, flat), (0.0, 0.0, steep), (1.0, 0.0, [1.0])):
            _pays(r, function, a, draft, verify)


def reference_best(a: float, draft: float, verify: list[float]) -> tuple[int, float]:
    """Every k in turn."""
    found = [
        sum(a**i for i in range(k + 1)) / (k * draft + verify[k]) if k else 1.0
        for k in range(len(verify))
    ]
    return found.index(max(found)), max(found)


def _pays(r: Any, function: Any, a: float, draft: float, verify: list[float]) -> None:
    with r.input(f"a = {a:g}, draft = {draft:g}, verify = {verify}"):
        found = function(a, draft, list(verify))
        r.that(
            isinstance(found, tuple | list) and len(found) == 2,
            what=f"it returned {found!r}, expected two numbers",
            why="both are asked for: how many drafts, and how much faster that is",
            try_="return k, speedup",
            slip=True,
        )
        (k,) = r.whole(found[0], "k")
        r.that(
            isinstance(found[1], int | float) and not isinstance(found[1], bool),
            what=f"the speed-up is {found[1]!r}",
            why="a number was asked for",
            try_="return k, speedup",
            slip=True,
        )
        speed = float(found[1])
        wanted_k, wanted = reference_best(a, draft, verify)
        r.that(
            k == wanted_k and abs(speed - wanted) < 1e-6,
            what=f"k = {k} and {speed:.4g} times as fast, expected k = {wanted_k} and {wanted:.4g}",
            why=_why_pays(k, speed, a, draft, verify, wanted_k),
            try_="print tokens, time and their quotient for every k",
        )


def _why_pays(
    k: int, speed: float, a: float, draft: float, verify: list[float], wanted: int
) -> str:
    tokens = [sum(a**i for i in range(n + 1)) for n in range(len(verify))]
    if wanted == 0:
        return "every k is slower than no draft at all here: then none is made"
    if k == 0:
        return "there is a k that is faster than none"
    if any(abs(speed - tokens[k] / t) < 1e-6 for t in (1, verify[k], 1 + k * draft)):
        return f"a step of k = {k} takes {k} drafts and verify[{k}]: both count"
    if any(
        abs(speed * (k * draft + verify[k]) - x) < 1e-6
        for x in (1 + k * a, k * a, tokens[k] - 1, (k + 1) * a)
    ):
        return (
            f"a step of k = {k} gives {tokens[k]:.4g} tokens on average: a draft counts only if "
            "all before it were right, and the model's own token comes always"
        )
    return "of all k from 0 on, the one with the most tokens for its time is asked for"


@best.show
def _show_best(function: Any) -> views.Picture:
    verify = [1 + 0.05 * k for k in range(13)]
    found = {a: function(a, 0.1, list(verify)) for a in (0.3, 0.5, 0.7, 0.8, 0.9)}
    return views.payoff({a: (int(k), float(s)) for a, (k, s) in found.items()}, 0.1, verify)
