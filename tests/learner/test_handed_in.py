"""What learners hand in after an accident: nbgrader grades it, and the submissions beside it.

The accidents are those of nbgrader's own reports: a graded cell that was copied, split, deleted or
made a text (jupyter/nbgrader #923, #1083, #1682), and a notebook that was saved half-way or has
another name.
Each is done to a solved notebook, so that whoever is not at fault gets all points.
"""

import copy
import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from aiinfra_labs.course.units import UNITS

pytestmark = [
    # nbgrader and SQLAlchemy warn of their own ways; the settings make an error of it.
    pytest.mark.filterwarnings("ignore"),
]
UNIT = UNITS["3.2"]
LESSON, NAME = UNIT.id, UNIT.stem
KEPT = ("3-2-a", "3-2-a-check", "3-2-c", "3-2-c-check")
FULL = {"3-2-a-check": 4.0, "3-2-c-check": 4.0}


def small(notebook):
    """The lab with two of its exercises, which are quickly graded."""
    made = copy.deepcopy(notebook)
    head = next(c for c in made.cells if c.cell_type == "code")
    found = {grade_id(c): c for c in made.cells if grade_id(c) in KEPT}
    made.cells = [head, *(found[id] for id in KEPT)]
    made.cells[0].source += "\nimport numpy as np\nfrom aiinfra_labs.gpu import cuda"
    return made


def grade_id(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def at(notebook, id):
    """The place of a cell."""
    return next(k for k, cell in enumerate(notebook.cells) if grade_id(cell) == id)


# --- accidents ------------------------------------------------------------------------------------


def nothing(notebook):
    return FULL


def deleted(notebook):
    """The check of the first exercise is gone."""
    del notebook.cells[at(notebook, "3-2-a-check")]
    return FULL


def all_deleted(notebook):
    """All graded cells of the first exercise are gone: only what is there gets points."""
    del notebook.cells[at(notebook, "3-2-a")]
    del notebook.cells[at(notebook, "3-2-a-check")]
    return FULL | {"3-2-a-check": 0.0}


def copied(notebook):
    """Answer and check were copied to the end, with their metadata, and changed there."""
    for id in ("3-2-a", "3-2-a-check"):
        notebook.cells.append(copy.deepcopy(notebook.cells[at(notebook, id)]))
        notebook.cells[-1].id = f"copy-{id}"
    notebook.cells[at(notebook, "3-2-a")].source = "vector_add = None"  # the first try
    return FULL


def split(notebook):
    """JupyterLab splits a cell in two with the same metadata."""
    place = at(notebook, "3-2-a-check")
    cell = notebook.cells[place]
    notebook.cells.insert(place, copy.deepcopy(cell))
    notebook.cells[place].source, notebook.cells[place].id = "# my check:", "split"
    return FULL


def edited(notebook):
    """The check asks for less."""
    notebook.cells[at(notebook, "3-2-a-check")].source = "print('all right')"
    return FULL


def made_text(notebook):
    """The check was made a cell of text."""
    place = at(notebook, "3-2-a-check")
    old = notebook.cells[place]
    notebook.cells[place] = nbformat.v4.new_markdown_cell(old.source, metadata=old.metadata)
    return FULL


def without_metadata(notebook):
    """Another program has dropped the metadata of the cells, but for an empty rest."""
    for cell in notebook.cells:
        cell.metadata = {"nbgrader": {}} if grade_id(cell) else {}
    return FULL


def odd_metadata(notebook):
    """An older version of nbgrader, and none at all."""
    notebook.cells[at(notebook, "3-2-a")].metadata["nbgrader"]["schema_version"] = 1
    notebook.cells[at(notebook, "3-2-c")].metadata["nbgrader"] = {"grade_id": "3-2-c"}
    notebook.cells[0].metadata["nbgrader"] = {"grade_id": "nobody-knows-it", "grade": True}
    return FULL


def moved(notebook):
    """The check stands above the answer: what it asks for is not there yet."""
    check = notebook.cells.pop(at(notebook, "3-2-a-check"))
    notebook.cells.insert(at(notebook, "3-2-a"), check)
    return FULL | {"3-2-a-check": 0.0}


def run_out_of_order(notebook):
    """The numbers of the cells say that they were run from the bottom to the top."""
    for number, cell in enumerate(reversed(notebook.cells), 1):
        if cell.cell_type == "code":
            cell.execution_count = number
    return FULL


def no_text(notebook):
    """Half of a surrogate pair, as a paste of a cut emoji leaves it, in a comment and in a cell."""
    notebook.cells[at(notebook, "3-2-a")].source += "\n# \ud83d"
    notebook.cells.insert(1, nbformat.v4.new_code_cell("half = '\udc00'"))
    return FULL


def writes_for_ever(notebook):
    """A cell prints without an end."""
    source = "while True:\n    print('x' * 1000)"
    notebook.cells.insert(1, nbformat.v4.new_code_cell(source))
    return FULL


ACCIDENTS = (
    *(nothing, deleted, all_deleted, copied, split, edited, made_text, without_metadata),
    *(odd_metadata, moved, run_out_of_order, no_text, writes_for_ever),
)


# --- grading ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(tmp_path_factory, root):
    """nbgrader's answer to each accident: {name: what it says, or the points it gave}."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config.loader import PyFileConfigLoader

    folder = tmp_path_factory.mktemp("class")
    (folder / "source" / LESSON).mkdir(parents=True)
    solution = small(nbformat.read(root / "solutions" / UNIT.notebook, as_version=4))
    nbformat.write(solution, folder / "source" / LESSON / f"{NAME}.ipynb")
    shutil.copy(root / "nbgrader_config.py", folder)
    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.db_url = f"sqlite:///{folder / 'gradebook.db'}"
    config.Exchange.root = str(folder / "exchange")
    with pytest.MonkeyPatch.context() as patch:
        programs = Path(sys.executable).parent  # nbgrader starts `alembic` by name
        patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("AIINFRA_HOME", str(folder / "home"))
        api = NbGraderAPI(config=config)
        made = api.generate_assignment(LESSON, force=True, create=True)
        assert made["success"], made["log"]

        def grade(student, text, name=NAME):
            """The points of a submission, and whether somebody must look at it; or the log."""
            place = folder / "submitted" / student / LESSON
            place.mkdir(parents=True)
            (place / f"{name}.ipynb").write_bytes(text)
            done = api.autograde(LESSON, student, force=True, create=True)
            if not done["success"]:
                return done["log"]
            with api.gradebook as book:
                found = book.find_submission_notebook(NAME, LESSON, student).grades
                assert not any(grade.needs_manual_grade for grade in found)
                return {grade.name: grade.score for grade in found}

        grade.solution = solution
        grade.folder = folder
        yield grade


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.__name__)
def test_points_after_an_accident(graded, accident):
    notebook = copy.deepcopy(graded.solution)
    expected = accident(notebook)
    assert graded(accident.__name__, json.dumps(notebook).encode()) == expected


def test_what_cannot_be_read_is_named_and_costs_nobody_else(graded):
    text = json.dumps(graded.solution).encode()
    for student, wrong in {
        "half": text[: len(text) // 2],
        "empty": b"",
        "latin-1": text.replace(b"import numpy", "# \u00e9\\nimport numpy".encode("latin-1")),
    }.items():
        said = graded(student, wrong)
        assert isinstance(said, str) and student in said
    assert graded("behind-them", text) == FULL


def test_a_notebook_under_another_name_is_named(graded):
    said = graded("renamed", json.dumps(graded.solution).encode(), "my-homework")
    assert "my-homework.ipynb" in said
