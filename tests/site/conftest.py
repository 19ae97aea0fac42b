"""The site, built and served: the course's own, and a small one that the tests write themselves."""

import copy
import fcntl
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from aiinfra_labs.course import included
from aiinfra_labs.course.predictions import Comparison, Prediction
from aiinfra_labs.course.tables import table

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def toc_pages():
    """The pages of _toc.yml, without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [
        chapter["file"] for part in toc.get("parts", []) for chapter in part["chapters"]
    ]


def pytest_generate_tests(metafunc):
    """A test with an argument `page` is run for each page of the course."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", toc_pages())


def build_command(root, *options):
    command = [sys.executable, "-m", "aiinfra_labs.course.site", "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=1200)


@pytest.fixture(scope="session")
def run_build():
    """`run_build(root)` is `python -m aiinfra_labs.course.site`, as an author runs it."""
    return build_command


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def serve():
    """`serve(folder)` gives the address at which a folder is served."""
    servers = []

    def start(folder):
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def browser(launch_chromium):
    """Chromium with the network closed: no name is found but this machine's."""
    return launch_chromium(NOBODY)


@pytest.fixture(scope="session")
def visit(browser):
    """`visit(address)` opens a page and waits until it is whole.

    What went wrong is kept with it: `asked` other hosts, `missing` files, `errors` of the console.
    """
    settings = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
    context = browser.new_context(**settings)

    def open_page(address):
        nonlocal context
        if not browser.now.is_connected():
            context = browser.new_context(**settings)
        host = "/".join(address.split("/")[:3])
        tab = context.new_page()
        seen = SimpleNamespace(tab=tab, asked=[], missing=[], errors=[])

        def route(request):
            if request.request.url.startswith((host, "data:", "blob:")):
                request.continue_()
            else:
                seen.asked.append(request.request.url)
                request.abort()

        tab.route("**/*", route)
        tab.on("response", lambda r: seen.missing.append(r.url) if r.status >= 400 else None)
        tab.on("pageerror", lambda error: seen.errors.append(str(error)))
        tab.on(
            "console",
            lambda message: seen.errors.append(message.text) if message.type == "error" else None,
        )
        tab.goto(address, wait_until="load")
        tab.add_style_tag(content="* { transition: none !important; animation: none !important; }")
        if tab.locator(".math").count():
            tab.wait_for_function(TYPESET, timeout=300_000)
        if tab.locator("script[type='application/vnd.jupyter.widget-view+json']").count():
            tab.wait_for_function(WIDGETS, timeout=300_000)
        tab.wait_for_load_state("networkidle")
        return seen

    yield open_page
    if browser.now.is_connected():
        context.close()


TYPESET = """() => [...document.querySelectorAll(".math")].every((math) =>
  math.querySelector("mjx-container") || !math.textContent.trim())"""
WIDGETS = """() => [...document.querySelectorAll(
  "script[type='application/vnd.jupyter.widget-view+json']")].every((script) =>
  script.parentElement.querySelector(".jupyter-widgets, .jp-OutputArea, [class*=widget] *"))"""


@pytest.fixture(scope="session")
def site(tmp_path_factory, serve, worker_id):
    """The course's site, from its stored outputs: built once, by the first worker that asks."""
    mine = tmp_path_factory.getbasetemp()
    ours = mine if worker_id == "master" else mine.parent  # the folder of all workers of this run
    out, said = ours / "course" / "html", ours / "course.txt"
    with (ours / "course.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.is_file():
            built = build_command(ROOT, "--out", str(out))
            assert built.returncode == 0, built.stderr
            said.write_text(built.stdout, encoding="utf-8")
    return SimpleNamespace(folder=out, address=serve(out), said=said.read_text(encoding="utf-8"))


# --- a small course -------------------------------------------------------------------------------

FIGURE = (
    '<figure class="aiinfra-figure"><svg role="img" aria-label="Two bars." width="96" '
    'viewBox="0 0 96 48"><rect width="40" height="48" fill="#476cc3"/></svg></figure>'
)
TABLE = (
    "| " + " | ".join(f"column{i}" for i in range(14)) + " |\n" + "|---" * 14 + "|\n"
    "| " + " | ".join(["`a_long_name`"] * 14) + " |\n"
)
PANELS = (
    '<div class="aiinfra-panels">'
    + FIGURE.replace("<figure", "<figure id='left'")
    + FIGURE.replace("<figure", "<figure id='right'")
    + "</div>"
)
ASKED = Prediction("3.2.page.x", None, "How many sectors a load?")
MEASURED = Comparison("3.2.page.x", None, 8, "sectors")
COUNTS = table(
    [f"what is counted {n}" for n in range(12)], [[f"{1000 * n:,}" for n in range(12)]] * 2
)
SHOWN = {"source": "aiinfra_labs.gpu.doors.opened"}


def html_cell(html, count, tag):
    return new_code_cell(
        f"cell({count})",
        outputs=[new_output("execute_result", {"text/html": html}, execution_count=count)],
        execution_count=count,
        metadata={"tags": [tag]},
    )


PROSE = """# 3.2 A page

A **kernel** (核函数), a **grid** (网格), a **warp** (线程束) of many threads; a KV缓存.

[mask](../../src/aiinfra_labs/gpu/emulator/mask.py),
[its folder](../../src/aiinfra_labs/gpu/emulator), [chapter](../../src/aiinfra_labs/gpu/),
[](../../src/aiinfra_labs/gpu/emulator/mask.py), [`facts`](../../src/aiinfra_labs/gpu/facts.toml),
[lab](../../labs/3-gpu/02-cuda-model.ipynb), [guide](../../CONTRIBUTING.md),
[benchmark](../../benchmarks/emulator.py)

## A formula

$$ y = \\cancel{x} + \\frac{a}{b} $$

Inline $i = b \\cdot B + t$.
"""

PAGES = {
    "book/intro": [
        new_markdown_cell("# A small course\n\n[The page](3-gpu/02-cuda-model.ipynb#a-formula)")
    ],
    "book/3-gpu/02-cuda-model": [
        new_markdown_cell(PROSE),
        new_markdown_cell(TABLE),
        new_code_cell(
            "print('one very long line of code ' * 40)  # " + "and a long comment " * 20,
            outputs=[new_output("stream", name="stdout", text="a long line " * 60)],
            execution_count=1,
        ),
        new_code_cell(
            "figure()",
            outputs=[new_output("display_data", {"text/html": FIGURE})],
            execution_count=2,
        ),
        html_cell(PANELS, 4, "hide-input"),
        new_code_cell(
            "table(head, rows)",
            outputs=[new_output("display_data", {"text/markdown": COUNTS._repr_markdown_()})],
            execution_count=8,
        ),
        html_cell(ASKED._repr_html_(), 5, "hide-input"),
        html_cell(MEASURED._repr_html_(), 6, "hide-cell"),
        html_cell("<p id='behind'>8 sectors, in a table.</p>", 9, "remove-input"),
        new_markdown_cell("...", metadata=SHOWN),
        new_markdown_cell("## With a GPU", metadata={"tags": ["needs-gpu-results"]}),
        new_code_cell(
            "on_gpu.show('transpose')",
            outputs=[new_output("stream", name="stdout", text="no driver")],
            execution_count=7,
            metadata={"tags": ["needs-gpu-results:transpose"]},
        ),
    ],
    "book/claims": [new_markdown_cell("# What the talk says\n\nNothing about 网格 but this.")],
}

SOURCES = {
    "src/aiinfra_labs/__init__.py": '"""The package."""\n',
    "src/aiinfra_labs/gpu/__init__.py": '"""Chapter 3."""\n',
    "src/aiinfra_labs/gpu/facts.toml": "[warp]\nsize = 32\n",
    "src/aiinfra_labs/gpu/emulator/__init__.py": (
        '"""The emulator. Unit 3.2.\n\n    a  table\n\nRead `mask` first.\n"""\n'
    ),
    "src/aiinfra_labs/gpu/emulator/mask.py": (
        '"""Which `lanes` are active. Units 3.2 and 3.3."""\n\nWARP_SIZE = 32\n'
    ),
    "src/aiinfra_labs/gpu/doors.py": (
        '"""Doors. Unit 3.2."""\n\n\ndef opened():\n    """A door."""\n    return "open"\n'
    ),
    "benchmarks/emulator.py": '"""How fast the emulator is."""\n',
    "src/aiinfra_labs/gpu/emulator/__pycache__/mask.cpython-311.pyc": "",
}


def write_notebook(path, cells, metadata=None):
    notebook = new_notebook(cells=cells, metadata=metadata or {})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.setdefault("kernelspec", kernel)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def widget_cell():
    """A cell that shows the warp access viewer, and the state that a kernel would have stored."""
    from ipywidgets.embed import embed_data

    from aiinfra_labs.gpu.widgets.warp_access import WarpAccess

    data = json.loads(json.dumps(embed_data([WarpAccess()], drop_defaults=False), default=str))
    view = "application/vnd.jupyter.widget-view+json"
    outputs = [new_output("display_data", {view: data["view_specs"][0], "text/plain": "viewer"})]
    state = {"application/vnd.jupyter.widget-state+json": data["manager_state"]}
    return new_code_cell("WarpAccess()", outputs=outputs, execution_count=3), {"widgets": state}


@pytest.fixture(scope="session")
def write_page():
    """`write_page(path, cells)` writes a notebook."""
    return write_notebook


@pytest.fixture
def small_course(tmp_path):
    """The small course's folder, to be spoilt."""
    return write_small_course(tmp_path / "course")


def write_small_course(root):
    """A course of three pages, with what lies about in a learner's folder and is no page."""
    shutil.copytree(ROOT / "book" / "_site", root / "book" / "_site")
    for name in ("_config.yml", "CONTRIBUTING.md", "nbgrader_config.py"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, root)
    (root / "CONTRIBUTING.md").write_text("# How to contribute\n")
    chapters = "\n".join(f"      - file: {name}" for name in list(PAGES)[1:])
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/intro\nparts:\n  - caption: Part\n    chapters:\n{chapters}\n"
    )
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    widget, metadata = widget_cell()
    for name, cells in PAGES.items():
        more = [widget] if name.startswith("book/3") else []
        path = root / f"{name}.ipynb"
        cells = copy.deepcopy(cells)
        included.fill({"cells": cells}, path, root / "src")
        write_notebook(path, cells + more, metadata if more else None)
    lab = [new_markdown_cell("# Lab\n\n[nothing](nowhere.md)")]
    for tree in ("labs", "work", "solutions", "_build/old", ".venv/lib", "notes", "env/lib"):
        write_notebook(root / tree / "3-gpu" / "02-cuda-model.ipynb", lab)
        (root / tree / "README.md").write_text("# No page\n\n[nothing](nowhere.md)\n")
    write_notebook(root / "book" / ".ipynb_checkpoints" / "intro-checkpoint.ipynb", lab)
    return root


@pytest.fixture(scope="session")
def small_site(tmp_path_factory, serve):
    """The small course's site."""
    root = write_small_course(tmp_path_factory.mktemp("small") / "course")
    built = build_command(root)
    assert built.returncode == 0, built.stderr
    out = root / "_build" / "html"
    return SimpleNamespace(root=root, folder=out, address=serve(out), said=built.stdout)


DRAWN = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
  () => requestAnimationFrame(done))))"""


@pytest.fixture(scope="session")
def opened(request, visit):
    """`opened(page)` is a page of the course in its tab, opened once; `of` names another site."""
    pages = {}

    def look(page, of=None, width=1280, theme="light"):
        of = of or request.getfixturevalue("site")
        address = f"{of.address}/{page}.html"
        if address not in pages:
            pages[address] = visit(address)
        tab = pages[address].tab
        if tab.viewport_size["width"] != width:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.evaluate(DRAWN)  # widgets are drawn anew
        tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        return pages[address]

    return look
