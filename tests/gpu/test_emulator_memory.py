"""Device memory: every dtype and layout, against NumPy; conversions, against CUDA's rules."""

import gc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


@cuda.jit
def copy_1d(a, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i]


@cuda.jit
def copy_2d(a, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = a[y, x]


@cuda.jit
def copy_3d(a, out):
    x, y, z = cuda.grid(3)
    if z < out.shape[0] and y < out.shape[1] and x < out.shape[2]:
        out[z, y, x] = a[z, y, x]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_goes_to_the_device_and_back(dtype):
    host = (np.arange(70) % 5 - (0 if dtype[0] in "?u" else 2)).astype(dtype)
    device = cuda.to_device(host)
    assert device.dtype == host.dtype and device.strides == host.strides
    np.testing.assert_array_equal(device.copy_to_host(), host)
    out = np.zeros_like(host)
    copy_1d[3, 32](device, out)
    np.testing.assert_array_equal(out, host)


@pytest.mark.parametrize("order", "CF")
def test_layouts(order):
    host = np.array(np.arange(60).reshape(3, 4, 5), order=order)
    device = cuda.to_device(host)
    assert device.strides == host.strides
    assert device.is_c_contiguous() == (order == "C")
    assert device.copy_to_host().strides == host.strides
    out = cuda.device_array(host.shape, host.dtype, order="F" if order == "C" else "C")
    copy_3d[(2, 2, 2), (3, 2, 2)](device, out)
    np.testing.assert_array_equal(out.copy_to_host(), host)


slices = st.builds(
    slice,
    st.none() | st.integers(-9, 9),
    st.none() | st.integers(-9, 9),
    st.sampled_from([None, 1, 2, 3, -1, -2]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=slices, columns=slices, transposed=st.booleans(), dtype=st.sampled_from(["i4", "f8"]))
def test_slices_of_device_arrays_are_views(rows, columns, transposed, dtype):
    host = np.arange(56, dtype=dtype).reshape(7, 8)
    device = cuda.to_device(host)
    view, expected = device[rows, columns], host[rows, columns]
    if transposed:
        view, expected = view.T, expected.T
    out = cuda.to_device(np.zeros(expected.shape, dtype))
    copy_2d[(1, 1), (8, 8)](view, out)
    np.testing.assert_array_equal(out.copy_to_host(), expected)
    # and written through: the memory is the same
    copy_2d[(1, 1), (8, 8)](cuda.to_device(np.full(expected.shape, -1, dtype)), view)
    host[rows, columns] = -1
    np.testing.assert_array_equal(device.copy_to_host(), host)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(start=st.integers(-12, 12), stop=st.integers(-12, 12), step=st.integers(1, 3))
def test_slices_inside_a_kernel(start, stop, step):
    host = np.arange(8)
    expected = host[start:stop:step]

    @cuda.jit
    def kernel(a, out, start, stop):
        part = a[start:stop:step]
        out[0] = part.size
        for k in range(part.size):
            out[1 + k] = part[k]

    out = np.zeros(9, dtype=np.int64)
    kernel[1, 1](host, out, start, stop)
    assert out[0] == expected.size
    np.testing.assert_array_equal(out[1 : 1 + expected.size], expected)


def test_slices_that_differ_by_thread():
    @cuda.jit
    def window_sums(a, out):
        i = cuda.grid(1)
        if i < out.size:
            window = a[i : i + 3]
            total = 0
            for value in window:
                total += value
            out[i] = total * 10 + len(window)

    a, out = np.arange(40), np.zeros(40)
    window_sums[2, 32](a, out)
    expected = [a[i : i + 3].sum() * 10 + len(a[i : i + 3]) for i in range(40)]
    np.testing.assert_array_equal(out, expected)


def test_arrays_of_no_element_and_of_no_axis():
    copy_1d[1, 32](np.zeros(0), np.zeros(0))

    @cuda.jit
    def scalar(a, out):
        out[()] = a[()] + 1

    out = cuda.to_device(np.array(0.0))
    scalar[1, 1](cuda.to_device(np.array(2.5)), out)
    assert out.copy_to_host() == 3.5

    @cuda.jit
    def lengths(a, out):
        total = 0
        for _ in a:
            total += 1
        out[0] = total + a.size + len(a) + a.shape[1]

    out = np.zeros(1)
    lengths[1, 1](np.zeros((0, 3)), out)
    assert out[0] == 3


def test_records():
    inner = np.dtype([("u", "u1"), ("v", "f8")], align=True)
    kind = np.dtype([("x", "f4"), ("n", "i2"), ("z", "c8"), ("pair", inner)], align=True)

    @cuda.jit
    def kernel(r, s):
        i = cuda.grid(1)
        s[i] = r[i]
        s[i].x += 1
        s[i]["n"] = r[i]["n"] * 2
        s.z[i] = r[i].z * 1j
        s[i].pair.v = r[i].pair.u + 0.5

    r = np.zeros(5, kind)
    r["x"], r["n"], r["z"], r["pair"]["u"] = range(5), range(5), range(5), range(5)
    s = np.zeros_like(r)
    kernel[1, 5](r, s)
    np.testing.assert_array_equal(s["x"], r["x"] + 1)
    np.testing.assert_array_equal(s["n"], r["n"] * 2)
    np.testing.assert_array_equal(s["z"], r["z"] * 1j)
    np.testing.assert_array_equal(s["pair"]["u"], r["pair"]["u"])
    np.testing.assert_array_equal(s["pair"]["v"], r["pair"]["u"] + 0.5)


def test_the_same_host_array_twice_and_tuples_of_arrays():
    @cuda.jit
    def kernel(pair, out, factor):
        i = cuda.grid(1)
        a, b = pair
        out[i] = a[i] * factor + b[i] + pair[0][i]

    a, out = np.arange(4.0), np.zeros(4)
    kernel[1, 4]((a, a), out, 10)
    np.testing.assert_array_equal(out, a * 12)


def test_host_arrays_come_back_and_device_arrays_stay():
    host, device = np.zeros(3), cuda.to_device(np.zeros(3))
    copy_1d[1, 3](np.ones(3), host)
    copy_1d[1, 3](np.ones(3), device)
    assert host.all() and device.copy_to_host().all()
    assert "device array" in repr(device)
    np.testing.assert_array_equal(np.asarray(device[1:]), [1, 1])
    assert device[0] == 1.0 and len(device) == 3


# --- stores and conversions ---------------------------------------------------------------------

INSIDE = [-7.9, -1.0, -0.5, 0.0, 0.5, 1.999, 100.7]


@cuda.jit
def store(a, out):
    i = cuda.grid(1)
    out[i] = a[i]


@cuda.jit
def cast_to_int32(a, out):
    i = cuda.grid(1)
    out[i] = np.int32(a[i])


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_a_float_stored_in_an_integer_array_is_cut_towards_zero(dtype):
    values = np.array([v for v in INSIDE if v > -1 or dtype[0] == "i"])
    out = np.zeros(values.size, dtype)
    store[1, values.size](values, out)
    np.testing.assert_array_equal(out, np.trunc(values).astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        # 3e9, -3e9, 1e20, -1e20, nan: the nearest end, and for NaN of a float64 the sign bit
        ("i4", [2**31 - 1, -(2**31), 2**31 - 1, -(2**31), -(2**31)]),
        ("u4", [3_000_000_000, 0, 2**32 - 1, 0, 2**31]),
        ("i8", [3_000_000_000, -3_000_000_000, 2**63 - 1, -(2**63), -(2**63)]),
        ("u8", [3_000_000_000, 0, 2**64 - 1, 0, 2**63]),
    ],
)
def test_a_float_that_does_not_fit_takes_the_nearest_end(dtype, expected):
    values = np.array([3e9, -3e9, 1e20, -1e20, np.nan])
    out = np.zeros(5, dtype)
    store[1, 5](values, out)
    assert out.tolist() == expected
    if dtype == "i4":
        store[1, 5](values.astype("f4"), out)
        assert out.tolist() == [*expected[:4], 0]  # NaN of a float32 gives 0
        cast_to_int32[1, 5](values, out)
        assert out.tolist() == expected


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    source=st.sampled_from(["i1", "i4", "i8", "u1", "u4", "u8", "?"]),
    target=st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?"]),
    seed=st.integers(0, 1000),
)
def test_integers_are_stored_by_their_low_bits(source, target, seed):
    bits = np.random.default_rng(seed).integers(0, 256, 8 * 16, dtype=np.uint8)
    values = (bits > 127) if source == "?" else bits.view(source)[:16]
    out = np.zeros(values.size, target)
    store[1, values.size](values, out)
    np.testing.assert_array_equal(out, values.astype(target))


def test_compound_assignment_wraps_as_the_array_does():
    @cuda.jit
    def kernel(a):
        i, j = cuda.grid(2)
        a[i, j] += 300
        a[i, j] -= 1
        a[i, j] *= 2

    for dtype in ("u1", "i1", "u4", "f4"):
        a = np.full((2, 3), 7, dtype)
        kernel[1, (2, 3)](a)
        expected = np.full((2, 3), 7, "i8")
        for step in (lambda v: v + 300, lambda v: v - 1, lambda v: v * 2):
            expected = step(expected).astype(dtype).astype("i8")
        np.testing.assert_array_equal(a, expected)


def test_one_address_for_all_threads_keeps_the_last():
    @cuda.jit
    def kernel(a):
        a[0] = cuda.grid(1)

    a = np.zeros(1)
    kernel[2, 40](a)
    assert a[0] == 79


# --- size and care ------------------------------------------------------------------------------


def test_sixteen_million_threads():
    n = 1 << 24

    @cuda.jit
    def kernel(a):
        i = cuda.grid(1)
        if i < a.size:
            a[i] = i & 127

    a = cuda.device_array(n, np.int8)
    kernel[n // 1024, 1024](a)
    host = a.copy_to_host()
    assert host[:200].tolist() == [i & 127 for i in range(200)]
    assert host.reshape(-1, 128).sum(axis=0).tolist() == [k * (n // 128) for k in range(128)]


def test_addresses_are_aligned_as_cuda_aligns():
    for n in (1, 3, 1000):
        assert cuda.device_array(n, np.int8)._array.ctypes.data % 256 == 0


def test_nothing_is_left_open_or_warned_about():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with cuda.profile(), cuda.pinned(np.zeros(1)), cuda.defer_cleanup():
            copy_1d[1, 32, cuda.stream()](np.zeros(3), np.zeros(3))
        gc.collect()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 8, 64, 131])
@pytest.mark.parametrize(("narrow", "wide"), [("f2", "i8"), ("f4", "f8"), ("u1", "u2")])
def test_a_kernel_views_the_whole_words_of_an_array_of_any_length(n, narrow, wide):
    by = np.dtype(wide).itemsize // np.dtype(narrow).itemsize
    dtype = np.dtype(wide).type

    @cuda.jit
    def copy_words(a, out):
        i = cuda.grid(1)
        whole = a.size // by * by
        words = a[:whole].view(dtype)
        if i < words.size:
            out[:whole].view(dtype)[i] = words[i]

    a, out = np.arange(1, n + 1).astype(narrow), np.zeros(n, narrow)
    copy_words[3, 64](a, out)
    whole = n // by * by
    np.testing.assert_array_equal(out[:whole], a[:whole])
    assert not out[whole:].any()


@cuda.jit(device=True)
def reversed_in(n, x, i):
    """Numba takes the length of a device function's caller, where that is a constant."""
    s = cuda.shared.array(n, np.float32)
    s[i] = x[i]
    cuda.syncthreads()
    return s[n - 1 - i]


@cuda.jit
def reverse_32(x):
    i = cuda.threadIdx.x
    x[i] = reversed_in(32, x, i)


def test_a_device_function_may_be_given_the_length_of_its_shared_array():
    x = np.arange(32, dtype=np.float32)
    reverse_32[1, 32](x)
    np.testing.assert_array_equal(x, np.arange(32)[::-1])
