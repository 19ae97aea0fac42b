"""The report's wider figures: names, tables, frames, and two reports side by side."""

import dataclasses
import json
import re
import sys
import types
from html.parser import HTMLParser

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters.figures import NSIGHT, Counters
from aiinfra_labs.gpu.emulator.counters.report import Report, sum_of_reports

DESIGN = [
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_red.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_atom.sum",
    "smsp__thread_inst_executed_per_inst_executed.ratio",
    "smsp__sass_branch_targets_threads_divergent",
    "dram__bytes_read.sum",
    *(
        f"smsp__sass_thread_inst_executed_op_{letter}{operation}_pred_on.sum"
        for letter in "hfd"
        for operation in ("add", "mul", "fma")
    ),
]
PLAIN = [
    "global_load_requests",
    "global_load_sectors",
    "global_store_requests",
    "global_store_sectors",
    "shared_load_wavefronts",
    "shared_load_bank_conflicts",
    "shared_store_wavefronts",
    "shared_store_bank_conflicts",
    "branches",
    "divergent_branches",
    "warp_instructions",
    "thread_instructions",
    "atomic_requests",
    "flops",
]


@cuda.jit
def column(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = a[y, x]
    cuda.syncthreads()
    out[y, x] = tile[x, y]
    cuda.atomic.add(out, (0, 0), tile[0, 0] * np.float32(2) < 1 and np.float32(1))


@cuda.jit
def padded(a, out):
    tile = cuda.shared.array((32, 33), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = a[y, x]
    cuda.syncthreads()
    out[y, x] = tile[x, y]


def profiled(kernel):
    a, out = (cuda.to_device(np.zeros((32, 32), np.float32)) for _ in range(2))
    with cuda.profile() as p:
        kernel[1, (32, 32)](a, out)
    return p.report


@pytest.fixture(scope="module")
def conflicts():
    return profiled(column)


@pytest.fixture(scope="module")
def clean():
    return profiled(padded)


def test_every_metric_of_the_design_is_there(conflicts):
    assert set(DESIGN) <= set(conflicts.metrics)
    assert set(NSIGHT.values()) <= set(conflicts.metrics)
    assert len(set(NSIGHT.values())) == len(NSIGHT)


def test_every_plain_name_of_the_design_is_there(conflicts):
    for name in PLAIN:
        assert isinstance(getattr(conflicts, name), int), name
        assert isinstance(getattr(next(iter(conflicts.lines.values())), name), int), name


def test_a_line_has_the_same_metrics(conflicts):
    by_line = [c.metrics for c in conflicts.lines.values()]
    name = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum"
    assert sum(metrics[name] for metrics in by_line) == conflicts.metrics[name] == 32 * 31


def test_sums_keep_every_figure():
    numbers = {f.name: k + 1 for k, f in enumerate(dataclasses.fields(Counters))}
    a, b = Report(**numbers, dram_bytes_read=5), Report(**numbers, dram_bytes_read=7)
    both = sum_of_reports([a, b])
    assert {name: getattr(both, name) for name in numbers} == {n: 2 * v for n, v in numbers.items()}
    assert both.dram_bytes_read == 12
    assert vars(Counters(**numbers) + Counters(**numbers)) == {n: 2 * v for n, v in numbers.items()}
    # what one launch does not know, the sum does not know
    assert (
        sum_of_reports([a, Report(dram_bytes_read=None, dram_bytes_written=None)]).dram_bytes
        is None
    )


def test_the_table_shows_what_there_is(conflicts, clean):
    text = str(conflicts)
    # 32 warps store a row each (1) and load a column (32), and once one element (1)
    assert re.search(r"wavefronts per shared load +16\.50", text)
    assert re.search(r"bank conflicts +992", text)
    assert re.search(r"turns per atomic request +32\.00", text)
    assert "turns" not in str(clean)
    assert "local" not in text
    (line,) = [row for row in text.splitlines() if "out[y, x] = tile[x, y]" in row]
    assert "992" in line


def test_values_are_plain_and_whole(conflicts):
    values = conflicts.to_dict()
    assert json.loads(json.dumps(values)) == values
    for field in dataclasses.fields(Counters):
        assert values[field.name] == getattr(conflicts, field.name)
    assert values["shared_bytes"] == 4096 and values["device"] == "h100"


def test_without_pandas_a_frame_is_a_clear_error(conflicts, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(cuda.EmulatorError, match="needs pandas") as caught:
        conflicts.to_frame()
    assert "to_dict()" in caught.value.try_


def test_a_frame_has_a_row_for_each_line(conflicts, monkeypatch):
    # as pandas is called; the course does not install it
    stand_in = types.SimpleNamespace(
        DataFrame=lambda rows, index: (rows, index), Index=lambda lines, name: (list(lines), name)
    )
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    rows, (lines, name) = conflicts.to_frame()
    assert name == "line" and lines == list(conflicts.lines)
    assert sum(row["shared_load_bank_conflicts"] for row in rows) == 992
    assert [row["source"] for row in rows] == [conflicts.source[k] for k in lines]


def test_two_reports_side_by_side(conflicts, clean):
    comparison = conflicts.compare(clean)
    rows = {name: rest for name, *rest in comparison.rows()}
    assert rows["bank conflicts"] == ["992", "0", "x 0"]
    assert rows["global load requests"] == ["32", "32", "same"]
    assert rows["shared load requests"] == ["64", "32", "x 0.5"]
    assert rows["atomic requests"] == ["32", "0", "x 0"]
    assert {name: b for name, (_, b, _) in rows.items()}["wavefronts per shared load"] == "1.00"
    assert cuda.compare(clean, conflicts).to_dict()["shared_load_bank_conflicts"] == (0, 992)
    assert {n: r for n, *r in clean.compare(conflicts).rows()}["bank conflicts"][2] == "new"


def test_a_comparison_reads_in_a_terminal_and_in_a_notebook(conflicts, clean):
    comparison = cuda.compare(conflicts, clean)
    head = str(comparison).splitlines()[0]
    assert "column[1, (32, 32)]" in head and "padded[1, (32, 32)]" in head and "change" in head
    html = comparison._repr_html_()
    HTMLParser().feed(html)
    assert "<th scope='col'" in html and "992" in html
    assert not re.search(r"colou?r:|background", html)
    # two launches of one kernel are told apart
    assert "(a)" in str(conflicts.compare(conflicts)) and "(b)" in str(conflicts.compare(conflicts))


def test_every_text_is_escaped():
    odd = Report(kernel="<lambda> & co", source={1: "a < b"}, lines={1: Counters(branches=1)})
    odd.notes = ["<b>"]
    for shown in (odd.compare(Report(kernel="b")), odd):
        html = shown._repr_html_()
        assert "&lt;lambda&gt; &amp; co" in html and "<lambda>" not in html
    assert "<code>a &lt; b</code>" in html and "&lt;b&gt;" in html


def test_what_is_not_known_is_a_dash():
    unknown = Report(dram_bytes_read=None, dram_bytes_written=None)
    rows = {name: rest for name, *rest in unknown.compare(Report(dram_bytes_read=9)).rows()}
    assert rows["DRAM bytes read"] == ["-", "9", ""]


@cuda.jit
def everything(a, out, bins):
    """Each kind of memory, under divergence: all that a count could depend on."""
    tile = cuda.shared.array(64, np.float32)
    mine = cuda.local.array(2, np.float64)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = a[i % a.size]
    cuda.syncthreads()
    mine[i % 2] = 1.0
    mine[(i + 1) % 2] = 2.0
    total = tile[(t * 5) % cuda.blockDim.x] / np.float32(3)
    k = 0
    while k < i % 4:
        if (i + k) % 3 == 0:
            total = cuda.fma(total, np.float32(2), np.float32(1))
        k += 1
    old = cuda.atomic.add(bins, i % 3, total)
    cuda.atomic.max(bins, 3, old)
    out[i] = total + mine[0]


@pytest.mark.parametrize("lanes", [1, 64, 200])
def test_nothing_depends_on_the_batch_size(lanes, monkeypatch):
    a = cuda.to_device(np.arange(50, dtype=np.float32))
    out, bins = cuda.device_array(7 * 48), cuda.device_array(4, "f4")
    runs = []
    for budget in (1 << 16, lanes):
        monkeypatch.setattr("aiinfra_labs.gpu.emulator.lanes.dispatch.LANES", budget)
        bins[:] = 0
        with cuda.profile() as p:
            everything[7, 48](a, out, bins)
        runs.append(p.report.to_dict())
    assert runs[0] == runs[1]
    zero = {name for name, value in runs[0].items() if value == 0}
    unused = {f"fp16_{kind}" for kind in ("add", "mul", "fma")}
    unused |= {"fp32_mul", "fp64_mul", "fp64_fma", "fp32_add", "square_roots"}
    unused |= {"shared_atomic_requests", "shared_atomic_turns", "shared_store_bank_conflicts"}
    assert zero == unused | {"global_reduction_requests", "shuffles"}


def test_the_lines_add_up_to_the_launch():
    a = cuda.to_device(np.arange(50, dtype=np.float32))
    with cuda.profile() as p:
        everything[7, 48](a, cuda.device_array(7 * 48), cuda.to_device(np.zeros(4, "f4")))
    for field in dataclasses.fields(Counters):
        found = sum(getattr(c, field.name) for c in p.report.lines.values())
        assert getattr(p.report, field.name) == found, field.name
