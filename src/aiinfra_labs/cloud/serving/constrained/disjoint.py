"""Whether no value fits two of a schema's alternatives, so that `oneOf` is `anyOf`. Unit 4.3.

Both readings are followed at once, and a mask cannot count how many will have fitted in the end. So
it must be plain from the schema: other types, other values, or objects that a property tells apart.
"""

from __future__ import annotations

import json
from typing import Any

from .bounds import Between
from .frames import Array, Choice, Literals, Number, Object, Ref, Text
from .matching import Matched

Kinds = tuple[Choice, ...]


DEEPEST = 8  # objects within objects that are looked into: a schema may contain itself


def disjoint(one: Kinds, other: Kinds, depth: int = 0) -> bool:
    """True only if surely no value fits both."""
    return all(_apart(a, b, depth) for a in _flat(one) for b in _flat(other))


def _flat(choices: Kinds) -> list[Choice]:
    return [c for a in choices for c in (_flat(a.target) if isinstance(a, Ref) else [a])]


def _apart(a: Choice, b: Choice, depth: int) -> bool:
    if isinstance(a, Literals) and isinstance(b, Literals):
        mine, others = ([json.loads(t) for t in x.texts] for x in (a, b))
        return not any(_same(x, y) for x in mine for y in others)
    if types(a).isdisjoint(types(b)):
        return True
    objects = isinstance(a, Object) and isinstance(b, Object)
    return objects and depth < DEEPEST and _told_apart(a, b, depth + 1)


def types(choice: Choice) -> set[str]:
    """What JSON calls the values of a choice."""
    if isinstance(choice, Literals):
        return {_type(json.loads(text)) for text in choice.texts}
    if isinstance(choice, Text | Matched):
        return {"string"}
    if isinstance(choice, Number | Between):
        return {"number"}
    return {"array"} if isinstance(choice, Array) else {"object"}


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1 is 1.0, and no boolean."""
    return _type(a) == _type(b) and a == b


def _told_apart(a: Object, b: Object, depth: int) -> bool:
    """A name that both require, with other values; or that one requires and the other has not."""
    mine, others = ({p.spellings[0]: p for p in x.properties} for x in (a, b))
    for first, second, closed in ((mine, others, b), (others, mine, a)):
        for name, property in first.items():
            if not property.required:
                continue
            if name not in second:
                if closed.others is None:
                    return True
            elif second[name].required and disjoint(property.values, second[name].values, depth):
                return True
    return False
