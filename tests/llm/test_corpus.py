"""Text that every machine has: what is in it, what is not, and what is held out."""

import pytest

from aiinfra_labs.llm.corpus import LEFT_OUT, CorpusError, Document, described_corpus, documents


def test_the_librarys_own_source_and_reference():
    found = {document.name: document.text for document in documents()}
    assert "class OrderedDict" in found["collections/__init__.py"]
    assert "else" in found["help/if"]
    assert not [name for name in found if set(name.split("/")[:-1]) & set(LEFT_OUT)]
    assert not [name for name in found if "_sysconfigdata" in name]  # it names build folders
    assert all(text.strip() for text in found.values())
    assert 5e6 < sum(map(len, found.values())) < 100e6
    assert "Python 3." in described_corpus()


def test_a_small_and_fixed_part_is_held_out():
    names = [document.name for document in documents()]
    held_out = [name for name in names if Document(name, "").held_out]
    assert len(names) / 40 < len(held_out) < len(names) / 10
    # by the name alone, so that it is the same on every machine
    assert [n for n in range(100) if Document(f"{n}.py", "").held_out] == [20, 41]


def test_the_order_is_that_of_names(tmp_path):
    for name in ("b.py", "a.py", "sub/c.py", "tests/d.py", "e.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}")
    (tmp_path / "empty.py").write_text(" \n")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\xff")
    assert [d.name for d in documents(tmp_path)] == ["a.py", "b.py", "sub/c.py"]


@pytest.mark.parametrize("content", [None, "", " \n\t"])
def test_no_text_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "a.py").write_text(content)
    with pytest.raises(CorpusError, match="holds no Python file with text in it"):
        list(documents(tmp_path))
    with pytest.raises(CorpusError):
        list(documents(tmp_path / "no such folder"))
