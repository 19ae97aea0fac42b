"""Statements written with simpler ones: `match`, and `else` after a loop. Unit 3.2.

Both come to Numba as jumps; here they become `if`s before anything else is done with the kernel.
The names that this needs begin with a digit, so that they meet none of the kernel's own.
"""

from __future__ import annotations

import ast
import copy
from itertools import count


class _Lowering(ast.NodeTransformer):
    def __init__(self) -> None:
        self.numbers = count(1)

    # --- match -------------------------------------------------------------------------------

    def visit_Match(self, node: ast.Match) -> ast.Match | list[ast.stmt]:
        self.generic_visit(node)
        if not all(_is_plain(case.pattern) for case in node.cases):
            return node  # a sequence, a class, ...: the translator refuses it
        subject = f"0match{next(self.numbers)}"
        first = _at(node, ast.Assign([ast.Name(subject, ast.Store())], node.subject))
        return [first, *_chain(node.cases, subject)]

    # --- else after a loop -------------------------------------------------------------------

    def visit_While(self, node: ast.While) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant) and node.test.value:
            node.orelse = []  # a loop that only break ends
        return self._with_else(node)

    def visit_For(self, node: ast.For) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        return self._with_else(node)

    def _with_else(self, node: ast.For | ast.While) -> ast.stmt | list[ast.stmt]:
        """`broke` says whether a thread left by break."""
        if not node.orelse:
            return node
        broke, other = f"0broke{next(self.numbers)}", node.orelse
        marker = _Breaks(broke)
        node.body = marker.block(node.body)
        node.orelse = []
        if not marker.found:
            return [node, *other]
        test = ast.UnaryOp(ast.Not(), ast.Name(broke, ast.Load()))
        before = _at(node, ast.Assign([ast.Name(broke, ast.Store())], ast.Constant(False)))
        return [before, node, _at(node, ast.If(test, other, []))]


class _Breaks(ast.NodeTransformer):
    """Notes each break of one loop in a variable; inner loops have breaks of their own."""

    def __init__(self, name: str):
        self.name, self.found = name, False

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        holder = ast.Module(statements, [])
        return self.generic_visit(holder).body

    def visit_Break(self, node: ast.Break) -> list[ast.stmt]:
        self.found = True
        noted = ast.Assign([ast.Name(self.name, ast.Store())], ast.Constant(True))
        return [_at(node, noted), node]

    def visit_For(self, node: ast.For) -> ast.For:
        node.orelse = self.block(node.orelse)  # a break there is of the outer loop
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        node.orelse = self.block(node.orelse)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node


def _at(place: ast.AST, made: ast.stmt) -> ast.stmt:
    """A new statement, at a place of the text."""
    return ast.fix_missing_locations(ast.copy_location(made, place))


def _is_plain(pattern: ast.pattern) -> bool:
    """Whether a pattern compares with values or names the subject, and does nothing more."""
    match pattern:
        case ast.MatchOr(patterns=parts):
            return all(_is_plain(p) and not _bound(p) for p in parts)
        case ast.MatchAs(pattern=inner):
            return inner is None or _is_plain(inner)
    return isinstance(pattern, ast.MatchValue | ast.MatchSingleton)


def _bound(pattern: ast.pattern) -> list[str]:
    """The names that a pattern gives to the subject."""
    if isinstance(pattern, ast.MatchAs) and pattern.name:
        return [pattern.name, *(_bound(pattern.pattern) if pattern.pattern else [])]
    return []


def _test(pattern: ast.pattern, subject: str) -> ast.expr | None:
    """The condition under which a pattern fits; None where it always does."""
    read = ast.Name(subject, ast.Load())
    match pattern:
        case ast.MatchValue(value=value):
            return ast.Compare(read, [ast.Eq()], [value])
        case ast.MatchSingleton(value=value):
            return ast.Compare(read, [ast.Is()], [ast.Constant(value)])
        case ast.MatchAs(pattern=inner) if inner is not None:
            return _test(inner, subject)
        case ast.MatchOr(patterns=parts):
            tests = [_test(p, subject) for p in parts]
            return None if None in tests else ast.BoolOp(ast.Or(), tests)
    return None


def _chain(cases: list[ast.match_case], subject: str) -> list[ast.stmt]:
    """The cases one after the other, as if and else."""
    if not cases:
        return []
    case, rest = cases[0], _chain(cases[1:], subject)
    names = [
        _at(
            case.body[0],
            ast.Assign([ast.Name(name, ast.Store())], ast.Name(subject, ast.Load())),
        )
        for name in _bound(case.pattern)
    ]
    test, body = _test(case.pattern, subject), case.body
    if case.guard is not None:
        guarded = _at(case.pattern, ast.If(case.guard, body, rest))
        if test is None:
            return [*names, guarded]
        if names:
            body, rest = [*names, guarded], copy.deepcopy(rest)
            return [_at(case.pattern, ast.If(test, body, rest))]
        test = ast.BoolOp(ast.And(), [test, case.guard])
    if test is None:
        return [*names, *body]
    return [_at(case.pattern, ast.If(test, [*names, *body], rest))]


def lower(tree: ast.FunctionDef) -> ast.FunctionDef:
    """The function without `match` and without `else` after a loop."""
    return _Lowering().visit(tree)
