"""The card that opens a lab: minutes, memory, GPU, prerequisites, skills, and the way to the page.

All but the last stand in the metadata of the solution notebook (`aiinfra.card`). A running kernel
does not know its notebook, so `card("3.2")` reads them there while in the repository, and elsewhere
from `cards.toml`, which `make labs` writes. `AIINFRA_SITE` is the site's address: `make course`
sets it.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from .parts import CourseError
from .units import UNITS, repository

KEYS = {"minutes": int, "memory_mb": int, "gpu": str, "prerequisites": list, "skills": list}
GPU = ("not needed", "optional")


_ON_THE_SITE = "(on the course's site)"


class CardError(CourseError):
    """A card that is missing, or lacks what a card must say."""


@dataclass(frozen=True)
class Card:
    """`minutes` a learner needs, `memory_mb` (MB, 10^6 bytes) its kernel needs at its peak."""

    unit: str
    minutes: int
    memory_mb: int
    gpu: str
    prerequisites: tuple[str, ...]
    skills: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """(name, text) of each row of the table."""
        return [
            ("Time", f"{self.minutes} minutes"),
            ("Memory", f"{self.memory_mb:,} MB"),
            ("GPU", self.gpu),
            ("Prerequisites", ", ".join(self.prerequisites) or "none"),
            ("Skills", ", ".join(self.skills)),
        ]

    @property
    def page(self) -> str:
        """The address of the unit's page; empty where nobody said which site is meant."""
        site = os.environ.get("AIINFRA_SITE", "").rstrip("/")
        return f"{site}/book/{UNITS[self.unit].notebook.removesuffix('ipynb')}html" if site else ""

    @property
    def _page_name(self) -> str:
        return f"{self.unit} {UNITS[self.unit].title}"

    def __str__(self) -> str:
        lines = [f"{name}: {text}" for name, text in self.rows()]
        return "\n".join([*lines, f"Page: {self._page_name} {self.page or _ON_THE_SITE}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th>'
            f'<td style="text-align:left">{escape(text)}</td></tr>'
            for name, text in self.rows()
        )
        page = f"{escape(self._page_name)} {_ON_THE_SITE}"
        if self.page:
            page = f'<a href="{escape(self.page)}" target="_blank">{escape(self._page_name)}</a>'
        rows += (
            '<tr><th scope="row" style="text-align:left">Page</th>'
            f'<td style="text-align:left">{page}</td></tr>'
        )
        return f'<table style="color:inherit"><tbody>{rows}</tbody></table>'


def card(unit: str) -> Card:
    """The card of a unit's lab. Raises `CardError` when there is none."""
    if unit not in UNITS:
        raise CardError(
            f"there is no unit {unit!r}",
            "a unit is the number of its chapter and its own",
            'write it in quotes, for example card("3.2")',
        )
    checkout = repository()
    if checkout is not None:
        for tree in ("solutions", "labs"):
            path = checkout / tree / UNITS[unit].notebook
            if path.is_file():
                return of_notebook(json.loads(path.read_text(encoding="utf-8")), str(path.name))
    cards = load_cards()
    if unit not in cards:
        raise CardError(
            f"unit {unit} has no card",
            "its lab is not part of this version of the course",
            f"units with a lab: {', '.join(cards) or 'none'}",
        )
    return make_card(unit, cards[unit])


def of_notebook(notebook: dict[str, Any], name: str = "the notebook") -> Card:
    """The card in a notebook's metadata."""
    ours = notebook.get("metadata", {}).get("aiinfra", {})
    if "unit" not in ours or "card" not in ours:
        raise CardError(
            f"{name} has no card",
            "its metadata lacks aiinfra.unit or aiinfra.card",
            "add them; CONTRIBUTING.md shows how",
        )
    return make_card(ours["unit"], ours["card"])


def make_card(unit: str, data: dict[str, Any]) -> Card:
    """A card from its five keys, each checked."""
    for key, kind in KEYS.items():
        if not isinstance(data.get(key), kind) or isinstance(data.get(key), bool):
            raise CardError(
                f"the card of unit {unit} has {key} = {data.get(key)!r}",
                f"{key} must be of type {kind.__name__}",
                "correct the metadata of its solution notebook",
            )
    if data["gpu"] not in GPU or data["minutes"] <= 0 or data["memory_mb"] <= 0:
        raise CardError(
            f"the card of unit {unit} says gpu = {data['gpu']!r}, minutes = {data['minutes']}, "
            f"memory_mb = {data['memory_mb']}",
            f"gpu is one of {', '.join(GPU)}; the others are above 0",
            "correct the metadata of its solution notebook",
        )
    return Card(
        unit,
        data["minutes"],
        data["memory_mb"],
        data["gpu"],
        tuple(data["prerequisites"]),
        tuple(data["skills"]),
    )


def load_cards() -> dict[str, dict[str, Any]]:
    """The cards that came with the package, by unit."""
    path = Path(__file__).with_name("cards.toml")
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def cards_toml(cards: dict[str, Card]) -> str:
    """The text of `cards.toml`. JSON's strings, numbers and lists are TOML's, too."""
    lines = ["# Made by `make labs` from the metadata of solutions/: do not edit."]
    for unit in sorted(cards, key=list(UNITS).index):
        lines += ["", f'["{unit}"]']
        for key in KEYS:
            value = getattr(cards[unit], key)
            plain = list(value) if isinstance(value, tuple) else value
            lines.append(f"{key} = {json.dumps(plain, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
