"""The transformer of the paper: an encoder reads, a decoder writes. Unit 1.4.

Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3. With the same weights it
computes what `torch.nn.Transformer` computes in evaluation: `weights_of` hands them over. Dropout,
which only training has, is left out. B: batch, S: source tokens, T: target tokens, C: width, H:
heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from .attention import MultiHeadAttention, causal_mask
from .embedding import TokenEmbedding
from .positions import sinusoidal


@dataclass(frozen=True)
class EncoderDecoderShape:
    """The shape of a model. The defaults are the paper's base model, and torch's."""

    width: int = 512
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    hidden: int = 2048  # of the feed-forward network
    pre_norm: bool = False  # the paper's is post-norm: norm(x + part(x))

    def __post_init__(self) -> None:
        for name in ("width", "heads", "encoder_layers", "decoder_layers", "hidden"):
            bounds.whole(name, getattr(self, name), "a model has at least one of each")
        bounds.one_of("pre_norm", self.pre_norm, (True, False), "yes or no")


class FeedForward(nn.Module):
    """relu(x W1 + b1) W2 + b2, for each token by itself (section 3.3)."""

    def __init__(self, shape: EncoderDecoderShape):
        super().__init__()
        self.up = nn.Linear(shape.width, shape.hidden)
        self.down = nn.Linear(shape.hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """float [..., C] to [..., C]."""
        return self.down(F.relu(self.up(x)))


class Residual(nn.Module):
    """The sum around a part, and the norm: after the sum (the paper), or before the part."""

    def __init__(self, shape: EncoderDecoderShape):
        super().__init__()
        self.norm, self.pre_norm = nn.LayerNorm(shape.width), shape.pre_norm

    def forward(self, x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        """x: [B, T, C]; part: from [B, T, C] to [B, T, C]."""
        if self.pre_norm:
            return x + part(self.norm(x))
        return self.norm(x + part(x))


class EncoderLayer(nn.Module):
    """Each source token sees all others, before and behind it; then the feed-forward network."""

    def __init__(self, shape: EncoderDecoderShape):
        super().__init__()
        self.self_attention = MultiHeadAttention(shape.width, shape.heads)
        self.feed_forward = FeedForward(shape)
        self.residuals = nn.ModuleList(Residual(shape) for _ in range(2))

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """x: [B, S, C]. there: bool [B, S], False where a row of the batch is padded."""
        mask = None if there is None else there[:, None, None]  # [B, 1, 1, S]: of keys
        x = self.residuals[0](x, lambda x: self.self_attention(x, mask=mask)[0])
        return self.residuals[1](x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Three parts: target tokens see those before them, then the source, then the network.

    `cross_weights` are those of its last look at the source: [B, H, T, S].
    """

    def __init__(self, shape: EncoderDecoderShape):
        super().__init__()
        self.self_attention = MultiHeadAttention(shape.width, shape.heads)
        self.cross_attention = MultiHeadAttention(shape.width, shape.heads)
        self.feed_forward = FeedForward(shape)
        self.residuals = nn.ModuleList(Residual(shape) for _ in range(3))
        self.cross_weights: Tensor | None = None

    def forward(self, x: Tensor, memory: Tensor, there: Tensor | None = None) -> Tensor:
        """x: [B, T, C]. memory: [B, S, C], of the encoder. there: bool [B, S], of the source."""
        causal = causal_mask(x.shape[1], x.shape[1], x.device)
        mask = None if there is None else there[:, None, None]

        def look_at_source(x: Tensor) -> Tensor:
            out, weights = self.cross_attention(
                x, memory, mask
            )  # queries x, keys and values memory
            self.cross_weights = weights.detach()
            return out

        x = self.residuals[0](x, lambda x: self.self_attention(x, mask=causal)[0])
        x = self.residuals[1](x, look_at_source)
        return self.residuals[2](x, self.feed_forward)


class EncoderDecoder(nn.Module):
    """Both stacks, each closed by a norm: vectors in, vectors out, as `torch.nn.Transformer`."""

    def __init__(self, shape: EncoderDecoderShape):
        super().__init__()
        self.shape = shape
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.encoder_norm, self.decoder_norm = (nn.LayerNorm(shape.width) for _ in range(2))

    def encode(self, source: Tensor, there: Tensor | None = None) -> Tensor:
        """Once for a source: [B, S, C] to the memory [B, S, C], all tokens at the same time."""
        for layer in self.encoder:
            source = layer(source, there)
        return self.encoder_norm(source)

    def decode(self, target: Tensor, memory: Tensor, there: Tensor | None = None) -> Tensor:
        """[B, T, C] to [B, T, C]: what stands at t was made of targets up to t, and the memory."""
        for layer in self.decoder:
            target = layer(target, memory, there)
        return self.decoder_norm(target)

    def forward(self, source: Tensor, target: Tensor, there: Tensor | None = None) -> Tensor:
        """source: float [B, S, C]. target: float [B, T, C]. there: bool [B, S]. To [B, T, C]."""
        return self.decode(target, self.encode(source, there), there)


class Seq2Seq(nn.Module):
    """Ids to logits: one embedding, sinusoidal positions, both stacks, one projection."""

    START = 0  # the id that a target begins with

    def __init__(self, vocabulary: int, shape: EncoderDecoderShape):
        super().__init__()
        bounds.whole("vocabulary", vocabulary, "ids that source and target may have")
        self.embedding = TokenEmbedding(vocabulary, shape.width)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        self.stacks = EncoderDecoder(shape)
        self.head = nn.Linear(shape.width, vocabulary)

    def embed(self, ids: Tensor) -> Tensor:
        """int64 [B, T] to [B, T, C]. The paper's factor makes tokens as large as positions.

        Raises ValueError for an id outside the vocabulary.
        """
        width = self.embedding.embedding_dim
        positions = sinusoidal(torch.arange(ids.shape[1], device=ids.device), width)
        tokens = self.embedding(ids) * width**0.5
        return tokens + positions.to(tokens.dtype)

    def forward(self, source: Tensor, target: Tensor, there: Tensor | None = None) -> Tensor:
        """source: int64 [B, S]; target: int64 [B, T]. Returns logits [B, T, vocabulary]."""
        return self.head(self.stacks(self.embed(source), self.embed(target), there))

    def loss(self, source: Tensor, target: Tensor, there: Tensor | None = None) -> Tensor:
        """Cross-entropy of each target token, given the source and the targets before it, nats.

        In training the right target is known: the decoder is shown it, one place to the right.
        """
        shown = F.pad(target[:, :-1], (1, 0), value=self.START)  # [B, T]
        return F.cross_entropy(self(source, shown, there).flatten(0, 1), target.flatten())

    @torch.no_grad()
    def write(self, source: Tensor, length: int, there: Tensor | None = None) -> Tensor:
        """The likeliest token each time: int64 [B, length]. The source is encoded once.

        Raises ValueError for a length below 0.
        """
        bounds.whole("length", length, "tokens to write", 0)
        self.eval()
        memory = self.stacks.encode(self.embed(source), there)
        target = source.new_full((len(source), 1), self.START)
        for _ in range(length):
            out = self.stacks.decode(self.embed(target), memory, there)  # [B, T, C]
            target = torch.cat((target, self.head(out[:, -1:]).argmax(-1)), dim=1)
        return target[:, 1:]


def weights_of(theirs: nn.Transformer) -> dict[str, Tensor]:
    """The weights of torch's transformer under our names, for `load_state_dict`.

    Raises ValueError for one whose feed-forward network has another function than relu.
    """
    layer = theirs.encoder.layers[0]
    if layer.activation is not F.relu:
        raise ValueError(
            f"its feed-forward network has {getattr(layer.activation, '__name__', 'another')}\n"
            "Why: the paper's, and ours, has relu\n"
            'Try: torch.nn.Transformer(activation="relu")'
        )
    found: dict[str, Tensor] = {}
    for name, value in theirs.state_dict().items():
        stack, _, rest = name.partition(".")
        if rest.startswith("norm"):
            found[f"{stack}_{rest}"] = value
            continue
        _, number, part, *end = rest.split(".")  # layers, 0, self_attn, in_proj_weight
        prefix, last = f"{stack}.{number}", ".".join(end)
        if part in ("self_attn", "multihead_attn"):
            ours = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}[part]
            if last.startswith("in_proj"):  # queries, keys and values in one: [3 C, C]
                kind = last.removeprefix("in_proj_")
                for which, piece in zip("qkv", value.chunk(3), strict=True):
                    found[f"{prefix}.{ours}.{which}_proj.{kind}"] = piece
            else:
                found[f"{prefix}.{ours}.{last.replace('out_proj', 'o_proj')}"] = value
        elif part.startswith("norm"):
            found[f"{prefix}.residuals.{int(part[4:]) - 1}.norm.{last}"] = value
        else:
            ours = {"linear1": "up", "linear2": "down"}[part]
            found[f"{prefix}.feed_forward.{ours}.{last}"] = value
    return found
