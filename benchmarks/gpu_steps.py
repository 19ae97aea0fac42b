"""What `gpu.py` times on a GPU: each unit's kernels as a ladder, beside what the vendor has.

A ladder is a list of steps that all do the same work. Each step says the fewest bytes that the work
must move (each input read once, each output written once) and its floating-point operations, so
that a time becomes a bandwidth or a rate. One step is the baseline: a device-to-device copy, or the
library's own kernel. Outputs are full of NaN before the first launch, inputs are random, and what a
step leaves is compared with NumPy in float64: a fast wrong kernel has no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from aiinfra_labs.gpu.kernels import (
    coalescing,
    cuda_model,
    flash_attention,
    matmul_ladder,
    online_softmax,
    paged_attention,
    reduction,
    softmax,
    transpose,
)


class Machine(Protocol):
    """Where the steps run: a GPU, or the emulator in the test of this file."""

    def array(self, host: np.ndarray) -> Any: ...
    def kernel(self, kernel: Any) -> Any: ...
    def copy(self, source: Any, target: Any) -> None: ...
    def library(self, name: str, *arrays: Any, **options: Any) -> Callable[[], Any] | None:
        """A launch of the library's own kernel, or None where it has none.

        names: matmul(a, b, out), sum(x, out), softmax(x, out), attention(q, k, v, out, causal=).
        """
        ...


@dataclass(frozen=True)
class Step:
    """One way to do a ladder's work. launch: starts it, and does not wait for it."""

    name: str
    launch: Callable[[], Any]
    output: Callable[[], np.ndarray]  # as the host sees it, after the launch
    baseline: bool = False
    expected: Callable[[], np.ndarray] | None = None  # where it is not the ladder's: a copy


@dataclass
class Ladder:
    """Ways to do the same work, from the plainest to the best, and the baseline.

    least_bytes: what any of them must move. flops: what any of them must compute; 0 where the work
    is a matter of bytes. expected: float64. asked: the share of the baseline that the course asks.
    """

    name: str
    unit: str  # of the course: "3.5"
    size: str
    least_bytes: int
    flops: int
    expected: Callable[[], np.ndarray]
    asked: float | None = None
    error: float = 1e-5  # allowed: norm(output - expected) / norm(expected)
    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, launch: Callable[[], Any] | None, out: Any, **more: Any) -> None:
        """A step that leaves its output in the device array `out`; none where launch is None."""
        if launch is not None:
            self.steps.append(Step(name, launch, out.copy_to_host, **more))


def _reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _unwritten(machine: Machine, *shape: int) -> Any:
    return machine.array(np.full(shape, np.nan, np.float32))


def _like(machine: Machine, array: Any) -> Any:
    return _unwritten(machine, *array.shape)


def vector_add(machine: Machine, quick: bool = False) -> Ladder:
    """c = a + b, against a copy of as many bytes as it moves."""
    n = 1 << (12 if quick else 27)
    rng = np.random.default_rng(1)
    a, b = _reals(rng, n), _reals(rng, n)
    d_a, d_b, out = machine.array(a), machine.array(b), _unwritten(machine, n)
    ladder = Ladder(
        "vector_add", "3.2", f"{n:,} float32", 12 * n, 0, lambda: a.astype(float) + b, asked=0.9
    )
    threads = 256
    add, blocks = machine.kernel(cuda_model.vector_add), cuda_model.blocks_for(n, threads)
    ladder.add("vector_add", partial(add[blocks, threads], d_a, d_b, out), out)
    # The copy moves 12 n bytes, too: 6 n read and 6 n written.
    source = machine.array(np.concatenate([a, b[: n // 2]]))
    target = _unwritten(machine, n + n // 2)
    _add_copy(machine, ladder, source, target)
    return ladder


def _add_copy(machine: Machine, ladder: Ladder, source: Any, target: Any) -> None:
    """The baseline of a ladder of bytes. It is right when the copy equals its source."""
    ladder.steps.append(
        Step(
            "copy",
            partial(machine.copy, source, target),
            target.copy_to_host,
            baseline=True,
            expected=lambda: source.copy_to_host().astype(float),
        )
    )


def copies(machine: Machine, quick: bool = False) -> Ladder:
    """n float32 that lie `stride` apart, or begin one element late, or are moved by four."""
    n = 1 << (12 if quick else 25)
    strides = (1, 2, 4, 8, 16)
    # the same n numbers again and again: more would only take longer to make
    source = np.resize(_reals(np.random.default_rng(9), n), n * strides[-1])
    d_source, d_first = machine.array(source), machine.array(source[:n])
    ladder = Ladder(
        "coalescing", "3.3", f"{n:,} float32", 8 * n, 0, lambda: source[:n].astype(float)
    )
    threads = 256
    blocks = cuda_model.blocks_for(n, threads)

    def add(name: str, kernel: Any, apart: int, first: int) -> None:
        out = _unwritten(machine, n)
        launch = partial(machine.kernel(kernel)[blocks, threads], d_source, out, apart)
        expected = source[first::apart] if first == 0 else source[first:]
        ladder.add(name, launch, out, expected=lambda: expected[:n].astype(float))

    for stride in strides:
        add(f"stride {stride}", coalescing.copy_strided, stride, 0)
    add("shift 1", coalescing.copy_shifted, 1, 1)
    out, four = _unwritten(machine, n), machine.kernel(coalescing.copy_float4)
    quarter = cuda_model.blocks_for(n // 4, threads)
    ladder.add("float4", partial(four[quarter, threads], d_first, out), out)
    _add_copy(machine, ladder, d_first, _unwritten(machine, n))
    return ladder


def transposes(machine: Machine, quick: bool = False) -> Ladder:
    """out = a.T, against a copy of the same bytes."""
    side = 96 if quick else 8192
    a = _reals(np.random.default_rng(2), side, side)
    d_a = machine.array(a)
    ladder = Ladder(
        "transpose",
        "3.4",
        f"{side:,} x {side:,} float32",
        8 * side * side,
        0,
        lambda: a.T.astype(float),
        asked=0.8,
    )
    tile = transpose.TILE
    blocks = cuda_model.blocks_for(side, tile)
    for name in ("naive", "tiled", "padded", "swizzled", "32x8"):
        kernel = machine.kernel(getattr(transpose, f"transpose_{name}"))
        block = (tile, transpose.ROWS if name == "32x8" else tile)
        out = _unwritten(machine, side, side)
        ladder.add(name, partial(kernel[(blocks, blocks), block], d_a, out), out)
    _add_copy(machine, ladder, d_a, _unwritten(machine, side, side))
    return ladder


def matmuls(machine: Machine, quick: bool = False) -> Ladder:
    """C = A B in float32, from the naive kernel to the double-buffered, beside the library's."""
    side = 128 if quick else 4096
    rng = np.random.default_rng(7)
    a, b = _reals(rng, side, side), _reals(rng, side, side)
    d_a, d_b = machine.array(a), machine.array(b)
    ladder = Ladder(
        "matmul",
        "3.5",
        f"{side:,} x {side:,} float32",
        3 * a.nbytes,
        2 * side**3,
        lambda: a.astype(float) @ b,
        asked=0.7,
    )
    for step in matmul_ladder.LADDER:
        c, kernel = _unwritten(machine, side, side), machine.kernel(step.kernel)
        ladder.add(step.name, partial(step.launch, d_a, d_b, c, kernel), c)
    theirs = _unwritten(machine, side, side)
    ladder.add("library", machine.library("matmul", d_a, d_b, theirs), theirs, baseline=True)
    return ladder


def reductions(machine: Machine, quick: bool = False) -> Ladder:
    """The sum of all elements: one sum a block on the device, those added up by the host."""
    n = reduction.THREADS * (16 if quick else 1 << 19)
    x = _reals(np.random.default_rng(3), n) + np.float32(1)  # a sum that is not near 0
    d_x = machine.array(x)
    ladder = Ladder(
        "reduction",
        "3.6",
        f"{n:,} float32",
        4 * n,
        0,
        lambda: np.atleast_1d(x.sum(dtype=float)),
        error=1e-5,
    )
    whole = n // reduction.THREADS  # blocks, where each thread has one element
    for name in ("interleaved", "strided", "tree", "shuffle", "stride"):
        kernel = machine.kernel(getattr(reduction, f"block_sums_{name}"))
        blocks = min(whole, reduction.MOST_BLOCKS) if name == "stride" else whole
        sums = _unwritten(machine, blocks)
        ladder.steps.append(
            Step(
                "grid-stride" if name == "stride" else name,
                partial(kernel[blocks, reduction.THREADS], d_x, sums),
                lambda sums=sums: np.atleast_1d(sums.copy_to_host().sum(dtype=float)),
            )
        )
    total = _unwritten(machine, 1)
    ladder.add("library", machine.library("sum", d_x, total), total, baseline=True)
    return ladder


def softmaxes(machine: Machine, quick: bool = False) -> Ladder:
    """The softmax of each row."""
    rows, columns = (8, 300) if quick else (16_384, 4096)
    x = _reals(np.random.default_rng(4), rows, columns)
    d_x, out = machine.array(x), _unwritten(machine, rows, columns)

    def expected() -> np.ndarray:
        e = np.exp(x.astype(float) - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    ladder = Ladder(
        "softmax", "3.6", f"{rows:,} rows of {columns:,} float32", 8 * rows * columns, 0, expected
    )
    kernel = machine.kernel(softmax.softmax_rows)
    ladder.add("three readings", partial(kernel[rows, softmax.THREADS], d_x, out), out)
    kernel, online = machine.kernel(online_softmax.online_softmax_rows), _like(machine, out)
    blocks = -(-rows // online_softmax.WARPS)
    ladder.add("online", partial(kernel[blocks, online_softmax.THREADS], d_x, online), online)
    theirs = _unwritten(machine, rows, columns)
    ladder.add("library", machine.library("softmax", d_x, theirs), theirs, baseline=True)
    return ladder


def attentions(machine: Machine, quick: bool = False, causal: bool = False) -> Ladder:
    """FlashAttention's forward pass in float32, beside the library's."""
    heads, tokens, dim = (2, 70, 32) if quick else (32, 4096, 64)
    rng = np.random.default_rng(5)
    query, key, value = (_reals(rng, heads, tokens, dim) for _ in range(3))
    scale = 1 / math.sqrt(dim)
    pairs = heads * (tokens * (tokens + 1) // 2 if causal else tokens * tokens)

    def expected() -> np.ndarray:
        found = np.empty(query.shape)
        for head in range(heads):  # one head's scores at a time: all of them are gigabytes
            scores = query[head].astype(float) @ key[head].T * scale
            if causal:
                scores[~np.tri(tokens, dtype=bool)] = -np.inf
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            found[head] = scores / scores.sum(axis=1, keepdims=True) @ value[head]
        return found

    ladder = Ladder(
        "causal attention" if causal else "attention",
        "3.6",
        f"{heads} heads, {tokens:,} tokens of {dim} float32",
        4 * query.nbytes,
        4 * dim * pairs,  # a multiply and an add for the score and for the output, a dimension
        expected,
    )
    arrays = [machine.array(a) for a in (query, key, value)]
    out, sums = _unwritten(machine, *query.shape), _unwritten(machine, heads, tokens)
    kernel = machine.kernel(flash_attention.flash_attention_kernel(dim, causal))
    grid = (-(-tokens // flash_attention.QUERIES), heads)
    configured = kernel[grid, 32 * flash_attention.QUERIES]
    ladder.add("flash_attention", partial(configured, *arrays, np.float32(scale), out, sums), out)
    theirs = _like(machine, out)
    library = machine.library("attention", *arrays, theirs, causal=causal)
    ladder.add("library", library, theirs, baseline=True)
    return ladder


def paged_decodes(machine: Machine, quick: bool = False) -> Ladder:
    """One new token a sequence over a cache in scattered blocks, against a copy of its bytes."""
    seqs, context, kv_heads, group, dim = (3, 50, 2, 2, 32) if quick else (64, 4096, 8, 4, 128)
    block_size = 16
    rng = np.random.default_rng(6)
    per_seq = -(-context // block_size)
    shape = (seqs * per_seq, block_size, kv_heads, dim)
    key_cache, value_cache = _reals(rng, *shape), _reals(rng, *shape)
    table = rng.permutation(seqs * per_seq).reshape(seqs, per_seq).astype(np.int32)
    query = _reals(rng, seqs, kv_heads * group, dim)
    scale = 1 / math.sqrt(dim)

    def expected() -> np.ndarray:
        found = np.empty(query.shape)
        for seq in range(seqs):
            keys, values = (
                cache[table[seq]].reshape(-1, kv_heads, dim)[:context].transpose(1, 0, 2)
                for cache in (key_cache, value_cache)
            )  # [kv_heads, context, dim]
            q = query[seq].reshape(kv_heads, group, dim).astype(float)
            scores = q @ keys.transpose(0, 2, 1) * scale  # [kv_heads, group, context]
            scores = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights = scores / scores.sum(axis=2, keepdims=True)
            found[seq] = (weights @ values).reshape(-1, dim)
        return found

    nbytes = 2 * 4 * seqs * context * kv_heads * dim  # keys and values, each read once
    ladder = Ladder(
        "paged attention",
        "3.6",
        f"{seqs} sequences of {context:,} tokens, {kv_heads} kv heads x {group}, {dim} float32",
        nbytes,
        0,
        expected,
    )
    caches = [machine.array(a) for a in (key_cache, value_cache)]
    lengths = machine.array(np.full(seqs, context, np.int32))
    out = _unwritten(machine, *query.shape)
    kernel = machine.kernel(paged_attention.paged_attention_kernel(dim, group))
    configured = kernel[(kv_heads, seqs), 32 * group]
    arrays = (machine.array(query), *caches, machine.array(table), lengths)
    ladder.add("paged_attention", partial(configured, *arrays, np.float32(scale), out), out)
    _add_copy(machine, ladder, caches[0], _like(machine, caches[0]))  # reads and writes as many
    return ladder


def ladders(machine: Machine, quick: bool = False) -> Iterator[Ladder]:
    """Each ladder, its arrays made only when it is asked for. quick: small sizes, to try it out."""
    makes = (vector_add, copies, transposes, matmuls, reductions, softmaxes, attentions)
    for make in (*makes, partial(attentions, causal=True), paged_decodes):
        yield make(machine, quick)


def relative_error(output: np.ndarray, expected: np.ndarray) -> float:
    """norm(output - expected) / norm(expected): infinite where any element is not finite."""
    difference = np.linalg.norm(output.astype(float).ravel() - expected.ravel())
    found = difference / max(np.linalg.norm(expected.ravel()), np.finfo(float).tiny)
    return float(found) if math.isfinite(found) else math.inf
