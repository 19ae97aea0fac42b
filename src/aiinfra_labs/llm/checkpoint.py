"""Writing a training run down, so that it can be killed at any moment and go on. Unit 1.4.

A checkpoint is written beside the old one and takes its place in one step: whatever happens, one
of the two is whole. It is safetensors, which holds numbers and no code, with the run's state as
text in its header.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from aiinfra_labs import bounds


class CheckpointError(bounds.SettingError):
    """A checkpoint that cannot be read, or is another model's, in three parts."""


def save(path: Path | str, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a state (plain data). The file is whole, or the old one is still there.

    Raises `CheckpointError` for a state that JSON cannot hold, or for what is no tensor.
    """
    path = bounds.path("path", path, CheckpointError)
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{name!r} is {type(tensor).__name__}",
                "a checkpoint holds tensors, each by a name that is a str",
                "torch.as_tensor(value) for a number; other plain data belongs in the state",
            )
    try:
        text = json.dumps(state)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the state cannot be written down: {error}",
            "it is kept as JSON in the header",
            "numbers, texts, lists and dicts; tensors belong among the tensors",
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    memories: set[int] = set()
    for name, tensor in whole.items():  # safetensors takes no two names for one memory
        memory = tensor.untyped_storage().data_ptr()
        if memory in memories:
            whole[name] = tensor.clone()
        memories.add(memory)
    metadata = {"format": "pt", "state": text, "sum": _sum(whole)}
    save_file(whole, beside, metadata=metadata)
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)
    if os.name == "posix":  # the new name, too, is to outlive a power failure
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def load(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, state) as `save` was given them. Raises `CheckpointError` for a broken file."""
    path = bounds.path("path", path, CheckpointError)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if metadata.get("sum") not in (None, _sum(tensors)):  # files of others have none
            raise ValueError("its checksum differs")
        return tensors, json.loads(metadata.get("state", "{}"))
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no {path.name}", "nothing was saved there", "train first"
        ) from None
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path.name} is no whole checkpoint: {error}",
            "its header or its numbers are cut off or changed",
            "remove it, and go on from an older one or train again; nothing was overwritten",
        ) from None


def _sum(tensors: dict[str, torch.Tensor]) -> str:
    """CRC-32 of all bytes, by name: safetensors itself notes a cut file, and no changed one."""
    total = 0
    for name in sorted(tensors):
        flat = tensors[name].reshape(-1).view(torch.uint8)
        total = zlib.crc32(flat.numpy().data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def own_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All that a module learns or keeps, by name: parameters, and the buffers that it saves.

    A tied weight has several names, and each gives the same tensor. Tables that follow from the
    config, such as RoPE's frequencies, are no persistent buffers and so are not among them.
    """
    return dict(module.state_dict(keep_vars=True))


def once(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """`own_tensors`, each tensor once, under the first of its names: what a checkpoint holds."""
    seen: set[int] = set()
    found: dict[str, torch.Tensor] = {}
    for name, tensor in own_tensors(module).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def as_float16(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's tensors (`once`) with their floats as float16: half the bytes.

    A number x comes back wrong by at most |x| / 2,048, or by 3e-8 where that is more: float16 has
    11 bits, and below 6e-5 steps of 6e-8. Raises `CheckpointError` for one that is not finite or
    is too large, of which float16 would make an infinity.
    """
    found = {}
    for name, tensor in once(module).items():
        small = tensor.detach()
        if small.is_floating_point():
            small = small.half()
            if not small.isfinite().all():
                raise CheckpointError(
                    f"{name} holds {float(tensor.detach().abs().max()):g}, and float16 ends at "
                    "65,504",
                    "what is larger, or no number, would come back as an infinity or nan",
                    "checkpoint.save with the tensors as they are, in float32",
                )
        found[name] = small
    return found


def fits(module: torch.nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Raise `CheckpointError` unless each of the module's tensors is there, and no other.

    A tied weight may be there once, under any of its names, or more than once and the same.
    """
    names_of: dict[int, list[str]] = {}
    own = own_tensors(module)
    for key, tensor in own.items():
        names_of.setdefault(id(tensor), []).append(key)
    for key, mine in own.items():
        there = [other for other in names_of[id(mine)] if other in tensors]
        if not there:
            raise CheckpointError(
                f"{name} has no tensor {key}",
                "it is of a model of another shape, or with fewer layers",
                "build the model from the config that was saved with it",
            )
        if key in tensors and tensors[key].shape != mine.shape:
            raise CheckpointError(
                f"{key} is {list(tensors[key].shape)} in {name}, and {list(mine.shape)} here",
                "it is of a model of another shape",
                "build the model from the config that was saved with it",
            )
        if key in tensors and not torch.equal(tensors[key], tensors[there[0]]):
            raise CheckpointError(
                f"{key} and {there[0]} differ in {name}, and are one tensor here",
                "the model ties them: it has one set of numbers for both",
                "a config with tie_word_embeddings false, if the file is of such a model",
            )
    unknown = sorted(set(tensors) - set(own))
    if unknown:
        raise CheckpointError(
            f"{name} has {unknown[0]}, which the model has not",
            f"{len(unknown)} of its tensors have no place here",
            "build the model from the config that was saved with it",
        )


def fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Copy tensors into a module's parameters and persistent buffers, all or none.

    tensors: by name, each tied one at least once. name: the file's, for the error. Raises
    `CheckpointError` where a tensor is missing, has another shape, or has no place.
    """
    fits(module, tensors, name)
    with torch.no_grad():
        for key, mine in own_tensors(module).items():
            if key in tensors:
                mine.copy_(tensors[key])
