"""Tables of a page that are made by code, so that their figures come from where they stand once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table that a notebook shows as Markdown; cells may hold Markdown themselves."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def _repr_markdown_(self) -> str:
        return markdown(self.head, self.rows)

    def __repr__(self) -> str:
        return "\n".join(" | ".join(row) for row in (self.head, *self.rows))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of `head` and `rows`, each row as long as the head."""
    made = tuple(tuple(map(str, row)) for row in rows)
    for row in made:
        if len(row) != len(head):
            raise ValueError(f"a row of {len(row)} cells under a head of {len(head)}: {row}")
    return Table(tuple(head), made)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The text of a Markdown table; what would break a cell is escaped."""
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("$", "\\$")
