"""What `show` draws in unit 1.3: the learner's own weights, mask, heads and bytes. Unit 1.3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled
from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.llm.attention import repeat_kv, split_heads
from aiinfra_labs.llm.attention_cost import allocated
from aiinfra_labs.llm.coreference import talk_sentence
from aiinfra_labs.llm.drawings.attention import BLUE, ORANGE, heat_map
from aiinfra_labs.llm.pronoun_model import batch_of, load_stored

from .attention_grading import heads_apart, normal, seen_by_change


@styled
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
    right = float(attention[head, sentence.it, sentence.referent])
    fig, ax = figures.figure(
        alt=f"Your weights on {sentence}: 它 gives 苹果 {share:.2f}, where the model's own "
        f"attention gives {right:.2f}. The rows sum to {float(sums.min()):.3g} at least and "
        f"{float(sums.max()):.3g} at most.",
        width=3.6,
        height=3.4,
    )
    heat_map(ax, out.clamp(0, 1), sentence.words)
    title = f"它 → 苹果: yours {share:.2f}, the model's {right:.2f}"
    ax.set(ylabel="who looks", xlabel="at whom", title=title)
    return Picture(fig)


REAL = ((True,) * 6, (False, False, True, True, True, True))


@styled
def mask_of(function: Any) -> Picture:
    """The learner's masks of two sentences, the second padded: right, leaking, or missing."""
    real = torch.tensor(REAL)
    whole, newest = _mask(function, real, 6), _mask(function, real, 2)
    leaks, missed = 0, 0
    fig, axes = figures.figure(alt="masks", width=6.4, height=2.7, ncols=3)
    for ax, mask, sentence, title in (
        (axes[0], whole, 0, "no padding"),
        (axes[1], whole, 1, "0 and 1 are padding"),
        (axes[2], newest, 1, "the last 2 ask"),
    ):
        queries = mask.shape[2]
        places = [str(6 - queries + i) for i in range(queries)]
        heat_map(ax, mask[sentence, 0].float() * 0.7, [str(i) for i in range(6)], places)
        ax.set_title(title, fontsize=9.5)
        for change in seen_by_change(mask, real):
            if change.sentence != sentence:
                continue
            leak = change.seen and (change.later or not change.real)
            miss = not change.seen and change.real and not change.later
            leaks, missed = leaks + leak, missed + miss
            if leak or miss:
                row = change.query - (6 - queries)
                ax.plot(change.key, row, "x" if leak else "o", color=ORANGE, ms=7, mew=2)
    axes[0].set_ylabel("token that looks")
    axes[1].set_xlabel("token seen; x: a leak, o: missing")
    figures.describe(
        fig,
        "Your masks of two sentences of 6 tokens, the second with 2 of padding, and of its last 2 "
        f"tokens alone. {leaks} leaks (a cross), {missed} pairs missing (a ring).",
    )
    return Picture(fig)


def _mask(function: Any, real: Tensor, queries: int) -> Tensor:
    mask = function(real.clone(), queries)
    shape = (len(real), 1, queries, real.shape[1])
    if not isinstance(mask, Tensor) or tuple(mask.shape) != shape or mask.dtype != torch.bool:
        has = f"{tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else type(mask)
        raise CourseError(
            f"the mask is {has}, and {shape}, torch.bool is drawn",
            "a picture needs a row for each query and a column for each key",
            "check says of each input what your mask should be",
        )
    return mask


@styled
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


@styled
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
