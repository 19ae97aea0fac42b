"""The draft model of the course's model: how it was distilled, and its files. Unit 4.4.

    python -m aiinfra_labs.cloud.serving.draft_model [--folder FOLDER] [--steps N]

Two layers instead of six, 96 wide instead of 256, the same tokenizer. It learns the probabilities
that the course's model gives, not the next token of the text: what is accepted of its drafts is
what both have in common (Hinton et al., arXiv:1503.02531; Leviathan et al., arXiv:2211.17192,
section 4.1). The run can be killed at any time and started again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs.llm import course_model, page_model
from aiinfra_labs.llm.bpe import Tokenizer
from aiinfra_labs.llm.corpus import described_corpus, documents
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import Batches, Recipe, train

from . import loader
from .model import CausalLM

FOLDER = Path(__file__).parent / "data" / "draft"
CONFIG = LlamaConfig(
    vocab_size=course_model.VOCABULARY,
    hidden_size=96,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    max_position_embeddings=1024,
)
RECIPE = Recipe(
    steps=400, batch=8, context=256, learning_rate=4e-3, warm_up=20, precision="bfloat16"
)


def load(dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> CausalLM:
    """The draft model, for `speculative.DraftModel`."""
    return loader.load(FOLDER, dtype, device)


def card() -> dict[str, Any]:
    """What it learned from, and how much it has in common with the course's model."""
    return json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


class Distillation(nn.Module):
    """A draft that learns from a model: what `training.train` can train."""

    def __init__(self, draft: Llama, model: Llama):
        super().__init__()
        self.draft = draft
        self._model = (model,)  # in a tuple, so that it is no part of what is trained

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy against the model's probabilities, nats a token. `targets` are not read."""
        with torch.no_grad():
            p = self._model[0](ids).float().softmax(dim=-1)  # [B, T, V]
        return F.cross_entropy(self.draft(ids).float().flatten(0, 1), p.flatten(0, 1))


def begin(model: Llama, config: LlamaConfig = CONFIG) -> Llama:
    """A draft whose embedding is the model's, in the directions in which that varies most."""
    torch.manual_seed(0)
    draft = Llama(config)
    wide = model.model.embed_tokens.weight.detach()  # [V, C]
    _, _, directions = torch.linalg.svd(wide - wide.mean(dim=0), full_matrices=False)
    narrow = wide @ directions[: config.hidden_size].T  # [V, C of the draft]
    with torch.no_grad():
        draft.model.embed_tokens.weight.copy_(narrow)
    return draft


@torch.no_grad()
def in_common(draft: Llama, model: Llama, tokens: Tensor, context: int = 256) -> dict[str, float]:
    """How much of a draft is accepted, over windows of held-out tokens.

    overlap: the mean of sum(min(p, q)), which is the rate of acceptance at temperature 1
    (Leviathan et al., corollary 3.6). same_best: how often both find the same token likeliest,
    which is the rate at temperature 0.
    """
    overlap, same, count = 0.0, 0.0, 0
    for window in tokens[: len(tokens) // context * context].long().view(-1, 1, context)[:200:4]:
        p, q = (m.eval()(window).softmax(dim=-1) for m in (model, draft))  # [1, T, V]
        overlap += float(torch.minimum(p, q).sum(dim=-1).mean())
        same += float((p.argmax(dim=-1) == q.argmax(dim=-1)).float().mean())
        count += 1
    return {"overlap": round(overlap / count, 4), "same_best": round(same / count, 4)}


def make(folder: Path, recipe: Recipe = RECIPE, file: Path | None = None) -> dict[str, Any]:
    """Distil the draft, or go on with it from the checkpoint `file`; returns its card."""
    from tqdm.auto import tqdm

    model, tokenizer = page_model.load()
    model.requires_grad_(False)
    training, held_out = course_model.split(documents())
    tokens = course_model.token_stream(tokenizer, training)
    draft = begin(model)
    pupil = Distillation(draft, model)
    start = time.process_time()
    steps = train(pupil, Batches(tokens, recipe), recipe, file=file, every=50)
    with tqdm(total=recipe.steps, unit="step") as bar:
        for step in steps:
            bar.n = step.number + 1
            bar.set_postfix(loss=f"{step.loss:.3f}")
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "corpus": described_corpus(),
        "parameters": draft.parameter_count(),
        "distilled_from": {"parameters": model.parameter_count()},
        "recipe": asdict(recipe),
        "seen_tokens": recipe.steps * recipe.tokens_per_step,
        "processor_seconds_since_the_last_start": round(time.process_time() - start),
        "in_common_on_held_out_text": in_common(draft, model, _held_out(tokenizer, held_out)),
    }
    course_model.save_model(folder, draft, tokenizer, found)
    return found


def _held_out(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    return course_model.token_stream(tokenizer, texts)


def main() -> None:
    """The command: train the draft model, and write it where it is told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, help="to try it out")
    parser.add_argument("--checkpoint", type=Path, help="a file to go on from")
    options = parser.parse_args()
    recipe = replace(RECIPE, steps=options.steps) if options.steps else RECIPE
    print(json.dumps(make(options.folder, recipe, options.checkpoint), indent=1))


if __name__ == "__main__":
    main()
