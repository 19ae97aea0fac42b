"""Attention over a KV cache in blocks, in four ways that give the same. Unit 4.2.

All take the tokens of a step in one row, [T], and a `Layout` that says whose they are and where
their keys and values lie. `reference`, in NumPy, is the one to read. `gathered` brings the blocks
into one tensor for PyTorch, and runs on a CPU or a GPU. `compiled` reads the blocks where they are,
in a loop that Numba compiles for the CPU (`decode_loop`). `kernel` is unit 3.6's paged attention,
on a GPU or on the emulator.
"""

from __future__ import annotations

import torch

from ..errors import ServingError
from .cache import Attention, PagedCache
from .compiled import compiled_attention
from .gathered import torch_attention
from .kernel import kernel_attention
from .layout import Layout
from .reference import numpy_attention

__all__ = [
    "ATTENTIONS",
    "Attention",
    "Layout",
    "PagedCache",
    "attention_named",
    "compiled_attention",
    "kernel_attention",
    "numpy_attention",
    "torch_attention",
]

ATTENTIONS: dict[str, Attention] = {
    "numpy": numpy_attention,
    "torch": torch_attention,
    "compiled": compiled_attention,
    "kernel": kernel_attention,
}


def attention_named(name: str, device: torch.device, dtype: torch.dtype) -> Attention:
    """One of the four; "auto" is the fastest on the device. Raises ServingError."""
    if name == "auto":
        name = "compiled" if device.type == "cpu" and dtype == torch.float32 else "torch"
    if name not in ATTENTIONS:
        raise ServingError(
            f"attention {name!r}",
            "there are four that do the same",
            f"one of {', '.join(ATTENTIONS)}, or auto",
        )
    if name == "compiled" and (device.type != "cpu" or dtype != torch.float32):
        raise ServingError(
            f"attention 'compiled' for {str(dtype).removeprefix('torch.')} on {device.type}",
            "its loop is compiled for the processor, and for float32",
            "torch, or auto: it takes the fastest that the device has",
        )
    return ATTENTIONS[name]
