"""Every page of the course, in Chromium with the network closed: whole, legible, and no wider than
its window, in light and dark, on a desk and on a phone."""

import pytest

SIZES = {"desktop": 1280, "phone": 390}
THEMES = ("light", "dark")
SMALL = "book/3-gpu/02-cuda-model"  # the page of the small course that has one of everything


def other_pages(site):
    """What a reader finds beside the pages of the toc."""
    yield "search"
    code = sorted(site.folder.glob("code/aiinfra_labs/*/**/*.html"))
    yield from (path.relative_to(site.folder).with_suffix("").as_posix() for path in code[:2])


# --- whole ----------------------------------------------------------------------------------------


def test_no_other_host_is_asked(opened, page):
    seen = opened(page)
    assert seen.asked == []
    assert seen.missing == [] and seen.errors == []


def test_a_request_to_another_host_would_be_seen(visit, serve, tmp_path):
    (tmp_path / "page.html").write_text(
        "<img src='https://cdn.example.org/x.png'><img src='none.png'><script>no()</script>"
    )
    seen = visit(f"{serve(tmp_path)}/page.html")
    assert seen.asked == ["https://cdn.example.org/x.png"]
    assert any(address.endswith("/none.png") for address in seen.missing)
    assert any("no is not defined" in error for error in seen.errors)


MATHS = """() => [...document.querySelectorAll(".bd-article .math")].map((math) => {
  const set = math.querySelector("mjx-container");
  return { tex: math.textContent.slice(0, 60), set: Boolean(set?.querySelector("mjx-math")),
           wrong: Boolean(math.querySelector("mjx-merror")),
           spoken: Boolean(math.querySelector("mjx-assistive-mml math")) };
})"""


def check_maths(tab):
    found = tab.evaluate(MATHS)
    assert [math for math in found if not math["set"] or math["wrong"]] == []
    assert all(math["spoken"] for math in found)
    assert "$$" not in tab.locator(".bd-article").inner_text()
    return len(found)


def test_mathematics_is_typeset(opened, page):
    check_maths(opened(page).tab)


def test_mathematics_is_typeset_where_there_is_some(opened, small_site):
    assert check_maths(opened(SMALL, small_site).tab) == 2


# Pictures behind a prediction are looked at as they will be shown.
PICTURES = """() => {
  const waiting = [...document.querySelectorAll("div.cell[hidden]")];
  for (const cell of waiting) cell.hidden = false;
  const name = (e) => e.getAttribute("alt") ?? e.getAttribute("aria-label") ?? "";
  const found = [...document.querySelectorAll(".bd-article :is(img, svg[role=img])")].map((e) => {
    const box = e.getBoundingClientRect();
    return { name: name(e).trim(), width: box.width, height: box.height,
             broken: e.tagName === "IMG" && e.naturalWidth === 0 };
  });
  for (const cell of waiting) cell.hidden = true;
  return found;
}"""


def check_pictures(tab):
    found = tab.evaluate(PICTURES)
    for picture in found:
        assert picture["name"], f"a picture has no alt text: {picture}"
        assert picture["width"] > 20 and picture["height"] > 20 and not picture["broken"], picture
    frame = tab.locator("img:not([alt])")
    assert frame.count() == 0
    return len(found)


def test_every_figure_is_there_and_named(opened, page):
    check_pictures(opened(page).tab)


def test_a_figure_is_there_where_there_is_one(opened, small_site):
    assert (
        check_pictures(opened(SMALL, small_site).tab) == 4
    )  # the figure, two panels, and the widget's


def check_widgets(tab):
    """Move each widget's first slider with the keyboard, or press its first button: it answers."""
    widgets = tab.locator(".bd-article .aiinfra-widget")
    for number in range(widgets.count()):
        widget = widgets.nth(number)
        before = widget.inner_text()
        sliders = widget.locator("input[type=range]:not([disabled])")
        if sliders.count():
            slider = sliders.first
            slider.focus()
            slider.press("ArrowRight" if slider.evaluate("e => e.value !== e.max") else "ArrowLeft")
        else:
            widget.locator("button:not([disabled])").first.press("Enter")
        assert widget.inner_text() != before, f"widget {number} does not answer"
    shown = tab.locator("script[type='application/vnd.jupyter.widget-view+json']")
    assert widgets.count() <= shown.count()
    return shown.count()


def test_widgets_live_without_a_kernel(opened, page):
    check_widgets(opened(page).tab)


def test_the_warp_access_viewer_counts_sectors(opened, small_site):
    seen = opened(SMALL, small_site)
    assert check_widgets(seen.tab) == 1
    assert "sectors: 8, useful bytes 128 of 256 (50 %)" in seen.tab.locator(".result").inner_text()
    assert seen.asked == [] and seen.missing == [] and seen.errors == []


# --- no wider than its window ---------------------------------------------------------------------

# Elements that reach beyond the window and that nothing clips or scrolls.
WIDE = """() => {
  const out = [];
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height || box.right <= innerWidth + 1) continue;
    if (!e.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    let held = false;
    for (let p = e; p && p !== document.body && !held; p = p.parentElement) {
      const style = getComputedStyle(p);
      held = style.position === "fixed" || (p !== e && style.overflowX !== "visible" &&
        p.getBoundingClientRect().right <= innerWidth + 1);
    }
    if (!held) out.push(`${e.tagName}.${e.className}: to ${Math.round(box.right)}`);
  }
  return { page: document.documentElement.scrollWidth, out: out.slice(0, 5) };
}"""


def check_width(tab, width):
    found = tab.evaluate(WIDE)
    assert found["page"] <= width and found["out"] == [], found


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
def test_a_page_never_scrolls_sideways(opened, page, width):
    check_width(opened(page, width=width).tab, width)


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
def test_what_is_wide_scrolls_in_its_place(opened, small_site, width):
    tab = opened(SMALL, small_site, width).tab
    check_width(tab, width)
    scrolls = "e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX === 'auto'"
    for wide in (".cell_input pre", ".cell_output pre", ".pst-scrollable-table-container"):
        assert tab.locator(wide).first.evaluate(scrolls), wide


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
def test_pages_beside_the_toc_do_not_scroll_either(opened, site, width):
    for name in other_pages(site):
        check_width(opened(name, width=width).tab, width)


# --- contrast -------------------------------------------------------------------------------------

# The contrast of each visible text with what is behind it, as WCAG 2.2 defines it. Text in SVG
# stands on shapes: tests/gpu and tests/course look at that.
LOW = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => {
    const a = top[3];
    return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)).concat(1);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backs = new Map();
  const behind = (element) => {
    if (!element) return rgba(getComputedStyle(document.documentElement).backgroundColor)[3]
      ? rgba(getComputedStyle(document.documentElement).backgroundColor) : [255, 255, 255, 1];
    if (!backs.has(element)) {
      const own = rgba(getComputedStyle(element).backgroundColor);
      backs.set(element, own[3] === 1 ? own : over(own, behind(element.parentElement)));
    }
    return backs.get(element);
  };
  const low = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || element.closest("svg, script, style, noscript, [disabled]")) continue;
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2 || box.right < 0) continue;
    const style = getComputedStyle(element);
    if (style.clipPath !== "none" || style.clip !== "auto") continue;
    texts += 1;
    let colour = rgba(style.color);
    for (let e = element; e; e = e.parentElement) colour[3] *= getComputedStyle(e).opacity;
    const back = behind(element);
    colour = over(colour, back);
    const [dark, light] = [luminance(colour), luminance(back)].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5))
      low.push(`${contrast.toFixed(2)}: "${text.data.trim().slice(0, 40)}" in ` +
               `${element.tagName}.${element.className}`);
  }
  return { texts, low: [...new Set(low)].slice(0, 8) };
}"""


@pytest.mark.parametrize("theme", THEMES)
def test_text_reads_in_light_and_dark(opened, page, theme):
    found = opened(page, theme=theme).tab.evaluate(LOW)
    assert found["texts"] > 5 and found["low"] == []


@pytest.mark.parametrize("theme", THEMES)
def test_text_reads_beside_the_toc(opened, site, small_site, theme):
    for name, of in [(SMALL, small_site), *((other, site) for other in other_pages(site))]:
        found = opened(name, of, theme=theme).tab.evaluate(LOW)
        assert found["texts"] > 5 and found["low"] == [], name


def test_low_contrast_would_be_seen(browser):
    tab = browser.new_page()
    tab.set_content(
        "<body style='background:#fff'><p style='color:#888'>grey</p><p style='color:#666'>dark</p>"
        "<div style='background:#14181e'><p style='color:#444'>lost</p></div>"
        "<p style='color:#888;font-size:30px'>large</p><p style='opacity:.4'>faint</p></body>"
    )
    low = tab.evaluate(LOW)["low"]
    tab.close()
    assert [line.split('"')[1] for line in low] == ["grey", "lost", "faint"]


def test_the_theme_follows_the_system_and_the_switch(browser, site):
    context = browser.new_context(color_scheme="dark")
    tab = context.new_page()
    tab.goto(f"{site.address}/book/intro.html")
    theme = "document.documentElement.dataset.theme"
    assert tab.evaluate(theme) == "dark"
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(20, 24, 30)"  # the one that figures and widgets are made for
    switch = tab.locator("button.theme-switch-button:visible")
    for _ in range(3):
        switch.click()
        if tab.evaluate(theme) == "light":
            break
    assert tab.evaluate(theme) == "light"
    context.close()


# --- keyboard -------------------------------------------------------------------------------------


def test_the_keyboard_sees_where_it_is(visit, site, page):
    seen = visit(f"{site.address}/{page}.html")
    tab = seen.tab
    tab.keyboard.press("Tab")
    first = "e => [e.textContent.trim(), e.getBoundingClientRect().top >= 0]"
    tab.wait_for_timeout(300)  # the link slides in
    assert tab.evaluate_handle("document.activeElement").evaluate(first) == [
        "Skip to main content",
        True,
    ]
    marks = """() => { const s = getComputedStyle(document.activeElement);
      return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)
        || s.boxShadow !== 'none' || s.textDecorationThickness !== 'auto'; }"""
    for _ in range(15):
        where = tab.evaluate("document.activeElement.outerHTML.slice(0, 120)")
        assert tab.evaluate(marks), f"nothing shows that the keyboard is at {where}"
        tab.keyboard.press("Tab")
    tab.close()


def test_the_skip_link_skips(visit, site):
    tab = visit(f"{site.address}/book/intro.html").tab
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('#main-content, main') !== null")
    tab.close()


def test_every_control_has_a_name(opened, page):
    nameless = """() => [...document.querySelectorAll("a[href], button, input, select, summary")]
      .filter((e) => e.checkVisibility({ visibilityProperty: true }))
      .filter((e) => !(e.innerText?.trim() || e.getAttribute("aria-label") || e.title ||
        e.labels?.length || e.dataset.bsTitle || e.placeholder ||
        e.querySelector("img[alt]:not([alt='']), svg title") || e.getAttribute("aria-labelledby")))
      .map((e) => e.outerHTML.slice(0, 120))"""
    assert opened(page).tab.evaluate(nameless) == []


# --- for a screen reader ------------------------------------------------------------------------


def test_folds_and_copy_buttons_say_of_what(opened, page):
    """In the tree that a screen reader is given: each has a name, and no two of a page share it."""
    tab = opened(page).tab
    if tab.locator("div.highlight pre").count():
        tab.wait_for_selector("button.copybtn[aria-label]", state="attached")
    tree = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "DisclosureTriangle"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert named and all(name.strip() for _, name in named), named
    assert not any("Toggle hidden content" in name for _, name in named)
    copies = [name for role, name in named if name.startswith("Copy")]
    # what a closed fold holds is not in the tree, and has its names for when it is opened
    assert len(copies) == tab.locator("button.copybtn:visible").count()
    assert tab.locator("button.copybtn:not([aria-label])").count() == 0
    assert all(": " in name and name != "Copy" for name in copies)
