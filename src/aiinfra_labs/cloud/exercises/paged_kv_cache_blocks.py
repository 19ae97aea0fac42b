"""The exercise of unit 4.2 on a pool of blocks: taken on demand, shared until they are written."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.course.drawing import many
from aiinfra_labs.course.parts import CourseError

from . import paged_kv_cache_views as views
from .paged_kv_cache import SKILL

# --- 4.2.b -------------------------------------------------------------------------------------

GROWS = "takes a block only when there is no slot left"
FORKS = "forks without taking a block"
OWN = "lets no sequence read what another one wrote"
COPIES = "copies a block only if it is shared and not full"
LEAKS = "gets every block back"
FULL = "says when none is free, and changes nothing"


@exercise(
    "4.2.b",
    title="Blocks on demand, shared until they are written",
    points=10,
    central=OWN,
    skill=SKILL,
    arguments=("num_blocks", "block_size"),
    hints=(
        (
            GROWS,
            "A table of n blocks has n * block_size slots. `append` is told how many tokens there "
            "are: only if they fill all slots does the next one need a block.",
        ),
        (
            FORKS,
            "Keep a count for each block: how many tables name it. `fork` gives a copy of the "
            "list, and adds 1 to the count of each block in it.",
        ),
        (
            OWN,
            "The next token goes into the last block. If its count is above 1, another sequence "
            "reads it, too: take a new block for the table, and return (old, new).",
        ),
        (
            COPIES,
            "A full block is never written again, so that it may stay shared. And the last one "
            "that holds a block writes into it as it is.",
        ),
        (LEAKS, "`free` takes 1 from each block's count. At 0, and only then, the block is free."),
        (FULL, "Look whether a block is free before you change anything; `raise MemoryError`."),
    ),
)
def blocks(cls: Any, require: Any) -> None:
    """A pool of blocks with reference counts: append, fork, free."""
    with require(GROWS) as r:
        for num_blocks, size, tokens in ((3, 4, 1), (3, 4, 4), (4, 4, 9), (5, 1, 5), (2, 16, 20)):
            with r.input(f"{num_blocks} blocks of {size}, one sequence of {many(tokens, 'token')}"):
                pool = Pool(r, cls, num_blocks, size)
                pool.write("a", tokens)
                pool.holds("a", -(-tokens // size))
    with require(FORKS) as r:
        for tokens in (4, 6, 8):
            with r.input(f"8 blocks of 4, a sequence of {tokens} tokens, forked twice"):
                pool = Pool(r, cls, 8, 4)
                pool.write("a", tokens)
                before = pool.available()
                pool.fork("a", "b")
                pool.fork("a", "c")
                r.that(
                    pool.available() == before,
                    what=f"{before} blocks were free before the forks, {pool.available()} after",
                    why="all three sequences hold the same tokens: one copy is enough",
                    try_="a fork is a new list of the same numbers, and a count more for each",
                )
    with require(OWN) as r:
        for tokens in (5, 6, 8):
            with r.input(f"12 blocks of 4, {tokens} tokens, forked; both go on"):
                pool = Pool(r, cls, 12, 4)
                pool.write("a", tokens)
                pool.fork("a", "b")
                pool.write("a", 5)
                pool.write("b", 5)
        with r.input("4 blocks of 4, 4 tokens, forked; the fork ends, then others come and go"):
            pool = Pool(r, cls, 4, 4)
            pool.write("a", 4)
            pool.fork("a", "b")
            pool.free("b")
            for name, tokens in (("c", 4), ("d", 4), ("e", 12)):
                pool.write(name, tokens)
                pool.free(name)
    with require(COPIES) as r:
        for tokens, copies in ((6, 1), (8, 0), (3, 1)):
            with r.input(f"12 blocks of 4, {tokens} tokens, forked; both write one token"):
                pool = Pool(r, cls, 12, 4)
                pool.write("a", tokens)
                pool.fork("a", "b")
                pool.write("b", 1)
                pool.write("a", 1)
                pool.copied(copies)
        with r.input("12 blocks of 4, 6 tokens, forked; the fork ends, then one token is written"):
            pool = Pool(r, cls, 12, 4)
            pool.write("a", 6)
            pool.fork("a", "b")
            pool.free("b")
            pool.write("a", 1)
            pool.copied(0)
    with require(LEAKS) as r:
        for seed in range(12):
            with r.input(f"40 blocks of 3, and random appends, forks and ends (seed {seed})"):
                _at_random(Pool(r, cls, 40, 3), seed)
    with require(FULL) as r:
        with r.input("2 blocks of 4, one sequence; the 9th token"):
            pool = Pool(r, cls, 2, 4)
            pool.write("a", 8)
            pool.refused("a")
        with r.input("2 blocks of 4, 6 tokens, forked; the first new token"):
            pool = Pool(r, cls, 2, 4)
            pool.write("a", 6)
            pool.fork("a", "b")
            pool.refused("b")


class Pool:
    """The learner's blocks, and a memory beside them that shows what each slot holds."""

    def __init__(self, r: Any, cls: Any, num_blocks: int, size: int):
        self.r, self.size, self.num_blocks = r, size, num_blocks
        self.mine = cls(num_blocks, size)
        self.slots = np.full((num_blocks, size), -1)
        self.tables: dict[str, list[int]] = {}
        self.texts: dict[str, list[int]] = {}
        self.copies: list[tuple[int, int]] = []
        self.next_token = 0
        self.seen: list[dict[str, list[int]]] = []  # the tables after each operation, to be drawn

    def write(self, name: str, tokens: int) -> None:
        """Append so many new tokens to a sequence, and see that all sequences read their own."""
        table = self.tables.setdefault(name, [])
        text = self.texts.setdefault(name, [])
        for _ in range(tokens):
            copy = self.mine.append(table, len(text))
            if copy is not None:
                self._copy(copy)
            self._put(name, table, text)
        self._look()

    def _copy(self, copy: Any) -> None:
        pair = isinstance(copy, tuple) and len(copy) == 2
        self.r.that(
            pair and all(self._is_block(b) for b in copy),
            what=f"append returned {copy!r}",
            why="it says which block must be copied first, and to where",
            try_="return (old, new), or None where nothing is to be copied",
            slip=not pair,
        )
        self.slots[copy[1]] = self.slots[copy[0]]
        self.copies.append(tuple(copy))

    def _put(self, name: str, table: list[int], text: list[int]) -> None:
        place, offset = divmod(len(text), self.size)
        self.r.that(
            len(table) == place + 1,
            what=f"{many(len(text), 'token')}, one more to come, and a table of "
            f"{many(len(table), 'block')} of {self.size}",
            why="the next token has no slot"
            if len(table) <= place
            else "a block that nothing is written into is wasted",
            try_="a new block belongs into the table when the tokens fill all its blocks",
        )
        block = table[place]
        self.r.that(
            self._is_block(block),
            what=f"the table holds {block!r}",
            why=f"the blocks of this pool are 0 to {self.num_blocks - 1}",
            try_="print the table after each append",
        )
        self.slots[block, offset] = self.next_token
        text.append(self.next_token)
        self.next_token += 1

    def _is_block(self, block: Any) -> bool:
        return isinstance(block, int | np.integer) and 0 <= block < self.num_blocks

    def fork(self, parent: str, child: str) -> None:
        table = self.mine.fork(self.tables[parent])
        self.r.that(
            isinstance(table, list) and table == self.tables[parent],
            what=f"fork returned {table!r} for the table {self.tables[parent]}",
            why="the fork reads the same blocks, until one of the two writes",
            try_="return list(table)",
            slip=not isinstance(table, list),
        )
        self.r.that(
            table is not self.tables[parent],
            what="fork returned the table itself, not a new one",
            why="the two sequences will part: what is put into one list would stand in the other",
            try_="return list(table)",
        )
        self.tables[child], self.texts[child] = table, list(self.texts[parent])
        self._look()

    def free(self, name: str) -> None:
        table = self.tables.pop(name)
        self.mine.free(table)
        self.r.that(
            table == [],
            what=f"after free, the table of the sequence that ended is {table!r}",
            why="whoever still holds it would read blocks that belong to others by then",
            try_="table.clear() at the end of free",
        )
        del self.texts[name]
        self._look()

    def _look(self) -> None:
        """Every sequence reads what it wrote, and the count of free blocks is true."""
        for name, text in self.texts.items():
            table = self.tables[name]
            got = [int(self.slots[table[t // self.size], t % self.size]) for t in range(len(text))]
            at = next((t for t, (a, b) in enumerate(zip(got, text, strict=True)) if a != b), None)
            self.r.that(
                at is None,
                what=f"sequence {name} finds another one's token at its position {at}",
                why="a block that two sequences name was written into by one of them: it was not "
                "copied, or it was given away while it was still named",
                try_="before a write: is the last block's count above 1? Before freeing: is it 0?",
            )
        self.seen.append({name: list(table) for name, table in self.tables.items()})

    def available(self) -> int:
        return self.mine.available

    def holds(self, name: str, count: int) -> None:
        found = len(self.tables[name])
        self.r.that(
            found == count and self.available() == self.num_blocks - count,
            what=f"{found} blocks in the table, and {self.available()} of {self.num_blocks} free",
            why=f"{len(self.texts[name])} tokens fill {count} blocks of {self.size}",
            try_="print the table and self.available after each append",
        )

    def copied(self, count: int) -> None:
        found = len(self.copies)
        self.r.that(
            found == count,
            what=f"{found} blocks were copied, expected {count}",
            why="a copy costs a block, and the time to copy it: full blocks are not written again, "
            "and who is alone with a block may write into it",
            try_="copy if the last block has room left and its count is above 1",
        )

    def refused(self, name: str) -> None:
        before = list(self.tables[name]), self.available()
        try:
            got = self.mine.append(self.tables[name], len(self.texts[name]))
        except MemoryError:
            after = list(self.tables[name]), self.available()
            self.r.that(
                before == after,
                what=f"the table was {before[0]} with {before[1]} free, and is {after[0]} with "
                f"{after[1]} free",
                why="the scheduler lets another sequence give its blocks back, and asks again",
                try_="raise before anything is changed",
            )
            return
        self.r.that(
            False,
            what=f"append returned {got!r} though no block is free",
            why="what is taken twice is written by two",
            try_="raise MemoryError('no block is free')",
        )

    def whole(self) -> None:
        """All that is named is used, all else is free."""
        used = len({block for table in self.tables.values() for block in table})
        self.r.that(
            self.available() == self.num_blocks - used,
            what=f"{used} of {self.num_blocks} blocks are named by a table, and "
            f"{self.available()} are free",
            why="a block is lost for good"
            if self.available() < self.num_blocks - used
            else "a block that somebody still reads counts as free",
            try_="free a block when its count comes to 0: after free, and after a copy",
        )


def _at_random(pool: Pool, seed: int) -> None:
    chance = random.Random(seed)
    for step in range(60):
        names = sorted(pool.tables)
        what = chance.choice(["write", "write", "fork", "free"])
        room = pool.num_blocks - len({b for t in pool.tables.values() for b in t})
        if not names or (what == "write" and len(names) < 4):
            pool.write(f"s{step}", chance.randint(1, 5))
        elif what == "write" and room > 4:
            pool.write(chance.choice(names), chance.randint(1, 4))
        elif what == "fork" and len(names) < 6 and room > 4:
            pool.fork(chance.choice(names), f"s{step}")
        elif what == "free" or room <= 4:
            pool.free(chance.choice(names))
        pool.whole()
    for name in sorted(pool.tables):
        pool.free(name)
    pool.whole()


class _Plain:
    """Stands in for a requirement where nothing is graded: `show` draws even what is wrong."""

    def that(
        self, condition: Any, what: str, why: str = "", try_: str = "", *, slip: bool = False
    ) -> None:
        if not condition:
            raise CourseError(what, why, try_)


@blocks.show
def _show_blocks(cls: Any) -> views.Picture:
    pool = Pool(_Plain(), cls, 8, 4)
    for name, tokens in (("a", 6), ("b", 3)):
        pool.write(name, tokens)
    pool.fork("a", "c")
    for name, tokens in (("c", 1), ("a", 3), ("b", 4)):
        pool.write(name, tokens)
    pool.free("a")
    pool.write("c", 4)
    pool.free("b")
    return views.pool_over_time(pool.seen, 8, pool.copies)
