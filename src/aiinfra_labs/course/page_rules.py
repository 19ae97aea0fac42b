"""What a page must be, as far as a machine can tell. Each rule returns what is wrong, a line each.

`python -m aiinfra_labs.course.page_rules [PAGE...]` prints the figures of each page, and what is
wrong with it. A notebook is the plain data of its JSON, as the site shows it (`published`).

Code is **visible** if it is not folded away: the cells without a tag such as `hide-input`, and the
source that is shown by name (`included`). Of the visible lines, **mechanism** are those of included
source, and those of the functions and classes that a page defines; the rest sets up, prints and
measures.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from . import included, streams
from .merging import Cell, Notebook
from .merging import source as text_of
from .published import published
from .release import notebooks
from .rules import WIDGET, code_cells, prose, tags
from .units import UNITS, repository, unit_of

MOST_LINES = 30  # of a visible cell
WIDEST = 60  # characters of an output of fixed width
LABEL = 9.0  # CSS pixels of the smallest label of a figure on a phone
PHONE = 358  # CSS pixels of a page's column where the window has 390: tests/site measures it
TALLEST = 9000  # CSS pixels at a width of 1,280: tests/site measures it
SENTENCE = 6  # Chinese characters; fewer are a term
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
UNSEEN = {"remove-output", "remove-cell"}

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff"
_RUN = re.compile(rf"[{_HAN}](?:[{_HAN}\d%，、：；。！？…]*[{_HAN}])?")
_GLOSS = re.compile(r"[(（\"“][^()（）\"“”]*[A-Za-z]{2,}[^()（）\"“”]*[)）\"”]")
_FAILURES = (
    "is stored yet",
    "CUDA driver",
    "CUDA finds no device",
    "cudaError",
    "Not compared here",
    "nvidia-smi: not found",
)


# --- the code --------------------------------------------------------------------------------


def visible(notebook: Notebook) -> list[Cell]:
    """The cells whose code a reader sees at once, those that show source among them."""
    return [
        cell
        for cell in notebook["cells"]
        if (cell["cell_type"] == "code" or included.is_included(cell))
        and not FOLDED & tags(cell)
        and text_of(cell).strip()
    ]


def lines_of(cell: Cell) -> list[str]:
    """The lines of code of a visible cell."""
    shown = included.lines_shown(cell) if included.is_included(cell) else None
    return shown if shown is not None else text_of(cell).strip("\n").split("\n")


def long_cells(notebook: Notebook) -> list[str]:
    """No visible cell of code is longer than 30 lines."""
    return [
        f"cell {cell.get('id')} shows {len(lines_of(cell))} lines of code, at most {MOST_LINES} "
        "are read at once"
        for cell in visible(notebook)
        if len(lines_of(cell)) > MOST_LINES
    ]


def mechanism(cell: Cell) -> int:
    """How many lines of a visible cell are mechanism: included, or of a function or class."""
    if included.is_included(cell):
        return len(lines_of(cell))
    count = 0
    for node in _statements(cell):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            count += (node.end_lineno or first) - first + 1
    return count


def _statements(cell: Cell) -> list[ast.stmt]:
    try:
        return ast.parse(text_of(cell)).body
    except SyntaxError:  # a magic
        return []


# --- tables and outputs ----------------------------------------------------------------------


def tables_by_hand(notebook: Notebook) -> list[str]:
    """No cell lays a table out with spaces: `course.tables.table` makes one."""
    problems = []
    for cell in code_cells(notebook):
        calls = [node for part in _statements(cell) for node in ast.walk(part)]
        prints = [n for n in calls if isinstance(n, ast.Call) and _named(n.func) == "print"]
        if not UNSEEN & tags(cell) and any(map(_pads, prints)):
            problems.append(f"cell {cell.get('id')} pads what it prints to make a table of it")
    return problems


def _named(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _pads(call: ast.Call) -> bool:
    for node in ast.walk(call):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            parts = node.format_spec.values
            spec = "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
            if re.match(r"(.?[<>=^])?[-+ ]?#?(\{\}|[1-9])", spec):
                return True
        if isinstance(node, ast.Call) and _named(node.func) in ("ljust", "rjust", "center"):
            return True
        text = node.value if isinstance(node, ast.Constant) else ""
        if isinstance(text, str) and re.search(r"\S {3,}\S", text):  # a head of columns
            return True
    return False


def texts(notebook: Notebook) -> Iterator[tuple[Cell, str]]:
    """Each output that is text of fixed width, with its cell."""
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []) if not UNSEEN & tags(cell) else []:
            data = output.get("data", {})
            if output["output_type"] == "stream":
                yield cell, streams.text_of(output)
            elif set(data) == {"text/plain"}:
                yield cell, "".join(data["text/plain"])


def width(line: str) -> int:
    """The columns that a line takes; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line.rstrip())


def wide_outputs(notebook: Notebook) -> list[str]:
    """No output of fixed width is wider than 60 characters, so that a phone shows it."""
    problems = []
    for cell, text in texts(notebook):
        widest = max(map(width, text.splitlines()), default=0)
        if widest > WIDEST:
            problems.append(f"cell {cell.get('id')} prints {widest} columns, at most {WIDEST}")
    return problems


def gpu_failures(notebook: Notebook) -> list[str]:
    """Nothing that failed for want of a GPU is on the page."""
    return [
        f"cell {cell.get('id')} shows: {line.strip()[:70]}"
        for cell in code_cells(notebook)
        if not UNSEEN & tags(cell)
        for output in cell.get("outputs", [])
        for line in _text(output).splitlines()
        if any(failure in line for failure in _FAILURES)
    ]


def _text(output: dict[str, Any]) -> str:
    plain = output.get("data", {}).get("text/plain", "")
    return streams.text_of(output) + (plain if isinstance(plain, str) else "".join(plain))


# --- figures and predictions -----------------------------------------------------------------


def first_figure(notebook: Notebook) -> list[str]:
    """The first figure is the page's idea: where on a request's way the reader is, is one line."""
    for cell in code_cells(notebook):
        if any(map(_is_figure, cell.get("outputs", []))):
            locates = "frontispiece.draw" in text_of(cell)
            return ["the first figure is the place on a request's way"] if locates else []
    return ["the page has no figure"]


def small_labels(notebook: Notebook) -> list[str]:
    """No label of a figure is under 9 pixels high on a phone.

    matplotlib stores text as outlines, of which each has its scale: a hundredth of its size.
    """
    problems = []
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            for figure in re.findall(r"<svg role=.*?</svg>", html, re.DOTALL):
                size = smallest_label(figure)
                if round(size, 1) < LABEL:
                    problems.append(f"cell {cell.get('id')} has labels of {size:.1f} pixels")
    return problems


def smallest_label(svg: str) -> float:
    """The size, in pixels, of the smallest text of a figure that is as wide as a phone's column."""
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ', svg)
    sizes = [100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -\1\)", svg)]
    return min(sizes, default=99.0) * PHONE / float(box[1]) if box else 99.0


def _is_figure(output: dict[str, Any]) -> bool:
    data = output.get("data", {})
    html = "".join(data.get("text/html", ""))
    return "aiinfra-figure" in html or bool({WIDGET, "image/png", "image/svg+xml"} & set(data))


def predictions(notebook: Notebook) -> list[str]:
    """A prediction is asked for, and its answer is folded, and stands not where it is asked."""
    problems, asked, said = [], {}, ""
    for cell in notebook["cells"]:
        text = text_of(cell)
        if cell["cell_type"] == "markdown":
            said = "" if included.is_included(cell) else re.split(r"\n\s*\n", text.strip())[-1]
            continue
        for id in re.findall(r"\bpredict\(\s*[\"']([^\"']+)", text):
            asked[id] = f"{said}\n{text.replace(id, '')}"
        for id in re.findall(r"\breveal\(\s*[\"']([^\"']+)", text):
            if id not in asked:
                problems.append(f"{id} is revealed, and nobody was asked before")
            if not {"hide-cell", "hide-output"} & tags(cell):
                problems.append(f"the cell that reveals {id} is not folded (hide-cell)")
            answer = _answer(cell)
            if len(re.sub(r"\D", "", answer)) > 1 and _holds(asked.get(id, ""), answer):
                problems.append(f"{answer}, the answer to {id}, stands where it is asked")
    if not asked:
        problems.append("the page asks for no prediction")
    return problems


def _answer(cell: Cell) -> str:
    """The figure that a cell reveals, as its output has it."""
    for output in cell.get("outputs", []):
        if match := re.search(r"measured: ([\d,.]+)", _text(output)):
            return match[1].rstrip(".,")
    return ""


def _holds(text: str, number: str) -> bool:
    plain = number.replace(",", "")
    return any(found.rstrip(".,").replace(",", "") == plain
               for found in re.findall(r"\d[\d,.]*", text))  # fmt: skip


# --- Chinese ---------------------------------------------------------------------------------


def chinese_alone(notebook: Notebook) -> list[str]:
    """Each Chinese sentence has its English beside it: in brackets, in quotes, or in its row."""
    problems = []
    for block in _blocks(prose(notebook)):
        for run in _RUN.finditer(block):
            if len(re.findall(f"[{_HAN}]", run[0])) < SENTENCE:
                continue
            before = block[: run.start()].rstrip('*_ "“《')
            beside = before.endswith(("(", "（")) and re.search(r"[A-Za-z]\W*$", before[:-1])
            if not beside and not _GLOSS.search(block) and not _row_has_english(block):
                problems.append(f"{run[0]} has no English beside it")
    return problems


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, and rows of tables one by one, without code and addresses."""
    text = re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)|<[^>]*>", " ", text)
    for paragraph in re.split(r"\n\s*\n", text):
        rows = [line for line in paragraph.splitlines() if line.lstrip().startswith("|")]
        yield from rows
        yield "\n".join(line for line in paragraph.splitlines() if line not in rows)


def _row_has_english(block: str) -> bool:
    cells = block.strip().strip("|").split("|") if block.lstrip().startswith("|") else []
    return any(
        len(re.findall(r"[A-Za-z]{2,}", c)) >= 2 and not re.search(f"[{_HAN}]", c) for c in cells
    )


RULES: dict[str, Callable[[Notebook], list[str]]] = {
    rule.__name__: rule
    for rule in (
        long_cells,
        tables_by_hand,
        wide_outputs,
        gpu_failures,
        first_figure,
        small_labels,
        predictions,
        chinese_alone,
    )
}


# --- figures of a page -----------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What a page shows: lines of code, columns, words."""

    visible: int
    included: int
    share: float  # of the visible lines, that is mechanism
    longest: int
    widest: int
    words: int


def figures_of(notebook: Notebook) -> Figures:
    """The figures of one page."""
    cells = visible(notebook)
    counts = [len(lines_of(cell)) for cell in cells]
    lines = sum(counts)
    outputs = [width(line) for _, text in texts(notebook) for line in text.splitlines()]
    plain = re.sub(
        r"`[^`]*`|\]\([^)]*\)|<[^>]*>|\$[^$]*\$", " ", "\n".join(_blocks(prose(notebook)))
    )
    return Figures(
        lines,
        sum(len(lines_of(cell)) for cell in cells if included.is_included(cell)),
        sum(map(mechanism, cells)) / lines if lines else 0.0,
        max(counts, default=0),
        max(outputs, default=0),
        len(re.findall(r"[A-Za-z][\w'’-]*", plain)),
    )


def read(path: Path, folder: Path | None = None) -> Notebook:
    """A page as the site shows it."""
    return published(json.loads(path.read_text(encoding="utf-8")), folder)


def pages(root: Path) -> list[Path]:
    """Every page of a unit."""
    return [path for path in notebooks(root / "book") if unit_of(path) in UNITS.values()]


def main(arguments: list[str] | None = None) -> int:
    """The command: print each page's figures, and what is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m aiinfra_labs.course.page_rules")
    parser.add_argument("pages", type=Path, nargs="*", metavar="PAGE", help="default: all")
    parser.add_argument("--figures", action="store_true", help="only the figures")
    chosen = parser.parse_args(arguments)
    root = repository()
    paths = chosen.pages or (pages(root) if root else [])
    print(f"{'page':34} visible included share longest widest words")
    wrong = 0
    for path in paths:
        notebook = read(path)
        lines, shown, share, longest, widest, words = astuple(figures_of(notebook))
        name = f"{path.parent.name}/{path.stem}"
        print(f"{name:34} {lines:7} {shown:8} {share:5.0%} {longest:7} {widest:6} {words:5}")
        for rule in RULES.values() if not chosen.figures else ():
            for problem in rule(notebook):
                wrong += 1
                print(f"    {problem}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
