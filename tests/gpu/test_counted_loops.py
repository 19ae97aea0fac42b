"""A `while` that counts past its end is told of after a few rounds; one that comes nearer goes on.

No test here asserts a time: the step budgets say how many rounds a loop may take.
"""

import ast
import inspect
import textwrap

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.checkers import counted
from aiinfra_labs.gpu.emulator.lanes import dispatch, loops

BUDGET = 1 << 20  # the emulator's own; `step_budget` would let a loop without a sign have all of it


def built(text, tmp_path):
    """A kernel of these lines; a: an array [8] of float64."""
    file = tmp_path / "kernel.py"
    file.write_text("def kernel(a):\n" + textwrap.indent(text, "    "))
    scope = {"cuda": cuda, "np": np}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    return cuda.jit(scope["kernel"])


def rounds_until(kernel, a, **wanted):
    """The error that ends the kernel, and how many rounds it took."""
    with pytest.raises(cuda.StepBudgetExceeded) as caught:
        kernel[1, 4](a)
    assert not isinstance(caught.value, cuda.Deadlock)
    return caught.value


ENDLESS = [
    ("i = 0\nwhile i != 99: i += 2", "2 nearer, and they pass each other", "< or >"),
    ("i = 0\nwhile 99 != i: i = 2 + i", "2 nearer, and they pass each other", "< or >"),
    ("i, n = 0, a.size\nwhile i < n: i -= 1", "i is -1 and n is 8", "its sign"),
    ("i = 9\nwhile not i <= 0: i += 1", "further apart", "its sign"),
    ("i = 1\nwhile True:\n    if i == 8: break\n    i = i + 2", "`i != 8` stays true", "< or >"),
    ("i = 1\nwhile True:\n    i += 2\n    if i == 8 or i == 4: return", "`i != 4`", "< or >"),
    ("i, k = 0, 9\nwhile i < k:\n    i += 2\n    k += 2", "leaves the two sides", "its sign"),
    ("n = 7\nwhile n: n -= 2", "`n != 0` stays true", "< or >"),
    ("x = 0.0\nwhile x != 1.0: x += 0.1", "further apart", "< or >"),
    ("i = 0\nwhile i != 7 and i != -3:\n    i += 1\n    i += 1", "`i != -3`", "< or >"),
    ("i = cuda.threadIdx.x\nwhile i != 8: i += 2", "2 threads go round", "< or >"),
    ("i = 0\nwhile 3 * i - 1 != a.size: i += 2", "6 nearer", "< or >"),
]


@pytest.mark.parametrize(("text", "why", "try_"), ENDLESS, ids=[t for t, *_ in ENDLESS])
@pytest.mark.parametrize("watched", [False, True])
def test_counting_past_the_end_is_told_after_a_few_rounds(text, why, try_, watched, tmp_path):
    kernel = built("a[1] += 1\n" + text, tmp_path)
    error = rounds_until(cuda.profile(kernel) if watched else kernel, np.zeros(8))
    assert error.what == "the loop never ends"
    assert why in error.why and try_ in error.try_
    assert "while" in error.place.source


def test_it_takes_so_many_rounds_and_no_more(monkeypatch, tmp_path):
    seen = []
    again = loops.Loop.again
    monkeypatch.setattr(loops.Loop, "again", lambda *given: seen.append(1) or again(*given))
    with pytest.raises(cuda.StepBudgetExceeded):
        built("i = 0\nwhile i != 99: i += 2", tmp_path)[1, 1](np.zeros(8))
    assert len(seen) <= loops.FORESEEN + 1


def test_an_error_on_the_way_comes_first(tmp_path):
    kernel = built("i = 0\nwhile i != 99:\n    a[i] = 1\n    i += 2", tmp_path)
    with pytest.raises(cuda.OutOfBounds, match=r"a\[8\]"):
        kernel[1, 1](np.zeros(8))


CIRCLES = [
    ("i = 0\nwhile i != 5: i = (i + 2) % 8", "bring it back"),
    ("i = 1\nwhile i != 0: i = -i", "bring it back"),
    ("i, k = 1, 2\nwhile i != k:\n    t = i\n    i = k\n    k = t", "bring them back"),
    ("i = 0\nwhile i != 5:\n    i += 1\n    if i == 4: i = 0", "bring it back"),
    ("x = 1e308\nwhile x != 1.0: x = x * 10 - x * 10", "as before"),  # nan
]


@pytest.mark.parametrize(("text", "why"), CIRCLES, ids=[t for t, _ in CIRCLES])
def test_going_in_circles_is_told(text, why, tmp_path):
    error = rounds_until(built(text, tmp_path), np.zeros(8))
    assert error.what == "the loop never ends" and why in error.why


HONEST = [  # each with what it leaves in a[0]
    ("i = 0\nwhile i != 98: i += 2\na[0] = i", 98),
    ("i = 0\nwhile i < 500:\n    i += 1\n    if i % 2: continue\n    a[0] += 1", 250),
    ("i = 500\nwhile i: i -= 1\na[0] = i", 0),
    ("i = 0\nwhile True:\n    if i == 300: break\n    i += 3\na[0] = i", 300),
    ("i = 0\nwhile i != 400:\n    if i == 7: i = 396\n    i += 1\na[0] = i", 400),
    ("i = 9\nwhile i != 3:\n    i += 1\n    if i == 300: i = 0\na[0] = i", 3),  # a ring
    ("i = 9\nwhile i != 3: i = (i + 1) % 300\na[0] = i", 3),
    ("i = 0\nwhile i != 5:\n    for i in range(6):\n        if i == 5: break\na[0] = i", 5),
    ("x = 0.0\nwhile x < 1.0: x += 0.001\na[0] = x > 1", 1),
    ("i, step = 0, 2\nwhile i != 99:\n    i += step\n    if i == 98: step = 1\na[0] = i", 99),
    ("i = 4\nwhile i != 0:\n    i += 1\n    if i > 200: break\na[0] = i", 201),
]


@pytest.mark.parametrize(("text", "left"), HONEST, ids=[t for t, _ in HONEST])
def test_what_ends_is_let_go_on(text, left, tmp_path):
    a = np.zeros(8)
    with cuda.step_budget(1000):
        built(text, tmp_path)[1, 1](a)
    assert a[0] == left


def test_a_counted_while_may_be_as_long_as_a_for(tmp_path):
    kernel = built("i = 0\nwhile i < 15_000: i += 1\na[0] = i", tmp_path)
    a = np.zeros(8)
    with cuda.step_budget(1000):
        kernel[1, 1](a)
        assert a[0] == 15_000
        longer = built("i = 0\nwhile i < 20_000: i += 1", tmp_path)
        error = rounds_until(longer, a)
    assert error.what == "the loop is too long for the emulator: it goes round 20,000 times"
    assert "it would end" in error.why


def test_an_array_that_is_searched_ends_the_search(monkeypatch):
    monkeypatch.setattr(dispatch, "_blind_budget", 100)

    @cuda.jit
    def found(a, out):
        k = 0
        while a[k] != 5:
            k += 1
        out[0] = k

    a, out = np.zeros(3000), np.zeros(1)
    a[2999] = 5
    found[1, 1](a, out)
    assert out[0] == 2999


def test_a_loop_that_comes_nearer_may_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(dispatch, "_blind_budget", 100)
    nearer = "s, k = 0.0, 0\nwhile s < 500.0:\n    s += 0.5 if k % 2 else 0.25\n    k += 1\n"
    a = np.zeros(8)
    built(nearer + "a[0] = k", tmp_path)[1, 1](a)
    assert a[0] == 1334
    away = "i = 0\nwhile i != -9:\n    if i % 3: i += 1\n    else: i += 2"
    error = rounds_until(built(away, tmp_path), a)
    assert "its budget of 100 steps is spent" in error.what


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("while i < n: i += 1", (True, True)),
        ("while i < n:\n    i += 1\n    if a[i]: break", (True, False)),
        ("while i < n and a[i]: i += 1", (True, False)),
        ("while i < n: i += a[i]", (False, False)),
        ("while i < n:\n    if a[i]: i += 1", (False, False)),
        ("while i < n:\n    for j in range(3): i += 1", (False, False)),
        ("while i < n: i *= 2", (False, False)),
        ("while i * n < 9: i += n", (True, True)),
        ("while i * i < 9: i += n", (False, False)),
        ("while f(i) < n: i += 1", None),
        ("while i < n or k: i += 1", None),
        ("while True: i += 1", None),
    ],
)
def test_what_the_text_of_a_loop_says(text, expected):
    found = counted.counted(ast.parse(text).body[0])
    assert expected == (None if found is None else (found.even, found.alone))


def test_the_outlook_is_what_plain_python_counts():
    """All comparisons, starts, ends and steps that are small, against loops that are run."""
    steps, most = range(-3, 4), 60
    for symbol, holds in {
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }.items():
        for begin in range(-4, 5):
            for step in steps:
                i, rounds = begin, 0
                while holds(i, 2) and rounds < most:
                    i, rounds = i + step, rounds + 1
                if rounds < 2:
                    continue  # two looks are needed
                test = counted.Test(symbol, ast.Name("i"), ast.Constant(2))
                looks = [((np.int64(begin + k * step), np.int64(2)),) for k in (0, 1)]
                mask = counted.Mask(np.ones(1, bool))
                found = counted.outlook((test,), *looks, (0, 1), mask)
                assert found.rounds == (np.inf if rounds == most else rounds), (symbol, begin, step)


def test_the_budgets_are_told_apart():
    """`step_budget(n)` is for every loop; without it, one without a sign has less."""
    assert "blind_budget" in inspect.getsource(loops.Loop._first_limit)
    assert dispatch._blind_budget < dispatch._step_budget == BUDGET
    with cuda.step_budget(7):
        assert dispatch._blind_budget == dispatch._step_budget == 7
