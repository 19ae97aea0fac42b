"""How many parameters a shape has, part by part. Unit 1.6.

A matrix from m to n numbers has m x n parameters, and that is nearly all there is. The counts are
those of the modules that the shapes describe, to the last one.
"""

from __future__ import annotations

from .shapes import Shape

PARTS = ("embedding", "positions", "attention", "mlp", "norms", "head")


def parameters(shape: Shape) -> dict[str, int]:
    """Parameters by part: `PARTS` in turn. A tied table is in "embedding", and "head" is 0."""
    table = shape.vocabulary * shape.width
    return {
        "embedding": table,
        "positions": shape.positions * shape.width,
        "attention": shape.layers * attention(shape),
        "mlp": mlp(shape),
        "norms": (shape.layers * shape.norms + 1) * _norm(shape) + _latent_norms(shape),
        "head": 0 if shape.tied else table,
    }


def total(shape: Shape) -> int:
    """All parameters, each once."""
    return sum(parameters(shape).values())


def active(shape: Shape) -> int:
    """Those that one token's way leads through: all, but for the experts that are not chosen."""
    return total(shape) - mlp(shape) + mlp(shape, active=True)


def multiplied(shape: Shape) -> int:
    """Weights of the matrices that one token is multiplied by.

    The table of embeddings is looked up; where it is the last matrix too, that counts.
    """
    matrices = shape.layers * attention(shape, biases=False) + mlp(shape, active=True, biases=False)
    return matrices + shape.vocabulary * shape.width


def attention(shape: Shape, biases: bool = True) -> int:
    """One layer's query, key, value and output matrices."""
    c, d = shape.width, shape.head_dim
    if shape.latent is not None:
        r = shape.latent
        keys = shape.heads * (d + r.rope_dim)  # numbers of all queries, and of as many keys
        query = c * keys if r.q_rank is None else c * r.q_rank + r.q_rank * keys
        key_value = c * (r.kv_rank + r.rope_dim) + r.kv_rank * shape.heads * (d + r.value_dim)
        return query + key_value + shape.heads * r.value_dim * c
    query, key_value = shape.heads * d, 2 * shape.kv_heads * d  # columns
    weights = c * (query + key_value) + query * c
    return weights + (query + key_value + c if biases and shape.biases else 0)


def mlp(shape: Shape, active: bool = False, biases: bool = True) -> int:
    """All layers' MLPs, with experts and their routers; `active`: what one token goes through."""
    c, matrices = shape.width, 3 if shape.gated else 2
    dense = matrices * c * shape.mlp_width
    if biases and shape.biases:
        dense += shape.mlp_width * (matrices - 1) + c
    if shape.experts is None:
        return shape.layers * dense
    e = shape.experts
    count = (e.chosen if active else e.routed) + e.shared
    sparse = count * matrices * c * e.width + c * e.routed  # the router scores every expert
    return e.dense_layers * dense + (shape.layers - e.dense_layers) * sparse


def _norm(shape: Shape) -> int:
    return shape.width * (2 if shape.biases else 1)


def _latent_norms(shape: Shape) -> int:
    if shape.latent is None:
        return 0
    return shape.layers * ((shape.latent.q_rank or 0) + shape.latent.kv_rank)
