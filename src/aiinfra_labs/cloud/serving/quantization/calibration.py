"""What the inputs of each layer look like, on a little text: the statistics that AWQ, GPTQ and
pruning decide by. Unit 4.5.

A layer's output error of a changed weight W' on inputs x is, summed over tokens,

    sum |(W' - W) x|^2 = trace((W' - W) S (W' - W)^T),   S = sum x x^T

so the matrix S [K, K] is all that need be kept of the text. 2 S is the Hessian of GPTQ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import Block, CausalLM
from .layers import LINEARS
from .perplexity import windows_attention


@dataclass
class Inputs:
    """Of all tokens that a layer has seen. moment: mean x x^T [K, K]. size: mean |x| [K]."""

    moment: Tensor
    size: Tensor
    tokens: int

    @classmethod
    def of(cls, x: Tensor) -> Inputs:
        """x: [T, K]."""
        x = x.float()
        return cls(x.t() @ x / len(x), x.abs().mean(0), len(x))

    def error(self, changed: Tensor, weight: Tensor) -> float:
        """Mean square of the output's error over that of the output itself: 0 is none."""

        def mean_square(w: Tensor) -> Tensor:
            return ((w @ self.moment) * w).sum()

        weight = weight.float()
        return float(mean_square(changed.float() - weight) / mean_square(weight))


@torch.no_grad()
def walk(model: CausalLM, ids: Tensor) -> Iterator[tuple[Block, dict[str, Inputs]]]:
    """(block, inputs of each of its linear layers), block by block. ids: int64 [B, T].

    Whoever asks may change the block before asking for the next: that one sees what the changed
    one gives, as it will when it serves.
    """
    attend = windows_attention(len(ids))
    positions = torch.arange(ids.shape[1], device=ids.device).repeat(len(ids))
    cos, sin = model.cos[positions], model.sin[positions]
    x = model.embed_tokens(ids.flatten())  # [B * T, C]
    for block in model.layers:
        seen: dict[str, Inputs] = {}
        with watched(block, seen):
            block(x, cos, sin, attend)
        yield block, seen
        x = block(x, cos, sin, attend)


@contextmanager
def watched(block: Block, seen: dict[str, Inputs]) -> Iterator[None]:
    """Within it, each linear layer that computes puts down its inputs, by its name in the block."""

    def note(name: str) -> Callable[..., None]:
        return lambda _, arguments: seen.update({name: Inputs.of(arguments[0])})

    hooks = [block.get_submodule(n).register_forward_pre_hook(note(n)) for n in LINEARS]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
