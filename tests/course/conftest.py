"""Exercises made for a test, forgotten after it."""

import pytest

from aiinfra_labs.course import registry


@pytest.fixture
def define(monkeypatch):
    """`define("1.1.z", ...)` registers a body for this test only, and gives the exercise."""
    registry.all_exercises()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    def make(body, id="1.1.z", **options):
        known = {"title": "Doubling", "points": 3, "skill": "Arithmetic", "arguments": ("x",)}
        return registry.exercise(id, **(known | options))(body)

    return make


@pytest.fixture
def doubling(define):
    """The exercise 1.1.z: double an array."""
    import numpy as np

    def body(function, require):
        with require("doubles") as r:
            for n in (0, 1, 5):
                with r.input(f"n = {n}"):
                    r.equal(function(np.arange(n)), np.arange(n) * 2)
        with require("keeps its argument") as r, r.input("n = 3"):
            x = np.arange(3)
            function(x)
            r.equal(x, np.arange(3), name="x", why="the caller's array was changed")

    hints = ("What is twice x?", "x + x is twice x.")
    return define(body, hints=hints, seconds=1, changes=("x",))


# --- a small course ----------------------------------------------------------------------------

PAGE = """# 3.2 The CUDA programming model

How does a thread know its element?

See [the door](../../src/aiinfra_labs/gpu/door.py). A kernel is 核函数.

What this does: the cost of a token falls, the time to first token and the time per output token
stay."""


@pytest.fixture
def course(tmp_path, root):
    """A course of one unit in a folder of its own, with its lab made: `course` is the folder."""
    import shutil

    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    from aiinfra_labs.course import release

    def code(source, id, **metadata):
        output = new_output("execute_result", {"text/plain": "1"}, execution_count=1)
        return new_code_cell(source, id=id, metadata=metadata, execution_count=1, outputs=[output])

    def nbgrader(grade_id, **more):
        base = {"grade": False, "locked": False, "schema_version": 3, "task": False}
        return base | {"solution": False, "grade_id": grade_id} | more

    solution = [
        "def double(x):",
        '    """Twice x."""',
        "    ### BEGIN SOLUTION",
        "    secret = x.copy()",
        "    return secret + secret",
        "    ### END SOLUTION",
    ]
    cells = [
        new_markdown_cell("# 3.2 Lab\n\nDouble it.", id="title"),
        code('from aiinfra_labs.course import card, check\n\ncard("3.2")', "card"),
        code("1 + 1", "sum", tags=["nbval-check-output"]),
        code("\n".join(solution), "double", nbgrader=nbgrader("double", solution=True)),
        code(
            'check("1.1.z", double)',
            "check",
            nbgrader=nbgrader("check", grade=True, locked=True, points=3),
        ),
        code("print('for the instructor')", "talk", tags=["instructor"]),
    ]
    card = {
        "minutes": 5,
        "memory_mb": 300,
        "gpu": "not needed",
        "prerequisites": ["Python"],
        "skills": ["Arithmetic"],
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(
        cells=cells,
        metadata={
            "kernelspec": kernel,
            "language_info": {"name": "python", "version": "3.11.0"},
            "aiinfra": {"unit": "3.2", "card": card},
        },
    )
    folder = tmp_path / "course"
    page = new_notebook(
        cells=[new_markdown_cell(PAGE, id="page"), code("1", "one", tags=["nbval-check-output"])],
        metadata={"kernelspec": kernel},
    )
    for tree, made in (("solutions", notebook), ("book", page)):
        path = folder / tree / "3-gpu" / "02-cuda-model.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(made, path)
    shutil.copy(root / "nbgrader_config.py", folder)
    (folder / "AGENTS.md").write_text("Be a tutor.\n")
    release.write(folder, folder / "cards.toml")
    return folder


@pytest.fixture
def edit():
    """`with edit(path) as notebook` changes a notebook's JSON."""
    import contextlib
    import json

    @contextlib.contextmanager
    def change(path):
        notebook = json.loads(path.read_text())
        yield notebook
        path.write_text(json.dumps(notebook))

    return change
