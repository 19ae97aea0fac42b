"""Expressions of a kernel as lane code. Unit 3.2."""

from __future__ import annotations

import ast
import builtins
import difflib
import enum
import inspect
import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..api import intrinsics
from ..api.intrinsics import NOT_YET, Dim3, Intrinsic, canonical
from ..api.memory import DeviceArray, allocate, check_dtype
from ..api.takes import WrongCall
from ..errors import LaneError, described
from ..lanes import arithmetic
from ..lanes.views import FromTheEnd, view_of
from . import names
from .calling import Inner, call_value
from .functions import contains, negate
from .literals import FLOPS, compiled_as, with_literal
from .scalars import operation_of, scalar_cast
from .ufuncs import call_ufunc
from .values import Literal, tuple_like

BINARY: dict[type, Callable] = {
    ast.Add: arithmetic.add,
    ast.Sub: arithmetic.subtract,
    ast.Mult: arithmetic.multiply,
    ast.Div: arithmetic.divide,
    ast.FloorDiv: arithmetic.floor_divide,
    ast.Mod: arithmetic.remainder,
    ast.Pow: arithmetic.power,
    ast.LShift: arithmetic.left_shift,
    ast.RShift: arithmetic.right_shift,
    ast.BitAnd: arithmetic.bitwise_and,
    ast.BitOr: arithmetic.bitwise_or,
    ast.BitXor: arithmetic.bitwise_xor,
}
COMPARE: dict[type, Callable] = {
    ast.Eq: arithmetic.equal,
    ast.NotEq: arithmetic.not_equal,
    ast.Lt: arithmetic.less,
    ast.LtE: arithmetic.less_equal,
    ast.Gt: arithmetic.greater,
    ast.GtE: arithmetic.greater_equal,
}
UNARY: dict[type, Callable] = {
    ast.USub: arithmetic.negative,
    ast.UAdd: arithmetic.positive,
    ast.Invert: arithmetic.invert,
    ast.Not: arithmetic.not_,
}
_MISSING = object()
# what has attributes that are known before the kernel runs
_OWNERS = (types.ModuleType, type, Dim3, types.SimpleNamespace, enum.Enum)


class Expressions:
    """Turns an expression of the kernel into the text of one on lanes."""

    # set by the translator
    namespace: dict[str, Any]
    locals: set[str]
    nonlocals: dict[str, Any]
    unsure: set[int]
    discarded: ast.expr | None = None  # the expression that is a statement of its own
    function: Callable

    def expr(self, node: ast.expr) -> str:
        constant = self.static(node)
        if constant is not _MISSING:
            return self._static_value(node, constant)
        method = getattr(self, "_expr_" + type(node).__name__, None)
        if method is None:
            self.unsupported(node, _SPOKEN.get(type(node).__name__, type(node).__name__))
        return method(node)

    # --- what is known before the kernel runs --------------------------------------------

    def static(self, node: ast.expr) -> Any:
        """The object that a global, builtin or `module.attribute` resolves to, or _MISSING."""
        if isinstance(node, ast.Name) and node.id not in self.locals:
            for scope in (self.nonlocals, self.function.__globals__, vars(builtins)):
                if node.id in scope:
                    return canonical(scope[node.id])
            ours = isinstance(vars(intrinsics).get(node.id), Dim3 | Intrinsic)
            self.unknown(
                node,
                f"the name {node.id!r}",
                f"write cuda.{node.id}" if ours else "look for a misspelling, or define it first",
            )
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owner = self.static(node.value)
            if isinstance(owner, enum.EnumMeta):
                return owner[node.slice.value]
        if isinstance(node, ast.Attribute):
            owner = self.static(node.value)
            if isinstance(owner, _OWNERS):
                try:
                    return canonical(getattr(owner, node.attr))
                except AttributeError:
                    if node.attr in NOT_YET and getattr(owner, "jit", None):
                        self.not_yet(node, ast.unparse(node))
                    near = difflib.get_close_matches(node.attr, dir(owner), 1)
                    self.unknown(
                        node,
                        ast.unparse(node),
                        f"did you mean {ast.unparse(node.value)}.{near[0]}?"
                        if near
                        else "look for a misspelling; a kernel can use what Numba's CUDA has",
                    )
        return _MISSING

    def _static_value(self, node: ast.expr, obj: Any) -> str:
        if isinstance(obj, Intrinsic):
            if obj.value:
                return f"{self.constant(obj.run)}(R, m, {self._line(node)})"
            name = ast.unparse(node)
            self.unsupported(node, f"{name} without a call", f"add the parentheses: {name}(...)")
        return self.constant(self.as_constant(node, obj))

    def constant(self, obj: Any) -> str:
        """The name under which the lane code finds `obj`."""
        for name, known in self.namespace.items():
            if known is obj and name.startswith("k_"):
                return name
        name = f"k_{self._number()}"
        self.namespace[name] = obj
        return name

    def as_constant(self, node: ast.AST, obj: Any) -> Any:
        """A global or literal with Numba's type: int64, float64, ...; an array is copied once."""
        match obj:
            case None | str() | np.generic() | np.dtype() | type():
                return obj
            case enum.Enum():  # known by its value
                return self.as_constant(node, obj.value)
            case bool():
                return np.bool_(obj)
            case int():
                if -(2**63) <= obj < 2**63:
                    return np.int64(obj)
                if obj < 2**64:
                    return np.uint64(obj)
                self.unsupported(node, f"the integer {obj}, which needs more than 64 bits,")
            case float():
                return np.float64(obj)
            case complex():
                return np.complex128(obj)
            case types.EllipsisType():
                self.unsupported(node, "an ellipsis", "write the index of every axis")
            case tuple():
                return tuple_like(obj, [self.as_constant(node, item) for item in obj])
            case bytes():
                return obj.decode("latin1")
            case np.ndarray():
                check_dtype(obj.dtype)
                memory = allocate(obj.nbytes).view(obj.dtype).reshape(obj.shape)
                memory[...] = obj
                return view_of(memory, ast.unparse(node), "const")
            case DeviceArray():
                self.unsupported(
                    node, f"the device array {ast.unparse(node)!r} as a global", "pass it in"
                )
            case Dim3():
                name = ast.unparse(node)
                self.unsupported(node, f"{name} without an axis", f"write {name}.x, or .y or .z")
        if hasattr(obj, "py_func") or callable(obj):
            return obj
        self.unsupported(node, f"a {type(obj).__name__} ({ast.unparse(node)})")
        return None

    # --- kinds of expression -------------------------------------------------------------

    def _expr_Constant(self, node: ast.Constant) -> str:
        return self.constant(self.as_constant(node, node.value))

    def _expr_Name(self, node: ast.Name) -> str:
        return self.read(node)

    def read(self, node: ast.Name) -> str:
        """A local; one that may have no value here is looked at as it is read."""
        if id(node) in self.unsure:
            return f"R.defined(m, v_{node.id}, {node.id!r}, {self._line(node)})"
        return f"v_{node.id}"

    def _expr_Tuple(self, node: ast.Tuple) -> str:
        return "(" + "".join(f"{self.expr(item)}, " for item in node.elts) + ")"

    def arithmetic(
        self, operator: type, left: str, right: str, line: str, kind: str | None = None
    ) -> str:
        text = f"{self.constant(BINARY[operator])}({left}, {right})"
        kind = FLOPS.get(operator, "") if kind is None else kind
        return f"R.flop(m, {text}, {line}, {kind!r})" if kind else text

    def _expr_BinOp(self, node: ast.BinOp) -> str:
        if type(node.op) not in BINARY:
            self.unsupported(node, "the operator @", "write the loops of the product")
        left, right = self.expr(node.left), self.expr(node.right)
        return self.arithmetic(type(node.op), left, right, self._line(node), compiled_as(node))

    def stored(self, node: ast.expr, target: ast.expr) -> str:
        """A value that is stored at once: of `out[i] = a[i] * 2.0` a compiler makes one operation
        on float32, where a and out are; see `literals`."""
        if not (isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name)):
            return self.expr(node)
        literal = with_literal(node)
        if literal is None or target.value.id not in self.locals:
            return self.expr(node)
        operand = f"t_{self._number()}"
        sides = [self.expr(node.left), self.expr(node.right)]
        sides[literal] = f"({operand} := {sides[literal]})"
        text = f"{self.constant(BINARY[type(node.op)])}({', '.join(sides)})"
        return (
            f"R.stored_flop(m, {text}, {operand}, {self.expr(target.value)}, {self._line(node)}, "
            f"{compiled_as(node)!r})"
        )

    def _expr_UnaryOp(self, node: ast.UnaryOp) -> str:
        return f"{self.constant(UNARY[type(node.op)])}({self.expr(node.operand)})"

    def _expr_Compare(self, node: ast.Compare) -> str:
        """`a < b < c` is `a < b and b < c`, with b evaluated once."""
        return self._chain(node, self.expr(node.left), 0)

    def _chain(self, node: ast.Compare, left: str, k: int) -> str:
        """The comparisons from the k-th on."""
        operator, right = node.ops[k], self.expr(node.comparators[k])
        if k + 1 == len(node.ops):
            return self._link(node, operator, left, right)
        name = f"t_{self._number()}"
        first = self._link(node, operator, left, f"({name} := {right})")
        rest = self._chain(node, name, k + 1)
        if any(self._may_fail(n) for n in ast.walk(node.comparators[k + 1])):
            # what may fail is evaluated only where the comparison before it holds
            return f"R.and_(T, {self._number()}, m, {first}, lambda m: {rest}, {self._line(node)})"
        return f"{self.constant(np.logical_and)}({first}, {rest})"

    def _may_fail(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Subscript | ast.Call) or id(node) in self.unsure

    def _link(self, node: ast.Compare, operator: ast.cmpop, left: str, right: str) -> str:
        match operator:
            case ast.Is() | ast.IsNot():
                text = f"{self.constant(arithmetic.same)}({left}, {right})"
                return text if isinstance(operator, ast.Is) else f"{self.constant(negate)}({text})"
            case ast.In() | ast.NotIn():
                text = f"{self.constant(contains)}({left}, {right})"
                return text if isinstance(operator, ast.In) else f"{self.constant(negate)}({text})"
        return f"{self.constant(COMPARE[type(operator)])}({left}, {right})"

    def _expr_BoolOp(self, node: ast.BoolOp) -> str:
        """Short circuit: the right side sees only the lanes that reach it."""
        method = "and_" if isinstance(node.op, ast.And) else "or_"
        text = self.expr(node.values[0])
        for value in node.values[1:]:
            right = self.expr(value)
            line = self._line(node)
            text = f"R.{method}(T, {self._number()}, m, {text}, lambda m: {right}, {line})"
        return text

    def _expr_IfExp(self, node: ast.IfExp) -> str:
        test, body, other = self.expr(node.test), self.expr(node.body), self.expr(node.orelse)
        return (
            f"R.select(T, {self._number()}, m, {test}, lambda m: {body}, lambda m: {other}, "
            f"{self._line(node)})"
        )

    def _expr_Subscript(self, node: ast.Subscript) -> str:
        array, index = self.expr(node.value), self.index(node.slice)
        return f"R.load(m, {array}, {index}, {self._line(node)})"

    def index(self, node: ast.expr) -> str:
        """An index as a tuple with one item an axis."""
        items = node.elts if isinstance(node, ast.Tuple) else [node]
        texts = [self._index_item(item) for item in items]
        if len(texts) == 1 and not isinstance(node, ast.Tuple | ast.Slice | ast.Constant):
            return f"{self.constant(_as_index)}({texts[0]})"  # `a[p]` where p is a tuple
        return "(" + "".join(f"{text}, " for text in texts) + ")"

    def _index_item(self, node: ast.expr) -> str:
        match node:
            case ast.Slice():
                return self._slice(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
                return self.constant(FromTheEnd(-number))
        return self.expr(node)

    def _slice(self, node: ast.Slice) -> str:
        parts = (node.lower, node.upper, node.step)
        return f"slice({', '.join('None' if p is None else self.expr(p) for p in parts)})"

    def _expr_Attribute(self, node: ast.Attribute) -> str:
        value = self.expr(node.value)
        return f"R.attribute(m, {value}, {node.attr!r}, {self._line(node)})"

    # --- calls ---------------------------------------------------------------------------

    def _expr_Call(self, node: ast.Call) -> str:
        callee = self.static(node.func)
        if callee is _MISSING:
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
            text = f"{self.constant(call_ufunc)}({inputs})"
            counted = callee is np.sqrt and len(args) == 1
            return f"R.flop(m, {text}, {line}, 'sqrt')" if counted else text
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
            axes = (getattr(function, axis) for axis in "xyz")
            reads = "".join(f"{self.constant(a.run)}(R, m, {self._line(node)}), " for a in axes)
            return f"({reads})"
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return self.constant(Literal.of(node.value))
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
        outer, self.locals = self.locals, {*self.locals, *parameters}
        body = f"lambda m, {heads}: {self.expr(node.body)}"
        self.locals = outer
        return f"{self.constant(Inner)}('lambda', {parameters!r}, ({defaults}), {body})"

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
        inputs = "".join(f"{a}, " for a in args)
        return f"R.call({self.constant(callee)}, m, ({inputs}))"


def items(value: Any) -> tuple:
    """A tuple, for * to take apart; anything else is refused."""
    if not isinstance(value, tuple):
        raise LaneError(f"* takes a tuple apart, not {described(value)}")
    return value


def _as_index(item: Any) -> tuple:
    return item if isinstance(item, tuple) else (item,)


_SPOKEN = {
    "Dict": "a dict",
    "DictComp": "a dict",
    "GeneratorExp": "a generator",
    "JoinedStr": "an f-string",
    "List": "a list",
    "ListComp": "a list",
    "NamedExpr": ":=",
    "Set": "a set",
    "SetComp": "a set",
    "Yield": "yield",
    "Await": "await",
}
