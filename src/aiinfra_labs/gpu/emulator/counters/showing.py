"""Tables for a terminal and for a notebook, in the reader's own colours. Unit 3.8."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

Row = Sequence[str]
_INDENTED = {"initial_indent": "  ", "subsequent_indent": "  "}


@dataclass(frozen=True)
class ReportTable:
    """head: names of the columns, or none. left: how many columns are text, set to the left."""

    rows: Sequence[Row]
    head: Row = ()
    title: str = ""
    left: int = 1
    code: int = -1  # the column that holds source code
    note: str = ""  # a sentence below

    def text(self) -> str:
        """As lines of plain text, in columns."""
        body = [*([self.head] if self.head else []), *self.rows]
        columns = len(body[0]) if body else 0
        widths = [max(len(row[k]) for row in body) for k in range(columns)]
        lines = [self.title] if self.title else []
        for row in body:
            cells = [
                cell.ljust(width) if k < self.left else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append(("  " + "  ".join(cells)).rstrip())
        lines += textwrap.wrap(f"note: {self.note}", 78, **_INDENTED) if self.note else []
        return "\n".join(lines)

    def html(self) -> str:
        """Without colours of its own, so that it reads on light and on dark."""
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        head = "".join(
            f"<th scope='col'{self._side(k)}>{html.escape(name)}</th>"
            for k, name in enumerate(self.head)
        )
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in self.rows)
        thead = f"<thead><tr>{head}</tr></thead>" if head else ""
        return (
            "<table class='aiinfra-report' style='font-variant-numeric:tabular-nums'>"
            f"{caption}{thead}<tbody>{body}</tbody></table>"
            + (f"<p>Note: {html.escape(self.note)}</p>" if self.note else "")
        )

    def _cells(self, row: Row) -> str:
        cells = ""
        for k, cell in enumerate(row):
            text = html.escape(cell)
            cells += f"<td{self._side(k)}>{f'<code>{text}</code>' if k == self.code else text}</td>"
        return cells

    def _side(self, column: int) -> str:
        return f" style='text-align:{'left' if column < self.left else 'right'}'"


def count(number: int | None) -> str:
    """12,345; a dash for what is not known."""
    return "-" if number is None else f"{number:,}"


def scaled(value: float, unit: str) -> str:
    """1234.5, "s" -> "1.23 ks"; 1.2e-6, "s" -> "1.2 us"."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    for factor, prefix in ((1e-3, "m"), (1e-6, "u"), (1e-9, "n")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
