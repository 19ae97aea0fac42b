"""Does a skill appear suddenly? Models of several sizes, graded with several rulers. Unit 1.8.

    python benchmarks/emergence.py [--quick] [--seeds N] [--skill recall|addition] [--out FILE]

Every width of `growth.WIDTHS` learns each skill with each seed. A result that is there is not
measured again, so that a run that was stopped goes on, and two skills may be measured at a time;
remove the file to begin anew. One quiet core takes about ten minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import re
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm.emergence import growth
from aiinfra_labs.llm.emergence.skills import Addition, Recall

RESULTS = Path(__file__).parent / "results"
SKILLS = {skill.name: skill for skill in (Recall(), Addition())}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def kept(out: Path | None, lesson: growth.Lesson, skill: Any) -> dict[str, Any]:
    """What the file holds so far, with a place for this skill; read anew before each change."""
    figures: dict[str, Any] = {"lesson": asdict(lesson), "skills": {}}
    if out is not None and out.exists():
        figures = json.loads(out.read_text(encoding="utf-8"))
        if figures["lesson"] != asdict(lesson):
            raise SystemExit(
                f"{out.name} was measured with another lesson\n"
                "Why: sizes can be compared only where all were taught alike\n"
                "Try: remove it, and measure anew"
            )
    figures["machine"] = machine()
    figures["skills"].setdefault(skill.name, {**asdict(skill), "runs": []})
    return figures


def measure(
    lesson: growth.Lesson,
    widths: tuple[int, ...],
    seeds: int,
    skills: list[str],
    out: Path | None,
) -> None:
    """All models. What is done is written down after each."""
    for seed, name in itertools.product(range(seeds), skills):
        skill = SKILLS[name]
        for width in widths:
            runs = kept(out, lesson, skill)["skills"][name]["runs"]
            if any(run["width"] == width and run["seed"] == seed for run in runs):
                continue
            began = time.process_time()
            model = growth.taught(skill, width, seed, lesson)
            grades = growth.graded(model, skill, width, seed).to_dict()
            spent = time.process_time() - began
            print(
                f"{name}, seed {seed}, {grades['parameters']:,} parameters: "
                f"{grades['nats']:.3f} nats, exact match {grades['exact_match']:.3f} "
                f"({spent:.0f} s of processor time)",
                flush=True,
            )
            if out is not None:
                figures = kept(out, lesson, skill)
                figures["skills"][name]["runs"].append(
                    {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in grades.items()}
                )
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--skill", choices=SKILLS, help="only this one")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    skills = [options.skill] if options.skill else list(SKILLS)
    if options.quick:  # a quick run replaces no measurement
        measure(growth.Lesson(steps=3, batch=8), growth.WIDTHS[:2], 1, skills, options.out)
        return
    name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
    out = options.out or RESULTS / f"emergence-{name}.json"
    measure(growth.Lesson(), growth.WIDTHS, options.seeds, skills, out)


if __name__ == "__main__":
    main()
