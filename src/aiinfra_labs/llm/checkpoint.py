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


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or is another model's, in three parts."""

    def __init__(self, what: str, why: str, try_: str):
        super().__init__(f"{what}\nWhy: {why}\nTry: {try_}")


def save(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a state (plain data). The file is whole, or the old one is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    metadata = {"format": "pt", "state": json.dumps(state), "sum": _sum(whole)}
    save_file(whole, beside, metadata=metadata)
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)
    if os.name == "posix":  # the new name, too, is to outlive a power failure
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, state) as `save` was given them. Raises `CheckpointError` for a broken file."""
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


def fits(module: torch.nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Raise `CheckpointError` unless there is a tensor for each parameter, and no other."""
    own = dict(module.named_parameters())
    for key, parameter in own.items():
        if key not in tensors:
            raise CheckpointError(
                f"{name} has no tensor {key}",
                "it is of a model of another shape, or with fewer layers",
                "build the model from the config that was saved with it",
            )
        if tensors[key].shape != parameter.shape:
            raise CheckpointError(
                f"{key} is {list(tensors[key].shape)} in {name}, and {list(parameter.shape)} here",
                "it is of a model of another shape",
                "build the model from the config that was saved with it",
            )
    unknown = sorted(set(tensors) - set(own))
    if unknown:
        raise CheckpointError(
            f"{name} has {unknown[0]}, which the model has not",
            f"{len(unknown)} of its tensors have no place here",
            "build the model from the config that was saved with it",
        )


def fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Copy tensors into a module's parameters, all or none; a tied one is there once.

    Raises `CheckpointError` where a tensor is missing, has another shape, or has no parameter.
    """
    fits(module, tensors, name)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            parameter.copy_(tensors[key])
