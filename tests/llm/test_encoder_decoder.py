"""The encoder-decoder computes what torch.nn.Transformer computes, and learns to read numbers."""

import warnings

import pytest
import torch
from torch import nn

from aiinfra_labs.llm import spelled_numbers as numbers
from aiinfra_labs.llm.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderShape,
    Seq2Seq,
    weights_of,
)

SHAPES = [
    EncoderDecoderShape(32, 4, 2, 3, 64),
    EncoderDecoderShape(24, 1, 1, 1, 10),
    EncoderDecoderShape(48, 6, 3, 1, 96),
]
SOURCE, TARGET = 7, 5


def torchs(shape, **more):
    options = {"dropout": 0.0, "norm_first": shape.pre_norm, "batch_first": True} | more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its fast path, which pre-norm has not
        theirs = nn.Transformer(
            shape.width,
            shape.heads,
            shape.encoder_layers,
            shape.decoder_layers,
            shape.hidden,
            **options,
        ).eval()
    torch.manual_seed(2)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    return theirs


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_equal_to_torch(shape, pre_norm, padded):
    shape = EncoderDecoderShape(*list(vars(shape).values())[:5], pre_norm)
    theirs = torchs(shape)
    ours = EncoderDecoder(shape)
    ours.load_state_dict(weights_of(theirs))  # strict: every name is found, none is left
    source, target = torch.randn(3, SOURCE, shape.width), torch.randn(3, TARGET, shape.width)
    there = torch.arange(SOURCE) < torch.tensor([[7], [4], [1]]) if padded else None
    hidden = None if there is None else ~there  # torch's masks are True where nothing is seen
    causal = nn.Transformer.generate_square_subsequent_mask(TARGET)
    expected = theirs(
        source,
        target,
        tgt_mask=causal,
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    assert torch.allclose(ours(source, target, there), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_equal_gradients(pre_norm):
    shape = EncoderDecoderShape(32, 4, 2, 2, 64, pre_norm)
    theirs = torchs(shape).train()  # without dropout, training computes the same
    ours = EncoderDecoder(shape)
    ours.load_state_dict(weights_of(theirs))
    source, target = torch.randn(2, SOURCE, 32), torch.randn(2, TARGET, 32)
    causal = nn.Transformer.generate_square_subsequent_mask(TARGET)
    weight = torch.randn(2, TARGET, 32)
    (theirs(source, target, tgt_mask=causal) * weight).sum().backward()
    (ours(source, target) * weight).sum().backward()
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    expected = weights_of(theirs)
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-4, rtol=1e-4), name


def test_the_decoder_sees_no_target_behind_and_all_of_the_source():
    torch.manual_seed(0)
    ours = EncoderDecoder(SHAPES[0])
    source, target = torch.randn(1, SOURCE, 32), torch.randn(1, TARGET, 32)
    other_target, other_source = target.clone(), source.clone()
    other_target[:, 3:] += 1
    other_source[:, -1] += 1
    out = ours(source, target)
    assert torch.allclose(ours(source, other_target)[:, :3], out[:, :3], atol=1e-6)
    assert ((ours(other_source, target) - out).abs().amax(-1) > 1e-4).all()


def test_what_is_padded_has_no_part_in_the_result():
    torch.manual_seed(0)
    model = Seq2Seq(20, SHAPES[0])
    source, target = torch.randint(20, (1, 4)), torch.randint(20, (1, 3))
    longer = torch.cat((source, torch.randint(20, (1, 3))), 1)
    there = torch.arange(7)[None] < 4
    assert torch.allclose(model(longer, target, there), model(source, target), atol=1e-5)


def test_written_one_by_one_is_what_the_whole_target_gives():
    torch.manual_seed(0)
    model = Seq2Seq(20, SHAPES[0])
    source = torch.randint(20, (2, 6))
    written = model.write(source, 5)
    shown = torch.cat((torch.zeros(2, 1, dtype=torch.int64), written[:, :-1]), 1)
    assert torch.equal(model(source, shown).argmax(-1), written)


def test_a_transformer_with_gelu_is_refused():
    with pytest.raises(ValueError, match="has gelu"):
        weights_of(torchs(SHAPES[0], activation="gelu"))


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError):
        EncoderDecoder(EncoderDecoderShape(30, 4, 1, 1, 16))


# --- numbers from words --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (7, "seven"),
        (10, "ten"),
        (19, "nineteen"),
        (20, "twenty"),
        (300, "three hundred"),
        (4037, "four thousand thirty seven"),
        (9999, "nine thousand nine hundred ninety nine"),
        (1010, "one thousand ten"),
    ],
)
def test_spelled(number, words):
    assert numbers.spelled(number) == words.split()


def test_each_number_has_words_of_its_own():
    every = {" ".join(numbers.spelled(n)) for n in range(1, 10_000)}
    assert len(every) == 9_999
    assert max(len(words.split()) for words in every) == numbers.LONGEST


@pytest.mark.parametrize("number", [0, 10_000, -3])
def test_a_number_out_of_range(number):
    with pytest.raises(ValueError, match="from 1 to 9,999"):
        numbers.spelled(number)


def test_the_split_leaves_no_number_out_and_none_twice():
    training, held_out = numbers.split()
    assert sorted(training + held_out) == list(range(1, 10_000))
    assert len(held_out) == 999


def test_it_learns_to_read_numbers_it_never_saw():
    model, losses = numbers.train(250)
    _, held_out = numbers.split()
    right = sum(a == b for a, b in zip(numbers.read(model, held_out), held_out, strict=True))
    assert right > 0.9 * len(held_out), right
    assert losses[0] > 2 and losses[-1] < 0.3
    looks = numbers.looks(model, 4037)
    assert looks.shape == (4, 4) and torch.allclose(looks.sum(1), torch.ones(4), atol=1e-5)
