"""What a GPU measured is drawn with device and date; without one nothing is."""

import json

import pytest

from aiinfra_labs.course import on_gpu

LADDER = {
    "unit": "3.4",
    "size": "64 x 64 float32",
    "least_bytes": 32768,
    "flops": 0,
    "asked_share": 0.8,
    "baseline": "copy",
    "steps": {
        "naive": {
            "right": True,
            "milliseconds": 4.0,
            "gigabytes_per_second": 500.0,
            "share_of_baseline": 0.25,
        },
        "lazy": {"right": False, "relative_error": 1.0},
        "copy": {
            "right": True,
            "milliseconds": 1.0,
            "gigabytes_per_second": 2000.0,
            "share_of_baseline": 1.0,
        },
    },
}


@pytest.fixture
def folder(tmp_path):
    for device, date in (("Old GPU", "2025-01-01"), ("New GPU", "2026-01-01")):
        found = {"machine": {"device": device, "date": date}, "ladders": {"transpose": LADDER}}
        (tmp_path / f"gpu-{device[:3].lower()}.json").write_text(json.dumps(found))
    return tmp_path


def test_the_newest_measurement_comes_first(folder):
    assert [one["machine"]["device"] for one in on_gpu.stored("transpose", folder)] == [
        "New GPU",
        "Old GPU",
    ]
    assert on_gpu.stored("matmul", folder) == []


def test_a_figure_says_device_date_shares_and_what_was_wrong(folder):
    fig = on_gpu.draw("transpose", on_gpu.stored("transpose", folder)[0])
    alt = fig.get_label()
    for said in (
        "New GPU, 2026-01-01",
        "naive 500 GB/s, 25%",
        "copy 2,000 GB/s",
        "not timed: lazy",
    ):
        assert said in alt
    bars = fig.axes[0].patches
    assert [bar.get_width() for bar in bars] == [500.0, 2000.0]


def test_without_a_measurement_nothing_is_shown(tmp_path, capsys):
    on_gpu.show("transpose", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "rate, said",
    [(0.3124, "0.31"), (2.345, "2.35"), (23.14, "23.1"), (512.3, "512"), (2481.0, "2,480")],
)
def test_a_rate_has_three_digits(rate, said):
    assert on_gpu._digits(rate) == said
