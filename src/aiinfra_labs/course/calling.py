"""Calling a learner's function: what every exercise asks of a call, whatever it computes.

The arguments are the caller's: they are as they were, unless the exercise says that one may be
changed. The result is made of plain values, whose `==` nobody wrote by hand, and where the exercise
says so, it is new: it shares no memory with an argument.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np

from .guard import is_learners
from .parts import Parts, a_kind

_DEEP = 6  # levels of lists in lists that are looked at
_MOST = 20_000  # elements of a result that are looked at
# Only these keep a list or an array; what else an argument may be, such as a model, counts itself.
_HOLDS = (list, dict, set, bytearray, np.ndarray)
_EQUALITY = ("__eq__", "__ne__", "__bool__", "__array__", "__array_ufunc__")
# What a comparison with a tolerance does: |got - expected| <= limit, on numbers, arrays, tensors.
_OPERATORS = (
    *_EQUALITY,
    *("__lt__", "__le__", "__gt__", "__ge__", "__abs__", "__neg__", "__add__", "__radd__"),
    *("__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__"),
    *("__float__", "__int__", "__index__", "__round__"),
    *("__array_function__", "__torch_function__", "__torch_dispatch__"),
)


class Spoilt(Exception):
    """A call that breaks what holds for every exercise. Carries its three parts."""

    def __init__(self, parts: Parts):
        super().__init__(parts)
        self.what, self.why, self.try_ = parts.what, parts.why, parts.try_

    def __str__(self) -> str:
        return self.what


def watched(
    function: Callable[..., Any],
    arguments: Sequence[str],
    changes: Collection[str] = (),
    new: bool = False,
) -> Callable[..., Any]:
    """`function`, which raises `Spoilt` when a call of it spoils its arguments or its result.

    arguments: the names of the parameters, in order. changes: those that a call may change.
    new: the result must share no memory with an argument.
    """

    def call(*given: Any, **named: Any) -> Any:
        known = {**dict(zip(arguments, given, strict=False)), **named}
        before = {name: _kept(value) for name, value in known.items() if name not in changes}
        result = function(*given, **named)
        for name, kept in before.items():
            if not _same(kept, known[name]):
                raise Spoilt(_changed(name, kept, known[name]))
        for part in {id(type(part)): part for part in _parts(result)}.values():
            if name := _own_operator(type(part)):
                raise Spoilt(_by_hand(part, name))
        if new:
            for name, value in known.items():
                if _shared(result, value):
                    raise Spoilt(_not_new(name))
        return result

    call.__name__ = getattr(function, "__name__", type(function).__name__)
    call.__doc__ = getattr(function, "__doc__", None)
    call.unwatched = function
    return call


def unwatched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The learner's own function, for a body that measures the call: what it allocates."""
    return getattr(function, "unwatched", function)


# --- arguments -----------------------------------------------------------------------------------


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # course knows nothing of torch: it is there, or was not used
    return torch is not None and isinstance(value, torch.Tensor)


def _kept(value: Any, depth: int = _DEEP) -> Any:
    """A copy of what a call could change in `value`; any other object stands for itself."""
    if _is_tensor(value):
        return value.detach().clone()
    if type(value) is np.ndarray:
        return value.copy()
    if depth and type(value) in (list, tuple):
        return type(value)(_kept(item, depth - 1) for item in value)
    if depth and type(value) in (dict, Counter, defaultdict):
        return {key: _kept(item, depth - 1) for key, item in value.items()}
    if type(value) in (set, bytearray):
        return type(value)(value)
    return value


def _same(kept: Any, now: Any) -> bool:
    """Whether `now` is what `_kept` copied: NaN is the same as NaN."""
    if kept is now:
        return True
    if _is_tensor(kept):
        return _same_elements(kept, now.detach()) if _is_tensor(now) else False
    if isinstance(kept, np.ndarray):
        return type(now) is np.ndarray and _same_elements(kept, now)
    if type(kept) in (list, tuple):
        if type(now) is not type(kept) or len(now) != len(kept):
            return False
        return all(_same(a, b) for a, b in zip(kept, now, strict=True))
    if isinstance(kept, dict):
        if list(kept) != list(now):
            return False
        return all(_same(kept[key], now[key]) for key in kept)
    if type(kept) in (set, bytearray, int, float, str, bytes, bool):
        return type(kept) is type(now) and (kept == now or (kept != kept and now != now))
    return False


def _same_elements(kept: Any, now: Any) -> bool:
    if kept.shape != now.shape or kept.dtype != now.dtype:
        return False
    equal = kept == now
    if isinstance(kept, np.ndarray):
        equal = equal | _nan(kept) & _nan(now)
    elif kept.is_floating_point():
        equal = equal | (kept != kept) & (now != now)
    return bool(equal.all())


def _nan(x: np.ndarray) -> Any:
    return np.isnan(x) if x.dtype.kind in "fc" else False


def _changed(name: str, kept: Any, now: Any) -> Parts:
    what = f"{name}, which was given to your function, has changed"
    shape = getattr(kept, "shape", None)
    if shape is not None and shape != getattr(now, "shape", None):
        what += f": its shape was {tuple(shape)} and is {tuple(now.shape)}"
    elif shape is None:
        what += f": it was {kept!r:.60} and is {now!r:.60}"
    try_ = f"work on a copy, such as list({name}) or dict({name})"
    if shape is not None:
        copy = f"{name}.clone()" if _is_tensor(kept) else f"{name}.copy()"
        try_ = f"`-=` and its like change the caller's own: begin with {copy}, or use a new name"
    return Parts(what, "the caller still needs it, and finds other values there", try_)


# --- results -------------------------------------------------------------------------------------


def _parts(value: Any) -> Iterator[Any]:
    """The value, and what its lists, tuples and dicts hold: level by level, `_MOST` in all."""
    level, seen = [value], 0
    for _ in range(_DEEP):
        below: list[Any] = []
        for part in level:
            yield part
            seen += 1
            if seen == _MOST:
                return
            if isinstance(part, list | tuple | set):
                below.extend(itertools.islice(part, _MOST))
            elif isinstance(part, Mapping):
                below.extend(itertools.islice(itertools.chain(part, part.values()), _MOST))
        level = below


def _own_operator(value_type: type) -> str:
    """The operator that a learner's class wrote, and that would decide about this value, or ""."""
    for kind in value_type.__mro__:
        for name in _OPERATORS:
            member = vars(kind).get(name)
            code = getattr(getattr(member, "__func__", member), "__code__", None)
            if code is not None and is_learners(code.co_filename) and not _made(kind, name, code):
                return name
    return ""


def _made(kind: type, name: str, code: CodeType) -> bool:
    """Whether `dataclass` made it: what it makes compares the fields."""
    if not dataclasses.is_dataclass(kind):
        return False
    fields = [field.name for field in dataclasses.fields(kind) if field.compare]
    same = getattr(dataclasses.make_dataclass("_", fields, order=True), name, None)
    theirs = getattr(same, "__code__", None)
    return theirs is not None and all(
        getattr(code, part) == getattr(theirs, part) for part in ("co_code", "co_names")
    )


def _by_hand(value: Any, name: str) -> Parts:
    return Parts(
        f"the result holds {a_kind(value)}, whose {'==' if name in _EQUALITY else name} was "
        "written by hand",
        "a result is compared with the expected one by what Python, NumPy or PyTorch does with its "
        "values, so it must be a value of theirs",
        "return plain numbers, strings, lists, tuples or arrays",
    )


def _shared(result: Any, value: Any) -> bool:
    """Whether a part of the result lies in memory that a part of the argument has, too."""
    mine = [part for part in _parts(result) if isinstance(part, _HOLDS) or _is_tensor(part)]
    theirs = [part for part in _parts(value) if isinstance(part, _HOLDS) or _is_tensor(part)]
    return any(_overlap(a, b) for a in mine for b in theirs)


def _overlap(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if _is_tensor(a) and _is_tensor(b):
        return a.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.may_share_memory(a, b) and np.shares_memory(a, b)
    return False


def _not_new(name: str) -> Parts:
    return Parts(
        f"the result shares its memory with {name}",
        f"whoever changes the result changes {name}, too, which the caller still needs",
        f"return a new one in every case: {name}.clone() for a tensor, {name}.copy() for an array",
    )
