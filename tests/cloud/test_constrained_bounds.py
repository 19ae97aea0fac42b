"""What constraints keep is bounded, and what is large is not worked out within a step."""

import json
import threading

import torch
from test_constrained import TOKENIZER, VOCABULARY, accepts, fits, loads, walk

from aiinfra_labs.cloud.serving.constrained import JsonConstraint, Kept, Vocabulary, token_bytes
from aiinfra_labs.cloud.serving.constrained.frames import Spellings, String
from aiinfra_labs.cloud.serving.requests import CONSTRAINTS, Admission
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams


class Served:
    """The course's tokenizer, as an engine has it."""

    encode = staticmethod(TOKENIZER.encode)
    token_bytes = staticmethod(lambda: token_bytes(TOKENIZER))


def test_the_longest_unused_goes_first():
    kept = Kept(100, len)
    for key in "abc":
        kept.get(key, lambda: "x" * 40)
        kept.get("a", lambda: "never")
    assert ("a" in kept, "b" in kept, "c" in kept) == (True, False, True)
    assert (kept.bytes, kept.made, kept.hits) == (80, 3, 3)
    assert kept.get("large", lambda: "x" * 999) and len(kept) == 1
    few = Kept(100, len, most=2)
    for key in "abcde":
        few.get(key, lambda: "x")
    assert len(few) == 2 and few.bytes == 2


def test_several_threads_keep():
    kept, found = Kept(50, len), []

    def ask(number):
        for i in range(300):
            key = (i * number) % 17
            found.append(kept.get(key, lambda key=key: "x" * key) == "x" * key)

    threads = [threading.Thread(target=ask, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found) and len(found) == 900
    assert kept.bytes == sum(map(len, (value for value, _ in kept._found.values())))


def test_a_hundred_schemas():
    """As many requests, each with its own: schemas, masks and frames stay within their bounds."""
    admission = Admission(Served(), len(VOCABULARY), 1000, 16, 64, 8, end_ids=(0,))
    vocabulary = admission.vocabulary
    vocabulary.masks.most_bytes = 100 * (len(vocabulary) + 500)
    for i in range(100):
        schema = {"properties": {f"k{i}": {"enum": [i, str(i)]}}, "required": [f"k{i}"]}
        request = admission.check(i, (), [1], SamplingParams(json=schema))
        state = request.grammar
        for id in TOKENIZER.encode(f'{{"k{i}": {i}', special=False):
            assert state.mask()[id]
            state = state.advance(id)
        again = admission.check(i, (), [1], SamplingParams(json=schema)).grammar
        assert again.constraint is request.grammar.constraint
    assert len(admission.constraints) == CONSTRAINTS < 100
    assert vocabulary.masks.made > 200 and len(vocabulary.masks) <= 100


def test_masks_are_shared_by_bytes_and_not_by_schemas():
    """A mask is of the grammar alone where the schema does not matter: in a string."""
    one = JsonConstraint(VOCABULARY, {"type": "string"})
    two = JsonConstraint(VOCABULARY, {"type": "string", "title": "another"})
    quote = TOKENIZER.vocabulary['"']
    first = one.mask(one.advance(one.start, quote))
    assert two.mask(two.advance(two.start, quote)) is first


def test_what_strings_allow_is_found_at_admission():
    vocabulary = Vocabulary(token_bytes(TOKENIZER))
    JsonConstraint(vocabulary, {"type": "integer"})
    made = vocabulary._frames.made
    vocabulary.readable(String("text"), vocabulary.root)
    assert vocabulary._frames.made == made


def test_one_more_byte_is_a_search_by_halves():
    texts = Spellings(f'"value number {i}"'.encode() for i in range(5000))
    looked_at = 0

    class Counted(bytes):
        def __getitem__(self, at):
            nonlocal looked_at
            looked_at += 1
            return bytes.__getitem__(self, at)

    counted = Spellings(map(Counted, texts))
    first, last = 0, len(counted)
    for depth, byte in enumerate(b'"value number 4711"'):
        looked_at = 0
        first, last = counted.narrowed(first, last, depth, byte)
        assert looked_at <= 2 * 14  # 2^13 > 5000, from both ends
    assert counted[first] == b'"value number 4711"' and last == first + 1


def test_a_large_enum_and_many_properties():
    values = [f"value number {i}" for i in range(3000)] + ["value", "v", 7, 71, None]
    enum = JsonConstraint(VOCABULARY, {"enum": values})
    for value in (*values[::500], *values[-5:]):
        assert accepts(enum, json.dumps(value))
    for text in ('"value number 3000"', '"valu"', "72", '"value number "', '"w"'):
        assert not accepts(enum, text)
    schema = {
        "properties": {f"name {i}": {"const": i} for i in range(800)},
        "required": ["name 3", "name 30"],
        "additionalProperties": False,
    }
    many = JsonConstraint(VOCABULARY, schema)
    assert accepts(many, '{"name 30": 30, "name 3": 3, "name 799": 799}')
    for text in ('{"name 3": 3}', '{"name 3": 3, "name 30": 30, "name 3": 3}', '{"name 800": 1}'):
        assert not accepts(many, text)
    assert fits(schema, loads(b'{"name 30": 30, "name 3": 3}'))


def test_a_drawn_value_of_a_large_enum():
    values = [f"{i}-{i * i}" for i in range(2000)]
    constraint = JsonConstraint(VOCABULARY, {"enum": values})
    for seed in range(5):
        assert loads(walk(constraint, seed)) in values
    assert constraint.mask(constraint.start).dtype == torch.bool
