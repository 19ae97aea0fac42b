"""`cuda.fp16`: arithmetic on half precision by name, as the hardware has it. Unit 3.7.

Each result is rounded to float16 once, to the nearest, as CUDA's `__hadd` and its like do. The
functions from `hsin` on are computed in float32 first, so their last bit may differ from a GPU's.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lanes.arithmetic import convert, need_numbers
from .bits import fma_of_halves
from .intrinsics import Intrinsic

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine

HALF = np.dtype(np.float16)
# what a profiler counts, and as what
_COUNTED = {"hadd": "add", "hsub": "add", "hmul": "mul", "hdiv": "div", "hsqrt": "sqrt"}


def _of_halves(name: str, function: Callable[..., Any]) -> Intrinsic:
    def run(machine: Machine, mask: Mask, line: Line, *args: Any) -> Any:
        need_numbers(f"fp16.{name}", *args)
        result = function(*(convert(a, HALF) for a in args))
        return machine.flop(mask, result, line, _COUNTED[name]) if name in _COUNTED else result

    return Intrinsic(f"fp16.{name}", run)


def _in_single(ufunc: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda a: ufunc(a.astype(np.float32)).astype(HALF)


def _hfma(machine: Machine, mask: Mask, line: Line, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    return fma_of_halves(machine, mask, line, *(convert(v, HALF) for v in (a, b, c)))


_OF_TWO: dict[str, Callable[..., Any]] = {
    "hadd": np.add,
    "hsub": np.subtract,
    "hmul": np.multiply,
    "hdiv": np.divide,
    "hmax": np.fmax,
    "hmin": np.fmin,
    "heq": np.equal,
    "hne": np.not_equal,
    "hlt": np.less,
    "hle": np.less_equal,
    "hgt": np.greater,
    "hge": np.greater_equal,
}
_OF_ONE: dict[str, Callable[..., Any]] = {
    "hneg": np.negative,
    "habs": np.abs,
    "hceil": np.ceil,
    "hfloor": np.floor,
    "htrunc": np.trunc,
    "hrint": np.rint,
    "hsin": _in_single(np.sin),
    "hcos": _in_single(np.cos),
    "hexp": _in_single(np.exp),
    "hexp2": _in_single(np.exp2),
    "hexp10": _in_single(lambda x: np.power(np.float32(10), x)),
    "hlog": _in_single(np.log),
    "hlog2": _in_single(np.log2),
    "hlog10": _in_single(np.log10),
    "hsqrt": _in_single(np.sqrt),
    "hrsqrt": _in_single(lambda x: 1 / np.sqrt(x)),
    "hrcp": _in_single(lambda x: 1 / x),
}
fp16 = types.SimpleNamespace(
    **{name: _of_halves(name, f) for name, f in _OF_TWO.items()},
    **{name: _of_halves(name, f) for name, f in _OF_ONE.items()},
    hfma=Intrinsic("fp16.hfma", _hfma),
)
