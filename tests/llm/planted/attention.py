"""Answers to unit 1.3's exercises: right ones that differ, and the mistakes that people make."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

# --- 1.3.a: attention(query, key, value, mask) ----------------------------------------------------


def by_softmax(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = torch.softmax(scores, dim=-1)
    return weights.nan_to_num(0.0) @ value


def by_hand(query, key, value, mask):
    scores = torch.einsum("...td,...sd->...ts", query, key) * query.shape[-1] ** -0.5
    seen = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand_as(scores)
    top = scores.masked_fill(~seen, -math.inf).amax(-1, keepdim=True).nan_to_num(neginf=0.0)
    raised = torch.where(seen, (scores - top).clamp(max=0), -math.inf).exp()
    total = raised.sum(-1, keepdim=True)
    return torch.where(total > 0, raised / total.clamp_min(1e-30), 0.0) @ value


def undivided(query, key, value, mask):
    scores = query @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1).nan_to_num(0.0) @ value


def by_the_size_of_a_value(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(value.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1).nan_to_num(0.0) @ value


def over_the_queries(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-2).nan_to_num(0.0) @ value


def exp_without_the_largest(query, key, value, mask):
    raised = (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).exp()
    if mask is not None:
        raised = raised * mask
    return raised / raised.sum(-1, keepdim=True).clamp_min(1e-30) @ value


def a_billion_below(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    return torch.softmax(scores, dim=-1) @ value


def nan_for_none(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1) @ value


def zero_scores(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores * mask
    return torch.softmax(scores, dim=-1) @ value


# --- 1.3.b: visible(real, queries) ----------------------------------------------------------------


def by_tril(real, queries):
    s = real.shape[1]
    causal = torch.ones(queries, s, dtype=torch.bool).tril(s - queries)
    return causal & real[:, None, None, :]


def by_places(real, queries):
    b, s = real.shape
    at = torch.arange(s - queries, s)
    seen = torch.zeros(b, 1, queries, s, dtype=torch.bool)
    for sentence in range(b):
        for row, place in enumerate(at.tolist()):
            for key in range(place + 1):
                seen[sentence, 0, row, key] = bool(real[sentence, key])
    return seen


def causal_alone(real, queries):
    b, s = real.shape
    causal = torch.ones(queries, s, dtype=torch.bool).tril(s - queries)
    return causal.expand(b, 1, queries, s)


def padding_alone(real, queries):
    b, s = real.shape
    return real[:, None, None, :].expand(b, 1, queries, s)


def first_query_first_key(real, queries):
    causal = torch.ones(queries, real.shape[1], dtype=torch.bool).tril()
    return causal & real[:, None, None, :]


def not_itself(real, queries):
    s = real.shape[1]
    causal = torch.ones(queries, s, dtype=torch.bool).tril(s - queries - 1)
    return causal & real[:, None, None, :]


def either(real, queries):
    s = real.shape[1]
    causal = torch.ones(queries, s, dtype=torch.bool).tril(s - queries)
    return causal | real[:, None, None, :]


def as_floats(real, queries):
    return by_tril(real, queries).float()


# --- 1.3.c: multi_head(x, w_q, w_k, w_v, w_o, heads) ----------------------------------------------


def by_view(x, w_q, w_k, w_v, w_o, heads):
    b, t, c = x.shape
    q, k, v = ((x @ w.T).view(b, t, heads, c // heads).transpose(1, 2) for w in (w_q, w_k, w_v))
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).reshape(b, t, c) @ w_o.T


def by_chunks(x, w_q, w_k, w_v, w_o, heads):
    projected = (F.linear(x, w).chunk(heads, dim=-1) for w in (w_q, w_k, w_v))
    outs = [F.scaled_dot_product_attention(*qkv) for qkv in zip(*projected, strict=True)]
    return F.linear(torch.cat(outs, dim=-1), w_o)


def view_without_transpose(x, w_q, w_k, w_v, w_o, heads):
    b, t, c = x.shape
    q, k, v = ((x @ w.T).view(b, heads, t, c // heads) for w in (w_q, w_k, w_v))
    return F.scaled_dot_product_attention(q, k, v).reshape(b, t, c) @ w_o.T


def merged_as_they_lie(x, w_q, w_k, w_v, w_o, heads):
    b, t, c = x.shape
    q, k, v = ((x @ w.T).view(b, t, heads, c // heads).transpose(1, 2) for w in (w_q, w_k, w_v))
    return F.scaled_dot_product_attention(q, k, v).reshape(b, t, c) @ w_o.T


def weights_the_other_way(x, w_q, w_k, w_v, w_o, heads):
    b, t, c = x.shape
    q, k, v = ((x @ w).view(b, t, heads, c // heads).transpose(1, 2) for w in (w_q, w_k, w_v))
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).reshape(b, t, c) @ w_o


def no_way_back(x, w_q, w_k, w_v, w_o, heads):
    b, t, c = x.shape
    q, k, v = ((x @ w.T).view(b, t, heads, c // heads).transpose(1, 2) for w in (w_q, w_k, w_v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c)


def divided_by_the_root_of_all(x, w_q, w_k, w_v, w_o, heads):
    b, t, c = x.shape
    q, k, v = ((x @ w.T).view(b, t, heads, c // heads).transpose(1, 2) for w in (w_q, w_k, w_v))
    out = F.scaled_dot_product_attention(q, k, v, scale=c**-0.5)
    return out.transpose(1, 2).reshape(b, t, c) @ w_o.T


# --- 1.3.d: grouped_query(query, key, value) ------------------------------------------------------


def group_as_rows(query, key, value):
    b, heads, t, d = query.shape
    kv_heads = key.shape[1]
    rows = query.reshape(b, kv_heads, heads // kv_heads * t, d)
    weights = torch.softmax(rows @ key.transpose(-2, -1) * d**-0.5, dim=-1)
    return (weights @ value).reshape(b, heads, t, -1)


def _one_head(query, key, value):
    return torch.softmax(query @ key.mT * query.shape[-1] ** -0.5, dim=-1) @ value


def head_by_head(query, key, value):
    group = query.shape[1] // key.shape[1]
    outs = [
        _one_head(query[:, h], key[:, h // group], value[:, h // group])
        for h in range(query.shape[1])
    ]
    return torch.stack(outs, dim=1)


def by_torch(query, key, value):
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def repeated(query, key, value):
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value)


_kept = {}


def repeated_once_and_kept(*given):
    """Known by the numbers that it is given: the second time it makes nothing."""
    seen = tuple((tuple(x.shape), float(x.sum())) for x in given)
    if seen not in _kept:
        _kept[seen] = repeated(*given)
    return _kept[seen]


def expanded(query, key, value):
    b, heads, t, d = query.shape
    kv_heads = key.shape[1]
    rows = query.view(b, kv_heads, heads // kv_heads, t, d)
    key, value = (x[:, :, None].expand(-1, -1, heads // kv_heads, -1, -1) for x in (key, value))
    weights = torch.softmax(rows @ key.transpose(-2, -1) * d**-0.5, dim=-1)
    return (weights @ value).reshape(b, heads, t, -1)


def every_other(query, key, value):
    kv_heads = key.shape[1]
    outs = [
        _one_head(query[:, h], key[:, h % kv_heads], value[:, h % kv_heads])
        for h in range(query.shape[1])
    ]
    return torch.stack(outs, dim=1)


def first_kv_head_for_all(query, key, value):
    outs = [_one_head(query[:, h], key[:, 0], value[:, 0]) for h in range(query.shape[1])]
    return torch.stack(outs, dim=1)


RIGHT = [
    ("1.3.a", by_softmax),
    ("1.3.a", by_hand),
    ("1.3.b", by_tril),
    ("1.3.b", by_places),
    ("1.3.c", by_view),
    ("1.3.c", by_chunks),
    ("1.3.d", group_as_rows),
    ("1.3.d", head_by_head),
    ("1.3.d", by_torch),
]
WRONG = [
    ("1.3.a", undivided, "the scores were not divided at all"),
    ("1.3.a", by_the_size_of_a_value, "divided by the root of a value's length, V"),
    ("1.3.a", over_the_queries, "each row is one query's and must sum to 1"),
    ("1.3.a", exp_without_the_largest, "exp of a large score is inf"),
    ("1.3.a", a_billion_below, "scores all of them far below 0"),
    ("1.3.a", nan_for_none, "the output of query 1 begins with nan, expected 0"),
    ("1.3.a", zero_scores, "where that key is not there at all"),
    ("1.3.b", causal_alone, "changed when token 0, padding, was changed"),
    ("1.3.b", padding_alone, "the output of token 0 changed when token 1 was changed"),
    ("1.3.b", first_query_first_key, "the output of token 4 stayed when token 1 was changed"),
    ("1.3.b", not_itself, "the output of token 0 stayed when token 0 was changed"),
    ("1.3.b", either, "lets no query see a later token"),
    ("1.3.b", as_floats, "torch.float32, expected a tensor of shape (1, 1, 4, 4), torch.bool"),
    ("1.3.c", view_without_transpose, "Features of different tokens have got into one head"),
    ("1.3.c", merged_as_they_lie, "moved tokens, moved outputs"),
    ("1.3.c", weights_the_other_way, "with one head all features belong to it"),
    ("1.3.c", no_way_back, "lies side by side again before w_o"),
    ("1.3.c", divided_by_the_root_of_all, "each head has C / heads features of its own"),
    ("1.3.d", repeated, "a copy for each query head reads and writes it again"),
    ("1.3.d", expanded, "bytes of new tensors"),
    ("1.3.d", repeated_once_and_kept, "a copy for each query head reads and writes it again"),
    ("1.3.d", every_other, "neighbours share"),
    ("1.3.d", first_kv_head_for_all, "query head h reads kv head h // 1"),
]


def by_the_number_of_keys(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(key.shape[-2])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1).nan_to_num(0.0) @ value


def with_scores_cut_off(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    scores = scores.clamp(-60, 60)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1).nan_to_num(0.0) @ value


def in_double(query, key, value, mask):
    return by_softmax(query, key, value, mask).double()


def nothing_but_fast(query, key, value):
    return torch.zeros_like(query)


WRONG += [
    ("1.3.a", by_the_number_of_keys, "divided by the root of the number of keys, S"),
    ("1.3.a", with_scores_cut_off, "a score that was cut off"),
    ("1.3.a", in_double, "has dtype torch.float64, expected torch.float32"),
    ("1.3.d", nothing_but_fast, "what is spared must not change the result"),
]

WRONG += [("1.3.a", lambda *given: by_softmax(*given) * math.nan, "has nan or inf")]
