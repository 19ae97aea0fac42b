"""Atomic operations: read, change and write one element in one step. Units 3.2 and 3.6.

Lanes that meet on one element take turns, in the order of their numbers; each gets the value from
before its turn. A GPU keeps the turns and promises no order: a sum of floats may differ there in
its last bits from launch to launch.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkers.waiting import contents
from ..errors import LaneError, UnsupportedFeature, described
from ..lanes.arithmetic import convert
from ..lanes.views import ArrayView, converted
from .intrinsics import Intrinsic

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine

Change = Callable[..., Any]  # (old [n], value [n], ...) -> new [n], in the array's dtype


def _inc(old: Any, limit: Any) -> Any:
    return np.where(old >= limit, old.dtype.type(0), old + old.dtype.type(1))


def _dec(old: Any, limit: Any) -> Any:
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


class _Extreme:
    """Numba's max and min: a NaN is never stored, and one that is there stays."""

    def __init__(self, ufunc: np.ufunc):
        self.ufunc = ufunc  # fmax or fmin, which pass over a NaN

    def __call__(self, old: Any, value: Any) -> Any:
        return np.where(old == old, self.ufunc(old, value), old)

    def accumulate(self, values: np.ndarray) -> np.ndarray:
        if values[0] != values[0]:
            return np.full_like(values, values[0])
        return self.ufunc.accumulate(values)


CHANGES: dict[str, Change] = {
    "add": np.add,
    "sub": np.subtract,
    "max": _Extreme(np.fmax),
    "min": _Extreme(np.fmin),
    "nanmax": np.fmax,
    "nanmin": np.fmin,
    "and_": np.bitwise_and,
    "or_": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, value: value,
    "inc": _inc,
    "dec": _dec,
}
# the types that Numba has each for; no GPU changes 8 bits in one step
_ANY = frozenset(map(np.dtype, ("i4", "i8", "u4", "u8", "f4", "f8")))
_WHOLE = frozenset(map(np.dtype, ("i4", "i8", "u4", "u8")))
_UNSIGNED = frozenset(map(np.dtype, ("u4", "u8")))
_TYPES = dict.fromkeys(("and_", "or_", "xor", "exch", "cas", "compare_and_swap"), _WHOLE)
_TYPES |= dict.fromkeys(("inc", "dec"), _UNSIGNED)
_FLOAT_REDUCTIONS = {"add", "sub"}  # on floats the others are loops of compare-and-swap
_CROWD = 32  # lanes on one element from which on they are served in one call


def _operation(name: str) -> Intrinsic:
    def run(
        machine: Machine,
        mask: Mask,
        line: Line,
        array: Any,
        index: Any,
        value: Any,
        used: bool = True,
    ) -> np.ndarray:
        target = _target(machine, mask, line, name, array, index)
        whole = target.dtype.kind in "iu" or name in _FLOAT_REDUCTIONS
        if not used and whole and name != "exch":
            machine.reduction(mask, target, line)
        return apply(machine, mask, line, target, CHANGES[name], value)

    return Intrinsic(f"atomic.{name}", run, gives=True)


def _cas(
    machine: Machine, mask: Mask, line: Line, array: Any, index: Any, old: Any, value: Any
) -> np.ndarray:
    """`atomic.cas(array, index, old, value)`: store value where the element is old."""
    target = _target(machine, mask, line, "cas", array, index)
    return _exchange_if_equal(machine, mask, line, target, old, value)


def _compare_and_swap(
    machine: Machine, mask: Mask, line: Line, array: Any, old: Any, value: Any
) -> np.ndarray:
    """`atomic.compare_and_swap(array, old, value)`: cas on the first element."""
    if not isinstance(array, ArrayView):
        raise LaneError(f"atomic.compare_and_swap takes an array, not {described(array)}")
    zeros = (np.int64(0),) * array.ndim
    target = _target(machine, mask, line, "compare_and_swap", array, zeros)
    return _exchange_if_equal(machine, mask, line, target, old, value)


def _exchange_if_equal(
    machine: Machine, mask: Mask, line: Line, target: ArrayView, old: Any, value: Any
) -> np.ndarray:
    def change(now: Any, new: Any, wanted: Any) -> Any:
        return np.where(now == wanted, new, now)

    return apply(machine, mask, line, target, change, value, convert(old, target.dtype))


def _target(
    machine: Machine, mask: Mask, line: Line, name: str, array: Any, index: Any
) -> ArrayView:
    if not isinstance(array, ArrayView):
        raise LaneError(
            f"atomic.{name} takes an array first, not {described(array)}",
            f"cuda.atomic.{name}(array, index, value)",
        )
    at = index if isinstance(index, tuple) else (index,)
    target = array.locate(machine, mask, at, line)
    if target.ndim:
        raise LaneError(
            f"atomic.{name} changes one element, and {array.name} has {array.ndim} axes",
            "give one index for each axis, as a tuple",
        )
    takes = _TYPES.get(name, _ANY)
    if target.dtype not in takes:
        raise UnsupportedFeature(
            f"atomic.{name} on {target.name}, which holds {target.dtype}",
            f"Numba has it for {_listed(takes)}, and for no other type",
            f"use an array of np.{'uint32' if takes is _UNSIGNED else 'int32'}"
            + (" or np.float32" if takes is _ANY else ""),
        )
    return target


def _listed(dtypes: frozenset) -> str:
    names = sorted(map(str, dtypes), key=lambda n: (n.strip("0123456789"), len(n), n))
    return f"{', '.join(names[:-1])} and {names[-1]}"


def apply(
    machine: Machine,
    mask: Mask,
    line: Line,
    target: ArrayView,
    change: Change,
    *operands: Any,
) -> np.ndarray:
    """Change the element of each active lane in turn. Returns the values from before: [L]."""
    before = np.zeros(machine.size, target.dtype)
    if machine.typing:
        converted(operands[0], target.dtype, target.name)
        return before
    machine.atomic(mask, target, line)
    if machine.watching:
        machine.seen, held = target, contents(target, mask)
    lanes = np.flatnonzero(mask.lanes)
    at = np.broadcast_to(target.start, (machine.size,))[lanes]
    values = [
        np.broadcast_to(converted(v, target.dtype, target.name), (machine.size,))[lanes]
        for v in operands
    ]
    order = np.argsort(at, kind="stable")
    places = at[order]
    heads = np.flatnonzero(np.r_[True, places[1:] != places[:-1]]) if places.size else places
    lengths = np.diff(np.r_[heads, places.size])
    crowded = lengths > _CROWD if hasattr(change, "accumulate") else np.zeros(lengths.size, bool)
    for head, length in zip(heads[crowded], lengths[crowded], strict=True):
        chosen = order[head : head + length]
        place = places[head]
        # old, old op v0, (old op v0) op v1, ...: one after another, as the lanes take turns
        steps = change.accumulate(np.r_[target.window[place], values[0][chosen]])
        before[lanes[chosen]], target.window[place] = steps[:-1], steps[-1]
    heads, lengths = heads[~crowded], lengths[~crowded]
    for turn in range(int(lengths.max()) if lengths.size else 0):
        chosen = order[heads[lengths > turn] + turn]  # at most one lane an element
        old = target.window[at[chosen]]
        before[lanes[chosen]] = old
        target.window[at[chosen]] = change(old, *(v[chosen] for v in values))
    if machine.watching and contents(target, mask) != held:
        machine.changed()
    return before


atomic = types.SimpleNamespace(
    **{name: _operation(name) for name in CHANGES},
    cas=Intrinsic("atomic.cas", _cas),
    compare_and_swap=Intrinsic("atomic.compare_and_swap", _compare_and_swap),
)
