"""A model from a local folder: config.json and *.safetensors, as `transformers` saves them.

Unit 4.3. Llama, Mistral, Qwen2 and Qwen3. Every tensor of the file must have a place in the model
and every place a tensor. One tensor at a time is read, straight into its place: while a model is
loaded, it takes the memory of the model and of its largest tensor, not of the file once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .config_file import end_ids, load_config, read_json
from .errors import LoadError
from .model import CausalLM, ModelConfig

__all__ = [
    "Checkpoint",
    "LoadError",
    "end_ids",
    "fill",
    "load",
    "load_config",
    "read_json",
    "read_tensors",
]

# What the checkpoint keeps apart and the model below each other.
MERGED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
COMPUTED = ("rotary_emb.inv_freq",)  # in old files: a table that the model makes itself


def load(
    folder: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> CausalLM:
    """The model of a folder, ready to run. Raises `LoadError`."""
    folder = Path(folder)
    config = load_config(folder)
    tensors = read_tensors(folder)
    model = CausalLM.unfilled(config, dtype, device)
    fill(model, tensors)
    return model.eval().requires_grad_(False)


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of some files, by name. Each is read when it is asked for, and not kept.

    shapes: of all, from the files' headers. Raises `LoadError` where a file is not whole.
    """

    def __init__(self, files: list[Path]):
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Path] = {}
        for file in files:
            with _opened(file) as opened:
                for name in opened.keys():  # noqa: SIM118
                    self.shapes[name] = tuple(opened.get_slice(name).get_shape())
                    self._files[name] = file

    def __getitem__(self, name: str) -> Tensor:
        # A file that stays open stays mapped, with every page that was read: in the end, all of it.
        with _opened(self._files[name]) as opened:
            return opened.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    try:
        with safe_open(file, "pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise LoadError(
            f"{file.name} is no whole checkpoint: {error}",
            "its header or its numbers are cut off, or it is missing",
            "copy it again",
        ) from None


def read_tensors(folder: Path) -> Checkpoint:
    """All tensors of all *.safetensors, by name. Raises `LoadError`."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():  # a large checkpoint says which of its files holds what
        names = set(read_json(index).get("weight_map", {}).values())
        files = [folder / name for name in sorted(names)]
    elif (folder / "model.safetensors").exists():
        files = [folder / "model.safetensors"]  # whatever else lies beside it
    tensors = Checkpoint(files)
    if not tensors:
        raise LoadError(
            f"{folder.name} has no *.safetensors",
            "the weights are read from there; other formats can hold code, and are not opened",
            "model.save_pretrained(folder) of transformers writes one",
        )
    return tensors


def fill(model: CausalLM, tensors: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint into the model, one tensor at a time. Raises `LoadError`.

    Names and shapes are compared before anything is copied. Numbers that are none are found on the
    way: a model whose filling has failed is not to be used.
    """
    shapes = tensors.shapes if isinstance(tensors, Checkpoint) else None
    names = {n.removeprefix("model."): n for n in tensors if not n.endswith(COMPUTED)}
    places = list(_places(model))
    for part, place in places:
        if part not in names:
            raise LoadError(
                f"the checkpoint has no tensor {part}",
                "it is of a model of another shape, or a file of it is missing",
                "the config.json and all *.safetensors of one model",
            )
        shape = tuple(shapes[names[part]] if shapes else tensors[names[part]].shape)
        if shape != tuple(place.shape):
            raise LoadError(
                f"{part} is {list(shape)} in the checkpoint, and {list(place.shape)} by "
                "config.json",
                "weights and config are of two models",
                "the config.json that was saved with these weights",
            )
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if left := sorted(names.keys() - {part for part, _ in places} - tied):
        raise LoadError(
            f"the checkpoint has {left[0]}, which the model has not",
            f"{len(left)} of its tensors have no place, so that it is another model",
            "the config.json that was saved with these weights",
        )
    with torch.no_grad():
        for part, place in places:
            _copy(part, tensors[names[part]], place)
        for name in tied & names.keys():
            if not torch.equal(tensors[names[name]].to(model.lm_head.weight), model.lm_head.weight):
                raise LoadError(
                    f"config.json ties {name} to the embedding, and in the checkpoint they differ",
                    "one of the two would be lost, and with it the model's answers",
                    "tie_word_embeddings of false, if the model was trained so",
                )


def _copy(name: str, tensor: Tensor, place: Tensor) -> None:
    """Put a tensor into its place, unless it or what becomes of it holds no numbers."""
    if not tensor.is_floating_point():
        raise LoadError(
            f"{name} holds {str(tensor.dtype).removeprefix('torch.')}",
            "these are codes of a quantized model, and their scales are not applied here",
            "the checkpoint before it was quantized",
        )
    place.copy_(tensor)
    if not _is_finite(place):
        if _is_finite(tensor.to(torch.float32)):
            raise LoadError(
                f"{name} holds numbers up to {tensor.abs().max():.3g}, too large for "
                f"{str(place.dtype).removeprefix('torch.')}",
                "they would be infinite, and every answer nan",
                "bfloat16 or float32, whose largest number is 3.4e38",
            )
        raise LoadError(
            f"{name} holds numbers that are none (nan or infinite)",
            "every answer would be nan",
            "an earlier checkpoint: this one was damaged, or its training went wrong",
        )


def _is_finite(x: Tensor) -> bool:
    """Whether all numbers are: by the two ends, which takes no memory of its own."""
    return all(end.isfinite() for end in x.aminmax()) if x.numel() else True


def _places(model: CausalLM) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's name of each tensor, and where it goes: a parameter, or rows of one."""
    for name, parameter in model.named_parameters():
        parts = _parts(name)
        rows = _rows(model.config, name, parameter)
        yield from zip(parts, parameter.detach().split(rows), strict=True)


def _parts(name: str) -> list[str]:
    """The checkpoint's names of what the model calls `name`."""
    for merged, parts in MERGED.items():
        if f".{merged}." in name:
            return [re.sub(rf"\b{merged}\b", part, name) for part in parts]
    return [name]


def _rows(config: ModelConfig, name: str, parameter: Tensor) -> list[int]:
    """How many rows of the parameter each part has."""
    if ".qkv_proj." in name:
        kv = config.num_key_value_heads * config.head_dim
        return [config.num_attention_heads * config.head_dim, kv, kv]
    if ".gate_up_proj." in name:
        return [config.intermediate_size] * 2
    return [len(parameter)]
