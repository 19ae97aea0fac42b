"""Make a page ready: fill in the source that it shows, run it, and store its outputs as they count.

    python -m aiinfra_labs.course.page book/4-cloud/02-paged-kv-cache.md

| the file | what is done |
|---|---|
| PAGE.md, of jupytext (md:myst) | its text goes into PAGE.ipynb, then as below; then it goes |
| PAGE.ipynb | shown source is brought up to date, the cells are run, what is printed is joined |

`--no-run` leaves the outputs as they are. `--check` writes nothing, and fails when there is
something to do.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from . import included, streams
from .merging import Notebook
from .parts import CourseError
from .work import write_whole


class PageError(CourseError):
    """A page that cannot be made ready."""


def problems(notebook: Notebook, path: Path) -> list[str]:
    """What `make_ready` would change, without a run."""
    cells = [cell.get("id") for cell in notebook["cells"] if streams.cut(cell)]
    found = [f"cell {cell} stores what it printed in pieces" for cell in cells]
    return found + included.stale(notebook, path)


def make_ready(path: Path, run: bool = True) -> list[str]:
    """Make one page ready, from its notebook or from its text. Returns what was done.

    Raises `PageError`, and leaves the files as they were, where a cell fails.
    """
    import nbformat

    text = path if path.suffix == ".md" else None
    target = path.with_suffix(".ipynb")
    notebook = _from_text(path, target) if text else nbformat.read(target, as_version=4)
    said = [f"{target.name}: its text is {path.name}'s"] if text else []
    if count := included.fill(notebook, target):
        said.append(f"{target.name}: {count} cells show their source as it is now")
    if run:
        _run(notebook, target)
        said.append(f"{target.name}: its cells were run")
    if count := streams.join(notebook):
        said.append(f"{target.name}: what {count} cells printed is joined")
    notebook = nbformat.from_dict(notebook)
    nbformat.validate(notebook)
    write_whole(target, (nbformat.writes(notebook, version=4) + "\n").encode())
    if text:
        text.unlink()
    return said


def _from_text(path: Path, target: Path) -> Notebook:
    """The notebook that a text makes; where there is one already, with its outputs and its ids."""
    try:
        import jupytext
        from jupytext.combine import combine_inputs_with_outputs
    except ImportError as error:
        raise PageError(
            "jupytext is not installed",
            "it makes a notebook of a text",
            f"{Path(sys.executable).name} -m pip install -r requirements.txt",
        ) from error
    # jupytext drops a Markdown cell that has metadata and no text yet.
    text = re.sub(r"(?m)^(\+\+\+ \{.*\})\s*\n(?=\+\+\+|```\{code-cell\}|\Z)", r"\1\n\n...\n\n",
                  path.read_text(encoding="utf-8"))  # fmt: skip
    made = jupytext.reads(text, fmt="md:myst")
    if target.is_file():
        made = combine_inputs_with_outputs(made, jupytext.read(target), fmt="md:myst")
    return made


def _run(notebook: Notebook, path: Path) -> None:
    """Run the cells. A new notebook is on its place before: a lab looks for its card there."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    place = {"metadata": {"path": str(path.resolve().parent)}}
    new = not path.exists()
    if new:
        write_whole(path, nbformat.writes(notebook, version=4).encode())
    client = NotebookClient(
        notebook,
        timeout=1800,
        startup_timeout=600,  # on a busy machine a kernel may take minutes to start
        kernel_name="python3",
        resources=place,
        record_timing=False,
    )
    notebook.metadata.pop("widgets", None)  # those of the last run: this one may show none
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran: every run would change every cell
    try:
        client.execute()
    except BaseException as error:
        if new:
            path.unlink()
        if not isinstance(error, CellExecutionError):
            raise
        raise PageError(
            f"a cell of {path.name} fails:\n{error}",
            "a page shows only what ran from top to bottom",
            "mend the cell; nothing was written",
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """The command: make pages ready."""
    parser = argparse.ArgumentParser(prog="python -m aiinfra_labs.course.page")
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE", help=".ipynb or .md")
    parser.add_argument("--no-run", action="store_true", help="keep the outputs")
    parser.add_argument("--check", action="store_true", help="only say what there is to do")
    chosen = parser.parse_args(arguments)
    try:
        failed = False
        for path in chosen.pages:
            if path.suffix not in (".ipynb", ".md") or not path.is_file():
                raise PageError(
                    f"{path} is no page",
                    "a page is a notebook, or its text as jupytext makes it",
                    "give the path of an .ipynb or .md file",
                )
            if chosen.check:
                found = problems(json.loads(path.read_text(encoding="utf-8")), path)
                print("\n".join(f"{path.name}: {line}" for line in found) or f"{path.name}: ready")
                failed = failed or bool(found)
            else:
                print("\n".join(make_ready(path, not chosen.no_run)) or f"{path.name}: ready")
        return int(failed)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
