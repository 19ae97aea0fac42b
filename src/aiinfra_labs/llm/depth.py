"""What the sum around each part, and the norm before it, do for a deep stack. Unit 1.4.

The same blocks with the same weights, four ways: x becomes part(x), part(norm(x)), x + part(x) or
x + part(norm(x)). What arrives of the gradient at the bottom is measured, and what each learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from .llama import Llama, LlamaConfig
from .positions import rope_angles


@dataclass(frozen=True)
class Wiring:
    """How the parts of a stack are joined."""

    name: str
    residual: bool  # x + part(...), or part(...) alone
    norm: bool  # part(norm(x)), or part(x)


WIRINGS = (
    Wiring("neither", False, False),
    Wiring("norm alone", False, True),
    Wiring("sum alone", True, False),
    Wiring("sum and norm", True, True),
)
BYTES, CONTEXT = 256, 32


class Stack(nn.Module):
    """A byte-level decoder whose blocks are Llama's, joined as `wiring` says."""

    def __init__(self, wiring: Wiring, layers: int, width: int = 64, seed: int = 0):
        super().__init__()
        bounds.whole("seed", seed, "weights are drawn from it", 0, 2**63 - 1)
        bounds.whole("layers", layers, "blocks of the stack", 1, 2**12)
        bounds.whole("width", width, "of the residual stream, in 4 heads of pairs", 8, 2**20)
        torch.manual_seed(seed)  # the same weights, however they are joined
        self.wiring = wiring
        config = LlamaConfig(
            BYTES, width, 2 * width, layers, 4, 4, CONTEXT, tie_word_embeddings=False
        )
        self.llama = Llama(config)
        for weight in self.llama.model.parameters():
            if weight.dim() > 1:  # so that no product makes x larger or smaller: fair to all four
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        nn.init.normal_(self.llama.model.embed_tokens.weight)

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """ids: int64 [B, T]. Returns logits [B, T, 256], and x [B, T, C] before and behind each
        block."""
        decoder = self.llama.model
        cos, sin = rope_angles(torch.arange(ids.shape[1]), decoder.frequencies)
        x = decoder.embed_tokens(ids)  # [B, T, C]
        seen = [x]
        for block in decoder.layers:
            x = self.join(x, block.input_layernorm, lambda x, b=block: b.self_attn(x, cos, sin))
            x = self.join(x, block.post_attention_layernorm, block.mlp)
            seen.append(x)
        return self.llama.lm_head(decoder.norm(x)), seen

    def join(self, x: Tensor, norm: nn.Module, part: nn.Module) -> Tensor:
        """What becomes of x [B, T, C] behind a part: as the wiring says, with its norm and sum."""
        change = part(norm(x)) if self.wiring.norm else part(x)
        return x + change if self.wiring.residual else change

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next byte, in nats. ids, targets: int64 [B, T]."""
        return F.cross_entropy(self(ids)[0].flatten(0, 1), targets.flatten())


def gradient_norms(wiring: Wiring, layers: int, seed: int = 0) -> list[float]:
    """Of the loss by x, before the first block, behind it, ..., behind the last: layers + 1 norms.

    At the start of training, on random bytes. Raises ValueError for no layer.
    """
    stack = Stack(wiring, layers, seed=seed)
    window = torch.randint(BYTES, (4, CONTEXT + 1))
    logits, seen = stack(window[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
    return [float(gradient.norm()) for gradient in torch.autograd.grad(loss, seen)]


def learn(
    wiring: Wiring, layers: int, text: bytes, steps: int = 40, width: int = 32, seed: int = 0
) -> list[float]:
    """The loss of each step, in nats a byte: AdamW, the same batches for every wiring.

    text: more bytes than a window, CONTEXT. Raises ValueError for less, or for no step.
    """
    bounds.whole("steps", steps, "updates of the training", 1, 2**20)
    if not isinstance(text, bytes) or len(text) <= CONTEXT:
        raise bounds.SettingError(
            f"a text of {len(text)} bytes" if isinstance(text, bytes) else f"{type(text).__name__}",
            f"windows of {CONTEXT} bytes and the one that follows are cut from it",
            "text.encode(), of a longer text",
        )
    stack = Stack(wiring, layers, width, seed)
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    optimizer = torch.optim.AdamW(stack.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        starts = torch.randint(len(data) - CONTEXT, (8, 1))
        window = data[starts + torch.arange(CONTEXT + 1)]  # [B, T + 1]
        loss = stack.loss(window[:, :-1], window[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(stack.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses
