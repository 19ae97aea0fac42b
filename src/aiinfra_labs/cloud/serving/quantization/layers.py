"""Linear layers that hold integers, put into a model in place. Unit 4.5.

`QuantizedLinear` keeps its weight packed, and makes floats of it for each product: what is saved is
memory. `Int8Linear` rounds its inputs, too, and multiplies integers by integers: what is saved is
time, where the processor has instructions for it. Both stand where a `nn.Linear` stood, so that
nothing else of the model or of the engine changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model import CausalLM
from . import packing
from .integers import Quantized, Scheme, dequantize, quantize
from .products import integer_product

LINEARS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
INT8 = Scheme(8, "channel")


class StoredLinear(nn.Module):
    """A linear layer whose weight is no parameter: the property `weight` makes it of buffers."""

    def __init__(self, out_features: int, in_features: int, bias: Tensor | None):
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """float [..., K] to [..., N]: the weights are made float again for the product."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)


class QuantizedLinear(StoredLinear):
    """x W^T + b, with W packed. Buffers: `packed` uint8, `scale` float16, `zero` uint8 or None."""

    def __init__(self, quantized: Quantized, bias: Tensor | None = None):
        super().__init__(*quantized.codes.shape, bias)
        self.scheme = scheme = quantized.scheme
        codes = (quantized.codes.short() - scheme.lowest).to(torch.uint8)  # from 0 up
        packed = packing.pack_trits(codes) if scheme.ternary else packing.pack(codes, scheme.bits)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", quantized.scale)
        self.register_buffer("zero", quantized.zero)

    def codes(self) -> Tensor:
        """The codes, unpacked: int8 or, if affine, uint8 [N, K]."""
        if self.scheme.ternary:
            found = packing.unpack_trits(self.packed, self.in_features)
        else:
            found = packing.unpack(self.packed, self.scheme.bits)
        if not self.scheme.symmetric:
            return found
        return (found.short() + self.scheme.lowest).to(torch.int8)

    @property
    def weight(self) -> Tensor:
        """The weight as floats, made anew each time: float32 [N, K]."""
        return dequantize(Quantized(self.codes(), self.scale, self.zero, self.scheme))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.scheme}"


class Int8Linear(StoredLinear):
    """x W^T + b in int8: weights by channel, inputs by token, sums in int32 (LLM.int8() without its
    outliers: Dettmers et al., arXiv:2208.07339)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__(*weight.shape, bias)
        quantized = quantize(weight, INT8)
        self.register_buffer("codes", quantized.codes)  # int8 [N, K]
        self.register_buffer("scale", quantized.scale)  # float16 [N, 1]

    @property
    def weight(self) -> Tensor:
        """What the codes stand for, for those who look at it: float32 [N, K]."""
        return self.codes.float() * self.scale.float()

    def forward(self, x: Tensor) -> Tensor:
        """float [..., K] to [..., N]: the product is one of integers."""
        rows = x.reshape(-1, self.in_features).float()  # [T, K]
        scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / INT8.highest  # [T, 1]
        codes = (rows / scale).round().to(torch.int8)
        sums = integer_product(codes, self.codes.t())  # int32 [T, N]: exact
        out = sums.float() * scale * self.scale.float().t()
        if self.bias is not None:
            out = out + self.bias
        return out.to(x.dtype).view(*x.shape[:-1], self.out_features)


def linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, layer) of every product in the blocks of a `CausalLM`; a name as in its parameters.

    The embedding and the `lm_head`, which is often the same tensor, are none of them: as in most
    quantized checkpoints they keep their 16 bits.
    """
    for index, block in enumerate(model.layers):
        for name in LINEARS:
            yield f"layers.{index}.{name}", block.get_submodule(name)


def replace(model: nn.Module, make: Callable[[str, nn.Module], nn.Module]) -> nn.Module:
    """Put `make(name, layer)` in the place of each layer of `linears`. Returns the model."""
    for name, layer in list(linears(model)):
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, make(name, layer))
    return model


def quantize_linears(model: CausalLM, scheme: Scheme) -> CausalLM:
    """Round every linear layer of the blocks to the nearest, in place. Returns the model."""
    made = {
        name: QuantizedLinear(quantize(layer.weight, scheme), layer.bias)
        for name, layer in linears(model)
    }  # all of them before the first is put in: an error leaves the model as it was
    return replace(model, lambda name, _: made[name])


def int8_linears(model: CausalLM) -> CausalLM:
    """Let every linear layer of the blocks multiply int8 by int8, in place. Returns the model."""
    return replace(model, lambda _, layer: Int8Linear(layer.weight, layer.bias))


def stored_bytes(model: nn.Module, dense: int = 2) -> int:
    """Bytes of the model as a file holds it: integers as they are, all else in `dense` bytes each.

    A tensor that two layers share counts once.
    """
    total, seen = 0, set()
    for parameter in model.parameters():
        if parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            total += parameter.numel() * dense
    for module in model.modules():
        if isinstance(module, StoredLinear):
            for name, buffer in module.named_buffers():
                total += buffer.numel() * (dense if name == "bias" else buffer.element_size())
    return total


def bits_per_weight(model: nn.Module) -> float:
    """Stored bits of the quantized layers, scales and zeros included, over their weights."""
    layers = [m for m in model.modules() if isinstance(m, StoredLinear)]
    bits = 8 * sum(b.nbytes for m in layers for n, b in m.named_buffers() if n != "bias")
    return bits / sum(m.in_features * m.out_features for m in layers)
