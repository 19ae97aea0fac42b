"""Strings that fit patterns, byte by byte as JSON spells them. Unit 4.3.

The automata of all patterns, and the count of characters where the length has bounds, go next to
each other; what they are in at once is one state. States from which no end can be reached are left
out, so that whatever is begun can be ended. Bytes come next: a character of several bytes is taken
in when its last one has come.

A text has one spelling here: escapes stand only where JSON needs them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .frames import PLAIN, Choice, Frame, Reach, Stack
from .regular import ALL, Automaton, NoPattern

MOST_STATES = 4000
ESCAPED = {ord(a): ord(b) for a, b in zip('"\\bfnrt', '"\\\b\f\n\r\t', strict=True)}
MUST_BE_ESCAPED = frozenset(ESCAPED.values())

Together = tuple[tuple[frozenset[int], ...], int]  # the nodes of each automaton, and characters


class Machine:
    """What the strings are that fit all of some automata, with `least` to `most` characters.

    States are numbers, 0 the first. Compared by identity. Raises `NoPattern` where no string fits,
    or where there are more than `MOST_STATES` states.
    """

    def __init__(self, automata: Sequence[Automaton], least: int = 0, most: int | None = None):
        self.automata, self.least, self.most = tuple(automata), least, most
        self._cut()
        start = tuple(self._closed(n, {a.start}, "^") for n, a in enumerate(automata))
        numbers: dict[Together, int] = {(start, 0): 0}
        todo = deque(numbers)
        moves: list[list[int | None]] = []  # by state, by class
        while todo:
            here = todo.popleft()
            row: list[int | None] = []
            for kind in range(self.classes):
                after = self._after(here, kind)
                if after is not None and after not in numbers:
                    if len(numbers) >= MOST_STATES:
                        raise NoPattern(
                            f"it takes more than {MOST_STATES:,} states to follow",
                            "smaller repetitions or lengths, or ^ and $ around the pattern",
                        )
                    numbers[after] = len(numbers)
                    todo.append(after)
                row.append(None if after is None else numbers[after])
            moves.append(row)
        self.ends = [self._is_end(state) for state in numbers]
        live = self._live(moves)
        if not live[0]:
            raise NoPattern("no string fits it, and the other keywords beside it", "one that can")
        self.moves = [[t if t is not None and live[t] else None for t in row] for row in moves]
        self.automata, self._steps = (), []  # all that they say is in the moves

    @property
    def nbytes(self) -> int:
        """What it keeps, about: a place of a list has 8 bytes."""
        return 8 * (len(self.moves) * (self.classes + 8) + 2 * len(self.cuts))

    def target(self, state: int, code: int) -> int | None:
        """Where a character leads; None where it may not come."""
        place = bisect_right(self.cuts, code) - 1
        kind = self.kinds[place] if place >= 0 else None
        return None if kind is None else self.moves[state][kind]

    def targets(self, state: int, first: int, last: int) -> tuple[set[int], bool]:
        """(Where the characters from `first` to `last` lead, whether one of them may not come)."""
        found: set[int] = set()
        missing = False
        place = max(0, bisect_right(self.cuts, first) - 1)
        while place < len(self.cuts) and self.cuts[place] <= last:
            kind = self.kinds[place]
            if kind is not None:
                to = self.moves[state][kind]
                missing |= to is None
                if to is not None:
                    found.add(to)
            place += 1
        return found, missing

    # --- states of all automata at once -----------------------------------------------------------

    def _cut(self) -> None:
        """Characters that no automaton tells apart are one class."""
        sets = {ranges for a in self.automata for node in a.nodes for ranges, _ in node.moves}
        sets.add(ALL)
        order = sorted(sets)
        changes: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for number, ranges in enumerate(order):
            for first, last in ranges:
                changes[first].append((number, True))
                changes[last + 1].append((number, False))
        inside: set[int] = set()
        known: dict[frozenset[int], int] = {}
        self.cuts: list[int] = []  # where a class begins, ...
        self.kinds: list[int | None] = []  # ... and which; None: no character of a string
        for code in sorted(changes):
            for number, begins in changes[code]:
                (inside.add if begins else inside.discard)(number)
            kind = None
            if order.index(ALL) in inside:
                kind = known.setdefault(frozenset(inside), len(known))
            self.cuts.append(code)
            self.kinds.append(kind)
        self.classes = len(known)
        members = {kind: inside for inside, kind in known.items()}
        number_of = {ranges: number for number, ranges in enumerate(order)}
        self._steps = [  # by automaton, node and class: the nodes that follow
            [
                [
                    [to for ranges, to in node.moves if number_of[ranges] in members[kind]]
                    for kind in range(self.classes)
                ]
                for node in automaton.nodes
            ]
            for automaton in self.automata
        ]

    def _closed(self, number: int, nodes: set[int], passed: str = "") -> frozenset[int]:
        """And all nodes that can be reached for nothing; `passed`: the end of text that is here."""
        found, todo = set(nodes), list(nodes)
        while todo:
            for what, to in self.automata[number].nodes[todo.pop()].free:
                if to not in found and (not what or what in passed):
                    found.add(to)
                    todo.append(to)
        return frozenset(found)

    def _after(self, state: Together, kind: int) -> Together | None:
        sets, count = state
        if self.most is not None and count >= self.most:
            return None
        after = []
        for number, nodes in enumerate(sets):
            steps = self._steps[number]
            reached = {to for node in nodes for to in steps[node][kind]}
            if not reached:
                return None
            after.append(self._closed(number, reached))
        cap = self.least if self.most is None else self.most
        return tuple(after), min(count + 1, cap)

    def _is_end(self, state: Together) -> bool:
        sets, count = state
        return count >= self.least and all(
            automaton.end in self._closed(number, set(nodes), "$")
            for number, (automaton, nodes) in enumerate(zip(self.automata, sets, strict=True))
        )

    def _live(self, moves: list[list[int | None]]) -> list[bool]:
        """From which states an end can be reached."""
        into: dict[int, set[int]] = defaultdict(set)
        for state, row in enumerate(moves):
            for to in row:
                if to is not None:
                    into[to].add(state)
        live = list(self.ends)
        todo = [state for state, end in enumerate(live) if end]
        while todo:
            for state in into[todo.pop()]:
                if not live[state]:
                    live[state] = True
                    todo.append(state)
        return live


@dataclass(eq=False)
class Matched(Choice):
    """A string that a machine takes to its end."""

    machine: Machine
    needs = 0

    def start(self, byte: int, room: int) -> Iterator[Stack]:
        if byte == ord('"'):
            yield (Matching(self.machine, 0),)


@dataclass(frozen=True, slots=True)
class Matching(Frame):
    """Inside such a string.

    place: where in a character, as `PLAIN` calls it. begun: its bytes so far, as long as they leave
    open what follows; else `state` is already the one behind the character.
    """

    machine: Machine
    state: int
    place: str = "text"
    begun: bytes = b""

    def step(self, byte: int) -> Iterator[Stack]:
        machine, state = self.machine, self.state
        to = PLAIN[self.place].get(byte)
        if to is None:
            return
        if self.place == "escape":
            yield from self._behind(machine.target(state, ESCAPED[byte]))
        elif self.place != "text" and not self.begun:  # what the character leads to is known
            yield (Matching(machine, state, to),)
        elif self.place == "text" and byte == ord('"'):
            if machine.ends[state]:
                yield ()
        elif self.place == "text" and byte == ord("\\"):
            if any(machine.target(state, code) is not None for code in MUST_BE_ESCAPED):
                yield (Matching(machine, state, "escape"),)
        elif self.place == "text" and byte < 0x80:
            yield from self._behind(machine.target(state, byte))
        else:
            begun = self.begun + bytes((byte,))
            if to == "text":
                yield from self._behind(machine.target(state, ord(begun.decode())))
                return
            targets, missing = machine.targets(state, *_characters(begun))
            if len(targets) == 1 and not missing:
                yield (Matching(machine, targets.pop(), to),)
            elif targets:
                yield (Matching(machine, state, to, begun),)

    def _behind(self, state: int | None) -> Iterator[Stack]:
        if state is not None:
            yield (Matching(self.machine, state),)

    def within(self, reach: Reach) -> Matching:
        return self


def _characters(begun: bytes) -> tuple[int, int]:
    """The first and the last character whose UTF-8 begins so."""
    size = 2 if begun[0] < 0xE0 else 3 if begun[0] < 0xF0 else 4
    left = size - len(begun)
    value = begun[0] & (0xFF >> (size + 1))
    for byte in begun[1:]:
        value = value << 6 | byte & 0x3F
    first, last = value << 6 * left, ((value + 1) << 6 * left) - 1
    smallest = {2: 0x80, 3: 0x800, 4: 0x10000}[size]  # what fewer bytes can spell is no beginning
    return max(first, smallest), min(last, 0x10FFFF)
