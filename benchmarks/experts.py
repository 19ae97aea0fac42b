"""64 experts trained with and without balance: loads over training, and the loss. Unit 1.7.

    python benchmarks/experts.py [--quick] [--seeds N] [--out FILE]

A small decoder of DeepSeek-V3's shape (`balance_study`) is trained on Python's own library in each
way, from the same weights on the same tokens. About a minute a way and seed on one core.
"""

from __future__ import annotations

import argparse
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
from aiinfra_labs.llm import bpe, course_model
from aiinfra_labs.llm.corpus import described_corpus, documents
from aiinfra_labs.llm.deepseek.balance_study import CONFIG, WAYS, study
from aiinfra_labs.llm.deepseek.model import DeepSeek
from aiinfra_labs.llm.training import Recipe

RESULTS = Path(__file__).parent / "results"
RECIPE = Recipe(steps=500, batch=8, context=128, learning_rate=3e-3, warm_up=50)
HELD_OUT = 32_768  # tokens


def machine() -> dict[str, Any]:
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def text(quick: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens to train on, tokens held out): no more than the runs see."""
    training, held_out = course_model.split(documents())
    tokenizer = bpe.train(
        training[:: 200 if quick else 10], CONFIG.vocab_size, course_model.SPECIAL
    )
    part = training[:20] if quick else training[::3]
    return (
        course_model.token_stream(tokenizer, part),
        course_model.token_stream(tokenizer, islice(held_out, 20))[:HELD_OUT],
    )


def measure(quick: bool, seeds: int) -> dict[str, Any]:
    tokens, held_out = text(quick)
    recipe = replace(RECIPE, steps=4, batch=2) if quick else RECIPE
    whole = DeepSeek(CONFIG)
    figures: dict[str, Any] = {
        "machine": machine(),
        "corpus": described_corpus(),
        "config": CONFIG.to_dict(),
        "recipe": asdict(recipe),
        "parameters": whole.parameter_count(),
        "tokens_there": len(tokens),
        "held_out_tokens": len(held_out),
        "every": 20,
        "ways": {},
    }
    for name, way in WAYS.items():
        runs = []
        for seed in range(seeds):
            began = time.process_time()
            found = study(way, tokens, held_out[:1024] if quick else held_out,
                          replace(recipe, seed=seed))  # fmt: skip
            if seed:  # the loads of one seed are drawn; of the others the figures are kept
                del found["load"], found["violation"]
            else:
                found["violation"] = [round(v, 3) for v in found["violation"]]
            runs.append(
                {
                    key: round(value, 4) if isinstance(value, float) else value
                    for key, value in found.items()
                }
                | {"seed": seed}
            )
            print(
                f"{name}, seed {seed}: loss {found['loss']:.3f}, busiest expert "
                f"{1 + found['held_out_violation']:.2f} x the mean, "
                f"{time.process_time() - began:.0f} s",
                flush=True,
            )
        figures["ways"][name] = {**asdict(way), "runs": runs}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    figures = measure(options.quick, 1 if options.quick else options.seeds)
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = RESULTS / f"experts-{name}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
