"""The exercises of unit 1.2, embeddings and positions.

Positions are irregular on purpose: they do not start at 0, and do not go up by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise
from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.llm import positions as reference
from aiinfra_labs.llm.attention import attention, causal_mask

from . import position_views as views
from .tensors import equal, is_tensor, near, random

SKILL = "Embeddings and positions"


# --- 1.2.a -------------------------------------------------------------------------------------

ORIGIN = "position 0 is 0, 1, 0, 1, ..."
WAVES = "wave i turns 10000^(-2i / width) radians a position"
ANY = "takes any positions, in any order"
STEP = "a step of k is the same turn, wherever it starts"


@exercise(
    "1.2.a",
    title="The sinusoidal table",
    points=6,
    central=WAVES,
    skill=SKILL,
    arguments=("positions", "width"),
    hints=(
        (
            ORIGIN,
            "What are sin(0) and cos(0)? Columns 0, 2, 4 are sines and columns 1, 3, 5 cosines: "
            "`out[:, 0::2]` and `out[:, 1::2]` are those columns.",
        ),
        (
            WAVES,
            "Two columns share one wave: columns 0 and 1 have i = 0, columns 2 and 3 have i = 1. "
            "How many waves does a width of 6 have?",
        ),
        (
            WAVES,
            "`torch.arange(0, width, 2)` is 2i for each wave. A column of positions times a row of "
            "speeds, `positions[:, None] * speeds`, gives every angle at once.",
        ),
        (ANY, "Use the positions that you are given. How many there are says nothing of them."),
        (
            STEP,
            "A sine and a cosine that turn at one speed are the two coordinates of a hand of a "
            "clock. Do your columns 2 and 3 turn at one speed?",
        ),
    ),
)
def sinusoidal(function: Any, require: Any) -> None:
    """sin(p w_i) in column 2i, cos(p w_i) in column 2i + 1, with w_i = 10000^(-2i / width)."""
    with require(ORIGIN) as r:
        for width in (2, 6, 16):
            with r.input(f"positions = [0], width = {width}"):
                expected = reference.sinusoidal(torch.tensor([0]), width)
                equal(
                    r,
                    function(torch.tensor([0]), width),
                    expected,
                    "the table",
                    why="sin(0) is 0 and cos(0) is 1; sines stand in even columns, cosines in odd",
                    try_="sines and cosines take turns, column by column",
                )
    with require(WAVES) as r:
        for length, width in ((2, 2), (4, 4), (7, 6), (50, 16), (130, 64)):
            with r.input(f"positions 0 to {length - 1}, width = {width}"):
                where = torch.arange(length)
                equal(
                    r,
                    function(where, width),
                    reference.sinusoidal(where, width),
                    "the table",
                    why=f"wave i of {width // 2} turns 10000^(-2i / {width}) radians from one "
                    "position to the next",
                    try_="work out the angle of the element named above by hand",
                )
    with require(ANY) as r:
        for where in ([5], [900, 3, 3], [31, 30, 29, 4000]):
            with r.input(f"positions = {where}, width = 8"):
                given = torch.tensor(where)
                got = function(given, 8)
                counted = near(got, reference.sinusoidal(torch.arange(len(where)), 8), 1e-3)
                equal(
                    r,
                    got,
                    reference.sinusoidal(given, 8),
                    "the table",
                    tolerance=5e-3,
                    why="these are the rows of positions 0, 1, 2, ..., which were not asked for"
                    if counted
                    else f"the first row is that of position {where[0]}",
                    try_="make the angles from `positions`, not from a count of your own"
                    if counted
                    else "get the requirement above right first",
                )
    with require(STEP) as r:
        for step in (1, 5, 40):
            with r.input(f"rows p and p + {step}, width = 16"):
                _same_turn(r, function, step)


def _same_turn(r: Any, function: Any, step: int) -> None:
    """PE(p) . PE(p + k) is the same for every p."""
    starts = torch.tensor([0, 1, 7, 100])
    here, there = function(starts, 16), function(starts + step, 16)
    is_tensor(r, here, "the table", (4, 16))
    is_tensor(r, there, "the table", (4, 16))
    products = (here * there).sum(1).tolist()
    far = max(range(4), key=lambda i: abs(products[i] - products[0]))
    r.that(
        abs(products[far] - products[0]) < 1e-2,
        what=f"row 0 times row {step} is {products[0]:.3f}, and row {starts[far]} times row "
        f"{starts[far] + step} is {products[far]:.3f}",
        why="sin a sin b + cos a cos b = cos(a - b): a pair at one speed knows only how far apart "
        "two positions are, and this sum over the pairs is the same",
        try_="give columns 2i and 2i + 1 the same speed",
    )


@sinusoidal.show
def _show_sinusoidal(function: Any) -> views.Picture:
    return views.heat_map(function)


# --- 1.2.b -------------------------------------------------------------------------------------

STILL = "leaves position 0 as it is, and no vector longer or shorter"
DISTANCE = "scores depend on the distance alone"
PAIRS = "turns dimension i with i + D/2, as Hugging Face's checkpoints want it"


@exercise(
    "1.2.b",
    title="RoPE: turn by the position",
    points=4,
    central=PAIRS,
    skill=SKILL,
    arguments=("x", "positions", "base"),
    hints=(
        (
            STILL,
            "A point (a, b) turned by t is (a cos t - b sin t, b cos t + a sin t). What are the "
            "cosine and the sine at position 0?",
        ),
        (
            STILL,
            "One minus and one plus. With two of the same sign the point moves off its circle.",
        ),
        (
            DISTANCE,
            "The angle of pair i at position p is p times base^(-2i / D): each pair has a speed of "
            "its own, which no position changes.",
        ),
        (
            PAIRS,
            "`first, second = x.chunk(2, dim=-1)` are dimensions 0 to D/2 - 1 and D/2 to D - 1. "
            "Turn first[i] with second[i], and put both back with `torch.cat(..., dim=-1)`.",
        ),
        (
            PAIRS,
            "`positions[:, None] * speeds` is [T, D/2], and broadcasts to any [..., T, D/2].",
        ),
    ),
)
def rotate(function: Any, require: Any) -> None:
    """Each pair (x[i], x[i + D/2]) turned by position * base^(-2i / D)."""
    with require(STILL) as r:
        for d in (2, 8):
            with r.input(f"x [3, {d}], positions 0, 0, 0"):
                x = random(3, d)
                equal(
                    r,
                    function(x.clone(), torch.zeros(3, dtype=torch.int64), 10_000.0),
                    x,
                    "the result",
                    why="at position 0 every angle is 0: cosines are 1 and sines 0",
                    try_="follow one pair at angle 0",
                )
            with r.input(f"x [4, {d}], positions 1, 2, 5, 40"):
                _keeps_lengths(r, function, random(4, d))
    with require(DISTANCE) as r:
        for m, n, shift in ((0, 1, 1), (3, 0, 10), (9, 2, 200)):
            with r.input(f"a query at {m}, a key at {n}; then both {shift} further on"):
                _same_score(r, function, m, n, shift)
    with require(PAIRS) as r:
        for shape, where, base in (
            ((2, 2), [0, 1], 10_000.0),
            ((3, 8), [1, 2, 7], 10_000.0),
            ((2, 3, 4, 16), [10, 11, 12, 900], 500_000.0),
            ((1, 32), [77], 100.0),
        ):
            with r.input(f"x {list(shape)}, positions {where}, base = {base:,.0f}"):
                x, positions = random(*shape), torch.tensor(where)
                frequencies = reference.rope_frequencies(shape[-1], base)
                expected = reference.rotate(x, *reference.rope_angles(positions, frequencies))
                got = function(x.clone(), positions, base)
                why, try_ = _which_pairs(got, x, positions, frequencies)
                equal(r, got, expected, "the result", tolerance=2e-3, why=why, try_=try_)


def _keeps_lengths(r: Any, function: Any, x: Tensor) -> None:
    got = function(x.clone(), torch.tensor([1, 2, 5, 40]), 10_000.0)
    is_tensor(r, got, "the result", tuple(x.shape))
    before, after = x.norm(dim=-1), got.norm(dim=-1)
    worst = int((after - before).abs().argmax())
    r.that(
        bool(torch.allclose(before, after, rtol=1e-3)),
        what=f"row {worst} had length {before[worst]:.3f} and has {after[worst]:.3f}",
        why="a turn moves a point along its circle; a longer query or key would change how sharp "
        "the softmax is",
        try_="(a cos t - b sin t, b cos t + a sin t): one minus, one plus",
    )


def _same_score(r: Any, function: Any, m: int, n: int, shift: int) -> None:
    q, k = random(1, 16, seed=1), random(1, 16, seed=2)

    def score(at_query: int, at_key: int) -> float:
        turned = [
            function(x.clone(), torch.tensor([at]), 10_000.0)
            for x, at in ((q, at_query), (k, at_key))
        ]
        for x in turned:
            is_tensor(r, x, "the result", (1, 16))
        return float((turned[0] * turned[1]).sum())

    here, there = score(m, n), score(m + shift, n + shift)
    r.that(
        abs(here - there) < 5e-3 * max(1.0, abs(here)),
        what=f"positions {m} and {n} score {here:.4f}; {m + shift} and {n + shift}, as far apart, "
        f"score {there:.4f}",
        why="turned by m and by n, the angle between two vectors changes by m - n; so a model that "
        "learns a distance at one place knows it at all",
        try_="turn every pair by position times its speed, and by nothing else",
    )
    nearer = score(m + shift, n + shift + 3)
    r.that(
        abs(here - nearer) > 1e-4,
        what=f"positions {m + shift} and {n + shift} score as {m + shift} and {n + shift + 3} do, "
        f"{nearer:.4f}",
        why="a score that no distance changes says nothing of where a token stands",
        try_="does your angle depend on `positions`?",
    )


def _which_pairs(got: Any, x: Tensor, positions: Tensor, speeds: Tensor) -> tuple[str, str]:
    """What to say of a wrong value, by the mistake that gives it."""
    cos, sin = reference.rope_angles(positions, speeds)
    a, b = x[..., 0::2], x[..., 1::2]
    neighbours = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    if near(got, neighbours, 1e-3):
        return (
            "neighbours (0, 1), (2, 3), ... were turned, as in the paper and in Meta's code; in "
            "Hugging Face's checkpoints the rows stand in another order, for i with i + D/2",
            "take the two halves of the last axis as the two coordinates: x.chunk(2, dim=-1)",
        )
    if near(got, reference.rotate(x, cos, -sin), 1e-3):
        return (
            "every pair was turned the other way round; scores are right, and weights that were "
            "trained with the usual way are not read right",
            "(a cos t - b sin t, b cos t + a sin t), a from the first half",
        )
    return (
        "pair i at position p is turned by p * base^(-2i / D), i from 0 to D/2 - 1",
        "work out by hand the angle of the element named above",
    )


@rotate.show
def _show_rotate(function: Any) -> views.Picture:
    return views.scores(function)


# --- 1.2.c -------------------------------------------------------------------------------------

SINGLE = "one token at a time gives what the whole text gives"
PIECES = "so do pieces of any length"
ONCE = "turns each query and each key once"
HEADS = 2
Turn = Callable[[Tensor, Tensor], Tensor]


class CountedTurn:
    """RoPE for heads of `d` dimensions; counts the vectors that it turns."""

    def __init__(self, d: int):
        self.frequencies = reference.rope_frequencies(d)
        self.vectors = 0

    def __call__(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: [H, T, D]. positions: int64 [T]. Returns [H, T, D]."""
        positions = torch.as_tensor(positions)
        if positions.shape != x.shape[-2:-1]:
            raise CourseError(
                f"turn was given {x.shape[-2]} tokens, and positions of shape "
                f"{tuple(positions.shape)}",
                "each token needs its own position, in a row of as many as there are tokens",
                "torch.arange(first, last + 1)",
            )
        self.vectors += x.shape[:-1].numel()
        return reference.rotate(x, *reference.rope_angles(positions, self.frequencies))


@exercise(
    "1.2.c",
    title="Decoding: at which position does the new token stand?",
    points=4,
    central=PIECES,
    skill=SKILL,
    arguments=("query", "key", "value", "keys", "values", "turn"),
    hints=(
        (
            SINGLE,
            "The cache holds S tokens, at positions 0 to S - 1. Where does the next one stand? "
            "`keys.shape[1]` is S.",
        ),
        (
            SINGLE,
            "Turn the new query and the new key at that position; put the turned key behind the "
            "cached ones, `torch.cat((keys, key), dim=1)`, and the value, not turned, likewise.",
        ),
        (
            PIECES,
            "T new tokens stand at S, S + 1, ..., S + T - 1: `torch.arange(S, S + T)`. The first "
            "of them must not see the last: `causal_mask(T, S + T)`.",
        ),
        (
            ONCE,
            "What is in the cache was turned when it came. Its position never changes, so it need "
            "not be turned again.",
        ),
    ),
)
def decode(function: Any, require: Any) -> None:
    """Attention of new tokens over a cache of turned keys; returns out, and the longer cache."""
    with require(SINGLE) as r:
        for tokens in (1, 2, 7):
            with r.input(f"{tokens} token{'' if tokens == 1 else 's'}, one at a time"):
                _as_the_whole(r, function, [1] * tokens)
    with require(PIECES) as r:
        for pieces in ([3], [5, 1], [4, 1, 1, 3]):
            with r.input(f"pieces of {', '.join(map(str, pieces))} tokens"):
                _as_the_whole(r, function, pieces)
    with require(ONCE) as r:
        for pieces in ([1, 1, 1], [6, 1, 1, 1, 1]):
            tokens = sum(pieces)
            with r.input(f"{tokens} tokens, in {len(pieces)} steps"):
                turn = _as_the_whole(r, function, pieces)
                enough = 2 * HEADS * tokens
                r.that(
                    turn.vectors == enough,
                    what=f"{turn.vectors} vectors were turned, where {enough} suffice: {tokens} "
                    f"queries and {tokens} keys of {HEADS} heads",
                    why="a cache is there so that a new token costs what one token costs; turning "
                    "all cached keys again makes each step dearer than the last"
                    if turn.vectors > enough
                    else "a query and a key must both be turned, or their distance is lost",
                    try_="keep keys as they are after the turn, and turn only what is new",
                )


def _as_the_whole(r: Any, function: Any, pieces: list[int]) -> CountedTurn:
    """Feed the pieces one after another, and compare with attention over the whole text."""
    heads, d, tokens = HEADS, 8, sum(pieces)
    query, key, value = (random(heads, tokens, d, seed=s) for s in (3, 4, 5))
    plain = CountedTurn(d)
    where = torch.arange(tokens)
    turned = plain(key, where)
    expected, _ = attention(plain(query, where), turned, value, causal_mask(tokens, tokens))
    turn = CountedTurn(d)
    keys = values = torch.zeros(heads, 0, d)
    start = 0
    for piece in pieces:
        new = [x[:, start : start + piece].clone() for x in (query, key, value)]
        got = function(*new, keys, values, turn)
        r.that(
            isinstance(got, tuple | list) and len(got) == 3,
            what=f"it returned a {type(got).__name__}, expected (out, keys, values)",
            why="the next step needs the longer cache",
            try_="return out, keys, values",
            slip=True,
        )
        before = keys
        out, keys, values = got
        end = start + piece
        is_tensor(r, keys, "keys", (heads, end, d))
        is_tensor(r, values, "values", (heads, end, d))
        _stays(r, before, keys)
        why, try_ = _which_position(out, query, key, value, start, piece)
        equal(r, out, expected[:, start:end], "out", why=why, try_=try_)
        start = end
    return turn


def _stays(r: Any, before: Tensor, after: Tensor) -> None:
    changed = (before != after[:, : before.shape[1]]).any(-1).any(0).nonzero().flatten().tolist()
    r.that(
        not changed,
        what=f"the cached key of position {min(changed, default=0)} has changed; {len(changed)} of "
        f"{before.shape[1]} have",
        why="a key in the cache was turned to its position when it came; turned again, it stands "
        "at twice that position",
        try_="put the new keys behind the cached ones, and leave those as they are",
    )


def _which_position(
    out: Any, query: Tensor, key: Tensor, value: Tensor, start: int, piece: int
) -> tuple[str, str]:
    """What to say of a wrong output, by the position that gives it."""
    end, turn = start + piece, CountedTurn(query.shape[-1])
    where = torch.arange(end)
    mask = causal_mask(piece, end)
    new = query[:, start:end]

    def over(positions: Tensor, seen: Tensor | None, values: Tensor) -> Tensor:
        return attention(turn(new, positions), turn(key[:, :end], where), values, seen)[0]

    if piece > 1 and near(out, over(where[start:], None, value[:, :end])):
        return (
            f"each of the {piece} new tokens saw those that come after it",
            "give attention a mask: causal_mask(new tokens, all tokens)",
        )
    if near(out, over(where[start:], mask, turn(value[:, :end], where))):
        return (
            "the values were turned, too: positions decide who is asked, not what is answered",
            "turn the query and the key, and leave the value as it is",
        )
    return (
        f"the cache held {start} token{'' if start == 1 else 's'}: the new "
        f"{'one stands' if piece == 1 else 'ones stand'} at {_places(start, end)}",
        "at which position does your code turn the new query, and at which the new key?",
    )


def _places(start: int, end: int) -> str:
    if end - start == 1:
        return f"position {start}, as in the whole text"
    return f"positions {start} to {end - 1}, as in the whole text"


@decode.show
def _show_decode(function: Any) -> views.Picture:
    return views.decoding(function, CountedTurn)
