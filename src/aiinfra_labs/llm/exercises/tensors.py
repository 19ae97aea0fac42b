"""How a learner's tensors are compared. Unit 1.2; later units grade with it, too.

`aiinfra_labs.course` compares NumPy arrays, for it knows nothing of torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_tensor(
    r: Any, got: Any, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> None:
    """Fail the requirement `r` unless `got` is a tensor of this shape and dtype."""
    kind = "None" if got is None else f"a {type(got).__name__}"
    r.that(
        isinstance(got, Tensor),
        what=f"{name} is {kind}, expected a tensor of shape {shape}",
        why="a function without a return statement returns None"
        if got is None
        else "what comes after works on tensors",
        try_="return the tensor at the end of the function",
        slip=True,
    )
    r.that(
        tuple(got.shape) == tuple(shape),
        what=f"{name} has shape {tuple(got.shape)}, expected {tuple(shape)}",
        why="each axis must have the length that was asked for",
        try_="print the shapes of the tensors that it is made from",
    )
    r.that(
        got.dtype == dtype,
        what=f"{name} has dtype {got.dtype}, expected {dtype}",
        why=_why_dtype(got.dtype, dtype),
        try_="print the dtype after each line: where does it become another?",
    )


def _why_dtype(got: torch.dtype, wanted: torch.dtype) -> str:
    if not got.is_floating_point:
        return "whole numbers have no fractions: what comes after would be rounded to 0 or 1"
    if got.itemsize < wanted.itemsize:
        return f"{got.itemsize} bytes hold fewer digits: each number was rounded"
    return f"a number takes {got.itemsize} bytes where {wanted.itemsize} were asked for"


def equal(
    r: Any,
    got: Any,
    expected: Tensor,
    name: str,
    tolerance: float = 1e-4,
    why: str = "",
    try_: str = "",
) -> None:
    """Fail the requirement `r` unless `got` is a tensor of expected's shape and values."""
    is_tensor(r, got, name, tuple(expected.shape), expected.dtype)
    r.equal(
        array(got),
        array(expected),
        name=name,
        tolerance=tolerance,
        dtype=False,
        why=why,
        try_=try_,
    )


def near(got: Any, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether `got` has expected's shape and values: to tell which mistake was made."""
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return False
    return bool(torch.allclose(got.detach().double(), expected.double(), atol=tolerance))


def array(x: Tensor) -> np.ndarray:
    """On the host, and in float32 where NumPy has no such type, as for bfloat16."""
    x = x.detach().cpu()
    return x.numpy() if x.dtype in (torch.float32, torch.float64) else x.float().numpy()


def random(*shape: int, seed: int = 0) -> Tensor:
    """The same normal numbers on every machine: float32."""
    numbers = np.random.default_rng((seed, *shape)).normal(size=shape)
    return torch.from_numpy(numbers.astype(np.float32))
