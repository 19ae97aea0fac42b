"""Answers to the exercises of unit 1.5: right ones that differ, and common mistakes."""

from __future__ import annotations

import torch

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.5.a temperature -------------------------------------------------------------------------


@right("1.5.a")
def by_torch(logits, temperature):
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    return torch.softmax(logits / temperature, dim=-1)


@right("1.5.a")
def by_log_sum_exp(logits, temperature):
    if not temperature:
        out = torch.zeros_like(logits)
        out[torch.argmax(logits)] = 1
        return out
    scaled = logits.double() / temperature
    return (scaled - scaled.logsumexp(0)).exp().float()


@wrong("1.5.a", "exp of more than 88 is an infinity")
def overflowing(logits, temperature):
    if temperature == 0:
        return torch.eye(len(logits))[logits.argmax()]
    powers = (logits / temperature).exp()
    return powers / powers.sum()


@wrong("1.5.a", "only the largest logit is left")
def dividing_by_zero(logits, temperature):
    return torch.softmax((logits - logits.max()) / temperature, dim=-1)


@wrong("1.5.a", "every logit is divided by")
def multiplying(logits, temperature):
    if temperature == 0:
        return torch.eye(len(logits))[logits.argmax()]
    return torch.softmax(logits * temperature, dim=-1)


@wrong("1.5.a", "every logit is divided by")
def after_the_softmax(logits, temperature):
    if temperature == 0:
        return torch.eye(len(logits))[logits.argmax()]
    shares = torch.softmax(logits, dim=-1) / temperature
    return shares / shares.sum()


@wrong("1.5.a", "the limit of small temperatures")
def sharing_a_tie(logits, temperature):
    if temperature == 0:
        best = (logits == logits.max()).float()
        return best / best.sum()
    return torch.softmax(logits / temperature, dim=-1)


@wrong("1.5.a", "logits, which was given to your function, has changed")
def in_place(logits, temperature):
    if temperature == 0:
        return torch.eye(len(logits))[logits.argmax()]
    logits -= logits.max() + 1
    return torch.softmax(logits / temperature, dim=-1)


# --- 1.5.b top-p -------------------------------------------------------------------------------


@right("1.5.b")
def before_each(probabilities, p):
    ordered, ids = probabilities.sort(descending=True, stable=True)
    keep = ordered.cumsum(0) - ordered < p
    keep[0] = True
    out = torch.zeros_like(probabilities)
    out[ids[keep]] = ordered[keep]
    return out / out.sum()


@right("1.5.b")
def one_by_one(probabilities, p):
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i].item())
    out, total = torch.zeros(len(probabilities)), 0.0
    for n, i in enumerate(order):
        if n and total >= p:
            break
        out[i] = probabilities[i]
        total += probabilities[i].item()
    return out / total


@wrong("1.5.b", "the token with which the sum reaches p stays")
def without_the_crossing_one(probabilities, p):
    ordered, ids = probabilities.sort(descending=True, stable=True)
    keep = ordered.cumsum(0) <= p
    keep[0] = True
    out = torch.zeros_like(probabilities)
    out[ids[keep]] = ordered[keep]
    return out / out.sum()


@wrong("1.5.b", "reaches p = 0.75 already")
def one_too_many(probabilities, p):
    ordered, ids = probabilities.sort(descending=True, stable=True)
    keep = ordered.cumsum(0) - ordered <= p
    out = torch.zeros_like(probabilities)
    out[ids[keep]] = ordered[keep]
    return out / out.sum()


@wrong("1.5.b", "reaches p = 0.5 already")
def all_of_a_tie(probabilities, p):
    ordered = probabilities.sort(descending=True).values
    n = int((ordered.cumsum(0) < p).sum())
    out = probabilities * (probabilities >= ordered[min(n, len(ordered) - 1)])
    return out / out.sum()


@wrong("1.5.b", "the rule must be the same on every machine")
def the_larger_id_first(probabilities, p):
    return before_each(probabilities.flip(0), p).flip(0)


@wrong("1.5.b", "one token must be left to draw")
def none_at_zero(probabilities, p):
    ordered, ids = probabilities.sort(descending=True, stable=True)
    keep = ordered.cumsum(0) - ordered < p
    out = torch.zeros_like(probabilities)
    out[ids[keep]] = ordered[keep]
    return out / out.sum().clamp(min=1e-9)


@wrong("1.5.b", "what is drawn from must sum to 1")
def not_shared_out(probabilities, p):
    return probabilities * (before_each(probabilities, p) > 0)


@wrong("1.5.b", "wherever in the vocabulary they stand")
def left_sorted(probabilities, p):
    ordered = probabilities.sort(descending=True).values
    out = ordered * (ordered.cumsum(0) - ordered < max(p, 1e-9))
    return out / out.sum()


# --- 1.5.c prefill and decode ------------------------------------------------------------------


@right("1.5.c")
def by_position(model, prompt, count):
    cache, chosen = model.new_cache(), []
    ids, start = prompt, 0
    for _ in range(count):
        positions = torch.arange(start, start + len(ids))
        chosen.append(int(model(ids, positions, cache)[-1].argmax()))
        start += len(ids)
        ids = torch.tensor(chosen[-1:])
    return chosen


@right("1.5.c")
def prefill_first(model, prompt, count):
    if not count:
        return []
    cache = model.new_cache()
    logits = model(prompt, torch.arange(len(prompt)), cache)
    out = [logits[-1].argmax().item()]
    while len(out) < count:
        where = len(prompt) + len(out) - 1
        logits = model(torch.tensor([out[-1]]), torch.tensor([where]), cache)
        out.append(logits[0].argmax().item())
    return out


@wrong("1.5.c", "every step reads the whole text again")
def without_a_cache(model, prompt, count):
    ids = prompt
    for _ in range(count):
        best = model(ids, torch.arange(len(ids)))[-1].argmax()
        ids = torch.cat((ids, best[None]))
    return ids[len(prompt) :].tolist()


def _from(first):
    """Decoding whose new tokens begin at the position that `first` says."""

    def answer(model, prompt, count):
        cache, chosen = model.new_cache(), []
        ids, where = prompt, torch.arange(len(prompt))
        for i in range(count):
            chosen.append(int(model(ids, where, cache)[-1].argmax()))
            ids, where = torch.tensor(chosen[-1:]), torch.tensor([first(len(prompt)) + i])
        return chosen

    return answer


wrong("1.5.c", "as if it stood at the text's beginning")(_from(lambda t: 0))
wrong("1.5.c", "read at the prompt's last position")(_from(lambda t: t - 1))
wrong("1.5.c", "a position was left out")(_from(lambda t: t + 1))


@wrong("1.5.c", "the first of them already differs")
def from_the_first_logits(model, prompt, count):
    cache, chosen = model.new_cache(), []
    ids, start = prompt, 0
    for _ in range(count):
        logits = model(ids, torch.arange(start, start + len(ids)), cache)
        chosen.append(int(logits[0].argmax()))
        start, ids = start + len(ids), torch.tensor(chosen[-1:])
    return chosen


@wrong("1.5.c", "the model was called 9 times, where 4 calls suffice")
def prompt_token_by_token(model, prompt, count):
    cache, chosen = model.new_cache(), []
    text = prompt.tolist()
    for i in range(len(prompt) + count - 1 if count else 0):
        best = int(model(torch.tensor([text[i]]), torch.tensor([i]), cache)[-1].argmax())
        if i >= len(prompt) - 1:
            chosen.append(best)
            text.append(best)
    return chosen


@wrong("1.5.c", "what follows the last new token is not asked")
def one_step_too_many(model, prompt, count):
    return by_position(model, prompt, count + 1)[:count]


@wrong("1.5.c", "the prompt is returned, too")
def with_the_prompt(model, prompt, count):
    return prompt.tolist() + by_position(model, prompt, count)


# --- 1.5.d stop strings ------------------------------------------------------------------------


@right("1.5.d")
def longest_end(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        at = held.find(stop)
        if at >= 0:
            yield held[:at]
            return
        keep = 0
        for n in range(1, len(stop)):
            if held.endswith(stop[:n]):
                keep = n
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    yield held


@right("1.5.d")
def character_by_character(pieces, stop):
    held = ""
    for piece in pieces:
        for character in piece:
            held += character
            if held == stop:
                return
            while not stop.startswith(held):
                yield held[0]
                held = held[1:]
            if held == stop:
                return
    yield held


@wrong("1.5.d", "what was sent cannot be called back")
def piece_by_piece(pieces, stop):
    for piece in pieces:
        if stop in piece:
            yield piece[: piece.find(stop)]
            return
        yield piece


@wrong("1.5.d", "a reader waits for each character")
def all_at_the_end(pieces, stop):
    text = ""
    for piece in pieces:
        text += piece
        if stop in text:
            break
    yield text.partition(stop)[0]


@wrong("1.5.d", "a reader waits for each character")
def always_as_much_as_the_stop(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held.partition(stop)[0]
            return
        sure = max(0, len(held) - len(stop) + 1)
        yield held[:sure]
        held = held[sure:]
    yield held


@wrong("1.5.d", "what was held back was no stop string after all")
def never_sending_the_rest(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held.partition(stop)[0]
            return
        keep = max((n for n in range(len(stop)) if held.endswith(stop[:n])), default=0)
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]


@wrong("1.5.d", "each further piece is a step of the model that nobody reads")
def going_on(pieces, stop):
    done = False
    held = ""
    for piece in pieces:
        if done:
            continue
        held += piece
        if stop in held:
            yield held.partition(stop)[0]
            held, done = "", True
            continue
        keep = max((n for n in range(len(stop)) if held.endswith(stop[:n])), default=0)
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held


@wrong("1.5.d", "what was sent cannot be called back")
def with_the_stop(pieces, stop):
    yield from longest_end(pieces, stop)
    yield stop
