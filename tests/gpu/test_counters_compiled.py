"""Counters of what NVIDIA's compiler makes of the source: literals, complex numbers, loads kept.

The expected figures were counted in the machine code of sm_90 (numba-cuda, ptxas -O3).
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from by_path import loaded

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def figures(kernel, *arrays):
    report = cuda.profile(kernel)[1, 128](*arrays)
    names = [f"fp{bits}_{kind}" for bits in (32, 64) for kind in ("add", "mul")]
    return {n: getattr(report, n) for n in (*names, "divisions") if getattr(report, n)}, report


def ones(dtype, n=129):
    return np.ones(n, dtype)


@cuda.jit
def times_2(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] * 2.0


@cuda.jit
def plus_1(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] + 1.0


@cuda.jit
def one_minus(a, out):
    out[cuda.grid(1)] = 1 - a[cuda.grid(1)]


@cuda.jit
def half(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] / 2


@cuda.jit
def third(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] / 3.0


@cuda.jit
def tenth(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] * 0.1


@cuda.jit
def scaled_and_moved(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] * 0.5 + 1.0


@cuda.jit
def scaled_in_place(a, out):
    out[cuda.grid(1)] += a[cuda.grid(1)] * 2.0


@cuda.jit
def plus_block(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] + cuda.blockIdx.x


@cuda.jit
def times_single_2(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)] * np.float32(4)


SINGLE, DOUBLE = np.float32, np.float64
SASS = [
    (times_2, SINGLE, {"fp32_add": 128}),  # FADD
    (plus_1, SINGLE, {"fp32_add": 128}),  # FADD
    (one_minus, SINGLE, {"fp32_add": 128}),  # FADD
    (half, SINGLE, {"fp32_mul": 128}),  # FMUL
    (third, SINGLE, {"divisions": 128}),  # a division on float32
    (tenth, SINGLE, {"fp64_mul": 128}),  # F2F, DMUL, F2F: a float32 does not hold 0.1
    (scaled_and_moved, SINGLE, {"fp64_add": 128, "fp64_mul": 128}),  # DFMA
    (scaled_in_place, SINGLE, {"fp64_add": 256}),  # DFMA, of a sum x + x
    (plus_block, SINGLE, {"fp64_add": 128}),  # DADD
    (times_single_2, SINGLE, {"fp32_mul": 128}),
    (times_2, DOUBLE, {"fp64_add": 128}),  # DADD
    (half, DOUBLE, {"fp64_mul": 128}),  # DMUL
]


@pytest.mark.parametrize(
    ("kernel", "dtype", "counted"), SASS, ids=[f"{k.__name__}-{d.__name__}" for k, d, _ in SASS]
)
def test_an_operation_with_a_literal_is_the_machines(kernel, dtype, counted):
    assert figures(kernel, ones(dtype), ones(dtype))[0] == counted


def test_the_bits_are_those_of_float64_rounded():
    """Why the compiler may compute in float32: the results are the same."""
    a = np.random.default_rng(0).standard_normal(1 << 12).astype(SINGLE)
    out = np.zeros_like(a)
    for kernel, exact in ((times_2, a * 2.0), (plus_1, a + 1.0), (third, a.astype(DOUBLE) / 3.0)):
        kernel[32, 128](a, out)
        np.testing.assert_array_equal(out, exact.astype(SINGLE))


def test_float64_stays_float64_where_it_is_stored_as_such():
    assert figures(times_2, ones(SINGLE), ones(DOUBLE))[0] == {"fp64_add": 128}


@cuda.jit
def copy(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)]


@pytest.mark.parametrize(("dtype", "sectors"), [(np.complex64, 64), (np.complex128, 128)])
def test_a_complex_number_is_two_requests(dtype, sectors):
    """LDG.E or LDG.E.64, twice: each of its halves lies in every sector of the other."""
    report = figures(copy, ones(dtype), ones(dtype))[1]
    assert report.global_load_requests == report.global_store_requests == 8
    assert report.global_load_sectors == report.global_store_sectors == sectors
    assert report.global_load_bytes == 128 * np.dtype(dtype).itemsize


@cuda.jit
def square(a, out):
    i = cuda.grid(1)
    out[i] = a[i] * a[i]


@cuda.jit
def square_after_a_store(a, out):
    i = cuda.grid(1)
    x = a[i]
    out[i] = x
    out[i] = x * a[i]


@cuda.jit
def relu(a, out):
    i = cuda.grid(1)
    out[i] = a[i] if a[i] > 0 else 0.0


@cuda.jit
def guarded(a, out):
    i = cuda.grid(1)
    if i < 100:
        out[i] = a[i]


@cuda.jit
def sums(a, out):
    i = cuda.grid(1)
    out[i] = 0
    for k in range(4):
        out[i] += a[i + k]


@cuda.jit
def square_after_a_barrier(a, out):
    i = cuda.grid(1)
    x = a[i]
    cuda.syncthreads()
    out[i] = x * a[i]


SPARED = [  # load requests and sectors, branches that part a warp: by the source, by the code
    (square, 128, (8, 32, 0), (4, 16, 0)),
    (square_after_a_store, 128, (8, 32, 0), (8, 32, 0)),
    (square_after_a_barrier, 128, (8, 32, 0), (8, 32, 0)),
    (relu, 128, (8, 32, 4), (4, 16, 0)),
    (sums, 132, (32, 140, 0), (16, 76, 0)),
    (guarded, 128, (4, 13, 1), (4, 13, 1)),
]


@pytest.mark.parametrize(
    ("kernel", "n", "source", "code"), SPARED, ids=[k.__name__ for k, *_ in SPARED]
)
def test_a_row_shows_what_a_compiler_spares(kernel, n, source, code):
    a = ((-1) ** np.arange(n)).astype(SINGLE)
    report = figures(kernel, a, np.zeros_like(a))[1]

    def read(r):
        return r.global_load_requests, r.global_load_sectors, r.divergent_branches

    assert read(report) == source and read(report.compiled()) == code
    rows = dict(report.rows())
    for name, before, after in (
        ("global load requests", source[0], code[0]),
        ("divergent branches", source[2], code[2]),
    ):
        shown = f"{before} (compiled: {after})" if before != after else str(before)
        assert rows[name] == shown and shown in str(report)
    assert bool(report.notes) == (source != code)


def test_a_note_names_the_line_the_figure_and_how_much():
    signs = ((-1) ** np.arange(128)).astype(SINGLE)
    notes = figures(relu, signs, ones(SINGLE))[1].notes
    line = relu.py_func.__code__.co_firstlineno + 3
    assert notes[0].startswith(f"line {line}: 4 of its global load requests are for an element of")
    assert notes[1].startswith(f"line {line}: 4 of its divergent branches are `a if c else b`")
    assert figures(relu, ones(SINGLE), ones(SINGLE))[1].divergent_branches == 0


def test_what_is_spared_is_added_up_over_launches():
    with cuda.profile() as p:
        for _ in range(3):
            square[1, 128](ones(SINGLE), ones(SINGLE))
    assert dict(p.report.rows())["global load requests"] == "24 (compiled: 12)"


def test_what_is_known_before_the_kernel_runs_is_not_counted():
    @cuda.jit
    def mean(a, out):
        out[cuda.grid(1)] = a[cuda.grid(1)] * np.float32(1 / 256)

    assert figures(mean, ones(SINGLE), ones(SINGLE))[0] == {"fp32_mul": 128}


# --- beside the machine code, where NVIDIA's compilers are ------------------------------------


TO_PTX = """
import json, sys, types
import numba, numpy as np
from numba import cuda
import test_counters_compiled as own

made = {}
for name, dtype in json.load(sys.stdin):
    kernel = getattr(own, name).py_func
    kernel = types.FunctionType(kernel.__code__, {"cuda": cuda, "np": np}, name)
    array = numba.from_dtype(np.dtype(dtype))[::1]
    made[name + dtype] = cuda.compile_ptx(kernel, (array, array), cc=(9, 0))[0]
json.dump(made, sys.stdout)
"""


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory):
    """{kernel and dtype: how often each instruction stands in the code of sm_90}."""
    if importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    registers = loaded(BENCHMARKS / "registers.py")
    ptxas, disassembler = registers.tool("ptxas"), registers.tool("nvdisasm")
    if not (ptxas and disassembler):
        pytest.skip("ptxas or nvdisasm is not installed: NVIDIA's packages on PyPI have both")
    asked = json.dumps([(k.__name__, np.dtype(d).str) for k, d in STRAIGHT])
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TO_PTX],
        input=asked,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "NUMBA_ENABLE_CUDASIM": "0"},
    )
    if made.returncode:
        pytest.skip(f"numba-cuda makes no PTX here: {made.stderr.strip().splitlines()[-1]}")
    folder, found = tmp_path_factory.mktemp("sass"), {}
    for name, ptx in json.loads(made.stdout).items():
        source, cubin = folder / "kernel.ptx", folder / "kernel.cubin"
        source.write_text(ptx)
        subprocess.run([ptxas, "-arch=sm_90", "-O3", str(source), "-o", str(cubin)], check=True)
        listing = subprocess.run(
            [disassembler, str(cubin)], capture_output=True, text=True, check=True
        )
        words = re.findall(r"\*/\s+(?:@!?U?P\d\s+)?([A-Z0-9]+)\b", listing.stdout)
        found[name] = Counter(words)
    return found


STRAIGHT = [(k, d) for k, d, counted in SASS if "divisions" not in counted] + [
    *((kernel, SINGLE) for kernel, *_ in SPARED),
    (copy, SINGLE),
    (copy, np.complex64),
    (copy, np.complex128),
]


@pytest.mark.parametrize(
    ("kernel", "dtype"), STRAIGHT, ids=[f"{k.__name__}-{np.dtype(d)}" for k, d in STRAIGHT]
)
def test_the_counters_are_those_of_the_machine_code(machine_code, kernel, dtype):
    code = machine_code[kernel.__name__ + np.dtype(dtype).str]
    report = figures(kernel, ones(dtype, 132), ones(dtype, 132))[1].compiled()
    warps, threads = 4, 128
    assert code["LDG"] == report.global_load_requests / warps
    assert code["STG"] == report.global_store_requests / warps
    for letter, name in (("F", "fp32"), ("D", "fp64")):
        # an fma does a sum and a product; of x + x it takes x * 2 for the product
        fused = code["FFMA" if letter == "F" else "DFMA"]
        operations = code[f"{letter}ADD"] + code[f"{letter}MUL"] + 2 * fused
        assert operations == report.flops_by_dtype[name] / threads
