"""What `show` draws in unit 1.3: the learner's own weights, mask, heads and bytes. Unit 1.3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.llm.attention import repeat_kv, split_heads
from aiinfra_labs.llm.attention_cost import allocated
from aiinfra_labs.llm.coreference import talk_sentence
from aiinfra_labs.llm.drawings.attention import BLUE, ORANGE, heat_map
from aiinfra_labs.llm.pronoun_model import batch_of, load_stored

from .attention_grading import heads_apart, normal, seen_by_change
from .position_views import Picture


@torch.no_grad()
def weights_of(function: Any) -> Picture:
    """The learner's weights on the talk's sentence: queries and keys of a trained head."""
    model, sentence = load_stored("free"), talk_sentence()
    batch = batch_of([sentence], model.ids)
    layer = model.layers[-1].attention
    heard: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    attention = model(batch.ids, batch.it)[1][0, -1]  # [heads, T, T]
    handle.remove()
    head = int(attention[:, sentence.it, sentence.referent].argmax())
    query, key = (
        split_heads(project(heard[0]), model.config.heads)[0, head]
        for project in (layer.q_proj, layer.k_proj)
    )
    # With unit vectors as values, what comes out of attention are its weights.
    out = function(query, key, torch.eye(len(key)), None)
    share, sums = float(out[sentence.it, sentence.referent]), out.sum(-1)
    fig, ax = figures.figure(
        alt=f"Your weights on {sentence}: 它 gives 苹果 {share:.2f}. The rows sum to "
        f"{float(sums.min()):.3g} at least and {float(sums.max()):.3g} at most.",
        width=3.6,
        height=3.4,
    )
    heat_map(ax, out.clamp(0, 1), sentence.words)
    ax.set(ylabel="who looks", xlabel="at whom", title=f"它 → 苹果: {share:.2f}")
    return Picture(fig)


REAL = ((True,) * 6, (False, False, True, True, True, True))


def mask_of(function: Any) -> Picture:
    """The learner's mask of two sentences, the second padded: right, leaking, or missing."""
    real = torch.tensor(REAL)
    mask = function(real.clone(), real.shape[1])
    if not isinstance(mask, Tensor) or tuple(mask.shape) != (2, 1, 6, 6):
        raise ValueError(
            f"the mask has the shape {tuple(getattr(mask, 'shape', ()))}\n"
            "Why: it is drawn for 2 sentences of 6, [2, 1, 6, 6]\nTry: check says what is asked"
        )
    leaks, missed = 0, 0
    fig, axes = figures.figure(alt="mask", width=5.6, height=2.8, ncols=2)
    for sentence, ax in enumerate(axes):
        heat_map(ax, mask[sentence, 0].float() * 0.7, [str(i) for i in range(6)])
        padded = int((~real[sentence]).sum())
        ax.set(
            title=f"{padded} of 6 are padding" if padded else "no padding",
            xlabel="token seen",
            ylabel="token that looks",
        )
    for change in seen_by_change(mask, real):
        leak = change.seen and (change.later or not change.real)
        miss = not change.seen and change.real and not change.later
        leaks, missed = leaks + leak, missed + miss
        if leak or miss:
            ax = axes[change.sentence]
            ax.plot(change.key, change.query, "x" if leak else "o", color=ORANGE, ms=8, mew=2)
    figures.describe(
        fig,
        f"Your mask of two sentences of 6 tokens, the second with 2 of padding. {leaks} leaks "
        f"(a cross), {missed} pairs missing (a ring).",
    )
    return Picture(fig)


def heads_of(function: Any) -> Picture:
    """How far each element of the learner's result is from the reference: 8 tokens, 4 heads."""
    x, *weights = normal(9, (1, 8, 16), *[(16, 16)] * 3)
    weights.append(torch.eye(16))  # w_o leaves the heads side by side, so that each shows
    gap = (function(x, *weights, 4) - heads_apart(x, *weights, 4)).abs()[0].detach()
    wrong = int((gap > 1e-4).sum())
    fig, ax = figures.figure(
        alt=f"8 tokens by 16 features in 4 heads: {wrong} of {gap.numel()} elements differ from "
        "the reference.",
        width=4.6,
        height=2.6,
    )
    heat_map(ax, (gap > 1e-4).float(), [str(i) for i in range(16)], [str(i) for i in range(8)])
    for edge in (3.5, 7.5, 11.5):
        ax.axvline(edge, color=ORANGE, lw=1.5)
    ax.set(xlabel="feature; lines part the heads", ylabel="token", title=f"filled: {wrong} wrong")
    return Picture(fig)


def bytes_of(function: Any) -> Picture:
    """What one decoding step allocates, the learner's beside K and beside repeated heads."""
    query, key, value = normal(10, (1, 8, 1, 128), (1, 2, 1024, 128), (1, 2, 1024, 128))
    mine = allocated(lambda: function(query, key, value))
    copied = allocated(lambda: (repeat_kv(key, 4), repeat_kv(value, 4)))
    bars = {"K itself": key.nbytes, "K, V repeated": copied, "yours": mine}
    said = ", ".join(f"{name} {size:,}" for name, size in bars.items())
    fig, ax = figures.figure(
        alt=f"Bytes, for one query of 8 heads over 1,024 keys of 2 kv heads: {said}.",
        height=1.9,
    )
    ax.barh(list(bars), [size / 1e6 for size in bars.values()], color=[BLUE, BLUE, ORANGE])
    ax.set_xlabel("MB allocated")
    for row, size in enumerate(bars.values()):
        ax.text(size / 1e6, row, f" {size / 1e6:.2f}", va="center")
    ax.invert_yaxis()
    return Picture(fig)
