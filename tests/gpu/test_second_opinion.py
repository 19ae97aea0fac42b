"""`check` asks Numba's compiler about a kernel that passed."""

import numpy as np
import pytest

from aiinfra_labs.course import checking, opinions
from aiinfra_labs.course.registry import Exercise
from aiinfra_labs.gpu import compiled
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import grading, second_opinion

needs_numba = pytest.mark.skipif(bool(compiled.missing()), reason=compiled.missing())


def body(kernel, require):
    with require("adds one") as r:
        out = np.zeros(4)
        grading.launch(kernel, 1, 4, out)
        r.that((out == 1).all(), what="wrong")


ADD_ONE = Exercise("3.2.z", "Add one", 4.0, "CUDA", body, ("out",), kind="kernel")


@cuda.jit
def adds(out):
    out[cuda.grid(1)] += 1


@cuda.jit
def adds_wrongly(out):
    out[cuda.grid(1)] += 2


@needs_numba
def test_a_kernel_that_passed_is_said_to_compile():
    result = checking.try_out(ADD_ONE, adds)
    assert result.passed
    assert second_opinion.COMPILED in result.notes
    assert second_opinion.COMPILED in str(result)


@needs_numba
@pytest.mark.emulator_only("the compiler is another in this test")
def test_a_kernel_that_did_not_pass_is_not_compiled(monkeypatch):
    monkeypatch.setattr(compiled, "compile_kernel", lambda *_: pytest.fail("compiled"))
    assert not checking.try_out(ADD_ONE, adds_wrongly).passed


@pytest.mark.emulator_only("the compiler is another in this test")
def test_what_numba_refuses_has_not_passed(monkeypatch):
    def refuse(kernel, args):
        raise compiled.Refused("Numba does not compile adds for a GPU: TypingError", "why", "try")

    monkeypatch.setattr(compiled, "missing", lambda: "")
    monkeypatch.setattr(compiled, "compile_kernel", refuse)
    result = checking.try_out(ADD_ONE, adds)
    assert not result.passed
    assert result.score == 2.0
    last = result.requirements[-1]
    assert (last.name, last.passed) == ("compiles for a GPU", False)
    assert "TypingError" in str(result) and "Why: why" in str(result) and "Try: try" in str(result)


@pytest.mark.emulator_only("the compiler is missing in this test")
def test_a_missing_compiler_fails_nobody(monkeypatch):
    monkeypatch.setattr(compiled, "missing", lambda: "no NVVM here")
    result = checking.try_out(ADD_ONE, adds)
    assert result.passed and result.score == 4.0
    assert second_opinion.COMPILED not in result.notes


def test_the_launches_of_a_check_are_noted_by_type_and_no_array_is_kept():
    with compiled.launches() as launched:
        for n in (8, 8, 16):
            adds[1, 8](np.zeros(n))
        adds[1, 8](np.zeros(8, np.float32))
    assert len(launched.kernels) == 2
    assert all(args[0].size == 2 for _, args in launched.kernels.values())
    adds[1, 8](np.zeros((8,), np.int32))
    assert len(launched.kernels) == 2  # outside the block nothing is noted


def test_other_chapters_have_no_second_opinion():
    with opinions.watching("1.2") as nobody:
        assert nobody is None
