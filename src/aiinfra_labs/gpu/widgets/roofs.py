"""What the roofline explorer shows, worked out in Python. Unit 3.1.

The widget computes in JavaScript (`roofline.js`); this is the same, to check it by: the kernels of
the explorer, each with its operations for each byte, what it can reach at most, and what bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiinfra_labs.gpu.devices import devices
from aiinfra_labs.gpu.intensity import LLAMA_3_1_8B, decode_step, matmul, vector_add
from aiinfra_labs.gpu.roofline import PRECISIONS, roofline

SHOWN = ("h100", "h200", "b200", "a100", "v100", "l4", "rtx4090", "rtx5090", "mi300x", "epyc_9654")
SHOWN += ("xeon_8480",)
ITEMSIZE = {"fp64": 8, "fp32": 4, "fp8_tensor": 1}  # bytes of an element; the others have 2
SIDES = (256, 4096)  # of the products that are shown
CONTEXTS = (0, 512, 2048, 8192)
BATCHES = tuple(2**k for k in range(9))  # 1 to 256


@dataclass(frozen=True)
class Row:
    """A kernel under the roof. attainable: operations/s. bound: "memory" or "compute"."""

    name: str
    intensity: float
    attainable: float
    bound: str


def tables() -> dict[str, Any]:
    """Devices and model as plain data: what the JavaScript works on. Bytes/s and operations/s."""
    model = LLAMA_3_1_8B
    known = devices()
    return {
        "devices": {
            key: {
                "name": known[key].name,
                "bandwidth": known[key].bandwidth,
                "peaks": {p: known[key].peak(p) for p in known[key].precisions()},
            }
            for key in SHOWN
        },
        "precisions": PRECISIONS,
        "model": {
            "name": model.name,
            "weights": model.weights,
            "kv_elements": model.kv_bytes(itemsize=1),  # for each token of context
            "attention": 4 * model.layers * model.heads * model.head_dim,  # operations, likewise
        },
    }


def itemsize(precision: str) -> int:
    """Bytes of an element at a precision."""
    return ITEMSIZE.get(precision, 2)


def settled(device: str, precision: str) -> str:
    """The precision, if the device has it, else its 16-bit one for matrices, or FP32."""
    known = devices()[device].precisions()
    return next(p for p in (precision, "fp16_tensor", "bf16_matrix", "fp32") if p in known)


def rows(device: str, precision: str, intensity: float, batch: int, context: int) -> list[Row]:
    """The kernel of the slider, then the fixed ones, as the explorer lists them."""
    roof, size = roofline(device, precision), itemsize(precision)
    listed = [("your kernel", intensity), ("vector add", vector_add(1, size).intensity)]
    listed += [(f"matmul {n:,}", matmul(n, n, n, size).intensity) for n in SIDES]
    step = decode_step(LLAMA_3_1_8B, batch, context, size)
    listed.append((f"decode, batch {batch}", step.intensity))
    return [Row(name, i, float(roof.attainable(i)), roof.bound_by(i)) for name, i in listed]
