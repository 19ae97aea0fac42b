"""Calls of what a name holds: a function passed as an argument, or defined in the kernel. Unit 3.2.

`reduce(a, cuda.atomic.add)` hands a function over; the lanes that call it call the same one. A
function may also be defined inside a kernel: it sees the kernel's variables, as in Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.intrinsics import Intrinsic
from ..api.takes import WrongCall
from ..errors import LaneError, described
from ..lanes.views import ArrayView
from .values import Literal, LiteralBool, kind_of

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


@dataclass(frozen=True, eq=False)
class Inner:
    """A `def` or a lambda inside a kernel: `run(mask, *arguments)` is its lane code."""

    name: str
    parameters: tuple[str, ...]
    defaults: tuple[Any, ...]
    run: Callable[..., Any]
    captures: tuple[str, ...] = ()  # the kernel's variables that it reads


def need_self_contained(value: Any) -> Any:
    """The value, but no function that leaves its kernel and would take variables along."""
    if isinstance(value, Inner) and value.captures:
        raise LaneError(
            f"{value.name} reads {', '.join(value.captures)} of the kernel that it is defined in, "
            "and is handed over as a value",
            "give the other function what it needs as an argument of its own; a function defined "
            "in a kernel may be called there",
        )
    return value


def signature_of(value: Any) -> Any:
    """What decides of the version of a function that is compiled for this argument."""
    need_self_contained(value)
    if isinstance(value, ArrayView):
        return ("array", value.dtype.str, value.ndim)
    if isinstance(value, tuple):
        return tuple(map(signature_of, value))
    if isinstance(value, Literal):  # Numba compiles a version for each
        return int(value)
    if isinstance(value, LiteralBool) and value.ndim == 0:
        return bool(value), "literal"
    kind = kind_of(value)
    if isinstance(kind, np.dtype):
        return kind.str
    if isinstance(value, Inner):
        return value.run.__code__
    return value if callable(value) or isinstance(value, str) else type(value).__name__


def call_value(
    machine: Machine,
    mask: Mask,
    callee: Any,
    args: tuple,
    named: dict[str, Any],
    line: Line,
    site: int,
) -> Any:
    """Call what a local name holds."""
    from ..lanes.passing import typed
    from .scalars import operation_of, scalar_cast

    if isinstance(callee, Inner):
        return _call_inner(machine, mask, callee, args, named, site)
    if hasattr(callee, "py_func"):
        try:
            bound = inspect.signature(callee.py_func).bind(*args, **named)
        except TypeError as error:
            raise LaneError(
                f"{callee.py_func.__name__} is called with other arguments than it takes: {error}",
                "pass one argument for each of its parameters",
            ) from None
        bound.apply_defaults()
        values = [typed(callee.py_func.__name__, value) for value in bound.args]
        return machine.call(callee, mask, values)
    if isinstance(callee, Intrinsic):
        places = (site,) if callee.site else ()
        try:
            bound = callee.takes.ordered(args, named) if callee.takes else args
        except WrongCall as wrong:
            raise LaneError(wrong.what, wrong.advice) from None
        return callee.run(machine, mask, line, *places, *bound)
    operation = operation_of(callee) or scalar_cast(callee)
    if operation is None:
        raise LaneError(
            f"{described(callee)} is called, and is no function",
            "call a function made with @cuda.jit(device=True), or one that a kernel can use",
        )
    return operation(*args)


def _call_inner(
    machine: Machine, mask: Mask, callee: Inner, args: tuple, named: dict[str, Any], site: int
) -> Any:
    if named:
        raise LaneError(
            f"{callee.name} is called with {next(iter(named))}=...",
            "a function that is defined in a kernel takes its arguments by position",
        )
    values = dict(zip(callee.parameters[::-1], callee.defaults[::-1], strict=False))
    values |= dict(zip(callee.parameters, args, strict=False))
    if values.keys() != set(callee.parameters) or len(args) > len(callee.parameters):
        raise LaneError(
            f"{callee.name} takes {', '.join(callee.parameters) or 'nothing'} and is called with "
            f"{len(args)} argument(s)",
            "pass one argument for each parameter",
        )
    machine.depth += 1
    outer, machine.version = machine.version, (machine.version, site)  # Numba inlines each call
    try:
        return callee.run(mask, *(values[name] for name in callee.parameters))
    finally:
        machine.depth -= 1
        machine.version = outer
