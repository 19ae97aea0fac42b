"""The learner's copy of the labs, `work/`: filled, updated without loss, and reset.

`work/.released/` keeps each lab as it was given out, so that an update can tell what the learner
wrote from what the course did.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from .merging import merge_notebooks
from .parts import CourseError
from .units import UNITS, repository, work_folder

RELEASED = ".released"


class WorkError(CourseError):
    """Something about `work/` that cannot be done."""


def fill(work: Path, labs: Path) -> list[str]:
    """Copy what is new in `labs/` into `work/`; merge what changed. Returns a line for each."""
    done = []
    for lab in sorted(p for p in labs.rglob("*") if p.is_file() and ".ipynb_check" not in str(p)):
        name = lab.relative_to(labs)
        mine, base = work / name, work / RELEASED / name
        given = lab.read_bytes()
        if not mine.exists():
            if base.exists() and base.read_bytes() == given:
                continue  # the learner deleted it: it stays so
            write_whole(mine, given)
            done.append(f"new: {name.as_posix()}")
        elif not base.exists() or base.read_bytes() != given:
            done.append(_update(mine, base, lab, name.as_posix()))
            if done[-1].startswith("left alone"):
                continue
        else:
            continue
        write_whole(base, given)
    agents = work / "AGENTS.md"
    rules = agents_rules(labs.parent)
    if rules is not None and (not agents.exists() or agents.read_bytes() != rules):
        write_whole(agents, rules)
        done.append("new: AGENTS.md")
    return done


def _update(mine: Path, base: Path, lab: Path, name: str) -> str:
    if lab.suffix != ".ipynb":
        if base.exists() and mine.read_bytes() != base.read_bytes():
            return f"left alone, you changed it: {name}"
        write_whole(mine, lab.read_bytes())
        return f"updated: {name}"
    try:
        theirs = _read(mine)
        released = _read(base) if base.exists() else {"cells": []}
        merged = merge_notebooks(released, theirs, _read(lab))
    except (ValueError, AttributeError, TypeError):
        return f"left alone, it is no notebook that can be read: {name}"
    if merged != theirs:
        text = json.dumps(merged, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        write_whole(mine, text.encode())
    return f"updated, your cells kept: {name}"


def reset(unit: str, work: Path | None = None) -> tuple[Path, Path | None]:
    """Bring back the lab of `unit` as it was given out.

    Returns its path and where the old one is kept (None when there was none).
    """
    if unit not in UNITS:
        raise WorkError(
            f"there is no unit {unit!r}",
            "a unit is the number of its chapter and its own",
            "for example: aiinfra reset 3.2",
        )
    work = work or work_folder()
    if work is None or not work.is_dir():
        raise WorkError(
            "no work/ folder was found" if work is None else f"{work} is not a folder",
            "it is looked for in this folder and those above it; AIINFRA_WORK names another",
            "go to the course's folder, or make one with: aiinfra work",
        )
    name = UNITS[unit].notebook
    checkout = repository(work)
    beside = (work.resolve().parent / "labs") / name
    places = [beside, *([checkout / "labs" / name] if checkout else []), work / RELEASED / name]
    lab = next((p for p in places if p.is_file()), None)
    if lab is None:
        raise WorkError(
            f"the lab of unit {unit} was not found",
            f"neither labs/ nor {RELEASED}/ holds {name}",
            "update the course, or choose a unit that has a lab",
        )
    mine, old = work / name, None
    if mine.exists():
        stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
        old = mine.with_name(f"{mine.stem}-kept-{stamp}{mine.suffix}")
        mine.rename(old)
    given = lab.read_bytes()
    write_whole(mine, given)
    write_whole(work / RELEASED / name, given)
    return mine, old


def labs_folder() -> Path:
    """`labs/` of the course's checkout."""
    checkout = repository()
    if checkout is None:
        raise WorkError(
            "labs/ was not found",
            "work/ is filled from the labs of the course's own folder",
            "go to a clone of the course, or name its labs with --labs",
        )
    return checkout / "labs"


def agents_rules(root: Path) -> bytes | None:
    """AGENTS.md of the course: what a learner's AI assistant should be."""
    path = root / "AGENTS.md"
    return path.read_bytes() if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise ValueError(f"{path.name} has no cells")
    return notebook


def write_whole(path: Path, content: bytes) -> None:
    """Whole or not at all: a reader never sees half a file. A link stays one, and so do rights."""
    if path.is_symlink():
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_bytes(content)
        if path.exists():
            shutil.copymode(path, half)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def environment_folder() -> Path | None:
    """The work folder that `AIINFRA_WORK` names, if it does."""
    named = os.environ.get("AIINFRA_WORK")
    return Path(named).expanduser() if named else None
