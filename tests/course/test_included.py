"""Source is shown by name: as it is, less what is left out; a page that shows another is found."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from aiinfra_labs.course import included, page
from aiinfra_labs.course.included import IncludedError, code

MODULE = '''"""A module."""

import functools


class Pool:
    """Blocks.

    Two lines.
    """

    size: int = 4

    def __init__(self):
        self.free = []

    @property
    def used(self):
        """How many."""
        # a comment of its own
        return 1  # beside a line


def empty():
    """Only this."""


@functools.cache
def double(n):
    # first
    """Not a docstring's place."""
    total = n
    while total < 2 * n:
        total += n
    return {"a_long_name": total, "another_long_name": total, "a_third_long_name": total, "x": 1}
'''


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "src" / "pack"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "pool.py").write_text(MODULE)
    return folder.parent


def test_a_function_with_its_decorator_folded_at_the_width_of_a_page(sources):
    text = code({"source": "pack.pool.double"}, sources)
    assert text.startswith("@functools.cache\ndef double(n):\n")
    assert max(map(len, text.split("\n"))) <= included.WIDTH and '        "x": 1,\n' in text


def test_a_method_stands_at_the_margin(sources):
    text = code({"source": "pack.pool.Pool.used"}, sources)
    assert text.startswith('@property\ndef used(self):\n    """How many."""\n')


def test_what_is_left_out(sources):
    metadata = {"source": "pack.pool.Pool.used", "without": "docstring comments"}
    expected = "@property\ndef used(self):\n    return 1  # beside a line"
    assert code(metadata, sources) == expected
    assert code(metadata | {"without": ["docstring", "comments"]}, sources) == expected
    assert '"""Only this."""' in code(
        {"source": "pack.pool.empty", "without": "docstring"}, sources
    )
    whole = code({"source": "pack.pool.Pool", "without": "docstring"}, sources)
    assert "Blocks" not in whole and whole.startswith("class Pool:\n    size: int = 4\n")


def test_a_class_and_some_of_it(sources):
    only = {"source": "pack.pool.Pool", "only": ["size", "used"], "without": "docstring comments"}
    assert code(only, sources) == (
        "class Pool:\n    size: int = 4\n\n    @property\n    def used(self):\n"
        "        return 1  # beside a line"
    )
    with pytest.raises(IncludedError, match="Pool has no gone"):
        code(only | {"only": "size gone"}, sources)


def test_some_lines(sources):
    lines = {"source": "pack.pool.double", "first": "while", "last": "+="}
    assert code(lines, sources) == "while total < 2 * n:\n    total += n"
    with pytest.raises(IncludedError, match="no line contains 'until'"):
        code(lines | {"first": "until"}, sources)


def test_several_at_once(sources):
    text = code({"source": "pack.pool.empty pack.pool.Pool.used"}, sources)
    assert text.index("def empty") < text.index("def used")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("pack.poll.double", "pack has no|no 'poll'|no module"),
        ("pack.pool.Pool.free_all", "pool.py has no 'free_all'"),
        ("pack.pool", "is a whole module"),
        ("nothing.at.all", "no module of the name"),
    ],
)
def test_a_name_that_is_not_there_is_said_in_three_parts(sources, name, what):
    with pytest.raises(IncludedError, match=what) as error:
        code({"source": name}, sources)
    assert error.value.why and error.value.try_


def shown(sources, kind="markdown", **metadata):
    make = new_markdown_cell if kind == "markdown" else new_code_cell
    return new_notebook(cells=[make("...", metadata={"source": "pack.pool.double"} | metadata)])


def test_a_markdown_cell_is_filled_with_its_place_below(sources, tmp_path):
    notebook, path = shown(sources, without="comments"), tmp_path / "book" / "3-gpu" / "a.ipynb"
    assert included.fill(notebook, path, sources) == 1
    assert included.fill(notebook, path, sources) == 0
    text = notebook.cells[0].source
    assert text.startswith("```python\n@functools.cache\ndef double(n):\n")
    assert text.endswith("```\n\n*`double` in [pool.py](../../src/pack/pool.py), without comments*")
    assert included.lines_shown(notebook.cells[0])[1] == "def double(n):"
    assert included.stale(notebook, path, sources) == []


def test_a_code_cell_is_filled_with_what_runs(sources, tmp_path):
    notebook = shown(sources, "code")
    included.fill(notebook, tmp_path / "a.ipynb", sources)
    space = {"functools": __import__("functools")}
    exec(notebook.cells[0].source, space)
    assert space["double"](3)["x"] == 1
    assert notebook.cells[0].source.startswith("# From pack/pool.py\n")


def test_a_change_on_either_side_is_found(sources, tmp_path):
    notebook, path = shown(sources), tmp_path / "a.ipynb"
    assert "shows pack.pool.double" in included.stale(notebook, path, sources)[0]
    included.fill(notebook, path, sources)
    module = sources / "pack" / "pool.py"
    module.write_text(MODULE.replace("total += n", "total += 1"))
    assert "as it was, not as it is" in included.stale(notebook, path, sources)[0]
    included.fill(notebook, path, sources)
    module.write_text(MODULE.replace("def double", "def twice"))
    assert "has no 'double'" in included.stale(notebook, path, sources)[0]


def test_an_authors_own_text_is_not_lost(sources, tmp_path):
    notebook = shown(sources)
    notebook.cells[0].source = "What I wrote."
    with pytest.raises(IncludedError, match="What I wrote"):
        included.fill(notebook, tmp_path / "a.ipynb", sources)


# --- from an author's text to a page --------------------------------------------------------------

TEXT = """---
jupytext: {{text_representation: {{extension: .md, format_name: myst}}}}
kernelspec: {{name: python3, display_name: Python 3, language: python}}
---

# A page

+++ {{"source": "aiinfra_labs.course.streams.cut", "without": "docstring"}}
{body}
+++

What follows.

```{{code-cell}} ipython3
print(1, flush=True)
print(2)
```
"""


@pytest.mark.parametrize("body", ["", "\n...\n"])
def test_a_text_becomes_a_page(tmp_path, body, capsys):
    text = tmp_path / "a.md"
    text.write_text(TEXT.format(body=body))
    assert page.main([str(text)]) == 0, capsys.readouterr().err
    assert not text.exists()
    made = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    assert [cell.cell_type for cell in made.cells] == ["markdown", "markdown", "markdown", "code"]
    assert "def cut(cell: Cell) -> bool:\n    outputs" in made.cells[1].source
    assert made.cells[2].source == "What follows."
    (output,) = made.cells[3].outputs
    assert output.text == "1\n2\n"
    assert page.main(["--check", str(tmp_path / "a.ipynb")]) == 0


def test_a_page_is_edited_as_text_and_keeps_its_outputs(tmp_path):
    import jupytext

    text, path = tmp_path / "a.md", tmp_path / "a.ipynb"
    text.write_text(TEXT.format(body=""))
    page.make_ready(text)
    before = nbformat.read(path, as_version=4)
    text.write_text(jupytext.writes(before, fmt="md:myst").replace("follows", "comes"))
    page.make_ready(text, run=False)
    after = nbformat.read(path, as_version=4)
    assert after.cells[2].source == "What comes."
    assert after.cells[3].outputs == before.cells[3].outputs
    assert [c.id for c in after.cells if c.cell_type == "code"] == [before.cells[3].id]


def test_a_widget_that_is_shown_no_more_is_not_kept(tmp_path):
    """What it showed is megabytes of a page, and old."""
    path = tmp_path / "a.ipynb"
    old = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"a": {}}}}}
    nbformat.write(new_notebook(cells=[new_code_cell("1")], metadata=old), path)
    page.make_ready(path)
    assert "widgets" not in nbformat.read(path, as_version=4).metadata


def test_a_page_that_fails_is_left_as_it_was(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_text()
    assert page.main([str(path)]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and "Why: " in said and "Try: " in said
    assert path.read_text() == before
    assert page.main([str(tmp_path / "none.ipynb")]) == 1
