"""Which names a kernel assigns and reads, and where. Unit 3.2.

The translator needs it to join values after a branch or a loop: a name that is used nowhere else
than inside one block of statements has nothing to join.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence


def in_scope(node: ast.AST) -> list[ast.AST]:
    """`node` and all within it, but nothing of a function inside; kept until one says `forget`."""
    kept = node.__dict__.get("in_scope")
    if kept is None:
        kept = node.in_scope = [node]
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                kept += in_scope(child)
    return kept


def forget(tree: ast.AST) -> None:
    """Let `in_scope` look at a tree anew."""
    for node in ast.walk(tree):
        node.__dict__.pop("in_scope", None)


def worked_out(call: ast.Call) -> Iterator[str]:
    """The lengths in the shape of `cuda.shared.array(shape, dtype)` that compute with a name.

    A bare name may be a parameter: Numba takes one of a device function that is given a constant.
    """
    shape = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "shape")]
    lengths = shape[0].elts if shape and isinstance(shape[0], ast.Tuple) else shape
    for length in lengths:
        parts = list(ast.walk(length))
        if any(isinstance(n, ast.Name) for n in parts) and any(map(_computes, parts)):
            yield ast.unparse(length)


def _computes(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr != "ndim"  # which a type says, and Numba knows
    return isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call)


def returns(statements: Iterable[ast.stmt]) -> list[ast.Return]:
    """The returns of a function with these statements."""
    return [n for s in statements for n in in_scope(s) if isinstance(n, ast.Return)]


def parameters(args: ast.arguments) -> tuple[str, ...]:
    """The names of a function's parameters, the one that takes the rest among them."""
    rest = [args.vararg] if args.vararg else []
    return tuple(a.arg for a in [*args.posonlyargs, *args.args, *rest])


def assigned(nodes: Iterable[ast.AST]) -> list[str]:
    """The names assigned anywhere in `nodes`, in order of first assignment."""
    found: dict[str, None] = {}
    for node in nodes:
        for n in in_scope(node):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                found.setdefault(n.id)
            elif isinstance(n, ast.FunctionDef):
                found.setdefault(n.name)
    return list(found)


def escapes(nodes: Iterable[ast.AST]) -> bool:
    """Whether a lane may leave the statements early, by return, break or continue."""
    return any(_escapes(node, in_loop=False) for node in nodes)


def _escapes(node: ast.AST, in_loop: bool) -> bool:
    if isinstance(node, ast.Return | ast.Raise):
        return True
    if isinstance(node, ast.FunctionDef):
        return False
    if isinstance(node, ast.Break | ast.Continue):
        return not in_loop
    if isinstance(node, ast.For | ast.While):
        return any(_escapes(n, True) for n in node.body) or any(
            _escapes(n, in_loop) for n in node.orelse
        )
    return any(_escapes(n, in_loop) for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt))


class Liveness:
    """Which names' values are still needed, at each place of a function (backward data flow).

    A value that no way on reads has nothing to join: `t` may be a number in one loop and an array
    in the next.
    """

    def __init__(self, function: ast.FunctionDef):
        self.after: dict[int, set[str]] = {}  # by id of a statement
        self.other: dict[int, set[str]] = {}  # by id of an if: where its other side begins
        self.header: dict[int, set[str]] = {}  # by id of a loop: where a round begins, or it ends
        self._loops: list[tuple[set[str], set[str]]] = []  # needed after the loop, at its header
        inner = [n for n in ast.walk(function) if isinstance(n, ast.FunctionDef | ast.Lambda)]
        # a function inside may be called at any time
        self.captured = set().union(*(read(n) for n in inner if n is not function))
        self._block(function.body, set())

    def carried(self, node: ast.If | ast.While | ast.For) -> list[str]:
        """The names assigned in `node` whose values are needed outside the block that does it."""
        place = self.after if isinstance(node, ast.If) else self.header
        needed = place[id(node)] | self.captured
        return [name for name in assigned([node]) if name in needed]

    def restored(self, node: ast.If) -> list[str]:
        """The names that the one side assigns, of which the other needs the value from before."""
        needed = self.other[id(node)] | self.captured
        return [name for name in assigned(node.body) if name in needed]

    def _block(self, statements: Sequence[ast.stmt], live: set[str]) -> set[str]:
        """What is needed before the statements, where `live` is needed after them."""
        for statement in reversed(statements):
            self.after[id(statement)] = live
            live = self._before(statement, live)
        return live

    def _before(self, node: ast.stmt, live: set[str]) -> set[str]:
        match node:
            case ast.If():
                other = self.other[id(node)] = self._block(node.orelse, live)
                return self._block(node.body, live) | other | read(node.test)
            case ast.While():
                return self._loop(node, live, read(node.test), set())
            case ast.For():
                turn = set(assigned([node.target]))
                return self._loop(node, live, set(), turn) | read(node.iter)
            case ast.Break():
                return self._loops[-1][0]
            case ast.Continue():
                return self._loops[-1][1]
            case ast.Return() | ast.Raise():
                return read(node)
            case ast.AugAssign(target=ast.Name(id=name)):
                return live | read(node.value) | {name}
        return live - set(assigned([node])) | read(node)

    def _loop(
        self, node: ast.While | ast.For, live: set[str], tested: set[str], turn: set[str]
    ) -> set[str]:
        """What is needed at the header; `turn` are the names that each round begins with."""
        header = live | tested
        while True:
            self._loops.append((live, header))
            more = header | self._block(node.body, header) - turn
            self._loops.pop()
            if more == header:
                break
            header = more
        self.header[id(node)] = header
        return header


def read(node: ast.AST) -> set[str]:
    """The names read anywhere in `node`, in functions inside it, too."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def unsure_reads(function: ast.FunctionDef, parameters: Iterable[str]) -> set[int]:
    """The reads, as id(node), of a local that some way to them has not assigned."""
    flow = _Flow({*parameters, *assigned(function.body)})
    flow.block(function.body, set(parameters))
    return flow.unsure


class _Flow:
    """Follows which names are surely assigned. A set of None: no way leads here."""

    def __init__(self, names: set[str]):
        self.names = names
        self.unsure: set[int] = set()
        self.breaks: list[list[set[str]]] = []

    def block(self, statements: Sequence[ast.stmt], sure: set[str] | None) -> set[str] | None:
        for statement in statements:
            if sure is None:
                break
            sure = self.statement(statement, sure)
        return sure

    def statement(self, node: ast.stmt, sure: set[str]) -> set[str] | None:
        match node:
            case ast.If():
                self.read(node.test, sure)
                sure = sure | set(assigned([node.test]))  # by :=
                ways = [self.block(b, set(sure)) for b in (node.body, node.orelse)]
                return _common([way for way in ways if way is not None])
            case ast.While() | ast.For():
                return self.loop(node, sure)
            case ast.Break():
                self.breaks[-1].append(sure)
                return None
            case ast.Continue() | ast.Raise():
                return None
            case ast.Return():
                self.read(node, sure)
                return None
            case ast.AugAssign(target=ast.Name(id=name)):
                self.read(node.value, sure)
                if name not in sure:
                    self.unsure.add(id(node.target))
        self.read(node, sure)
        return sure | set(assigned([node]))

    def loop(self, node: ast.While | ast.For, sure: set[str]) -> set[str] | None:
        self.read(node.test if isinstance(node, ast.While) else node.iter, sure)
        if isinstance(node, ast.While):
            sure = sure | set(assigned([node.test]))
        inside = sure | set(assigned([node.target])) if isinstance(node, ast.For) else set(sure)
        self.breaks.append([])
        self.block(node.body, inside)
        ways = self.breaks.pop()
        endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant)
        if not (endless and node.test.value):
            ways.append(sure)
        return _common(ways)

    def read(self, node: ast.AST, sure: set[str]) -> None:
        for n in in_scope(node):
            read = isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
            if read and n.id in self.names and n.id not in sure:
                self.unsure.add(id(n))


def _common(ways: list[set[str]]) -> set[str] | None:
    return set.intersection(*ways) if ways else None
