"""The build: quiet, only when something changed, and no warning goes by."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from aiinfra_labs.course import site as course_site
from aiinfra_labs.course.site import SiteError, build, fingerprint
from aiinfra_labs.course.units import UNITS


def test_the_course_builds_without_a_warning(site):
    assert site.said == f"The site is in {site.folder}\n"
    assert (site.folder / "index.html").is_file()


def test_what_is_no_page_is_not_in_the_site(small_site):
    pages = {p.relative_to(small_site.folder).as_posix() for p in small_site.folder.rglob("*.html")}
    assert {page.split("/")[0] for page in pages if "/" in page} == {"book", "code", "_static"}
    assert {page for page in pages if page.startswith("book/")} == {
        "book/intro.html",
        "book/claims.html",
        "book/3-gpu/02-cuda-model.html",
    }
    assert not any("nowhere" in p.read_text("utf-8") for p in small_site.folder.rglob("*.html"))


def test_a_page_of_the_toc_is_there(root, page):
    assert (root / f"{page}.ipynb").is_file(), f"_toc.yml lists {page}, which is not there"


def test_every_unit_that_stands_is_in_the_toc(root):
    toc = (root / "_toc.yml").read_text(encoding="utf-8")
    for unit in UNITS.values():
        for path in unit.pages(root / "book"):
            line = f"- file: {path.relative_to(root).with_suffix('').as_posix()}"
            assert f"{line}\n" in toc, f"add to _toc.yml: {line}"


# --- warnings -------------------------------------------------------------------------------------

WRONG = {
    "a link to a file that is not there": "[x](../src/aiinfra_labs/gpu/nothing.py)",
    "a link to a page that is not there": "[x](3-gpu/99-nothing.ipynb)",
    "a link to a section that is not there": "[x](claims.ipynb#nothing)",
    "a link to a folder without a page": "[x](../labs)",
    "a picture that is not there": "![alt](nothing.png)",
    "an unknown directive": "```{nothing}\n```",
    "a formula without its label": "{eq}`nothing`",
}


def test_each_mistake_is_an_error_with_its_place(small_course, run_build, write_page):
    cells = [new_markdown_cell(f"## {name}\n\n{text}") for name, text in WRONG.items()]
    output = new_output("display_data", {"application/x-unheard-of": "1"})
    cells.append(new_code_cell("1", outputs=[output], execution_count=1))
    write_page(small_course / "book" / "intro.ipynb", [new_markdown_cell("# Title"), *cells])
    write_page(small_course / "book" / "orphan.ipynb", [new_markdown_cell("# In no toc")])
    old = small_course / "_build" / "html"
    old.mkdir(parents=True)
    (old / course_site.STAMP).write_text("of another time")
    (old / "index.html").write_text("the site of before")

    done = run_build(small_course)
    assert done.returncode == 1 and done.stdout == ""
    for cell, name in enumerate(WRONG, start=2):
        assert f"book/intro.ipynb, cell {cell}, line 3: " in done.stderr, (name, done.stderr)
    assert "application/x-unheard-of" in done.stderr
    assert "book/orphan.ipynb: " in done.stderr

    # One message in three parts, and the site of before stays.
    assert done.stderr.startswith("the site was not built\n") and "Traceback" not in done.stderr
    assert "\nWhy: " in done.stderr and "\nTry: " in done.stderr
    assert "\x1b" not in done.stderr and str(small_course) not in done.stderr
    assert (old / "index.html").read_text() == "the site of before"
    assert {path.name for path in old.parent.iterdir()} == {"old", "html"}


def test_a_mistake_in_the_configuration_is_an_error(folder, monkeypatch):
    """Jupyter Book tells of it, goes on, and ends well."""
    told = "from jupyter_book.config import validate_yaml; validate_yaml({'title': 3})"
    monkeypatch.setattr(course_site, "_BUILD", told)
    with pytest.raises(SiteError, match=r"3 is not of type 'string' \[key path: 'title'\]"):
        build(folder)


def test_a_crash_is_an_error_too(folder, monkeypatch):
    monkeypatch.setattr(course_site, "_BUILD", "raise OSError('no space left')")
    with pytest.raises(SiteError, match="no space left") as error:
        build(folder)
    assert "Traceback" not in str(error.value)


# --- only when something changed ------------------------------------------------------------------


@pytest.fixture
def builds(monkeypatch):
    """Each site that is built, by its folder; Jupyter Book is not asked."""
    made = []

    def run(root, site, doctrees, keep_code=False):
        site.mkdir(exist_ok=True)
        (site / "index.html").write_text(f"build {len(made)}")
        made.append(site)

    monkeypatch.setattr(course_site, "_run", run)
    return made


@pytest.fixture
def folder(tmp_path):
    """A folder that looks like the course's."""
    for name in ("_config.yml", "_toc.yml", "book/intro.ipynb", "labs/a.ipynb", "src/x/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    return tmp_path


def test_nothing_is_built_twice(folder, builds):
    out = build(folder)
    assert out == folder / "_build" / "html" and build(folder) == out
    assert len(builds) == 1
    build(folder, force=True)
    assert len(builds) == 2 and (out / "index.html").read_text() == "build 1"
    assert build(folder, folder / "elsewhere") == folder / "elsewhere" and len(builds) == 3


@pytest.mark.parametrize(
    "name",
    ["book/intro.ipynb", "book/new.ipynb", "_toc.yml", "_config.yml", "labs/a.ipynb"]
    + ["book/_site/static/course.css", "src/aiinfra_labs/gpu/door.py", "requirements.txt"],
)
def test_a_change_is_built(folder, builds, name):
    build(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("2")
    build(folder)
    assert len(builds) == 2
    (folder / name).unlink()
    if (folder / "_toc.yml").is_file() and (folder / "_config.yml").is_file():
        build(folder)
        assert len(builds) == 3


@pytest.mark.parametrize(
    "name",
    ["work/a.ipynb", ".venv/a.py", "book/.ipynb_checkpoints/a.ipynb", "tests/test_a.py"]
    + ["src/aiinfra_labs/__pycache__/a.pyc", "_build/html/index.html", "solutions/a.ipynb"],
)
def test_what_does_not_go_in_is_no_change(folder, builds, name):
    build(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("2")
    build(folder)
    assert len(builds) == 1


def test_a_renamed_file_is_a_change(folder):
    before = fingerprint(folder)
    (folder / "book" / "intro.ipynb").rename(folder / "book" / "other.ipynb")
    assert fingerprint(folder) != before


def test_a_site_that_failed_is_built_again(folder, builds, monkeypatch):
    def fail(*_, **__):
        raise SiteError("no", "", "")

    run = course_site._run
    monkeypatch.setattr(course_site, "_run", fail)
    for _ in range(2):
        with pytest.raises(SiteError):
            build(folder)
    assert not (folder / "_build" / "html").exists()
    monkeypatch.setattr(course_site, "_run", run)
    assert (build(folder) / "index.html").is_file()


# --- only what changed ----------------------------------------------------------------------------


def notebook_of(path, text):
    import json

    cells = [{"cell_type": "markdown", "source": [text]}]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))


@pytest.fixture
def asked(folder, monkeypatch):
    """`asked()` builds, and says what of the site of before was kept: all, or nothing."""
    notebook_of(folder / "book" / "intro.ipynb", "# Intro\n\none")
    notebook_of(folder / "book" / "a.ipynb", "# A\n\none")
    kept = []

    def run(root, site, doctrees, keep_code=False):
        found = {path.stem for path in (doctrees / "book").glob("*.doctree")}
        kept.append(sorted(found) if keep_code else None)
        (doctrees / "book").mkdir(parents=True, exist_ok=True)
        (doctrees / "environment.pickle").touch()
        for path in (root / "book").glob("*.ipynb"):
            (doctrees / "book" / f"{path.stem}.doctree").touch()

    monkeypatch.setattr(course_site, "_run", run)

    def once():
        build(folder)
        return kept[-1]

    assert once() is None
    return once


def test_a_page_that_changed_is_read_and_the_others_are_kept(folder, asked):
    notebook_of(folder / "book" / "a.ipynb", "# A\n\ntwo")
    assert asked() == ["intro"]
    notebook_of(folder / "book" / "intro.ipynb", "# Intro\n\ntwo")
    assert asked() == ["a"]


@pytest.mark.parametrize(
    "name",
    ["_config.yml", "_toc.yml", "labs/a.ipynb", "src/aiinfra_labs/gpu/door.py"]
    + ["book/_site/static/course.css", "book/new.ipynb"],
)
def test_what_may_stand_on_other_pages_builds_all(folder, asked, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("2")
    assert asked() is None


@pytest.mark.parametrize("text", ["# Another title", "# A\n\n## A section", "(label)=\n# A"])
def test_a_heading_that_changed_builds_all(folder, asked, text):
    notebook_of(folder / "book" / "a.ipynb", text)
    assert asked() is None


def test_a_page_that_was_removed_builds_all(folder, asked):
    (folder / "book" / "a.ipynb").unlink()
    assert asked() is None


def test_a_site_whose_notes_are_spoilt_is_built_whole(folder, asked):
    (folder / "_build" / "html" / course_site.PAGES).write_text("{")
    notebook_of(folder / "book" / "a.ipynb", "# A\n\ntwo")
    assert asked() is None


def shown_of(out):
    """Each page's HTML. MyST-NB's stylesheet has its checksum in its address only where it was
    there before the page: it is the same file."""
    checksum = re.compile(r"(mystnb\.[0-9a-f]+\.css)\?v=[0-9a-f]+")
    pages = out.rglob("*.html")
    return {p.relative_to(out): checksum.sub(r"\1", p.read_text("utf-8")) for p in pages}


def test_one_page_is_built_and_the_site_is_as_if_all_were(small_course, write_page):
    """The small course itself: a changed page, then a page that goes."""
    page, toc = small_course / "book" / "claims.ipynb", small_course / "_toc.yml"
    write_page(page, [new_markdown_cell("# What the talk says\n\nIt says *gravitation*.")])
    out = build(small_course)
    write_page(page, [new_markdown_cell("# What the talk says\n\nIt says *levitation*.")])
    before = {p: p.stat().st_mtime_ns for p in (out / course_site.DOCTREES).rglob("*.doctree")}
    build(small_course)
    read = {
        p.stem
        for p in (out / course_site.DOCTREES).rglob("*.doctree")
        if before.get(p) != p.stat().st_mtime_ns
    }
    assert read == {"claims"}
    shown = (out / "book" / "claims.html").read_text("utf-8")
    assert "levitation" in shown and "gravitation" not in shown
    assert "levit" in (out / "searchindex.js").read_text("utf-8")
    one = shown_of(out)
    build(small_course, force=True)
    assert shown_of(out) == one

    page.unlink()
    lines = [line for line in toc.read_text().splitlines() if "book/claims" not in line]
    toc.write_text("\n".join(lines) + "\n")
    build(small_course)
    assert not (out / "book" / "claims.html").exists()
    assert "levit" not in (out / "searchindex.js").read_text("utf-8")


def test_nobody_elses_folder_is_replaced(folder, builds):
    kept = folder / "thesis" / "chapter.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    for out in (kept.parent, kept):
        with pytest.raises(SiteError, match="something else"):
            build(folder, out)
    assert kept.read_text() == "years of work" and builds == []


def test_the_old_site_comes_back_where_the_new_one_cannot_stand(folder, builds, monkeypatch):
    from pathlib import Path

    out = build(folder)
    (folder / "_config.yml").write_text("title: changed")
    rename = Path.rename

    def full(path, target):
        if path.name == "html" and Path(target) == out:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(SiteError, match="could not be put into"):
        build(folder)
    assert (out / "index.html").is_file()


def test_a_folder_that_is_not_the_courses(tmp_path, run_build):
    done = run_build(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"there is no _config.yml in {tmp_path}\nWhy: ")


def test_without_jupyter_book(folder, monkeypatch):
    missing = "raise ModuleNotFoundError(\"No module named 'jupyter_book'\")"
    monkeypatch.setattr(course_site, "_BUILD", missing)
    with pytest.raises(SiteError, match="Jupyter Book is not installed"):
        build(folder)


def test_the_command_and_the_function_build_one_site(small_site, run_build):
    stamp = small_site.folder / course_site.STAMP
    before = stamp.stat().st_mtime_ns
    assert build(small_site.root) == small_site.folder
    assert run_build(small_site.root).stdout == f"The site is in {small_site.folder}\n"
    assert stamp.stat().st_mtime_ns == before
