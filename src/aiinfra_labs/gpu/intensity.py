"""Operations and bytes of a kernel by formula, where it is too large to be run. Unit 3.1.

Bytes are the least that must cross the DRAM bus: each input once, each output once, as if the
caches kept everything in between. A real kernel moves as much or more; a profiled one is counted
(`roofline.point_of`). An fma is two operations.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelCost:
    """What a kernel does: floating-point operations, and bytes of DRAM traffic."""

    flops: float
    nbytes: float

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.nbytes


def vector_add(n: int, itemsize: int = 4) -> KernelCost:
    """out[i] = a[i] + b[i]: one operation for two elements read and one written."""
    return KernelCost(n, 3 * n * itemsize)


def matmul(m: int, n: int, k: int, itemsize: int = 2) -> KernelCost:
    """C [m, n] = A [m, k] @ B [k, n]: k fma an element of C; A, B and C cross the bus once."""
    return KernelCost(2 * m * n * k, (m * k + k * n + m * n) * itemsize)


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer with grouped-query attention and a gated MLP, as Llama's."""

    name: str
    layers: int
    width: int  # of the residual stream
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """Weights that each token is multiplied by: all but the table of embeddings, and norms."""
        attention = self.width * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        mlp = 3 * self.width * self.mlp_width
        return self.layers * (attention + mlp) + self.width * self.vocabulary

    def kv_bytes(self, itemsize: int = 2) -> int:
        """Bytes of KV cache for each token of context: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize


# https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json
LLAMA_3_1_8B = Model("Llama 3.1 8B", 32, 4096, 32, 8, 128, 14336, 128256)


def decode_step(model: Model, batch: int, context: int, itemsize: int = 2) -> KernelCost:
    """One decode step: a token more for each of `batch` sequences of `context` tokens.

    The weights are read once for the whole batch, the KV cache of each sequence for itself. Left
    out are the activations, and the one token that is written to each cache: both are below 1 %.
    """
    products = 2 * model.weights * batch
    # scores (q k^T) and their sum over the values: two fma for each head, dimension and position
    attention = 4 * model.layers * model.heads * model.head_dim * context * batch
    read = model.weights * itemsize + batch * context * model.kv_bytes(itemsize)
    return KernelCost(products + attention, read)
