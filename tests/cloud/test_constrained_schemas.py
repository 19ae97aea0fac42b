"""References, alternatives, lengths and bounds: what is drawn fits, what fits gets through."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_constrained import TOKENIZER, VOCABULARY, accepts, fits, loads, read, walk

from aiinfra_labs.cloud.serving.constrained import JsonConstraint
from aiinfra_labs.cloud.serving.errors import RequestError

FEW = settings(max_examples=60, deadline=None)


def made(schema, **options):
    return JsonConstraint(VOCABULARY, schema, **options)


# --- lengths --------------------------------------------------------------------------------------

CHARACTERS = st.text('ab"\\\n é缓🙂', max_size=9)


@FEW
@given(CHARACTERS, st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_lengths_are_of_characters(text, least, more, ascii):
    """However many bytes a character has, and however it is spelled."""
    schema = {"type": "string", "minLength": least, "maxLength": least + more}
    spelled = json.dumps(text, ensure_ascii=ascii)
    assert accepts(made(schema), spelled) == fits(schema, text)


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_text_has_its_length(seed):
    schema = {"minLength": seed % 4, "maxLength": seed % 4 + 5 * (seed % 3)}
    assert fits(schema | {"type": "string"}, loads(walk(made(schema), seed)))


def test_a_long_text_costs_no_more_masks():
    """Beyond the longest token it does not matter how many characters may still come."""
    constraint = made({"type": "string", "maxLength": 1000})
    assert read(constraint, TOKENIZER.encode('"' + "cache " * 60, special=False)) is not None
    assert constraint.cached_masks()[1] < 30


# --- bounds ---------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-1200, 1200),
    st.integers(-(10**17), 10**17),
    st.decimals(-20, 20, places=3).map(float),
    st.floats(-1e15, 1e15),
)
BOUNDS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional=dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), NUMBERS),
)


def spelled_plainly(value):
    return not any(c in repr(value) for c in "en") and len(repr(value)) < 40


@settings(max_examples=300, deadline=None)
@given(BOUNDS, st.integers(0, 2**32))
def test_a_drawn_number_lies_within_its_bounds(schema, seed):
    try:
        constraint = made(schema)
    except RequestError as error:
        assert "no number between" in str(error)
        return
    assert fits(schema, loads(walk(constraint, seed, steps=4)))


@settings(max_examples=300, deadline=None)
@given(BOUNDS, st.data())
def test_a_number_that_fits_gets_through(schema, data):
    near = [v + d for v in schema.values() if not isinstance(v, str) for d in (-1, 0, 1)]
    value = data.draw(NUMBERS | (st.sampled_from(near) if near else NUMBERS))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not spelled_plainly(value):
        return
    try:
        accepted = accepts(made(schema), json.dumps(value))
    except RequestError:
        return  # no number at all
    if accepted:
        assert fits(schema, value)
    elif fits(schema, value):  # left out only where a float's rounding could cross the bound
        others = [v for k, v in schema.items() if k != "type"]
        gap = min(abs(value - v) for v in others)
        assert schema["type"] == "number"
        assert gap <= 2 * math.ulp(max(abs(value), *(abs(v) for v in others)))


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"minimum": 0, "maximum": 10}, ["0", "10", "9.99", "10.0", "-0"], ["-1", "10.01", "11"]),
        ({"exclusiveMinimum": 0}, ["0.001", "1e0"[:1]], ["0", "0.0", "-1"]),
        ({"exclusiveMaximum": 1, "minimum": 0.1}, ["0.1", "0.99"], ["1", "1.0", "0.09", "0"]),
        ({"type": "integer", "minimum": 1.5, "maximum": 3.5}, ["2", "3"], ["1", "4", "2.0"]),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3}, ["2"], ["1", "3"]),
        ({"type": "integer", "minimum": 95, "maximum": 105}, ["95", "100"], ["9", "10", "1000"]),
        ({"type": "integer", "maximum": -95, "minimum": -105}, ["-100"], ["-9", "100", "-106"]),
        ({"maximum": -0.5}, ["-0.5", "-7"], ["-0.4", "0", "-0"]),
        ({"minimum": 3}, ["3", "1234567"], ["2", "03"]),
    ],
)
def test_bounds(schema, right, wrong):
    constraint = made(schema)
    assert all(accepts(constraint, text) for text in right)
    assert not any(accepts(constraint, text) for text in wrong)


def test_what_rounds_to_an_excluded_bound_is_left_out():
    constraint = made({"exclusiveMaximum": 1, "minimum": 0})
    assert accepts(constraint, "0.999") and not accepts(constraint, "0." + "9" * 22)


# --- references -----------------------------------------------------------------------------------

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
LISTED = {  # a list whose end is null, as pydantic writes it
    "definitions": {"a/b~c": {"type": "string", "maxLength": 3}},
    "type": "object",
    "properties": {
        "head": {"allOf": [{"$ref": "#/definitions/a~1b~0c"}]},
        "tail": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["head", "tail"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [TREE, LISTED])
@pytest.mark.parametrize("seed", range(8))
def test_what_is_drawn_of_a_schema_that_contains_itself(schema, seed):
    assert fits(schema, loads(walk(made(schema, nesting=6), seed, steps=30)))


def test_references():
    tree = made(TREE)
    assert accepts(tree, '{"value": 1, "children": [{"value": 2, "children": []}, {"value": 3}]}')
    assert not accepts(tree, '{"value": 1, "children": [{"children": []}]}')
    assert not accepts(tree, '{"value": 1, "children": [2]}')
    assert accepts(made(LISTED), '{"head": "a", "tail": {"head": "abc", "tail": null}}')
    assert not accepts(made(LISTED), '{"head": "abcd", "tail": null}')


@pytest.mark.parametrize("nesting", [3, 4, 5])
def test_no_dead_end_where_room_ends(nesting):
    """Behind each beginning that is allowed, an end can be reached within the levels."""
    needy = {
        "properties": {"more": {"$ref": "#"}, "deep": {"items": {"items": {}}, "minItems": 1}},
        "additionalProperties": False,
    }
    for schema in (TREE, LISTED, needy):
        for seed in range(6):
            assert fits(schema, loads(walk(made(schema, nesting=nesting), seed, steps=12)))


# --- alternatives ---------------------------------------------------------------------------------


def tagged(name, **more):
    return {
        "type": "object",
        "properties": {"kind": {"const": name}, **more},
        "required": ["kind", *more],
        "additionalProperties": False,
    }


SHAPES = {
    "oneOf": [
        tagged("circle", radius={"type": "number", "exclusiveMinimum": 0}),
        tagged("box", sides={"type": "array", "items": {"type": "integer"}, "minItems": 2}),
        {"type": "null"},
        {"enum": ["none", 0]},
    ]
}


@pytest.mark.parametrize("seed", range(12))
def test_one_of_is_drawn(seed):
    assert fits(SHAPES, loads(walk(made(SHAPES), seed, steps=15)))


def test_one_of():
    shapes = made(SHAPES)
    for text in ('{"kind": "circle", "radius": 1.5}', "null", '"none"', "0"):
        assert accepts(shapes, text)
    for text in ('{"kind": "circle", "sides": [1, 2]}', '{"kind": "box"}', "1", '"circle"'):
        assert not accepts(shapes, text)


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "integer"}, {"type": "number"}],
        [{"enum": [1, "a"]}, {"enum": [1.0]}],
        [{"type": "array", "items": {"type": "null"}}, {"type": "array"}],
        [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}],
        [{"type": "string"}, {}],
        [{"$ref": "#/$defs/x"}, {"minLength": 2}],
    ],
)
def test_alternatives_that_one_value_may_fit_both(parts):
    """Here an answer that fits two would be drawn, and oneOf would refuse it."""
    with pytest.raises(RequestError, match="alternatives 0 and 1, which one value may fit both"):
        made({"oneOf": parts, "$defs": {"x": {"type": "string"}}})
    made({"anyOf": parts, "$defs": {"x": {"type": "string"}}})


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"$ref": "#/$defs/none"}, "there is no '\\$defs'"),
        ({"$ref": "https://example.org/x"}, "within the same schema"),
        ({"$ref": 1}, "\\$ref is 1"),
        ({"$ref": "#"}, "goes round to # and says nothing"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "goes round to #"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}, "type": "null"}, "has '\\$ref' and 'type'"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "fitted by no value"),
        ({"items": {"$ref": "#"}, "minItems": 1}, "fitted by no value"),
        ({"allOf": [{"type": "null"}, {}]}, "2 schemas, all of which must hold"),
        ({"minLength": 3, "maxLength": 2}, "3 characters at least and 2 at most"),
        ({"maxLength": -1}, "maxLength is -1"),
        ({"minimum": 2, "maximum": 1}, "no number between"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "no number between"),
        ({"exclusiveMinimum": 1, "maximum": 1}, "no number between"),
        ({"minimum": "1"}, "minimum is '1'"),
        ({"maximum": True}, "maximum is True"),
        ({"maximum": 1e60}, r"maximum is 1e\+60"),
        ({"minimum": float("nan")}, "minimum is nan"),
    ],
)
def test_a_schema_that_is_refused(schema, what):
    with pytest.raises(RequestError, match=what) as error:
        made(schema, nesting=8)
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)
