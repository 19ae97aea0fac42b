"""Links lead somewhere: from page to page, to the code, to the labs."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

PAGE = "book/3-gpu/02-cuda-model.html"


class Links(HTMLParser):
    """The addresses that a page names, its ids, and the text of its links."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.ids, self.texts, self._open = [], set(), {}, None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values.get("id"), values.get("name") if tag == "a" else None}
        address = values.get("href", values.get("src"))
        if address is not None and tag != "base":
            self.addresses.append(address)
            if tag == "a":
                self._open = address

    def handle_endtag(self, tag):
        if tag == "a":
            self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self.texts[self._open] = self.texts.get(self._open, "") + data


def broken(folder):
    """Each link of a site that leads nowhere, as "page: address"."""
    pages = {
        path: Links(path)
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.relative_to(folder).parts
    }
    problems = []
    for path, links in pages.items():
        for address in links.addresses:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not address or address == "#":
                continue
            target = Path(path.parent, unquote(parts.path)).resolve() if parts.path else path
            place = path.relative_to(folder)
            if not target.is_file() or not target.is_relative_to(folder):
                problems.append(f"{place}: {address}")
            elif target in pages and unquote(parts.fragment) not in {"", *pages[target].ids}:
                problems.append(f"{place}: {address} (no such id)")
    return problems


def test_every_link_of_the_course_leads_somewhere(site):
    assert broken(site.folder.resolve()) == []


def test_every_link_of_the_small_course_does(small_site):
    assert broken(small_site.folder.resolve()) == []


def test_a_broken_link_would_be_found(tmp_path):
    (tmp_path / "a.html").write_text(
        "<a href='b.html#x'>1</a><a href='b.html#y'>2</a><a href='c.html'>3</a><img src='d.png'>"
        "<a href='https://example.org'>4</a><a href='../'>5</a><a href='#'>6</a>"
    )
    (tmp_path / "b.html").write_text("<p id='x'>here</p>")
    found = [line.partition(": ")[2] for line in broken(tmp_path)]
    assert found == ["b.html#y (no such id)", "c.html", "d.png", "../"]


# --- code -----------------------------------------------------------------------------------------


def test_links_to_the_code_lead_to_pages_that_show_it(small_site):
    texts = Links(small_site.folder / PAGE).texts
    code = "../../code/aiinfra_labs/gpu"
    assert texts[f"{code}/emulator/mask.py.html"] == "maskmask.py"  # the second link had no text
    assert texts[f"{code}/emulator/index.html"] == "its folder"
    assert texts[f"{code}/index.html"] == "chapter"
    assert texts[f"{code}/facts.toml.html"] == "facts"
    assert texts["../../code/benchmarks/emulator.py.html"] == "benchmark"


def test_a_lab_and_other_files_are_downloads(small_site):
    texts = Links(small_site.folder / PAGE).texts
    for name, text in {"02-cuda-model.ipynb": "lab", "CONTRIBUTING.md": "guide"}.items():
        (address,) = [a for a in texts if "/_downloads/" in a and a.endswith(f"/{name}")]
        assert texts[address] == text
        given = (small_site.folder / PAGE).parent / address
        source = "labs/3-gpu/02-cuda-model.ipynb" if text == "lab" else name
        assert given.read_bytes() == (small_site.root / source).read_bytes()


@pytest.fixture
def module(small_site, visit):
    seen = visit(f"{small_site.address}/code/aiinfra_labs/gpu/emulator/mask.py.html")
    yield seen
    assert seen.asked == [] and seen.missing == [] and seen.errors == []
    seen.tab.close()


def test_a_module_is_shown_whole_with_numbers(module, small_site):
    tab = module.tab
    lines = tab.evaluate("""() => [...document.querySelectorAll(".course-code pre > span[id]")]
      .map((line) => [line.id, line.querySelector(".linenos").textContent.trim(),
        [...line.childNodes].filter((n) => n.className !== "linenos")
          .map((n) => n.textContent).join("")])""")
    source = small_site.root / "src/aiinfra_labs/gpu/emulator/mask.py"
    assert "".join(text for _, _, text in lines) == source.read_text(encoding="utf-8")
    assert [(id, number) for id, number, _ in lines] == [
        (f"L-{n}", str(n)) for n in range(1, len(lines) + 1)
    ]
    assert tab.locator(".course-code pre .mi").inner_text() == "32"  # highlighted: a number
    assert tab.title().startswith("mask.py")


def test_a_module_leads_to_its_units_and_up(module):
    tab = module.tab
    # It names units 3.2 and 3.3; 3.3 has no page.
    explained = tab.locator(".course-explained a")
    assert explained.all_inner_texts() == ["3.2 The CUDA programming model"]
    explained.click()
    assert tab.url.endswith(PAGE)
    tab.go_back()
    assert tab.locator(".course-way a").all_inner_texts() == ["aiinfra_labs", "gpu", "emulator"]
    tab.get_by_role("link", name="emulator").click()
    assert tab.locator(".course-docstring").inner_text().startswith("The emulator. Unit 3.2.")
    assert tab.locator(".course-docstring pre").inner_text().strip() == "a  table"
    rows = tab.locator(".course-code table tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["__init__.py", "mask.py"]
    assert rows[1].split("\t")[1] == "Which lanes are active. Units 3.2 and 3.3."
    assert tab.locator(".course-explained a").count() == 1


def test_every_module_of_the_course_has_a_page(site, root):
    sources = root / "src"
    for module in sources.rglob("*.py"):
        name = module.relative_to(sources).as_posix()
        if not any(part.startswith((".", "__pycache__")) for part in module.parts):
            assert (site.folder / "code" / f"{name}.html").is_file(), name
