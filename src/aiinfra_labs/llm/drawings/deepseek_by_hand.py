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
from aiinfra_labs.course.drawing import LARGE, arrow, box, drawing, write
from aiinfra_labs.llm.deepseek import grpo
from aiinfra_labs.llm.deepseek.chains import Chain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
BLUE, ORANGE, GREEN = (figures.PALETTE[name] for name in ("blue", "orange", "green"))

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


def vector(row: Array) -> str:
    """A vector as text: "1  2"."""
    return "  ".join(f"{x + 0.0:.0f}" for x in row)


def two_ways() -> Figure:
    """The same scores twice: keys made from latents, and a query brought to the latents."""
    keys, query = LATENTS @ KEY_UP.T, QUERY @ KEY_UP
    scores = keys @ QUERY
    n, width = KEY_UP.shape
    tokens = len(LATENTS)
    many, few = tokens * (n * width + n), n * width + tokens * width
    told = "; ".join(
        f"latent {vector(c)}, key {vector(k)}, score {s:.0f}"
        for c, k, s in zip(LATENTS, keys, scores, strict=True)
    )
    alt = (
        f"One head, query {vector(QUERY)}, three tokens. Expanded: a key is made of each latent: "
        f"{told}; {many} multiplications. Absorbed: the query is multiplied once and becomes "
        f"{vector(query)}; its products with the latents are the same scores; {few} "
        "multiplications."
    )
    with drawing(alt, 0, 90) as (fig, ax):
        write(ax, 0, 88, "expanded", LARGE, ha="left", weight="bold")
        write(ax, 100, 88, f"{many} multiplications", LARGE, ha="right")
        for x, name in ((12, "latents"), (50, "keys"), (86, "scores")):
            write(ax, x, 81, name, LARGE)
        for i in range(tokens):
            y = 70 - 9 * i
            box(ax, 3, y, 18, 7.5, ORANGE, vector(LATENTS[i]), LARGE)
            arrow(ax, (22, y + 3.7), (38.5, y + 3.7), "-|>", 1.2)
            box(ax, 39, y, 22, 7.5, GREEN, vector(keys[i]), LARGE)
            arrow(ax, (62, y + 3.7), (79.5, y + 3.7), "-|>", 1.2)
            box(ax, 80, y, 12, 7.5, BLUE, f"{scores[i]:.0f}", LARGE)
        write(ax, 30, 48.5, "× W, each", LARGE)
        write(ax, 70, 48.5, f"· q = {vector(QUERY)}", LARGE)
        ax.plot([0, 100], [44.5, 44.5], lw=0.8, color=figures.INK)
        write(ax, 0, 40, "absorbed", LARGE, ha="left", weight="bold")
        write(ax, 100, 40, f"{few} multiplications", LARGE, ha="right")
        write(ax, 12, 33, "latents", LARGE)
        write(ax, 86, 33, "scores", LARGE)
        for i in range(tokens):
            y = 22 - 9 * i
            box(ax, 3, y, 18, 7.5, ORANGE, vector(LATENTS[i]), LARGE)
            arrow(ax, (22, y + 3.7), (79.5, y + 3.7), "-|>", 1.2)
            box(ax, 80, y, 12, 7.5, BLUE, f"{scores[i]:.0f}", LARGE)
        write(ax, 50, 1, f"· (q W) = {vector(query)}, made once", LARGE)
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
        f"it would have been {' and '.join(map(str, np.sort(without)))}."
    )
    with drawing(alt, 0, 82) as (fig, ax):
        columns = ((8, "expert"), (28, "score"), (46, "bias"), (66, "sum"), (88, "weight"))
        for x, name in columns:
            write(ax, x, 78, name, LARGE, weight="bold")
        for i in range(len(SCORES)):
            y = 66 - 8.7 * i
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
        write(ax, 100, 1.5, f"{said} = {weights[0]:.2f}", LARGE, ha="right")
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
        said = f"mean {mean:.2f}, standard deviation {spread:.2f}"
        write(ax, 0, 2, said, LARGE, ha="left")
        write(ax, 100, 2, "likelier, or less", LARGE, ha="right")
    return fig
