"""A device function has a version for each list of types and literals, with arrays of its own."""

import ast
import enum

import numba
import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.lanes import dispatch
from aiinfra_labs.gpu.emulator.translation import names


def test_a_local_array_has_the_type_of_each_version():
    @cuda.jit(device=True)
    def twice(a, i):
        t = cuda.local.array(2, a.dtype)
        t[0] = a[i]
        t[1] = a[i] * 3
        return t[0] + t[1]

    @cuda.jit
    def kernel(a, b, out):
        i = cuda.grid(1)
        out[i] = twice(a, i) + twice(b, i)

    out = np.zeros(4)
    kernel[1, 4](np.arange(4, dtype=np.int32), np.arange(4) * 0.25, out)
    assert out.tolist() == [0.0, 5.0, 10.0, 15.0]


def test_functions_made_at_one_place_have_shared_arrays_of_their_own():
    def make(n):
        @cuda.jit(device=True)
        def total(v, t):
            s = cuda.shared.array(n, numba.int32)
            if t < n:
                s[t] = v
            cuda.syncthreads()
            r = 0
            for j in range(n):
                r += s[j]
            return r

        return total

    four, eight = make(4), make(8)

    @cuda.jit
    def kernel(out):
        t = cuda.threadIdx.x
        a = four(t, t)
        b = eight(t, t)
        out[t] = 100 * a + b

    out = np.zeros(8, np.int32)
    kernel[1, 8](out)
    assert out.tolist() == [628] * 8


def test_a_number_in_a_call_is_known_in_the_function():
    @cuda.jit(device=True)
    def last(x, n):
        t = cuda.local.array(n, numba.float64)
        for j in range(n):
            t[j] = x + j
        return t[n - 1]

    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        six = 6
        out[i] = last(i, 2) + 100 * last(i, six)

    out = np.zeros(2)
    kernel[1, 2](out)
    assert out.tolist() == [501.0, 602.0]


def test_one_version_called_twice_has_one_shared_array():
    @cuda.jit(device=True)
    def keep(value, write):
        s = cuda.shared.array(1, np.int32)
        if write:
            s[0] = value
        return s[0]

    @cuda.jit
    def kernel(flags, out):
        keep(np.int32(7), flags[0])
        out[0] = keep(np.int32(9), flags[1])

    out = np.zeros(1, np.int32)
    kernel[1, 1](np.array([True, False]), out)
    assert out[0] == 7


@pytest.mark.parametrize("axes", [1, 2])
def test_a_function_inside_a_kernel_has_arrays_for_each_call(axes):
    """Numba writes the function out at each call, so that each has a type of its own."""

    @cuda.jit
    def kernel(a, b, out):
        def first(x):
            t = cuda.local.array(1, x.dtype)
            t[0] = x[0]
            return t[0]

        out[0] = first(a) + first(b)

    out = np.zeros(1)
    kernel[1, 1](np.array([1], np.int32), np.array([0.5]), out)
    assert out[0] == 1.5


class Sizes(enum.IntEnum):
    SMALL = 4


TILE, SHAPE, WIDE = 4, (2, 3), np.int64(4)


def lengths_known():
    def kernel(a):
        n = 3
        m = TILE
        x = cuda.shared.array(n, np.float32)
        y = cuda.local.array((m, 2 * 4), np.float32)
        z = cuda.local.array(SHAPE, np.float32)
        w = cuda.local.array(SHAPE[1], np.float32)
        v = cuda.local.array(a.ndim, np.float32)
        x[0] = y[0, 0] = z[0, 0] = w[0] = v[0] = 1
        a[0] = x.size + 10 * y.size + 1000 * z.size + 10000 * w.size + 100000 * v.size

    return kernel


def test_a_length_may_be_a_number_a_name_for_one_or_a_number_of_axes():
    a = np.zeros(1)
    cuda.jit(lengths_known())[1, 1](a)
    assert a[0] == 136323


def refused(kernel, *args, name="shared"):
    with pytest.raises(cuda.UnsupportedFeature) as caught:
        kernel[1, 4](*args)
    error = caught.value
    assert f"cuda.{name}.array" in error.what
    assert error.why and error.try_ and error.place.line
    return error


def test_a_length_that_only_the_launch_knows_is_refused():
    """The commonest of all beginners' mistakes: Numba fixes such an array when it compiles."""

    @cuda.jit
    def by_argument(a, n):
        s = cuda.shared.array(n, np.float32)
        s[0] = a[0]

    @cuda.jit
    def by_shape(a):
        n = a.shape[0]
        s = cuda.local.array(n, np.float32)
        s[0] = a[0]

    @cuda.jit
    def by_branch(a):
        n = 3
        if a[0] > 1:
            n = 4
        s = cuda.local.array(n, np.float32)
        s[0] = a[0]

    @cuda.jit
    def by_numpy_number(a):
        s = cuda.local.array(WIDE, np.float32)
        s[0] = a[0]

    @cuda.jit(device=True)
    def inner(x, n):
        s = cuda.local.array(n, np.float32)
        s[0] = x
        return s[0]

    @cuda.jit
    def by_call(a, n):
        a[0] = inner(a[0], n)

    a = np.arange(4, dtype=np.float32)
    assert "kernel[blocks, threads, stream, bytes]" in refused(by_argument, a, 4).try_
    refused(by_shape, a, name="local")
    refused(by_branch, a, name="local")
    refused(by_numpy_number, a, name="local")
    refused(by_call, a, 2, name="local")


def test_the_number_of_axes_of_grid_is_written_out():
    @cuda.jit
    def kernel(a, n):
        a[cuda.grid(n)] = 1

    with pytest.raises(cuda.UnsupportedFeature, match="cuda.grid takes 1, 2 or 3"):
        kernel[1, 1](np.zeros(1), 1)


def test_the_value_is_evaluated_before_the_place_where_it_goes():
    @cuda.jit
    def kernel(n, q):
        q[cuda.atomic.add(n, 0, 1)] = n[0]
        q[cuda.atomic.add(n, 0, 1)] = n[0] * 10

    n, q = np.zeros(1, np.int32), np.full(3, -1, np.int32)
    kernel[1, 1](n, q)
    assert q.tolist() == [0, 10, -1]


def test_a_field_is_stored_after_its_value_is_known():
    pair = np.dtype([("x", np.int32), ("y", np.int32)])

    @cuda.jit
    def kernel(n, q):
        q[cuda.atomic.add(n, 0, 1)].x = n[0]

    n, q = np.zeros(1, np.int32), np.full(2, -1, pair)
    kernel[1, 1](n, q)
    assert q["x"].tolist() == [0, -1]


def test_named_arguments_are_evaluated_as_they_are_written():
    @cuda.jit(device=True)
    def minus(x, y):
        return x - y

    @cuda.jit
    def kernel(n, out):
        out[0] = minus(y=cuda.atomic.add(n, 0, 1), x=10 * cuda.atomic.add(n, 0, 1))

    n, out = np.zeros(1, np.int32), np.zeros(1, np.int64)
    kernel[1, 1](n, out)
    assert out[0] == 10


def test_a_launch_again_finds_what_depends_on_kernel_and_types_alone(monkeypatch):
    done = []
    infer, translate = dispatch.Function._infer, dispatch.translate
    monkeypatch.setattr(
        dispatch.Function, "_infer", lambda *given: done.append("types") or infer(*given)
    )
    monkeypatch.setattr(dispatch, "translate", lambda f: done.append("text") or translate(f))

    @cuda.jit
    def kernel(out, n):
        out[0] = n

    for _ in range(3):
        kernel[1, 1](np.zeros(1), 2)
        kernel[2, 64](np.zeros(5), 7)
    assert done == ["text", "types"]
    kernel[1, 1](np.zeros(1, np.float32), 2)
    assert done == ["text", "types", "types"]


def test_a_tree_is_walked_once_until_it_changes():
    tree = ast.parse("def f(a):\n    if a: b = 1\n    def g(): c = 2").body[0]
    assert names.in_scope(tree.body[0]) is names.in_scope(tree.body[0])
    assert names.assigned(tree.body) == ["b", "g"]
    tree.body[0].body = [ast.parse("d = 3").body[0]]
    names.forget(tree)
    assert names.assigned(tree.body) == ["d", "g"]
