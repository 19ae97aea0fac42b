"""Every wrong call of an intrinsic is answered from one table: what the function takes."""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.api.intrinsics import Intrinsic
from aiinfra_labs.gpu.emulator.api.takes import TAKES
from by_path import loaded


def intrinsics(owner=cuda, prefix=""):
    """(name, intrinsic) of all that a kernel can call."""
    for name, value in vars(owner).items():
        if isinstance(value, Intrinsic) and not value.value:
            yield prefix + name, value
        elif type(value).__name__ == "SimpleNamespace":
            yield from intrinsics(value, f"{prefix}{name}.")


CALLED = dict(intrinsics())


def kernel_of(tmp_path, statement):
    """A kernel of the array `a` with one statement."""
    path = tmp_path / "wrong_call.py"
    path.write_text(
        "import numpy as np\nfrom aiinfra_labs.gpu import emulator as cuda\nTABLE = np.arange(3)\n"
        f"@cuda.jit\ndef kernel(a):\n    x = a[0]\n    {statement}\n"
    )
    module = loaded(path)
    return module.kernel


def the_answer(tmp_path, statement, dtype=np.int32):
    with pytest.raises(cuda.UnsupportedFeature) as caught:
        kernel_of(tmp_path, statement)[1, 32](np.zeros(32, dtype))
    error = caught.value
    assert error.what and error.why and error.try_ and error.place.line == 7
    assert "positional argument" not in str(error) and "foresee" not in str(error)
    return error


def test_the_table_knows_all_that_a_kernel_can_call():
    assert {name for name in CALLED if name not in TAKES} == set()
    assert all(value.takes is not None for value in CALLED.values())


@pytest.mark.parametrize("name", CALLED)
def test_too_many_and_too_few(tmp_path, name):
    takes = TAKES[name]
    needed = sum("=" not in p for p in takes.parameters)
    too_many = ", ".join(["x"] * (len(takes.parameters) + 1))
    for statement in [f"cuda.{name}({too_many})", f"cuda.{name}()"][: 2 if needed else 1]:
        error = the_answer(tmp_path, statement)
        assert error.what.startswith(f"cuda.{name} takes ")
        assert f"cuda.{name}(" in error.try_ and "for example" in error.try_


@pytest.mark.parametrize("name", CALLED)
def test_an_example_calls_the_function(name):
    assert f"cuda.{name}(" in TAKES[name].example
    assert TAKES[name].call.startswith(f"cuda.{name}(")


WRONG = [
    ("cuda.shared.array(32)", "takes shape and dtype, and alignment if wanted, and is called "),
    ("cuda.atomic.add(a[0], 1)", "called without its value"),
    ("cuda.syncthreads(1)", "takes nothing, and is called with 1 argument"),
    ("cuda.shfl_down_sync(0xffffffff, x)", "called without its delta"),
    ("cuda.shfl_down_sync(0xffffffff, x, width=16, delta=1)", "with width=, which it does not"),
    ("cuda.shfl_down_sync(0xffffffff, x, 1, delta=1)", "given its delta twice"),
    ("cuda.atomic.add(a, 0, val=1)", "with val=: Numba goes by their places"),
    ("cuda.all_sync(mask=0xffffffff, predicate=True)", "Numba goes by their places"),
    ("cuda.syncwarp(mask=3)", "Numba goes by their places"),
    ("cuda.grid()", "called without its ndim"),
    ("cuda.grid(4)", "takes 1, 2 or 3"),
    ("cuda.atomic.add(x, 0, 1)", "takes an array first"),
    ("cuda.shfl_sync(0xffffffff, a, 0)", "lanes exchange numbers, not the array a"),
    ("cuda.ballot_sync(0xffffffff, a)", "not the array a"),
    ("cuda.popc(a)", "the array a"),
    ("cuda.fma(a, 1.0, 2.0)", "the array a"),
    ("cuda.selp(x > 0, a, 2.0)", "the array a"),
    ("cuda.cbrt(a)", "the array a"),
    ("cuda.syncthreads_count(a)", "the array a"),
    ("cuda.const.array_like(a)", "the array a"),
    ("cuda.shared.array(32, x)", "dtype"),
    ("cuda.local.array(-1, np.float32)", "-1"),
    ("len(a, a)", "len takes array, and is called with 2 arguments"),
    ("len()", "called without its array"),
]


@pytest.mark.parametrize(("statement", "what"), WRONG)
def test_wrong_calls_are_told_apart(tmp_path, statement, what):
    error = the_answer(tmp_path, statement)
    assert what in error.what


@pytest.mark.parametrize(
    "statement",
    [
        "s = cuda.shared.array(dtype=np.float32, shape=8)",
        "s = cuda.shared.array(8, dtype=np.float32)",
        "s = cuda.local.array(8, np.float32, alignment=16)",
        "a[cuda.grid(ndim=1)] = 1",
        "a[0] = cuda.syncthreads_count(predicate=int(x == 0))",
        "a[0] = cuda.shfl_down_sync(0xffffffff, x, delta=1)",
        "a[0] = cuda.shfl_sync(src_lane=0, value=x, mask=0xffffffff)",
        "cuda.syncwarp()",
        "cuda.syncwarp(0xffffffff)",
    ],
)
def test_what_numba_takes_by_name_is_taken(tmp_path, statement):
    kernel_of(tmp_path, statement)[1, 32](np.zeros(32, np.int32))


def test_a_function_that_is_handed_over_answers_alike():
    @cuda.jit(device=True)
    def apply(a, operation):
        operation(a, 0)

    @cuda.jit
    def handed(a):
        apply(a, cuda.atomic.add)

    with pytest.raises(cuda.UnsupportedFeature) as caught:
        handed[1, 32](np.zeros(32, np.int32))
    assert "cuda.atomic.add takes array, index and value" in caught.value.what
    assert "for example cuda.atomic.add(counts, i, 1)" in caught.value.try_
