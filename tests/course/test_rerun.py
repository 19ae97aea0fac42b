"""A notebook run anew says what its code is worth, whatever its stored outputs say."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from aiinfra_labs.course import cli, progress
from aiinfra_labs.course.registry import all_exercises
from aiinfra_labs.course.rerun import RerunError, rerun
from aiinfra_labs.course.units import UNITS

IDS = [e.id for e in all_exercises() if e.unit == "3.2"]


@pytest.fixture
def notebook(tmp_path):
    def write(*sources, **metadata):
        path = tmp_path / "02-cuda-model.ipynb"
        made = new_notebook(cells=[new_code_cell(s) for s in sources], metadata=metadata)
        path.write_text(json.dumps(made))  # as it is: nbformat would not write half a character
        return path

    return write


def test_the_reference_solution_is_worth_all_its_points(root, home, capsys):
    path = root / "solutions" / UNITS["3.2"].notebook
    assert cli.main(["check", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] and [id for id, *_ in data["exercises"]] == IDS
    assert progress.current().records() == {}, "the learner's own progress is left alone"


def test_what_is_not_there_has_no_points(notebook, capsys):
    done = rerun(notebook("1 + 1"))
    assert done.exercises and all(score == 0 for _, score, _ in done.exercises)
    assert not done.passed and done.errors == ()


def test_errors_are_told(notebook, capsys):
    assert cli.main(["check", str(notebook("1 / 0"))]) == 1
    assert "a cell ended in ZeroDivisionError: division by zero" in capsys.readouterr().out


def test_a_kernel_that_dies(notebook):
    with pytest.raises(RerunError, match="did not run to its end"):
        rerun(notebook("import os\nos._exit(1)"))


def test_a_kernel_that_a_check_ends_keeps_what_was_earned(notebook, root, capsys):
    solution = nbformat.read(root / "solutions" / UNITS["3.2"].notebook, as_version=4)
    cells = [cell.source for cell in solution.cells if cell.cell_type == "code"]
    first = next(source for source in cells if "def vector_add" in source)
    end = "import os\n\ndef add_many(kernel, x, y, times):\n    os._exit(1)"
    done = rerun(
        notebook(
            "from aiinfra_labs.course import check\nfrom aiinfra_labs.gpu import cuda",
            *(first, '%%time\ncheck("3.2.a", vector_add)'),  # a line of IPython's above it
            *(end, 'check(id="3.2.b", obj=add_many)', "1 / 0", 'check("3.2.c", vector_add)'),
            kernelspec={"name": "of-another-machine", "display_name": "x"},
        )
    )
    points = {id: score for id, score, _ in done.exercises}
    assert points["3.2.a"] == 4 and points["3.2.b"] == points["3.2.c"] == 0
    assert any("end of the kernel" in error for error in done.errors)
    said = {result.id: str(result) for result in done.results}
    assert "does not answer any more" in said["3.2.b"] or "kernel ended" in said["3.2.b"]
    assert "the kernel ended" in said["3.2.c"]


def test_what_is_no_notebook(tmp_path, capsys):
    (tmp_path / "no.ipynb").write_text("nothing")
    for name in ("no.ipynb", "missing.ipynb"):
        assert cli.main(["check", str(tmp_path / name)]) == 1
        assert "cannot be read" in capsys.readouterr().err


# --- after an accident --------------------------------------------------------------------------

SETUP = "from aiinfra_labs.course import check\nfrom aiinfra_labs.gpu import cuda"
ADD = """@cuda.jit
def vector_add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]"""
CHECK = 'check("3.2.a", vector_add)'
HALF = ADD.replace("a[i] + b[i]", "a[i]")  # wrong, and yet it writes each element once: a point


def score(done):
    return {id: score for id, score, _ in done.exercises}["3.2.a"]


GOOD = json.loads(nbformat.writes(new_notebook(cells=[new_code_cell("1 + 1")])))
CELL = GOOD["cells"][0]
BROKEN = {
    "empty": "",
    "half": json.dumps(GOOD)[:-40],
    "a list": "[]",
    "nothing": "null",
    "no cells": json.dumps({k: v for k, v in GOOD.items() if k != "cells"}),
    "cells of a kind that is none": json.dumps(GOOD | {"cells": 3}),
    "an empty cell": json.dumps(GOOD | {"cells": [{}]}),
    "a cell without text": json.dumps(GOOD | {"cells": [CELL | {"source": None}]}),
    "a cell with numbers for text": json.dumps(GOOD | {"cells": [CELL | {"source": [1, 2]}]}),
    "tags that are none": json.dumps(GOOD | {"cells": [CELL | {"metadata": {"tags": 3}}]}),
    "metadata that are none": json.dumps(GOOD | {"metadata": []}),
    "a version to come": json.dumps(GOOD | {"nbformat": 9}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_notebook_that_was_not_saved_whole_is_named(tmp_path, text, capsys):
    path = tmp_path / "02-cuda-model.ipynb"
    path.write_text(text)
    assert cli.main(["check", str(path)]) == 1
    said = capsys.readouterr().err
    assert str(path) in said and "saved half-way" in said and "Checkpoint" in said


def test_bytes_that_are_no_utf_8_are_named(tmp_path, capsys):
    path = tmp_path / "02-cuda-model.ipynb"
    path.write_bytes(json.dumps(GOOD).replace("1 + 1", "# \u00e9").encode("latin-1"))
    path.write_bytes(path.read_bytes().replace(b"\\u00e9", b"\xe9"))
    assert cli.main(["check", str(path)]) == 1
    assert "utf-8" in capsys.readouterr().err


def test_what_other_programs_do_to_a_notebook_is_read_all_the_same(notebook):
    path = notebook(SETUP, ADD, CHECK)
    data = json.loads(path.read_text())
    for cell in data["cells"]:
        del cell["outputs"], cell["id"]  # as a program that strips outputs leaves it
    path.write_text(
        "\ufeff" + json.dumps(data), encoding="utf-8"
    )  # with a mark of Windows' editors
    assert score(rerun(path)) == 4


def test_half_a_character_costs_its_cell_and_no_other(notebook, capsys):
    path = notebook(SETUP, "'\ud83d'", ADD, CHECK)
    assert cli.main(["check", str(path), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["exercises"][0][1] == 4
    (error,) = data["errors"]
    assert "U+D83D" in error and "was not run" in error


@pytest.mark.parametrize(
    "forever",
    ["while True:\n    print('x' * 1000)", "from IPython.display import HTML, display\n"
     "while True:\n    display(HTML('x' * 1000))"],
    ids=["a stream", "rich outputs"],
)  # fmt: skip
def test_output_without_an_end_is_stopped(notebook, forever, monkeypatch):
    monkeypatch.setattr("aiinfra_labs.course.judging.bounded.Bounded.most_output", 200_000)
    done = rerun(notebook(SETUP, forever, ADD, CHECK))
    assert score(done) == 4
    assert done.errors == ("Stopped: the cell had written over 200,000 characters",)


def test_a_cell_without_an_end_is_stopped(notebook):
    done = rerun(notebook(SETUP, "while True:\n    pass", ADD, CHECK), timeout=8)
    assert score(done) == 4 and done.errors == ("Stopped: the cell had run for 8 s",)


def test_a_cell_that_will_not_stop_loses_what_comes_after_it(notebook, monkeypatch):
    monkeypatch.setattr("aiinfra_labs.course.judging.bounded._TO_STOP", 0.5)
    stubborn = """import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    pass"""
    done = rerun(notebook(SETUP, ADD, CHECK, stubborn, 'check("3.2.c", vector_add)'), timeout=8)
    assert score(done) == 4 and not done.passed
    assert done.errors[0] == "Stopped: the cell had run for 8 s"
    assert "an end of the kernel" in done.errors[1]


def test_the_numbers_of_the_cells_and_their_outputs_do_not_count(notebook):
    path = notebook(SETUP, ADD, CHECK)
    made = nbformat.read(path, as_version=4)
    for number, cell in zip((3, 2, 1), made.cells, strict=True):
        cell.execution_count = number  # run from the bottom to the top
        cell.outputs = [nbformat.v4.new_output("stream", text="passed, 4 of 4 points")]
    made.cells[1].source = "vector_add = None"
    nbformat.write(made, path)
    assert score(rerun(path)) == 0


def test_a_check_above_its_answer_says_that_there_is_none(notebook):
    done = rerun(notebook(SETUP, CHECK, ADD))
    said = str(done.results[0])
    assert (
        score(done) == 0 and "name 'vector_add' is not defined" in said and "from the top" in said
    )


def test_a_check_that_is_there_twice_counts_once_and_the_better_one(notebook):
    done = rerun(notebook(SETUP, ADD, CHECK, HALF, CHECK))
    assert [id for id, *_ in done.exercises] == IDS and score(done) == 4


def test_a_check_that_was_deleted_gets_no_points(notebook):
    done = rerun(notebook(SETUP, ADD))
    assert score(done) == 0 and done.results[0].status == "not attempted"


def test_a_notebook_under_another_name_is_known_by_its_metadata_or_its_checks(notebook):
    path = notebook(SETUP, ADD, CHECK, aiinfra={"unit": "3.2"})
    other = path.rename(path.with_name("my homework.ipynb"))
    assert score(rerun(other)) == 4
    path = notebook(SETUP, ADD, CHECK, aiinfra=3)
    other = path.rename(path.with_name("my homework.ipynb"))
    assert [id for id, *_ in rerun(other).exercises] == IDS and score(rerun(other)) == 4


def test_a_notebook_that_nobody_knows_has_not_passed(notebook, capsys):
    path = notebook("1 + 1")
    assert cli.main(["check", str(path.rename(path.with_name("mine.ipynb")))]) == 1
    assert "mine.ipynb has no exercise" in capsys.readouterr().err


# --- one after another, and at once: ucbds-infra/otter-grader #813 --------------------------------

SPOILS = """import builtins, math, os, sys
import aiinfra_labs.course.registry as registry
from aiinfra_labs.gpu.exercises import cuda_model
cuda_model.vector_add.body = lambda function, require: None
registry.find("3.2.a").body = lambda function, require: None
os.environ["AIINFRA_HOME"] = "/nowhere"
vector_add = math.tau = builtins.print = None
state = 41"""


def test_nothing_of_one_notebook_is_left_for_the_next(notebook, home):
    assert score(rerun(notebook(SETUP, SPOILS, ADD, CHECK))) == 4
    before = dict(os.environ)
    unsolved = rerun(notebook(SETUP, "state += 1", CHECK))
    assert score(unsolved) == 0
    assert [error.partition(":")[0] for error in unsolved.errors] == ["NameError"]
    assert os.environ == before and not home.exists()
    assert score(rerun(notebook(SETUP, HALF, CHECK))) == 1
    assert score(rerun(notebook(SETUP, ADD, CHECK))) == 4


def test_a_module_beside_a_notebook_is_its_own(notebook, tmp_path):
    found = []
    for folder, answer in (("one", HALF), ("two", ADD)):
        (tmp_path / folder).mkdir()
        text = "from aiinfra_labs.gpu import cuda\n" + answer
        (tmp_path / folder / "answers.py").write_text(text)
        path = notebook(SETUP, "from answers import vector_add", CHECK)
        found.append(score(rerun(path.rename(tmp_path / folder / path.name))))
    assert found == [1, 4]


def test_two_notebooks_at_once_do_not_mix(notebook, tmp_path, home):
    paths = []
    for name, answer in (("right", ADD), ("wrong", HALF)):
        (tmp_path / name).mkdir()
        path = notebook(SETUP, answer, CHECK)
        paths.append(path.rename(tmp_path / name / path.name))
    with ThreadPoolExecutor(2) as pool:
        assert list(map(score, pool.map(rerun, paths))) == [4, 1]
    assert not home.exists()
