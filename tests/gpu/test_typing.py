"""The emulator's types against Numba's own typing rules, for every pair of dtypes."""

import math
import operator

import numpy as np
import pytest
from numba import types
from numba.core.registry import cpu_target
from numba.np import numpy_support

from aiinfra_labs.gpu.emulator.lanes import arithmetic
from aiinfra_labs.gpu.emulator.translation import promotion

DTYPES = [
    np.dtype(t)
    for t in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16")
]
CONTEXT = cpu_target.typing_context
CONTEXT.refresh()

BINARY = {
    operator.add: arithmetic.add,
    operator.sub: arithmetic.subtract,
    operator.mul: arithmetic.multiply,
    operator.truediv: arithmetic.divide,
    operator.floordiv: arithmetic.floor_divide,
    operator.mod: arithmetic.remainder,
    operator.lshift: arithmetic.left_shift,
    operator.rshift: arithmetic.right_shift,
    operator.and_: arithmetic.bitwise_and,
    operator.or_: arithmetic.bitwise_or,
    operator.xor: arithmetic.bitwise_xor,
    operator.lt: arithmetic.less,
    operator.eq: arithmetic.equal,
    operator.ne: arithmetic.not_equal,
    operator.ge: arithmetic.greater_equal,
    min: arithmetic.minimum,
    max: arithmetic.maximum,
    math.atan2: arithmetic.MATH[math.atan2],
    math.pow: arithmetic.MATH[math.pow],
}
UNARY = {
    operator.neg: arithmetic.negative,
    operator.invert: arithmetic.invert,
    abs: arithmetic.absolute,
    **{
        f: arithmetic.MATH[f]
        for f in (math.sqrt, math.exp, math.floor, math.ceil, math.fabs, math.isnan, math.tanh)
    },
}


def numba_type(dtype: np.dtype) -> types.Type:
    return types.boolean if dtype.kind == "b" else numpy_support.from_dtype(dtype)


def numba_result(function: object, *dtypes: np.dtype) -> np.dtype | None:
    """The dtype that Numba gives, or None where it refuses."""
    try:
        signature = CONTEXT.resolve_function_type(function, [numba_type(d) for d in dtypes], {})
    except Exception:  # Numba raises several kinds of typing error
        return None
    return None if signature is None else numpy_support.as_dtype(signature.return_type)


def our_result(function: object, *dtypes: np.dtype) -> np.dtype | None:
    try:
        return function(*(np.zeros(0, d) for d in dtypes)).dtype
    except TypeError:
        return None


@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
def test_binary_operations_have_numbas_types(function):
    differences = []
    for a in DTYPES:
        for b in DTYPES:
            if function in (min, max) and "b" == a.kind == b.kind:
                continue  # see test_minimum_of_booleans
            expected, got = numba_result(function, a, b), our_result(BINARY[function], a, b)
            if expected != got:
                differences.append(f"{a} {b}: Numba {expected}, ours {got}")
    assert not differences


@pytest.mark.parametrize("function", UNARY, ids=lambda f: f.__name__)
def test_unary_operations_have_numbas_types(function):
    for a in DTYPES:
        if function is abs and a.kind == "b":
            continue  # Numba types abs(True) as int8 and then fails to compile it
        assert our_result(UNARY[function], a) == numba_result(function, a), a


def test_minimum_of_booleans():
    assert arithmetic.minimum(np.bool_(True), np.bool_(False)) == np.bool_(False)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("exponent", ["i1", "i4", "i8", "u8"])
def test_a_float_to_an_integer_power_keeps_its_precision(kind, exponent):
    a, b = np.dtype(kind), np.dtype(exponent)
    assert our_result(arithmetic.power, a, b) == numba_result(operator.pow, a, b) == a


def test_unification_is_numbas():
    for a in DTYPES:
        for b in DTYPES:
            expected = CONTEXT.unify_types(numba_type(a), numba_type(b))
            assert promotion.unify(a, b) == numpy_support.as_dtype(expected), (a, b)
