"""The report: as text, as HTML, as plain values, by line, and summed over launches."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters.figures import NSIGHT, Counters
from aiinfra_labs.gpu.emulator.counters.report import Report


@cuda.jit
def add(a, b, out):
    i = cuda.grid(1)
    if i < out.size and a[i] < 100:  # & "quotes"
        out[i] = a[i] + b[i]


@cuda.jit(device=True)
def square(x):
    return x * x


@cuda.jit
def squares(a, out):
    i = cuda.grid(1)
    out[i] = square(a[i])


def arrays(n=100):
    return np.arange(n, dtype="f4"), np.ones(n, "f4"), np.zeros(n, "f4")


@pytest.fixture
def report():
    with cuda.profile() as p:
        add[2, 64](*arrays())
    return p.report


class Page(HTMLParser):
    """Checks that every element is closed, and gathers the cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.attributes = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.attributes += attributes
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_the_text_is_a_table(report):
    lines = str(report).splitlines()
    assert lines[0] == "add[2, 64]"
    # 3 whole warps (4 sectors) and one of 4 threads (1 sector), for each of three loads: 39 / 12
    assert re.search(r"sectors per load request +3\.25", str(report))
    figures = lines[1:12]
    assert len({len(line) for line in figures}) == 1  # the numbers end in one column
    assert any("out[i] = a[i] + b[i]" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_the_html_is_whole_and_escaped(report):
    html = report._repr_html_()
    page = Page(html)
    cells = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert cells["global load requests"] == f"{report.global_load_requests:,}"
    assert cells["threads launched"] == "128"
    source = 'if i < out.size and a[i] < 100:  # & "quotes"'
    assert any(source in row for row in page.rows)  # the parser undoes the escapes
    assert "&lt; 100" in html and "&amp;" in html
    assert "<caption>add[2, 64]</caption>" in html


def test_the_html_has_no_colours_of_its_own(report):
    """A page may be light or dark: the table takes its colours from the page."""
    styles = [value for name, value in Page(report._repr_html_()).attributes if name == "style"]
    assert styles
    assert not any(re.search(r"colou?r|background|#[0-9a-f]{3}", style) for style in styles)


def test_the_values_are_plain(report):
    values = report.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["kernel"] == "add" and values["grid"] == [2, 1, 1] and values["launches"] == 1
    for name, metric in NSIGHT.items():
        assert values["metrics"][metric] == getattr(report, name)
    (store,) = [c for c in values["lines"].values() if c["global_store_requests"]]
    # 100 elements in blocks of 64: warps of 32, 32, 32 and 4
    assert store["global_store_requests"] == 4 and store["flops"] == 100


def test_lines_are_those_of_the_file(report):
    first = add.py_func.__code__.co_firstlineno
    # the decorator's line, def, i = ..., if, out[i] = ...
    assert set(report.lines) == {first + 2, first + 3, first + 4}
    assert report.source[first + 4] == "out[i] = a[i] + b[i]"


def test_a_device_functions_line_is_its_own():
    a = np.arange(32.0)
    with cuda.profile() as p:
        squares[1, 32](a, np.zeros(32))
    (line,) = [number for number, text in p.report.source.items() if text == "return x * x"]
    assert p.report.lines[line].flops == 32
    assert line == square.py_func.__code__.co_firstlineno + 2


def test_the_sum_of_launches():
    a, b, out = arrays()
    with cuda.profile() as p:
        add[2, 64](a, b, out)
        add[4, 32](a, b, out)
        squares[1, 32](a, out)
    assert [r.kernel for r in p.launches] == ["add", "add", "squares"]
    assert [r.grid for r in p.launches] == [(2, 1, 1), (4, 1, 1), (1, 1, 1)]
    total = p.report
    for name in vars(Counters()):
        assert getattr(total, name) == sum(getattr(r, name) for r in p.launches), name
        assert getattr(total, name) == sum(getattr(c, name) for c in total.lines.values()), name
    assert total.launches == 3 and str(total).startswith("3 launches")
    assert "threads launched" not in str(total)
    assert p._repr_html_() == total._repr_html_()


def test_no_launch_is_no_error():
    with cuda.profile() as p:
        pass
    assert str(p.report).startswith("no launches")
    assert p.report.sectors_per_load == 0 and p.report.lanes_per_instruction == 0
    Page(p.report._repr_html_())


def test_one_launch_in_one_expression():
    a, b, out = arrays()
    report = cuda.profile(add)[2, 64](a, b, out)
    assert isinstance(report, Report) and report.global_store_requests == 4
    np.testing.assert_array_equal(out, a + b)


def test_profiles_and_traces_do_not_hide_each_other():
    a, b, out = arrays()
    with cuda.profile() as outer, cuda.trace() as trace:
        add[2, 64](a, b, out)
        with cuda.profile() as inner:
            add[2, 64](a, b, out)
    assert len(outer.launches) == 2 and len(inner.launches) == 1
    assert outer.launches[0].to_dict() == outer.launches[1].to_dict() == inner.report.to_dict()
    stores = trace.of("out", "store")
    assert len(stores) == 2
    assert [int((s.elements >= 0).sum()) for s in stores] == [100, 100]
    add[2, 64](a, b, out)  # outside of all: nobody listens
    assert len(outer.launches) == 2 and len(trace.of("out")) == 2


def test_a_launch_that_fails_leaves_no_report_and_the_next_is_whole():
    a, b, out = arrays()
    with cuda.profile() as p:
        with pytest.raises(cuda.OutOfBounds):
            squares[4, 32](a, out)
        add[2, 64](a, b, out)
    assert [r.kernel for r in p.launches] == ["add"]
    assert set(p.report.source.values()) & {"out[i] = square(a[i])"} == set()


def test_transfers_are_counted():
    a, b, out = arrays()
    with cuda.profile() as p:
        device = cuda.to_device(a)
        device.copy_to_host()
        add[2, 64](device, b, out)  # two host arrays go there and come back
    assert p.bytes_to_device == 400 + 800
    assert p.bytes_to_host == 400 + 800
