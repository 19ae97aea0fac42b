"""`check(id, obj)` tries a learner's object against an exercise; `show(id, obj)` draws its run."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from . import cells, registry
from .guard import Alarm, TimeLimit, explain
from .hinting import with_hint
from .limits import Intact, spare_memory
from .parts import Parts, has_parts
from .registry import Exercise
from .results import FAILED, NOT_ATTEMPTED, ExerciseFailed, Outcome, Result
from .starters import is_starter
from .trying import try_out

_NOTHING = object()
cells.follow()


def check(id: str = "", obj: Any = _NOTHING) -> Result:
    """Try `obj` against exercise `id`, keep the result in the progress file, and return it.

    Never raises in a lab: whatever is wrong is said in the `Result`. Under nbgrader
    (`NBGRADER_EXECUTION` is set) a check without any points raises `ExerciseFailed`, which is
    what costs the points there; part of the points is given as partial credit.
    """
    if os.environ.get("AIINFRA_JUDGED"):
        return _elsewhere(id)
    mode = os.environ.get("NBGRADER_EXECUTION")
    result = _judged(id, obj) if mode == "autograde" else _check(id, obj)
    if mode and not result.passed and (mode != "autograde" or not result.score):
        raise ExerciseFailed(str(result))
    return result


def _elsewhere(id: Any) -> Result:
    """The answer in a notebook that is graded: its checks are judged in another process."""
    note = "Graded notebooks are judged in another process, at the cells that check."
    return Result(_named(id), "", NOT_ATTEMPTED, notes=(note,))


def _judged(id: Any, obj: Any) -> Result:
    """Under nbgrader, without the course's own autograder: by a judge in another process.

    An exercise that this notebook defines itself is known here only, and is tried here.
    """
    exercise = _found(id, obj)
    ours = isinstance(exercise, Exercise) and exercise.body.__module__.startswith("aiinfra_labs.")
    if not ours or obj is _NOTHING:
        return _check(id, obj)
    from .judging.client import graded

    return graded(id, obj)


def _check(id: str, obj: Any) -> Result:
    exercise = _found(id, obj)
    if isinstance(exercise, Result):
        return exercise
    if obj is _NOTHING:
        return _refused(id, exercise.title, _nothing_given(exercise))
    objection = cells.stale(obj) or exercise.objection(obj)
    if objection is not None:
        return _refused(id, exercise.title, objection, exercise.points)
    if is_starter(obj):
        return Result(id, exercise.title, NOT_ATTEMPTED, points=exercise.points)
    return with_hint(exercise, obj, try_out(exercise, obj))


def _found(id: Any, obj: Any) -> Exercise | Result:
    """The exercise, or an answer that says why there is none."""
    try:
        exercise = registry.find(id) if isinstance(id, str) else None
        if exercise is not None:
            return exercise
        swapped = isinstance(obj, str) and registry.find(obj) is not None
        return _refused(_named(id), "", _swapped(obj) if swapped else _unknown(id))
    except Exception as error:  # a chapter's own dependency may be missing here
        return _refused(_named(id), "", _cannot_load(id, error))


def _named(id: Any) -> str:
    return id if isinstance(id, str) and id.strip() else repr(id)


def show(id: str = "", obj: Any = _NOTHING) -> Any:
    """Draw the learner's own run of exercise `id`, where the exercise has a drawing.

    Like `check` it does not raise: what cannot be drawn is answered by a `Result` that says why.
    """
    if os.environ.get("AIINFRA_JUDGED"):
        return _elsewhere(id)
    exercise = _found(id, obj)
    if isinstance(exercise, Result):
        return exercise
    if obj is _NOTHING:
        return _refused(id, exercise.title, _nothing_given(exercise, "show"))
    if exercise.shower is None:
        return _refused(id, exercise.title, _no_drawing(exercise))
    objection = cells.stale(obj) or exercise.objection(obj)
    if objection is not None:
        return _refused(id, exercise.title, objection)
    if is_starter(obj):
        return Result(id, exercise.title, NOT_ATTEMPTED, points=exercise.points)
    # Loading it is not the learner's time; without it the drawing itself says what is missing.
    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib.figure")
    try:
        with spare_memory(), Alarm(exercise.seconds):
            intact = Intact()
            try:
                return exercise.shower(obj)
            finally:
                intact.mend()
    except (Exception, TimeLimit, SystemExit) as error:
        parts = explain(error, exercise.seconds)
        if isinstance(error, Exception) and not parts.code and not has_parts(error):
            parts = _cannot_draw(exercise, error)  # the drawing stumbled over what it was given
        return _refused(id, exercise.title, parts)


def _refused(id: str, title: str, parts: Parts, points: float = 0.0) -> Result:
    """An answer given before anything ran: it is no attempt, and takes no hint."""
    outcome = Outcome("can be tried", False, 0.0, "", parts.what, parts.why, parts.try_, parts.code)
    return Result(id, title, FAILED, points=points, requirements=(outcome,))


def _unknown(id: Any) -> Parts:
    near = registry.nearest(str(id))
    return Parts(
        f"there is no exercise {id!r}",
        "an id is the unit and a letter in quotes, for example 3.2.a",
        f"did you mean {' or '.join(near)}?" if near else "no exercise is installed here",
    )


def _swapped(id: str) -> Parts:
    return Parts(
        "the exercise's id was given second, and what to try first",
        "the id comes first",
        f'exchange the two: check("{id}", name)',
    )


def _nothing_given(exercise: Exercise, asked: str = "check") -> Parts:
    return Parts(
        f"nothing was given to {asked}",
        f"this exercise tries a {exercise.kind} that you write",
        f'{asked}("{exercise.id}", name), with the name of your {exercise.kind}',
    )


def _no_drawing(exercise: Exercise) -> Parts:
    return Parts(
        f"exercise {exercise.id} has no drawing",
        "only some exercises have a run that can be drawn",
        f'check("{exercise.id}", name) tries it',
    )


def _cannot_draw(exercise: Exercise, error: Exception) -> Parts:
    return Parts(
        f"what your {exercise.kind} gave cannot be drawn ({type(error).__name__}: {error!s:.120})",
        "a run is drawn from a result of the type and the shape that the exercise asks for",
        f'check("{exercise.id}", name) says what is wrong with the result; draw it after that',
    )


def _cannot_load(id: Any, error: Exception) -> Parts:
    return Parts(
        f"the exercises of {id!r} cannot be loaded: {type(error).__name__}: {error}",
        "something they import is not installed, or the course itself is at fault",
        "install the course's requirements; if it stays, report this line",
    )
