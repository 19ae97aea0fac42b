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
LESSON, NAME = UNIT.chapter.folder, UNIT.stem
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
    }


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
    from traitlets.config import Config

    # nbgrader starts a program of its environment, `alembic`, by name.
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "source" / LESSON).mkdir(parents=True)
    shutil.copy(root / "solutions" / UNIT.notebook, tmp_path / "source" / LESSON)
    for student, notebook in submissions(root).items():
        folder = tmp_path / "submitted" / student / LESSON
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{NAME}.ipynb")
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.course_id = "aiinfra-labs"
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    config.ClearSolutions.code_stub = {"python": "# Write your code here."}
    config.ExecutePreprocessor.timeout = 120
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
def test_the_points_that_a_class_gets(nbgrader):
    made = nbgrader.generate_assignment(LESSON, force=True, create=True)
    assert made["success"], made["log"]
    for student in ("unsolved", "half", "solved"):
        graded = nbgrader.autograde(LESSON, student, force=True, create=True)
        assert graded["success"], graded["log"]
    assert points(nbgrader, "unsolved") == dict.fromkeys(FULL, 0)
    assert points(nbgrader, "half") == dict.fromkeys(FULL, 0) | {
        id: left for id, (_, _, left) in HALF.items()
    }
    assert points(nbgrader, "solved") == FULL
