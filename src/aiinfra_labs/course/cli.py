"""The command `aiinfra`: progress, check, work, reset, claims, and what the chapters add."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
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
    one.add_argument("which", nargs="*", help="units or ids of claims, such as 4.2 or kv-80")
    one.add_argument("--open", action="store_true", help="only those not examined yet")
    one.add_argument("--json", action="store_true", help="for a machine")
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
        best = record.earned(exercise.points) if record else 0.0
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
                "best": record.earned(exercise.points) if record else 0.0,
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
        for result in done.results:
            if not result.passed:
                print(f"\n{result}")
        for error in done.errors:
            print(f"\na cell ended in {error}")
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
    every = claims.all_claims()
    named = set(chosen.which)
    unknown = named - {claim.id for claim in every} - set(UNITS)
    if unknown:
        raise claims.ClaimError(
            f"{', '.join(sorted(unknown))}: neither a unit nor the id of a claim",
            "claims are chosen by the unit that examines them, or by their own id",
            "`aiinfra claims` alone lists all of them",
        )
    listed = [
        claim
        for claim in every
        if (claim.is_open or not chosen.open)
        and (not named or claim.id in named or named.intersection(claim.units))
    ]
    if chosen.json:
        print(json.dumps([asdict(claim) for claim in listed], ensure_ascii=False, indent=2))
        return
    for claim in listed:
        print(f"{claim.id} ({claim.page}, unit {', '.join(claim.units)}): {claim.verdict}")
        print(_paragraph("The talk", claim.text))
        if not claim.is_open:
            print(_paragraph("Found", claim.figure))
            print(_paragraph("How", claim.how))
            print(f"  Source    {claim.source}")
        print()
    still = sum(claim.is_open for claim in listed)
    print(f"{len(listed)} {'claim' if len(listed) == 1 else 'claims'}, {still} open")


def _paragraph(name: str, text: str, width: int = 96) -> str:
    """`text` in lines of at most `width` characters, beside its name."""
    return textwrap.fill(
        text,
        width,
        initial_indent=f"  {name:9} ",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
