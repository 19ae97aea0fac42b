"""Three versions of a notebook made into one, cell by cell: nothing a learner wrote is lost.

`base` is the lab as it was given out, `mine` what the learner made of it, `new` the lab as it is
given out now. A notebook is the plain data of its JSON.
"""

from __future__ import annotations

import copy
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]


def merge_notebooks(base: Notebook, mine: Notebook, new: Notebook) -> Notebook:
    """`new`, with every cell that the learner changed or added in its place.

    A cell that the learner left alone follows `new`; one that the learner changed stays, even
    where `new` changed it or dropped it; one that the learner deleted stays deleted.
    """
    before, theirs, coming = _by_key(base), _by_key(mine), _by_key(new)
    kept: dict[str, Cell] = {}
    for key, cell in coming.items():
        if key in theirs:
            kept[key] = _one(before.get(key), theirs[key], cell)
        elif key not in before:
            kept[key] = copy.deepcopy(cell)
    merged = copy.deepcopy(new)
    merged["metadata"] = {**mine.get("metadata", {}), **new.get("metadata", {})}
    merged["cells"] = _with_own(kept, theirs, before)
    return merged


def _one(base: Cell | None, mine: Cell, new: Cell) -> Cell:
    """One cell: the learner's source where it was changed, the new one where it was not."""
    untouched = base is not None and source(mine) == source(base)
    same = source(mine) == source(new)
    chosen = copy.deepcopy(new if untouched or same else mine)
    if same and mine.get("cell_type") == new.get("cell_type") == "code":
        chosen["outputs"] = copy.deepcopy(mine.get("outputs", []))
        chosen["execution_count"] = mine.get("execution_count")
    return chosen


def _with_own(
    kept: dict[str, Cell], theirs: dict[str, Cell], before: dict[str, Cell]
) -> list[Cell]:
    """Put the cells that only the learner has after the cell that they stood behind."""
    after: dict[str, list[Cell]] = {}
    place = ""
    for key, cell in theirs.items():
        if key in kept:
            place = key
        elif key not in before or source(cell) != source(before[key]):
            after.setdefault(place, []).append(copy.deepcopy(cell))
    result = after.get("", [])
    for key, cell in kept.items():
        result += [cell, *after.get(key, [])]
    return result


def source(cell: Cell) -> str:
    """A cell's text, which JSON may hold as one string or as lines."""
    text = cell.get("source", "")
    return text if isinstance(text, str) else "".join(text)


def _key(cell: Cell, number: int) -> str:
    """What names a cell in all versions: nbgrader's id, else the cell's own, else its place."""
    grade = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id")
    return f"grade {grade}" if grade else f"cell {cell.get('id', number)}"


def _by_key(notebook: Notebook) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for number, cell in enumerate(notebook.get("cells", [])):
        key = _key(cell, number)
        while key in cells:  # a copied cell keeps its id: the copy is the learner's own
            key += " copy"
        cells[key] = cell
    return cells
