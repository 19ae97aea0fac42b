"""nbgrader's own autograder on what learners hand in: nothing, half, everything."""

import copy
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from aiinfra_labs.course.merging import source
from aiinfra_labs.course.registry import all_exercises
from aiinfra_labs.course.units import UNITS

UNIT = UNITS["3.2"]
LESSON, NAME = UNIT.id, UNIT.stem  # an assignment is a unit
HALF = {  # exercise: the part of its answer that is replaced, what replaces it, the points left
    "3.2.a": ("if i < out.size:", "if i >= 0:", 1),
    "3.2.c": ("cuda.gridsize(1)", "cuda.blockDim.x", 1),
}
FULL = {e.id: e.points for e in all_exercises() if e.unit == UNIT.id}


def submissions(root):
    """What each student hands in: the lab as it is, and with other cells in it."""
    lab = nbformat.read(root / "labs" / UNIT.notebook, as_version=4)
    solution = nbformat.read(root / "solutions" / UNIT.notebook, as_version=4)
    answers = {
        cell.metadata.nbgrader.grade_id: source(cell)
        for cell in solution.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    halves = dict.fromkeys(answers)
    for id, (there, instead, _) in HALF.items():
        grade_id = id.replace(".", "-")
        assert there in answers[grade_id]
        halves[grade_id] = answers[grade_id].replace(there, instead)
    return {
        "unsolved": filled(lab, {}),
        "half": filled(lab, halves),
        "solved": filled(lab, answers),
        "cheat": cheated(lab),
    }


# What a learner may put into a cell of the lab, so that every check seems to pass.
CHEAT = """
import sys, builtins, atexit, threading
import aiinfra_labs.course, aiinfra_labs.course.checking as checking
from IPython import get_ipython

class Passed:
    passed, score = True, 100
    def __repr__(self):
        return "100"
    def _repr_html_(self):
        return "<b>100</b>"

check = lambda *arguments: Passed()
checking.check = checking.try_out = aiinfra_labs.course.check = check
builtins.check = check
shell = get_ipython()
shell.showtraceback = lambda *arguments, **options: None
shell.display_formatter.format = lambda obj, *a, **k: ({"text/plain": "100"}, {})
run = shell.run_cell
def forged(source, *arguments, **options):
    return run("100" if "check" in source or "answer" in source else source, *arguments, **options)
shell.run_cell = forged
vector_add = add_many = saxpy = grey = blur = lambda *arguments: None
"""


def cheated(lab):
    """The lab with that cell, more points in its metadata, and its checks edited away."""
    from nbformat.v4 import new_code_cell, new_output

    made = copy.deepcopy(lab)
    for cell in made.cells:
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("grade"):
            graded["points"] = 100
            cell.source = "None"
            cell.outputs = [new_output("execute_result", {"text/plain": "100"}, execution_count=1)]
    made.cells.insert(1, new_code_cell(CHEAT))
    made.metadata["aiinfra"] = {"unit": "1.1"}
    return made


def filled(lab, answers):
    """A copy of the lab with these answers, by grade id, in its cells."""
    made = copy.deepcopy(lab)
    for cell in made.cells:
        given = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if given:
            cell.source = given
    return made


@pytest.fixture
def nbgrader(tmp_path, root, monkeypatch):
    """The course of an instructor, with three submissions: nbgrader's command line in it."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config.loader import PyFileConfigLoader

    # nbgrader starts a program of its environment, `alembic`, by name.
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "source" / LESSON).mkdir(parents=True)
    shutil.copy(root / "solutions" / UNIT.notebook, tmp_path / "source" / LESSON)
    for student, notebook in submissions(root).items():
        folder = tmp_path / "submitted" / student / LESSON
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{NAME}.ipynb")
    shutil.copy(root / "nbgrader_config.py", tmp_path)
    config = PyFileConfigLoader("nbgrader_config.py", path=str(tmp_path)).load_config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    config.Exchange.root = str(tmp_path / "exchange")
    return NbGraderAPI(config=config)


def points(api, student):
    """The points of each exercise in the gradebook."""
    with api.gradebook as gradebook:
        submission = gradebook.find_submission_notebook(NAME, LESSON, student)
        return {
            grade.name.removesuffix("-check").replace("-", "."): grade.score
            for grade in submission.grades
        }


# nbgrader and SQLAlchemy warn of their own ways; the settings make an error of it.
@pytest.mark.filterwarnings("ignore")
def test_the_points_that_a_class_gets(nbgrader, home):
    made = nbgrader.generate_assignment(LESSON, force=True, create=True)
    assert made["success"], made["log"]
    for student in ("unsolved", "half", "solved", "cheat"):
        graded = nbgrader.autograde(LESSON, student, force=True, create=True)
        assert graded["success"], graded["log"]
    assert points(nbgrader, "unsolved") == dict.fromkeys(FULL, 0)
    assert points(nbgrader, "half") == dict.fromkeys(FULL, 0) | {
        id: left for id, (_, _, left) in HALF.items()
    }
    assert points(nbgrader, "solved") == FULL
    assert points(nbgrader, "cheat") == dict.fromkeys(FULL, 0)
    assert not (home / "progress.db").exists(), "the teacher's own progress is left alone"
    folder = Path(nbgrader.coursedir.root, "autograded", "half", LESSON)
    half = nbformat.read(folder / f"{NAME}.ipynb", as_version=4)
    told = "".join(str(cell.get("outputs", "")) for cell in half.cells)
    assert "stays inside the arrays" in told, "the reasons are in the graded notebook"
