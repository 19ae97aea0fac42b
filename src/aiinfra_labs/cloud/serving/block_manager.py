"""Who has which block of the KV cache: sharing, copy-on-write, prefix caching. Unit 4.2.

The cache is a pool of blocks of `block_size` tokens each, like an operating system's pages (Kwon et
al., arXiv:2309.06180). This module deals in numbers of blocks alone; the tensors are `attention`'s.

A block counts the tables that name it. At 0 it goes to the end of the free queue, and keeps its
content and its hash: until it is taken from the queue's front for something else, a sequence that
begins with the same tokens takes it back. A full block is never written again, so that it can be
shared; one that is not full and is shared is copied before it is written.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Sequence as Row

from .errors import ServingError
from .sequence import Sequence


class BlockManager:
    """Blocks 0 to num_blocks - 1, and the sequences' tables of them."""

    def __init__(self, num_blocks: int, block_size: int = 16, prefix_caching: bool = True):
        if num_blocks < 1 or block_size < 1:
            raise ServingError(
                f"{num_blocks} blocks of {block_size} tokens",
                "the keys and values of every token need a place",
                "1 or more of each",
            )
        self.num_blocks, self.block_size = num_blocks, block_size
        self.prefix_caching = prefix_caching
        self.references = [0] * num_blocks
        self.hashes: list[bytes | None] = [None] * num_blocks
        self.by_hash: dict[bytes, int] = {}  # content -> the block that holds it
        self.free_blocks: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def used(self) -> int:
        """Blocks that some table names."""
        return self.num_blocks - len(self.free_blocks)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens, the last one perhaps in part."""
        return -(-tokens // self.block_size)

    # --- a sequence's way through the cache -------------------------------------------------------

    def match_prefix(self, sequence: Sequence) -> int:
        """Blocks of the cache that hold the beginning of `sequence`: how many. Takes none yet.

        The last token is always left to be computed, since its logits are needed.
        """
        if not self.prefix_caching:
            return 0
        most = (len(sequence.token_ids) - 1) // self.block_size
        for found, name in enumerate(self._hashes(sequence, most)):
            if name not in self.by_hash:
                return found
        return most

    def take_prefix(self, sequence: Sequence, count: int) -> None:
        """Begin the table of a sequence with its first `count` blocks, found by `match_prefix`."""
        for name in sequence.block_hashes[:count]:
            block = self.by_hash[name]
            if self.references[block] == 0:
                del self.free_blocks[block]  # back from the queue, wherever it stood
            self.references[block] += 1
            sequence.block_table.append(block)
        sequence.computed = sequence.cached = count * self.block_size

    def needed(self, sequence: Sequence, tokens: int) -> int:
        """Free blocks that `grow` would take."""
        more = self.blocks_for(tokens) - len(sequence.block_table)
        return max(0, more) + (self._shared_tail(sequence) is not None)

    def needed_at_first(self, sequence: Sequence, found: int, tokens: int) -> int:
        """The same for a sequence without blocks, `found` of whose blocks are in the cache."""
        idle = sum(self.references[self.by_hash[h]] == 0 for h in sequence.block_hashes[:found])
        return self.blocks_for(tokens) - found + idle

    def grow(self, sequence: Sequence, tokens: int) -> tuple[int, int] | None:
        """Give `sequence` room for `tokens` tokens. The caller has seen that `needed` are free.

        Returns (from, to) where a block must be copied before anything is written, else None.
        """
        copy = self._own_tail(sequence)
        for _ in range(self.blocks_for(tokens) - len(sequence.block_table)):
            sequence.block_table.append(self._take())
        return copy

    def register(self, sequence: Sequence, tokens: int) -> None:
        """Let others find the blocks that the sequence's first `tokens` known tokens fill."""
        if not self.prefix_caching:
            return
        full = tokens // self.block_size
        names = self._hashes(sequence, full)
        for place in range(full - 1, -1, -1):
            block = sequence.block_table[place]
            if self.hashes[block] is not None:
                break  # it and all before it are registered
            if names[place] not in self.by_hash:  # else another block has that content
                self.hashes[block] = names[place]
                self.by_hash[names[place]] = block

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Give `child` all blocks of `parent`: nothing is copied until one of them writes."""
        child.block_table = list(parent.block_table)
        child.block_hashes = list(parent.block_hashes)
        child.computed, child.draft_computed = parent.computed, parent.draft_computed
        for block in child.block_table:
            self.references[block] += 1

    def shrink(self, sequence: Sequence, tokens: int) -> None:
        """Give back the blocks behind the first `tokens` tokens: room for drafts that failed."""
        keep = self.blocks_for(tokens)
        while len(sequence.block_table) > keep:
            self._release(sequence.block_table.pop())

    def free(self, sequence: Sequence) -> None:
        """Give back all blocks, the last one first: of what is cached, the tail is lost first."""
        self.shrink(sequence, 0)
        sequence.computed = sequence.draft_computed = 0

    def forget(self) -> None:
        """Let no block be found again: for weights that changed, or a step that broke off."""
        self.by_hash.clear()
        self.hashes = [None] * self.num_blocks

    # --- blocks -----------------------------------------------------------------------------------

    def _take(self) -> int:
        """The block that has been free for longest; its old content can no longer be found."""
        block, _ = self.free_blocks.popitem(last=False)
        if (name := self.hashes[block]) is not None:
            del self.by_hash[name]
            self.hashes[block] = None
        self.references[block] = 1
        return block

    def _release(self, block: int) -> None:
        self.references[block] -= 1
        if self.references[block] == 0:
            self.free_blocks[block] = None

    def _own_tail(self, sequence: Sequence) -> tuple[int, int] | None:
        """Copy-on-write: (from, to) if the next token goes into a block that others read."""
        tail = self._shared_tail(sequence)
        if tail is None:
            return None
        old, new = sequence.block_table[tail], self._take()
        sequence.block_table[tail] = new
        self._release(old)
        return old, new

    def _shared_tail(self, sequence: Sequence) -> int | None:
        """The place of the block that the next token goes into, if others read that block."""
        place, offset = divmod(sequence.computed, self.block_size)
        if not offset or place >= len(sequence.block_table):
            return None
        return place if self.references[sequence.block_table[place]] > 1 else None

    def _hashes(self, sequence: Sequence, count: int) -> list[bytes]:
        """Names of the first `count` blocks: each depends on all tokens up to its end."""
        names, size = sequence.block_hashes, self.block_size
        for i in range(len(names), count):
            parent = names[-1] if names else sequence.request.cache_key.encode()
            names.append(block_hash(parent, sequence.token_ids[i * size : (i + 1) * size]))
        return names[:count]

    def check(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError unless every block is where the tables and the queue say."""
        named = [0] * self.num_blocks
        for sequence in sequences:
            for block in sequence.block_table:
                named[block] += 1
        assert named == self.references, "references differ from the tables"
        free = {block for block, count in enumerate(named) if not count}
        assert free == set(self.free_blocks), "a block is lost, or free and used"
        assert self.by_hash == {h: b for b, h in enumerate(self.hashes) if h is not None}


def block_hash(parent: bytes, tokens: Row[int]) -> bytes:
    """The name of a block: of the name of the one before it, and its own tokens (vLLM's rule).

    SHA-256, since a collision would answer one caller with another one's context.
    """
    return hashlib.sha256(parent + b"|" + array("q", tokens).tobytes()).digest()
