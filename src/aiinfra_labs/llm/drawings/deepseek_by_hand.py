"""The figures of unit 1.7 with numbers to follow by hand: latents, a router, a group of answers.

Every number is computed here from the few that stand at the top. Unit 1.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import LARGE, arrow, box, drawing, frame, ink, need, write
from aiinfra_labs.llm.deepseek import grpo
from aiinfra_labs.llm.deepseek.chains import Chain
from aiinfra_labs.llm.scale.shapes import Shape

from .four_words import numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
BLUE, ORANGE, GREEN, PURPLE = (
    figures.PALETTE[name] for name in ("blue", "orange", "green", "purple")
)

# One head: a query of 3 numbers, latents of 2, and the matrix that makes keys of latents.
QUERY = np.array([1.0, 1, 0])
KEY_UP = np.array([[1.0, 0], [1, 1], [0, 1]])  # [N, L]
LATENTS = np.array([[1.0, 2], [0, 1], [2, -1]])  # [S, L]: three tokens

# One token and eight experts, of which it goes to two.
SCORES = np.array([0.9, 0.2, 0.6, 0.1, 0.8, 0.3, 0.5, 0.1])
BIAS = np.array([-0.5, 0, 0.1, 0.1, -0.1, 0, 0, 0.2])
CHOSEN = 2

# One question, four answers to it.
CHAIN = Chain(3, (("+", 4), ("*", 3), ("+", 2)))
ANSWERS = (">2>1#3", "#1", ">2>0#2", "#0")


def two_ways() -> Figure:
    """The same scores twice: keys made from latents, and a query brought to the latents."""
    keys, query = LATENTS @ KEY_UP.T, QUERY @ KEY_UP
    scores = keys @ QUERY
    n, width = KEY_UP.shape
    tokens = len(LATENTS)
    many, few = tokens * (n * width + n), n * width + tokens * width
    told = "; ".join(
        f"latent {numbers(c)}, key {numbers(k)}, score {s:.0f}"
        for c, k, s in zip(LATENTS, keys, scores, strict=True)
    )
    alt = (
        f"One head, query {numbers(QUERY)}, three tokens, and a matrix W with the rows "
        f"{', '.join(map(numbers, KEY_UP))}. Expanded: a key is made of each latent: "
        f"{told}; {many} multiplications. Absorbed: the query is multiplied once and becomes "
        f"{numbers(query)}; its products with the latents are the same scores; {few} "
        "multiplications."
    )
    with drawing(alt, 0, 116) as (fig, ax):
        for i, row in enumerate(KEY_UP):
            write(ax, 21, 113 - 6 * i, numbers(row), LARGE)
        frame(ax, 15, 98, 12, 18, "-")
        write(ax, 11, 107, "W", LARGE, weight="bold")
        write(ax, 55, 107, "q", LARGE, weight="bold")
        frame(ax, 59, 103, 18, 8, "-")
        write(ax, 68, 107, numbers(QUERY), LARGE)
        write(ax, 0, 91, "expanded", LARGE, ha="left", weight="bold")
        write(ax, 100, 91, f"{many} multiplications", LARGE, ha="right")
        for x, name in ((12, "latents c"), (50, "keys W c"), (86, "scores")):
            write(ax, x, 84, name, LARGE)
        for i in range(tokens):
            y = 73 - 9 * i
            box(ax, 3, y, 18, 7.5, ORANGE, numbers(LATENTS[i]), LARGE)
            arrow(ax, (22, y + 3.7), (38.5, y + 3.7), "-|>", 1.2)
            box(ax, 39, y, 22, 7.5, GREEN, numbers(keys[i]), LARGE)
            arrow(ax, (62, y + 3.7), (79.5, y + 3.7), "-|>", 1.2)
            box(ax, 80, y, 12, 7.5, BLUE, f"{scores[i]:.0f}", LARGE)
        write(ax, 30, 50.5, "times W", LARGE)
        write(ax, 70, 50.5, "times q", LARGE)
        ax.plot([0, 100], [45.5, 45.5], lw=0.8, color=ink())
        write(ax, 0, 40, "absorbed", LARGE, ha="left", weight="bold")
        write(ax, 100, 40, f"{few} multiplications", LARGE, ha="right")
        for x, name in ((12, "latents c"), (50, "once: q W"), (86, "scores")):
            write(ax, x, 33, name, LARGE)
        box(ax, 39, 4, 22, 25.5, GREEN, numbers(query), LARGE)
        for i in range(tokens):
            y = 22 - 9 * i
            box(ax, 3, y, 18, 7.5, ORANGE, numbers(LATENTS[i]), LARGE)
            arrow(ax, (22, y + 3.7), (38.5, y + 3.7), "-|>", 1.2)
            arrow(ax, (62, y + 3.7), (79.5, y + 3.7), "-|>", 1.2)
            box(ax, 80, y, 12, 7.5, BLUE, f"{scores[i]:.0f}", LARGE)
    return fig


def cached(shape: Shape) -> Figure:
    """What a layer makes of a token: the two vectors that it caches, each head's key and value.

    Raises ValueError for a shape without latent attention.
    """
    r = shape.latent
    need(
        r is not None,
        "the shape has no latent attention",
        "the drawing shows what is made of a latent",
        "the shape of DeepSeek-V2 or V3",
    )
    kept = r.kv_rank + r.rope_dim
    alt = (
        f"A token's vector of {shape.width:,} numbers is multiplied by one matrix. The result is a "
        f"latent of {r.kv_rank} numbers and a position key of {r.rope_dim}: these {kept} are "
        f"cached. Each of {shape.heads} heads makes of the latent, with matrices of its own, a key "
        f"of {shape.head_dim} numbers and a value of {r.value_dim}. The position key is put behind "
        f"every head's key, which then has {shape.head_dim + r.rope_dim} numbers."
    )
    with drawing(alt, 0, 82) as (fig, ax):
        write(ax, 9, 78, "token", LARGE, weight="bold")
        write(ax, 40, 78, "cached", LARGE, weight="bold")
        write(ax, 83, 78, f"each of {shape.heads} heads", LARGE, weight="bold")
        box(ax, 0, 38, 18, 14, None, f"x\n{shape.width:,}", LARGE)
        frame(ax, 27, 13, 26, 59, "--")
        box(ax, 29, 49, 22, 20, ORANGE, f"latent c\n{r.kv_rank}", LARGE)
        box(ax, 29, 16, 22, 20, PURPLE, f"position\nkey\n{r.rope_dim}", LARGE)
        write(ax, 20, 29, "RoPE", LARGE)
        write(ax, 40, 7, f"{kept} numbers", LARGE)
        box(ax, 68, 58, 30, 14, BLUE, f"value W' c\n{r.value_dim}", LARGE)
        box(ax, 68, 38, 30, 14, GREEN, f"key W c\n{shape.head_dim}", LARGE)
        box(ax, 68, 23, 30, 13, PURPLE, f"the same\n{r.rope_dim}", LARGE)
        frame(ax, 66, 21, 34, 33, "-")
        write(ax, 83, 15.5, f"the whole key: {shape.head_dim + r.rope_dim}", LARGE)
        for start, end in (
            ((18.5, 47), (28.5, 59)),
            ((18.5, 43), (28.5, 27)),
            ((51.5, 61), (67.5, 65)),
            ((51.5, 57), (67.5, 45)),
            ((51.5, 27), (67.5, 29.5)),
        ):
            arrow(ax, start, end, "-|>", 1.2)
    return fig


def router() -> Figure:
    """One token's scores for eight experts, the bias, the choice, and the weights."""
    wanted = SCORES + BIAS
    chosen = np.sort(np.argsort(-wanted, kind="stable")[:CHOSEN])
    weights = SCORES[chosen] / SCORES[chosen].sum()
    without = np.argsort(-SCORES, kind="stable")[:CHOSEN]
    told = "; ".join(
        f"expert {i}: {s:.1f} {b:+.1f} = {w:.1f}"
        for i, (s, b, w) in enumerate(zip(SCORES, BIAS, wanted, strict=True))
    )
    pairs = zip(chosen, weights, strict=True)
    alt = (
        f"Score plus bias of 8 experts for one token: {told}. Chosen: "
        f"{', '.join(f'expert {i} with weight {w:.2f}' for i, w in pairs)}. By the scores alone "
        f"it would have been {' and '.join(map(str, np.sort(without)))}. The result is the sum of "
        "the chosen experts' results, each times its weight, and the shared expert's."
    )
    with drawing(alt, 0, 108) as (fig, ax):
        box(ax, 0, 98, 26, 9, None, "token x", LARGE)
        write(ax, 30, 102.5, "is scored by the router:", LARGE, ha="left")
        columns = ((8, "expert"), (28, "score"), (46, "bias"), (66, "sum"), (88, "weight"))
        for x, name in columns:
            write(ax, x, 90, name, LARGE, weight="bold")
        for i in range(len(SCORES)):
            y = 79 - 8.7 * i
            if i in chosen:
                box(ax, 0, y, 100, 7.8, ORANGE)
            texts = (f"{i}", f"{SCORES[i]:.1f}", f"{BIAS[i]:+.1f}" if BIAS[i] else "0")
            for (x, _), text in zip(columns, (*texts, f"{wanted[i]:.1f}"), strict=False):
                write(ax, x, y + 3.9, text, LARGE)
            if i in chosen:
                weight = weights[int(np.flatnonzero(chosen == i)[0])]
                write(ax, 88, y + 3.9, f"{weight:.2f}", LARGE)
        total = " + ".join(f"{score:.1f}" for score in SCORES[chosen])
        said = f"weight of expert {chosen[0]}: {SCORES[chosen[0]]:.1f} / ({total})"
        write(ax, 100, 13.5, f"{said} = {weights[0]:.2f}", LARGE, ha="right")
        write(ax, 0, 4.5, "result", LARGE, ha="left")
        parts = [f"{w:.2f} · expert {i}(x)" for i, w in zip(chosen, weights, strict=True)]
        box(ax, 14, 0, 86, 9, None, " + ".join(("shared(x)", *parts)), LARGE)
    return fig


def group(chain: Chain = CHAIN, answers: Sequence[str] = ANSWERS) -> Figure:
    """One question, its answers, their rewards and advantages."""
    rewards = torch.tensor([chain.reward(text) for text in answers])
    given = grpo.advantages(rewards).tolist()
    mean, spread = float(rewards.mean()), float(rewards.std(correction=0))
    told = "; ".join(
        f"{text} reward {r:.0f}, advantage {a:+.2f}"
        for text, r, a in zip(answers, rewards.tolist(), given, strict=True)
    )
    alt = f"The question {chain.question} and {len(answers)} answers: {told}."
    height = 32 + 10 * len(answers)
    with drawing(alt, 0, height) as (fig, ax):
        box(ax, 0, height - 10, 34, 8.5, None, chain.question, LARGE)
        write(
            ax, 38, height - 5.7, f"is asked once, answered {len(answers)} times", LARGE, ha="left"
        )
        for x, name in ((16, "answer"), (46, "reward"), (72, "advantage")):
            write(ax, x, height - 17, name, LARGE, weight="bold")
        for i, (text, a) in enumerate(zip(answers, given, strict=True)):
            y = height - 30 - 10 * i
            box(ax, 0, y, 32, 8.5, GREEN if a > 0 else None, text, LARGE)
            write(ax, 46, y + 4.2, f"{rewards[i]:.0f}", LARGE)
            write(ax, 72, y + 4.2, f"{a:+.2f}", LARGE)
            start, end = (y + 0.8, y + 7.6) if a > 0 else (y + 7.6, y + 0.8)
            arrow(ax, (92, start), (92, end), "-|>", 2.2 if a > 0 else 1.2)
        write(ax, 100, 2, "likelier ↑ or less ↓", LARGE, ha="right")
        said = f"mean {mean:.2f}, standard deviation {spread:.2f}"
        write(ax, 0, 2, said, LARGE, ha="left")
        write(ax, 92, height - 17, "then", LARGE, weight="bold")
    return fig
