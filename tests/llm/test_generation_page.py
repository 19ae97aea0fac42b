"""What the page of unit 1.5 shows: its model loads, and each drawing says what it drew."""

import math

import pytest
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.llm import checkpoint, page_model, phases
from aiinfra_labs.llm.drawings import generation as drawings
from aiinfra_labs.llm.scale.shapes import shape


def test_the_courses_model_is_what_its_card_says():
    model, tokenizer = page_model.load()
    card = page_model.card()
    assert model.parameter_count() == card["parameters"] < 20e6
    assert (page_model.folder() / "model.safetensors").stat().st_size < 20e6
    ids = torch.tensor([tokenizer.encode("import os\nimport sys\n\n\ndef main():\n    return ")])
    loss = model.loss(ids[:, :-1], ids[:, 1:]).item()
    assert loss < 4 < math.log(4096)  # which is what knowing nothing costs
    assert card["held_out_loss_nats_a_token"] < 3
    assert min(card["curve"][-1][1], 4) < card["curve"][0][1]


def test_the_model_is_found_or_missed_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(page_model, "__file__", str(tmp_path / "src" / "llm" / "page_model.py"))
    with pytest.raises(checkpoint.CheckpointError, match="AIINFRA_MODEL=.*make model"):
        page_model.folder()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    assert page_model.folder() == tmp_path / "model"
    monkeypatch.setenv("AIINFRA_MODEL", str(tmp_path / "mine"))
    assert page_model.folder() == tmp_path / "mine"


@pytest.mark.parametrize("cached", [False, True])
def test_the_calls_that_are_drawn_are_counted(cached):
    fig = drawings.calls(prompt=6, new=5)
    faces = [patch.get_facecolor()[3] for patch in fig.axes[int(cached)].patches]
    read = sum(alpha == 1 for alpha in faces)
    assert read == (10 if cached else 40)
    assert f"{read} in all" in fig.get_label()
    assert f"{read} reads" in fig.axes[int(cached)].get_title(loc="left")


def test_entropies_begin_at_zero_and_rise():
    fig = drawings.entropies({"a": torch.arange(9.0), "b": torch.zeros(8)})
    rising, flat = (line.get_ydata() for line in fig.axes[0].lines[:2])
    assert rising[0] == flat[0] == 0
    assert all(b >= a for a, b in zip(rising, rising[1:], strict=False))
    assert flat[1:] == pytest.approx([3] * 40)
    assert "'b' 3.0 at T = 1" in fig.get_label()


def test_intensities_are_the_formulas():
    llama = shape("llama-3-8b")
    fig = drawings.intensities(llama, 295, "H100", (128, 2048))
    x, y = fig.axes[0].lines[1].get_data()
    assert y[6] == phases.decode(llama, 2048, 64).intensity and x[6] == 64
    assert figures.to_html(fig)
