"""The course's own model, which `make model` trained and the course's repository holds. Unit 1.5.

Its files lie in `model/` beside the course. Where the package is installed without them,
AIINFRA_MODEL names the folder. Its card says how the model was made, and how well it does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import course_model
from .bpe import Tokenizer
from .checkpoint import CheckpointError
from .llama import Llama


def folder() -> Path:
    """AIINFRA_MODEL, or `model/` of the course that this file lies in. Raises `CheckpointError`."""
    if named := os.environ.get("AIINFRA_MODEL"):
        return Path(named)
    for above in Path(__file__).resolve().parents:
        if (above / "model" / "model.safetensors").is_file():
            return above / "model"
    raise CheckpointError(
        "the course's model is not here",
        "it lies in model/ of the course's repository, and this package is installed without it",
        "AIINFRA_MODEL=the model/ of a clone, or `make model` there, which trains it anew",
    )


def load() -> tuple[Llama, Tokenizer]:
    """The model, ready to generate, and its tokenizer."""
    return course_model.load_model(folder())


def card() -> dict[str, Any]:
    """What it was trained on, for how long, and how well it does."""
    return json.loads((folder() / "card.json").read_text(encoding="utf-8"))
