"""From a JSON Schema to what a value may be. Unit 4.3.

A subset of draft 2020-12: type, enum, const, anyOf, properties, required, additionalProperties,
items, minItems, maxItems. What it lacks is refused by name: a keyword that is passed over in
silence would let wrong answers through. Words that only describe, such as title, are passed over.

All that gets through fits. Not all that fits gets through: the values of an enum have no white
space in them, and where a schema gives names, another name has no `\\u` - it could be a second
spelling of a given one, with a value that the schema forbids. A schema with properties but without
a type is taken to mean an object, and one with items an array.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import RequestError
from .frames import ANYTHING, Array, Choice, Literals, Number, Object, Property, Text

SCALARS: dict[str, Choice] = {
    "string": Text(),
    "number": Number(),
    "integer": Number(integer=True),
    "boolean": Literals((b"true", b"false")),
    "null": Literals((b"null",)),
}
TYPES = (*SCALARS, "array", "object")
OF_ARRAYS = ("items", "minItems", "maxItems")
OF_OBJECTS = ("properties", "required", "additionalProperties")
KNOWN = ("type", "enum", "const", "anyOf", *OF_ARRAYS, *OF_OBJECTS)
WORDS = (
    *("title", "description", "default", "examples", "$schema", "$id", "$comment"),
    *("deprecated", "readOnly", "writeOnly"),
)


def choices_of(schema: Any, nesting: int) -> tuple[Choice, ...]:
    """What the whole text may be. Raises `RequestError` for a schema that this cannot hold to.

    nesting: levels that the text may have; a schema that needs more is refused.
    """
    return _any_of(schema, "the schema", nesting)


def _any_of(schema: Any, where: str, room: int) -> tuple[Choice, ...]:
    if schema is True or schema == {}:
        return ANYTHING
    if not isinstance(schema, dict):
        raise _refused(
            where, f"is {schema!r}, which no value can satisfy", 'an object such as {"type": "..."}'
        )
    for keyword in schema:
        if keyword not in KNOWN + WORDS:
            raise RequestError(
                f"{where} uses the keyword {keyword!r}",
                "this constraint cannot hold to it, and an answer could break it unnoticed",
                f"only {', '.join(KNOWN)}",
            )
    used = [keyword for keyword in KNOWN if keyword in schema]
    if "anyOf" in used:
        _alone("anyOf", used, where, ())
        parts = _list(schema["anyOf"], f"{where}.anyOf")
        found = [_any_of(part, f"{where}.anyOf[{i}]", room) for i, part in enumerate(parts)]
        return tuple(choice for choices in found for choice in choices)
    types = _types(schema, used, where)
    for keyword in ("enum", "const"):
        if keyword in used:
            _alone(keyword, used, where, ("type",))
            values = schema["enum"] if keyword == "enum" else [schema["const"]]
            return (_literals(values, types, f"{where}.{keyword}"),)
    if types is None:
        return ANYTHING
    made: dict[str, Callable[[], Choice]] = {
        "array": lambda: _array(schema, where, room),
        "object": lambda: _object(schema, where, room),
    }
    return tuple(made[t]() if t in made else SCALARS[t] for t in types)


def _types(schema: dict[str, Any], used: list[str], where: str) -> tuple[str, ...] | None:
    """The types that are named or meant; None where there is no word of them."""
    if "type" not in used:
        meant = {"array": OF_ARRAYS, "object": OF_OBJECTS}
        types = tuple(t for t, keywords in meant.items() if set(keywords) & set(used))
        return types or None
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not types:
        raise _refused(f"{where}.type", "names no type, so that no value fits", _one_of(TYPES))
    for name in types:
        if name not in TYPES:
            raise _refused(f"{where}.type", f"names {name!r}", _one_of(TYPES))
    return tuple(dict.fromkeys(types))


def _literals(values: Any, types: tuple[str, ...] | None, where: str) -> Choice:
    """Each value by its shortest spelling, and where they differ, by that without `\\u` as well."""
    fitting = [v for v in _list(values, where) if types is None or any(_is(v, t) for t in types)]
    if not fitting:
        raise _refused(where, f"has no value of type {' or '.join(types or ())}", "one that fits")
    texts: dict[bytes, None] = {}
    for value in fitting:
        for spelling in _spellings(value, where):
            texts[spelling] = None
    return Literals(tuple(texts))


def _spellings(value: Any, where: str) -> Iterable[bytes]:
    try:
        for ascii in (False, True):
            text = json.dumps(
                value, ensure_ascii=ascii, separators=(",", ":"), allow_nan=False, sort_keys=False
            )
            yield text.encode()
    except (TypeError, ValueError) as error:
        raise _refused(where, f"holds {value!r}, which is no JSON: {error}", "JSON") from None


def _is(value: Any, type: str) -> bool:
    if type in ("integer", "number"):
        kinds = int | float if type == "number" else int
        return isinstance(value, kinds) and not isinstance(value, bool)
    kinds = {"string": str, "boolean": bool, "null": None.__class__, "array": list, "object": dict}
    return isinstance(value, kinds[type])


def _array(schema: dict[str, Any], where: str, room: int) -> Choice:
    _room(where, room)
    least = _count(schema.get("minItems", 0), f"{where}.minItems")
    most = schema.get("maxItems")
    if most is not None and _count(most, f"{where}.maxItems") < least:
        raise _refused(
            where, f"wants {least} items at least and {most} at most", "minItems <= maxItems"
        )
    return Array(_any_of(schema.get("items", True), f"{where}.items", room - 1), least, most)


def _object(schema: dict[str, Any], where: str, room: int) -> Choice:
    _room(where, room)
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(name, str) for name in properties):
        raise _refused(f"{where}.properties", f"is {properties!r}", "schemas by their names")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _refused(f"{where}.required", f"is {required!r}", "a list of names")
    rest = schema.get("additionalProperties", True)
    others = None if rest is False else _any_of(rest, f"{where}.additionalProperties", room - 1)
    if others is None and (missing := set(required) - set(properties)):
        raise _refused(
            where,
            f"requires {sorted(missing)[0]!r}, which additionalProperties forbids",
            "the same name in properties",
        )
    found = []
    for name in dict.fromkeys((*properties, *required)):
        inner = f"{where}.properties.{name}"
        values = _any_of(properties[name], inner, room - 1) if name in properties else others
        spellings = dict.fromkeys(text[1:] for text in _spellings(name, inner))
        found.append(Property(tuple(spellings), values or (), name in required))
    return Object(tuple(found), others)


def _room(where: str, room: int) -> None:
    if room < 1:
        raise _refused(where, "nests deeper than the text may", "fewer levels, or a larger nesting")


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _refused(where, f"is {value!r}", "0 or a larger integer")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _refused(where, f"is {value!r}", "a list with at least one entry")
    return value


def _alone(keyword: str, used: list[str], where: str, beside: tuple[str, ...]) -> None:
    for other in used:
        if other not in (keyword, *beside):
            raise _refused(
                where,
                f"has {keyword!r} and {other!r}, both of which would have to hold",
                f"{other!r} within {keyword!r}",
            )


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"


def _refused(where: str, what: str, try_: str) -> RequestError:
    return RequestError(f"{where} {what}", "no answer could be made that it describes", try_)
