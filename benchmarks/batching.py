"""What steps of the engine take, batching policies, and one engine against two. Unit 4.3.

    python benchmarks/batching.py [--quick] [--rounds N] [--out FILE]

The model has the course model's shape and random weights: what a step costs does not depend on
what they are. Times are of the processor, on one thread, so that other programs on the machine do
not count; they can still only make a step slower, and each figure is the best of several rounds in
which all take turns. Policies are compared within one round.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import torch

from aiinfra_labs.cloud.serving import workloads
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.scheduler import StaticScheduler
from aiinfra_labs.cloud.serving.step_cost import StepWork, fitted, step_work
from aiinfra_labs.gpu import this_machine

RESULTS = Path(__file__).parent / "results"
COURSE = ModelConfig(4096, 256, 704, 6, 8, 4, 32, 1024)
TINY = ModelConfig(64, 16, 32, 1, 2, 1, 8, 1024)
DECODES = tuple((n, c) for n in (1, 4, 16) for c in (32, 256, 768))  # sequences, context
PREFILLS = tuple((n, s) for n in (16, 64, 256) for s in (0, 512))  # tokens, those before them
SLOTS = 16
POLICIES: dict[str, dict[str, Any]] = {
    "static": {
        "scheduler": StaticScheduler,
        "max_step_tokens": 1024 * SLOTS,
        "chunked_prefill": False,
    },
    "continuous": {"max_step_tokens": 1024 * SLOTS, "chunked_prefill": False},
    "chunked": {"max_step_tokens": 64},
}


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


def engine(model: CausalLM, **more: Any) -> Engine:
    config = {"num_blocks": 1024, "max_sequences": SLOTS, "prefix_caching": False} | more
    return Engine(model, None, EngineConfig(**config))


def decode_steps(model: CausalLM, sequences: int, context: int) -> list[tuple[StepWork, float]]:
    """Steps in which `sequences` decode, each behind about `context` tokens."""
    one = engine(model, max_step_tokens=1024 * SLOTS)
    for _ in range(sequences):
        one.add_request([1] * (context - 2), SamplingParams(max_tokens=12, ignore_eos=True))
    return timed(one)[1:]  # the first is the prefill


def prefill_step(model: CausalLM, tokens: int, before: int) -> list[tuple[StepWork, float]]:
    """A step of `tokens` tokens of one prompt, behind `before` others."""
    one = engine(model, max_step_tokens=max(before, tokens))
    if before:
        one.add_request([1] * before + [2] * tokens, SamplingParams(max_tokens=1))
    else:
        one.add_request([2] * tokens, SamplingParams(max_tokens=1))
    return timed(one)[-1:]


def timed(one: Engine) -> list[tuple[StepWork, float]]:
    """What each step computed, and took, until the engine is idle."""
    works: list[StepWork] = []
    found = []
    one.observers.append(lambda plan: works.append(step_work(plan)))
    while one.unfinished:
        began = time.process_time()
        one.step()
        found.append((works[-1], time.process_time() - began))
    return found


def steps(model: CausalLM, rounds: int) -> list[dict[str, Any]]:
    """The best time of each size of step."""
    best: dict[tuple[str, int, int], tuple[StepWork, float]] = {}
    for _ in range(rounds):
        for kind, sizes, measure in (
            ("decode", DECODES, decode_steps),
            ("prefill", PREFILLS, prefill_step),
        ):
            for size in sizes:
                found = min(measure(model, *size), key=lambda pair: pair[1])
                key = (kind, *size)
                best[key] = min(best.get(key, found), found, key=lambda pair: pair[1])
    return [
        {"kind": kind, **asdict(work), "seconds": seconds}
        for (kind, *_), (work, seconds) in best.items()
    ]


def policies(model: CausalLM, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """The same requests, all there at once, by each policy; the same answers, or none counts."""
    vocabulary = model.config.vocab_size
    text = workloads.Text(range(5, vocabulary))
    scale = workloads.scale_for("chat")
    requests = workloads.chat(count, workloads.Load(scale=scale, context=1024, text=text, seed=3))
    seconds: dict[str, list[float]] = {name: [] for name in POLICIES}
    count_steps, answers = {}, {}
    for _ in range(rounds):
        for name, policy in POLICIES.items():
            one = engine(model, **policy)
            for i, request in enumerate(requests):
                params = SamplingParams(max_tokens=request.new_tokens, ignore_eos=True)
                one.add_request(request.prompt_tokens, params, str(i))
            done = {}
            began = time.process_time()
            while one.unfinished:
                done |= {o.request_id: o.outputs[0].token_ids for o in one.step()}
            seconds[name].append(time.process_time() - began)
            count_steps[name], answers[name] = one.steps, done
    if any(found != answers["static"] for found in answers.values()):
        raise AssertionError("the policies give different tokens: their times mean nothing")
    tokens = sum(request.new_tokens for request in requests)
    return {
        name: {"steps": count_steps[name], "new_tokens": tokens, "seconds": min(taken)}
        for name, taken in seconds.items()
    } | {
        "static_over": {
            name: statistics.median(
                s / t for s, t in zip(seconds["static"], seconds[name], strict=True)
            )
            for name in POLICIES
        }
    }


def measure(quick: bool, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    model = CausalLM(TINY if quick else COURSE)
    policies(model, 3, 1)  # compiles what is compiled
    found = steps(model, rounds)
    works = [StepWork(*(s[f.name] for f in fields(StepWork))) for s in found]
    cost = fitted((work, s["seconds"]) for work, s in zip(works, found, strict=True))
    for work, sample in zip(works, found, strict=True):
        sample["by_formula"] = cost(work)
    return {
        "machine": machine(),
        "rounds": rounds,
        "cost": asdict(cost),
        "steps": found,
        "policies": policies(model, 6 if quick else 48, 1 if quick else max(2, rounds // 3)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    found = measure(options.quick, 1 if options.quick else options.rounds)
    text = json.dumps(found, indent=1) + "\n"
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = RESULTS / f"batching-{name}.json"
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
