"""Random kernels on three machines (`fuzz/campaign.py`), and what they have found so far.

The seeds are fixed, so each run tests the same kernels; `benchmarks/results/fuzz.json` tells of a
longer campaign.
"""

import numba
import numpy as np
import pytest
from fuzz import campaign, generator, interpreter
from fuzz.simulator import Simulator

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.lanes import loops, machine

PIECES = [range(first, first + 50) for first in range(100_000, 100_200, 50)]


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as process:
        yield process


@pytest.mark.parametrize("seeds", PIECES, ids=lambda seeds: f"from {seeds.start}")
def test_random_kernels_leave_what_the_interpreter_leaves(seeds, simulator):
    found = campaign.campaign(seeds, simulator)
    assert not found["wrong"], found["wrong"]
    agreed = found["outcomes"].get("equal, and the simulator agrees", 0)
    assert agreed > len(seeds) // 3  # most kernels are really compared, and by all three
    assert found["outcomes"].get("refused", 0) < len(seeds) // 10


def test_a_seed_makes_the_same_kernel_always():
    assert generator.program(7).source == generator.program(7).source
    assert generator.program(7).source != generator.program(8).source


def test_the_kernels_are_as_varied_as_they_are_meant_to_be():
    sources = [generator.program(seed).source for seed in range(300)]
    for what in (
        *("elif", "else", "while", "for k", "break", "continue", "return\n", " and ", " or "),
        *("shared.array", "local.array", "atomic.add", "atomic.max", "shfl_", "pair0(", "np.int16"),
        *("cuda.grid(2)", "blockIdx.x", "syncthreads", "<=", "if (", "uint32", "float64", "** 3"),
    ):
        assert sum(what in source for source in sources) >= 5, what


SLIPS = {  # and kernels that show them
    "a continue that leaves the loop": (loops.Loop, "wait", loops.Loop.leave, (309, 348)),
    "a branch that keeps its own types": (machine, "conform", lambda value, kind: value, (344,)),
    "a loop that keeps its own types": (loops, "conform", lambda value, kind: value, (322,)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_machine_that_errs_is_found(slip, monkeypatch):
    where, name, wrong, seeds = SLIPS[slip]
    assert campaign.campaign(seeds, None)["outcomes"] == {"equal": len(seeds)}
    monkeypatch.setattr(where, name, wrong)
    assert campaign.campaign(seeds, None)["outcomes"] == {"WRONG": len(seeds)}


def test_the_interpreter_and_numbas_compiler_agree():
    """The judge is judged: one thread of it, against machine code for the same function."""

    def function(a, b, out):
        total = 0
        for k in range(a % 7):
            if k == b % 5:
                continue
            total += a // (k + 1) - b * k
            if total > 100:
                break
        out[0] = total + (a if a > b else -b)

    compiled = numba.njit(function)
    kernel = numba.cuda.jit(function)
    for a in range(-8, 9):
        for b in (-3, 0, 2, 11):
            ours, theirs = np.zeros(1, np.int64), np.zeros(1, np.int64)
            interpreter.launch(kernel, (1,), (1,), [a, b, ours])
            compiled(a, b, theirs)
            assert ours == theirs, (a, b)


# --- what the fuzzer found ------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.uint32(5), np.uint8(3), np.int32(-(2**31)), np.int8(-128)])
def test_a_sign_is_changed_before_an_integer_is_widened(value):
    """Numba negates and inverts an int32 in 32 bits, and widens to 64 afterwards."""

    @numba.njit
    def changed(x):
        return np.int64(-x), np.int64(~x)

    @cuda.jit
    def kernel(x, out):
        out[0] = -x[0]
        out[1] = ~x[0]

    out = np.zeros(2, np.int64)
    kernel[1, 1](np.array([value]), out)
    assert tuple(out) == changed(value)
