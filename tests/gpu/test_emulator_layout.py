"""The emulator is meant to be read: no file over 500 lines, each part with its order.

No part is over 2,800 lines. Docstrings are not counted, of a file neither.

So are the exercises of every chapter: no file of theirs is over 500 lines.
"""

import ast
import re
from pathlib import Path

import pytest

from aiinfra_labs.gpu import emulator

ROOT = Path(emulator.__file__).parent
PARTS = ("translation", "lanes", "api", "counters", "checkers")


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def code_lines(path: Path) -> int:
    """The lines of a file less those of its docstrings."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = [n.body[0] for n in ast.walk(tree) if isinstance(n, kinds) and ast.get_docstring(n)]
    return lines(path) - sum(node.end_lineno - node.lineno + 1 for node in told)


def test_its_parts_are_all_there_is():
    assert {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(PARTS)
    assert {p.stem for p in ROOT.glob("*.py")} == {"__init__", "devices", "errors"}
    named = re.findall(r"^`(\w+)` ", emulator.__doc__, re.MULTILINE)
    assert [name for name in named if name in PARTS] == list(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_one_sitting_and_says_in_which_order(part):
    files = list((ROOT / part).glob("*.py"))
    assert sum(map(code_lines, files)) < 2800
    assert max(map(code_lines, files)) <= 500
    says = ast.get_docstring(ast.parse((ROOT / part / "__init__.py").read_text("utf-8")))
    modules = {f.stem for f in files} - {"__init__"}
    assert modules == set(re.findall(r"`(\w+)`", says)) & modules, "a module is left out"


def test_a_file_of_exercises_is_one_sitting():
    files = list(ROOT.parents[1].glob("*/exercises/*.py"))
    assert len(files) > 60
    assert [f"{f.name}: {lines(f)}" for f in files if lines(f) > 500] == []
