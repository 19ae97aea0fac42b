"""The settings that a model's makers recommend, in generation_config.json. Unit 4.3.

vLLM, too, takes them for requests that bring no settings.
"""

from __future__ import annotations

from pathlib import Path

from .config_file import read_json
from .errors import LoadError, RequestError
from .sampling_params import SamplingParams

TAKEN = {  # transformers' name: ours
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}


def sampling_defaults(folder: Path) -> SamplingParams:
    """What the file recommends, and this course's defaults for the rest. Raises `LoadError`.

    `do_sample` false means the likeliest token, whatever temperature stands beside it; true without
    a temperature means 1, as in transformers.
    """
    file = folder / "generation_config.json"
    if not file.exists():
        return SamplingParams()
    found = read_json(file)
    wanted = {ours: found[name] for name, ours in TAKEN.items() if found.get(name) is not None}
    if found.get("do_sample"):
        wanted.setdefault("temperature", 1.0)
    elif found.get("do_sample") is False:
        wanted["temperature"] = 0.0
    try:
        return SamplingParams(**wanted)
    except RequestError as error:
        raise LoadError(
            f"{file.name} recommends what no request may ask for: {str(error).splitlines()[0]}",
            "these are the settings of every request that brings none",
            "the file as it was saved with the model, or none",
        ) from None
