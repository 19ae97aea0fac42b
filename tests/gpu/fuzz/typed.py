"""The types of a kernel's locals and expressions: the emulator's, and those of Numba's compiler.

    python tests/gpu/fuzz/typed.py --first 0 --count 500

Each is a table {(line, what): {dtype, ...}}: `what` is a local that the line assigns, an operator
or `[]`. A line of a device function may have several types, one for each version of it. The two
tables are made without anything in common: Numba's from the representation that its compiler for
the CUDA target has typed, the emulator's by watching the types pass while it infers them.
"""

from __future__ import annotations

import argparse
import ast
import collections
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from aiinfra_labs.gpu import compiled, emulator
from aiinfra_labs.gpu.emulator.lanes import dispatch, machine
from aiinfra_labs.gpu.emulator.translation import expressions, inference, translator
from fuzz import campaign, generator

Table = dict[tuple[int, str], set[str]]
OPERATORS = {  # by the names of Python's syntax tree, and of Numba's representation
    name: symbol
    for symbol, names in {
        "+": ("Add", "add", "iadd"),
        "-": ("Sub", "sub", "isub"),
        "*": ("Mult", "mul", "imul"),
        "/": ("Div", "truediv", "itruediv"),
        "//": ("FloorDiv", "floordiv", "ifloordiv"),
        "%": ("Mod", "mod", "imod"),
        "**": ("Pow", "pow", "ipow"),
        "<<": ("LShift", "lshift", "ilshift"),
        ">>": ("RShift", "rshift", "irshift"),
        "&": ("BitAnd", "and_", "iand"),
        "|": ("BitOr", "or_", "ior"),
        "^": ("BitXor", "xor", "ixor"),
        "~": ("Invert", "invert"),
        "-x": ("USub", "neg"),
        "+x": ("UAdd", "pos"),
    }.items()
    for name in names
}


# --- the emulator's ------------------------------------------------------------------------------


def of_the_emulator(kernel: Any, grid: Any, block: Any, args: list) -> Table:
    """The types that the emulator infers for a kernel, in its last round over it."""
    found: Table = collections.defaultdict(set)
    with _watched(found) as watching:
        function = dispatch.Function(kernel.py_func)
        launch = machine.Launch("kernel", _three(grid), _three(block), 1 << 20, 1 << 20)
        values = [dispatch.argument(str(k), a, []) for k, a in enumerate(args)]
        with np.errstate(all="ignore"):
            function.prepare(launch, values)  # the tables of joins are full after this
            key = next(iter(function.tables))
            watching.append(True)
            typing = inference.TypingMachine(launch)
            typing.version = (function, key)
            function._infer(typing, typing.all, key, values)
    return dict(found)


def _three(size: Any) -> tuple[int, int, int]:
    sizes = tuple(size) if isinstance(size, tuple) else (size,)
    return (*sizes, *[1] * (3 - len(sizes)))


@contextmanager
def _watched(found: Table) -> Iterator[list]:
    """Operators and loads note their types, once the list that is given holds something."""
    watching: list = []

    def noted(function: Callable, what: str) -> Callable:
        def run(*values: Any) -> Any:
            result = function(*values)
            if watching:
                _note(found, sys._getframe(1).f_lineno, what, result)
            return result

        return run

    def load(self: Any, mask: Any, array: Any, index: Any, line: Any) -> Any:
        result = original(self, mask, array, index, line)
        if watching:
            _note(found, line.number, "[]", result)
        return result

    def assigned(line: int, name: str, value: Any) -> None:
        if watching:
            _note(found, line, name, value)

    original, writer = inference.TypingMachine.load, translator._Translator
    with ExitStack() as stack:
        for table in (expressions.BINARY, expressions.UNARY):
            wrapped = {
                op: noted(function, OPERATORS[op.__name__])
                for op, function in table.items()
                if op.__name__ in OPERATORS
            }
            stack.enter_context(mock.patch.dict(table, wrapped))
        stack.enter_context(mock.patch.object(inference.TypingMachine, "load", load))
        for name in ("_assign", "_AugAssign"):
            method = _noting(getattr(writer, name), assigned)
            stack.enter_context(mock.patch.object(writer, name, method))
        stack.enter_context(mock.patch.dict(dispatch._functions, clear=True))
        yield watching


def _note(found: Table, line: int, what: str, value: Any) -> None:
    if isinstance(value, np.ndarray | np.generic):
        found[line, what].add(value.dtype.str.strip("<|"))


def _noting(method: Callable, note: Callable) -> Callable:
    """A method of the translator that writes an assignment, with a call of `note` behind it."""

    def write(self: Any, target: ast.AST, *value: str) -> None:
        method(self, target, *value)
        name = target.target if isinstance(target, ast.AugAssign) else target
        if isinstance(name, ast.Name):
            self.namespace["NOTE"] = note
            line = self.first_line + name.lineno - 1
            self._write(f"NOTE({line}, {name.id!r}, v_{name.id})")

    return write


# --- Numba's -------------------------------------------------------------------------------------


def of_numba(kernel: Any, args: list) -> Table:
    """The types that Numba's compiler gives; raises `compiled.Refused`."""
    from numba.cuda import compiler, dispatcher

    found: Table = collections.defaultdict(set)
    plain = compiler.compile_cuda

    def noting(*given: Any, **named: Any) -> Any:
        result = plain(*given, **named)
        _read(found, result.type_annotation)
        return result

    with (
        mock.patch.object(compiler, "compile_cuda", noting),
        mock.patch.object(dispatcher, "compile_cuda", noting),
    ):
        compiled.compile_kernel(kernel, args)
    return dict(found)


def _read(found: Table, notes: Any) -> None:
    from numba.cuda.core import ir

    for block in notes.blocks.values():
        for statement in block.body:
            if not isinstance(statement, ir.Assign):
                continue
            name, value = statement.target.name, statement.value
            dtype, line = _dtype(notes.typemap[name]), statement.loc.line
            if dtype is None or isinstance(value, ir.Arg):
                continue
            plain = name.partition(".")[0]
            phi = isinstance(value, ir.Var) and value.name.partition(".")[0] == plain
            if name[0] != "$" and not phi and getattr(value, "op", "") != "phi":
                found[line, plain].add(dtype)
            if isinstance(value, ir.Expr):
                what = _operation(value, notes.typemap)
                if what:
                    found[line, what].add(dtype)


def _operation(value: Any, types_of: dict[str, Any]) -> str:
    if value.op in ("getitem", "static_getitem"):
        return "[]" if hasattr(types_of[value.value.name], "layout") else ""
    name = getattr(value._kws.get("fn"), "__name__", "")
    if value.op == "unary":
        return OPERATORS.get(name, "")
    return OPERATORS.get(name, "") if "binop" in value.op else ""


def _dtype(kind: Any) -> str | None:
    from numba.cuda import types
    from numba.cuda.np.numpy_support import as_dtype

    kind = types.unliteral(kind)
    if isinstance(kind, types.Number | types.Boolean):
        return as_dtype(kind).str.strip("<|")
    return None


# --- both ----------------------------------------------------------------------------------------


def differences(seed: int) -> tuple[str, list[str]]:
    """What came of one random kernel, and where the two tables differ."""
    program = generator.program(seed)
    kernel = campaign.built(program, emulator)
    try:
        campaign.emulated(program)
    except emulator.EmulatorError as error:
        return "refused by the emulator", [error.what[:120]]
    try:
        theirs = of_numba(kernel, program.arguments())
    except compiled.Refused as error:
        return "REFUSED BY NUMBA", [error.what[:300]]
    ours = of_the_emulator(kernel, program.grid, program.block, program.arguments())
    return compared(ours, theirs)


def compared(ours: Table, theirs: Table) -> tuple[str, list[str]]:
    differing = [
        (place, kinds)
        for place, kinds in sorted(theirs.items())
        if place in ours and ours[place] != kinds
    ]
    wrong = [
        f"line {line}, {what}: {sorted(ours[line, what])}, Numba {sorted(kinds)}"
        for (line, what), kinds in differing
    ]
    missing = [f"line {line}, {what}: only Numba's" for line, what in theirs.keys() - ours.keys()]
    if not wrong:
        return "same types", missing
    # int64 with uint64 widens to float64. Numba's inference only ever widens: where a variable was
    # a uint64 in its first look and an int64 in the next, what is computed from it ends as float64.
    integers = any(
        re.fullmatch(r"a\d+", what) and "f8" in kinds for (_, what), kinds in theirs.items()
    )
    if integers or all(_widened(ours[place], kinds) for place, kinds in differing):
        return campaign.ORDER, wrong
    return "OTHER TYPES", wrong + missing


def _widened(ours: set[str], theirs: set[str]) -> bool:
    """Whether Numba has a float64 where the emulator has 64-bit integers, and nothing else."""
    return ours <= {"i8", "u8"} and theirs - ours <= {"f8"}


def campaign_of(seeds: range, show: bool = False) -> tuple[collections.Counter, dict[int, Any]]:
    """How often each outcome came, and the seeds that went wrong (in capitals)."""
    outcomes: collections.Counter[str] = collections.Counter()
    wrong: dict[int, Any] = {}
    for seed in seeds:
        outcome, details = differences(seed)
        outcomes[outcome] += 1
        if outcome.isupper():
            wrong[seed] = outcome, details
            if show:
                print(seed, outcome, *details[:6], sep="\n    ", flush=True)
    return outcomes, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    if compiled.missing():
        raise SystemExit(compiled.missing())
    start = time.process_time()
    outcomes, _ = campaign_of(range(options.first, options.first + options.count), show=True)
    print(dict(outcomes), f"{time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main()
