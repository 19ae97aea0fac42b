"""What the mask lets through is JSON and fits the schema; and all JSON that fits gets through.

The judges are Python's `json` and the package `jsonschema`.
"""

import itertools
import json
import random

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.cloud.serving.constrained import JsonConstraint, Vocabulary, token_bytes
from aiinfra_labs.cloud.serving.errors import RequestError, ServingError
from aiinfra_labs.llm import page_model
from aiinfra_labs.llm.bpe import Tokenizer

TOKENIZER = Tokenizer.load(page_model.folder() / "tokenizer.json")
VOCABULARY = Vocabulary(token_bytes(TOKENIZER))
ANY = JsonConstraint(VOCABULARY)
IN_TIME = settings(max_examples=60, deadline=None)

NAMES = ("a", "ab", "b", "é", 'q"', "a b")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
    | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
STYLES = st.sampled_from(
    [
        {"indent": indent, "separators": separators, "ensure_ascii": ascii}
        for indent in (None, 1, 4)
        for separators in (None, (",", ":"), (" , ", " : "))
        for ascii in (False, True)
    ]
)


def read(constraint, ids):
    """The state behind some tokens, or None where one is not allowed."""
    state = constraint.start
    for id in ids:
        allowed = bool(constraint.mask(state)[id])
        try:
            state = constraint.advance(state, id)
        except ServingError:
            assert not allowed  # the mask and the automaton are of one mind
            return None
        assert allowed
    return state


def accepts(constraint, text):
    data = text.encode() if isinstance(text, str) else text
    try:
        ids = TOKENIZER.encode(data.decode(), special=False)
    except UnicodeDecodeError:
        ids = [TOKENIZER.vocabulary[c] for c in map(TOKENIZER_BYTE.get, data)]
    state = read(constraint, ids)
    return state is not None and constraint.complete(state)


TOKENIZER_BYTE = {
    VOCABULARY.tokens[i][0]: token
    for token, i in TOKENIZER.vocabulary.items()
    if VOCABULARY.tokens[i] is not None and len(VOCABULARY.tokens[i]) == 1
}


# Beginnings of the names that the schemas below may require.
BEGUN = {
    spelled[1:end]
    for spelled in (json.dumps(name, ensure_ascii=False).encode() for name in NAMES)
    for end in range(2, len(spelled) + 1)
}


SHORT = torch.tensor([i for i, t in enumerate(VOCABULARY.tokens) if t and len(t) == 1])


def walk(constraint, seed, steps=40):
    """A text that was drawn from the masks alone: at random, and then towards an end."""
    chance = random.Random(seed)
    state, text = constraint.start, b""
    step = 0
    while True:
        mask = constraint.mask(state)
        complete = constraint.complete(state)
        assert complete or mask.any(), f"a dead end behind {text!r}"
        if complete and (not mask.any() or step >= steps or chance.random() < 0.3):
            return text
        assert step < 2_000, f"no end behind {text[-200:]!r}"
        short = SHORT[mask[SHORT]].tolist()
        if step >= steps or chance.random() < 0.5:
            bytes_of = {i: VOCABULARY.tokens[i] for i in short}
            begun = text[text.replace(b'\\"', b"--").rfind(b'"') + 1 :]
            ending = [i for i, byte in bytes_of.items() if byte in b'"]}']
            named = [i for i, byte in bytes_of.items() if begun + byte in BEGUN]
            allowed = [i for i, byte in bytes_of.items() if not byte.isspace()] or short
            if step >= steps and named and chance.random() < 0.9:
                allowed = named  # the schema may require this name
            elif step >= steps and ending and chance.random() < 0.8:
                allowed = ending
        else:
            allowed = mask.nonzero()[:, 0].tolist()
        id = chance.choice(allowed)
        state, text = constraint.advance(state, id), text + VOCABULARY.tokens[id]
        step += 1


def loads(data):
    """JSON in the strict sense: UTF-8, no NaN, no half of a surrogate pair."""

    def refuse(word):
        raise ValueError(word)

    found = json.loads(data.decode("utf-8"), parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode()  # fails for half a pair
    return found


# --- any JSON -------------------------------------------------------------------------------------


@IN_TIME
@given(VALUES, STYLES)
def test_all_json_gets_through(value, style):
    assert accepts(ANY, json.dumps(value, **style))


@pytest.mark.parametrize("seed", range(40))
def test_what_is_drawn_is_json(seed):
    loads(walk(ANY, seed))


@settings(max_examples=120, deadline=None)
@given(VALUES, STYLES, st.data())
def test_one_byte_changed(value, style, data):
    """Accepted if and only if Python reads it."""
    text = bytearray(json.dumps(value, **style).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    change = data.draw(st.sampled_from(["replace", "insert", "delete"]))
    byte = data.draw(st.sampled_from(b'{}[]",:.-+eE01 \\utn\x00\x1f\x7f\x80\xc3\xed\xa0\xf4a'))
    text[at : at + (change != "insert")] = b"" if change == "delete" else bytes([byte])
    try:
        loads(bytes(text))
        valid = True
    except ValueError:
        valid = False
    assert accepts(ANY, bytes(text)) == valid, bytes(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "01", "-", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "nul"),
        *("[1,]", "[,1]", "[1 2]", "[", "]", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", "{,}", "}{"),
        *('"', '"\\"', '"\\x"', '"\\u12"', '"\n"', "'a'", '"\\ud83d"', '"\\ude00"', "1 1", "[]]"),
        *('"\\ud83d\\u0041"', '"\\ud83dx"', "\ufeff1", "truefalse", '{"a":1 "b":2}', '{"a",1}'),
    ],
)
def test_what_is_no_json(text):
    assert not accepts(ANY, text)


@pytest.mark.parametrize(
    "data",
    [
        b'"\xc3"',
        b'"\x80"',
        b'"\xc0\x80"',
        b'"\xe0\x80\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
    ],
)
def test_what_is_no_utf8(data):
    assert not accepts(ANY, data)


def test_nothing_goes_on_for_ever():
    assert accepts(ANY, "[" + " " * 32 + "1]") and not accepts(ANY, "[" + " " * 33 + "1]")
    assert accepts(ANY, "1" + "\n" * 32) and not accepts(ANY, "1" + "\n" * 33)
    assert accepts(ANY, "9" * 64) and not accepts(ANY, "9" * 65)
    assert accepts(ANY, "[" * 32 + "]" * 32) and not accepts(ANY, "[" * 33 + "]" * 33)
    assert not accepts(ANY, "9" * 63 + ".5")
    for begun in (".", "e"):  # which would need a digit that there is no room for
        assert read(ANY, TOKENIZER.encode("9" * 63 + begun, special=False)) is None
    shallow = JsonConstraint(VOCABULARY, nesting=2)
    assert accepts(shallow, '{"a": [1]}') and not accepts(shallow, '{"a": [{}]}')


def test_half_a_character():
    """A token may end within a character; then only its rest may come."""
    state = read(ANY, [TOKENIZER.vocabulary['"'], TOKENIZER.vocabulary[TOKENIZER_BYTE[0xE2]]])
    allowed = [VOCABULARY.tokens[i] for i in ANY.mask(state).nonzero()[:, 0]]
    assert allowed and all(0x80 <= token[0] <= 0xBF for token in allowed)


# --- the mask itself ------------------------------------------------------------------------------

CARD = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"enum": ["small", "large", 1, 12, None]},
        "tags": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
CARDS = JsonConstraint(VOCABULARY, CARD)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        *((ANY, text) for text in ("", '{"a": [[{"b', '[{"a": 12', '"\\ud8', "[[[1]", "[tr")),
        *((CARDS, text) for text in ('{"', '{"name": "x", "', '{"tags": [1', '{"size": 1')),
    ],
)
def test_the_mask_is_what_advances(constraint, text):
    """Token by token, against the walk over the tree."""
    state = read(constraint, TOKENIZER.encode(text, special=False))
    mask = constraint.mask(state)
    for id in range(len(VOCABULARY)):
        try:
            constraint.advance(state, id)
            expected = True
        except ServingError:
            expected = False
        assert bool(mask[id]) == expected, VOCABULARY.tokens[id]


@pytest.mark.parametrize(
    "text", [b'[{"a":"x', b"[[[1", b"[[[[1", b"[[[", b'{"a":[{"b":"', b"[[[[[[[]"]
)
def test_a_token_that_closes_many_levels(text):
    """It looks at as many frames, and at the one below them."""
    tokens = [bytes([b]) for b in range(256)]
    tokens += [b'"}]', b'"}]}', b'"}]},', b"1]]]", b"1]]],", b"]]]", b"]]]]]", b"]]]]],", b"2]]]]]"]
    constraint = JsonConstraint(tokens)
    state = read(constraint, text)
    mask = constraint.mask(state)
    for id in range(256, len(tokens)):
        expected = read(constraint, text + tokens[id][:-1]) is not None
        expected = expected and read(constraint, text + tokens[id]) is not None
        assert bool(mask[id]) == expected, tokens[id]


def test_masks_are_kept_by_what_matters():
    constraint = JsonConstraint(VOCABULARY)
    text = json.dumps([[[[[{"a": i, "b": [i]}]]]] for i in range(30)])
    ids = TOKENIZER.encode(text, special=False)
    assert read(constraint, ids) is not None
    hits, made = constraint.cached_masks()
    assert hits + made == len(ids) and made < 60 < hits
    again = constraint.mask(constraint.start)
    assert again is constraint.mask(constraint.start)
    assert again.dtype == torch.bool and again.shape == (len(VOCABULARY),)


def test_the_end_token():
    end = TOKENIZER.special["<|end|>"]
    constraint = JsonConstraint(VOCABULARY, {"type": "array"}, end=end)
    assert not constraint.mask(constraint.start)[end]
    state = read(constraint, TOKENIZER.encode("[1]", special=False))
    assert constraint.complete(state) and constraint.mask(state)[end]
    over = constraint.advance(state, end)
    assert constraint.complete(over)
    assert constraint.mask(over).nonzero().tolist() == [[end]]
    with pytest.raises(ServingError, match="was drawn where"):
        constraint.advance(constraint.start, end)


def test_special_tokens_never_come():
    for state in (ANY.start, read(ANY, TOKENIZER.encode('"ab', special=False))):
        assert not ANY.mask(state)[list(TOKENIZER.special.values())].any()


@pytest.mark.parametrize("id", [-1, len(VOCABULARY), 0])
def test_a_token_that_is_not_allowed(id):
    with pytest.raises(ServingError, match=f"token {id} ") as error:
        ANY.advance(ANY.start, id)
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)


def test_a_vocabulary_without_a_byte():
    tokens = [bytes([b]) for b in range(256) if b != ord("}")] + [b"{}"]
    with pytest.raises(ServingError, match="no token for the byte 0x7D"):
        JsonConstraint(tokens)
    tokens += [b"}", b"", None]
    constraint = JsonConstraint(tokens)
    assert not constraint.mask(constraint.start)[-2:].any()
    with pytest.raises(RequestError, match="the end token is 259"):
        JsonConstraint(tokens, end=259)


# --- schemas --------------------------------------------------------------------------------------

LEAVES = st.sampled_from(["string", "number", "integer", "boolean", "null"])
WORDS = st.sampled_from(["a", "ab", "é", "", 'q"', 1, 12, -3, 2.5, True, None])


def objects(inner):
    def made(properties, required, others):
        schema = {"type": "object", "properties": properties, "additionalProperties": others}
        known = [name for name in required if name in properties or others is not False]
        return schema | {"required": known}

    others = st.just(False) | st.just(True) | inner
    return st.builds(
        made,
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
        st.sets(st.sampled_from(NAMES), max_size=2),
        others,
    )


SCHEMAS = st.recursive(
    st.builds(lambda t: {"type": t}, LEAVES)
    | st.builds(lambda t: {"type": sorted(t)}, st.sets(LEAVES, min_size=1, max_size=3))
    | st.builds(lambda v: {"enum": v}, st.lists(WORDS, min_size=1, max_size=4))
    | st.builds(lambda v: {"const": v}, WORDS)
    | st.just({"title": "anything"}),
    lambda inner: (
        objects(inner)
        | st.builds(lambda p: {"anyOf": p}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(
            lambda items, least, more: {
                "type": "array", "items": items, "minItems": least, "maxItems": least + more
            },
            inner, st.integers(0, 2), st.integers(0, 2),
        )
    ),
    max_leaves=5,
)  # fmt: skip
INSTANCES = st.recursive(
    WORDS | SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=5,
)


def fits(schema, value):
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@IN_TIME
@given(SCHEMAS, st.integers(0, 2**32))
def test_what_is_drawn_fits(schema, seed):
    constraint = JsonConstraint(VOCABULARY, schema)
    value = loads(walk(constraint, seed, steps=15))
    assert fits(schema, value), (schema, value)


@settings(max_examples=120, deadline=None)
@given(SCHEMAS, INSTANCES)
def test_what_fits_gets_through_and_nothing_else(schema, value):
    text = json.dumps(value, ensure_ascii=False)
    assert accepts(JsonConstraint(VOCABULARY, schema), text) == fits(schema, value)


@pytest.mark.parametrize("order", list(itertools.permutations(["name", "size", "tags"])))
def test_properties_in_any_order(order):
    value = {"name": "x", "size": 12, "tags": [1, 2]}
    assert accepts(CARDS, json.dumps({name: value[name] for name in order}, indent=2))


@pytest.mark.parametrize(
    "text",
    [
        *('{"tags": [1]}', '{"name": "x", "tags": []}', '{"name": "x", "tags": [1, 2, 3, 4]}'),
        *('{"name": "x", "name": "y", "tags": [1]}', '{"name": "x", "tags": [1], "more": 1}'),
        *('{"name": "x", "tags": [1.5]}', '{"name": "x", "tags": [1], "size": "smal"}', "[]"),
    ],
)
def test_what_does_not_fit(text):
    assert not accepts(CARDS, text)


def test_a_name_cannot_be_spelled_another_way():
    """Else "\\u0061" would be a second "a", with a value that the schema forbids."""
    constraint = JsonConstraint(VOCABULARY, {"properties": {"a": {"type": "null"}}})
    assert accepts(constraint, '{"a": null, "b": 1, "c\u00e9": 2}')
    assert not accepts(constraint, '{"a": 1}') and not accepts(constraint, '{"\\u0061": 1}')
    assert not accepts(constraint, '{"a": null, "a": null}')
    assert accepts(JsonConstraint(VOCABULARY, {"type": "object"}), '{"\\u0061": 1}')


def test_names_that_are_spelled_with_escapes():
    schema = {"properties": {"é": {"type": "null"}, 'q"': {"type": "null"}}}
    for others in (True, False):
        constraint = JsonConstraint(VOCABULARY, schema | {"additionalProperties": others})
        assert accepts(constraint, '{"é": null, "q\\"": null}')
        assert accepts(constraint, '{"q\\"": null, "\\u00e9": null}')
        assert not accepts(constraint, '{"\\u00e9": 1}') and not accepts(constraint, '{"q\\"": 1}')
        assert not accepts(constraint, '{"é": null, "\\u00e9": null}')
        assert accepts(constraint, '{"q\\n": 1}') == others
        assert not accepts(constraint, '{"q\\u0022": null}')


def test_enums_of_arrays_and_objects():
    constraint = JsonConstraint(VOCABULARY, {"enum": [[1, 2], {"a": "é"}]})
    for text in ("[1,2]", '{"a":"é"}', '{"a":"\\u00e9"}'):
        assert accepts(constraint, text)
    assert not accepts(constraint, "[1]")


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "array", "contains": {}}, "the schema uses the keyword 'contains'"),
        ({"items": {"minContains": 1}}, r"the schema.items uses the keyword 'minContains'"),
        (
            {"properties": {"a": {"maxProperties": 3}}},
            "the schema.properties.a uses the keyword 'maxProperties'",
        ),
        ({"type": "text"}, "type names 'text'"),
        ({"type": []}, "names no type"),
        ({"type": "string", "anyOf": [{}]}, "has 'anyOf' and 'type'"),
        ({"enum": [1], "items": {}}, "has 'enum' and 'items'"),
        ({"enum": []}, "enum is \\[\\]"),
        ({"enum": ["a"], "type": "integer"}, "has no value of type integer"),
        ({"const": float("nan")}, "no JSON"),
        ({"anyOf": [{}, False]}, r"anyOf\[1\] is False"),
        ({"minItems": 3, "maxItems": 2}, "3 items at least and 2 at most"),
        ({"minItems": -1}, "minItems is -1"),
        ({"required": "a"}, "required is 'a'"),
        ({"properties": []}, r"properties is \[\]"),
        ({"required": ["a"], "additionalProperties": False}, "requires 'a'"),
        ({"items": {"items": {"items": {"type": "array"}}}}, "nests deeper"),
        ("object", "the schema is 'object'"),
    ],
)
def test_a_schema_that_is_refused(schema, what):
    with pytest.raises(RequestError, match=what) as error:
        JsonConstraint(VOCABULARY, schema, nesting=3)
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)
