"""NumPy's ufuncs in a kernel: on numbers, and on whole arrays with one for the result. Unit 3.2.

`np.sin(x, out)` works element by element, each thread by itself, in the types of NumPy's loops.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.mathematics import NUMPY
from ..api.whole import element, indices
from ..errors import LaneError, UnsupportedFeature, described
from ..lanes.views import ArrayView

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


def call_ufunc(machine: Machine, mask: Mask, line: Line, ufunc: np.ufunc, *args: Any) -> Any:
    """What a call of a NumPy ufunc becomes."""
    name = f"np.{ufunc.__name__}"
    if ufunc not in NUMPY:
        raise _missing(name)
    inputs, results = args[: ufunc.nin], args[ufunc.nin :]
    if len(inputs) < ufunc.nin or len(results) > 1 or ufunc.nout > 1:
        raise LaneError(f"{name} takes {ufunc.nin} number(s), not {len(args)}")
    if not results:
        if any(isinstance(a, ArrayView) for a in inputs):
            raise LaneError(
                f"{name} of a whole array has no place for its result",
                f"give it an array to write to: {name}(x, out); or index the array",
            )
        return NUMPY[ufunc](*inputs)
    out = results[0]
    if not isinstance(out, ArrayView):
        raise LaneError(f"{name} writes to an array, not to {described(out)}")
    for index in indices(machine.typing, out):
        values = [element(machine, mask, a, index, out.ndim, line) for a in inputs]
        machine.store(mask, out, index, NUMPY[ufunc](*values), line)
    return out


def _missing(name: str) -> UnsupportedFeature:
    plain = name.removeprefix("np.")
    instead = _INSTEAD.get(plain) or (f"math.{plain}(x)" if hasattr(math, plain) else "")
    return UnsupportedFeature(
        f"{name} cannot be used in a kernel",
        "Numba has no version of it for a GPU, though it has one for the CPU",
        f"write {instead}, on each element" if instead else "write it with the math module",
    )


_INSTEAD = {
    "absolute": "abs(x)",
    "add": "a + b",
    "ceil": "math.ceil(x), which gives a float",
    "floor": "math.floor(x), which gives a float",
    "floor_divide": "a // b",
    "multiply": "a * b",
    "power": "a ** b",
    "remainder": "a % b",
    "rint": "round(x)",
    "subtract": "a - b",
}
