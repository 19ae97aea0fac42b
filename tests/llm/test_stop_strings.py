"""Stop strings: however the text is cut, the same is sent, and nothing of a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiinfra_labs.llm.stop_strings import StopStrings

TEXTS = st.text("ab\n", max_size=20)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def run(pieces, stops):
    stop = StopStrings(stops)
    sent = [stop.feed(piece) for piece in pieces]
    return [*sent, stop.finish()], stop


@given(TEXTS, STOPS, st.lists(st.integers(0, 20)))
def test_all_that_is_sent_is_the_text_before_the_first_stop(text, stops, cuts):
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    sent, stop = run([text[a:b] for a, b in zip(ends, ends[1:], strict=False)], stops)
    first = min((text.find(s) for s in stops if s in text), default=len(text))
    assert "".join(sent) == text[:first]
    assert (stop.found != "") == any(s in text for s in stops)
    if stop.found:
        assert text.startswith(stop.found, first)


@given(TEXTS, STOPS)
def test_no_more_is_held_back_than_could_begin_a_stop(text, stops):
    stop = StopStrings(stops)
    sent = "".join(stop.feed(c) for c in text)
    if not stop.found:
        held = text[len(sent) :]
        assert held == "" or any(s.startswith(held[: len(s)]) for s in stops)


def test_an_empty_one_is_refused():
    with pytest.raises(ValueError, match="one of the stop strings is empty"):
        StopStrings(["\n", ""])


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_stop_string_is_found_across_two_pieces(cut):
    sent, stop = run(["xab\n\nb"[:cut], "xab\n\nb"[cut:]], ["b\n\n"])
    assert "".join(sent) == "xa" and stop.found == "b\n\n"


def test_a_whole_one_is_not_waited_with_for_a_longer_one():
    stop = StopStrings(["a", "ab"])
    assert stop.feed("xa") == "x" and stop.found == "a"
