"""Labs from solutions, with nbgrader's own preprocessors: `make labs`.

    python -m aiinfra_labs.course.release [--check] [--root FOLDER]

Everything in `labs/` is made anew, and `cards.toml` with it. The same solutions give the same
bytes. `--check` writes nothing and fails when something is out of step.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cards import CardError, cards_toml, of_notebook
from .parts import CourseError
from .units import repository
from .work import write_whole

CARDS = Path(__file__).with_name("cards.toml")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"

# What is kept of a notebook's metadata: the rest (widget state, the version of Python that last
# ran it) changes without the lab changing.
_KEPT = ("aiinfra", "kernelspec", "nbgrader")


class ReleaseError(CourseError):
    """A solution from which no lab can be made."""


def notebooks(tree: Path) -> list[Path]:
    """Every notebook of a tree, in order, without the copies that editors make."""
    return [
        path
        for path in sorted(tree.rglob("*.ipynb"))
        if not any(part.startswith(".") for part in path.relative_to(tree).parts)
    ]


def preprocessors(root: Path) -> Iterator[Any]:
    """nbgrader's preprocessors as `nbgrader_config.py` lists them, less what needs a database."""
    from traitlets.config.loader import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    for name in config.GenerateAssignment.preprocessors:
        module, _, kind = name.rpartition(".")
        if kind != "SaveCells":
            yield getattr(importlib.import_module(module), kind)(config=config)


def release(solution: Path, root: Path) -> str:
    """The text of the lab that is made from one solution notebook."""
    import nbformat

    notebook = nbformat.read(solution, as_version=4)
    _check_markers(notebook, solution.name, (BEGIN, END))
    log = logging.getLogger("traitlets")
    level, log.level = log.level, logging.CRITICAL  # what it logs, the error below says
    try:
        for preprocessor in preprocessors(root):
            notebook, _ = preprocessor(notebook, {})
    except Exception as error:
        raise ReleaseError(
            f"no lab can be made from {solution.name}: {error}",
            "nbgrader's preprocessors reject the solution",
            "check the markers and the nbgrader metadata of its cells",
        ) from error
    finally:
        log.level = level
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in _KEPT}
    notebook.metadata.get("aiinfra", {}).pop("given", None)  # lines of answers: see rules.leaks
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
    _check_markers(notebook, solution.name, ())
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def _check_markers(notebook: Any, name: str, allowed: tuple[str, ...]) -> None:
    for cell in notebook.cells:
        for line in cell.source.split("\n"):
            marks = "BEGIN SOLUTION" in line or "END SOLUTION" in line
            if marks and line.strip() not in allowed:
                raise ReleaseError(
                    f"{name}: cell {cell.get('id')} has the line {line.strip()!r}",
                    f"markers are written exactly {BEGIN} and {END}, in pairs",
                    "correct the marker",
                )


def all_labs(root: Path) -> dict[str, str]:
    """The text of every lab, by its path below labs/."""
    solutions = root / "solutions"
    return {
        path.relative_to(solutions).as_posix(): release(path, root) for path in notebooks(solutions)
    }


def all_cards(root: Path) -> str:
    """The text of `cards.toml`, from the metadata of the solutions."""
    cards = [
        of_notebook(json.loads(path.read_text(encoding="utf-8")), path.name)
        for path in notebooks(root / "solutions")
    ]
    return cards_toml({card.unit: card for card in cards})


def out_of_step(root: Path, cards: Path = CARDS) -> list[str]:
    """What differs between `labs/` and what `solutions/` would give now; empty when nothing."""
    labs, wanted, problems = root / "labs", all_labs(root), []
    for name, text in wanted.items():
        path = labs / name
        if not path.is_file():
            problems.append(f"labs/{name} is missing")
        elif path.read_text(encoding="utf-8") != text:
            problems.append(f"labs/{name} differs from what its solution gives")
    for path in notebooks(labs):
        if path.relative_to(labs).as_posix() not in wanted:
            problems.append(f"labs/{path.relative_to(labs).as_posix()} has no solution")
    if (cards.read_text(encoding="utf-8") if cards.is_file() else "") != all_cards(root):
        problems.append(f"{cards.name} differs from the cards of solutions/")
    return problems


def write(root: Path, cards: Path = CARDS) -> list[Path]:
    """Make `labs/` and `cards.toml` anew. Returns the labs that were written.

    Raises `ReleaseError`, and changes nothing, where no lab can be made or where something in
    `labs/` was not made here: a learner's notebook that ended up in it, for example.
    """
    labs, made, text_of_cards = root / "labs", all_labs(root), all_cards(root)
    if not made:
        raise ReleaseError(
            f"{root / 'solutions'} holds no notebook",
            "labs are made from solutions/, and what has no solution there is removed from labs/",
            "give the course's folder with --root",
        )
    there = notebooks(labs)
    for path in there:
        if not _was_made(path):
            raise ReleaseError(
                f"{path} was not made from a solution: it has outputs, or is no lab at all",
                "labs/ is made anew as a whole, and this notebook would be lost",
                "move it to work/, or remove it",
            )
    for path in there:
        if path.relative_to(labs).as_posix() not in made:
            path.unlink()
    for name, text in made.items():
        write_whole(labs / name, text.encode())
    write_whole(cards, text_of_cards.encode())
    return [labs / name for name in made]


def _was_made(path: Path) -> bool:
    """Whether a notebook is a lab as it was given out: nobody has run or written one of its own."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        ran = any(cell.get("outputs") or cell.get("execution_count") for cell in code)
        return "unit" in notebook["metadata"]["aiinfra"] and not ran
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def cards_of(root: Path) -> Path:
    """The `cards.toml` of the course in `root`; of one that has no code, the package's own."""
    own = root / CARDS.relative_to(CARDS.parents[3])
    return own if own.parent.is_dir() else CARDS


def main(arguments: list[str] | None = None) -> int:
    """The command: make labs/ from solutions/."""
    parser = argparse.ArgumentParser(prog="python -m aiinfra_labs.course.release")
    parser.add_argument("--check", action="store_true", help="only say what is out of step")
    parser.add_argument("--root", type=Path, default=None, help="the course's folder")
    chosen = parser.parse_args(arguments)
    root = chosen.root or repository()
    try:
        if root is None:
            raise ReleaseError(
                "the course's folder was not found",
                "labs are made from solutions/, which the installed package does not hold",
                "run this in a clone of the course, or give --root",
            )
        root = root.resolve()
        if chosen.check:
            problems = out_of_step(root, cards_of(root))
            print("\n".join(problems) or "labs/ is in step with solutions/")
            if problems:
                print("Run `make labs` and commit what changed.")
            return 1 if problems else 0
        if not cards_of(root).is_relative_to(root):
            raise ReleaseError(
                f"{root} holds labs, and no code of the course",
                "the cards of its labs are kept with the code, in cards.toml",
                "run this in a clone of the course",
            )
        for path in write(root, cards_of(root)):
            print(path.relative_to(root).as_posix())
    except (ReleaseError, CardError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
