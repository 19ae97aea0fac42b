"""The exercises of unit 4.3 on blocks: who gives way when they run out, and how they change hands.

Both check the books as well: no block is lost, taken twice, or overwritten.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiinfra_labs.course import exercise

from . import continuous_batching_views as views
from .continuous_batching import SKILL

# --- 4.3.c ---------------------------------------------------------------------------------------

ENOUGH = "preempts nobody while there are blocks"
LAST = "lets the last come give way"
MORE = "goes on until the blocks suffice, and no further"
ITSELF = "lets a sequence give way itself, if none came later"
BOOKS = "keeps all that are left within the pool"

Held = tuple[str, int, int]  # name, blocks that it holds, blocks that it must have for the step


@exercise(
    "4.3.c",
    title="Who gives way",
    points=8,
    central=BOOKS,
    skill=SKILL,
    arguments=("running", "free"),
    hints=(
        (ENOUGH, "It needs `wanted - held` more blocks. It has them while that is at most `free`."),
        (
            LAST,
            "`running` is in the order of arrival: the one that came last is `running[-1]`. It has "
            "the least done, and so the least to compute again.",
        ),
        (MORE, "`while wanted - held > free:` preempt one more, and add what it held to `free`."),
        (
            ITSELF,
            "If it is the last one itself, it is preempted, and there is nobody behind it to look "
            "at.",
        ),
        (BOOKS, "Subtract what a sequence takes before you look at the next."),
    ),
)
def make_room(function: Any, require: Any) -> None:
    """(names that stay, in order; names that are preempted, the first one first)."""
    with require(ENOUGH) as r:
        for running, free in (
            ([("a", 2, 3), ("b", 1, 1)], 1),
            ([("a", 2, 2), ("b", 4, 4)], 0),
            ([("a", 1, 2), ("b", 1, 2), ("c", 3, 4)], 3),
            ([], 5),
        ):
            _gives_way(r, function, running, free)
    with require(LAST) as r:
        for running, free in (
            ([("a", 4, 5), ("b", 6, 6), ("c", 2, 2)], 0),
            ([("a", 1, 1), ("b", 3, 4), ("c", 1, 1), ("d", 1, 1)], 0),
        ):
            _gives_way(r, function, running, free)
    with require(MORE) as r:
        for running, free in (
            ([("a", 4, 8), ("b", 5, 5), ("c", 2, 2), ("d", 1, 1)], 1),
            ([("a", 2, 3), ("b", 2, 3), ("c", 2, 3), ("d", 2, 3)], 0),
        ):
            _gives_way(r, function, running, free)
    with require(ITSELF) as r:
        for running, free in (
            ([("a", 3, 3), ("b", 2, 3)], 0),
            ([("a", 3, 4), ("b", 2, 4)], 1),
        ):
            _gives_way(r, function, running, free)
    with require(BOOKS) as r:
        rng = random.Random(4)
        for _ in range(200):
            held = [rng.randint(1, 6) for _ in range(rng.randint(1, 7))]
            free = rng.randint(0, 3)
            wanted = [min(h + rng.choice((0, 0, 1, 1, 3)), sum(held) + free) for h in held]
            rows = [(f"s{i}", h, w) for i, (h, w) in enumerate(zip(held, wanted, strict=True))]
            _gives_way(r, function, rows, free)


def reference(running: Sequence[Held], free: int) -> tuple[list[str], list[str]]:
    """What `Scheduler._go_on` does."""
    left, kept, preempted = list(running), [], []
    while left:
        name, held, wanted = left[0]
        if wanted - held > free:
            last, its, _ = left.pop()
            preempted.append(last)
            free += its
            continue
        free -= wanted - held
        kept.append(name)
        del left[0]
    return kept, preempted


def _gives_way(r: Any, function: Any, running: list[Held], free: int) -> None:
    with r.input(f"running = {running}, free = {free}"):
        got = function(list(running), free)
        r.that(
            isinstance(got, list | tuple)
            and len(got) == 2
            and all(isinstance(x, list | tuple) for x in got),
            what=f"it returned {got!r}"[:160],
            why="two lists of names are asked for: who stays, and who is preempted",
            try_="return kept, preempted",
            slip=True,
        )
        kept, out = list(got[0]), list(got[1])
        right_kept, right_out = reference(running, free)
        if kept == right_kept and out == right_out:
            return
        r.that(False, *_what_is_wrong(running, free, kept, out, right_out))


def _what_is_wrong(
    running: list[Held], free: int, kept: list[str], out: list[str], right: list[str]
) -> tuple[str, str, str]:
    names = [name for name, *_ in running]
    rows = {name: (held, wanted) for name, held, wanted in running}
    if sorted([*kept, *out]) != sorted(names):
        return (
            f"{kept} stay and {out} are preempted, of {names}",
            "each sequence does one of the two",
            "append every name to one list, once",
        )
    total = free + sum(held for held, _ in rows.values())
    used = sum(rows[name][1] for name in kept)
    if used > total:
        return (
            f"those that stay want {used} blocks, and the pool has {total}",
            "a block that two sequences write holds neither's keys",
            "subtract what each one takes from `free`, before the next one is looked at",
        )
    if len(out) > len(right):
        return (
            f"{out} are preempted, where {right} suffice",
            "all that a preempted sequence has computed is computed again",
            "preempt one, add its blocks to `free`, and look again",
        )
    if len(out) == len(right) and kept != [n for n in names if n in kept]:
        return f"{kept} is not the order of arrival", "the plan keeps it", "append as you go"
    wrong = next((a for a, b in zip(out, right, strict=False) if a != b), None)
    if wrong is not None and out and set(out) != set(right):
        return (
            f"{wrong!r} is preempted, and {right[0]!r} came last",
            "the first come must get on, or two that take turns in giving way never end; the last "
            "come has the least to lose",
            "running[-1] gives way, whoever it is that lacks a block",
        )
    if set(out) == set(right):
        return f"they give way in the order {out}, expected {right}", "the last come first", "pop()"
    return (
        f"{out} are preempted, expected {right}",
        "blocks that a preempted sequence held are free for the one that lacks some, and for all "
        "behind it",
        "follow `free` through the list by hand",
    )


@make_room.show
def _show_make_room(function: Any) -> views.Picture:
    running = [("a", 6, 7), ("b", 4, 5), ("c", 5, 5), ("d", 3, 4), ("e", 2, 2)]
    return views.pool(running, 0, *function(list(running), 0))


# --- 4.3.d ---------------------------------------------------------------------------------------

KEYS = "carries the keys of every computed token"
SPARE = "takes no more blocks than the computed tokens fill"
OTHERS = "touches no other sequence's blocks"
FREED = "gives the first engine's blocks back"
SIZES = "packs them into blocks of another size"


@dataclass
class Pool:
    """One engine's cache: keys of `num_blocks` blocks, and which are free."""

    num_blocks: int
    block_size: int
    keys: np.ndarray = field(init=False)  # float32 [num_blocks, block_size, 4]
    free: list[int] = field(init=False)  # taken from the front

    def __post_init__(self) -> None:
        self.keys = np.full((self.num_blocks, self.block_size, 4), np.nan, np.float32)
        self.free = list(range(self.num_blocks))

    def take(self) -> int:
        """A free block's number, which is free no more."""
        return self.free.pop(0)

    def release(self, block: int) -> None:
        """Give a block back."""
        if block in self.free:
            raise ValueError(
                f"block {block} is given back twice\nWhy: it would be given to two\nTry: once each"
            )
        self.free.append(block)


@dataclass
class Handed:
    """A sequence: token t lies in block `table[t // block_size]` at t % block_size."""

    table: list[int]
    computed: int  # tokens whose keys are in the cache


@exercise(
    "4.3.d",
    title="Hand a sequence over",
    points=8,
    central=SIZES,
    skill=SKILL,
    arguments=("sequence", "source", "target"),
    hints=(
        (
            KEYS,
            "Block numbers are each engine's own. For each block: `new = target.take()`, then "
            "`target.keys[new] = source.keys[old]`.",
        ),
        (
            SPARE,
            "`sequence.table` may be one block longer than the computed tokens fill: the room for "
            "the next one. `-(-computed // block_size)` blocks hold something.",
        ),
        (OTHERS, "Which blocks of the target are free is known to `target.take()` alone."),
        (FREED, "`source.release(block)` for every block of the old table, the spare one, too."),
        (
            SIZES,
            "All keys of the sequence in one row: `source.keys[table].reshape(-1, 4)[:computed]`. "
            "Then cut the row into pieces of `target.block_size`.",
        ),
    ),
)
def hand_over(function: Any, require: Any) -> None:
    """Moves a sequence's keys from the pool `source` to `target`, and gives it its new table."""
    with require(KEYS) as r:
        for computed, spare in ((4, 0), (8, 0), (6, 0), (1, 0)):
            _moves(r, function, computed, spare, (4, 4))
    with require(SPARE) as r:
        for computed, spare in ((4, 1), (8, 1), (16, 2)):
            _moves(r, function, computed, spare, (4, 4))
    with require(OTHERS) as r:
        for computed in (7, 12):
            _moves(r, function, computed, 0, (4, 4), busy=True)
    with require(FREED) as r:
        for computed, spare in ((5, 0), (8, 1)):
            _moves(r, function, computed, spare, (4, 4), busy=True)
    with require(SIZES) as r:
        for computed, sizes in ((8, (4, 2)), (9, (4, 8)), (17, (16, 4)), (13, (2, 5)), (3, (8, 4))):
            _moves(r, function, computed, 0, sizes, busy=True)


def prepared(
    computed: int, spare: int, sizes: tuple[int, int], busy: bool
) -> tuple[Handed, Pool, Pool]:
    """A sequence in a source whose blocks are in disorder, and a target, perhaps with others."""
    rng = np.random.default_rng(computed)
    source, target = Pool(24, sizes[0]), Pool(24, sizes[1])
    source.free = rng.permutation(24).tolist()
    target.free = rng.permutation(24).tolist()
    if busy:
        for pool in (source, target):
            for _ in range(9):
                pool.keys[pool.take()] = rng.standard_normal((pool.block_size, 4))
    table = [source.take() for _ in range(-(-computed // sizes[0]) + spare)]
    sequence = Handed(table, computed)
    for token in range(computed):
        block, offset = divmod(token, sizes[0])
        source.keys[table[block], offset] = rng.standard_normal(4)
    return sequence, source, target


def _moves(
    r: Any, function: Any, computed: int, spare: int, sizes: tuple[int, int], busy: bool = False
) -> None:
    sequence, source, target = prepared(computed, spare, sizes, busy)
    old, free = list(sequence.table), list(target.free)
    source_free = set(source.free)
    before = target.keys.copy()
    expected = source.keys[old].reshape(-1, 4)[:computed].copy()
    label = f"{computed} tokens in blocks of {sizes[0]}"
    label += f", {len(old)} blocks in the table" if spare else ""
    with r.input(f"{label}, to blocks of {sizes[1]}"):
        function(sequence, source, target)
        table = sequence.table
        needed = -(-computed // sizes[1])
        r.that(
            isinstance(table, list) and len(table) >= needed,
            what=f"the new table is {table!r}, and {computed} tokens take {needed} blocks",
            why="without a block a token's keys are lost",
            try_="sequence.table = the list of the blocks that you took",
            slip=not isinstance(table, list),
        )
        others = [b for b in table if b not in free]
        r.that(
            not others,
            what=f"the table names block {others[0] if others else 0}, which was not free in the "
            "target",
            why="block numbers are each engine's own: under the same number there lies another's",
            try_="new = target.take(), for every block",
        )
        in_use = [b for b in range(24) if b not in free]
        changed = [
            b for b in in_use if not np.array_equal(before[b], target.keys[b], equal_nan=True)
        ]
        r.that(
            not changed,
            what=f"block {changed[0] if changed else 0} of the target is overwritten, and another "
            "sequence's",
            why="its keys are gone, and its caller gets nonsense",
            try_="write to blocks that target.take() gave you, and to no others",
        )
        taken = set(free) - set(target.free)
        r.that(
            set(table) == taken and len(set(table)) == len(table),
            what=f"the table names {sorted(set(table))}, and {sorted(taken)} are taken",
            why="a block that is in a table and free is given to the next; one that is taken and "
            "in no table is lost",
            try_="target.take() once for each entry of the table",
        )
        row = target.keys[table].reshape(-1, 4)[:computed]
        wrong = [t for t in range(computed) if not np.array_equal(row[t], expected[t])]
        r.that(
            not wrong,
            what=f"the keys of token {wrong[0] if wrong else 0} are others than before; "
            f"{len(wrong)} of {computed} tokens differ",
            why="decoding goes on from these keys: the answer would change",
            try_="compare source.keys[old] and target.keys[new], block by block",
        )
        r.that(
            len(table) == needed,
            what=f"{len(table)} blocks are taken, where {computed} tokens fill {needed}",
            why="a block with nothing in it is carried, and kept from others",
            try_="-(-sequence.computed // target.block_size)",
        )
        back = set(source.free) - source_free
        r.that(
            back == set(old),
            what=f"{len(back)} of the {len(old)} blocks of the source are given back",
            why="the first engine needs them for the next prompt; each one that is lost makes it "
            "smaller",
            try_="source.release(block) for every block of the old table",
        )


@hand_over.show
def _show_hand_over(function: Any) -> views.Picture:
    sequence, source, target = prepared(14, 1, (4, 4), busy=True)
    old = list(sequence.table)
    function(sequence, source, target)
    return views.handed(old, sequence.table, source.free, target.free)
