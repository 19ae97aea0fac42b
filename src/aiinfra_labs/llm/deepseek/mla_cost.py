"""What one decoding step of latent attention computes and reads, expanded and absorbed. Unit 1.7.

One layer, one new token, `context` tokens in the cache. The projections that both have alike, from
the residual stream and back, are left out. A product of m x n and n x p numbers is 2 m n p
operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiinfra_labs import bounds

from ..scale.shapes import Shape


@dataclass(frozen=True)
class DecodeCost:
    """flops: operations, of which `pairs` are scores and weighted means: attention itself.

    read: numbers of the cache. made: numbers written for this step alone.
    """

    flops: int
    pairs: int
    read: int
    made: int

    def intensity(self, itemsize: int = 2) -> float:
        """Operations of attention itself for each byte of the cache, where nothing else is read.

        What brings a query into the latent's space and a mean out of it reads weights of its own,
        and is another kernel's work.
        """
        return self.pairs / (self.read * itemsize)


def _check(shape: Shape, context: int, latent: bool) -> None:
    bounds.whole("context", context, "tokens in the cache")
    if latent and shape.latent is None:
        raise bounds.SettingError(
            "the shape has no latent attention",
            "keys and values are not made from a latent, so there is nothing to expand or absorb",
            "`grouped`, or the shape of a DeepSeek",
        )


def expanded(shape: Shape, context: int) -> DecodeCost:
    """Keys and values of all heads are made from the latents anew, and then read.

    Raises ValueError for a shape without a latent, or no token.
    """
    _check(shape, context, latent=True)
    r, heads = shape.latent, shape.heads
    key, value = shape.head_dim, r.value_dim
    up = 2 * context * r.kv_rank * heads * (key + value)
    pairs = 2 * context * heads * (key + r.rope_dim + value)
    read = context * (r.kv_rank + r.rope_dim)
    return DecodeCost(up + pairs, pairs, read, context * heads * (key + r.rope_dim + value))


def absorbed(shape: Shape, context: int) -> DecodeCost:
    """Queries go into the latent's space, and the mean of latents comes back out of it.

    Raises ValueError for a shape without a latent, or no token.
    """
    _check(shape, context, latent=True)
    r, heads = shape.latent, shape.heads
    there_and_back = 2 * heads * r.kv_rank * (shape.head_dim + r.value_dim)
    pairs = 2 * context * heads * (r.kv_rank + r.rope_dim + r.kv_rank)
    read = context * (r.kv_rank + r.rope_dim)
    return DecodeCost(there_and_back + pairs, pairs, read, heads * (2 * r.kv_rank + r.rope_dim))


def grouped(shape: Shape, context: int) -> DecodeCost:
    """A key and a value in the cache for each kv head: multi-head, grouped and multi-query.

    Raises ValueError for no token.
    """
    _check(shape, context, latent=False)
    pairs = 4 * context * shape.heads * shape.head_dim
    return DecodeCost(pairs, pairs, 2 * context * shape.kv_heads * shape.head_dim, 0)
