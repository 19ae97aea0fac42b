"""NumPy's ufuncs in a kernel: on numbers, and on whole arrays with one for the result. Unit 3.2.

`np.sin(x, out)` works through the arrays element by element, each thread by itself. Types are those
of NumPy's own loops, which Numba takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError, described
from ..lanes import arithmetic
from ..lanes.views import ArrayView
from .functions import FUNCTIONS
from .whole import element, indices

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


def call_ufunc(machine: Machine, mask: Mask, line: Line, ufunc: np.ufunc, *args: Any) -> Any:
    """What a call of a NumPy ufunc becomes."""
    name = f"np.{ufunc.__name__}"
    inputs, results = args[: ufunc.nin], args[ufunc.nin :]
    if len(inputs) < ufunc.nin or len(results) > 1 or ufunc.nout > 1:
        raise LaneError(f"{name} takes {ufunc.nin} number(s), not {len(args)}")
    if not results:
        if any(isinstance(a, ArrayView) for a in inputs):
            raise LaneError(
                f"{name} of a whole array has no place for its result",
                f"give it an array to write to: {name}(x, out); or index the array",
            )
        arithmetic.need_numbers(name, *inputs)
        operation = FUNCTIONS.get(ufunc, ufunc)
        return operation(*inputs)
    out = results[0]
    if not isinstance(out, ArrayView):
        raise LaneError(f"{name} writes to an array, not to {described(out)}")
    for index in indices(machine.typing, out):
        values = [element(machine, mask, a, index, out.ndim, line) for a in inputs]
        machine.store(mask, out, index, ufunc(*values), line)
    return out
