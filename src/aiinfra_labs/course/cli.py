"""The command `aiinfra`: progress, check, work, reset, claims, and what the chapters add."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path

from . import claims, progress, rerun, skills, work
from .parts import CourseError
from .registry import Exercise, all_exercises
from .units import UNITS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 with the error on stderr in three parts."""
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.strerror}: {error.filename}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiinfra", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("progress", help="what you have solved, by unit and by skill")
    one.add_argument("--json", action="store_true", help="for a machine")
    one.set_defaults(run=_progress)
    one = commands.add_parser("check", help="run a notebook anew in a clean process, and grade it")
    one.add_argument("notebook", type=Path)
    one.add_argument("--json", action="store_true", help="for a machine")
    one.set_defaults(run=_check)
    one = commands.add_parser("work", help="fill or update work/ from labs/, keeping your cells")
    one.add_argument("--labs", type=Path, help="the labs to copy (default: the course's own)")
    one.add_argument("--work", type=Path, help="your copy (default: work/ beside labs/)")
    one.set_defaults(run=_work)
    one = commands.add_parser("reset", help="bring one lab back, keeping yours beside it")
    one.add_argument("unit", help="for example 3.2")
    one.set_defaults(run=_reset)
    one = commands.add_parser("claims", help="what the talk says, and what the course found")
    one.add_argument("--open", action="store_true", help="only those not examined yet")
    one.set_defaults(run=_claims)
    for added in entry_points(group="aiinfra.commands"):  # the course imports no chapter by name
        added.load()(commands)
    return parser


def _progress(chosen: argparse.Namespace) -> None:
    exercises, records = all_exercises(), progress.current().records()
    if chosen.json:
        print(json.dumps(_progress_data(exercises, records), ensure_ascii=False, indent=2))
        return
    rows = []
    for exercise in exercises:
        record = records.get(exercise.id)
        state = "-" if record is None else "solved" if record.solved else "tried"
        best = record.best if record else 0.0
        last = "" if record is None else f"{datetime.fromtimestamp(record.last):%Y-%m-%d %H:%M}"
        tries = str(record.attempts) if record else "0"
        points = f"{best:g}/{exercise.points:g}"
        rows.append((exercise.id, exercise.title, state, points, tries, last))
    print(_table(("exercise", "title", "state", "points", "attempts", "last"), rows))
    for heading, group in (
        ("unit", skills.by_unit(exercises, records)),
        ("skill", skills.by_skill(exercises, records)),
    ):
        rows = [
            (
                f"{s.name} {UNITS[s.name].title}" if s.name in UNITS else s.name,
                f"{s.solved}/{s.exercises}",
                f"{s.score:g}/{s.points:g}",
                _bar(s.share),
            )
            for s in group
        ]
        print("\n" + _table((heading, "solved", "points", ""), rows))


def _progress_data(exercises: list[Exercise], records: dict[str, progress.Record]) -> dict:
    def time(seconds: float | None) -> str | None:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()

    listed = []
    for exercise in exercises:
        record = records.get(exercise.id)
        listed.append(
            {
                "id": exercise.id,
                "title": exercise.title,
                "unit": exercise.unit,
                "skill": exercise.skill,
                "points": exercise.points,
                "best": record.best if record else 0.0,
                "attempts": record.attempts if record else 0,
                "hints": record.hints if record else 0,
                "first": time(record.first if record else None),
                "last": time(record.last if record else None),
                "solved": time(record.solved if record else None),
            }
        )
    return {
        "exercises": listed,
        "units": [asdict(s) | {"share": s.share} for s in skills.by_unit(exercises, records)],
        "skills": [asdict(s) | {"share": s.share} for s in skills.by_skill(exercises, records)],
        "predictions": {
            id: {"predicted": value, "measured": measured}
            for id, (value, measured) in progress.current().predictions().items()
        },
    }


def _check(chosen: argparse.Namespace) -> int:
    done = rerun.rerun(chosen.notebook)
    if chosen.json:
        print(json.dumps(asdict(done) | {"passed": done.passed}, ensure_ascii=False, indent=2))
    else:
        rows = [(id, f"{score:g}/{points:g}") for id, score, points in done.exercises]
        print(_table(("exercise", "points"), rows))
        for error in done.errors:
            print(f"a cell ended in {error}")
    return 0 if done.passed else 1


def _work(chosen: argparse.Namespace) -> None:
    labs = chosen.labs or work.labs_folder()
    if not labs.is_dir():
        raise work.WorkError(f"{labs} is not a folder", "the labs are copied from it", "see --labs")
    target = chosen.work or work.environment_folder() or labs.resolve().parent / "work"
    for line in work.fill(target, labs) or ["nothing is new"]:
        print(line)


def _reset(chosen: argparse.Namespace) -> None:
    path, old = work.reset(chosen.unit)
    print(f"{path} is as it was given out.")
    if old is not None:
        print(f"Yours is kept as {old.name} beside it.")


def _claims(chosen: argparse.Namespace) -> None:
    listed = [c for c in claims.all_claims() if c.is_open or not chosen.open]
    rows = [(c.id, c.page, c.unit, c.verdict, c.text) for c in listed]
    print(_table(("claim", "talk", "unit", "verdict", "the talk says"), rows))
    still = sum(c.is_open for c in listed)
    print(f"\n{len(listed)} claims, {still} open")


def _bar(share: float, width: int = 20) -> str:
    full = round(share * width)
    return "#" * full + "." * (width - full) + f" {share:4.0%}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )


if __name__ == "__main__":
    sys.exit(main())
