"""From a JSON Schema to what a value may be. Unit 4.3.

A subset of draft 2020-12: `KNOWN`. What it lacks is refused by name: a keyword that is passed over
in silence would let wrong answers through. Words that only describe, such as title, are passed
over.

All that gets through fits. Not all that fits gets through: the values of an enum have no white
space in them, numbers with bounds no exponent, and where a schema gives names, another name has no
`\\u` - it could be a second spelling of a given one, with a value that the schema forbids. A schema
without a type is taken to mean the one that its keywords are of: with properties, an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from ..errors import RequestError
from .bounds import DIGITS_BEFORE, Between, bound
from .disjoint import disjoint
from .frames import (
    ANYTHING,
    Array,
    Choice,
    Literals,
    Number,
    Object,
    Property,
    Ref,
    Spellings,
    Text,
    least_needs,
)

SCALARS: dict[str, Choice] = {
    "string": Text(),
    "number": Number(),
    "integer": Number(integer=True),
    "boolean": Literals(Spellings((b"true", b"false"))),
    "null": Literals(Spellings((b"null",))),
}
TYPES = (*SCALARS, "array", "object")
OF_ARRAYS = ("items", "minItems", "maxItems")
OF_OBJECTS = ("properties", "required", "additionalProperties")
OF_STRINGS = ("minLength", "maxLength")
OF_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
OF_TYPES = (*OF_STRINGS, *OF_NUMBERS, *OF_ARRAYS, *OF_OBJECTS)
ALONE = ("$ref", "anyOf", "oneOf", "allOf")  # beside these there is no other
KNOWN = ("type", "enum", "const", *ALONE, *OF_TYPES)
WORDS = (
    *("$defs", "definitions"),
    *("title", "description", "default", "examples", "$schema", "$id", "$comment"),
    *("deprecated", "readOnly", "writeOnly"),
)


@dataclass
class _Whole:
    """The schema that references point into."""

    root: Any
    nesting: int
    made: dict[str, Ref] = field(default_factory=dict)  # by pointer
    bare: tuple[str, ...] = ()  # references that were followed without opening a level
    one_of: list[tuple[str, list[tuple[Choice, ...]]]] = field(default_factory=list)


def choices_of(schema: Any, nesting: int) -> tuple[tuple[Choice, ...], int]:
    """(What the whole text may be, levels that the neediest part of it opens).

    Raises `RequestError` for a schema that this cannot hold to. nesting: levels that the text may
    have; a schema that needs more is refused.
    """
    whole = _Whole(schema, nesting)
    choices = _any_of(schema, "the schema", nesting, whole)
    for where, found in whole.one_of:
        _check_one_of(where, found)
    deepest = _settle(choices)
    if least_needs(choices) > nesting:
        raise _refused(
            "the schema",
            f"is fitted by no value of {nesting} levels or less",
            "a reference that goes round only where it need not: not in required, or in a list",
        )
    return choices, min(deepest, nesting)


def _settle(choices: tuple[Choice, ...]) -> int:
    """Work out what each part needs: the least number that agrees with its own parts'."""
    found: dict[int, Choice] = {}
    todo = [*choices]
    while todo:
        choice = todo.pop()
        if id(choice) in found or choice in ANYTHING:
            continue
        found[id(choice)] = choice
        if isinstance(choice, Array):
            todo += choice.items
        elif isinstance(choice, Object):
            todo += [value for p in choice.properties for value in p.values]
            todo += choice.others or ()
        elif isinstance(choice, Ref):
            todo += choice.target
    levels = [c for c in found.values() if isinstance(c, Array | Object | Ref)]
    for choice in levels:
        choice.needs = math.inf
    changed = True
    while changed:
        changed = False
        for choice in levels:
            needs = _needs(choice)
            changed |= needs != choice.needs
            choice.needs = needs
    return int(max((c.needs for c in levels if c.needs < math.inf), default=1)) or 1


def _needs(choice: Array | Object | Ref) -> float:
    if isinstance(choice, Ref):
        return least_needs(choice.target)
    if isinstance(choice, Array):
        return 1 + (least_needs(choice.items) if choice.least else 0)
    required = (least_needs(p.values) for p in choice.properties if p.required)
    return 1 + max(required, default=0)


def _any_of(schema: Any, where: str, room: int, whole: _Whole) -> tuple[Choice, ...]:
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
    for keyword in ALONE:
        if keyword in used:
            _alone(keyword, used, where, ())
            if keyword == "$ref":
                return (_ref(schema[keyword], where, whole),)
            return _combined(keyword, schema[keyword], f"{where}.{keyword}", room, whole)
    types = _types(schema, used, where)
    for keyword in ("enum", "const"):
        if keyword in used:
            _alone(keyword, used, where, ("type",))
            values = schema["enum"] if keyword == "enum" else [schema["const"]]
            return (_literals(values, types, f"{where}.{keyword}"),)
    if types is None:
        return ANYTHING
    made: dict[str, Callable[[], Choice]] = {
        "array": lambda: _array(schema, where, room, whole),
        "object": lambda: _object(schema, where, room, whole),
        "string": lambda: _string(schema, where),
        "number": lambda: _number(schema, where, False),
        "integer": lambda: _number(schema, where, True),
    }
    return tuple(made[t]() if t in made else SCALARS[t] for t in types)


def _combined(keyword: str, parts: Any, where: str, room: int, whole: _Whole) -> tuple[Choice, ...]:
    """anyOf; oneOf, where no value fits two; allOf of one."""
    parts = _list(parts, where)
    if keyword == "allOf" and len(parts) > 1:
        raise _refused(where, f"has {len(parts)} schemas, all of which must hold", "one schema")
    found = [_any_of(part, f"{where}[{i}]", room, whole) for i, part in enumerate(parts)]
    if keyword == "oneOf":
        whole.one_of.append((where, found))  # to be looked at when all references are made
    return tuple(choice for choices in found for choice in choices)


def _check_one_of(where: str, found: list[tuple[Choice, ...]]) -> None:
    for i, part in enumerate(found):
        for j in range(i):
            if not disjoint(found[j], part):
                raise _refused(
                    where,
                    f"has the alternatives {j} and {i}, which one value may fit both",
                    "anyOf; or alternatives of other types, or objects that each require the same "
                    "property with a const of its own",
                )


def _ref(pointer: Any, where: str, whole: _Whole) -> Ref:
    """What a reference points to; it is made once, so that a schema may contain itself."""
    if not isinstance(pointer, str) or not pointer.startswith("#"):
        raise _refused(f"{where}.$ref", f"is {pointer!r}", '"#/$defs/..." within the same schema')
    if pointer in whole.bare:
        raise _refused(f"{where}.$ref", f"goes round to {pointer} and says nothing", "a schema")
    if pointer in whole.made:
        return whole.made[pointer]
    found = whole.root
    for name in unquote(pointer[1:]).split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise _refused(f"{where}.$ref", f"is {pointer}, and there is no {name!r}", "its place")
    made = whole.made[pointer] = Ref()
    before, whole.bare = whole.bare, (*whole.bare, pointer)
    made.target = _any_of(found, pointer, whole.nesting, whole)
    whole.bare = before
    return made


def _types(schema: dict[str, Any], used: list[str], where: str) -> tuple[str, ...] | None:
    """The types that are named or meant; None where there is no word of them."""
    if "type" not in used:
        meant = {"string": OF_STRINGS, "number": OF_NUMBERS}
        meant |= {"array": OF_ARRAYS, "object": OF_OBJECTS}
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
    return Literals(Spellings(text for value in fitting for text in _spellings(value, where)))


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


def _string(schema: dict[str, Any], where: str) -> Choice:
    least = _count(schema.get("minLength", 0), f"{where}.minLength")
    most = schema.get("maxLength")
    if most is not None and _count(most, f"{where}.maxLength") < least:
        raise _refused(
            where, f"wants {least} characters at least and {most} at most", "minLength <= maxLength"
        )
    return Text(least, most) if least or most is not None else SCALARS["string"]


def _number(schema: dict[str, Any], where: str, integer: bool) -> Choice:
    ends: dict[bool, list[Any]] = {True: [], False: []}
    for keyword in OF_NUMBERS:
        if keyword not in schema:
            continue
        value = schema[keyword]
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or not abs(value) < 10 ** (DIGITS_BEFORE - 2):
            raise _refused(
                f"{where}.{keyword}", f"is {value!r}", f"a number of {DIGITS_BEFORE - 2} digits"
            )
        is_least = keyword in ("minimum", "exclusiveMinimum")
        ends[is_least].append(bound(value, is_least, keyword.startswith("exclusive"), integer))
    least, most = max(ends[True], default=None), min(ends[False], default=None)
    if least is None and most is None:
        return SCALARS["integer" if integer else "number"]
    if least is not None and most is not None and least > most:
        raise _refused(where, "has bounds with no number between them", "a minimum <= the maximum")
    return Between(least, most, integer)


def _array(schema: dict[str, Any], where: str, room: int, whole: _Whole) -> Choice:
    _room(where, room)
    least = _count(schema.get("minItems", 0), f"{where}.minItems")
    most = schema.get("maxItems")
    if most is not None and _count(most, f"{where}.maxItems") < least:
        raise _refused(
            where, f"wants {least} items at least and {most} at most", "minItems <= maxItems"
        )
    before, whole.bare = whole.bare, ()
    items = _any_of(schema.get("items", True), f"{where}.items", room - 1, whole)
    whole.bare = before
    return Array(items, least, most)


def _object(schema: dict[str, Any], where: str, room: int, whole: _Whole) -> Choice:
    _room(where, room)
    before, whole.bare = whole.bare, ()
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(name, str) for name in properties):
        raise _refused(f"{where}.properties", f"is {properties!r}", "schemas by their names")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _refused(f"{where}.required", f"is {required!r}", "a list of names")
    rest = schema.get("additionalProperties", True)
    inner = f"{where}.additionalProperties"
    others = None if rest is False else _any_of(rest, inner, room - 1, whole)
    if others is None and (missing := set(required) - set(properties)):
        raise _refused(
            where,
            f"requires {sorted(missing)[0]!r}, which additionalProperties forbids",
            "the same name in properties",
        )
    found = []
    for name in dict.fromkeys((*properties, *required)):
        inner = f"{where}.properties.{name}"
        values = others
        if name in properties:
            values = _any_of(properties[name], inner, room - 1, whole)
        spellings = dict.fromkeys(text[1:] for text in _spellings(name, inner))
        found.append(Property(tuple(spellings), values or (), name in required))
    whole.bare = before
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
