"""Loops that count by the same step each round: how many rounds they have before them. Unit 3.2.

`while i != n: i += 2` changes what it tests, so that no round is as the one before, and yet it may
never end. Its text says that the difference of both sides changes by the same each round: two
rounds tell all that will come. So a loop that never ends is told as such, and one that ends may
take as many rounds as a `for`. Of another loop it is seen whether its sides come nearer.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lanes.mask import Mask
from ..translation.names import assigned, in_scope
from .endings import MEASURES, is_index

# --- what the text says --------------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """A comparison that must hold if the loop is to go on."""

    symbol: str
    left: ast.expr
    right: ast.expr

    def __str__(self) -> str:
        return f"{ast.unparse(self.left)} {self.symbol} {ast.unparse(self.right)}"


@dataclass(frozen=True)
class Counted:
    """What a loop can be asked about its end.

    place: where it is decided: the loop itself, or an `if` in it that leaves it.
    tests: what must hold there to go on, as far as it can be looked at again.
    even: both sides of these tests change by the same step each round.
    alone: nothing else ends the loop.
    scans: it looks at one element of an array after the other, until the array ends.
    """

    place: ast.stmt
    tests: tuple[Test, ...]
    even: bool
    alone: bool
    scans: bool


_SYMBOLS = {ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}
_CONTRARY = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_TOLD = {"!=", "<", "<=", ">", ">="}
_LEAVING = (ast.Break, ast.Continue, ast.Return, ast.Raise, ast.Assert)


def counted(loop: ast.While) -> Counted | None:
    """What the text of a loop says of its end; None if it says nothing."""
    place, test, holds = _way_out(loop)
    parts = [] if test is None else _parts(test, holds)
    others = [s for s in loop.body if s is not place and _leaves(s, in_loop=False)]
    moving = _Moving(loop)
    if any(_leaves(s, in_loop=False, how=(ast.Continue,)) for s in loop.body):
        moving.even = set()  # who continues leaves out a step
    tests = [t for t in parts if t is not None]
    even = [t for t in tests if moving.evenly(t.left) and moving.evenly(t.right)]
    plain = even or [t for t in tests if _is_plain(t.left) and _is_plain(t.right)]
    scans = test is not None and moving.scans(test)
    alone = not others and len(even) == len(parts)
    return Counted(place, tuple(plain), bool(even), alone, scans) if plain or scans else None


def _way_out(loop: ast.While) -> tuple[ast.stmt, ast.expr | None, bool]:
    """Where the loop is left, the test there, and whether it holds for those who go on."""
    if not isinstance(loop.test, ast.Constant):
        return loop, loop.test, True
    for statement in loop.body:
        match statement:
            case ast.If(test=test, body=[*before, ast.Break() | ast.Return()], orelse=[]):
                if not any(_leaves(s, in_loop=False) for s in before):
                    return statement, test, False
    return loop, None, True


def _leaves(node: ast.AST, in_loop: bool, how: tuple[type, ...] = _LEAVING) -> bool:
    """Whether a round may end early here; a loop inside has breaks of its own."""
    if isinstance(node, ast.FunctionDef):
        return False
    if isinstance(node, how):
        return not (in_loop and isinstance(node, ast.Break | ast.Continue))
    in_loop |= isinstance(node, ast.For | ast.While)
    inside = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
    return any(_leaves(n, in_loop, how) for n in inside)


def _is_plain(node: ast.expr) -> bool:
    """Whether it can be worked out once more without a trace: it calls nothing, reads no memory."""
    kinds = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Load)
    return all(isinstance(n, kinds) for n in ast.walk(node))


def _parts(test: ast.expr, holds: bool) -> list[Test | None]:
    """What must all hold, where `test` must hold, or must not; None is what cannot be told."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _parts(operand, not holds)
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And if holds else ast.Or):
            return [part for v in values for part in _parts(v, holds)]
        case ast.Compare(left=left, ops=ops, comparators=others) if holds or len(ops) == 1:
            sides = [left, *others]
            symbols = [_SYMBOLS.get(type(op), "") for op in ops]
            symbols = symbols if holds else [_CONTRARY.get(s, "") for s in symbols]
            return [
                Test(s, a, b) if s in _TOLD else None
                for s, a, b in zip(symbols, sides, sides[1:], strict=False)
            ]
        case ast.Name() | ast.BinOp() if holds:  # `while n - i:`
            return [Test("!=", test, ast.Constant(0))]
    return [None]


class _Moving:
    """Which names of a loop change, and which of them by the same in each round."""

    def __init__(self, loop: ast.While):
        self.changing = set(assigned([*loop.body, loop.test]))
        inside = [n for part in (*loop.body, loop.test) for n in in_scope(part)]
        stored = [n.id for n in inside if isinstance(n, ast.Name) and _is_stored(n)]
        stepped = [name for name in map(self._stepped, loop.body) if name]
        self.even = {name for name in stepped if stepped.count(name) == stored.count(name)}

    def _stepped(self, statement: ast.stmt) -> str:
        """The name that the statement moves by a fixed step, as `i += 2` does; "" of any other."""
        match statement:
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add() | ast.Sub(), value=step):
                return name if self._fixed(step) else ""
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.BinOp(left=ast.Name(id=same), op=ast.Add() | ast.Sub(), right=step)
                | ast.BinOp(left=step, op=ast.Add(), right=ast.Name(id=same)),
            ):
                return name if name == same and self._fixed(step) else ""
        return ""

    def _fixed(self, node: ast.expr) -> bool:
        """Whether the value is the same in each round."""
        match node:
            case ast.Constant(value=value):
                return isinstance(value, int | float)
            case ast.Name(id=name):
                return name not in self.changing
            case ast.BinOp(left=left, right=right):
                return self._fixed(left) and self._fixed(right)
            case ast.UnaryOp(operand=operand):
                return self._fixed(operand)
            case ast.Subscript(value=ast.Attribute(value=ast.Name(), attr="shape") as shape):
                return self._fixed(shape) and isinstance(node.slice, ast.Constant)
            case ast.Attribute(value=value):
                measure = node.attr in MEASURES and isinstance(value, ast.Name)
                return is_index(node) or (measure and self._fixed(value))
        return False

    def scans(self, test: ast.expr) -> bool:
        """Whether the test reads an element that lies a step further in each round."""
        return any(
            isinstance(n, ast.Subscript)
            and any(isinstance(m, ast.Name) and m.id in self.even for m in ast.walk(n.slice))
            and self.evenly(n.slice)
            for n in ast.walk(test)
        )

    def evenly(self, node: ast.expr) -> bool:
        """Whether the value changes by the same in each round, or not at all."""
        match node:
            case ast.Name(id=name) if name in self.even:
                return True
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
                return self.evenly(left) and self.evenly(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                pairs = ((left, right), (right, left))
                return any(self.evenly(a) and self._fixed(b) for a, b in pairs)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.evenly(operand)
        return self._fixed(node)


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


# --- what two rounds say -------------------------------------------------------------------------

Sides = tuple[tuple[Any, Any], ...]  # of each test: left and right, each int64 or float64 [] or [L]
NEVER = np.inf
UNEQUAL = "compare with < or > in place of !=, which only one number ends; or mend the step"
EXACT = 2.0**53  # below it, a float64 holds every whole number


@dataclass(frozen=True)
class Outlook:
    """How a loop will go. rounds: how many it takes, those behind it and those before it.

    never: how many threads go round for ever. lane: of the first of these. why, try_: for it.
    """

    rounds: float
    never: int = 0
    lane: int = 0
    why: str = ""
    try_: str = ""


def outlook(
    tests: Iterable[Test], before: Sides, now: Sides, rounds: tuple[int, int], mask: Mask
) -> Outlook | None:
    """What the sides in two rounds tell; None if it is not known yet."""
    tests = tuple(tests)
    left = np.full(mask.lanes.shape, NEVER)
    for test, old, new in zip(tests, before, now, strict=True):
        found = _rounds_left(
            test.symbol, _difference(*old), _difference(*new), rounds[1] - rounds[0]
        )
        left = np.minimum(left, found)  # nan, where it is not known, stays
    left = np.where(mask.lanes, left, 0)
    if np.isnan(left).any():
        return None
    never = np.isinf(left)
    if not never.any():
        return Outlook(rounds[1] + float(np.max(left, initial=0)))
    lane = int(np.argmax(never))
    told = [_told(*parts, lane, rounds[1]) for parts in zip(tests, before, now, strict=True)]
    unequal = any(test.symbol == "!=" for test in tests)
    advice = UNEQUAL if unequal else "does the step go the right way? Look at its sign"
    return Outlook(NEVER, int(np.count_nonzero(never)), lane, "; ".join(told), advice)


def nearer(before: Sides, now: Sides, mask: Mask) -> bool:
    """Whether in every lane a side has come nearer to the other than it was."""
    found = np.zeros(mask.lanes.shape, bool)
    for old, new in zip(before, now, strict=True):
        found |= np.abs(_difference(*new)[0]) < np.abs(_difference(*old)[0])
    return bool((found | ~mask.lanes).all())


def _difference(left: Any, right: Any) -> tuple[Any, bool]:
    """left - right as float64, and whether both are integers; nan where that is not exact."""
    whole = left.dtype.kind in "iub" and right.dtype.kind in "iub"
    a, b = (np.asarray(v, np.float64) for v in (left, right))
    small = np.maximum(np.abs(a), np.abs(b)) < EXACT
    return np.where(small, a - b, np.nan), whole


def _rounds_left(symbol: str, old: tuple[Any, bool], new: tuple[Any, bool], apart: int) -> Any:
    """How often the comparison will still hold, by lane."""
    (before, _), (now, whole) = old, new
    step = (now - before) / apart
    if symbol in (">", ">="):
        now, step, symbol = -now, -step, {">": "<", ">=": "<="}[symbol]
    with np.errstate(all="ignore"):
        turns = -now / step
        if symbol == "!=":
            away = (turns < 0) | ((step == 0) & (now != 0))
            # of floats that come nearer it is not known whether they meet
            met = np.where(turns == np.round(turns), turns, NEVER) if whole else np.nan
            found = np.where(away, NEVER, np.where(now == 0, 0, met))
        else:
            turns = np.ceil(turns) if symbol == "<" else np.floor(turns) + 1
            found = np.where(step > 0, np.maximum(turns, 0), NEVER)
    return np.where(np.isnan(now) | np.isnan(step), np.nan, found)


def _told(test: Test, old: tuple[Any, Any], now: tuple[Any, Any], lane: int, turn: int) -> str:
    """Why a comparison will always hold, in words."""
    a, b, old_a, old_b = (_of_lane(v, lane) for v in (*now, *old))
    change, names = abs(a - b) - abs(old_a - old_b), (test.left, test.right)
    values = [
        f"{ast.unparse(side)} is {value:,}"
        for side, value in zip(names, (a, b), strict=True)
        if not isinstance(side, ast.Constant)
    ]
    if change > 0:
        way = "each round takes the two sides further apart"
    elif change == 0:
        way = "each round leaves the two sides as far apart"
    else:
        way = f"each round brings the two sides {-change:,} nearer, and they pass each other"
    when = "1 round" if turn == 1 else f"{turn:,} rounds"
    return f"`{test}` stays true. After {when} {' and '.join(values)}, and {way}"


def _of_lane(value: Any, lane: int) -> int | float:
    return (value[lane] if getattr(value, "ndim", 0) else value).item()
