"""Source of the library on a page, by name: what a reader sees is what the course runs.

A cell whose metadata names a `source` shows that function, method or class, and nothing else. As
text (jupytext's md:myst), the author writes the first line, and `aiinfra_labs.course.page` fills in
the rest, now and whenever the source has changed:

    +++ {"source": "aiinfra_labs.cloud.serving.block_manager.BlockManager.free"}

    ...

    +++

| metadata | shows |
|---|---|
| `source` | a function, method or class; several, separated by spaces |
| `without` | `docstring`, `comments` (whole lines of them), or both |
| `only` | of a class: its head, and these of its methods and fields |
| `first`, `last` | the lines from the first that contains `first` to the next with `last` |

In a Markdown cell it is a block of code with its module's address below. A code cell holds the same
lines and runs them: that is for a function whose names the page has imported. Lines are folded at
the width of a page, as `ruff format` folds them.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import textwrap
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .merging import Cell, Notebook
from .merging import source as text_of
from .parts import CourseError

WIDTH = 78  # of a page's code: book/ruff.toml
SOURCES = Path(__file__).resolve().parents[2]  # the folder that holds `aiinfra_labs`
_TRIMS = ("docstring", "comments")
_KEYS = ("source", "without", "only", "first", "last")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class IncludedError(CourseError):
    """Source that cannot be shown."""


@dataclass(frozen=True)
class Definition:
    """A function, method or class: its module's file, its name in it, its lines there from 1."""

    file: Path
    name: str
    node: _Definition

    @property
    def first_line(self) -> int:
        """The first line, decorators included."""
        return min([self.node.lineno, *(d.lineno for d in self.node.decorator_list)])


def find(name: str, sources: Path = SOURCES) -> Definition:
    """The definition that a dotted name names. Raises `IncludedError` where there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        place = sources.joinpath(*parts[:length])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            return _within(file, parts[length:], name)
    raise IncludedError(
        f"there is no module of the name {name!r}",
        "a source is the whole dotted name of a function, method or class of the course",
        "for example aiinfra_labs.cloud.serving.block_manager.BlockManager.free",
    )


def _within(file: Path, names: list[str], whole: str) -> Definition:
    node: Any = ast.parse(file.read_text(encoding="utf-8"))
    for name in names:
        inside = [n for n in node.body if isinstance(n, _Definition) and n.name == name]
        if not inside:
            known = [n.name for n in node.body if isinstance(n, _Definition)]
            raise IncludedError(
                f"{file.name} has no {name!r} ({whole})",
                "only functions, methods and classes can be shown by name",
                f"one of {', '.join(known)}" if known else "name another module",
            )
        node = inside[-1]  # the one that counts when the module is imported
    if not names:
        raise IncludedError(
            f"{whole} is a whole module",
            "a page shows 10 to 30 lines at once, and links to the rest",
            "name a function, method or class of it",
        )
    return Definition(file, ".".join(names), node)


# --- the text --------------------------------------------------------------------------------


def code(metadata: dict[str, Any], sources: Path = SOURCES) -> str:
    """The lines that a cell with this metadata shows, without an indentation of their own."""
    without = _words(metadata.get("without", []))
    unknown = [word for word in without if word not in _TRIMS]
    if unknown:
        raise IncludedError(
            f"without: {', '.join(unknown)}",
            "only docstrings and whole lines of comments can be left out",
            'for example "without": ["docstring", "comments"]',
        )
    found = [find(name, sources) for name in _words(metadata["source"])]
    pieces = [_lines(one, _words(metadata.get("only", [])), without) for one in found]
    gap = "\n\n\n" if any("." not in one.name for one in found) else "\n\n"
    text = gap.join(textwrap.dedent("\n".join(piece)).strip("\n") for piece in pieces)
    if "first" in metadata or "last" in metadata:
        text = _between(text, str(metadata.get("first", "")), str(metadata.get("last", "")))
    return _folded(text)


def _lines(one: Definition, only: list[str], without: list[str]) -> list[str]:
    """The lines of a definition, less what is left out."""
    whole = one.file.read_text(encoding="utf-8")
    lines = whole.split("\n")
    kept = set(range(one.first_line, (one.node.end_lineno or 0) + 1))
    if only:
        kept &= _chosen(one, only)
    if "docstring" in without:
        for node in ast.walk(one.node):
            if isinstance(node, _Definition) and ast.get_docstring(node) is not None:
                string = node.body[0]
                after = string.end_lineno or 0
                blank = {after + 1} if after < len(lines) and not lines[after].strip() else set()
                alone = len(node.body) == 1  # a body must stay
                kept -= set() if alone else set(range(string.lineno, after + 1)) | blank
    if "comments" in without:
        kept -= {
            token.start[0]
            for token in tokenize.generate_tokens(io.StringIO(whole).readline)
            if token.type == tokenize.COMMENT and token.line.strip().startswith("#")
        }
    return [lines[number - 1] for number in sorted(kept)]


def _chosen(one: Definition, only: list[str]) -> set[int]:
    """The numbers of a class's head and of what `only` names, each with a blank line before it."""
    if not isinstance(one.node, ast.ClassDef):
        raise IncludedError(
            f"{one.name} is no class",
            '"only" chooses methods and fields of a class',
            "leave it out, or choose lines with first and last",
        )
    before, numbers, missing = one.first_line, set(), set(only)
    for place, node in enumerate(one.node.body):
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(d.lineno for d in decorators)])
        if place == 0:
            numbers |= set(range(before, start))  # the head
        docstring = place == 0 and ast.get_docstring(one.node) is not None
        names = _names(node)
        missing -= names
        if docstring or names & set(only):
            blank = {start - 1} if place and isinstance(node, _Definition) else set()
            numbers |= blank | set(range(start, (node.end_lineno or start) + 1))
    if missing:
        raise IncludedError(
            f"{one.name} has no {', '.join(sorted(missing))}",
            '"only" chooses among the methods and fields in the body of the class',
            "correct the name; what is inherited must be shown from its own class",
        )
    return numbers


def _names(node: ast.stmt) -> set[str]:
    """The names that a statement in the body of a class defines."""
    if isinstance(node, _Definition):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _between(text: str, first: str, last: str) -> str:
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if first in line), None)
    end = None
    if start is not None:
        end = next((i for i in range(start, len(lines)) if last in lines[i]), None)
    if start is None or end is None:
        raise IncludedError(
            f"no line contains {(first if start is None else last)!r}",
            "first and last are texts of the source's own lines, in their order",
            "copy them from the source",
        )
    end = end if last else len(lines) - 1
    return textwrap.dedent("\n".join(lines[start : end + 1]))


def _folded(text: str) -> str:
    """The text with its long lines folded; as it is where it is no whole statement."""
    try:
        ast.parse(text)
    except SyntaxError:
        return text
    command = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={WIDTH}", "-"]
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise IncludedError(
            f"ruff could not fold the source: {done.stderr.strip()[:200]}",
            "the source is folded at the width of a page",
            f"{Path(sys.executable).name} -m pip install -r requirements.txt",
        )
    return done.stdout.strip("\n")


def _words(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(one) for one in value]


# --- cells -----------------------------------------------------------------------------------


def is_included(cell: Cell) -> bool:
    """Whether a cell shows source by name."""
    return "source" in cell.get("metadata", {})


def lines_shown(cell: Cell) -> list[str]:
    """The lines of code of a cell that shows source, as they stand on the page."""
    text = text_of(cell)
    if cell["cell_type"] == "markdown":
        match = re.search(r"^(`{3,})python\n(.*?)\n\1", text, re.MULTILINE | re.DOTALL)
        text = match[2] if match else ""
    return text.split("\n")


def filled(cell: Cell, page: Path, sources: Path = SOURCES) -> str:
    """What the text of a cell that shows source must be; `page` is the file of its notebook."""
    metadata = cell["metadata"]
    text = code(metadata, sources)
    found = [find(name, sources) for name in _words(metadata["source"])]
    if cell["cell_type"] == "code":
        files = {one.file.relative_to(sources).as_posix(): None for one in found}
        return f"# From {', '.join(files)}\n{text}"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}python\n{text}\n{fence}\n\n{_caption(metadata, found, page)}"


def _caption(metadata: dict[str, Any], found: list[Definition], page: Path) -> str:
    """Where the lines are from, and what was left out of them."""
    places: dict[str, list[str]] = {}
    for one in found:
        link = Path(os.path.relpath(one.file, page.resolve().parent)).as_posix()
        places.setdefault(f"[{one.file.name}]({link})", []).append(f"`{one.name}`")
    where = "; ".join(f"{', '.join(names)} in {link}" for link, names in places.items())
    less = ["the docstring" if word == "docstring" else word for word in _without(metadata)]
    less += ["its other methods"] if metadata.get("only") else []
    parts = "Lines of " if "first" in metadata or "last" in metadata else ""
    return f"*{parts}{where}{', without ' + ' and '.join(less) if less else ''}*"


def _without(metadata: dict[str, Any]) -> list[str]:
    return [word for word in _TRIMS if word in _words(metadata.get("without", []))]


def fill(notebook: Notebook, page: Path, sources: Path = SOURCES) -> int:
    """Bring each cell that shows source up to date, in place. How many changed."""
    changed = 0
    for cell in notebook["cells"]:
        if is_included(cell):
            text = filled(cell, page, sources)
            if not _is_ours(cell):
                raise IncludedError(
                    f"the cell that shows {cell['metadata']['source']} holds a text of its own: "
                    f"{text_of(cell).strip()[:60]!r}",
                    "it is filled with its source, and this text would be lost",
                    "write ... below the line with its source, and +++ before what follows",
                )
            if text_of(cell) != text:
                cell["source"], changed = text, changed + 1
    return changed


def _is_ours(cell: Cell) -> bool:
    """Whether the text of a cell was filled in here, or is still to be."""
    text = text_of(cell).strip()
    if cell["cell_type"] == "code":
        return text in ("", "...") or text.startswith("# From ")
    return (
        text in ("", "...")
        or re.fullmatch(r"(`{3,})python\n.*\n\1\n\n\*.*\*", text, re.S) is not None
    )


def stale(notebook: Notebook, page: Path, sources: Path = SOURCES) -> list[str]:
    """The cells whose text is not what their source says now."""
    problems = []
    for cell in notebook["cells"]:
        if not is_included(cell):
            continue
        name = cell["metadata"]["source"]
        try:
            if text_of(cell) != filled(cell, page, sources):
                problems.append(f"cell {cell.get('id')} shows {name} as it was, not as it is")
        except IncludedError as error:
            problems.append(f"cell {cell.get('id')} shows {name}: {error.what}")
    return problems
