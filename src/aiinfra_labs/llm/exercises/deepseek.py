"""The exercises of unit 1.7 on latent attention, and the verdicts on its claims.

What is expected is computed head by head, from slices.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.calling import unwatched
from aiinfra_labs.llm.attention_cost import allocated

from . import deepseek_views as views
from .tensors import equal, is_tensor, near, random

SKILL = "DeepSeek's ideas"

examine(
    "mla-75",
    verdict="corrected",
    figure="93.3 % is the paper's figure, against DeepSeek 67B, whose cache is grouped already; it "
    "comes out to the digit with 6 bits a number for V2, as it is served, and 16 for the 67B. At "
    "16 bits for both it is 82.2 %. Against V2's own shape: 98.2 % less than multi-head, 71.9 % "
    "less than 8 kv heads, and 2.25 times multi-query. 75 % would be against 9 kv heads, which no "
    "model named here has.",
    how="bytes a token by config, 60 layers x (512 + 64) against 95 layers x 2 x 8 x 128; the 6 "
    "bits are those of section 3.2.3, the arithmetic is ours",
    source="https://arxiv.org/abs/2405.04434",
)
examine(
    "moe-64",
    verdict="corrected",
    figure="64 routed experts are DeepSeekMoE 16B's, of 2024: 6 of them a token, and 2 shared. V2 "
    "has 160, 6 a token; V3 and R1 have 256, 8 a token. Sparse it is: a token goes through 2.8 of "
    "16.4 B, 21.4 of 235.7 B, 37.6 of 671.0 B parameters.",
    how="published configs; parameters counted by unit 1.6's formula, as in the modules of "
    "transformers",
    source="https://arxiv.org/abs/2401.06066",
)
examine(
    "deepseek-lineage",
    verdict="corrected",
    figure="The dates hold: DeepSeek LLM 67B, which DeepSeek itself calls V1, in November 2023, V2 "
    "with latent attention in May 2024, R1 in January 2025, on V3 of December 2024. What is false "
    "is 'near GPT-4': R1's report sets it beside o1-1217 and GPT-4o, and puts it far above GPT-4o "
    "on AIME (79.8 to 9.3).",
    how="read in DeepSeek's own repositories and reports",
    source="https://github.com/deepseek-ai/DeepSeek-R1",
)
examine(
    "aime-79.8",
    verdict="cited",
    figure="79.8 % is R1's pass@1 on AIME 2024, 30 questions, the mean of 64 drawn answers each at "
    "temperature 0.6 and up to 32,768 tokens; o1-1217 has 79.2. The report's human average is "
    "37.8 %: it is above that, not near it.",
    how="read in the report; too large to run here",
    source="https://github.com/deepseek-ai/DeepSeek-R1",
)
examine(
    "humaneval-96.3",
    verdict="corrected",
    figure="R1's report names HumanEval-Mul among its benchmarks and gives no result for it. 96.3 "
    "is there as a percentile on Codeforces: the share of human contestants that it is rated above "
    "(rating 2,029). Its share of solved programming "
    "tasks is 65.9 % on LiveCodeBench, 49.2 % on SWE-bench Verified.",
    how="read in the report's table of results",
    source="https://github.com/deepseek-ai/DeepSeek-R1",
)
examine(
    "inference-90",
    verdict="corrected",
    figure="No report gives 90 %, and the talk names no source. What can be computed: V2 goes "
    "through 21.4 B parameters a token "
    "where DeepSeek 67B goes through 67.4 B, 68 % fewer operations, and its paper measured 5.76 "
    "times the throughput, 83 % less time a token, on the same 8 H800. A price is no cost: "
    "R1's was 2.19 $ a million tokens in early 2025, o1's 60 $, 96 % less.",
    how="by configs and the paper's own measurement; to decide it takes a cost, before and after, "
    "for the same work",
    source="https://arxiv.org/abs/2405.04434",
)

# --- 1.7.a -------------------------------------------------------------------------------------

ONE = "makes key and value of one head from the latent"
MANY = "gives each of several heads its own"
SHARED = "puts the shared position key behind every head's key"


@exercise(
    "1.7.a",
    title="Keys and values from a latent",
    points=4,
    central=MANY,
    skill=SKILL,
    arguments=("latent", "shared", "w_up", "heads", "nope"),
    hints=(
        (
            ONE,
            "`w_up` is a weight of `nn.Linear`, [outputs, inputs]: `latent @ w_up.T`. Of what "
            "comes out, the first `nope` numbers are the key, the others the value.",
        ),
        (
            MANY,
            "The rows of w_up are head 0's key, head 0's value, head 1's key, head 1's value, ... "
            "`x.unflatten(-1, (heads, -1))` gives each head its numbers. Only then split.",
        ),
        (
            MANY,
            "After unflatten the axes are B, S, heads, numbers. The heads belong before S: "
            "`transpose(1, 2)`.",
        ),
        (
            SHARED,
            "`shared[:, None]` has an axis for the heads, of length 1; `expand(-1, heads, -1, -1)` "
            "makes it as long as the keys' without copying. Then `torch.cat` along the last axis.",
        ),
    ),
)
def keys_and_values(function: Any, require: Any) -> None:
    """Keys [B, H, S, N + R] and values [B, H, S, V] of all heads, from what a token keeps."""
    for name, shapes in (
        (ONE, ((1, 1, 4, 3, 2, 2, 1), (2, 5, 6, 2, 4, 3, 1))),
        (MANY, ((1, 3, 4, 3, 2, 2, 2), (2, 4, 8, 4, 2, 4, 3), (1, 6, 16, 8, 4, 8, 4))),
        (SHARED, ((1, 2, 4, 3, 2, 2, 1), (2, 4, 8, 4, 6, 4, 3))),
    ):
        with require(name) as r:
            for b, s, latent_size, nope, rope, v, heads in shapes:
                _expands(r, function, b, s, latent_size, nope, rope, v, heads, name)


def _expands(
    r: Any,
    function: Any,
    b: int,
    s: int,
    latent_size: int,
    nope: int,
    rope: int,
    v: int,
    heads: int,
    name: str,
) -> None:
    latent, shared = random(b, s, latent_size, seed=1), random(b, s, rope, seed=2)
    w_up = random(heads * (nope + v), latent_size, seed=3)
    said = f"latent {[b, s, latent_size]}, shared {[b, s, rope]}, {heads} head"
    with r.input(f"{said}{'' if heads == 1 else 's'}, nope = {nope}, values of {v}"):
        got = function(latent.clone(), shared.clone(), w_up.clone(), heads, nope)
        r.that(
            isinstance(got, tuple | list) and len(got) == 2,
            what=f"{'nothing' if got is None else f'a {type(got).__name__}'} was returned",
            why="two tensors are asked for: the keys and the values",
            try_="end the function with return key, value",
            slip=True,
        )
        key, value = expanded_by_heads(latent, shared, w_up, heads, nope)
        is_tensor(r, got[0], "key", tuple(key.shape))
        if name == SHARED:
            equal(
                r,
                got[0][..., nope:],
                key[..., nope:],
                "key, its last numbers",
                why="the key that carries the position is the same for all heads, and stands last",
                try_="print key[0, :, 0, nope:] and shared[0, 0]: every row is that",
            )
            return
        why = _layout(got[0], latent, w_up, heads, nope)
        equal(r, got[0][..., :nope], key[..., :nope], "key, its first numbers", why=why)
        equal(r, got[1], value, "value", why=why)


def expanded_by_heads(
    latent: Tensor, shared: Tensor, w_up: Tensor, heads: int, nope: int
) -> tuple[Tensor, Tensor]:
    """One head after another, by slices of w_up's rows: [B, H, S, N + R] and [B, H, S, V]."""
    each = len(w_up) // heads
    rows = [w_up[h * each : (h + 1) * each] for h in range(heads)]
    keys = [torch.cat((latent @ w[:nope].T, shared), -1) for w in rows]
    return torch.stack(keys, 1), torch.stack([latent @ w[nope:].T for w in rows], 1)


def _layout(key: Tensor, latent: Tensor, w_up: Tensor, heads: int, nope: int) -> str:
    """Which rows a wrong key was made of, where that can be seen."""
    if heads > 1:
        parted = (latent @ w_up[: heads * nope].T).unflatten(-1, (heads, nope)).transpose(1, 2)
        if near(key[..., :nope], parted):
            return (
                "these are the first rows of w_up for all heads: each head's key is followed "
                "by its own value, and then comes the next head"
            )
    each = len(w_up) // heads
    last = [latent @ w_up[(h + 1) * each - nope : (h + 1) * each].T for h in range(heads)]
    if each != nope and near(key[..., :nope], torch.stack(last, 1)):
        return "these rows of w_up are the end of each head's: its key comes first, then its value"
    return "row by row, w_up holds head 0's key, head 0's value, head 1's key, and so on"


@keys_and_values.show
def _show_keys(function: Any) -> views.Picture:
    return views.keys(function, expanded_by_heads)


# --- 1.7.b -------------------------------------------------------------------------------------

SAME = "gives what expanded keys and values give"
SCALE = "divides the scores by the root of a key's width, N + R"
NOT_MADE = "makes no key and no value"


@exercise(
    "1.7.b",
    title="Attention without keys and values",
    points=5,
    central=NOT_MADE,
    skill=SKILL,
    arguments=("q_nope", "q_rope", "latent", "shared", "w_key", "w_value"),
    hints=(
        (
            SAME,
            "The score of a head's query q with a key W c is q . (W c) = (q W) . c. So bring q "
            'into the latent\'s space, `torch.einsum("bhn,hnl->bhl", q_nope, w_key)`, and '
            "multiply it with the latents themselves.",
        ),
        (
            SAME,
            "The other part of the score is q_rope with `shared`. Both parts are summed before "
            "the softmax.",
        ),
        (
            SAME,
            "The output is a weighted mean of values W c, which is W times the weighted mean of "
            "the latents: `weights @ latent` is [B, H, L]. Then w_value brings it back.",
        ),
        (
            SCALE,
            "The scores are those of keys with N + R numbers, however wide the latent is: "
            "`q_nope.shape[-1] + q_rope.shape[-1]`.",
        ),
        (
            NOT_MADE,
            "Anything with both the heads and the tokens of the cache and a third axis is too "
            "large. Scores [B, H, S] are all that may have both.",
        ),
    ),
)
def absorbed(function: Any, require: Any) -> None:
    """One new token's attention over latents: q [B, H, N], [B, H, R] to [B, H, V]."""
    with require(SAME) as r:
        # N + R = L = 4, so that either root is right here.
        for b, heads, s, v in ((1, 1, 1, 2), (1, 1, 5, 3), (2, 3, 4, 4), (3, 4, 9, 2)):
            _absorbs(r, function, b, heads, s, 4, 3, 1, v)
    with require(SCALE) as r:
        for latent, nope, rope in ((16, 3, 2), (6, 8, 8), (32, 4, 4)):
            _absorbs(r, function, 2, 3, 6, latent, nope, rope, 4)
    with require(NOT_MADE) as r:
        for heads, s in ((16, 512), (32, 300)):
            given = inputs(1, heads, s, 64, 32, 16, 32)
            with r.input(f"{heads} heads, {s} tokens, latents of 64, keys of 32 + 16"):
                # Measured the first time that these are given: a kept result costs nothing.
                got: list[Any] = []
                made = allocated(lambda g=given, got=got: got.append(unwatched(function)(*g)))
                for result in (got[0], function(*given)):
                    equal(
                        r,
                        result,
                        attention_by_heads(*given),
                        "the result",
                        1e-3,  # sums of 64 x 32 products, in another order
                        why="what is spared must not change the result",
                        try_="get the requirements above right first",
                    )
                limit = heads * s * 32 * 4 // 2
                r.that(
                    made <= limit,
                    what=f"{made:,} bytes of new tensors, at most {limit:,} allowed; keys "
                    f"of all heads have {heads * s * 32 * 4:,}",
                    why="a key or a value for each head and token was made, in every step for the "
                    "whole context: that is what the latent was to spare",
                    try_="multiply the query with w_key, not the latents; and apply w_value to "
                    "the mean, not to every token",
                )


def inputs(
    b: int, heads: int, s: int, latent: int, nope: int, rope: int, v: int
) -> tuple[Tensor, ...]:
    """Random arguments of the exercise, in its order."""
    return (
        2 * random(b, heads, nope, seed=11),
        2 * random(b, heads, rope, seed=12),
        random(b, s, latent, seed=13),
        random(b, s, rope, seed=14),
        random(heads, nope, latent, seed=15) / 2,
        random(heads, v, latent, seed=16),
    )


def attention_by_heads(
    q_nope: Tensor,
    q_rope: Tensor,
    latent: Tensor,
    shared: Tensor,
    w_key: Tensor,
    w_value: Tensor,
    width: int | None = None,
) -> Tensor:
    """With a key and a value for each head, one head after another: [B, H, V].

    width: whose root divides the scores; a key's by default.
    """
    width = width or q_nope.shape[-1] + q_rope.shape[-1]
    out = []
    for h in range(q_nope.shape[1]):
        key = torch.cat((latent @ w_key[h].T, shared), -1)  # [B, S, N + R]
        query = torch.cat((q_nope[:, h], q_rope[:, h]), -1)  # [B, N + R]
        scores = (key @ query[..., None])[..., 0] / math.sqrt(width)  # [B, S]
        value = latent @ w_value[h].T  # [B, S, V]
        out.append((scores.softmax(-1)[..., None] * value).sum(1))
    return torch.stack(out, 1)


def _absorbs(
    r: Any, function: Any, b: int, heads: int, s: int, latent: int, nope: int, rope: int, v: int
) -> None:
    given = inputs(b, heads, s, latent, nope, rope, v)
    said = f"{b} x {heads} heads, {s} tokens, latents of {latent}, keys of {nope} + {rope}"
    with r.input(said):
        got = function(*(x.clone() for x in given))
        is_tensor(r, got, "the result", (b, heads, v))
        equal(
            r,
            got,
            attention_by_heads(*given),
            "the result",
            why=_attended(got, given),
            try_="compare your scores [B, H, S] with those of keys that you make by hand, for one "
            "head and one token",
        )


def _attended(got: Tensor, given: tuple[Tensor, ...]) -> str:
    """Which attention a wrong one is, where it is a known one."""
    q_nope, q_rope, latent, shared, *_ = given
    for width, why in (
        (latent.shape[-1] + shared.shape[-1], "the scores are divided by the root of L + R"),
        (latent.shape[-1], "the scores are divided by the root of the latent's width"),
        (q_nope.shape[-1], "the scores are divided by the root of N alone"),
        (1, "the scores are not divided"),
    ):
        if near(got, attention_by_heads(*given, width=width)):
            return f"{why}: absorbing changes how they are computed, not what they are"
    lost = (q_nope, torch.zeros_like(q_rope), *given[2:])
    if near(got, attention_by_heads(*lost)):
        return "the part of the score that knows the position, q_rope with shared, is missing"
    return (
        "softmax over the tokens of (q W) . c + q_rope . shared, over the root of N + R; then "
        "the mean of the latents, times w_value"
    )


@absorbed.show
def _show_absorbed(function: Any) -> views.Picture:
    return views.bytes_by_context(function, inputs)
