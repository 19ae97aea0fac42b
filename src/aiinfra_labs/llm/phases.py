"""What prefill and decode compute and what they read: the same weights, used differently. Unit 1.5.

A phase's intensity is its operations for each byte that it must read or write at least: weights
once, and the KV cache. Activations are left out; they stay in caches, or nearly so. Compare the
intensity with the machine's peak over its bandwidth, the ridge of its roofline (unit 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from aiinfra_labs import bounds

from .scale import flops, memory
from .scale.parameters import multiplied
from .scale.shapes import Shape


@dataclass(frozen=True)
class PhaseCost:
    """flops: operations. weight_bytes, kv_bytes: what is read or written, each byte once.

    attention_flops: of the operations, those with keys and values, which weights take no part in.
    """

    flops: int
    weight_bytes: int
    kv_bytes: int
    attention_flops: int = 0

    @property
    def bytes(self) -> int:
        """Weights and KV cache together."""
        return self.weight_bytes + self.kv_bytes

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes

    def seconds(self, peak: float, bandwidth: float) -> float:
        """The least time: of the products with weights, and then of attention.

        Each takes as long as its arithmetic or its memory, whichever is longer. They are kernels
        that run one after another, so neither hides behind the other. peak: operations/s.
        bandwidth: bytes/s. Williams et al., "Roofline", CACM 52(4), 2009. Raises ValueError for
        one that is not above 0.
        """
        bounds.real("peak", peak, "operations/s", above=0.0)
        bounds.real("bandwidth", bandwidth, "bytes/s", above=0.0)
        products = self.flops - self.attention_flops
        return max(products / peak, self.weight_bytes / bandwidth) + max(
            self.attention_flops / peak, self.kv_bytes / bandwidth
        )


def prefill(shape: Shape, tokens: int, batch: int = 1, itemsize: int = 2) -> PhaseCost:
    """A prompt of `tokens` in one pass: weights are read once for all of them.

    Every pair of tokens is counted, and the last matrix for the last token alone. itemsize: bytes
    of a number. Raises ValueError for no token or no sequence.
    """
    bounds.whole("tokens", tokens, "of the prompt")
    bounds.whole("batch", batch, "sequences of the batch")
    spared = 2 * shape.vocabulary * shape.width * (tokens - 1) * batch
    kv = batch * tokens * memory.kv_bytes(shape, itemsize)  # written
    return PhaseCost(
        flops.forward(shape, tokens, batch) - spared,
        multiplied(shape) * itemsize,
        kv,
        batch * flops.attention(shape, tokens, tokens),
    )


def decode(shape: Shape, context: int, batch: int = 1, itemsize: int = 2) -> PhaseCost:
    """One token for each of `batch` sequences, whose `context` tokens include the new one.

    itemsize: bytes of a number. Raises ValueError for no token or no sequence.
    """
    bounds.whole("context", context, "tokens, the new one among them")
    bounds.whole("batch", batch, "sequences of the batch")
    kv = batch * context * memory.kv_bytes(shape, itemsize)  # read, and one token of it written
    return PhaseCost(
        batch * flops.decode(shape, context),
        multiplied(shape) * itemsize,
        kv,
        batch * flops.attention(shape, 1, context),
    )


def turning_batch(shape: Shape, context: int, ridge: float, itemsize: int = 2) -> float:
    """The batch from which a step's operations take longer than its bytes: its intensity reaches
    `ridge`. Its products get there earlier, at `ridge` operations a byte of weights, and its
    attention never does; a step is never bound by one of the two alone.

    Solved from batch f = ridge (weights + batch kv). Infinite where a sequence's own operations
    never reach the ridge for its own cache: a long context, which no batch shares. ridge:
    operations/byte. Raises ValueError for one that is not above 0.
    """
    bounds.real("ridge", ridge, "operations for each byte: peak / bandwidth", above=0.0)
    one = decode(shape, context, 1, itemsize)
    left = one.flops - ridge * one.kv_bytes
    return ridge * one.weight_bytes / left if left > 0 else float("inf")
