"""What a token leaves in the cache, by config: latent attention against the others. Unit 1.7.

How much latent attention saves depends on what it is compared with: the same model with another
attention, or another model; and on how many bits each number of either cache has.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files

from aiinfra_labs import bounds

from ..scale import shapes
from ..scale.memory import kv_bytes
from ..scale.shapes import Known, Shape


@cache
def models() -> dict[str, Known]:
    """Every model of unit 1.6, and DeepSeek's before V3."""
    text = files(__package__).joinpath("models.toml").read_text(encoding="utf-8")
    return shapes.known() | shapes.read(text)


def shape(key: str) -> Shape:
    """The shape of a model by its key. Raises ValueError for one that is not there."""
    why = "shapes are read from the models.toml of units 1.6 and 1.7"
    return models()[bounds.one_of("the model", key, models(), why)].shape


def with_kv_heads(shape: Shape, kv_heads: int) -> Shape:
    """The same model with a key and a value for each of `kv_heads`: all heads, some, or 1."""
    return replace(shape, latent=None, kv_heads=kv_heads)


def numbers(shape: Shape) -> int:
    """Numbers that one token leaves in one layer's cache."""
    return kv_bytes(shape, itemsize=1) // shape.layers


def token_bytes(shape: Shape, bits: float = 16) -> float:
    """Bytes that one token leaves in all layers, at `bits` a number. Raises ValueError for none."""
    bounds.real("bits", bits, "of a number in the cache", above=0.0)
    return kv_bytes(shape, itemsize=1) * bits / 8


def saved(
    shape: Shape, baseline: Shape, bits: float = 16, baseline_bits: float | None = None
) -> float:
    """The share of the baseline's bytes a token that the shape does without: 0 to 1."""
    there = token_bytes(baseline, bits if baseline_bits is None else baseline_bits)
    return 1 - token_bytes(shape, bits) / there


def equal_kv_heads(shape: Shape) -> float:
    """With how many kv heads a grouped cache would be as large as the latent one."""
    return numbers(shape) / (2 * shape.head_dim)
