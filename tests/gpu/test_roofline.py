"""The roofline: by hand, by its properties, and in the drawing's own numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.devices import DeviceError
from aiinfra_labs.gpu.drawings import roofline as drawings
from aiinfra_labs.gpu.emulator import Report
from aiinfra_labs.gpu.roofline import Point, Roofline, point_of, roofline

rates = st.floats(1e9, 1e16)


def test_by_hand():
    h100 = roofline("h100")
    assert (h100.peak, h100.bandwidth) == (pytest.approx(66.9e12), 3.35e12)
    assert h100.attainable(1) == 3.35e12
    assert h100.attainable(1000) == h100.peak
    assert h100.attainable(np.array([0.5, 100])) == pytest.approx([1.675e12, 66.9e12])
    assert [h100.bound_by(i) for i in (1, 19.9, 20, 300)] == ["memory"] * 2 + ["compute"] * 2
    assert h100.seconds(66.9e12, 3.35e9) == pytest.approx(1)
    assert h100.seconds(66.9e9, 3.35e12) == pytest.approx(1)


@given(rates, rates, st.floats(1e-3, 1e5), st.floats(1, 1e12))
def test_it_is_the_least_time_said_otherwise(peak, bandwidth, intensity, nbytes):
    roof = Roofline("any", peak, bandwidth)
    flops = intensity * nbytes
    assert roof.attainable(intensity) == pytest.approx(flops / roof.seconds(flops, nbytes))
    assert roof.attainable(intensity) <= peak
    assert roof.attainable(roof.ridge) == pytest.approx(peak)
    assert (roof.bound_by(intensity) == "memory") == (intensity < roof.ridge)


@given(rates, rates, st.lists(st.floats(1e-3, 1e5), min_size=2))
def test_more_intensity_never_costs(peak, bandwidth, intensities):
    reached = Roofline("any", peak, bandwidth).attainable(np.sort(intensities))
    assert (np.diff(reached) >= 0).all()


def test_the_point_of_a_launch_is_counted():
    @cuda.jit
    def add(a, b, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = a[i] + b[i]

    n = 1 << 14
    arrays = [cuda.to_device(np.ones(n, np.float32)) for _ in range(3)]
    report = cuda.profile(add)[n // 256, 256](*arrays)
    point = point_of(report, roof=1)
    assert point == Point("add", 1 / 12, None, 1)
    assert point.intensity == report.flops / report.dram_bytes
    assert point_of(report, "vector add").name == "vector add"


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (Report(kernel="idle", fp32_add=3), "idle has no.*touched no memory"),
        (Report(kernel="big", dram_bytes_read=None), "big has no.*model of the L2 gave up"),
    ],
)
def test_a_launch_without_a_point_says_why(report, why):
    with pytest.raises(DeviceError, match=r"(?s)" + why):
        point_of(report)


# --- the drawing ---------------------------------------------------------------------------------


ROOFS = [roofline("h100", "fp16_tensor"), roofline("h100"), roofline("epyc_9654")]
POINTS = [
    Point("vector add", 1 / 12, roof=1),
    Point("decode, batch 1", 1.0),
    Point("decode, batch 64", 60.0),
    Point("matmul", 1365.0, 6.2e14),
]


def lines(fig):
    """The roofs, then the marks, as arrays of x and y."""
    drawn = [line.get_xydata() for line in fig.axes[0].lines]
    return drawn[: len(ROOFS)], drawn[len(ROOFS) :]


def test_it_draws_the_models_numbers():
    roofs, marks = lines(drawings.roofline(ROOFS, POINTS))
    for roof, drawn in zip(ROOFS, roofs, strict=True):
        x, y = drawn.T
        assert y == pytest.approx(roof.attainable(x))
        assert roof.ridge in x  # else the corner would be cut
    assert [tuple(mark[0]) for mark in marks] == [
        (1 / 12, pytest.approx(3.35e12 / 12)),
        (1.0, 3.35e12),
        (60.0, pytest.approx(201e12)),
        (1365.0, 6.2e14),
    ]


def test_measured_is_filled_and_modelled_is_hollow():
    fig = drawings.roofline(ROOFS, POINTS)
    faces = [line.get_markerfacecolor() for line in fig.axes[0].lines[len(ROOFS) :]]
    assert faces == ["none", "none", "none", "C0"]


def test_its_alt_text_has_the_figures():
    said = drawings.roofline(ROOFS, POINTS).get_label()
    assert "989 T operations/s and 3.35 TB/s, which meet at 295 operations a byte" in said
    assert "vector add has 0.0833 operations a byte, at most 279 G operations/s" in said
    assert "matmul has 1.36e+03 operations a byte, measured 620 T" in said
    assert drawings.roofline(ROOFS, alt="Only this.").get_label() == "Only this."


def boxes(fig):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    renderer, ax = canvas.get_renderer(), fig.axes[0]
    return ax.get_window_extent(renderer), [t.get_window_extent(renderer) for t in ax.texts]


def test_names_beside_the_marks_cover_nothing_and_stay_inside():
    points = [Point("vector add", 1 / 12), Point("decode, batch 16", 16.0), Point("matmul", 2e3)]
    fig = drawings.roofline(ROOFS[:1], points)
    frame, names = boxes(fig)
    assert len(names) == 3 and not fig.legends
    for box in names:
        assert frame.x0 - 1 <= box.x0 and box.x1 <= frame.x1 + 1
        for point in points:
            at = point.intensity, ROOFS[0].attainable(point.intensity)
            assert not box.contains(*fig.axes[0].transData.transform(at))
    for k, a in enumerate(names):
        assert not any(a.overlaps(b) for b in names[k + 1 :])


def test_names_without_room_stand_in_a_legend():
    crowd = [Point(f"kernel number {k}", 1 + k / 10) for k in range(7)]
    fig = drawings.roofline(ROOFS, crowd)
    assert boxes(fig)[1] == []
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [p.name for p in crowd]
    assert fig.get_size_inches()[1] > drawings.roofline(ROOFS).get_size_inches()[1]


def test_it_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="no roof to draw"):
        drawings.roofline([])
    with pytest.raises(ValueError, match="a point under roof 3 of 1"):
        drawings.roofline(ROOFS[:1], [Point("lost", 1.0, roof=3)])


@pytest.mark.parametrize(
    ("rate", "said"), [(989.4e12, "989 T"), (1e15, "1 P"), (460.8e9, "461 G"), (12.0, "12")]
)
def test_rates_in_words(rate, said):
    assert drawings.in_words(rate) == said
