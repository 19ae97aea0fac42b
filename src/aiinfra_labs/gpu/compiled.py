"""Numba's compiler for the CUDA target as a judge of kernels, without a GPU. Unit 3.2.

What runs on the emulator should compile for a GPU, too. `compile_kernel` takes a kernel of the
emulator's and the arguments of a launch, puts Numba's own `cuda` behind its names, and has it
compiled to PTX: typed by Numba's rules for the CUDA target, lowered, and read by NVIDIA's NVVM. It
needs numba-cuda and NVIDIA's packages (`nvidia-nvvm`, `nvidia-cuda-nvrtc`), which have no version
for macOS; `missing` says what is not here. Numba is imported at the first use only.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from . import emulator
from .emulator.api.arguments import In
from .emulator.api.intrinsics import Dim3, Intrinsic
from .emulator.api.memory import DeviceArray
from .emulator.errors import EmulatorError
from .emulator.lanes import dispatch
from .emulator.lanes.dispatch import Kernel

CAPABILITY = (9, 0)  # an H100's; what Numba refuses, it refuses for every device from sm_75 on


class Refused(EmulatorError):
    """Numba's compiler does not take this kernel with these types of arguments."""


@dataclass(frozen=True)
class Compiled:
    """What Numba made of a kernel. types: Numba's type for each variable of its representation."""

    ptx: str
    types: dict[str, Any]
    blocks: dict[int, Any]
    calls: dict[Any, Any]


@functools.cache
def missing() -> str:
    """Why nothing can be compiled here, in one line; empty where it can."""
    try:
        from numba import cuda
        from numba.cuda.cudadrv import nvrtc, nvvm

        if getattr(cuda, "__name__", "") != "numba.cuda" or not hasattr(cuda, "compile_ptx"):
            return "numba.cuda is its simulator here (NUMBA_ENABLE_CUDASIM)"
        nvvm.NVVM()
        nvrtc.get_supported_ccs()
    except Exception as error:  # each package has errors of its own for a library that it misses
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"Numba's compiler for CUDA cannot be used here: {reason}"
    return ""


def compile_kernel(kernel: Kernel, args: Sequence[Any], ptx: bool = True) -> Compiled:
    """Compile `kernel` for the types of `args`, the arguments of a launch.

    ptx: go on from LLVM's language to PTX, which costs as much again and refuses next to nothing.
    Raises `Refused` where Numba does. Ask `missing()` first.
    """
    from numba.cuda import compiler, dispatcher

    standing = SimpleNamespace(compute_capability=CAPABILITY)
    try:
        kinds = tuple(type_of(value) for value in args)
        # a device function is compiled for the device at hand, and there may be none
        with (
            mock.patch.object(dispatcher, "get_current_device", lambda: standing),
            warnings.catch_warnings(action="ignore"),  # Numba's, of what it compiles all the same
        ):
            function = as_numba(kernel.py_func, {})
            made = compiler.compile_cuda(function, None, kinds, cc=CAPABILITY)
            text = made.library.get_asm_str(cc=CAPABILITY) if ptx else ""
    except Exception as error:  # Numba raises many kinds: of typing, of lowering, of NVVM
        raise Refused(
            f"Numba does not compile {kernel.__name__} for a GPU: {_reason(error)}",
            "the emulator takes it, and Numba's compiler for CUDA is what decides on a GPU",
            "write the line that the message names in another way",
        ) from error
    notes = made.type_annotation
    return Compiled(text, dict(notes.typemap), notes.blocks, notes.calltypes)


def _reason(error: Exception) -> str:
    """What Numba says, without the colours of a terminal and the blank lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: " + " ".join(lines)[:600]


def key_of(kernel: Kernel, args: Sequence[Any]) -> Any:
    """What the compiler's answer depends on: code, what its names stand for, types."""
    function = kernel.py_func
    code = function.__code__
    globals_ = function.__globals__
    named = tuple(repr(globals_.get(name))[:80] for name in sorted(_names(code)))
    cells = tuple(_shown(cell) for cell in function.__closure__ or ())
    return code.co_code, repr(code.co_consts), named, cells, tuple(map(str, map(type_of, args)))


def _shown(cell: types.CellType) -> str:
    try:
        value = cell.cell_contents
    except ValueError:  # an empty one
        return ""
    return repr(value)[:80] + (f" at {id(value)}" if isinstance(value, Kernel) else "")


def type_of(value: Any) -> Any:
    """Numba's type for an argument of a launch."""
    from numba.cuda.typing.typeof import typeof

    if isinstance(value, In):
        value = value.value
    if isinstance(value, tuple):
        from numba.cuda import types as kinds

        cls = type(value) if hasattr(value, "_fields") else None
        parts = tuple(map(type_of, value))
        return kinds.BaseTuple.from_types(parts, cls) if cls else kinds.BaseTuple.from_types(parts)
    if isinstance(value, DeviceArray):
        value = value._array
    if isinstance(value, np.void):  # a record travels as an array of one
        return typeof(np.zeros(1, value.dtype)).dtype
    return typeof(value)


# --- launches that the emulator has run ----------------------------------------------------------


class Launched:
    """The kernels that were launched, each with the types of its arguments, once."""

    def __init__(self) -> None:
        self.kernels: dict[Any, tuple[Kernel, list[Any]]] = {}

    def __call__(self, kernel: Kernel, args: Sequence[Any]) -> None:
        key = (kernel.py_func, tuple(map(_kind, args)))
        if key not in self.kernels and not kernel.extensions:
            self.kernels[key] = kernel, [_example(a) for a in args]


@contextmanager
def launches() -> Iterator[Launched]:
    """Within the block, the launches that the emulator runs to their end are noted."""
    launched = Launched()
    dispatch._accepted.append(launched)
    try:
        yield launched
    finally:
        dispatch._accepted.remove(launched)


def _array(value: Any) -> np.ndarray | None:
    value = value.value if isinstance(value, In) else value
    value = value._array if isinstance(value, DeviceArray) else value
    return value if isinstance(value, np.ndarray) else None


def _kind(value: Any) -> Any:
    """What decides of a value's type, to tell launches apart."""
    if isinstance(value, tuple):
        return type(value), tuple(map(_kind, value))
    array = _array(value)
    if array is None:
        return type(value), str(getattr(value, "dtype", ""))
    flags = array.flags
    return array.dtype.str, array.dtype, array.ndim, flags.c_contiguous, flags.f_contiguous


def _example(value: Any) -> Any:
    """A small value of the same type: the arrays of a launch are not kept."""
    if isinstance(value, tuple):
        items = [_example(v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    array = _array(value)
    if array is None:
        return value
    shape = (2,) * array.ndim
    if array.flags.c_contiguous or array.flags.f_contiguous:
        small = np.zeros(shape, array.dtype, "C" if array.flags.c_contiguous else "F")
    else:
        small = np.zeros((*shape, 2), array.dtype)[..., 0]
    small.flags.writeable = array.flags.writeable
    return small


# --- the emulator's names as Numba's -------------------------------------------------------------


_taught: list[tuple[Sequence[Any], Callable[[], Sequence[Any]]]] = []


def teach(ours: Sequence[Any], theirs: Callable[[], Sequence[Any]]) -> None:
    """Let `theirs()` stand for `ours`, intrinsics that the course has written for Numba as well."""
    _taught.append((ours, theirs))
    _counterparts.cache_clear()


@functools.cache
def _counterparts() -> dict[int, Any]:
    """Numba's object for each of the emulator's, by id."""
    from numba import cuda

    importlib.import_module("numba.cuda.fp16")  # which becomes an attribute of cuda by this
    found: dict[int, Any] = {id(emulator): cuda}

    def pair(ours: dict[str, Any], theirs: Any) -> None:
        for name, own in ours.items():
            if not hasattr(theirs, name):
                continue
            other = getattr(theirs, name)
            if isinstance(own, SimpleNamespace):  # shared, local, const, atomic, cg, fp16
                pair(vars(own), other)
            if isinstance(own, Intrinsic | Dim3 | SimpleNamespace) or name in emulator.VECTORS:
                found[id(own)] = other
            if isinstance(own, ModuleType) and name == "random":
                found[id(own)] = other
                pair(vars(own), other)
            if isinstance(own, Kernel):
                found[id(own)] = other

    pair(vars(emulator), cuda)
    for own, theirs in _taught:
        found |= {id(one): other for one, other in zip(own, theirs(), strict=True)}
    return found


def as_numba(function: FunctionType, made: dict[int, Any]) -> FunctionType:
    """The same code with Numba's objects behind its names. made: what has been made so far."""
    values = function.__globals__
    scope = {"__builtins__": values["__builtins__"]}
    if values.get("__name__") in sys.modules:  # a name that leads nowhere would be two names to it
        scope["__name__"] = values["__name__"]
    copied = FunctionType(
        function.__code__,
        scope,
        function.__name__,
        None if function.__defaults__ is None else tuple(function.__defaults__),
        function.__closure__,
    )
    made[id(function)] = copied
    names = _names(function.__code__)
    copied.__globals__.update(
        {name: _counterpart(values[name], made) for name in names if name in values}
    )
    if function.__closure__ is None:
        return copied
    cells = tuple(_cell(cell, made) for cell in function.__closure__)
    whole = FunctionType(
        copied.__code__, copied.__globals__, copied.__name__, copied.__defaults__, cells
    )
    made[id(function)] = whole
    return whole


def _cell(cell: types.CellType, made: dict[int, Any]) -> types.CellType:
    try:
        return types.CellType(_counterpart(cell.cell_contents, made))
    except ValueError:  # an empty one
        return cell


def _names(code: CodeType) -> set[str]:
    """The names that a function looks up, also in functions inside it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _counterpart(value: Any, made: dict[int, Any]) -> Any:
    """Numba's object for one that a kernel names; what is Python's or NumPy's stays."""
    known = _counterparts().get(id(value), value)
    if known is not value:
        return known
    if isinstance(value, Kernel):
        return _device_function(value, made)
    if isinstance(value, ModuleType) and _ours_inside(value):
        inner = {n: _counterpart(v, made) for n, v in vars(value).items() if _is_ours(v)}
        copy = ModuleType(value.__name__)
        vars(copy).update(vars(value) | inner)
        return copy
    return value


def _is_ours(value: Any) -> bool:
    return isinstance(value, Kernel) or id(value) in _counterparts()


def _ours_inside(module: ModuleType) -> bool:
    return module.__name__.startswith("aiinfra_labs") and any(map(_is_ours, vars(module).values()))


def _device_function(kernel: Kernel, made: dict[int, Any]) -> Any:
    """A device function of the emulator's as Numba's; one that calls itself finds itself."""
    from numba import cuda
    from numba.cuda.core import sigutils, typeinfer

    if id(kernel) in made:
        return made[id(kernel)]
    theirs = cuda.jit(device=True)(kernel.py_func)
    made[id(kernel)] = theirs
    theirs.py_func = as_numba(kernel.py_func, made)
    if isinstance(kernel.function.signature, str):  # compiled for these types, and for no others
        arguments, result = sigutils.normalize_signature(kernel.function.signature)
        with typeinfer.register_dispatcher(theirs):
            theirs.compile_device(arguments, result)
        theirs.disable_compile()
    return theirs
