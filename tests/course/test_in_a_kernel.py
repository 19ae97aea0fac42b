"""`check` where learners use it: in an IPython kernel, and under nbgrader's autograder."""

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.utils import determine_grade

SETUP = """
import numpy as np
from aiinfra_labs.course import check, exercise

@exercise("1.1.z", title="Doubling", points=3, skill="Arithmetic", arguments=("x",), seconds=1)
def doubling(function, require):
    with require("doubles") as r:
        r.equal(function(np.arange(3)), np.arange(3) * 2)
    with require("gives an array") as r:
        r.that(isinstance(function(np.arange(3)), np.ndarray), "it does not")
"""


def outputs(*answers):
    """What each of a few cells shows, run one after another in one kernel; errors are kept."""
    cells = [new_code_cell(SETUP), *map(new_code_cell, answers)]
    notebook = new_notebook(cells=cells)
    times = {"timeout": 900, "startup_timeout": 600}
    NotebookClient(notebook, **times, allow_errors=True, kernel_name="python3").execute()
    assert notebook.cells[0].outputs == []
    return [cell.outputs for cell in notebook.cells[1:]]


def test_a_lab_shows_no_traceback_whatever_happens():
    loop, chatty, error, right, unknown = outputs(
        "def loop(x):\n    while True:\n        pass\n\ncheck('1.1.z', loop)",
        "def chatty(x):\n    for i in range(10**5):\n        print(i)\n\ncheck('1.1.z', chatty)",
        "def error(x):\n    y = x\n    return y[99]\n\ncheck('1.1.z', error)",
        "check('1.1.z', lambda x: 2 * x)",
        "check('1.1.y', 3)",
    )
    texts = []
    for shown in (loop, chatty, error, right, unknown):
        (output,) = shown
        assert output.output_type == "execute_result" and "text/html" in output.data
        texts.append(output.data["text/plain"])
    assert "it had run for 1 s" in texts[0] and "loop, line " in texts[0]
    assert "printed 200,000 lines" in texts[1]
    assert "IndexError" in texts[2] and "error, line 3: return y[99]" in texts[2]
    assert "requirements.py" not in texts[2]
    assert "passed, 3 of 3 points" in texts[3]
    assert "there is no exercise '1.1.y'" in texts[4]


@pytest.mark.parametrize(
    ("answer", "points"),
    [("lambda x: 2 * x", 3), ("lambda x: x", 1.5), ("lambda x: 1 / 0", 0), ("lambda x: None", 0)],
)
def test_the_points_that_nbgrader_gives(monkeypatch, answer, points):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    (shown,) = outputs(f"check('1.1.z', {answer})")
    cell = new_code_cell("check", outputs=shown)
    grade = {"grade": True, "points": 3, "solution": False, "grade_id": "a", "locked": True}
    cell.metadata["nbgrader"] = grade | {"schema_version": 3, "task": False}
    assert determine_grade(cell) == (points, 3)


def test_after_a_cell_that_failed_the_old_function_is_not_checked():
    right = "def f(x):\n    return 2 * x"
    shown = outputs(
        right,
        "def f(x):\n    return 2 * * x",
        "check('1.1.z', f)",
        right,
        "check('1.1.z', f)",
        "@nothing\ndef f(x):\n    return x",
        "check('1.1.z', f)",
        "def f(x):\n    return x\n\n1 / 0",  # it is defined, and what follows fails
        "check('1.1.z', f)",
        "def g(x):\n    return 2 * x",
        "check('1.1.z', g)",
    )
    texts = [cell[0].data["text/plain"] if cell and "data" in cell[0] else "" for cell in shown]
    assert "the cell that defines f failed when it was last run: SyntaxError" in texts[2]
    assert "line 2: return 2 * * x" in texts[2] and "nothing was checked" in texts[2]
    assert "passed" in texts[4]
    assert "NameError: name 'nothing' is not defined" in texts[6]
    assert "failed, 1.5 of 3 points" in texts[8] and "passed" in texts[10]


def texts(shown):
    """The plain text of each cell's outputs, the errors among them."""
    return [
        "".join(o.get("data", {}).get("text/plain", "") or o.get("text", "") or o.get("ename", "")
                for o in cell)
        for cell in shown
    ]  # fmt: skip


ADD = """from aiinfra_labs.gpu import cuda
@cuda.jit
def vector_add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]"""
RELOAD = """import importlib, sys
for name in [n for n in sys.modules if n.startswith(%r)]:
    importlib.reload(sys.modules[name])
from aiinfra_labs.course import check"""


@pytest.mark.parametrize("part", ["aiinfra_labs.course", "aiinfra_labs.gpu.exercises"])
def test_modules_that_are_loaded_again_keep_and_forget_nothing(part):
    check, wrong = "check('3.2.a', vector_add)", ADD.replace("a[i] + b[i]", "a[i]")
    again = RELOAD % part
    shown = outputs(ADD, check, again, check, wrong, check, again, check, ADD, check)
    said = texts(shown)
    assert [said[k] for k in (0, 2, 4, 6, 8)] == [""] * 5
    assert ["passed, 4 of 4" in said[k] for k in (1, 3, 5, 7, 9)] == [
        True,
        True,
        False,
        False,
        True,
    ]


def test_half_a_character_is_shown_as_what_it_is():
    shown = outputs(
        "def error(x):\n    raise ValueError(chr(0xD83D))\n\ncheck('1.1.z', error)",
        "def prints(x):\n    print(chr(0xD83D))\n    return 2 * x\n\ncheck('1.1.z', prints)",
        "def gives(x):\n    return chr(0xD83D)\n\ncheck('1.1.z', gives)",
        "check(chr(0xD83D), gives)",
    )
    said = texts(shown)
    assert "ValueError: \\ud83d" in said[0] and "failed" in said[0]
    assert "passed, 3 of 3" in said[1]
    assert "failed" in said[2] and "no exercise" in said[3]


def test_output_without_an_end_ends_with_the_time_of_the_check():
    answer = (
        "def forever(x):\n    while True:\n        print('x' * 1000)\n\ncheck('1.1.z', forever)"
    )
    (said,) = texts(outputs(answer))
    assert "it had run for 1 s" in said and len(said) < 5000


def test_two_kernels_at_once_lose_no_attempt(home):
    from concurrent.futures import ThreadPoolExecutor

    from aiinfra_labs.course import progress

    answers = ["check('1.1.z', lambda x: x)", "check('1.1.z', lambda x: 2 * x)"] * 5
    with ThreadPoolExecutor(2) as pool:
        for shown in pool.map(lambda answers: outputs(*answers), [answers, answers[::-1]]):
            assert sum("passed" in text for text in texts(shown)) == 5
    record = progress.current().records()["1.1.z"]
    assert (record.attempts, record.best) == (20, 3)


FULL = """import resource, signal
from aiinfra_labs.course import progress
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))"""


def test_a_disk_that_is_full_stops_no_check(home):
    """A limit on the size of files stands for the disk: SQLite can write no page."""
    shown = outputs(FULL, "check('1.1.z', lambda x: x)", "check('1.1.z', lambda x: 2 * x)",
                    "progress.current().records()['1.1.z'].attempts")  # fmt: skip
    said = texts(shown)
    assert "failed, 1.5 of 3" in said[1] and "passed, 3 of 3" in said[2] and said[3] == "2"
    assert "cannot be written" in said[1] and "cannot be written" not in said[2]
