"""Expressions of a kernel as lane code. Unit 3.2."""

from __future__ import annotations

import ast
import builtins
import difflib
import enum
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..api import intrinsics
from ..api.intrinsics import NOT_YET, Dim3, Intrinsic, canonical
from ..api.memory import DeviceArray, allocate, check_dtype
from ..api.whole import contains
from ..counters.literals import FLOPS, compiled_as, with_literal
from ..errors import SPOKEN, LaneError
from ..lanes import arithmetic
from ..lanes.views import FromTheEnd, WideIndex, view_of
from .calls import MISSING, Calls
from .functions import negate
from .values import Axes, Literal, tuple_like

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
# what has attributes that are known before the kernel runs
_OWNERS = (types.ModuleType, type, Dim3, types.SimpleNamespace, enum.Enum)


# What Numba knows as a name of its own module alone, so that no other name can stand for it.
_IN_CUDA = {
    *("activemask", "brev", "cbrt", "clz", "ffs", "fma", "laneid", "lanemask_lt", "popc", "selp"),
    *("match_all_sync", "match_any_sync", "nanosleep", "syncwarp"),
    *("threadfence", "threadfence_block", "threadfence_system"),
}
_IN_CUDA |= {"atomic", "const", "local", "shared", "threadIdx", "blockIdx", "blockDim", "gridDim"}


_OURS = "aiinfra_labs.gpu.emulator"  # its own kernels stand for Numba's, and only it runs them


def _is_ours(names: types.SimpleNamespace) -> bool:
    """Whether it is `cuda.shared` or one like it."""
    return all(isinstance(own, Intrinsic) for own in vars(names).values())


def _found_in_cuda(obj: Any) -> str:
    """The name under which alone Numba finds what an object stands for; "" for any other."""
    if isinstance(obj, types.SimpleNamespace):
        first = next(iter(vars(obj).values()), None)
        name = first.name.partition(".")[0] if isinstance(first, Intrinsic) else ""
    else:
        name = obj.__name__ if isinstance(obj, Intrinsic | Dim3) else ""
    return name if name.partition(".")[0] in _IN_CUDA else ""


CONSTANT_BYTES = 65_536  # CUDA C++ Programming Guide, "Technical Specifications": all devices


class Expressions(Calls):
    """Turns an expression of the kernel into the text of one on lanes."""

    # set by the translator
    namespace: dict[str, Any]
    locals: set[str]
    nonlocals: dict[str, Any]
    unsure: set[int]
    discarded: ast.expr | None = None  # the expression that is a statement of its own
    whole: ast.expr | None = None  # the value of the assignment under way
    aliases: dict[str, ast.expr]  # the locals that stand for a module, or for cuda.shared
    function: Callable
    counts: bool = True  # whether operations are told to those who count them
    perhaps: int = 0  # how deep in expressions that only some of the lanes may come to
    constants: dict[int, np.ndarray]  # the global arrays that it names

    def expr(self, node: ast.expr) -> str:
        """The text of an expression on lanes. Raises `TranslationError` for one not supported."""
        constant = self.static(node)
        if constant is not MISSING:
            return self._static_value(node, constant)
        method = getattr(self, "_expr_" + type(node).__name__, None)
        if method is None:
            self.unsupported(node, SPOKEN.get(type(node).__name__, type(node).__name__))
        return method(node)

    # --- what is known before the kernel runs --------------------------------------------

    def static(self, node: ast.expr) -> Any:
        """The object that a global, builtin or `module.attribute` resolves to, or MISSING."""
        if isinstance(node, ast.Name) and node.id in self.aliases:
            return self.static(self.aliases[node.id])
        if isinstance(node, ast.Name) and node.id not in self.locals:
            for scope in (self.nonlocals, self.function.__globals__, vars(builtins)):
                if node.id in scope:
                    return self._need_numbas(node, canonical(scope[node.id]))
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
                if isinstance(owner, type) and not isinstance(owner, enum.EnumMeta):
                    self._refuse_object(node)
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
        return MISSING

    def _find_aliases(self) -> None:
        """The locals that are assigned once, and stand for a module or for `cuda.shared`."""
        for name, value in self.once.items():
            root = value
            while isinstance(root, ast.Attribute):
                root = root.value
            known = isinstance(root, ast.Name) and root.id not in self.locals - {*self.aliases}
            if known and isinstance(self.static(value), types.ModuleType | types.SimpleNamespace):
                self.aliases[name] = value

    def _need_numbas(self, node: ast.Name, obj: Any) -> Any:
        """What a name of the host's stands for, if Numba takes it by such a name."""
        own = _found_in_cuda(obj)
        if own and not str(self.function.__module__).startswith(_OURS):
            self.refuse(
                node,
                f"{node.id} is another name for cuda.{own}",
                f"when Numba compiles, it finds cuda.{own} in cuda, and by no other name",
                f"write cuda.{own}",
            )
        if isinstance(obj, types.SimpleNamespace) and not _is_ours(obj):
            self._refuse_object(node)
        return obj

    def _refuse_object(self, node: ast.expr) -> None:
        self.refuse(
            node,
            f"{ast.unparse(node)} is looked up when the kernel is compiled",
            "Numba looks into modules and enums, and into no other object or class",
            "keep the number in a variable of its own, or in a module",
        )

    def _static_value(self, node: ast.expr, obj: Any) -> str:
        if isinstance(obj, Intrinsic):
            if obj.value:
                return f"{self.constant(obj.run)}(R, m, {self._line(node)})"
            name = ast.unparse(node)
            self.unsupported(node, f"{name} without a call", f"add the parentheses: {name}(...)")
        if isinstance(obj, Dim3):
            return self.three(node, obj)
        return self.constant(self.as_constant(node, obj))

    def three(self, node: ast.AST, obj: Dim3) -> str:
        """`t = cuda.threadIdx`: its three axes."""
        reads = (getattr(obj, axis).run for axis in "xyz")
        axes = ", ".join(f"{self.constant(read)}(R, m, {self._line(node)})" for read in reads)
        return f"{self.constant(Axes)}({axes})"

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
                    return Literal(obj)
                if obj < 2**64:
                    return np.uint64(obj)
                self.unsupported(node, f"the integer {obj}, which needs more than 64 bits,")
            case float():
                return np.float64(obj)
            case complex():
                return np.complex128(obj)
            case types.EllipsisType():
                self.unsupported(node, "an ellipsis", "write the index of every axis")
            case tuple() if any(hasattr(item, "py_func") for item in obj):
                self.refuse(
                    node,
                    f"{ast.unparse(node)} is a tuple of functions",
                    "Numba has no type for a tuple of the host's that holds device functions",
                    "name each function where it is called",
                )
            case tuple():
                return tuple_like(obj, [self.as_constant(node, item) for item in obj])
            case bytes():
                return obj.decode("latin1")
            case np.ndarray():
                check_dtype(obj.dtype)
                self._need_constant_memory(node, obj)
                memory = allocate(obj.nbytes).view(obj.dtype).reshape(obj.shape)
                memory[...] = obj
                return view_of(memory, ast.unparse(node), "const")
            case DeviceArray():
                self.unsupported(
                    node, f"the device array {ast.unparse(node)!r} as a global", "pass it in"
                )
        if hasattr(obj, "py_func") or callable(obj):
            return obj
        self.unsupported(node, f"a {type(obj).__name__} ({ast.unparse(node)})")
        return None

    def _need_constant_memory(self, node: ast.AST, array: np.ndarray) -> None:
        """Global arrays lie in constant memory, of which a kernel has 64 KB."""
        self.constants[id(array)] = array
        total = sum(a.nbytes for a in self.constants.values())
        if total > CONSTANT_BYTES:
            self.refuse(
                node,
                f"the global array {ast.unparse(node)} brings the constants to {total:,} bytes",
                f"a global array lies in constant memory: {CONSTANT_BYTES:,} bytes for a kernel",
                "pass the array in as an argument",
            )

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
        """The text of `left operator right`. kind: as of `flop`, "" for none; None: by operator."""
        text = f"{self.constant(BINARY[operator])}({left}, {right})"
        kind = FLOPS.get(operator, "") if kind is None else kind
        kind = kind if self.counts else ""
        return f"R.flop(m, {text}, {line}, {kind!r})" if kind else text

    def quiet(self, node: ast.expr) -> str:
        """An expression that is worked out for the emulator itself, and counts for nothing."""
        before, self.counts = self.counts, False
        text = self.expr(node)
        self.counts = before
        return text

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
        operator, right = node.ops[k], (self.later if k else self.expr)(node.comparators[k])
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
                text = f"{self.constant(contains)}(R, m, {left}, {right}, {self._line(node)})"
                return text if isinstance(operator, ast.In) else f"{self.constant(negate)}({text})"
        return f"{self.constant(COMPARE[type(operator)])}({left}, {right})"

    def _expr_BoolOp(self, node: ast.BoolOp) -> str:
        """Short circuit: the right side sees only the lanes that reach it."""
        method = "and_" if isinstance(node.op, ast.And) else "or_"
        text = self.expr(node.values[0])
        for value in node.values[1:]:
            right = self.later(value)
            line = self._line(node)
            text = f"R.{method}(T, {self._number()}, m, {text}, lambda m: {right}, {line})"
        return text

    def _expr_IfExp(self, node: ast.IfExp) -> str:
        test, body, other = self.test(node.test), self.later(node.body), self.later(node.orelse)
        calls = any(isinstance(n, ast.Call) for n in [*ast.walk(node.body), *ast.walk(node.orelse)])
        method = "choose" if calls else "select"  # of what is short, a compiler makes no branch
        return (
            f"R.{method}(T, {self._number()}, m, {test}, lambda m: {body}, lambda m: {other}, "
            f"{self._line(node)})"
        )

    def later(self, node: ast.expr) -> str:
        """An expression that only some of the lanes may come to."""
        self.perhaps += 1
        try:
            return self.expr(node)
        finally:
            self.perhaps -= 1

    def _expr_NamedExpr(self, node: ast.NamedExpr) -> str:
        """`x = (k := n + 1)`: assigned in a statement of its own, before the one that it is in."""
        renames = isinstance(node.value, ast.Name) and node.value.id in self.locals
        if self.perhaps or not (renames or node is self.whole):
            name = node.target.id
            self.refuse(
                node,
                f":= gives {name} a value in the middle of an expression",
                "Numba's compiler loses the value there: it takes := for a whole right side, as in "
                f"x = ({name} := a[i]), and for another name of a local that every thread reads",
                f"assign {name} in a statement of its own, on the line before",
            )
        self._assign(node.target, self.expr(node.value))
        return f"v_{node.target.id}"

    def test(self, node: ast.expr) -> str:
        """A condition. A comparison with the number of axes is decided by the types: a bool."""
        match node:
            case ast.Compare(left=ast.Attribute(attr="ndim"), comparators=[ast.Constant()]):
                return f"{self.constant(bool)}({self.expr(node)})"
        return self.expr(node)

    def _expr_Subscript(self, node: ast.Subscript) -> str:
        array, index = self.expr(node.value), self.index(node.slice)
        return f"R.load(m, {array}, {index}, {self._line(node)})"

    def index(self, node: ast.expr) -> str:
        """An index as a tuple with one item an axis."""
        items = node.elts if isinstance(node, ast.Tuple) else [node]
        texts = [self._index_item(item) for item in items]
        if any(text in ("None", "Ellipsis") for text in texts):
            return f"{self.constant(WideIndex)}(({', '.join(texts)},))"
        if len(texts) == 1 and not isinstance(node, ast.Tuple | ast.Slice | ast.Constant):
            return f"{self.constant(_as_index)}({texts[0]})"  # `a[p]` where p is a tuple
        return "(" + "".join(f"{text}, " for text in texts) + ")"

    def _index_item(self, node: ast.expr) -> str:
        match node:
            case ast.Slice():
                return self._slice(node)
            case ast.Constant(value=None | types.EllipsisType() as value):
                return repr(value)
            case ast.Attribute(attr="newaxis"):
                return "None"
            case ast.Constant(value=int() as number) if number < 0:
                return self.constant(FromTheEnd(number))
        return self.expr(node)

    def _slice(self, node: ast.Slice) -> str:
        parts = (node.lower, node.upper, node.step)
        return f"slice({', '.join('None' if p is None else self.expr(p) for p in parts)})"

    def _expr_Attribute(self, node: ast.Attribute) -> str:
        value = self.expr(node.value)
        return f"R.attribute(m, {value}, {node.attr!r}, {self._line(node)})"


def _as_index(item: Any) -> tuple:
    if isinstance(item, Axes):
        raise LaneError(
            "an index is one integer, and cuda.threadIdx or blockIdx alone are three",
            "name the axis: cuda.threadIdx.x",
        )
    return item if isinstance(item, tuple) else (item,)
