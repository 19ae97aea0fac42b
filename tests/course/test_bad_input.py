"""Whatever a learner hands to `check`, the answer is clear, and neither kernel nor points are lost.

What every exercise answers alike is tested in test_check.py; here are the ways to go wrong in
unit 3.2, the machine's limits, and the progress file.
"""

import resource
import sqlite3
import sys

import numpy as np
import pytest

from aiinfra_labs.course import check, limits, progress, show
from aiinfra_labs.course.checking import try_out
from aiinfra_labs.course.registry import all_exercises, find, nearest
from aiinfra_labs.gpu import emulator as cuda

FIRST = "1.1.a"  # of the course: nothing is near to no id


def only(result):
    (failed,) = [r for r in result.requirements if not r.passed]
    return failed


def first(result):
    """The first failed requirement, which must have three parts."""
    assert not result.passed and "Traceback" not in str(result)
    failed = next(r for r in result.requirements if not r.passed)
    assert failed.what and failed.why and failed.try_, failed
    return failed


@cuda.jit
def right(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


# --- what is not an exercise, what is not an answer --------------------------------------------


@pytest.mark.parametrize(
    ("id", "near"),
    [
        ("3.2", "3.2.a or 3.2.b or 3.2.c"),
        (3.2, "3.2.a or 3.2.b or 3.2.c"),
        ("3.2.A", "3.2.a?"),
        (" 3.2.a", "3.2.a?"),
        ("3.2 a", "3.2.a"),
        (["3.2.a"], "3.2.a"),
        (None, FIRST),
        ("", FIRST),
    ],
)
def test_an_id_that_is_none_names_those_that_are_near(id, near):
    for answer in (check(id, right), show(id, right)):
        assert f"did you mean {near}" in only(answer).try_
        assert str(answer).split(":")[0].strip(), "the answer names what was asked for"


def test_nearest_begins_with_the_unit():
    assert nearest("3.2", 5) == ["3.2.a", "3.2.b", "3.2.c", "3.2.d", "3.2.e"]


def test_no_arguments_at_all():
    assert "there is no exercise ''" in only(check()).what
    assert "nothing was given to check" in only(check("3.2.a")).what
    assert "nothing was given to show" in only(show("3.2.a")).what


def test_arguments_in_the_wrong_order():
    for answer in (check(right, "3.2.a"), show(right, "3.2.a")):
        assert 'exchange the two: check("3.2.a", name)' in only(answer).try_


def test_a_launch_instead_of_a_kernel():
    a, b, out = (np.ones(32) for _ in range(3))
    launched = only(check("3.2.a", right[1, 32](a, b, out)))
    assert "None cannot be called" in launched.what and "every launch" in launched.why
    configured = only(check("3.2.a", right[1, 32]))
    assert "with its blocks and threads" in configured.what and "brackets" in configured.try_


# --- kernels that go wrong -----------------------------------------------------------------------


@cuda.jit
def returns(a, b, out):
    i = cuda.grid(1)
    return a[i] + b[i]


@cuda.jit
def whole_arrays(a, b, out):
    out = a + b  # noqa: F841


@cuda.jit
def no_axis(a, b, out):
    i = cuda.threadIdx
    out[i] = a[i] + b[i]


@cuda.jit
def names_of_c(a, b, out):
    i = threadIdx.x  # noqa: F821
    out[i] = a[i] + b[i]


@cuda.jit
def misspelt(a, b, out):
    i = cuda.threadIDx.x
    out[i] = a[i] + b[i]


@cuda.jit
def no_call(a, b, out):
    i = cuda.grid
    out[i] = a[i] + b[i]


@cuda.jit
def no_dimension(a, b, out):
    i = cuda.grid()
    out[i] = a[i] + b[i]


@cuda.jit
def half_an_index(a, b, out):
    i = cuda.grid(1) / 2
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def does_nothing(a, b, out):
    cuda.grid(1)


@cuda.jit
def for_ever(a, b, out):
    i = cuda.grid(1)
    while i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def raises(a, b, out):
    i = cuda.grid(1)
    if i >= out.size:
        raise IndexError("outside")
    out[i] = a[i] + b[i]


@cuda.jit
def exits(a, b, out):
    sys.exit(1)


@cuda.jit
def calls_itself(a, b, out):
    calls_itself(a, b, out)


@cuda.jit
def allocates(a, b, out):
    x = np.zeros(10**12)
    out[0] = x[0]


@cuda.jit
def catches(a, b, out):
    i = cuda.grid(1)
    try:  # noqa: SIM105
        out[i] = a[i] + b[i]
    except IndexError:
        pass


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (returns, "return"),
        (whole_arrays, "array"),
        (no_axis, "cuda.threadIdx.x"),
        (names_of_c, "threadIdx"),
        (misspelt, "threadIdx"),
        (no_call, "grid"),
        (no_dimension, "grid"),
        (half_an_index, "integer"),
        (does_nothing, "nan marks an element that no thread wrote"),
        (for_ever, "follow one thread"),
        (raises, "the kernel raised IndexError: outside"),
        (exits, "exit"),
        (calls_itself, "calls deep"),
        (allocates, "np.zeros"),
        (catches, "try"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_kernel_that_goes_wrong(kernel, said):
    failed = first(check("3.2.a", kernel))
    assert said in f"{failed.what} {failed.why} {failed.try_}", failed
    for inside in ("ArrayView", "NoneType", "astype", "Dim3", "<cuda."):
        assert inside not in failed.what, "the emulator's own names are not the learner's"
    assert "Traceback" not in str(show("3.2.a", kernel))


# --- functions that go wrong ---------------------------------------------------------------------


def copied(kernel, x, launch):
    d = cuda.to_device(x)
    launch(kernel, d)
    return d.copy_to_host()


def no_threads(kernel, x, y, times):
    return copied(kernel, x, lambda k, d: k[1, 0](d, d, d))


def too_many_threads(kernel, x, y, times):
    return copied(kernel, x, lambda k, d: k[1, 1025](d, d, d))


def float_grid(kernel, x, y, times):
    return copied(kernel, x, lambda k, d: k[x.size / 32, 32](d, d, d))


def no_configuration(kernel, x, y, times):
    return copied(kernel, x, lambda k, d: k(d, d, d))


def blocks_only(kernel, x, y, times):
    return copied(kernel, x, lambda k, d: k[4](d, d, d))


def two_of_three(kernel, x, y, times):
    return copied(kernel, x, lambda k, d: k[1, 32](d, d))


def text_on_the_device(kernel, x, y, times):
    out = np.zeros(2, np.float32)
    kernel[1, 2](cuda.to_device(np.array(["a", "b"])), np.ones(2, np.float32), out)
    return out


def wide_floats(kernel, x, y, times):
    return cuda.to_device(x.astype(np.longdouble)).copy_to_host()


def objects(kernel, x, y, times):
    return cuda.to_device(np.array([x, None], dtype=object)).copy_to_host()


def lists(kernel, x, y, times):
    kernel[1, 32](list(x), list(y), list(x))
    return x


def absurd_array(kernel, x, y, times):
    return np.zeros((10**7, 10**7))


def absurd_device_array(kernel, x, y, times):
    return cuda.device_array(10**13)


def leaves(kernel, x, y, times):
    sys.exit(3)


def deeper(kernel, x, y, times):
    return deeper(kernel, x, y, times)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_threads, "0 threads"),
        (too_many_threads, "at most 1024 threads"),
        (float_grid, "a float"),
        (no_configuration, "without a launch configuration"),
        (blocks_only, "is not a launch configuration"),
        (two_of_three, "takes 3 arguments (a, b, out)"),
        (text_on_the_device, "holds text, which a kernel can store and not read"),
        (wide_floats, "cannot live on the device"),
        (objects, "cannot live on the device"),
        (lists, "is a list"),
        (absurd_array, "more memory was asked for than there is"),
        (absurd_device_array, "memory"),
        (leaves, "asked Python to end"),
        (deeper, "RecursionError: maximum recursion depth exceeded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_function_that_goes_wrong(function, said):
    failed = first(check("3.2.b", function))
    assert said in f"{failed.what} {failed.why}", failed
    assert failed.code, "the learner's own line is shown"


# --- what a learner's code may not take with it --------------------------------------------------


def replaces(kernel, x, y, times):
    np.array_equal = lambda *arrays: True
    np.isnan = None
    return x


def test_what_was_replaced_is_put_back_and_said():
    before = np.array_equal, np.isnan
    failed = first(check("3.2.b", replaces))
    assert (np.array_equal, np.isnan) == before
    assert "your code replaced numpy.array_equal, numpy.isnan" in failed.what
    assert find("3.2.a").title in str(check("3.2.a", right)) and check("3.2.a", right).passed


def test_what_was_replaced_between_requirements_costs_all(define):
    def body(function, require):
        with require("first"):
            pass
        function()

    def replace():
        np.isnan = None

    exercise = define(body, arguments=())
    before = np.isnan
    result = try_out(exercise, replace)
    assert np.isnan is before and result.score == 0 and not result.passed


def test_show_puts_back_what_was_replaced(define):
    exercise = define(lambda function, require: None, arguments=())
    exercise.show(lambda function: function())

    def replace():
        np.isnan = None

    before = np.isnan
    show(exercise.id, replace)
    assert np.isnan is before


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts it so")
def test_memory_beyond_what_is_free_is_refused_and_the_limit_lifted(monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    real = limits._figures

    def nothing_free(path):
        return real(path) | {"MemAvailable": 0}

    monkeypatch.setattr(limits, "_figures", nothing_free)
    with limits.spare_memory(), pytest.raises(MemoryError):
        np.zeros(3 << 30, np.uint8)  # 1 GiB may always be asked for
    with limits.spare_memory():
        assert np.zeros(1 << 28, np.uint8).size
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


# --- hints ---------------------------------------------------------------------------------------


def nothing_right(*arguments):
    return None


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_a_hint_names_a_requirement_that_there_is(exercise):
    answer = does_nothing if exercise.id == "3.2.a" else nothing_right
    if exercise.kind == "kernel":
        answer = cuda.jit(_with_parameters(exercise.arguments))
    names = {r.name for r in try_out(exercise, answer).requirements}
    tied = {hint[0] for hint in exercise.hints if not isinstance(hint, str)}
    assert tied <= names, tied - names


def _with_parameters(arguments):
    import linecache

    text = f"def idle({', '.join(arguments)}):\n    cuda.grid(1)\n"
    name = f"<idle {text}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space = {"cuda": cuda}
    exec(compile(text, name, "exec"), space)
    return space["idle"]


def test_a_hint_is_about_what_failed():
    @cuda.jit
    def unguarded(a, b, out):
        i = cuda.grid(1)
        out[i] = a[i] + b[i]

    @cuda.jit
    def unguarded_still(a, b, out):
        k = cuda.grid(1)
        out[k] = a[k] + b[k]

    told = [check("3.2.a", kernel) for kernel in (unguarded, unguarded, unguarded_still)]
    assert [result.hint_number for result in told] == ["1 of 3", "1 of 3", "2 of 3"]
    assert "128 threads" in told[0].hint and "if i < out.size" in told[2].hint
    assert "Hint 1 of 3: 100 elements" in str(told[0])
    assert "<code>if i &lt; out.size:</code>" in told[2]._repr_html_()


# --- the progress file ---------------------------------------------------------------------------


def test_a_full_disk_stops_nothing(home, capsys, monkeypatch):
    check("3.2.a", right)
    real = sqlite3.connect

    class Full(sqlite3.Connection):
        def execute(self, statement, *more):
            if statement.startswith("INSERT"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(statement, *more)

    def connect(path, *arguments, **options):
        kind = sqlite3.Connection if str(path) == ":memory:" else Full
        return real(path, *arguments, factory=kind, **options)

    with monkeypatch.context() as full:
        full.setattr(progress.sqlite3, "connect", connect)
        assert check("3.2.a", does_nothing).hint and check("3.2.a", right).passed
        assert progress.current().records()["3.2.a"].attempts == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "disk is full" in said[0] and "until the kernel stops" in said[0]
    assert progress.Progress(home / "progress.db").records()["3.2.a"].attempts == 1
