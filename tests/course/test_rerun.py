"""A notebook run anew says what its code is worth, whatever its stored outputs say."""

import json

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
        nbformat.write(made, path)
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
