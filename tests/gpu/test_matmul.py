"""The kernels of unit 3.5: to the bit in the order of k, within float32's bound, and by formula."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.course.measured import measured
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.kernels import cupy_matmul, matmul_ladder
from aiinfra_labs.gpu.kernels.matmul_ladder import LADDER, multiply
from aiinfra_labs.gpu.kernels.matmul_vectorised import fragment_of
from aiinfra_labs.gpu.tiling import Tiling

WHOLE = [(128, 8, 128), (256, 40, 128)]
ODD = [(1, 1, 1), (1, 50, 3), (64, 8, 65), (130, 37, 67), (33, 1, 140)]
each_step = pytest.mark.parametrize("step", LADDER, ids=lambda s: s.name)


def reals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def arrays(m, k, n):
    return reals(m, k), reals(k, n, seed=1), np.full((m, n), np.nan, np.float32)


def in_the_order_of_k(a, b):
    """Each product rounded, then each sum: what a kernel does that does not contract them."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for column, row in zip(a.T, b, strict=True):
        total += np.outer(column, row)
    return total


# --- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", WHOLE + ODD, ids=lambda s: "x".join(map(str, s)))
@each_step
def test_every_step_adds_in_the_order_of_k(step, shape):
    if not step.takes(*shape):
        pytest.skip("for whole tiles")
    a, b, c = arrays(*shape)
    with cuda.check():
        step.launch(a, b, c)
    np.testing.assert_array_equal(c, in_the_order_of_k(a, b))


@each_step
def test_every_step_lies_within_the_bound_on_rounding(step):
    """|error| <= gamma_K |A| |B|, gamma_K = K u / (1 - K u), u = 2**-24 (Higham, section 3.5)."""
    a, b, c = arrays(128, 256, 128)
    step.launch(a, b, c)
    exact = a.astype(float) @ b.astype(float)
    gamma = 256 * 2.0**-24 / (1 - 256 * 2.0**-24)
    bound = gamma * (np.abs(a.astype(float)) @ np.abs(b.astype(float)))
    assert (np.abs(c - exact) <= bound).all()


@each_step
def test_values_that_are_not_numbers_stay_where_they_belong(step):
    """An element of A reaches its row of C and no other: a tile that is padded with 0 must not
    multiply an infinity by it."""
    m, k, n = (128, 16, 128) if step.whole else (70, 13, 66)
    a, b, c = arrays(m, k, n)
    a[5, 3] = np.inf
    step.launch(a, b, c)
    assert not np.isfinite(c[5]).any()
    assert np.isfinite(np.delete(c, 5, axis=0)).all()


@settings(max_examples=25, deadline=None)
@given(m=st.integers(1, 150), k=st.integers(1, 40), n=st.integers(1, 150))
def test_multiply_takes_any_sides(m, k, n):
    a, b, c = (cuda.to_device(x) for x in arrays(m, k, n))
    step = multiply(a, b, c)
    assert step.takes(m, k, n)
    expected = in_the_order_of_k(a.copy_to_host(), b.copy_to_host())
    np.testing.assert_array_equal(c.copy_to_host(), expected)


def test_multiply_takes_the_fastest_that_it_may():
    picked = {}
    for shape in ((128, 8, 128), (128, 9, 128), (127, 8, 128)):
        picked[shape] = multiply(*map(cuda.to_device, arrays(*shape))).name
    assert list(picked.values()) == ["double-buffered", "registers, 8 x 8", "registers, 8 x 8"]


# --- what they cost ------------------------------------------------------------------------------


@each_step
def test_traffic_is_as_the_formula_says(step):
    m, k, n = 256, 64, 128
    a, b, c = (cuda.to_device(x) for x in arrays(m, k, n))
    with cuda.profile() as p:
        step.launch(a, b, c)
    report = p.report
    assert report.global_load_bytes == step.tiling.global_bytes(m, n, k)
    assert report.global_store_bytes == 4 * m * n
    assert report.flops == 2 * m * n * k
    assert report.dram_bytes == 4 * (m * k + k * n + m * n)  # all of it stays in an H100's L2
    if step.tiling.staged:  # every sector that is moved is used whole
        assert report.global_load_sectors * 32 == report.global_load_bytes
    assert report.global_store_sectors * 32 == report.global_store_bytes
    assert report.divergent_branches == 0


@each_step
def test_shared_memory_is_as_the_formula_says(step):
    m, k, n = 256, 64, 128
    a, b, c = (cuda.to_device(x) for x in arrays(m, k, n))
    with cuda.profile() as p:
        step.launch(a, b, c)
    report, tiling = p.report, step.tiling
    wide = 4 if step.whole else 1
    expected = m * n * k // 32 * tiling.shared_loads() / wide if tiling.staged else 0
    assert report.shared_load_requests == expected
    assert report.bank_conflicts == 0
    padding = 4 * 4 * tiling.block_k * tiling.buffers if tiling.block_m == 128 else 0
    assert report.shared_bytes == tiling.shared_bytes + padding


def test_a_float4_of_a_warp_takes_two_wavefronts_here_and_more_in_plain_order():
    @cuda.jit
    def loads(places, out):
        from_a = cuda.shared.array((8, 132), np.float32, 16)
        t = cuda.threadIdx.x
        for n in range(t, 8 * 132, 32):
            from_a[n // 132, n % 132] = np.float32(n)
        cuda.syncthreads()
        four = load_float4(from_a, (0, places[t]))
        out[t] = four.x

    from aiinfra_labs.gpu.float4 import load_float4

    def wavefronts(places):
        out = np.zeros(32, np.float32)
        report = cuda.profile(loads)[1, 32](np.array(places), out)
        np.testing.assert_array_equal(out, places)
        return report.shared_load_wavefronts

    lanes = [fragment_of.py_func(lane) for lane in range(32)]
    assert wavefronts([y for y, _ in lanes]) == wavefronts([x for _, x in lanes]) == 2
    assert wavefronts([lane % 16 * 4 for lane in range(32)]) == 4


def test_the_lanes_cover_the_block_each_element_once():
    owner = np.zeros((128, 128), int)
    for t in range(256):
        row, column = fragment_of.py_func(t)
        for down in (0, 32):
            for across in (0, 16):
                rows, columns = row + down, column + across
                owner[rows : rows + 4, columns : columns + 4] += 1
    assert (owner == 1).all()


def test_what_a_missing_barrier_would_do():
    """Without its barrier the double-buffered kernel has a race: the checker does look."""
    import inspect
    import linecache

    from aiinfra_labs.gpu.kernels import matmul_double_buffered as module

    source = inspect.getsource(module.matmul_double_buffered.py_func)
    broken = re.sub(r"cuda\.syncthreads\(\).*", "pass", source)
    assert broken != source
    name = "<without a barrier>"
    linecache.cache[name] = (len(broken), None, broken.splitlines(keepends=True), name)
    space = dict(vars(module))
    exec(compile(broken, name, "exec"), space)
    with cuda.check(raise_=False) as found:
        space["matmul_double_buffered"][(1, 1), 256](*arrays(128, 32, 128))
    assert {type(f).__name__ for f in found.findings} == {"SharedMemoryRace"}


# --- formulas ------------------------------------------------------------------------------------


@given(bm=st.integers(1, 6), bn=st.integers(1, 6), bk=st.integers(1, 5))
def test_the_formula_counts_what_a_loop_over_blocks_counts(bm, bn, bk):
    tiling = Tiling(2**bm, 2**bn, 2**bk)
    m, n, k = 2 * 2**bm, 3 * 2**bn, 2 * 2**bk
    across, down = tiling.grid(m, n)
    floats = sum(2**bk * (2**bm + 2**bn) for _ in range(across * down) for _ in range(k // 2**bk))
    assert tiling.global_bytes(m, n, k) == 4 * floats
    assert tiling.shared_bytes == 4 * 2**bk * (2**bm + 2**bn)


def test_published_intensities():
    """A square tile of side T has T / 4 operations a byte of float32; alone, a thread 1 / 4."""
    assert Tiling(1, 1, 1, staged=False).intensity() == 0.25
    for side in (16, 64, 128):
        assert Tiling(side, side, 8).intensity() == side / 4
    assert [step.tiling.threads for step in LADDER] == [256, 256, 512, 256, 256, 256]


# --- CuPy and CUDA C -----------------------------------------------------------------------------

C_TYPES = {
    "const float *": np.float32,
    "const half *": np.float16,
    "float *": np.float32,
    "int": np.int32,
}


def parameters(code, name):
    """The C types of a kernel's parameters."""
    listed = re.search(rf"\b{name}\(([^)]*)\)", code)[1]
    return [re.match(r"(.*?)\w+$", parameter.strip())[1].strip() for parameter in listed.split(",")]


class FakeRawModule:
    """Checks a raw launch against its C signature, and runs the Numba kernel of that name."""

    def __init__(self, code):
        self.code = code

    def get_function(self, name):
        def launch(grid, block, arguments):
            types = parameters(self.code, name)
            assert len(types) == len(arguments) and isinstance(block, tuple)
            for c_type, argument in zip(types, arguments, strict=True):
                assert argument.dtype == C_TYPES[c_type], f"{name}: {c_type} given {argument!r}"
            a, b, c, *sides = arguments
            assert tuple(map(int, sides)) == (*a.shape, b.shape[1])
            if name == "matmul_tensor":
                tile = cupy_matmul.TENSOR_TILE
                assert (grid[1] * tile, grid[0] * tile) == c.shape
                assert block == (cupy_matmul.TENSOR_THREADS,)
                c[...] = a.astype(np.float32) @ b.astype(np.float32)
            else:
                (step,) = (s for s in LADDER if s.kernel.__name__ == name)
                emulated(step.kernel)[grid, block](a, b, c)

        return launch


@pytest.fixture
def fake_cupy(monkeypatch):
    """What the module uses of CuPy, on NumPy."""
    fake = SimpleNamespace(
        RawModule=FakeRawModule,
        empty=lambda shape, dtype: np.full(shape, np.nan, dtype),
        asarray=np.array,
        asnumpy=np.asarray,
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    cupy_matmul.raw.cache_clear()
    yield fake
    cupy_matmul.raw.cache_clear()


@pytest.mark.parametrize("shape", [(128, 8, 128), (130, 37, 67)])
@pytest.mark.parametrize("name", cupy_matmul.RAW)
def test_the_raw_kernels_are_launched_over_all_of_c(fake_cupy, name, shape):
    a, b, _ = arrays(*shape)
    got = cupy_matmul.matmul_raw(name, a, b)
    np.testing.assert_array_equal(got, in_the_order_of_k(a, b))


def test_the_tensor_kernel_is_launched_over_all_of_c(fake_cupy):
    a, b = reals(128, 32).astype(np.float16), reals(32, 64).astype(np.float16)
    got = cupy_matmul.matmul_tensor(a, b)
    np.testing.assert_allclose(got, a.astype(float) @ b.astype(float), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"multiples of 64 and K of 16, not \[128, 33\]"):
        cupy_matmul.matmul_tensor(np.zeros((128, 33), np.float16), np.zeros((33, 64), np.float16))


def test_all_of_them_are_compared_at_once(fake_cupy):
    found = cupy_matmul.differences(reals(128, 32), reals(32, 64, seed=1))
    assert list(found) == [*cupy_matmul.RAW, "matmul_tensor"]
    assert 0 < max(found.values()) < 1e-4


def test_every_kernel_of_the_text_has_a_wrapper():
    names = re.findall(r"(matmul_\w+)\(\s*const", cupy_matmul.CUDA_C + cupy_matmul.TENSOR_C)
    assert names == [*cupy_matmul.RAW, "matmul_tensor"]
    for define, value in (("TILE", 16), ("BLOCK", 128), ("STEP", 8), ("EACH", 8), ("SIDE", 16)):
        assert re.search(rf"#define {define} {value}\b", cupy_matmul.CUDA_C)
    tile, step = cupy_matmul.TENSOR_TILE, cupy_matmul.TENSOR_STEP
    assert f"#define TILE {tile}" in cupy_matmul.TENSOR_C
    assert f"#define STEP {step}" in cupy_matmul.TENSOR_C


def test_the_module_does_not_import_cupy():
    code = (
        "import sys, aiinfra_labs.gpu.kernels.cupy_matmul\n"
        "sys.exit('cupy' in sys.modules or 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- what the compilers said ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled():
    """The newest stored figures of the kernels of this unit, by name without the module."""
    found = measured("registers")[0]["kernels"]
    return {name: figures for name, figures in found.items() if "matmul" in name.partition(".")[0]}


def test_what_is_stored_is_of_the_code_as_it_stands(compiled, root):
    sys.path.insert(0, str(root / "benchmarks"))
    try:
        import registers
    finally:
        sys.path.remove(str(root / "benchmarks"))
    modules = {name.partition(".")[0] for name in compiled}
    assert {
        "matmul",
        "matmul_registers",
        "matmul_vectorised",
        "matmul_double_buffered",
        "cupy_matmul",
    } == modules
    stale = {
        name for name, f in compiled.items() if f["digest"] != registers.digest(name.split(".")[0])
    }
    assert not stale, "measure anew: python benchmarks/registers.py"


def test_no_kernel_spills_and_no_local_array_lies_in_memory(compiled):
    for name, figures in compiled.items():
        assert figures["stack_bytes"] == figures["spill_store_bytes"] == 0, name
        assert not [op for op in figures["ptx"] if ".local" in op], name
        assert figures["registers"] <= 128, name


def test_four_floats_move_at_once_where_the_source_says_so(compiled):
    for module, kernel in (
        ("matmul_vectorised", "matmul_float4"),
        ("matmul_double_buffered", "matmul_double_buffered"),
    ):
        ptx = compiled[f"{module}.{kernel}"]["ptx"]
        assert ptx["ld.shared.v4.f32"] and ptx["ld.global.v4.f32"] and ptx["st.global.v4.f32"] == 16
        assert "ld.shared.f32" not in ptx and "ld.global.f32" not in ptx


def test_the_tensor_kernel_asks_the_tensor_cores(compiled):
    figures = compiled["cupy_matmul.matmul_tensor"]
    assert any(op.startswith("wmma.mma.sync") for op in figures["ptx"])
    assert not any(op.startswith("fma") for op in figures["ptx"])


def test_the_ladder_lists_what_the_modules_have():
    source = ast.parse(Path(matmul_ladder.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    kernels = {name for name in imported if name.startswith("matmul_")}
    assert {step.kernel.__name__ for step in LADDER} == kernels
