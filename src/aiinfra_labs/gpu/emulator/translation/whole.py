"""Work on whole arrays in a kernel: every thread goes through all the elements. Unit 3.2."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError
from ..lanes import arithmetic
from ..lanes.views import ArrayView

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


def indices(typing: bool, out: ArrayView) -> Iterator[tuple]:
    """Every index of `out`, in C's order; one while types are inferred."""
    if typing:
        yield (np.int64(0),) * out.ndim
        return
    if any(isinstance(n, np.ndarray) for n in out.shape):
        raise LaneError(
            f"{out.name} has another length in each thread",
            "write the loop over its elements",
        )
    if math.prod(map(int, out.shape)):
        for index in np.ndindex(*map(int, out.shape)):
            yield tuple(map(np.int64, index))


def element(machine: Machine, mask: Mask, value: Any, index: tuple, ndim: int, line: Line) -> Any:
    """The element of an operand that meets `index` of the result (NumPy's broadcasting)."""
    if not isinstance(value, ArrayView):
        arithmetic.need_numbers("an operation on arrays", value)
        return value
    if value.ndim > ndim:
        raise LaneError(f"{value.name} has more axes than the array for the result")
    own = index[ndim - value.ndim :]
    at = tuple(
        np.int64(0) if not isinstance(n, np.ndarray) and n == 1 else i
        for n, i in zip(value.shape, own, strict=True)
    )
    return machine.load(mask, value, at, line)
