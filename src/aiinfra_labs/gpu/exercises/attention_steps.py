"""The exercises 3.6.d and 3.6.e: two parts of an attention merged, keys by a block table. Unit 3.6.

The learner's merge is a device function: the check puts it into a kernel that walks over tiles of
keys. In 3.6.e the pool of blocks is full of NaN but for the tokens that are in it, and the block
table holds -1 past each context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu import emulator as cuda

from . import attention_views as views
from .grading import count, few_sectors, launch, not_written, outside_means, profile
from .reductions_attention import SKILL
from .thread_map import TracedLaunch

# --- 3.6.d -------------------------------------------------------------------------------------

ONE_PASS = "merges two parts into what one pass over both gives"
RESCALES = "rescales whichever part has the smaller maximum, and overflows nowhere"
NOTHING = "lets a part that saw no key count for nothing"
MINUS_INF = np.float32(-math.inf)
PARTS = ("largest", "total", "output")


@exercise(
    "3.6.d",
    title="The inner update of FlashAttention",
    points=4,
    central=RESCALES,
    skill=SKILL,
    arguments=("largest", "total", "output", "tile_largest", "tile_total", "tile_output"),
    kind="kernel",
    hints=(
        (
            ONE_PASS,
            "The new largest is the larger of the two. Each part's sum and output were made with "
            "its own largest: multiply both by exp(its largest - the new one), and add the parts.",
        ),
        (
            RESCALES,
            "Either part may have the smaller maximum: the sum so far, or the tile's. Neither "
            "exponent may be positive.",
        ),
        (
            NOTHING,
            "A part that saw no key has largest = -inf, total = 0, output = 0. If both are so, "
            "-inf - -inf is nan. Ask `if tile_largest == -math.inf:` first: what is then the "
            "result?",
        ),
    ),
)
def merge_parts(merge: Any, require: Any) -> None:
    """(largest, total, output) of two parts of one query's keys, from those of each part."""
    kernel = _in_tiles(merge)
    with require(ONE_PASS) as r:
        scores = np.random.default_rng(0).normal(0, 2, (5, 24))
        for tile in (24, 12, 8, 1):
            _same_attention(r, kernel, scores, tile, "scores of a few units")
    with require(RESCALES) as r:
        rising = np.linspace(-300, 300, 24)[None]
        for name, scores in (
            ("scores that rise from -300 to 300", rising),
            ("scores that fall from 300 to -300", rising[:, ::-1]),
            ("scores about 1,000", 1000 + 3 * np.cos(np.arange(24))[None]),
        ):
            for tile in (12, 4):
                _same_attention(r, kernel, scores, tile, name)
    with require(NOTHING) as r:
        scores = np.random.default_rng(1).normal(0, 2, (3, 24))
        scores[0, :8], scores[1, 8:], scores[2, 4:20] = -np.inf, -np.inf, -np.inf
        for tile in (8, 4):
            _same_attention(r, kernel, scores, tile, "tiles of -inf, as a causal mask leaves them")
        _same_attention(r, kernel, np.full((1, 8), -np.inf), 4, "no key at all")


def _in_tiles(merge: Any) -> Any:
    """A kernel that walks over each query's scores in tiles, and merges them by `merge`."""

    @cuda.jit
    def attention_in_tiles(scores, values, tile, parts):
        """One thread a query. parts: float32 [queries, tiles, 3], what is known after each tile."""
        query = cuda.grid(1)
        if query < scores.shape[0]:
            largest, total, output = MINUS_INF, np.float32(0), np.float32(0)
            for start in range(0, scores.shape[1], tile):
                tile_largest = MINUS_INF
                for key in range(start, start + tile):
                    tile_largest = max(tile_largest, scores[query, key])
                tile_total, tile_output = np.float32(0), np.float32(0)
                for key in range(start, start + tile):
                    if scores[query, key] > MINUS_INF:
                        weight = math.exp(scores[query, key] - tile_largest)
                        tile_total += weight
                        tile_output += weight * values[key]
                largest, total, output = merge(
                    largest, total, output, tile_largest, tile_total, tile_output
                )
                parts[query, start // tile, 0] = largest
                parts[query, start // tile, 1] = total
                parts[query, start // tile, 2] = output

    return attention_in_tiles


def _attention_by_tile(kernel: Any, scores: np.ndarray, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """What a merge and what float64 know after each tile: float32 [queries, tiles, 3]."""
    queries, keys = scores.shape
    x = scores.astype(np.float32)
    values = _values(keys)
    parts = cuda.to_device(np.full((queries, keys // tile, 3), np.nan, np.float32))
    launch(kernel, 1, 32, cuda.to_device(x), cuda.to_device(values), tile, parts)
    expected = np.zeros((queries, keys // tile, 3))
    for after in range(keys // tile):
        seen = x[:, : (after + 1) * tile].astype(np.float64)
        largest = seen.max(axis=1, keepdims=True)
        weights = np.exp(seen - np.where(np.isinf(largest), 0, largest))
        expected[:, after, 0] = largest[:, 0]
        expected[:, after, 1] = weights.sum(axis=1)
        expected[:, after, 2] = weights @ values[: seen.shape[1]]
    return parts.copy_to_host(), expected.astype(np.float32)


def _values(keys: int) -> np.ndarray:
    return np.random.default_rng(keys).uniform(1, 2, keys).astype(np.float32)


def _same_attention(r: Any, kernel: Any, scores: np.ndarray, tile: int, name: str) -> None:
    queries, keys = scores.shape
    where = f"{count(queries, 'query', 'queries')}, {keys} keys in tiles of {tile}"
    with r.input(f"{where}, {name}"):
        got, expected = _attention_by_tile(kernel, scores, tile)
        wrong = ~np.isclose(got, expected, rtol=1e-3, atol=1e-5)
        if not wrong.any():
            return
        after = int(np.argwhere(wrong.any(axis=(0, 2)))[0, 0])
        query = int(np.argwhere(wrong[:, after].any(axis=1))[0, 0])
        part = int(np.argmax(wrong[query, after]))
        before = MINUS_INF if not after else expected[query, after - 1, 0]
        of_tile = np.float32(scores[query, after * tile : (after + 1) * tile].max())
        r.that(
            False,
            what=f"after tile {after} of query {query}, {PARTS[part]}: expected "
            f"{expected[query, after, part]:.5g}, got {got[query, after, part]:.5g}",
            why=_why_not_merged(PARTS[part], got[query, after, part], before, of_tile),
            try_="write down both parts relative to the new largest: by what is each sum, and "
            "each output, multiplied? show draws every tile",
        )


def _why_not_merged(part: str, got: float, before: float, of_tile: float) -> str:
    maxima = f"the largest score so far was {before:.4g}, the tile's is {of_tile:.4g}"
    if np.isnan(got):
        return f"{maxima}; nan comes of -inf - -inf, or of inf x 0"
    if part == "largest":
        return f"{maxima}, and the new largest is the larger of the two"
    if np.isinf(got):
        return f"{maxima}; exp of a positive number overflows, float32 ends at exp(88.7)"
    return f"{maxima}: only the part with the smaller one keeps less than its full weight"


# --- 3.6.e -------------------------------------------------------------------------------------

ADDRESS = "finds the key of each token by the block table"
GROUPS = "lets each kv head serve a group of query heads"
ENDS = "reads and writes nothing past a context's end"
ONCE = "reads each key once for all query heads of its group"
LINE = "lets a warp read a key as one line"
HEAD_DIM = 32


@dataclass(frozen=True)
class Cache:
    """A pool of blocks with the keys of some sequences, on the host. See `paged_attention.py`."""

    query: np.ndarray  # float32 [seqs, heads, 32]
    key_cache: np.ndarray  # float32 [num_blocks, block_size, kv_heads, 32]
    block_table: np.ndarray  # int32 [seqs, max_blocks], -1 where no block is needed
    context_lengths: np.ndarray  # int32 [seqs]
    keys: list[np.ndarray]  # of each sequence in order: float32 [context, kv_heads, 32]

    @property
    def grid(self) -> tuple[int, int]:
        return self.key_cache.shape[2], len(self.context_lengths)

    @property
    def group(self) -> int:
        return self.query.shape[1] // self.key_cache.shape[2]

    def arguments(self) -> tuple[Any, ...]:
        """As the kernel takes them, on the emulated device; scores are full of NaN."""
        scores = np.full((*self.query.shape[:2], self.width), np.nan, np.float32)
        arrays = (self.query, self.key_cache, self.block_table, self.context_lengths, scores)
        return tuple(map(cuda.to_device, arrays))

    @property
    def width(self) -> int:
        return self.block_table.shape[1] * self.key_cache.shape[1]

    def scores(self, keys: list[np.ndarray] | None = None) -> np.ndarray:
        """What the kernel should write: float32 [seqs, heads, width], NaN past each context."""
        scores = np.full((*self.query.shape[:2], self.width), np.nan)
        for seq, own in enumerate(self.keys if keys is None else keys):
            for head in range(self.query.shape[1]):
                scores[seq, head, : len(own)] = own[:, head // self.group] @ self.query[seq, head]
        return scores.astype(np.float32)

    @property
    def label(self) -> str:
        seqs, heads, _ = self.query.shape
        return (
            f"contexts of {', '.join(map(str, self.context_lengths))} tokens in blocks of "
            f"{self.key_cache.shape[1]}, {count(heads, 'query head', 'query heads')}, "
            f"{count(self.grid[0], 'kv head', 'kv heads')}"
        )


def make_cache(contexts: tuple[int, ...], block_size: int, heads: int, kv_heads: int) -> Cache:
    """A pool whose blocks were given out in no order; four of them, the last too, are free."""
    rng = np.random.default_rng(sum(contexts) + heads)
    needed = [-(-length // block_size) for length in contexts]
    pool = np.full((sum(needed) + 4, block_size, kv_heads, HEAD_DIM), np.nan, np.float32)
    table = np.full((len(contexts), max(needed) + 1), -1, np.int32)
    free = list(rng.permutation(len(pool) - 1))
    keys = []
    for seq, length in enumerate(contexts):
        keys.append(rng.integers(-3, 4, (length, kv_heads, HEAD_DIM)).astype(np.float32))
        for position in range(needed[seq]):
            block = free.pop()
            table[seq, position] = block
            part = keys[seq][position * block_size : (position + 1) * block_size]
            pool[block, : len(part)] = part
    query = rng.integers(-3, 4, (len(contexts), heads, HEAD_DIM)).astype(np.float32)
    return Cache(query, pool, table, np.array(contexts, np.int32), keys)


@exercise(
    "3.6.e",
    title="Keys by block table, one reading for a group of heads",
    points=8,
    central=ADDRESS,
    skill=SKILL,
    arguments=("query", "key_cache", "block_table", "context_lengths", "scores"),
    kind="kernel",
    hints=(
        (
            ADDRESS,
            "Token 13 of a sequence in blocks of 4 is in the sequence's fourth block, at its "
            "second place. The block table says which block of the pool that is: "
            "`block_table[seq, token // block_size]`.",
        ),
        (
            ADDRESS,
            "The warp walks over the tokens. Lane d has the product of dimension d; the sum over "
            "the 32 lanes is five shuffles (3.6.b), and one lane stores it.",
        ),
        (
            GROUPS,
            "8 query heads and 2 kv heads: query heads 0 to 3 share kv head 0, and 4 to 7 share "
            "kv head 1. Which query heads belong to `cuda.blockIdx.x`?",
        ),
        (ENDS, "`range(context_lengths[seq])`, not the table's width: entries past it are -1."),
        (
            ONCE,
            "The key's element is the same for every head of the group. Load it into a variable "
            "before the loop over these heads.",
        ),
        (LINE, "A key is 32 floats side by side: let lane d read dimension d."),
    ),
)
def paged_scores(kernel: Any, require: Any) -> None:
    """scores[seq, head, token] = query . key, the key found by block table; a warp a kv head."""
    with require(ADDRESS) as r:
        for contexts, block_size in (((4,), 4), ((13,), 4), ((5, 30, 8), 8)):
            _same_scores(r, kernel, make_cache(contexts, block_size, 1, 1))
    with require(GROUPS) as r:
        for heads, kv_heads in ((2, 2), (4, 1), (6, 2)):
            _same_scores(r, kernel, make_cache((9, 14), 4, heads, kv_heads))
    with require(ENDS) as r:
        cache = make_cache((6, 0, 9), 4, 2, 1)
        with r.input(cache.label):
            traced = _traced(kernel, cache)
            not_written(r, traced, {0: "query", 1: "key_cache", 2: "block_table"})
            _nothing_past_the_end(r, traced, cache)
    with require(ONCE) as r:
        cache = make_cache((10, 7), 4, 8, 2)
        with r.input(cache.label):
            traced = _traced(kernel, cache)
            times = traced.times("load", 1)
            needed = int(cache.context_lengths.sum()) * cache.grid[0] * HEAD_DIM
            r.that(
                times.max() == 1 and times.sum() >= needed,
                what=f"elements of the key cache are read up to {times.max()} times: "
                f"{times.sum():,} loads where {needed:,} suffice",
                why="decoding reads the whole cache for one token, and takes as long as that "
                f"takes; {cache.group} heads share a kv head so that one reading serves them all"
                if times.sum()
                else "the keys are what the scores are made of",
                try_="token outside, heads inside: load the key's element once, then multiply it "
                "with each head's query",
            )
    with require(LINE) as r:
        cache = make_cache((40, 33), 8, 2, 2)
        with r.input(cache.label):
            with _minus_one():
                report = profile(kernel, cache.grid, 32, *cache.arguments())
            few_sectors(
                r,
                "load",
                report.sectors_per_load,
                why="where each lane has a token of its own, its neighbour's key is "
                f"{4 * HEAD_DIM * cache.grid[0]} bytes away, or in another block",
                try_="one token at a time for the whole warp, one dimension for each lane",
            )


def _traced(kernel: Any, cache: Cache) -> TracedLaunch:
    with _minus_one():
        return TracedLaunch(kernel, cache.grid, 32, *cache.arguments())


def _minus_one() -> Any:
    return outside_means(
        "a token's place is [block_table[seq, token // block_size], token % block_size], and a "
        "table has entries for the tokens of its context alone",
        "print block and place of tokens 0, 3, 4 and 5 of a sequence by hand",
    )


def _same_scores(r: Any, kernel: Any, cache: Cache) -> None:
    with r.input(cache.label):
        arguments = cache.arguments()
        with _minus_one():
            launch(kernel, cache.grid, 32, *arguments, check=True)
        got, expected = arguments[-1].copy_to_host(), cache.scores()
        wrong = np.argwhere(~np.isclose(got, expected, rtol=1e-4, atol=1e-3, equal_nan=True))
        if not len(wrong):
            return
        seq, head, token = (int(i) for i in wrong[0])
        block_size = cache.key_cache.shape[1]
        where = f"scores[{seq}, {head}, {token}]"
        past = token >= cache.context_lengths[seq]
        r.that(
            False,
            what=f"{where}: expected {expected[seq, head, token]:.4g}, got "
            f"{got[seq, head, token]:.4g}"
            if not past
            else f"{where} was written, and sequence {seq} has {cache.context_lengths[seq]} tokens",
            why=_why_other_scores(cache, got, seq, head),
            try_=f"token {token} is in entry {token // block_size} of its sequence's row of the "
            f"table, which says block {cache.block_table[seq, token // block_size]}, at place "
            f"{token % block_size}",
        )


def _why_other_scores(cache: Cache, got: np.ndarray, seq: int, head: int) -> str:
    kv_heads, group = cache.grid[0], cache.group
    flat = cache.key_cache.reshape(-1, kv_heads, HEAD_DIM)
    without_table = cache.scores([flat[: len(own)] for own in cache.keys])
    known = ~np.isnan(cache.scores()) & ~np.isnan(without_table)
    if known.any() and np.allclose(got[known], without_table[known]):
        return "the keys were read as if the pool were one sequence, from its first block on"
    if group > 1 and kv_heads > 1:
        own = cache.keys[seq]
        interleaved = own[:, head % kv_heads] @ cache.query[seq, head]
        if np.allclose(got[seq, head, : len(own)], interleaved):
            return (
                f"query head {head} was given kv head {head % kv_heads}: a group is {group} "
                f"neighbouring heads, so it is {head} // {group} = {head // group}"
            )
    if group > 1 and np.isnan(got[seq, head]).all():
        return (
            f"no score of query head {head} was written: kv head {head // group} serves query "
            f"heads {head // group * group} to {head // group * group + group - 1}"
        )
    if np.isnan(got[seq, head, : cache.context_lengths[seq]]).any():
        return (
            "scores are full of nan before the launch, and so are the places of the pool that "
            "hold no token: a score was not written, or a free place was read"
        )
    return f"a score is the sum of {HEAD_DIM} products, of one query head and its kv head"


def _nothing_past_the_end(r: Any, traced: TracedLaunch, cache: Cache) -> None:
    holds = ~np.isnan(cache.key_cache)
    read = traced.times("load", 1) > 0
    places = np.unique(np.argwhere(read & ~holds)[:, :2], axis=0)
    r.that(
        not len(places),
        what=f"{count(len(places), 'free place', 'free places')} of the pool read, the first "
        f"{places[0].tolist() if len(places) else []} (block, place)",
        why="a free place holds what the sequence before left there, and the block may belong to "
        "somebody else by now",
        try_="stop at context_lengths[seq], in the last block, too",
    )
    wrote = traced.times("store", 4) > 0
    wanted = ~np.isnan(cache.scores())
    r.that(
        not (wrote & ~wanted).any() and (wrote & wanted).any(),
        what=f"{int((wrote & ~wanted).sum())} scores written past the ends of the contexts, "
        f"{int((wrote & wanted).sum())} of {int(wanted.sum())} within",
        why="a token that is not there has no score",
        try_="let no lane store for a token that is not below context_lengths[seq]",
    )


# --- what `show` draws -------------------------------------------------------------------------


@merge_parts.show
def _show_merge_parts(merge: Any) -> views.Picture:
    rng = np.random.default_rng(5)
    scores = (np.linspace(0, 6, 32) * np.sin(np.arange(32) / 3) + rng.normal(0, 0.5, 32))[None]
    got, expected = _attention_by_tile(_in_tiles(merge), scores, 4)
    return views.tiles(scores[0], got[0], expected[0], 4)


@paged_scores.show
def _show_paged_scores(kernel: Any) -> views.Picture:
    cache = make_cache((13, 6, 18), 4, 4, 2)
    traced = _traced(kernel, cache)
    reads = traced.times("load", 1)[:, :, 0, 0]  # of kv head 0, by its first dimension
    return views.pool(cache.block_table, cache.context_lengths, reads)
