"""Our engine beside static batches, by the processor's time: few requests, on a busy machine too.

    python benchmarks/serving_processor.py [--requests N] [--rounds N]

As `serving.py`, with one thread and a clock that runs only while this process computes, so that
other programs disturb it little. Each round runs every system once; of each, the fastest round
counts. Printed, and not stored. Units 4.2 and 4.3.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import serving_systems  # noqa: I001
import torch
from serving import requests_of

from aiinfra_labs.llm import page_model

SYSTEMS = {
    "transformers static, 8": (serving_systems.transformers_static, 8),
    "transformers static, 16": (serving_systems.transformers_static, 16),
    "engine static, 16": (serving_systems.ours_static, 16),
    "engine, compiled": (partial(serving_systems.ours, attention="compiled"), 64),
    "engine, torch": (partial(serving_systems.ours, attention="torch"), 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="systems whose name has this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    serving_systems.clock = time.process_time
    requests = requests_of(False)[: options.requests]
    best: dict[str, float] = {}
    answers: dict[str, list[Any]] = {}
    for number in range(options.rounds):
        for name, (system, slots) in SYSTEMS.items():
            if options.only not in name:
                continue
            found, figures = system(page_model.folder(), requests, slots)
            print(f"round {number + 1}: {name}: {figures['seconds']:.2f} s", file=sys.stderr)
            best[name] = min(best.get(name, figures["seconds"]), figures["seconds"])
            answers[name] = [answer.ids for answer in found]
    tokens = sum(new for _, new in requests)
    fastest = min((s for name, s in best.items() if "transformers" in name), default=None)
    for name, seconds in best.items():
        print(f"{name:26} {seconds:7.2f} s {tokens / seconds:8.0f} tokens/s", end="")
        print(f"  x {fastest / seconds:.2f} of static batches" if fastest else "")
    compiled = answers.get("engine, compiled")
    if compiled:
        for name, ids in answers.items():
            same = sum(a == b for a, b in zip(ids, compiled, strict=True))
            print(f"{name}: {same} of {len(ids)} answers equal the engine's")


if __name__ == "__main__":
    main()
