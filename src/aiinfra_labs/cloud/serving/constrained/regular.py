"""A `pattern` of a JSON Schema, read into an automaton of characters. Unit 4.3.

Patterns are regular expressions of ECMA-262, and most validators read them with their own
language's, such as Python's `re`. Where the two differ, what is read here is what both allow: `\\d`
is 0 to 9, `.` no line end of either, `$` the very end. What is no regular language, such as a
look-ahead or a back-reference, is refused; so is what the two read in different ways.

Thompson, "Regular Expression Search Algorithm", CACM 11(6), 1968.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

Ranges = tuple[tuple[int, int], ...]  # code points, from and to, both included; sorted, apart

# What a string may hold here: no half of a surrogate pair, and of the control characters those
# that have an escape of their own.
ALL: Ranges = ((0x8, 0xA), (0xC, 0xD), (0x20, 0xD7FF), (0xE000, 0x10FFFF))
MOST_NODES = 4000
MOST_REPEATS = 1000

DIGITS = ((0x30, 0x39),)
WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACE = (
    *((0x9, 0xD), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)
LINE_ENDS = ((0xA, 0xA), (0xD, 0xD), (0x2028, 0x2029))
CONTROLS = {"n": 0xA, "r": 0xD, "t": 0x9, "f": 0xC, "v": 0xB}


class NoPattern(ValueError):
    """(What stands in the pattern, what to try.)"""


@dataclass
class Node:
    """A state: where characters lead, and where nothing does: "", or "^" and "$" at the ends."""

    moves: list[tuple[Ranges, int]] = field(default_factory=list)
    free: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Automaton:
    """Nodes by number; a text fits if a way from `start` to `end` spells it."""

    nodes: list[Node]
    start: int
    end: int


def automaton_of(pattern: str) -> Automaton:
    """Texts in which the pattern is found somewhere, as JSON Schema wants. Raises `NoPattern`."""
    reader = _Reader(pattern)
    first, last = reader.alternatives()
    if reader.place < len(pattern):
        raise NoPattern(f"{pattern[reader.place]!r} closes nothing", r"\) for the character")
    before, behind = reader.node(), reader.node()
    for node, after in ((before, first), (last, behind)):
        reader.nodes[node].free.append(("", after))
    for node in (before, behind):
        reader.nodes[node].moves.append((ALL, node))
    return Automaton(reader.nodes, before, behind)


def merged(ranges: list[tuple[int, int]]) -> Ranges:
    """The same code points, sorted, and no range beside another."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def without(ranges: Ranges) -> Ranges:
    """All code points but these."""
    found, start = [], 0
    for first, last in merged(list(ranges)):
        if start < first:
            found.append((start, first - 1))
        start = last + 1
    if start <= 0x10FFFF:
        found.append((start, 0x10FFFF))
    return tuple(found)


@cache
def shorthand(letter: str, generous: bool) -> Ranges:
    """What `\\d`, `\\w`, `\\s` and their opposites stand for: in both languages, or in either."""
    if letter in "DWS":
        return without(shorthand(letter.lower(), not generous))
    narrow = {"d": DIGITS, "w": WORD, "s": SPACE}[letter]
    if not generous:
        return narrow
    if letter == "s":  # Python's separators, and the byte order mark of ECMA-262
        return merged([*narrow, (0x1C, 0x1F), (0x85, 0x85), (0xFEFF, 0xFEFF)])
    wide = re.compile(rf"\{letter}+")  # Python's, of all Unicode
    halves = " " * 0x800  # of surrogate pairs, in whose place stands what is not looked for
    text = "".join(map(chr, range(0xD800))) + halves + "".join(map(chr, range(0xE000, 0x110000)))
    return merged([(m.start(), m.end() - 1) for m in wide.finditer(text)])


class _Reader:
    """Reads a pattern from left to right; each part becomes (its first node, its last)."""

    def __init__(self, pattern: str):
        self.pattern, self.place = pattern, 0
        self.nodes: list[Node] = []

    def node(self) -> int:
        if len(self.nodes) >= MOST_NODES:
            raise NoPattern(f"it needs more than {MOST_NODES:,} states", "smaller repetitions")
        self.nodes.append(Node())
        return len(self.nodes) - 1

    def next(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.place)
        self.place += len(text) if found else 0
        return found

    def joined(self, parts: list[tuple[int, int]]) -> tuple[int, int]:
        """One behind the other."""
        if not parts:
            only = self.node()
            return only, only
        for (_, last), (first, _) in zip(parts, parts[1:], strict=False):
            self.nodes[last].free.append(("", first))
        return parts[0][0], parts[-1][1]

    def alternatives(self) -> tuple[int, int]:
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        if len(parts) == 1:
            return parts[0]
        start, end = self.node(), self.node()
        for first, last in parts:
            self.nodes[start].free.append(("", first))
            self.nodes[last].free.append(("", end))
        return start, end

    def sequence(self) -> tuple[int, int]:
        parts = []
        while self.next() not in ("", "|", ")"):
            place = self.place
            part = self.atom()
            bounds = self.quantifier()
            if bounds is not None:
                if self.pattern[place] in "^$":
                    raise NoPattern("an end of the text is repeated", "^ or $ once")
                part = self.repeated(place, part, *bounds)
            parts.append(part)
        return self.joined(parts)

    def repeated(
        self, place: int, part: tuple[int, int], least: int, most: int | None
    ) -> tuple[int, int]:
        """The part at `place` of the pattern as often as it must, and as it may."""
        behind = self.place

        def again() -> tuple[int, int]:
            self.place = place
            made = self.atom()
            self.place = behind
            return made

        parts = [part if i == 0 else again() for i in range(least)]
        if most is None:  # once more, any number of times
            first, last = again() if least else part
            around = self.node()
            self.nodes[around].free.append(("", first))
            self.nodes[last].free.append(("", around))
            parts.append((around, around))
        else:
            end = self.node()
            for i in range(least, most):
                first, last = part if i == 0 else again()
                door = self.node()
                self.nodes[door].free += [("", first), ("", end)]
                parts.append((door, last))
            parts.append((end, end))
        return self.joined(parts)

    def quantifier(self) -> tuple[int, int | None] | None:
        found: tuple[int, int | None]
        if self.take("*"):
            found = 0, None
        elif self.take("+"):
            found = 1, None
        elif self.take("?"):
            found = 0, 1
        elif self.next() == "{":
            match = re.compile(r"\{(\d+)(,(\d*))?\}").match(self.pattern, self.place)
            if match is None:
                raise NoPattern("a { that begins no {2}, {2,} or {2,5}", r"\{ for the character")
            self.place = match.end()
            least = int(match[1])
            most = least if match[2] is None else int(match[3]) if match[3] else None
            found = least, most
            if (most is not None and most < least) or max(least, most or 0) > MOST_REPEATS:
                raise NoPattern(
                    f"{match[0]} repeats too often, or its ends are the wrong way round",
                    f"at most {MOST_REPEATS:,} times",
                )
        else:
            return None
        if self.next() in ("*", "+", "{"):
            raise NoPattern(f"{self.next()!r} repeats what is repeated", "a group: (?:a+)*")
        self.take("?")  # lazy: which match is found first does not matter
        return found

    def atom(self) -> tuple[int, int]:
        character = self.next()
        self.place += 1
        if character in "^$":
            start, end = self.node(), self.node()
            self.nodes[start].free.append((character, end))
            return start, end
        if character == "(":
            return self.group()
        if character in "*+?{":
            raise NoPattern(f"{character!r} has nothing to repeat", rf"\{character} as a character")
        if character == "[":
            return self.one_of(self.characters())
        if character == ".":
            return self.one_of(without(LINE_ENDS))
        if character == "\\":
            return self.one_of(self.escape(False, False))
        return self.one_of(((ord(character), ord(character)),))

    def one_of(self, ranges: Ranges) -> tuple[int, int]:
        start, end = self.node(), self.node()
        self.nodes[start].moves.append((ranges, end))
        return start, end

    def group(self) -> tuple[int, int]:
        named = re.compile(r"\?(:|P?<[A-Za-z_]\w*>)").match(self.pattern, self.place)
        if named:
            self.place = named.end()
        elif self.next() == "?":
            raise NoPattern(
                f"{self.pattern[self.place - 1 : self.place + 3]!r}: it looks ahead or behind, or "
                "sets a flag",
                "(?:...), and what shall hold spelled out",
            )
        found = self.alternatives()
        if not self.take(")"):
            raise NoPattern("a ( that is not closed", r"\( for the character")
        return found

    def escape(self, within: bool, generous: bool) -> Ranges:
        r"""What stands behind a \. within: square brackets. generous: in either language."""
        letter = self.next()
        self.place += 1
        if letter and letter in "dDwWsS":
            return shorthand(letter, generous)
        if letter in CONTROLS:
            return ((CONTROLS[letter],) * 2,)
        if letter == "b" and within:
            return ((0x8, 0x8),)
        if letter and letter in "xu":
            size = 2 if letter == "x" else 4
            digits = self.pattern[self.place : self.place + size]
            if re.fullmatch(rf"[0-9A-Fa-f]{{{size}}}", digits):
                self.place += size
                code = int(digits, 16)
                if not 0xD800 <= code <= 0xDFFF:
                    return ((code, code),)
                raise NoPattern(f"\\u{digits}, half of a character", "the character itself")
        if not letter or letter.isalnum():
            raise NoPattern(
                f"\\{letter}, which is no single character, or not in all languages",
                r"\d, \w, \s, \uXXXX, or the characters themselves",
            )
        return ((ord(letter), ord(letter)),)

    def characters(self) -> Ranges:
        """Behind a [ to its ]."""
        opposite = self.take("^")
        if self.next() == "]":
            raise NoPattern("[] or [^], which languages read differently", r"\] for the character")
        found: list[tuple[int, int]] = []
        while not self.take("]"):
            if not self.next():
                raise NoPattern("a [ that is not closed", r"\[ for the character")
            first = self._one(opposite)
            behind = self.pattern[self.place + 1 : self.place + 2]
            if self.next() == "-" and behind not in ("]", ""):
                self.place += 1
                last = self._one(opposite)
                both = (*first, *last)
                if len(both) != 2 or any(a != b for a, b in both) or both[0][0] > both[1][0]:
                    raise NoPattern("a range in [] without two ends in order", r"\- for a hyphen")
                first = ((both[0][0], both[1][0]),)
            found += first
        return without(merged(found)) if opposite else merged(found)

    def _one(self, generous: bool) -> Ranges:
        character = self.next()
        self.place += 1
        if character == "\\":
            return self.escape(True, generous)
        return ((ord(character), ord(character)),)
