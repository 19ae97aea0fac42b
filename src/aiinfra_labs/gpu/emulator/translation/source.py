"""The source of a kernel as a syntax tree. Unit 3.2."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable

from ..errors import UnsupportedFeature
from . import names


def syntax_tree(function: Callable) -> tuple[ast.FunctionDef, int, str, list[str]]:
    """The syntax tree of a function's source."""
    name = getattr(function, "__name__", repr(function))
    try:
        lines, first_line = inspect.getsourcelines(function)
    except (OSError, TypeError) as error:
        raise UnsupportedFeature(
            f"the source of {name} cannot be read",
            "the emulator translates source code, and this function has none on file",
            "define the kernel in a notebook cell or a file, with def",
        ) from error
    tree = _parsed(lines)
    if name == "<lambda>":
        tree = _of_lambda(function, lines)
    if not isinstance(tree, ast.FunctionDef):
        raise UnsupportedFeature(
            f"{name} is not a function made with def",
            "the emulator reads the text of a function, and finds several here, or none",
            "write def name(...): with @cuda.jit above it",
        )
    file = inspect.getsourcefile(function) or "<kernel>"
    return tree, first_line, file, lines


def _parsed(lines: list[str]) -> ast.stmt | None:
    """The function's syntax tree; its lines may be indented, and those of a text in it may not."""
    source = "".join(lines)
    try:
        if source[:1].isspace():
            tree = ast.parse("if True:\n" + source).body[0].body[0]
            return ast.increment_lineno(tree, -1)
        return ast.parse(source).body[0]
    except SyntaxError:  # a lambda in the midst of a statement
        return None


def _of_lambda(function: Callable, lines: list[str]) -> ast.stmt | None:
    """A lambda as a function with one return, if it is the only one of its kind in its lines."""
    for end in range(1, len(lines) + 1):  # the statement may go on below, or begin above
        tree = _parsed(["_ = (", *lines[:end], ")"]) or _parsed(lines[:end])
        if tree is None:
            continue
        own = function.__code__.co_varnames[: function.__code__.co_argcount]
        found = [
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.Lambda) and names.parameters(n.args) == own
        ]
        if len(found) == 1:
            body = ast.Return(found[0].body, lineno=1)
            head = ast.FunctionDef("lambda_", found[0].args, [body], [], lineno=1, col_offset=0)
            for node in ast.walk(head):
                if hasattr(node, "lineno"):
                    node.lineno = 1
            return head
        return None
    return None
