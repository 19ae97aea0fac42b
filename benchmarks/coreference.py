"""Does 它 look at its noun? Many small models, trained alike but for the seed. Unit 1.3.

    python benchmarks/coreference.py [--quick] [--seeds N] [--out FILE] [--weights FOLDER]

Trains `pronoun_model` in four ways with each seed: free; blind, where 它 sees no noun; paid for
looking at its noun; and causal, as a decoder sees. Each is then studied by `pronoun_study`. Some
seconds for a model. The first seed's free model and its blind one are kept with the package.
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
from pathlib import Path
from typing import Any

from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm import pronoun_model
from aiinfra_labs.llm.pronoun_model import PronounConfig, train_pronouns
from aiinfra_labs.llm.pronoun_study import TEST_COUNT, study

RESULTS = Path(__file__).parent / "results"
BASE = PronounConfig()
WAYS = {
    "free": BASE,
    "blind": replace(BASE, blind=True),
    "paid": replace(BASE, pay=1.0),
    "causal": replace(BASE, causal=True),
}
KEPT = ("free", "blind")  # of the first seed


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def rounded(value: Any) -> Any:
    """Figures as the file keeps them: four decimals."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def measure(quick: bool, seeds: int, weights: Path | None, out: Path | None) -> dict[str, Any]:
    """All models. What is done is written down after each seed."""
    figures: dict[str, Any] = {
        "machine": machine(),
        "config": asdict(BASE),
        "sentences": TEST_COUNT,
        "ways": {name: [] for name in WAYS},
    }
    for seed in range(seeds):
        start = time.process_time()
        for name, config in WAYS.items():
            config = replace(config, seed=seed, steps=4 if quick else config.steps)
            model = train_pronouns(config)
            if seed == 0 and name in KEPT and weights is not None:
                weights.mkdir(parents=True, exist_ok=True)
                pronoun_model.save_stored(model, weights / pronoun_model.stored_file(name).name)
            found = rounded(study(model))
            figures["ways"][name].append({"seed": seed, **found})
            most = max(map(max, found["talk"]))
            print(f"seed {seed}, {name}: right {found['accuracy']:.1%}, looks {most:.2f}")
        figures["processor_seconds_a_seed"] = round(time.process_time() - start)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(figures, ensure_ascii=False) + "\n", encoding="utf-8")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--weights", type=Path, help="the folder for the two models")
    options = parser.parse_args()
    out, weights = options.out, options.weights
    if not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = out or RESULTS / f"coreference-{name}.json"
        weights = weights or pronoun_model.stored_file("free").parent
    measure(options.quick, 1 if options.quick else options.seeds, weights, out)


if __name__ == "__main__":
    main()
