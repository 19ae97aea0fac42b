"""Every specification, price and published figure stands once: in a chapter's `facts.toml`.

[h100.bandwidth]
value = 3350
unit = "GB/s"
source = "https://..."
as_of = 2026-11-24
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

from .parts import CourseError
from .units import CHAPTERS


class FactError(CourseError):
    """A fact that is not there, or lacks its unit, source or date."""


@dataclass(frozen=True)
class Fact:
    """A published figure. `unit` is "" for what has none, such as a name or a count."""

    name: str
    value: Any
    unit: str
    source: str
    as_of: date

    def __str__(self) -> str:
        figure = f"{self.value:,}" if isinstance(self.value, int | float) else str(self.value)
        return f"{figure} {self.unit}".strip()

    @property
    def link(self) -> str:
        """The figure as a Markdown link to its source."""
        return f"[{self}]({self.source})"

    @property
    def citation(self) -> str:
        """The source and the date on which it said so."""
        return f"{self.source}, as of {self.as_of.isoformat()}"


class Facts(dict[str, Fact]):
    """Facts by name: `facts["h100.bandwidth"].value`."""

    def __missing__(self, name: str) -> Fact:
        import difflib

        near = difflib.get_close_matches(name, self, 3, cutoff=0.4) or list(self)[:3]
        raise FactError(
            f"there is no fact {name!r}",
            "facts are named by their tables in facts.toml, joined by a dot",
            f"did you mean {' or '.join(near)}?" if near else "the chapter has no facts yet",
        )


def load(chapter: str) -> Facts:
    """The facts of a chapter ("gpu"). Raises `FactError` for one that is incomplete."""
    names = [c.name for c in CHAPTERS.values()]
    if chapter not in names:
        raise FactError(
            f"there is no chapter {chapter!r}",
            "facts are kept by chapter",
            f"one of {', '.join(names)}",
        )
    path = files("aiinfra_labs").joinpath(chapter, "facts.toml")
    return parse(path.read_text(encoding="utf-8")) if path.is_file() else Facts()


def parse(text: str) -> Facts:
    """Facts from the text of a `facts.toml`, each checked."""
    facts = Facts()
    _collect(tomllib.loads(text), "", facts)
    return facts


def _collect(table: dict[str, Any], prefix: str, facts: Facts) -> None:
    for key, entry in table.items():
        name = f"{prefix}.{key}" if prefix else key
        if not isinstance(entry, dict):
            raise FactError(
                f"{name} = {entry!r} stands outside a fact",
                "a figure without unit, source and date cannot be checked",
                f"write a table [{name}] with value, unit, source and as_of",
            )
        if "value" in entry:
            facts[name] = _fact(name, entry)
        else:
            _collect(entry, name, facts)


def _fact(name: str, entry: dict[str, Any]) -> Fact:
    missing = [key for key in ("unit", "source", "as_of") if key not in entry]
    if missing:
        raise FactError(
            f"fact {name} lacks {', '.join(missing)}",
            "a reader must be able to look each figure up",
            f"add {missing[0]} to [{name}]",
        )
    as_of = entry["as_of"]
    if isinstance(as_of, str):
        try:
            as_of = date.fromisoformat(as_of)
        except ValueError:
            as_of = None
    if not isinstance(as_of, date):
        raise FactError(
            f"fact {name} has as_of = {entry['as_of']!r}",
            "as_of is the day on which the source said so",
            "write it as 2026-11-24",
        )
    if not isinstance(entry["unit"], str) or not str(entry["source"]).startswith("https://"):
        raise FactError(
            f"fact {name} has unit = {entry['unit']!r}, source = {entry['source']!r}",
            "unit is text (empty where there is none) and source an https address",
            "name the primary source",
        )
    return Fact(name, entry["value"], entry["unit"], entry["source"], as_of)
