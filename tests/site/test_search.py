"""Search finds English words and Chinese ones, whole and in part."""

import random
import re
import sys

import pytest

from aiinfra_labs.course import rules
from aiinfra_labs.course.units import STANDING, UNITS, repository


@pytest.fixture(scope="session")
def found(visit):
    """`found(site, query)` gives the pages that the site's search lists."""

    def search(site, query):
        from urllib.parse import quote

        seen = visit(f"{site.address}/search.html?q={quote(query)}")
        seen.tab.wait_for_function("document.querySelector('.search-summary')?.innerText.trim()")
        links = seen.tab.locator("ul.search li a")
        pages = [links.nth(i).get_attribute("href") for i in range(links.count())]
        assert seen.asked == [] and seen.errors == []
        seen.tab.close()
        return {page.partition("#")[0].partition("?")[0] for page in pages}

    return search


@pytest.fixture(scope="session")
def ranked(visit, site):
    """`ranked(query)` gives the pages that the course's search lists, the first one first."""

    def search(query):
        from urllib.parse import quote

        seen = visit(f"{site.address}/search.html?q={quote(query)}")
        seen.tab.wait_for_function("document.querySelector('.search-summary')?.innerText.trim()")
        found = seen.tab.locator("ul.search li a")
        links = [found.nth(i).get_attribute("href") for i in range(min(found.count(), 3))]
        seen.tab.close()
        return [link.partition("#")[0].partition("?")[0] for link in links]

    return search


def title_of(path):
    """The page's title, without its unit's number."""
    first = rules.source(rules.read(path)["cells"][0]).lstrip().splitlines()[0]
    return first.removeprefix("# ").partition(" ")[2]


FURTHER = [path for id in sorted(STANDING) for path in UNITS[id].pages(repository() / "book")[1:]]


@pytest.mark.parametrize("path", FURTHER, ids=lambda path: path.stem)
def test_a_further_page_of_a_unit_comes_first_for_its_own_title(ranked, root, path):
    assert ranked(title_of(path))[0] == path.relative_to(root).with_suffix(".html").as_posix()


@pytest.mark.parametrize("id", sorted(STANDING))
def test_the_page_on_a_subject_comes_first(ranked, root, id):
    """For its whole title, and for the title without its small words, in any case."""
    unit = UNITS[id]
    page = f"book/{unit.notebook.removesuffix('.ipynb')}.html"
    small = {"a", "an", "and", "the", "of", "its", "up", "full"}
    words = [word for word in unit.title.lower().split() if word not in small]
    for query in (unit.title, " ".join(words)):
        assert ranked(query)[0] == page, query


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("paged kv cache", "4-cloud/02-paged-kv-cache"),
        ("speculative decoding", "4-cloud/04-speculative-decoding"),
        ("shared memory", "3-gpu/04-shared-memory"),
        ("attention", "1-llm/03-attention"),
        ("parallelism", "4-cloud/06-parallelism"),
    ],
)
def test_code_and_sections_come_after_the_page(ranked, query, first):
    assert ranked(query)[0] == f"book/{first}.html"


PAGE = "book/3-gpu/02-cuda-model.html"
BOTH = {PAGE, "book/claims.html"}


@pytest.mark.parametrize(
    ("query", "pages"),
    [
        ("线程束", {PAGE}),
        ("程束", {PAGE}),
        ("束", {PAGE}),
        ("核函数", {PAGE}),
        ("网格", BOTH),
        ("线程束 网格", {PAGE}),
        ("缓存", {PAGE}),
        ("KV缓存", {PAGE}),
        ("束线", set()),
        ("显存", set()),
        ("warp", {PAGE}),
        ("thread", {PAGE}),  # the page has "threads"
        ("nothing", {"book/claims.html"}),
        ("unheard", set()),
    ],
)
def test_a_query_finds_its_pages(found, small_site, query, pages):
    assert found(small_site, query) == pages


def test_every_page_is_found_by_its_own_words(found, site, root, page):
    """The longest word of a page's prose, and the first Chinese term on it."""
    from aiinfra_labs.course import rules

    prose = rules.prose(rules.read(root / f"{page}.ipynb"))
    prose = re.sub(
        r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|<[^>]*>|\{[^}]*\}", " ", prose, flags=re.S
    )
    words = sorted(set(re.findall(r"\b[a-z]{4,}\b", prose)), key=lambda word: (-len(word), word))
    chinese = re.findall(r"[\u4e00-\u9fff]{2,}", prose)
    assert words
    for query in [words[0], *chinese[:1]]:
        assert f"{page}.html" in found(site, query), query


def test_a_query_is_split_as_the_index_is(root, browser):
    """What JavaScript looks up, Python has indexed: for any text, of that text itself."""
    sys.path.insert(0, str(root / "book" / "_site"))
    try:
        from course_site.search import SPLIT_QUERY, EnglishAndChinese
    finally:
        sys.path.pop(0)
    rng = random.Random(0)
    alphabet = "线程束网格㐀鿿 ab_9é.-,(（）、。\n"
    texts = ["".join(rng.choices(alphabet, k=rng.randint(0, 14))) for _ in range(500)]
    tab = browser.new_page()
    splits = tab.evaluate(f"texts => {{ {SPLIT_QUERY} return texts.map(splitQuery); }}", texts)
    tab.close()
    index = EnglishAndChinese({})
    for text, looked_up in zip(texts, splits, strict=True):
        indexed = index.split(text)
        assert set(looked_up) <= set(indexed), text
        # Nothing of the text is lost, on either side.
        letters = {letter for letter in text if letter.isalnum() or letter == "_"}
        assert letters == set("".join(indexed)) == set("".join(looked_up)), text
