"""A page for each module of the course's code, and what becomes of links to files.

The prose links to a module as `../../src/aiinfra_labs/gpu/emulator/mask.py`, which GitHub and
JupyterLab open as it is. Here such a link leads to a page that shows the module, a link to a
folder of code to a list of its modules, and a link to any other file of the repository
that is no page, such as a lab, to a download of it. A link to nothing is a warning, so an error.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from aiinfra_labs.course.rules import units_named
from aiinfra_labs.course.site import KEEP_CODE
from aiinfra_labs.course.units import UNITS

SOURCES = ("src/aiinfra_labs", "benchmarks")  # have pages, of their modules and folders
SHOWN = {".py", ".js", ".css", ".toml", ".mplstyle"}


# --- links ----------------------------------------------------------------------------------------


class LinksToFiles(SphinxTransform):
    """Turn MyST's links to files that are no pages into links that a reader of the site can follow.

    MyST reads a link to a file that Sphinx could have for a page (.ipynb, .md) as one to that
    page, to another file as a download, and to a folder as a reference that no domain knows.
    """

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        links = (addnodes.pending_xref, addnodes.download_reference)
        for link in list(self.document.findall(lambda node: isinstance(node, links))):
            if link.get("reftype") != "myst":
                continue
            path = self.file(link)
            if path is None or not path.exists():
                continue
            place = path.relative_to(Path(self.env.srcdir)).as_posix()
            if page := page_of(Path(self.env.srcdir), path):
                uri = self.app.builder.get_relative_uri(self.env.docname, page)
                if re.fullmatch(r"L-\d+", link.get("title", "")):  # a line: see pages.py
                    uri += f"#{link['title']}"
                replace(link, nodes.reference(refuri=uri, internal=True), path.name)
            elif path.is_file():
                download = addnodes.download_reference(
                    refdoc=self.env.docname, reftarget=f"/{place}", classes=["download"]
                )
                replace(link, download, path.name)
            # A folder without a page is left to MyST, which warns of it.

    def file(self, link: nodes.Element) -> Path | None:
        """The file or folder that a link names; None for a page of the site, or another host."""
        target = link["reftarget"]
        if link.get("refdomain") == "doc":
            if target in self.env.found_docs:
                return None
            here = [Path(self.env.srcdir, target + end) for end in self.config.source_suffix]
            return next(filter(Path.is_file, here), None)
        if "/" not in target and "." not in target:
            return None  # a label, such as (my-section)=
        path = Path(self.env.relfn2path(target.partition("#")[0], self.env.docname)[1])
        return path if path.is_relative_to(self.env.srcdir) else None


def replace(link: nodes.Element, by: nodes.Element, name: str) -> None:
    """Put another link in the place of one, with its text; the file's name if it has none."""
    by += link.children if link.get("refexplicit") else [nodes.literal("", name)]
    link.replace_self(by)


def source_of(root: Path, path: Path) -> Path | None:
    """The folder of `SOURCES` that a path is in, or is; None if there is none."""
    return next((root / s for s in SOURCES if path.is_relative_to(root / s)), None)


def page_of(root: Path, path: Path) -> str | None:
    """The name of the page that shows a file or folder of `SOURCES`; None if none does."""
    sources = source_of(root, path)
    if sources is None:
        return None
    place = path.relative_to(sources.parent).as_posix()
    if path.is_dir():
        return f"code/{place}/index" if shown(path) else None
    return f"code/{place}" if path.suffix in SHOWN else None


# --- pages ----------------------------------------------------------------------------------------


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every page of the code, as Sphinx asks for them: name, context, template."""
    if os.environ.get(KEEP_CODE):  # those of the site of before are there, and nothing changed
        return
    places = [Path(app.srcdir, source) for source in SOURCES]
    folders = [path for place in places for path in (place, *sorted(place.rglob("*")))]
    for folder in folders:
        if folder.is_dir() and shown(folder):
            yield page(app, folder, listing(app, folder))
            for path in shown(folder):
                if path.is_file():
                    yield page(app, path, source(app, path))


def shown(folder: Path) -> list[Path]:
    """What a listing shows: the folders, then the files; empty when there is no text to read."""
    if folder.name.startswith((".", "__")):
        return []
    inside = sorted(folder.iterdir())
    folders = [path for path in inside if path.is_dir() and shown(path)]
    return folders + [path for path in inside if path.is_file() and path.suffix in SHOWN]


def page(app: Sphinx, path: Path, body: str) -> tuple[str, dict[str, Any], str]:
    root = Path(app.srcdir)
    name, sources = page_of(root, path), source_of(root, path)
    assert name is not None and sources is not None
    above = list(path.parents)[: len(path.relative_to(sources).parts)]
    steps = [link(app, name, root, step) for step in reversed(above)]
    way = f'<nav class="course-way" aria-label="Folder">{" / ".join(steps)}</nav>' if steps else ""
    body = f'<section class="course-code">{way}<h1>{escape(path.name)}</h1>{body}</section>'
    return name, {"title": path.name, "body": body}, "page.html"


def link(app: Sphinx, page: str, root: Path, path: Path) -> str:
    """A link from a page to that of a file or folder."""
    target = page_of(root, path)
    assert target is not None
    uri = app.builder.get_relative_uri(page, target)
    return f'<a href="{uri}"><code>{escape(path.name)}</code></a>'


def listing(app: Sphinx, folder: Path) -> str:
    """A folder's docstring, and a table of what is in it."""
    root = Path(app.srcdir)
    name = page_of(root, folder)
    rows = "".join(
        f"<tr><td>{link(app, name, root, path)}{'/' if path.is_dir() else ''}</td>"
        f"<td>{marked(docstring(path).partition(chr(10))[0])}</td></tr>"
        for path in shown(folder)
    )
    head = "<thead><tr><th>module</th><th>what it is</th></tr></thead>"
    table = f'<table class="table">{head}<tbody>{rows}</tbody></table>'
    return f"{paragraphs(docstring(folder))}{explained(app, name, folder)}{table}"


def source(app: Sphinx, path: Path) -> str:
    """A file's text, highlighted, its lines numbered (`#L-12` is line 12)."""
    text = path.read_text(encoding="utf-8")
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except ClassNotFound:
        language = "text"
    html = app.builder.highlighter.highlight_block(  # type: ignore[attr-defined]
        text, language, linenos="inline", linespans="L", location=str(path)
    )
    block = f'<div class="highlight-{language} notranslate">{html}</div>'
    return explained(app, page_of(Path(app.srcdir), path), path) + block


def explained(app: Sphinx, page: str, path: Path) -> str:
    """Links to the units that a module's docstring names and that have a page."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.is_file():
        return ""
    links = []
    for id in sorted(units_named(module), key=list(UNITS).index):
        root = Path(app.srcdir)
        for path in UNITS[id].pages(root / "book"):
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in app.env.found_docs:
                uri = app.builder.get_relative_uri(page, name)
                title = f"{id} {UNITS[id].title}"
                if path.stem != UNITS[id].stem and name in app.env.titles:
                    title = app.env.titles[name].astext()
                links.append(f'<a href="{uri}">{escape(title)}</a>')
    return f'<p class="course-explained">Explained in {", ".join(links)}</p>' if links else ""


def docstring(path: Path) -> str:
    """The docstring of a module, or of a folder's `__init__`; of another file, nothing."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.is_file():
        return ""
    return ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""


def paragraphs(text: str) -> str:
    """A docstring as HTML: paragraphs, and indented lines as they stand."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    html = [
        f"<pre>{escape(block)}</pre>" if block.startswith("    ") else f"<p>{marked(block)}</p>"
        for block in blocks
    ]
    return f'<div class="course-docstring">{"".join(html)}</div>' if html else ""


def marked(text: str) -> str:
    """A docstring's line, its `names` as code."""
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(LinksToFiles)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
