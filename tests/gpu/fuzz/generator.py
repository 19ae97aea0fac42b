"""Kernels at random, as source text, that do nothing undefined.

Every thread writes its own elements of the outputs, and adds to others only by atomics whose order
does not matter. Shared memory is written, awaited and read, in that order, and awaited again. Loops
end, divisors are not 0, indices are inside. Within that, anything may happen: values of six types
meet, variables change their type from branch to branch, warps diverge and are partial.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

N = 23  # elements of the inputs; not a multiple of anything
SLOTS = 8  # elements of the arrays that are changed by atomics
ROOM = 4  # elements of a local array

INPUTS = {"ai": "int32", "al": "int64", "au": "uint32", "af": "float32", "ad": "float64"}
TAME = {"al": "int64", "ad": "float64"}  # the types on which Python and Numba agree
OUTPUTS = {"oi": "int64", "ou": "uint32", "of": "float64", "og": "float32"}


@dataclass
class Program:
    """A kernel's source and its launch. Arrays are made anew by `arguments`."""

    seed: int
    source: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    tame: bool  # values stay small and of one width, so that plain Python gives the same
    shuffles: bool  # which Numba's simulator does not have

    @property
    def threads(self) -> int:
        return int(np.prod(self.grid) * np.prod(self.block))

    def arguments(self) -> list:
        """Inputs, then outputs, then what atomics change."""
        rng = np.random.default_rng(self.seed)
        small = rng.integers(-9, 40, N)
        large = rng.integers(-(2**31), 2**31, N)
        integers = small if self.tame else np.where(rng.random(N) < 0.3, large, small)
        reals = rng.normal(0, 4, N)
        inputs = [
            integers.astype("i4"),
            np.where(rng.random(N) < 0.2, large << (0 if self.tame else 29), small),
            np.abs(integers).astype("u4"),
            reals.astype("f4"),
            np.where(rng.random(N) < 0.3, np.rint(reals), reals),
        ]
        if self.tame:
            inputs[1] = small
        return [
            *inputs,
            rng.random(N) < 0.5,
            int(rng.integers(-5, 50)),
            float(np.round(rng.normal(), 3)),
            *(np.zeros(self.threads, dtype) for dtype in OUTPUTS.values()),
            np.zeros(SLOTS, np.int32),
            np.zeros(SLOTS, np.int64),
        ]


@dataclass
class Scope:
    """What may be read here."""

    integers: list[str]
    reals: list[str]
    mixed: list[str] = field(default_factory=list)  # integers or reals, as the branches have it
    local: bool = False  # the local array is there
    loops: int = 0
    device: bool = False  # within a device function


class Generator:
    """Writes one program."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.seed = seed
        self.tame = self.random.random() < 0.35
        self.inputs = TAME if self.tame else INPUTS
        self.lines: list[str] = []
        self.names = 0
        self.budget = self.random.randint(8, 26)  # statements
        self.functions: list[str] = []

    def program(self) -> Program:
        pick = self.random
        warps = not self.tame and pick.random() < 0.25
        two = pick.random() < 0.3
        if warps:
            block, grid = ((8, 4), (2, 1)) if two else ((32,), (pick.randint(1, 2),))
        elif two:
            block = (pick.randint(2, 7), pick.randint(2, 5))
            grid = (pick.randint(1, 2), pick.randint(1, 2))
        else:
            block, grid = (pick.choice((3, 8, 11, 16, 19, 33)),), (pick.randint(1, 2),)
        self.block_threads = int(np.prod(block))
        for _ in range(pick.choice((0, 1, 1, 2))):
            self.function()
        arguments = [*INPUTS, "ab", "p", "q", *OUTPUTS, "counts", "tops"]
        self.write(0, f"def kernel({', '.join(arguments)}):")
        self.write(1, *self.position(two))
        scope = Scope(["i", "t", "j", "p"], ["q"])
        self.write(1, "j = i % ai.size")
        for _ in range(pick.randint(2, 5)):
            self.declare(1, scope)
        if pick.random() < 0.4:
            dtype = pick.choice(("int64",) if self.tame else ("int64", "int32", "float32"))
            self.real_room = dtype == "float32"
            self.write(1, f"room = cuda.local.array({ROOM}, np.{dtype})")
            first = self.real(scope, 1) if self.real_room else self.integer(scope, 1)
            self.write(1, f"for r in range({ROOM}):", f"    room[r] = {first}")
            scope.local = True
        for _ in range(pick.randint(1, 3)):
            kind = pick.random()
            if kind < 0.4:
                self.exchange(scope)
            elif kind < 0.55 and warps:
                self.shuffle(1, scope)
            else:
                self.block(1, scope, pick.randint(1, 4), 0)
        if pick.random() < 0.5:  # nobody waits any more: threads may return
            self.write(1, f"if {self.condition(scope, 1)}:")
            self.write(2, f"oi[i] = {self.integer(scope, 1)}", "return")
        self.block(1, scope, pick.randint(1, 3), 0)
        self.outputs(scope)
        source = "\n".join(
            ["import math", "", "import numpy as np", "", *self.functions, "@cuda.jit", *self.lines]
        )
        return Program(self.seed, source + "\n", grid, block, self.tame, "shfl_" in source)

    # --- parts of a kernel ------------------------------------------------------------------

    def write(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def position(self, two: bool) -> list[str]:
        if not two:
            start = self.random.choice(
                ("cuda.grid(1)", "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x")
            )
            return [f"i = {start}", "t = cuda.threadIdx.x"]
        return [
            "x, y = cuda.grid(2)",
            "i = y * (cuda.gridDim.x * cuda.blockDim.x) + x",
            "t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x",
        ]

    def function(self) -> None:
        """A device function of an integer and a real that returns a pair of them."""
        outer, self.lines = self.lines, []
        name = f"pair{len(self.functions)}"
        self.write(0, "@cuda.jit(device=True)", f"def {name}(x, y):")
        scope = Scope(["x"], ["y"], device=True)
        if self.random.random() < 0.6:
            self.write(1, f"if {self.condition(scope, 1)}:")
            self.write(2, f"return {self.integer(scope, 1)}, {self.real(scope, 1)}")
        self.block(1, scope, self.random.randint(0, 2), 1)
        self.write(1, f"return {self.integer(scope, 2)}, {self.real(scope, 2)}", "", "")
        body, self.lines = self.lines, outer
        self.functions.append("\n".join(body))

    def declare(self, depth: int, scope: Scope) -> None:
        """A new variable that every path assigns."""
        kind = self.random.random()
        if kind < 0.4:
            name = self.name("a")
            self.write(depth, f"{name} = {self.integer(scope, 2)}")
            scope.integers.append(name)
        elif kind < 0.7:
            name = self.name("f")
            self.write(depth, f"{name} = {self.real(scope, 2)}")
            scope.reals.append(name)
        elif kind < 0.85:  # an integer until some branch or round of a loop makes it a real
            name = self.name("m")
            self.write(depth, f"{name} = {self.integer(scope, 1)}")
            scope.mixed.append(name)
        else:  # the type follows from both branches
            name = self.name("m")
            sides = [self.integer(scope, 1), self.real(scope, 1)]
            self.random.shuffle(sides)
            self.write(depth, f"if {self.condition(scope, 1)}:", f"    {name} = {sides[0]}")
            self.write(depth, "else:", f"    {name} = {sides[1]}")
            scope.mixed.append(name)

    def exchange(self, scope: Scope) -> None:
        """Through shared memory, with its barriers; sometimes several times over."""
        size, pick = self.block_threads, self.random
        real = pick.random() < 0.5
        dtypes = {True: ("float32", "float64"), False: ("int32", "int64", "uint32")}[real]
        dtype = pick.choice(dtypes) if not self.tame else dtypes[1]
        shared, depth = self.name("s"), 1
        self.write(1, f"{shared} = cuda.shared.array({size}, np.{dtype})")
        if pick.random() < 0.4:
            turn = self.name("u")
            self.write(1, f"for {turn} in range({pick.randint(1, 3)}):")
            depth = 2
        value = self.real(scope, 2) if real else self.integer(scope, 2)
        self.write(depth, f"{shared}[t] = {value}", "cuda.syncthreads()")
        kinds = scope.reals if real else scope.integers
        other = f"{shared}[({self.integer(scope, 1)}) % {size}]"
        target = (
            self.random.choice(kinds[1:] if kinds[0] in ("q", "i") else kinds)
            if (len(kinds) > 4 or (real and len(kinds) > 1))
            else None
        )
        if depth == 2 and target is None:
            target = self.name("f" if real else "a")
            self.lines.insert(len(self.lines) - 3, f"    {target} = {'0.5' if real else '1'}")
            kinds.append(target)
        if target is None or target in ("i", "t", "j", "p", "q"):
            target = self.name("f" if real else "a")
            self.write(depth, f"{target} = {other}")
            if depth == 1:
                kinds.append(target)
        elif pick.random() < 0.5:
            self.write(depth, f"if {self.condition(scope, 1)}:", f"    {target} = {other}")
        else:
            self.write(depth, f"{target} = {target} {pick.choice('+-')} {other}")
        self.write(depth, "cuda.syncthreads()")

    def shuffle(self, depth: int, scope: Scope) -> None:
        real = self.random.random() < 0.5
        value = self.real(scope, 1) if real else self.integer(scope, 1)
        kind = "np.float32" if real else "np.int32"
        which = self.random.choice(("up", "down", "xor", ""))
        amount = f"({self.integer(scope, 1)}) % 32" if not which else self.random.randint(1, 16)
        name = self.name("f" if real else "a")
        call = f"cuda.shfl_{which}{'_' if which else ''}sync(0xffffffff, {kind}({value}), {amount})"
        if not real:
            call = call.replace(f"{kind}({value})", f"{kind}(({value}) % 1000)")
        self.write(depth, f"{name} = {call}")
        (scope.reals if real else scope.integers).append(name)

    def outputs(self, scope: Scope) -> None:
        self.write(1, f"oi[i] = {self.integer(scope, 2)}", f"of[i] = {self.real(scope, 2)}")
        if self.random.random() < 0.5:
            self.write(1, f"ou[i] = ({self.integer(scope, 1)}) & 65535")
            self.write(1, f"og[i] = {self.real(scope, 1)}")
        # every variable shows in an output, and so does its type
        for name in scope.integers:
            if name[0] == "a":
                self.write(1, f"oi[i] = oi[i] * 3 + {name}")
        for name in scope.reals:
            if name[0] == "f":
                self.write(1, f"of[i] = of[i] * 0.5 + {name} * {name}")
        for name in scope.mixed:
            self.write(1, f"of[i] += {name} * {name} - {name} % 97")

    # --- statements -------------------------------------------------------------------------

    def block(self, depth: int, scope: Scope, count: int, nesting: int) -> None:
        """Statements that hold no barrier. What they declare stays inside."""
        inner = Scope(
            list(scope.integers),
            list(scope.reals),
            list(scope.mixed),
            scope.local,
            scope.loops,
            scope.device,
        )
        before = len(self.lines)
        for _ in range(count):
            self.statement(depth, inner if nesting else scope, nesting)
        if len(self.lines) == before and nesting:
            self.write(depth, "pass")

    def statement(self, depth: int, scope: Scope, nesting: int) -> None:
        self.budget -= 1
        integers = [n for n in scope.integers if n[0] == "a"]
        reals = [n for n in scope.reals if n[0] == "f"]
        choices: list[tuple[Any, ...]] = []  # method, its arguments
        if integers:
            choices += [(self.assign, integers, self.integer, ("+=", "-=", "^=", "="))] * 3
        if reals:
            choices += [(self.assign, reals, self.real, ("+=", "*=", "="))] * 3
        for value in (self.integer, self.real) if scope.mixed else ():
            choices.append((self.assign, scope.mixed, value, ("=", "=", "+=")))
        if scope.local:
            value = self.real if self.real_room else self.integer
            place = f"room[({self.integer(scope, 1)}) % {ROOM}]"
            choices.append((self.assign, [place], value, ("=", "+=")))
        if not scope.device:
            choices += [(self.atomic,), (self.call, integers, reals)]
        if len(integers) > 1:
            choices.append((self.swap, integers))
        if self.budget > 0 and nesting < 3:
            choices += [(self.branch, nesting)] * 4 + [(self.for_loop, nesting)] * 3
            choices += [(self.while_loop, nesting)] * 2
        if nesting == 0:
            choices += [(self.declare,)] * 2
        if choices:
            method, *arguments = self.random.choice(choices)
            method(depth, scope, *arguments)

    def assign(
        self, depth: int, scope: Scope, names: list[str], value: Any, operators: tuple[str, ...]
    ) -> None:
        name, operator = self.random.choice(names), self.random.choice(operators)
        self.write(depth, f"{name} {operator} {value(scope, 2)}")

    def swap(self, depth: int, scope: Scope, integers: list[str]) -> None:
        a, b = self.random.sample(integers, 2)
        self.write(depth, f"{a}, {b} = {b}, {a}")

    def call(self, depth: int, scope: Scope, integers: list[str], reals: list[str]) -> None:
        """A device function's pair into two variables."""
        if self.functions and integers and reals:
            targets = f"{self.random.choice(integers)}, {self.random.choice(reals)}"
            name = f"pair{self.random.randrange(len(self.functions))}"
            arguments = f"{self.integer(scope, 1)}, {self.real(scope, 1)}"
            self.write(depth, f"{targets} = {name}({arguments})")

    def atomic(self, depth: int, scope: Scope) -> None:
        # an int64 and a uint64 make a float64, which atomics cut and other indexing refuses
        slot = f"np.int64({self.integer(scope, 1)}) % {SLOTS}"
        if self.random.random() < 0.6:
            self.write(depth, f"cuda.atomic.add(counts, {slot}, ({self.integer(scope, 1)}) % 100)")
        else:
            self.write(depth, f"cuda.atomic.max(tops, {slot}, ({self.integer(scope, 1)}) % 1000)")

    def branch(self, depth: int, scope: Scope, nesting: int) -> None:
        self.write(depth, f"if {self.condition(scope, 2)}:")
        self.block(depth + 1, scope, self.random.randint(1, 2), nesting + 1)
        if self.random.random() < 0.3:
            self.write(depth, f"elif {self.condition(scope, 1)}:")
            self.block(depth + 1, scope, 1, nesting + 1)
        if self.random.random() < 0.5:
            self.write(depth, "else:")
            self.block(depth + 1, scope, self.random.randint(1, 2), nesting + 1)

    def for_loop(self, depth: int, scope: Scope, nesting: int) -> None:
        k = self.name("k")
        bounds = self.random.choice(
            (
                f"{self.random.randint(0, 6)}",
                f"({self.integer(scope, 1)}) % 5",
                f"{self.random.randint(-2, 1)}, ({self.integer(scope, 1)}) % 6, 2",
                f"({self.integer(scope, 1)}) % 5, -2, -1",
            )
        )
        self.write(depth, f"for {k} in range({bounds}):")
        self.body(depth + 1, scope, nesting, k)

    def while_loop(self, depth: int, scope: Scope, nesting: int) -> None:
        w = self.name("w")
        self.write(depth, f"{w} = {self.random.randint(0, 2)}")
        self.write(depth, f"while {w} < 5 and {self.condition(scope, 1)}:", f"    {w} += 1")
        self.body(depth + 1, scope, nesting, w)

    def body(self, depth: int, scope: Scope, nesting: int, counter: str) -> None:
        inner = Scope(
            [*scope.integers, counter],
            scope.reals,
            scope.mixed,
            scope.local,
            scope.loops + 1,
            scope.device,
        )
        if self.random.random() < 0.3:
            self.block(depth, inner, 1, nesting + 1)
        if self.random.random() < 0.5:
            way = self.random.choice(("break", "continue"))
            some = (
                f"({counter} + {self.random.choice(inner.integers)}) % {self.random.randint(2, 3)}"
            )
            test = f"{some} == 0" if self.random.random() < 0.6 else self.condition(inner, 1)
            self.write(depth, f"if {test}:", f"    {way}")
        self.block(depth, inner, self.random.randint(1, 3), nesting + 1)
        if self.random.random() < 0.2:
            self.write(depth, f"if {self.condition(inner, 1)}:", "    break")

    # --- expressions ------------------------------------------------------------------------

    def integer(self, scope: Scope, depth: int) -> str:
        pick = self.random.random()
        if depth <= 0 or pick < 0.3:
            return self.leaf(scope)
        a, b = self.integer(scope, depth - 1), self.integer(scope, depth - 1)
        if pick < 0.55:
            return f"({a} {self.random.choice('+-*' if not self.tame else '+-')} {b})"
        if pick < 0.65:
            return f"({a} {self.random.choice(('//', '%'))} (abs({b}) % 7 + 1))"
        if pick < 0.72:
            return f"({a} {self.random.choice('&|^')} {b})"
        if pick < 0.78:
            return f"({a} {self.random.choice(('<<', '>>'))} ({b} & 3))"
        if pick < 0.84:
            return f"{self.random.choice(('min', 'max'))}({a}, {b})"
        if pick < 0.9:
            return f"({a} if {self.condition(scope, depth - 1)} else {b})"
        if pick < 0.94:
            return f"int(max(min({self.real(scope, depth - 1)}, 1000.0), -1000.0))"
        if pick < 0.97 and not self.tame:
            kind = self.random.choice(("int32", "int64", "uint32", "int16", "uint8"))
            return f"np.{kind}({a})"
        return f"{self.random.choice(('-', '~', 'abs'))}({a})"

    def leaf(self, scope: Scope) -> str:
        pick = self.random.random()
        if pick < 0.15:
            return str(self.random.randint(-4, 12))
        if pick < 0.5 and not scope.device:
            array = self.random.choice([n for n, d in self.inputs.items() if "int" in d])
            return f"{array}[{self.place(scope)}]"
        if pick < 0.6 and scope.local and not self.real_room:
            return f"room[({self.random.choice(scope.integers)}) % {ROOM}]"
        return self.random.choice(scope.integers)

    def place(self, scope: Scope) -> str:
        """An index into the inputs; a negative one counts from the end."""
        name = self.random.choice(scope.integers)
        return self.random.choice(("j", f"({name}) % {N}", f"({name}) % {N} - {N}", "j - 1"))

    def real(self, scope: Scope, depth: int) -> str:
        pick = self.random.random()
        if depth <= 0 or pick < 0.25:
            if self.random.random() < 0.5 or scope.device:
                return self.random.choice([*scope.reals, "0.5", "-1.25", "3.0"])
            if scope.local and self.random.random() < 0.2:
                return (
                    f"({self.random.choice(('1.5', 'q'))} * room[({scope.integers[0]}) % {ROOM}])"
                )
            array = self.random.choice([n for n, d in self.inputs.items() if "float" in d])
            return f"{array}[{self.place(scope)}]"
        a, b = self.real(scope, depth - 1), self.real(scope, depth - 1)
        if pick < 0.6:
            return f"({a} {self.random.choice('+-*')} {b})"
        if pick < 0.68:
            return f"({a} / (abs({b}) + 1.0))"
        if pick < 0.74:
            return f"({a} {self.random.choice('+*')} {self.integer(scope, depth - 1)})"
        if pick < 0.8:
            return f"math.sqrt(abs({a}))"
        if pick < 0.86:
            return f"{self.random.choice(('min', 'max'))}({a}, {b})"
        if pick < 0.92:
            return f"({a} if {self.condition(scope, depth - 1)} else {b})"
        if pick < 0.96:
            # Python's floats go to the C library's pow, which may differ in the last bit
            return f"({a} * 0.25)" if self.tame else f"({a}) ** {self.random.choice('23')}"
        if self.tame:
            return f"float({self.integer(scope, depth - 1)})"
        return self.random.choice((f"np.float32({a})", f"({self.integer(scope, 1)} / 3)"))

    def condition(self, scope: Scope, depth: int) -> str:
        pick = self.random.random()
        if depth > 0 and pick < 0.3:
            word = self.random.choice(("and", "or"))
            return f"({self.condition(scope, depth - 1)} {word} {self.condition(scope, depth - 1)})"
        if depth > 0 and pick < 0.38:
            return f"(not {self.condition(scope, depth - 1)})"
        if pick < 0.45 and not scope.device:
            return f"ab[{self.place(scope)}]"
        if pick < 0.52 and not scope.device:  # the right side fails where the left does not hold
            index = f"({self.random.choice(scope.integers)}) % {2 * N}"
            return f"({index} < al.size and ad[{index}] > {self.random.choice(scope.reals)})"
        # a variable in each comparison: what constants decide, Numba leaves out, types and all
        first = self.random.choice(scope.integers)
        if pick < 0.6:
            low, high = self.random.randint(-3, 5), self.integer(scope, 1)
            return f"({low} < {first} - {self.integer(scope, 1)} <= {high})"
        sign = self.random.choice(("<", "<=", ">", ">=", "==", "!="))
        if pick < 0.7:
            value = f"{first} + {self.integer(scope, 1)}"
            return f"(({value}) % 3 {sign} {self.random.randint(0, 2)})"
        if pick < 0.85:
            return f"({first} - {self.integer(scope, 1)} {sign} {self.integer(scope, 1)})"
        return f"({scope.reals[0]} - {self.real(scope, 1)} {sign} {self.real(scope, 1)})"


def program(seed: int) -> Program:
    """The kernel of a seed: the same on every machine and in every version of Python."""
    return Generator(seed).program()
