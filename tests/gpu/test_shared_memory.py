"""The kernels of unit 3.4: what NumPy gives, what they cost by counting, and CUDA C beside them."""

import math
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.kernels import (
    cuda_model,
    cupy_shared_memory,
    quarter_turn,
    shared_memory,
    stencil,
)
from aiinfra_labs.gpu.kernels import transpose as transposes
from aiinfra_labs.gpu.kernels.cuda_model import blocks_for_image

TILE, ROWS = transposes.TILE, transposes.ROWS
TRANSPOSES = cupy_shared_memory.NAMES
SHAPES = ((1, 1), (32, 32), (33, 70), (64, 31), (5, 100))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def block_of(name):
    return TILE, ROWS if name == "transpose_32x8" else TILE


def transposed(name, a):
    out = np.full(a.shape[::-1], np.nan, np.float32)
    kernel = emulated(getattr(transposes, name))
    kernel[blocks_for_image(a.shape, (TILE, TILE)), block_of(name)](a, out)
    return out


def counted(name, shape=(128, 128)):
    with emulator.profile() as p:
        transposed(name, numbers(*shape))
    return p.report


# --- transposes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("name", TRANSPOSES)
def test_a_transpose_is_numpys_in_any_order_of_warps(name, shape):
    a = numbers(*shape)
    for seed in range(2):
        with emulator.check(schedule="adversarial", seed=seed):
            np.testing.assert_array_equal(transposed(name, a), a.T)


def test_what_each_transpose_costs():
    """128 x 128: 512 rows of tiles; a column of a tile is 32 words, of one bank or of 32."""
    reports = {name: counted(name) for name in TRANSPOSES}
    tiled = TRANSPOSES[1:]
    assert {r.sectors_per_load for r in reports.values()} == {4}
    assert reports["transpose_naive"].sectors_per_store == 32
    assert {reports[name].sectors_per_store for name in tiled} == {4}
    assert {reports[name].shared_load_requests for name in tiled} == {512}
    conflicts = [reports[name].bank_conflicts for name in tiled]
    assert conflicts == [512 * 31, 0, 0, 0]
    assert [reports[name].shared_bytes for name in tiled] == [4096, 4224, 4096, 4096]
    assert reports["transpose_32x8"].threads == 128 * 128 // 4


# --- quarter turns --------------------------------------------------------------------------------

TURNS = ("turn_naive", "turn_tiled", "turn_padded")


def turned(name, a):
    out = np.full(a.shape[::-1], np.nan, np.float32)
    kernel = emulated(getattr(quarter_turn, name))
    kernel[blocks_for_image(a.shape, (TILE, TILE)), (TILE, TILE)](a, out)
    return out


@pytest.mark.parametrize("name", TURNS)
def test_a_quarter_turn_is_numpys_in_any_order_of_warps(name):
    a = numbers(64, 96)
    for seed in range(2):
        with emulator.check(schedule="adversarial", seed=seed):
            np.testing.assert_array_equal(turned(name, a), np.rot90(a, -1))


def test_what_each_quarter_turn_costs():
    reports = []
    for name in TURNS:
        with emulator.profile() as p:
            turned(name, numbers(128, 128))
        reports.append(p.report)
    assert [r.sectors_per_load for r in reports] == [4, 4, 4]
    assert [r.sectors_per_store for r in reports] == [32, 4, 4]
    assert [r.bank_conflicts for r in reports] == [0, 512 * 31, 0]
    assert [r.shared_bytes for r in reports] == [0, 4096, 4224]


# --- strides --------------------------------------------------------------------------------------


@given(stride=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_stride_conflicts_as_its_common_divisor_with_32(stride):
    """Brute force: the most different words that any bank is asked for."""
    with emulator.profile() as p:
        out = np.zeros(32, np.float32)
        emulated(shared_memory.load_with_stride)[1, 32](stride, out)
    words = np.arange(32) * stride % shared_memory.WORDS
    np.testing.assert_array_equal(out, words)
    load = p.report.lines[max(n for n, c in p.report.lines.items() if c.shared_load_requests)]
    most = max(len({w for w in words.tolist() if w % 32 == bank}) for bank in range(32))
    assert load.shared_load_wavefronts == most
    if stride and stride < 33:  # all words differ
        assert most == math.gcd(stride, 32)


# --- windows, stencils ----------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("window", [32, 96, 256])
def test_windows_are_reversed_in_memory_that_the_launch_sizes(window, blocks):
    x = numbers(4 * window)
    out = np.full_like(x, np.nan)
    kernel = emulated(shared_memory.reverse_windows)
    with emulator.check(schedule="adversarial"), emulator.profile() as p:
        kernel[blocks, window, 0, 4 * window](x, out)
    np.testing.assert_array_equal(out, x.reshape(-1, window)[:, ::-1].ravel())
    assert p.report.shared_bytes == 4 * window
    assert p.report.bank_conflicts == 0  # backwards, but 32 words of 32 banks


@pytest.mark.parametrize("shape", [(1, 1), (8, 32), (9, 33), (37, 70), (3, 100)])
def test_the_shared_blur_is_the_other_one_to_the_last_bit(shape):
    image = numbers(*shape)
    got, expected = np.full(shape, np.nan, np.float32), np.empty(shape, np.float32)
    grid, block = blocks_for_image(shape, (32, 8)), (stencil.BLOCK_X, stencil.BLOCK_Y)
    with emulator.check():
        emulated(stencil.blur_shared)[grid, block](image, got)
    emulated(cuda_model.blur)[grid, block](image, expected)
    np.testing.assert_array_equal(got, expected)


def test_the_shared_blur_loads_each_pixel_little_more_than_once():
    image = numbers(64, 128)
    grid, block = blocks_for_image(image.shape, (32, 8)), (32, 8)
    reports = []
    for kernel in (cuda_model.blur, stencil.blur_shared):
        with emulator.profile() as p:
            emulated(kernel)[grid, block](image, np.empty_like(image))
        reports.append(p.report)
    naive, shared = reports
    assert naive.global_load_bytes / image.nbytes > 8.8  # nine, less at the edges
    assert shared.global_load_bytes / image.nbytes < 34 * 10 / (32 * 8)
    assert naive.global_load_sectors > 5 * shared.global_load_sectors
    assert naive.dram_bytes_read == shared.dram_bytes_read == image.nbytes


# --- CUDA C ---------------------------------------------------------------------------------------


def test_cuda_c_has_the_names_and_tiles_of_the_numba_kernels():
    code = cupy_shared_memory.CUDA_C
    names = re.findall(r"__global__ void (\w+)", code)
    assert names == [*TRANSPOSES, "reverse_windows"]
    assert f"#define TILE {TILE}\n#define ROWS {ROWS}\n" in code
    assert code.count("__syncthreads();") == 6
    for name in names:
        assert hasattr(transposes, name) or hasattr(shared_memory, name)


class FakeRawModule:
    """Checks a launch against the C signature, and runs the Numba kernel of that name."""

    def __init__(self, code):
        self.code = code

    def get_function(self, name):
        def launch(grid, block, arguments, shared_mem=0):
            listed = re.search(rf"__global__ void {name}\(([^)]*)\)", self.code)[1].split(",")
            assert len(listed) == len(arguments)
            for parameter, argument in zip(listed, arguments, strict=True):
                pointer = "*" in parameter
                assert argument.dtype == (np.float32 if pointer else np.int32)
                assert isinstance(argument, np.ndarray) == pointer
            arrays = [a for a in arguments if isinstance(a, np.ndarray)]
            lengths = tuple(int(a) for a in arguments if isinstance(a, np.int32))
            assert lengths == arrays[0].shape
            module = transposes if hasattr(transposes, name) else shared_memory
            dynamic = (0, shared_mem) if shared_mem else ()
            emulated(getattr(module, name))[(grid, block, *dynamic)](*arrays)

        return launch


@pytest.fixture
def fake_cupy(monkeypatch):
    """What the module uses of CuPy, on NumPy."""
    fake = SimpleNamespace(
        RawModule=FakeRawModule,
        asarray=np.array,
        asnumpy=np.asarray,
        empty=lambda shape, dtype: np.full(shape, np.nan, dtype),
        empty_like=lambda a: np.full(a.shape, np.nan, a.dtype),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    cupy_shared_memory.raw.cache_clear()
    yield fake
    cupy_shared_memory.raw.cache_clear()


def test_cupy_launches_cover_and_agree(fake_cupy):
    found = cupy_shared_memory.differences(numbers(64, 96))
    assert found == dict.fromkeys((*TRANSPOSES, "reverse_windows"), 0)


def test_a_difference_is_counted(fake_cupy, monkeypatch):
    wrong = FakeRawModule.get_function
    monkeypatch.setattr(
        FakeRawModule, "get_function", lambda self, name: wrong(self, "transpose_naive")
    )
    monkeypatch.setattr(
        cupy_shared_memory, "reverse_raw", lambda x, window, blocks: np.zeros_like(x)
    )
    found = cupy_shared_memory.differences(numbers(64, 96))
    assert found["reverse_windows"] == 64 * 96


def test_the_module_does_not_import_cupy():
    code = (
        "import sys, aiinfra_labs.gpu.kernels.cupy_shared_memory\n"
        "sys.exit('cupy' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
