"""Trains the small models of unit 1.8, grades them, and stores both. Unit 1.8.

    python benchmarks/multimodal.py [--quick] [--only NAME] [--out FILE] [--weights FOLDER]

Three image-text models (one reads, one has numbered sentences, one never saw a seven), a captioner
and a model of one stream. What is done is written down after each, and a run goes on with those
that are missing from the file. One core takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm.multimodal import colours, questions, scenes, stored

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the models were trained on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def trainer(name: str) -> Callable[..., nn.Module]:
    if name.startswith("clip"):
        return colours.train
    return scenes.train if name == "captioner" else questions.train


def told(step: int, loss: float) -> None:
    if step % 100 == 99:
        print(f"  step {step + 1}: {loss:.3f}", flush=True)


def one(name: str, quick: bool, weights: Path) -> dict[str, Any]:
    """Train a model and write its weights; returns its card."""
    lesson = stored.LESSONS[name]
    if quick:
        lesson = replace(lesson, steps=2)
    began, losses = time.process_time(), []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        told(step, loss)

    model = trainer(name)(lesson, on_step)
    last = losses[-50:]
    card = {
        "lesson": asdict(lesson),
        "parameters": sum(p.numel() for p in model.parameters()),
        "last_loss": round(sum(last) / len(last), 4),
        "date": machine()["date"],
    }
    stored.save(model, weights / stored.file(name).name, card)
    if name == "clip":  # the lab's picture needs the vectors alone
        stored.save_space(model, weights / stored.file("clip_space").name)
    return {**card, "processor_seconds": round(time.process_time() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two steps, to see that it runs")
    parser.add_argument("--only", choices=stored.LESSONS, help="train this one, anew")
    parser.add_argument("--out", type=Path, help="where to write the cards as JSON")
    parser.add_argument("--weights", type=Path, help="the folder for the weights")
    options = parser.parse_args()
    if options.quick and options.weights is None:
        parser.error("--quick needs --weights: two steps replace no stored model")
    name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
    out = options.out or (None if options.quick else RESULTS / f"multimodal-{name}.json")
    weights = options.weights or stored.file("clip").parent
    figures: dict[str, Any] = {"machine": machine(), "models": {}}
    if out is not None and out.exists():
        figures = json.loads(out.read_text(encoding="utf-8")) | {"machine": machine()}
    for name in [options.only] if options.only else stored.LESSONS:
        if name in figures["models"] and not options.only:
            continue
        print(name, flush=True)
        figures["models"][name] = one(name, options.quick, weights)
        print(f"  {figures['models'][name]}", flush=True)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
