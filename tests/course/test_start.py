"""`make course`: both servers answer, and nothing that was started is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import psutil
import pytest

from aiinfra_labs.course import start
from aiinfra_labs.course.release import notebooks
from aiinfra_labs.course.units import repository

# The launcher as `make course` runs it, but for the site, which stands ready in a folder.
LAUNCH = """
import sys
from pathlib import Path
from aiinfra_labs.course import start
start.site = lambda root: Path(sys.argv[1])
sys.exit(start.main())
"""
LABS = repository() / "labs"
NAME = notebooks(LABS)[0].relative_to(LABS).as_posix()  # JupyterLab opens on the first lab


def free_port():
    with socket.socket() as probe:
        probe.bind((start.HOST, 0))
        return probe.getsockname()[1]


@pytest.fixture
def settings(tmp_path, home):
    """The environment of a learner of whom nothing is known: an empty home, two free ports."""
    (tmp_path / "home").mkdir()
    known = {"HOME": str(tmp_path / "home"), "AIINFRA_WORK": str(tmp_path / "work"), "BROWSER": ""}
    ports = {"PORT": str(free_port()), "LAB_PORT": str(free_port())}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "XDG", "IPYTHON"))}
    return kept | known | ports


@pytest.fixture
def launch(tmp_path, settings):
    """`launch()` starts the course; what it started is ended after the test, come what may."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("The course")
    started = []

    def begin(stdin=subprocess.DEVNULL, **changes):
        command = [sys.executable, "-c", LAUNCH, str(tmp_path / "site")]
        process = subprocess.Popen(
            command,
            env=settings | changes,
            cwd=tmp_path,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def read_on(process):
    """What it prints until all is ready; and the addresses among it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    else:
        raise AssertionError("".join(lines) + process.stderr.read())
    words = " ".join(lines).split()
    return lines, [word for word in words if word.startswith("http")]


def get(address, data=None):
    with urllib.request.urlopen(urllib.request.Request(address, data), timeout=300) as answer:
        return answer.read().decode()


def family(process):
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def refused(process):
    """The one line with which it refuses."""
    _, error = process.communicate(timeout=600)
    (line,) = error.splitlines()
    assert process.returncode == 1
    return line


def test_both_answer_and_all_ends_at_ctrl_c(launch, settings, tmp_path):
    process = launch()
    lines, (site, lab) = read_on(process)
    assert any(NAME in line for line in lines), "work/ was filled"
    assert get(site) == "The course"
    address, token = lab.split("?token=")
    base = address.partition("/lab")[0]
    assert address == f"{base}/lab/tree/{NAME}" and (tmp_path / "work" / NAME).is_file()
    assert base.endswith(f":{settings['LAB_PORT']}") and "JupyterLab" in get(lab)

    # Nobody without the token; and no news from elsewhere.
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{base}/api/kernels")
    path = "lab/api/settings/@jupyterlab/apputils-extension:notification"
    asked = json.loads(get(f"{base}/{path}?token={token}"))["schema"]["properties"]
    assert asked["fetchNews"]["default"] == "false" and not asked["checkForUpdates"]["default"]
    assert json.loads(get(f"{base}/lab/api/news?token={token}")) == {"news": []}
    # nbgrader's panels are the instructor's.
    assert '"disabledExtensions": ["@jupyter/nbgrader"]' in get(f"{base}/lab?token={token}")

    # A kernel is one of this environment.
    specs = json.loads(get(f"{base}/api/kernelspecs?token={token}"))
    assert list(specs["kernelspecs"]) == ["python3"]
    get(f"{base}/api/kernels?token={token}", b'{"name": "python3"}')
    everyone = family(process)
    kernels = [p for p in everyone if "ipykernel_launcher" in p.cmdline()]
    assert len(kernels) == 1 and kernels[0].cmdline()[0] == sys.executable

    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 0 and process.stderr.read() == ""
    _, alive = psutil.wait_procs(everyone, timeout=300)
    assert alive == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_nothing_is_left_however_it_ends(launch, name):
    if name == "SIGKILL" and sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent was killed")
    process = launch()
    read_on(process)
    everyone = family(process)
    assert len(everyone) >= 2
    process.send_signal(getattr(signal, name))
    _, alive = psutil.wait_procs(everyone, timeout=300)
    assert alive == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the terminal's first process tells")
def test_a_terminal_that_is_closed_ends_it(launch):
    above, below = os.openpty()
    process = launch(stdin=below)
    os.close(below)
    read_on(process)
    everyone = family(process)
    os.close(above)
    _, alive = psutil.wait_procs(everyone, timeout=300)
    assert alive == []


def test_a_second_start_finds_all_as_it_was(launch):
    for expected in (True, False):
        process = launch()
        lines, _ = read_on(process)
        assert any("new:" in line for line in lines) is expected
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 0


@pytest.mark.parametrize(("name", "what"), start.SERVES.items())
def test_a_port_that_is_taken(launch, settings, name, what):
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        number = other.getsockname()[1]
        line = refused(launch(**{name: str(number)}))
    assert line.startswith(f"Port {number}, for {what}, is taken") and f"{name}=" in line


@pytest.mark.parametrize("text", ["80", "65536", "eight", "-1", "8000.0"])
def test_what_is_no_port(launch, text):
    assert refused(launch(PORT=text)).startswith(f"PORT={text} is no port")


def test_one_port_for_both(launch, settings):
    assert "are the same" in refused(launch(LAB_PORT=settings["PORT"]))


def test_a_folder_that_cannot_be_written_to(launch, tmp_path):
    (tmp_path / "file").touch()
    line = refused(launch(AIINFRA_WORK=str(tmp_path / "file" / "work")))
    assert "Not a directory" in line


def test_jupyterlab_that_does_not_start(launch, tmp_path):
    (tmp_path / "jupyterlab.py").write_text("raise SystemExit('no')")
    line = refused(launch(PYTHONPATH=str(tmp_path)))
    assert line.startswith("JupyterLab did not start") and line.endswith(f"{start.log_file()}.")
    assert start.log_file().read_text() == "no\n"


# --- the browser -------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """`shown(BROWSER=...)` lists the addresses that were opened."""
    opened = []
    monkeypatch.setattr(start.webbrowser, "open", opened.append)
    monkeypatch.setattr(start.sys, "platform", "linux")

    def begin(**environment):
        for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        start.open_browser(["one", "two"])
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.daemon:
                thread.join(1)
        return opened

    return begin


@pytest.mark.parametrize("environment", [{"DISPLAY": ":0"}, {"BROWSER": "firefox"}])
def test_a_browser_opens_where_it_can(shown, environment):
    assert shown(**environment) == ["one", "two"]


@pytest.mark.parametrize("environment", [{}, {"BROWSER": "", "DISPLAY": ":0"}])
def test_no_browser_opens(shown, environment):
    assert shown(**environment) == []


# --- the site ----------------------------------------------------------------------------------


def test_the_site_is_said_to_be_built_only_when_it_is(root, tmp_path, monkeypatch, capsys):
    from aiinfra_labs.course import site

    (tmp_path / "_build" / "html").mkdir(parents=True)
    monkeypatch.setattr(site, "fingerprint", lambda root: "now")
    monkeypatch.setattr(site, "build", lambda root: root / "_build" / "html")
    assert start.site(tmp_path) == tmp_path / "_build" / "html"
    assert capsys.readouterr().out == "Building the site.\n"
    (tmp_path / "_build" / "html" / site.STAMP).write_text("now")
    start.site(tmp_path)
    assert capsys.readouterr().out == ""


def test_settings_that_stand_there_already_are_kept(tmp_path):
    from aiinfra_labs.course.start import _known

    overrides = tmp_path / "overrides.json"
    assert _known(overrides) == {}
    overrides.write_text('{"@jupyterlab/apputils-extension:themes": {"theme": "Dark"}}')
    assert "@jupyterlab/apputils-extension:themes" in _known(overrides)
    for wrong in ("[]", "{"):
        overrides.write_text(wrong)
        assert _known(overrides) == {}
