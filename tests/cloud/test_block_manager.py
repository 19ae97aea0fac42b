"""The block manager against a memory that shows what each slot holds, and against a plain model."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.cloud.serving.block_manager import BlockManager, block_hash
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.kv_memory import waiting
from aiinfra_labs.cloud.serving.sequence import Sequence
from aiinfra_labs.cloud.serving.workloads import RequestShape


def sequence_of(tokens, key="", arrival=0):
    found = waiting(RequestShape(0, list(tokens), 8, 0), arrival)
    found.request.cache_key = key
    return found


def admit(pool, sequence):
    """What the scheduler does for a whole prompt; returns how many blocks were found."""
    found = pool.match_prefix(sequence)
    pool.take_prefix(sequence, found)
    pool.grow(sequence, len(sequence.token_ids))
    pool.register(sequence, len(sequence.token_ids))
    sequence.computed = len(sequence.token_ids)
    return found


class Kept:
    """A pool, and beside it what lies in each slot. Each operation writes what a model would."""

    def __init__(self, num_blocks, size):
        self.pool, self.slots, self.live = BlockManager(num_blocks, size), {}, []

    def admit(self, tokens, key):
        sequence = sequence_of(tokens, key)
        found = self.pool.match_prefix(sequence)
        if self.pool.needed_at_first(sequence, found, len(tokens)) > len(self.pool.free_blocks):
            return
        admit(self.pool, sequence)
        self.write(sequence, sequence.cached)
        self.live.append(sequence)

    def append(self, sequence, token):
        end = len(sequence.token_ids) + 1
        if self.pool.needed(sequence, end) > len(self.pool.free_blocks):
            return
        sequence.token_ids.append(token)
        if copy := self.pool.grow(sequence, end):
            for offset in range(self.pool.block_size):
                self.slots[copy[1], offset] = self.slots.get((copy[0], offset))
        self.pool.register(sequence, end)
        self.write(sequence, end - 1)
        sequence.computed = end

    def write(self, sequence, start):
        for place in range(start, len(sequence.token_ids)):
            block, offset = divmod(place, self.pool.block_size)
            slot = sequence.block_table[block], offset
            self.slots[slot] = (sequence.request.cache_key, tuple(sequence.token_ids[: place + 1]))

    def fork(self, sequence):
        child = Sequence(sequence.request, 1, list(sequence.token_ids))
        self.pool.fork(sequence, child)
        self.live.append(child)

    def check(self):
        self.pool.check(self.live)
        for sequence in self.live:
            assert len(sequence.block_table) == self.pool.blocks_for(len(sequence.token_ids))
            for place in range(len(sequence.token_ids)):
                block, offset = divmod(place, self.pool.block_size)
                here = self.slots[sequence.block_table[block], offset]
                text = tuple(sequence.token_ids[: place + 1])
                assert here == (sequence.request.cache_key, text)


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("admit"),
            st.lists(st.integers(0, 2), min_size=1, max_size=14),
            st.sampled_from(["", "adapter"]),
        ),
        st.tuples(st.just("append"), st.integers(0, 9), st.integers(0, 2)),
        st.tuples(st.just("fork"), st.integers(0, 9)),
        st.tuples(st.just("free"), st.integers(0, 9)),
    ),
    max_size=40,
)


@given(operations, st.integers(3, 14), st.integers(1, 4))
@settings(max_examples=250, deadline=None)
def test_every_sequence_reads_its_own_text_and_no_block_is_lost(steps, num_blocks, size):
    kept = Kept(num_blocks, size)
    for step in steps:
        if step[0] == "admit":
            kept.admit(*step[1:])
        elif kept.live:
            sequence = kept.live[step[1] % len(kept.live)]
            if step[0] == "append":
                kept.append(sequence, step[2])
            elif step[0] == "fork":
                kept.fork(sequence)
            else:
                kept.live.remove(sequence)
                kept.pool.free(sequence)
        kept.check()
    for sequence in kept.live:
        kept.pool.free(sequence)
    assert kept.pool.used == 0 and len(kept.pool.free_blocks) == num_blocks


@given(st.lists(st.integers(0, 3), max_size=24), st.lists(st.integers(0, 3), max_size=24))
def test_what_is_found_is_the_longest_common_prefix_in_whole_blocks(one, other):
    pool = BlockManager(20, 4)
    admit(pool, sequence_of([*one, 9]))
    alike = next(
        (i for i, (a, b) in enumerate(itertools.zip_longest(one, other)) if a != b), len(one)
    )
    again = sequence_of([*other, 8])
    assert pool.match_prefix(again) == alike // 4


def test_the_last_token_is_always_computed():
    pool = BlockManager(8, 4)
    admit(pool, sequence_of(range(8)))
    again = sequence_of(range(8))
    assert admit(pool, again) == 1 and again.cached == 4


def test_a_thousand_requests_store_their_prefix_once():
    pool = BlockManager(2_100, 16)
    sequences = [sequence_of([*range(336), 400 + i], arrival=i) for i in range(1000)]
    found = [admit(pool, sequence) for sequence in sequences]
    assert found == [0] + [21] * 999
    prefix = {tuple(sequence.block_table[:21]) for sequence in sequences}
    assert len(prefix) == 1 and {pool.references[b] for b in prefix.pop()} == {1000}
    assert pool.used == 21 + 1000
    pool.check(sequences)


def test_of_a_sequence_the_tail_is_lost_first_and_of_sequences_the_oldest():
    left = []
    for taken in range(9):
        pool = BlockManager(8, 4)
        old, young = sequence_of(range(16)), sequence_of(range(50, 66))
        for sequence in (old, young):
            admit(pool, sequence)
        pool.free(old)
        pool.free(young)
        pool.grow(sequence_of(range(90, 126)), 4 * taken)
        left.append(tuple(pool.match_prefix(sequence_of([*s.token_ids, 7])) for s in (old, young)))
    expected = [(4, 4), (3, 4), (2, 4), (1, 4), (0, 4), (0, 3), (0, 2), (0, 1), (0, 0)]
    assert left == expected


def test_a_hit_is_saved_from_eviction():
    pool = BlockManager(4, 4)
    first = sequence_of(range(8))
    admit(pool, first)
    pool.free(first)
    again = sequence_of([*range(8), 1])
    assert admit(pool, again) == 2
    pool.grow(sequence_of(range(90, 94)), 4)
    with pytest.raises(KeyError):
        pool.grow(sequence_of(range(80, 84)), 4)  # none is free: the caller is to ask `needed`
    assert pool.match_prefix(sequence_of([*range(8), 2])) == 2


def test_copy_on_write_copies_once_less_than_there_are_writers():
    for tokens, copies in ((6, 2), (8, 0)):
        pool = BlockManager(12, 4)
        one = sequence_of(range(tokens))
        admit(pool, one)
        family = [one, *(Sequence(one.request, i, list(one.token_ids)) for i in (1, 2))]
        for child in family[1:]:
            pool.fork(one, child)
        assert pool.used == 2
        made = [pool.grow(sequence, tokens + 1) for sequence in family]
        assert sum(copy is not None for copy in made) == copies
        assert len({sequence.block_table[-1] for sequence in family}) == 3
        pool.check(family)


def test_a_name_is_of_the_text_up_to_the_blocks_end():
    assert block_hash(b"", [1, 2]) == block_hash(b"", (1, 2)) != block_hash(b"", [2, 1])
    assert block_hash(b"a", [1]) != block_hash(b"b", [1])
    assert block_hash(b"", [1, 2]) != block_hash(b"", [12])


def test_forgotten_blocks_are_not_found():
    pool = BlockManager(8, 4)
    admit(pool, sequence_of(range(8)))
    pool.forget()
    assert pool.match_prefix(sequence_of([*range(8), 1])) == 0


@pytest.mark.parametrize(("blocks", "size"), [(0, 16), (4, 0), (-1, 4)])
def test_no_pool_without_blocks(blocks, size):
    with pytest.raises(ServingError, match="1 or more"):
        BlockManager(blocks, size)
