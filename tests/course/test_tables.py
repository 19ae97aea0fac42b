"""Tables made by code read back as they were made, whatever stands in their cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aiinfra_labs.course.tables import markdown, table

words = st.text("ab1 |$é核", min_size=1, max_size=8).map(lambda s: f"x{s.strip()}x")


@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=4))
def test_a_markdown_reader_finds_each_cell(rows):
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(("a", "b", "c"), rows))
    cells = [token.content for token in tokens if token.type == "inline"]
    assert cells[:3] == ["a", "b", "c"] and len(cells) == 3 * (len(rows) + 1)
    plain = [cell.replace("\\$", "$") for cell in cells[3:]]
    assert plain == [cell for row in rows for cell in row]


def test_in_a_notebook_and_in_a_terminal():
    made = table(("unit", "points"), [("3.2", 18)])
    assert made._repr_markdown_() == "| unit | points |\n| --- | --- |\n| 3.2 | 18 |\n"
    assert repr(made) == "unit | points\n3.2 | 18"


def test_a_row_of_another_length():
    with pytest.raises(ValueError, match="a row of 1 cells under a head of 2"):
        table(("unit", "points"), [("3.2",)])
