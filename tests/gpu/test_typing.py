"""The emulator's types against those of Numba's CUDA target, for all pairs of 14 dtypes.

All pairs that the emulator takes are compiled, an operation in one kernel. Of those that it refuses
one of each kind is: Numba refuses it, too.
"""

import math
import operator
import re

import numpy as np
import pytest
from numba.cuda import types
from numba.cuda.descriptor import cuda_target
from numba.cuda.np import numpy_support

from aiinfra_labs.gpu import compiled
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.api.intrinsics import Intrinsic
from aiinfra_labs.gpu.emulator.lanes import arithmetic
from aiinfra_labs.gpu.emulator.translation import promotion
from aiinfra_labs.gpu.emulator.translation.functions import FUNCTIONS
from aiinfra_labs.gpu.emulator.translation.scalars import scalar_cast

KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
DTYPES = [np.dtype(kind) for kind in KINDS]
BINARY = {
    **{f"a {s} b": s for s in ("+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^")},
    **{f"a {s} b": s for s in ("<", "<=", "==", "!=")},
    **{
        f"{name}(a, b)": name
        for name in (
            *("min", "max", "pow", "divmod", "round", "complex"),
            *("math.atan2", "math.copysign", "math.fmod", "math.hypot", "math.ldexp", "math.pow"),
            *("math.remainder", "math.nextafter", "np.maximum", "np.fmin", "np.divide", "np.hypot"),
            *("np.less", "np.logical_xor", "np.bitwise_and", "np.left_shift", "np.arctan2"),
        )
    },
}
UNARY = [
    *("-a", "+a", "~a", "not a", "abs(a)", "round(a)", "int(a)", "float(a)", "bool(a)"),
    *("complex(a)", "a ** 2", "a ** 0.5", "sum((a, a))"),
    *(
        f"math.{name}(a)"
        for name in (
            *("acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "degrees"),
            *(
                "erf",
                "erfc",
                "exp",
                "expm1",
                "fabs",
                "floor",
                "frexp",
                "gamma",
                "isfinite",
                "isinf",
            ),
            *("isnan", "lgamma", "log", "log10", "log1p", "log2", "modf", "radians", "sin", "sinh"),
            *("sqrt", "tan", "tanh", "trunc"),
        )
    ),
    *(
        f"np.{name}(a)"
        for name in (
            *("sin", "log", "arctanh", "isnan", "conj", "logical_not", "invert", "deg2rad"),
            *(str(d) for d in DTYPES if d.kind != "b"),
        )
    ),
    *(f"cuda.{name}(a)" for name in ("popc", "clz", "brev", "ffs", "cbrt")),
    *("cuda.fma(a, a, a)", "cuda.selp(a == 1, a, a)", "cuda.shfl_xor_sync(-1, a, 1)"),
    *("cuda.ballot_sync(-1, a)", "cuda.match_any_sync(-1, a)", "cuda.syncthreads_count(a)"),
]
# Numba gives popc, clz and brev of a float a type, and what it counts then is its integer part
STRICTER = {("cuda.popc(a)", "f"), ("cuda.clz(a)", "f"), ("cuda.brev(a)", "f")}


def numba_type(dtype):
    return types.boolean if dtype.kind == "b" else numpy_support.from_dtype(dtype)


def shown(kind):
    """A type of Numba's, or a value's of ours, as text."""
    if isinstance(kind, tuple):
        return "(" + ", ".join(map(shown, kind)) + ")"
    if isinstance(kind, types.BaseTuple):
        return "(" + ", ".join(shown(k) for k in kind) + ")"
    if isinstance(kind, types.Type):
        return numpy_support.as_dtype(types.unliteral(kind)).str.strip("<|")
    return kind.dtype.str.strip("<|")


def kernel_of(lines, tmp_path):
    """A kernel of arrays a_?, a_i1, ... with these lines."""
    names = [f"a_{k if k != '?' else 'b1'}" for k in KINDS]
    text = f"def kernel({', '.join(names)}):\n" + "".join(f"    {line}\n" for line in lines)
    file = tmp_path / "kernel.py"
    file.write_text(text)
    scope = {"cuda": cuda, "np": np, "math": math}
    exec(compile(text, str(file), "exec"), scope)
    return cuda.jit(scope["kernel"])


def places(text, dtypes):
    """The expression with elements of arrays for a and b."""
    for name, dtype in zip("ab", dtypes, strict=False):
        key = "b1" if dtype.kind == "b" else dtype.str.strip("<|")
        text = re.sub(rf"(?<![\w.]){name}(?![\w(])", f"a_{key}[0]", text)
    return text


def ours(text, dtypes, tmp_path):
    """The emulator's type, or None where it refuses."""
    found = []
    kernel = kernel_of([f"note({places(text, dtypes)})"], tmp_path)
    kernel.py_func.__globals__["note"] = Intrinsic("note", lambda m, k, line, v: found.append(v))
    try:
        kernel[1, 32](*(np.ones(2, d) for d in DTYPES))
    except cuda.EmulatorError:
        return None
    return shown(found[0])


@pytest.mark.emulator_only("`note` is the test's own; the same expressions are compiled below")
@pytest.mark.skipif(bool(compiled.missing()), reason=compiled.missing())
@pytest.mark.parametrize("text", [*UNARY, *BINARY])
def test_expressions_have_the_cuda_targets_types(text, tmp_path):
    count = 2 if text in BINARY else 1
    pairs = [(a, b) for a in DTYPES for b in DTYPES] if count == 2 else [(a,) for a in DTYPES]
    got = {pair: ours(text, pair, tmp_path) for pair in pairs}
    taken = [pair for pair in pairs if got[pair] is not None]
    lines = [f"x{k} = {places(text, pair)}" for k, pair in enumerate(taken)]
    made = compiled.compile_kernel(
        kernel_of(lines or ["pass"], tmp_path), [np.ones(2, d) for d in DTYPES], ptx=False
    )
    differing = [
        f"{' '.join(map(str, pair))}: {got[pair]}, Numba {shown(made.types[f'x{k}'])}"
        for k, pair in enumerate(taken)
        if got[pair] != shown(made.types[f"x{k}"])
    ]
    assert not differing
    refused = [pair for pair in pairs if got[pair] is None and not _stricter(text, pair)]
    for pair in {tuple(d.kind for d in pair): pair for pair in refused}.values():  # one of a kind
        with pytest.raises(compiled.Refused):
            compiled.compile_kernel(
                kernel_of([f"x = {places(text, pair)}"], tmp_path),
                [np.ones(2, d) for d in DTYPES],
                ptx=False,
            )


def _stricter(text, pair):
    return any((text, d.kind) in STRICTER for d in pair)


def test_unification_is_numbas():
    context = cuda_target.typing_context
    context.refresh()
    for a in DTYPES:
        for b in DTYPES:
            expected = context.unify_types(numba_type(a), numba_type(b))
            assert promotion.unify(a, b) == numpy_support.as_dtype(expected), (a, b)


def test_minimum_of_booleans():
    assert arithmetic.minimum(np.bool_(True), np.bool_(False)) == np.bool_(False)


def test_an_operator_and_its_function_are_one():
    assert FUNCTIONS[operator.add] is FUNCTIONS[operator.iadd] is arithmetic.add
    assert scalar_cast(np.float32)(np.float64(1)).dtype == np.float32
