"""The paged KV timeline: it counts as Python does, shows a real run, and needs no kernel."""

import json
from dataclasses import asdict

import pytest

from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.widgets.kv_timeline import (
    KVTimeline,
    Recording,
    TimelineError,
    figures,
    record,
)
from aiinfra_labs.course.figures import contrast
from widget_pages import result


@pytest.fixture(scope="module")
def recording():
    """A run in which everything happens: sharing, a copy, a preemption, an eviction."""
    model = CausalLM(ModelConfig(50, 8, 8, 1, 2, 1, 4, 128))
    config = EngineConfig(num_blocks=12, block_size=4, max_step_tokens=32, attention="torch")
    engine = Engine(model, None, config)
    found = record(engine)
    ends = {}

    def check(plan):
        frame = found.frames[-1]
        live = engine.scheduler.running
        assert [row[2] for row in frame["rows"]] == [s.block_table for s in live]
        counts = figures(frame, 12, 4)
        assert counts.used == engine.blocks.used
        assert counts.cached == sum(
            engine.blocks.hashes[b] is not None for b in engine.blocks.free_blocks
        )
        ends[len(found.frames)] = counts

    engine.observers.append(check)
    common = list(range(9))
    engine.add_request([*common, 20], SamplingParams(max_tokens=9), "A")
    engine.add_request([*common, 21], SamplingParams(max_tokens=12), "B")
    engine.add_request([30, 31], SamplingParams(max_tokens=8, n=2, temperature=1.0), "C")
    engine.add_request([40], SamplingParams(max_tokens=24), "D")
    while engine.unfinished:
        engine.step()
    engine.add_request([*common, 22], SamplingParams(max_tokens=20), "E")
    while engine.unfinished:
        engine.step()
    assert len(ends) == len(found.frames)
    return found


def said(recording):
    return [event for frame in recording.frames for event in frame["events"]]


def test_a_run_is_told_as_it_was(recording):
    events = said(recording)
    assert events[:3] == ["A starts", "B starts, 8 tokens of it in the cache", "C1 starts"]
    assert "C2 forks: it shares all blocks so far" in events
    assert sum("is copied to" in event for event in events) == 1
    assert any("gives its blocks back and waits" in event for event in events)
    assert any(event.startswith("evicted: what was in block") for event in events)
    assert {f"{name} ends" for name in ("A", "B", "C1", "C2", "D", "E")} <= set(events)
    last = recording.frames[-1]
    assert last["rows"] == [] and figures(last, 12, 4).used == 0


def test_what_is_counted():
    frame = {"rows": [["a", 6, [3, 1]], ["b", 9, [3, 0, 2]]], "waiting": [], "cached": [5, 7]}
    found = asdict(figures(frame, 10, 4))
    assert found == {"used": 4, "shared": 1, "cached": 2, "free": 4, "saved": 1, "empty": 5}


def test_javascript_counts_as_python_does_at_every_step(shown, recording):
    page = shown(KVTimeline(recording))
    ask = "frames => frames.map((f) => module.figures(f, 12, 4))"
    # And what is never seen between two steps: a block that one sequence has filled further.
    rows = [["a", 9, [3, 1, 0]], ["b", 5, [3, 1]]]
    frames = [*recording.frames, {"rows": rows, "waiting": [], "cached": [7], "events": []}]
    got = page.evaluate(ask, frames)
    assert got == [asdict(figures(frame, 12, 4)) for frame in frames]
    assert len({json.dumps(counts) for counts in got}) > 10


def test_the_keyboard_moves_through_the_run_without_a_kernel(shown, recording):
    widget = KVTimeline(recording, title="A run")
    page = shown(widget)
    assert result(page).startswith(f"{widget.figures.used} used, {widget.figures.shared} shared")
    assert page.locator(".title").inner_text() == "A run"
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    widget.step = 1
    counts = widget.figures
    assert result(page).startswith(f"{counts.used} used, {counts.shared} shared")
    page.keyboard.press("End")
    assert f"{len(recording.frames)} of {len(recording.frames)}" in page.inner_text(".controls")
    assert result(page).startswith("0 used, 0 shared; ")
    assert "ends" in page.inner_text(".events")
    page.get_by_label("follow").select_option("B")
    slider.focus()
    page.keyboard.press("Home")
    page.evaluate("model.from_python('step', 1)")
    table = next(row[2] for row in recording.frames[1]["rows"] if row[0] == "B")
    assert page.locator(".block.followed").count() == len(table)
    assert f"blocks {' '.join(map(str, table))}" in page.inner_text(".rows")
    assert page.evaluate("saved") >= 3
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


def test_python_names_what_is_shown(recording):
    widget = KVTimeline(recording, step=10_000)
    assert widget.step == len(recording.frames) - 1
    assert repr(widget).startswith(
        f"KVTimeline(step {widget.step + 1} of {widget.step + 1}: 0 of 12"
    )


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, recording, width):
    page = shown(KVTimeline(recording, step=5), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".pool svg g").count() == 12


COLOURS = """() => {
  const rgba = (colour) => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return '#' + [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((c) => c.toString(16).padStart(2, '0')).join('');
  };
  const of = (selector, property) =>
    [...document.querySelectorAll(selector)].map((e) => rgba(getComputedStyle(e)[property]));
  return {
    paper: of('.aiinfra-widget', 'backgroundColor')[0],
    text: [...of('.result, .caption, .key, .events li, .rows li', 'color'),
           ...of('svg text:not(.on)', 'fill')],
    fills: [...of('.chip', 'backgroundColor')],
    ink: of('.chip', 'color'),
    frames: of('.pool .block', 'stroke'),
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_reads_in_both_themes(shown, recording, theme):
    colours = shown(KVTimeline(recording, step=5), theme=theme).evaluate(COLOURS)
    assert colours["paper"] == {"light": "#ffffff", "dark": "#14181e"}[theme]
    assert min(contrast(text, colours["paper"]) for text in colours["text"]) >= 4.5
    assert min(contrast(frame, colours["paper"]) for frame in colours["frames"]) >= 3
    pairs = zip(colours["ink"], colours["fills"], strict=True)
    assert min(contrast(ink, fill) for ink, fill in pairs) >= 4.5


def test_a_recording_needs_steps_and_not_too_many():
    with pytest.raises(TimelineError, match="without a step"):
        KVTimeline(Recording(4, 16))
    frame = {"rows": [["a", 1, [0] * 1000]], "waiting": [], "cached": [], "events": []}
    with pytest.raises(TimelineError, match="300,000 entries"):
        KVTimeline(Recording(4, 16, [frame] * 300))
