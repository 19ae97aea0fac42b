"""Image, sound and text as one sequence of tokens, read by one decoder. Unit 1.8.

A decoder asks for vectors of one width, and does not ask where they come from. A word is looked up
in a table; a patch of an image and a frame of sound are each multiplied by a matrix (as in Fuyu
and LLaVA, arXiv:2304.08485). Behind that, all is the decoder of `llama.py`. B: batch, T: tokens,
C: width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from ..attention import causal_mask
from ..llama import Decoder, LlamaConfig
from ..positions import rope_angles

NOT_GRADED = -1


@dataclass(frozen=True)
class Segment:
    """A stretch of the stream of one kind: "image", "sound" or "text".

    values: the rows that its matrix takes, float32 [B, n, size]; for text, ids, int64 [B, n].
    graded: whether these tokens are to be predicted: an answer, and not what it is about.
    """

    kind: str
    values: Tensor
    graded: bool = False

    def __len__(self) -> int:
        return self.values.shape[1]


def targets(segments: Sequence[Segment]) -> Tensor:
    """What each place of the stream is to predict: int64 [B, T], the next id or -1.

    The token before an answer predicts its first one. No patch and no frame is ever predicted.
    Raises ValueError for no segment, or one of patches or frames that is graded.
    """
    _checked(segments)
    parts = [s.values if s.graded else torch.full(s.values.shape[:2], NOT_GRADED) for s in segments]
    ahead = torch.cat(parts, dim=1)[:, 1:]  # place t predicts what stands at t + 1
    return F.pad(ahead, (0, 1), value=NOT_GRADED)


def visible(segments: Sequence[Segment]) -> Tensor:
    """What each place may look at: bool [T, T], a row a place that looks.

    What came before, as for text; and within one image also what comes behind, for its patches
    have no first and last (Transfusion, arXiv:2408.11039, section 3.1). `OneStream` does without,
    as Chameleon does (arXiv:2405.09818): it is causal throughout. Raises ValueError for no segment.
    """
    _checked(segments)
    number = torch.cat([torch.full((len(s),), i) for i, s in enumerate(segments)])  # [T]
    image = torch.tensor([s.kind == "image" for s in segments])[number]
    together = (number[:, None] == number) & image  # [T, T]
    return causal_mask(len(number), len(number)) | together


def kinds(segments: Sequence[Segment]) -> list[str]:
    """The kind of each token of the stream."""
    return [s.kind for s in segments for _ in range(len(s))]


def _checked(segments: Sequence[Segment]) -> None:
    """Segments of one batch, of which words alone are to be predicted."""
    sizes = sorted({len(segment.values) for segment in segments})
    if len(sizes) != 1:
        raise bounds.SettingError(
            f"{len(segments)} segments, of batches of {sizes}",
            "they are laid side by side, a row for each of the batch",
            "at least one segment, and as many rows in each",
        )
    for segment in segments:
        if segment.graded and segment.kind != "text":
            raise bounds.SettingError(
                f"a segment of kind {segment.kind!r} is graded",
                "the output is words: no patch and no frame can be predicted",
                "graded=True for text alone",
            )


class OneStream(nn.Module):
    """A Llama whose input may be patches and frames besides words; its output is words."""

    def __init__(self, config: LlamaConfig, sizes: dict[str, int]):
        super().__init__()
        self.decoder = Decoder(config)
        self.project = nn.ModuleDict(
            {kind: nn.Linear(size, config.hidden_size) for kind, size in sizes.items()}
        )
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for weight in (self.head.weight, self.decoder.embed_tokens.weight):
            nn.init.normal_(weight, std=0.1)

    def embed(self, segments: Sequence[Segment]) -> Tensor:
        """Every token as a vector, in the stream's order: [B, T, C]."""
        return torch.cat([self.vectors(segment) for segment in segments], dim=1)

    def vectors(self, segment: Segment) -> Tensor:
        """The tokens of one segment: [B, n, C]. Raises ValueError for a kind or an id unknown."""
        if segment.kind == "text":
            return self.decoder.embed_tokens(segment.values)
        if segment.kind not in self.project:
            raise bounds.SettingError(
                f"a segment of kind {segment.kind!r}",
                "the model has a matrix for each kind that it was built for, and no other",
                f"text, {', '.join(self.project)}",
            )
        matrix = self.project[segment.kind]
        if segment.values.shape[-1] != matrix.in_features:
            raise bounds.SettingError(
                f"{segment.kind}: rows of {segment.values.shape[-1]} numbers",
                f"its matrix takes {matrix.in_features}",
                "patches and frames of the size that the model was built for",
            )
        return matrix(segment.values.to(matrix.weight.dtype))

    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Logits of the next word at each place: [B, T, vocabulary]. Positions run through.

        Raises ValueError for no segment, or more tokens than the context.
        """
        _checked(segments)
        x = self.embed(segments)
        most = self.decoder.config.max_position_embeddings
        bounds.whole("the tokens of the stream", x.shape[1], "the decoder's context", 1, most)
        where = torch.arange(x.shape[1], device=x.device)
        cos, sin = rope_angles(where, self.decoder.frequencies)
        for block in self.decoder.layers:
            x = block(x, cos, sin)
        return self.head(self.decoder.norm(x))

    def loss(self, segments: Sequence[Segment]) -> Tensor:
        """Mean cross-entropy of the graded tokens, nats."""
        logits = self(segments)
        return F.cross_entropy(
            logits.flatten(0, 1), targets(segments).flatten(), ignore_index=NOT_GRADED
        )

    @torch.no_grad()
    def answer(self, segments: Sequence[Segment]) -> Tensor:
        """The likeliest word behind the stream: int64 [B]."""
        return self(segments)[:, -1].argmax(-1)
