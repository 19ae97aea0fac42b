"""The stand-ins for other machines, and which tests they run."""

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

from by_path import loaded


@pytest.fixture(scope="module")
def machines(root):
    return loaded(root / "tools" / "machines.py")


def test_each_machine_says_its_threads_and_its_vectors(machines):
    for chosen in machines.MACHINES.values():
        assert {"OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE"} <= set(chosen)
    threads = {chosen["OMP_NUM_THREADS"] for chosen in machines.MACHINES.values()}
    assert threads == {"1", "2", "4"}
    kinds = {chosen["ATEN_CPU_CAPABILITY"] for chosen in machines.MACHINES.values()}
    assert kinds == {"default", "avx2", "avx512"}


def test_a_file_that_compares_floats_is_numeric(machines, root):
    for name in ("cloud/test_parallelism.py", "llm/test_training.py", "gpu/test_kernels.py"):
        assert machines.is_numeric((root / "tests" / name).read_text(encoding="utf-8")), name
    for name in ("course/test_cards.py", "site/test_links.py", "gpu/test_occupancy_widget.py"):
        assert not machines.is_numeric((root / "tests" / name).read_text(encoding="utf-8")), name
    assert machines.is_numeric("import torch") and machines.is_numeric("pytest.approx(1)")
    assert not machines.is_numeric("assert 1 + 1 == 2")


def test_a_file_that_uses_pytorch_is_numeric(machines, root):
    for path in (root / "tests").rglob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        if "import torch" in source or "numpy.testing" in source:
            assert machines.is_numeric(source), path.name


def test_a_stored_output_is_compared_on_each_machine(request):
    """The marker is on every notebook that is compared, and on every solved lab."""
    from types import SimpleNamespace

    (plugin,) = (p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "_is_numeric"))
    folder = request.config.rootpath / "tests"

    def marked(path, name):
        marks = []
        item = SimpleNamespace(path=folder / path, originalname=name, add_marker=marks.append)
        plugin.pytest_collection_modifyitems([item])
        return bool(marks)

    assert marked("notebooks/test_stored.py", "test_nbval")
    assert marked("notebooks/test_labs.py", "test_a_solution_passes_and_its_card_is_true")
    assert not marked("notebooks/test_stored.py", "test_page_structure")
    assert marked("cloud/test_parallelism.py", "test_training_equals_one_process")
    assert not marked("course/test_cards.py", "test_a_card")


@pytest.mark.skipif(sys.platform != "linux", reason="how it is told is told for Linux")
@pytest.mark.parametrize(("name", "capability"), [("avx2", "AVX2"), ("sse", "DEFAULT")])
def test_the_libraries_believe_it(machines, root, name, capability):
    if why := machines.missing(name):
        pytest.skip(why)
    code = (
        "import runpy; runpy.run_path('tests/conftest.py'); import torch, numpy as np;"
        "from numpy._core._multiarray_umath import __cpu_features__ as f;"
        "print(torch.backends.cpu.get_cpu_capability(), f['X86_V4'], torch.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k not in machines.MACHINES[name]}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root, capture_output=True, text=True, env=environment | {machines.CHOSEN: name},
    )  # fmt: skip
    assert done.stdout.split() == [capability, "False", "2"], done.stderr


def test_a_slow_example_is_no_failure():
    """By default hypothesis fails a test whose example, or the making of it, takes long."""
    now = settings()
    assert now.deadline is None and HealthCheck.too_slow in now.suppress_health_check
