"""The attention kernels of unit 3.6: against NumPy in float64, what they move, what breaks them."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.kernels import flash_attention as flash
from aiinfra_labs.gpu.kernels import naive_attention as naive
from aiinfra_labs.gpu.kernels import paged_attention as paged

# (heads, kv_heads, queries, keys, head_dim)
SHAPES = (
    (1, 1, 1, 1, 1),
    (2, 2, 64, 64, 32),
    (4, 2, 33, 50, 64),
    (2, 1, 50, 33, 32),
    (3, 3, 17, 31, 16),
    (1, 1, 20, 70, 80),
    (2, 2, 16, 33, 128),
    (6, 1, 5, 40, 24),
)
EACH = pytest.mark.parametrize("shape", SHAPES, ids=str)


def reals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inputs(heads, kv_heads, queries, keys, head_dim):
    return (
        reals(heads, queries, head_dim),
        reals(kv_heads, keys, head_dim, seed=1),
        reals(kv_heads, keys, head_dim, seed=2),
    )


def attention(query, key, value, causal=False, scale=None):
    """(output, logsumexp) in float64, zeros and -inf for a query that sees nothing."""
    group = query.shape[0] // key.shape[0]
    q, k, v = (a.astype(np.float64) for a in (query, key, value))
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = q @ k.swapaxes(1, 2) * (q.shape[2] ** -0.5 if scale is None else scale)
    if causal:
        i, j = np.indices(scores.shape[1:])
        scores = np.where(j <= i + key.shape[1] - query.shape[1], scores, -np.inf)
    log = logsumexp(scores, axis=2)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - log[:, :, None])
    return np.nan_to_num(weights) @ v, log


# --- FlashAttention, and the naive way ------------------------------------


@EACH
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_the_formula(shape, causal):
    query, key, value = inputs(*shape)
    with cuda.check():
        out, log = flash.flash_attention(query, key, value, causal=causal, return_logsumexp=True)
        by_matrix = naive.naive_attention(query, key, value, causal=causal)
    expected, expected_log = attention(query, key, value, causal)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=5e-6)
    np.testing.assert_allclose(log, expected_log, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_matrix, expected, rtol=1e-4, atol=5e-6)
    assert out.dtype == np.float32 and out.shape == query.shape


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 70), st.integers(1, 48), st.booleans(), st.integers(0, 99)
)
def test_attention_of_any_shape(queries, keys, head_dim, causal, seed):
    query = reals(2, queries, head_dim, seed=seed)
    key, value = reals(1, keys, head_dim, seed=seed + 1), reals(1, keys, head_dim, seed=seed + 2)
    out = flash.flash_attention(query, key, value, causal=causal)
    np.testing.assert_allclose(out, attention(query, key, value, causal)[0], rtol=1e-4, atol=5e-6)


def test_scores_of_hundreds_overflow_nowhere():
    query, key, value = inputs(1, 1, 20, 70, 32)
    out = flash.flash_attention(query * 30, key * 30, value, scale=1.0)
    expected = attention(query * 30, key * 30, value, scale=1.0)[0]
    assert np.abs(query[0] @ key[0].T * 900).max() > 1000
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


def test_a_query_that_sees_nothing_gets_zeros():
    query, key, value = inputs(1, 1, 50, 33, 32)
    out, log = flash.flash_attention(query, key, value, causal=True, return_logsumexp=True)
    assert not out[0, :17].any() and (log[0, :17] == -np.inf).all()
    assert np.isfinite(out).all() and np.isfinite(log[0, 17:]).all()


def test_device_arrays_are_not_copied():
    arrays = [cuda.to_device(a) for a in inputs(2, 2, 20, 20, 32)]
    with cuda.profile() as p:
        out = flash.flash_attention(*arrays)
    assert p.bytes_to_device == p.bytes_to_host == 0
    expected = attention(*(a.copy_to_host() for a in arrays))[0]
    np.testing.assert_allclose(out.copy_to_host(), expected, rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("tokens", [64, 128, 200])
@pytest.mark.parametrize("head_dim", [32, 64])
def test_flash_attention_reads_keys_and_values_once_a_block_of_queries(tokens, head_dim):
    """Each query once, keys and values once a block; the output and one number are stored."""
    arrays = [cuda.to_device(a) for a in inputs(1, 1, tokens, tokens, head_dim)]
    with cuda.profile() as p:
        flash.flash_attention(*arrays)
    blocks = -(-tokens // flash.QUERIES)
    elements = tokens * head_dim
    assert p.report.global_load_bytes == 4 * (elements + blocks * 2 * elements)
    assert p.report.global_store_bytes == 4 * (elements + tokens)
    sectors_of_logsumexp = -(-tokens // 8)
    assert p.report.dram_bytes_read == 4 * 3 * elements
    assert p.report.dram_bytes_written == 4 * elements + 32 * sectors_of_logsumexp
    assert p.report.bank_conflicts == 0


@pytest.mark.parametrize("tokens", [64, 128])
def test_the_naive_way_moves_the_matrix_four_times(tokens):
    head_dim = 32
    arrays = [cuda.to_device(a) for a in inputs(1, 1, tokens, tokens, head_dim)]
    with cuda.profile() as p:
        naive.naive_attention(*arrays)
    matrix, elements = 4 * tokens * tokens, 4 * tokens * head_dim
    assert p.report.dram_bytes == 4 * matrix + 4 * elements
    scores, weights, output = p.launches
    assert scores.shared_load_bank_conflicts == output.shared_load_bank_conflicts == 0
    tiles = tokens // naive.TILE
    assert scores.global_load_bytes == 2 * tiles * elements
    assert (scores.global_store_bytes, weights.global_store_bytes) == (matrix, matrix)
    assert weights.global_load_bytes == 2 * matrix  # once for maximum and sum, once to divide
    assert output.global_load_bytes == head_dim // naive.TILE * matrix + tiles * elements


def test_more_queries_in_a_block_mean_less_traffic():
    """Theta(N^2 d^2 / M): what is read of keys and values halves when M doubles."""
    tokens, head_dim = 64, 32
    read = []
    for queries in (4, 8, 16, 32):
        arrays = [cuda.to_device(a) for a in inputs(1, 1, tokens, tokens, head_dim)]
        out, log = cuda.device_array(arrays[0].shape, "f4"), cuda.device_array((1, tokens), "f4")
        kernel = flash.flash_attention_kernel(head_dim, False, queries)
        with cuda.profile() as p:
            kernel[(tokens // queries, 1), 32 * queries](*arrays, np.float32(0.2), out, log)
        read.append(p.report.global_load_bytes - arrays[0].nbytes)
        expected = attention(*(a.copy_to_host() for a in arrays), scale=0.2)[0]
        np.testing.assert_allclose(out.copy_to_host(), expected, rtol=1e-4, atol=5e-6)
    assert read == [read[0] // k for k in (1, 2, 4, 8)]


def test_a_causal_mask_spares_the_tiles_that_nobody_sees():
    arrays = [cuda.to_device(a) for a in inputs(1, 1, 256, 256, 32)]
    loads = {}
    for causal in (False, True):
        with cuda.profile() as p:
            flash.flash_attention(*arrays, causal=causal)
        loads[causal] = p.report.global_load_bytes
    assert 0.5 < loads[True] / loads[False] < 0.6


# --- paged attention ------------------------------------------------------


def in_blocks(contexts, block_size, heads, kv_heads, head_dim, seed=0):
    """(arguments of paged_attention, keys and values of each sequence) with blocks in no order.

    What holds no token is NaN, and the table -1 past each context: touching either would show.
    """
    rng = np.random.default_rng(seed)
    needed = [-(-n // block_size) for n in contexts]
    pool = (sum(needed) + 3, block_size, kv_heads, head_dim)
    caches = [np.full(pool, np.nan, np.float32) for _ in range(2)]
    table = np.full((len(contexts), max(needed, default=0) + 1), -1, np.int32)
    free = rng.permutation(pool[0] - 1).tolist()
    tokens = []
    for seq, length in enumerate(contexts):
        own = [rng.normal(size=(length, kv_heads, head_dim)).astype(np.float32) for _ in caches]
        tokens.append(own)
        for position in range(needed[seq]):
            block = table[seq, position] = free.pop()
            for cache, each in zip(caches, own, strict=True):
                part = each[position * block_size : (position + 1) * block_size]
                cache[block, : len(part)] = part
    query = rng.normal(size=(len(contexts), heads, head_dim)).astype(np.float32)
    return (query, *caches, table, np.array(contexts, np.int32)), tokens


def expected_decode(query, tokens, scale=None):
    out = np.zeros(query.shape)
    for seq, (keys, values) in enumerate(tokens):
        if len(keys):
            by_head = [a.transpose(1, 0, 2) for a in (keys, values)]
            out[seq] = attention(query[seq][:, None], *by_head, scale=scale)[0][:, 0]
    return out


@pytest.mark.parametrize(
    ("contexts", "block_size", "heads", "kv_heads", "head_dim"),
    [
        ((1,), 16, 1, 1, 32),
        ((33, 5, 64), 16, 4, 4, 32),
        ((33, 0, 70), 8, 8, 2, 64),
        ((10, 47), 5, 6, 3, 16),
        ((40, 3), 1, 4, 1, 128),
        ((65,), 256, 2, 2, 24),
    ],
)
def test_paged_attention_is_attention(contexts, block_size, heads, kv_heads, head_dim):
    arguments, tokens = in_blocks(contexts, block_size, heads, kv_heads, head_dim)
    with cuda.check():
        out = paged.paged_attention(*arguments)
    expected = expected_decode(arguments[0], tokens)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=5e-6)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
    st.integers(1, 20),
    st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    st.integers(0, 99),
)
def test_where_the_blocks_lie_makes_no_difference(contexts, block_size, heads, seed):
    """To the last bit: the pool is only another place for the same numbers."""
    arguments, tokens = in_blocks(contexts, block_size, *heads, 32, seed=seed)
    out = paged.paged_attention(*arguments)
    longest = max(1, *contexts) if len(contexts) > 1 else max(1, contexts[0])
    contiguous = [np.full((len(contexts), longest, heads[1], 32), np.nan, np.float32) for _ in "kv"]
    for seq, own in enumerate(tokens):
        for cache, each in zip(contiguous, own, strict=True):
            cache[seq, : len(each)] = each
    one_block_each = np.arange(len(contexts), dtype=np.int32)[:, None]
    again = paged.paged_attention(arguments[0], *contiguous, one_block_each, arguments[4])
    np.testing.assert_array_equal(out, again)


def test_a_decoded_token_is_the_last_row_of_causal_attention():
    query, key, value = inputs(4, 2, 40, 40, 32)
    whole = flash.flash_attention(query, key, value, causal=True)
    caches = [a.transpose(1, 0, 2).reshape(5, 8, 2, 32).copy() for a in (key, value)]
    table, context = np.arange(5, dtype=np.int32)[None], np.array([40], np.int32)
    out = paged.paged_attention(query[:, -1][None].copy(), *caches, table, context)
    np.testing.assert_allclose(out[0], whole[:, -1], rtol=1e-5, atol=1e-6)


def profiled(*arguments):
    arrays = [cuda.to_device(a) for a in arguments]
    with cuda.profile() as p:
        paged.paged_attention(*arrays)
    assert p.bytes_to_device == p.bytes_to_host == 0
    return p.report


@pytest.mark.parametrize("heads", [2, 4, 16])
def test_the_cache_is_read_once_however_many_heads_ask(heads):
    contexts, kv_heads, head_dim = (70, 33), 2, 32
    arguments, _ = in_blocks(contexts, 16, heads, kv_heads, head_dim)
    report = profiled(*arguments)
    cache = 2 * 4 * sum(contexts) * kv_heads * head_dim
    query = arguments[0].nbytes
    table = 4 * sum(contexts) * kv_heads  # the block of each token, once a kv head
    context_lengths = 4 * 32 * heads * len(contexts)  # every thread asks, and a warp gets it once
    assert report.global_load_bytes == cache + query + table + context_lengths
    assert report.global_store_bytes == query
    assert report.bank_conflicts == 0
    group = heads // kv_heads
    assert report.flops > 4 * group * sum(contexts) * kv_heads * head_dim


def test_a_block_table_costs_its_own_line_and_nothing_else():
    arguments, tokens = in_blocks((64, 32), 16, 4, 2, 32)
    caches = [np.zeros((2, 64, 2, 32), np.float32) for _ in "kv"]
    one_block_each = np.arange(2, dtype=np.int32)[:, None]
    in_pieces = profiled(*arguments)
    in_a_row = profiled(arguments[0], *caches, one_block_each, arguments[4])
    assert in_pieces.global_load_bytes == in_a_row.global_load_bytes
    number = next(k for k, text in in_pieces.source.items() if "block_table[" in text)
    for line, counters in in_pieces.lines.items():
        if line != number:
            assert counters == in_a_row.lines[line]


# --- what is refused ------------------------------------------------------


def changed(**change):
    arguments, _ = in_blocks((20, 9), 8, 4, 2, 32)
    names = ("query", "key_cache", "value_cache", "block_table", "context_lengths")
    given = dict(zip(names, arguments, strict=True))
    return given | {name: make(given[name]) for name, make in change.items()}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"query": lambda a: a.astype(np.float64)}, "query is float64"),
        ({"query": lambda a: a[:, None]}, "query has 4 axes"),
        ({"query": lambda a: a[:, :3]}, "3 query heads and 2 kv heads"),
        ({"query": lambda a: a[:, :, :30]}, "head_dim is 30 for queries and 32 for keys"),
        ({"value_cache": lambda a: a[:-1]}, "key_cache has the shape"),
        ({"block_table": lambda a: a.astype(np.int64)}, "block_table is int64"),
        ({"block_table": lambda a: a[:1]}, "2 queries, block_table"),
        ({"context_lengths": lambda a: a + 100}, "sequence 0 has 120 tokens in blocks of 8"),
        ({"context_lengths": lambda a: a + 8}, r"block_table\[0, 3\] is no block of a cache of 8"),
        ({"context_lengths": lambda a: -a}, "sequence 0 has -20 tokens"),
        ({"query": lambda a: np.repeat(a, 17, axis=1)}, "34 query heads share one kv head"),
    ],
)
def test_what_does_not_fit_is_said_in_three_parts(change, what):
    with pytest.raises(ValueError, match=what) as error:
        paged.paged_attention(**changed(**change))
    assert re.search(r"\nWhy: .+\nTry: .+", str(error.value))


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ((reals(1, 4, 200), reals(1, 4, 200), reals(1, 4, 200)), "head_dim is 200"),
        ((reals(4, 32), reals(4, 32), reals(4, 32)), r"query has the shape \(4, 32\)"),
        ((reals(3, 4, 32), reals(2, 4, 32), reals(2, 4, 32)), "3 query heads and 2 kv heads"),
        ((reals(1, 4, 32), reals(1, 5, 32), reals(1, 4, 32)), "key has the shape"),
    ],
)
def test_what_no_attention_can_take(arrays, what):
    for function in (flash.flash_attention, naive.naive_attention):
        with pytest.raises(ValueError, match=what):
            function(*arrays)


def test_nothing_gives_nothing():
    arguments, _ = in_blocks((), 8, 4, 2, 32)
    assert paged.paged_attention(*arguments).shape == (0, 4, 32)
    no_queries = flash.flash_attention(reals(2, 0, 32), reals(2, 5, 32), reals(2, 5, 32))
    assert no_queries.shape == (2, 0, 32)
    no_keys = flash.flash_attention(reals(2, 3, 32), reals(2, 0, 32), reals(2, 0, 32))
    assert not no_keys.any() and no_keys.shape == (2, 3, 32)


# --- any order of warps ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_any_order_of_warps_gives_the_same(seed):
    arrays = inputs(2, 1, 20, 40, 32)
    arguments, _ = in_blocks((40, 9), 8, 4, 2, 32)
    flat, decoded = flash.flash_attention(*arrays), paged.paged_attention(*arguments)
    with cuda.check(schedule="adversarial", seed=seed):
        np.testing.assert_array_equal(flash.flash_attention(*arrays), flat)
        np.testing.assert_array_equal(paged.paged_attention(*arguments), decoded)
