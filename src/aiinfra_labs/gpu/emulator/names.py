"""Which names a kernel assigns and reads, and where. Unit 3.2.

The translator needs it to join values after a branch or a loop: a name that is used nowhere else
than inside one block of statements has nothing to join.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence


def mentions(nodes: Iterable[ast.AST], name: str) -> int:
    """How often `name` is read or assigned in `nodes`."""
    return sum(isinstance(n, ast.Name) and n.id == name for node in nodes for n in ast.walk(node))


def in_scope(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all within it, but not what belongs to a function defined within it."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from in_scope(child)


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


def writes_first(block: Sequence[ast.stmt], name: str) -> bool:
    """Whether the first statement of `block` that mentions `name` plainly assigns it."""
    for statement in block:
        if mentions([statement], name) == 0:
            continue
        if not isinstance(statement, ast.Assign):
            return False
        targets = {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        return name in targets and mentions([statement.value], name) == 0
    return False


def carried(function: ast.FunctionDef, *blocks: Sequence[ast.stmt]) -> list[str]:
    """The names assigned in `blocks` whose value is needed outside the block that assigns them."""
    names = assigned([statement for block in blocks for statement in block])
    return [name for name in names if not any(_private(function, b, name) for b in blocks)]


def _private(function: ast.FunctionDef, block: Sequence[ast.stmt], name: str) -> bool:
    return mentions(block, name) == mentions(function.body, name) and writes_first(block, name)


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
