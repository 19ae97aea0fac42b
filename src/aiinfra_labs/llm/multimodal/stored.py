"""The models of unit 1.8 that take too long for a page, as `benchmarks/multimodal.py` made them.

Small files in the package's data, in float16: the weights, and when and how they were trained.
Unit 1.8.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aiinfra_labs import bounds

from .. import checkpoint
from . import colours, questions, scenes
from .captioner import Captioner
from .contrastive import Clip
from .stream import OneStream

LESSONS = {
    "clip": colours.Lesson(),
    "clip_numbered": colours.Lesson(reads=False),
    "clip_without_seven": colours.Lesson(without=7),
    "captioner": scenes.Lesson(),
    "stream": questions.Lesson(),
}


def built(name: str) -> nn.Module:
    """The module that a name's weights belong in, with those of chance. Raises ValueError."""
    bounds.one_of("the model", name, LESSONS, "these are stored, with the lesson of each")
    if name.startswith("clip"):
        return colours.model_of(LESSONS[name])
    if name == "captioner":
        return Captioner(len(scenes.WORDS), scenes.PATCHES, scenes.LENGTH)
    return OneStream(questions.CONFIG, questions.SIZES)


def file(name: str) -> Path:
    """Where the package keeps a model that `benchmarks/multimodal.py` trained."""
    return Path(str(files("aiinfra_labs.llm").joinpath("data", f"{name}.safetensors")))


def save(model: nn.Module, path: Path, card: dict[str, Any]) -> None:
    """Weights in float16, and a card in the header."""
    checkpoint.save(path, checkpoint.as_float16(model), card)


def load(name: str) -> tuple[Any, dict[str, Any]]:
    """(the model, ready to use, in float32; its card). Raises `CheckpointError`: see there."""
    path = file(name)
    tensors, card = checkpoint.load(path)
    model = built(name)
    checkpoint.fill(model, {k: t.to(torch.float32) for k, t in tensors.items()}, path.name)
    return model.eval(), card


@torch.no_grad()
def save_space(model: Clip, path: Path) -> None:
    """Write down where the model puts pictures and prompts of pairs that it was never shown."""
    images, concepts = colours.pictures(held_out=True)
    prompts = [c.said(t) for c in colours.ALL for t in colours.UNSEEN]
    tensors = {
        "images": model.of_images(images).half(),  # [B, D]
        "prompts": model.of_texts(prompts).unflatten(0, (len(colours.ALL), -1)).half(),  # [K, P, D]
        "concepts": concepts,  # [B]
    }
    checkpoint.save(path, tensors, {})


def load_space() -> tuple[Tensor, Tensor, Tensor]:
    """(images [B, D], prompts [K, P, D], which class each image is of [B]), without any model."""
    tensors, _ = checkpoint.load(file("clip_space"))
    return tensors["images"].float(), tensors["prompts"].float(), tensors["concepts"]
