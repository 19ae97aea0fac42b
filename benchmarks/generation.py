"""Prefill and decode by batch and length, and our `generate` beside transformers'. Unit 1.5.

    python benchmarks/generation.py [--quick] [--rounds N] [--out FILE]

The model has random weights, and so many of them that no cache of a CPU holds them: what a step
costs does not depend on what they are. Each figure is the best of several rounds in which all
figures take turns, since other programs can only make one worse; ratios are of one run.
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
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM

from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm import course_model, generation
from aiinfra_labs.llm.kv_cache import PreallocatedCache
from aiinfra_labs.llm.llama import Llama, LlamaConfig

RESULTS = Path(__file__).parent / "results"
LARGE = LlamaConfig(8192, 768, 2048, 8, 12, 12, max_position_embeddings=2048)
SMALL = LlamaConfig(256, 64, 96, 2, 4, 2, max_position_embeddings=2048)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (32, 128, 512, 1024)
PROMPTS = (1, 8, 32, 128, 512)
CONTEXT, NEW = 32, 48  # of the batches; of the comparison with transformers


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": this_machine.cpu_name(),
        "cores": this_machine.cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.inference_mode()
def decode_seconds(model: Llama, batch: int, context: int) -> float:
    """Of one step of decoding, behind a cache of context - 1 tokens."""
    cache = PreallocatedCache(model.config, batch, context)
    cache.keys.normal_()
    cache.values.normal_()
    cache.lengths = [context - 1] * model.config.num_hidden_layers
    token = torch.zeros(batch, dtype=torch.int64)
    return seconds(lambda: generation.decode(model, token, cache))


@torch.inference_mode()
def prefill_seconds(model: Llama, tokens: int) -> float:
    cache = PreallocatedCache(model.config, 1, tokens)
    ids = torch.zeros(1, tokens, dtype=torch.int64)
    return seconds(lambda: generation.prefill(model, ids, cache))


def as_transformers(model: Llama) -> LlamaForCausalLM:
    theirs = LlamaForCausalLM(TheirConfig(**model.config.to_dict())).eval()
    theirs.load_state_dict(dict(model.named_parameters()), strict=False)
    theirs.tie_weights()
    theirs.generation_config.eos_token_id = theirs.generation_config.bos_token_id = None
    return theirs


def comparison(quick: bool) -> dict[str, Callable[[], torch.Tensor]]:
    """The three ways to the same greedy tokens, of a model in the course model's shape."""
    torch.manual_seed(0)
    model = Llama(SMALL if quick else course_model.CONFIG).eval()
    theirs = as_transformers(model)
    ids = torch.arange(64)[None]
    new = 4 if quick else NEW
    ways = {
        "ours": lambda: generation.generate(model, ids, new),
        "transformers": lambda: theirs.generate(
            ids, max_new_tokens=new, do_sample=False, pad_token_id=0, attention_mask=ids * 0 + 1
        ),
        "without_cache": lambda: generation.generate_without_cache(model, ids, new),
    }
    found = [way() for way in ways.values()]
    if not all(torch.equal(found[0], other) for other in found):
        raise AssertionError("the three ways give different tokens: their times mean nothing")
    return ways


def measure(quick: bool, rounds: int) -> dict[str, Any]:
    """Seconds of every figure, the best of all rounds."""
    config = SMALL if quick else LARGE
    torch.manual_seed(0)
    model = Llama(config).eval()
    ways = comparison(quick)
    runs: dict[tuple[str, int], Callable[[], float]] = {}
    for batch in BATCHES:
        runs["batch", batch] = lambda batch=batch: decode_seconds(model, batch, CONTEXT)
    for context in CONTEXTS:
        runs["context", context] = lambda context=context: decode_seconds(model, 8, context)
    for tokens in PROMPTS:
        runs["prefill", tokens] = lambda tokens=tokens: prefill_seconds(model, tokens)
    best: dict[tuple[str, int], float] = {}
    compared: list[dict[str, float]] = []
    for _ in range(rounds):
        for key, run in runs.items():
            best[key] = min(best.get(key, float("inf")), run(), run())
        compared.append({name: seconds(way) for name, way in ways.items()})
    fastest = {name: min(found[name] for found in compared) for name in ways}
    return {
        "machine": machine(),
        "rounds": rounds,
        "config": config.to_dict(),
        "parameters": model.parameter_count(),
        "decode_context": CONTEXT,
        "length_batch": 8,
        **{
            name: {str(size): value for (kind, size), value in best.items() if kind == name}
            for name in ("batch", "context", "prefill")
        },
        "generate": {"new_tokens": 4 if quick else NEW, "seconds": fastest},
        "transformers_over_ours": round(fastest["transformers"] / fastest["ours"], 3),
        "without_cache_over_ours": round(fastest["without_cache"] / fastest["ours"], 3),
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
        out = RESULTS / f"generation-{name}.json"
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
