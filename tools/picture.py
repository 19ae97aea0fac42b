"""Make pictures/course.png, the picture in README.md: a page of the site beside its lab.

    .venv/bin/python tools/picture.py

Starts the course as `make course` does, with a learner's folder of its own that holds one wrong
answer, and takes what Chromium shows of both.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from aiinfra_labs.course import work

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "3-gpu/02-cuda-model"
SIZE = {"width": 760, "height": 860}  # of each half, in pixels
COLOURS = 160

# The mistake that most learners make first: the block is forgotten.
WRONG = '''@cuda.jit
def vector_add(a, b, out):
    """out[i] = a[i] + b[i]"""
    i = cuda.threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]
'''


def answer(mine: Path) -> None:
    """Write the wrong answer into the learner's copy of the lab."""
    path = mine / f"{NOTEBOOK}.ipynb"
    lab = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in lab["cells"] if "def vector_add" in "".join(cell["source"]))
    cell["source"] = WRONG
    path.write_text(json.dumps(lab), encoding="utf-8")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def course(folder: Path) -> Iterator[list[str]]:
    """The course, running: the addresses of the site and of JupyterLab."""
    environment = os.environ | {
        "AIINFRA_HOME": str(folder / "progress"),
        "AIINFRA_WORK": str(folder / "work"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "PORT": free_port(),
        "LAB_PORT": free_port(),
        "BROWSER": "",
    }
    command = [sys.executable, "-m", "aiinfra_labs.course.start"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            words: list[str] = []
            for line in started.stdout:
                words += line.split()
                if "Ctrl-C" in line:
                    break
            yield [word for word in words if word.startswith("http")]
        finally:
            started.send_signal(signal.SIGINT)


def site(browser: Browser, address: str) -> bytes:
    page = browser.new_page(viewport=SIZE)
    page.goto(f"{address}book/{NOTEBOOK}.html")
    page.wait_for_load_state("networkidle")
    heading = page.get_by_role("heading", name="The threads that have no element")
    heading.evaluate("e => window.scrollTo(0, e.getBoundingClientRect().top + scrollY - 70)")
    page.wait_for_timeout(1000)
    return page.screenshot()


def lab(browser: Browser, address: str) -> bytes:
    page = browser.new_page(viewport=SIZE)
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.keyboard.press("Control+b")  # the file browser
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
        ".every(prompt => /[0-9]/.test(prompt.textContent))",
        timeout=60_000,
    )
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    # Cells are drawn as they come into view: from the top down to the answer of `check`.
    page.mouse.move(400, 500)
    page.mouse.wheel(0, -100_000)
    answer = page.get_by_text("failed, 0 of 3 points").first
    for _ in range(120):
        page.wait_for_timeout(300)
        box = answer.bounding_box() if answer.is_visible() else None
        if box and 0 < box["y"] < SIZE["height"] / 2:
            break
        page.mouse.wheel(0, 100)
    page.wait_for_timeout(2000)
    return page.screenshot()


def main() -> int:
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        work.fill(Path(name) / "work", ROOT / "labs")
        answer(Path(name) / "work")
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        with course(Path(name)) as (site_address, lab_address):
            halves = [site(browser, site_address), lab(browser, lab_address)]
        browser.close()
    both = Image.new("RGB", (2 * SIZE["width"] + 12, SIZE["height"]), "#888888")
    for number, half in enumerate(halves):
        both.paste(Image.open(io.BytesIO(half)), (number * (SIZE["width"] + 12), 0))
    target = ROOT / "pictures" / "course.png"
    target.parent.mkdir(exist_ok=True)
    both.quantize(COLOURS).save(target, optimize=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
