"""PyTorch's tensors on their way between the judge and the answer, and gradients through a call.

A tensor crosses as its numbers; one that asks for a gradient does so on the other side, too. A
result that has a gradient is joined to the caller's graph: going back through it asks the other
side for the gradients of what the call was given.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from . import far, wire

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
_DTYPES = {str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}


class _Tensor(wire.Mutable):
    tag = "tensor"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.layout == torch.strided

    def pack(self, packer: wire.Packer, value: Any, depth: int) -> dict:
        """A view of a tensor that the other side knows crosses as one: it shares its memory."""
        if id(value) not in packer.shared.numbers and not value.requires_grad and value.numel():
            for number, whole in packer.shared.values.items():
                if isinstance(whole, Tensor) and _is_view(value, whole):
                    at = value.storage_offset() - whole.storage_offset()
                    mine = packer.shared.new(value)
                    packer.shared.seen[mine] = self.mark(value)
                    steps = {"s": list(value.shape), "o": list(value.stride()), "at": at}
                    return {"t": "view", "n": mine, "of": number} | steps
        return packer.mutable(value, self, depth)

    def mark(self, value: Any) -> Any:
        grad = value.grad if value.is_leaf else None
        return _data(value), None if grad is None else _data(grad)

    def content(self, packer: wire.Packer, value: Any, depth: int) -> dict:
        data, grad = self.mark(value)
        return {
            "d": str(value.dtype),
            "s": list(value.shape),
            "o": list(value.stride()),
            "r": bool(value.requires_grad and value.is_leaf),
            "j": _token(value),
            "b": packer.blob(data),
            "g": None if grad is None else packer.blob(grad),
        }

    def refill(self, unpacker: wire.Unpacker, value: Any, content: dict) -> None:
        if list(value.shape) != content["s"] or str(value.dtype) != content["d"]:
            raise wire.WireError("a tensor cannot change its shape")
        grad = content["g"]
        with torch.no_grad():
            if self.mark(value)[0] != unpacker.blob(content["b"]):
                value.copy_(_filled(content, unpacker.blob(content["b"])))
        if grad is not None:
            value.grad = _filled(content, unpacker.blob(grad))
        elif value.is_leaf and value.grad is not None:
            value.grad = None

    def unpack(self, unpacker: wire.Unpacker, packed: dict) -> Any:
        shape, strides = packed["s"], packed["o"]
        dense = sorted(strides, reverse=True) == list(strides) and 0 not in strides
        made = torch.empty(shape, dtype=_DTYPES[packed["d"]])
        size = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
        if not dense and 0 not in strides and 0 not in shape and size <= 64 * max(made.numel(), 1):
            made = torch.empty(size, dtype=made.dtype).as_strided(shape, strides)
        made = self.begun(unpacker, packed, made)
        if packed["r"]:
            made.requires_grad_()
        made.joined = packed["j"]
        return made


def _is_view(value: Tensor, whole: Tensor) -> bool:
    same = value.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    return same and value.dtype == whole.dtype and whole.is_contiguous() and not whole.requires_grad


class _View(wire.Kind):
    """A tensor that lies in the memory of another one, and nowhere beyond it."""

    tag = "view"

    def accepts(self, value: Any) -> bool:
        return False  # `_Tensor` finds them

    def unpack(self, unpacker: wire.Unpacker, packed: dict) -> Any:
        whole = unpacker.shared.values[packed["of"]]
        shape, steps, at = packed["s"], packed["o"], packed["at"]
        last = at + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        inside = at >= 0 and min(steps, default=0) >= 0 and last < whole.numel()
        if not isinstance(whole, Tensor) or not whole.is_contiguous() or not inside:
            raise wire.WireError("there is no such tensor to be a view of")
        made = whole.as_strided(shape, steps, whole.storage_offset() + at)
        unpacker.shared.keep(packed["n"], made)
        unpacker.shared.seen[packed["n"]] = _TENSORS.mark(made)
        return made


_TENSORS = _Tensor()


class _DType(wire.Kind):
    tag = "torch.dtype"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, torch.dtype)

    def pack(self, packer: wire.Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "d": str(value)}

    def unpack(self, unpacker: wire.Unpacker, packed: dict) -> Any:
        return _DTYPES[packed["d"]]


class _Size(wire.Kind):
    tag = "torch.Size"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, torch.Size)

    def pack(self, packer: wire.Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "v": list(value)}

    def unpack(self, unpacker: wire.Unpacker, packed: dict) -> Any:
        return torch.Size(packed["v"])


def _data(value: Tensor) -> bytes:
    plain = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    if plain.dtype not in (torch.float32, torch.float64):
        plain = plain.view(torch.uint8)  # bfloat16 and its like are unknown to NumPy
    return plain.numpy().tobytes()


def _filled(content: dict, data: bytes) -> Tensor:
    shape, dtype = content["s"], _DTYPES[content["d"]]
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape).clone()


# --- gradients ---------------------------------------------------------------------------------

_tokens = itertools.count(1)
_results: dict[int, tuple[Tensor, list[Tensor]]] = {}  # by token: a result, what the call was given
_given: list[list[Tensor]] = []  # of the calls that are being served: the inputs with a gradient


def _token(value: Tensor) -> int:
    """The number under which this side can be asked for the gradient of a call's result; or 0."""
    if not _given or not value.requires_grad or value.is_leaf:
        return 0
    token = next(_tokens)
    _results[token] = (value, list(_given[-1]))
    return token


def _among(value: Any, found: list[Tensor]) -> None:
    """The tensors in plain containers, in order."""
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, tuple | list):
        for item in value:
            _among(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _among(item, found)


class _Joined(torch.autograd.Function):
    """A result that was computed on the other side, as a step of this side's graph."""

    @staticmethod
    def forward(ctx: Any, line: Any, token: int, value: Tensor, start: Tensor, *inputs: Tensor):
        ctx.line, ctx.token, ctx.count = line, token, len(inputs)
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor):
        grads = ctx.line.desk.line.gradient(ctx.token, grad.contiguous())
        if not isinstance(grads, list) or len(grads) != ctx.count:
            raise far.Gone
        return (None, None, None, torch.zeros(()), *grads)


class _Gradients(far.Hooks):
    def leaving(self, line: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict, Any]:
        if not torch.is_grad_enabled():
            return args, kwargs, None
        tensors: list[Tensor] = []
        _among((args, kwargs), tensors)
        inputs = [t for t in tensors if t.requires_grad and t.is_floating_point()]

        def cut(value: Any) -> Any:
            """The other side's leaf: this side's graph ends here. What is no step stays itself."""
            if isinstance(value, Tensor) and value.requires_grad and not value.is_leaf:
                return value.detach().requires_grad_()
            if type(value) in (tuple, list) and any(isinstance(x, Tensor) for x in value):
                return type(value)(map(cut, value))
            return value

        def finish(value: Any) -> Any:
            return _joined(line, value, inputs)

        return cut(args), {k: cut(v) for k, v in kwargs.items()}, finish

    @contextlib.contextmanager
    def serving(self, message: dict) -> Iterator[None]:
        _given.append([])
        try:
            yield
        finally:
            _given.pop()

    def arriving(self, args: tuple, kwargs: dict) -> None:
        tensors: list[Tensor] = []
        _among((args, kwargs), tensors)
        _given[-1] += [t for t in tensors if t.requires_grad and t.is_floating_point()]

    def gradient(self, line: Any, number: int, value: Any) -> Any:
        out, inputs = _results[number]
        before = [leaf.grad for leaf in inputs]
        for leaf in inputs:
            leaf.grad = None
        try:
            torch.autograd.backward([out], [value], retain_graph=True)
            found = [leaf.grad for leaf in inputs]
        finally:
            for leaf, grad in zip(inputs, before, strict=True):
                leaf.grad = grad
        return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def _joined(line: Any, value: Any, inputs: list[Tensor]) -> Any:
    """The result of a call, each tensor in it a step of this side's graph, where it is one."""
    if isinstance(value, Tensor) and getattr(value, "joined", 0):
        start = torch.zeros((), requires_grad=True)
        return _Joined.apply(line, value.joined, value, start, *inputs)
    tensors: list[Tensor] = []
    _among(value, tensors)
    if not any(getattr(tensor, "joined", 0) for tensor in tensors):
        return value  # itself: the other side knows it, too
    if type(value) in (tuple, list):
        return type(value)(_joined(line, x, inputs) for x in value)
    if type(value) is dict:
        return {k: _joined(line, v, inputs) for k, v in value.items()}
    return value


def install() -> None:
    """Let tensors cross, and gradients."""
    for kind in (_TENSORS, _View(), _DType(), _Size()):
        wire.add_kind(kind)
    far.use_hooks(_Gradients())
