"""A widget on a page of its own, as the site shows it: from its stored state, without a kernel.

`tests/conftest.py` makes the fixture `shown` known to every test. In the page, `state`, `module`
and `model` are the widget's; `model.from_python(name, value)` changes a trait as Python would,
`model.heard()` counts who listens, `saved` how often the widget has saved, and `stop()` takes it
away again.
"""

import base64
import json

import pytest

PAGE = """<!doctype html><html data-theme="{theme}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><style>{css}</style>
<body style="margin:12px;background:{ground}"><div id="here"></div></body></html>"""

# What a static page gives a widget: its stored state, and nobody who answers.
START = """async ([source, state]) => {
  const code = new TextDecoder().decode(Uint8Array.from(atob(source), (c) => c.charCodeAt(0)));
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const module = await import(url);
  const heard = {};
  const model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; },
    save_changes: () => { window.saved += 1; },
    on: (event, f) => { (heard[event] ??= []).push(f); },
    off: (event, f) => { heard[event] = heard[event].filter((g) => g !== f); },
    from_python: (name, value) => {
      state[name] = value;
      for (const f of heard[`change:${name}`] ?? []) f();
    },
    heard: () => Object.values(heard).flat().length,
  };
  Object.assign(window, { state, module, model, saved: 0 });
  window.stop = module.default.render({ model, el: document.getElementById("here") });
}"""
GROUND = {"light": "#ffffff", "dark": "#14181e"}


@pytest.fixture
def shown(chromium):
    """`shown(widget)` renders it from its stored state, without a kernel, and gives the page.

    An error in the page's JavaScript fails the test in its end.
    """
    pages = []

    def show(widget, width=1000, theme="light"):
        state = json.loads(json.dumps(widget.get_state()))
        page = chromium.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.set_content(PAGE.format(theme=theme, css=state["_css"], ground=GROUND[theme]))
        page.evaluate(START, [base64.b64encode(state["_esm"].encode()).decode(), state])
        return page

    yield show
    for page in pages:
        assert page.errors == []
        page.close()


def result(page):
    """What the widget tells a screen reader."""
    return page.locator("[role=status]").inner_text()
