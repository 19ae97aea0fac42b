"""The named requirements of an exercise: `with require("adds vectors of any length") as r`."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Iterator
from typing import Any

from .comparing import Measure, difference, is_whole, shown
from .guard import Alarm, TimeLimit, explain
from .limits import Intact
from .parts import Parts, a_kind
from .results import Outcome

_AFTER_A_STOP = 2.0  # seconds for each requirement once a loop had to be stopped


class Unmet(Exception):
    """A requirement does not hold. Ends its block; the requirements after it still run."""

    def __init__(self, parts: Parts):
        super().__init__(parts)
        self.parts = parts

    def __str__(self) -> str:
        return self.parts.what


class Requirement:
    """What `with require(...) as r` gives: comparisons that fail the requirement, in three parts.

    The first that fails ends the block, so inputs are tried from the smallest up.
    """

    def __init__(self, name: str):
        self.name, self.label = name, ""

    @contextlib.contextmanager
    def input(self, label: str) -> Iterator[None]:
        """Names the input that the block tries; a failure within is shown with it."""
        before, self.label = self.label, label
        yield
        self.label = before  # not reached on a failure, which keeps its label

    def equal(
        self,
        got: Any,
        expected: Any,
        why: str = "",
        try_: str = "",
        *,
        name: str = "the result",
        tolerance: float = 0.0,
        dtype: bool = True,
    ) -> None:
        """`got` must equal `expected`; arrays in shape, dtype (unless `dtype=False`) and values.

        `tolerance` is absolute below 1 and relative above. `why` and `try_` are said of wrong
        values; a wrong type, shape or dtype has its own.
        """
        found = difference(got, expected, name, Measure(tolerance, dtype, why, try_))
        if found is not None:
            raise Unmet(found)

    def that(
        self, condition: Any, what: str, why: str = "", try_: str = "", *, slip: bool = False
    ) -> None:
        """`condition` must be true; `what` says, with the figures, what is the case when not.

        slip: no hint is spent on it, as on a result of a wrong type.
        """
        if not condition:
            raise Unmet(Parts(what, why, try_, slip=slip))

    def whole(self, values: Any, name: str = "the result") -> list[int]:
        """Each of the values (or the one) must be a whole number: no bool, no float, no text.

        An int, NumPy's or a tensor's will do. Returns them as ints.
        """
        given = list(values) if isinstance(values, Iterable) and not is_whole(values) else [values]
        for value in given:
            if not is_whole(value):
                raise Unmet(
                    Parts(
                        f"{name} holds {shown(value)}, {a_kind(value)}",
                        "whole numbers are asked for: a float such as 3.0, a True and a text that "
                        "reads like a number are none",
                        "print the value and its type; // divides without a fraction",
                        slip=True,
                    )
                )
        return [operator.index(value) for value in given]

    def at_most(self, got: float, limit: float, what: str, why: str = "", try_: str = "") -> None:
        """A count must not exceed `limit`; `what` is what is counted ("sectors per request")."""
        if got > limit:
            raise Unmet(Parts(f"{got:,g} {what}, at most {limit:,g} allowed", why, try_))


class Require:
    """Collects the outcomes of an exercise's requirements. Called with a name, gives a block.

    The requirement named `central` gives what the others leave, which give 1 point each. Without
    one the points are shared equally, less those that are given by `points=`.
    """

    def __init__(self, alarm: Alarm, central: str = ""):
        self._alarm, self._stopped, self._central = alarm, False, central
        self._intact = Intact()
        self._seen: list[tuple[Requirement, Parts | None, float | None]] = []

    @contextlib.contextmanager
    def __call__(self, name: str, points: float | None = None) -> Iterator[Requirement]:
        requirement = Requirement(name)
        seconds = _AFTER_A_STOP if self._stopped else self._alarm.seconds
        caught: BaseException | None = None
        try:
            self._alarm.restart(seconds)
            yield requirement
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            self._alarm.on = False
            caught = error
        finally:
            self._alarm.on = False  # first of all: what follows is not the learner's to be stopped
            self._hush()
            replaced = self._intact.mend()
        failure = None
        if isinstance(caught, Unmet):
            failure = caught.parts
        elif caught is not None:
            self._stopped = self._stopped or isinstance(caught, TimeLimit)
            failure = explain(caught, seconds)
        del caught  # its traceback holds this frame
        if points is None and self._central and name != self._central:
            points = 1.0
        self._seen.append((requirement, replaced or failure, points))
        self._alarm.restart()

    def _hush(self) -> None:
        """No alarm from here on, not even one that was under way."""
        while True:
            try:
                return self._alarm.hush()
            except TimeLimit:
                continue

    def outside(self, error: BaseException) -> None:
        """An exception between the blocks ends the exercise, and costs all of its points."""
        self._hush()
        self.spoilt(explain(error, self._alarm.seconds))

    def end(self) -> None:
        """What was replaced between the blocks is put back, and costs all of the points, too."""
        self._hush()
        replaced = self._intact.mend()
        if replaced is not None:
            self.spoilt(replaced)

    def spoilt(self, failure: Parts) -> None:
        """No requirement counts: something went wrong with the check as a whole."""
        self._seen = [(r, f, 0.0) for r, f, _ in self._seen]
        self._seen.append((Requirement("runs to its end"), failure, None))

    def outcomes(self, total: float) -> tuple[Outcome, ...]:
        """Every requirement in turn; `total` is what the exercise gives."""
        given = sum(points for *_, points in self._seen if points is not None)
        sharing = sum(points is None for *_, points in self._seen)
        share = max(0.0, total - given) / sharing if sharing else 0.0
        found = []
        for requirement, failure, points in self._seen:
            worth = share if points is None else points
            if failure is None:
                found.append(Outcome(requirement.name, True, worth))
                continue
            parts = (failure.what, failure.why, failure.try_, failure.code, failure.slip)
            found.append(Outcome(requirement.name, False, worth, requirement.label, *parts))
        return tuple(found)
