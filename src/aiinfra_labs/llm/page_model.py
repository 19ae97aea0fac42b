"""The trained model that a page generates with: the course's own, or a stand-in. Unit 1.5.

`course_model` takes long to train, and its files lie in `model/` beside the course. Where they are
not there, a smaller one is loaded from the package: the same corpus, the same vocabulary size, a
quarter of the parameters, minutes of training. Its card says how it was made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import course_model
from .bpe import Tokenizer
from .llama import Llama

STAND_IN = Path(__file__).parent / "data" / "stand_in"


def folder() -> Path:
    """`model/` of the course that this file lies in, if it is there; else the stand-in's folder."""
    for above in Path(__file__).resolve().parents:
        if (above / "model" / "model.safetensors").is_file():
            return above / "model"
    return STAND_IN


def load() -> tuple[Llama, Tokenizer]:
    """The model, ready to generate, and its tokenizer."""
    return course_model.load_model(folder())


def card() -> dict[str, Any]:
    """What it was trained on, for how long, and how well it does."""
    return json.loads((folder() / "card.json").read_text(encoding="utf-8"))
