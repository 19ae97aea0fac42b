"""Random small kernels: the checker against an oracle that knows no lanes and no shadow memory.

A kernel is a list of steps. The oracle runs each thread alone, in plain Python, and gives every
access a vector clock; two accesses are in order if the clocks say so. It compares every pair. The
checker must find a race on exactly the elements that the oracle says have one, and on pairs of
lines that the oracle knows.
"""

import itertools
import linecache
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.checkers import checking

SIZE = 16  # elements of each array
BLOCKS, THREADS = 2, 64  # four warps in all

# name: text, and the same for the oracle: block, thread -> element
INDICES = {
    "own": ("t % 16", lambda b, t: t % 16),
    "next": ("(t + 1) % 16", lambda b, t: (t + 1) % 16),
    "one": ("3", lambda b, t: 3),
    "by warp": ("t // 32", lambda b, t: t // 32),
    "by block": ("8 * b + t % 8", lambda b, t: 8 * b + t % 8),
    "backwards": ("15 - t % 16", lambda b, t: 15 - t % 16),
}
CONDITIONS = {
    "all": ("True", lambda b, t: True),
    "a thread": ("t == 5", lambda b, t: t == 5),
    "few": ("t < 16", lambda b, t: t < 16),
    "a warp": ("t >= 32", lambda b, t: t >= 32),
    "a block": ("b == 1", lambda b, t: b == 1),
    "two": ("t % 32 == 7", lambda b, t: t % 32 == 7),
    "one of all": ("b == 1 and t == 5", lambda b, t: b == 1 and t == 5),
}
ARRAYS = ("s", "g")  # shared, global
TEXTS = {
    "read": "x = x + {array}[{index}]",
    "write": "{array}[{index}] = x",
    "atomic": "cuda.atomic.add({array}, {index}, x)",
}

access = st.tuples(
    st.sampled_from(["read", "write", "atomic"]),
    st.sampled_from(ARRAYS),
    st.sampled_from(sorted(INDICES)),
    st.sampled_from(sorted(CONDITIONS)),
)
barrier = st.sampled_from(["block", "block", "block 0", "warp", "half", "grid"])
steps = st.lists(st.one_of(access, access, barrier), min_size=2, max_size=9)
numbered = itertools.count()


def compiled(program, rounds):
    """The kernel of a program, and the line of each of its steps."""
    lines = [
        "def kernel(g):",
        f"    s = cuda.shared.array({SIZE}, np.int32)",
        "    t, b = cuda.threadIdx.x, cuda.blockIdx.x",
        "    x = np.int32(1)",
        "    grid = cuda.cg.this_grid()" if "grid" in program else "    pass",
        f"    if t < {SIZE}:",
        "        s[t] = 0",
        "    cuda.syncthreads()",
        f"    for _ in range({rounds}):",
        "        pass",
    ]
    where = []
    for step in program:
        if step == "block":
            lines.append("        cuda.syncthreads()")
        elif step == "block 0":
            lines.append("        if b == 0: cuda.syncthreads()")
        elif step == "warp":
            lines.append("        cuda.syncwarp()")
        elif step == "half":
            lines.append("        cuda.syncwarp(0xFFFF if t % 32 < 16 else 0xFFFF0000)")
        elif step == "grid":
            lines.append("        grid.sync()")
        else:
            kind, array, index, condition = step
            lines.append(f"        if {CONDITIONS[condition][0]}:")
            text = TEXTS[kind].format(array=array, index=INDICES[index][0])
            lines.append("            " + text)
        where.append(len(lines))
    name = f"<fuzzed kernel {next(numbered)}>"
    text = "\n".join(lines) + "\n"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space = {"cuda": cuda, "np": np, "__name__": "fuzzed"}
    exec(compile(text, name, "exec"), space)
    return cuda.jit(space["kernel"]), where


def oracle(program, rounds, where):
    """{(array, block or None, element): {pairs of lines}} of all races."""
    threads = [(b, t) for b in range(BLOCKS) for t in range(THREADS)]
    clock = {u: {u: 1} for u in threads}  # of each thread: what it knows of the others
    accesses = defaultdict(list)

    def meet(group):
        joined = {}
        for u in group:
            for v, time in clock[u].items():
                joined[v] = max(joined.get(v, 0), time)
        for u in group:
            clock[u] = {**joined, u: joined[u] + 1}

    def groups(step):
        if step == "grid":
            return [threads]
        if step == "block 0":
            return [threads[:THREADS]]
        size = {"block": THREADS, "warp": 32, "half": 16}[step]
        return [threads[k : k + size] for k in range(0, len(threads), size)]

    for step, line in list(zip(program, where, strict=True)) * rounds:
        if isinstance(step, str):
            for group in groups(step):
                meet(group)
            continue
        kind, array, index, condition = step
        for b, t in threads:
            if CONDITIONS[condition][1](b, t):
                place = (array, b if array == "s" else None, INDICES[index][1](b, t))
                accesses[place].append((kind, (b, t), clock[b, t][b, t], clock[b, t], line))
    races = defaultdict(set)
    for place, here in accesses.items():
        for first, second in itertools.combinations(here, 2):
            kinds = {first[0], second[0]}
            harmless = kinds in ({"read"}, {"atomic"})
            known = second[3].get(first[1], 0) >= first[2]
            if not harmless and first[1] != second[1] and not known:
                races[place].add(frozenset((first[4], second[4])))
    return dict(races)


class Noting(checking.Checking):
    """The checker, with a note of every element that it saw a race on."""

    def __init__(self, launch):
        super().__init__(launch)
        self.places = set()

    def _race(self, kind, clash, counted, lanes, addresses, target, line, value):
        for k in clash.lanes:
            array, (element,) = self._element(target, int(addresses[k]), int(lanes[k]))
            block = int((lanes[k] + self.order.first) // THREADS)
            self.places.add((array, block if array == "s" else None, element))
        super()._race(kind, clash, counted, lanes, addresses, target, line, value)


@pytest.fixture
def noting(monkeypatch):
    """The checkers made, in order."""
    made = []

    def make(launch):
        made.append(Noting(launch))
        return made[-1]

    monkeypatch.setattr(checking, "Checking", make)
    return made


def compare(noting, program, rounds, **how):
    kernel, where = compiled(program, rounds)
    expected = oracle(program, rounds, where)
    with cuda.check(raise_=False, **how) as c:
        kernel[BLOCKS, THREADS](np.zeros(SIZE, np.int32))
    assert noting[-1].places == set(expected)
    pairs = {pair for pairs in expected.values() for pair in pairs}
    assert {frozenset(f.lines) for f in c.findings} <= pairs
    return expected


relaxed = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# what is kept of many earlier readers or atomic operations decides in these
READ_AFTER_OWN_ATOMIC = [
    ("atomic", "g", "backwards", "all"),
    "block",
    ("read", "g", "one", "a block"),
]
FARTHEST_IS_KEPT = [
    ("atomic", "g", "backwards", "a block"),
    ("atomic", "g", "next", "a thread"),
    "block",
    ("atomic", "g", "by warp", "one of all"),
    ("read", "g", "next", "one of all"),
]
ONE_BLOCK_WAITS = [("write", "s", "own", "few"), "block 0", ("read", "s", "next", "few")]


@given(program=steps, rounds=st.integers(1, 2))
@example(program=READ_AFTER_OWN_ATOMIC, rounds=1)
@example(program=FARTHEST_IS_KEPT, rounds=1)
@example(program=ONE_BLOCK_WAITS, rounds=1)
@settings(relaxed, max_examples=120)
def test_races_are_those_of_the_oracle(noting, program, rounds):
    compare(noting, program, rounds)


@given(program=steps, rounds=st.integers(1, 2), seed=st.integers(0, 99))
@settings(relaxed, max_examples=25)
def test_the_order_of_the_warps_changes_no_finding(noting, program, rounds, seed):
    compare(noting, program, rounds, schedule="adversarial", seed=seed)


def test_the_oracle_knows_a_race_and_its_repair():
    racy = [("write", "s", "own", "few"), ("read", "s", "next", "few")]
    _, where = compiled(racy, 1)
    assert len(oracle(racy, 1, where)) == 2 * 16  # each element of both blocks' arrays
    for repair in ("block", "warp", "half", "grid"):
        repaired = [racy[0], repair, racy[1]]
        _, where = compiled(repaired, 1)
        assert oracle(repaired, 1, where) == {}
        _, where = compiled(repaired, 2)
        assert len(oracle(repaired, 2, where)) == 2 * 16  # the next round writes without waiting
