"""The exercises of unit 4.4 on the rule of acceptance, and the verdict on its claim.

A rule that draws is graded without chance: it is called for every outcome of the numbers that it
draws with, so that its distribution is counted, not estimated. The other exercises are in
`speculative_decoding_steps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aiinfra_labs import bounds
from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.comparing import is_whole, shown
from aiinfra_labs.course.parts import a_kind

from . import speculative_decoding_views as views

SKILL = "Speculative decoding"

examine(
    "spec-2-3",
    verdict="corrected",
    figure="Published for one sequence: 1.4 to 3.4 times with ready-made drafts (Leviathan et al., "
    "table 2), 2 to 2.5 with a draft trained for the model (Chen et al.). Here, greedy and at "
    "batch 1, prompt lookup is more than 1.5 times as fast on code that repeats itself; on new "
    "text both proposers gain less, and with enough sequences in the batch a draft loses. The "
    "outputs are the same: what it buys is time per output token, while the weights are read for "
    "too few tokens.",
    how="benchmarks/speculation.py: each way in turns in one run, with equal tokens checked; the "
    "formula (1 - a^(k+1)) / (1 - a) against simulation and the engine's own counts",
    source="https://arxiv.org/abs/2211.17192",
)

# --- 4.4.a -------------------------------------------------------------------------------------

STAYS = "keeps the drafted token with probability min(1, p / q)"
INSTEAD = "draws another in proportion to max(0, p - q)"
EXACT = "gives every token as often as p says"
Accept = Callable[[np.ndarray, np.ndarray, int, Callable[[], float]], int]

GRID = 24  # outcomes of each number that is drawn; shares of the cases are whole 24ths
# In 16ths. p / q, and what is left of p scaled to 1, are multiples of 1 / 24.
CASES = (
    ((8, 4, 4), (4, 8, 4)),
    ((4, 8, 4), (0, 16, 0)),
    ((6, 2, 4, 4), (2, 8, 4, 2)),
    ((4, 4, 4, 4), (4, 4, 4, 4)),
    ((0, 16), (8, 8)),
    ((0, 0, 8, 8), (8, 8, 0, 0)),
)


class Chance:
    """`random()` that gives what it was told to; a third number is not foreseen."""

    def __init__(self, numbers: tuple[float, float]):
        self.numbers = list(numbers)

    def __call__(self) -> float:
        if not self.numbers:
            raise ValueError(
                "random() was called three times for one token\n"
                "Why: one number decides whether it stays, and one draws another\n"
                "Try: call it once for each of the two"
            )
        return self.numbers.pop(0)


def outcomes(rule: Accept, p: np.ndarray, q: np.ndarray, token: int) -> np.ndarray:
    """How often each token comes out when `token` was drafted: float64 [V], exactly."""
    counts = np.zeros(len(p))
    places = (np.arange(GRID) + 0.5) / GRID
    for first in places:
        for second in places:
            counts[_token(rule(p.copy(), q.copy(), token, Chance((first, second))), len(p))] += 1
    return counts / GRID**2


class NoId(bounds.ThreeParts, TypeError):
    """What was returned is of a type that no id has."""


def _token(found: Any, size: int) -> int:
    if not is_whole(found):
        raise NoId(
            f"it returned {shown(found)}, {a_kind(found)}",
            "the id of a token is asked for, a whole number",
            "return token, or int(...) of what you drew",
        )
    if not 0 <= found < size:
        raise bounds.SettingError(
            f"it returned {found}",
            f"there are tokens 0 to {size - 1}",
            "print the cumulative sums, and where the random number falls among them",
        )
    return int(found)


@exercise(
    "4.4.a",
    title="Accept or draw anew",
    points=5,
    central=EXACT,
    skill=SKILL,
    arguments=("p", "q", "token", "random"),
    seconds=20.0,
    hints=(
        (
            STAYS,
            "`random() < x` is true with probability x. The draft draws the token with q, and it "
            "should come with p: where q is twice p, it comes twice too often.",
        ),
        (STAYS, "p / q above 1 needs no case of its own: random() is always below it."),
        (
            INSTEAD,
            "What the kept drafts give each token is min(p, q). What does each token still lack "
            "of p? np.maximum works on whole arrays.",
        ),
        (
            INSTEAD,
            "To draw by shares that sum to 1: the first place where their cumulative sum exceeds "
            "random(). `np.searchsorted(sums, u, side='right')`.",
        ),
        (EXACT, "Write down min(p, q) and the rest for p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4)."),
    ),
)
def accept(function: Any, require: Any) -> None:
    """The token that comes out of a drafted one: itself, or one drawn instead."""
    with require(STAYS) as r:
        for p, q in _cases():
            for token in np.flatnonzero(q):
                with r.input(_said(p, q, token)):
                    share = float(outcomes(function, p, q, int(token))[token])
                    wanted = min(1.0, p[token] / q[token])
                    r.that(
                        abs(share - wanted) < 1e-9,
                        what=f"token {token} comes out in {share:.1%} of all outcomes, expected "
                        f"{wanted:.1%}: p / q = {p[token]:g} / {q[token]:g}",
                        why=_why_stays(share, p, q, int(token)),
                        try_="print p[token], q[token] and the number that random() gave",
                    )
    with require(INSTEAD) as r:
        for p, q in _cases():
            for token in np.flatnonzero((q > p) & (q > 0)):
                with r.input(_said(p, q, token)):
                    found = outcomes(function, p, q, int(token))
                    found[token] = 0
                    wanted = np.maximum(p - q, 0)
                    wanted /= wanted.sum()
                    got = found / max(found.sum(), 1e-12)
                    r.that(
                        np.allclose(got, wanted, atol=1e-9),
                        what=f"those that come instead are shared as {_row(got)}, expected "
                        f"{_row(wanted)}",
                        why=_why_instead(got, p, q, int(token)),
                        try_="print what you draw from, and its sum",
                    )
    with require(EXACT) as r:
        for p, q in _cases():
            with r.input(f"p = {_row(p)}, q = {_row(q)}"):
                found = np.zeros(len(p))
                for token in np.flatnonzero(q):
                    found += q[token] * outcomes(function, p, q, int(token))
                r.that(
                    np.allclose(found, p, atol=1e-9),
                    what=f"the tokens come as {_row(found)}, expected {_row(p)}",
                    why="a reader must not be able to tell whether a draft was used",
                    try_="add up, for one token: how often it is drafted and kept, and how often "
                    "it comes instead of another",
                )


def _cases() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.array(p) / 16, np.array(q) / 16) for p, q in CASES]


def _row(shares: np.ndarray) -> str:
    return f"[{', '.join(f'{x:.3g}' for x in shares)}]"


def _said(p: np.ndarray, q: np.ndarray, token: int) -> str:
    return f"p = {_row(p)}, q = {_row(q)}, token = {token}"


def _why_stays(share: float, p: np.ndarray, q: np.ndarray, token: int) -> str:
    if abs(share - p[token]) < 1e-9:
        return (
            "that is p, not p / q: the draft has drawn with q already, so that only p x q of all "
            "is kept, and each draft that is dropped without need costs a step of the model"
        )
    if share in (0.0, 1.0) and 0 < p[token] < q[token]:
        return (
            "whether it stays is a matter of chance wherever q is larger than p; a plain "
            "comparison keeps all or none"
        )
    if share > min(1.0, p[token] / q[token]):
        return "it would come more often than p says: q has drawn it, and nothing takes it back"
    return "each draft that is dropped without need costs a step of the model"


def _why_instead(got: np.ndarray, p: np.ndarray, q: np.ndarray, token: int) -> str:
    def scaled(x: np.ndarray) -> np.ndarray:
        x = np.where(np.arange(len(x)) == token, 0, x)
        return x / max(x.sum(), 1e-12)

    if np.allclose(got, scaled(p), atol=1e-9):
        return (
            "they are drawn from p itself: tokens that kept drafts give often enough already "
            "come once more"
        )
    if np.allclose(got, scaled(np.abs(p - q)), atol=1e-9):
        return "|p - q| also counts tokens of which the draft gives too much, and they lack nothing"
    if np.allclose(got, scaled(q), atol=1e-9):
        return "they are drawn from q: the draft's own mistake is made twice"
    return "what kept drafts give is min(p, q); what a token lacks of p is p - q, where that is > 0"


@accept.show
def _show_accept(function: Any) -> views.Picture:
    p, q = _cases()[2]
    rows = {int(t): outcomes(function, p, q, int(t)) * q[t] for t in np.flatnonzero(q)}
    kept = np.array([rows[t][t] if t in rows else 0.0 for t in range(len(p))])
    return views.shares(p, q, kept, np.sum(list(rows.values()), axis=0) - kept)


# --- 4.4.b -------------------------------------------------------------------------------------

FOUND = "gives what followed an earlier place like the end"
LATEST = "of several such places takes the latest"
LONGEST = "prefers a longer end, however early it stood"
NOTHING = "gives nothing where the end never stood before"
FEW = "gives at most count tokens, and fewer where the text ends"


@exercise(
    "4.4.b",
    title="Prompt lookup",
    points=8,
    central=FEW,
    skill=SKILL,
    arguments=("ids", "count", "longest"),
    hints=(
        (
            FOUND,
            "`ids[-size:]` is the end of that size. Compare it with `ids[start : start + size]`; "
            "what followed begins at start + size.",
        ),
        (LATEST, "Let start run backwards, and return at the first that fits."),
        (LONGEST, "The outer loop is over sizes, from `longest` down to 1."),
        (
            NOTHING,
            "The end is equal to itself: start must be less than len(ids) - size, or what "
            "followed is empty.",
        ),
        (FEW, "A slice that runs over the end of a list just stops there."),
    ),
)
def lookup(function: Any, require: Any) -> None:
    """A draft that costs no model: what followed the text's end when it stood before."""
    with require(FOUND) as r:
        _looks(r, function, [1, 2, 3, 9, 1, 2], 2, 2)
        _looks(r, function, [4, 5, 6, 4], 2, 3)
        _looks(r, function, [7, 8, 7, 8, 7], 2, 2)
    with require(LATEST) as r:
        _looks(r, function, [1, 5, 1, 6, 2, 1], 1, 3)
        _looks(r, function, [1, 2, 7, 1, 2, 8, 1, 2], 2, 2)
    with require(LONGEST) as r:
        _looks(r, function, [1, 2, 3, 7, 9, 3, 8, 1, 2, 3], 2, 3)
        _looks(r, function, [1, 2, 3, 7, 9, 3, 8, 1, 2, 3], 2, 1)
    with require(NOTHING) as r:
        for ids in ([1, 2, 3], [1], [], [3, 2, 1, 0]):
            _looks(r, function, ids, 4, 3)
    with require(FEW) as r:
        _looks(r, function, [1, 1, 1], 5, 2)
        _looks(r, function, [2, 6, 7, 8, 2], 9, 3)
        rng = np.random.default_rng(0)
        for length in range(1, 60):
            count, longest = int(rng.integers(1, 6)), int(rng.integers(1, 5))
            _looks(r, function, rng.integers(0, 3, length).tolist(), count, longest)


def reference_lookup(ids: list[int], count: int, longest: int) -> list[int]:
    """All places, one by one."""
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return []


def _looks(r: Any, function: Any, ids: list[int], count: int, longest: int) -> None:
    with r.input(f"ids = {ids}, count = {count}, longest = {longest}"):
        found = function(list(ids), count, longest)
        r.that(
            isinstance(found, list | tuple | np.ndarray),
            what="it returned nothing" if found is None else f"it returned {found!r}",
            why="a draft is a list of ids, an empty one where there is nothing to guess",
            try_="return ids[a:b], or []",
            slip=True,
        )
        got, wanted = r.whole(found, "the draft"), reference_lookup(ids, count, longest)
        r.that(
            got == wanted,
            what=f"the draft is {got}, expected {wanted}",
            why=_why_looks(got, wanted, ids, count, longest),
            try_="mark the end of the text, and every earlier place where it stands",
        )


def _why_looks(got: list[int], wanted: list[int], ids: list[int], count: int, longest: int) -> str:
    if not got:
        return "the end stood before: the text may go on as it did then"
    if not wanted:
        return "the end never stood before, and a wrong draft costs a token of the step"
    if len(got) > count:
        return f"{len(got)} tokens were drafted, and {count} asked for"
    for size in range(1, longest):
        if got == reference_lookup(ids, count, size):
            return "a longer end stood before, and is the better sign of what follows"
    places = [
        ids[s + n : s + n + count]
        for n in range(1, longest + 1)
        for s in range(len(ids) - n)
        if ids[s : s + n] == ids[-n:]
    ]
    if got in places:
        return "that followed an earlier place; a text repeats most often what it said last"
    return "the draft begins right behind the place that is like the end"


@lookup.show
def _show_lookup(function: Any) -> views.Picture:
    ids = [3, 1, 4, 1, 5, 9, 2, 1, 4, 6, 3, 1, 4]
    return views.found(ids, [int(x) for x in function(list(ids), 3, 3)])
