"""The exercise of unit 4.2 on reading blocks, and the verdict on its claim.

Slots that a learner's code has no business with hold nan, so that whatever reads one shows it. The
other exercises are in `paged_kv_cache_blocks` and `paged_kv_cache_prefix`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.parts import a_kind

from . import paged_kv_cache_views as views
from .paged_kv_cache_case import Case

SKILL = "Paged KV cache"

examine(
    "kv-80",
    verdict="corrected",
    figure="Waste falls, not size. On chat of ShareGPT's lengths in the paper's 15,728 slots, "
    "contiguous memory held tokens in 16 % (2,048 reserved each), 25 % (powers of two) and 40 % "
    "(lengths known) of its slots, paged memory in 97 %: waste of 60 to 84 % becomes 3 %. The "
    "memory is as large as before, and 7, 11 or 18 requests at once become 45. By the roofline of "
    "the paper's A100 that is 3.5, 2.4 and 1.7 times the tokens a second: 2-4 times holds against "
    "servers that reserve, as long as memory limits the batch. The 80 % needs the longest "
    "reservation; and without any KV cache there is no such memory to save.",
    how="the engine's scheduler and block manager on 200 requests, slots counted every 8th step; "
    "time by the roofline of each step's matrix products and of its attention; published: 20.4, "
    "26.8, 38.2 and 96.3 % of slots, 7.00, 9.81, 13.62 and 30.42 requests at once",
    source="https://arxiv.org/abs/2309.06180",
)


# --- 4.2.a -------------------------------------------------------------------------------------

ONE = "is attention, for a context within one block"
TABLE = "finds the blocks by the table, wherever they lie"
BEHIND = "reads nothing behind the context"
GROUPS = "lets neighbouring query heads share a kv head"
LARGE = "has no nan, however large the scores are"


@exercise(
    "4.2.a",
    title="Paged attention",
    points=8,
    central=TABLE,
    skill=SKILL,
    arguments=("query", "keys", "values", "block_table", "context"),
    hints=(
        (
            ONE,
            "scores = keys of the context @ the head's query / sqrt(D); weights = exp(scores) over "
            "their sum; the result is weights @ values.",
        ),
        (
            TABLE,
            "Token t lies in block `block_table[t // block_size]`, at offset `t % block_size`. "
            "With t = np.arange(context) NumPy finds all at once: keys[blocks, offsets, head].",
        ),
        (BEHIND, "The last block is rarely full: t goes up to context - 1, and no further."),
        (
            GROUPS,
            "H query heads and K kv heads: H // K neighbours share one. Query head h reads kv head "
            "h // (H // K).",
        ),
        (LARGE, "Subtract the largest score before exp: the quotient stays the same."),
    ),
)
def attend(function: Any, require: Any) -> None:
    """Attention of one token over a context that lies in blocks of a pool."""
    with require(ONE) as r:
        for context in (1, 3, 4):
            _attended(r, function, Case(heads=1, kv_heads=1, size=4, context=context))
    with require(TABLE) as r:
        for size, context in ((4, 8), (4, 12), (2, 10), (16, 48)):
            _attended(r, function, Case(heads=2, kv_heads=2, size=size, context=context))
    with require(BEHIND) as r:
        for size, context in ((4, 5), (4, 11), (16, 33), (5, 7)):
            _attended(r, function, Case(heads=2, kv_heads=2, size=size, context=context))
    with require(GROUPS) as r:
        for heads, kv_heads in ((4, 2), (6, 2), (8, 1)):
            _attended(r, function, Case(heads=heads, kv_heads=kv_heads, size=4, context=9))
    with require(LARGE) as r:
        for times in (100.0, 1000.0):
            _attended(r, function, Case(heads=2, kv_heads=1, size=4, context=6, times=times))


def _attended(r: Any, function: Any, case: Case) -> None:
    with r.input(str(case)):
        arrays = case.query.copy(), case.keys.copy(), case.values.copy()
        with np.errstate(all="ignore"):
            got = function(*arrays, list(case.table), case.context)
        r.that(
            isinstance(got, np.ndarray) and got.shape == case.query.shape,
            what=f"the result is {_kind(got)}, expected an array of shape {case.query.shape}",
            why="each query head gives one row: a mean of the values, weighted",
            try_="make `out = np.empty_like(query)`, fill out[head], and return it",
            slip=not isinstance(got, np.ndarray),
        )
        r.that(
            got.dtype == np.float32,
            what=f"the result has dtype {got.dtype}, expected float32",
            why="each number of it takes 4 bytes, as those of the query",
            try_="np.empty_like(query) has the query's dtype",
        )
        good = case.expected()
        if not np.allclose(got, good, atol=1e-4, rtol=1e-4):
            r.that(False, *_what_differs(got, case, good))


def _kind(got: Any) -> str:
    return f"of shape {got.shape}" if isinstance(got, np.ndarray) else a_kind(got)


def _what_differs(got: np.ndarray, case: Case, good: np.ndarray) -> tuple[str, str, str]:
    """What, why and what to try, by the mistake that gives this result."""
    if np.isnan(got).any():
        used = -(-case.context // case.size)
        if np.abs(case.query).max() > 50:
            return (
                f"{int(np.isnan(got).sum())} of {got.size} numbers are nan",
                "exp of more than 88 is an infinity in float32, and an infinity over an infinity "
                "is no number",
                "subtract scores.max() before np.exp",
            )
        return (
            f"{int(np.isnan(got).sum())} of {got.size} numbers are nan: a slot was read that holds "
            "no token of this sequence",
            f"the sequence has the first {used} entries of the table, and {case.context} slots of "
            "them; all others belong to somebody else, or are empty (here: nan, which no weight "
            "of 0 takes away)",
            "print the tokens, blocks and offsets that you read",
        )
    for wrong, why, try_ in (
        (
            case.expected(scale=False),
            "the scores are not divided by sqrt(D)",
            "divide by math.sqrt(query.shape[1])",
        ),
        (
            case.expected(shares="in turns"),
            "query head h reads kv head h % K, as if they took turns; neighbours share one",
            "which kv head does query head 1 of 4 read, if there are 2?",
        ),
    ):
        if np.allclose(got, wrong, atol=1e-4):
            return f"the first numbers are {_few(got)}, expected {_few(good)}", why, try_
    return (
        f"the first numbers are {_few(got)}, expected {_few(good)}",
        "it is the softmax of the scores of all tokens of the context, times their values",
        "compute the scores of one head by hand, for the smallest context",
    )


def _few(x: np.ndarray) -> str:
    return ", ".join(f"{v:.3f}" for v in x.ravel()[:3])


@attend.show
def _show_attend(function: Any) -> views.Picture:
    return views.slots_read(function, Case(heads=2, kv_heads=1, size=4, context=10))
