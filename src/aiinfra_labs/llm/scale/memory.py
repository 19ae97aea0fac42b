"""The memory of weights, gradients, optimiser and KV cache. Unit 1.6.

What is here depends on the shape alone; `activations` has what grows with batch and length.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiinfra_labs import bounds

from .shapes import Shape


@dataclass(frozen=True)
class States:
    """Bytes a parameter of what training keeps from step to step."""

    weights: int
    gradients: int
    optimizer: int

    def __post_init__(self) -> None:
        for name in ("weights", "gradients", "optimizer"):
            bounds.whole(name, getattr(self, name), "bytes a parameter", 0)

    @property
    def total(self) -> int:
        """Bytes a parameter, all together."""
        return self.weights + self.gradients + self.optimizer


# Adam keeps two moments of each parameter, 4 bytes each; mixed precision a copy of the weights in
# float32 as well (Micikevicius et al., arXiv:1710.03740; Rajbhandari et al., arXiv:1910.02054).
MIXED = States(weights=2, gradients=2, optimizer=12)
FLOAT32 = States(weights=4, gradients=4, optimizer=8)
STAGES = (0, 1, 2, 3)


def model_states(parameters: float, gpus: int = 1, stage: int = 0, states: States = MIXED) -> float:
    """Bytes on each of `gpus` under ZeRO's stage 0 to 3 (arXiv:1910.02054, section 5).

    Stage 1 divides the optimiser's states among the GPUs, 2 the gradients too, 3 the weights too.
    Raises ValueError for another stage, no GPU, or a number of parameters below 0.
    """
    bounds.real("parameters", parameters, "of the model", 0.0)
    bounds.whole("gpus", gpus, "what is divided is divided among them")
    bounds.whole("stage", stage, "ZeRO has stages 1 to 3; 0 is none", 0, STAGES[-1])
    weights = states.weights / (gpus if stage >= 3 else 1)
    gradients = states.gradients / (gpus if stage >= 2 else 1)
    optimizer = states.optimizer / (gpus if stage >= 1 else 1)
    return parameters * (weights + gradients + optimizer)


def kv_bytes(shape: Shape, itemsize: int = 2) -> int:
    """Bytes of KV cache for each token: a key and a value for each layer and kv head.

    Latent attention keeps the short vector that both are made from, and one key's position.
    itemsize: bytes of a number. Raises ValueError for none.
    """
    bounds.whole("itemsize", itemsize, "bytes of a number")
    if shape.latent is not None:
        return shape.layers * (shape.latent.kv_rank + shape.latent.rope_dim) * itemsize
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * itemsize
