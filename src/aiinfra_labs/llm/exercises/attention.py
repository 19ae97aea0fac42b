"""The exercises of unit 1.3, attention. References are torch's own, or plain loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.calling import unwatched
from aiinfra_labs.llm.attention_cost import allocated

from . import attention_views as views
from .attention_grading import count, heads_apart, is_mask, normal, same, seen_by_change
from .tensors import is_tensor, near

SKILL = "Attention"

examine(
    "attention-coref",
    verdict="corrected",
    figure="No usual value: it depends on layer, head and training. Of 10 small models that name "
    "the noun in 98.2% to 99.8% of held-out sentences, in 7 some head gives 苹果 0.95 or more, and "
    "11 of all 80 heads do. 10 models whose 它 sees no noun give it 0, and are right in 96.8% to "
    "100.0%.",
    how="models of 2 layers and 4 heads, trained on generated sentences with 10 seeds by "
    "benchmarks/coreference.py; that weights explain is disputed since 2019 (the source)",
    source="https://aclanthology.org/D19-1002/",
)


# --- 1.3.a -------------------------------------------------------------------------------------

MEAN = "is softmax(Q K^T / sqrt(D)) V, for any shape"
LARGE = "stays finite when scores are large"
NO_WEIGHT = "gives a masked key no weight, whatever its score"
ZEROS = "gives zeros to a query that sees no key"


@exercise(
    "1.3.a",
    title="Scaled dot-product attention",
    points=6,
    central=MEAN,
    skill=SKILL,
    arguments=("query", "key", "value", "mask"),
    hints=(
        (
            MEAN,
            "`query @ key.transpose(-2, -1)` has one number for each query and key. Which of its "
            "two last axes holds the weights of one query, which are to sum to 1?",
        ),
        (MEAN, "D is the last axis of `query`: `query.shape[-1]`. Its root divides the scores."),
        (
            LARGE,
            "exp(89) is more than a float32 holds. `torch.softmax` takes the largest score of "
            "the row off first, which changes no weight.",
        ),
        (
            NO_WEIGHT,
            "Is there a score that is less than any other, however far down those are? "
            "`scores.masked_fill(~mask, ...)` writes it where the mask is False.",
        ),
        (
            ZEROS,
            "Softmax of a row of -inf is 0 / 0. The weights may be masked once more, after it: "
            "`weights.masked_fill(~mask, 0)`.",
        ),
    ),
)
def scaled_dot_product(function: Any, require: Any) -> None:
    """softmax(Q K^T / sqrt(D)) V with a mask. Q [..., T, D], K [..., S, D], V [..., S, V]."""
    with require(MEAN) as r:
        for lead, t, s, d, v in (
            ((), 1, 1, 1, 1),
            ((), 3, 3, 4, 4),
            ((), 2, 5, 3, 7),
            ((2, 3), 4, 6, 8, 5),
        ):
            with r.input(f"Q {[*lead, t, d]}, K {[*lead, s, d]}, V {[*lead, s, v]}, no mask"):
                query, key, value = normal(0, (*lead, t, d), (*lead, s, d), (*lead, s, v))
                got = function(query, key, value, None)
                same(
                    r,
                    got,
                    F.scaled_dot_product_attention(query, key, value),
                    why=_divided_by(got, query, key, value),
                    try_="print the weights: each row is one query's and must sum to 1",
                )
    with require(LARGE) as r:
        for scale in (30.0, 1e4):
            with r.input(f"Q and K [4, 8], scores up to about {4 * scale:,.0f}"):
                query, key, value = normal(1, (4, 8), (4, 8), (4, 8))
                got = function(scale * query, key, value, None)
                is_tensor(r, got, "the result", (4, 8))
                broken = int((~torch.isfinite(got)).sum())
                expected = F.scaled_dot_product_attention(scale * query, key, value)
                r.that(
                    not broken,
                    what=f"{count(broken, 'element')} of 32 are nan or inf",
                    why="exp of a large score is inf, and inf / inf is nan",
                    try_="take the largest score of each row off before exp, or let torch.softmax "
                    "do it",
                )
                same(
                    r,
                    got,
                    expected,
                    why="a score that was cut off, or divided by more than the root of D, gives "
                    "other weights: large scores leave nearly all of the weight to the largest",
                    try_="subtract the row's largest score; change none of the differences",
                )
    with require(NO_WEIGHT) as r:
        for t, s, scale in ((3, 3, 1.0), (4, 6, 1.0), (4, 6, 1e11)):
            name = "small" if scale == 1 else "all of them far below 0"
            with r.input(f"Q [{t}, 8], K [{s}, 8], the first key masked, scores {name}"):
                query, key, value = normal(2, (t, 8), (s, 8), (s, 8))
                query = query if scale == 1 else query.abs() * scale
                key = key if scale == 1 else -key.abs()
                mask = torch.ones(t, s, dtype=torch.bool)
                mask[:, 0] = False
                without = function(query, key[1:], value[1:], None)
                is_tensor(r, without, "the result without the first key", (t, 8))
                r.that(
                    bool(without.isfinite().all()),
                    what="the result without the first key, and without a mask, has nan or inf",
                    why="every query sees all keys here, so that the weights sum to 1",
                    try_="subtract the largest score before exp, or use softmax, which does",
                )
                same(
                    r,
                    function(query, key, value, mask),
                    without,
                    why="expected is what your function gives where that key is not there at all: "
                    "the others share the whole weight, even where their scores are far below any "
                    "number that you chose",
                    try_="fill masked scores with -math.inf before the softmax; the mask is True "
                    "where a query may see a key",
                )
    with require(ZEROS) as r:
        for lead in ((), (2, 3)):
            with r.input(f"Q, K, V {[*lead, 3, 4]}, query 1 sees no key"):
                query, key, value = normal(3, *[(*lead, 3, 4)] * 3)
                mask = torch.tensor([[True, True, False], [False] * 3, [True] * 3])
                got = function(query, key, value, mask)
                is_tensor(r, got, "the result", (*lead, 3, 4))
                row = got[..., 1, :].flatten()
                r.that(
                    bool((row == 0).all()),
                    what=f"the output of query 1 begins with {row[0].item():.4g}, expected 0",
                    why="softmax of a row of -inf is nan, and of equal numbers a mean of keys that "
                    "nobody may see; one nan spoils every layer after it",
                    try_="set the weights of masked keys to 0 after the softmax",
                )
                r.that(
                    bool(torch.isfinite(got).all()),
                    what="the outputs of queries 0 and 2 are not finite",
                    why="they see keys, and query 1 is no concern of theirs",
                    try_="print the weights: which rows have nan?",
                )


def _divided_by(got: Any, query: Tensor, key: Tensor, value: Tensor) -> str:
    """What is said of a wrong mean: by which number its scores were divided, where that shows."""
    right = query.shape[-1]
    for width, name in (
        (1, "not divided at all"),
        (right**2, "divided by D, not by its root"),
        (value.shape[-1], "divided by the root of a value's length, V"),
        (key.shape[-2], "divided by the root of the number of keys, S"),
        (query.shape[-2], "divided by the root of the number of queries, T"),
    ):
        other = F.scaled_dot_product_attention(query, key, value, scale=width**-0.5)
        if width != right and near(got, other, 1e-5):
            return f"the scores were {name}; each score is divided by sqrt(D), D = {right} here"
    return (
        "a query's weights are the softmax of its scores over the keys, each score divided by "
        "sqrt(D)"
    )


scaled_dot_product.show(views.weights_of)


# --- 1.3.b -------------------------------------------------------------------------------------

FUTURE = "lets no query see a later token"
PADDING = "lets no token see padding"
ALL = "lets every token see all that it may"


@exercise(
    "1.3.b",
    title="One mask: causal, and no padding",
    points=4,
    central=FUTURE,
    skill=SKILL,
    arguments=("real", "queries"),
    hints=(
        (
            FUTURE,
            "Number the queries from 0 and the keys from 0. With as many of both, which keys may "
            "query i see? `torch.ones(..., dtype=torch.bool).tril()` has that pattern.",
        ),
        (
            ALL,
            "With 1 query and 5 keys, the query is the token at place 4. In general query i "
            "stands at place S - queries + i: `tril` takes a `diagonal`.",
        ),
        (
            PADDING,
            "`real` says of each key, in each sentence, whether it may be seen, whoever asks: "
            "`real[:, None, None, :]` gives it the axes of heads and queries.",
        ),
        (PADDING, "A key may be seen if both hold: `causal & real[:, None, None, :]`."),
    ),
)
def visible(function: Any, require: Any) -> None:
    """What each query may see: bool [B, 1, queries, S], from which tokens are no padding."""
    cases = (
        ("1 sentence of 4", [[1, 1, 1, 1]], 4),
        ("2 sentences, padded behind", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], 5),
        ("3 sentences, padded in front", [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], 4),
        ("2 sentences, the last token alone asks", [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], 1),
        ("2 sentences, the last 3 tokens ask", [[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]], 3),
    )
    words = {
        FUTURE: "a token's output changed with one that comes after it: in training the model "
        "would read the answer that it is to guess",
        PADDING: "a token's output changed with what stands in the padding, so it depends on what "
        "else is in the batch",
        ALL: "a token's output did not change with one that it may see",
    }
    for name in (FUTURE, PADDING, ALL):
        with require(name) as r:
            for label, rows, queries in cases:
                real = torch.tensor(rows, dtype=torch.bool)
                with r.input(f"{label}: real {list(real.shape)}, queries = {queries}"):
                    mask = function(real.clone(), queries)
                    is_mask(r, mask, (len(real), 1, queries, real.shape[1]))
                    for change in seen_by_change(mask, real):
                        wrong = {
                            FUTURE: change.seen and change.real and change.later,
                            PADDING: change.seen and not change.real,
                            ALL: not change.seen and change.real and not change.later,
                        }[name]
                        r.that(
                            not wrong,
                            what=f"sentence {change.sentence}: the output of token {change.query} "
                            f"{'changed' if change.seen else 'stayed'} when token {change.key}"
                            f"{'' if change.real else ', padding,'} was changed",
                            why=words[name],
                            try_="print your mask for this input as 0 and 1: rows are queries, "
                            "columns are keys, and the last query is the last token",
                        )


visible.show(views.mask_of)


# --- 1.3.c -------------------------------------------------------------------------------------

ONE_HEAD = "is plain attention between projections, with one head"
TOKENS = "keeps tokens apart: moved tokens, moved outputs"
HEADS = "is torch's MultiheadAttention, with any number of heads"


@exercise(
    "1.3.c",
    title="Split into heads, and merge",
    points=4,
    central=HEADS,
    skill=SKILL,
    arguments=("x", "w_q", "w_k", "w_v", "w_o", "heads"),
    hints=(
        (
            ONE_HEAD,
            "The weights are those of `nn.Linear`, [outputs, inputs]: `x @ w_q.T`. With one head "
            "there is nothing to split: project, attend, project back with w_o.",
        ),
        (
            TOKENS,
            "`view(B, heads, T, D)` deals the numbers out in the order in which they lie, T before "
            "the heads. First give the features two axes, `view(B, T, heads, D)`; which two axes "
            "change places then?",
        ),
        (
            TOKENS,
            "Back is the same way in reverse: `transpose(1, 2)`, then `reshape(B, T, C)`.",
        ),
        (HEADS, "Each head has C / heads features, and its scores are divided by that one's root."),
    ),
)
def multi_head(function: Any, require: Any) -> None:
    """Multi-head attention without bias or mask. x [B, T, C], the four weights [C, C]."""
    with require(ONE_HEAD) as r:
        for b, t, c in ((1, 1, 4), (1, 3, 4), (2, 5, 6)):
            _compare(r, function, b, t, c, 1, "with one head all features belong to it")
    with require(TOKENS) as r:
        for b, t, c, heads in ((1, 2, 4, 2), (1, 5, 12, 3), (2, 6, 16, 4)):
            with r.input(f"x {[b, t, c]}, {heads} heads, the tokens in another order"):
                x, *weights = normal(4, (b, t, c), *[(c, c)] * 4)
                order = torch.arange(t).roll(1)
                got = function(x[:, order], *weights, heads)
                is_tensor(r, got, "the result", (b, t, c))
                same(
                    r,
                    got,
                    function(x, *weights, heads)[:, order],
                    why="no position is given, so tokens in another order give the same outputs in "
                    "that order. Features of different tokens have got into one head's vector",
                    try_="number the elements with torch.arange and look where they are after "
                    "your view and transpose",
                )
    with require(HEADS) as r:
        for b, t, c, heads in ((1, 3, 4, 2), (2, 5, 12, 3), (3, 4, 16, 4), (1, 7, 8, 8)):
            _compare(r, function, b, t, c, heads, "each head has C / heads features of its own")


def _compare(r: Any, function: Any, b: int, t: int, c: int, heads: int, why: str) -> None:
    with r.input(f"x {[b, t, c]}, {count(heads, 'head')}"):
        x, *weights = normal(5, (b, t, c), *[(c, c)] * 4)
        same(
            r,
            function(x, *weights, heads),
            heads_apart(x, *weights, heads),
            why=f"{why}, and what they return lies side by side again before w_o",
            try_="follow the shapes: [B, T, C], [B, T, heads, D], [B, heads, T, D], and back",
        )


multi_head.show(views.heads_of)


# --- 1.3.d -------------------------------------------------------------------------------------

EQUAL = "equals attention whose keys were repeated"
NO_COPY = "reads each key where it lies, and copies none"


@exercise(
    "1.3.d",
    title="Grouped-query attention without a copy",
    points=4,
    central=NO_COPY,
    skill=SKILL,
    arguments=("query", "key", "value"),
    hints=(
        (
            EQUAL,
            "With 6 heads and 2 kv heads, heads 0, 1, 2 read kv head 0 and heads 3, 4, 5 read kv "
            "head 1. `query.view(B, kv_heads, group, T, D)` puts those of one kv head together.",
        ),
        (
            NO_COPY,
            "`repeat_interleave` writes the key `group` times. `expand` does not, but `@` between "
            "[..., group, T, D] and an expanded key makes it whole before it multiplies.",
        ),
        (
            NO_COPY,
            "Nobody says that the rows of a product must be the queries of one head. The queries "
            "of a whole group, [group T, D], may be the rows of one matrix.",
        ),
        (
            NO_COPY,
            "`query.reshape(B, kv_heads, group * T, D) @ key.transpose(-2, -1)` has the shape "
            "[B, kv_heads, group T, S]. Reshape the result at the end.",
        ),
    ),
)
def grouped_query(function: Any, require: Any) -> None:
    """Attention of H query heads over fewer kv heads: [B, H, T, D] and [B, kv_heads, S, D]."""
    with require(EQUAL) as r:
        for b, heads, kv_heads, t, s, d in (
            (1, 2, 2, 1, 1, 2),
            (1, 6, 2, 1, 4, 3),
            (2, 4, 1, 3, 3, 8),
            (2, 8, 4, 3, 5, 4),
        ):
            with r.input(f"Q {[b, heads, t, d]}, K and V {[b, kv_heads, s, d]}"):
                query, key, value = normal(6, (b, heads, t, d), *[(b, kv_heads, s, d)] * 2)
                same(
                    r,
                    function(query, key, value),
                    _by_repeating(query, key, value),
                    why=f"query head h reads kv head h // {heads // kv_heads}: neighbours share",
                    try_="which kv head do query heads 0 and 1 read in your code?",
                )
    with require(NO_COPY) as r:
        for b, heads, kv_heads, s in ((1, 8, 2, 512), (2, 8, 1, 300), (1, 32, 8, 700)):
            with r.input(f"Q {[b, heads, 1, 128]}, K and V {[b, kv_heads, s, 128]}"):
                query, key, value = normal(7, (b, heads, 1, 128), *[(b, kv_heads, s, 128)] * 2)
                # Measured the first time that these are given: a kept result costs nothing.
                given, got = (query, key, value), []
                made = allocated(lambda g=given, got=got: got.append(unwatched(function)(*g)))
                for result in (got[0], function(*given)):
                    same(
                        r,
                        result,
                        _by_repeating(query, key, value),
                        why="what is spared must not change the result",
                        try_="get the requirement above right first",
                    )
                r.that(
                    made <= key.nbytes // 2,
                    what=f"{made:,} bytes of new tensors, at most {key.nbytes // 2:,} allowed; "
                    f"K has {key.nbytes:,}",
                    why="a decoding step reads the whole cache once, and that is its cost: a copy "
                    "for each query head reads and writes it again, as if no head were shared",
                    try_="let the queries of a group be the rows of one matrix, "
                    "and multiply that with their key",
                )


def _by_repeating(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)


grouped_query.show(views.bytes_of)
