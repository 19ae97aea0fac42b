"""Whether a learner has begun: a function whose body does nothing is a starter, not an attempt."""

from __future__ import annotations

import dis
import inspect
from types import CodeType
from typing import Any

_IDLE = {"RESUME", "NOP", "CACHE", "COPY_FREE_VARS", "MAKE_CELL"}


def is_starter(obj: Any) -> bool:
    """True for a function or kernel with only a docstring, `pass`, `...` or comments in it.

    So is a class all of whose own methods are starters, and the values None and Ellipsis.
    """
    if obj is None or obj is ...:
        return True
    function = getattr(obj, "py_func", obj)
    if inspect.isclass(function):
        methods = [m for m in vars(function).values() if inspect.isfunction(m)]
        return bool(methods) and all(map(is_starter, methods))
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    return isinstance(code, CodeType) and _does_nothing(code)


def _does_nothing(code: CodeType) -> bool:
    # The compiler drops docstrings, `pass` and `...`: what is left returns None and no more.
    steps = [(i.opname, i.argval) for i in dis.get_instructions(code) if i.opname not in _IDLE]
    return steps in (
        [("LOAD_CONST", None), ("RETURN_VALUE", None)],
        [("RETURN_CONST", None)],
    )
