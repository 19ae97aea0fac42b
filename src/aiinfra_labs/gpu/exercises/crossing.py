"""Kernels on their way to the judge: their source crosses, and the judge's emulator runs it.

Unit 3.2. Of the learner's Python nothing runs there. The function is parsed, stripped of
decorators, default values and annotations, which Python would evaluate, and given the plain values
of the names that it uses; then the emulator translates it. A host function that launches kernels
is served by the judge's device: `cuda.to_device` and launches are forwarded, so that copies and
launches are counted where the learner's code cannot reach the counters.
"""

from __future__ import annotations

import ast
import builtins
import cmath
import hashlib
import importlib
import inspect
import itertools
import linecache
import math
import operator
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from aiinfra_labs.course.judging import wire
from aiinfra_labs.gpu import cuda, emulator
from aiinfra_labs.gpu.emulator.api.intrinsics import Intrinsic
from aiinfra_labs.gpu.emulator.lanes.dispatch import Kernel

_MODULES = {"numpy": np, "math": math, "cmath": cmath, "operator": operator, "cuda": cuda}
_HOST = ("to_device", "device_array", "device_array_like", "pinned_array", "pinned_array_like")
_HOST += ("mapped_array", "mapped_array_like", "managed_array", "synchronize")
_OURS = "aiinfra_labs.gpu."  # what the course itself adds for kernels, such as load_float4
_number = itertools.count(1)
_built: dict[str, Kernel] = {}  # by what crossed, so that a kernel is translated once


class Unknown:
    """A name of the kernel's whose value cannot cross; the emulator says that it is no number."""

    def __init__(self, kind: str):
        self.kind = kind


class _Kernel(wire.Kind):
    """A kernel or a device function: its lines, where they stand, and the names that it uses."""

    tag = "kernel"

    def accepts(self, value: Any) -> bool:
        return hasattr(type(value), "__getitem__") and isinstance(
            getattr(value, "py_func", None), types.FunctionType
        )

    def pack(self, packer: wire.Packer, value: Any, depth: int) -> dict:
        number = packer.shared.numbers.get(id(value))
        if number is not None:  # it calls itself, or was sent before
            return {"t": "same", "n": number}
        number = packer.shared.new(value)
        function = value.py_func
        lines, first = inspect.getsourcelines(function)
        signature = getattr(getattr(value, "function", None), "signature", None)
        device = getattr(value, "device", False) or getattr(value, "targetoptions", {}).get(
            "device"
        )
        return {
            "t": self.tag,
            "n": number,
            "v": lines,
            "f": first,
            "d": bool(device),
            "s": signature if isinstance(signature, str) else None,
            "g": [[k, _named(packer, v, depth)] for k, v in _used(function).items()],
        }

    def unpack(self, unpacker: wire.Unpacker, packed: dict) -> Any:
        key = hashlib.sha256(repr([packed[k] for k in "vfdsg"]).encode()).hexdigest()
        if key in _built:
            unpacker.shared.keep(packed["n"], _built[key])
            return _built[key]
        function = _function([str(line) for line in packed["v"]], int(packed["f"]))
        made = Kernel(function, bool(packed["d"]), None)
        unpacker.shared.keep(packed["n"], made)
        for name, value in packed["g"]:
            function.__globals__[str(name)] = _value(unpacker, value)
        if isinstance(packed["s"], str):
            made = Kernel(function, bool(packed["d"]), packed["s"])
            unpacker.shared.keep(packed["n"], made)
        if not any(isinstance(v, dict) and v.get("t") == "same" for _, v in packed["g"]):
            _built[key] = made
        return made


def _used(function: types.FunctionType) -> dict[str, Any]:
    """The values of the global and enclosing names of a function, and of those inside it."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names |= {*code.co_names, *code.co_freevars}
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _named(packer: wire.Packer, value: Any, depth: int) -> Any:
    """A module or one of its functions by name, an exception's class, or a plain value."""
    for name, module in _MODULES.items():
        if value is module:
            return {"t": "module", "v": name}
    if isinstance(value, type) and issubclass(value, Exception):
        return {"t": "exception", "v": value.__name__}
    for name, module in _MODULES.items():
        known = getattr(value, "__name__", None)
        if isinstance(known, str) and vars(module).get(known) is value:
            return {"t": "from", "m": name, "v": known}
    for known, other in vars(cuda).items():
        if other is value and not isinstance(value, int | float | str | tuple):
            return {"t": "from", "m": "cuda", "v": known}
    if isinstance(value, Intrinsic):
        for name, module in list(sys.modules.items()):
            if name.startswith(_OURS) and vars(module).get(value.__name__) is value:
                return {"t": "ours", "m": name, "v": value.__name__}
    try:
        packed = packer.pack(value, depth)
    except (wire.WireError, TypeError, OSError):
        packed = None
    if packed is None or (isinstance(packed, dict) and packed.get("t") in ("far", "mine")):
        return {"t": "unknown", "v": type(value).__name__}
    return packed


def _value(unpacker: wire.Unpacker, packed: Any) -> Any:
    tag = packed.get("t") if isinstance(packed, dict) else None
    if tag == "module":
        return _MODULES[packed["v"]]
    if tag == "from":
        name = str(packed["v"])
        if name.startswith("_") or isinstance(vars(_MODULES[packed["m"]])[name], types.ModuleType):
            raise wire.WireError(f"{name} does not cross")
        return vars(_MODULES[packed["m"]])[name]
    if tag == "ours":
        at = str(packed["m"])
        if not at.startswith(_OURS) or ".exercises" in at:
            raise wire.WireError(f"{at} does not cross")
        found = vars(importlib.import_module(at)).get(str(packed["v"]))
        if not isinstance(found, Intrinsic):
            raise wire.WireError(f"{packed['v']} does not cross")
        return found
    if tag == "exception":
        kind = vars(builtins).get(str(packed["v"]), Exception)
        return kind if isinstance(kind, type) and issubclass(kind, Exception) else Exception
    if tag == "unknown":
        return Unknown(str(packed["v"]))
    return unpacker.unpack(packed)


def _function(lines: list[str], first: int) -> types.FunctionType:
    """The function of these lines, with nothing in it that Python runs when it is defined."""
    try:
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise wire.WireError("the kernel's source cannot be read") from error
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        raise wire.WireError("the kernel is no function made with def")
    head = tree.body[0]
    decorated = head.lineno - 1  # lines above the def
    head.decorator_list, head.returns = [], None
    arguments = head.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    plain = all(isinstance(d, ast.Constant) for d in [*arguments.defaults, *arguments.kw_defaults])
    if not plain:
        raise wire.WireError("a kernel's default values must be plain numbers")
    file = f"<your kernel {head.name}, {next(_number)}>"
    ast.increment_lineno(tree, first - 1)
    text = [*["\n"] * (first - 1 + decorated), *lines[decorated:]]
    linecache.cache[file] = (sum(map(len, text)), None, text, file)
    space: dict[str, Any] = {"__builtins__": builtins, "__name__": "answer"}
    exec(compile(tree, file, "exec", dont_inherit=True), space)
    return space[head.name]


# --- the device of a host function -------------------------------------------------------------


class Door:
    """The judge's device, as the answer's process may use it."""

    def __init__(self) -> None:
        for name in _HOST:
            if hasattr(emulator, name):
                setattr(self, name, getattr(emulator, name))

    def launch(self, kernel: Any, configuration: Any, args: tuple) -> None:
        if not isinstance(kernel, Kernel):
            raise TypeError("only a kernel can be launched")
        kernel[configuration](*args)


def door() -> Door:
    return Door()


def install() -> None:
    """Let kernels cross."""
    wire.add_kind(_Kernel())


def _forwarded(far_door: Any, name: str) -> Callable[..., Any]:
    def ask(*args: Any, **kwargs: Any) -> Any:
        return getattr(far_door, name)(*args, **kwargs)

    return ask


def begin(desk: Any, far_door: Any) -> Callable[[], None]:
    """In the answer's process: arrays and launches are the judge's. Gives what ends that."""
    if far_door is None or cuda is not emulator:
        return lambda: None
    before = {name: getattr(emulator, name) for name in _HOST if hasattr(emulator, name)}
    for name in before:
        setattr(emulator, name, _forwarded(far_door, name))
    getitem = Kernel.__getitem__

    def configured(kernel: Kernel, configuration: Any) -> Any:
        return lambda *args: far_door.launch(kernel, configuration, args)

    Kernel.__getitem__ = configured

    def end() -> None:
        Kernel.__getitem__ = getitem
        for name, value in before.items():
            setattr(emulator, name, value)

    return end
