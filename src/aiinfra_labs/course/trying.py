"""Running an exercise's body on a learner's object: what a lab's check and the judge both do."""

from __future__ import annotations

from typing import Any

from . import opinions
from .guard import Alarm, TimeLimit, captured
from .limits import spare_memory
from .registry import Exercise
from .requirements import Require
from .results import FAILED, PASSED, Outcome, Result


def try_out(exercise: Exercise, obj: Any) -> Result:
    """Run the exercise's body on `obj`. Nothing is kept: `check` does that."""
    with captured() as printed, spare_memory():
        alarm, opinion = Alarm(exercise.seconds), None
        require = Require(alarm, exercise.central)
        ended = False
        try:
            with opinions.watching(exercise.unit) as opinion, alarm:
                _run(exercise, obj, require, alarm)
                ended = True
        except TimeLimit as late:  # on a thread: it was under way as the alarm was put away
            if not ended:
                require.outside(late)
        require.end()
    outcomes = require.outcomes(exercise.points)
    passed = bool(outcomes) and all(outcome.passed for outcome in outcomes)
    score = sum(outcome.points for outcome in outcomes if outcome.passed)
    notes = (printed.note,) if printed.note else ()
    second = opinion() if passed and opinion is not None else opinions.Opinion()
    if second.objection is not None:
        objection = second.objection
        parts = (objection.what, objection.why, objection.try_, objection.code)
        outcomes += (Outcome(second.about, False, 0.0, "", *parts),)
        passed, score = False, score // 2  # it does what is asked, and cannot run on a GPU
    elif second.note:
        notes += (second.note,)
    return Result(
        exercise.id,
        exercise.title,
        PASSED if passed else FAILED,
        exercise.points if passed else round(score, 6),
        exercise.points,
        outcomes,
        notes=notes,
    )


def _run(exercise: Exercise, obj: Any, require: Require, alarm: Alarm) -> None:
    try:
        exercise.body(exercise.watch(obj), require)
    except KeyboardInterrupt:  # the learner pressed stop: that is theirs to decide
        raise
    except BaseException as error:
        alarm.on = False
        require.outside(error)
    alarm.on = False
