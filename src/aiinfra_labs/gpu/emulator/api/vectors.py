"""Short vectors as CUDA C has them: `cuda.float32x4(x, y, z, w)`, also named float4. Unit 3.3.

A vector is made of numbers and of shorter vectors, and read by .x, .y, .z and .w.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import LaneError
from ..lanes.arithmetic import convert, need_numbers


class Vector(tuple):
    """The class of all vectors; each kind has its dtype and the names of its components."""

    _fields: tuple[str, ...] = ()
    dtype = np.dtype(np.float32)

    def __new__(cls, *parts: Any) -> Vector:
        flat: list[Any] = []
        for part in parts:
            flat += part if isinstance(part, Vector) else [part]
        need_numbers(cls.__name__, *flat)
        if len(flat) != len(cls._fields):
            raise LaneError(
                f"{cls.__name__} is made of {len(cls._fields)} numbers, not {len(flat)}"
            )
        return super().__new__(cls, [convert(v, cls.dtype) for v in flat])

    def __getattr__(self, name: str) -> Any:
        if name not in self._fields:
            raise AttributeError(f"{type(self).__name__} has no component {name}")
        return self[self._fields.index(name)]


_C_NAMES = {
    "int8": "char",
    "int16": "short",
    "int32": "int",
    "int64": "longlong",
    "uint8": "uchar",
    "uint16": "ushort",
    "uint32": "uint",
    "uint64": "ulonglong",
    "float32": "float",
    "float64": "double",
}

VECTORS: dict[str, type[Vector]] = {}  # by both names
for _dtype, _c_name in _C_NAMES.items():
    for _count in (1, 2, 3, 4):
        _kind = type(
            f"{_dtype}x{_count}",
            (Vector,),
            {
                "_fields": tuple("xyzw"[:_count]),
                "dtype": np.dtype(_dtype),
                "aliases": (f"{_c_name}{_count}",),
            },
        )
        VECTORS[_kind.__name__] = VECTORS[f"{_c_name}{_count}"] = _kind
