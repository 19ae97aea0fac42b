"""The vendored files are those on record, and the look keeps to the course's palette."""

import io
import re
import shutil
import tarfile

import pytest

from aiinfra_labs.course.figures import INK, PALETTE
from by_path import loaded


@pytest.fixture(scope="module")
def refresh():
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "book" / "_site" / "refresh_vendor.py"
    return loaded(path)


def test_the_files_are_those_on_record(refresh):
    assert len(refresh.recorded()) > 50
    assert refresh.differing() == []


def test_a_changed_a_lost_and_a_new_file_are_found(refresh, tmp_path):
    folder = tmp_path / "vendor"
    shutil.copytree(refresh.VENDOR, folder)
    with (folder / "requirejs/require.js").open("a") as file:
        file.write(" ")
    (folder / "anywidget/dist/index.js").unlink()
    (folder / "mathjax/es5/more.js").write_text("1")
    assert refresh.differing(folder) == [
        "anywidget/dist/index.js",
        "mathjax/es5/more.js",
        "requirejs/require.js",
    ]


def test_each_package_has_its_licence_and_its_line_in_the_readme(refresh):
    readme = (refresh.VENDOR / "README.md").read_text(encoding="utf-8")
    for package in refresh.PACKAGES:
        (line,) = [line for line in readme.splitlines() if line.startswith(f"| {package.name} |")]
        assert f"| {package.version} |" in line and package.sha256 in line
        text = (refresh.VENDOR / package.name / "LICENSE").read_text(encoding="utf-8")
        assert "opyright" in text or "Apache License" in text
    folders = {path.split("/")[0] for path in refresh.recorded()}
    assert folders == {package.name.split("/")[0] for package in refresh.PACKAGES}


def test_unpacking_keeps_what_is_wanted_and_the_licence(refresh, tmp_path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in ("package/dist/a.js", "package/dist/b.css", "package/README.md"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"1"))
    home = tmp_path / "one"
    (home / "dist").mkdir(parents=True)
    (home / "dist" / "old.js").write_text("0")
    (home / "LICENSE").write_text("free")
    refresh.unpack(refresh.Package("one", "1", "", ("dist/*.js",)), made.getvalue(), tmp_path)
    names = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert names == {"LICENSE", "dist/a.js"}


def test_the_look_keeps_to_the_palette(root):
    css = (root / "book/_site/static/course.css").read_text(encoding="utf-8")
    named = dict(re.findall(r"--course-(\w+): (#[0-9a-f]{6});", css.partition("}")[0]))
    assert named and all(PALETTE[name] == colour for name, colour in named.items())
    for picture in ("logo.svg", "favicon.svg"):
        text = (root / "book/_site/static" / picture).read_text(encoding="utf-8")
        assert set(re.findall(r'fill="(#[0-9a-f]{6})"', text)) <= {*PALETTE.values(), INK}


def test_nothing_of_ours_names_another_host(root):
    """Comments and licences aside, our own scripts and styles hold no address."""
    for path in (root / "book/_site/static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), path.name
