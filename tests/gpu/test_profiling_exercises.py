"""The exercises of unit 3.8: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import profiling, profiling_reports
from aiinfra_labs.gpu.exercises import profiling_faults as faults
from planting import name_of

EXERCISES = ("3.8.a", "3.8.b", "3.8.c", "3.8.d")


planted = planting.planted("gpu", "profiling")


# --- planted answers ---------------------------------------------------------------------------


# --- starters ------------------------------------------------------------------------------------


@cuda.jit
def _unsolved_rotate(x, cos, sin, out):
    """x, each pair turned."""


@cuda.jit
def _unsolved_gelu(sums, scale, out):
    """gelu(scale * sums)."""


def _unsolved_diagnose(report):
    """(fault, line)."""


def _unsolved_swiglu(gate, up):
    """silu(gate) * up."""


@pytest.mark.parametrize(
    ("exercise", "starter"),
    zip(
        EXERCISES,
        (_unsolved_diagnose, _unsolved_rotate, _unsolved_gelu, _unsolved_swiglu),
        strict=True,
    ),
    ids=name_of,
)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    result = try_out(find(exercise), starter)
    assert not any(o.passed for o in result.requirements)


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.8.a", planted.by_rules, "every_third | divergence"),
        ("3.8.a", planted.printed, "every_third | None"),
        ("3.8.b", planted.rotate_by_pairs, "no line has more than 4"),
        ("3.8.b", planted.rotate_a_head_a_thread, "a, b = x[token, head, d], x[token, head, d"),
        ("3.8.c", planted.gelu_by_exp, "no line has more than 0"),
        ("3.8.c", planted.gelu_with_literals, "float64 operations, by line: line"),
        ("3.8.d", planted.swiglu_fused, "1 launch for 4,096 elements: 32,768 bytes to the device"),
        ("3.8.d", planted.swiglu_in_two, "2 launches for 4,096 elements"),
    ],
    ids=name_of,
)
def test_show_says_what_it_draws(exercise: str, answer: Any, said: str) -> None:
    shown = show(exercise, answer)
    assert said in str(shown), str(shown)
    assert shown._repr_markdown_() if exercise == "3.8.a" else shown._repr_html_()


# --- what the checks stand on --------------------------------------------------------------------


def _sectors(line: Any) -> float:
    return max(line.sectors_per_load, line.sectors_per_store)


@pytest.mark.parametrize("k", range(len(faults.CASES)), ids=lambda k: faults.CASES[k].name)
def test_a_case_has_its_fault_and_no_other(k: int) -> None:
    """By a wide margin, so that any sensible limit tells the cases apart."""
    case, report = faults.CASES[k], faults.report_of(k)
    lines = report.lines.values()
    assert (max(map(_sectors, lines)) >= 16) == (case.fault == faults.STRIDED)
    assert (max(map(_sectors, lines)) <= 8) == (case.fault != faults.STRIDED)
    assert (report.flops_by_dtype["fp64"] >= 1000) == (case.fault == faults.FLOAT64)
    assert (report.flops_by_dtype["fp64"] == 0) == (case.fault != faults.FLOAT64)
    assert (report.bank_conflicts > 100) == (case.fault == faults.CONFLICTS)
    assert (report.bank_conflicts == 0) == (case.fault != faults.CONFLICTS)
    turns = max(line.turns_per_atomic for line in lines)
    assert (turns >= 16) == (case.fault == faults.CONTENTION)
    assert (turns < 1.2) == (case.fault != faults.CONTENTION)
    lanes = report.lanes_per_instruction
    assert (lanes < 20) == (case.fault == faults.DIVERGENCE)
    assert (lanes > 29) == (case.fault != faults.DIVERGENCE)


def test_every_fault_is_tried_twice_and_in_a_line_of_its_kernel() -> None:
    counted = Counter(case.fault for case in faults.CASES)
    assert set(counted) == set(faults.FAULTS) and min(counted.values()) >= 2
    for k, case in enumerate(faults.CASES):
        report = faults.report_of(k)
        if case.fault != faults.SOUND:
            assert case.line.split("#")[0].strip() in report.source[case.number]


def test_the_cases_are_correct_kernels() -> None:
    """Their faults are of cost: nothing outside, and no race but where all write the same."""
    for case in faults.CASES:
        with cuda.check(raise_=False) as found:
            cuda.jit(case.kernel.py_func)[case.grid, case.block](*case.arguments())
        assert not found.findings or case.name == "count_two_labels", found.findings


def test_a_fault_is_traced_to_the_line_with_the_larger_total() -> None:
    k = next(k for k, c in enumerate(faults.CASES) if c.name == "gather_then_walk")
    report, number = faults.report_of(k), faults.CASES[k].number
    other = max(report.lines, key=lambda n: report.lines[n].sectors_per_load)
    assert other != number
    loads = {n: report.lines[n].global_load_sectors for n in (number, other)}
    assert loads[number] > 10 * loads[other]


def test_the_references_agree_with_what_others_compute() -> None:
    from scipy.special import erf

    v = np.linspace(-4, 4, 81)
    exact = 0.5 * v * (1 + erf(v / np.sqrt(2)))  # GELU's own definition, which tanh approximates
    assert np.abs(profiling._gelu(v) - exact).max() < 5e-4
    x, cos, sin, _ = profiling._heads(3, 2, 8)
    turned = profiling._rotated(x, cos, sin)
    before = x.copy_to_host()
    length = lambda a: np.hypot(a[..., :4], a[..., 4:])  # noqa: E731
    assert np.allclose(length(turned), length(before), atol=1e-6)
    c, s, a, b = cos.copy_to_host()[2, 1], sin.copy_to_host()[2, 1], *before[2, 1, [1, 5]]
    assert np.allclose(turned[2, 1, [1, 5]], [a * c - b * s, a * s + b * c])
    gate, up = np.float32([0, 1, -2]), np.float32([3, 2, 5])
    assert np.allclose(
        profiling._swiglu(gate, up), [0, 2 / (1 + np.exp(-1)), -10 / (1 + np.exp(2))]
    )


def test_the_claim_of_the_unit_is_decided() -> None:
    claim = next(c for c in all_claims() if c.id == "nvprof")
    assert claim.verdict == "corrected" and "8.0" in claim.figure and "13.0" in claim.figure


def test_where_to_look_is_said_of_every_fault() -> None:
    assert set(profiling_reports.LOOK) == set(faults.FAULTS)
