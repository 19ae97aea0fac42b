"""The kernels of unit 3.2 against NumPy and SciPy: odd sizes, other layouts, nothing outside."""

import math
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from aiinfra_labs.gpu import cuda, emulator
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.kernels import cuda_model, cupy_cuda_model
from aiinfra_labs.gpu.kernels.cuda_model import blocks_for, blocks_for_image

SIZES = (0, 1, 31, 32, 33, 100, 255, 256, 257, 1000)
SHAPES = ((1, 1), (1, 70), (70, 1), (5, 40), (37, 19), (64, 96))
BLOCK = (32, 8)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")


def numbers(shape, dtype=np.float32, seed=0):
    """Irregular values of any dtype, the whole of uint8's range included."""
    values = np.random.default_rng(seed).uniform(0, 256, shape)
    return values.astype(dtype)


def unwritten(shape, dtype=np.float32):
    """An array whose every element shows when nobody writes it."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)


def grey_of(rgb):
    return rgb @ np.array([0.299, 0.587, 0.114])


def mean_of_neighbours(image):
    """SciPy's 3 x 3 box, each pixel divided by how many of the nine lie inside."""
    box = np.ones((3, 3))
    around = ndimage.convolve(image.astype(np.float64), box, mode="constant")
    return around / ndimage.convolve(np.ones(image.shape), box, mode="constant")


# --- one axis ----------------------------------------------------------------------------------


@given(n=st.integers(0, 10**9), threads=st.integers(1, 1024))
def test_blocks_cover_and_none_is_idle(n, threads):
    blocks = blocks_for(n, threads)
    assert blocks >= 1 and blocks * threads >= n
    assert blocks == 1 or (blocks - 1) * threads < n


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
def test_vector_add(n, dtype):
    a, b = numbers(n, dtype), numbers(n, dtype, seed=1)
    for threads in (32, 96, 256):
        out = unwritten(n, dtype)
        cuda_model.vector_add[blocks_for(n, threads), threads](a, b, out)
        np.testing.assert_array_equal(out, a + b)


def test_vector_add_of_every_second_element_and_backwards():
    whole = cuda.to_device(numbers(200))
    out = cuda.to_device(unwritten(200))
    cuda_model.vector_add[1, 128](whole[::2], whole[1::2], out[50:150])
    host, result = whole.copy_to_host(), out.copy_to_host()
    np.testing.assert_array_equal(result[50:150], host[::2] + host[1::2])
    assert np.isnan(result[:50]).all() and np.isnan(result[150:]).all()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("grid", [(1, 1), (1, 32), (3, 33), (4, 256)], ids=str)
def test_saxpy_with_any_grid(n, grid):
    x, y = numbers(n), numbers(n, seed=1)
    expected = np.float32(2.5) * x + y
    cuda_model.saxpy[grid](np.float32(2.5), x, y)
    # one rounding less where a compiler contracts the product and the sum
    np.testing.assert_allclose(y, expected, rtol=3e-7)


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        ("vector_add", (numbers(1000), numbers(1000), unwritten(1000))),
        ("saxpy", (np.float32(2), numbers(1000), numbers(1000))),
    ],
)
def test_each_element_is_stored_once_and_neighbours_go_together(kernel, arguments):
    run = emulated(getattr(cuda_model, kernel))[2, 512]
    with emulator.trace() as t:
        run(*arguments)
    with emulator.profile() as p:
        run(*arguments)
    stored = [a.elements for a in t.accesses if a.kind == "store"]
    elements = np.concatenate([e[e >= 0] for e in stored])
    np.testing.assert_array_equal(np.sort(elements), np.arange(1000))
    assert p.report.global_load_sectors == 2 * 125  # two arrays of 4,000 bytes, no sector twice
    assert p.report.global_store_sectors == 125
    assert p.report.flops == 1000 * (2 if kernel == "saxpy" else 1)
    assert p.report.divergent_branches == 1  # the warp in which the array ends


# --- two axes ----------------------------------------------------------------------------------


@each_shape
def test_grey(shape):
    rgb, out = numbers((*shape, 3), np.uint8), unwritten(shape)
    cuda_model.grey[blocks_for_image(shape, BLOCK), BLOCK](rgb, out)
    np.testing.assert_allclose(out, grey_of(rgb), rtol=1e-6)


def test_grey_weighs_each_channel_and_keeps_white():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    out = unwritten((1, 4))
    cuda_model.grey[1, BLOCK](colours, out)
    np.testing.assert_allclose(out[0], [76.245, 149.685, 29.07, 255.0], rtol=1e-6)


@each_shape
def test_blur(shape):
    image, out = numbers(shape), unwritten(shape)
    before = image.copy()
    cuda_model.blur[blocks_for_image(shape, BLOCK), BLOCK](image, out)
    np.testing.assert_allclose(out, mean_of_neighbours(image), rtol=1e-5)
    np.testing.assert_array_equal(image, before)


def test_blur_leaves_a_flat_image_flat():
    flat, out = np.full((9, 70), 12.5, np.float32), unwritten((9, 70))
    cuda_model.blur[blocks_for_image(flat.shape, BLOCK), BLOCK](flat, out)
    np.testing.assert_array_equal(out, flat)


@pytest.mark.parametrize("kernel", ["grey", "blur"])
def test_an_image_in_columns_or_in_a_frame(kernel):
    """Fortran order, and a window of a larger image: strides are the array's own affair."""
    shape = (37, 41)
    image = numbers((*shape, 3), np.uint8) if kernel == "grey" else numbers(shape)
    expected = grey_of(image) if kernel == "grey" else mean_of_neighbours(image)
    grid, run = blocks_for_image(shape, BLOCK), getattr(cuda_model, kernel)
    out = unwritten(shape).copy(order="F")
    run[grid, BLOCK](np.asfortranarray(image), out)
    np.testing.assert_allclose(out, expected, rtol=1e-5)

    frame = cuda.to_device(unwritten((50, 60)))
    run[grid, BLOCK](cuda.to_device(image), frame[3:40, 7:48])
    framed = frame.copy_to_host()
    np.testing.assert_allclose(framed[3:40, 7:48], expected, rtol=1e-5)
    assert np.count_nonzero(~np.isnan(framed)) == math.prod(shape)


@pytest.mark.parametrize(("kernel", "loads"), [("grey", 3), ("blur", None)])
def test_a_warp_walks_along_a_row(kernel, loads):
    shape = (16, 64)
    image = numbers((*shape, 3), np.uint8) if kernel == "grey" else numbers(shape)
    grid = blocks_for_image(shape, BLOCK)
    with emulator.profile() as p:
        emulated(getattr(cuda_model, kernel))[grid, BLOCK](image, unwritten(shape))
    assert p.report.sectors_per_store == 4
    # 32 pixels of 3 bytes fill 3 sectors; a blurred row reaches one pixel further on both sides
    assert p.report.sectors_per_load == loads if loads else p.report.sectors_per_load < 5


# --- CuPy --------------------------------------------------------------------------------------

C_TYPES = {
    "const float *": np.float32,
    "float *": np.float32,
    "const unsigned char *": np.uint8,
    "float": np.float32,
    "int": np.int32,
}


def parameters(code, name):
    """The C types of a kernel's parameters."""
    listed = re.search(rf"__global__ void {name}\(([^)]*)\)", code)[1]
    return [re.match(r"(.*?)\w+$", parameter.strip())[1].strip() for parameter in listed.split(",")]


class FakeRawModule:
    """Checks a raw launch against the C signature, and runs the Numba kernel of that name."""

    def __init__(self, code):
        self.code = code

    def get_function(self, name):
        def launch(grid, block, arguments):
            types = parameters(self.code, name)
            assert len(arguments) == len(types)
            for c_type, argument in zip(types, arguments, strict=True):
                assert argument.dtype == C_TYPES[c_type], f"{name}: {c_type} given {argument!r}"
                assert ("*" in c_type) == isinstance(argument, np.ndarray)
            taken = [a for a in arguments if not isinstance(a, np.int32)]
            lengths = tuple(int(a) for a in arguments if isinstance(a, np.int32))
            assert lengths == taken[-1].shape
            emulated(getattr(cuda_model, name))[grid, block](*taken)

        return launch


class FakeElementwiseKernel:
    """Evaluates one statement of C on whole arrays, as NumPy would. Loops it cannot."""

    def __init__(self, inputs, outputs, body, name):
        self.names = [parameter.split()[-1] for parameter in inputs.split(",")]
        self.body, self.name = body, name

    def __call__(self, *arguments):
        values = dict(zip(self.names, arguments, strict=False))
        if "for" in self.body:  # so here only what it is given is held to account
            image, rows, columns, out = arguments
            assert (rows, columns) == image.shape == out.shape and rows.dtype == np.int32
            out[...] = mean_of_neighbours(image)
            return out
        expression = re.sub(r"(\d)f\b", r"\1", self.body.removeprefix("out = "))
        result = eval(expression, {}, values)
        if len(arguments) > len(self.names):
            arguments[-1][...] = result
        return result


class NoDevice(Exception):
    """Stands for cupy.cuda.runtime.CUDARuntimeError."""


@pytest.fixture
def fake_cupy(monkeypatch):
    """What the module uses of CuPy, on NumPy."""
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=NoDevice)
    fake = SimpleNamespace(
        RawModule=FakeRawModule,
        ElementwiseKernel=FakeElementwiseKernel,
        asarray=np.array,
        asnumpy=np.asarray,
        empty=unwritten,
        empty_like=lambda a: unwritten(a.shape, a.dtype),
        cuda=SimpleNamespace(runtime=runtime),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    for made in (cupy_cuda_model.raw, cupy_cuda_model.elementwise):
        made.cache_clear()
    yield fake
    for made in (cupy_cuda_model.raw, cupy_cuda_model.elementwise):
        made.cache_clear()


@each_shape
def test_cupy_launches_cover_and_agree(fake_cupy, shape):
    found = cupy_cuda_model.differences(numbers((*shape, 3), np.uint8))
    assert len(found) == 8
    assert max(found.values()) < 1e-3, found


def test_the_raw_kernels_have_the_names_and_weights_of_the_numba_ones():
    code = cupy_cuda_model.CUDA_C
    assert re.findall(r"__global__ void (\w+)", code) == ["vector_add", "saxpy", "grey", "blur"]
    for weight in (cuda_model.RED, cuda_model.GREEN, cuda_model.BLUE):
        assert f"{weight!s}f" in code


def test_missing_says_why(fake_cupy, monkeypatch):
    def refuse():
        raise NoDevice("driver too old")

    assert cupy_cuda_model.missing() == ""
    monkeypatch.setattr(fake_cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    assert cupy_cuda_model.missing() == "CUDA finds no device"
    monkeypatch.setattr(fake_cupy.cuda.runtime, "getDeviceCount", refuse)
    assert cupy_cuda_model.missing() == "CUDA finds no device (driver too old)"
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert cupy_cuda_model.missing().startswith("CuPy cannot be imported")


def test_the_module_does_not_import_cupy():
    code = (
        "import sys, aiinfra_labs.gpu.kernels.cupy_cuda_model\n"
        "sys.exit('cupy' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
