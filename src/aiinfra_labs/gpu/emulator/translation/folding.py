"""What is known before a kernel runs, worked out as CPython and Numba work it out. Unit 3.2.

CPython folds `2 ** 63` and `-1` before Numba sees them, so that each is one constant with the type
of its value. Numba then leaves out the branches that constants decide (`if DEBUG:`, `if N > 3`
where N is a global or a local that is assigned once), types and all: what stands in them need not
compile. Here both are done on the syntax tree.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

_BINARY: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type, Callable] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_COMPARED: dict[type, Callable] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
MOST_BITS, MOST_ITEMS = 128, 256  # of a number, of a tuple: CPython folds nothing larger
UNKNOWN = object()


def _constant(node: ast.AST) -> Any:
    """The value of a constant, or of a tuple of constants; UNKNOWN for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        values = tuple(map(_constant, node.elts))
        return UNKNOWN if UNKNOWN in values else values
    return UNKNOWN


def _written(value: Any, node: ast.expr) -> ast.expr:
    """A value as it would stand in the text, at the place of `node`."""
    made: ast.expr = ast.Constant(value)
    if isinstance(value, tuple):
        made = ast.Tuple([_written(v, node) for v in value], ast.Load())
    return ast.copy_location(made, node)


class _Folder(ast.NodeTransformer):
    """Constants in place of what CPython's own optimiser works out (Python/ast_opt.c)."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        a, b = _constant(node.left), _constant(node.right)
        if UNKNOWN in (a, b) or type(node.op) not in _BINARY or _too_large(node.op, a, b):
            return node
        return self._folded(node, _BINARY[type(node.op)], a, b)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        value = _constant(node.operand)
        if value is UNKNOWN:
            return node
        return self._folded(node, _UNARY[type(node.op)], value)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        owner, index = _constant(node.value), _constant(node.slice)
        if UNKNOWN in (owner, index) or not isinstance(node.ctx, ast.Load):
            return node
        return self._folded(node, operator.getitem, owner, index)

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.iter = _as_tuple(node.iter)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        self.generic_visit(node)
        if isinstance(node.ops[-1], ast.In | ast.NotIn):
            node.comparators[-1] = _as_tuple(node.comparators[-1])
        return node

    @staticmethod
    def _folded(node: ast.expr, function: Callable, *values: Any) -> ast.expr:
        try:
            return _written(function(*values), node)
        except Exception:  # 1 // 0: it is left to the moment when it runs
            return node


def _as_tuple(node: ast.expr) -> ast.expr:
    """A list that is only looped over or searched is a tuple."""
    if isinstance(node, ast.List) and not any(isinstance(e, ast.Starred) for e in node.elts):
        return ast.copy_location(ast.Tuple(node.elts, ast.Load()), node)
    return node


def _too_large(op: ast.operator, a: Any, b: Any) -> bool:
    """CPython's limits; a number of more than 64 bits is refused afterwards in any case."""
    if isinstance(a, int) and isinstance(b, int):
        match op:
            case ast.Pow():
                return b > 0 and a.bit_length() * b > MOST_BITS
            case ast.LShift():
                return b > MOST_BITS or a.bit_length() + b > MOST_BITS
            case ast.Mult():
                return a.bit_length() + b.bit_length() > MOST_BITS
    if isinstance(op, ast.Mult):
        items, times = (a, b) if isinstance(a, str | tuple) else (b, a)
        return isinstance(items, str | tuple) and (
            not isinstance(times, int) or len(items) * times > MOST_ITEMS
        )
    return isinstance(op, ast.Mod) and isinstance(a, str)


def fold(tree: ast.FunctionDef) -> ast.FunctionDef:
    """The function with every constant worked out that CPython works out."""
    return _Folder().visit(tree)


# --- branches that constants decide --------------------------------------------------------------


class Pruner(ast.NodeTransformer):
    """Leaves out the branches that Numba leaves out (its `dead_branch_prune`).

    glob: the value of a name that is no local, or UNKNOWN.
    """

    def __init__(self, tree: ast.FunctionDef, local: set[str], glob: Callable[[str], Any]):
        self.local, self.glob = local, glob
        self.once = assigned_once(tree)

    def known(self, node: ast.expr) -> Any:
        """Whether a test holds: True or False, or UNKNOWN."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.known(operand)
                return inner if inner is UNKNOWN else not inner
            case ast.BoolOp(op=op, values=values):
                found = [self.known(v) for v in values]
                deciding = isinstance(op, ast.Or)
                if deciding in found and UNKNOWN not in found[: found.index(deciding)]:
                    return deciding
                return UNKNOWN if UNKNOWN in found else not deciding
            case ast.Compare(left=left, ops=ops, comparators=others):
                operands = [left, *others]
                links = [
                    self._value(_COMPARED.get(type(op)), a, b)
                    for op, a, b in zip(ops, operands, operands[1:], strict=False)
                ]
                if False in links and UNKNOWN not in links[: links.index(False)]:
                    return False
                return UNKNOWN if UNKNOWN in links else True
            case ast.BinOp(left=left, op=op, right=right):
                return self._value(_BINARY.get(type(op)), left, right)
        value = self.operand(node)
        return UNKNOWN if value is UNKNOWN else _truth(value)

    def _value(self, function: Callable | None, a: ast.expr, b: ast.expr) -> Any:
        left, right = self.operand(a), self.operand(b)
        if function is None or left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        try:
            return bool(function(left, right))
        except Exception:
            return UNKNOWN

    def operand(self, node: ast.expr) -> Any:
        """The value of a constant, a global, or a local that is one of these throughout."""
        if isinstance(node, ast.Name):
            if node.id not in self.local:
                return self.glob(node.id)
            given = self.once.get(node.id)
            return UNKNOWN if given is None else self.operand(given)
        return _constant(node)

    def visit_If(self, node: ast.If) -> Any:
        """The branch that is taken, where a constant decides."""
        decided = self.known(node.test)
        self.generic_visit(node)
        if decided is UNKNOWN:
            return node
        taken = node.body if decided else node.orelse
        return taken or ast.copy_location(ast.Pass(), node)

    def visit_While(self, node: ast.While) -> Any:
        """Without a loop that never begins; one that a constant keeps up says `while True`."""
        decided = self.known(node.test)
        self.generic_visit(node)
        if decided is False:
            return node.orelse or ast.copy_location(ast.Pass(), node)
        if decided is True:
            node.test = ast.copy_location(ast.Constant(True), node.test)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        """The side that is taken, where a constant decides."""
        decided = self.known(node.test)
        self.generic_visit(node)
        return node if decided is UNKNOWN else node.body if decided else node.orelse

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        """What a constant at the front decides; one in the middle may follow what does work."""
        self.generic_visit(node)
        ends = isinstance(node.op, ast.Or)  # the truth of a value that ends it
        while len(node.values) > 1:
            first = self.operand(node.values[0])
            if first is UNKNOWN or _truth(first) is UNKNOWN:
                return node
            if _truth(first) is ends:
                return node.values[0]
            del node.values[0]
        return node.values[0]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """As it is: a function inside has variables of its own."""
        return node  # a function inside has variables of its own

    visit_Lambda = visit_FunctionDef


def _truth(value: Any) -> Any:
    try:
        return bool(value)
    except Exception:  # of an array
        return UNKNOWN


def assigned_once(tree: ast.FunctionDef) -> dict[str, ast.expr]:
    """The locals that one statement `name = value` assigns and nothing else, with the value."""
    given: dict[str, ast.expr] = {}
    times: dict[str, int] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                times[name] = times.get(name, 0) + 1
            case ast.FunctionDef(name=name):
                times[name] = times.get(name, 0) + 1
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                given[name] = value
            case ast.AugAssign(target=ast.Name(id=name)):
                times[name] = times.get(name, 0) + 1
    return {name: value for name, value in given.items() if times[name] == 1}


def prune(tree: ast.FunctionDef, local: set[str], glob: Callable[[str], Any]) -> ast.FunctionDef:
    """The function without the branches that constants decide. local: its names; glob: others."""
    pruner = Pruner(tree, local, glob)
    tree.body = [found for statement in tree.body for found in _listed(pruner.visit(statement))]
    return tree


def _listed(found: Any) -> list[ast.stmt]:
    return found if isinstance(found, list) else [found]
