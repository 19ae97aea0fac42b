"""`.venv` is made once, mended when it was broken off, and what prevents it is said in one line.

The tool runs on a small course of its own, whose one requirement is a wheel made here: no network.
"""

import ast
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "course"
version = "1"
"""
BACKEND = """
import zipfile

def build_editable(folder, settings=None, metadata=None):
    with zipfile.ZipFile(f"{folder}/course-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("course.py", "")
        wheel.writestr("course-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: course\\nVersion: 1\\n")
        wheel.writestr("course-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("course-1.dist-info/RECORD", "")
    return "course-1-py3-none-any.whl"
"""  # noqa: E501


def wheel(folder, version):
    """A wheel of the package `tiny`, by hand."""
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as made:
        made.writestr("tiny.py", f"version = {version!r}\n")
        made.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        )
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{info}/RECORD", "")


class Course:
    """A course in a folder of its own; `run` starts its tool as `make` does."""

    def __init__(self, folder, root):
        self.folder, self.venv = folder, folder / ".venv"
        (folder / "tools").mkdir(parents=True)
        shutil.copy(root / "tools" / "environment.py", folder / "tools")
        shutil.copy(root / "Makefile", folder)
        (folder / "pyproject.toml").write_text(PROJECT)
        (folder / "backend.py").write_text(BACKEND)
        self.wheels = folder.parent / "wheels"
        self.wheels.mkdir()
        for version in ("1.0", "2.0"):
            wheel(self.wheels, version)
        self.require("tiny==1.0")

    def require(self, line):
        (self.folder / "requirements.txt").write_text(f"# pinned\n{line}\n")

    def run(self, *arguments, python=sys.executable, **environment):
        known = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_RETRIES": "1"}
        known["PIP_CONFIG_FILE"] = os.devnull
        return subprocess.run(
            [str(python), "tools/environment.py", *arguments],
            cwd=self.folder,
            env=os.environ | known | environment,
            capture_output=True,
            text=True,
        )

    def tiny(self):
        """The version of `tiny` that .venv holds, as the tool's own Python tells."""
        done = self.run("-c", "import course, tiny; print(tiny.version)")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]


@pytest.fixture
def course(tmp_path, root):
    return Course(tmp_path / "a course", root)


def refused(done):
    """The one line that a refusal says."""
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stdout
    return line


def test_it_is_made_once_updated_and_mended(course):
    first = course.run()
    assert first.returncode == 0 and first.stderr == ""
    assert "Making the environment" in first.stdout and "Installed in" in first.stdout

    again = course.run("-c", "import sys; print(sys.prefix); sys.exit(3)")
    assert again.returncode == 3, "the exit code is that of the command"
    assert again.stdout == f"{course.venv}\n", "nothing is done a second time"

    (course.venv / "kept").touch()
    course.require("tiny==2.0")
    assert course.tiny() == "2.0" and (course.venv / "kept").exists()

    # As an installation leaves it that was broken off: half a package, and the record empty.
    (course.venv / "made-from.json").write_text("{}")
    (next(course.venv.glob("lib/*/site-packages")) / "tiny.py").unlink()
    assert course.tiny() == "2.0" and not (course.venv / "kept").exists()


def test_an_installation_that_fails_is_begun_anew(course):
    course.require("tiny==3.0")
    line = refused(course.run())
    assert "No matching distribution found for tiny==3.0" in line and "install.log" in line
    (course.venv / "kept").touch()
    course.require("tiny==1.0")
    assert course.tiny() == "1.0" and not (course.venv / "kept").exists()


def test_no_network(course):
    nowhere = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_FIND_LINKS": ""}
    line = refused(course.run(**nowhere))
    assert "no network" in line and str(course.venv / "install.log") in line
    assert "Connection refused" in (course.venv / "install.log").read_text()


def test_a_folder_that_was_moved_is_made_anew(course, tmp_path, root):
    course.run()
    course.folder.rename(tmp_path / "moved")
    course.folder, course.venv = tmp_path / "moved", tmp_path / "moved" / ".venv"
    assert course.tiny() == "1.0"
    assert str(course.venv) in (course.venv / "bin" / "pip").read_text()


def test_an_environment_of_somebody_else_is_kept(course):
    subprocess.run([sys.executable, "-m", "venv", course.venv], check=True)
    (course.venv / "theirs").touch()
    assert course.tiny() == "1.0" and (course.venv / "theirs").exists()


def test_a_folder_that_is_no_environment_is_kept(course):
    course.venv.mkdir()
    (course.venv / "theirs").touch()
    assert "was not made by this course" in refused(course.run())
    assert (course.venv / "theirs").exists()


@pytest.mark.parametrize("record", [None, "{}", '{"folder": "/elsewhere"}'])
def test_what_lies_behind_a_link_is_left_alone(course, tmp_path, record):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    if record is not None:  # made by the course once, and moved to a larger disk
        (theirs / "made-from.json").write_text(record)
    course.venv.symlink_to(theirs)
    assert f"is a link to {theirs}" in refused(course.run())
    left = {path.name: path.read_text() for path in theirs.iterdir()}
    assert left == {"thesis.txt": "years of work"} | (
        {} if record is None else {"made-from.json": record}
    )


def test_a_link_to_nowhere_is_told(course, tmp_path):
    course.venv.symlink_to(tmp_path / "gone")
    assert "is a link to" in refused(course.run())
    assert not (tmp_path / "gone").exists()


def test_a_file_in_the_place_of_the_environment_is_told(course):
    course.venv.write_text("VIRTUAL_ENV=/elsewhere\n")  # as some tools keep it
    assert "is a file, and must be a folder" in refused(course.run())
    assert course.venv.read_text() == "VIRTUAL_ENV=/elsewhere\n"


def test_a_folder_with_a_record_and_no_environment_is_kept(course):
    course.venv.mkdir()
    (course.venv / "made-from.json").write_text("[]")
    (course.venv / "thesis.txt").touch()
    assert "holds thesis.txt, and no environment" in refused(course.run())
    assert (course.venv / "thesis.txt").exists()
    assert (course.venv / "made-from.json").read_text() == "[]"


def test_a_disk_that_is_mounted_in_it_is_left_alone(course, pretend):
    course.run()
    disk = course.venv / "lib" / "disk"
    disk.mkdir()
    (disk / "kept").touch()
    (course.venv / "made-from.json").write_text("{}")
    change = f"import os\nos.path.ismount = lambda path: path == {str(disk)!r}"
    assert f"{disk} is another disk" in refused(course.run(python=pretend(change)))
    assert (disk / "kept").exists()


# --- what prevents it --------------------------------------------------------------------------


@pytest.fixture
def pretend(tmp_path):
    """`pretend("sys.version_info = ...")` is an interpreter in which that was done first."""

    def make(change):
        path = tmp_path / "python"
        script = (
            "import runpy, sys\n"
            f"{change}\n"
            "sys.argv = sys.argv[1:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        (tmp_path / "pretend.py").write_text(script)
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/pretend.py" "$@"\n')
        path.chmod(0o755)
        return path

    return make


OLD = "sys.version_info = (3, 9, 18, 'final', 0)"


def test_an_old_python(course, pretend):
    line = refused(course.run(python=pretend(OLD), PATH="/nowhere"))
    assert "Python 3.9.18" in line and "needs 3.11 or newer; install a newer one" in line
    assert not course.venv.exists()


def test_an_old_python_beside_a_newer_one(course, pretend, tmp_path):
    name = f"python3.{sys.version_info[1]}"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).symlink_to(sys.executable)
    # A name that is there and does not run: the shims of a version manager are such.
    (tmp_path / "bin" / "python3.14").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "bin" / "python3.14").chmod(0o755)
    line = refused(course.run(python=pretend(OLD), PATH=str(tmp_path / "bin")))
    assert line.endswith(f"set PYTHON={name}.")


def test_an_old_python_may_use_an_environment_that_is_there(course, pretend):
    course.run()
    assert course.run("-c", "", python=pretend(OLD)).returncode == 0


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_that_cannot_make_environments(course, pretend, module):
    line = refused(course.run(python=pretend(f"sys.modules[{module!r}] = None")))
    assert f"no module {module}" in line and "python3-venv" in line
    assert not course.venv.exists()


def test_an_old_macos(course, pretend):
    old = "import platform\nplatform.mac_ver = lambda: ('13.6.1', ('', '', ''), 'arm64')"
    line = refused(course.run(python=pretend(old)))
    assert "macOS 13.6.1 is too old" in line and "macOS 14 or newer" in line
    assert not course.venv.exists()


def test_a_full_disk(course, pretend):
    full = "import shutil\nshutil.disk_usage = lambda path: shutil._ntuple_diskusage(9, 9, 10**8)"
    assert "0.1 GB free" in refused(course.run(python=pretend(full)))


def test_a_disk_that_fills_up_meanwhile(course):
    course.run()
    pip = next(course.venv.glob("lib/*/site-packages/pip/__main__.py"))
    pip.write_text("import sys\nsys.exit('ERROR: [Errno 28] No space left on device')\n")
    course.require("tiny==2.0")
    assert "the disk is full" in refused(course.run())


def test_a_folder_that_cannot_be_written_to(course, pretend):
    # What mkdir does there, for root may write anywhere.
    change = (
        "import pathlib\n"
        "def mkdir(self, **options):\n"
        "    raise PermissionError(13, 'Permission denied', str(self))\n"
        "pathlib.Path.mkdir = mkdir"
    )
    line = refused(course.run(python=pretend(change)))
    assert line == f"{course.venv}: Permission denied"


def test_make_passes_the_interpreter_on(course, pretend):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "lint", f"PYTHON={pretend(OLD)}"],
        cwd=course.folder,
        capture_output=True,
        text=True,
        env=os.environ | {"MAKEFLAGS": ""},
    )
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1 and "is too old" in said[0]


def test_an_old_python_can_read_the_tool(root):
    text = (root / "tools" / "environment.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert not [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
