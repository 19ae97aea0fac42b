"""Speculation against none: by text, by proposer, by batch, and what a verified step costs.

    python benchmarks/speculation.py [--quick] [--rounds N] [--out FILE]

The course's model and its draft, greedy, in one thread. Seconds are the processor's: the thread
waits for nothing, so that they are the clock's where it has a core for itself, and other programs
count little. All ways take turns in each round, and each prompt's figure is the best of its rounds;
ratios are of one run. A way whose tokens differ from those without speculation ends the run.
Unit 4.4.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from aiinfra_labs.cloud.serving import draft_model, speculation_workload
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.scheduler import Plan, ScheduledSequence
from aiinfra_labs.cloud.serving.speculative import DraftModel, PromptLookup, Proposer
from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm import page_model

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 4, 16, 32)
TOKENS = (1, 2, 3, 5, 9, 17)  # of one sequence in a verified step
TEXTS = {"repeating": speculation_workload.repeating, "new": speculation_workload.new}


def proposer(way: str) -> Proposer | None:
    kind, _, count = way.partition(" ")
    if kind == "lookup":
        return PromptLookup(int(count))
    return DraftModel(draft_model.load(), int(count)) if kind == "draft" else None


class Way:
    """An engine with a proposer, and what it did in its last run."""

    def __init__(self, name: str):
        config = EngineConfig(num_blocks=1024, attention="torch", prefix_caching=False)
        self.name = name
        self.engine = Engine.from_folder(page_model.folder(), config, proposer(name))

    def run(self, prompts: list[str], new: int) -> tuple[float, dict[str, Any], list[list[int]]]:
        """(seconds, counts, tokens) of all prompts at once, prefill included."""
        engine = self.engine
        engine.steps = engine.drafted = engine.accepted = 0
        if isinstance(engine.proposer, DraftModel):
            engine.proposer.forwards = 0
        for i, prompt in enumerate(prompts):
            engine.add_request(prompt, SamplingParams(max_tokens=new, ignore_eos=True), str(i))
        found: dict[str, list[int]] = {}
        start = time.process_time()
        while engine.unfinished:
            for output in engine.step():
                found[output.request_id] = output.outputs[0].token_ids
        seconds = time.process_time() - start
        counts = {
            "steps": engine.steps,
            "drafted": engine.drafted,
            "accepted": engine.accepted,
            "draft_forwards": getattr(engine.proposer, "forwards", 0),
        }
        return seconds, counts, [found[str(i)] for i in range(len(prompts))]


def measure(quick: bool, rounds: int) -> dict[str, Any]:
    names = ["none", "lookup 4", "lookup 8", "draft 2", "draft 4"]
    ways = {name: Way(name) for name in names}
    torch.set_num_threads(1)
    new = 8 if quick else 64
    single = {
        (text, name): [[p] for p in make(1 if quick else 3)]
        for text, make in TEXTS.items()
        for name in names
    }
    batches = (1, 2) if quick else BATCHES
    many = {
        (n, name): [speculation_workload.repeating(n)]
        for n in batches
        for name in ("none", "lookup 4", "draft 2")
    }
    best: dict[Any, list[float]] = {}
    counts: dict[Any, dict[str, Any]] = {}
    tokens: dict[Any, Any] = {}
    steps: dict[str, float] = {}
    for _ in range(rounds):
        for key, groups in [*single.items(), *many.items()]:
            runs = [ways[key[1]].run(group, new) for group in groups]
            before = best.get(key, [float("inf")] * len(runs))
            best[key] = [min(old, r[0]) for old, r in zip(before, runs, strict=True)]
            counts[key] = {c: sum(r[1][c] for r in runs) for c in runs[0][1]}
            tokens[key] = [r[2] for r in runs]
            if tokens[key] != tokens[key[0], "none"]:
                raise AssertionError(f"{key}: other tokens than without speculation")
        for name, run in step_runs(ways).items():
            steps[name] = min(steps.get(name, float("inf")), *(run() for _ in range(10)))
    return {
        "machine": machine(),
        "rounds": rounds,
        "new_tokens": new,
        "model_parameters": parameters(ways["none"].engine),
        "draft_parameters": draft_model.card()["parameters"],
        "texts": {text: rows(text, names, best, counts) for text in TEXTS},
        "batches": {
            str(n): rows(n, ["none", "lookup 4", "draft 2"], best, counts) for n in batches
        },
        "step_seconds": {n: t for n, t in steps.items() if n != "draft"},
        "draft_seconds": steps["draft"],
    }


def rows(key: Any, names: list[str], best: Any, counts: Any) -> dict[str, Any]:
    """Of one text or batch: each way's seconds, counts, rate of acceptance and speed-up."""
    plain = sum(best[key, "none"])
    found = {}
    for name in names:
        seconds, done = sum(best[key, name]), counts[key, name]
        rate = done["accepted"] / done["drafted"] if done["drafted"] else None
        found[name] = done | {
            "seconds": round(seconds, 4),
            "acceptance": None if rate is None else round(rate, 3),
            "speedup": round(plain / seconds, 3),
        }
    return found


def step_runs(ways: dict[str, Way]) -> dict[str, Callable[[], float]]:
    """Seconds of one run of the model for so many tokens of a sequence, and of the draft for 1."""
    draft = ways["draft 2"].engine.proposer
    assert isinstance(draft, DraftModel) and draft.runner is not None
    runs = {str(n): (lambda n=n: step(ways["none"].engine.runner, n)) for n in TOKENS}
    return runs | {"draft": lambda: step(draft.runner, 1)}


def step(runner: Any, tokens: int, context: int = 128) -> float:
    from aiinfra_labs.cloud.serving.sequence import Request, Sequence

    request = Request("0", [1], SamplingParams(), 0)
    known = context + 1
    sequence = Sequence(request, 0, [5] * known, draft=[5] * (tokens - 1), computed=context)
    sequence.block_table = list(range(-(-(known + tokens) // runner.cache.block_size)))
    plan = Plan([ScheduledSequence(sequence, context, tokens, tokens - 1)])
    start = time.process_time()
    runner.run(plan)
    return time.process_time() - start


def parameters(engine: Engine) -> int:
    return sum(p.numel() for p in engine.model.parameters())


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few tokens, to see that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    found = measure(options.quick, 1 if options.quick else options.rounds)
    text = json.dumps(found, indent=1) + "\n"
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = RESULTS / f"speculation-{name}.json"
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
