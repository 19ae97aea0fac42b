"""Answers to 3.6.d and 3.6.e: right ones that differ, and common mistakes."""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.6.d the inner update of FlashAttention --------------------------------------------------


@right("3.6.d")
@cuda.jit(device=True)
def merge_by_factors(largest, total, output, tile_largest, tile_total, tile_output):
    new = max(largest, tile_largest)
    if new == -math.inf:
        return largest, total, output
    old_factor, tile_factor = math.exp(largest - new), math.exp(tile_largest - new)
    return (
        new,
        total * old_factor + tile_total * tile_factor,
        output * old_factor + tile_output * tile_factor,
    )


@right("3.6.d")
@cuda.jit(device=True)
def merge_by_cases(m, s, o, tile_m, tile_s, tile_o):
    if tile_s == 0:
        return m, s, o
    if s == 0:
        return tile_m, tile_s, tile_o
    if tile_m > m:
        shrink = math.exp(m - tile_m)
        return tile_m, s * shrink + tile_s, o * shrink + tile_o
    shrink = math.exp(tile_m - m)
    return m, s + tile_s * shrink, o + tile_o * shrink


@wrong("3.6.d", "nan comes of -inf - -inf")
@cuda.jit(device=True)
def merge_without_asking(largest, total, output, tile_largest, tile_total, tile_output):
    new = max(largest, tile_largest)
    old_factor, tile_factor = math.exp(largest - new), math.exp(tile_largest - new)
    return (
        new,
        total * old_factor + tile_total * tile_factor,
        output * old_factor + tile_output * tile_factor,
    )


@wrong("3.6.d", "only the part with the smaller one keeps less than its full weight")
@cuda.jit(device=True)
def merge_without_rescaling(largest, total, output, tile_largest, tile_total, tile_output):
    return max(largest, tile_largest), total + tile_total, output + tile_output


@wrong("3.6.d", "and the new largest is the larger of the two")
@cuda.jit(device=True)
def merge_relative_to_the_tile(largest, total, output, tile_largest, tile_total, tile_output):
    if tile_largest == -math.inf:
        return largest, total, output
    factor = math.exp(largest - tile_largest)
    return tile_largest, total * factor + tile_total, output * factor + tile_output


@wrong("3.6.d", "output: expected")
@cuda.jit(device=True)
def merge_that_forgets_the_output(largest, total, output, tile_largest, tile_total, tile_output):
    new = max(largest, tile_largest)
    if new == -math.inf:
        return largest, total, output
    old_factor, tile_factor = math.exp(largest - new), math.exp(tile_largest - new)
    return new, total * old_factor + tile_total * tile_factor, output + tile_output


@wrong("3.6.d", "total: expected")
@cuda.jit(device=True)
def merge_that_scales_the_old_part_only(
    largest, total, output, tile_largest, tile_total, tile_output
):
    new = max(largest, tile_largest)
    if new == -math.inf:
        return largest, total, output
    factor = math.exp(largest - new)
    return new, total * factor + tile_total, output * factor + tile_output


@wrong("3.6.d", "exp of a positive number overflows")
@cuda.jit(device=True)
def merge_the_wrong_way_round(largest, total, output, tile_largest, tile_total, tile_output):
    new = max(largest, tile_largest)
    if new == -math.inf:
        return largest, total, output
    if total == 0:
        return tile_largest, tile_total, tile_output
    old_factor, tile_factor = math.exp(new - largest), math.exp(new - tile_largest)
    return (
        new,
        total * old_factor + tile_total * tile_factor,
        output * old_factor + tile_output * tile_factor,
    )


@wrong("3.6.d", "nan comes of -inf - -inf, or of inf x 0")
@cuda.jit(device=True)
def merge_of_exponentials_as_they_are(
    largest, total, output, tile_largest, tile_total, tile_output
):
    new = max(largest, tile_largest)
    if new == -math.inf:
        return largest, total, output
    old_factor, tile_factor = math.exp(largest), math.exp(tile_largest)
    back = math.exp(-new)
    return (
        new,
        (total * old_factor + tile_total * tile_factor) * back,
        (output * old_factor + tile_output * tile_factor) * back,
    )


# --- 3.6.e keys by block table -----------------------------------------------------------------


@right("3.6.e")
@cuda.jit
def scores_token_by_token(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    for token in range(context_lengths[seq]):
        block = block_table[seq, token // block_size]
        element = key_cache[block, token % block_size, kv_head, lane]
        for head in range(kv_head * group, (kv_head + 1) * group):
            product = element * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0:
                scores[seq, head, token] = product


@right("3.6.e")
@cuda.jit
def scores_block_by_block(q, keys, table, lengths, out):
    of_lane = cuda.shared.array(32, np.float32)
    lane, h, s = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
    size, group = keys.shape[1], q.shape[1] // keys.shape[2]
    for b in range((lengths[s] + size - 1) // size):
        for place in range(min(size, lengths[s] - b * size)):
            element = keys[table[s, b], place, h, lane]
            for g in range(group):
                of_lane[lane] = element * q[s, h * group + g, lane]
                cuda.syncthreads()
                if lane == 0:
                    total = np.float32(0)
                    for k in range(32):
                        total += of_lane[k]
                    out[s, h * group + g, b * size + place] = total
                cuda.syncthreads()


@wrong("3.6.e", "as if the pool were one sequence")
@cuda.jit
def scores_without_the_table(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    for token in range(context_lengths[seq]):
        element = key_cache[token // block_size, token % block_size, kv_head, lane]
        for head in range(kv_head * group, (kv_head + 1) * group):
            product = element * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0:
                scores[seq, head, token] = product


@wrong("3.6.e", "query head 1 was given kv head 1")
@cuda.jit
def scores_with_groups_interleaved(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size, kv_heads = key_cache.shape[1], key_cache.shape[2]
    for token in range(context_lengths[seq]):
        block = block_table[seq, token // block_size]
        element = key_cache[block, token % block_size, kv_head, lane]
        for head in range(kv_head, query.shape[1], kv_heads):
            product = element * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0:
                scores[seq, head, token] = product


@wrong("3.6.e", "no score of query head 1 was written: kv head 0 serves query heads 0 to 3")
@cuda.jit
def scores_of_one_head_a_warp(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    for token in range(context_lengths[seq]):
        block = block_table[seq, token // block_size]
        product = key_cache[block, token % block_size, kv_head, lane] * query[seq, kv_head, lane]
        for d in (16, 8, 4, 2, 1):
            product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
        if lane == 0:
            scores[seq, kv_head, token] = product


@wrong("3.6.e", "are read up to 4 times")
@cuda.jit
def scores_head_by_head(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    for head in range(kv_head * group, (kv_head + 1) * group):
        for token in range(context_lengths[seq]):
            block = block_table[seq, token // block_size]
            product = key_cache[block, token % block_size, kv_head, lane] * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0:
                scores[seq, head, token] = product


@wrong("3.6.e", "sectors of 32 bytes where 4 suffice")
@cuda.jit
def scores_with_a_token_a_lane(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    key = cuda.local.array(32, np.float32)
    for token in range(lane, context_lengths[seq], 32):
        block = block_table[seq, token // block_size]
        for dim in range(32):
            key[dim] = key_cache[block, token % block_size, kv_head, dim]
        for head in range(kv_head * group, (kv_head + 1) * group):
            total = np.float32(0)
            for dim in range(32):
                total += key[dim] * query[seq, head, dim]
            scores[seq, head, token] = total


@wrong("3.6.e", "free place")
@cuda.jit
def scores_of_whole_blocks(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    blocks = (context_lengths[seq] + block_size - 1) // block_size
    for token in range(blocks * block_size):
        block = block_table[seq, token // block_size]
        element = key_cache[block, token % block_size, kv_head, lane]
        for head in range(kv_head * group, (kv_head + 1) * group):
            product = element * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0 and token < context_lengths[seq]:
                scores[seq, head, token] = product


@wrong("3.6.e", "free places of the pool read")
@cuda.jit
def scores_of_the_whole_table(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    for token in range(scores.shape[2]):
        block = block_table[seq, token // block_size]
        element = key_cache[block, token % block_size, kv_head, lane]
        for head in range(kv_head * group, (kv_head + 1) * group):
            product = element * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0:
                scores[seq, head, token] = product


@wrong("3.6.e", "is outside the array")
@cuda.jit
def scores_with_quotient_and_remainder_swapped(
    query, key_cache, block_table, context_lengths, scores
):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    for token in range(context_lengths[seq]):
        block = block_table[seq, token % block_size]
        element = key_cache[block, token // block_size, kv_head, lane]
        for head in range(kv_head * group, (kv_head + 1) * group):
            product = element * query[seq, head, lane]
            for d in (16, 8, 4, 2, 1):
                product += cuda.shfl_xor_sync(0xFFFFFFFF, product, d)
            if lane == 0:
                scores[seq, head, token] = product


@wrong("3.6.e", "a race on scores")
@cuda.jit
def scores_added_up_in_memory(query, key_cache, block_table, context_lengths, scores):
    kv_head, seq, lane = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]
    for token in range(context_lengths[seq]):
        block = block_table[seq, token // block_size]
        element = key_cache[block, token % block_size, kv_head, lane]
        for head in range(kv_head * group, (kv_head + 1) * group):
            if lane == 0:
                scores[seq, head, token] = 0
            cuda.syncthreads()
            scores[seq, head, token] += element * query[seq, head, lane]
