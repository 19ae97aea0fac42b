"""Our engine beside transformers' static and continuous batches and llama.cpp. Units 4.2 and 4.3.

    python benchmarks/serving.py [--quick] [--rounds N] [--out FILE]

The same requests, the same weights in float32, the same threads, all requests there at once. Each
system runs in a process of its own, so that its memory is its own, and all take turns for several
rounds; of each, the fastest round counts, since other programs can only slow one down. llama.cpp
needs `pip install llama-cpp-python gguf`, which compiles it; without it the others are compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
STATIC_SLOTS = (8, 16, 32)  # batch sizes that static batching may choose among
SLOTS = 64  # sequences at once, of the others


def requests_of(quick: bool) -> list[tuple[list[int], int]]:
    """The mixed workload: chats, questions behind one system prompt, long documents."""
    from aiinfra_labs.cloud.serving import workloads
    from aiinfra_labs.cloud.serving.workloads import Load, scale_for

    def load(kind: str) -> Load:
        return Load(scale=scale_for(kind), context=1000, seed=1)

    counts = (4, 2, 2) if quick else (64, 32, 16)
    found = [
        *workloads.chat(counts[0], load("chat")),
        *workloads.shared_prefix(counts[1], load("shared_prefix")),
        *workloads.long_documents(counts[2], load("long_documents")),
    ]
    order = np.random.default_rng(0).permutation(len(found))
    return [(found[i].prompt_tokens, found[i].new_tokens) for i in order]


def measured(system: str, slots: int, quick: bool) -> dict[str, Any]:
    """One system, in this process."""
    from aiinfra_labs.llm import page_model
    from serving_systems import SYSTEMS

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    requests = requests_of(quick)
    answers, figures = SYSTEMS[system](page_model.folder(), requests, slots)
    for (_, new), answer in zip(requests, answers, strict=True):
        assert len(answer.ids) == new, "an answer is shorter than asked"
    gaps = [(a.last - a.first) / (len(a.ids) - 1) for a in answers if len(a.ids) > 1]
    tokens = sum(len(a.ids) for a in answers)
    return figures | {
        "slots": slots,
        "new_tokens_a_second": tokens / figures["seconds"],
        "first_token_seconds": {"mean": mean(a.first for a in answers)}
        | {"median": median(a.first for a in answers)},
        "seconds_a_token": {"mean": mean(gaps), "median": median(gaps)},
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ids": [a.ids for a in answers],
    }


def planned() -> dict[str, float]:
    """The share of a step that is no model, in this process."""
    from aiinfra_labs.llm import page_model
    from serving_systems import planning

    return planning(page_model.folder())


def in_a_process(system: str, slots: int, quick: bool, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--system", system, "--slots", str(slots)]
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run(
        command + ["--quick"] * quick, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{system} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(rounds: int, quick: bool, threads: int) -> dict[str, Any]:
    """The best round of each system, and ratios of throughput."""
    plans = [("transformers static", slots) for slots in STATIC_SLOTS]
    plans += [("transformers continuous", SLOTS), ("engine static", STATIC_SLOTS[-1])]
    plans += [("engine", SLOTS)]
    if importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("gguf"):
        plans.insert(-1, ("llama.cpp", SLOTS))
    best: dict[str, dict[str, Any]] = {}
    for number in range(rounds):
        for system, slots in plans:
            found = in_a_process(system, slots, quick, threads)
            print(
                f"round {number + 1}: {system} x {slots}: "
                f"{found['new_tokens_a_second']:.0f} tokens/s",
                file=sys.stderr,
            )
            if system not in best or found["seconds"] < best[system]["seconds"]:
                best[system] = found
    texts = {system: found.pop("ids") for system, found in best.items()}
    ours = best["engine"]["new_tokens_a_second"]
    for system, found in best.items():
        same = [a == b for a, b in zip(texts[system], texts["engine"], strict=True)]
        found["answers_equal_to_the_engines"] = sum(same) / len(same)
        found["engine_is_times_as_fast"] = ours / found["new_tokens_a_second"]
    return best


def machine(threads: int) -> dict[str, Any]:
    from aiinfra_labs.gpu import this_machine

    found = {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if importlib.util.find_spec("llama_cpp"):
        found["llama-cpp-python"] = version("llama-cpp-python")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few requests, to try it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--system", help="run one, in this process")
    parser.add_argument("--slots", type=int, default=SLOTS)
    options = parser.parse_args()
    if options.system == "planning":
        print(json.dumps(planned()))
        return
    if options.system:
        print(json.dumps(measured(options.system, options.slots, options.quick)))
        return
    found: dict[str, Any] = {"machine": machine(options.threads)}
    requests = requests_of(options.quick)
    found["requests"] = {
        "count": len(requests),
        "prompt_tokens": sum(len(prompt) for prompt, _ in requests),
        "new_tokens": sum(new for _, new in requests),
        "longest_answer": max(new for _, new in requests),
    }
    found["planning"] = in_a_process("planning", 256, options.quick, options.threads)
    found["systems"] = compared(options.rounds, options.quick, options.threads)
    name = re.sub(r"[^a-z0-9]+", "-", found["machine"]["cpu"].lower()).strip("-")
    out = options.out or RESULTS / f"serving-{name}.json"
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(
        f"of a step at 256 sequences: the plan {found['planning']['plan']:.1%}, all but the ",
        end="",
    )
    print(f"model {found['planning']['all_but_the_model']:.1%}")
    for system, one in found["systems"].items():
        print(f"{system:26} {one['new_tokens_a_second']:8.0f} tokens/s", end="")
        print(f" {one['first_token_seconds']['mean']:7.2f} s to the first", end="")
        print(f" {1e3 * one['seconds_a_token']['mean']:7.1f} ms a token", end="")
        print(f" {one['peak_memory_mb']:6.0f} MB  engine x {one['engine_is_times_as_fast']:.2f}")


if __name__ == "__main__":
    main()
