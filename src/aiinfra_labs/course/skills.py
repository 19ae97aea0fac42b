"""The skills matrix, from graded results: points earned of the points there are, by skill."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .progress import Record
from .registry import Exercise


@dataclass(frozen=True)
class Standing:
    """`score` of `points` in `solved` of `exercises`, under one heading (a skill or a unit)."""

    name: str
    score: float
    points: float
    solved: int
    exercises: int
    attempts: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.score / self.points if self.points else 0.0


def by_skill(exercises: Iterable[Exercise], records: dict[str, Record]) -> list[Standing]:
    """One standing for each skill, in the order in which the course teaches them."""
    return _grouped(exercises, records, lambda e: e.skill)


def by_unit(exercises: Iterable[Exercise], records: dict[str, Record]) -> list[Standing]:
    """One standing for each unit that has exercises."""
    return _grouped(exercises, records, lambda e: e.unit)


def _grouped(
    exercises: Iterable[Exercise], records: dict[str, Record], heading: Callable[[Exercise], str]
) -> list[Standing]:
    groups: dict[str, list[Exercise]] = {}
    for exercise in exercises:
        groups.setdefault(heading(exercise), []).append(exercise)
    return [_standing(name, group, records) for name, group in groups.items()]


def _standing(name: str, group: list[Exercise], records: dict[str, Record]) -> Standing:
    known = [records[e.id] for e in group if e.id in records]
    return Standing(
        name,
        sum(records[e.id].earned(e.points) for e in group if e.id in records),
        sum(e.points for e in group),
        sum(record.solved is not None for record in known),
        len(group),
        sum(record.attempts for record in known),
    )
