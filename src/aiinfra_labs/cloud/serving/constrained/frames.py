"""JSON byte by byte: a pushdown automaton (下推自动机) whose stack may branch. Unit 4.3.

A stack is a tuple of frames, the innermost last. Only the innermost frame looks at the next byte,
and `step` says what may stand in its place: `()` when its part of the text is over, more than one
frame when something inside it begins. Where a byte leaves two ways open - "1" may be a whole
number, or the first digit of "12" - there are two replacements, and both stacks are followed.

The grammar is RFC 8259's, with what a model must not do for ever bounded: white space in a row,
levels of nesting, characters of a number. Strings are valid UTF-8, and `\\ud83d` alone, half of a
surrogate pair, is none: it would be no text that can be sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

WHITE = b" \t\n\r"
WHITE_LEFT = 32  # white space in a row: a line feed, and an indentation of 31
NESTING = 32  # arrays and objects within each other
NUMBER = 64  # characters; Python reads no integer of more than 4,300 digits
OVER = "over"

Moves = dict[str, dict[int, str]]  # state -> byte -> state


def _range(first: int, last: int, to: str) -> dict[int, str]:
    return dict.fromkeys(range(first, last + 1), to)


def _of(characters: bytes, to: str) -> dict[int, str]:
    return dict.fromkeys(characters, to)


HEX = b"0123456789abcdefABCDEF"

# What follows the opening quote. UTF-8's rows are table 3-7 of the Unicode standard.
STRING: Moves = {
    "text": _range(0x20, 0x7F, "text")
    | {ord('"'): OVER, ord("\\"): "escape"}
    | _range(0xC2, 0xDF, "tail1")
    | _range(0xE0, 0xEF, "tail2")
    | {0xE0: "e0", 0xED: "ed"}
    | _range(0xF1, 0xF3, "tail3")
    | {0xF0: "f0", 0xF4: "f4"},
    "tail1": _range(0x80, 0xBF, "text"),
    "tail2": _range(0x80, 0xBF, "tail1"),
    "tail3": _range(0x80, 0xBF, "tail2"),
    "e0": _range(0xA0, 0xBF, "tail1"),  # nothing that fewer bytes can spell
    "ed": _range(0x80, 0x9F, "tail1"),  # no half of a surrogate pair
    "f0": _range(0x90, 0xBF, "tail2"),
    "f4": _range(0x80, 0x8F, "tail2"),  # nothing beyond U+10FFFF
    "escape": _of(b'"\\/bfnrt', "text") | {ord("u"): "u"},
    "u": _of(HEX, "u3") | _of(b"dD", "ud"),
    "ud": _of(b"01234567", "u2") | _of(b"89abAB", "high2"),
    "u3": _of(HEX, "u2"),
    "u2": _of(HEX, "u1"),
    "u1": _of(HEX, "text"),
    "high2": _of(HEX, "high1"),
    "high1": _of(HEX, "low"),
    "low": {ord("\\"): "low_u"},  # the second half of the pair
    "low_u": {ord("u"): "low_d"},
    "low_d": _of(b"dD", "low_c"),
    "low_c": _of(b"cdefCDEF", "u2"),
}
# With only the escapes that must be, each text has one spelling, and names compare by their bytes.
PLAIN: Moves = STRING | {"escape": _of(b'"\\bfnrt', "text")}

DIGITS = b"0123456789"
INTEGER: Moves = {
    "start": {ord("-"): "minus", ord("0"): "zero"} | _of(DIGITS[1:], "whole"),
    "minus": {ord("0"): "zero"} | _of(DIGITS[1:], "whole"),
    "zero": {},
    "whole": _of(DIGITS, "whole"),
}
REAL: Moves = INTEGER | {
    "zero": {ord("."): "point"} | _of(b"eE", "e"),
    "whole": INTEGER["whole"] | {ord("."): "point"} | _of(b"eE", "e"),
    "point": _of(DIGITS, "fraction"),
    "fraction": _of(DIGITS, "fraction") | _of(b"eE", "e"),
    "e": _of(b"+-", "sign") | _of(DIGITS, "exponent"),
    "sign": _of(DIGITS, "exponent"),
    "exponent": _of(DIGITS, "exponent"),
}
WHOLE_NUMBERS = ("zero", "whole", "fraction", "exponent")


@dataclass(frozen=True)
class Reach:
    """How far one token can go: what lies beyond cannot change which tokens are allowed."""

    white: int  # the longest row of white space in a token
    opening: int  # the most "[" and "{" in a token
    closing: int  # the most "]" and "}" in a token
    number: int  # the longest row of characters that a number can have
    characters: int  # the longest token


class Frame(Protocol):
    """One level of the stack; frozen, equal by value."""

    __slots__ = ()

    def step(self, byte: int) -> Iterator[tuple[Frame, ...]]:
        """Every row of frames that may stand in this one's place after `byte`."""

    def within(self, reach: Reach) -> Frame:
        """A frame that allows the same tokens, alike for all that a token cannot tell apart."""


Stack = tuple[Frame, ...]


class Spellings(tuple[bytes, ...]):
    """Texts in order, each once: those with the same beginning lie side by side.

    So what is left of thousands of texts after some bytes is two numbers, and a byte more is a
    search by halves, not a look at each. Compared by identity.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __new__(cls, texts: Iterable[bytes]) -> Spellings:
        return super().__new__(cls, sorted(set(texts)))

    def __eq__(self, other: object) -> bool:
        return self is other

    def narrowed(self, first: int, last: int, depth: int, byte: int) -> tuple[int, int]:
        """Of those from `first` to `last`, alike in `depth` bytes: those that have `byte` next."""

        def next_byte(text: bytes) -> int:
            return text[depth] if len(text) > depth else -1

        first = bisect_left(self, byte, first, last, key=next_byte)
        return first, bisect_right(self, byte, first, last, key=next_byte)


# --- what a value may be --------------------------------------------------------------------------


class Choice(Protocol):
    """One kind of value. Compared by identity.

    needs: levels that its shallowest value opens.
    """

    needs: float

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        """What its first byte opens. room: how many levels may still be opened here."""


@dataclass(eq=False)
class Text(Choice):
    """A string of `least` to `most` characters; most is None where there is no bound."""

    least: int = 0
    most: int | None = None
    needs = 0

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        if byte == ord('"'):
            yield (String("text", self.least, self.most),)


@dataclass(eq=False)
class Number(Choice):
    """A number, or an integer without fraction and exponent."""

    integer: bool = False
    needs = 0

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        yield from Numeral("start", NUMBER, self.integer).step(byte)


@dataclass(eq=False)
class Literals(Choice):
    """One of several texts, such as true, false, null, or the values of an enum."""

    texts: Spellings
    needs = 0

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        yield from Literal(self.texts, 0, len(self.texts), 0).step(byte)


@dataclass(eq=False)
class Array(Choice):
    """`least` to `most` items of one kind; most is None where there is no bound.

    first: what the first items may be, one by one, where they are of other kinds.
    """

    items: tuple[Choice, ...]
    least: int = 0
    most: int | None = None
    first: tuple[tuple[Choice, ...], ...] = ()
    needs: float = 1

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        if byte == ord("[") and room >= self.needs:
            yield (Items(self, None, room - 1, WHITE_LEFT),)

    def counted(self, items: int) -> int:
        """The number of items as far as it matters."""
        told_apart = max(self.least, len(self.first))
        return min(items, told_apart if self.most is None else self.most)

    def at(self, count: int) -> tuple[Choice, ...]:
        """What the item behind `count` others may be."""
        return self.first[count] if count < len(self.first) else self.items


@dataclass(eq=False)
class Property:
    """A name that the schema gives, by its spellings with the closing quote, and its values."""

    spellings: tuple[bytes, ...]
    values: tuple[Choice, ...]
    required: bool


@dataclass(eq=False)
class Object(Choice):
    """Properties in any order, each at most once; `others` is what any other name may have."""

    properties: tuple[Property, ...] = ()
    others: tuple[Choice, ...] | None = None  # None: there are no other names
    needs: float = 1
    names: Spellings = field(init=False)  # of all properties
    numbers: tuple[int, ...] = field(init=False)  # whose each of these is

    def __post_init__(self) -> None:
        whose = {spelling: n for n, p in enumerate(self.properties) for spelling in p.spellings}
        self.names = Spellings(whose)
        self.numbers = tuple(whose[spelling] for spelling in self.names)

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        if byte == ord("{") and room >= self.needs:
            fit = (n for n, p in enumerate(self.properties) if least_needs(p.values) < room)
            left = frozenset(fit)
            yield (Members(self, left, "open", room - 1, WHITE_LEFT),)

    def may_end(self, left: frozenset[int]) -> bool:
        """Whether it may be closed, with the properties of these numbers still missing."""
        return not any(self.properties[i].required for i in left)

    def may_go_on(self, left: frozenset[int], room: int) -> bool:
        """Whether another member may come. room: levels that may still be opened."""
        return bool(left) or self.has_others(room)

    def has_others(self, room: int) -> bool:
        """Whether another name may come, with a value that there is room for."""
        return self.others is not None and least_needs(self.others) <= room


@dataclass(eq=False)
class Ref(Choice):
    """What stands elsewhere in the schema, perhaps around this very place."""

    target: tuple[Choice, ...] = ()
    needs: float = 0

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        return begin(self.target, byte, room)


def least_needs(choices: tuple[Choice, ...]) -> float:
    """Levels that the shallowest value opens."""
    return min(choice.needs for choice in choices)


def begin(choices: tuple[Choice, ...], byte: int, room: int) -> Iterator[Stack]:
    """What the first byte of a value opens, whichever kind it is."""
    for choice in choices:
        yield from choice.start(byte, room)


# --- frames ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class End(Frame):
    """Below everything: the text is whole, and only white space may follow."""

    white: int

    def step(self, byte: int) -> Iterator[Stack]:
        if byte in WHITE and self.white:
            yield (End(self.white - 1),)

    def within(self, reach: Reach) -> End:
        return End(min(self.white, reach.white))


@dataclass(frozen=True, slots=True)
class Value(Frame):
    """A value must come."""

    choices: tuple[Choice, ...]
    room: int
    white: int

    def step(self, byte: int) -> Iterator[Stack]:
        if byte in WHITE:
            if self.white:
                yield (replace(self, white=self.white - 1),)
        else:
            yield from begin(self.choices, byte, self.room)

    def within(self, reach: Reach) -> Value:
        return Value(self.choices, min(self.room, reach.opening), min(self.white, reach.white))


@dataclass(frozen=True, slots=True)
class String(Frame):
    """Inside a string that is a value. least, most: characters that must and may still come."""

    state: str
    least: int = 0
    most: int | None = None

    def step(self, byte: int) -> Iterator[Stack]:
        to = STRING[self.state].get(byte)
        if to is None or (self.state == "text" and self.most == 0 and to is not OVER):
            return
        if to is OVER:
            if not self.least:
                yield ()
        elif to != "text":
            yield (String(to, self.least, self.most),)
        else:  # a character is over, in however many bytes
            most = None if self.most is None else self.most - 1
            yield (String(to, max(0, self.least - 1), most),)

    def within(self, reach: Reach) -> String:
        free = self.most is None or self.most >= reach.characters
        return String(self.state, min(self.least, reach.characters), None if free else self.most)


@dataclass(frozen=True, slots=True)
class Numeral(Frame):
    """Inside a number, of which `left` more characters may come."""

    state: str
    left: int
    integer: bool

    def step(self, byte: int) -> Iterator[Stack]:
        to = (INTEGER if self.integer else REAL).get(self.state, {}).get(byte)
        if to is None or not self.left:
            return
        whole = to in WHOLE_NUMBERS
        if whole or self.left > 1:  # "-" and "." need a digit behind them
            yield (Numeral(to, self.left - 1, self.integer),)
        if whole:
            yield ()

    def within(self, reach: Reach) -> Numeral:
        return Numeral(self.state, min(self.left, reach.number + 1), self.integer)


@dataclass(frozen=True, slots=True)
class Literal(Frame):
    """Inside one of several texts: number `first` to `last` begin as what came, `depth` bytes."""

    texts: Spellings
    first: int
    last: int
    depth: int

    def step(self, byte: int) -> Iterator[Stack]:
        first, last = self.texts.narrowed(self.first, self.last, self.depth, byte)
        if first < last and len(self.texts[first]) == self.depth + 1:
            yield ()
            first += 1
        if first < last:
            yield (Literal(self.texts, first, last, self.depth + 1),)

    def within(self, reach: Reach) -> Literal:
        return self


@dataclass(frozen=True, slots=True)
class Items(Frame):
    """Inside an array. count: the items begun; None right behind the bracket."""

    array: Array
    count: int | None
    room: int
    white: int

    def step(self, byte: int) -> Iterator[Stack]:
        array, count = self.array, self.count or 0
        full = array.most is not None and count >= array.most
        if byte in WHITE:
            if self.white:
                yield (replace(self, white=self.white - 1),)
        elif byte == ord("]"):
            if count >= array.least:
                yield ()
        elif full:
            return
        elif self.count is None:
            for inner in begin(array.at(0), byte, self.room):
                yield (self._after(1), *inner)
        elif byte == ord(",") and least_needs(array.at(count)) <= self.room:
            yield (self._after(count + 1), Value(array.at(count), self.room, WHITE_LEFT))

    def _after(self, items: int) -> Items:
        return Items(self.array, self.array.counted(items), self.room, WHITE_LEFT)

    def within(self, reach: Reach) -> Items:
        room, white = min(self.room, reach.opening), min(self.white, reach.white)
        return Items(self.array, self.count, room, white)


@dataclass(frozen=True, slots=True)
class Members(Frame):
    """Inside an object, between its members.

    left: the properties that have not come yet. place: "open" behind the brace, "comma" behind a
    comma, "value" behind a value.
    """

    object: Object
    left: frozenset[int]
    place: str
    room: int
    white: int

    def step(self, byte: int) -> Iterator[Stack]:
        may_go_on = self.object.may_go_on(self.left, self.room)
        if byte in WHITE:
            if self.white:
                yield (replace(self, white=self.white - 1),)
        elif byte == ord("}"):
            if self.place != "comma" and self.object.may_end(self.left):
                yield ()
        elif byte == ord('"'):
            if self.place != "value" and may_go_on:
                yield (Name.of(self.object, self.left, self.room),)
        elif byte == ord(",") and self.place == "value" and may_go_on:
            yield (Members(self.object, self.left, "comma", self.room, WHITE_LEFT),)

    def within(self, reach: Reach) -> Members:
        room, white = min(self.room, reach.opening), min(self.white, reach.white)
        return Members(self.object, self.left, self.place, room, white)


@dataclass(frozen=True, slots=True)
class Name(Frame):
    """Inside the name of a member, behind `depth` bytes of it.

    first, last: the schema's names that it may become, by their numbers in `object.names`. state:
    where in a string of another name it is; None where it can only become a given one.
    """

    object: Object
    left: frozenset[int]
    first: int
    last: int
    depth: int
    state: str | None
    room: int

    @classmethod
    def of(cls, object: Object, left: frozenset[int], room: int) -> Name:
        """The frame behind the quote that opens a name."""
        state = "text" if object.has_others(room) else None
        return cls(object, left, 0, len(object.names), 0, state, room)

    def _possible(self) -> bool:
        """A name that came before may begin another one, but where there is no other it may not."""
        if self.state is not None:
            return True
        return any(n in self.left for n in self.object.numbers[self.first : self.last])

    def step(self, byte: int) -> Iterator[Stack]:
        names = self.object.names
        first, last = names.narrowed(self.first, self.last, self.depth, byte)
        if first < last and len(names[first]) == self.depth + 1:  # its closing quote
            number = self.object.numbers[first]
            if number in self.left:
                values = self.object.properties[number].values
                yield (Colon(self.object, self.left - {number}, values, self.room, WHITE_LEFT),)
            return
        moves = PLAIN if self.object.properties else STRING
        state = None if self.state is None else moves[self.state].get(byte)
        if state is OVER:
            yield (Colon(self.object, self.left, self.object.others, self.room, WHITE_LEFT),)
            return
        after = Name(self.object, self.left, first, last, self.depth + 1, state, self.room)
        if after._possible():
            yield (after._alike(),)

    def _alike(self) -> Name:
        """Where it can become no given name any more, all names of its state are one."""
        if self.first < self.last:
            return self
        return replace(self, first=0, last=0, depth=0)

    def within(self, reach: Reach) -> Name:
        return replace(self, room=min(self.room, reach.opening))


@dataclass(frozen=True, slots=True)
class Colon(Frame):
    """Behind a name."""

    object: Object
    left: frozenset[int]
    values: tuple[Choice, ...]
    room: int
    white: int

    def step(self, byte: int) -> Iterator[Stack]:
        if byte in WHITE:
            if self.white:
                yield (replace(self, white=self.white - 1),)
        elif byte == ord(":"):
            behind = Members(self.object, self.left, "value", self.room, WHITE_LEFT)
            yield (behind, Value(self.values, self.room, WHITE_LEFT))

    def within(self, reach: Reach) -> Colon:
        room, white = min(self.room, reach.opening), min(self.white, reach.white)
        return Colon(self.object, self.left, self.values, room, white)


# --- any JSON at all ------------------------------------------------------------------------------


def _anything() -> tuple[Choice, ...]:
    array, object = Array(()), Object()
    words = Literals(Spellings((b"true", b"false", b"null")))
    choices: tuple[Choice, ...] = (Text(), Number(), words, array, object)
    array.items = object.others = choices
    return choices


ANYTHING = _anything()
