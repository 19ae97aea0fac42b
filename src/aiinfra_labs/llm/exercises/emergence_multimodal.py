"""The exercises of unit 1.8 on rulers and on one space for images and texts.

The verdicts on the unit's claims are here, too; patches and the stream are in
`emergence_multimodal_stream`. Expected values come from `llm.emergence.metrics` and
`llm.multimodal.contrastive`, which tests hold to transformers and to arithmetic by hand.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.llm.emergence import metrics
from aiinfra_labs.llm.multimodal.contrastive import clip_loss, ensemble, similarities

from . import emergence_multimodal_views as views
from .scale import a_number, number
from .tensors import equal, near, random

SKILL = "Emergence and many modalities"

examine(
    "scale-leap",
    verdict="corrected",
    figure="Loss has no leap. Ten times the parameters take 16 % off it by Kaplan's power law, "
    "each time; by Chinchilla's law on 15 T tokens 0.197 nats from 1 to 10 B, 0.088 to 100 B and "
    "0.040 to 1,000 B, less each time; among the course's own four models 9 %. Single skills may "
    "leap by some rulers; no order of magnitude is special.",
    how="both laws at four sizes, and unit 1.6's stored runs with their fitted exponent",
    source="https://arxiv.org/abs/2001.08361",
)
examine(
    "emergence",
    verdict="corrected",
    figure="By exact match recall is absent up to 14,232 parameters (2 % of answers) and there "
    "at 25,632 (68 %); on the same logits the loss falls at every size, from 2.27 to 0.19 "
    "nats, and exact match is p to the power of 8. Addition leaps by both rulers, yet by "
    "seed and not by size: 35 % right with 3,660 parameters and one seed, 0 % with 14,232 "
    "and the other.",
    how="benchmarks/emergence.py: six sizes, two seeds, two skills, every ruler on the same logits",
    source="https://arxiv.org/abs/2304.15004",
)


# --- 1.8.a -------------------------------------------------------------------------------------

EXACT = "counts an answer only if all of its tokens are right"
NATS = "takes the mean of -log p over the tokens"
DRAWN = "multiplies the probabilities of each answer, then takes the mean"
PADDED = "leaves out the tokens whose target is -1"
NAMES = ("exact match", "nats a token", "drawn match")


@exercise(
    "1.8.a",
    title="Three rulers",
    points=6,
    central=PADDED,
    skill=SKILL,
    arguments=("logits", "targets"),
    hints=(
        (
            EXACT,
            "`logits.argmax(-1) == targets` is a bool for each token. An answer is right if all of "
            "its row is: `.all(-1)`, then a mean.",
        ),
        (
            NATS,
            "`logits.log_softmax(-1)` has a row of V for each token; "
            "`.gather(-1, targets[..., None])` picks the right token's from each.",
        ),
        (
            DRAWN,
            "An answer's probability is the product of its tokens', which is exp of the sum of "
            "their logarithms. Sum along a row, exp, and only then the mean over answers.",
        ),
        (
            PADDED,
            "gather cannot take -1: clamp the targets first, and set what it picked there to 0. "
            "For exact match such a token counts as right; the mean divides by the graded ones.",
        ),
    ),
)
def rulers(function: Any, require: Any) -> None:
    """(exact match, nats a token, drawn match) of the same logits: three floats."""
    for which, name in enumerate((EXACT, NATS, DRAWN)):
        with require(name) as r:
            for logits, targets in _answers(padded=False):
                _measures(r, function, logits, targets, (which,))
    with require(PADDED) as r:
        for logits, targets in _answers(padded=True):
            _measures(r, function, logits, targets, (0, 1, 2))


def _answers(padded: bool) -> list[tuple[Tensor, Tensor]]:
    """Logits [B, T, V] that are half right, and their targets [B, T]; nothing is a tie."""
    cases = []
    for b, t, v, seed in ((1, 1, 2, 0), (4, 3, 5, 1), (40, 4, 10, 2), (7, 8, 12, 3)):
        targets = torch.randint(v, (b, t), generator=torch.Generator().manual_seed(seed))
        logits = random(b, t, v, seed=seed) + 2.5 * F.one_hot(targets, v)
        if padded:
            if t == 1:
                continue
            lengths = torch.arange(b) % t + 1  # 1 to t tokens of each answer are graded
            targets = targets.masked_fill(torch.arange(t) >= lengths[:, None], -1)
        cases.append((logits, targets))
    return cases


def _measures(
    r: Any, function: Any, logits: Tensor, targets: Tensor, asked: tuple[int, ...]
) -> None:
    with r.input(f"logits {list(logits.shape)}, {int((targets >= 0).sum())} tokens graded"):
        got = function(logits.clone(), targets.clone())
        r.that(
            isinstance(got, tuple | list) and len(got) == 3,
            what=f"{'nothing' if got is None else f'a {type(got).__name__}'} was returned",
            why="three numbers were asked for",
            try_="end the function with return exact, nats, drawn",
            slip=True,
        )
        for i in asked:
            expected = (metrics.exact_match, metrics.nats_a_token, metrics.drawn_match)[i](
                logits, targets
            )
            mine = a_number(r, number(got[i]), NAMES[i])
            r.that(
                abs(mine - expected) <= 1e-4 * max(1, abs(expected)),
                what=f"{NAMES[i]} is {mine:.5g}, expected {expected:.5g}",
                why=_which_ruler(mine, i, logits, targets),
                try_="take one answer of two tokens and work it out by hand",
            )


def _which_ruler(mine: float, i: int, logits: Tensor, targets: Tensor) -> str:
    """What a wrong number is instead, where that can be seen."""
    p = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    graded = targets >= 0
    accuracy = metrics.token_accuracy(logits, targets)
    mean_p = p.exp()[graded].mean().item()
    nats = metrics.nats_a_token(logits, targets)
    count = graded.sum(-1).float().mean().item()
    known = (
        ((accuracy,), "that is the share of tokens that are right: an answer is right as a whole"),
        ((nats / math.log(2),), "that is in bits: the logarithm is to be the natural one"),
        ((-nats,), "-log p is positive, for p is below 1"),
        ((nats * count,), "that is a sum for each answer: it is to be a mean over tokens"),
        (
            (math.exp(-nats * count), mean_p**count),
            "that is a mean token's probability to the power of the length: answers differ, and "
            "the mean of products is not the product of means",
        ),
        ((mean_p,), "that is a token's probability: an answer's is the product of its tokens'"),
    )
    for values, why in known:
        if any(math.isclose(mine, value, rel_tol=1e-3, abs_tol=1e-6) for value in values):
            return why
    if not graded.all():
        return "a target of -1 is no token: it counts neither for an answer nor against it"
    return (
        "an answer counts as a whole, or not at all",
        "each graded token counts alike, with -log of the right token's probability",
        "the whole answer is drawn right only if each of its tokens is",
    )[i]


@rulers.show
def _show_rulers(function: Any) -> views.Picture:
    return views.rulers(function)


# --- 1.8.b -------------------------------------------------------------------------------------

ANGLE = "depends on the angles alone, not on how long the vectors are"
SCALED = "multiplies the cosines by the scale"
BOTH_WAYS = "asks both ways: which text for an image, and which image for a text"
TAUGHT = "hands a gradient to images, texts and scale"


@exercise(
    "1.8.b",
    title="The contrastive loss",
    points=6,
    central=BOTH_WAYS,
    skill=SKILL,
    arguments=("images", "texts", "scale"),
    hints=(
        (
            ANGLE,
            "The cosine of two vectors is the product of both after each was divided by its own "
            "length: `F.normalize(x, dim=-1)`. Then `images @ texts.T` is all of them at once.",
        ),
        (SCALED, "scale is 1 / temperature: larger means sharper. The logits are scale x cosine."),
        (
            BOTH_WAYS,
            "Row i of the logits is image i against all texts, and its right answer is i: "
            "`F.cross_entropy(logits, torch.arange(B))`. What are the columns?",
        ),
        (BOTH_WAYS, "Text i against all images is row i of `logits.T`. The loss is the mean."),
        (TAUGHT, "No .item(), .detach(), .numpy() or no_grad: return the tensor itself."),
    ),
)
def contrastive(function: Any, require: Any) -> None:
    """CLIP's loss of B images and B texts, where row i of one belongs to row i of the other."""
    with require(ANGLE) as r:
        for b, d in ((1, 4), (5, 8), (16, 32)):
            _loss(r, function, *_pairs(b, d), 1.0)
    with require(SCALED) as r:
        for scale in (0.5, 10.0, 100.0):
            _loss(r, function, *_pairs(6, 8), scale)
    with require(BOTH_WAYS) as r:
        for b, d in ((2, 3), (9, 4)):
            _loss(r, function, *_pairs(b, d, seed=4), 5.0)
    with require(TAUGHT) as r:
        images, texts = (x.requires_grad_() for x in _pairs(6, 8, seed=2))
        scale = torch.tensor(7.0, requires_grad=True)
        got = function(images, texts, scale)
        r.that(
            isinstance(got, Tensor) and got.requires_grad,
            what="no gradient can flow back from what was returned",
            why="training follows the gradient of this loss into both encoders",
            try_="compute with tensors to the end, and return the loss as a tensor",
            slip=not isinstance(got, Tensor),
        )
        mine = torch.autograd.grad(got, (images, texts, scale), allow_unused=True)
        theirs = torch.autograd.grad(clip_loss(images, texts, scale), (images, texts, scale))
        for name, one, other in zip(("images", "texts", "scale"), mine, theirs, strict=True):
            r.that(
                one is not None,
                what=f"the {name} get no gradient",
                why="both encoders and the scale are learned together",
                try_="look for a detach, or for a copy made with torch.tensor",
            )
            equal(r, one, other, f"the gradient of the {name}", 1e-4)


def _pairs(b: int, d: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images [B, D] and their texts, alike but not the same, of different lengths."""
    images = random(b, d, seed=seed)
    texts = images + 0.8 * random(b, d, seed=seed + 100)
    return images * torch.linspace(0.5, 3, b)[:, None], texts * torch.linspace(2, 0.3, b)[:, None]


def _loss(r: Any, function: Any, images: Tensor, texts: Tensor, scale: float) -> None:
    b, d = images.shape
    with r.input(f"{b} pairs of {d} dimensions, scale {scale:g}"):
        expected = clip_loss(images, texts, scale).item()
        got = function(images.clone(), texts.clone(), scale)
        if isinstance(got, Tensor):
            r.that(
                got.numel() == 1,
                what=f"a tensor of shape {tuple(got.shape)} was returned, expected one number",
                why="a loss is one number, which training makes smaller",
                try_="take the mean over the pairs",
            )
            got = got.detach()
        mine = a_number(r, number(got), "the loss")
        r.that(
            abs(mine - expected) <= 1e-4 * max(1, abs(expected)),
            what=f"the loss is {mine:.5g}, expected {expected:.5g}",
            why=_which_loss(mine, images, texts, scale),
            try_="write down the 2 x 2 logits of two pairs, and the loss of each row and column",
        )


def _which_loss(mine: float, images: Tensor, texts: Tensor, scale: float) -> str:
    logits = similarities(images, texts, scale)
    raw = scale * images @ texts.T
    own = torch.arange(len(images))
    by_text, by_image = F.cross_entropy(logits.T, own), F.cross_entropy(logits, own)
    wrong = {
        "that is the loss of raw products: a long vector would be near to everything": (
            F.cross_entropy(raw, own) + F.cross_entropy(raw.T, own)
        )
        / 2,
        "the scale is a factor: it is 1 / temperature already": clip_loss(images, texts, 1 / scale),
        "the scale is missing": clip_loss(images, texts, 1.0),
        "only the rows are asked: which text belongs to an image": by_image,
        "only the columns are asked: which image belongs to a text": by_text,
        "both directions are added up: take their mean": by_text + by_image,
        "that is a sum over the pairs: take the mean": (by_text + by_image) / 2 * len(images),
    }
    for why, value in wrong.items():
        if math.isclose(mine, value.item(), rel_tol=1e-4) and len(images) > 1:
            return why
    return "the logits are scale x cosine, and each row and column has its own pair to find"


@contrastive.show
def _show_contrastive(function: Any) -> views.Picture:
    return views.contrastive(function)


# --- 1.8.c -------------------------------------------------------------------------------------

ONE = "compares each image with one prompt a class, by the cosine"
MANY = "gives each prompt of a class the same weight, however long its vector is"
UNIT = "makes a class's mean as long as that of every other"


@exercise(
    "1.8.c",
    title="Classes from prompts",
    points=4,
    central=UNIT,
    skill=SKILL,
    arguments=("images", "prompts"),
    hints=(
        (ONE, "Divide both by their lengths, then multiply: images [B, D] @ classes.T [D, K]."),
        (MANY, "Normalise the prompts along D before you take the mean along P."),
        (
            UNIT,
            "The mean of unit vectors is shorter than 1, the more so the more they differ. A class "
            "whose prompts disagree would lose for that alone: normalise the mean again.",
        ),
    ),
)
def zero_shot(function: Any, require: Any) -> None:
    """Cosines of B images with K classes, each described by P prompts: [B, K]."""
    with require(ONE) as r:
        for b, k, d in ((1, 2, 3), (6, 4, 8), (3, 10, 5)):
            _cosines(r, function, b, k, 1, d)
    with require(MANY) as r:
        for b, k, p, d in ((1, 2, 2, 3), (5, 3, 4, 8)):
            # Of each class all prompts point one way but for a long one: unit means are all alike.
            _cosines(r, function, b, k, p, d, long=True)
    with require(UNIT) as r:
        for b, k, p, d in ((2, 3, 3, 4), (8, 10, 5, 16)):
            _cosines(r, function, b, k, p, d)


def _cosines(r: Any, function: Any, b: int, k: int, p: int, d: int, long: bool = False) -> None:
    with r.input(f"{b} images, {k} classes with {p} prompts each, {d} dimensions"):
        images = random(b, d, seed=p) * torch.linspace(0.5, 4, b)[:, None]
        prompts = random(k, p, d, seed=k)
        if long:
            prompts = prompts * torch.tensor([9.0] + [0.5] * (p - 1))[:, None]
        expected = similarities(images, ensemble(prompts), 1.0)
        got = function(images.clone(), prompts.clone())
        equal(
            r,
            got,
            expected,
            "the result",
            1e-4,
            why=_which_cosine(got, images, prompts),
            try_="print the lengths of the class vectors: all must be 1",
        )


def _which_cosine(got: Any, images: Tensor, prompts: Tensor) -> str:
    unit_images, unit_prompts = F.normalize(images, dim=-1), F.normalize(prompts, dim=-1)
    wrong = (
        (
            unit_images @ F.normalize(prompts.mean(1), dim=-1).T,
            "the prompts were not made equally long: the longest one decides for its class",
        ),
        (
            unit_images @ unit_prompts.mean(1).T,
            "the mean of unit vectors is shorter than 1, and how much depends on the class",
        ),
        (
            images @ ensemble(prompts).T,
            "the images were not divided by their lengths",
        ),
        (images @ prompts.mean(1).T, "nothing was divided by its length: a product is no cosine"),
        (
            unit_images @ unit_prompts[:, 0].T,
            "only the first prompt of each class was used",
        ),
    )
    for value, why in wrong:
        if near(got, value):
            return why
    return "the cosine of an image and the normalised mean of a class's normalised prompts"


@zero_shot.show
def _show_zero_shot(function: Any) -> views.Picture:
    return views.zero_shot(function)
