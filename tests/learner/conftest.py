"""A learner's desk: `make course` on a work folder of its own, and a browser that opens a lab."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiinfra_labs.course import work
from aiinfra_labs.course.units import UNITS

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
    """Folders of a learner's own, the work folder filled with the labs."""
    desk = Desk(tmp_path_factory.mktemp("learner"))
    work.fill(desk.work, root / "labs")
    return desk


@pytest.fixture(scope="module")
def course(desk):
    """The addresses that `make course` prints, of the site and of JupyterLab on the desk."""
    command = [sys.executable, "-m", "aiinfra_labs.course.start"]
    ports = {name: str(_free_port()) for name in ("PORT", "LAB_PORT")}
    environment = desk.environment | ports | {"BROWSER": "", "AIINFRA_WORK": str(desk.work)}
    log = desk.home / "start.log"
    with open(log, "wb") as said:
        started = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        yield _addresses(started, log)
    finally:
        started.terminate()  # it ends JupyterLab, which ends its kernels
        try:
            started.wait(300)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _addresses(started: subprocess.Popen, log: Path, seconds: float = 300) -> tuple[str, str]:
    """What was printed, once both are: the site may have to be built before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and started.poll() is None:
        found = re.findall(r"^  (?:The site|JupyterLab): +(http\S+)$", log.read_text(), re.M)
        if len(found) == 2:
            return found[0], found[1]
        time.sleep(0.2)
    pytest.fail(f"the course does not start:\n{log.read_text()[-2000:]}")


class LabPage:
    """A lab open in JupyterLab, used as a learner uses it: mouse, keyboard and menus."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=600_000)
        # Before it knows its kernel, JupyterLab calls it idle, and forgets what it is told to run.
        kernel = self.page.locator(".jp-NotebookPanel-toolbar .jp-KernelName")
        kernel.filter(has_text="Python 3").wait_for(timeout=600_000)
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=600_000)
        self.ready()

    def ready(self) -> None:
        """Wait until the kernel has nothing to do."""
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        self.page.locator(idle).wait_for(timeout=600_000)

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
            """() => document.querySelector('[data-mime-type$="jupyter.error"]')
                 || [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
                    .every(prompt => /\\d/.test(prompt.textContent))""",
            timeout=600_000,
        )
        self.ready()
        errors = self.page.locator('[data-mime-type$="jupyter.error"]').all_text_contents()
        assert not errors, errors[0]

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
            timeout=600_000,
        )
        self.ready()

    def output(self, text: str):
        """What stands under a cell, once it is drawn: JupyterLab draws what is scrolled to."""
        output = self.cell(text).locator(".jp-Cell-outputArea")
        output.locator(".jp-OutputArea-output").first.wait_for()
        self.page.wait_for_function(
            "output => output.querySelector('img, svg') || output.innerText.trim()",
            arg=output.element_handle(),
        )
        return output

    def shown(self, text: str) -> str:
        """The text under a cell, its white space made one.

        JupyterLab draws an output anew when it is scrolled to, and it is empty in between.
        """
        for _ in range(300):
            if said := self.output(text).inner_text().split():
                return " ".join(said)
            self.page.wait_for_timeout(100)
        return ""

    def look(self, width: str, theme: str) -> None:
        """Choose a width of the window and JupyterLab's theme, from its menu."""
        self.page.set_viewport_size(dict(zip(("width", "height"), WIDTHS["desktop"], strict=True)))
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        self.page.locator(".lm-Menu-item", has_text="Theme").first.click()
        self.page.locator(".lm-Menu-item", has_text=f"JupyterLab {theme}").first.click()
        self.page.locator(f'body[data-jp-theme-name="JupyterLab {theme}"]').wait_for(
            state="attached"
        )
        if width == "phone" and self.page.locator("#jp-left-stack:not(.lm-mod-hidden)").count():
            self.page.keyboard.press("Control+B")  # the file browser would leave no room
        self.page.set_viewport_size(dict(zip(("width", "height"), WIDTHS[width], strict=True)))

    def save(self) -> None:
        self.page.keyboard.press("Control+S")
        self.page.locator(".jp-mod-dirty").wait_for(state="detached", timeout=300_000)


@pytest.fixture
def lab_page(chromium, course):
    context = chromium.new_context(
        viewport=dict(zip(("width", "height"), WIDTHS["desktop"], strict=True))
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    # `make course` opens the first lab; the walk is through that of unit 3.2.
    address = re.sub(r"/lab/tree/[^?]*", f"/lab/tree/{UNITS['3.2'].notebook}", course[1])
    yield LabPage(page, address)
    context.close()


@pytest.fixture
def picture():
    """`picture(page, name)` keeps a screenshot in AIINFRA_SCREENSHOTS, where that is set."""
    folder = os.environ.get("AIINFRA_SCREENSHOTS")

    def take(page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    take.wanted = bool(folder)
    return take
