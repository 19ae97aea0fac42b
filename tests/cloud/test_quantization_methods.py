"""GPTQ, AWQ and pruning of unit 4.5: against brute force, closed forms and their own promises."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig, causal_attention
from aiinfra_labs.cloud.serving.quantization import awq, gptq, integers, layers, pruning
from aiinfra_labs.cloud.serving.quantization.calibration import Inputs, walk
from aiinfra_labs.cloud.serving.quantization.integers import Scheme, dequantize, rounded, ternary

GROUPED = ModelConfig(61, 64, 96, 3, 4, 2, 16, 128)
BIASED = ModelConfig(61, 64, 96, 2, 4, 4, 16, 128, qkv_bias=True)


def model(config=GROUPED, seed=0, scale=2.0):
    """Weights large enough that a token depends on all before it; some inputs are large."""
    torch.manual_seed(seed)
    made = CausalLM(config).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.add_(0.3 * torch.randn_like(parameter))
        elif "norm" in name:
            parameter.mul_(torch.randn_like(parameter).exp())
        elif "embed" not in name:
            parameter.mul_(scale)
    return made


def text(config=GROUPED, rows=3, length=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, length), generator=generator)


def correlated(tokens, k, seed=0):
    """Inputs as layers see them: some large, all dependent on a few hidden causes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tokens, max(2, k // 2))) @ rng.normal(size=(max(2, k // 2), k))
    x = (x + 0.3 * rng.normal(size=x.shape)) * rng.lognormal(sigma=1.0, size=k)
    return torch.from_numpy(x.astype(np.float32))


def normal(*shape, seed=0):
    rng = np.random.default_rng((seed, *shape))
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def outputs(m, ids):
    return torch.stack([m.logits(m(r, torch.arange(len(r)), causal_attention)) for r in ids])


# --- calibration --------------------------------------------------------------------------------


def test_the_error_by_the_moment_is_the_error_of_the_outputs():
    x, w = correlated(200, 12), normal(5, 12)
    changed = rounded(w, Scheme(3))
    by_hand = ((x @ (changed - w).t()) ** 2).sum() / ((x @ w.t()) ** 2).sum()
    assert Inputs.of(x).error(changed, w) == pytest.approx(float(by_hand), rel=1e-4)
    assert Inputs.of(x).error(w, w) == 0


def test_walk_gives_what_each_layer_sees():
    m, ids = model(), text()
    seen_by_hand = {}

    def note(name):
        return lambda _, arguments: seen_by_hand.setdefault(name, []).append(arguments[0])

    hooks = [layer.register_forward_pre_hook(note(n)) for n, layer in layers.linears(m)]
    outputs(m, ids)
    for hook in hooks:
        hook.remove()
    for index, (_, seen) in enumerate(walk(m, ids)):
        for name, inputs in seen.items():
            x = torch.cat(seen_by_hand[f"layers.{index}.{name}"])
            assert inputs.tokens == ids.numel()
            torch.testing.assert_close(inputs.moment, x.t() @ x / len(x), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(inputs.size, x.abs().mean(0), rtol=1e-3, atol=1e-4)
    assert not any(layer._forward_pre_hooks for _, layer in layers.linears(m))


def test_walk_shows_a_block_what_the_changed_one_before_gives():
    m, ids = model(), text()
    sizes = []
    for change in (False, True):
        m = model()
        for block, seen in walk(m, ids):
            sizes.append(seen["mlp.down_proj"].size)
            if change:
                block.mlp.down_proj.weight.zero_()
    assert torch.equal(sizes[0], sizes[3])
    assert not torch.allclose(sizes[1], sizes[4])


# --- GPTQ ---------------------------------------------------------------------------------------


def least_squares_gptq(w, h, scale, scheme):
    """The same rule without its algebra: after each column, the free ones are solved for anew."""
    w, original = w.double().clone(), w.double()
    k = w.shape[1]
    for j in range(k):
        w[:, j] = integers.encode(w[:, j : j + 1].float(), scale, None, scheme)[:, 0] * scale[:, 0]
        free, fixed = slice(j + 1, k), slice(0, j + 1)
        # least (w' - w0) h (w' - w0)^T over the free columns of w': its gradient there is 0
        moved = (w[:, fixed] - original[:, fixed]) @ h[fixed, free]
        if j + 1 < k:
            w[:, free] = original[:, free] - torch.linalg.solve(h[free, free], moved.t()).t()
    return w.float()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_gptq_is_least_squares_after_each_column(bits, seed):
    x, w = correlated(300, 16, seed), normal(9, 16, seed=seed)
    scheme, inputs = Scheme(bits), Inputs.of(x)
    h = inputs.moment.double()
    h = h + gptq.DAMPING * h.diagonal().mean() * torch.eye(16, dtype=torch.float64)
    scale, _ = integers.grid(w, scheme)
    ours = dequantize(gptq.gptq(w, inputs, scheme))
    torch.testing.assert_close(ours, least_squares_gptq(w, h, scale.float(), scheme))


def test_one_fixed_weight_is_made_good_as_optimal_brain_surgeon_says():
    x, w = correlated(300, 8), normal(4, 8)
    h = Inputs.of(x).moment.double()

    def first_to_zero(j, now):
        return torch.zeros(4) if j == 0 else now[:, j]

    ours = gptq.with_feedback(w, h, first_to_zero, damping=0.0)
    inverse = torch.linalg.inv(h)
    delta = -w[:, :1].double() / inverse[0, 0] * inverse[0]  # Hassibi, Stork and Wolff's
    torch.testing.assert_close(ours, (w + delta).float(), rtol=1e-3, atol=1e-4)
    cost = ((ours - w).double() @ h * (ours - w)).sum(1)
    torch.testing.assert_close(cost, w[:, 0].double() ** 2 / inverse[0, 0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_gptq_lies_between_rounding_and_the_best_of_all_grids_points(seed):
    k, scheme = 6, Scheme(2, "channel", symmetric=False)
    x, w = correlated(200, k, seed), normal(3, k, seed=seed)
    inputs = Inputs.of(x)
    scale, zero = (t.float() for t in integers.grid(w, scheme))
    points = np.array(list(itertools.product(range(4), repeat=k)))  # every code of a row
    grid = (torch.from_numpy(points).float()[None] - zero[:, None]) * scale[:, None]
    wrong = grid - w[:, None]  # [3, 4^6, 6]
    best = torch.einsum("npi,ij,npj->np", wrong, inputs.moment, wrong).amin(1).sum()
    total = torch.einsum("ni,ij,nj->", w, inputs.moment, w)
    ours = inputs.error(dequantize(gptq.gptq(w, inputs, scheme)), w)
    assert float(best / total) <= ours * (1 + 1e-5)


@pytest.mark.parametrize(
    "scheme", [Scheme(2, 8, False), Scheme(3), Scheme(4, 8), ternary(8)], ids=str
)
def test_gptq_beats_rounding_to_the_nearest(scheme):
    better = []
    for seed in range(5):
        x, w = correlated(400, 32, seed), normal(16, 32, seed=seed)
        inputs = Inputs.of(x)
        ours = inputs.error(dequantize(gptq.gptq(w, inputs, scheme)), w)
        better.append(ours / inputs.error(rounded(w, scheme), w))
    assert max(better) < 0.9 and np.mean(better) < 0.7, better


def test_without_correlation_gptq_is_rounding_to_the_nearest():
    w = normal(6, 16)
    inputs = Inputs(torch.eye(16), torch.ones(16), 1)
    for scheme in (Scheme(4), Scheme(4, 8), Scheme(3, 8, False), Scheme(4, "tensor")):
        assert torch.equal(gptq.gptq(w, inputs, scheme).codes, integers.quantize(w, scheme).codes)


def test_inputs_that_are_always_zero_do_no_harm():
    x = correlated(100, 16)
    x[:, 3] = 0
    w = normal(4, 16)
    assert dequantize(gptq.gptq(w, Inputs.of(x), Scheme(4))).isfinite().all()
    nothing = Inputs.of(torch.zeros(10, 16))
    assert torch.equal(
        gptq.gptq(w, nothing, Scheme(4)).codes, integers.quantize(w, Scheme(4)).codes
    )


@pytest.mark.parametrize(("method", "share"), [(gptq.gptq_linears, 0.9), (awq.awq_linears, 0.97)])
def test_a_whole_model_comes_closer_than_by_rounding(method, share):
    scheme, ids, held_out = Scheme(4, 32), text(rows=8), text(seed=1)
    expected = outputs(model(), held_out)
    found = {"nearest": layers.quantize_linears(model(), scheme)}
    found["method"] = method(model(), ids, scheme)
    errors = {
        name: float((outputs(m, held_out) - expected).norm() / expected.norm())
        for name, m in found.items()
    }
    assert errors["method"] < share * errors["nearest"], errors


# --- AWQ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GROUPED, BIASED], ids=["grouped", "biased"])
def test_folding_the_scales_changes_nothing_that_is_computed(config):
    m, ids = model(config), text(config)
    expected = outputs(m, ids)
    before = [layer.weight.clone() for _, layer in layers.linears(m)]
    for block, seen in walk(m, ids):
        awq.fold(block, seen, Scheme(3, 16))
    after = [layer.weight for _, layer in layers.linears(m)]
    changed = sum(not torch.allclose(a, b) for a, b in zip(after, before, strict=True))
    assert changed > len(after) / 2
    torch.testing.assert_close(outputs(m, ids), expected, rtol=1e-3, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4]))
def test_the_search_never_does_worse_than_rounding(seed, bits):
    x, w, scheme = correlated(100, 16, seed), normal(8, 16, seed=seed), Scheme(bits, 8)
    inputs = Inputs.of(x)
    s, error = awq.search(w, inputs, scheme)
    assert error <= inputs.error(rounded(w, scheme), w)
    assert error == pytest.approx(inputs.error(rounded(w * s, scheme) / s, w))
    assert (s > 0).all() and float(s.max() * s.min()) == pytest.approx(1, rel=1e-3)


def test_a_large_input_gets_a_large_scale_and_a_small_error():
    w = normal(64, 32)
    size = torch.ones(32)
    size[4] = 30.0
    x = normal(500, 32, seed=1) * size
    inputs, scheme = Inputs.of(x), Scheme(3, 32)
    s, error = awq.search(w, inputs, scheme)
    assert s.argmax() == 4
    before, after = rounded(w, scheme), rounded(w * s, scheme) / s
    assert (after - w)[:, 4].norm() < 0.5 * (before - w)[:, 4].norm()
    assert error < 0.5 * inputs.error(before, w)


# --- 2:4 pruning --------------------------------------------------------------------------------


def test_the_mask_keeps_the_two_largest_of_each_four():
    score = normal(5, 24).abs()
    kept = pruning.mask(score)
    for row, bits in zip(score.tolist(), kept.tolist(), strict=True):
        for i in range(0, 24, 4):
            best = sorted(row[i : i + 4])[2]
            assert bits[i : i + 4] == [x >= best for x in row[i : i + 4]]
    with pytest.raises(integers.QuantizationError, match="rows of 6 weights"):
        pruning.mask(torch.ones(2, 6))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_the_form_comes_back(seed, eights):
    w = normal(3, 8 * eights, seed=seed)
    w = w * pruning.mask(w.abs())
    w[0, :4] = 0
    values, places = pruning.compress(w)
    assert torch.equal(pruning.decompress(values, places), w)
    layer = pruning.Sparse24Linear(w)
    torch.testing.assert_close(layer.weight, w.half().float())
    assert sum(b.nbytes for b in layer.buffers()) == w.numel() * 9 // 8  # 16 bits to 9
    with pytest.raises(integers.QuantizationError, match="more than two"):
        pruning.compress(w + 1)


def test_the_kept_weights_are_those_of_pytorchs_semi_structured_form():
    from torch.sparse._semi_structured_conversions import (
        sparse_semi_structured_from_dense_cutlass,
    )

    w = normal(32, 64)
    w = w * pruning.mask(w.abs())
    theirs, _ = sparse_semi_structured_from_dense_cutlass(w.half())
    assert torch.equal(pruning.compress(w.half())[0], theirs)


def test_better_rules_lose_less_of_the_outputs():
    errors = {rule: [] for rule in ("magnitude", "wanda", "sparsegpt")}
    for seed in range(5):
        x, w = correlated(400, 32, seed), normal(16, 32, seed=seed)
        inputs = Inputs.of(x)
        for rule, found in errors.items():
            pruned = pruning.prune(w, inputs, rule)
            assert ((pruned.view(16, 8, 4) != 0).sum(-1) == 2).all()
            found.append(inputs.error(pruned, w))
    means = {rule: np.mean(found) for rule, found in errors.items()}
    assert means["sparsegpt"] < 0.7 * means["wanda"] < 0.7 * means["magnitude"], means


@pytest.mark.parametrize("rule", ["magnitude", "wanda", "sparsegpt"])
def test_a_pruned_model_runs(rule):
    m, ids = model(), text()
    expected = outputs(m, ids)
    pruning.prune_linears(m, ids, rule)
    assert outputs(m, ids).isfinite().all() and not torch.allclose(outputs(m, ids), expected)
    assert layers.bits_per_weight(m) == 9.0
