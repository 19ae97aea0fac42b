"""Every number and factual claim of the talk, with the verdict of the unit that examines it.

`claims.toml` lists what the talk says. A unit records what it found in its exercises' module:

    examine("hierarchy", verdict="corrected", figure="...", how="...", source="https://...")
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from . import registry
from .parts import CourseError
from .tables import markdown
from .units import CHAPTERS, UNITS

VERDICTS = ("reproduced", "corrected", "cited", "opinion")
OPEN = "open"


class ClaimError(CourseError):
    """A verdict that cannot be recorded."""


@dataclass(frozen=True)
class Claim:
    """What the talk says on `page` ("p15"), and what `unit` ("3.2", or "3.3 3.5") found.

    `verdict` is "open" until it is examined; `figure` is ours, `how` says how it was measured or
    looked up, `source` is the primary source.
    """

    id: str
    page: str
    text: str
    unit: str
    verdict: str = OPEN
    figure: str = ""
    how: str = ""
    source: str = ""

    @property
    def units(self) -> tuple[str, ...]:
        """The ids of the units that examine it."""
        return tuple(self.unit.split())

    @property
    def is_open(self) -> bool:
        """Whether no unit has recorded a verdict yet."""
        return self.verdict == OPEN


_verdicts: dict[str, dict[str, str]] = {}


@functools.cache
def _said() -> dict[str, Claim]:
    data = tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))
    return {id: Claim(id, **entry) for id, entry in data.items()}


def examine(id: str, *, verdict: str, figure: str, how: str, source: str) -> Claim:
    """Record what was found about claim `id`. Raises `ClaimError` when something is missing."""
    if id not in _said():
        raise ClaimError(
            f"there is no claim {id!r}",
            "claims.toml lists what the talk says",
            f"one of {', '.join(_said())}",
        )
    if verdict not in VERDICTS:
        raise ClaimError(
            f"claim {id}: verdict {verdict!r}",
            "a claim is reproduced here, corrected, cited from its source, or an opinion",
            f"one of {', '.join(VERDICTS)}",
        )
    for name, value in (("figure", figure), ("how", how)):
        if not value.strip():
            raise ClaimError(
                f"claim {id}: {name} is empty",
                "a verdict rests on a figure, and on how it was found",
                f"say it in {name}; for an opinion, what it would take to decide",
            )
    if not source.startswith("https://"):
        raise ClaimError(
            f"claim {id}: source {source!r} is no https address",
            "a reader must be able to look it up",
            "name the primary source: paper, specification, vendor's documentation",
        )
    _verdicts[id] = {"verdict": verdict, "figure": figure, "how": how, "source": source}
    return replace(_said()[id], **_verdicts[id])


def all_claims() -> list[Claim]:
    """Every claim in the talk's order, with the verdicts of all units."""
    for chapter in CHAPTERS.values():
        registry.import_exercises(chapter.name)
    return [replace(claim, **_verdicts.get(id, {})) for id, claim in _said().items()]


def table_markdown(listed: Iterable[Claim] | None = None) -> str:
    """Claims (all by default) as a Markdown table: the book's page *What the talk says*.

    Claims none of which was examined yet need no columns for what was found.
    """
    chosen = all_claims() if listed is None else list(listed)
    head = ["Page", "The talk says", "Unit"]
    if not all(claim.is_open for claim in chosen):
        head += ["Verdict", "Found here", "Source"]
    rows = []
    for claim in chosen:
        found = OPEN if claim.is_open else f"{claim.figure} ({claim.how})"
        source = f"[source]({claim.source})" if claim.source else ""
        place = f"{claim.page} `{claim.id}`"
        cells = (place, claim.text, ", ".join(claim.units), claim.verdict, found, source)
        rows.append(cells[: len(head)])
    return markdown(head, rows)


def unfinished(standing: frozenset[str], pages: dict[str, str]) -> list[str]:
    """What is wrong with the claims of the units that stand; `pages` holds each page's text.

    A claim may be open until its unit stands, and no longer; the unit's page must name it.
    """
    problems = []
    for claim in all_claims():
        for unit in sorted(standing.intersection(claim.units)):
            if claim.is_open:
                problems.append(f"claim {claim.id} is open, and unit {unit} stands")
            page = pages.get(unit, "")
            if claim.id not in page and claim.text not in page:
                problems.append(f"the page of unit {unit} does not name claim {claim.id}")
    if standing >= set(UNITS):
        problems += [
            f"claim {c.id} is open, and every unit stands" for c in all_claims() if c.is_open
        ]
    return problems
