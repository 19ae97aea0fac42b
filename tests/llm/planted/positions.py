"""Answers to the exercises of unit 1.2: right ones that differ, wrong ones that people make."""

from __future__ import annotations

import math

import torch

from aiinfra_labs.llm.attention import attention, causal_mask
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.2.a the sinusoidal table ------------------------------------------------------------------


@right("1.2.a")
def table_by_columns(positions, width):
    speeds = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angles = positions[:, None] * speeds
    out = torch.empty(len(positions), width)
    out[:, 0::2], out[:, 1::2] = angles.sin(), angles.cos()
    return out


@right("1.2.a")
def table_by_loops(positions, width):
    rows = []
    for p in positions.tolist():
        row = []
        for i in range(width // 2):
            angle = p / 10_000 ** (2 * i / width)
            row += [math.sin(angle), math.cos(angle)]
        rows.append(row)
    return torch.tensor(rows)


@right("1.2.a")
def table_of_complex_numbers(positions, width):
    speeds = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width).double()
    hands = torch.polar(torch.ones(1, 1).double(), positions[:, None] * speeds)
    return torch.stack((hands.imag, hands.real), -1).reshape(len(positions), width).float()


@wrong("1.2.a", "sines stand in even columns, cosines in odd")
def table_in_halves(positions, width):
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.cat((angles.sin(), angles.cos()), -1)


@wrong("1.2.a", "sin(0) is 0 and cos(0) is 1")
def table_cosine_first(positions, width):
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack((angles.cos(), angles.sin()), -1).flatten(-2)


@wrong("1.2.a", "give columns 2i and 2i + 1 the same speed")
def table_a_speed_for_each_column(positions, width):
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(width) / width)
    out = angles.sin()
    out[:, 1::2] = angles[:, 1::2].cos()
    return out


@wrong("1.2.a", "wave i of 2 turns 10000^(-2i / 4) radians")
def table_of_slow_waves(positions, width):
    angles = positions[:, None] * 10_000.0 ** (-2 * torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


@wrong("1.2.a", "not from a count of your own")
def table_from_zero(positions, width):
    where = torch.arange(len(positions))
    angles = where[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


@wrong("1.2.a", "the table has shape (2, 1)")
def table_turned(positions, width):
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2).T


@wrong("1.2.a", "the table is None")
def table_not_returned(positions, width):
    positions[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)


# --- 1.2.b RoPE ----------------------------------------------------------------------------------


def angles_of(positions, d, base):
    return positions[:, None] * base ** (-torch.arange(0, d, 2) / d)


@right("1.2.b")
def turn_by_halves(x, positions, base):
    angles = angles_of(positions, x.shape[-1], base)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


@right("1.2.b")
def turn_as_complex_numbers(x, positions, base):
    angles = angles_of(positions, x.shape[-1], base)
    d = x.shape[-1] // 2
    turned = torch.complex(x[..., :d], x[..., d:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), -1)


@right("1.2.b")
def turn_as_transformers_does(x, positions, base):
    angles = angles_of(positions, x.shape[-1], base)
    both = torch.cat((angles, angles), -1)
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * both.cos() + rotated * both.sin()


@wrong("1.2.b", "Hugging Face's checkpoints the rows stand in another order")
def turn_neighbours(x, positions, base):
    angles = angles_of(positions, x.shape[-1], base)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


@wrong("1.2.b", "every pair was turned the other way round")
def turn_backwards(x, positions, base):
    return turn_by_halves(x, -positions, base)


@wrong("1.2.b", "one minus, one plus")
def turn_with_two_pluses(x, positions, base):
    angles = angles_of(positions, x.shape[-1], base)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos + first * sin), -1)


@wrong("1.2.b", "the angle between two vectors changes by m - n")
def turn_by_the_square(x, positions, base):
    return turn_by_halves(x, positions**2, base)


@wrong("1.2.b", "a score that no distance changes")
def turn_by_nothing(x, positions, base):
    return x.clone()


@wrong("1.2.b", "a turn moves a point along its circle")
def turn_by_adding_the_table(x, positions, base):
    angles = angles_of(positions, x.shape[-1], base)
    return x + torch.cat((angles.sin(), angles.cos() - 1), -1)


@wrong("1.2.b", "positions [0, 1], base = 10,000\nthe result at [1, 0] is")
def turn_in_degrees(x, positions, base):
    return turn_by_halves(x, positions * math.pi / 180, base)


@wrong("1.2.b", "pair i at position p is turned by p * base^(-2i / D)")
def turn_with_one_base(x, positions, base):
    return turn_by_halves(x, positions, 10_000.0)


@wrong("1.2.b", "positions [0, 1], base = 10,000")
def turn_by_the_row(x, positions, base):
    return turn_by_halves(x, positions + 1, base) if positions.sum() else x.clone()


# --- 1.2.c decoding ------------------------------------------------------------------------------


@right("1.2.c")
def decode_at_the_end(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    where = torch.arange(cached, cached + new)
    keys = torch.cat((keys, turn(key, where)), dim=1)
    values = torch.cat((values, value), dim=1)
    out, _ = attention(turn(query, where), keys, values, causal_mask(new, cached + new))
    return out, keys, values


@right("1.2.c")
def decode_by_hand(query, key, value, keys, values, turn):
    heads, new, d = query.shape
    cached = keys.shape[1]
    where = cached + torch.arange(new)
    query, key = turn(torch.cat((query, key)), where.clone()).split(heads), None
    query, key = query
    keys, values = torch.cat([keys, key], 1), torch.cat([values, value], 1)
    scores = torch.einsum("htd,hsd->hts", query, keys) / math.sqrt(d)
    hidden = torch.arange(cached + new)[None, :] > where[:, None]
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    return [weights @ values, keys, values]


@wrong("1.2.c", "the new one stands at position 1, as in the whole text")
def decode_at_zero(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    where = torch.arange(new)
    keys, values = torch.cat((keys, turn(key, where)), 1), torch.cat((values, value), 1)
    out, _ = attention(turn(query, where), keys, values, causal_mask(new, cached + new))
    return out, keys, values


@wrong("1.2.c", "at which position does your code turn the new query")
def decode_the_query_one_off(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    where = torch.arange(cached, cached + new)
    keys, values = torch.cat((keys, turn(key, where)), 1), torch.cat((values, value), 1)
    out, _ = attention(turn(query, where + 1), keys, values, causal_mask(new, cached + new))
    return out, keys, values


@wrong("1.2.c", "18 vectors were turned, where 12 suffice: 3 queries and 3 keys of 2 heads")
def decode_turning_all_again(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    keys, values = torch.cat((keys, key), 1), torch.cat((values, value), 1)
    turned = turn(keys, torch.arange(cached + new))
    at = torch.arange(cached, cached + new)
    out, _ = attention(turn(query, at), turned, values, causal_mask(new, cached + new))
    return out, keys, values


@wrong("1.2.c", "the cached key of position 1 has changed; 1 of 2 have")
def decode_turning_the_cache_twice(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    keys, values = torch.cat((keys, key), 1), torch.cat((values, value), 1)
    keys = turn(keys, torch.arange(cached + new))
    at = torch.arange(cached, cached + new)
    out, _ = attention(turn(query, at), keys, values, causal_mask(new, cached + new))
    return out, keys, values


@wrong("1.2.c", "each of the 3 new tokens saw those that come after it")
def decode_without_mask(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    where = torch.arange(cached, cached + new)
    keys, values = torch.cat((keys, turn(key, where)), 1), torch.cat((values, value), 1)
    out, _ = attention(turn(query, where), keys, values)
    return out, keys, values


@wrong("1.2.c", "the values were turned, too")
def decode_turning_values(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    where = torch.arange(cached, cached + new)
    keys = torch.cat((keys, turn(key, where)), 1)
    values = torch.cat((values, turn(value, where)), 1)
    out, _ = attention(turn(query, where), keys, values, causal_mask(new, cached + new))
    return out, keys, values


@wrong("1.2.c", "positions of shape ()")
def decode_with_one_position(query, key, value, keys, values, turn):
    where = torch.tensor(keys.shape[1])
    keys, values = torch.cat((keys, turn(key, where)), 1), torch.cat((values, value), 1)
    return attention(turn(query, where), keys, values)[0], keys, values


@wrong("1.2.c", "it returned a Tensor, expected (out, keys, values)")
def decode_without_the_cache(query, key, value, keys, values, turn):
    return decode_at_the_end(query, key, value, keys, values, turn)[0]


@wrong("1.2.c", "at which position does your code turn the new query")
def decode_turning_keys_alone(query, key, value, keys, values, turn):
    cached, new = keys.shape[1], key.shape[1]
    where = torch.arange(cached, cached + new)
    keys, values = torch.cat((keys, turn(key, where)), 1), torch.cat((values, value), 1)
    out, _ = attention(query, keys, values, causal_mask(new, cached + new))
    return out, keys, values


# --- 1.2.d stretching ----------------------------------------------------------------------------


@right("1.2.d")
def stretch_by_turns(frequencies, factor, trained):
    turns = trained * frequencies / (2 * math.pi)
    kept = ((turns - 1) / 3).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@right("1.2.d")
def stretch_by_wavelengths(frequencies, factor, trained):
    found = []
    for w in frequencies.tolist():
        wavelength = 2 * math.pi / w
        if wavelength < trained / 4:
            found.append(w)
        elif wavelength > trained:
            found.append(w / factor)
        else:
            smooth = (trained / wavelength - 1) / (4 - 1)
            found.append((1 - smooth) * w / factor + smooth * w)
    return torch.tensor(found)


@wrong("1.2.d", "they tell neighbours apart, and have been everywhere")
def stretch_all(frequencies, factor, trained):
    return frequencies / factor


@wrong("1.2.d", "divided by 1, expected 4")
def stretch_none(frequencies, factor, trained):
    return frequencies


@wrong("1.2.d", "mix the two frequencies, not the two wavelengths")
def stretch_with_an_edge(frequencies, factor, trained):
    turns = trained * frequencies / (2 * math.pi)
    return torch.where(turns > 1, frequencies, frequencies / factor)


@wrong("1.2.d", "mix the two frequencies, not the two wavelengths")
def stretch_mixing_wavelengths(frequencies, factor, trained):
    turns = trained * frequencies / (2 * math.pi)
    kept = ((turns - 1) / 3).clamp(0, 1)
    return frequencies / (kept + (1 - kept) * factor)


@wrong("1.2.d", "divided by 0.25, expected 4")
def stretch_multiplying(frequencies, factor, trained):
    turns = trained * frequencies / (2 * math.pi)
    kept = ((turns - 1) / 3).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies * factor


@wrong("1.2.d", "they make")
def stretch_the_fast_ones(frequencies, factor, trained):
    turns = trained * frequencies / (2 * math.pi)
    kept = 1 - ((turns - 1) / 3).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@wrong("1.2.d", "divided by 1, expected 4")
def stretch_without_pi(frequencies, factor, trained):
    kept = ((trained * frequencies - 1) / 3).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@wrong("1.2.d", "is divided by nan")
def stretch_to_no_number(frequencies, factor, trained):
    """Nan is further from nothing than any tolerance: a comparison must not ask it that way."""
    return stretch_by_turns(frequencies, factor, trained) * math.nan
