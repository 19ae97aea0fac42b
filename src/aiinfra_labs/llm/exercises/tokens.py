"""The exercises of unit 1.1 on merges: learn the next one, and encode a word by those learned.

What an answer gives is compared with the course's tokenizer, which the tests hold to Hugging Face's
`tokenizers`. Texts have Chinese, emoji, ties and runs of one letter on purpose.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.llm import bpe
from aiinfra_labs.llm.bpe import WORDS, Tokenizer, merge_pair

from . import token_views as views

SKILL = "Tokens"
TEXT = (
    "the cat sat on the mat and the rat sat on that cat\n"
    "def the_cat(x): return x + x + x  # 猫坐在垫子上，它很软。猫很软。\n"
    "我喜欢吃苹果，它很甜。苹果很甜，我喜欢苹果。 aaaa aaa aa 😀😀😀 1234 1234\n"
)
Words = dict[tuple[int, ...], int]


# --- 1.1.a -------------------------------------------------------------------------------------

WEIGHT = "counts each word as often as it occurs"
WITHIN = "counts neighbours, and only within one word"
TIES = "takes the smaller of equally frequent pairs"
AGAIN = "learns the merges of tokenizers, called again and again"


@exercise(
    "1.1.a",
    title="The next merge",
    points=6,
    central=AGAIN,
    skill=SKILL,
    arguments=("words",),
    hints=(
        (
            WEIGHT,
            "`words` says how often each word occurs: `{(104, 105): 3}` is one word of two tokens, "
            "three times in the text. How much does its one pair add to the count?",
        ),
        (
            WITHIN,
            "`zip(word, word[1:])` gives the neighbours of one word: of (1, 1, 1) twice (1, 1). "
            "A word of one token has none.",
        ),
        (
            TIES,
            "Tuples compare like words in a dictionary: (1, 9) is smaller than (2, 0). `min` and "
            "`max` take a key; `(-count, pair)` is smallest for the largest count, and among those "
            "for the smallest pair.",
        ),
        (WITHIN, "When no word has two tokens there is no pair: return None."),
    ),
)
def next_merge(function: Any, require: Any) -> None:
    """The pair of neighbouring tokens that occurs most often in all words, or None."""
    with require(WEIGHT) as r:
        for words in ({(1, 2): 1}, {(1, 2): 2, (3, 4): 5}, {(1, 2, 3): 1, (2, 3): 1, (4, 5): 3}):
            _next(r, function, words)
        for words in _some_words(40, seed=1, most=30):
            if not _ties(words):
                _next(r, function, words)
    with require(WITHIN) as r:
        for words in (
            {},
            {(7,): 9},
            {(7,): 9, (8, 9): 1},
            {(1,): 5, (2,): 5, (3, 4): 1},
            {(5, 5, 5): 1, (1, 2): 1},
            {(5, 5, 5, 5): 1, (1, 2): 2},
            {(1, 2, 1): 2, (2, 1, 2, 1): 1},
        ):
            _next(r, function, words)
    with require(TIES) as r:
        for words in (
            {(3, 4): 2, (1, 9): 2},
            {(2, 0): 1, (1, 9): 1},
            {(1, 9): 1, (2, 0): 1},
            {(9, 1): 4, (1, 9): 4, (1, 8): 4},
        ):
            _next(r, function, words)
        for words in _some_words(30, seed=2, most=2):
            _next(r, function, words)
    with require(AGAIN) as r:
        words = _words_of_text()
        for step, (left, right) in enumerate(_trained().merges):
            pair = _trained().vocabulary[left], _trained().vocabulary[right]
            with r.input(f"merge {step + 1} of the text {TEXT[:24]!r} ..."):
                got = function(dict(words))
                _is_pair(r, got)
                r.that(
                    got == pair,
                    what=f"it returned {shown(got)}, expected {pair}: {left!r} + {right!r}",
                    why=_counts(words, [got, pair]),
                    try_="print the three largest counts, and the pairs that have them",
                    slip=not isinstance(got, tuple | None),
                )
            merged: Words = Counter()
            for word, often in words.items():
                merged[tuple(merge_pair(list(word), pair, 256 + step))] += often
            words = merged


@next_merge.show
def show_next_merge(function: Any) -> Any:
    words = _words_of_text()
    return views.pairs(_pair_counts(words), function(dict(words)))


def _next(r: Any, function: Any, words: Words) -> None:
    with r.input(f"words = {words!r:.90}"):
        got, expected = function(dict(words)), _best(words)
        _is_pair(r, got)
        r.that(
            got == expected,
            what=f"it returned {shown(got)}, expected {shown(expected)}",
            why=_counts(words, [got, expected]),
            try_="of the pairs with the largest count, take the smallest"
            if _ties(words)
            else "write down every pair of neighbours of each word, as often as the word occurs",
            slip=not isinstance(got, tuple | None),
        )


def _is_pair(r: Any, got: Any) -> None:
    """Nothing, or a pair of ids."""
    if isinstance(got, tuple):
        r.whole(got, "the pair")


def _pair_counts(words: Words) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    for word, often in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return counts


def _best(words: Words) -> tuple[int, int] | None:
    counts = _pair_counts(words)
    return min(counts, key=lambda pair: (-counts[pair], pair)) if counts else None


def _counts(words: Words, pairs: Sequence[Any]) -> str:
    counts = _pair_counts(words)
    if not counts:
        return "no word has two tokens, so there is no pair"
    if any(not isinstance(pair, tuple) for pair in pairs):
        return f"there are {len(counts)} pairs to choose from, each a tuple of two ids"
    told = [f"{pair} occurs {_times(counts[pair])}" for pair in pairs]
    if len({counts[pair] for pair in pairs}) == 1:
        told.append(
            "of equally frequent pairs the smaller one is taken, so that a training run gives the "
            "same vocabulary everywhere"
        )
    return "; ".join(told)


def _times(count: int) -> str:
    return f"{count} time{'' if count == 1 else 's'}"


def _ties(words: Words) -> bool:
    counts = sorted(_pair_counts(words).values())
    return len(counts) > 1 and counts[-1] == counts[-2]


def _some_words(count: int, seed: int, most: int) -> Iterator[Words]:
    rng = random.Random(seed)
    for _ in range(count):
        yield {
            tuple(rng.choices(range(4), k=rng.randint(1, 6))): rng.randint(1, most)
            for _ in range(rng.randint(1, 6))
        }


@functools.cache
def _trained() -> Tokenizer:
    return bpe.train([TEXT * 2], 256 + 40)


def _words_of_text() -> Words:
    """The words of the text as ids of bytes, and how often each occurs."""
    return Counter(tuple(Tokenizer([]).encode(word)) for word in WORDS.findall(TEXT * 2))


def shown(value: Any) -> str:
    return f"{value!r:.60}"


# --- 1.1.b -------------------------------------------------------------------------------------

FIRST = "merges the pair that was learned first, wherever it stands"
ON = "goes on until no pair of neighbours was learned"
LEFT = "merges each occurrence, from the left"
REAL = "gives the ids of tokenizers for real text"


@exercise(
    "1.1.b",
    title="Encode a word",
    points=6,
    central=REAL,
    skill=SKILL,
    arguments=("ids", "merges"),
    hints=(
        (
            FIRST,
            "`merges[k]` makes the token 256 + k, and was learned before `merges[k + 1]`. Of all "
            "pairs of neighbours in `ids`, which has the smallest k?",
        ),
        (
            FIRST,
            "A dict from pair to k says it at once: "
            "`rank = {pair: k for k, pair in enumerate(merges)}`.",
        ),
        (
            ON,
            "After a merge there are new neighbours: 256 may be half of a pair itself. Loop until "
            "none of the pairs has a rank.",
        ),
        (
            LEFT,
            "Of (1, 1, 1) and the merge (1, 1) the first two go together and the third stays: step "
            "on by two after a merge, else by one.",
        ),
    ),
)
def encode_word(function: Any, require: Any) -> None:
    """The ids of a word after all merges: `merges[k]`, learned k-th, makes the token 256 + k."""
    with require(FIRST) as r:
        for ids, merges in (
            ([], []),
            ([97], [(97, 98)]),
            ([97, 98], [(97, 98)]),
            ([97, 98, 99], [(98, 99), (97, 98)]),
            ([97, 98, 99], [(97, 98), (98, 99)]),
            ([1, 2, 3, 4], [(2, 3), (1, 2), (3, 4)]),
        ):
            _encoded(r, function, ids, merges)
    with require(ON) as r:
        for ids, merges in (
            ([1, 2, 3], [(1, 2), (256, 3)]),
            ([1, 2, 3, 4], [(1, 2), (3, 4), (256, 257)]),
            ([1, 2, 1, 2, 1, 2], [(1, 2), (256, 256), (257, 256)]),
        ):
            _encoded(r, function, ids, merges)
    with require(LEFT) as r:
        for ids, merges in (
            ([1, 1], [(1, 1)]),
            ([1, 1, 1], [(1, 1)]),
            ([1] * 7, [(1, 1), (256, 256)]),
            ([1, 2, 9, 1, 2], [(1, 2)]),
        ):
            _encoded(r, function, ids, merges)
    with require(REAL) as r:
        tokenizer = _trained()
        vocabulary = tokenizer.vocabulary
        merges = [(vocabulary[left], vocabulary[right]) for left, right in tokenizer.merges]
        for word in sorted(set(WORDS.findall(TEXT)), key=lambda word: (len(word), word)):
            ids = Tokenizer([]).encode(word)
            with r.input(f"the word {word!r}: {len(ids)} bytes"):
                got = _called(r, function, ids, merges)
                r.equal(
                    got,
                    tokenizer.encode(word),
                    name="result",
                    why="these merges were learned from the text that the word is of",
                    try_="show draws your tokens beside the right ones",
                )


@encode_word.show
def show_encode_word(function: Any) -> Any:
    vocabulary = _trained().vocabulary
    merges = [(vocabulary[left], vocabulary[right]) for left, right in _trained().merges]
    words = [" that", " mat", "return", "aaaa", " 苹果很甜", "😀😀😀"]
    yours = {word: function(Tokenizer([]).encode(word), list(merges)) for word in words}
    return views.words(_trained(), yours)


def _encoded(r: Any, function: Any, ids: list[int], merges: list[tuple[int, int]]) -> None:
    with r.input(f"ids = {ids}, merges = {merges}"):
        r.equal(
            _called(r, function, ids, merges),
            _merged_in_turn(ids, merges),
            name="result",
            why=_which_first(ids, merges),
            try_="do it by hand: look up each pair of neighbours in merges, and merge the one that "
            "stands first there",
        )


def _called(r: Any, function: Any, ids: list[int], merges: list[tuple[int, int]]) -> Any:
    """The answer as a list."""
    got = function(list(ids), list(merges))
    return r.whole(got, "the result") if isinstance(got, tuple | list) else got


def _merged_in_turn(ids: list[int], merges: list[tuple[int, int]]) -> list[int]:
    rank = {pair: k for k, pair in enumerate(merges)}
    while found := [rank[pair] for pair in zip(ids, ids[1:], strict=False) if pair in rank]:
        ids = merge_pair(ids, merges[min(found)], 256 + min(found))
    return list(ids)


def _which_first(ids: list[int], merges: list[tuple[int, int]]) -> str:
    pairs = list(zip(ids, ids[1:], strict=False))
    known = [pair for pair in merges if pair in pairs]
    if not known:
        return "none of the pairs was learned: the ids stay"
    made = 256 + merges.index(known[0])
    return f"of the pairs in ids, {known[0]} was learned first: it makes {made}"
