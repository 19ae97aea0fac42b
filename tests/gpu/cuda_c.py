"""CUDA C run on the CPU: a thread of C++ for each of a block, one block at a time.

No GPU is needed to see that a kernel's text is right. Of `wmma` there is a stand-in, in which each
lane does the whole warp's product: it holds a kernel to its tiles and edges, not to a layout of
fragments, which only the hardware knows.
"""

import ctypes
import re
import shutil
import subprocess

import pytest

COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ to compile CUDA C with")

# What CUDA gives to a kernel, for the CPU. A block's shared arrays are static: blocks take turns.
BEFORE = """
#include <barrier>
#include <thread>
#include <vector>
struct Dim3 { int x = 0, y = 0, z = 0; };
thread_local Dim3 threadIdx;
static Dim3 blockIdx, blockDim, gridDim;
static std::barrier<> *block_barrier;
#define __global__
#define __shared__ static
#define __launch_bounds__(threads, blocks)
#define __syncthreads() block_barrier->arrive_and_wait()
typedef _Float16 half;
struct uint4 { unsigned x, y, z, w; };
namespace nvcuda { namespace wmma {
struct matrix_a {}; struct matrix_b {}; struct accumulator {}; struct row_major {};
enum layout { mem_row_major };
template <class Use, int, int, int, class T, class Order = void> struct fragment { T x[16][16]; };
template <class F> void fill_fragment(F &f, float v) {
    for (auto &row : f.x) for (auto &x : row) x = v;
}
template <class F, class T> void load_matrix_sync(F &f, const T *from, int pitch) {
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) f.x[i][j] = from[i * pitch + j];
}
template <class D, class A, class B> void mma_sync(D &d, const A &a, const B &b, const D &c) {
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) {
        float sum = c.x[i][j];
        for (int k = 0; k < 16; k++) sum += float(a.x[i][k]) * float(b.x[k][j]);
        d.x[i][j] = sum;
    }
}
template <class F> void store_matrix_sync(float *to, const F &f, int pitch, layout) {
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) to[i * pitch + j] = f.x[i][j];
}
} }
"""
AFTER = """
template <typename Body> void run(int gx, int gy, int bx, int by, Body body) {
    gridDim = {gx, gy, 1};
    blockDim = {bx, by, 1};
    for (int block = 0; block < gx * gy; block++) {
        blockIdx = {block % gx, block / gx, 0};
        std::barrier<> all(bx * by);
        block_barrier = &all;
        std::vector<std::thread> threads;
        for (int t = 0; t < bx * by; t++)
            threads.emplace_back([=] { threadIdx = {t % bx, t / bx, 0}; body(); });
        for (auto &thread : threads) thread.join();
    }
}
"""


def built(folder, code, kernels, dynamic=""):
    """The kernels of a text as a library, with `run_NAME(gx, gy, bx, by, ...)` for each.

    kernels: {name: its parameters, such as "const float *a, int n"}. dynamic: the array of unknown
    size that a launch would make, such as "float window[1024]".
    """
    calls = "".join(
        f'extern "C" void run_{name}(int gx, int gy, int bx, int by, {parameters}) '
        f"{{ run(gx, gy, bx, by, [=] {{ {name}({', '.join(names(parameters))}); }}); }}\n"
        for name, parameters in kernels.items()
    )
    if dynamic:  # C++ has to have it somewhere; static, it could not be found by another's extern
        dynamic = f'extern "C" {dynamic[: dynamic.index("[")]}[];\n{dynamic};\n'
    code = re.sub(r"#include.*", "", code).replace("extern __shared__", "extern")
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(BEFORE + dynamic + code + AFTER + calls)
    # no contraction: products and sums round as on the emulator
    command = [COMPILER, "-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread"]
    done = subprocess.run([*command, source, "-o", library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def names(parameters):
    """Of "const float *a, int n": a and n."""
    return [re.search(r"\w+$", one.strip()).group() for one in parameters.split(",")]


def pointer(array):
    """Where an array of NumPy begins, as C takes it."""
    return array.ctypes.data_as(ctypes.c_void_p)
