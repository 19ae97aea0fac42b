"""What the host passes to a kernel, as its lanes see it. Unit 3.2."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..api.arguments import In, Out
from ..api.memory import DeviceArray, check_dtype, to_device
from ..errors import (
    DeviceMemoryError,
    LaunchError,
)
from ..translation.values import tuple_like
from .views import ArrayView, view_of


def arrays_among(values: Sequence[Any]) -> Iterator[ArrayView]:
    """The arrays among the arguments of a launch, also those within tuples."""
    for value in values:
        if isinstance(value, ArrayView):
            yield value
        elif isinstance(value, tuple):
            yield from arrays_among(value)


def argument(name: str, value: Any, copies: list[tuple[np.ndarray, DeviceArray]]) -> Any:
    """A launch argument as the lanes see it."""
    copied_back = True
    if isinstance(value, In):
        copied_back = isinstance(value, Out)
        value = value.value
    if isinstance(value, np.ndarray):
        device = to_device(value)
        if not value.flags.writeable:
            return replace(view_of(device._array, name), writable=False)
        if copied_back:
            copies.append((value, device))
        value = device
    if isinstance(value, DeviceArray):
        return view_of(value._array, name)
    if isinstance(value, tuple):
        items = (argument(f"{name}[{i}]", v, copies) for i, v in enumerate(value))
        return tuple_like(value, items)
    if isinstance(value, enum.Enum):
        return argument(name, value.value, copies)
    if isinstance(value, np.void):  # a record: an array of no axes, copied back after the launch
        return argument(name, np.asarray(value), copies)
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        return number_of(name, value)
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        check_dtype(value.dtype)
        return value
    if hasattr(value, "__cuda_array_interface__") or hasattr(value, "copy_to_host"):
        return view_of(to_device(value.copy_to_host())._array, name)
    raise DeviceMemoryError(
        f"the argument {name} is {article(type(value).__name__)}",
        "a kernel takes numbers, NumPy or device arrays, and tuples of these",
        f"convert it first, for example np.asarray({name})"
        if isinstance(value, list)
        else "pass what it holds as numbers and arrays, each an argument of its own",
    )


def article(name: str) -> str:
    """ "a" or "an", as the word asks for."""
    if name == "NoneType":
        return "None"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def typed(name: str, value: Any) -> Any:
    """A default value of Python's with its type in a kernel; all else as it is."""
    plain = isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)
    return number_of(name, value) if plain else value


def number_of(name: str, value: bool | int | float | complex) -> np.generic:
    """A Python number with Numba's type for it."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return np.int64(value)
        if 0 <= value < 2**64:
            return np.uint64(value)
        raise LaunchError(
            f"the argument {name} is {value}, which needs more than 64 bits",
            "a kernel computes with integers of up to 64 bits",
            "pass it in two parts, or as a float",
        )
    return np.float64(value) if isinstance(value, float) else np.complex128(value)
