"""The course model's loss against its size: small models of its shape, trained alike. Unit 1.6.

    python benchmarks/scaling.py [--minutes M] [--quick] [--out FILE]

Each size is trained on each number of tokens, from the same text, by the same recipe. A run that
was stopped (--minutes, Ctrl-C, or a kill) goes on from its last checkpoint when it is started
again; the result is written once all runs are done. One core takes about five minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from aiinfra_labs.llm import bpe, course_model
from aiinfra_labs.llm.corpus import described_corpus, documents
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import Batches, Recipe, evaluate, train

RESULTS = Path(__file__).parent / "results"
KEPT = Path(__file__).parent.parent / ".cache" / "scaling"  # which git ignores
VOCABULARY = 1024  # a quarter of the course's: the smallest model is not to be all embedding
SIZES = (  # width, layers, heads, kv heads, width of the MLP: heads of 32, as the course's model
    (32, 2, 1, 1, 88),
    (64, 2, 2, 1, 176),
    (96, 3, 3, 1, 256),
    (160, 4, 5, 1, 432),
)
TOKENS = (262_144, 1_048_576)
CONTEXT, BATCH = 128, 16


def config_of(width: int, layers: int, heads: int, kv_heads: int, mlp: int) -> LlamaConfig:
    return LlamaConfig(VOCABULARY, width, mlp, layers, heads, kv_heads, CONTEXT)


def recipe_of(width: int, tokens: int) -> Recipe:
    """As many steps as the tokens give, the first fifth to warm up.

    The learning rate falls with the width (Yang et al., arXiv:2203.03466): at the course model's
    3e-3, 160 wide, a run as short as these ends worse than one 64 wide.
    """
    steps, rate = tokens // (CONTEXT * BATCH), 0.16 / width
    return Recipe(
        steps,
        BATCH,
        CONTEXT,
        learning_rate=rate,
        final_learning_rate=rate / 10,
        warm_up=max(1, steps // 5),
        precision="bfloat16",
    )


def text(quick: bool) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(tokens to train on, tokens held out, bytes held out)."""
    training, held_out = course_model.split(documents())
    if quick:
        training, held_out = training[:40], held_out[:4]
    tokenizer = bpe.train(training[::10], VOCABULARY, course_model.SPECIAL)
    streams = [course_model.token_stream(tokenizer, texts) for texts in (training, held_out)]
    return *streams, sum(len(one.encode()) for one in held_out)


def run(
    shape: tuple[int, ...], tokens: int, stream: torch.Tensor, folder: Path, until: float
) -> Llama | None:
    """The trained model, or None where the time was up; its checkpoint is in `folder`."""
    torch.manual_seed(0)
    model, recipe = Llama(config_of(*shape)), recipe_of(shape[0], tokens)
    file = folder / f"{shape[0]}-{tokens}.safetensors"
    began = time.process_time()
    for step in train(model, Batches(stream, recipe), recipe, file=file, every=32):
        if step.number % 32 == 31:
            print(f"{file.stem}: step {step.number + 1} of {recipe.steps}, {step.loss:.3f}")
            if time.monotonic() > until and step.number + 1 < recipe.steps:
                return None
    print(f"{file.stem}: {time.process_time() - began:.0f} s of processor time")
    return model


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    names = Path("/proc/cpuinfo")
    if names.exists():
        found = re.search(r"model name\s*:\s*(.*)", names.read_text())
        cpu = found[1].replace(" Processor", "") if found else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def measure(quick: bool, minutes: float, folder: Path) -> dict[str, Any] | None:
    """Every run's held-out loss, nats a token; None where the time was up before the last."""
    until = time.monotonic() + 60 * minutes
    stream, held_out, held_out_bytes = text(quick)
    runs = []
    for tokens in (8192, 16384) if quick else TOKENS:
        for shape in SIZES[:2] if quick else SIZES:
            model = run(shape, tokens, stream, folder, until)
            if model is None:
                return None
            loss = evaluate(model, held_out, CONTEXT)
            bits = loss / math.log(2) * len(held_out) / held_out_bytes
            runs.append(
                {
                    "width": shape[0],
                    "layers": shape[1],
                    "parameters": model.parameter_count(),
                    "tokens": tokens // (CONTEXT * BATCH) * CONTEXT * BATCH,
                    "loss": round(loss, 4),
                    "bits_a_byte": round(bits, 4),
                }
            )
            print(runs[-1], flush=True)
    return {
        "machine": machine(),
        "corpus": described_corpus(),
        "vocabulary": VOCABULARY,
        "context": CONTEXT,
        "batch": BATCH,
        "training_tokens_there": len(stream),
        "held_out_tokens": len(held_out),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tiny runs, to see that it works")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many, to go on")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where checkpoints are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = Path(fresh) if options.quick else options.folder
        figures = measure(options.quick, options.minutes, folder)
    if figures is None:
        print("not done yet: start it again to go on")
        return
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", figures["machine"]["cpu"].lower()).strip("-")
        out = RESULTS / f"scaling-{name}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
