"""A small model that learns by GRPO to think before it answers: rewards and lengths. Unit 1.7.

    python benchmarks/reasoner.py [--quick] [--seeds N] [--out FILE] [--weights FOLDER]

Warm-ups on examples that show much thinking, some and none; on examples that show none; and none
at all. Then GRPO on each, with the answer as the only thing that is graded. The first
seed's model before and after GRPO is kept with the package. About two minutes a seed on one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import re
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm.deepseek import chains, reasoner
from aiinfra_labs.llm.deepseek.reasoner import NONE, Reinforcement, WarmUp
from aiinfra_labs.llm.llama import Llama

RESULTS = Path(__file__).parent / "results"
WARM = WarmUp()
SILENT = replace(WARM, strides=(NONE,))
LEARN = Reinforcement()
WAYS: dict[str, tuple[WarmUp | None, Reinforcement]] = {
    "examples with and without thinking": (WARM, LEARN),
    "the same, and a token costs 0.2": (WARM, replace(LEARN, token_cost=0.2)),
    "examples without thinking": (SILENT, LEARN),
    "no examples": (None, LEARN),
}
ASKED = 1000  # held-out questions


def machine() -> dict[str, Any]:
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def by_thinking(model: Llama, length: int, count: int) -> dict[int, tuple[int, float]]:
    """Drawn answers to held-out questions by results written down: how many, and share right."""
    asked = list(islice(chains.questions(11, (length,), held_out=True), count))
    drawn = reasoner.rollout(model, asked, 1, reasoner.LONGEST, torch.Generator().manual_seed(11))
    found: dict[int, list[float]] = {}
    for chain, (text,) in zip(asked, drawn.texts, strict=True):
        found.setdefault(chains.steps(text), []).append(chain.reward(text))
    return {k: (len(v), round(sum(v) / len(v), 4)) for k, v in sorted(found.items())}


def measure(quick: bool, seeds: int, weights: Path | None, out: Path | None) -> dict[str, Any]:
    """All ways and seeds. What is done is written down after each run."""
    length, asked = LEARN.lengths[0], 40 if quick else ASKED
    figures: dict[str, Any] = {
        "machine": machine(),
        "warm_up": asdict(WARM),
        "reinforcement": asdict(LEARN),
        "parameters": reasoner.new_model().parameter_count(),
        "asked": asked,
        "ways": {name: [] for name in WAYS},
    }
    for seed in range(seeds):
        warmed: dict[WarmUp | None, Llama] = {}
        for name, (recipe, learn) in WAYS.items():
            began = time.process_time()
            if recipe not in warmed:
                model = reasoner.new_model(seed)
                if recipe is not None:
                    few = replace(recipe, seed=seed, steps=3 if quick else recipe.steps)
                    reasoner.warm_up(model, few)
                warmed[recipe] = model.eval()
            before = warmed[recipe]
            after = copy.deepcopy(before)
            steps: list[reasoner.GrpoStep] = []
            learn = replace(learn, seed=seed, steps=2 if quick else learn.steps)
            reasoner.reinforce(after, learn, steps.append)
            run = {
                "seed": seed,
                "before": asdict(reasoner.evaluate(before, length, asked)),
                "after": asdict(reasoner.evaluate(after, length, asked)),
                "before_by_thinking": by_thinking(before, length, asked),
                "after_by_thinking": by_thinking(after, length, asked),
                "right": [round(s.right, 4) for s in steps],
                "length": [round(s.length, 3) for s in steps],
                "steps": [round(s.steps, 3) for s in steps],
                "kl": [round(s.kl, 5) for s in steps],
                "silent": [round(s.silent, 4) for s in steps],
            }
            figures["ways"][name].append(run)
            print(
                f"seed {seed}, {name}: right {run['before']['sampled']:.0%} to "
                f"{run['after']['sampled']:.0%}, tokens {run['before']['length']:.1f} to "
                f"{run['after']['length']:.1f}, {time.process_time() - began:.0f} s",
                flush=True,
            )
            if seed == 0 and weights is not None and name == next(iter(WAYS)):
                weights.mkdir(parents=True, exist_ok=True)
                for which, kept in (("before", before), ("after", after)):
                    reasoner.save_stored(kept, weights / reasoner.stored_file(which).name)
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--weights", type=Path, help="the folder for the two models")
    options = parser.parse_args()
    out, weights = options.out, options.weights
    if not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = out or RESULTS / f"reasoner-{name}.json"
        weights = weights or reasoner.stored_file("before").parent
    measure(options.quick, 1 if options.quick else options.seeds, weights, out)


if __name__ == "__main__":
    main()
