"""What is printed is one output, however the kernel cut it; what is shown stays where it is."""

from hypothesis import given
from hypothesis import strategies as st

from aiinfra_labs.course import streams

PIECES = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr", "figure"]), st.text("ab\n", min_size=1)),
    max_size=9,
)


def output(name, text):
    if name == "figure":
        return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}
    return {"output_type": "stream", "name": name, "text": text}


def said(outputs):
    """What a reader gets: between two figures, all of each stream."""
    parts = [{}]
    for one in outputs:
        if one["output_type"] == "stream":
            parts[-1][one["name"]] = parts[-1].get(one["name"], "") + streams.text_of(one)
        else:
            parts += [one["data"], {}]
    return parts


@given(PIECES)
def test_nothing_is_lost_and_no_neighbours_stay(pieces):
    outputs = [output(*piece) for piece in pieces]
    joined = streams.joined(outputs)
    assert said(joined) == said(outputs) and streams.joined(joined) == joined
    for one, other in zip(joined, joined[1:], strict=False):
        names = (one.get("name", "figure"), other.get("name", "figure"))
        assert "figure" in names or names == ("stdout", "stderr")


@given(PIECES, st.integers(1, 4))
def test_the_cut_does_not_count(pieces, size):
    outputs = [output(*piece) for piece in pieces]
    cut = []
    for name, text in pieces:
        whole = len(text) if name == "figure" else size
        cut += [output(name, text[i : i + whole]) for i in range(0, len(text), whole)]
    assert streams.joined(cut) == streams.joined(outputs)


def test_lines_and_cells():
    lines = {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]}
    cell = {"cell_type": "code", "outputs": [lines, output("stdout", "c\n")], "metadata": {}}
    assert streams.cut(cell)
    notebook = {"cells": [cell, {"cell_type": "markdown", "source": "x", "metadata": {}}]}
    assert streams.join(notebook) == 1 and streams.join(notebook) == 0
    assert notebook["cells"][0]["outputs"] == [output("stdout", "a\nb\nc\n")]
