"""What README.md and CONTRIBUTING.md say is so."""

import re
import tomllib

import pytest

from aiinfra_labs.course.units import STANDING, UNITS
from by_path import loaded


@pytest.fixture
def standing(root):
    """tools/standing.py as a module."""
    return loaded(root / "tools" / "standing.py")


def test_the_units_that_stand_are_in_step(root, standing):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert standing.with_table(text) == text, "run `make labs`"
    for id in STANDING:
        assert f"| {id} {UNITS[id].title} |" in text


def test_a_table_out_of_step_is_found_and_mended(standing, tmp_path, monkeypatch, capsys):
    path = tmp_path / "README.md"
    path.write_text(f"Before\n{standing.BEGIN}\n| 9.9 |\n{standing.END}\nAfter\n")
    monkeypatch.setattr(standing, "README", path)
    assert standing.main(["--check"]) == 1 and "make labs" in capsys.readouterr().out
    assert standing.main([]) == 0 and standing.main(["--check"]) == 0
    text = path.read_text()
    assert text.startswith("Before\n") and text.endswith("\nAfter\n") and "9.9" not in text
    path.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        standing.main([])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "AGENTS.md"])
def test_what_is_linked_to_is_there(root, name):
    text = (root / name).read_text(encoding="utf-8")
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)  # to copy
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [link for link in links if not (root / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_targets_of_make_are_there(root, name):
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^(?:`|)make ([a-z -]+)", (root / name).read_text(), re.MULTILINE)
    assert named and {word for words in named for word in words.split()} <= targets


def test_the_picture_is_small(root):
    assert (root / "pictures" / "course.png").stat().st_size < 300_000


def test_both_licences_are_there_in_full(root):
    named = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert named["license"] == "Apache-2.0 AND CC-BY-4.0"
    files = [path for pattern in named["license-files"] for path in root.glob(pattern)]
    texts = "".join(path.read_text() for path in files)
    assert len(files) == 3
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in texts
    assert "Creative Commons Attribution 4.0 International Public License" in texts


def test_pins_are_exact_and_leave_cuda_out_on_macos(root):
    lines = (root / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    for pin in pins:
        assert re.fullmatch(r'[\w.-]+==[\w.]+( ; platform_system != "Darwin")?', pin), pin
    cuda = [pin for pin in pins if re.match(r"cuda-|cupy-|numba-cuda|nvidia-", pin)]
    assert cuda and all("Darwin" in pin for pin in cuda)
    assert not any("Darwin" in pin for pin in pins if pin not in cuda)
