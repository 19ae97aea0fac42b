"""What decides whether a loop ends. Unit 3.2.

`while i < n: total += a[i]` goes round for ever, and one round tells it: the end depends on i and
n, and neither has changed. `while flag[0] == 0: pass` depends on memory: it waits for another
thread. The names are found in the text, by following which values the tests of a loop are made of.
What is found may be too much, never too little: a loop that is taken for endless is endless.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..translation.names import assigned, in_scope

_ASSIGNING = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.FunctionDef)
_LEAVING = (ast.Break, ast.Continue, ast.Return, ast.Raise)
# calls that read no memory, and that give the same for the same arguments
_PURE = {"abs", "bool", "float", "int", "len", "max", "min", "range", "round"}
_PURE_MODULES = {"math", "np", "numpy"}
MEASURES = ("size", "shape", "ndim")  # of an array; a record may have a field of such a name
_INDICES = {"threadIdx", "blockIdx", "blockDim", "gridDim"}


@dataclass(frozen=True)
class Ends:
    """places: those of the loop's variables that decide whether it ends. names: their names.

    memory: what is read in memory decides, too. early: a lane may leave before the test says so.
    scans: each round reads an element further on, so that an array's end ends it: see `counted`.
    """

    places: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    memory: bool = False
    early: bool = False
    scans: bool = False


def ends_of(loop: ast.While | ast.For, variables: Sequence[str], captured: set[str]) -> Ends:
    """variables: what the loop carries from round to round. captured: what functions inside the
    kernel read, whenever they are called."""
    deciding = _Deciding(loop)
    names = deciding.names | (captured if deciding.calls else set())
    places = tuple(k for k, name in enumerate(variables) if name in names)
    shown = tuple(sorted(deciding.names - deciding.called))
    return Ends(places, shown, deciding.memory, any(map(_leaves, loop.body)))


def _leaves(node: ast.AST) -> bool:
    return any(isinstance(n, _LEAVING) for n in in_scope(node))


class _Deciding:
    """Collects the names that the end of a loop depends on, and whether memory is among it."""

    def __init__(self, loop: ast.While | ast.For):
        self.names: set[str] = set()
        self.called: set[str] = set()  # names of functions and modules among them
        self.memory = self.calls = False
        inside = [n for statement in loop.body for n in in_scope(statement)]
        forks = [n for n in inside if isinstance(n, ast.If | ast.While | ast.For)]
        if isinstance(loop, ast.While):
            self._need(loop.test)
        for node in inside:
            if isinstance(node, ast.Assert):
                self._need(node.test)
        for fork in forks:
            if _leaves(fork):
                self._need(_head(fork))
        before = -1
        while len(self.names) != before:  # until nothing more is drawn in
            before = len(self.names)
            for node in inside:
                assigns = isinstance(node, _ASSIGNING)
                if assigns and self.names.intersection(assigned([node])):
                    self._need(node)
            for fork in forks:
                if self.names.intersection(assigned([fork])):
                    self._need(_head(fork))

    def _need(self, part: ast.AST) -> None:
        for node in _read_in(part):
            match node:
                case ast.Name(id=name):
                    self.names.add(name)
                case ast.Subscript(value=ast.Attribute(attr="shape")):
                    pass
                case ast.Subscript():
                    self.memory = True
                case ast.Call():
                    self._need_call(node)
                case ast.Attribute() if not (is_index(node) or node.attr in MEASURES):
                    self.memory = True

    def _need_call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Name(id=name) if name in _PURE:
                self.called.add(name)
            case ast.Attribute(value=ast.Name(id=name)) if name in _PURE_MODULES:
                self.called.add(name)
            case _:
                self.memory = self.calls = True
                self.called |= {n.id for n in ast.walk(node.func) if isinstance(n, ast.Name)}


def _head(fork: ast.If | ast.While | ast.For) -> ast.expr:
    return fork.iter if isinstance(fork, ast.For) else fork.test


def _read_in(part: ast.AST) -> Iterator[ast.AST]:
    """All that is read in an expression or a statement, but not the names of pure functions."""
    for node in ast.walk(part):
        stored = isinstance(getattr(node, "ctx", None), ast.Store)
        if not stored or isinstance(node, ast.Subscript):
            yield node


def is_index(node: ast.Attribute) -> bool:
    """`cuda.threadIdx.x`, or a part of it, or a function of a module that is pure."""
    if isinstance(node.value, ast.Name):
        return node.attr in _INDICES or node.value.id in {*_INDICES, *_PURE_MODULES}
    return isinstance(node.value, ast.Attribute) and node.value.attr in _INDICES
