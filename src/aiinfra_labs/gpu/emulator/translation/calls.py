"""Calls in a kernel as lane code: of intrinsics, functions, methods, types. Unit 3.2."""

from __future__ import annotations

import ast
import inspect
import math
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..api import intrinsics
from ..api.intrinsics import Dim3, Intrinsic
from ..api.takes import WrongCall
from ..api.ufuncs import call_ufunc
from ..errors import LaneError, described
from . import names
from .calling import Inner, call_value
from .scalars import operation_of, scalar_cast
from .values import LiteralBool

MISSING = object()  # what no name stands for


class Calls:
    """Turns a call in the kernel into the text of one on lanes. `Expressions` completes it."""

    def _expr_Call(self, node: ast.Call) -> str:
        callee = self.static(node.func)
        if callee is MISSING:
            if isinstance(node.func, ast.Attribute):
                return self._method_call(node)
            return self._value_call(node, self.expr(node.func))
        line, name = self._line(node), ast.unparse(node.func)
        if hasattr(callee, "py_func"):
            if any(isinstance(a, ast.Starred) for a in node.args):
                return self._value_call(node, self.constant(callee))
            return self._device_call(node, callee)
        if isinstance(callee, Intrinsic) and callee is not intrinsics.print_:
            return self._intrinsic_call(node, callee)
        if node.keywords:
            keyword = node.keywords[0].arg
            self.unsupported(
                node,
                f"{keyword}= in {name}(...)",
                "leave it out: a kernel's print puts spaces between its arguments and ends the line"
                if callee is intrinsics.print_
                else "pass the argument by position",
            )
        args = self._arguments(node)
        if callee is intrinsics.print_:
            return f"{self.constant(callee.run)}({', '.join(['R', 'm', line, *args])})"
        if isinstance(callee, np.ufunc):
            inputs = ", ".join(["R", "m", line, self.constant(callee), *args])
            return f"{self.constant(call_ufunc)}({inputs})"
        operation = operation_of(callee)
        if operation is None and len(args) == 1:
            operation = scalar_cast(callee)
        if operation is not None:
            text = f"{self.constant(operation)}({', '.join(args)})"
            return f"R.flop(m, {text}, {line}, 'sqrt')" if callee is math.sqrt else text
        if isinstance(callee, type) and hasattr(callee, "_fields"):  # a namedtuple or vector
            return f"{self.constant(callee)}({', '.join(args)})"
        if isinstance(callee, types.FunctionType):
            advice = "a function called from a kernel needs @cuda.jit(device=True) above its def"
        elif str(getattr(callee, "__module__", "")).startswith("numba"):
            self.not_yet(node, name)
        else:
            advice = (
                "kernels can call the math module, min, max, abs, round, int, float, np.float32 "
                "and its like"
            )
        self.unsupported(node, f"the call {name}(...)", advice)
        return ""

    def _arguments(self, node: ast.Call) -> list[str]:
        """The arguments of a call; `*a` is a tuple's items."""
        return [
            f"*{self.constant(items)}({self.expr(a.value)})"
            if isinstance(a, ast.Starred)
            else self._argument(a)
            for a in node.args
        ]

    def _argument(self, node: ast.expr) -> str:
        """An argument; functions can be handed over, too."""
        function = self.static(node)
        if isinstance(function, Intrinsic) and not function.value:
            return self.constant(function)
        if isinstance(function, Dim3):  # print(cuda.threadIdx)
            return self.three(node, function)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return self.constant(LiteralBool.of(node.value))
        return self.expr(node)

    def _value_call(self, node: ast.Call, callee: str) -> str:
        """A call of what a local holds: see `calling`."""
        args = "".join(f"{a}, " for a in self._arguments(node))
        named = "".join(f"{k.arg!r}: {self._argument(k.value)}, " for k in node.keywords if k.arg)
        if any(k.arg is None for k in node.keywords):
            self.unsupported(node, "** in a call")
        return (
            f"{self.constant(call_value)}(R, m, {callee}, ({args}), {{{named}}}, "
            f"{self._line(node)}, {self._number()})"
        )

    def _expr_Lambda(self, node: ast.Lambda) -> str:
        parameters = names.parameters(node.args)
        heads = self._heads(node.args)
        defaults = "".join(f"{self.expr(d)}, " for d in node.args.defaults)
        captures = self._captures(node, set(parameters))
        outer, self.locals = self.locals, {*self.locals, *parameters}
        body = f"lambda m, {heads}: {self.expr(node.body)}"
        self.locals = outer
        return (
            f"{self.constant(Inner)}('lambda', {parameters!r}, ({defaults}), {body}, {captures!r})"
        )

    def _captures(self, node: ast.FunctionDef | ast.Lambda, own: set[str]) -> tuple[str, ...]:
        """The kernel's variables that a function inside reads; a constant is known anyway."""
        read = names.read(node) & self.locals - own
        if getattr(node, "name", "") in read:
            self.refuse(
                node,
                f"{node.name} calls itself, and is defined in a kernel",
                "Numba puts such a function in the place of each call",
                "write a loop, or a device function: @cuda.jit(device=True)",
            )
        known = {name for name in read if isinstance(self.once.get(name), ast.Constant)}
        return tuple(sorted(read - known))

    def _told(self, node: ast.expr) -> ast.expr:
        """What an exception tells: Numba must know it when it compiles."""
        if not self._is_fixed(node):
            self.refuse(
                node,
                f"an exception is given {ast.unparse(node)}",
                "what it tells is fixed when the kernel is compiled: on a GPU it is a number, and "
                "the host finds its words",
                'tell a constant, as in raise ValueError("below 0"); or store the value in an '
                "array that the host reads",
            )
        return node

    def _is_fixed(self, node: ast.expr) -> bool:
        """A constant, a name of the host's, or a local that is one of these throughout."""
        match node:
            case ast.Constant() | ast.Attribute(attr="ndim"):
                return True
            case ast.Tuple(elts=items):
                return all(map(self._is_fixed, items))
            case ast.Name(id=name) if name in self.locals:
                return name in self.once and self._is_fixed(self.once[name])
        return isinstance(node, ast.Name) or self.static(node) is not MISSING

    def _intrinsic_call(self, node: ast.Call, callee: Intrinsic) -> str:
        inputs = ["R", "m", self._line(node)]
        if callee.site:
            inputs.append(str(self._number()))
            sized = callee.name in ("shared.array", "local.array")
            for length in names.worked_out(node) if sized else ():
                self.refuse(
                    node,
                    f"the length {length} of {ast.unparse(node.func)} is worked out in the kernel",
                    "Numba fixes it when it compiles, and takes only a number or a name there",
                    "define the number outside the kernel, and write its name here",
                )
        inputs += self._bound(node, callee)
        if callee.gives and node is self.discarded:
            inputs.append("used=False")
        return f"{self.constant(callee.run)}({', '.join(inputs)})"

    def _bound(self, node: ast.Call, callee: Intrinsic) -> list[str]:
        """The arguments of an intrinsic in its own order, checked against what it takes."""
        given = self._arguments(node)
        if callee.takes is None or any(isinstance(a, ast.Starred) for a in node.args):
            return given + [f"{k.arg}={self.expr(k.value)}" for k in node.keywords]
        try:
            return callee.takes.ordered(
                given, {k.arg or "**": self._argument(k.value) for k in node.keywords}
            )
        except WrongCall as wrong:
            why = "its arguments are found by their places, and each is needed once"
            self.refuse(node, wrong.what, why, wrong.advice)
            return []

    def _method_call(self, node: ast.Call) -> str:
        """`grid.sync()`: the value's type decides whether it has the method."""
        if node.keywords:
            self.unsupported(node, f"the call {ast.unparse(node.func)}(...) with keywords")
        owner = self.expr(node.func.value)
        args = "".join(f"{a}, " for a in self._arguments(node))
        return f"R.method(m, {owner}, {node.func.attr!r}, ({args}), {self._line(node)})"

    def _device_call(self, node: ast.Call, callee: Any) -> str:
        """A call of a device function: its arguments bound as Python binds them."""
        try:
            bound = inspect.signature(callee.py_func).bind(
                *node.args, **{k.arg or "**": k.value for k in node.keywords}
            )
        except TypeError as error:
            self.refuse(
                node,
                f"{callee.py_func.__name__} is called with other arguments than it takes: {error}",
                "its parameters are " + ", ".join(inspect.signature(callee.py_func).parameters),
                "pass one argument for each",
            )
        bound.apply_defaults()
        args = [
            self._argument(a)
            if isinstance(a, ast.expr)
            else self.constant(self.as_constant(node, a))
            for a in bound.args
        ]
        first, args = self._as_written(node, bound.args, args)
        inputs = "".join(f"{a}, " for a in args)
        call = f"R.call({self.constant(callee)}, m, ({inputs}))"
        return f"(({first}), {call})[1]" if first else call

    def _as_written(self, node: ast.Call, bound: Sequence, args: list[str]) -> tuple[str, list]:
        """Arguments by name are evaluated in the order of the text, not of the parameters."""
        written = [*node.args, *(k.value for k in node.keywords)]
        if written == [a for a in bound if isinstance(a, ast.expr)]:
            return "", args
        names_of = {id(a): f"t_{self._number()}" for a in written}
        texts = {id(a): text for a, text in zip(bound, args, strict=True)}
        first = "".join(f"({name} := {texts[a]}), " for a, name in names_of.items())
        return first, [names_of.get(id(a), text) for a, text in zip(bound, args, strict=True)]


def items(value: Any) -> tuple:
    """A tuple, for * to take apart; anything else is refused."""
    if not isinstance(value, tuple):
        raise LaneError(f"* takes a tuple apart, not {described(value)}")
    return value
