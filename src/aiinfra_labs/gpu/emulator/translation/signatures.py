"""What a signature, `@cuda.jit("void(float32[:], int32)")`, says of the arguments. Unit 3.2."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import (
    LaunchError,
    described,
)
from ..lanes.arithmetic import convert
from ..lanes.views import ArrayView
from .scalars import scalar_dtype
from .values import tuple_like

# The type of an argument: (dtype, number of axes), a tuple of types, or None where it is not known.
Kind = Any


@dataclass(frozen=True)
class Declared:
    """An explicit signature: for each argument its dtype and number of axes, None where unknown."""

    name: str
    parameters: tuple[str, ...]
    kinds: tuple[Kind, ...]
    returned: np.dtype | None

    @staticmethod
    def of(name: str, signature: Any, parameters: tuple[str, ...]) -> Declared:
        """What a signature in any of Numba's forms declares. Raises `LaunchError`."""
        if isinstance(signature, list):  # several: Numba chooses by the arguments
            if len(signature) != 1:
                return Declared(name, parameters, (None,) * len(parameters), None)
            signature = signature[0]
        if isinstance(signature, str):
            parts, returned = _read(signature)
        else:
            parts = [_kind(p) for p in getattr(signature, "args", signature)]
            returned = _scalar(getattr(signature, "return_type", None))
        if len(parts) != len(parameters):
            raise LaunchError(
                f"the signature of {name} has {len(parts)} types, its def {len(parameters)} "
                "parameters",
                "a signature gives each parameter its type",
                "leave it out: the types are found at the launch",
            )
        return Declared(name, parameters, tuple(parts), returned)

    def argument(self, k: int, value: Any) -> Any:
        """The k-th argument as the type that the signature gives it."""
        return self._as(self.kinds[k], self.parameters[k], value)

    def _as(self, kind: Kind, name: str, value: Any) -> Any:
        if kind is None:
            return value
        if isinstance(kind, list):
            if not isinstance(value, tuple) or len(value) != len(kind):
                raise LaunchError(
                    f"{self.name} declares {name} as a tuple of {len(kind)} and got "
                    f"{described(value)}",
                    "a kernel with a signature takes these types and no others",
                    "pass what the signature says, or leave the signature out",
                )
            pairs = zip(kind, value, strict=True)
            items = (self._as(k, f"{name}[{i}]", v) for i, (k, v) in enumerate(pairs))
            return tuple_like(value, items)
        dtype, ndim = kind
        if isinstance(value, ArrayView):
            if (value.dtype, value.ndim) != kind:
                same_bits = {dtype.kind, value.dtype.kind} == {"i", "u"}
                if same_bits and (dtype.itemsize, ndim) == (value.dtype.itemsize, value.ndim):
                    return replace(value, window=value.window.view(dtype), dtype=dtype)
                raise LaunchError(
                    f"{self.name} declares {name} as {_typed(dtype, ndim)} and got an array of "
                    f"{_typed(value.dtype, value.ndim)}",
                    "a kernel with a signature takes these types and no others",
                    f"convert it with .astype(np.{dtype}), or leave the signature out",
                )
            return value
        if ndim or not isinstance(value, np.ndarray | np.generic):
            raise LaunchError(
                f"{self.name} declares {name} as {_typed(dtype, ndim)} and got {described(value)}",
                "a kernel with a signature takes these types and no others",
                "pass what the signature says, or leave the signature out",
            )
        return convert(value, dtype)

    def result(self, value: Any) -> Any:
        """The result as the type that the signature returns."""
        if self.returned is None or not isinstance(value, np.ndarray | np.generic):
            return value
        return convert(value, self.returned)


def _typed(dtype: np.dtype, ndim: int) -> str:
    return f"{dtype}[{', '.join(':' * ndim)}]" if ndim else str(dtype)


def _kind(part: Any) -> Kind:
    """The type of an argument from one of Numba's own types."""
    members = getattr(part, "types", None)  # of a tuple
    if isinstance(members, tuple):
        return [_kind(member) for member in members]
    dtype = _scalar(getattr(part, "dtype", part))
    return None if dtype is None else (dtype, getattr(part, "ndim", 0))


def _scalar(part: Any) -> np.dtype | None:
    return None if part is None else scalar_dtype(part)


# --- signatures as text --------------------------------------------------------------------------


def _read(text: str) -> tuple[list[Kind], np.dtype | None]:
    """The types of the arguments and of the result: `float32(int32, float32[:, ::1])`."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise _no_signature(text) from None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in _MADE:
        result = None if node.func.id in ("void", "none") else _named(node.func.id)
        return [_written(part) for part in node.args], result
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [_written(part) for part in parts], None


def _written(node: ast.expr) -> Kind:
    """One type: `int32`, `float32[:, ::1]`, `Array(float32, 1, "C")`, `UniTuple(int32, 2)`."""
    match node:
        case ast.Name(id=name):
            dtype = _named(name)
            return None if dtype is None else (dtype, 0)
        case ast.Attribute(attr=name):  # numba.float32
            return _written(ast.Name(name))
        case ast.Subscript(value=element, slice=axes):
            ndim = len(axes.elts) if isinstance(axes, ast.Tuple) else 1
            return _array(_written(element), ndim)
        case ast.Call(func=ast.Name(id="Array"), args=[element, ast.Constant(value=int(n)), *_]):
            return _array(_written(element), n)
        case ast.Call(func=ast.Name(id="UniTuple"), args=[item, ast.Constant(value=int(n))]):
            return [_written(item)] * n
        case ast.Call(
            func=ast.Name(id="Tuple"), args=[ast.Tuple(elts=items) | ast.List(elts=items)]
        ):
            return [_written(item) for item in items]
        case ast.Tuple(elts=items):
            return [_written(item) for item in items]
    raise _no_signature(ast.unparse(node))


def _array(element: Kind, ndim: int) -> Kind:
    return None if element is None else (element[0], ndim)


_MADE = ("Array", "Tuple", "UniTuple")
_NAMES = {"boolean": "?", "bool_": "?", "bool": "?", "b1": "?", "char": "i1", "byte": "u1"} | {
    f"{sign}{c_type}": f"{kind}{size}"
    for c_type, size in (("char", 1), ("short", 2), ("intc", 4), ("int_", 8), ("intp", 8))
    for sign, kind in (("", "i"), ("u", "u"))
    if c_type != "char" or sign
}
_NAMES |= {"uint": "u8", "long_": "i8", "ulong": "u8", "longlong": "i8", "ulonglong": "u8"}
_NAMES |= {"size_t": "u8", "ssize_t": "i8", "double": "f8"}
_NAMES |= {n: n for n in ("float16", "float32", "float64", "complex64", "complex128")}
_NAMES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_NAMES |= {
    f"{letter}{size}": f"{letter}{size}"
    for letter, sizes in (("i", "1248"), ("u", "1248"), ("f", "248"), ("c", ("8", "16")))
    for size in sizes
}


def _named(name: str) -> np.dtype | None:
    if name in ("void", "none"):
        return None
    if name not in _NAMES:
        raise _no_signature(name)
    return np.dtype(_NAMES[name])


def _no_signature(text: str) -> LaunchError:
    return LaunchError(
        f"{text!r} is no type that a signature can name",
        "a signature names types as NumPy does: int32, float64, float32[:, :]",
        "look for a misspelling, or leave the signature out",
    )
