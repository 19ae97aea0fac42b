"""The kernels of unit 3.3 against NumPy, and their sectors against a brute-force count."""

import itertools
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.drawings import coalescing as drawings
from aiinfra_labs.gpu.kernels import coalescing, cupy_coalescing
from aiinfra_labs.gpu.kernels.cuda_model import blocks_for
from aiinfra_labs.gpu.widgets.access import addresses, cost

THREADS = 64
RNG = np.random.default_rng(0)


def reals(*shape):
    return RNG.uniform(1, 2, shape).astype(np.float32)


def unwritten(*shape):
    return np.full(shape, np.nan, np.float32)


def report_of(kernel, grid, block, *args):
    with emulator.profile() as p:
        emulated(kernel)[grid, block](
            *(emulator.to_device(a) if isinstance(a, np.ndarray) else a for a in args)
        )
    return p.report


def counted(touched, itemsize):
    """Sectors by brute force: a set of the sectors of every byte."""
    return len({(a + b) // 32 for a in touched for b in range(itemsize)})


# --- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 31, 64, 100, 257])
def test_copies_are_numpys(n):
    grid = blocks_for(n, THREADS), THREADS
    for stride in (1, 2, 7):
        source, target = reals(n * stride), unwritten(n)
        coalescing.copy_strided[grid](source, target, stride)
        np.testing.assert_array_equal(target, source[::stride])
    for shift in (0, 1, 31):
        source, target = reals(n + shift), unwritten(n)
        coalescing.copy_shifted[grid](source, target, shift)
        np.testing.assert_array_equal(target, source[shift:])
    source, index = reals(50), RNG.integers(0, 50, n, dtype=np.int32)
    target = unwritten(n)
    coalescing.gather[grid](source, index, target)
    np.testing.assert_array_equal(target, source[index])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 127, 128, 131, 1022])
def test_float4_copies_the_tail_too(n):
    source, target = reals(n), unwritten(n)
    coalescing.copy_float4[blocks_for(n // 4 + n % 4, THREADS), THREADS](source, target)
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("n", [4, 128, 132, 1020])
def test_whole_fours_are_copied_and_their_neighbours_are_not(n):
    source, target = reals(n), unwritten(n)
    coalescing.copy_fours[blocks_for(n // 4, THREADS), THREADS](source, target)
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (70, 3), (40, 33), (64, 64)])
def test_sums_are_numpys(shape):
    a = reals(*shape)
    for name, axis, threads in (
        ("column_sums", 0, shape[1]),
        ("row_sums", 1, shape[0]),
        ("row_sums_by_warp", 1, 32 * shape[0]),
    ):
        sums = unwritten(shape[1 - axis])
        getattr(coalescing, name)[blocks_for(threads, THREADS), THREADS](a, sums)
        np.testing.assert_allclose(sums, a.astype(np.float64).sum(axis=axis), rtol=1e-5)


def test_advancing_moves_one_field_only():
    requests = np.zeros(100, coalescing.REQUEST)
    for place, name in enumerate(coalescing.REQUEST.names):
        requests[name] = np.arange(100) * 10 + place
    expected = requests.copy()
    expected["position"] += 1
    position = requests["position"].copy()
    coalescing.advance_structures[2, 64](requests)
    coalescing.advance_array[2, 64](position)
    assert (requests == expected).all()
    np.testing.assert_array_equal(position, expected["position"])


def test_a_structure_is_one_sector_that_numba_reads_by_fields():
    assert coalescing.REQUEST.itemsize == 32
    assert coalescing.REQUEST.isalignedstruct  # else Numba loads each field byte by byte


@pytest.mark.parametrize("dim", [1, 5, 32, 33, 100])
def test_embeddings_are_rows_of_the_table(dim):
    table, tokens = reals(20, dim), RNG.integers(0, 20, 7, dtype=np.int32)
    for name, threads in (("embed_by_thread", 7), ("embed_by_warp", 32 * 7)):
        out = unwritten(7, dim)
        getattr(coalescing, name)[blocks_for(threads, THREADS), THREADS](table, tokens, out)
        np.testing.assert_array_equal(out, table[tokens])


@pytest.mark.parametrize(("tokens", "heads", "dim"), [(1, 1, 1), (5, 2, 33), (70, 3, 16)])
def test_scores_are_the_same_in_every_layout(tokens, heads, dim):
    query, keys = reals(heads, dim), reals(tokens, heads, dim)
    expected = np.einsum("hd,thd->ht", query.astype(np.float64), keys.astype(np.float64))
    turned = np.ascontiguousarray(keys.transpose(1, 2, 0))
    for name, given, threads in (
        ("scores_token_major", keys, tokens),
        ("scores_dim_major", turned, tokens),
        ("scores_token_major_by_warp", keys, 32 * tokens),
    ):
        out = unwritten(heads, tokens)
        grid = (blocks_for(threads, THREADS), heads)
        getattr(coalescing, name)[grid, THREADS](query, given, out)
        np.testing.assert_allclose(out, expected, rtol=1e-5)


# --- what they cost ------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", range(1, 34))
def test_a_stride_costs_what_a_set_of_sectors_counts(stride):
    report = report_of(coalescing.copy_strided, 1, 32, reals(32 * stride), unwritten(32), stride)
    touched = [4 * stride * lane for lane in range(32)]
    assert report.global_load_sectors == counted(touched, 4)
    assert report.global_load_sectors == cost(addresses(stride=stride), 4).sectors
    assert report.global_store_sectors == 4


@pytest.mark.parametrize("shift", range(32))
def test_a_shift_costs_a_sector_unless_it_is_a_whole_one(shift):
    report = report_of(coalescing.copy_shifted, 1, 32, reals(32 + shift), unwritten(32), shift)
    assert report.global_load_sectors == (4 if shift % 8 == 0 else 5)


def test_a_shift_costs_dram_one_sector_in_all():
    n = 1 << 13
    straight, shifted = (
        report_of(coalescing.copy_shifted, n // 256, 256, reals(n + s), unwritten(n), s)
        for s in (0, 1)
    )
    assert shifted.global_load_sectors == straight.global_load_sectors * 5 // 4
    assert shifted.dram_bytes - straight.dram_bytes == 32


def test_a_warp_that_reads_down_a_column_moves_eight_times_as_much():
    """And DRAM the same, while the cache keeps the sectors until their other floats are read."""
    a = reals(256, 256)
    down = report_of(coalescing.row_sums, 1, 256, a, unwritten(256))
    by_warp = report_of(coalescing.row_sums_by_warp, 32, 256, a, unwritten(256))
    along = report_of(coalescing.column_sums, 1, 256, a, unwritten(256))
    assert [r.sectors_per_load for r in (down, by_warp, along)] == [32, 4, 4]
    assert down.dram_bytes_read == by_warp.dram_bytes_read == a.nbytes


def test_float4_makes_a_quarter_of_the_requests_and_moves_the_same():
    n = 1 << 12
    one = report_of(coalescing.copy_shifted, n // 256, 256, reals(n), unwritten(n), 0)
    four = report_of(coalescing.copy_float4, n // 1024, 256, reals(n), unwritten(n))
    assert one.global_load_requests == 4 * four.global_load_requests == n // 32
    assert one.global_store_requests == 4 * four.global_store_requests
    assert one.global_load_sectors == four.global_load_sectors == n // 8
    assert one.dram_bytes == four.dram_bytes
    assert four.sectors_per_load == 16
    whole = report_of(coalescing.copy_fours, n // 1024, 256, reals(n), unwritten(n))
    for name in ("load_requests", "load_sectors", "store_requests", "store_sectors"):
        assert getattr(whole, f"global_{name}") == getattr(four, f"global_{name}")


def test_a_field_of_structures_costs_a_sector_each():
    structures = report_of(
        coalescing.advance_structures, 4, 256, np.zeros(1024, coalescing.REQUEST)
    )
    array = report_of(coalescing.advance_array, 4, 256, np.zeros(1024, np.int32))
    assert structures.sectors_per_load == structures.sectors_per_store == 32
    assert array.sectors_per_load == array.sectors_per_store == 4
    assert structures.dram_bytes == 8 * array.dram_bytes


def test_neighbours_take_neighbours_in_embeddings_and_scores():
    table, tokens = reals(256, 128), RNG.permutation(256)[:64].astype(np.int32)
    by_thread = report_of(coalescing.embed_by_thread, 1, 64, table, tokens, unwritten(64, 128))
    by_warp = report_of(coalescing.embed_by_warp, 32, 64, table, tokens, unwritten(64, 128))
    assert by_thread.sectors_per_store == 32 and by_warp.sectors_per_store == 4
    query, keys = reals(2, 64), reals(64, 2, 64)
    turned, out = np.ascontiguousarray(keys.transpose(1, 2, 0)), unwritten(2, 64)
    # one address for the query's load in two of the three: 1 sector; the keys' load is the other
    costs = [
        report_of(kernel, grid, 64, query, given, out).sectors_per_load
        for kernel, grid, given in (
            (coalescing.scores_token_major, (1, 2), keys),
            (coalescing.scores_dim_major, (1, 2), turned),
            (coalescing.scores_token_major_by_warp, (32, 2), keys),
        )
    ]
    assert costs == [(1 + 32) / 2, (1 + 4) / 2, 4]


# --- CUDA C --------------------------------------------------------------------------------------


class FakeRawModule:
    """Checks a raw launch against the C signature, and runs the Numba kernel of that name."""

    def __init__(self, code):
        self.code = code

    def get_function(self, name):
        def launch(grid, block, arguments):
            listed = re.search(rf"__global__ void {name}\(([^)]*)\)", self.code)[1].split(",")
            assert len(arguments) == len(listed)
            for parameter, argument in zip(listed, arguments, strict=True):
                wanted = np.ndarray if "*" in parameter else np.int32
                assert isinstance(argument, wanted), parameter
            source, target, n, *more = arguments
            assert n == target.size
            emulated(getattr(coalescing, name))[grid, block](source, target, *map(int, more))

        return launch


@pytest.mark.parametrize("n", [40, 131, 1027])  # 1027: the tail begins a second block
def test_the_cuda_c_launches_cover_and_agree(monkeypatch, n):
    fake = SimpleNamespace(
        RawModule=FakeRawModule,
        asarray=np.array,
        asnumpy=np.asarray,
        empty=lambda size, dtype: unwritten(size),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    cupy_coalescing.raw.cache_clear()
    try:
        found = cupy_coalescing.differences(reals(n))
    finally:
        cupy_coalescing.raw.cache_clear()
    assert found == {"copy_strided": 0, "copy_shifted": 0, "copy_float4": 0}


def test_the_cuda_c_has_a_16_byte_load_and_the_same_tail():
    code = cupy_coalescing.CUDA_C
    assert "reinterpret_cast<const float4 *>(source)[i]" in code
    assert "int rest = 4 * fours + i - fours;" in code


# --- drawings ------------------------------------------------------------------------------------

DRAWINGS = {
    "sectors": drawings.warp_and_sectors,
    "structures": drawings.structures_and_arrays,
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_drawing_fits_its_frame_and_has_the_palettes_colours(draw):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig = draw()
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in fig.axes[0].texts]
    assert boxes and min(t.get_fontsize() for t in fig.axes[0].texts) >= 9
    for box in boxes:
        assert box.x0 >= fig.bbox.x0 and box.x1 <= fig.bbox.x1
    for a, b in itertools.combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0.5 or down <= 0.5
    html = figures.to_html(fig)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())
    assert len(fig.get_label().split()) > 15


@pytest.mark.parametrize("stride", drawings.STRIDES)
def test_the_drawing_says_what_a_count_says(stride):
    count = counted([4 * stride * lane for lane in range(32)], 4)
    assert len(drawings.touched(0, stride)) == count
    said = f"Stride {stride}: {count} sectors, {32 * count:,} bytes."
    assert said in drawings.warp_and_sectors().get_label()


def test_the_drawn_structures_are_those_of_the_kernels():
    record = coalescing.REQUEST
    for drawn, name in zip(drawings.FIELDS, record.names, strict=True):
        assert name.startswith(drawn)
    assert record.names[drawings.MARKED] == "position"
    requests = np.array(list(drawings.REQUESTS), record)
    assert requests.nbytes == 8 * drawings.SECTOR
    assert (requests["position"] < requests["length"]).all()
