"""Random programs: the emulator's lanes against CPython, which runs the same function thread by
thread. Loops, branches and early exits nest as they come; a name may have no value on some way."""

import random

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.lanes import dispatch
from by_path import loaded

NAMES = ("a", "b", "c", "d")
THREADS = 70  # two blocks, the last warp of each partial
PROGRAMS = 150


class Writer:
    """Writes a random function f(x, y) of whole numbers that always ends."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.counters = 0
        self.lines = []

    def text(self, name):
        self.lines = [f"def {name}(x, y):", "    a = x", "    b = y"]
        self.write(1, "if x > 1000:")  # never: c and d are locals, and have no value yet
        self.write(2, "c = d = 0")
        self.block(1, 3, in_loop=False)
        self.lines.append(f"    return {self.expression(2)}")
        return "\n".join(self.lines) + "\n"

    def write(self, depth, text):
        self.lines.append("    " * depth + text)

    def name(self):
        # c and d are rarer, so that most programs have a value for them where they are read
        return self.random.choice("xyabxyab" + ("cd" if self.random.random() < 0.25 else "ab"))

    def expression(self, depth):
        r = self.random
        if depth == 0 or r.random() < 0.3:
            return self.name() if r.random() < 0.7 else str(r.randint(-4, 9))
        left, right = self.expression(depth - 1), self.expression(depth - 1)
        kind = r.choice(
            ["+", "-", "*", "//", "%", "&", "|", "^", "if", "min", "max", "or", "tuple"]
        )
        match kind:
            case "//" | "%":
                return f"({left} {kind} {r.choice([2, 3, 7, -5])})"
            case "if":
                return f"({left} if {self.condition(1)} else {right})"
            case "min" | "max":
                return f"{kind}({left}, {right})"
            case "or":
                return f"({left} {r.choice(['or', 'and'])} {right})"
            case "tuple":
                return f"({left}, {right})[{r.choice([0, 1, -1])}]"
        return f"({left} {kind} {right})"

    def condition(self, depth):
        r = self.random
        if depth and r.random() < 0.4:
            joint = r.choice([" and ", " or "])
            return f"({self.condition(depth - 1)}{joint}{self.condition(depth - 1)})"
        if r.random() < 0.15:
            return f"not {self.name()}"
        if r.random() < 0.2:
            return f"-3 < {self.expression(1)} <= {self.expression(1)}"
        return f"{self.expression(1)} {r.choice(['<', '<=', '==', '!=', '>', '>='])} " + (
            self.expression(1)
        )

    def assignment(self, depth):
        r = self.random
        target = r.choice(NAMES)
        match r.randrange(4):
            case 0 if target in ("a", "b"):
                self.write(depth, f"{target} += {self.expression(1)} % 11")
            case 1:
                self.write(depth, f"{target}, {r.choice(NAMES)} = {self.name()}, {self.name()}")
            case _:
                # small numbers, so that CPython's integers and 64 bits agree
                self.write(depth, f"{target} = {self.expression(2)} % 1009")

    def block(self, depth, size, in_loop):
        r = self.random
        for _ in range(r.randint(1, size)):
            kind = r.random()
            if depth > 4 or kind < 0.45:
                self.assignment(depth)
            elif kind < 0.7:
                self.write(depth, f"if {self.condition(1)}:")
                self.block(depth + 1, size, in_loop)
                if r.random() < 0.3:
                    self.write(depth, f"elif {self.condition(1)}:")
                    self.block(depth + 1, size, in_loop)
                if r.random() < 0.5:
                    self.write(depth, "else:")
                    self.block(depth + 1, size, in_loop)
            elif kind < 0.8:
                variable = r.choice(["c", "d", "k"])
                bounds = r.choice(
                    ["{0} % 5", "{0} % 4, {1} % 7", "{0} % 9, -3, -2", "{0} % 3, {1} % 9, 2"]
                ).format(self.name(), self.name())
                self.write(depth, f"for {variable} in range({bounds}):")
                self.block(depth + 1, size, True)
            elif kind < 0.88:
                self.counters += 1
                n = f"n{self.counters}"
                self.write(depth, f"{n} = 0")
                self.write(depth, f"while {r.choice(['True', self.condition(1)])}:")
                self.write(depth + 1, f"{n} += 1")
                self.write(depth + 1, f"if {n} > {r.choice(['5', 'x % 6'])}:")
                self.write(depth + 2, "break")
                self.block(depth + 1, size, True)
            elif kind < 0.94 and in_loop:
                self.write(depth, r.choice(["break", "continue"]))
                return
            elif kind < 0.97:
                self.write(depth, f"return {self.expression(1)}")
                return
            else:
                self.write(depth, "pass")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Functions f0, f1, ... in a file, since a kernel needs its source."""
    text = "\n\n".join(Writer(seed).text(f"f{seed}") for seed in range(PROGRAMS))
    file = tmp_path_factory.mktemp("programs") / "programs.py"
    file.write_text(text, encoding="utf-8")
    module = loaded(file)
    return [getattr(module, f"f{seed}") for seed in range(PROGRAMS)]


def by_python(function, x, y):
    """The results, and the names of which some thread had no value."""
    results, missing = [], set()
    for pair in zip(x.tolist(), y.tolist(), strict=True):
        try:
            results.append(function(*pair))
        except UnboundLocalError as error:
            missing.add(error.name if getattr(error, "name", None) else str(error).split("'")[1])
    return results, missing


def test_random_programs_do_what_cpython_does(programs):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-50, 50, THREADS), rng.integers(-50, 50, THREADS)
    outcomes = {"values": 0, "missing": 0}
    for function in programs:
        device = cuda.jit(function, device=True)

        @cuda.jit
        def kernel(x, y, out):
            i = cuda.grid(1)
            if i < out.size:
                out[i] = device(x[i], y[i])  # noqa: B023

        results, missing = by_python(function, x, y)
        out = np.full(THREADS, -(10**6))
        if missing:
            with pytest.raises(cuda.UninitialisedRead) as caught:
                kernel[2, 40](x, y, out)
            assert caught.value.what.split()[0] in missing, function.__name__
            outcomes["missing"] += 1
            continue
        kernel[2, 40](x, y, out)
        np.testing.assert_array_equal(out, results, err_msg=function.__name__)
        outcomes["values"] += 1
    # the programs are of both kinds, or the test would say little
    assert outcomes["values"] > PROGRAMS // 2 and outcomes["missing"] > 5, outcomes


def test_random_programs_do_not_depend_on_the_batch(programs, monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.integers(-50, 50, 500), rng.integers(-50, 50, 500)
    for function in programs[::5]:
        device = cuda.jit(function, device=True)

        @cuda.jit
        def kernel(x, y, out):
            i = cuda.grid(1)
            if i < out.size:
                out[i] = device(x[i], y[i])  # noqa: B023

        found = []
        for lanes in (64, 1 << 16):
            monkeypatch.setattr(dispatch, "LANES", lanes)
            out = np.zeros(500)
            try:
                with cuda.profile() as p:
                    kernel[10, 50](x, y, out)
                found.append((out.tolist(), p.report.to_dict()))
            except cuda.UninitialisedRead as error:
                found.append(error.what)
        assert found[0] == found[1], function.__name__
