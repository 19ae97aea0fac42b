"""A number between two bounds, character by character. Unit 4.3.

Of what has come - "-12" or "3.4" - only so much matters: whether some number that begins so lies
within the bounds. Digits behind a point leave an interval, 3.4 to 3.5; more digits before it leave
one for each further digit, 12, 120 to 129, 1200 to 1299. All is exact, in fractions.

Numbers are spelled without exponent. A reader rounds what it reads to the next float, so that a
bound which rounding could cross is moved inwards, to a multiple of 10^-20.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from .frames import Choice, Frame, Reach, Stack

DIGITS_BEFORE, DIGITS_BEHIND = 40, 24
FINEST = 10**20
BEGUN = re.compile(
    rb"-?(0|[1-9]\d{0,%d})?|-?(0|[1-9]\d{0,%d})\.\d{0,%d}"
    % (DIGITS_BEFORE - 1, DIGITS_BEFORE - 1, DIGITS_BEHIND)
)


@dataclass(eq=False)
class Between(Choice):
    """A number from `least` to `most`, both allowed; None where there is no bound.

    multiple: an integer is one of this one's multiples.
    """

    least: Fraction | None
    most: Fraction | None
    integer: bool
    multiple: int = 1
    needs = 0

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        yield from Begun(self, b"").step(byte)

    def has(self, value: Fraction) -> bool:
        """Whether the number lies within the bounds."""
        if self.integer and value % self.multiple:
            return False
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    def has_any(self, begun: bytes) -> bool:
        """Whether a number that begins so lies within the bounds."""
        negative, digits = begun.startswith(b"-"), begun.lstrip(b"-").decode()
        low, high = self.least, self.most
        if negative:  # by its size
            low, high = (None if x is None else -x for x in (high, low))
        low = max(low or Fraction(0), Fraction(0))
        if self.integer:
            low, high = Fraction(math.ceil(low)), None if high is None else math.floor(high)

        def meets(first: Fraction, behind: Fraction) -> bool:
            """Whether [first, behind) has a number within the bounds."""
            start = max(first, low)
            if self.integer:
                start += -start % self.multiple
            return start < behind and (high is None or start <= high)

        if not digits:
            return high is None or meets(low, Fraction(high) + 1)
        if "." in digits:
            step = Fraction(1, 10 ** len(digits.partition(".")[2]))
            value = Fraction(digits.rstrip("."))
            return meets(value, value + step)
        value = int(digits)
        more = DIGITS_BEFORE - len(digits) if value else 0  # nothing follows a leading zero
        return any(
            meets(Fraction(value * 10**j), Fraction((value + 1) * 10**j)) for j in range(more + 1)
        )


@dataclass(frozen=True, slots=True)
class Begun(Frame):
    """Inside a number with bounds, behind `text`."""

    bounds: Between
    text: bytes

    def step(self, byte: int) -> Iterator[Stack]:
        text = self.text + bytes((byte,))
        if byte not in b"-.0123456789" or not BEGUN.fullmatch(text):
            return
        if (byte == ord(".") and self.bounds.integer) or not self.bounds.has_any(text):
            return
        yield (Begun(self.bounds, text),)
        if byte not in b"-." and self.bounds.has(Fraction(text.decode())):
            yield ()

    def within(self, reach: Reach) -> Begun:
        return self


def bound(value: float, is_least: bool, excluded: bool, integer: bool) -> Fraction:
    """A bound of a schema as the first or last number that may come. Raises OverflowError."""
    exact = Fraction(str(value))
    inwards = math.ceil if is_least else math.floor
    if integer:
        found = Fraction(inwards(exact))
        if excluded and found == exact:
            found += 1 if is_least else -1
        return found
    nearest = float(value)
    if excluded or Fraction(nearest) != Fraction(value):  # what rounds to it must not come either
        nearest = math.nextafter(nearest, math.inf if is_least else -math.inf)
        exact = Fraction(str(nearest))
    return Fraction(inwards(exact * FINEST), FINEST)
