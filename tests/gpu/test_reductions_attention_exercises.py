"""The exercises of unit 3.6: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import math
import re
from html import escape
from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import attention_steps, reduction_views, reductions_attention
from aiinfra_labs.gpu.kernels import reduction
from planting import name_of, tried

EXERCISES = {
    "3.6.a": reductions_attention.block_sum,
    "3.6.b": reductions_attention.warp_prefix_sums,
    "3.6.c": reductions_attention.maximum_and_sum,
    "3.6.d": attention_steps.merge_parts,
    "3.6.e": attention_steps.paged_scores,
}


reductions, attentions = (
    planting.planted("gpu", "reductions_attention"),
    planting.planted("gpu", "attention_steps"),
)
RIGHT = reductions.RIGHT + attentions.RIGHT
WRONG = reductions.WRONG + attentions.WRONG


# --- planted answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["without_a_barrier_in_the_loop", "without_the_first_barrier"])
def test_a_race_names_both_source_lines(answer: str) -> None:
    kernel = getattr(reductions, f"sum_{answer}")
    failed = next(o for o in tried("3.6.a", kernel).requirements if not o.passed)
    lines = {int(number) for number in re.findall(r"line (\d+)", f"{failed.what} {failed.try_}")}
    first = kernel.py_func.__code__.co_firstlineno
    assert lines and all(first < line < first + 16 for line in lines)
    assert failed.what.startswith("a race on partial[")
    assert failed.what.count("(line ") == 2 or "(the same line)" in failed.what


# --- starters, and answers that are no answers ---------------------------------------------------


@cuda.jit
def _unsolved_two(x, out):
    """From x to out."""


@cuda.jit
def _unsolved_three(x, largest, total):
    """From x to largest and total."""


@cuda.jit(device=True)
def _unsolved_merge(largest, total, output, tile_largest, tile_total, tile_output):
    """(largest, total, output) of both parts."""


@cuda.jit
def _unsolved_scores(query, key_cache, block_table, context_lengths, scores):
    """scores[seq, head, token]."""


UNSOLVED = (
    ("3.6.a", _unsolved_two),
    ("3.6.b", _unsolved_two),
    ("3.6.c", _unsolved_three),
    ("3.6.d", _unsolved_merge),
    ("3.6.e", _unsolved_scores),
)


@pytest.mark.parametrize(("exercise", "starter"), UNSOLVED, ids=name_of)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    result = try_out(EXERCISES[exercise], starter)
    assert result.score == 0, str(result)


@cuda.jit(device=True)
def _gives_one_number(largest, total, output, tile_largest, tile_total, tile_output):
    return max(largest, tile_largest)


@cuda.jit
def _is_a_kernel(largest, total, output, tile_largest, tile_total, tile_output):
    total[0] = largest[0]


def _is_plain(largest, total, output, tile_largest, tile_total, tile_output):
    return largest, total, output


@pytest.mark.parametrize("answer", [_gives_one_number, _is_a_kernel, _is_plain], ids=name_of)
def test_what_is_no_merge_gets_an_answer_in_three_parts(answer: Any) -> None:
    result = check("3.6.d", answer)
    assert result.score == 0 and "Traceback" not in str(result)
    for outcome in result.requirements:
        assert outcome.what and outcome.why and outcome.try_, str(result)


# --- drawings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=name_of)
def test_show_draws_a_right_answer(exercise: str, answer: Any) -> None:
    picture = show(exercise, answer)
    assert f'<img alt="{escape(picture.alt)}"' in picture._repr_html_()


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.6.a", reductions.sum_by_halves, "6 divergent branches, 0 bank conflicts, 0 shuffles"),
        ("3.6.a", reductions.sum_of_neighbours, "48 divergent branches"),
        ("3.6.a", reductions.sum_of_neighbours, "16 16 16 16 16 16 16 16; 8 8 8 8 8 8 8 8; 4 4"),
        ("3.6.a", reductions.sum_by_shuffles, "40 shuffles"),
        ("3.6.b", reductions.prefix_by_doubling, "0 values missing, 0 added too often"),
        ("3.6.b", reductions.prefix_of_sixteen, "136 values missing, 0 added too often"),
        ("3.6.b", reductions.exclusive_prefix, "32 values missing"),
        ("3.6.c", reductions.online, "each element read once"),
        ("3.6.c", reductions.in_two_readings, "each element read 2 times"),
        ("3.6.d", attentions.merge_by_cases, "8 of 8 tiles end with the right"),
        ("3.6.d", attentions.merge_without_rescaling, "1 of 8 tiles end with the right"),
        ("3.6.e", attentions.scores_token_by_token, "37 of 37 tokens read once, 0 more often, 0"),
        ("3.6.e", attentions.scores_head_by_head, "0 of 37 tokens read once, 37 more often"),
        ("3.6.e", attentions.scores_of_whole_blocks, "7 free places read"),
    ],
    ids=name_of,
)
def test_show_says_what_it_draws(exercise: str, answer: Any, said: str) -> None:
    assert said in str(show(exercise, answer))


@cuda.jit
def _stores_nothing(x, sums):
    if x[0] > sums[0]:
        cuda.syncthreads()


def test_show_says_why_it_cannot_draw() -> None:
    refused = show("3.6.a", _stores_nothing)
    assert "the kernel stores nothing" in str(refused) and "Traceback" not in str(refused)


# --- what the checks stand on --------------------------------------------------------------------


def test_the_reads_of_the_busiest_thread() -> None:
    """In a tree of 256 thread 0 reads x once, and two values at each of 8 steps, and the sum."""
    x, sums = np.ones(1024, np.float32), np.zeros(4, np.float32)
    with cuda.trace() as trace:
        reduction.block_sums_tree[4, 256](x, sums)
    assert reduction_views.loads_of_the_busiest(trace.accesses, 256) == 1 + 2 * 8 + 1
    assert reduction_views.loads_of_the_busiest([], 256) == 0


@pytest.mark.parametrize("kernel", [reduction.block_sums_tree, reduction.block_sums_shuffle])
def test_the_courses_own_reductions_pass(kernel: Any) -> None:
    assert try_out(find("3.6.a"), kernel).passed


def test_the_references_agree_with_plain_python() -> None:
    x = np.float32([[1, 2, 4], [-np.inf] * 3])
    largest, total = reductions_attention._reference(x)
    assert largest.tolist() == [4, -math.inf]
    assert total.tolist() == pytest.approx([math.exp(-3) + math.exp(-2) + 1, 0], rel=1e-6)
    assert reductions_attention._prefix_sums(np.float32([1] * 40))[[31, 32, 39]].tolist() == [
        32,
        1,
        8,
    ]
    cache = attention_steps.make_cache((5,), 2, 2, 1)
    block, place = cache.block_table[0, 4 // 2], 4 % 2
    key, query = cache.key_cache[block, place, 0], cache.query[0, 1]
    expected = sum(float(a) * float(b) for a, b in zip(key, query, strict=True))
    assert cache.scores()[0, 1, 4] == expected


def test_a_cache_is_scattered_and_what_is_free_is_nan() -> None:
    cache = attention_steps.make_cache((5, 30, 8), 8, 1, 1)
    used = cache.block_table[cache.block_table >= 0]
    assert len(set(used.tolist())) == len(used) == 6
    assert not np.array_equal(np.sort(used), used)
    assert np.isfinite(cache.key_cache).sum() == 43 * attention_steps.HEAD_DIM
    assert np.isnan(cache.key_cache[-1]).all()  # where -1 would lead
