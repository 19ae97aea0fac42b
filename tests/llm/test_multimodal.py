"""Unit 1.8: patches, the contrastive loss, the captioner, sound and the stream."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from torch.nn import functional as F

from aiinfra_labs.llm import checkpoint
from aiinfra_labs.llm.multimodal import colours, contrastive, digits, questions, scenes, sound
from aiinfra_labs.llm.multimodal import stream as streams
from aiinfra_labs.llm.multimodal.captioner import START
from aiinfra_labs.llm.multimodal.patches import patchify, unpatchify
from aiinfra_labs.llm.multimodal.stream import Segment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- images as sequences --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(*[st.integers(1, 3)] * 4, st.integers(1, 4))
def test_patches_are_torchs_and_come_back(b, c, rows, columns, side):
    images = torch.randn(b, c, rows * side, columns * side, generator=generator())
    cut = patchify(images, side)
    assert torch.equal(cut, F.unfold(images, side, stride=side).transpose(1, 2))
    assert torch.equal(unpatchify(cut, side, columns), images)


def test_patches_that_do_not_fill_the_image_are_refused():
    with pytest.raises(ValueError, match="patches of 3 x 3"):
        patchify(torch.zeros(1, 1, 8, 8), 3)


def test_the_held_out_images_are_others():
    training, held_out = digits.load()
    assert (len(training), len(held_out)) == (1437, 360)
    assert training.pixels.min() == 0 and training.pixels.max() == 1
    labels = torch.randint(10, (50,), generator=generator())
    drawn = training.draw(labels, generator())
    assert torch.equal(training.labels[drawn], labels)


# --- images and texts -----------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "d", "scale"), [(1, 4, 1.0), (7, 16, 14.0), (32, 8, 100.0)])
def test_the_loss_is_transformers(b, d, scale):
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    images, texts = torch.randn(2, b, d, generator=generator(b))
    logits = scale * F.cosine_similarity(texts[:, None], images[None], dim=-1)
    theirs = image_text_contrastive_loss(logits)
    torch.testing.assert_close(contrastive.clip_loss(images, texts, scale), theirs)


def test_an_ensemble_is_a_unit_vector_and_no_long_prompt_decides():
    prompts = torch.randn(4, 3, 8, generator=generator())
    found = contrastive.ensemble(prompts)
    assert torch.allclose(found.norm(dim=-1), torch.ones(4))
    longer = prompts * torch.tensor([9.0, 1.0, 0.1])[:, None]
    assert torch.allclose(contrastive.ensemble(longer), found, atol=1e-6)


def test_padding_does_not_change_a_text():
    model = contrastive.Clip()
    alone, beside = model.of_texts(["red six"]), model.of_texts(["red six", "a much longer text"])
    assert torch.allclose(alone[0], beside[0], atol=1e-5)
    assert not torch.allclose(beside[0], beside[1], atol=1e-2)


@pytest.mark.parametrize("texts", [[], [""], ["x" * 49], ["ok", ""]])
def test_a_text_without_a_place_is_refused(texts):
    with pytest.raises(ValueError, match="a text has 1 to 48 bytes"):
        contrastive.byte_ids(texts)


def test_what_is_held_out_is_never_drawn():
    hidden = [c for c in colours.ALL if colours.is_held_out(c)]
    assert len(colours.ALL) == 60 and len(hidden) == 10
    assert {c.digit for c in hidden} == set(range(10))
    assert {c.colour for c in hidden} == set(range(6))
    shown = colours.Lesson().shown()
    assert len(shown) == 50 and not set(shown) & set(hidden)
    images, texts = colours.batch(digits.load()[0], shown, generator(), colours.TRAINED)
    assert images.shape == (50, 3, 8, 8) and len(set(texts)) == 50
    for concept in hidden:
        name, colour = digits.NUMBERS[concept.digit], list(colours.COLOURS)[concept.colour]
        assert not any(name in text.split() and colour in text.split() for text in texts)
    without = colours.Lesson(without=7).shown()
    assert len(without) == 45 and all(c.digit != 7 for c in without)
    longest = max(len(c.said(t)) for c in colours.ALL for t in (*colours.TRAINED, *colours.UNSEEN))
    assert longest <= contrastive.LONGEST


def test_every_picture_is_asked_in_the_colours_it_should_be():
    for held_out, each in ((False, 5), (True, 1)):
        images, concepts = colours.pictures(held_out)
        assert len(images) == each * 360
        for image, k in list(zip(images, concepts.tolist(), strict=True))[:40]:
            concept = colours.ALL[k]
            assert colours.is_held_out(concept) == held_out
            brightest = image.amax(dim=(1, 2))
            paint = torch.tensor(list(colours.COLOURS.values())[concept.colour])
            assert torch.allclose(brightest, image.max() * paint, atol=1e-6)


def test_a_few_steps_of_the_image_text_model():
    losses = []
    colours.train(colours.Lesson(steps=12), lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    table = colours.train(colours.Lesson(steps=2, reads=False))
    assert table.of_texts(["white zero"]).shape == (1, contrastive.SPACE)


# --- the captioner --------------------------------------------------------------------------------


def test_captions_say_what_is_shown_and_hold_out_pairs():
    scene = scenes.training(400, generator())
    assert not scenes.is_held_out(scene.left, scene.right).any() and len(scene) > 300
    assert scenes.said(scenes.captions(torch.tensor([3]), torch.tensor([7]))[0]) == (
        "a three left of a seven"
    )
    left, right = torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij")
    hidden = scenes.is_held_out(left, right)
    assert hidden.sum() == 20 and (hidden.sum(0) == 2).all() and (hidden.sum(1) == 2).all()
    test = scenes.test(True, 30)
    assert len(test) == 30 and scenes.is_held_out(test.left, test.right).all()


def test_writing_is_the_likeliest_word_each_time():
    model, scene = stored_captioner(), scenes.test(False, 5)
    written = model.write(scene.pixels, scenes.LENGTH)
    shown = F.pad(written[:, :-1], (1, 0), value=START)
    assert torch.equal(model(scene.pixels, shown).argmax(-1), written)
    looks = model.looks(scene.pixels, written)
    assert looks.shape == (5, 2, 4, scenes.LENGTH, scenes.PATCHES)
    assert torch.allclose(looks.sum(-1), torch.ones(looks.shape[:-1]), atol=1e-5)


def test_left_is_left():
    maps = torch.zeros(1, scenes.PATCHES)
    maps[0, [0, 8, 17, 27]] = 0.2  # columns 0, 0, 1 and 3 of 8
    maps[0, 31] = 0.2
    assert scenes.on_the_left(maps).item() == pytest.approx(0.8)


def stored_captioner():
    from aiinfra_labs.llm.multimodal import stored

    return stored.load("captioner")[0]


# --- sound ----------------------------------------------------------------------------------------


def test_power_is_scipys():
    samples = sound.beeps(torch.tensor([4]), generator())
    window = torch.hann_window(sound.FRAME).numpy()
    transform = signal.ShortTimeFFT(window, sound.FRAME, sound.RATE, phase_shift=None)
    frames = samples[0].numpy().reshape(-1, sound.FRAME)
    for frame, ours in zip(frames, sound.power(samples)[0], strict=True):
        theirs = transform.stft(frame, p0=0, p1=1, k_offset=sound.FRAME // 2)[:, 0]
        assert torch.allclose(torch.tensor(abs(theirs) ** 2).float(), ours, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_there_are_as_many_beeps_as_asked(count):
    for seed in range(20):
        samples = sound.beeps(torch.tensor([count]), generator(seed))[0]
        loud = F.max_pool1d(samples.abs()[None], 81, 1, 40)[0] > 0.15  # noise has 0.02
        starts = (loud[1:] & ~loud[:-1]).sum() + loud[0]
        assert starts == count
    assert sound.spectra(samples[None]).shape == (1, sound.FRAMES, sound.BANDS)


def test_more_beeps_than_there_is_room_for():
    with pytest.raises(ValueError, match="at most 6"):
        sound.beeps(torch.tensor([7]), generator())


def test_a_tone_is_in_its_band():
    time = torch.arange(sound.SAMPLES) / sound.RATE
    for hertz, band in ((600, 2), (1080, 4), (2200, 8)):  # bins 15, 27 and 55 of 1 to 100
        bands = sound.spectra(torch.sin(2 * torch.pi * hertz * time)[None])[0]
        assert (bands.argmax(-1) == band).all()


# --- one stream -----------------------------------------------------------------------------------


def test_the_answer_needs_all_three():
    batch = questions.drawn(digits.load()[0], 300, generator())
    expected = torch.where(
        batch.question == questions.WHICH,
        batch.digit,
        torch.where(batch.question == questions.HOW_MANY, batch.count, batch.digit + batch.count),
    )
    assert torch.equal(batch.answer, expected)
    trained = questions.training(300, generator())
    hidden = questions.is_held_out(trained.digit, trained.count)
    assert hidden.any() and not (hidden & (trained.question == questions.IN_ALL)).any()
    for kind, name in (("image", "pixels"), ("sound", "spectra"), ("text", "question")):
        other = questions.swapped(batch, kind)
        for field in ("pixels", "spectra", "question"):
            same = torch.equal(getattr(other, field), getattr(batch, field))
            assert same == (field != name)


def small_stream(rows=2):
    return [
        Segment("text", torch.tensor([[0]] * rows)),
        Segment("image", torch.randn(rows, 4, 4, generator=generator(1))),
        Segment("sound", torch.randn(rows, 3, 16, generator=generator(2))),
        Segment("text", torch.tensor([[2, 5]] * rows)),
        Segment("text", torch.tensor([[11, 12]] * rows), graded=True),
    ]


def test_only_the_answer_is_asked_for_and_one_place_before():
    wanted = streams.targets(small_stream())
    assert wanted[0].tolist() == [-1] * 9 + [11, 12, -1]
    assert streams.kinds(small_stream())[:9] == ["text"] + ["image"] * 4 + ["sound"] * 3 + ["text"]


def test_patches_of_one_image_see_each_other():
    seen = streams.visible([*small_stream(), Segment("image", torch.zeros(2, 2, 4))])
    for i in range(14):
        for j in range(14):
            together = {i, j} <= {1, 2, 3, 4} or {i, j} <= {12, 13}
            assert seen[i, j] == (j <= i or together)


def test_the_stream_is_the_llama_where_all_is_text():
    from aiinfra_labs.llm.llama import Llama

    torch.manual_seed(0)
    model = streams.OneStream(questions.CONFIG, questions.SIZES)
    llama = Llama(questions.CONFIG)
    llama.model.load_state_dict(model.decoder.state_dict())
    llama.lm_head.weight = model.head.weight
    ids = torch.randint(20, (3, 9), generator=generator())
    torch.testing.assert_close(model([Segment("text", ids)]), llama(ids))


def test_no_place_hears_what_comes_behind():
    torch.manual_seed(0)
    model = streams.OneStream(questions.CONFIG, questions.SIZES)
    before = small_stream()
    after = [*before[:2], Segment("sound", before[2].values + 1), *before[3:]]
    one, other = model(before), model(after)
    assert torch.allclose(one[:, :5], other[:, :5]) and not torch.allclose(one[:, 8], other[:, 8])
    with pytest.raises(ValueError, match="'smell'"):
        model([Segment("smell", torch.zeros(1, 1, 4))])


def test_a_few_steps_of_the_stream():
    losses = []
    questions.train(questions.Lesson(steps=12, batch=16), lambda step, loss: losses.append(loss))
    assert min(losses[-3:]) < losses[0]


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["clip", "clip_numbered", "clip_without_seven", "captioner", "stream"]
)
def test_a_stored_model_is_what_its_card_says(name, tmp_path):
    from dataclasses import asdict

    from aiinfra_labs.llm.multimodal import stored

    model, card = stored.load(name)
    assert card["lesson"] == asdict(stored.LESSONS[name])
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert stored.file(name).stat().st_size < 500_000
    stored.save(model, tmp_path / "again.safetensors", card)
    tensors, again = checkpoint.load(tmp_path / "again.safetensors")
    assert again == card
    for key, weight in model.named_parameters():
        assert torch.equal(tensors[key].float(), weight)


def test_the_stored_vectors_are_the_models():
    from aiinfra_labs.llm.multimodal import stored

    model, _ = stored.load("clip")
    images, prompts, concepts = stored.load_space()
    pictures, expected = colours.pictures(held_out=True)
    assert torch.equal(concepts, expected) and prompts.shape == (60, 3, contrastive.SPACE)
    with torch.no_grad():
        theirs = model.of_images(pictures)
        texts = model.of_texts([colours.ALL[31].said(t) for t in colours.UNSEEN])
    torch.testing.assert_close(images, theirs, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(prompts[31], texts, rtol=2e-2, atol=2e-2)
