"""What every test starts from: an empty progress folder of its own, and no window for figures."""

import functools
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, or its making, says only how busy the machine is.
settings.register_profile("course", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("course")


sys.path.insert(0, str(Path(__file__).parent))  # for what tests share: pytest imports by path alone

from browsers import Browser  # noqa: E402
from by_path import loaded  # noqa: E402

MACHINES = loaded(Path(__file__).resolve().parent.parent / "tools" / "machines.py")
if name := os.environ.get(MACHINES.CHOSEN):  # before NumPy and PyTorch are loaded
    os.environ.update(MACHINES.variables(name))

from widget_pages import shown  # noqa: E402, F401

os.environ.setdefault("MPLBACKEND", "Agg")
# A shell starts what it runs in the background with Ctrl-C ignored, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests run side by side, one a core: a second thread of PyTorch's would only wait for a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@functools.cache
def _is_numeric(path):
    if path.name in MACHINES.ALIKE:
        return False
    return MACHINES.is_numeric(path.read_text(encoding="utf-8"))


def pytest_collection_modifyitems(items):
    """Mark what may come out otherwise on another processor: `-m numeric`."""
    for item in items:
        compared = item.path.parent.name == "notebooks" and item.originalname == "test_nbval"
        solved = getattr(item, "originalname", "") == "test_a_solution_passes_and_its_card_is_true"
        if compared or solved or (_is_numeric(item.path) and item.path.parent.name != "notebooks"):
            item.add_marker(pytest.mark.numeric)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The learner's data folder: empty, and gone after the test."""
    folder = tmp_path / "aiinfra-home"
    monkeypatch.setenv("AIINFRA_HOME", str(folder))
    for name in ("NBGRADER_EXECUTION", "AIINFRA_WORK"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def root():
    """The course's folder."""
    return Path(__file__).resolve().parent.parent


# Nothing that a browser does of its own accord reaches the network.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
)


def _no_browser(reason):
    """Skip the test, or fail it where a browser is required (AIINFRA_BROWSER=required, in CI)."""
    if os.environ.get("AIINFRA_BROWSER") == "required":
        pytest.fail(f"AIINFRA_BROWSER=required, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def launch_chromium():
    """`launch_chromium(*more_arguments)` starts a headless Chromium: the one on the PATH, or
    playwright's own. What it gives starts another when that one is gone."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _no_browser("there is no playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browsers = []

        def start(*more):
            try:
                return playwright.chromium.launch(executable_path=path, args=[*QUIET, *more])
            except Error as error:
                _no_browser(f"Chromium does not start: {str(error).splitlines()[0]}")

        def launch(*more):
            browsers.append(Browser(lambda: start(*more), Error))
            return browsers[-1]

        yield launch
        for browser in browsers:
            browser.now.close()


@pytest.fixture(scope="session")
def chromium(launch_chromium):
    """One browser for all tests that look at a page."""
    return launch_chromium()
