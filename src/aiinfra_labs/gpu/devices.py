"""GPUs and CPUs as their makers specify them, and the peaks that follow. Unit 3.1.

`device("h100")` reads `gpus.toml` and `cpus.toml`, where each figure has its unit, its source and
the date on which the source said so. Figures keep the units of the data sheets; what is computed
from them is in operations/s and bytes/s.

A peak is a count, not a measurement: units x 2 x clock, because a fused multiply-add (fma) is two
operations. `computed_peak` works it out, `peak` is what the maker published.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from aiinfra_labs import bounds

TERA, GIGA, MEGA = 1e12, 1e9, 1e6
DDR_CHANNEL = 8  # bytes a transfer: 64 bits (JEDEC JESD79-5, as two sub-channels of 32)
# The precision of a peak, and the figure that says how many fma an SM does of it in a clock.
_PER_SM = {"fp32": "fp32_per_sm", "fp16_tensor": "tensor_fp16_per_sm"}
_BITS = {"fp32": 32, "fp64": 64}  # of an element in a CPU's vector


class DeviceError(bounds.SettingError):
    """A device or a figure that is not there, in three parts."""


@dataclass(frozen=True)
class Figure:
    """One published figure: 3350 GB/s, where it stands, and when it stood there."""

    name: str
    value: float
    unit: str
    source: str
    as_of: date

    def __str__(self) -> str:
        return f"{self.value:,} {self.unit}"

    @property
    def link(self) -> str:
        """The figure as a Markdown link to its source."""
        return f"[{self}]({self.source})"


@dataclass(frozen=True)
class Device:
    """One GPU, or one CPU in one socket.

    figures: by name, in the units of the data sheet; `device["sms"]` is the value alone.
    """

    key: str
    name: str
    kind: str  # "gpu" or "cpu"
    architecture: str
    year: int
    compute_capability: str | None  # "9.0"; None where it is no CUDA device
    tensor_generation: int | None  # of NVIDIA's tensor cores: Volta's are the first
    figures: dict[str, Figure]

    def __getitem__(self, name: str) -> float:
        """A figure's value, in the unit of the data sheet. Raises `DeviceError`."""
        if name not in self.figures:
            raise DeviceError(
                f"{self.name} has no figure {name!r:.60}",
                f"the data has {', '.join(self.figures)}",
                "use one of these, or add it to the data with its source",
            )
        return self.figures[name].value

    def __contains__(self, name: str) -> bool:
        return name in self.figures

    @property
    def fp32_units(self) -> int:
        """FP32 fma a clock of the whole device: what NVIDIA counts as CUDA cores."""
        return int(self._units * self._fma_a_clock("fp32"))

    @property
    def bandwidth(self) -> float:
        """Bytes/s of the memory: published for a GPU; for a CPU channels x 8 bytes x transfers."""
        if self.kind == "cpu":
            return self["channels"] * DDR_CHANNEL * self["transfers"] * MEGA
        return self["bandwidth"] * GIGA

    def peak(self, precision: str = "fp32") -> float:
        """Operations/s: the maker's figure; of a CPU, which has none, `computed_peak`.

        precision: "fp64", "fp32", "fp16", "fp16_tensor", "fp16_tensor_sparse" or "fp8_tensor";
        of a CPU "fp64", "fp32" or "bf16_matrix". Raises `DeviceError` for one that is not known.
        """
        if precision not in (known := self.precisions()):
            raise DeviceError(
                f"no peak of {self.name} in {precision!r:.40}",
                f"it is known in {', '.join(known)}",
                "one of these",
            )
        if self.kind == "cpu":
            return self.computed_peak(precision)
        return self[precision] * TERA

    def computed_peak(self, precision: str = "fp32") -> float:
        """Operations/s: units x fma a clock x 2 x clock.

        precision: "fp32" or "fp16_tensor"; of a CPU "fp32", "fp64" or "bf16_matrix". At the boost
        clock of a GPU, and at the base clock of a CPU, which all its cores can hold. Raises
        `DeviceError` for a precision whose rate is not known.
        """
        rate = self._fma_a_clock(precision)
        clock = "tensor_clock" if "tensor" in precision and "tensor_clock" in self else "clock"
        return self._units * rate * 2 * self[clock] * MEGA

    @property
    def _units(self) -> float:
        return self["cores" if self.kind == "cpu" else "sms"]

    def _fma_a_clock(self, precision: str) -> float:
        """Of one SM or core: of a core's vectors, units x lanes."""
        rates = self._rates()
        if precision not in rates:
            known = ", ".join(rates) or "no precision"
            raise DeviceError(
                f"no {precision!s:.40} rate for each unit and clock of {self.name}",
                f"it is known for {known}",
                f'peak("{precision}"), which the maker published'
                if self.kind == "gpu" and precision in self.precisions()
                else "one of these; `precisions` lists those of which there is a peak",
            )
        return rates[precision]

    def _rates(self) -> dict[str, float]:
        """Fma a clock of one SM or core, by precision, as far as they are known."""
        if self.kind == "cpu":
            wide = self["fma_units"] * self["vector_bits"]
            vectors = {precision: wide / bits for precision, bits in _BITS.items()}
            matrix = "matrix_bf16_per_core"
            return vectors | ({"bf16_matrix": self[matrix]} if matrix in self else {})
        return {name: self[figure] for name, figure in _PER_SM.items() if figure in self}

    def precisions(self) -> list[str]:
        """The precisions that `peak` knows for this device."""
        if self.kind == "cpu":
            return list(self._rates())
        return [name for name, f in self.figures.items() if f.unit == "TFLOP/s"]

    def ridge(self, precision: str = "fp32") -> float:
        """Operations for each byte at which memory and units take as long: peak / bandwidth."""
        return self.peak(precision) / self.bandwidth

    def per_watt(self, precision: str = "fp32") -> float:
        """Operations/s for each watt of the published power limit (TDP): an upper bound."""
        return self.peak(precision) / self["power"]


def device(key: str) -> Device:
    """The device of a short name: "h100", "rtx4090", "epyc_9654", ... Raises `DeviceError`."""
    known = devices()
    if not isinstance(key, str) or key not in known:
        raise DeviceError(
            f"there is no device {key!r:.60}",
            f"the data has {', '.join(known)}",
            "use one of these",
        )
    return known[key]


@cache
def devices() -> dict[str, Device]:
    """Every device by its short name: the GPUs, then the CPUs."""
    return {d.key: d for kind in ("gpu", "cpu") for d in _read(kind)}


def _read(kind: str) -> Iterator[Device]:
    text = files("aiinfra_labs.gpu").joinpath(f"{kind}s.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    units = tables.pop("unit")
    for key, entry in tables.items():
        figures = {f.name: f for group in entry["from"] for f in _figures(group, units)}
        yield Device(
            key,
            entry["name"],
            kind,
            entry["architecture"],
            entry["year"],
            entry.get("compute_capability"),
            entry.get("tensor_generation"),
            figures,
        )


def _figures(group: dict[str, Any], units: dict[str, str]) -> Iterator[Figure]:
    """The figures that are from one document."""
    source, as_of = group["source"], group["as_of"]
    for name, value in group.items():
        if name not in ("source", "as_of"):
            yield Figure(name, value, units[name], source, as_of)
