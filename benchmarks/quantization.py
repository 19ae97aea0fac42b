"""Perplexity, bytes and speed of the course's model in fewer bits. Unit 4.5.

    python benchmarks/quantization.py [--quick] [--only SECTION ...] [--out FILE]

Sections: `rounding` (each width, without and with calibration), `training` (with the rounding in
it), `students` (distillation), `speed`. A section that is measured anew takes its place in the
file, the others stay. Perplexity is that of windows of held-out documents; every model is evaluated
from the bytes that it is stored in. Times are one thread's, the best of several rounds in which all
take turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aiinfra_labs.cloud.serving import loader
from aiinfra_labs.cloud.serving.model import CausalLM, causal_attention
from aiinfra_labs.cloud.serving.quantization import (
    awq,
    distillation,
    gptq,
    integers,
    kv_int8,
    layers,
    perplexity,
    pruning,
    qat,
)
from aiinfra_labs.cloud.serving.quantization.integers import Scheme, quantize, ternary
from aiinfra_labs.gpu import this_machine
from aiinfra_labs.llm import page_model
from aiinfra_labs.llm.bpe import Tokenizer
from aiinfra_labs.llm.training import Recipe

RESULTS = Path(__file__).parent / "results"
INT4, INT2, TERNARY = Scheme(4, 32), Scheme(2, 32, symmetric=False), ternary(32)
RECIPE = Recipe(
    48, 4, 256, learning_rate=3e-4, final_learning_rate=3e-5, warm_up=5, precision="bfloat16"
)
STUDENT = (0, 2, 5)  # the layers that a student of half the depth begins with
WIDTHS = (8, 4, 3, 2)
LAYER = 4096  # of the single layer that is timed: larger than a CPU's caches


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


class Bench:
    """The course's model, text to measure on, and text to calibrate and train on."""

    def __init__(self, quick: bool):
        folder = page_model.folder()
        self.quick, self.streams = quick, {}
        self.model = loader.load(folder)
        if quick:
            self.model = distillation.shallower(self.model, (5,))
        self.card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.load(folder / "tokenizer.json")
        length, count = (64, 2) if quick else (512, 16)
        held_out = self.stream(held_out=True)
        self.text = perplexity.spaced(held_out, count, length)
        self.calibration = perplexity.beginnings(
            self.tokenizer, 2 if quick else 16, length, held_out=False
        )[:, :-1]
        self.recipe = Recipe(2, 2, 32) if quick else RECIPE
        _, self.choices = perplexity.measured(self.model, self.text)

    def stream(self, held_out: bool) -> Tensor:
        if self.quick:
            return perplexity.beginnings(self.tokenizer, 2, 100, held_out).flatten()
        if held_out not in self.streams:  # it takes half a minute to cut the corpus into tokens
            self.streams[held_out] = perplexity.corpus_tokens(self.tokenizer, held_out)
        return self.streams[held_out]

    def row(self, model: CausalLM, **more: Any) -> dict[str, Any]:
        """What is measured of a model."""
        value, choices = perplexity.measured(model, self.text, more.pop("attend", None))
        found = {
            "perplexity": round(value, 4),
            "bytes": layers.stored_bytes(model),
            "same_choice": round((choices == self.choices).double().mean().item(), 4),
            **more,
        }
        print(json.dumps(found), flush=True)
        return found

    def copy(self) -> CausalLM:
        return copy.deepcopy(self.model)


# --- rounding -------------------------------------------------------------------------------------


def rounding(bench: Bench) -> dict[str, Any]:
    """Every way to fewer bits that needs no training, and the widths in between."""
    found = {"fp16": bench.row(bench.model, attend=causal_attention)}
    for scheme in (
        Scheme(8, "tensor"),
        Scheme(8),
        Scheme(4, "tensor"),
        Scheme(4),
        INT4,
        Scheme(4, 32, symmetric=False),
        INT2,
        TERNARY,
    ):
        found[str(scheme)] = bench.row(layers.quantize_linears(bench.copy(), scheme))
    found["int8 by int8"] = bench.row(layers.int8_linears(bench.copy()))
    for name, method in (("AWQ", awq.awq_linears), ("GPTQ", gptq.gptq_linears)):
        for scheme in (INT4, INT2) if name == "AWQ" else (INT4, INT2, TERNARY):
            model = method(bench.copy(), bench.calibration, scheme)
            found[f"{name}, {scheme}"] = bench.row(model)
    for rule in ("magnitude", "wanda", "sparsegpt"):
        model = pruning.prune_linears(bench.copy(), bench.calibration, rule)
        found[f"2:4, {rule}"] = bench.row(model)
    config = bench.model.config
    found["int8 cache"] = bench.row(
        bench.model,
        attend=kv_int8.rounded_attention(causal_attention),
        kv_bytes_per_token=kv_int8.bytes_per_token(config),
        kv_bytes_per_token_fp16=config.kv_bytes_per_token // 2,
    )
    return {
        "windows": list(bench.text.shape),
        "calibration_tokens": bench.calibration.numel(),
        "rows": found,
        "widths": {
            "per channel": widths(bench, lambda bits: Scheme(bits)),
            "groups of 32, affine": widths(bench, lambda bits: Scheme(bits, 32, symmetric=False)),
        },
    }


def widths(bench: Bench, scheme: Callable[[int], Scheme]) -> dict[str, float]:
    """Perplexity by width, the weights rounded and kept as floats: some widths cannot be packed."""
    found = {}
    for bits in WIDTHS:
        model = bench.copy()
        for _, layer in layers.linears(model):
            layer.weight.data = integers.rounded(layer.weight, scheme(bits))
        found[str(bits)] = round(perplexity.perplexity(model, bench.text), 4)
    print(found, flush=True)
    return found


# --- training -------------------------------------------------------------------------------------


def training(bench: Bench) -> dict[str, Any]:
    """The same steps on the same text: with the rounding in them, without, and with a teacher."""
    plain = tuned(bench, bench.copy())
    found = {"fp16, trained on": bench.row(plain)}
    for scheme in (INT2, TERNARY):
        after = layers.quantize_linears(copy.deepcopy(plain), scheme)
        found[f"trained on, then {scheme}"] = bench.row(after)
        aware = qat.convert(tuned(bench, qat.prepare(bench.copy(), scheme)))
        found[f"QAT, {scheme}"] = bench.row(aware)
    taught = qat.convert(tuned(bench, qat.prepare(bench.copy(), INT2), bench.model))
    found[f"QAT with a teacher, {INT2}"] = bench.row(taught)
    return {"recipe": asdict(bench.recipe), "rows": found}


def students(bench: Bench) -> dict[str, Any]:
    """Half the layers of the model: as they are, trained on the text, and taught by the whole."""
    keep = (0,) if bench.quick else STUDENT
    student = distillation.shallower(bench.model, keep)
    found = {"half the layers": bench.row(student)}
    on_text = tuned(bench, copy.deepcopy(student))
    found["half the layers, trained on"] = bench.row(on_text)
    found["half the layers, distilled"] = bench.row(tuned(bench, student, bench.model))
    return {"recipe": asdict(bench.recipe), "layers_kept": list(keep), "rows": found}


def tuned(bench: Bench, model: CausalLM, teacher: CausalLM | None = None) -> CausalLM:
    """The model after the recipe's steps, in place."""
    start = time.perf_counter()
    distillation.tune(model, bench.stream(held_out=False), bench.recipe, teacher)
    print(f"{time.perf_counter() - start:.0f} s of training", flush=True)
    return model


# --- speed ----------------------------------------------------------------------------------------


def speed(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a token, of one of a prompt, and of one large layer, all on one thread."""
    torch.set_num_threads(1)
    kinds: dict[str, CausalLM] = {
        "fp32": bench.model,
        "int8 by int8": layers.int8_linears(bench.copy()),
        "2:4": pruning.prune_linears(bench.copy(), bench.calibration[:1], "magnitude"),
    }
    for scheme in (Scheme(8), INT4, INT2, TERNARY):
        kinds[str(scheme)] = layers.quantize_linears(bench.copy(), scheme)
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    prompt = 16 if bench.quick else 256
    for name, model in kinds.items():
        for kind, count in (("decode", 1), ("prompt", prompt)):
            ids = torch.arange(count)
            runs[name, kind] = lambda m=model, ids=ids: m(ids, ids, causal_attention)
    size = 64 if bench.quick else LAYER
    for name, layer in large(size).items():
        for count in (1, 256):
            x = torch.randn(count, size)
            runs[name, f"layer, {count}"] = lambda f=layer, x=x: f(x)
    best = timed(runs, 1 if bench.quick else 3)
    shown = {"prompt_tokens": prompt, "layer": size, "milliseconds": {}}
    for (name, kind), seconds in best.items():
        shown["milliseconds"].setdefault(kind, {})[name] = round(1e3 * seconds, 4)
    return shown


def large(size: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """One square layer in every form, and in PyTorch's own int4, whose kernel reads nibbles."""
    torch.manual_seed(0)
    linear = nn.Linear(size, size, bias=False).requires_grad_(False)
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "fp32": linear,
        "int8 by int8": layers.Int8Linear(linear.weight),
        "2:4": pruning.Sparse24Linear(linear.weight * pruning.mask(linear.weight.abs())),
    }
    for scheme in (Scheme(8), INT4, INT2, TERNARY):
        found[str(scheme)] = layers.QuantizedLinear(quantize(linear.weight, scheme))
    found["int4, PyTorch's kernel"] = torch_int4(linear.weight)
    return found


def torch_int4(weight: Tensor, group: int = 32) -> Callable[[Tensor], Tensor]:
    """PyTorch's int4 product for CPUs: it stands for (code - 8) scale + zero, in bfloat16."""
    q = quantize(weight, Scheme(4, group))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.codes.int() + 8, 1)
    scale = q.scale.float().t()  # [groups, N]
    both = torch.stack((scale, torch.zeros_like(scale)), -1).bfloat16().contiguous()

    def product(x: Tensor) -> Tensor:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), packed, group, both)

    x = torch.randn(4, weight.shape[1])
    exact = x @ integers.dequantize(q).t()
    if (product(x).float() - exact).norm() > 0.02 * exact.norm():
        raise AssertionError("PyTorch's int4 gives other outputs: its time means nothing")
    return product


@torch.inference_mode()
def timed(runs: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Seconds of the processor's time of each, the best of all rounds: one thread's, so that what
    else runs on the machine cannot lengthen it."""
    best: dict[Any, float] = {}
    for _ in range(rounds):
        for key, run in runs.items():
            for _ in range(2):
                start = time.thread_time()
                run()
                best[key] = min(best.get(key, float("inf")), time.thread_time() - start)
    return best


SECTIONS = {"rounding": rounding, "training": training, "students": students, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one layer, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", this_machine.cpu_name().lower()).strip("-")
        out = RESULTS / f"quantization-{name}.json"
    bench = Bench(options.quick)
    about = {
        "date": bench.card["date"],
        "corpus": bench.card["corpus"],
        "parameters": sum(p.numel() for p in bench.model.parameters()),
    }
    for section in options.only:
        measured = {"machine": machine(), "model": about, section: SECTIONS[section](bench)}
        if out is None:
            print(json.dumps(measured))
            continue
        # Read anew: another section may have been measured meanwhile.
        found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found | measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
