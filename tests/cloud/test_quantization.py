"""Grids, packing and layers of unit 4.5, against PyTorch's own quantizers and NumPy."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig, causal_attention
from aiinfra_labs.cloud.serving.quantization import integers, layers, packing, products
from aiinfra_labs.cloud.serving.quantization.integers import (
    QuantizationError,
    Scheme,
    dequantize,
    quantize,
    ternary,
)

CONFIG = ModelConfig(61, 64, 96, 2, 4, 2, 16, 128)
SCHEMES = [
    *(Scheme(b, p, s) for b, p, s in product((2, 4, 8), ("tensor", "channel", 16), (True, False))),
    *(ternary(p) for p in ("tensor", "channel", 16)),
]
BROADER = [*SCHEMES, *(Scheme(bits, 16) for bits in (3, 5, 6, 7))]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=str)
each_broader = pytest.mark.parametrize("scheme", BROADER, ids=str)
to_the_largest = pytest.mark.parametrize("scheme", [s for s in BROADER if not s.ternary], ids=str)
# PyTorch's quantized tensors go one day, and say so; the functions that round stay.
theirs_may_go = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")


def weight(n=24, k=48, seed=0, heavy=1.0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, k)) * rng.lognormal(sigma=heavy, size=(n, 1))
    return torch.from_numpy(found.astype(np.float32))


def model(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return CausalLM(config).eval().requires_grad_(False)


# --- against PyTorch's own ----------------------------------------------------------------------


@theirs_may_go
@pytest.mark.parametrize("symmetric", [True, False])
def test_int8_codes_are_those_of_torch_quantize_per_channel(symmetric):
    w = weight()
    q = quantize(w, Scheme(8, "channel", symmetric))
    zeros = torch.zeros(len(w), dtype=torch.int64) if symmetric else q.zero[:, 0].long()
    dtype = torch.qint8 if symmetric else torch.quint8
    theirs = torch.quantize_per_channel(w, q.scale[:, 0].double(), zeros, 0, dtype)
    assert codes_agree(q.codes, theirs.int_repr(), w / q.scale.float())
    torch.testing.assert_close(dequantize(q), theirs.dequantize(), atol=1.1 * step(q), rtol=0)


@theirs_may_go
def test_int8_codes_are_those_of_torch_quantize_per_tensor():
    w = weight()
    q = quantize(w, Scheme(8, "tensor"))
    theirs = torch.quantize_per_tensor(w, float(q.scale), 0, torch.qint8)
    assert codes_agree(q.codes, theirs.int_repr(), w / q.scale.float())


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_any_width_is_torchs_fake_quantize(bits, symmetric):
    w = weight(seed=bits)
    scheme = Scheme(bits, "channel", symmetric)
    q = quantize(w, scheme)
    zeros = torch.zeros(len(w), dtype=torch.int32) if symmetric else q.zero[:, 0].int()
    theirs = torch.fake_quantize_per_channel_affine(
        w, q.scale[:, 0].float(), zeros, 0, scheme.lowest, scheme.highest
    )
    same = (dequantize(q) - theirs).abs() < 1e-6
    half_way = near_half(w / q.scale.float())  # they multiply by 1 / scale: a tie may go either way
    assert (same | half_way).all() and same.float().mean() > 0.99


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_grid_is_that_of_torchs_observer(symmetric):
    from torch.ao.quantization.observer import PerChannelMinMaxObserver

    w = weight()
    w[:, :40] = w[:, :40].abs()  # so that an affine grid is not symmetric by chance
    scheme = Scheme(4, "channel", symmetric)
    kind = torch.per_channel_symmetric if symmetric else torch.per_channel_affine
    observer = PerChannelMinMaxObserver(
        0,
        torch.qint8 if symmetric else torch.quint8,
        kind,
        quant_min=scheme.lowest,
        quant_max=scheme.highest,
    )
    observer(w)
    scale, zero = observer.calculate_qparams()
    ours, our_zero = integers.grid(w, scheme)
    torch.testing.assert_close(ours[:, 0].float(), scale, rtol=2**-11, atol=0)  # ours is float16
    if not symmetric:
        assert ((our_zero[:, 0].int() - zero).abs() <= 1).all()
        assert (our_zero[:, 0].int() == zero).float().mean() > 0.9


def codes_agree(ours, theirs, steps):
    same = ours.int() == theirs.int()
    return bool((same | near_half(steps)).all()) and float(same.float().mean()) > 0.99


def near_half(steps):
    return ((steps - steps.floor()) - 0.5).abs() < 1e-3


def step(q):
    return float(q.scale.float().max())


# --- what holds of every grid -------------------------------------------------------------------


@to_the_largest
def test_no_weight_is_off_by_more_than_half_a_step(scheme):
    w = weight()
    q = quantize(w, scheme)
    error = (dequantize(q) - w).abs() / integers.spread(q.scale, w.shape[1])
    # The scale is rounded to float16: its last point may lie short by so much of each of its steps.
    assert error.max() <= 0.5 + scheme.highest * 2**-11


@each_broader
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_invariants(scheme, data):
    numbers = st.floats(-1e3, 1e3, width=32)
    row = data.draw(st.lists(numbers, min_size=16, max_size=16))
    w = torch.tensor([row, row[::-1]])
    q = quantize(w, scheme)
    assert q.codes.min() >= scheme.lowest and q.codes.max() <= scheme.highest
    back = dequantize(q)
    assert (back[w == 0] == 0).all(), "0 stays 0"
    assert back.isfinite().all() and ((back * w) >= 0).all(), "no sign is turned"
    if scheme.symmetric:  # a row and its opposite have opposite codes
        assert torch.equal(quantize(-w, scheme).codes, -q.codes)


@to_the_largest
def test_rounding_twice_changes_nothing(scheme):
    w = integers.rounded(weight(), scheme)
    again = integers.rounded(w, scheme)
    torch.testing.assert_close(again, w, rtol=2e-3, atol=0)


def test_an_outlier_spoils_its_own_group_alone():
    w = weight(8, 64, heavy=0.0)
    w[3, 5] = 40.0
    errors = {p: (integers.rounded(w, Scheme(4, p)) - w).abs() for p in ("tensor", "channel", 16)}
    others = torch.arange(8) != 3
    assert errors["channel"][others].mean() < errors["tensor"][others].mean() / 3
    assert errors[16][3, 16:].mean() < errors["channel"][3, 16:].mean() / 3


def test_a_row_of_zeros_and_a_row_of_one_value():
    w = torch.zeros(3, 32)
    w[1] = 0.7
    w[2] = -0.7
    for scheme in SCHEMES:
        if scheme.per == "tensor":
            continue
        torch.testing.assert_close(integers.rounded(w, scheme), w, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("attempt", "what"),
    [
        (lambda: Scheme(1), "1 bits a weight"),
        (lambda: Scheme(9), "9 bits a weight"),
        (lambda: Scheme(4, 0), "a scale per 0"),
        (lambda: Scheme(4, "row"), "a scale per 'row'"),
        (lambda: Scheme(4, ternary=True), "ternary weights of 4 bits"),
        (lambda: quantize(weight(4, 40), Scheme(4, 32)), "40 inputs in groups of 32"),
        (lambda: quantize(torch.full((2, 4), torch.nan), Scheme()), "nan or infinity"),
        (lambda: quantize(torch.ones(4), Scheme()), "a weight of shape"),
        (lambda: packing.pack(torch.zeros(2, 3, dtype=torch.uint8), 4), "3 codes of 4 bits"),
        (lambda: packing.pack(torch.zeros(2, 8, dtype=torch.uint8), 3), "codes of 3 bits"),
    ],
)
def test_what_cannot_be_is_said_in_three_parts(attempt, what):
    with pytest.raises(QuantizationError, match=what) as error:
        attempt()
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)


# --- packing ------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([2, 4, 8]), st.integers(1, 5), st.integers(1, 6), st.data())
def test_packing_comes_back(bits, rows, eights, data):
    seed = data.draw(st.integers(0, 1000))
    codes = np.random.default_rng(seed).integers(2**bits, size=(rows, 8 * eights), dtype=np.uint8)
    packed = packing.pack(torch.from_numpy(codes), bits)
    assert packed.shape == (rows, eights * bits) and packed.dtype == torch.uint8
    assert torch.equal(packing.unpack(packed, bits), torch.from_numpy(codes))
    # NumPy's own packing of the same bits, least significant first
    all_bits = (codes[..., None] >> np.arange(bits)) & 1
    theirs = np.packbits(all_bits.reshape(rows, -1), axis=-1, bitorder="little")
    assert np.array_equal(packed.numpy(), theirs)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 23), st.integers(0, 1000))
def test_five_trits_to_a_byte(rows, count, seed):
    codes = np.random.default_rng(seed).integers(3, size=(rows, count), dtype=np.uint8)
    packed = packing.pack_trits(torch.from_numpy(codes))
    assert packed.shape == (rows, -(-count // 5))
    for row, stored in zip(codes, packed.tolist(), strict=True):
        digits = "".join(map(str, row))
        theirs = [int(digits[i : i + 5][::-1], 3) for i in range(0, count, 5)]
        assert stored == theirs
    assert torch.equal(packing.unpack_trits(packed, count), torch.from_numpy(codes))


# --- layers -------------------------------------------------------------------------------------


@each_scheme
@pytest.mark.parametrize("bias", [False, True])
def test_a_quantized_layer_multiplies_by_the_rounded_weight(scheme, bias):
    linear = torch.nn.Linear(48, 24, bias=bias).requires_grad_(False)
    linear.weight[:] = weight()
    q = quantize(linear.weight, scheme)
    layer = layers.QuantizedLinear(q, linear.bias)
    assert torch.equal(layer.codes(), q.codes)
    x = torch.randn(5, 48)
    expected = x @ dequantize(q).t() + (linear.bias if bias else 0)
    torch.testing.assert_close(layer(x), expected)
    assert str(scheme) in repr(layer) and not list(layer.parameters())


def test_bytes_of_a_layer():
    w = weight(32, 64)
    for scheme, expected in (
        (Scheme(8), 32 * 64 + 2 * 32),
        (Scheme(4, 32), 32 * 64 // 2 + 2 * 32 * 2),
        (Scheme(4, 32, False), 32 * 64 // 2 + 3 * 32 * 2),
        (Scheme(2, 32), 32 * 64 // 4 + 2 * 32 * 2),
        (ternary(), 32 * 13 + 2 * 32),
    ):
        layer = layers.QuantizedLinear(quantize(w, scheme))
        assert sum(b.nbytes for b in layer.buffers()) == expected
        assert layers.bits_per_weight(layer) == 8 * expected / w.numel()


def test_int8_products_are_exact_sums_of_integers():
    w, x = weight(), torch.randn(7, 48)
    layer = layers.Int8Linear(w)
    got = layer(x)
    scale = x.abs().amax(-1, keepdim=True) / 127
    by_hand = (
        np.rint(x.numpy() / scale.numpy()).astype(np.int64) @ layer.codes.numpy().astype(np.int64).T
    )
    expected = torch.from_numpy(by_hand).float() * scale * layer.scale.float().t()
    torch.testing.assert_close(got, expected)
    assert (got - x @ w.t()).norm() / (x @ w.t()).norm() < 0.02
    assert layer(x[None]).shape == (1, 7, 24) and layer(x[0]).shape == (24,)
    assert layer(torch.zeros(2, 48)).abs().max() == 0


def cut_off_at_16_bits(a, b):
    """What a processor with AVX2 and without VNNI does: two neighbours' products, and their sum."""
    pairs = a.int()[:, :, None] * b.int()[None]  # [T, K, N]
    pairs = pairs.unflatten(1, (-1, 2)).sum(2).clamp(-20_000, 20_000)
    return pairs.sum(1).int()


@pytest.mark.parametrize("sums", [None, cut_off_at_16_bits])
@pytest.mark.parametrize("shape", [(1, 64, 8), (7, 48, 24), (33, 1024, 16)])
def test_the_largest_sums_are_kept_on_any_processor(monkeypatch, sums, shape):
    if sums is not None:
        monkeypatch.setattr(torch, "_int_mm", sums)
    products.adds_up.cache_clear()
    T, K, N = shape
    for low in (127, -128):
        a = torch.randint(-128, 128, (T, K), dtype=torch.int8)
        b = torch.randint(-128, 128, (K, N), dtype=torch.int8)
        a[0], b[:, 0] = low, -127
        got = products.integer_product(a, b)
        expected = a.numpy().astype(np.int64) @ b.numpy().astype(np.int64)
        assert got.dtype == torch.int32 and np.array_equal(got.numpy(), expected)
    assert sums is None or not products.adds_up("cpu")
    products.adds_up.cache_clear()


@each_scheme
def test_a_model_computes_with_the_rounded_weights(scheme):
    ours, theirs = model(), model()
    for _, layer in layers.linears(theirs):
        layer.weight.data = integers.rounded(layer.weight, scheme)
    layers.quantize_linears(ours, scheme)
    ids = torch.arange(20)
    got, expected = (m.logits(m(ids, ids, causal_attention)) for m in (ours, theirs))
    torch.testing.assert_close(got, expected)
    assert all(isinstance(layer, layers.QuantizedLinear) for _, layer in layers.linears(ours))
    assert len(list(layers.linears(ours))) == 4 * CONFIG.num_hidden_layers


def test_a_model_that_does_not_fit_stays_as_it_was():
    ours = model()
    before = copy.deepcopy(ours)
    with pytest.raises(QuantizationError, match="in groups of 40"):
        layers.quantize_linears(ours, Scheme(4, 40))
    assert all(type(layer) is torch.nn.Linear for _, layer in layers.linears(ours))
    for (name, a), b in zip(ours.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_stored_bytes_count_a_tied_table_once():
    dense = model()
    count = sum(p.numel() for p in dense.parameters())
    assert layers.stored_bytes(dense) == 2 * count
    in_blocks = sum(layer.weight.numel() for _, layer in layers.linears(dense))
    small = layers.quantize_linears(dense, Scheme(4, 16))
    assert layers.stored_bytes(small) == 2 * (count - in_blocks) + in_blocks * 5 // 8
    assert layers.bits_per_weight(small) == 5.0  # 4, and 16 bits of scale for each 16


def test_a_quantized_model_is_saved_and_loaded(tmp_path):
    from safetensors.torch import load_file, save_file

    scheme = Scheme(4, 16, False)
    small = layers.quantize_linears(model(), scheme)
    own = {n: t.contiguous() for n, t in small.state_dict().items() if n != "lm_head.weight"}
    save_file(own, tmp_path / "small.safetensors")
    other = layers.quantize_linears(model(seed=1), scheme)
    other.load_state_dict(load_file(tmp_path / "small.safetensors"), strict=False)
    ids = torch.arange(9)
    got, expected = (m.logits(m(ids, ids, causal_attention)) for m in (other, small))
    assert torch.equal(got, expected)
