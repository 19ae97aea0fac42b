"""Running notebooks as a learner's JupyterLab would: each in a clean kernel."""

import json
import time
from dataclasses import dataclass

import pytest

# The kernel's own processor time, with that of the processes it started, and its own peak. Linux's
# `ru_maxrss` would count the process that started it, too.
PEAK = """
import os as _o, resource as _r, sys as _s
print(sum(_o.times()[:4]))
if _s.platform == "linux":
    _status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    print(1024 * int(_status["VmHWM"].split()[0]))
else:
    print((1 if _s.platform == "darwin" else 1024) * _r.getrusage(_r.RUSAGE_SELF).ru_maxrss)
"""


@dataclass
class Run:
    """A notebook after its run: its JSON, how many seconds it computed, and its peak bytes.

    Seconds of processor time, and no more than went by: a busy machine makes no lab longer.
    """

    notebook: dict
    seconds: float
    peak: int


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Kernels say nothing of what they compile for the first time: outputs are compared."""
    monkeypatch.setenv("AIINFRA_QUIET", "1")


@pytest.fixture
def run(home):
    """`run(path)` runs a notebook in a kernel of its own; an error in a cell is kept as output."""
    import nbformat
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell

    def start(path):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        notebook.cells.append(new_code_cell(PEAK, id="peak"))
        place = {"metadata": {"path": str(path.parent)}}
        client = NotebookClient(
            notebook,
            timeout=1800,
            startup_timeout=600,
            allow_errors=True,
            kernel_name="python3",
            resources=place,
        )
        began = time.monotonic()
        client.execute()
        seconds = time.monotonic() - began
        # What is printed may come in several pieces, by how busy the machine is.
        printed = "".join(output.text for output in notebook.cells.pop().outputs)
        computed, peak = printed.split()
        seconds = min(seconds, float(computed))
        return Run(json.loads(nbformat.writes(notebook)), seconds, int(peak))

    return start


@pytest.fixture
def nbval(tmp_path):
    """`nbval(path)` compares the tagged cells of a notebook with a fresh run."""
    import subprocess
    import sys

    def compare(path):
        settings = tmp_path / "nbval.ini"
        settings.write_text("[pytest]\n")  # the repository's own would turn warnings into errors
        # `-p no:` keeps the run to one process: these tests are spread over processes themselves.
        command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider"]
        # A kernel has been seen to take over a minute to start on a busy machine.
        command += ["--nbval-kernel-startup-timeout", "600"]
        options = ["-p", "no:xdist", "-c", str(settings), "--rootdir", str(path.parent), str(path)]
        return subprocess.run([*command, *options], capture_output=True, text=True)

    return compare
