"""Imports go one way, and a chapter costs no more than it needs."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

# What a module may import of this package, by the beginning of its own path; the longest holds.
MAY = {
    "course": {"course"},
    "llm": {"llm"},
    "llm/exercises": {"llm", "course"},
    "llm/drawings": {"llm", "course"},
    "llm/widgets": {"llm", "course"},
    "coding": {"coding"},
    "coding/exercises": {"coding", "course"},
    "gpu": {"gpu"},
    "gpu/exercises": {"gpu", "course"},
    "gpu/widgets": {"gpu", "course"},
    "gpu/drawings": {"gpu", "course"},
    "cloud/serving": {"cloud.serving", "llm", "gpu"},
    "cloud/platform": {"cloud.platform", "cloud.serving"},
    "cloud/exercises": {"cloud", "course"},
    "cloud/drawings": {"cloud", "course"},
    "cloud/widgets": {"cloud", "course"},
    "cloud": {"cloud"},
}
STANDARD = set(sys.stdlib_module_names)
FOR_ALL = "bounds"  # knows nobody, so that everybody may know it


def imported(path, package):
    """The dotted names that a module imports, relative ones made absolute."""
    parts = ["aiinfra_labs", *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{name}.{alias.name}" for alias in node.names)


def forbidden(package):
    """Each import against the direction, as "module: name"."""
    found = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).as_posix()
        rules = [start for start in MAY if own.startswith(start)]
        if not rules:
            continue
        allowed = MAY[max(rules, key=len)]
        for name in imported(path, package):
            if not name.startswith("aiinfra_labs."):
                if own.startswith("gpu/emulator") and name.split(".")[0] not in STANDARD | {
                    "numpy"
                }:
                    found.append(f"{own}: {name}")
                continue
            inner = name.removeprefix("aiinfra_labs.")
            if not any(inner == may or inner.startswith(f"{may}.") for may in (*allowed, FOR_ALL)):
                found.append(f"{own}: {name}")
    return found


@pytest.fixture
def package(root):
    return root / "src" / "aiinfra_labs"


def test_what_all_may_import_imports_nobody(package):
    names = set(imported(package / f"{FOR_ALL}.py", package))
    assert {name.split(".")[0] for name in names} <= STANDARD


def test_nothing_imports_upward(package):
    assert len(list(package.rglob("*.py"))) > 20
    assert forbidden(package) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("course/checking.py", "from aiinfra_labs.gpu import cuda"),
        ("course/checking.py", "from ..gpu import cuda"),
        ("llm/tokens.py", "import aiinfra_labs.course"),
        ("gpu/door.py", "from ..course import check"),
        ("gpu/door.py", "def f():\n    from aiinfra_labs.llm import tokens"),
        ("gpu/emulator/mask.py", "import numba"),
        ("gpu/emulator/mask.py", "from .. import course\nfrom ...course import check"),
        ("cloud/rag/index.py", "from aiinfra_labs.llm import attention"),
        ("coding/loop.py", "from aiinfra_labs.cloud.serving import engine"),
    ],
)
def test_an_import_upward_is_found(tmp_path, module, line):
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert forbidden(tmp_path)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("gpu/exercises/one.py", "from aiinfra_labs.course import exercise"),
        ("gpu/emulator/mask.py", "import math\nimport numpy as np\nfrom .loops import x"),
        ("cloud/serving/engine.py", "from aiinfra_labs.gpu import cuda"),
        ("cloud/platform/gateway.py", "from ..serving import engine"),
        ("gpu/sharing/mig.py", "from aiinfra_labs.bounds import whole"),
        ("llm/sampling.py", "from .. import bounds"),
    ],
)
def test_an_import_downward_is_none(tmp_path, module, line):
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert forbidden(tmp_path) == []


PROBE = """
import json, sys, time
began = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - began, sorted({{m.split(".")[0] for m in sys.modules}})]))
"""


def fresh(module):
    """Seconds and the top modules loaded, for an import in an interpreter of its own."""
    command = [sys.executable, "-c", PROBE.format(module=module)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_the_gpu_chapter_costs_numpy_alone():
    runs = [fresh("aiinfra_labs.gpu") for _ in range(5)]
    assert min(seconds for seconds, _ in runs) < 0.5
    assert not {"torch", "numba", "cupy"} & set(runs[0][1])


def test_the_emulator_costs_numpy_alone():
    loaded = set(fresh("aiinfra_labs.gpu.emulator")[1])
    assert not {"torch", "numba", "cupy", "matplotlib", "pandas"} & loaded


def test_the_course_costs_next_to_nothing():
    runs = [fresh("aiinfra_labs.course") for _ in range(3)]
    heavy = {"numpy", "matplotlib", "pandas", "IPython", "sqlite3", "nbformat"}
    assert not heavy & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) < 0.1


def test_every_public_name_is_there():
    import aiinfra_labs.course as course

    assert {"check", "show", "predict", "reveal", "card", "exercise", "Result"} <= set(dir(course))
    for name in course.__all__:
        assert callable(getattr(course, name))
    with pytest.raises(AttributeError):
        course.nothing  # noqa: B018


def test_the_package_is_found_where_the_tests_are(package):
    import aiinfra_labs

    assert Path(aiinfra_labs.__file__).parent == package


def test_an_exercise_costs_what_its_own_unit_needs():
    """Those of 1.1 need no PyTorch, though others of its chapter do."""
    code = "import sys; from aiinfra_labs.course import registry; registry.find('1.1.a').title"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- no circles -------------------------------------------------------------------------------


def module_graph(package):
    """{module: the modules of this package that it imports}: also those inside functions, and those
    under TYPE_CHECKING. A package's `__init__` counts where a name is taken from it."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        paths[".".join(parts).removesuffix(".__init__")] = path
    graph = {}
    for module, path in paths.items():
        names = [n.removeprefix("aiinfra_labs.") for n in imported(path, package)]
        found = {name if name in paths else name.rpartition(".")[0] for name in names}
        graph[module] = (found & paths.keys()) - {module}
    return graph


def circles(graph):
    """The groups of modules that import each other in a circle, by Tarjan's algorithm."""
    number, low, stack, found = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def test_no_modules_import_each_other_in_a_circle(package):
    assert circles(module_graph(package)) == []


@pytest.mark.parametrize(
    "line",
    [
        "from .b import thing",
        "from . import b",
        "import aiinfra_labs.gpu.b",
        "def f():\n    from .b import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import thing",
    ],
)
def test_a_circle_is_found(tmp_path, line):
    home = tmp_path / "gpu"
    home.mkdir()
    (home / "a.py").write_text(line)
    (home / "b.py").write_text("from .c import thing")
    (home / "c.py").write_text("from aiinfra_labs.gpu.a import thing")
    (home / "d.py").write_text("from .a import thing")
    assert circles(module_graph(tmp_path)) == [["gpu.a", "gpu.b", "gpu.c"]]
