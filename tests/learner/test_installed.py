"""A lab away from the course's folder, with nothing but the installed package."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest

from aiinfra_labs.course import rules
from aiinfra_labs.course.registry import all_exercises
from aiinfra_labs.course.units import UNITS

LAB = UNITS["3.2"].notebook
FULL = {e.id: e.points for e in all_exercises() if e.unit == "3.2"}
KINDS = {".py", ".toml", ".js", ".css", ".mplstyle", ".safetensors", ".json"}
RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient
import aiinfra_labs
from aiinfra_labs.course import claims, progress
for name in sys.argv[1:]:
    notebook = nbformat.read(name, as_version=4)
    times = {"timeout": 900, "startup_timeout": 600}
    NotebookClient(notebook, **times, allow_errors=True, kernel_name="python3").execute()
    nbformat.write(notebook, name)
records = progress.current().records()
print(json.dumps({
    "package": aiinfra_labs.__file__,
    "points": {id: record.best for id, record in records.items()},
    "claims": len(claims.all_claims()),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, root):
    """The package as pip would install it, built from copies: the checkout is left as it is."""
    import shutil

    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    shutil.copytree(
        root / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (root / name).is_file():
            shutil.copy(root / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run(
        [*command, "-w", str(folder), str(source)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def python(wheel, tmp_path):
    """An environment's Python with the wheel, and of this environment the other packages only."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    there = Path(paths["purelib"])
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(there)
    here = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    # A .pth line adds a folder, but does not read the .pth files in it: the editable install of
    # the course is not seen.
    (there / "others.pth").write_text("\n".join(sorted(here)) + "\n")
    return Path(paths["scripts"]) / "python"


def test_package_data_is_in_the_wheel(wheel, root):
    with zipfile.ZipFile(wheel) as packed:
        inside = set(packed.namelist())
    package = root / "src" / "aiinfra_labs"
    wanted = {
        f"aiinfra_labs/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and path.suffix in KINDS
    }
    assert {Path(name).suffix for name in wanted} == KINDS
    assert wanted <= inside, sorted(wanted - inside)


def test_a_lab_on_its_own(python, root, tmp_path):
    """Copied to a folder anywhere: card, checks, drawings, widget, progress and claims work."""
    away = tmp_path / "away"
    away.mkdir()
    for tree in ("labs", "solutions"):
        notebook = nbformat.read(root / tree / LAB, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, away / f"{tree}.ipynb")
    kernels = tmp_path / "kernels"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AIINFRA"))},
        "AIINFRA_HOME": str(tmp_path / "progress"),
        "AIINFRA_CUDA": "emulator",
        "HOME": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_PATH": str(kernels),
        "JUPYTER_DATA_DIR": str(kernels),
    }
    spec = kernels / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = f'["{python}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (spec / "kernel.json").write_text(
        f'{{"argv": {argv}, "display_name": "Python 3", "language": "python"}}'
    )
    done = subprocess.run(
        [str(python), "-c", RUN, "labs.ipynb", "solutions.ipynb"],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert str(tmp_path) in said["package"], "the checkout's own package was run"
    assert said["points"] == FULL and said["claims"] > 20
    unsolved, solved = (rules.read(away / f"{tree}.ipynb") for tree in ("labs", "solutions"))
    assert rules.errors(unsolved) == rules.errors(solved) == []
    for notebook, state in ((unsolved, "not attempted"), (solved, "points")):
        checks = rules.checked(notebook)
        assert len(checks) == len(FULL)
        for cell, _, _ in checks:
            text = "".join(cell["outputs"][0]["data"]["text/plain"])
            assert state in text.splitlines()[0]
    text = json.dumps(solved)
    assert "60 minutes" in text and "<img alt" in text and rules.WIDGET in text
    command = [str(python), "-m", "aiinfra_labs.course.cli"]
    for arguments, part in ((["progress"], "4/4"), (["claims"], "claims,")):
        told = subprocess.run(
            [*command, *arguments], cwd=away, env=environment, capture_output=True, text=True
        )
        assert told.returncode == 0 and part in told.stdout, told.stderr
    refused = subprocess.run(
        [*command, "reset", "3.2"], cwd=away, env=environment, capture_output=True, text=True
    )
    assert (
        refused.returncode == 1 and "Traceback" not in refused.stderr and "Try:" in refused.stderr
    )
