"""Values on their way between the judge and the answer: plain data, and nothing that runs.

What crosses is None, bool, int, float, complex, str, bytes, tuples, lists, dicts, sets, ranges,
slices, NumPy's arrays, numbers and dtypes, PyTorch's tensors, and kernels as source. A subclass
crosses as the plain type that it is a kind of, so that an object which equals everything arrives
as what it holds. All else stays where it is, and a name for it crosses: see `far.py`. Nothing is
unpickled, imported or evaluated for what the other side says.

Lists, dicts, sets, arrays and tensors keep their identity during a call. Each message carries what
changed in those that both sides know, so that a function which writes into its argument is seen
to, and a result that is the argument itself is known for it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

MOST = 1 << 30  # bytes of one message
DEEPEST = 200  # lists within lists
_TYPES = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict)
}
_SCALARS = {
    name: getattr(np, name) for name in sorted({np.dtype(c).name for c in "?bhilBHILefdFD"})
}


class WireError(Exception):
    """A message that is none of ours, or a value that cannot cross."""


class Shared:
    """The mutable values that both sides know during a call, by number."""

    def __init__(self, first: int):
        self._next = first  # one side counts in even numbers, the other in odd ones
        self.clear()

    def clear(self) -> None:
        """Forget all of them: the call is over."""
        self.values: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.seen: dict[int, Any] = {}  # how each one was when both sides last agreed

    def new(self, value: Any) -> int:
        """The number under which a value of this side is known from now on."""
        self._next += 2
        self.keep(self._next, value)
        return self._next

    def keep(self, number: int, value: Any) -> None:
        """Know a value by the number that the other side gave it."""
        self.values[number] = value
        self.numbers[id(value)] = number


class Packer:
    """Makes one message: `pack(value)` gives what JSON can hold; bytes go beside it."""

    def __init__(self, shared: Shared, name_of: Callable[[Any], dict]):
        self.shared, self.name_of = shared, name_of
        self.blobs: list[bytes] = []

    def pack(self, value: Any, depth: int = 0) -> Any:
        """A value as JSON can hold it. Raises `WireError` for one that is nested too deeply."""
        if value is None or type(value) in (bool, int, str):
            return value
        if depth > DEEPEST:
            raise WireError("the value is nested too deeply, perhaps within itself")
        if type(value) is float:
            return value
        kind = _kind_of(value)
        return self.name_of(value) if kind is None else kind.pack(self, value, depth + 1)

    def blob(self, data: bytes) -> int:
        """The number of these bytes among those that go beside the message."""
        self.blobs.append(data)
        return len(self.blobs) - 1

    def mutable(self, value: Any, kind: Kind, depth: int) -> dict:
        """A reference where the other side knows it already; else the value, under a number."""
        number = self.shared.numbers.get(id(value))
        if number is not None:
            return {"t": "same", "n": number}
        number = self.shared.new(value)
        # The mark comes first: a list may hold what holds the list.
        self.shared.seen[number] = kind.mark(value)
        return {"t": kind.tag, "n": number} | kind.content(self, value, depth)

    def changes(self) -> list:
        """What changed in the values that both sides know."""
        found = []
        for number, value in list(self.shared.values.items()):
            kind = _kind_of(value)
            if not isinstance(kind, Mutable):
                continue
            mark = kind.mark(value)
            if not kind.same(self.shared.seen.get(number), mark):
                self.shared.seen[number] = mark
                found.append([number, kind.content(self, value, 1)])
        return found


class Unpacker:
    """Reads one message."""

    def __init__(self, shared: Shared, blobs: list[bytes], named: Callable[[dict], Any]):
        self.shared, self.blobs, self.named = shared, blobs, named

    def unpack(self, packed: Any) -> Any:
        """The other direction of `Packer.pack`. Raises `WireError`, and KeyError for a number that
        nobody knows."""
        if packed is None or isinstance(packed, bool | int | float | str):
            return packed
        if not isinstance(packed, dict):
            raise WireError("a value has no tag")
        tag = packed.get("t")
        if tag == "same":
            return self.shared.values[packed["n"]]
        if tag in ("far", "mine"):
            return self.named(packed)
        kind = _BY_TAG.get(tag)
        if kind is None:
            raise WireError(f"{tag!r} is no kind of value")
        return kind.unpack(self, packed)

    def blob(self, number: int) -> bytes:
        """The bytes of this number."""
        return self.blobs[number]

    def change(self, changes: list) -> None:
        """Change this side's values as `Packer.changes` found the other's. Raises `WireError`."""
        for number, content in changes:
            value = self.shared.values[number]
            kind = _kind_of(value)
            if not isinstance(kind, Mutable):
                raise WireError("what does not change was changed")
            kind.refill(self, value, content)
            self.shared.seen[number] = kind.mark(value)


class Kind:
    """How values of one kind cross. `accepts` says which these are."""

    tag = ""

    def accepts(self, value: Any) -> bool:
        """Whether `value` is of this kind."""
        raise NotImplementedError

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        """What JSON can hold of it, with `tag` under "t". depth: how deeply it is nested."""
        raise NotImplementedError

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        """The value that `pack` has packed."""
        raise NotImplementedError


class Mutable(Kind):
    """A value with an identity. `mark` is what shows a change, `content` what is sent of it."""

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return packer.mutable(value, self, depth)

    def mark(self, value: Any) -> Any:
        """Something that differs once the value has changed."""
        raise NotImplementedError

    def same(self, before: Any, now: Any) -> bool:
        """Whether two marks say that nothing has changed."""
        return before == now

    def content(self, packer: Packer, value: Any, depth: int) -> dict:
        """All that is in the value, as JSON can hold it."""
        raise NotImplementedError

    def refill(self, unpacker: Unpacker, value: Any, content: dict) -> None:
        """Put into `value` what `content` has packed, in place of what it holds."""
        raise NotImplementedError

    def begun(self, unpacker: Unpacker, packed: dict, value: Any) -> Any:
        """Keep a new value under its number, then fill it."""
        unpacker.shared.keep(packed["n"], value)
        self.refill(unpacker, value, packed)
        unpacker.shared.seen[packed["n"]] = self.mark(value)
        return value


def _alike(before: Any, now: Any) -> bool:
    """Whether two rows hold the same objects, or equal plain ones."""
    if before is None or len(before) != len(now):
        return False
    for a, b in zip(before, now, strict=True):
        if a is b:
            continue
        if type(a) is not type(b) or type(a) not in (bool, int, float, str, bytes) or a != b:
            return False
    return True


class _List(Mutable):
    tag = "list"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list)

    def mark(self, value: Any) -> Any:
        return list.copy(value)

    def same(self, before: Any, now: Any) -> bool:
        return _alike(before, now)

    def content(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"v": [packer.pack(item, depth) for item in list.copy(value)]}

    def refill(self, unpacker: Unpacker, value: Any, content: dict) -> None:
        value[:] = [unpacker.unpack(item) for item in content["v"]]

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return self.begun(unpacker, packed, [])


class _Dict(Mutable):
    tag = "dict"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict)

    def mark(self, value: Any) -> Any:
        return [x for pair in dict.items(value) for x in pair]

    def same(self, before: Any, now: Any) -> bool:
        return _alike(before, now)

    def content(self, packer: Packer, value: Any, depth: int) -> dict:
        pairs = list(dict.items(value))
        return {"v": [[packer.pack(k, depth), packer.pack(v, depth)] for k, v in pairs]}

    def refill(self, unpacker: Unpacker, value: Any, content: dict) -> None:
        pairs = [(unpacker.unpack(k), unpacker.unpack(v)) for k, v in content["v"]]
        value.clear()
        value.update(pairs)

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return self.begun(unpacker, packed, {})


class _Set(Mutable):
    tag = "set"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, set)

    def mark(self, value: Any) -> Any:
        return set(value)

    def content(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"v": [packer.pack(item, depth) for item in set(value)]}

    def refill(self, unpacker: Unpacker, value: Any, content: dict) -> None:
        items = {unpacker.unpack(item) for item in content["v"]}
        value.clear()
        value.update(items)

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return self.begun(unpacker, packed, set())


class _Array(Mutable):
    tag = "array"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, np.ndarray) and _plain(value.dtype)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        """A part of an array that the other side knows crosses as one: it shares its memory."""
        if id(value) not in packer.shared.numbers:
            for number, whole in packer.shared.values.items():
                if isinstance(whole, np.ndarray) and _is_part(value, whole):
                    at = value.ctypes.data - whole.ctypes.data
                    mine = packer.shared.new(value)
                    packer.shared.seen[mine] = self.mark(value)
                    steps = {"s": list(value.shape), "o": list(value.strides), "at": at}
                    return {"t": "part", "n": mine, "of": number, "d": _descr(value.dtype)} | steps
        return packer.mutable(value, self, depth)

    def mark(self, value: Any) -> Any:
        return value.shape, value.dtype, np.ndarray.tobytes(value)

    def content(self, packer: Packer, value: Any, depth: int) -> dict:
        steps = value.strides if value.size and min(value.strides, default=0) >= 0 else None
        return {
            "d": _descr(value.dtype),
            "s": list(value.shape),
            "o": None if value.flags.c_contiguous or steps is None else list(steps),
            "w": bool(value.flags.writeable),
            "b": packer.blob(np.ndarray.tobytes(value)),
        }

    def refill(self, unpacker: Unpacker, value: Any, content: dict) -> None:
        given = np.frombuffer(unpacker.blob(content["b"]), _dtype(content["d"]))
        if value.shape != tuple(content["s"]) or value.dtype != given.dtype:
            raise WireError("an array cannot change its shape")
        if value.size:
            value[...] = given.reshape(value.shape)

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        dtype, shape = _dtype(packed["d"]), tuple(map(int, packed["s"]))
        made = _laid_out(shape, dtype, packed["o"])
        made = self.begun(unpacker, packed, made)
        if not packed["w"]:
            made.flags.writeable = False
        return made


def _is_part(value: np.ndarray, whole: np.ndarray) -> bool:
    plain = whole.flags.c_contiguous and min(value.strides, default=0) >= 0 and value.size
    return bool(plain) and np.may_share_memory(value, whole)


class _Part(Kind):
    """An array that lies in the memory of another one. NumPy refuses one that goes beyond it."""

    tag = "part"

    def accepts(self, value: Any) -> bool:
        return False  # `_Array` finds them

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        whole = unpacker.shared.values[packed["of"]]
        if not isinstance(whole, np.ndarray) or not whole.flags.c_contiguous:
            raise WireError("there is no such array to be a part of")
        shape, steps = tuple(map(int, packed["s"])), tuple(map(int, packed["o"]))
        buffer = whole.reshape(-1).view(np.uint8)
        made = np.ndarray(shape, _dtype(packed["d"]), buffer, int(packed["at"]), steps)
        unpacker.shared.keep(packed["n"], made)
        unpacker.shared.seen[packed["n"]] = _ARRAYS.mark(made)
        return made


def _laid_out(shape: tuple[int, ...], dtype: np.dtype, steps: list[int] | None) -> np.ndarray:
    """An empty array with the strides of the one that was sent, where these leave room for it."""
    if steps is None or dtype.hasobject:
        return np.empty(shape, dtype)
    reach = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + dtype.itemsize
    distinct = len({step for n, step in zip(shape, steps, strict=True) if n > 1})
    axes = sum(n > 1 for n in shape)
    if reach > 64 * dtype.itemsize * int(np.prod(shape)) or distinct < axes or 0 in steps:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, np.empty(reach, np.uint8), strides=tuple(steps))


class _Number(Kind):
    tag = "number"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, np.generic) and _plain(value.dtype)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "d": _descr(value.dtype), "b": packer.blob(value.tobytes())}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return np.frombuffer(unpacker.blob(packed["b"]), _dtype(packed["d"]))[0]


class _DType(Kind):
    tag = "dtype"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, np.dtype) and _plain(value)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "d": _descr(value)}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return _dtype(packed["d"])


class _Class(Kind):
    """Python's and NumPy's own number types, by name."""

    tag = "class"

    def accepts(self, value: Any) -> bool:
        known = isinstance(value, type) and value.__name__
        return known and (value is _TYPES.get(known) or value is _SCALARS.get(known))

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "v": value.__name__, "np": value is _SCALARS.get(value.__name__)}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return (_SCALARS if packed["np"] else _TYPES)[packed["v"]]


class _Plain(Kind):
    """Subclasses of Python's plain types: as the plain value."""

    tag = "plain"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int | float | str)

    def pack(self, packer: Packer, value: Any, depth: int) -> Any:
        for kind, plain in ((int, int.__int__), (float, float.__float__), (str, str.__str__)):
            if isinstance(value, kind):
                return {"t": self.tag, "v": plain(value)}
        raise WireError("no plain value")

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return packed["v"]


class _Bytes(Kind):
    tag = "bytes"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bytes | bytearray | memoryview)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "b": packer.blob(bytes(value))}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return unpacker.blob(packed["b"])


class _Tuple(Kind):
    tag = "tuple"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, tuple)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "v": [packer.pack(x, depth) for x in tuple.__iter__(value)]}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return tuple(unpacker.unpack(x) for x in packed["v"])


class _Frozen(Kind):
    tag = "frozenset"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, frozenset)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        return {"t": self.tag, "v": [packer.pack(x, depth) for x in frozenset(value)]}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        return frozenset(unpacker.unpack(x) for x in packed["v"])


class _Small(Kind):
    """complex, range, slice and Ellipsis."""

    tag = "small"

    def accepts(self, value: Any) -> bool:
        return value is ... or isinstance(value, complex | range | slice)

    def pack(self, packer: Packer, value: Any, depth: int) -> dict:
        if value is ...:
            return {"t": self.tag, "k": "..."}
        if isinstance(value, complex):
            return {"t": self.tag, "k": "complex", "v": [value.real, value.imag]}
        ends = [packer.pack(x, depth) for x in (value.start, value.stop, value.step)]
        return {"t": self.tag, "k": type(value).__name__, "v": ends}

    def unpack(self, unpacker: Unpacker, packed: dict) -> Any:
        if packed["k"] == "...":
            return ...
        if packed["k"] == "complex":
            return complex(*packed["v"])
        return {"range": range, "slice": slice}[packed["k"]](*map(unpacker.unpack, packed["v"]))


def _plain(dtype: np.dtype) -> bool:
    return not dtype.hasobject and dtype.subdtype is None


def _descr(dtype: np.dtype) -> Any:
    """A dtype as text; of a record its fields, each with its place."""
    if dtype.names is None:
        return dtype.str
    fields = [[name, _descr(dtype.fields[name][0]), dtype.fields[name][1]] for name in dtype.names]
    return {"fields": fields, "size": dtype.itemsize}


def _dtype(descr: Any) -> np.dtype:
    if isinstance(descr, str):
        made = np.dtype(descr)
        if made.hasobject:
            raise WireError("objects do not cross in an array")
        return made
    names, formats, offsets = zip(*descr["fields"], strict=True)
    return np.dtype(
        {
            "names": list(names),
            "formats": [_dtype(f) for f in formats],
            "offsets": list(offsets),
            "itemsize": descr["size"],
        }
    )


_ARRAYS = _Array()
_KINDS: list[Kind] = [
    *(
        _List(),
        _Dict(),
        _Tuple(),
        _ARRAYS,
        _Part(),
        _Number(),
        _Plain(),
        _Bytes(),
        _Set(),
        _Frozen(),
    ),
    *(_Small(), _DType(), _Class()),
]
_BY_TAG = {kind.tag: kind for kind in _KINDS}


def add_kind(kind: Kind) -> None:
    """One more kind of value: tensors and kernels, which `course` does not import by itself."""
    if kind.tag not in _BY_TAG:
        _KINDS.insert(0, kind)
        _BY_TAG[kind.tag] = kind


def _kind_of(value: Any) -> Any:
    return next((kind for kind in _KINDS if kind.accepts(value)), None)


def write(stream: Any, message: dict, blobs: list[bytes]) -> None:
    """One message to a stream: JSON, then the bytes beside it, each with its length."""
    text = json.dumps([message, [len(blob) for blob in blobs]]).encode()
    stream.sendall(b"".join([struct.pack("!Q", len(text)), text, *blobs]))


def read(receive: Callable[[int], bytes]) -> tuple[dict, list[bytes]]:
    """The next message of a stream. `receive(n)` gives the next n bytes, or raises EOFError."""
    (length,) = struct.unpack("!Q", receive(8))
    if length > MOST:
        raise WireError("a message is too long")
    try:
        message, lengths = json.loads(receive(length))
    except (ValueError, RecursionError) as error:
        raise WireError("a message cannot be read") from error
    if not all(type(n) is int and n >= 0 for n in lengths) or sum(lengths) > MOST:
        raise WireError("a message is too long")
    return message, [receive(n) for n in lengths]
