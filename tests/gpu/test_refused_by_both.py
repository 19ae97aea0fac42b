"""What the emulator says of a kernel, and what Numba's compiler for the CUDA target says: the same.

Each case is a module of its own, with a `kernel` of one array of eight float64. A case that is
refused comes with what the emulator says of it; of one that is taken, Numba compiles all.
"""

import math
import types

import numpy as np
import pytest

from aiinfra_labs.gpu import compiled
from aiinfra_labs.gpu import emulator as cuda

APPLY = "@cuda.jit(device=True)\ndef apply(f, x): return f(x)\n"
SELF = (
    "@cuda.jit(device=True)\ndef total(n):\n    if n < 1: return 0\n    return n + total(n - 1)\n"
)
TURNS = (
    "@cuda.jit(device=True)\ndef even(n):\n    if n == 0: return True\n    return odd(n - 1)\n"
    "@cuda.jit(device=True)\ndef odd(n):\n    if n == 0: return False\n    return even(n - 1)\n"
)
TWO = (
    "@cuda.jit(device=True)\ndef g(x): return x + 1\n"
    "@cuda.jit(device=True)\ndef h(x): return x + 2\n"
)
TAKES = ""  # what the emulator says of a case that it takes

CASES = {  # (what stands before the kernel, its lines): what the emulator says
    # a device function that calls itself
    (SELF, "a[0] = total(np.int64(4))"): TAKES,
    (SELF, "a[0] = total(cuda.grid(1))"): TAKES,
    (SELF, "a[0] = total(4)"): "calls itself with other types",
    (SELF, "a[0] = total(cuda.threadIdx.x)"): "calls itself with other types",
    (SELF.replace("device", '"int64(int64)", device'), "a[0] = total(4)"): TAKES,
    (TURNS, "a[0] = even(np.int64(4))"): "even calls odd, which calls even",
    ("", "def g(n):\n    return g(n - 1)\na[0] = g(1)"): "g calls itself, and is defined in",
    # what an exception is given
    ("", 'if a[0] > 9: raise ValueError("no", 1, -2.5, None, (1, 2), True)'): TAKES,
    ("N = 3", "if a[0] > 9: raise ValueError(N, math.pi, a.ndim)"): TAKES,
    ("", 'why = "no"\nif a[0] > 9: raise ValueError(why)'): TAKES,
    ("", 'assert a[0] < 9, "no"'): TAKES,
    ("", "if a[0] > 9: raise ValueError(a[0])"): "an exception is given a[0]",
    ("", "if a[0] > 9: raise ValueError(a)"): "an exception is given a",
    ("", "if a[0] > 9: raise ValueError(a.shape)"): "an exception is given a.shape",
    ("", "if a[0] > 9: raise ValueError((1, a[0]))"): "an exception is given (1, a[0])",
    ("N = 3", "if a[0] > 9: raise ValueError(N + 1)"): "an exception is given N + 1",
    ("", "k = 3\nif a[1] > 4: k = 4\nif a[0] > 9: raise ValueError(k)"): "is given k",
    ("", "assert a[0] < 9, a[0]"): "an exception is given a[0]",
    ("", 'if a[0] > 9: raise ValueError("no") from None'): "raise ... from",
    # the elements of an array in one row
    ("", "b = a.reshape(a.size)\nb[1] = 2"): TAKES,
    ("", "b = a.ravel()\nb[1] = 2"): "write a.reshape(a.size)",
    ("", "b = a.flatten()\nb[1] = 2"): "write a.reshape(a.size)",
    ("", "s = cuda.shared.array((2, 2), np.float32)\na[0] = s.ravel()[1]"): ".size)",
    # functions that are handed over
    (APPLY, "a[0] = apply(lambda x: x + 1, 2)"): TAKES,
    (APPLY, "k = 3\na[0] = apply(lambda x: x + k, 2)"): TAKES,
    (APPLY, "a[0] = apply(math.sqrt, 2.0) + apply(np.float32, 2.0)"): TAKES,
    ("", "k = a[1]\nf = lambda x: x + k\ng = f\na[0] = g(2)"): TAKES,
    ("", "k = a[1]\ndef twice(f): return f(f(1))\na[0] = twice(lambda x: x + k)"): TAKES,
    (TWO, "f = g\na[0] = f(1)\nf = h\na[1] = f(1)"): TAKES,
    (TWO, "t = (g, h)\na[0] = t[0](1) + t[1](1)"): TAKES,
    (APPLY, "k = a[1]\na[0] = apply(lambda x: x + k, 2)"): "reads k of the kernel",
    (APPLY, "def f(i): return a[i]\na[0] = apply(f, 2)"): "reads a of the kernel",
    (APPLY, "k = 1\nk = 2\na[0] = apply(lambda x: x + k, 2)"): "reads k of the kernel",
    (APPLY, "def f(x): return x\na[0] = apply(lambda x: f(x), 2)"): "reads f of the kernel",
    ("", "k = a[1]\nt = (lambda x: x + k, 1)\na[0] = t[0](2)"): "reads k of the kernel",
    (TWO, "f = g if a[0] > 1 else h\na[0] = f(1)"): "one function in some threads",
    (TWO, "if a[0] > 1: f = g\nelse: f = h\na[0] = f(1)"): "one function in some threads",
    (TWO, "for f in (g, h): a[0] += f(1)"): "a tuple of several types",
    (TWO + "FS = (g, h)", "a[0] = FS[0](1)"): "FS is a tuple of functions",
    ("", "def f(x, y): return x - y\na[0] = f(1, y=2)"): "arguments by position",
    # other names for what cuda has
    ("grid, sync = cuda.grid, cuda.syncthreads", "sync()\na[grid(1)] = 1"): TAKES,
    ("shuffle, wide = cuda.shfl_sync, cuda.warpsize", "a[0] = shuffle(-1, a[0], 1) + wide"): TAKES,
    ("half, device = cuda.fp16, cuda", "a[device.grid(1)] = half.hneg(np.float16(1))"): TAKES,
    ("", "t, d = cuda.threadIdx, cuda.blockDim\na[t.x] = d.x"): TAKES,
    ("", "sh = cuda.shared\ns = sh.array(4, np.float32)\ns[0] = 1\na[0] = s[0]"): TAKES,
    ("", "c = cuda\nat = c.atomic\nm = math\nat.add(a, 0, m.sqrt(4.0))"): TAKES,
    ("at = cuda.threadIdx", "a[at.x] = 1"): "write cuda.threadIdx",
    ("sh = cuda.shared", "s = sh.array(4, np.float32)\na[0] = 1"): "write cuda.shared",
    ("new = cuda.local.array", "s = new(4, np.float32)\na[0] = 1"): "write cuda.local.array",
    ("add = cuda.atomic.add", "add(a, 0, 1)"): "write cuda.atomic.add",
    ("lane = cuda.laneid", "a[lane] = 1"): "write cuda.laneid",
    ("bits = cuda.popc", "a[0] = bits(7)"): "write cuda.popc",
    ("fence = cuda.threadfence", "fence()\na[0] = 1"): "write cuda.threadfence",
    # where a number of the host's may stand
    ("own = types.ModuleType('own')\nown.N = 3", "a[0] = own.N"): TAKES,
    ("class Own:\n    N = 3", "a[0] = Own.N"): "no other object or class",
    ("own = types.SimpleNamespace(N=3)", "a[0] = own.N"): "no other object or class",
    # := in an expression
    ("", "x = (k := a[1])\na[0] = k + x"): TAKES,
    ("", "a[0] = (k := 1)\na[1] = k"): TAKES,
    ("", "n = 0\nwhile (k := n) < 3: n += 1\na[0] = k"): TAKES,
    ("", "n = a[1]\nx = 1 + (k := n)\na[0] = k + x"): TAKES,
    ("", "if (k := a[1]) > 1: a[0] = k"): "assign k in a statement of its own",
    ("", "a[(k := 2)] = k"): "assign k in a statement of its own",
    ("", "for i in range(n := 3): a[i] = n"): "assign n in a statement of its own",
    ("", "if a[0] > 1 or (k := a[1]) < 1: a[2] = 5"): "assign k in a statement of its own",
    ("", "x = 1\nx += (k := a[0])\na[1] = x + k"): "assign k in a statement of its own",
    # a range of numbers that are no integers
    ("", "n = a.size / 2\nfor i in range(n): a[i] = 1"): TAKES,
    ("", "for i in range(0, 3.9, 1.5): a[i] = 1"): TAKES,
    ("", "for i in range(math.ceil(a[1])): a[i] = 1"): TAKES,
    ("", "for i in range(1j): a[0] = 1"): "range takes integers",
}


def kernel_of(before, lines, tmp_path):
    text = before + "\n\n\ndef kernel(a):\n" + "".join(f"    {x}\n" for x in lines.split("\n"))
    file = tmp_path / "kernel.py"
    file.write_text(text)
    scope = {"cuda": cuda, "np": np, "math": math, "types": types}
    exec(compile(text, str(file), "exec"), scope)
    return cuda.jit(scope["kernel"])


@pytest.mark.emulator_only("the same kernels are compiled below")
@pytest.mark.parametrize("case", CASES, ids=[" | ".join(c)[-60:] for c in CASES])
def test_the_emulator_says_what_numba_says(case, tmp_path):
    kernel = kernel_of(*case, tmp_path)
    if CASES[case] == TAKES:
        kernel[1, 4](np.zeros(8))
    else:
        with pytest.raises(cuda.UnsupportedFeature) as caught:
            kernel[1, 4](np.zeros(8))
        error = caught.value
        assert CASES[case] in str(error) and error.why and error.try_ and error.place.line
    if compiled.missing():
        return
    if CASES[case] == TAKES:
        compiled.compile_kernel(kernel, [np.zeros(8)], ptx=False)
    else:
        with pytest.raises(compiled.Refused):
            compiled.compile_kernel(kernel, [np.zeros(8)], ptx=False)


# --- range ---------------------------------------------------------------------------------------

KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


def test_a_range_leaves_what_its_type_makes_of_the_bounds():
    """The bounds become int32, int64 or uint64 first, as a GPU converts them."""

    @cuda.jit
    def kernel(x, rounds):
        for _ in range(x[0]):
            rounds[0] += 1
        for _ in range(x[0], x[1]):
            rounds[1] += 1
        for _ in range(x[1], x[0], x[2]):
            rounds[2] += 1

    for x, left in (
        (np.array([2.9, 6.9, -2.9]), [2, 4, 2]),
        (np.array([-0.9, 1.9, -1.0], np.float32), [0, 1, 1]),
        (np.array([3, 1, 250], np.uint8), [3, 0, 1]),
        (np.array([4, 6, -3], np.int8), [4, 2, 1]),
        (np.array([2**63 + 1, 2**63 + 3, 1], np.uint64), [0, 2, 0]),  # differences are signed
    ):
        rounds = np.zeros(3, np.int64)
        kernel[1, 1](x, rounds)
        assert rounds.tolist() == left, x.dtype


@pytest.mark.emulator_only("`note` is the test's own; the same ranges are compiled here")
@pytest.mark.skipif(bool(compiled.missing()), reason=compiled.missing())
def test_a_range_has_numbas_type(tmp_path):
    from numba.cuda.np import numpy_support

    from aiinfra_labs.gpu.emulator.api.intrinsics import Intrinsic

    bounds = [(a,) for a in KINDS] + [(a, b) for a in KINDS for b in KINDS]
    bounds += [(a, b, c) for a in ("i4", "u1", "f4") for b in ("i8", "u8") for c in KINDS]
    names = [f"a_{'b1' if k == '?' else k}" for k in KINDS]
    of = dict(zip(KINDS, names, strict=True))
    text = "".join(
        f"    for x{k} in range({', '.join(f'{of[b]}[{n + 1}]' for n, b in enumerate(bound))}):\n"
        f"        note({k}, x{k})\n"
        for k, bound in enumerate(bounds)
    )
    args = [np.array([0, 1, 1, 1], kind) for kind in KINDS]
    found = {}
    note = Intrinsic("note", lambda m, k, line, at, v: found.setdefault(int(at), v.dtype))

    def made(body):
        file = tmp_path / "kernel.py"
        file.write_text(f"def kernel({', '.join(names)}):\n{body}")
        scope = {"note": note}
        exec(compile(file.read_text(), str(file), "exec"), scope)
        return cuda.jit(scope["kernel"])

    watched = made(text)
    watched.function.prepare(cuda_launch(), [cuda_view(a) for a in args])
    theirs = compiled.compile_kernel(
        made(text.replace("note(", "(").replace(", x", " + x")), args, ptx=False
    )
    differing = [
        f"{bound}: {found[k]}, Numba {theirs.types[f'x{k}']}"
        for k, bound in enumerate(bounds)
        if numpy_support.as_dtype(theirs.types[f"x{k}"]) != found[k]
    ]
    assert not differing


def cuda_launch():
    from aiinfra_labs.gpu.emulator.lanes.launching import Launch

    return Launch("kernel", (1, 1, 1), (32, 1, 1), 100, 100)


def cuda_view(array):
    from aiinfra_labs.gpu.emulator.lanes.views import view_of

    return view_of(array, "a")
