"""The exercises of unit 1.6: parameters, memory, the split of a budget, days and dollars.

Also the verdicts on what the talk says of training's scale. What is expected is counted in modules
that exist, or published; a wrong answer is told which part it lacks where that can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.scale.memory import model_states
from aiinfra_labs.llm.scale.parameters import parameters as parts_of
from aiinfra_labs.llm.scale.parameters import total
from aiinfra_labs.llm.scale.shapes import Shape, from_config, known

from . import scale_views as views

SKILL = "Scale and cost"

examine(
    "gpt3-cost",
    verdict="corrected",
    figure="175 B parameters: 174.6 B by the shape that the paper gives. 4.6 M$ is no bill: Lambda "
    "worked it out in 2020 from 3.14e23 operations, 28 TFLOP/s on a V100 (22 % of its tensor "
    "cores' peak) and the cheapest V100-hour it found, about 1.48 $. OpenAI published no cost; the "
    "AI Index of 2024 estimates 4.32 M$.",
    how="parameters and 6ND from the paper's tables, the price from Lambda's own two figures",
    source="https://lambda.ai/blog/demystifying-gpt-3",
)
examine(
    "palm-cost",
    verdict="corrected",
    figure="540.36 B parameters by its shape, 540.35 B published. Google published no cost, but "
    "8.40 M TPU-v4 chip-hours and 2.56e24 operations. At the list price of 2022 (3.22 $) these "
    "hours are 27.1 M$. The 12 M$ is the AI Index's estimate of 2024 (12.39); another gives 9 to "
    "23.",
    how="chips x hours of the paper, times the list price of a chip-hour",
    source="https://arxiv.org/abs/2204.02311",
)
examine(
    "gpt4-cost",
    verdict="corrected",
    figure="Neither figure has a primary source. OpenAI's report withholds the model's size, "
    "hardware and compute, so 1.7 T is a rumour and nothing to compute with. That training cost "
    "more than 100 M$ is what a journalist reported of a remark of its head in April 2023; the AI "
    "Index estimates 78 M$ for the compute.",
    how="read in the report, section 2, and in Wired's account of the remark (17 April 2023)",
    source="https://arxiv.org/abs/2303.08774",
)
examine(
    "train-resources",
    verdict="corrected",
    figure="1,000 A100 at 40 % of their peak do 6.6e23 operations in 2 months and 2.0e24 in 6: two "
    "to six times GPT-3, less than PaLM (2.56e24), a twentieth of Llama 3.1 405B (3.8e25). "
    "Published: BLOOM 384 A100, 118 days, 1.61 TB of text (350 B unique tokens); LLaMA "
    "65B 2,048 A100, 21 days; "
    "DeepSeek-V3 2,048 H800, 54 days; Llama 3.1 405B up to 16,384 H100, 78 days at least.",
    how="devices x peak x utilisation x time; days as published hours / devices",
    source="https://arxiv.org/abs/2211.05100",
)


def number(value: Any) -> Any:
    """A number of NumPy or torch as Python's own."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def a_number(r: Any, value: Any, name: str) -> float:
    """The value as a number; fails the requirement unless it is one that can be compared."""
    value = number(value)
    text = repr(value)
    r.that(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        what=f"{name} is {text if len(text) < 60 else text[:60] + ' ...'}",
        why="a finite number was asked for",
        try_="end the function with return and that number",
        slip=not isinstance(value, int | float),
    )
    return value


def a_pair(r: Any, value: Any, names: tuple[str, str]) -> tuple[float, float]:
    """Two numbers that the function returned together."""
    r.that(
        isinstance(value, tuple | list) and len(value) == 2,
        what=f"{'nothing' if value is None else f'a {type(value).__name__}'} was returned",
        why=f"two numbers were asked for: {names[0]} and {names[1]}",
        try_=f"end the function with return {names[0]}, {names[1]}",
        slip=True,
    )
    first, second = (a_number(r, v, n) for v, n in zip(value, names, strict=True))
    return first, second


# --- 1.6.a -------------------------------------------------------------------------------------

PLAIN = "counts a model whose heads each have a key and a value of their own"
GROUPED = "counts grouped heads, and a head that is not tied to the embedding"
PUBLISHED = "counts Llama 3.1 8B, 70B and 405B to the last parameter"
CONFIGS = {
    PLAIN: (
        LlamaConfig(100, 8, 20, 1, 2, 2),
        LlamaConfig(512, 64, 176, 3, 4, 4),
        LlamaConfig(1000, 96, 256, 2, 6, 6),
    ),
    GROUPED: (
        LlamaConfig(100, 8, 20, 1, 2, 1),
        LlamaConfig(512, 64, 176, 3, 4, 2, tie_word_embeddings=False),
        LlamaConfig(1024, 96, 256, 5, 6, 1, tie_word_embeddings=False),
    ),
}
LLAMAS = ("llama-3-8b", "llama-3-70b", "llama-3-405b")


@exercise(
    "1.6.a",
    title="The parameters of a config",
    points=4,
    central=PUBLISHED,
    skill=SKILL,
    arguments=("config",),
    hints=(
        (
            PLAIN,
            "Print the parameters of a small model with their shapes, as the lab does, and find "
            "for each matrix which two numbers of the config its shape is made of. How many "
            "matrices has a block, and how many vectors?",
        ),
        (
            PLAIN,
            "A block: four matrices of attention, three of the MLP, two norms. Beside the blocks "
            "there are the table of embeddings and one more norm.",
        ),
        (
            GROUPED,
            "A head has hidden_size / num_attention_heads columns. The query matrix has that many "
            "for each head; the key and value matrices for each kv head only.",
        ),
        (
            GROUPED,
            "Where tie_word_embeddings is false, lm_head is a matrix of its own, as large as the "
            "table of embeddings.",
        ),
        (PUBLISHED, "Whole numbers throughout: // and no rounding."),
    ),
)
def parameters(function: Any, require: Any) -> None:
    """The number of parameters of a Llama-shaped model, from its config alone."""
    for name, configs in CONFIGS.items():
        with require(name) as r:
            for config in configs:
                with torch.device("meta"):
                    there = Llama(config).parameter_count()
                _counts(r, function, from_config(config.to_dict()), config.to_dict(), there)
    with require(PUBLISHED) as r:
        for key in LLAMAS:
            model = known()[key]
            _counts(r, function, model.shape, config_of(model.shape), total(model.shape))


def config_of(shape: Shape) -> dict[str, Any]:
    """The `config.json` of a Llama's shape, as far as its parameters depend on it."""
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "tie_word_embeddings": shape.tied,
    }


def _counts(r: Any, function: Any, shape: Shape, config: Mapping[str, Any], there: int) -> None:
    given = {name: config[name] for name in config_of(shape)}
    with r.input(", ".join(f"{name} {value}" for name, value in given.items())):
        got = a_number(r, function(dict(given)), "the count")
        r.that(
            got == there,
            what=f"{_whole(got)} parameters, and the model has {there:,}: "
            f"{_whole(abs(got - there))} too {'many' if got > there else 'few'}",
            why=_part(got - there, shape),
            try_="count one block by hand, matrix by matrix, and compare with the shapes that "
            "the model prints",
        )


def _whole(value: float) -> str:
    """A count as it was meant, also where the function made a fraction of it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}"


def _part(difference: float, shape: Shape) -> str:
    """Which part of the model a difference is the size of."""
    have = parts_of(shape)
    c, d, layers = shape.width, shape.head_dim, shape.layers
    table = shape.vocabulary * c
    spared = 2 * c * d * (shape.heads - shape.kv_heads) * layers  # by grouping
    for size, why in (
        (-table, "that is one table of embeddings: without a tie, lm_head is a second one"),
        (table, "that is one table of embeddings: a tied one is there once, and counts once"),
        (-have["norms"], "that is all norms: each has a vector of hidden_size"),
        (-c, "that is one norm: another stands behind the last block"),
        (spared, "that is what grouped heads save: keys and values have num_key_value_heads"),
        (-have["mlp"] // 3, "that is one matrix of each MLP: gate, up and down are three"),
        (-c * c * layers, "that is one square matrix a layer, such as attention's output"),
    ):
        if size and difference == size:
            return why
    ratio = 1 + difference / total(shape)
    return f"the count is {ratio:.4g} times what is there, and no one part has that size"


@parameters.show
def _show_parameters(function: Any) -> views.Picture:
    return views.counts(
        {
            model.name: (number(function(config_of(model.shape))), total(model.shape))
            for key, model in known().items()
            if key in LLAMAS
        }
    )


# --- 1.6.b -------------------------------------------------------------------------------------

ALONE = "adds up weights, gradients and optimiser without ZeRO"
STAGED = {
    1: "divides the optimiser's states in stage 1",
    2: "divides the gradients too in stage 2",
    3: "divides everything in stage 3",
}


@exercise(
    "1.6.b",
    title="The memory of a training step under ZeRO",
    points=6,
    central=STAGED[1],
    skill=SKILL,
    arguments=("parameters", "gpus", "stage"),
    hints=(
        (
            ALONE,
            "Mixed precision keeps for each parameter 2 bytes of weight, 2 of gradient, and for "
            "Adam three numbers of 4 bytes: a copy of the weight and two moments.",
        ),
        (
            STAGED[1],
            "With 64 GPUs and stage 1, each holds the optimiser's states of a 64th of the "
            "parameters, and still all weights and gradients: 4 + 12 / 64 bytes a parameter.",
        ),
        (STAGED[2], "Stage 2 keeps 2 bytes a parameter whole, and divides the other 14."),
        (STAGED[3], "In stage 3 nothing is whole."),
    ),
)
def bytes_per_gpu(function: Any, require: Any) -> None:
    """Bytes on each GPU of weights, gradients and Adam's states, in mixed precision."""
    names = {0: ALONE, **STAGED}
    for stage, name in names.items():
        with require(name) as r:
            for n, gpus in ((1_000, 1), (7_500_000_000, 64), (70_553_706_496, 100), (640, 7)):
                with r.input(f"{n:,} parameters, {gpus} GPUs, stage {stage}"):
                    got = a_number(r, function(n, gpus, stage), "the number of bytes")
                    expected = model_states(n, gpus, stage)
                    r.that(
                        abs(got - expected) <= max(1e-6 * expected, 16),  # bytes: a shard rounded
                        what=f"{got / n:.6g} bytes a parameter on each GPU, expected "
                        f"{expected / n:.6g}",
                        why=_shares(got / n, gpus, stage),
                        try_="write the three kinds of states beside each other, and for each "
                        "whether this stage divides it by the number of GPUs",
                    )


def _shares(got: float, gpus: int, stage: int) -> str:
    """What a wrong number of bytes a parameter is made of."""
    said = {
        0: "without ZeRO each GPU holds 2 + 2 + 12 bytes, whole",
        1: f"stage 1 leaves 2 + 2 whole and divides 12 by {gpus}",
        2: f"stage 2 leaves 2 whole and divides 2 + 12 by {gpus}",
        3: f"stage 3 divides 2 + 2 + 12 by {gpus}",
    }[stage]
    for other in (0, 1, 2, 3):
        # On one GPU all stages are the same, and tell nothing.
        if other != stage and gpus > 1 and math.isclose(got, model_states(1, gpus, other)):
            return f"that is stage {other}; {said}"
    for wrong, why in (
        (12, "weights and gradients are missing, or one of Adam's states and the copy"),
        (8, "Adam has two moments of 4 bytes, and mixed precision a copy of the weights"),
    ):
        if stage == 0 and math.isclose(got, wrong):
            return f"{why}: {said}"
    return said


@bytes_per_gpu.show
def _show_bytes(function: Any) -> views.Picture:
    return views.memory(function, total(known()["llama-3-70b"].shape), "Llama 3.1 70B")
