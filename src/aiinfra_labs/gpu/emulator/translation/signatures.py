"""What a signature, `@cuda.jit("void(float32[:], int32)")`, says of the arguments. Unit 3.2."""

from __future__ import annotations

import re
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


@dataclass(frozen=True)
class Declared:
    """An explicit signature: for each argument its dtype and number of axes, None where unknown."""

    name: str
    parameters: tuple[str, ...]
    kinds: tuple[tuple[np.dtype, int] | None, ...]
    returned: np.dtype | None

    @staticmethod
    def of(name: str, signature: Any, parameters: tuple[str, ...]) -> Declared:
        if isinstance(signature, list):  # several: Numba chooses by the arguments
            if len(signature) != 1:
                return Declared(name, parameters, (None,) * len(parameters), None)
            signature = signature[0]
        returned = None
        if isinstance(signature, str):
            opening = signature.find("(")
            returned = _scalar_kind(signature[:opening])
            inside = signature[opening + 1 : signature.rfind(")")]
            parts: list[Any] = re.findall(r"[^,\[\]]*[^\s,\[\]][^,\[\]]*(?:\[[^\]]*\])?", inside)
        else:
            parts = list(getattr(signature, "args", signature))
            returned = _scalar_kind(getattr(signature, "return_type", None))
        if len(parts) != len(parameters):
            raise LaunchError(
                f"the signature of {name} has {len(parts)} types, its def {len(parameters)} "
                "parameters",
                "a signature gives each parameter its type",
                "leave it out: the types are found at the launch",
            )
        return Declared(name, parameters, tuple(map(_kind, parts)), returned)

    def argument(self, k: int, value: Any) -> Any:
        """The k-th argument as the type that the signature gives it."""
        kind, name = self.kinds[k], self.parameters[k]
        if kind is None:
            return value
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
        if self.returned is None or not isinstance(value, np.ndarray | np.generic):
            return value
        return convert(value, self.returned)


def _typed(dtype: np.dtype, ndim: int) -> str:
    return f"{dtype}[{', '.join(':' * ndim)}]" if ndim else str(dtype)


def _kind(part: Any) -> tuple[np.dtype, int] | None:
    """dtype and number of axes of `float32[:, ::1]` or of a Numba type."""
    if isinstance(part, str):
        scalar, _, axes = part.partition("[")
        ndim = axes.count(",") + 1 if axes else 0
        dtype = _scalar_kind(scalar)
    else:
        ndim = getattr(part, "ndim", 0)
        dtype = _scalar_kind(getattr(part, "dtype", part))
    return None if dtype is None else (dtype, ndim)


_SHORT = {"boolean": "bool", "b1": "bool"} | {
    f"{letter}{size}": f"{name}{8 * size}"
    for letter, name, sizes in (
        ("i", "int", (1, 2, 4, 8)),
        ("u", "uint", (1, 2, 4, 8)),
        ("f", "float", (2, 4, 8)),
        ("c", "complex", (8, 16)),
    )
    for size in sizes
}


def _scalar_kind(part: Any) -> np.dtype | None:
    if not isinstance(part, str):
        return scalar_dtype(part)
    part = part.strip()
    if not part or part == "void" or not part.isidentifier():
        return None
    try:
        return np.dtype(_SHORT.get(part, part))
    except TypeError:
        raise LaunchError(
            f"{part!r} is no type that a signature can name",
            "a signature names types as NumPy does: int32, float64, float32[:, :]",
            "look for a misspelling, or leave the signature out",
        ) from None
