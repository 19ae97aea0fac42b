"""The batch timeline: it counts as Python does, shows real runs, and needs no kernel."""

from dataclasses import asdict

import pytest

from aiinfra_labs.cloud.serving.engine import EngineConfig
from aiinfra_labs.cloud.serving.replay import engine_without_model, replay
from aiinfra_labs.cloud.serving.scheduler import StaticScheduler
from aiinfra_labs.cloud.serving.workloads import RequestShape
from aiinfra_labs.cloud.widgets.batch_timeline import (
    BatchTimeline,
    BatchTimelineError,
    figures,
    totals,
)
from aiinfra_labs.course.figures import contrast
from widget_pages import result


@pytest.fixture(scope="module")
def timelines():
    """Two policies, and a pool so small that somebody is preempted."""
    shapes = [(0, 20, 12), (0, 6, 20), (1, 9, 4), (2, 5, 9), (4, 30, 3)]
    requests = [
        RequestShape(at, [0] * prompt, new, i) for i, (at, prompt, new) in enumerate(shapes)
    ]
    usual = {"max_step_tokens": 16, "max_sequences": 3, "prefix_caching": False}
    rules = {
        "static": EngineConfig(scheduler=StaticScheduler, **usual),
        "chunked": EngineConfig(**usual),
        "small pool": EngineConfig(num_blocks=12, block_size=4, **usual),
    }
    return {
        name: replay(engine_without_model(rule, 128), requests, lambda work: 1.0)
        for name, rule in rules.items()
    }


def test_what_is_stored_is_what_the_engine_did(timelines):
    widget = BatchTimeline(timelines)
    for name, timeline in timelines.items():
        run = widget.runs[name]
        found = totals(run)
        assert found.steps == len(timeline.steps) and found.tokens == timeline.computed
        assert (found.again, found.preempted) == (timeline.again, timeline.preemptions)
        assert found.slots_in_use == timeline.slots_in_use
        for i, step in enumerate(timeline.steps):
            counts = figures(run, i)
            assert counts.tokens == step.work.tokens <= run["budget"]
            assert counts.prefill + counts.decode + counts.again + counts.idle == 3
    assert totals(widget.runs["small pool"]).preempted > 0
    assert totals(widget.runs["static"]).steps > totals(widget.runs["chunked"]).steps
    assert f"static {len(timelines['static'].steps)} steps" in repr(widget)
    widget.step = len(timelines["static"].steps) - 1
    assert widget.figures("chunked") is None and widget.figures("static").tokens == 1


def test_javascript_counts_as_python_does(shown, timelines):
    widget = BatchTimeline(timelines)
    page = shown(widget)
    for name, run in widget.runs.items():
        steps = range(len(run["steps"]))
        got = page.evaluate(
            "name => state.runs[name].steps.map((_, i) => module.figures(state.runs[name], i))",
            name,
        )
        assert got == [asdict(figures(run, i)) for i in steps]
        assert page.evaluate("n => module.totals(state.runs[n])", name) == pytest.approx(
            asdict(totals(run))
        )


def test_the_first_policy_stands_at_the_top_whatever_the_alphabet_says(shown, timelines):
    """A notebook is stored with its keys sorted."""
    names = ["static", "chunked", "small pool"]
    page = shown(BatchTimeline({name: timelines[name] for name in names}))
    page.evaluate("state.runs = Object.fromEntries(Object.entries(state.runs).sort())")
    page.evaluate("model.from_python('runs', state.runs)")
    said = [p.inner_text().split(":")[0] for p in page.locator(".whole").all()]
    assert said == names
    heads = page.locator(".rows thead th").all_inner_texts()
    assert heads == ["request", *names]


def cells(page, request):
    """What a request gets in the step that is looked at, by policy."""
    row = page.locator(f".rows tbody tr:has(th:text-is('{request}'))")
    return [cell.inner_text() for cell in row.locator("td").all()]


def test_all_runs_stand_below_each_other_and_a_step_is_chosen_with_the_keyboard(shown, timelines):
    page = shown(BatchTimeline(timelines, title="Five requests"))
    assert page.locator(".drawn svg").count() == 3
    tops = [svg.bounding_box()["y"] for svg in page.locator(".drawn svg").all()]
    assert tops == sorted(set(tops))
    assert result(page).startswith(
        "step 1: static 16 tokens, 1 waiting, 2 slots idle; chunked 16 tokens"
    )
    assert cells(page, "0") == ["16 of prompt"] * 3
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.step") == 1 and result(page).startswith("step 2:")
    run = page.evaluate("state.runs['small pool']")
    at = next(i for i, step in enumerate(run["steps"]) if step["preempted"])
    page.evaluate("at => model.from_python('step', at)", at)
    (who,) = run["steps"][at]["preempted"]
    assert cells(page, who)[-1] == "preempted"
    assert "1 preempted" in result(page).split("small pool")[1]
    assert "again after" in page.locator(".whole").last.inner_text()


def test_each_mark_is_drawn_once(shown, timelines):
    widget = BatchTimeline(timelines)
    page = shown(widget)
    for place, (name, run) in enumerate(widget.runs.items()):
        drawn = page.locator(".drawn svg").nth(place)
        rows = [row for step in run["steps"] for row in step["served"]]
        for kind in ("prefill", "decode", "again"):
            expected = sum(row[1] == kind for row in rows)
            assert drawn.locator(f"g.{kind}").count() == expected
            assert expected or (kind, name) in {("again", "static"), ("again", "chunked")}
        for kind in ("waiting", "preempted"):
            expected = sum(len(step[kind]) for step in run["steps"])
            assert drawn.locator(f"g.{kind}").count() == expected
        label = drawn.get_attribute("aria-label")
        assert name in label and f"{len(run['steps'])} steps" in label


def test_a_run_that_has_ended_says_so_and_has_no_mark(shown, timelines):
    last = len(timelines["static"].steps) - 1
    page = shown(BatchTimeline(timelines, step=last))
    assert "chunked has ended" in result(page)
    assert page.locator(".drawn .now").count() == 1
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


WIDE = "[...document.querySelectorAll('#here *')].filter(e => {\
 const r = e.getBoundingClientRect(); return r.right > innerWidth + 0.5 || r.left < 0}).length"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, timelines, width):
    page = shown(BatchTimeline(timelines, step=9), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE) == 0


CONTRASTS = """() => {
  const rgba = (colour) => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const paper = rgba(getComputedStyle(document.querySelector('.aiinfra-widget')).backgroundColor);
  const of = (selector, property) => [...document.querySelectorAll(selector)].map((e) => [
    rgba(getComputedStyle(e)[property]), paper]);
  return {
    text: [...of('.result, .whole, .rows th, .rows td, .key, .caption', 'color'),
           ...of('.drawn text', 'fill')],
    shapes: [...of('.drawn .prefill rect, .drawn .decode rect, .drawn circle', 'fill'),
             ...of('.drawn .again rect, .drawn .preempted path', 'stroke')],
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_reads_in_both_themes(shown, timelines, theme):
    page = shown(BatchTimeline(timelines), theme=theme)
    found = page.evaluate(CONTRASTS)
    for kind, least in (("text", 4.5), ("shapes", 3.0)):
        assert found[kind]
        for pair in found[kind]:
            hexed = ["#" + "".join(f"{c:02x}" for c in colour) for colour in pair]
            assert contrast(*hexed) >= least, (kind, hexed)


def test_runs_that_cannot_be_shown_are_refused(timelines):
    with pytest.raises(BatchTimelineError, match="without a step"):
        BatchTimeline({})
    rule = EngineConfig(prefix_caching=False)
    other = replay(
        engine_without_model(rule, 512), [RequestShape(0, [0], 200, 0)], lambda work: 1.0
    )
    with pytest.raises(BatchTimelineError, match="200 steps"):
        BatchTimeline({"long": other})
    short = replay(engine_without_model(rule, 512), [RequestShape(0, [0], 2, 0)], lambda work: 1.0)
    with pytest.raises(BatchTimelineError, match="other requests"):
        BatchTimeline({"one": timelines["static"], "other": short})
