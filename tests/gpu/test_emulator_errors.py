"""What the emulator answers to a mistake: the kernel, the line, why, and what to try."""

import re
import subprocess
import sys

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from by_path import loaded

# words of the emulator's own insides, which no message may show
INSIDES = re.compile(r"ArrayView|ufunc|NoneType|object has no|Traceback|_infer|foresee")


@cuda.jit
def fill(a):
    i = cuda.grid(1)
    if i < a.size:
        a[i] = i


def the_error(call):
    """The emulator's error that `call` raises, in three parts that a learner can read."""
    with pytest.raises(cuda.EmulatorError) as caught:
        call()
    error = caught.value
    assert error.what and error.why and error.try_
    assert not INSIDES.search(str(error)), str(error)
    assert str(error).splitlines()[0] == error.what
    assert f"Why: {error.why}" in str(error) and f"Try: {error.try_}" in str(error)
    return error


A = np.zeros(4)

LAUNCHES = [
    (lambda: fill[0, 32](A), "0 blocks along x", "round up"),
    (lambda: fill[-3, 32](A), "-3 blocks along x", "round up"),
    (lambda: fill[1, 0](A), "0 threads a block along x", "128 or 256"),
    (lambda: fill[1, 1025](A), "1025 threads a block", "fewer threads and more blocks"),
    (lambda: fill[1, (32, 33)](A), "1056 threads a block", "fewer threads and more blocks"),
    (lambda: fill[1, (1, 1, 65)](A), "65 threads a block along z", "another axis"),
    (lambda: fill[2**31, 1](A), "2147483648 blocks along x", "grid-stride loop"),
    (lambda: fill[(1, 65536), 1](A), "65536 blocks along y", "grid-stride loop"),
    (lambda: fill[7 / 2, 32](A), "a grid of 3.5, a float", "// instead of /"),
    (lambda: fill[np.float64(2), 32](A), ", a float64", "// instead of /"),
    (lambda: fill[1, True](A), "a block of True", "whole numbers"),
    (lambda: fill["4", 32](A), "a grid of '4'", "whole numbers"),
    (lambda: fill[None, 32](A), "a grid of None", "whole numbers"),
    (lambda: fill[(1, 1, 1, 1), 32](A), "a grid of 4 dimensions", "(x, y, z)"),
    (lambda: fill[(), 32](A), "a grid of 0 dimensions", "(x, y, z)"),
    (lambda: fill(A), "without a launch configuration", "fill[blocks, threads]"),
    (lambda: fill[32](A), "fill[32] is not a launch configuration", "fill[blocks, threads]"),
    (lambda: fill[1, 2, 3, 4, 5](A), "is not a launch configuration", "fill[blocks, threads]"),
    (lambda: fill[1, 32, 0, 10**6](A), "1000000 bytes of shared memory", "smaller tile"),
    (lambda: fill[1, 32, 0, "1k"](A), "'1k' of shared memory", "bytes"),
    (lambda: fill.forall(2.5)(A), "a grid of 2.5", "//"),
    (
        lambda: fill[1, 32](),
        "takes 1 argument (a); the launch passes 0",
        "fill[blocks, threads](a)",
    ),
    (lambda: fill[1, 32](A, 1), "takes 1 argument (a); the launch passes 2", "(a)"),
    (lambda: fill[1, 32](a=A), "a=...", "fill[blocks, threads](a)"),
]


@pytest.mark.parametrize(("call", "what", "advice"), LAUNCHES)
def test_launches_that_cannot_be(call, what, advice):
    error = the_error(call)
    assert isinstance(error, cuda.LaunchError)
    assert what in error.what and advice in error.try_
    assert "fill" in error.what


def test_a_limit_is_the_devices_own():
    before = cuda.get_current_device().key
    try:
        cuda.select_device("t4")
        assert "NVIDIA T4 takes at most 1024" in the_error(lambda: fill[1, 1025](A)).why
    finally:
        cuda.select_device(before)
    assert "h100, a100" in the_error(lambda: cuda.select_device("x9")).why


ARGUMENTS = [
    (np.array([None]), "dtype object", "np.array(values"),
    (np.array(["2026-01-01"], "M8[D]"), "dtype datetime64[D]", "view(np.int64)"),
    (np.array([1], "m8[s]"), "dtype timedelta64[s]", "view(np.int64)"),
    (np.zeros(1, np.longdouble), "dtype float128", "astype"),
    (np.zeros(1, np.clongdouble), "dtype complex256", "astype"),
    (np.zeros(1, [("a", "f4"), ("b", "O")]), "the field 'b' of dtype object", "np.array(values"),
    (np.zeros(1, ">f4"), "dtype >f4 has its bytes in the other order", "newbyteorder"),
    (np.zeros(8)[::2], "is not contiguous", "np.ascontiguousarray"),
    ([1.0, 2.0], "the argument a is a list", "np.asarray(a)"),
    ({}, "the argument a is a dict", "numbers and arrays"),
    (None, "the argument a is None", "numbers and arrays"),
    ("text", "the argument a is a str", "numbers and arrays"),
    ((A, ("x",)), "the argument a[1][0] is a str", "numbers and arrays"),
    (2**64, "needs more than 64 bits", "two parts"),
]


@pytest.mark.parametrize(("argument", "what", "advice"), ARGUMENTS, ids=lambda v: str(v)[:20])
def test_arguments_that_cannot_be_passed(argument, what, advice):
    error = the_error(lambda: fill[1, 32](argument))
    assert what in error.what and advice in error.try_


MEMORY = [
    (lambda: cuda.device_array(10**12), "8,000,000,000,000 bytes"),
    (lambda: cuda.device_array((2, 2.5)), "shape (2, 2.5)"),
    (lambda: cuda.device_array(-1), "shape (-1,)"),
    (lambda: cuda.to_device([[1], [2, 3]]), "no regular array"),
    (lambda: cuda.to_device(A).copy_to_host(np.zeros(5)), "float64[5], from one of float64[4]"),
    (lambda: cuda.to_device(A).copy_to_host([1]), "copy_to_host into a list"),
    (lambda: cuda.to_device(A).copy_to_device(np.zeros(4, "f4")), "copy_to_device of float32[4]"),
    (lambda: cuda.to_device(np.zeros((4, 4)))[:, :2].reshape(8), "needs a copy"),
    (lambda: cuda.to_device(A).reshape(3), "cannot be reshaped"),
]


@pytest.mark.parametrize(("call", "what"), MEMORY)
def test_device_memory_that_cannot_be(call, what):
    error = the_error(call)
    assert isinstance(error, cuda.DeviceMemoryError)
    assert what in error.what


# A kernel's statement, and what the answer says. `a` is float64 [4], `i` the thread.
STATEMENTS = [
    ("d = {}", "a dict cannot be used in a kernel"),
    ("d = [i, i]", "a list cannot be used"),
    ("d = {i}", "a set cannot be used"),
    ("d = [k for k in range(3)]", "a list cannot be used"),
    ("d = sum(k for k in range(3))", "a generator cannot be used"),
    ("d = f'{i}'", "an f-string cannot be used"),
    ("d = yield i", "yield cannot be used"),
    ("if i > 0 and (d := i) > 2: a[d] = 1", ":= gives d a value in the middle of an expression"),
    ("import math", "import cannot be used"),
    ("from math import pi", "import cannot be used"),
    ("global scale", "global cannot be used"),
    ("class C: pass", "a class cannot be used"),
    ("a[i] = (lambda x: x)(i, i)", "lambda takes x and is called with 2 argument(s)"),
    ("raise i", "raise with anything but an exception cannot be used"),
    ("del i", "del cannot be used"),
    ("try: a[i] = 1\n    except ValueError: pass", "try cannot be used"),
    ("with a: pass", "with cannot be used"),
    ("match a:\n        case [x]: pass", "a match with a pattern of more"),
    ("print(i, sep=',')", "sep= in print(...) cannot be used"),
    ("print(i, end='')", "end= in print(...) cannot be used"),
    ("print(a)", "print takes numbers and text, not the array a"),
    ("a[i] = 'x' + 'y'", "the text 'xy' cannot be stored in it"),
    ("a[i] = 'x'", "a holds float64; the text 'x' cannot be stored in it"),
    ("a[i] = 1j", "a holds float64; a complex number cannot be stored in it"),
    ("a[i] = (1, 2)", "a holds float64; a tuple of 2 cannot be stored in it"),
    ("a[i] = None", "a holds float64; None cannot be stored in it"),
    ("a[i] = np.median(a)", "the call np.median(...) cannot be used"),
    ("a.sort()", "has no method sort() in a kernel"),
    ("a[i] = plain(i)", "the call plain(...) cannot be used"),
    ("a[i] = double(i, i)", "double is called with other arguments than it takes"),
    ("a[i] = double(*(i, i))", "double is called with other arguments than it takes"),
    ("a[:] = (1, 2)", "a tuple of 2 is assigned to a row of 4"),
    ("a[i] = sometimes(i)", "a variable or a result is a different kind of thing"),
    ("first, *rest = (1, 2, 3)", "a starred name cannot be used"),
    ("x, y = a.shape", "a tuple of 1 cannot be unpacked into 2 names"),
    ("x, y = i", "a number (int64) cannot be unpacked into 2 names"),
    ("a[0, 0] = 1", "a is indexed with 2 numbers and has 1 axis"),
    ("a[0.5] = 1", "a is indexed with a number (float64)"),
    ("a[i / 2] = 1", "a is indexed with a number (float64)"),
    ("a[i < 2] = 1", "a is indexed with a number (bool)"),
    ("a[i][None] = 1", "cannot be assigned to by index"),
    ("a['x'] = 1", "a has no field 'x'"),
    ("a[i] = a[0:2.5][0]", "a slice goes from integer to integer"),
    ("a[i] = a[::0][0]", "a slice has a step of 0"),
    ("a[i] = a[::i][0]", "the step of a slice is the same for all threads"),
    ("i[0] = 1", "a number (int64) cannot be assigned to by index"),
    ("a[i] = i[0]", "a number (int64) cannot be indexed"),
    ("TABLE[i] = 1", "TABLE is a global array"),
    ("a[i] = (1, 2.5)[i % 2]", "a tuple of several types is indexed with a constant"),
    ("a[i] = a + 1", "kernel computes with a whole array"),
    ("a[i] = math.sqrt(a)", "kernel computes with a whole array"),
    ("a[i] = a < 3", "kernel computes with a whole array"),
    ("a[i] = -a", "kernel computes with a whole array"),
    ("if a: a[i] = 1", "kernel computes with a whole array"),
    ("while a: a[i] = 1", "kernel computes with a whole array"),
    ("a[i] = min(a, a)", "min or max does not work on the array a"),
    ("a[i] = np.float32(a)", "a conversion to float32 does not work on the array a"),
    ("a[i] = i and None", "a variable or a result is a different kind of thing"),
    ("a[i] = (1, 2) < 3", "< does not work on a tuple of 2 and a number"),
    ("a[i] = 3 in i", "in goes through an array, not through a number"),
    ("a[i] = a @ a", "the operator @ cannot be used"),
    ("a[i] = 2.0 << 1", "a shift needs integers"),
    ("a[i] = 1.5 & 1", "a bitwise operation needs integers"),
    ("a[i] = abs(1j < 2j)", "complex numbers have no order"),
    ("a[i] = math.sqrt(1j)", "the functions of math take real numbers"),
    ("a[i] = math.sqrt(1, 2)", "math.sqrt takes 1 number(s), not 2"),
    ("a[i] = math.floor()", "math.floor takes 1 number(s), not 0"),
    ("a[i] = len(i)", "a number (int64) has no len()"),
    ("a[i] = len(a, a)", "len takes array, and is called with 2 arguments"),
    ("a[i] = int()", "int takes 1 number(s), not 0"),
    ("a[i] = float('1')", "float does not work on the text '1'"),
    ("for k in range(2j): a[i] = k", "range takes integers, not a number (complex128)"),
    ("for k in range(0, 9, 0): a[i] = k", "range() has a step of 0"),
    ("for k in range(): a[i] = k", "range takes 1 to 3 integers"),
    ("for k in i: a[i] = k", "a kernel loops over range(...), a tuple or an array"),
    ("for k in enumerate(i): a[i] = 1", "a kernel loops over range(...), a tuple or an array"),
    ("a[i] = nowhere", "the name 'nowhere' is not defined"),
    ("a[i] = threadIdx.x", "the name 'threadIdx' is not defined"),
    ("a[i] = cuda.gird(1)", "cuda.gird is not defined"),
    ("a[i] = cuda.threadIdx.w", "cuda.threadIdx.w is not defined"),
    ("a[i] = cuda.threadIdx", "a tuple of 3 cannot be stored in it"),
    ("a[i] = cuda.grid", "cuda.grid without a call"),
    ("a[i] = cuda.grid()", "cuda.grid takes ndim, and is called without its ndim"),
    ("a[i] = cuda.grid(4)", "cuda.grid takes 1, 2 or 3"),
    ("a[i] = cuda.grid(i)", "cuda.grid takes 1, 2 or 3"),
    ("cuda.shared.array(scale + 1, 'f4')", "scale + 1 of cuda.shared.array is worked out"),
    ("cuda.local.array((2, -scale), 'f4')", "-scale of cuda.local.array is worked out"),
    ("cuda.shared.array(shape=int(scale), dtype='f4')", "int(scale) of cuda.shared.array"),
    ("cuda.shared.array(a.shape, 'f4')", "the length a.shape of cuda.shared.array is worked out"),
    ("cuda.local.array(np.pi, 'f4')", "the length np.pi of cuda.local.array is worked out"),
    ("cuda.local.array((2, a.size), 'f4')", "the length a.size of cuda.local.array is worked"),
    ("a[i] = 2**70 + 99999999999999999999999", "needs more than 64 bits"),
    ("a[i] = np", "a module (np) cannot be used"),
    ("cuda.open_ipc_array(a)", "does not have cuda.open_ipc_array"),
]

HEADER = """
import math
import numpy as np
from aiinfra_labs.gpu import emulator as cuda

TABLE = np.arange(4.0)
scale = 2

def plain(x):
    return x

@cuda.jit(device=True)
def double(x):
    return 2 * x

@cuda.jit(device=True)
def forever(x):
    return forever(x - 1) if x > 0 else 0

@cuda.jit(device=True)
def sometimes(x):
    if x > 1:
        return x
"""


def written(folder, text):
    """The module of a file with this text: a kernel needs source."""
    file = folder / "kernels_under_test.py"
    file.write_text(text, encoding="utf-8")
    return loaded(file)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """One kernel for each statement."""
    text, places = HEADER, []
    for k, (statement, _) in enumerate(STATEMENTS):
        text += f"\n@cuda.jit\ndef kernel_{k}(a):\n    i = cuda.grid(1)\n"
        places.append(text.count("\n") + 1)
        text += f"    {statement}\n"
    return written(tmp_path_factory.mktemp("errors"), text), places


@pytest.mark.parametrize("k", range(len(STATEMENTS)), ids=[s for s, _ in STATEMENTS])
def test_what_a_kernel_cannot_do(k, kernels):
    module, places = kernels
    statement, what = STATEMENTS[k]
    error = the_error(lambda: getattr(module, f"kernel_{k}")[1, 4](np.ones(4)))
    assert isinstance(error, cuda.UnsupportedFeature)
    assert what in error.what.replace(f"kernel_{k}", "kernel")
    if "(i)" in statement and error.place.function:  # inside the device function
        assert error.place.function in statement
    elif not statement.startswith(("a[i] = forever", "for k in range(3)", "try")):
        assert error.place.line == places[k]
        assert error.place.source.strip() == statement.splitlines()[0]


def test_a_return_value_and_other_signatures(tmp_path):
    module = written(
        tmp_path,
        HEADER
        + """
@cuda.jit
def returns(a):
    return a[0]

@cuda.jit
def stars(a, **rest):
    a[0] = 1

@cuda.jit("void(float32[:], int32)")
def declared(a, n):
    a[0] = n / 2

def plain(a, n):
    a[0] = n

default, _ = cuda.jit(lambda a: None), cuda.jit(lambda a: None)
""",
    )
    assert "returns a value" in the_error(lambda: module.returns[1, 1](A)).what
    assert "**kwargs" in the_error(lambda: module.stars[1, 1](A)).what
    assert "float64[:]" in the_error(lambda: module.declared[1, 1](np.zeros(1), 1)).what
    array_for_number = the_error(lambda: module.declared[1, 1](np.zeros(1, "f4"), A))
    assert "declares n as int32 and got an array of float64[:]" in array_for_number.what
    assert "1 types" in the_error(lambda: cuda.jit("void(float32[:])")(module.plain)).what
    assert (
        "'nonsense'" in the_error(lambda: cuda.jit("void(float32[:], nonsense)")(module.plain)).what
    )
    assert "not a function made with def" in the_error(lambda: module.default[1, 1](A)).what
    half = np.zeros(1, "f4")
    module.declared[1, 1](half, 7)
    assert half[0] == 3.5


def test_source_that_cannot_be_read():
    scope = {}
    exec("def kernel(a): a[0] = 1", scope)
    assert (
        "source of kernel cannot be read"
        in the_error(lambda: cuda.jit(scope["kernel"])[1, 1](A)).what
    )


@pytest.mark.parametrize("thing", [5, np.sum, fill, int], ids=["5", "sum", "kernel", "type"])
def test_jit_of_what_is_no_function(thing):
    assert "cuda.jit was given" in the_error(lambda: cuda.jit(thing)).what


def test_a_kernels_names_outside_a_kernel():
    error = the_error(lambda: cuda.grid(1))
    assert "outside a kernel" in error.what
    with pytest.raises(AttributeError, match="does not have cuda.open_ipc_array"):
        cuda.open_ipc_array  # noqa: B018
    device = cuda.jit(lambda x: x, device=True)
    assert "cannot be launched" in the_error(lambda: device[1, 1](1)).what
    assert "cannot be called from the host" in the_error(lambda: device(1)).what


def test_out_of_bounds_names_everything():
    @cuda.jit
    def copy(a, b):
        x, y = cuda.grid(2)
        b[y, x] = a[y, x]

    a, b = np.zeros((8, 8)), np.zeros((8, 20))
    with pytest.raises(cuda.OutOfBounds) as caught:
        copy[(2, 1), (8, 8)](a, b)
    error = caught.value
    assert isinstance(error, IndexError)
    assert (error.array, error.index, error.shape) == ("a", (0, 8), (8, 8))
    assert (error.place.block, error.place.thread) == ((1, 0, 0), (0, 0, 0))
    assert error.place.source.strip() == "b[y, x] = a[y, x]"
    text = str(the_error(lambda: copy[(2, 1), (8, 8)](a, b)))
    assert "a[0, 8] is outside the array: its shape is (8, 8)" in text
    assert "kernel copy, line" in text
    assert "in block 1, thread 0" in text
    assert "64 threads go outside here; the last valid index is (7, 7)" in text
    assert not b.any()  # a launch that fails copies nothing back


def test_out_of_bounds_at_every_edge():
    @cuda.jit
    def at(a, k):
        a[k] = 1

    a = np.zeros(3)
    at[1, 1](a, 2)
    at[1, 1](a, -3)
    np.testing.assert_array_equal(a, [1, 0, 1])
    for k in (3, -4, 2**62, -(2**63), np.uint64(2**64 - 1), np.uint8(3)):
        assert the_error(lambda k=k: at[1, 1](np.zeros(3), k)).index == (int(k),)
    empty = the_error(lambda: at[1, 1](np.zeros(0), 0))
    assert "its shape is (0)" in empty.what and "the array is empty" in empty.why


def test_out_of_bounds_inside_a_device_function():
    @cuda.jit(device=True)
    def get(values, k):
        return values[k + 1]

    @cuda.jit
    def outer(a):
        i = cuda.grid(1)
        a[i] = get(a, i)

    error = the_error(lambda: outer[1, 3](np.zeros(3)))
    assert (error.place.kernel, error.place.function) == ("outer", "get")
    assert "return values[k + 1]" in str(error)
    assert error.place.thread == (2, 0, 0)


def test_a_negative_index_is_noted():
    @cuda.jit
    def last(a):
        a[-1] = 1

    with cuda.profile() as p:
        last[1, 1](np.zeros(3))
    (note,) = p.report.notes
    assert "negative index of a wraps" in note and "in CUDA C it is out of bounds" in note


def test_tuples_have_bounds():
    @cuda.jit
    def pick(out):
        i = cuda.grid(1)
        out[i] = (10, 20, 30)[i]

    out = np.zeros(3)
    pick[1, 3](out)
    np.testing.assert_array_equal(out, [10, 20, 30])
    error = the_error(lambda: pick[1, 4](np.zeros(4)))
    assert "the index 3 is outside a tuple of 3" in error.what
    assert error.place.thread == (3, 0, 0)


def test_locals_without_a_value_are_named():
    @cuda.jit
    def partly(out):
        i = cuda.grid(1)
        if i < 3:
            x = i
        out[i] = x

    @cuda.jit
    def empty_loop(out, n):
        for k in range(n):
            y = k
        out[0] = y

    error = the_error(lambda: partly[2, 4](np.zeros(8)))
    assert isinstance(error, cuda.UninitialisedRead)
    assert error.what == "x is read before it has a value"
    assert (error.place.block, error.place.thread) == ((0, 0, 0), (3, 0, 0))
    assert "out[i] = x" in str(error)
    out = np.zeros(3)
    partly[1, 3](out)
    np.testing.assert_array_equal(out, [0, 1, 2])
    empty_loop[1, 1](out, 5)
    assert out[0] == 4
    assert "y is read before" in the_error(lambda: empty_loop[1, 1](out, 0)).what


def test_an_endless_loop_is_stopped_where_it_spins():
    @cuda.jit
    def outer_never_ends(a):
        i = 0
        while i < 10:
            for _ in range(5):
                a[0] += 1

    @cuda.jit
    def plain_endless(a):
        while True:
            a[0] += 1

    with cuda.step_budget(100):
        for kernel, source in (
            (outer_never_ends, "while i < 10:"),
            (plain_endless, "while True:"),
        ):
            error = the_error(lambda kernel=kernel: kernel[1, 2](np.zeros(2)))
            assert isinstance(error, cuda.StepBudgetExceeded)
            assert error.place.source.strip() == source
            assert error.what == "the loop never ends"
            assert "2 threads go round for ever" in error.why


def test_a_loop_that_comes_no_nearer_to_its_end_spends_its_budget():
    @cuda.jit
    def steps_over_it(a):
        i = 0
        while i != 99:
            if i % 3:
                i += 4
            else:
                i += 2
        a[0] = i

    with cuda.step_budget(100):
        error = the_error(lambda: steps_over_it[1, 2](np.zeros(2)))
    assert isinstance(error, cuda.StepBudgetExceeded)
    assert "budget of 100 steps" in error.what and "2 threads still go round" in error.why


def test_the_budget_is_for_each_loop_not_for_the_launch():
    @cuda.jit
    def many(a):
        for _ in range(60):
            a[0] += 1
        for _ in range(60):
            a[0] += 1

    a = np.zeros(1)
    with cuda.step_budget(100):
        many[1, 1](a)
    assert a[0] == 120


def test_a_read_only_array_can_be_read_and_not_written():
    locked = np.arange(4.0)
    locked.setflags(write=False)

    @cuda.jit
    def read(a, out):
        out[cuda.grid(1)] = a[cuda.grid(1)]

    out = np.zeros(4)
    read[1, 4](locked, out)
    np.testing.assert_array_equal(out, locked)
    assert "a is a read-only array" in the_error(lambda: fill[1, 4](locked)).what


def test_findings_instead_of_errors():
    with cuda.check(raise_=False) as c:
        fill[1, 1025](A)
    assert [type(f) for f in c.findings] == [cuda.LaunchError]
    with pytest.raises(cuda.LaunchError), cuda.check() as c:
        fill[1, 1025](A)
    assert len(c.findings) == 1


def test_a_notebook_shows_the_message_alone():
    error = the_error(lambda: fill[1, 1025](A))
    shown = error._render_traceback_()
    assert shown[0].startswith("LaunchError: fill is launched with 1025 threads")
    assert len(shown) == 3


def test_a_notebook_cell_defined_twice_runs_the_later_code():
    """IPython names each cell's source; the same name defined again is another kernel."""
    program = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import numpy as np; from aiinfra_labs.gpu import emulator as cuda; o = np.zeros(1)")
for value in (1, 2):
    shell.run_cell(f"@cuda.jit\\ndef k(a):\\n    a[0] = {value}\\nk[1, 1](o); print(o[0])")
shell.run_cell("@cuda.jit\\ndef k(a):\\n    a[0] = 3\\n@cuda.jit\\ndef k(a):\\n    a[0] = 4\\n"
               "k[1, 1](o); print(o[0])")
shell.run_cell("@cuda.jit\\ndef k(a):\\n    a[1] = 3\\nk[1, 1](o)")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["1.0", "2.0", "4.0"]
    assert "OutOfBounds: a[1] is outside the array" in done.stdout
    assert "kernel k, line 3: a[1] = 3" in done.stdout
    assert "dispatch.py" not in done.stdout
