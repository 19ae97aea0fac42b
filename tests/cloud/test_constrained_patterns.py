"""Patterns, formats, multiples and tuples: what is drawn fits, and what fits gets through."""

import json
import random
import re
from collections import deque

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_constrained import SHORT, VOCABULARY, accepts, fits, loads, walk
from test_constrained_schemas import made

from aiinfra_labs.cloud.serving.constrained import formats
from aiinfra_labs.cloud.serving.constrained.matching import Machine
from aiinfra_labs.cloud.serving.constrained.regular import NoPattern, automaton_of
from aiinfra_labs.cloud.serving.errors import RequestError

PATTERNS = {  # what users send: (pattern, a text that fits, one that does not)
    "a code": ("^[A-Z]{3}-[0-9]{4}$", "ABC-1234", "ABC-12345"),
    "no anchors": ("ab+c", "xxabbbcyy", "xxacyy"),
    "at the beginning": ("^https?://", "http://a", " http://a"),
    "at the end": (r"\.(png|jpe?g)$", "a.jpeg", "a.jpeg "),
    "either": ("^(yes|no|maybe)$", "maybe", "may"),
    "one end each": ("^a|b$", "ax", "xa"),
    "a version": (r"^v?\d+(\.\d+){2}(-[\w.]+)?$", "v1.20.3-rc.1", "1.20"),
    "not in it": (r'^[^"\\\s]+$', "缓存🙂é", 'a"b'),
    "an escape": (r'^["\\\n\/]*$', '"\\\n/', "\t"),
    "lazy": ("^<.+?>$", "<a>", "<>"),
    "Chinese": (r"^[\u4e00-\u9fff]{2,4}$", "缓存", "缓"),
    "words": (r"^\w+( \w+)*$", "two words", "two  words"),
    "no space": (r"^\S*$", "注意力", "a b"),
    "no digit": (r"^\D*$", "é缓", "a1"),
    "a named group": ("^(?<year>[12][0-9]{3})$", "2026", "3026"),
    "nothing": ("^$", "", "a"),
    "anything": ("", "é", None),
    "astral": ("^[😀-😏]$", "😃", "😐"),
    "a hyphen": ("^[a-c_-]+$", "a-_c", "d"),
    "many": ("^(a{2,3}b){2}$", "aabaaab", "aab"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_what_a_pattern_lets_through(name):
    pattern, right, wrong = PATTERNS[name]
    constraint = made({"type": "string", "pattern": pattern})
    assert accepts(constraint, json.dumps(right, ensure_ascii=False))
    assert wrong is None or not accepts(constraint, json.dumps(wrong, ensure_ascii=False))


# Where a text can be ended from nearly everywhere, so that a walk at random comes to an end.
ENDED = [n for n in PATTERNS if n not in ("no anchors", "at the end", "one end each", "lazy")]


@pytest.mark.parametrize("name", ENDED)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_drawn_has_the_pattern(name, seed):
    schema = {"type": "string", "pattern": PATTERNS[name][0]}
    python = {"type": "string", "pattern": schema["pattern"].replace("(?<", "(?P<")}
    assert fits(python, loads(walk(made(schema), seed, steps=12)))


PARTS = st.recursive(
    st.sampled_from(
        ["a", "b", "é", "[ab]", "[^a]", ".", r"\d", r"\w", r"\s", "缓", r"\W", r"[^\w]"]
    ),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda x: f"(?:{'|'.join(x)})")
        | inner.map(lambda x: f"(?:{x})*")
        | inner.map(lambda x: f"({x})?")
        | inner.map(lambda x: f"(?:{x})" + "{1,2}")
        | inner.map(lambda x: f"(?:{x})+")
    ),
    max_leaves=6,
)
WHOLE = st.tuples(st.sampled_from(["", "^"]), PARTS, st.sampled_from(["", "$"])).map("".join)


@settings(max_examples=300, deadline=None)
@given(WHOLE, st.text('abé缓1_ \n"٣', max_size=6), st.integers(0, 3), st.none() | st.integers(3, 5))
def test_a_machine_is_of_one_mind_with_python(pattern, text, least, most):
    """Only where the two languages differ may it leave out what Python lets through."""
    try:
        machine = Machine([automaton_of(pattern)], least, most)
    except NoPattern as error:
        assert "no string fits" in str(error)
        return
    state = 0
    for character in text:
        state = None if state is None else machine.target(state, ord(character))
    found = state is not None and machine.ends[state]
    length = least <= len(text) and (most is None or len(text) <= most)
    expected = length and re.search(pattern, text) is not None
    unlike = any(c in text for c in "é缓٣\n")  # a letter or digit in Python alone; . and $
    assert found == expected or (unlike and not found)


def ended(constraint, state, text):
    """The text, and the least that the masks let through behind it until it is whole."""
    seen, ways = {state}, deque([(state, text)])
    while ways:
        state, text = ways.popleft()
        if constraint.complete(state):
            return text
        for id in SHORT[constraint.mask(state)[SHORT]].tolist():
            after = constraint.advance(state, id)
            if after not in seen:
                seen.add(after)
                ways.append((after, text + VOCABULARY.tokens[id]))
    raise AssertionError(f"no end behind {text!r}")


def begun(constraint, seed, steps):
    """A state and its text, after some tokens that were drawn from the masks."""
    chance = random.Random(seed)
    state, text = constraint.start, b""
    for _ in range(steps):
        allowed = constraint.mask(state).nonzero()[:, 0].tolist()
        if not allowed:
            break
        id = chance.choice(allowed)
        state, text = constraint.advance(state, id), text + VOCABULARY.tokens[id]
    return state, text


@settings(max_examples=40, deadline=None)
@given(WHOLE, st.integers(0, 3), st.none() | st.integers(3, 5), st.integers(0, 1000))
def test_whatever_is_begun_can_be_ended(pattern, least, most, seed):
    """Searched for, not drawn: of a text that must end in `a`, chance seldom finds the end."""
    schema = {"type": "string", "pattern": pattern, "minLength": least}
    schema |= {} if most is None else {"maxLength": most}
    try:
        constraint = made(schema)
    except RequestError as error:
        assert "no string fits" in str(error)
        return
    assert fits(schema, loads(ended(constraint, *begun(constraint, seed, steps=6))))


def test_what_a_pattern_takes_is_counted():
    """By which the engine forgets the constraints of schemas that nobody sends any more."""
    small, large = (made({"type": "string", "pattern": f"^.{{{n}}}$"}).nbytes for n in (2, 900))
    assert large > small + 8 * 800


def test_pattern_length_and_format_hold_together():
    schema = {"type": "string", "pattern": "^[ab]*$", "minLength": 2, "maxLength": 4}
    constraint = made(schema)
    for text in ("ab", "abab"):
        assert accepts(constraint, json.dumps(text))
    for text in ("a", "ababa", "abc"):
        assert not accepts(constraint, json.dumps(text))
    leap = made({"type": "string", "format": "date", "pattern": "-02-29$"})
    assert accepts(leap, '"2024-02-29"') and not accepts(leap, '"2023-02-29"')
    assert not accepts(leap, '"2024-02-28"')


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"pattern": "(?=a)b"}, "looks ahead"),
        ({"pattern": r"(a)\1"}, "which is no single character"),
        ({"pattern": r"\bword\b"}, "no single character"),
        ({"pattern": "(?i)abc"}, "sets a flag"),
        ({"pattern": r"\p{L}"}, "not in all languages"),
        ({"pattern": "a{,3}"}, "a { that begins no"),
        ({"pattern": "a{3,2}"}, "wrong way round"),
        ({"pattern": "a{5000}"}, "repeats too often"),
        ({"pattern": "(a{900}){900}"}, "more than 4,000 states"),
        ({"pattern": ".*a.{14}"}, "more than 4,000 states"),
        ({"pattern": "*a"}, "nothing to repeat"),
        ({"pattern": "a**"}, "repeats what is repeated"),
        ({"pattern": "(a"}, "not closed"),
        ({"pattern": "a)"}, "closes nothing"),
        ({"pattern": "[a"}, "not closed"),
        ({"pattern": "[]"}, "languages read differently"),
        ({"pattern": "[z-a]"}, "two ends in order"),
        ({"pattern": r"[\d-z]"}, "two ends in order"),
        ({"pattern": "a^"}, "no string fits"),
        ({"pattern": "^a{5}$", "maxLength": 4}, "no string fits"),
        ({"pattern": "(" * 5000 + ")" * 5000}, "nests too deep"),
        ({"pattern": 5}, "pattern is 5"),
        ({"format": "regex"}, "format is 'regex'"),
        ({"format": ["date"]}, "format is"),
        ({"type": "integer", "format": "date"}, "format is 'date'"),
        ({"format": "date", "pattern": "^x"}, "no string fits"),
        ({"multipleOf": 0.1}, "multipleOf is 0.1"),
        ({"multipleOf": 0}, "multipleOf is 0"),
        ({"multipleOf": "2"}, "multipleOf is '2'"),
        ({"multipleOf": 7, "minimum": 1, "maximum": 6}, "no multiple of 7"),
        ({"uniqueItems": True}, "keyword 'uniqueItems'"),
        ({"prefixItems": []}, "prefixItems"),
        ({"prefixItems": [{}], "items": False, "minItems": 2}, "2 items at least, and names 1"),
        ({"not": {"type": "null"}}, "keyword 'not'"),
        ({"patternProperties": {"^x": {}}}, "keyword 'patternProperties'"),
    ],
)
def test_what_is_refused(schema, what):
    with pytest.raises(RequestError, match=what) as error:
        made(schema)
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)


@pytest.mark.parametrize("name", formats.OF_TEXT)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_drawn_has_the_format(name, seed):
    text = loads(walk(made({"type": "string", "format": name}), seed, steps=30))
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    assert checker.conforms(text, name), text


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "date",
            ["2024-02-29", "2000-02-29", "1999-12-31"],
            ["2023-02-29", "1900-02-29", "0000-01-01"],
        ),
        ("date-time", ["2026-11-30T18:06:00Z", "2026-11-30T18:06:00.25+01:00"], ["2026-11-30"]),
        ("time", ["23:59:59Z"], ["24:00:00Z", "23:59:59"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000"]),
        ("ipv4", ["0.10.200.255"], ["1.2.3", "1.2.3.256", "01.2.3.4"]),
        ("ipv6", ["2001:0db8:0:0:0:ff00:42:8329"], ["2001:0db8", "g:0:0:0:0:0:0:0"]),
        ("email", ["a.b+c@example.org"], ["a.example.org", "a@b", ".a@example.org"]),
        ("hostname", ["localhost", "a-b.example.org"], ["-a", "a_b", "a-"]),
        (
            "uri",
            ["https://example.org/a?b=c#d", "http://localhost:8000"],
            ["example.org", "http://"],
        ),
        ("duration", ["P3D", "PT1H30M", "P1Y2M3DT4H"], ["P", "PT", "3D"]),
    ],
)
def test_formats(name, right, wrong):
    constraint = made({"type": "string", "format": name})
    assert all(accepts(constraint, json.dumps(text)) for text in right)
    assert not any(accepts(constraint, json.dumps(text)) for text in wrong)


def test_a_format_of_numbers():
    small = made({"type": "integer", "format": "int32"})
    assert accepts(small, str(2**31 - 1)) and not accepts(small, str(2**31))
    assert accepts(made({"type": "number", "format": "double"}), "1.5e3")
    either = made({"type": ["string", "integer"], "format": "date"})
    assert accepts(either, "7") and accepts(either, '"2026-11-30"') and not accepts(either, '"x"')


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 1200),
    st.none() | st.integers(-3000, 3000),
    st.none() | st.integers(-3000, 3000),
    st.integers(-4000, 4000),
    st.integers(0, 100),
    st.sampled_from(["integer", "number"]),
)
def test_multiples(multiple, least, most, value, seed, kind):
    schema = {"type": kind, "multipleOf": multiple}
    schema |= {} if least is None else {"minimum": least}
    schema |= {} if most is None else {"maximum": most}
    try:
        constraint = made(schema)
    except RequestError as error:
        assert "no multiple" in str(error) or "no number between" in str(error)
        multiples = range(-4800 // multiple * multiple, 4800, multiple)
        assert not any(fits(schema, v) for v in multiples if -3001 < v < 3001)
        return
    assert fits(schema, loads(walk(constraint, seed, steps=3)))
    for near in (value, multiple * (value // multiple)):
        assert accepts(constraint, str(near)) == fits(schema, near)


POINT = {  # as pydantic writes tuple[float, float, str]
    "type": "array",
    "prefixItems": [{"type": "number"}, {"type": "number"}, {"type": "string", "maxLength": 4}],
    "minItems": 3,
    "maxItems": 3,
}


@pytest.mark.parametrize("seed", range(6))
def test_a_tuple_is_drawn(seed):
    rest = {"prefixItems": [{"type": "null"}, {"$ref": "#"}], "items": {"type": "boolean"}}
    for schema in (POINT, rest, POINT | {"items": False}):
        assert fits(schema, loads(walk(made(schema, nesting=5), seed, steps=12)))


def test_tuples():
    point = made(POINT)
    assert accepts(point, '[1, 2.5, "a"]')
    for text in ('[1, 2.5, "abcde"]', "[1, 2.5]", '[1, 2, "a", 3]', '["a", 1, 2]'):
        assert not accepts(point, text)
    open_ended = made({"prefixItems": [{"type": "null"}], "items": {"type": "integer"}})
    for text in ("[]", "[null]", "[null, 1, 2]"):
        assert accepts(open_ended, text)
    for text in ("[1]", "[null, null]"):
        assert not accepts(open_ended, text)
    closed = made({"prefixItems": [{"type": "null"}], "items": False})
    assert accepts(closed, "[null]") and not accepts(closed, "[null, 1]")


def test_what_says_nothing_is_passed_over():
    made({"type": "array", "uniqueItems": False})
    made({"oneOf": [{"type": "null"}, {"type": "string"}], "discriminator": {"propertyName": "x"}})
