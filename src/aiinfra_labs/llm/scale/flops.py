"""How many floating-point operations a token, a step and a whole training take. Unit 1.6.

A product with a matrix of m x n weights is m n fused multiply-adds, 2 m n operations. Backward
does two such products for each of forward's, one for the gradient of the input and one for that
of the weights: 2 N forward, 4 N backward, 6 N a token (Kaplan et al., arXiv:2001.08361, 2.1).
"""

from __future__ import annotations

from aiinfra_labs import bounds

from .parameters import multiplied
from .shapes import Shape


def training(parameters: float, tokens: float) -> float:
    """6 N D. parameters: those a token is multiplied by; of a mixture of experts, the active.

    tokens: that it is trained on. Returns operations. Raises ValueError for a number below 0.
    """
    bounds.real("parameters", parameters, "that a token is multiplied by", 0.0)
    bounds.real("tokens", tokens, "that the model is trained on", 0.0)
    return 6 * parameters * tokens


def attention(shape: Shape, tokens: int, context: int) -> int:
    """Scores and weighted values of `tokens` queries against `context` keys each, forward.

    Every pair is counted, those behind the mask too: a product that is masked afterwards does them.
    Returns operations. Raises ValueError for a number below 0.
    """
    bounds.whole("tokens", tokens, "queries", 0)
    bounds.whole("context", context, "keys that each query is compared with", 0)
    key, value = shape.head_dim, shape.head_dim
    if shape.latent is not None:
        key, value = shape.head_dim + shape.latent.rope_dim, shape.latent.value_dim
    return 2 * shape.layers * shape.heads * (key + value) * tokens * context


def forward(shape: Shape, tokens: int, batch: int = 1) -> int:
    """Operations of `batch` whole sequences of `tokens` each, matrix products alone.

    Raises ValueError for a number below 0.
    """
    bounds.whole("batch", batch, "sequences", 0)
    bounds.whole("tokens", tokens, "of a sequence", 0)
    return batch * (2 * multiplied(shape) * tokens + attention(shape, tokens, tokens))


def step(shape: Shape, tokens: int, batch: int = 1) -> int:
    """Forward and backward: three times forward. Arguments: see there."""
    return 3 * forward(shape, tokens, batch)


def a_token(shape: Shape, context: int) -> int:
    """Operations of training on one token of a sequence: 6 N + 12 L H Q T in PaLM's appendix B.

    Chowdhery et al., arXiv:2204.02311. Raises ValueError for a sequence of no token.
    """
    bounds.whole("context", context, "tokens of the sequence")
    return step(shape, context) // context


def decode(shape: Shape, context: int) -> int:
    """Operations of the next token after `context` others, whose keys and values are cached."""
    return 2 * multiplied(shape) + attention(shape, 1, context)
