"""Answers to the exercises of unit 4.5: right ones that differ, and common mistakes."""

from __future__ import annotations

import torch

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 4.5.a an affine grid -----------------------------------------------------------------------


@right("4.5.a")
def by_clamps(w, bits):
    low, high = w.min().clamp(max=0), w.max().clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    if scale == 0:
        scale = torch.tensor(1.0)
    zero = torch.round(-low / scale)
    codes = (torch.round(w / scale) + zero).clamp(0, 2**bits - 1)
    return codes.to(torch.uint8), scale, zero


@right("4.5.a")
def in_float64(w, bits):
    top = 2**bits - 1
    low, high = min(0.0, w.min().item()), max(0.0, w.max().item())
    scale = (high - low) / top or 1.0
    zero = round(-low / scale)
    codes = [min(top, max(0, round(x / scale) + zero)) for x in w.double().tolist()]
    return torch.tensor(codes), scale, zero


@wrong("4.5.a", "a quotient is rounded to the nearest whole number")
def cut_off(w, bits):
    codes, scale, zero = by_clamps(w, bits)
    return (w / scale + zero).long().clamp(0, 2**bits - 1), scale, zero


@wrong("4.5.a", "points need: they reach")
def symmetric(w, bits):
    largest = w.abs().max()
    scale = 2 * largest / (2**bits - 1)
    if scale == 0:
        scale = torch.tensor(1.0)
    zero = 2 ** (bits - 1)
    return (torch.round(w / scale) + zero).clamp(0, 2**bits - 1), scale, zero


@wrong("4.5.a", "0 comes back as")
def zero_that_is_no_whole_number(w, bits):
    low, high = w.min().clamp(max=0), w.max().clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-9)
    zero = -low / scale
    return torch.round(w / scale + zero).clamp(0, 2**bits - 1), scale, zero


@wrong("4.5.a", "the grid does not reach so far: zero and scale belong together")
def zero_kept_in_range_for_a_grid_without_0(w, bits):
    low, high = w.min(), w.max()
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-9)
    zero = torch.round(-low / scale).clamp(0, 2**bits - 1)
    return (torch.round(w / scale) + zero).clamp(0, 2**bits - 1), scale, zero


@wrong("4.5.a", "what is left out is cut off when it is stored")
def one_point_too_many(w, bits):
    low, high = w.min().clamp(max=0), w.max().clamp(min=0)
    scale = ((high - low) / 2**bits).clamp(min=1e-9)
    zero = torch.round(-low / scale)
    return torch.round(w / scale) + zero, scale, zero


@wrong("4.5.a", "codes holds nan or infinity")
def dividing_by_zero(w, bits):
    low, high = w.min().clamp(max=0), w.max().clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    zero = torch.round(-low / scale)
    return (torch.round(w / scale) + zero).clamp(0, 2**bits - 1), scale, zero


@right("4.5.a")
def with_a_scale_of_64_bits(w, bits):
    codes, scale, zero = by_clamps(w, bits)
    return codes, float(scale), zero


@wrong("4.5.a", "half a step is")
def with_a_scale_of_16_bits(w, bits):
    """Too few digits for 255 steps, and no number as small as a step of tiny weights."""
    codes, scale, zero = by_clamps(w, bits)
    return codes, torch.as_tensor(scale).to(torch.float16), zero


@wrong("4.5.a", "half a step is")
def with_a_scale_of_few_digits(w, bits):
    codes, scale, zero = by_clamps(w, bits)
    return codes, torch.as_tensor(scale).to(torch.bfloat16), zero


# --- 4.5.b two weights to a byte ----------------------------------------------------------------


def _quantized(w, group):
    n, k = w.shape
    parts = w.reshape(n, k // group, group)
    scale = parts.abs().amax(-1) / 7
    scale[scale == 0] = 1
    codes = (parts / scale[..., None]).round().clamp(-7, 7).reshape(n, k)
    return codes, scale


def _packed(codes, offset=8):
    codes = (codes + offset).to(torch.uint8)
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


@right("4.5.b")
def by_slices(w, group):
    codes, scale = _quantized(w, group)
    return _packed(codes), scale


@right("4.5.b")
def by_products(w, group):
    rows, scales = [], []
    for row in w:
        scale = (row.unflatten(0, (-1, group)).abs().amax(1) / 7).clamp(min=1e-8)
        codes = torch.round(row / scale.repeat_interleave(group)).int() + 8
        pairs = codes.view(-1, 2)
        rows.append((pairs[:, 0] + 16 * pairs[:, 1]).to(torch.uint8))
        scales.append(scale)
    return torch.stack(rows), torch.stack(scales)


@wrong("4.5.b", "the two are exchanged")
def even_column_high(w, group):
    codes, scale = _quantized(w, group)
    codes = (codes + 8).to(torch.uint8)
    return codes[:, 1::2] | (codes[:, 0::2] << 4), scale


@wrong("4.5.b", "7 was added instead of 8")
def offset_of_seven(w, group):
    codes, scale = _quantized(w, group)
    return _packed(codes, 7), scale


@wrong("4.5.b", "without the 8")
def twos_complement(w, group):
    codes, scale = _quantized(w, group)
    codes = codes.int() & 15
    return (codes[:, 0::2] | (codes[:, 1::2] << 4)).to(torch.uint8), scale


@wrong("4.5.b", "an int64 would store four bits in eight bytes")
def as_integers(w, group):
    codes, scale = _quantized(w, group)
    codes = codes.long() + 8
    return codes[:, 0::2] | (codes[:, 1::2] << 4), scale


@wrong("4.5.b", "one large weight spoils the whole row")
def a_scale_a_row(w, group):
    n, k = w.shape
    scale = (w.abs().amax(1, keepdim=True) / 7).clamp(min=1e-8)
    codes = (w / scale).round()
    return _packed(codes), scale.expand(n, k // group)


@wrong("4.5.b", "a scale is larger than its group needs")
def up_to_four(w, group):
    codes, scale = _quantized(w, group)
    scale = scale * 7 / 4
    codes = (w / scale.repeat_interleave(group, 1)).round()
    return _packed(codes), scale


@wrong("4.5.b", "a scale is 0")
def scale_of_nothing(w, group):
    n, k = w.shape
    scale = w.reshape(n, -1, group).abs().amax(-1) / 7
    codes = (w / scale.repeat_interleave(group, 1)).nan_to_num().round()
    return _packed(codes), scale


@right("4.5.b")
def stored_with_scales_of_16_bits(w, group):
    codes, scale = _quantized(w, group)
    return _packed(codes), scale.to(torch.float16)


@wrong("4.5.b", "scale has dtype torch.float64, expected torch.float32 or torch.float16")
def stored_with_scales_of_64_bits(w, group):
    codes, scale = _quantized(w, group)
    return _packed(codes), scale.double()


@wrong("4.5.b", "scale has dtype torch.bfloat16")
def stored_with_scales_of_few_digits(w, group):
    codes, scale = _quantized(w, group)
    return _packed(codes), scale.to(torch.bfloat16)


# --- 4.5.c rounding with feedback ---------------------------------------------------------------


@right("4.5.c")
def an_inverse_each(w, h, step):
    w = w.double().clone()
    for j in range(w.shape[1]):
        inverse = torch.linalg.inv(h[j:, j:])
        fixed = (w[:, j] / step[:, 0]).round() * step[:, 0]
        error = (w[:, j] - fixed) / inverse[0, 0]
        w[:, j:] -= error[:, None] * inverse[0]
        w[:, j] = fixed
    return w.float()


@right("4.5.c")
def by_cholesky(w, h, step):
    u = torch.linalg.cholesky(torch.linalg.inv(h.double()), upper=True)
    out, now = torch.empty_like(w), w.double().clone()
    for j in range(w.shape[1]):
        out[:, j] = torch.round(now[:, j] / step[:, 0]) * step[:, 0]
        now[:, j:] -= (now[:, j] - out[:, j])[:, None] / u[j, j] * u[j, j:]
    return out


@right("4.5.c")
def by_shrinking_the_inverse(w, h, step):
    w, inverse = w.double().clone(), torch.linalg.inv(h)
    for j in range(w.shape[1]):
        fixed = (w[:, j] / step[:, 0]).round() * step[:, 0]
        w[:, j + 1 :] -= ((w[:, j] - fixed) / inverse[j, j])[:, None] * inverse[j, j + 1 :]
        w[:, j] = fixed
        inverse = inverse - inverse[:, j : j + 1] @ inverse[j : j + 1] / inverse[j, j]
    return w.float()


@wrong("4.5.c", "no error was made good")
def to_the_nearest(w, h, step):
    return (w / step).round() * step


@wrong("4.5.c", "those that are fixed already still count in it")
def one_inverse_for_all(w, h, step):
    w, inverse = w.double().clone(), torch.linalg.inv(h)
    for j in range(w.shape[1]):
        fixed = (w[:, j] / step[:, 0]).round() * step[:, 0]
        error = (w[:, j] - fixed) / inverse[j, j]
        w[:, j] = fixed
        w[:, j + 1 :] -= error[:, None] * inverse[j, j + 1 :]
    return w.float()


@wrong("4.5.c", "the error goes on by h itself")
def without_inverting(w, h, step):
    w = w.double().clone()
    for j in range(w.shape[1]):
        fixed = (w[:, j] / step[:, 0]).round() * step[:, 0]
        error = (w[:, j] - fixed) / h[j, j]
        w[:, j] = fixed
        w[:, j + 1 :] -= error[:, None] * h[j, j + 1 :]
    return w.float()


@wrong("4.5.c", "each error is doubled instead of made good")
def sign_turned(w, h, step):
    w = w.double().clone()
    for j in range(w.shape[1]):
        inverse = torch.linalg.inv(h[j:, j:])
        fixed = (w[:, j] / step[:, 0]).round() * step[:, 0]
        error = (w[:, j] - fixed) / inverse[0, 0]
        w[:, j] = fixed
        w[:, j + 1 :] += error[:, None] * inverse[0, 1:]
    return w.float()


@wrong("4.5.c", "only whole steps can be stored")
def last_column_left(w, h, step):
    out = an_inverse_each(w, h, step)
    out[:, -1] = w[:, -1]
    return out


@wrong("4.5.c", "w has changed")
def in_place(w, h, step):
    w.copy_(an_inverse_each(w, h, step))
    return w


# --- 4.5.d factors for large inputs -------------------------------------------------------------


@right("4.5.d")
def twenty_powers(w, x, round_rows):
    size = x.abs().mean(0).clamp(min=1e-4)
    best, least = None, float("inf")
    for i in range(20):
        s = size ** (i / 20)
        error = ((x @ (round_rows(w * s) / s - w).T) ** 2).sum().item()
        if error < least:
            best, least = s, error
    return best


@right("4.5.d")
def ten_powers_of_the_root_mean_square(w, x, round_rows):
    size = (x**2).mean(0).sqrt() + 1e-5
    size = size / size.mean()

    def error(s):
        return float((x @ (round_rows(w * s) / s - w).t()).norm())

    return min((size ** (i / 10) for i in range(11)), key=error)


@wrong("4.5.d", "all factors are alike")
def ones(w, x, round_rows):
    return torch.ones(w.shape[1])


@wrong("4.5.d", "too large")
def the_size_itself(w, x, round_rows):
    return x.abs().mean(0).clamp(min=1e-4)


@wrong("4.5.d", "large inputs have small factors")
def upside_down(w, x, round_rows):
    return 1 / x.abs().mean(0).clamp(min=1e-4) ** 0.5


@wrong("4.5.d", "the factors do not follow the inputs")
def by_the_weights(w, x, round_rows):
    return w.abs().mean(0) ** 0.5


@wrong("4.5.d", "0 can do neither")
def unclamped(w, x, round_rows):
    return x.abs().mean(0) ** 0.5


# --- 4.5.e straight through ---------------------------------------------------------------------


@right("4.5.e")
def by_detach(w, step):
    return w + ((w / step).round() * step - w).detach()


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, step):
        return torch.round(w / step) * step

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@right("4.5.e")
def by_a_function_of_its_own(w, step):
    return _Round.apply(w, step)


@wrong("4.5.e", "the derivative of round is 0")
def plain_rounding(w, step):
    return (w / step).round() * step


@wrong("4.5.e", "cut off from w")
def detached(w, step):
    return ((w / step).round() * step).detach()


@wrong("4.5.e", "forward, the layer must compute as it will when it serves")
def not_rounded(w, step):
    return w + ((w / step).round() - w / step).detach()


@wrong("4.5.e", "other steps than the loss asks for")
def scaled_gradient(w, step):
    steps = w / step
    return steps + ((w / step).round() * step - steps).detach()
