"""What attention moves and allocates. Unit 1.3; what a whole model needs is unit 1.6's.

B: batch, H: query heads, T: queries, S: keys, D: head_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aiinfra_labs import bounds

if TYPE_CHECKING:
    from .scale.shapes import Shape


def _counts(heads: int, queries: int, keys: int, head_dim: int = 1, itemsize: int = 1) -> None:
    for name, value, least in (
        ("heads", heads, 1),
        ("queries", queries, 0),
        ("keys", keys, 0),
        ("head_dim", head_dim, 1),
        ("itemsize", itemsize, 1),
    ):
        bounds.whole(name, value, "a count of what attention has", least)


def flops(heads: int, queries: int, keys: int, head_dim: int) -> int:
    """Operations of the two products, 2 T S D each for a head. Softmax and mask are left out.

    Raises ValueError for a count below 0.
    """
    _counts(heads, queries, keys, head_dim)
    return 4 * heads * queries * keys * head_dim


def causal_flops(shape: Shape, tokens: int) -> int:
    """Operations of attention in all layers of a model, of a prompt of `tokens`, masked pairs left
    out: token i meets i keys, so T (T + 1) / 2 pairs, each with two products of head_dim.

    Raises ValueError for a number below 0.
    """
    _counts(shape.heads, tokens, tokens, shape.head_dim)
    pairs = tokens * (tokens + 1) // 2
    return 4 * shape.layers * shape.heads * shape.head_dim * pairs


def score_bytes(heads: int, queries: int, keys: int, itemsize: int = 2) -> int:
    """Bytes of all scores of a layer, where they are written down: [H, T, S].

    itemsize: bytes of a score. Raises ValueError for a count below 0.
    """
    _counts(heads, queries, keys, itemsize=itemsize)
    return heads * queries * keys * itemsize


def written_traffic(heads: int, queries: int, keys: int, head_dim: int, itemsize: int = 2) -> int:
    """Bytes to and from memory where scores and weights are written down, as in Algorithm 0 of
    FlashAttention (arXiv:2205.14135): Q and K are read and S written, S read and P written, P and
    V read and O written. Each query head has a kv head of its own. itemsize: bytes of a number.
    Raises ValueError for a count below 0."""
    _counts(heads, queries, keys, head_dim, itemsize)
    inputs = 2 * heads * (queries + keys) * head_dim * itemsize
    return inputs + 4 * score_bytes(heads, queries, keys, itemsize)


def fused_traffic(heads: int, queries: int, keys: int, head_dim: int, itemsize: int = 2) -> int:
    """Bytes, the least: Q, K and V read once, O written once, and no score leaves the chip.

    itemsize: bytes of a number. Raises ValueError for a count below 0.
    """
    _counts(heads, queries, keys, head_dim, itemsize)
    return 2 * heads * (queries + keys) * head_dim * itemsize


class _Allocations(TorchDispatchMode):
    """Adds up the bytes of every storage that an operation returns and that was not there before.

    Storages are kept until the end, so that one which is given back does not lend its address.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and torch's compiler takes seconds to load

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._kept: dict[int, Any] = {}

    def know(self, tensors: list[Any]) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = kwargs or {}
        self.know(tree_leaves((args, kwargs)))
        out = function(*args, **kwargs)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._kept:
                    self.bytes += storage.nbytes()
        self.know(tree_leaves(out))
        return out


def allocated(run: Callable[[], Any]) -> int:
    """Bytes of the tensors that `run` makes, all of them, those that it drops as well.

    Views cost nothing. What a kernel of torch's uses within itself is not seen.
    """
    with torch.no_grad(), _Allocations() as seen:
        run()
    return seen.bytes
