"""The CUDA C program on unit 3.2's page about memories, compiled and run on the CPU (`cuda_c`)."""

import ctypes
import json
import re
import subprocess
from pathlib import Path

import cuda_c
import numpy as np
import pytest

pytestmark = cuda_c.needs_compiler
PAGE = Path(__file__).parents[2] / "book/3-gpu/02-cuda-model-memories.ipynb"

# What the runtime of CUDA does for the host, where both memories are one. `crossed` counts bytes
# by direction, and `held` the arrays that nobody has freed.
RUNTIME = """
#include <cstdlib>
#include <cstring>
enum Direction { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
extern "C" { size_t crossed[2]; int held; }
template <class T> void cudaMalloc(T **p, size_t bytes) {
    *p = (T *)std::malloc(bytes);
    std::memset(*p, 0xff, bytes);
    held++;
}
static void cudaMemcpy(void *to, const void *from, size_t bytes, Direction way) {
    std::memcpy(to, from, bytes);
    crossed[way] += bytes;
}
static void cudaFree(void *p) { std::free(p); held--; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    (program,) = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    launch = re.compile(r"(\w+)<<<(.+), (\w+)>>>(\(.*?\));")
    assert len(launch.findall(program)) == 1
    program = launch.sub(r"run(\2, 1, \3, 1, [=] { \1\4; });", program)
    source = tmp_path_factory.mktemp("page") / "page.cpp"
    program = program.replace("void soften_on_gpu", 'extern "C" void soften_on_gpu')
    source.write_text(cuda_c.BEFORE + RUNTIME + cuda_c.AFTER + program)
    command = [cuda_c.COMPILER, "-std=c++20", "-O1", "-Wall", "-shared", "-fPIC", "-pthread"]
    made = source.with_suffix(".so")
    done = subprocess.run([*command, source, "-o", made], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(made))


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_the_program_divides_each_number_and_moves_two_arrays(library, n):
    logits = np.random.default_rng(n).standard_normal(n, dtype=np.float32)
    out = np.full(n + 8, np.nan, np.float32)  # what lies behind the result stays as it is
    crossed = (ctypes.c_size_t * 2).in_dll(library, "crossed")
    crossed[:] = [0, 0]
    library.soften_on_gpu(
        cuda_c.pointer(logits), ctypes.c_float(0.7), cuda_c.pointer(out), ctypes.c_int(n)
    )
    np.testing.assert_array_equal(out[:n], logits / np.float32(0.7))
    assert np.isnan(out[n:]).all()
    assert list(crossed) == [4 * n, 4 * n]
    assert ctypes.c_int.in_dll(library, "held").value == 0
