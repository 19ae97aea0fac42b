"""What `show` draws in unit 4.2 is the learner's own run, right or wrong."""

import pytest

import planting
from aiinfra_labs.course import registry
from aiinfra_labs.course.checking import show

planted = planting.planted("cloud", "paged_kv_cache")


def drawn(id, answer):
    return repr(registry.find(id).shower(answer))


@pytest.mark.parametrize(
    ("id", "answer"), planted.RIGHT, ids=[f"{id} {a.__name__}" for id, a in planted.RIGHT]
)
def test_a_right_answer_is_drawn(id, answer):
    picture = registry.find(id).shower(answer)
    assert "<svg" in picture._repr_html_() and len(repr(picture)) > 60


def test_slots_that_are_not_the_sequences_show():
    right = drawn("4.2.a", planted.all_tokens_at_once)
    assert "depends on 10 slots; 10 hold one of the context's 10 tokens" in right
    whole_blocks = planted._attention(tokens=lambda context, size: -(-context // size) * size)
    assert "depends on 12 slots; 10 hold" in drawn("4.2.a", whole_blocks)


def test_a_pool_shows_its_copies():
    assert "1 was copied" in drawn("4.2.b", planted.ByCounts)
    eager = registry.find("4.2.b")
    assert "another one's token" in str(show(eager.id, planted.NeverCopied))


def test_names_that_forget_the_text_before_are_shared_too_often():
    assert "shares 4 names with the first, the third 0" in drawn("4.2.c", planted.by_sha)
    assert "the third 4." in drawn("4.2.c", planted.without_the_parent)


def test_the_order_of_eviction_is_the_learners():
    assert "a: 4, 3, 2, 1; b: 7, 6, 5" in drawn("4.2.d", planted.ByTime)
    assert "a: 1, 2, 3, 4; b: 5, 6, 7" in drawn("4.2.d", planted.HeadFirst)
