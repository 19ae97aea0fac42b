"""What every notebook of the course must keep to. Each function returns what is wrong, a line each.

The tests apply these to the real trees; an author may run them on a notebook by hand. A notebook
is the plain data of its JSON.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .cards import Card, CardError, of_notebook
from .merging import source
from .release import BEGIN, END, notebooks
from .units import UNITS, Unit

Notebook = dict[str, Any]
Cell = dict[str, Any]

STUBS = ("# Write your code here.", "*Write your answer here.*")
COMPARED = "nbval-check-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
_TRIVIAL = 16  # characters, spaces aside: `if i < out.size:` gives no answer away
_COSTS = ("cost of a token", "time to first token", "time per output token")


def read(path: Path) -> Notebook:
    """The notebook of a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def tags(cell: Cell) -> set[str]:
    """The tags of a cell."""
    return set(cell.get("metadata", {}).get("tags", []))


def code_cells(notebook: Notebook) -> list[Cell]:
    """The cells of a notebook that hold code."""
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def prose(notebook: Notebook) -> str:
    """The text of all Markdown cells."""
    return "\n\n".join(source(c) for c in notebook["cells"] if c["cell_type"] == "markdown")


def compared_cells(notebook: Notebook) -> int:
    """How many cells nbval compares with their stored output."""
    return sum(COMPARED in tags(cell) for cell in code_cells(notebook))


# --- labs and solutions ------------------------------------------------------------------------


def pairs(root: Path) -> list[tuple[Path, Path]]:
    """Each solution with the lab that should be made from it."""
    solutions = root / "solutions"
    return [(path, root / "labs" / path.relative_to(solutions)) for path in notebooks(solutions)]


def regions(text: str) -> tuple[list[str], list[list[str]]]:
    """A cell's lines outside the marked regions, and the lines of each region."""
    outside: list[str] = []
    inside: list[list[str]] = []
    within = False
    for line in text.split("\n"):
        if BEGIN in line:
            within = True
            inside.append([])
        elif END in line:
            within = False
        else:
            (inside[-1] if within else outside).append(line)
    return outside, inside


def only_adds_lines(solution: Notebook, lab: Notebook) -> list[str]:
    """A lab is its solution less the marked regions and the instructor's cells."""
    problems = []
    ours = [cell for cell in solution["cells"] if "instructor" not in tags(cell)]
    if len(ours) != len(lab["cells"]):
        return [f"{len(ours)} cells in the solution, {len(lab['cells'])} in the lab"]
    for mine, given in zip(ours, lab["cells"], strict=True):
        outside, inside = regions(source(mine))
        left = [line for line in source(given).split("\n") if line.strip() not in STUBS]
        stubs = len(source(given).split("\n")) - len(left)
        if left != [line for line in outside if line.strip() not in STUBS] or stubs < len(inside):
            problems.append(f"cell {mine.get('id')} is not its solution less the marked regions")
    return problems


def leaks(root: Path) -> list[str]:
    """Answers found in `labs/`: in a cell, an output, or the metadata.

    In its own lab, no single line of an answer may stand, but for trivial ones and those that the
    solution's metadata lists in `aiinfra.given`; in another lab, no whole answer.
    """
    labs = {path: read(path) for path in notebooks(root / "labs")}
    texts = {path: "\n".join(_strings(notebook)) for path, notebook in labs.items()}
    compact = {path: _compact(text) for path, text in texts.items()}
    problems = []
    for path, lab in pairs(root):
        solution = read(path)
        given = set(map(_compact, solution["metadata"].get("aiinfra", {}).get("given", [])))
        for cell in solution["cells"]:
            for region in regions(source(cell))[1]:
                for line in region:
                    small = _compact(line)
                    if len(small) < _TRIVIAL or small in given or small.startswith("#"):
                        continue
                    if small in compact.get(lab, ""):
                        problems.append(f"{lab.name} holds a line of the answer: {line.strip()}")
                whole = _compact("".join(region))
                for other, text in compact.items():
                    if other != lab and len(whole) > 2 * _TRIVIAL and whole in text:
                        problems.append(f"{other.name} holds an answer of {path.name}")
    return problems


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _strings(value: Any) -> Iterable[str]:
    """Every string in a notebook's JSON, wherever it stands; lists of lines as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield "".join(value)
        else:
            for item in value:
                yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)


# --- checks in notebooks -----------------------------------------------------------------------


def checked(notebook: Notebook) -> list[tuple[Cell, str, str]]:
    """The cells that end in `check("id", name)`, with id and name."""
    found = []
    for cell in code_cells(notebook):
        for match in re.finditer(r'^check\("([^"]+)", *([\w.]+)\)', source(cell), re.MULTILINE):
            found.append((cell, match[1], match[2]))
    return found


def graded(notebook: Notebook, points: dict[str, float]) -> list[str]:
    """A graded cell is one check and nothing else, worth what its exercise is worth.

    So nbgrader reads the points from the cell's value, and cannot be led astray by another line.
    `points` gives those of each exercise of the unit, all of which must be there.
    """
    problems, seen = [], []
    for cell, id, _ in checked(notebook):
        seen.append(id)
        grading = cell["metadata"].get("nbgrader", {})
        if id not in points:
            problems.append(f"check of {id}, which is no exercise of this unit")
        elif not grading.get("grade") or grading.get("points") != points[id]:
            problems.append(f"the cell of {id} must be graded with {points[id]:g} points")
        elif len(ast.parse(source(cell)).body) != 1:
            problems.append(f"the graded cell of {id} holds more than its check")
    problems += [f"exercise {id} is not checked" for id in points if id not in seen]
    return problems + [f"{id} is checked twice" for id in set(seen) if seen.count(id) > 1]


def magics(notebook: Notebook) -> list[str]:
    """No magic stands in a cell that checks, predicts or is compared: it would hide the rest."""
    problems = []
    for cell in code_cells(notebook):
        text = source(cell)
        asks = re.search(r"\b(check|predict|reveal)\(", text) or COMPARED in tags(cell)
        if asks and re.search(r"^\s*[%!]", text, re.MULTILINE):
            problems.append(f"cell {cell.get('id')} has a magic beside what is checked")
    return problems


# --- outputs -----------------------------------------------------------------------------------


def stored_outputs(notebook: Notebook) -> list[str]:
    """The notebook was run: counts, outputs, no error, and the state of its widgets."""
    problems = []
    cells = [cell for cell in code_cells(notebook) if source(cell).strip()]
    outputs = [output for cell in cells for output in cell["outputs"]]
    problems += [
        f"cell {cell.get('id')} was not run" for cell in cells if cell["execution_count"] is None
    ]
    if cells and not outputs:
        problems.append("no cell has a stored output")
    problems += errors(notebook)
    widgets = [output for output in outputs if WIDGET in output.get("data", {})]
    if widgets and not notebook["metadata"].get("widgets", {}).get(
        "application/vnd.jupyter.widget-state+json", {}
    ).get("state"):
        problems.append(f"{len(widgets)} widgets are shown, and their state is not stored")
    return problems


def errors(notebook: Notebook) -> list[str]:
    """Tracebacks among the outputs."""
    return [
        f"cell {cell.get('id')} shows {output.get('ename')}: {output.get('evalue')}"
        for cell in code_cells(notebook)
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]


# --- pages -------------------------------------------------------------------------------------


def page_structure(notebook: Notebook, unit: Unit) -> list[str]:
    """A page opens with its title and one question, and closes with what it does to the cost.

    Every page of a unit is held to this, for each is read by itself.
    """
    problems = []
    first = notebook["cells"][0]
    lines = [line.strip() for line in source(first).splitlines() if line.strip()]
    if first["cell_type"] != "markdown" or not lines or not lines[0].startswith(f"# {unit.id} "):
        problems.append(f"the first cell must be the title: # {unit.id} ...")
    if not any(line.endswith("?") for line in lines[1:2]):
        problems.append("the line after the title must be the page's question")
    text = prose(notebook)
    last = " ".join(re.split(r"\n\s*\n", text.strip())[-1].lower().split())
    missing = [cost for cost in _COSTS if cost not in last]
    problems += [f"the last paragraph does not say what happens to the {cost}" for cost in missing]
    if not re.search(r"[\u4e00-\u9fff]", text):
        problems.append("no term is given in Chinese beside the English")
    return problems


def lab_structure(notebook: Notebook, unit: Unit) -> list[str]:
    """A lab's title names its unit, and its metadata holds a true card that the lab shows."""
    try:
        card = of_notebook(notebook)
    except CardError as error:
        return [error.what]
    problems = []
    if card.unit != unit.id:
        problems.append(f"the card is of unit {card.unit}, expected {unit.id}")
    if not re.match(rf"# (Lab )?{unit.id} ", source(notebook["cells"][0])):
        problems.append(f"the first cell must be the title: # Lab {unit.id} ...")
    if not any(f'card("{unit.id}")' in source(cell) for cell in code_cells(notebook)):
        problems.append(f'no cell shows card("{unit.id}")')
    return problems


def card_lies(card: Card, seconds: float, peak: int) -> list[str]:
    """What a run of the solved lab belies: `seconds` it took, `peak` bytes of its kernel.

    How fast a machine is differs: only one that takes longer than the learner is given is too slow.
    """
    problems = []
    if peak > card.memory_mb * 1e6:
        problems.append(f"the kernel needs {peak / 1e6:,.0f} MB, the card says {card.memory_mb:,}")
    if seconds > card.minutes * 60:
        problems.append(f"the run alone takes {seconds:,.0f} s, the card says {card.minutes} min")
    return problems


# --- code and pages, both ways -----------------------------------------------------------------


def units_named(module: Path) -> set[str]:
    """The units that a module's docstring names: "Unit 3.2", "units 3.2 and 3.3"."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    named = set()
    for match in re.finditer(
        r"\bunits? ((?:[1-5]\.\d+)(?:(?:,| and|, and) [1-5]\.\d+)*)", text, re.I
    ):
        named.update(re.findall(r"[1-5]\.\d+", match[1]))
    return named


def links_to_code(pages: list[Notebook], unit: Unit, package: Path) -> list[str]:
    """A page of the unit links to every module of its chapter that names the unit, or to its
    package.

    `package` is the folder of `aiinfra_labs`. Exercises hold what the lab asks: no page need link.
    """
    text = "\n\n".join(prose(page) for page in pages)
    chapter = package / unit.chapter.name
    problems = []
    for module in sorted(chapter.rglob("*.py")):
        exempt = module == chapter / "__init__.py" or module.parent == chapter / "exercises"
        if exempt or unit.id not in units_named(module):
            continue
        path = module.relative_to(package.parent)
        places = [path.as_posix(), path.parent.as_posix()] if path.parent.parts[2:] else [str(path)]
        if not any(place in text for place in places):
            problems.append(f"no page of the unit links to {path.as_posix()}, which names the unit")
    return problems


def unexplained(package: Path) -> list[str]:
    """Modules of the four chapters whose docstring names no unit of the course map."""
    problems = []
    for chapter in ("llm", "coding", "gpu", "cloud"):
        for module in sorted((package / chapter).rglob("*.py")):
            path = module.relative_to(package)
            if path.name == "__init__.py" and not ast.parse(module.read_text("utf-8")).body[1:]:
                continue
            named = units_named(module)
            if not named:
                problems.append(f"the docstring of {path.as_posix()} names no unit")
            problems += [f"{path.as_posix()} names unit {u}" for u in named if u not in UNITS]
    return problems
