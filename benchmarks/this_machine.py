"""The roofline of this machine's CPU, and what an access to its memory costs. Unit 3.1.

    python benchmarks/this_machine.py [--quick] [--rounds N] [--pause SECONDS] [--add] [--out FILE]

The best of several rounds of each figure: other programs can only make it worse. On a machine that
is busy, more rounds with a pause between them, or added later, find a quiet moment.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiinfra_labs.gpu import this_machine

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def measure(quick: bool, rounds: int = 8, pause: float = 0) -> dict[str, Any]:
    """The best of each figure: operations/s, bytes/s and seconds. pause: seconds between rounds."""
    side, megabytes, rounds = (256, 8, 1) if quick else (2048, 64, rounds)
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        time.sleep(pause if number else 0)
        delay = this_machine.latency(8 if quick else 128)
        for name, value in {
            "matmul_rate": this_machine.matmul_rate(side, 3),
            "add_rate": this_machine.add_rate(megabytes),
            "add_rate_one_thread": this_machine.add_rate(megabytes, 1),
            "access_in_turn": delay.in_turn,
            "access_together": delay.together,
        }.items():
            found.setdefault(name, []).append(value)
    best = {name: _better(name)(values) for name, values in found.items()}
    return {"machine": machine(), "rounds": rounds, **best}


def _better(name: str) -> Callable[[Iterable[float]], float]:
    """Of rates the largest is the best, of times the smallest."""
    return max if "rate" in name else min


def added(figures: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """The rounds of both, where both are of one machine: the best of each figure."""
    if any(figures["machine"][key] != stored["machine"][key] for key in ("cpu", "cores")):
        raise SystemExit("the stored figures are another machine's: leave --add out")
    best = {
        name: _better(name)([value, stored.get(name, value)])
        for name, value in figures.items()
        if name not in ("machine", "rounds")
    }
    return {**figures, "rounds": figures["rounds"] + stored["rounds"], **best}


def summary(figures: dict[str, Any]) -> str:
    where = figures["machine"]
    return (
        f"{where['cpu']}, {where['cores']} cores: {figures['matmul_rate'] / 1e9:.0f} GFLOP/s, "
        f"{figures['add_rate'] / 1e9:.1f} GB/s; an access takes "
        f"{figures['access_in_turn'] * 1e9:.0f} ns alone, "
        f"{figures['access_together'] * 1e9:.1f} ns among others"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--add", action="store_true", help="to the rounds that are stored")
    parser.add_argument("--pause", type=float, default=0, help="seconds between rounds")
    options = parser.parse_args()
    figures = measure(options.quick, options.rounds, options.pause)
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", figures["machine"]["cpu"].lower()).strip("-")
        out = RESULTS / f"this_machine-{name}.json"
    if out is not None and options.add and out.exists():
        figures = added(figures, json.loads(out.read_text(encoding="utf-8")))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(summary(figures))


if __name__ == "__main__":
    main()
