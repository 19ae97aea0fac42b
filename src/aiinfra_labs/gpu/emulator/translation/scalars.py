"""What a name stands for where a kernel calls it: `np.float32(x)`, `math.sqrt(x)`. Unit 3.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..lanes import arithmetic
from .functions import FUNCTIONS


def operation_of(callee: Any) -> Callable | None:
    """The operation on lanes that a function of Python, `math`, ... stands for."""
    try:
        return FUNCTIONS.get(callee)
    except TypeError:  # not hashable: nothing that can be called here
        return None


def scalar_cast(callee: Any) -> Callable | None:
    """The conversion that a type stands for where it is called: `np.float32(x)`."""
    if isinstance(callee, type) and hasattr(callee, "_fields"):  # a namedtuple or a vector
        return callee
    dtype = scalar_dtype(callee)
    return None if dtype is None else lambda value: arithmetic.cast(value, dtype)


def scalar_dtype(obj: Any) -> np.dtype | None:
    """The dtype that a type used as a cast stands for: float, np.float32, numba.float32."""
    plain = {int: np.int64, float: np.float64, bool: np.bool_, complex: np.complex128}
    if isinstance(obj, type) and obj in plain:
        return np.dtype(plain[obj])
    if isinstance(obj, type) and issubclass(obj, np.number | np.bool_):
        return np.dtype(obj)
    if isinstance(obj, np.dtype):
        return obj
    name = getattr(obj, "name", None)
    if isinstance(name, str) and type(obj).__module__.startswith("numba"):
        try:
            return np.dtype(name)
        except (TypeError, ValueError):
            dtype = getattr(obj, "dtype", None)  # of a record
            return dtype if isinstance(dtype, np.dtype) else None
    return None
