"""Settings within their bounds: the checks that every chapter makes of what a caller gives.

An error has the course's three parts: what was given, with its figure; why it cannot be; what to
try. It needs the standard library alone and knows no chapter, so that all may use it.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class ThreeParts(Exception):
    """An error that says what happened, why, and what to try.

    Its arguments are the three, so that it can be made anew from them, as `pickle` does to bring it
    from one process to another.
    """

    def __init__(self, what: str, why: str, try_: str):
        self.what, self.why, self.try_ = what, why, try_
        super().__init__(what, why, try_)

    def __str__(self) -> str:
        return f"{self.what}\nWhy: {self.why}\nTry: {self.try_}"

    def belongs_to(self, which: str) -> None:
        """Say in the error itself of which of several things it is: "prompt 3: ..."."""
        self.what = f"{which}: {self.what}"
        self.args = (self.what, self.why, self.try_)


class SettingError(ThreeParts, ValueError):
    """A value that its setting cannot have."""


# What makes an error of three parts: a class such as `SettingError`, or another with its arguments.
Refusal = Callable[[str, str, str], Exception]


LARGEST = 2**63 - 1  # of 64 bits with a sign


def whole(
    name: str,
    value: Any,
    why: str,
    least: int = 1,
    most: int | None = None,
    error: Refusal = SettingError,
) -> int:
    """`value` as an int from `least` to `most`, both allowed. why: what the number is for.

    Without a `most`, 64 bits are the bound: no tensor, file or counter takes more. NumPy's integers
    are taken; a bool, a float and a text are not. Raises `error`.
    """
    if not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is not None and least <= number <= (LARGEST if most is None else most):
            return number
    wanted = f"{least:,} or more" if most is None else f"from {least:,} to {most:,}"
    raise error(f"{name} is {value!r:.60}", why, f"a whole number, {wanted}")


def real(
    name: str,
    value: Any,
    why: str,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
    error: Refusal = SettingError,
) -> float:
    """`value` as a finite float from `least` to `most`, both allowed, and above `above`.

    An infinite `least` or `most` is no bound. Raises `error` for nan, an infinity, or no number.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an int beyond the largest float
            number = math.inf
        inside = least <= number <= most and (above is None or number > above)
        if math.isfinite(number) and inside:
            return number
    raise error(f"{name} is {value!r:.60}", why, _range(least, most, above))


def share(name: str, value: Any, why: str, error: Refusal = SettingError) -> float:
    """`value` as a float from 0 to 1, both allowed. Raises `error`."""
    return real(name, value, why, 0.0, 1.0, error=error)


def texts(name: str, value: Any, error: Refusal = SettingError) -> list[str]:
    """`value` as a list of texts, which may be empty. Raises `error`.

    One str is refused: Python would take it letter by letter.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise error(
            f"{name}: {value!r:.60} was given where a list of texts was expected",
            "a text is a row of letters, and each would be taken for a text of its own"
            if isinstance(value, (str, bytes))
            else f"{type(value).__name__} holds no texts",
            f"[{value!r:.40}]" if isinstance(value, str) else '["one text", "another"]',
        )
    found = list(value)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise error(
                f"{name}: number {number} is {text!r:.60}, {type(text).__name__}",
                "each of them is a text",
                "a str; of bytes, data.decode()",
            )
    return found


def path(name: str, value: Any, error: Refusal = SettingError) -> Path:
    """`value` as a Path, from a Path or a str. Raises `error` for what names no file."""
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value:
        return Path(value)
    raise error(
        f"{name} is {value!r:.60}",
        "it names a file or a folder",
        'Path("runs/first.safetensors"), or the same as a str',
    )


def one_of(name: str, value: Any, known: Iterable[Any], why: str, error: Refusal = SettingError):
    """`value`, which is one of `known`. Raises `error` that lists them."""
    known = list(known)
    if not any(value is each or (type(value) is type(each) and value == each) for each in known):
        raise error(f"{name} is {value!r:.60}", why, f"one of {', '.join(map(str, known))}")
    return value


def _range(least: float, most: float, above: float | None) -> str:
    """In words: "a number above 0, at most 1"."""
    parts = [] if above is None else [f"above {above:g}"]
    if above is None and math.isfinite(least):
        parts.append(f"at least {least:g}")
    if math.isfinite(most):
        parts.append(f"at most {most:g}")
    return f"a finite number{' ' if parts else ''}{', '.join(parts)}"
