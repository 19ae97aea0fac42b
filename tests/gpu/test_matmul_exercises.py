"""The exercises of unit 3.5: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import block_timeline, matmul_grading, matmul_registers
from aiinfra_labs.gpu.kernels.matmul import matmul_tiled

EXERCISES = ("3.5.a", "3.5.b", "3.5.c", "3.5.d")


tiles, fours = planting.planted("gpu", "matmul"), planting.planted("gpu", "matmul_registers")
RIGHT, WRONG = tiles.RIGHT + fours.RIGHT, tiles.WRONG + fours.WRONG


# --- planted answers ---------------------------------------------------------------------------


# --- gates, and how far from them the right answers are ------------------------------------------


def test_the_gate_on_wavefronts_lies_between_the_right_map_and_the_usual_one() -> None:
    m, k, n = 128, 32, 64
    found = {}
    for answer in (fours.fours_with_a_turned, fours.fours_side_by_side):
        with cuda.profile() as p:
            answer[matmul_grading.FOURS.grid(m, n), matmul_grading.TILED_BLOCK](
                *matmul_grading.matrices(m, k, n)
            )
        found[answer.__name__] = matmul_registers.wavefronts_each(p.report, m, k, n)
    assert found["fours_with_a_turned"] < 0.85 * matmul_registers.MOST_WAVEFRONTS
    assert found["fours_side_by_side"] > 1.1 * matmul_registers.MOST_WAVEFRONTS


def test_the_timeline_tells_a_load_that_is_hidden_from_one_that_is_not() -> None:
    hidden = matmul_registers.steps_of(fours.twice_in_four_arrays, 16, 96, 16)
    plain = matmul_registers.steps_of(matmul_tiled, 16, 96, 16)
    assert block_timeline.maths_in_flight(hidden) == [32] * 5
    assert block_timeline.maths_in_flight(plain) == [0] * 10  # of a, and of b
    barriers = [sum(e.what == block_timeline.BARRIER for e in events) for events in (hidden, plain)]
    assert barriers == [6, 12]


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.5.a", tiles.naive_by_return, "its load of a touches 1 elements in 1 sectors"),
        ("3.5.a", tiles.naive_along_columns, "its load of a touches 16 elements in 16 sectors"),
        ("3.5.b", tiles.tiled_by_steps, "yours 196,608; enough 196,608. 0 bank conflicts"),
        ("3.5.b", tiles.tiled_not_at_all, "yours 3,145,728; enough 196,608"),
        ("3.5.c", fours.fours_with_a_turned, "write: 16, 16, 16."),
        ("3.5.d", fours.twice_in_four_arrays, "4 steps, 4 barriers; 32 shared loads hide a load"),
        ("3.5.d", fours.twice_storing_at_once, "4 steps, 5 barriers; 0 shared loads hide a load"),
    ],
)
def test_show_draws_the_learners_own_run(exercise: str, answer: Any, said: str) -> None:
    picture = show(exercise, answer)
    assert said in repr(picture)
    assert said in picture._repr_html_()


@cuda.jit
def _nothing_useful(a, b, c):
    x = cuda.threadIdx.x
    if x < 0:
        c[0, 0] = np.float32(0)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_kernel_that_does_nothing_is_told_so_and_drawn_without_a_traceback(exercise: str) -> None:
    result = try_out(find(exercise), _nothing_useful)
    assert result.score == 0 and "Traceback" not in str(result)
    assert "Traceback" not in repr(show(exercise, _nothing_useful))
