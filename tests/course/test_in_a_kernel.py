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
    NotebookClient(notebook, timeout=900, allow_errors=True, kernel_name="python3").execute()
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
