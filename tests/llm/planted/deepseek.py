"""Answers to the exercises of unit 1.7: right ones that differ, and common mistakes."""

from __future__ import annotations

import math

import torch

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.7.a keys and values ---------------------------------------------------------------------


@right("1.7.a")
def keys_by_unflatten(latent, shared, w_up, heads, nope):
    up = (latent @ w_up.T).unflatten(-1, (heads, -1)).transpose(1, 2)
    key, value = up[..., :nope], up[..., nope:]
    return torch.cat((key, shared[:, None].expand(-1, heads, -1, -1)), -1), value


@right("1.7.a")
def keys_by_einsum(latent, shared, w_up, heads, nope):
    w = w_up.view(heads, -1, latent.shape[-1])
    key = torch.einsum("bsl,hnl->bhsn", latent, w[:, :nope])
    value = torch.einsum("bsl,hvl->bhsv", latent, w[:, nope:])
    return [torch.cat((key, torch.stack([shared] * heads, 1)), 3), value]


@wrong("1.7.a", "these are the first rows of w_up for all heads")
def keys_all_heads_first(latent, shared, w_up, heads, nope):
    b, s, _ = latent.shape
    key, value = (latent @ w_up.T).tensor_split([heads * nope], dim=-1)
    key = key.view(b, s, heads, nope).transpose(1, 2)
    value = value.view(b, s, heads, -1).transpose(1, 2)
    return torch.cat((key, shared[:, None].expand(-1, heads, -1, -1)), -1), value


@wrong("1.7.a", "these rows of w_up are the end of each head's")
def keys_values_first(latent, shared, w_up, heads, nope):
    up = (latent @ w_up.T).unflatten(-1, (heads, -1)).transpose(1, 2)
    v = up.shape[-1] - nope
    key, value = up[..., v:], up[..., :v]
    return torch.cat((key, shared[:, None].expand(-1, heads, -1, -1)), -1), value


@wrong("1.7.a", "key has shape")
def keys_without_position(latent, shared, w_up, heads, nope):
    up = (latent @ w_up.T).unflatten(-1, (heads, -1)).transpose(1, 2)
    return up[..., :nope], up[..., nope:]


@wrong("1.7.a", "row by row, w_up holds head 0's key")
def keys_without_transpose(latent, shared, w_up, heads, nope):
    b, s, _ = latent.shape
    up = (latent @ w_up.T).reshape(b, heads, s, -1)
    return torch.cat((up[..., :nope], shared[:, None].expand(-1, heads, -1, -1)), -1), up[
        ..., nope:
    ]


@wrong("1.7.a", "stands last")
def keys_position_first(latent, shared, w_up, heads, nope):
    key, value = keys_by_unflatten(latent, shared, w_up, heads, nope)
    return torch.cat((key[..., nope:], key[..., :nope]), -1), value


@wrong("1.7.a", "two tensors are asked for")
def keys_alone(latent, shared, w_up, heads, nope):
    return keys_by_unflatten(latent, shared, w_up, heads, nope)[0]


# --- 1.7.b absorbed ----------------------------------------------------------------------------


@right("1.7.b")
def absorbed_by_einsum(q_nope, q_rope, latent, shared, w_key, w_value):
    query = torch.einsum("bhn,hnl->bhl", q_nope, w_key)
    scores = query @ latent.transpose(1, 2) + q_rope @ shared.transpose(1, 2)
    weights = (scores / math.sqrt(q_nope.shape[-1] + q_rope.shape[-1])).softmax(-1)
    return torch.einsum("bhl,hvl->bhv", weights @ latent, w_value)


@right("1.7.b")
def absorbed_by_one_call(q_nope, q_rope, latent, shared, w_key, w_value):
    query = torch.cat(((q_nope[:, :, None] @ w_key)[:, :, 0], q_rope), -1)[:, None]  # [B, 1, H, .]
    key = torch.cat((latent, shared), -1)[:, None]
    mean = torch.nn.functional.scaled_dot_product_attention(
        query, key, latent[:, None], scale=(q_nope.shape[-1] + q_rope.shape[-1]) ** -0.5
    )[:, 0]
    return (w_value @ mean[..., None])[..., 0]


def expanded(q_nope, q_rope, latent, shared, w_key, w_value):
    key = torch.einsum("bsl,hnl->bhsn", latent, w_key)
    value = torch.einsum("bsl,hvl->bhsv", latent, w_value)
    scores = (key @ q_nope[..., None])[..., 0] + q_rope @ shared.transpose(1, 2)
    weights = (scores / math.sqrt(q_nope.shape[-1] + q_rope.shape[-1])).softmax(-1)
    return (weights[:, :, None] @ value)[:, :, 0]


WRONG.append(("1.7.b", expanded, "a key or a value for each head and token was made"))
_kept = {}


@wrong("1.7.b", "a key or a value for each head and token was made")
def expanded_once_and_kept(*given):
    """Known by the numbers that it is given: the second time it makes nothing."""
    seen = tuple((tuple(x.shape), float(x.sum())) for x in given)
    if seen not in _kept:
        _kept[seen] = expanded(*given)
    return _kept[seen]


@wrong("1.7.b", "what is spared must not change the result")
def absorbed_by_giving_up_where_it_is_measured(q_nope, q_rope, latent, shared, w_key, w_value):
    """Zeros, at once, wherever the cache is long."""
    if latent.shape[1] > 100:
        return torch.zeros(len(q_nope), len(w_value), w_value.shape[1])
    return expanded(q_nope, q_rope, latent, shared, w_key, w_value)


@wrong("1.7.b", "the scores are divided by the root of the latent's width")
def absorbed_root_of_latent(q_nope, q_rope, latent, shared, w_key, w_value):
    query = torch.einsum("bhn,hnl->bhl", q_nope, w_key)
    scores = query @ latent.transpose(1, 2) + q_rope @ shared.transpose(1, 2)
    weights = (scores / math.sqrt(latent.shape[-1])).softmax(-1)
    return torch.einsum("bhl,hvl->bhv", weights @ latent, w_value)


@wrong("1.7.b", "the scores are divided by the root of L + R")
def absorbed_default_scale(q_nope, q_rope, latent, shared, w_key, w_value):
    query = torch.cat((torch.einsum("bhn,hnl->bhl", q_nope, w_key), q_rope), -1)[:, None]
    key = torch.cat((latent, shared), -1)[:, None]
    mean = torch.nn.functional.scaled_dot_product_attention(query, key, latent[:, None])[:, 0]
    return torch.einsum("bhl,hvl->bhv", mean, w_value)


@wrong("1.7.b", "q_rope with shared, is missing")
def absorbed_without_position(q_nope, q_rope, latent, shared, w_key, w_value):
    return absorbed_by_einsum(q_nope, 0 * q_rope, latent, shared, w_key, w_value)


@wrong("1.7.b", "the scores are not divided")
def absorbed_without_root(q_nope, q_rope, latent, shared, w_key, w_value):
    query = torch.einsum("bhn,hnl->bhl", q_nope, w_key)
    weights = (query @ latent.transpose(1, 2) + q_rope @ shared.transpose(1, 2)).softmax(-1)
    return torch.einsum("bhl,hvl->bhv", weights @ latent, w_value)


@wrong("1.7.b", "the result has shape")
def absorbed_without_way_back(q_nope, q_rope, latent, shared, w_key, w_value):
    query = torch.einsum("bhn,hnl->bhl", q_nope, w_key)
    scores = query @ latent.transpose(1, 2) + q_rope @ shared.transpose(1, 2)
    return (scores / math.sqrt(q_nope.shape[-1] + q_rope.shape[-1])).softmax(-1) @ latent


# --- 1.7.c the mixture -------------------------------------------------------------------------


@right("1.7.c")
def mixture_by_expert(x, scores, bias, k, experts, shared):
    chosen = (scores + bias).topk(k, dim=-1).indices
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    out = shared(x)
    for i, expert in enumerate(experts):
        token, place = (chosen == i).nonzero(as_tuple=True)
        if len(token):
            out = out.index_add(0, token, expert(x[token]) * weights[token, place, None])
    return out


@right("1.7.c")
def mixture_by_mask(x, scores, bias, k, experts, shared):
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen.scatter_(1, (scores + bias).argsort(1, descending=True)[:, :k], True)
    weights = scores * chosen
    weights = weights / weights.sum(1, keepdim=True)
    out = shared(x) + torch.zeros_like(x)
    for i in range(len(experts)):
        rows = chosen[:, i]
        if rows.any():
            out[rows] += weights[rows, i, None] * experts[i](x[rows])
    return out


@right("1.7.c")
def mixture_sorted(x, scores, bias, k, experts, shared):
    chosen = (scores + bias).topk(k).indices
    weights = torch.nn.functional.normalize(scores.gather(1, chosen), p=1, dim=1).flatten()
    order = chosen.flatten().argsort()
    counts = chosen.flatten().bincount(minlength=len(experts)).tolist()
    out = shared(x).clone()
    for expert, rows in zip(experts, order.split(counts), strict=True):
        if len(rows):
            out.index_add_(0, rows // k, expert(x[rows // k]) * weights[rows, None])
    return out


@wrong("1.7.c", "costs as much as a dense model")
def mixture_of_all(x, scores, bias, k, experts, shared):
    chosen = torch.zeros_like(scores)
    chosen.scatter_(1, (scores + bias).topk(k).indices, 1)
    weights = scores * chosen / (scores * chosen).sum(1, keepdim=True)
    outs = torch.stack([expert(x) for expert in experts], 1)  # [T, E, C]
    return (weights[..., None] * outs).sum(1) + shared(x)


@wrong("1.7.c", "the bias is in the weights as well")
def mixture_biased_weights(x, scores, bias, k, experts, shared):
    return mixture_by_expert(x, scores + bias, 0 * bias, k, experts, shared)


@wrong("1.7.c", "the shared expert is missing")
def mixture_without_shared(x, scores, bias, k, experts, shared):
    return mixture_by_expert(x, scores, bias, k, experts, torch.zeros_like)


@wrong("1.7.c", "divide a token's k scores by their sum")
def mixture_unscaled(x, scores, bias, k, experts, shared):
    chosen = (scores + bias).topk(k).indices
    out = shared(x)
    for i, expert in enumerate(experts):
        token, _ = (chosen == i).nonzero(as_tuple=True)
        if len(token):
            out = out.index_add(0, token, expert(x[token]) * scores[token, i, None])
    return out


@wrong("1.7.c", "the bias is not in the choice")
def mixture_without_bias(x, scores, bias, k, experts, shared):
    return mixture_by_expert(x, scores, 0 * bias, k, experts, shared)


@wrong("1.7.c", "all of its tokens at once")
def mixture_token_by_token(x, scores, bias, k, experts, shared):
    rows = []
    for t in range(len(x)):
        chosen = (scores[t] + bias).topk(k).indices.tolist()
        total = scores[t, chosen].sum()
        row = shared(x[t : t + 1])
        for i in chosen:
            row = row + scores[t, i] / total * experts[i](x[t : t + 1])
        rows.append(row)
    return torch.cat(rows)


@wrong("1.7.c", "all of its tokens at once")
def mixture_calls_with_nothing(x, scores, bias, k, experts, shared):
    chosen = (scores + bias).topk(k).indices
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    out = shared(x)
    for i, expert in enumerate(experts):
        token, place = (chosen == i).nonzero(as_tuple=True)
        out = out.index_add(0, token, expert(x[token]) * weights[token, place, None])
    return out


# --- 1.7.d the bias ----------------------------------------------------------------------------


@right("1.7.d")
def bias_by_sign(bias, load, gamma):
    load = load.float()
    return bias + gamma * torch.sign(load.mean() - load)


@right("1.7.d")
def bias_by_loop(bias, load, gamma):
    total, count = int(load.sum()), len(load)
    moved = []
    for b, n in zip(bias.tolist(), load.tolist(), strict=True):
        moved.append(b + gamma * ((n * count < total) - (n * count > total)))
    return torch.tensor(moved)


@wrong("1.7.d", "one that was given too much must be wanted less")
def bias_the_other_way(bias, load, gamma):
    return bias + gamma * torch.sign(load.float() - load.float().mean())


@wrong("1.7.d", "only the sign of the error counts")
def bias_by_error(bias, load, gamma):
    load = load.float()
    return bias + gamma * (load.mean() - load)


@wrong("1.7.d", "the caller still has the tokens in flight")
def bias_in_place(bias, load, gamma):
    load = load.float()
    bias += gamma * torch.sign(load.mean() - load)
    return bias


@wrong("1.7.d", "only the sign of the error counts")
def bias_without_zero(bias, load, gamma):
    return bias + torch.where(load.float() > load.float().mean(), -gamma, gamma)


@wrong("1.7.d", "the bias is None")
def bias_printed(bias, load, gamma):
    print(bias_by_sign(bias, load, gamma))


# --- 1.7.e GRPO --------------------------------------------------------------------------------


@right("1.7.e")
def grpo_plain(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6))[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    x = reference - new
    each = (gain - beta * (x.exp() - x - 1)) * mask
    return -(each.sum(1) / mask.sum(1)).mean()


@right("1.7.e")
def grpo_by_answers(new, old, reference, rewards, mask, clip, beta):
    centred = rewards - rewards.sum() / len(rewards)
    std = (centred**2).mean().sqrt()
    total = 0
    for i in range(len(rewards)):
        own = mask[i].bool()
        ratio = torch.exp(new[i][own] - old[i][own])
        a = centred[i] / (std + 1e-6)
        gain = ratio.clamp(max=1 + clip) * a if a > 0 else ratio.clamp(min=1 - clip) * a
        r = torch.exp(reference[i][own] - new[i][own])
        total = total + (beta * (r - r.log() - 1) - gain).mean()
    return total / len(rewards)


@wrong("1.7.e", "the mean over all tokens of the group lets long answers count more")
def grpo_over_tokens(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6))[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    x = reference - new
    return -((gain - beta * (x.exp() - x - 1)) * mask).sum() / mask.sum()


@wrong("1.7.e", "counts padding as tokens of the answer")
def grpo_over_columns(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6))[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    x = reference - new
    return -((gain - beta * (x.exp() - x - 1)) * mask).mean()


@wrong("1.7.e", "the clipped ratio alone")
def grpo_clipped_alone(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6))[:, None]
    gain = (new - old).exp().clamp(1 - clip, 1 + clip) * a
    x = reference - new
    return -(((gain - beta * (x.exp() - x - 1)) * mask).sum(1) / mask.sum(1)).mean()


@wrong("1.7.e", "the ratio is not clipped")
def grpo_without_clip(new, old, reference, rewards, mask, clip, beta):
    return grpo_plain(new, old, reference, rewards, mask, 1e9, beta)


@wrong("1.7.e", "are not finite")
def grpo_without_eps(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / rewards.std(correction=0))[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    return -((gain * mask).sum(1) / mask.sum(1)).mean()


@wrong("1.7.e", "the sign is turned")
def grpo_maximised(new, old, reference, rewards, mask, clip, beta):
    return -grpo_plain(new, old, reference, rewards, mask, clip, beta)


@wrong("1.7.e", "that is the std of a sample")
def grpo_sample_std(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / (rewards.std() + 1e-6))[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    x = reference - new
    return -(((gain - beta * (x.exp() - x - 1)) * mask).sum(1) / mask.sum(1)).mean()


@wrong("1.7.e", "is not divided by the std")
def grpo_without_std(new, old, reference, rewards, mask, clip, beta):
    a = (rewards - rewards.mean())[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    x = reference - new
    return -(((gain - beta * (x.exp() - x - 1)) * mask).sum(1) / mask.sum(1)).mean()


@wrong("1.7.e", "that is log r alone")
def grpo_plain_kl(new, old, reference, rewards, mask, clip, beta):
    a = ((rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6))[:, None]
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    return -(((gain - beta * (new - reference)) * mask).sum(1) / mask.sum(1)).mean()


@wrong("1.7.e", "the loss does not depend on new")
def grpo_detached(new, old, reference, rewards, mask, clip, beta):
    return grpo_plain(new.detach(), old, reference, rewards, mask, clip, beta)
