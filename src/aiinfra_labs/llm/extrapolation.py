"""A small decoder whose way of telling positions can be exchanged, and its loss by position.

Unit 1.2. The model is Llama's block over bytes of Python text, so that the ways differ in nothing
else: same data, same seed, same size. B: batch, T: tokens, C: width, H: heads, D: head_dim.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from . import checkpoint, rope_scaling
from .corpus import Document, documents
from .embedding import TokenEmbedding
from .llama import MLP, LlamaConfig, RMSNorm
from .positions import (
    LearnedPositions,
    alibi_bias,
    alibi_slopes,
    rope_angles,
    rope_frequencies,
    rotate,
    sinusoidal,
)
from .training import Recipe

WAYS = ("none", "learned", "sinusoidal", "rope", "alibi")
TRAINED = 128  # tokens of a window in training
SHAPE = LlamaConfig(
    vocab_size=256,  # a token is a byte
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=TRAINED,
)
RECIPE = Recipe(
    steps=1000,
    batch=16,
    context=TRAINED,
    learning_rate=3e-3,
    warm_up=60,
    precision="bfloat16",
)
# Some steps at four times the length, for frequencies that were changed.
LONGER = Recipe(
    steps=60,
    batch=8,
    context=4 * TRAINED,
    learning_rate=5e-4,
    final_learning_rate=5e-5,
    warm_up=5,
    seed=1,
    precision="bfloat16",
)


@dataclass(frozen=True)
class Angles:
    """How RoPE turns: frequencies float32 [D / 2], and what cos and sin are multiplied by."""

    frequencies: Tensor
    scale: float = 1.0


def scalings(factor: float, config: LlamaConfig = SHAPE) -> dict[str, Angles]:
    """Every rule of `rope_scaling` for a model of this shape, by name, and RoPE as it was."""
    d, base, trained = config.head_dim, config.rope_theta, config.max_position_embeddings
    plain = rope_frequencies(d, base)
    return {
        "as trained": Angles(plain),
        "linear": Angles(rope_scaling.linear(plain, factor)),
        "NTK": Angles(rope_scaling.ntk(d, base, factor)),
        "Llama 3": Angles(rope_scaling.llama3(plain, factor, trained)),
        "YaRN": Angles(*rope_scaling.yarn(d, base, factor, trained)),
    }


class Attention(nn.Module):
    """Causal multi-head attention, with whatever the way of positions does to it."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.heads, c = config.num_attention_heads, config.hidden_size
        self.qkv_proj = nn.Linear(c, 3 * c, bias=False)
        self.o_proj = nn.Linear(c, c, bias=False)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, bias: Tensor | None
    ) -> Tensor:
        """[B, T, C] to [B, T, C]. angles: (cos, sin), [T, D / 2] each. bias: [H, T, T]."""
        b, t, c = x.shape
        split = self.qkv_proj(x).view(b, t, 3, self.heads, c // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # [B, H, T, D] each
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, is_causal=bias is None
        )
        return self.o_proj(out.transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, bias: Tensor | None
    ) -> Tensor:
        """[B, T, C] to [B, T, C]; angles and bias go to the attention."""
        x = x + self.attention(self.attention_norm(x), angles, bias)
        return x + self.mlp(self.mlp_norm(x))


class PositionModel(nn.Module):
    """A decoder that knows positions in one of `WAYS`: bytes [B, T] to logits [B, T, 256]."""

    def __init__(self, way: str, config: LlamaConfig = SHAPE):
        super().__init__()
        if way not in WAYS:
            raise bounds.SettingError(f"way is {way!r}", "the model has five", ", ".join(WAYS))
        self.way, self.config = way, config
        self.embed_tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if way == "learned":  # last, so that the other weights begin alike in all ways
            rows = config.max_position_embeddings
            self.positions = LearnedPositions(rows, config.hidden_size)
        self.angles = Angles(rope_frequencies(config.head_dim, config.rope_theta))

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 [B, T]. Learned positions raise ValueError past their table."""
        t = ids.shape[1]
        where = torch.arange(t, device=ids.device)
        x = self.embed_tokens(ids)  # [B, T, C]
        angles = bias = None
        if self.way == "learned":
            x = x + self.positions(where)
        elif self.way == "sinusoidal":
            # Scaled to the size that tokens begin with, 0.02 (Vaswani et al. scale tokens up).
            x = x + (0.02 * sinusoidal(where, self.config.hidden_size)).to(x.dtype)
        elif self.way == "rope":
            cos, sin = rope_angles(where, self.angles.frequencies.to(ids.device))
            angles = cos * self.angles.scale, sin * self.angles.scale
        elif self.way == "alibi":
            slopes = alibi_slopes(self.config.num_attention_heads).to(ids.device)
            behind = torch.ones(t, t, dtype=torch.bool, device=ids.device).triu(1)
            bias = alibi_bias(slopes, t, t).masked_fill(behind, float("-inf")).to(x.dtype)
        for block in self.layers:
            x = block(x, angles, bias)
        return self.norm(x) @ self.embed_tokens.weight.T

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next byte, in nats. ids, targets: int64 [B, T]."""
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten())


# --- text, and the loss by position ---------------------------------------------------------------


def byte_streams(found: Iterable[Document] | None = None) -> tuple[Tensor, Tensor]:
    """(bytes to train on, bytes held out), uint8 [n] each: all texts, a zero byte after each."""
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for document in documents() if found is None else found:
        parts[document.held_out].append(document.text.encode() + b"\0")
    training, held_out = (np.frombuffer(b"".join(part), np.uint8).copy() for part in parts)
    return torch.from_numpy(training), torch.from_numpy(held_out)


def windows(tokens: Tensor, length: int, count: int) -> Tensor:
    """`count` windows of length + 1 tokens, spread evenly over the stream: int64 [count, T + 1].

    Raises ValueError where the stream is shorter than one window, or for no window.
    """
    bounds.whole("length", length, "tokens of a window")
    bounds.whole("count", count, "windows to cut", 1, 2**20)
    if len(tokens) <= length:
        raise bounds.SettingError(
            f"{len(tokens):,} tokens, and a window is {length + 1:,}",
            "a loss at the last position needs a text that is that long",
            "more text, or shorter windows",
        )
    starts = torch.linspace(0, len(tokens) - length - 1, count).long()
    return tokens[starts[:, None] + torch.arange(length + 1)].long()


@torch.no_grad()
def loss_by_position(model: nn.Module, text: Tensor, batch: int = 8) -> Tensor:
    """Mean loss of the next token at each position, nats: float32 [T].

    text: int64 [windows, T + 1], as `windows` cuts it. Each window starts at position 0. batch:
    windows at a time. Raises ValueError for none.
    """
    bounds.whole("batch", batch, "windows that go through the model at a time")
    if text.dim() != 2 or not len(text) or text.shape[1] < 2:
        raise bounds.SettingError(
            f"text is {list(text.shape)}",
            "each row is a window of at least two tokens: one that is seen, one to predict",
            "windows(tokens, length, count)",
        )
    model.eval()
    total = torch.zeros(text.shape[1] - 1)
    for part in text.split(batch):
        logits = model(part[:, :-1])  # [B, T, V]
        losses = F.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none")
        total += losses.sum(0).cpu()
    return total / len(text)


def binned(losses: Tensor, width: int) -> Tensor:
    """Means over `width` positions each: float32 [T / width]. losses: float32 [T].

    Raises ValueError for a width that does not divide T.
    """
    bounds.whole("width", width, "positions of a mean")
    if len(losses) % width:
        raise bounds.SettingError(
            f"{len(losses)} positions in means of {width}",
            "the last mean would be of fewer",
            f"a width that divides {len(losses)}",
        )
    return losses.view(-1, width).mean(1)


# --- the model that is stored ---------------------------------------------------------------------


def stored_file() -> Path:
    """Where the package keeps the RoPE model of `benchmarks/positions.py`, in float16."""
    return Path(str(files(__package__).joinpath("data", "rope_bytes.safetensors")))


def save_stored(model: PositionModel, path: Path | str) -> None:
    """Write the weights in float16: half the bytes."""
    checkpoint.save(path, checkpoint.as_float16(model), {"way": model.way})


def load_stored(path: Path | str | None = None) -> PositionModel:
    """The RoPE model, trained on windows of `TRAINED` bytes. Raises `CheckpointError`."""
    path = stored_file() if path is None else bounds.path("path", path)
    tensors, state = checkpoint.load(path)
    model = PositionModel(state.get("way", "rope"))
    checkpoint.fill(model, {name: t.float() for name, t in tensors.items()}, path.name)
    return model.eval()
