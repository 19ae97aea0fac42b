"""Build the course's site from the pages' stored outputs: `python -m aiinfra_labs.course.site`.

Jupyter Book does the work, as `_config.yml` and `_toc.yml` say, in a process of its own. Here is
what it lacks: nothing is done when nothing changed, any warning is an error, and a build that
fails leaves the site as it was.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
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
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as folder:
        made = Path(folder) / "html"
        _run(root, made, Path(folder) / "doctrees")
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


def fingerprint(root: Path) -> str:
    """A hash of everything that the site is built from, and of what builds it."""
    digest = hashlib.sha256()
    for path in _inputs(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for package in BUILDERS:
        try:
            digest.update(f"{package} {version(package)}\0".encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()


def _inputs(root: Path) -> Iterator[Path]:
    for name in INPUTS:
        place = root / name
        if place.is_file():
            yield place
        for folder, folders, files in os.walk(place):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__pycache__")))
            yield from (Path(folder, file) for file in sorted(files) if not file.startswith("."))


def _run(root: Path, site: Path, doctrees: Path) -> None:
    command = [sys.executable, "-c", _BUILD, str(root), str(site), str(doctrees)]
    environment = os.environ | {"PYTHONUTF8": "1"}
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
