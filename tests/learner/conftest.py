"""A learner's desk: a work folder, JupyterLab on it, and a browser that opens a lab there."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from aiinfra_labs.course import work
from aiinfra_labs.course.units import UNITS

LAB = UNITS["3.2"].notebook
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class Desk:
    """Folders of a learner's own: nothing of the machine's user is read or written."""

    def __init__(self, folder: Path):
        self.work, self.home = folder / "work", folder / "home"
        self.home.mkdir()
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "AIINFRA_HOME": str(folder / "progress"),
            "AIINFRA_CUDA": "emulator",
            "IPYTHONDIR": str(self.home / "ipython"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "JUPYTER_PLATFORM_DIRS": "0",
        }
        for name in ("CONFIG", "DATA", "RUNTIME"):
            self.environment[f"JUPYTER_{name}_DIR"] = str(self.home / f"jupyter-{name.lower()}")
        self.environment["JUPYTERLAB_SETTINGS_DIR"] = str(self.home / "settings")
        self.environment["JUPYTERLAB_WORKSPACES_DIR"] = str(self.home / "workspaces")
        for name in ("NBGRADER_EXECUTION", "AIINFRA_WORK", "COVERAGE_PROCESS_START"):
            self.environment.pop(name, None)

    def aiinfra(self, *arguments: str) -> str:
        """What the command says, in the learner's terminal."""
        command = [sys.executable, "-m", "aiinfra_labs.course.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.work, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory, root):
    desk = Desk(tmp_path_factory.mktemp("learner"))
    work.fill(desk.work, root / "labs")
    return desk


@pytest.fixture(scope="module")
def jupyterlab(desk):
    """The address of a JupyterLab on the desk's work folder, with its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    options = [f"--IdentityProvider.token={token}", "--ServerApp.port_retries=0", "--allow-root"]
    log = desk.home / "jupyterlab.log"
    with open(log, "wb") as said:
        server = subprocess.Popen(
            [*command, *options], env=desk.environment, cwd=desk.work, stdout=said, stderr=said
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/api?token={token}", server, log)
        yield address, token
    finally:
        server.terminate()  # it stops its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)


def _wait(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text()[-2000:]}")


class LabPage:
    """A lab open in JupyterLab, used as a learner uses it: mouse, keyboard and menus."""

    def __init__(self, page, address: tuple[str, str], name: str = LAB):
        self.page, (self.address, self.token), self.name = page, address, name

    def open(self) -> None:
        self.page.goto(f"{self.address}/lab/tree/{self.name}?token={self.token}")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        self.ready()

    def ready(self) -> None:
        """Wait until the kernel has nothing to do."""
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        self.page.locator(idle).wait_for(timeout=60_000)

    def cell(self, text: str):
        """The code cell that holds `text`, scrolled to."""
        cell = self.page.locator(".jp-CodeCell").filter(
            has=self.page.locator(".jp-InputArea", has_text=text)
        )
        cell.first.scroll_into_view_if_needed()
        return cell.first

    def menu(self, menu: str, item: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menuitem", name=item, exact=True).click()

    def run_all(self) -> None:
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
                 .every(prompt => /\\d/.test(prompt.textContent))""",
            timeout=120_000,
        )
        self.ready()

    def run(self, text: str) -> None:
        """Run the cell that holds `text`, and wait for its end: its number is a new one then."""
        cell = self.cell(text)
        cell.locator(".cm-content").click()
        self._execute(cell)

    def paste(self, text: str, code: str) -> None:
        """Replace the cell that holds `text` by pasting `code` over it, and run it."""
        cell = self.cell(text)
        cell.locator(".cm-content").click()
        self.page.evaluate("code => navigator.clipboard.writeText(code)", code)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.press("Control+V")
        self._execute(self.page.locator(".jp-CodeCell.jp-mod-active"))

    def _execute(self, cell) -> None:
        prompt = cell.locator(".jp-InputPrompt").element_handle()
        before = prompt.text_content()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function(
            """([prompt, before]) => prompt.textContent != before
                 && /\\d/.test(prompt.textContent)""",
            arg=[prompt, before],
            timeout=120_000,
        )
        self.ready()

    def output(self, text: str):
        return self.cell(text).locator(".jp-Cell-outputArea")

    def save(self) -> None:
        self.page.keyboard.press("Control+S")
        self.page.locator(".jp-mod-dirty").wait_for(state="detached", timeout=20_000)


@pytest.fixture
def lab_page(chromium, jupyterlab):
    context = chromium.new_context(
        viewport=dict(zip(("width", "height"), WIDTHS["desktop"], strict=True))
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    yield LabPage(page, jupyterlab)
    context.close()


@pytest.fixture
def picture():
    """`picture(page, name)` keeps a screenshot in AIINFRA_SCREENSHOTS, where that is set."""
    folder = os.environ.get("AIINFRA_SCREENSHOTS")

    def take(page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take
