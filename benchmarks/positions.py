"""Loss by position, past the trained length, for five ways to tell positions. Unit 1.2.

    python benchmarks/positions.py [--quick] [--seeds N] [--out FILE] [--weights FILE]

Trains each of `extrapolation.WAYS` on windows of 128 bytes of Python's own library, and measures
the loss at each position of windows four times as long, of files held out. The RoPE model is then
measured with each scaled set of frequencies, as it is and after a few steps on long windows. Some
minutes for each seed on two cores. The RoPE model of the first seed goes to --weights.
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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm import extrapolation
from aiinfra_labs.llm.corpus import described_corpus
from aiinfra_labs.llm.extrapolation import (
    LONGER,
    RECIPE,
    TRAINED,
    WAYS,
    PositionModel,
    binned,
    byte_streams,
    loss_by_position,
    scalings,
    windows,
)
from aiinfra_labs.llm.training import Batches, Recipe, train

RESULTS = Path(__file__).parent / "results"
FACTOR = 4  # the measured windows are so many times as long as the trained ones
BIN = 16  # positions of which a mean is kept
TUNED = ("as trained", "linear", "YaRN")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def curve(model: PositionModel, text: Tensor) -> list[float]:
    """The loss of each bin, nats a byte; of a model with learned positions, as far as it can."""
    known = text[:, : TRAINED + 1] if model.way == "learned" else text
    return [round(x, 4) for x in binned(loss_by_position(model, known), BIN).tolist()]


def trained(way: str, tokens: Tensor, recipe: Recipe, seed: int) -> PositionModel:
    torch.manual_seed(seed)
    model = PositionModel(way)
    for _ in train(model, Batches(tokens, recipe), replace(recipe, seed=seed)):
        pass
    return model


def scaled(
    model: PositionModel, tokens: Tensor, text: Tensor, longer: Recipe
) -> dict[str, dict[str, list[float]]]:
    """{"at once": {rule: curve}, "tuned": {rule: curve}} of the RoPE model."""
    found: dict[str, dict[str, list[float]]] = {"at once": {}, "tuned": {}}
    for rule, angles in scalings(FACTOR).items():
        model.angles = angles
        found["at once"][rule] = curve(model, text)
        if rule in TUNED:
            tuned = copy.deepcopy(model)
            for _ in train(tuned, Batches(tokens, longer), longer):
                pass
            found["tuned"][rule] = curve(tuned, text)
    return found


def measure(quick: bool, seeds: int, weights: Path | None, out: Path | None) -> dict[str, Any]:
    """All curves. What is done is written down after each seed."""
    recipe, longer, count = RECIPE, LONGER, 512
    if quick:
        recipe, longer, count = replace(RECIPE, steps=2), replace(LONGER, steps=1), 2
    tokens, held_out = byte_streams()
    text = windows(held_out, FACTOR * TRAINED, count)
    figures: dict[str, Any] = {
        "machine": machine(),
        "corpus": described_corpus(),
        "bytes": {"training": len(tokens), "held_out": len(held_out)},
        "windows": count,
        "trained": TRAINED,
        "factor": FACTOR,
        "bin": BIN,
        "recipe": asdict(recipe),
        "longer": asdict(longer),
        "parameters": {
            way: sum(p.numel() for p in PositionModel(way).parameters()) for way in WAYS
        },
        "seeds": [],
    }
    for seed in range(seeds):
        start = time.process_time()
        ways = {}
        for way in WAYS:
            model = trained(way, tokens, recipe, seed)
            ways[way] = curve(model, text)
            if way == "rope":
                if seed == 0 and weights is not None:
                    weights.parent.mkdir(parents=True, exist_ok=True)
                    extrapolation.save_stored(model, weights)
                by_rule = scaled(model, tokens, text, longer)
            print(f"seed {seed}, {way}: {ways[way][7]:.3f} at the end of the trained length")
        seconds = round(time.process_time() - start)
        found = {"seed": seed, "ways": ways, "rope": by_rule, "processor_seconds": seconds}
        figures["seeds"].append(found)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--weights", type=Path, help="where to write the RoPE model")
    options = parser.parse_args()
    out, weights = options.out, options.weights
    if not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = out or RESULTS / f"positions-{name}.json"
        weights = weights or extrapolation.stored_file()
    seeds = 1 if options.quick else options.seeds
    measure(options.quick, seeds, weights, out)


if __name__ == "__main__":
    main()
