"""Kernel source to lane code. Unit 3.2.

The kernel's syntax tree is walked once and written out as a Python function whose locals are lane
vectors and whose control flow is masks:

    if i < n:                       yes, no = R.split(m, less(i, n), line)
        out[i] = a[i]       ->      if yes is not EMPTY:
                                        m = yes
                                        R.store(m, out, (i,), R.load(m, a, (i,), line), line)
                                    m = R.join(before, yes, no)

R is the machine, m the mask of active lanes, T the table of types. Expressions are in
`expressions.py`. `Translation.source` shows the result for any kernel.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..checkers.counted import Counted, counted
from ..checkers.endings import ends_of
from ..errors import SPOKEN, Place, UnsupportedFeature
from ..lanes.launching import Line
from ..lanes.mask import EMPTY
from . import folding, names
from .calling import Inner
from .expressions import Expressions
from .lowering import lower
from .source import syntax_tree
from .values import UNDEFINED


@dataclass(frozen=True)
class Translation:
    """A kernel as lane code: `run(machine, table, mask, *arguments)`."""

    run: Callable[..., Any]
    source: str
    parameters: tuple[str, ...]
    file: str
    returned: Place | None = None  # where a value is returned, which only device functions may


def translate(function: Callable[..., Any]) -> Translation:
    """The lane code of a Python function written in the kernel dialect."""
    tree, first_line, file, lines = syntax_tree(function)
    return _Translator(function, tree, first_line, file, lines).translation()


class _Translator(Expressions):
    """Statements. Each method writes the lane code of one kind."""

    def __init__(
        self,
        function: Callable,
        tree: ast.FunctionDef,
        first_line: int,
        file: str,
        lines: list[str],
    ):
        self.nonlocals = inspect.getclosurevars(function).nonlocals
        self.function, self.file, self.source_lines = function, file, lines
        self.tree = tree = lower(folding.fold(tree))
        self.first_line = first_line
        self.namespace: dict[str, Any] = {
            "EMPTY": EMPTY,
            "UNDEFINED": UNDEFINED,
            "LANE_CODE": True,
        }
        self.constants: dict[int, Any] = {}
        self.output: list[tuple[str, int]] = []  # text, line of the kernel's source
        self.depth, self.serial, self.current = 0, 0, tree.lineno
        self.loops: list[tuple[str, str]] = []  # name of the loop, its variables
        self.decided: dict[int, tuple[str, Counted]] = {}  # by id of a node: a loop, its tests
        self.parameters = self._parameters(tree.args)
        self.locals = {*self.parameters, *names.assigned(tree.body)}
        folding.prune(tree, self.locals, self._known_name)
        names.forget(tree)
        self.once, self.aliases = folding.assigned_once(tree), {}
        self.unsure = names.unsure_reads(tree, self.parameters)
        self.liveness = names.Liveness(tree)
        self.early = False

    def _known_name(self, name: str) -> Any:
        """What a name stands for that is no local of the kernel's."""
        for scope in (self.nonlocals, self.function.__globals__):
            if name in scope:
                return scope[name]
        return folding.UNKNOWN

    def translation(self) -> Translation:
        self._find_aliases()
        self._write(f"def f_{self.tree.name}(R, T, m, {self._heads(self.tree.args)}):")
        self._body()
        return self._compile()

    def _body(self) -> None:
        """The statements of the function `self.tree`, below its head."""
        self.depth += 1
        undefined = [n for n in names.assigned(self.tree.body) if n not in self.parameters]
        if undefined:
            self._write(" = ".join(map(_v, undefined)) + " = UNDEFINED")
        self.early = self._returns_early()
        if self.early:
            self._write(f"returns = R.loop(T, {self._number()}, m, {self._line(self.tree)})")
        self._block(self.tree.body)
        if self.early:
            self._write("if m is not EMPTY: returns.leave(m, (None,))")
            self._write("values = returns.exit()[1]")
            self._write("return values[0] if values else None")
        self.depth -= 1

    def _parameters(self, args: ast.arguments) -> tuple[str, ...]:
        if args.kwarg or args.kwonlyargs:
            self.unsupported(self.tree, "**kwargs or keyword-only parameters")
        return names.parameters(args)

    def _heads(self, args: ast.arguments) -> str:
        """The parameters as the head of a function has them."""
        plain = [_v(a.arg) for a in [*args.posonlyargs, *args.args]]
        return ", ".join([*plain, f"*{_v(args.vararg.arg)}"] if args.vararg else plain)

    def _returns_early(self) -> bool:
        """Whether some lanes may return before others."""
        returns = names.returns(self.tree.body)
        return bool(returns) and returns != [self.tree.body[-1]]

    def _compile(self) -> Translation:
        """Compile the text so that a traceback names the kernel's own file and lines."""
        text = "\n".join(line for line, _ in self.output)
        module = ast.parse(text)
        for node in ast.walk(module):
            if hasattr(node, "lineno"):
                node.lineno = node.end_lineno = self.output[node.lineno - 1][1]
                node.col_offset = node.end_col_offset = 0
        exec(compile(module, self.file, "exec"), self.namespace)
        run = self.namespace[f"f_{self.tree.name}"]
        return Translation(run, text, self.parameters, self.file, self._returned())

    def _returned(self) -> Place | None:
        for node in names.returns(self.tree.body):
            if node.value is not None:
                nothing = isinstance(node.value, ast.Constant) and node.value.value is None
                if not nothing:
                    return self._place(node)
        return None

    # --- writing -------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        self.output.append(("    " * self.depth + text, self.first_line + self.current - 1))

    def _number(self) -> int:
        self.serial += 1
        return self.serial

    def _line(self, node: ast.AST) -> str:
        """The name of the constant that holds the source line of `node`."""
        number = getattr(node, "lineno", self.current)
        name = f"at_{self.first_line + number - 1}"
        if name not in self.namespace:
            self.namespace[name] = Line(
                self.file,
                self.first_line + number - 1,
                self.source_lines[number - 1].strip(),
                self.tree.name,
            )
        return name

    def unsupported(self, node: ast.AST, what: str, try_: str = "") -> None:
        raise UnsupportedFeature(
            f"{what} cannot be used in a kernel",
            "a kernel is a small language: numbers, tuples, arrays, if, for, while, and functions "
            "made with @cuda.jit(device=True)",
            try_ or "compute it on the host and pass the result as an argument",
            self._place(node),
        )

    def not_yet(self, node: ast.AST, name: str) -> None:
        self.refuse(
            node,
            f"this version of the emulator does not have {name}",
            "it has grids, device functions, control flow and global memory",
            "run the kernel on a GPU, or write it without",
        )

    def refuse(self, node: ast.AST, what: str, why: str, try_: str) -> None:
        raise UnsupportedFeature(what, why, try_, self._place(node))

    def unknown(self, node: ast.AST, name: str, try_: str) -> None:
        raise UnsupportedFeature(
            f"{name} is not defined",
            "no name of this spelling is known where the kernel was written",
            try_,
            self._place(node),
        )

    def _place(self, node: ast.AST) -> Place:
        number = getattr(node, "lineno", 1) - 1
        return Place(self.tree.name, self.first_line + number, self.source_lines[number])

    # --- statements ----------------------------------------------------------------------

    def _block(self, statements: Sequence[ast.stmt]) -> None:
        """Statements in order. After one that lanes may leave early, the rest asks who is left."""
        depth = self.depth
        wrote = len(self.output)
        for statement in statements:
            self.current = statement.lineno
            self._statement(statement)
            if isinstance(statement, ast.Return | ast.Raise | ast.Break | ast.Continue):
                break
            if names.escapes([statement]) and statement is not statements[-1]:
                self._write("if m is not EMPTY:")
                self.depth += 1
        if len(self.output) == wrote or self.output[-1][0].endswith(":"):
            self._write("pass")
        self.depth = depth

    def _statement(self, node: ast.stmt) -> None:
        method = getattr(self, "_" + type(node).__name__, None)
        if method is None:
            self.unsupported(node, SPOKEN.get(type(node).__name__, type(node).__name__))
        if not isinstance(node, ast.Pass):
            self._tick(node)
        method(node)

    def _tick(self, node: ast.stmt) -> None:
        parts: list[ast.AST] = [] if isinstance(node, ast.FunctionDef) else [node]
        if isinstance(node, ast.If | ast.While):
            parts = [node.test]
        elif isinstance(node, ast.For):
            parts = [node.iter]
        operations = sum(isinstance(n, _OPERATIONS) for part in parts for n in ast.walk(part))
        if operations and not isinstance(node, ast.While):
            self._write(f"R.tick(m, {self._line(node)}, {operations})")

    def _Pass(self, node: ast.Pass) -> None:
        self._write("pass")

    def _Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring, or ...
            self.discarded = self.whole = node.value
            self._write(self.expr(node.value))

    def _Assign(self, node: ast.Assign) -> None:
        one = node.targets[0] if len(node.targets) == 1 else None
        if isinstance(one, ast.Name) and one.id in self.aliases:
            return
        self.whole = node.value
        value = self.expr(node.value) if one is None else self.stored(node.value, one)
        if len(node.targets) > 1:
            temporary = f"t_{self._number()}"
            self._write(f"{temporary} = {value}")
            value = temporary
        for target in node.targets:
            self._assign(target, value)

    def _AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, self.expr(node.value))

    def _assign(self, target: ast.expr, value: str) -> None:
        match target:
            case ast.Name(id=name):
                self._write(f"{_v(name)} = {value}")
            case ast.Tuple(elts=items) | ast.List(elts=items):
                if any(isinstance(item, ast.Starred) for item in items):
                    self.unsupported(target, "a starred name")
                parts, line = [f"t_{self._number()}" for _ in items], self._line(target)
                self._write(f"{', '.join(parts)}, = R.unpack(m, {value}, {len(items)}, {line})")
                for item, part in zip(items, parts, strict=True):
                    self._assign(item, part)
            case ast.Subscript():
                value = self._first(value, target)
                array, index = self.expr(target.value), self.index(target.slice)
                self._write(f"R.store(m, {array}, {index}, {value}, {self._line(target)})")
            case ast.Attribute():
                value = self._first(value, target)
                record = self.expr(target.value)
                self._write(
                    f"R.store_field(m, {record}, {target.attr!r}, {value}, {self._line(target)})"
                )
            case _:
                self.unsupported(target, "this kind of assignment")

    def _first(self, value: str, target: ast.expr) -> str:
        """Python evaluates the value before the target's index: it matters where that does work."""
        if not any(isinstance(n, ast.Call | ast.Subscript) for n in _within(target)):
            return value
        temporary = f"t_{self._number()}"
        self._write(f"{temporary} = {value}")
        return temporary

    def _AugAssign(self, node: ast.AugAssign) -> None:
        """`a[i] += x`: the array and the index are evaluated once."""
        line = self._line(node)
        value = self.expr(node.value)
        match node.target:
            case ast.Name(id=name):
                old, target = self.read(node.target), _v(name)
                self._write(f"{target} = {self.arithmetic(type(node.op), old, value, line)}")
            case ast.Attribute(attr=field):
                record = f"t_{self._number()}"
                self._write(f"{record} = {self.expr(node.target.value)}")
                old = f"R.load_field(m, {record}, {field!r}, {line})"
                new = self.arithmetic(type(node.op), old, value, line)
                self._write(f"R.store_field(m, {record}, {field!r}, {new}, {line})")
            case ast.Subscript():
                array, index = f"t_{self._number()}", f"t_{self._number()}"
                self._write(f"{array} = {self.expr(node.target.value)}")
                self._write(f"{index} = {self.index(node.target.slice)}")
                old = f"R.load(m, {array}, {index}, {line})"
                new = self.arithmetic(type(node.op), old, value, line)
                self._write(f"R.store(m, {array}, {index}, {new}, {line})")
            case _:
                self.unsupported(node, "this kind of assignment")

    def _Return(self, node: ast.Return) -> None:
        value = "None" if node.value is None else self.expr(node.value)
        if self.early:
            self._write(f"returns.leave(m, ({value},))")
            self._write("R.returned(m)")
            self._write("m = EMPTY")
        else:
            self._write(f"return {value}")

    def _FunctionDef(self, node: ast.FunctionDef) -> None:
        """A function of the kernel's own; it sees the kernel's variables."""
        if node.decorator_list:
            self.unsupported(node, "a decorated function inside a kernel", "move it out of it")
        number = self._number()
        defaults = "".join(f"{self.expr(d)}, " for d in node.args.defaults)
        self._write(f"def inner_{number}(m, {self._heads(node.args)}):")
        outer = self.tree, self.parameters, self.locals, self.unsure, self.early, self.loops
        liveness, self.liveness = self.liveness, names.Liveness(node)
        own = {*names.parameters(node.args), *names.assigned(node.body)}
        captures = self._captures(node, own)
        self.tree, self.parameters, self.loops = node, self._parameters(node.args), []
        self.locals = {*self.locals, *self.parameters, *names.assigned(node.body)}
        self.unsure = names.unsure_reads(node, self.parameters)
        self._body()
        head = f"{node.name!r}, {self.parameters!r}, ({defaults}), inner_{number}, {captures!r}"
        self.tree, self.parameters, self.locals, self.unsure, self.early, self.loops = outer
        self.liveness = liveness
        self.current = node.lineno
        self._write(f"{_v(node.name)} = {self.constant(Inner)}({head})")

    def _Raise(self, node: ast.Raise) -> None:
        kind, args = node.exc, []
        if isinstance(kind, ast.Call) and not kind.keywords:
            kind, args = kind.func, kind.args
        if node.cause is not None:
            self.unsupported(node, "raise ... from", "raise the one exception")
        what = None if kind is None else self.static(kind)  # MISSING of a call with keywords
        if not (isinstance(what, type) and issubclass(what, Exception)):
            self.unsupported(node, "raise with anything but an exception", "raise ValueError(...)")
        values = "".join(f"{self.expr(a)}, " for a in map(self._told, args))
        self._write(f"R.raise_(m, {self.constant(what)}, ({values}), {self._line(node)})")
        self._write("m = EMPTY")

    def _Assert(self, node: ast.Assert) -> None:
        message = "()" if node.msg is None else f"({self.expr(self._told(node.msg))},)"
        self._write(f"R.assert_(m, {self.expr(node.test)}, {message}, {self._line(node)})")

    def _If(self, node: ast.If) -> None:
        variables = self.liveness.carried(node)
        restored = dict.fromkeys([*variables, *self.liveness.restored(node)])
        self._foresee(node)
        line, serial = self._line(node), self._number()
        yes, no, before = f"yes_{serial}", f"no_{serial}", f"before_{serial}"
        self._write(f"{before} = m")
        self._write(f"{yes}, {no} = R.split(m, {self.test(node.test)}, {line})")
        for name in restored:
            self._write(f"old_{serial}_{name} = {_v(name)}")
        self._side(yes, node.body)
        for name in variables:
            self._write(f"new_{serial}_{name} = {_v(name)}")
        for name in restored:
            self._write(f"{_v(name)} = old_{serial}_{name}")
        if node.orelse:
            self._side(no, node.orelse)
        self.current = node.lineno
        for name in variables:
            sides = f"{yes}, new_{serial}_{name}, {no}, {_v(name)}"
            self._write(f"{_v(name)} = R.phi(T, {self._number()}, {sides})")
        self._write(f"m = R.join({before}, {yes}, {no})")

    def _side(self, mask: str, statements: Sequence[ast.stmt]) -> None:
        self._write(f"if {mask} is not EMPTY:")
        self.depth += 1
        self._write(f"m = {mask}")
        self._block(statements)
        self._write(f"{mask} = m")
        self.depth -= 1

    def _While(self, node: ast.While) -> None:
        variables = self.liveness.carried(node)
        loop, values = self._begin_loop("loop", "", variables, node)
        self._tick_test(node)
        self._foresee(node)
        endless = isinstance(node.test, ast.Constant)  # what is never true is left out before
        test = "True" if endless else self.expr(node.test)
        self._write(f"m = {loop}.test(m, {test}, {values})")
        self._end_loop(loop, values, node)

    def _For(self, node: ast.For) -> None:
        variables = self.liveness.carried(node)
        items = self.expr(node.iter)
        loop, values = self._begin_loop("for_loop", f"{items}, ", variables, node)
        turn = f"turn_{self._number()}"
        self._write(f"m, {turn} = {loop}.next(m, {values})")
        self._end_loop(loop, values, node, (node.target, turn))

    def _begin_loop(
        self, kind: str, items: str, variables: list[str], node: ast.For | ast.While
    ) -> tuple[str, str]:
        loop, line = f"loop_{self._number()}", self._line(node)
        values = "(" + "".join(f"{_v(name)}, " for name in variables) + ")"
        found = counted(node) if isinstance(node, ast.While) else None
        ends = ends_of(node, variables, self.liveness.captured)
        if found is not None:
            self.decided[id(found.place)] = loop, found
            ends = replace(ends, scans=found.scans)
        self._write(
            f"{loop} = R.{kind}(T, {self._number()}, m, {items}{line}, {self.constant(ends)})"
        )
        self._write(f"{values} = {loop}.enter({values})")
        self._write("while True:")
        self.depth += 1
        return loop, values

    def _foresee(self, place: ast.While | ast.If) -> None:
        """Where a loop is decided, it looks at the sides of its tests now and then."""
        if id(place) not in self.decided:
            return
        loop, found = self.decided[id(place)]
        sides = "".join(f"({self.quiet(t.left)}, {self.quiet(t.right)}), " for t in found.tests)
        self._write(f"if {loop}.rounds >= {loop}.look:")
        self._write(f"    {loop}.foresee(m, {self.constant(found)}, ({sides}))")

    def _end_loop(
        self,
        loop: str,
        values: str,
        node: ast.For | ast.While,
        turn: tuple[ast.expr, str] | None = None,
    ) -> None:
        self._write("if m is EMPTY: break")
        if turn is not None:
            self._assign(*turn)
        self.loops.append((loop, values))
        self._block(node.body)
        self.loops.pop()
        self.current = node.lineno
        self._write(f"m, {values} = {loop}.again(m, {values})")
        self._write("if m is EMPTY: break")
        self.depth -= 1
        self._write(f"m, {values} = {loop}.exit()")

    def _tick_test(self, node: ast.While) -> None:
        operations = sum(isinstance(n, _OPERATIONS) for n in ast.walk(node.test))
        if operations:
            self._write(f"R.tick(m, {self._line(node)}, {operations})")

    def _Break(self, node: ast.Break) -> None:
        loop, values = self.loops[-1]
        self._write(f"{loop}.leave(m, {values})")
        self._write("m = EMPTY")

    def _Continue(self, node: ast.Continue) -> None:
        loop, values = self.loops[-1]
        self._write(f"{loop}.wait(m, {values})")
        self._write("m = EMPTY")


def _within(target: ast.expr) -> Iterator[ast.AST]:
    """All that is evaluated for a target before it is stored to."""
    for child in ast.iter_child_nodes(target):
        yield from ast.walk(child)


def _v(name: str) -> str:
    return f"v_{name}"


_OPERATIONS = (
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.Call,
    ast.Subscript,
    ast.AugAssign,
    ast.IfExp,
)
