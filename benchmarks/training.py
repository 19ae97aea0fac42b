"""A training step of the course's decoder beside `transformers`' Llama of the same shape. Unit 1.4.

    python benchmarks/training.py [--quick] [--out FILE]

One run measures both, in turn, with the same weights, tokens and optimizer: what another program
takes of the machine, it takes of both. Times are seconds of the processor on one thread; the ratio
is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs.llm.course_model import CONFIG
from aiinfra_labs.llm.llama import Llama, LlamaConfig

RESULTS = Path(__file__).parent / "results"
SMALL = LlamaConfig(97, 16, 24, 1, 2, 1, 64)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return {
        "cpu": named[1].strip() if named else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def step_of(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    """One training step of a model; returns the seconds that it took."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.process_time() - start

    return step


def measure(quick: bool) -> dict[str, Any]:
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, batch, context, rounds = (SMALL, 2, 16, 2) if quick else (CONFIG, 4, 256, 15)
    ours = Llama(config)
    theirs = LlamaForCausalLM(TheirConfig(**config.to_dict(), use_cache=False)).train()
    theirs.load_state_dict(ours.state_dict())
    window = torch.randint(config.vocab_size, (batch, context + 1))
    ids, targets = window[:, :-1], window[:, 1:]
    steps = {
        "ours": step_of(ours, lambda: ours.loss(ids, targets)),
        "transformers": step_of(
            theirs,
            lambda: F.cross_entropy(theirs(ids).logits.flatten(0, 1), targets.flatten()),
        ),
    }
    for step in steps.values():
        step()  # the first one makes the optimizer's state
    times = [{name: step() for name, step in steps.items()} for _ in range(rounds)]
    medians = {name: statistics.median(t[name] for t in times) for name in steps}
    return {
        "machine": machine(),
        "parameters": ours.parameter_count(),
        "batch": batch,
        "context": context,
        "rounds": rounds,
        "seconds_a_step": medians,
        "ratio": medians["ours"] / medians["transformers"],
        "flops_a_step": 6 * ours.parameter_count() * batch * context,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    figures = measure(options.quick)
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", figures["machine"]["cpu"].lower()).strip("-")
        out = RESULTS / f"training-{name}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    seconds = figures["seconds_a_step"]
    print(
        f"{figures['machine']['cpu']}, 1 thread: {seconds['ours']:.3f} s a step, transformers "
        f"{seconds['transformers']:.3f} s: {figures['ratio']:.2f} times as long"
    )


if __name__ == "__main__":
    main()
