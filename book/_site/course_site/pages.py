"""The pages as the site shows them: what `aiinfra_labs.course.published` leaves of a notebook.

A link below source that is shown by name leads to its first line: the line is put into the link's
title here, where it is known, and `code_pages` makes an address of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from aiinfra_labs.course import included
from aiinfra_labs.course.merging import Cell
from aiinfra_labs.course.merging import source as text_of
from aiinfra_labs.course.published import published


def as_published(app: Sphinx, page: str, source: list[str]) -> None:
    """Before a page is read: leave out what is not to be shown."""
    if not app.env.doc2path(page).endswith(".ipynb"):
        return
    root = Path(app.srcdir)
    try:
        notebook = published(json.loads(source[0]), root / "benchmarks" / "results")
    except (ValueError, KeyError, TypeError):  # no notebook: MyST-NB says so, and names the page
        return
    for cell in notebook["cells"]:
        if included.is_included(cell) and cell["cell_type"] == "markdown":
            cell["source"] = with_line(cell, root / "src")
    source[0] = json.dumps(notebook)


def with_line(cell: Cell, sources: Path) -> str:
    """The text of a cell that shows source, the line of its first definition in its link."""
    text = text_of(cell)
    try:
        first = included.find(cell["metadata"]["source"].split()[0], sources)
    except included.IncludedError:  # a test tells of it
        return text
    return re.sub(r"\]\((\S+\.py)\)", rf'](\1 "L-{first.first_line}")', text, count=1)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", as_published)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
