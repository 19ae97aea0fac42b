"""Answers to the exercises of unit 4.2: right ones that differ, and common mistakes."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import Counter, OrderedDict, deque

import numpy as np

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 4.2.a paged attention ---------------------------------------------------------------------


@right("4.2.a")
def all_tokens_at_once(query, keys, values, block_table, context):
    size, group = keys.shape[1], len(query) // keys.shape[2]
    tokens = np.arange(context)
    blocks, offsets = np.array(block_table)[tokens // size], tokens % size
    own_keys, own_values = keys[blocks, offsets], values[blocks, offsets]  # [context, K, D]
    out = np.empty_like(query)
    for head in range(len(query)):
        scores = own_keys[:, head // group] @ query[head] / math.sqrt(query.shape[1])
        weights = np.exp(scores - scores.max())
        out[head] = weights @ own_values[:, head // group] / weights.sum()
    return out


@right("4.2.a")
def block_by_block(query, keys, values, block_table, context):
    """The online softmax of unit 3.6: no score is kept."""
    size, kv_heads, width = keys.shape[1:]
    out = np.zeros(query.shape)
    for head, q in enumerate(query.astype(float)):
        kv = head * kv_heads // len(query)
        largest, total, mean = -math.inf, 0.0, np.zeros(width)
        for place in range(-(-context // size)):
            many = min(size, context - place * size)
            k = keys[block_table[place], :many, kv].astype(float)
            v = values[block_table[place], :many, kv].astype(float)
            scores = k @ q / math.sqrt(width)
            new = max(largest, scores.max())
            shrink, weights = math.exp(largest - new), np.exp(scores - new)
            total = total * shrink + weights.sum()
            mean = mean * shrink + weights @ v
            largest = new
        out[head] = mean / total
    return out.astype(np.float32)


def _attention(
    heads=lambda h, heads, kv: h // (heads // kv),
    scale=math.sqrt,
    shift=lambda scores: scores - scores.max(),
    tokens=lambda context, size: context,
    blocks=lambda table, places: np.array(table)[places],
):
    """Attention with one mistake."""

    def answer(query, keys, values, block_table, context):
        size, kv_heads = keys.shape[1:3]
        seen = np.arange(tokens(context, size))
        at = blocks(block_table, seen // size), seen % size
        out = np.empty_like(query)
        for head in range(len(query)):
            kv = heads(head, len(query), kv_heads)
            scores = keys[at][:, kv] @ query[head] / scale(query.shape[1])
            weights = np.exp(shift(scores))
            out[head] = weights @ values[at][:, kv] / weights.sum()
        return out

    return answer


wrong("4.2.a", "the scores are not divided by sqrt(D)")(_attention(scale=lambda d: 1))
wrong("4.2.a", "as if they took turns")(_attention(heads=lambda h, heads, kv: h % kv))
wrong("4.2.a", "exp of more than 88")(_attention(shift=lambda scores: scores))
wrong("4.2.a", "a slot was read that holds no token")(
    _attention(tokens=lambda context, size: -(-context // size) * size)
)
wrong("4.2.a", "all others belong to somebody else")(
    _attention(blocks=lambda table, places: places)  # as if the sequence lay in blocks 0, 1, 2
)


@wrong("4.2.a", "which no weight of 0 takes away")
def masked_afterwards(query, keys, values, block_table, context):
    """Gathers whole blocks, and gives what lies behind the context a weight of 0."""
    size, group = keys.shape[1], len(query) // keys.shape[2]
    used = block_table[: -(-context // size)]
    own_keys = keys[used].reshape(-1, *keys.shape[2:])
    own_values = values[used].reshape(-1, *values.shape[2:])
    behind = np.arange(len(own_keys)) >= context
    out = np.empty_like(query)
    for head in range(len(query)):
        scores = own_keys[:, head // group] @ query[head] / math.sqrt(query.shape[1])
        scores[behind] = -np.inf
        weights = np.exp(scores - scores.max())
        out[head] = weights @ own_values[:, head // group] / weights.sum()
    return out


# --- 4.2.b blocks ------------------------------------------------------------------------------


@right("4.2.b")
class ByCounts:
    def __init__(self, num_blocks, block_size):
        self.size, self.counts = block_size, [0] * num_blocks

    @property
    def available(self):
        return self.counts.count(0)

    def append(self, table, tokens):
        full = tokens == len(table) * self.size
        if not full and self.counts[table[-1]] == 1:
            return None
        if 0 not in self.counts:
            raise MemoryError("no block is free")
        new = self.counts.index(0)
        self.counts[new] = 1
        if full:
            table.append(new)
            return None
        old, table[-1] = table[-1], new
        self.counts[old] -= 1
        return old, new

    def fork(self, table):
        for block in table:
            self.counts[block] += 1
        return list(table)

    def free(self, table):
        for block in table:
            self.counts[block] -= 1
        table.clear()


@right("4.2.b")
class ByFreeList:
    def __init__(self, num_blocks, block_size):
        self.size = block_size
        self.free_blocks = deque(range(num_blocks))
        self.count = Counter()

    @property
    def available(self):
        return len(self.free_blocks)

    def _take(self):
        if not self.free_blocks:
            raise MemoryError
        block = self.free_blocks.popleft()
        self.count[block] = 1
        return block

    def _release(self, block):
        self.count[block] -= 1
        if not self.count[block]:
            self.free_blocks.append(block)

    def append(self, table, tokens):
        if tokens % self.size == 0:
            table.append(self._take())
        elif self.count[table[-1]] > 1:
            new = self._take()
            old, table[-1] = table[-1], new
            self._release(old)
            return old, new
        return None

    def fork(self, table):
        self.count.update(table)
        return table[:]

    def free(self, table):
        while table:
            self._release(table.pop())


@wrong("4.2.b", "a block that nothing is written into is wasted")
class InAdvance(ByFreeList):
    def append(self, table, tokens):
        if tokens % self.size == 0:
            table.append(self._take())
        if tokens % self.size == self.size - 1:
            table.append(self._take())


@wrong("4.2.b", "one copy is enough")
class CopiedAtOnce(ByFreeList):
    def fork(self, table):
        self.taken = [self._take() for _ in table]
        return table[:]


@wrong("4.2.b", "was written into by one of them")
class NeverCopied(ByFreeList):
    def append(self, table, tokens):
        if tokens % self.size == 0:
            table.append(self._take())


@wrong("4.2.b", "copied, expected")
class AlwaysCopied(ByFreeList):
    """Copies for the last holder, too: the count is not looked at, only that there was a fork."""

    forked = False

    def append(self, table, tokens):
        if tokens % self.size and self.forked:
            new = self._take()
            old, table[-1] = table[-1], new
            self._release(old)
            return old, new
        return super().append(table, tokens)

    def fork(self, table):
        self.forked = True
        return super().fork(table)


@wrong("4.2.b", "while it was still named")
class FreedForAll(ByFreeList):
    """The first sequence to end frees what others still read."""

    def _release(self, block):
        if block not in self.free_blocks:
            self.free_blocks.append(block)


@wrong("4.2.b", "a block is lost for good")
class TheOldOneForgotten(ByFreeList):
    def append(self, table, tokens):
        if tokens % self.size and self.count[table[-1]] > 1:
            new = self._take()
            old, table[-1] = table[-1], new
            return old, new  # the count of the old one stays as it was
        return super().append(table, tokens)


@wrong("4.2.b", "what is taken twice is written by two")
class FromAnEmptyPool(ByFreeList):
    def _take(self):
        block = self.free_blocks.popleft() if self.free_blocks else 0
        self.count[block] = 1
        return block


@wrong("4.2.b", "the two sequences will part")
class TheSameList(ByFreeList):
    def fork(self, table):
        self.count.update(table)
        return table


# --- 4.2.c names -------------------------------------------------------------------------------


@right("4.2.c")
def by_sha(tokens, block_size, key):
    parent, found = key.encode(), []
    for i in range(len(tokens) // block_size):
        block = tokens[i * block_size : (i + 1) * block_size]
        parent = hashlib.sha256(parent + str(list(block)).encode()).digest()
        found.append(parent)
    return found


@right("4.2.c")
def one_token_at_a_time(tokens, block_size, key):
    name, found = hash(key), []
    for place, token in enumerate(tokens, 1):
        name = hash((name, token))
        if place % block_size == 0:
            found.append(name)
    return found


@wrong("4.2.c", "let each name depend on the one before it")
def without_the_parent(tokens, block_size, key):
    count = len(tokens) // block_size
    return [hash((key, *tokens[i * block_size : (i + 1) * block_size])) for i in range(count)]


@wrong("4.2.c", "let each name depend on the one before it")
def by_place(tokens, block_size, key):
    """The place of a block says nothing of the text before it."""
    count = len(tokens) // block_size
    return [hash((key, i, *tokens[i * block_size : (i + 1) * block_size])) for i in range(count)]


@wrong("4.2.c", "a block that is not full will still be written")
def the_rest_as_well(tokens, block_size, key):
    parent, found = hash(key), []
    for start in range(0, len(tokens), block_size):
        parent = hash((parent, *tokens[start : start + block_size]))
        found.append(parent)
    return found


@wrong("4.2.c", "another adapter computes other keys")
def without_the_key(tokens, block_size, key):
    return by_sha(tokens, block_size, "")


@wrong("4.2.c", "a name is looked up for every block")
def by_the_text_itself(tokens, block_size, key):
    count = len(tokens) // block_size
    return [(key, *tokens[: (i + 1) * block_size]) for i in range(count)]


@wrong("4.2.c", "grows with the square of the prompt")
def the_whole_prefix_each_time(tokens, block_size, key):
    count = len(tokens) // block_size
    return [hash((key, *tokens[: (i + 1) * block_size])) for i in range(count)]


# --- 4.2.d free blocks -------------------------------------------------------------------------


@right("4.2.d")
class ByOrderedDict:
    def __init__(self, num_blocks):
        self.row = OrderedDict.fromkeys(range(num_blocks))

    def take(self):
        if not self.row:
            raise MemoryError("no block is free")
        return self.row.popitem(last=False)[0]

    def release(self, table):
        for block in reversed(table):
            self.row[block] = None

    def found(self, block):
        del self.row[block]


@right("4.2.d")
class ByTime:
    """A number a block: when it was released."""

    def __init__(self, num_blocks):
        self.since = dict.fromkeys(range(num_blocks), 0)
        self.clock = 0

    def take(self):
        if not self.since:
            raise MemoryError
        block = min(self.since, key=self.since.get)
        self.since.pop(block)
        return block

    def release(self, table):
        for block in table[::-1]:
            self.clock += 1
            self.since[block] = self.clock

    def found(self, block):
        self.since.pop(block)


@wrong("4.2.d", "without its first block, none of a prefix can be found")
class HeadFirst(ByOrderedDict):
    def release(self, table):
        self.row.update(dict.fromkeys(table))


@wrong("4.2.d", "the others were used more recently")
class LastReleasedFirst(ByOrderedDict):
    def take(self):
        if not self.row:
            raise MemoryError
        return self.row.popitem(last=True)[0]


@wrong("4.2.d", "the others were used more recently")
class TheSmallestNumber(ByOrderedDict):
    def take(self):
        if not self.row:
            raise MemoryError
        block = min(self.row)
        del self.row[block]
        return block


@wrong("4.2.d", "a sequence reads it")
class HitsAreIgnored(ByOrderedDict):
    def found(self, block):
        pass


@wrong("4.2.d", "both blocks are in use")
class NoneWhenEmpty(ByOrderedDict):
    def take(self):
        return self.row.popitem(last=False)[0] if self.row else None


# --- 4.2.b and 4.2.c: what only some inputs show ------------------------------------------------


@wrong("4.2.b", "after free, the table of the sequence that ended is")
class LeavesTheTable(ByCounts):
    def free(self, table):
        super().free(list(table))


@wrong("4.2.c", "that is how the second request finds the first one's blocks")
def by_the_length_of_the_text(tokens, block_size, key):
    return by_sha(tokens, block_size, f"{key} {sum(tokens)}")


@wrong("4.2.c", "the texts [1, 23] and [12, 3], blocks of 2")
def digits_side_by_side(tokens, block_size, key):
    parent, found = key, []
    for i in range(len(tokens) // block_size):
        digits = "".join(map(str, tokens[i * block_size : (i + 1) * block_size]))
        parent = hashlib.sha256(f"{parent}/{digits}".encode()).hexdigest()
        found.append(parent)
    return found


@wrong("4.2.c", "the texts [1, 2] and [2, 1], blocks of 2")
def by_sums(tokens, block_size, key):
    name, found = hash(key), []
    for i in range(len(tokens) // block_size):
        name = hash((name, sum(tokens[i * block_size : (i + 1) * block_size])))
        found.append(name)
    return found


@wrong("4.2.c", "the texts [1, 31] and [2, 0], blocks of 2")
def by_a_polynomial(tokens, block_size, key):
    name, found = abs(hash(key)), []
    for place, token in enumerate(tokens, 1):
        name = (name * 31 + token) % 2**61
        if place % block_size == 0:
            found.append(name)
    return found


@wrong("4.2.c", "the texts [3] and [259], blocks of 1")
def by_one_byte_a_token(tokens, block_size, key):
    parent, found = key.encode(), []
    for i in range(len(tokens) // block_size):
        block = bytes(t % 256 for t in tokens[i * block_size : (i + 1) * block_size])
        parent = hashlib.sha256(parent + block).digest()
        found.append(parent)
    return found


@wrong("4.2.c", "names stand for two texts")
def by_32_bits(tokens, block_size, key):
    parent, found = zlib.crc32(key.encode()), []
    for i in range(len(tokens) // block_size):
        block = tokens[i * block_size : (i + 1) * block_size]
        parent = zlib.crc32(f"{parent} {list(block)}".encode())
        found.append(parent)
    return found


@wrong("4.2.c", "with the key 'lora1'")
def the_key_runs_into_the_tokens(tokens, block_size, key):
    text, found = key, []
    for place, token in enumerate(tokens, 1):
        text = f"{text}{token},"
        if place % block_size == 0:
            text = hashlib.sha256(text.encode()).hexdigest()
            found.append(text)
    return found
