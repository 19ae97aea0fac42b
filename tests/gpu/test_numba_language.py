"""Lines that Numba compiles for a GPU, and what they leave behind: the emulator takes them, too.

`conftest.py` has Numba's compiler take each of them.
"""

import math

import numba
import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

# each with what it leaves in `out`; a: [3, 9, 2, 5], m: [[0, 1, 2], [3, 4, 5]], c: [4, 0, 7, 1]
LINES = [
    ("for j in range(4):\n    if a[j] == 2: break\nelse: out[0] = 5", [0]),
    ("for j in range(4):\n    if a[j] == 8: break\nelse: out[0] = 5", [5]),
    ("n = 0\nwhile n < 3:\n    n += 1\nelse: out[0] = n", [3]),
    (
        "for j in range(3):\n    for k in range(3):\n        if k == j: break\n"
        "    else: out[1] = 1\n    if j == 1: break\nelse: out[0] = 1",
        [0, 0],
    ),
    (
        "match c[0]:\n    case 0: out[0] = 1\n    case 4 | 5: out[0] = 2\n    case _: out[0] = 3",
        [2],
    ),
    (
        "match c[2]:\n    case 0: out[0] = 1\n    case x if x > 6: out[0] = x\n"
        "    case _: out[0] = 3",
        [7],
    ),
    ("match c[3]:\n    case -1: out[0] = 1\n    case x: out[0] = x + 1", [2]),
    ("m[..., 0] = 9\nout[0] = m[1, 0] + m[1, 1]", [13]),
    ("x = m[..., 1]\nout[0] = x[1]", [4]),
    ("out[0] = a[None, 1][0]", [9]),
    ("out[0] = a[np.newaxis, :][0, 2]", [2]),
    ("n = 0\nwhile (k := n) < 3: n += 1\nout[0] = k", [3]),
    ("out[0] = (y := a[1])\nout[1] = y", [9, 9]),
    ("q, r = divmod(-7, 3)\nout[0] = q\nout[1] = r", [-3, 2]),
    ("q, r = divmod(a[1], 4)\nout[0] = q\nout[1] = r", [2, 1]),
    ("out[0] = sum((1, 2, 3))\nout[1] = sum((1, 2.5))\nout[2] = sum((1, 2), 10)", [6, 3.5, 13]),
    ("out[0] = sum(a)\nout[1] = min(a)\nout[2] = max(a)", [19, 2, 9]),
    ("out[0] = np.float32(1.5).view(np.int32)", [0x3FC00000]),
    ("out[0] = a.dtype.type(3.7)\nout[1] = c.dtype.type(3.7)", [np.float32(3.7), 3]),
    ("out[0] = type(c[0])(3.7)", [3]),
    ("x, y, z = m[1]\nout[0] = x + 10 * y + 100 * z", [543]),
    ("m[0] = (7, 8, 9)\nout[0] = m[0, 0] + m[0, 2]", [16]),
    ("t = cuda.threadIdx\nd = cuda.blockDim\nout[0] = t.x + d.x + d.y", [2]),
    ("out[0] = m[1].sum() + m[1].mean()\nout[1] = m.sum()", [16, 15]),
    ("out[0] = a.prod()\nout[1] = a.argmin()\nout[2] = a.argmax()", [270, 2, 1]),
    ("out[0] = a.any()\nout[1] = c.all()\nout[2] = np.sum(a) + np.mean(m)", [1, 0, 21.5]),
    ("out[0] = a.var()\nout[1] = a.std()", [7.1875, math.sqrt(7.1875)]),
    ("m[0].fill(2)\nout[0] = m[0].sum()", [6]),
    ("for p in np.ndindex(2, 3): out[0] += m[p] * (p[0] + 1)", [27]),
    ("for i, j in np.ndindex(m.shape): out[0] += m[i, j] * j", [19]),
    ("for p, v in np.ndenumerate(m): out[0] += v * p[1]", [19]),
    ("for v in m.flat: out[0] += v", [15]),
    (
        "out[0] = 1 if isinstance(a[0], float) else 2\nout[1] = isinstance(c[0], (float, int))",
        [1, 1],
    ),
    ("s = slice(1, 3)\nout[0] = a[s][1]\nout[1] = s.start", [2, 1]),
    ("t = (1, 2) * 2\nout[0] = t[3]", [2]),
    (
        "out[0] = (1, 2) < (1, 3)\nout[1] = (1, a[0]) >= (1, 4.0)\nout[2] = (1, 2) < (1, 2, 3)",
        [1, 0, 1],
    ),
    ("out[0] = 9 in a\nout[1] = 8 in a", [1, 0]),
    ("for k in [a[0], a[1]]: out[0] += k", [12]),
    ("a.fill(1)\nout[0] = a[0] + a[3]", [2]),
]


@pytest.mark.parametrize(("text", "left"), LINES, ids=[t.split("\n")[0] for t, _ in LINES])
def test_a_line_leaves_what_python_would_leave(text, left, tmp_path):
    body = "".join(f"    {line}\n" for line in text.split("\n"))
    file = tmp_path / "kernel.py"
    file.write_text(f"def kernel(a, m, c, out):\n{body}")
    scope = {"cuda": cuda, "np": np, "math": math}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    a, m = np.array([3, 9, 2, 5], np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    out = np.zeros(3)
    cuda.jit(scope["kernel"])[1, 1](a, m, np.array([4, 0, 7, 1], np.int32), out)
    assert out[: len(left)].tolist() == pytest.approx(left, rel=1e-6)


SIGNATURES = [
    ("void(UniTuple(float32[:], 2), float32[:])", ("pair",)),
    ("void(Tuple((int32, float32)), float32[:])", ((np.int32(1), np.float32(2)),)),
    ("void(Array(float32, 1, 'C'), float32[:])", (np.ones(2, np.float32),)),
    ("void(uchar[:], float32[:])", (np.ones(2, np.uint8),)),
    ("void(size_t, float32[:])", (3,)),
    ("float32[:], float32[:]", (np.ones(2, np.float32),)),
    ((numba.types.UniTuple(numba.float32[:], 2), numba.float32[:]), ("pair",)),
]


@pytest.mark.parametrize(("signature", "given"), SIGNATURES, ids=lambda s: str(s)[:40])
def test_signatures_as_numba_writes_them(signature, given):
    def kernel(a, out):
        out[0] = 1

    pair = isinstance(given[0], str)
    arguments = ((np.ones(2, np.float32), np.ones(2, np.float32)),) if pair else given
    out = np.zeros(1, np.float32)
    cuda.jit(signature)(kernel)[1, 1](*arguments, out)
    assert out[0] == 1


def test_a_tuple_that_a_signature_does_not_declare():
    def kernel(a, out):
        out[0] = 1

    made = cuda.jit("void(Tuple((int32, float32)), float32[:])")(kernel)
    with pytest.raises(cuda.LaunchError, match="declares a as a tuple of 2"):
        made[1, 1]((1, 2, 3), np.zeros(1, np.float32))
    with pytest.raises(cuda.LaunchError, match="is no type that a signature can name"):
        cuda.jit("void(float, float32[:])")(kernel)
