"""The exercises of unit 3.7: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator import LaunchError, occupancy_of
from aiinfra_labs.gpu.exercises import compute, compute_precision
from planting import name_of

EXERCISES = ("3.7.a", "3.7.b", "3.7.c", "3.7.d", "3.7.e")


planted = planting.planted("gpu", "compute")


# --- planted answers ---------------------------------------------------------------------------


# --- starters ----------------------------------------------------------------------------------


def _unsolved_blocks(sm, threads, registers, shared):
    """(blocks, name)."""


def _unsolved_choice(registers, fixed, per_thread, target, device):
    """Threads, or None."""


@cuda.jit
def _unsolved_jobs(x, out):
    """root or logistic."""


def _unsolved_bits(x):
    """uint16 [n]."""


@cuda.jit
def _unsolved_dots(a, b, out):
    """Sums."""


UNSOLVED = (
    ("3.7.a", _unsolved_blocks),
    ("3.7.b", _unsolved_choice),
    ("3.7.c", _unsolved_jobs),
    ("3.7.d", _unsolved_bits),
    ("3.7.e", _unsolved_dots),
)


@pytest.mark.parametrize(("exercise", "starter"), UNSOLVED, ids=name_of)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    result = try_out(find(exercise), starter)
    assert not result.passed
    assert sum(o.passed for o in result.requirements) <= 1


# --- what show draws -----------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES)
def test_show_draws_right_and_wrong_answers(exercise: str) -> None:
    draw = find(exercise).shower
    right = next(answer for id, answer in planted.RIGHT if id == exercise)
    assert "<img alt=" in draw(right)._repr_html_()
    wrong = {"3.7.a": "registers_one_by_one", "3.7.b": "always_256", "3.7.c": "does_both"}
    wrong |= {"3.7.d": "halves_up", "3.7.e": "single"}
    said = repr(draw(getattr(planted, wrong[exercise])))
    assert said and said != repr(draw(right))


def test_the_pictures_words_are_its_figures() -> None:
    assert "0 of 113 differ" in repr(compute._show_blocks_per_sm(planted.in_a_dict))
    assert "256 threads: 37.5% of 43.8% asked" in repr(
        compute._show_choose_block(planted.always_256)
    )
    assert "32 yours; instructions a warp: 84 by parity, 84 yours" in repr(
        compute._show_two_jobs(planted.does_both)
    )
    # of 4 steps from 1 on, the ties are at 0.5, 1.5, 2.5 and 3.5: 0.5 and 2.5 go down to even
    assert "2 of 257" in repr(compute_precision._show_bf16_bits(planted.halves_up))


# --- inputs --------------------------------------------------------------------------------------


def test_what_is_asked_for_can_be_had_or_cannot() -> None:
    for *needs, target, device in compute.ASKED:
        shares = compute._curve(*needs, device).values()
        assert max(shares) >= target
        assert min(shares) < target, "any answer would do"
    for *needs, target, device in compute.TOO_MUCH:
        assert max(compute._curve(*needs, device).values()) < target


def test_the_700_blocks_can_be_launched_and_differ() -> None:
    blocks = compute._some_blocks(700)
    assert len(set(blocks)) > 650
    limits = Counter()
    for capability, *block in blocks:
        limits[occupancy_of(*block, device=capability).limited_by[0]] += 1
    assert set(limits) >= {"warps", "registers", "shared memory"}
    with pytest.raises(LaunchError):
        occupancy_of(1024, 80, 0, "9.0")


def test_the_ties_are_ties() -> None:
    x = compute_precision._between(0.5).astype(np.float32)
    assert ((x.view(np.uint32) & 0xFFFF) == 0x8000).all() and len(x) == 512
    assert len(set((x.view(np.uint32) >> 16 & 1).tolist())) == 2


def test_the_allowed_error_lies_between_kahan_and_plain_fp32() -> None:
    """The gate has slack on one side and bites on the other."""
    for a, b in (compute_precision._halves(3000, 8), compute_precision._one_large(3000)):
        kahan = compute_precision._run(planted.kahan, a, b, 1, 32)
        plain = compute_precision._run(planted.single, a, b, 1, 32)
        assert compute_precision._errors(kahan, a, b).max() < compute_precision.ALLOWED / 2
        assert compute_precision._errors(plain, a, b).max() > compute_precision.ALLOWED * 2
