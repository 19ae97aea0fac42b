"""KV memory in one piece for each request: what servers did before paging. Unit 4.2.

Keys and values of a request lie one behind the other, so room for all of them is set aside when it
is admitted. How many there will be is not known: `longest`, `power_of_two` and `oracle` are the
three guesses that Kwon et al. compare with (arXiv:2309.06180, section 6.1). Where a piece lies, an
allocator says: `Buddies`, as there, or `FirstFit`.

A piece is a row of neighbouring blocks here, so that the same engine serves from either memory:
`EngineConfig(blocks=partial(ContiguousManager, reserve=oracle))`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .block_manager import BlockManager
from .errors import ServingError
from .sequence import Sequence

Reserve = Callable[[Sequence], int]  # tokens to set aside for a sequence


def kept_tokens(sequence: Sequence) -> int:
    """Tokens of the whole sequence whose keys and values are kept: the last is never read."""
    return len(sequence.request.prompt) + sequence.request.max_new_tokens - 1


def longest(context: int) -> Reserve:
    """For every request as much as the model can read: Orca (Max) of the paper."""
    return lambda sequence: context


def power_of_two(sequence: Sequence) -> int:
    """The prompt, and the next power of two of the answer: a guess less than twice too large."""
    answer = sequence.request.max_new_tokens
    return len(sequence.request.prompt) + (1 << (answer - 1).bit_length())


def oracle(sequence: Sequence) -> int:
    """Exactly what the sequence will need in the end. Nobody knows it: the bound of this kind."""
    return kept_tokens(sequence)


class Allocator(Protocol):
    """Pieces of a row of `size` units."""

    largest: int  # a piece that an empty row has room for

    def take(self, length: int) -> int | None:
        """Where a free piece of `length` units begins, now taken; None if there is none."""
        ...

    def give(self, start: int) -> None:
        """Free the piece that begins at `start`."""
        ...


class Buddies(Allocator):
    """Pieces of 1, 2, 4, 8, ... units, halved as needed and joined again.

    The buddy system: Knuth (TAOCP 1, section 2.5) has its first use from H. Markowitz, 1963, and
    its first description is K. Knowlton's ("A fast storage allocator", CACM 8(10), 1965).

    A piece of 2^k lies at a multiple of 2^k; its buddy differs from it in that one bit. A row whose
    size is no power of two is cut into those that it is a sum of, the largest first.
    """

    def __init__(self, size: int):
        self.free: list[set[int]] = [set() for _ in range(size.bit_length())]  # by k
        self.taken: dict[int, int] = {}  # start: k
        self.largest = 1 << (size.bit_length() - 1)
        start = 0
        for k in reversed(range(size.bit_length())):
            if size >> k & 1:
                self.free[k].add(start)
                start += 1 << k

    def take(self, length: int) -> int | None:
        wanted = (length - 1).bit_length()
        k = next((k for k in range(wanted, len(self.free)) if self.free[k]), None)
        if k is None:
            return None
        start = min(self.free[k])
        self.free[k].remove(start)
        while k > wanted:  # keep the first half, free the second
            k -= 1
            self.free[k].add(start + (1 << k))
        self.taken[start] = k
        return start

    def give(self, start: int) -> None:
        k = self.taken.pop(start)
        while (buddy := start ^ (1 << k)) in self.free[k]:
            self.free[k].remove(buddy)
            start, k = min(start, buddy), k + 1
        self.free[k].add(start)


class FirstFit(Allocator):
    """Pieces of any length, each at the first gap that is long enough."""

    def __init__(self, size: int):
        self.largest = size
        self.gaps: list[tuple[int, int]] = [(0, size)]  # (start, end), ascending
        self.taken: dict[int, int] = {}  # start: end

    def take(self, length: int) -> int | None:
        for place, (start, end) in enumerate(self.gaps):
            if end - start >= length:
                self.gaps[place : place + 1] = (
                    [(start + length, end)] if end - start > length else []
                )
                self.taken[start] = start + length
                return start
        return None

    def give(self, start: int) -> None:
        joined: list[tuple[int, int]] = []
        for gap in sorted([*self.gaps, (start, self.taken.pop(start))]):
            if joined and joined[-1][1] == gap[0]:
                joined[-1] = (joined[-1][0], gap[1])
            else:
                joined.append(gap)
        self.gaps = joined


class ContiguousManager(BlockManager):
    """A `BlockManager` whose tables are rows of neighbouring blocks, taken whole at admission.

    Nothing grows and nothing is shared: no prefix is found, and a fork is refused.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 16,
        prefix_caching: bool = False,
        *,
        reserve: Reserve,
        allocator: Callable[[int], Allocator] = Buddies,
    ):
        super().__init__(num_blocks, block_size, prefix_caching=False)
        self.reserve, self.allocator = reserve, allocator(num_blocks)

    def needed_at_first(self, sequence: Sequence, found: int, tokens: int) -> int:
        """Blocks for the whole reservation; more than there are, if no gap is long enough."""
        length = self.blocks_for(self.reserve(sequence))
        if length > self.allocator.largest:
            raise ServingError(
                f"a request reserves {length} blocks in one piece, of {self.num_blocks} in all",
                f"the longest piece that the empty memory has is {self.allocator.largest} blocks",
                "a shorter reservation, or more blocks",
            )
        start = self.allocator.take(length)
        if start is None:
            return self.num_blocks + 1
        self.allocator.give(start)  # it was a question only
        return 0  # what is reserved is there, and nothing is asked for later

    def grow(self, sequence: Sequence, tokens: int) -> None:
        if sequence.block_table:
            return
        length = self.blocks_for(self.reserve(sequence))
        start = self.allocator.take(length)
        assert start is not None, "needed_at_first was asked before"
        sequence.block_table = list(range(start, start + length))
        for block in sequence.block_table:
            del self.free_blocks[block]
            self.references[block] = 1

    def free(self, sequence: Sequence) -> None:
        if sequence.block_table:
            self.allocator.give(sequence.block_table[0])
        super().free(sequence)

    def shrink(self, sequence: Sequence, tokens: int) -> None:
        if tokens == 0:  # the whole piece; a part of it cannot be given back
            super().shrink(sequence, 0)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        raise ServingError(
            "several sequences of one request, in contiguous memory",
            "a piece belongs to one sequence; two cannot read the same one and go on differently",
            "n = 1 and no beams, or the BlockManager, which shares blocks",
        )
