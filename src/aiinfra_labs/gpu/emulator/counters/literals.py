"""What a compiler makes of an operation with a number written in the source. Units 3.2 and 3.8.

Seen in the machine code that NVIDIA's compiler makes for sm_90: `x * 2` is the sum x + x, and
`x / 4` the product x * 0.25. And `out[i] = a[i] * 2.0` is one operation on float32 where a and out
hold it, though Numba types it as float64: a float32 holds 2.0 exactly, and then rounding the result
in float64 gives the same bits. Of `a[i] * 0.1`, `a[i] * 0.5 + 1.0` and `a[i] + blockIdx.x` it is
not so.
"""

from __future__ import annotations

import ast
import math

import numpy as np

# what a profiler counts, by the machine's name for it; a compiler makes an fma of some pairs
FLOPS = {ast.Add: "add", ast.Sub: "add", ast.Mult: "mul", ast.Div: "div"}


def compiled_as(node: ast.BinOp) -> str:
    """What the operation is counted as: "" where it is none on floating-point numbers, and where
    both sides are numbers, for then it is done before the kernel runs."""
    left, right = _number(node.left), _number(node.right)
    if left is not None and right is not None:
        return ""
    if isinstance(node.op, ast.Mult) and 2 in (left, right):
        return "add"
    if isinstance(node.op, ast.Div) and right and abs(math.frexp(right)[0]) == 0.5:
        return "mul"  # by 1 / right, which is exact for a power of two
    return FLOPS.get(type(node.op), "")


def with_literal(node: ast.expr) -> int | None:
    """0 or 1: the side that is no literal, where the other one is a number that a float32 holds."""
    if not isinstance(node, ast.BinOp) or type(node.op) not in FLOPS:
        return None
    left, right = _number(node.left), _number(node.right)
    if (left is None) == (right is None):
        return None
    number = right if left is None else left
    if float(np.float32(number)) != number:
        return None
    return 0 if left is None else 1


def _number(node: ast.expr) -> float | None:
    """A number as it is written, with its sign."""
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as number):
            return float(number) if abs(number) < 1e300 else None
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _number(operand)
            return None if inner is None else -inner
    return None
