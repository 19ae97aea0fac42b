"""The MIG board widget: its rules are Python's, and it needs neither a kernel nor a mouse."""

import json
import random

import pytest

from aiinfra_labs.course.figures import contrast
from aiinfra_labs.gpu.sharing import mig
from aiinfra_labs.gpu.widgets.mig_board import MigBoard, tables
from widget_pages import result


def random_boards(count, seed=0):
    """(board id, instances as [name, start]), filled at random until nothing more is tried."""
    rng = random.Random(seed)
    for _ in range(count):
        gpu = rng.choice(list(mig.gpus().values()))
        board = mig.Board(gpu)
        for _ in range(rng.randrange(9)):
            profile = rng.choice(gpu.profiles)
            starts = board.starts(profile.name)
            if starts:
                board.create(profile.name, rng.choice(starts))
        yield gpu.id, [[i.profile.name, i.start] for i in board.instances.values()]


def test_the_tables_are_the_data_file_s():
    assert set(tables()) == set(mig.gpus())
    for id, gpu in mig.gpus().items():
        shipped = tables()[id]
        assert shipped["memory_slices"] == gpu.memory_slices
        assert [p["name"] for p in shipped["profiles"]] == [p.name for p in gpu.profiles]
        assert [p["starts"] for p in shipped["profiles"]] == [list(p.starts) for p in gpu.profiles]
        assert [p["memory"] for p in shipped["profiles"]] == [p.memory for p in gpu.profiles]


def test_javascript_places_as_python_does(shown):
    page = shown(MigBoard())
    cases = list(random_boards(150))
    got = page.evaluate(
        """cases => cases.map(([id, instances]) => {
          const gpu = state.tables[id];
          const used = module.taken(gpu, instances);
          return [
            module.placesLeft(gpu, used),
            gpu.profiles.map((p) => module.legalStarts(p, used)),
            gpu.profiles.map((p) => module.keepsMostOpen(gpu, p, used)),
          ];
        })""",
        cases,
    )
    expected = []
    for id, instances in cases:
        gpu = mig.gpus()[id]
        board = mig.Board(gpu, [mig.Instance(s, gpu.profile(n)) for n, s in instances])
        expected.append(
            [
                mig.places_left(gpu, board.taken),
                [board.starts(p.name) for p in gpu.profiles],
                [mig.keeps_most_open(gpu, p, board.taken) for p in gpu.profiles],
            ]
        )
    assert got == expected


def test_a_board_is_filled_and_emptied_with_the_keyboard(shown):
    page = shown(MigBoard())
    assert result(page) == "1g.10gb may begin at 0, 1, 2, 3, 4, 5, 6"
    page.get_by_role("radio", name="1g.10gb").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert result(page) == "3g.40gb may begin at 0, 4"
    page.get_by_role("button", name="place 3g.40gb at 4").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("state.instances") == [["3g.40gb", 4]]
    assert page.evaluate("document.activeElement.type") == "radio"  # its place is gone
    page.get_by_role("button", name="place it where most stays open").press("Space")
    assert result(page) == "no room for 3g.40gb: 0 slices free, it takes 4"
    assert "memory slices 8 of 8, compute slices 6 of 7" in page.locator(".detail").inner_text()
    page.get_by_role("button", name="destroy 3g.40gb on slices 4 to 7").press("Enter")
    assert page.evaluate("state.instances") == [["3g.40gb", 0]]
    page.get_by_role("button", name="destroy all").press("Enter")
    assert page.evaluate("state.instances") == []


def test_free_slices_without_a_place(shown):
    board = [("1g.5gb", 6), ("1g.5gb", 4), ("2g.10gb", 0)]
    page = shown(MigBoard("a100-40gb", board, "3g.20gb"))
    assert result(page) == (
        "✗ no place for 3g.20gb: 4 slices free (2, 3, 5, 7), it takes 4, "
        "but it may begin only at 0, 4"
    ).removeprefix("✗ ")
    assert page.locator(".place.blocked").count() == 2
    assert page.get_by_role("button", name="place it where most stays open").is_disabled()
    assert page.locator(".instance").count() == 3 and page.locator(".free").count() == 4


def test_another_board_begins_empty(shown):
    page = shown(MigBoard("h100-80gb", [("1g.10gb", 0)]))
    page.get_by_label("GPU").select_option("a30-24gb")
    assert result(page) == "1g.6gb may begin at 0, 1, 2, 3"
    assert page.evaluate("[state.instances, state.profile]") == [[], "1g.6gb"]
    assert page.locator(".free").count() == 4


def test_python_can_change_it_and_it_lets_go(shown):
    page = shown(MigBoard())
    page.evaluate("model.from_python('instances', [['7g.80gb', 0]])")
    assert "no room for 1g.10gb" in result(page)
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


WIDE = "[...document.querySelectorAll('#here *')].filter(e => {\
 const r = e.getBoundingClientRect(); return r.right > innerWidth + 0.5 || r.left < 0}).length"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, width):
    page = shown(MigBoard("h200-141gb", [("1g.18gb", s) for s in range(7)]), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE) == 0
    cut = "[...document.querySelectorAll('.instance')].filter(e => e.scrollWidth > e.clientWidth)"
    assert page.evaluate(f"{cut}.length") == 0


CONTRASTS = """() => {
  const rgba = (colour) => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const paper = rgba(getComputedStyle(document.querySelector('.aiinfra-widget')).backgroundColor);
  return [...document.querySelectorAll('.instance, .detail, .result, .number, .place, small')]
    .map((e) => {
      const style = getComputedStyle(e);
      const own = style.backgroundColor;
      const ground = own === 'rgba(0, 0, 0, 0)' ? paper : rgba(own);
      return [rgba(style.color), ground];
    });
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_reads_in_both_themes(shown, theme):
    full = [("4g.40gb", 0), ("2g.20gb", 4), ("1g.10gb", 6)]
    for widget in (MigBoard(instances=full), MigBoard(instances=[("7g.80gb", 0)])):
        for ink, ground in shown(widget, theme=theme).evaluate(CONTRASTS):
            hexed = ["#" + "".join(f"{c:02x}" for c in colour) for colour in (ink, ground)]
            assert contrast(*hexed) >= 4.5, hexed


def test_a_board_that_cannot_be_is_refused():
    with pytest.raises(mig.MigError, match="cannot begin at 3"):
        MigBoard("h100-80gb", [("3g.40gb", 3)])
    with pytest.raises(mig.MigError, match="no board 'v100'"):
        MigBoard("v100")
    assert "1g.6gb at 2:1" in repr(MigBoard("a30-24gb", [("1g.6gb", 2)]))


def test_the_state_is_json():
    state = MigBoard(title="a board").get_state()
    json.dumps(state)
    assert "export default" in state["_esm"] and ".aiinfra-widget" in state["_css"]
