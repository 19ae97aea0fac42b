"""The four attentions over blocks, against PyTorch's own over each sequence in one piece."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from aiinfra_labs.cloud.serving.attention import (
    ATTENTIONS,
    Layout,
    PagedCache,
    attention_named,
)
from aiinfra_labs.cloud.serving.errors import ServingError

CPU = torch.device("cpu")


def case(sequences, size, heads=4, kv_heads=2, d=8, seed=0):
    """sequences: (new tokens, context) each. Returns query, keys, values, layout.

    Blocks are shuffled; slots that hold no token hold large numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-context // size) for _, context in sequences]
    order = np.random.default_rng(seed).permutation(sum(counts) + 2).astype(np.int32)
    table = np.zeros((len(sequences), max(counts)), np.int32)
    shape = (len(order), size, kv_heads, d)
    keys, values = torch.full(shape, 1e4), torch.full(shape, 1e4)
    first = 0
    for row, ((_, context), count) in enumerate(zip(sequences, counts, strict=True)):
        table[row, :count] = order[first : first + count]
        first += count
        for place in range(context):
            slot = int(table[row, place // size]), place % size
            keys[slot] = torch.randn(kv_heads, d, generator=generator)
            values[slot] = torch.randn(kv_heads, d, generator=generator)
    new, contexts = (np.array(column) for column in zip(*sequences, strict=True))
    query = torch.randn(int(new.sum()), heads, d, generator=generator)
    return query, keys, values, Layout(new, contexts, table, size)


def in_one_piece(query, keys, values, layout):
    """PyTorch's attention of each sequence by itself."""
    parts = []
    for row, (start, n, context) in enumerate(
        zip(layout.starts, layout.queries, layout.contexts, strict=True)
    ):
        k, v = (x[layout.block_table[row]].flatten(0, 1)[:context] for x in (keys, values))
        q, k, v = (x.transpose(0, 1).double() for x in (query[start : start + n], k, v))
        mask = torch.ones(n, context, dtype=torch.bool).tril(context - n)
        k, v = (x.repeat_interleave(len(q) // len(k), 0) for x in (k, v))
        parts.append(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1))
    return torch.cat(parts).float()


def lengths(most):
    """(new tokens, context): a prompt, a chunk of one, a draft, a token that is decoded."""
    return st.integers(1, most).flatmap(
        lambda context: st.tuples(
            st.one_of(st.just(1), st.just(context), st.integers(1, context)), st.just(context)
        )
    )


@pytest.mark.parametrize("name", ["numpy", "torch", "compiled"])
@given(
    sequences=st.lists(lengths(40), min_size=1, max_size=6),
    size=st.sampled_from([1, 3, 8, 16]),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2), (4, 4)]),
)
@settings(max_examples=40, deadline=None)
def test_attention_over_blocks_is_attention(name, sequences, size, heads):
    query, keys, values, layout = case(sequences, size, *heads, seed=len(sequences))
    got = ATTENTIONS[name](query, keys, values, layout)
    expected = in_one_piece(query, keys, values, layout)
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("sequences", "size"), [([(1, 1), (1, 9), (3, 20)], 4), ([(5, 5), (1, 33)], 16)]
)
def test_the_kernel_of_unit_3_6(sequences, size):
    query, keys, values, layout = case(sequences, size, d=16)
    got = ATTENTIONS["kernel"](query, keys, values, layout)
    assert torch.allclose(got, in_one_piece(query, keys, values, layout), atol=1e-5)


def test_many_that_decode_go_in_groups_of_like_length():
    sequences = [(1, n) for n in (1, 200, 3, 90, 2, 17, 16, 300)]
    query, keys, values, layout = case(sequences, 16)
    for name in ("torch", "compiled"):
        got = ATTENTIONS[name](query, keys, values, layout)
        assert torch.allclose(got, in_one_piece(query, keys, values, layout), atol=1e-5)


@given(
    st.lists(lengths(30), min_size=1, max_size=5),
    st.sampled_from([1, 4, 16]),
)
def test_a_layout_says_where_each_token_lies(sequences, size):
    *_, layout = case(sequences, size)
    expected = []
    for row, (n, context) in enumerate(sequences):
        for position in range(context - n, context):
            block = int(layout.block_table[row, position // size])
            expected.append((row, position, block * size + position % size))
    got = zip(layout.rows, layout.positions, layout.slots, strict=True)
    assert [tuple(map(int, found)) for found in got] == expected


def test_a_cache_gives_back_what_was_written_copied_and_handed_over():
    cache = PagedCache(2, 6, 4, 2, 3)
    key, value = torch.randn(2, 5, 2, 3)
    slots = torch.tensor([8, 9, 10, 11, 20])  # blocks 2 and 5
    for layer in range(2):
        cache.write(layer, slots, key + layer, value - layer)
    cache.copy([(2, 0), (5, 3), (0, 1)])  # in this order: block 0 was just written
    for layer in range(2):
        keys, values = cache.layer(layer)
        assert torch.equal(keys[1], key[:4] + layer) and torch.equal(values[1], value[:4] - layer)
        assert torch.equal(keys[3, 0], key[4] + layer)
    other = PagedCache(2, 3, 4, 2, 3)
    other.put([1, 0], *cache.read([2, 5]))
    assert torch.equal(other.keys[:, 1], cache.keys[:, 2])
    assert torch.equal(other.values[:, 0], cache.values[:, 5])
    assert cache.nbytes == 2 * 2 * 6 * 4 * 2 * 3 * 4


def test_there_are_four_and_auto():
    assert attention_named("auto", CPU, torch.float32) is ATTENTIONS["compiled"]
    assert attention_named("auto", CPU, torch.bfloat16) is ATTENTIONS["torch"]
    with pytest.raises(ServingError, match="numpy, torch, compiled, kernel, or auto"):
        attention_named("flash", CPU, torch.float32)
