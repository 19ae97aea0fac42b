"""The roofline of this machine's CPU, and what an access to its memory costs. Unit 3.1.

    python benchmarks/this_machine.py [--quick] [--out FILE]

The best of several rounds of each figure: other programs can only lower it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
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


def measure(quick: bool) -> dict[str, Any]:
    """All figures: operations/s, bytes/s and seconds."""
    rounds, megabytes = (1, 8) if quick else (8, 64)
    delays = [this_machine.latency(megabytes) for _ in range(rounds)]
    return {
        "machine": machine(),
        "rounds": rounds,
        "matmul_rate": max(this_machine.matmul_rate(256 if quick else 2048) for _ in range(rounds)),
        "add_rate": max(this_machine.add_rate(megabytes) for _ in range(rounds)),
        "add_rate_one_thread": max(this_machine.add_rate(megabytes, 1) for _ in range(rounds)),
        "access_in_turn": min(delay.in_turn for delay in delays),
        "access_together": min(delay.together for delay in delays),
    }


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
    options = parser.parse_args()
    figures = measure(options.quick)
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", figures["machine"]["cpu"].lower()).strip("-")
        out = RESULTS / f"this_machine-{name}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(summary(figures))


if __name__ == "__main__":
    main()
