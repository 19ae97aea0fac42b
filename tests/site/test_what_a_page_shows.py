"""What a page must be, on the site: a guess beside the measured figure, source with its place,
figures as wide as their column, nothing that needs a GPU nobody had, and no page too long."""

import re

import pytest

from aiinfra_labs.course import page_rules
from aiinfra_labs.course.units import repository, unit_of
from by_path import loaded

SMALL = "book/3-gpu/02-cuda-model"
NOT_YET = loaded(repository() / "tests" / "notebooks" / "not_yet.py").NOT_YET
BLOCKED = """Object.defineProperty(window, "localStorage", {
  get() { throw new Error("nothing is kept"); } });"""


# --- a guess --------------------------------------------------------------------------------------


@pytest.fixture
def reader(browser, small_site):
    """`reader(...)` opens the small page as a new reader, who has nothing stored."""
    contexts = []

    def open_page(width=1280, theme="light", script=None):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        if script:
            context.add_init_script(script)
        tab = context.new_page()
        tab.errors = []
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.goto(f"{small_site.address}/{SMALL}.html")
        return tab

    yield open_page
    for context in contexts:
        errors = [error for tab in context.pages for error in tab.errors]
        # a theme's own script stumbles where nothing may be kept
        assert [error for error in errors if "nothing is kept" not in error] == []
        context.close()


def asked(tab):
    return tab.get_by_label(re.compile("How many sectors a load?"))


def said(tab):
    return tab.locator(".aiinfra-guess .said")


def is_open(tab):
    """The question is asked, and nothing of the answer is to be seen or read out."""
    spoken = tab.locator("article").aria_snapshot()
    return (
        asked(tab).is_visible() and "8 sectors" not in spoken + tab.locator("article").inner_text()
    )


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_guess_is_typed_and_stands_beside_what_was_measured(reader, width, theme):
    """By the keyboard alone; it is there again when the reader comes back."""
    tab = reader(width, theme)
    assert is_open(tab)
    compare = tab.get_by_role("button", name="Compare").bounding_box()
    skip = tab.get_by_role("button", name="Skip").bounding_box()
    assert skip["x"] >= compare["x"] + compare["width"]  # in one line, on a phone, too
    asked(tab).focus()
    tab.keyboard.type("32")
    tab.keyboard.press("Enter")
    assert said(tab).inner_text() == "You said 32; measured: 8 sectors."
    assert said(tab).evaluate("e => e === document.activeElement")  # so it is read out
    assert not asked(tab).is_visible()
    box = tab.locator(".aiinfra-guess.answer").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width

    tab.reload()
    assert said(tab).inner_text() == "You said 32; measured: 8 sectors."
    again = tab.get_by_role("button", name="Guess again")
    again.focus()
    tab.keyboard.press("Enter")
    assert is_open(tab) and asked(tab).input_value() == ""
    assert asked(tab).evaluate("e => e === document.activeElement")


def test_a_guess_is_kept_by_page_and_id(reader):
    tab = reader()
    asked(tab).fill("32")
    tab.get_by_role("button", name="Compare").click()
    keys = tab.evaluate("Object.keys(localStorage).filter((k) => k.startsWith('aiinfra'))")
    assert keys == [f"aiinfra:guess:/{SMALL}.html:3.2.page.x"]


def test_how_it_was_measured_comes_with_the_answer(reader):
    tab = reader()
    cell = tab.locator("div.cell:has(.aiinfra-reveal)")
    assert not cell.is_visible()
    asked(tab).fill("<b>7</b>")
    asked(tab).press("Enter")
    assert said(tab).inner_text() == "You said <b>7</b>; measured: 8 sectors."
    cell.locator("summary").click()
    assert cell.locator("td").all_inner_texts() == ["<b>7</b>", "8 sectors"]


def test_the_table_behind_a_guess_comes_with_the_answer(reader):
    """It shows what was asked for. Words behind it stay: they may say what comes next."""
    tab = reader()
    behind, after = tab.locator("#behind"), tab.get_by_role("link", name="doors.py")
    assert not behind.is_visible() and after.is_visible()
    tab.get_by_role("button", name="Skip").click()
    assert behind.is_visible()
    tab.get_by_role("button", name="Guess again").click()
    assert not behind.is_visible()


def test_a_prediction_can_be_skipped(reader):
    tab = reader()
    tab.get_by_role("button", name="Skip").press("Enter")
    assert said(tab).inner_text() == "You skipped; measured: 8 sectors."
    tab.reload()
    assert said(tab).is_visible()


def test_an_empty_guess_shows_nothing(reader):
    tab = reader()
    asked(tab).fill("  ")
    asked(tab).press("Enter")
    assert is_open(tab)
    assert tab.get_by_role("alert").inner_text() == "Type a guess, or skip."
    assert asked(tab).get_attribute("aria-invalid") == "true"


def test_a_browser_that_keeps_nothing(reader):
    tab = reader(script=BLOCKED)
    asked(tab).fill("9")
    asked(tab).press("Enter")
    assert said(tab).inner_text() == "You said 9; measured: 8 sectors."
    tab.reload()
    assert is_open(tab)


def test_every_prediction_of_a_page_has_its_box(opened, page):
    tab = opened(page).tab
    boxes, reveals = tab.locator("form.aiinfra-guess"), tab.locator(".aiinfra-reveal")
    assert boxes.count() == reveals.count() == tab.locator(".aiinfra-predict").count()
    if not tab.evaluate("Object.keys(localStorage).some((k) => k.startsWith('aiinfra'))"):
        assert all(not reveals.nth(i).is_visible() for i in range(reveals.count()))


# --- source, figures, GPU -------------------------------------------------------------------------


def test_source_is_shown_with_a_link_to_its_line(opened, small_site):
    tab = opened(SMALL, small_site).tab
    code = tab.locator(".highlight-python pre", has_text="def opened")
    assert code.inner_text().strip() == 'def opened():\n    """A door."""\n    return "open"'
    assert code.locator("span.k").count() > 1  # in colours
    link = tab.get_by_role("link", name="doors.py")
    address = link.get_attribute("href")
    assert address.endswith("gpu/doors.py.html#L-4")
    page = small_site.folder / "code" / "aiinfra_labs" / "gpu" / "doors.py.html"
    assert 'id="L-4"' in page.read_text("utf-8")


def test_what_needs_a_gpu_is_left_out(small_site):
    text = (small_site.folder / f"{SMALL}.html").read_text("utf-8")
    assert "With a GPU" not in text and "no driver" not in text and "transpose" not in text


BOXES = """() => Object.fromEntries(["left", "right"].map((id) => {
  const box = document.querySelector(`#${id} svg`).getBoundingClientRect();
  return [id, { x: box.x, y: box.y, width: box.width }];
}))"""


def test_panels_stand_in_a_row_and_on_a_phone_below_each_other(opened, small_site):
    wide = opened(SMALL, small_site).tab.evaluate(BOXES)
    assert wide["left"]["y"] == wide["right"]["y"]
    assert wide["right"]["x"] >= wide["left"]["x"] + wide["left"]["width"]
    phone = opened(SMALL, small_site, 390).tab.evaluate(BOXES)
    assert phone["right"]["y"] > phone["left"]["y"] and phone["right"]["x"] == phone["left"]["x"]
    assert phone["left"]["width"] >= page_rules.PHONE


@pytest.mark.parametrize("width", [1280, 390])
def test_a_figure_is_as_wide_as_its_column(opened, small_site, width):
    wide = """() => [document.querySelector(".bd-article > section").getBoundingClientRect().width,
      document.querySelector(".bd-article .cell_output > * > .aiinfra-figure svg")
        .getBoundingClientRect().width]"""
    column, figure = opened(SMALL, small_site, width).tab.evaluate(wide)
    assert abs(column - figure) <= 4, (column, figure)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_table_of_a_cell_is_a_table_and_scrolls_in_its_box(opened, small_site, width):
    tab = opened(SMALL, small_site, width).tab
    made = tab.locator(".cell_output table", has_text="what is counted 0")
    assert made.locator("th").count() == 12 and made.locator("td").count() == 24
    wide = """(table) => {
      let box = table.parentElement;
      while (getComputedStyle(box).overflowX === "visible") box = box.parentElement;
      const right = box.getBoundingClientRect().right;
      const more = box.scrollWidth > box.clientWidth;
      return [getComputedStyle(box).overflowX, right <= innerWidth, more];
    }"""
    scrolls, inside, more = made.evaluate(wide)
    assert scrolls == "auto" and inside and (more or width > 390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


# --- length ---------------------------------------------------------------------------------------


# With the tables and figures that come with an answer, and without the folds that do.
HEIGHT = """() => {
  const waiting = [...document.querySelectorAll("div.cell[hidden]:not(:has(.aiinfra-reveal))")];
  for (const cell of waiting) cell.hidden = false;
  const height = document.documentElement.scrollHeight;
  for (const cell of waiting) cell.hidden = true;
  return height;
}"""


def test_a_page_is_not_too_long(opened, page):
    """At a width of 1,280, folds closed."""
    if unit_of(page) is None:
        return
    height = opened(page).tab.evaluate(HEIGHT)
    name = page.removeprefix("book/")
    print(f"\n{name}: {height:,} pixels")
    if name in NOT_YET.get("tall", ()):
        assert height > page_rules.TALLEST, f"{name} is short enough: take it out of not_yet.py"
    else:
        assert height <= page_rules.TALLEST
