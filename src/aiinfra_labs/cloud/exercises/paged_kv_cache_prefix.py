"""The exercises of unit 4.2 on finding blocks again: their names, and which to give up first."""

from __future__ import annotations

import pickle
import random
from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.course.parts import a_kind

from . import paged_kv_cache_views as views
from .paged_kv_cache import SKILL

# --- 4.2.c -------------------------------------------------------------------------------------

WHOLE = "names each full block, and no other"
ALIKE = "gives the same beginning the same names"
CHAIN = "gives a block another name when any token before it differs"
KEYED = "gives another key other names"
SMALL = "has names that do not grow with the text"
ONCE = "reads each token once"


# Two texts that a name made by arithmetic, or of digits or bytes side by side, takes for one.
COLLIDING = (
    ([1, 2], [2, 1], 2),
    ([1, 4], [2, 3], 2),
    ([2, 6], [3, 4], 2),
    ([1, 23], [12, 3], 2),
    ([0, 7], [7, 0], 2),
    ([1, 2, 3, 4], [3, 4, 1, 2], 2),
    ([1, 2, 3, 4], [1, 2, 4, 3], 4),
    ([5, 5], [9, 9], 2),
    ([3], [259], 1),
    ([3], [65_539], 1),
    *(([1, base], [2, 0], 2) for base in (10, 31, 33, 37, 131, 256, 257, 1_000, 65_536, 100_003)),
    *(([1, base], [2, 0], 1) for base in (10, 31, 33, 37, 131, 256, 257, 1_000, 65_536, 100_003)),
)


class Counted(tuple):
    """Tokens that count how often one of them is read."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        type(self).reads += len(found) if isinstance(at, slice) else 1
        return found

    def __iter__(self) -> Any:
        for token in super().__iter__():
            type(self).reads += 1
            yield token


@exercise(
    "4.2.c",
    title="The name of a block",
    points=10,
    central=CHAIN,
    skill=SKILL,
    arguments=("tokens", "block_size", "key"),
    hints=(
        (
            WHOLE,
            "There are len(tokens) // block_size full blocks; block i holds "
            "tokens[i * block_size : (i + 1) * block_size].",
        ),
        (
            CHAIN,
            "Keys and values depend on all tokens before. Put the name of the block before into "
            "the name of this one: hash((parent, ...)).",
        ),
        (KEYED, "What comes before the first block? Begin the chain with the key."),
        (SMALL, "`hash(...)` is a number, however long the tuple is that it is made of."),
        (ONCE, "A block's name needs its own tokens and its parent's name, not the whole prefix."),
    ),
)
def names(function: Any, require: Any) -> None:
    """The names of a text's full blocks, by which a text with the same beginning finds them."""
    with require(WHOLE) as r:
        for length, size in ((0, 4), (3, 4), (4, 4), (5, 4), (12, 4), (7, 1)):
            with r.input(f"{length} tokens, blocks of {size}"):
                found = _named(r, function, range(length), size)
                r.that(
                    len(found) == length // size,
                    what=f"{len(found)} names, expected {length // size}",
                    why="a block that is not full will still be written: what it holds has no name "
                    "yet"
                    if len(found) > length // size
                    else "each full block can be found by its own name",
                    try_="len(tokens) // block_size",
                )
    with require(ALIKE) as r:
        for same in (4, 8, 10):
            with r.input(f"two texts of 12 tokens, the first {same} alike, blocks of 4"):
                one = _named(r, function, range(12), 4)
                other = _named(r, function, [*range(same), *range(100, 112 - same)], 4)
                mine = sum(a == b for a, b in zip(one, other, strict=False))
                r.that(
                    mine >= same // 4,
                    what=f"{mine} of the names are the same, expected {same // 4}",
                    why="that is how the second request finds the first one's blocks",
                    try_="does a name depend on anything but the key and the tokens up to its end?",
                )
    with require(CHAIN) as r:
        for changed in range(8):
            text = list(range(12))
            text[changed] = 99
            with r.input(f"12 tokens in blocks of 4, of which token {changed} is another"):
                one = _named(r, function, range(12), 4)
                other = _named(r, function, text, 4)
                for block in range(changed // 4, 3):
                    r.that(
                        one[block] != other[block],
                        what=f"block {block} keeps its name",
                        why="its tokens were computed behind another text, so that its keys and "
                        "values are others"
                        if block > changed // 4
                        else "it holds another token",
                        try_="let each name depend on the one before it",
                    )
        for one, other, size in COLLIDING:
            with r.input(f"the texts {one} and {other}, blocks of {size}"):
                mine, theirs = (_named(r, function, text, size) for text in (one, other))
                r.that(
                    mine[-1:] != theirs[-1:],
                    what=f"the last blocks of two texts have one name, {mine[-1]!r:.60}",
                    why="a request would be given keys and values of another text, and answer it",
                    try_="hash the tokens as they are: a sum, a product or the digits side by side "
                    "are the same for many texts",
                )
        with r.input("[7, 7, 7, 7], blocks of 2"):
            found = _named(r, function, [7, 7, 7, 7], 2)
            r.that(
                len(set(found)) == 2,
                what="two blocks with the same tokens have the same name",
                why="the second one's tokens see the first ones: its keys and values are others",
                try_="let each name depend on the one before it",
            )
        if _is_linear(r, function):  # others fail below, and would not come to an end here
            _tells_many_apart(r, function)
    with require(KEYED) as r:
        for left, right, text, more in (
            ("", "adapter-7", range(8), range(8)),
            ("adapter-7", "7-adapter", range(8), range(8)),
            ("lora1", "lora", [23, 4], [123, 4]),
        ):
            with r.input(
                f"the tokens {list(text)} with the key {left!r}, {list(more)} with {right!r}"
            ):
                one = _named(r, function, text, len(text) // 2, left)
                other = _named(r, function, more, len(more) // 2, right)
                r.that(
                    not set(one) & set(other),
                    what=f"{len(set(one) & set(other))} of 2 names are the same",
                    why="another adapter computes other keys and values from the same tokens",
                    try_="begin the chain with the key, told apart from the tokens",
                )
    with require(SMALL) as r, r.input("4,000 tokens, blocks of 4"):
        found = _named(r, function, range(4000), 4)
        first, last = (_bytes(r, found[i]) for i in (0, -1))
        r.that(
            last <= first + 40,
            what=f"the first name takes {first} bytes, and the last {last:,}",
            why="a name is looked up for every block of every prompt, and kept for each block",
            try_="hash((parent, tuple of the block's tokens)), or hashlib.sha256(...).digest()",
        )
    with require(ONCE) as r:
        for length in (64, 400):
            with r.input(f"{length} tokens, blocks of 4"):
                Counted.reads = 0
                _named(r, function, Counted(range(length)), 4)
                r.that(
                    Counted.reads <= 2 * length,
                    what=f"{Counted.reads:,} tokens were read, of {length}",
                    why="reading the whole prefix for each block grows with the square of the "
                    "prompt: 100,000 tokens would be read 3,000 times over",
                    try_="read the block's own tokens, and use the name of the block before it",
                )


def _named(r: Any, function: Any, tokens: Any, size: int, key: str = "") -> list[Any]:
    got = function(tokens if isinstance(tokens, Counted) else list(tokens), size, key)
    r.that(
        isinstance(got, list | tuple),
        what=f"it returned {'None' if got is None else a_kind(got)}",
        why="a list is asked for, with one name a full block",
        try_="end with `return` and the list",
        slip=True,
    )
    return list(got)


def _tells_many_apart(r: Any, function: Any, count: int = 200_000) -> None:
    with r.input(f"{count:,} texts, each a token longer than the one before, blocks of 1"):
        alike = count - len(set(_named(r, function, range(count), 1)))
        r.that(
            not alike,
            what=f"{alike:,} of {count:,} names stand for two texts",
            why="32 bits are 4 billion names, and among 200,000 of them some are the same: a "
            "request would be given keys and values of another text",
            try_="keep 64 bits of a hash or more: hash(...), or hashlib.sha256(...).digest()",
        )


def _is_linear(r: Any, function: Any) -> bool:
    """Whether names neither grow with the text nor take ever longer to make."""
    Counted.reads = 0
    found = _named(r, function, Counted(range(400)), 4)
    return Counted.reads <= 800 and not isinstance(found[-1], list | tuple | str)


def _bytes(r: Any, name: Any) -> int:
    try:
        return len(pickle.dumps(name))
    except RecursionError:
        r.that(
            False,
            what="a name is a tuple in a tuple in a tuple, 1,000 deep",
            why="it holds the whole text once more",
            try_="hash(...) makes a number of it",
        )
    return 0


@names.show
def _show_names(function: Any) -> views.Picture:
    texts = ("the cat sat on the mat ", "the cat sat on the bed ", "one cat sat on the mat ")
    found = [function([ord(c) for c in text], 4, "") for text in texts]
    return views.names(texts, found, 4)


# --- 4.2.d -------------------------------------------------------------------------------------

OLDEST = "takes the block that has been free for longest"
TAIL = "of one sequence, takes the tail before the head"
HIT = "does not take a block that was found again"
EACH = "hands out no block twice, and loses none"
NONE = "says when none is free"


@exercise(
    "4.2.d",
    title="Which block to give up",
    points=8,
    central=EACH,
    skill=SKILL,
    arguments=("num_blocks",),
    hints=(
        (
            OLDEST,
            "Keep the free blocks in a row: who is released goes to its end, `take` at its front.",
        ),
        (
            TAIL,
            "A block can be found only if all blocks before it are found. So the last one of a "
            "sequence is worth least: let it go into the row first.",
        ),
        (
            HIT,
            "`found` takes a block out of the middle of the row. A dict keeps its keys in the "
            "order in which they came, and forgets one at once: `del row[block]`.",
        ),
        (NONE, "`raise MemoryError` when the row is empty."),
    ),
)
def free_blocks(cls: Any, require: Any) -> None:
    """The free blocks of a pool, and the order in which they are overwritten."""
    with require(OLDEST) as r:
        with r.input("4 blocks, all free from the beginning"):
            queue = cls(4)
            got = [queue.take() for _ in range(4)]
            r.that(
                sorted(got) == [0, 1, 2, 3],
                what=f"take gave {got}",
                why="at first all blocks, 0 to 3, are free",
                try_="begin with range(num_blocks)",
            )
        for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
            with r.input(f"3 blocks, of 3 sequences, released in the order {order}"):
                queue = _all_taken(cls, 3)
                for block in order:
                    queue.release([block])
                _taken(r, queue, order, "the others were used more recently")
    with require(TAIL) as r:
        for tables in ([[0, 1, 2]], [[2, 0, 3, 1]], [[0, 1], [3, 2]]):
            with r.input(f"sequences with the tables {tables} end, in this order"):
                queue = _all_taken(cls, sum(map(len, tables)))
                for table in tables:
                    queue.release(list(table))
                _taken(
                    r,
                    queue,
                    [block for table in tables for block in reversed(table)],
                    "without its first block, none of a prefix can be found; without its last, all "
                    "the others can",
                )
    said = "three sequences of one block each end: 0, 1, 2; then 0 is found, and released again"
    with require(HIT) as r, r.input(said):
        queue = _all_taken(cls, 3)
        for block in (0, 1, 2):
            queue.release([block])
        queue.found(0)
        _taken(r, queue, [1], "block 0 has been found again: a sequence reads it")
        queue.release([0])
        _taken(r, queue, [2, 0], "block 0 was used last")
    with require(EACH) as r:
        for seed in range(10):
            with r.input(f"12 blocks, random sequences and hits (seed {seed})"):
                _queue_at_random(r, cls, seed)
    with require(NONE) as r, r.input("2 blocks, 3 takes"):
        queue = _all_taken(cls, 2)
        try:
            got = queue.take()
        except MemoryError:
            return
        r.that(
            False,
            what=f"the third take gave {got!r}",
            why="both blocks are in use",
            try_="raise MemoryError('no block is free')",
        )


def _all_taken(cls: Any, count: int) -> Any:
    queue = cls(count)
    for _ in range(count):
        queue.take()
    return queue


def _taken(r: Any, queue: Any, expected: list[int], why: str) -> None:
    got = [queue.take() for _ in expected]
    r.that(
        got == expected,
        what=f"take gave {got}, expected {expected}",
        why=why,
        try_="print your row of free blocks after each call",
    )


def _queue_at_random(r: Any, cls: Any, seed: int) -> None:
    """Sequences take blocks, end, and are found again; `model` is the row as it should be."""
    chance = random.Random(seed)
    queue, row, used = cls(12), list(range(12)), []
    for _ in range(12):  # in whatever order they come at first
        row.append(queue.take())
        row.pop(0)
    used, row = [row[:5], row[5:7], row[7:12]], []
    for _ in range(80):
        what = chance.choice(["release", "take", "found"])
        if what == "release" and used:
            table = used.pop(chance.randrange(len(used)))
            queue.release(list(table))
            row += reversed(table)
        elif what == "found" and row:
            block = chance.choice(row)
            queue.found(block)
            row.remove(block)
            used.append([block])
        elif what == "take" and row:
            count = chance.randint(1, min(3, len(row)))
            got = [queue.take() for _ in range(count)]
            r.that(
                got == row[:count],
                what=f"take gave {got}, expected {row[:count]}",
                why="in use" if set(got) - set(row) else "the order is by when each was released",
                try_="print your row of free blocks after each call",
            )
            used.append(got)
            row = row[count:]


@free_blocks.show
def _show_free_blocks(cls: Any) -> views.Picture:
    queue = _all_taken(cls, 12)
    tables = {"a": [0, 1, 2, 3], "b": [4, 5, 6], "c": [7, 8, 9, 10, 11]}
    for table in tables.values():
        queue.release(list(table))
    return views.eviction(tables, [queue.take() for _ in range(12)])
