"""The third referee: Numba's compiler for the CUDA target, which needs no GPU.

What the emulator accepts must compile, and with the same types. `conftest.py` compiles every
kernel that the tests of this folder launch; here are the course's own kernels, random ones, and the
compiler's own door. Where NVIDIA's packages are not installed, all of it is skipped.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `fuzz` is a package of this folder

from fuzz import typed

from aiinfra_labs.gpu import compiled
from aiinfra_labs.gpu import emulator as cuda

pytestmark = pytest.mark.skipif(bool(compiled.missing()), reason=compiled.missing())


@cuda.jit(device=True)
def double(x):
    return x * 2


def test_a_kernel_becomes_ptx_with_numbas_names_behind_it():
    size = 8

    @cuda.jit
    def kernel(a, pair, n):
        i = cuda.grid(1)
        tile = cuda.shared.array(size, np.float32)
        tile[cuda.threadIdx.x % size] = double(a[i])
        cuda.syncthreads()
        if i < n:
            cuda.atomic.add(pair[0], 0, tile[0])

    made = compiled.compile_kernel(kernel, (np.zeros(8, np.float32), (np.zeros(1), np.zeros(2)), 8))
    assert "bar.sync" in made.ptx
    assert "atom.add.f64" in made.ptx
    assert str(made.types["i"]) == "int64"


def test_what_numba_refuses_is_told_in_its_words():
    @cuda.jit
    def kernel(a):
        a[0] = np.exp(a[0])

    with pytest.raises(compiled.Refused, match="Numba does not compile kernel for a GPU: KeyError"):
        compiled.compile_kernel(kernel, (np.zeros(1),))


def test_types_that_differ_are_found(monkeypatch):
    """The referee is judged: with one slip in the emulator's rules it objects."""

    import ast

    from aiinfra_labs.gpu.emulator.lanes import arithmetic
    from aiinfra_labs.gpu.emulator.translation import expressions

    assert typed.differences(1)[0] == "same types"
    wrong = {ast.Mult: lambda a, b: arithmetic.add(a, b).astype(np.int16)}
    monkeypatch.setattr(expressions, "BINARY", expressions.BINARY | wrong)
    assert typed.differences(1)[0] == "OTHER TYPES"


@pytest.mark.parametrize("first", [300_000, 300_020])
def test_random_kernels_compile_with_the_emulators_types(first):
    """A piece of a longer campaign: `python tests/gpu/fuzz/typed.py --count 500`."""
    outcomes, wrong = typed.campaign_of(range(first, first + 20))
    assert not wrong
    assert outcomes["same types"] >= 17
