"""Answers to the exercises of unit 1.8: right ones that differ, and common mistakes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.8.a rulers ------------------------------------------------------------------------------


@right("1.8.a")
def rulers_by_tensors(logits, targets):
    graded = targets >= 0
    p = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0] * graded
    exact = ((logits.argmax(-1) == targets) | ~graded).all(-1).float().mean()
    return exact, -p.sum() / graded.sum(), p.sum(-1).exp().mean()


@right("1.8.a")
def rulers_by_loops(logits, targets):
    exact, nats, tokens, drawn = 0, 0.0, 0, 0.0
    for rows, wanted in zip(logits, targets.tolist(), strict=True):
        whole, all_right = 1.0, True
        for row, want in zip(rows, wanted, strict=True):
            if want < 0:
                continue
            p = float(row.softmax(0)[want])
            nats, tokens, whole = nats - math.log(p), tokens + 1, whole * p
            all_right &= int(row.argmax()) == want
        exact, drawn = exact + all_right, drawn + whole
    return exact / len(logits), nats / tokens, drawn / len(logits)


@right("1.8.a")
def rulers_by_cross_entropy(logits, targets):
    each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-1, reduction="none")
    missed = ((logits.argmax(-1) != targets) & (targets != -1)).any(-1)
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    return [1 - missed.float().mean().item(), nats.item(), (-each.sum(-1)).exp().mean().item()]


def _with(i, value):
    def answer(logits, targets):
        found = list(rulers_by_loops(logits, targets))
        found[i] = value(logits, targets)
        return found

    return answer


def _p(logits, targets):
    return logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]


@wrong("1.8.a", "that is the share of tokens that are right")
def rulers_token_accuracy(logits, targets):
    return _with(0, lambda x, t: (x.argmax(-1) == t).float().mean())(logits, targets)


@wrong("1.8.a", "that is in bits")
def rulers_in_bits(logits, targets):
    return _with(1, lambda x, t: -_p(x, t).log2().mean())(logits, targets)


@wrong("1.8.a", "that is a sum for each answer")
def rulers_a_sum_an_answer(logits, targets):
    return _with(1, lambda x, t: -_p(x, t).log().sum(-1).mean())(logits, targets)


@wrong("1.8.a", "-log p is positive")
def rulers_log_likelihood(logits, targets):
    return _with(1, lambda x, t: _p(x, t).log().mean())(logits, targets)


@wrong("1.8.a", "the mean of products is not the product of means")
def rulers_mean_to_the_power(logits, targets):
    return _with(2, lambda x, t: _p(x, t).mean() ** t.shape[1])(logits, targets)


@wrong("1.8.a", "an answer's is the product of its tokens'")
def rulers_mean_probability(logits, targets):
    return _with(2, lambda x, t: _p(x, t).mean())(logits, targets)


@wrong("1.8.a", "a target of -1 is no token")
def rulers_with_padding(logits, targets):
    right = logits.argmax(-1) == targets
    p = _p(logits, targets)
    return right.all(-1).float().mean(), -p.log().mean(), p.prod(-1).mean()


@wrong("1.8.a", "three numbers were asked for")
def rulers_printed(logits, targets):
    print(rulers_by_loops(logits, targets))


# --- 1.8.b the contrastive loss ----------------------------------------------------------------


@right("1.8.b")
def contrastive_by_cross_entropy(images, texts, scale):
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@right("1.8.b")
def contrastive_by_logsumexp(images, texts, scale):
    i = images / images.norm(dim=1, keepdim=True)
    t = texts / texts.norm(dim=1, keepdim=True)
    logits = i @ t.T * scale
    both = logits.logsumexp(0) + logits.logsumexp(1)
    return (both / 2 - logits.diagonal()).mean()


@right("1.8.b")
def contrastive_by_cosines(images, texts, scale):
    logits = scale * F.cosine_similarity(texts[:, None], images[None], dim=-1)  # a row a text
    rows, columns = logits.log_softmax(1), logits.log_softmax(0)
    return -(rows.diag() + columns.diag()).mean() / 2


@wrong("1.8.b", "a long vector would be near to everything")
def contrastive_of_products(images, texts, scale):
    logits, own = scale * images @ texts.T, torch.arange(len(images))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@wrong("1.8.b", "the scale is a factor")
def contrastive_divided(images, texts, scale):
    return contrastive_by_cross_entropy(images, texts, 1 / scale)


@wrong("1.8.b", "the scale is missing")
def contrastive_unscaled(images, texts, scale):
    return contrastive_by_cross_entropy(images, texts, 1)


@wrong("1.8.b", "only the rows are asked")
def contrastive_one_way(images, texts, scale):
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    return F.cross_entropy(logits, torch.arange(len(logits)))


@wrong("1.8.b", "only the columns are asked")
def contrastive_the_other_way(images, texts, scale):
    return contrastive_one_way(texts, images, scale)


@wrong("1.8.b", "both directions are added up")
def contrastive_added(images, texts, scale):
    return 2 * contrastive_by_cross_entropy(images, texts, scale)


@wrong("1.8.b", "no gradient can flow back")
def contrastive_as_a_number(images, texts, scale):
    return contrastive_by_cross_entropy(images, texts, scale).item()


@wrong("1.8.b", "expected one number")
def contrastive_each(images, texts, scale):
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    return -logits.log_softmax(-1).diagonal()


# --- 1.8.c classes from prompts ----------------------------------------------------------------


@right("1.8.c")
def classes_by_normalize(images, prompts):
    classes = F.normalize(F.normalize(prompts, dim=-1).mean(1), dim=-1)
    return F.normalize(images, dim=-1) @ classes.T


@right("1.8.c")
def classes_by_cosine(images, prompts):
    unit = prompts / prompts.square().sum(-1, keepdim=True).sqrt()
    return F.cosine_similarity(images[:, None], unit.sum(1)[None], dim=-1)


@wrong("1.8.c", "the longest one decides")
def classes_of_raw_means(images, prompts):
    return F.normalize(images, dim=-1) @ F.normalize(prompts.mean(1), dim=-1).T


@wrong("1.8.c", "the mean of unit vectors is shorter than 1")
def classes_of_mean_cosines(images, prompts):
    return F.normalize(images, dim=-1) @ F.normalize(prompts, dim=-1).mean(1).T


@wrong("1.8.c", "the images were not divided by their lengths")
def classes_of_long_images(images, prompts):
    return images @ F.normalize(F.normalize(prompts, dim=-1).mean(1), dim=-1).T


@wrong("1.8.c", "nothing was divided by its length")
def classes_of_products(images, prompts):
    return images @ prompts.mean(1).T


@wrong("1.8.c", "only the first prompt of each class")
def classes_of_one_prompt(images, prompts):
    return F.normalize(images, dim=-1) @ F.normalize(prompts[:, 0], dim=-1).T


@wrong("1.8.c", "has shape")
def classes_answered(images, prompts):
    return classes_by_normalize(images, prompts).argmax(-1)


# --- 1.8.d patches -----------------------------------------------------------------------------


@right("1.8.d")
def patches_by_permute(images, side):
    b, c, h, w = images.shape
    cut = images.reshape(b, c, h // side, side, w // side, side)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * side * side)


@right("1.8.d")
def patches_by_unfold(images, side):
    return F.unfold(images, side, stride=side).transpose(1, 2)


@right("1.8.d")
def patches_by_loops(images, side):
    found = [
        images[:, :, y : y + side, x : x + side].flatten(1)
        for y in range(0, images.shape[2], side)
        for x in range(0, images.shape[3], side)
    ]
    return torch.stack(found, 1)


@wrong("1.8.d", "that is a reshape alone")
def patches_by_reshape(images, side):
    b, c, h, w = images.shape
    return images.reshape(b, -1, c * side * side)


@wrong("1.8.d", "the patches go down first")
def patches_down_first(images, side):
    b, c, h, w = images.shape
    cut = images.reshape(b, c, h // side, side, w // side, side)
    return cut.permute(0, 4, 2, 1, 3, 5).reshape(b, -1, c * side * side)


@wrong("1.8.d", "the colours of a pixel stand side by side")
def patches_colour_last(images, side):
    b, c, h, w = images.shape
    cut = images.reshape(b, c, h // side, side, w // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, c * side * side)


@wrong("1.8.d", "each patch is turned over")
def patches_turned(images, side):
    b, c, h, w = images.shape
    cut = images.reshape(b, c, h // side, side, w // side, side)
    return cut.permute(0, 2, 4, 1, 5, 3).reshape(b, -1, c * side * side)


@wrong("1.8.d", "has shape")
def patches_not_flat(images, side):
    b, c, h, w = images.shape
    return images.reshape(b, c, h // side, side, w // side, side).permute(0, 2, 4, 1, 3, 5)


# --- 1.8.e one stream --------------------------------------------------------------------------


@right("1.8.e")
def stream_by_places(parts, answer, ids):
    x = torch.cat([vectors for _, vectors in parts] + [answer])
    start = len(x) - len(answer)
    targets = torch.full((len(x),), -1)
    targets[start - 1 : -1] = ids
    mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    place = 0
    for kind, vectors in parts:
        end = place + len(vectors)
        if kind == "image":
            mask[place:end, place:end] = True
        place = end
    return x, targets, mask


@right("1.8.e")
def stream_by_loops(parts, answer, ids):
    owner, x = [], []
    for number, (kind, vectors) in enumerate([*parts, ("answer", answer)]):
        owner += [(number, kind)] * len(vectors)
        x += list(vectors)
    n = len(x)
    mask = [[j <= i or (owner[i] == owner[j] and owner[i][1] == "image") for j in range(n)]
            for i in range(n)]  # fmt: skip
    targets = [-1] * (n - len(ids) - 1) + ids.tolist() + [-1]
    return torch.stack(x), torch.tensor(targets), torch.tensor(mask)


def _stream_with(i, value):
    def answer(parts, answer, ids):
        found = list(stream_by_places(parts, answer, ids))
        found[i] = value(parts, answer, ids, found[i])
        return found

    return answer


@wrong("1.8.e", "where the model can read it off")
def stream_not_shifted(parts, answer, ids):
    def targets(parts, answer, ids, t):
        return torch.cat((torch.full((len(t) - len(ids),), -1), ids))

    return _stream_with(1, targets)(parts, answer, ids)


@wrong("1.8.e", "more than the answer is graded")
def stream_all_graded(parts, answer, ids):
    return _stream_with(1, lambda p, a, i, t: t.masked_fill(t < 0, 0))(parts, answer, ids)


@wrong("1.8.e", "has not been heard yet")
def stream_sees_all(parts, answer, ids):
    return _stream_with(2, lambda p, a, i, m: torch.ones_like(m))(parts, answer, ids)


@wrong("1.8.e", "an image has no direction")
def stream_causal(parts, answer, ids):
    return _stream_with(2, lambda p, a, i, m: m.tril())(parts, answer, ids)


@wrong("1.8.e", "that is a patch of another image")
def stream_images_as_one(parts, answer, ids):
    def mask(parts, answer, ids, m):
        image = torch.cat([torch.full((len(v),), k == "image") for k, v in parts])
        image = F.pad(image, (0, len(answer)))
        return m | (image[:, None] & image)

    return _stream_with(2, mask)(parts, answer, ids)


@wrong("1.8.e", "does not see place")
def stream_looks_ahead_only(parts, answer, ids):
    def mask(parts, answer, ids, m):
        return (m & m.T) | torch.eye(len(m), dtype=torch.bool)

    return _stream_with(2, mask)(parts, answer, ids)


@wrong("1.8.e", "the order of the parts is the order in which they are read")
def stream_answer_first(parts, answer, ids):
    return _stream_with(0, lambda p, a, i, x: x.roll(len(a), 0))(parts, answer, ids)


@wrong("1.8.e", "vectors, targets and mask were asked for")
def stream_nothing(parts, answer, ids):
    stream_by_places(parts, answer, ids)
