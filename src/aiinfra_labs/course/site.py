"""Build the course's site from the pages' stored outputs: `python -m aiinfra_labs.course.site`.

Jupyter Book does the work, as `_config.yml` and `_toc.yml` say, in a process of its own. Here is
what it lacks: nothing is done when nothing changed, any warning is an error, and a build that
fails leaves the site as it was.

Where only pages changed, and each kept its headings, only these are built: the rest is taken from
the site of before. A heading stands on other pages, too, in their tables of contents and in links
to it. So does all else that goes in, such as the configuration or the code: then all is built.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .parts import CourseError
from .units import repository

# What goes into the site: the pages, what builds them, and the files that they link to.
INPUTS = (
    "_config.yml",
    "_toc.yml",
    "book",
    "labs",
    "src/aiinfra_labs",
    "benchmarks",
    "AGENTS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "requirements.txt",
)
BUILDERS = ("jupyter-book", "myst-nb", "pydata-sphinx-theme", "sphinx", "sphinx-book-theme")
STAMP = ".inputs"  # in the site's folder: the hash of what it was built from
PAGES = ".pages.json"  # in the site's folder: what `_pages_only` compares
DOCTREES = ".doctrees"  # in the site's folder: the pages as Sphinx has read them
KEEP_CODE = "AIINFRA_SITE_KEEP_CODE"  # set: the code's pages are there; course_site/code_pages.py
MOST_WARNINGS = 20  # shown of one build
_MARKS = ("WARNING:", "ERROR:", "CRITICAL:", "rror:", "rror!", "[key path:")  # of what went wrong
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# `jupyter-book build`, less its banners and with the folder of the site given.
_BUILD = """
import sys
from jupyter_book.sphinx import build_sphinx
root, site, doctrees = sys.argv[1:]
overrides = {"external_toc_path": f"{root}/_toc.yml", "latex_individualpages": False}
failed = build_sphinx(
    root, site, doctreedir=doctrees, noconfig=True, path_config=f"{root}/_config.yml",
    confoverrides=overrides, warningiserror=True, keep_going=True, quiet=True,
)
sys.exit(1 if failed else 0)
"""


class SiteError(CourseError):
    """A site that was not built."""


def build(root: Path, out: Path | None = None, force: bool = False) -> Path:
    """Build the site of the course in `root` unless it is there and up to date; its folder.

    out: the site's folder, `root`/_build/html unless given. Nothing else may be kept in it.
    force: build even when nothing changed.
    Raises `SiteError`, with each warning of the build; the site of before is then still there.
    """
    root = root.resolve()
    out = (out or root / "_build" / "html").resolve()
    for needed in ("_config.yml", "_toc.yml"):
        if not (root / needed).is_file():
            raise SiteError(
                f"there is no {needed} in {root}",
                "the site is built from the course's folder",
                "run this in a clone of the course, or give its folder with --root",
            )
    stamp = out / STAMP
    if out.exists() and not stamp.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise SiteError(
            f"{out} holds something else than a site of the course",
            "a build replaces its whole folder",
            "name another folder with --out, or remove this one",
        )
    inputs = fingerprint(root)
    if not force and stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs:
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    now = _state(root)
    changed = None if force else _pages_only(out, now)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as folder:
        made = Path(folder) / "html"
        doctrees = made / DOCTREES
        if changed is not None:
            shutil.copytree(out, made, symlinks=True)  # with its times, by which Sphinx goes
            (made / STAMP).unlink()
            for page in changed:  # so that Sphinx reads it, whatever the time of its file
                (doctrees / page).with_suffix(".doctree").unlink(missing_ok=True)
        _run(root, made, doctrees, keep_code=changed is not None)
        (made / PAGES).write_text(json.dumps(now), encoding="utf-8")
        (made / STAMP).write_text(inputs, encoding="utf-8")
        _exchange(out, made, Path(folder) / "old")
    return out


def _exchange(out: Path, made: Path, old: Path) -> None:
    """Put the new site where the old one is. The old one comes back where that cannot be done."""
    try:
        if out.exists():
            out.rename(old)
        try:
            made.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise
    except OSError as error:
        raise SiteError(
            f"the site could not be put into {out}: {error.strerror}",
            "a build replaces its whole folder; one that is a disk of its own, or in use, "
            "cannot be replaced",
            "name another folder with --out",
        ) from error


def _state(root: Path) -> dict[str, dict[str, list[str]]]:
    """Each page by the hashes of its file and of its headings; all else as one."""
    pages, rest = {}, hashlib.sha256()
    for path in _inputs(root):
        name, content = path.relative_to(root).as_posix(), path.read_bytes()
        whole = hashlib.sha256(content).hexdigest()
        if name.startswith("book/") and name.endswith(".ipynb"):
            outline = "\n".join(_headings(content))
            pages[name] = [whole, hashlib.sha256(outline.encode()).hexdigest()]
        else:
            rest.update(f"{name}\0{whole}\0".encode())
    rest.update("\0".join(_builders()).encode())
    return {"pages": pages, "rest": {"all": [rest.hexdigest()]}}


def _headings(notebook: bytes) -> list[str]:
    """The lines of a notebook that other pages may show or link to: its headings and labels."""
    try:
        cells = json.loads(notebook)["cells"]
        lines = [
            line
            for cell in cells
            if cell["cell_type"] == "markdown"
            for line in "".join(cell["source"]).splitlines()
        ]
    except (ValueError, KeyError, TypeError):  # no notebook: its content stands for it
        return [hashlib.sha256(notebook).hexdigest()]
    marks = ("#", "(", "===", "---", ":label:", ":name:")  # of headings, labels and formulas
    return [line for line in lines if line.lstrip().startswith(marks) or "{#" in line]


def _pages_only(out: Path, now: dict[str, dict[str, list[str]]]) -> list[str] | None:
    """The pages that changed since `out` was built, if nothing else did; None to build all."""
    try:
        before = json.loads((out / PAGES).read_text(encoding="utf-8"))
        was, pages = before["pages"], now["pages"]
        if before["rest"] != now["rest"] or set(was) != set(pages):
            return None
        if any(was[name][1] != pages[name][1] for name in pages):
            return None
        changed = [name for name in pages if was[name][0] != pages[name][0]]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return changed if changed and (out / DOCTREES / "environment.pickle").is_file() else None


def fingerprint(root: Path) -> str:
    """A hash of everything that the site is built from, and of what builds it."""
    digest = hashlib.sha256()
    for path in _inputs(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for builder in _builders():
        digest.update(f"{builder}\0".encode())
    return digest.hexdigest()


def _builders() -> list[str]:
    """What builds the site, each with its version."""
    found = []
    for package in BUILDERS:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def _inputs(root: Path) -> Iterator[Path]:
    for name in INPUTS:
        place = root / name
        if place.is_file():
            yield place
        for folder, folders, files in os.walk(place):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__pycache__")))
            yield from (Path(folder, file) for file in sorted(files) if not file.startswith("."))


def _run(root: Path, site: Path, doctrees: Path, keep_code: bool = False) -> None:
    command = [sys.executable, "-c", _BUILD, str(root), str(site), str(doctrees)]
    environment = os.environ | {"PYTHONUTF8": "1"}
    environment.pop(KEEP_CODE, None)
    if keep_code:
        environment[KEEP_CODE] = "1"
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    said = _COLOUR.sub("", done.stdout + done.stderr).strip().splitlines()
    if "No module named 'jupyter_book'" in done.stderr:
        raise SiteError(
            "Jupyter Book is not installed",
            "it builds the site",
            f"{Path(sys.executable).name} -m pip install -r requirements.txt",
        )
    # Of a mistake in _config.yml Jupyter Book tells, and goes on.
    if done.returncode == 0 and not any("[key path:" in line for line in said):
        return
    told = [_place(line, root) for line in said if _tells(line)] or said
    more = [f"... and {len(told) - MOST_WARNINGS} more"] if len(told) > MOST_WARNINGS else []
    raise SiteError(
        "\n  ".join(["the site was not built", *told[:MOST_WARNINGS], *more]),
        "a warning of the build is an error: what a reader would find broken, it names",
        "mend the pages or _toc.yml, and build again",
    )


def _tells(line: str) -> bool:
    return any(mark in line for mark in _MARKS)


def _place(line: str, root: Path) -> str:
    """A warning with its place as an author sees it.

    MyST-NB counts 10,000 lines for a cell, and the cells and the lines above from 1.
    """
    line = line.replace(f"{root}{os.sep}", "")
    return re.sub(
        r"^(\S+\.ipynb):(\d+)(\d{4}):",
        lambda match: f"{match[1]}, cell {int(match[2])}, line {int(match[3]) - 1}:",
        line,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command: build the site."""
    parser = argparse.ArgumentParser(prog="python -m aiinfra_labs.course.site")
    parser.add_argument("--root", type=Path, default=None, help="the course's folder")
    parser.add_argument("--out", type=Path, default=None, help="default: _build/html")
    parser.add_argument("--force", action="store_true", help="build even if nothing changed")
    chosen = parser.parse_args(arguments)
    root = chosen.root or repository()
    try:
        if root is None:
            raise SiteError(
                "the course's folder was not found",
                "the site is built from its pages, which the installed package does not hold",
                "run this in a clone of the course, or give --root",
            )
        print(f"The site is in {build(root, chosen.out, chosen.force)}")
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
