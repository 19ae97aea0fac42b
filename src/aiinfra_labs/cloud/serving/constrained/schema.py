"""From a JSON Schema to what a value may be. Unit 4.3.

A subset of draft 2020-12: `KNOWN`. What it lacks is refused by name: a keyword that is passed over
in silence would let wrong answers through. Words that only describe, such as title, are passed
over.

All that gets through fits. Not all that fits gets through: the values of an enum have no white
space in them, numbers with bounds no exponent, strings with a pattern or a format no escape that
they could do without. Where a schema gives names, another name has no `\\u`: it could be a second
spelling of a given one, with a value that the schema forbids. A schema without a type is taken to
mean the one that its keywords are of: with properties, an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from ..errors import RequestError
from . import formats
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
from .matching import Machine, Matched
from .regular import NoPattern, automaton_of

SCALARS: dict[str, Choice] = {
    "string": Text(),
    "number": Number(),
    "integer": Number(integer=True),
    "boolean": Literals(Spellings((b"true", b"false"))),
    "null": Literals(Spellings((b"null",))),
}
TYPES = (*SCALARS, "array", "object")
OF_ARRAYS = ("items", "prefixItems", "minItems", "maxItems")
OF_OBJECTS = ("properties", "required", "additionalProperties")
OF_STRINGS = ("minLength", "maxLength", "pattern", "format")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
OF_NUMBERS = (*BOUNDS, "multipleOf")
OF_TYPES = (*OF_STRINGS, *OF_NUMBERS, *OF_ARRAYS, *OF_OBJECTS)
ALONE = ("$ref", "anyOf", "oneOf", "allOf")  # beside these there is no other
KNOWN = ("type", "enum", "const", *ALONE, *OF_TYPES)
WORDS = (
    *("$defs", "definitions"),
    *("title", "description", "default", "examples", "$schema", "$id", "$comment"),
    *("deprecated", "readOnly", "writeOnly"),
    "discriminator",  # OpenAPI's hint of which alternative to try: oneOf itself decides
)


@dataclass
class _Whole:
    """The schema that references point into."""

    root: Any
    nesting: int
    made: dict[str, Ref] = field(default_factory=dict)  # by pointer
    bare: tuple[str, ...] = ()  # references that were followed without opening a level
    one_of: list[tuple[str, list[tuple[Choice, ...]]]] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)


def choices_of(schema: Any, nesting: int) -> tuple[tuple[Choice, ...], int, int]:
    """(What the whole text may be, levels that the neediest part of it opens, bytes of machines).

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
    return choices, min(deepest, nesting), sum(machine.nbytes for machine in whole.machines)


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
            todo += [*choice.items, *(part for parts in choice.first for part in parts)]
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
        return 1 + max((least_needs(choice.at(i)) for i in range(_kinds(choice))), default=0)
    required = (least_needs(p.values) for p in choice.properties if p.required)
    return 1 + max(required, default=0)


def _kinds(array: Array) -> int:
    """How many of the items that must be there can differ in what they need."""
    return min(array.least, len(array.first) + 1)


def _any_of(schema: Any, where: str, room: int, whole: _Whole) -> tuple[Choice, ...]:
    if schema is True or schema == {}:
        return ANYTHING
    if not isinstance(schema, dict):
        raise _refused(
            where, f"is {schema!r}, which no value can satisfy", 'an object such as {"type": "..."}'
        )
    for keyword in schema:
        if keyword == "uniqueItems" and schema[keyword] is False:
            continue
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
        "string": lambda: _string(schema, where, whole),
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


def _string(schema: dict[str, Any], where: str, whole: _Whole) -> Choice:
    least = _count(schema.get("minLength", 0), f"{where}.minLength")
    most = schema.get("maxLength")
    if most is not None and _count(most, f"{where}.maxLength") < least:
        raise _refused(
            where, f"wants {least} characters at least and {most} at most", "minLength <= maxLength"
        )
    patterns: dict[str, str] = {}  # by keyword
    if "format" in schema:
        name = schema["format"]
        if not isinstance(name, str) or name not in formats.OF_TEXT:
            raise _refused(
                f"{where}.format", f"is {name!r}", f"{_one_of(formats.OF_TEXT)}; or a pattern"
            )
        patterns["format"] = f"^(?:{formats.OF_TEXT[name]})$"
    if "pattern" in schema:
        patterns["pattern"] = schema["pattern"]
        if not isinstance(schema["pattern"], str):
            raise _refused(f"{where}.pattern", f"is {schema['pattern']!r}", "a regular expression")
    if not patterns:
        return Text(least, most) if least or most is not None else SCALARS["string"]
    keyword = "pattern" if "pattern" in schema else "format"
    try:
        machine = Machine([automaton_of(p) for p in patterns.values()], least, most)
    except NoPattern as error:
        what, try_ = error.args
        raise _refused(f"{where}.{keyword}", f"is {schema[keyword]!r}: {what}", try_) from None
    except RecursionError:
        raise _refused(f"{where}.{keyword}", "nests too deep", "fewer groups") from None
    whole.machines.append(machine)
    return Matched(machine)


def _number(schema: dict[str, Any], where: str, integer: bool) -> Choice:
    ends: dict[bool, list[Any]] = {True: [], False: []}
    multiple = _multiple(schema, where)
    integer = integer or multiple is not None  # whose multiples are integers
    span = _format_of_numbers(schema, where)
    if span is not None:
        ends[True].append(Fraction(span[0]))
        ends[False].append(Fraction(span[1]))
    for keyword in BOUNDS:
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
    if least is None and most is None and (multiple or 1) == 1:
        return SCALARS["integer" if integer else "number"]
    if least is not None and most is not None and least > most:
        raise _refused(where, "has bounds with no number between them", "a minimum <= the maximum")
    found = Between(least, most, integer, multiple or 1)
    if not (found.has_any(b"") or found.has_any(b"-")):
        raise _refused(
            where,
            f"has no multiple of {multiple} within its bounds",
            "bounds with one between them",
        )
    return found


def _multiple(schema: dict[str, Any], where: str) -> int | None:
    """multipleOf. Only an integer: whether 0.3 is a multiple of 0.1, readers of floats differ."""
    value = schema.get("multipleOf")
    if value is None:
        return None
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not 0 < value < 10 ** (DIGITS_BEFORE // 2) or value != int(value):
        raise _refused(
            f"{where}.multipleOf", f"is {value!r}", "an integer above 0; or cents and not dollars"
        )
    return int(value)


def _format_of_numbers(schema: dict[str, Any], where: str) -> tuple[int, int] | None:
    name = schema.get("format")
    types = schema.get("type")
    if name is None or ("string" in types if isinstance(types, list) else False):
        return None  # it is the string's
    if name not in formats.OF_NUMBERS:
        raise _refused(f"{where}.format", f"is {name!r}", _one_of(formats.OF_NUMBERS))
    return formats.OF_NUMBERS[name]


def _array(schema: dict[str, Any], where: str, room: int, whole: _Whole) -> Choice:
    _room(where, room)
    least = _count(schema.get("minItems", 0), f"{where}.minItems")
    most = schema.get("maxItems")
    if most is not None and _count(most, f"{where}.maxItems") < least:
        raise _refused(
            where, f"wants {least} items at least and {most} at most", "minItems <= maxItems"
        )
    before, whole.bare = whole.bare, ()
    first = []
    for i, part in enumerate(_list(schema.get("prefixItems", [True]), f"{where}.prefixItems")):
        first.append(_any_of(part, f"{where}.prefixItems[{i}]", room - 1, whole))
    first = first if "prefixItems" in schema else []
    rest = schema.get("items", True)
    if rest is False:  # no other items than the first
        most = len(first) if most is None else min(most, len(first))
        if most < least:
            raise _refused(
                where, f"wants {least} items at least, and names {most}", "a smaller minItems"
            )
    items = ANYTHING if rest is False else _any_of(rest, f"{where}.items", room - 1, whole)
    whole.bare = before
    return Array(items, least, most, tuple(first))


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
