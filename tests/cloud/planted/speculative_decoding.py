"""Answers to the exercises of unit 4.4: right ones that differ, and common mistakes."""

from __future__ import annotations

import copy

import numpy as np

from planting import plot

RIGHT, WRONG, right, wrong = plot()


def drawn(shares, u):
    """A token, by the cumulative sum of shares that need not sum to 1."""
    sums = np.cumsum(shares)
    return int(np.searchsorted(sums, u * sums[-1], side="right"))


# --- 4.4.a the rule ----------------------------------------------------------------------------


@right("4.4.a")
def by_products(p, q, token, random):
    if random() * q[token] < p[token]:
        return token
    return drawn(np.maximum(p - q, 0), random())


@right("4.4.a")
def by_a_loop(p, q, token, random):
    if p[token] >= q[token] or random() < p[token] / q[token]:
        return token
    lacking = [max(0.0, a - b) for a, b in zip(p, q, strict=True)]
    left = random() * sum(lacking)
    for other, share in enumerate(lacking):
        left -= share
        if left < 0:
            return other
    return int(np.argmax(lacking))


@wrong("4.4.a", "the draft has drawn with q already")
def with_p_alone(p, q, token, random):
    return token if random() < p[token] else drawn(np.maximum(p - q, 1e-30), random())


@wrong("4.4.a", "a plain comparison keeps all or none")
def by_comparison(p, q, token, random):
    return token if p[token] >= q[token] else drawn(np.maximum(p - q, 0), random())


@wrong("4.4.a", "tokens that kept drafts give often enough already")
def again_from_p(p, q, token, random):
    if random() < p[token] / q[token]:
        return token
    return drawn(np.where(np.arange(len(p)) == token, 0, p), random())


@wrong("4.4.a", "|p - q| also counts tokens")
def by_distance(p, q, token, random):
    if random() < p[token] / q[token]:
        return token
    return drawn(np.where(np.arange(len(p)) == token, 0, np.abs(p - q)), random())


@wrong("4.4.a", "dropped without need costs a step of the model")
def never_mind_the_draft(p, q, token, random):
    return drawn(p, random())


@wrong("4.4.a", "whether it stays is a matter of chance")
def always_kept(p, q, token, random):
    return token


@wrong("4.4.a", "whether a draft was used")
def unscaled(p, q, token, random):
    if random() < p[token] / q[token]:
        return token
    sums = np.cumsum(np.maximum(p - q, 0))
    return min(int(np.searchsorted(sums, random(), side="right")), len(p) - 1)


# --- 4.4.b prompt lookup -----------------------------------------------------------------------


@right("4.4.b")
def backwards(ids, count, longest):
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in reversed(range(len(ids) - size)):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return []


@right("4.4.b")
def by_a_table(ids, count, longest):
    best = (0, -1)
    for end in range(1, len(ids)):
        size = 0
        while size < min(longest, end) and ids[end - 1 - size] == ids[-1 - size]:
            size += 1
        if size:
            best = max(best, (size, end))
    return ids[best[1] : best[1] + count] if best[0] else []


@wrong("4.4.b", "a text repeats most often what it said last")
def the_first_place(ids, count, longest):
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in range(len(ids) - size):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return []


@wrong("4.4.b", "a longer end stood before")
def the_shortest_end(ids, count, longest):
    for size in range(1, min(longest, len(ids) - 1) + 1):
        for start in reversed(range(len(ids) - size)):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return []


@wrong("4.4.b", "the end stood before")
def the_end_itself(ids, count, longest):
    for size in range(min(longest, len(ids)), 0, -1):
        for start in reversed(range(len(ids) - size + 1)):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return []


@wrong("4.4.b", "begins right behind the place")
def the_place_itself(ids, count, longest):
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in reversed(range(len(ids) - size)):
            if ids[start : start + size] == ids[-size:]:
                return ids[start : start + count]
    return []


@wrong("4.4.b", "the end stood before")
def whole_ends_alone(ids, count, longest):
    for start in reversed(range(len(ids) - longest)):
        if ids[start : start + longest] == ids[-longest:]:
            return ids[start + longest : start + longest + count]
    return []


@wrong("4.4.b", "tokens were drafted, and")
def all_that_followed(ids, count, longest):
    return backwards(ids, len(ids), longest)


# --- 4.4.c a step ------------------------------------------------------------------------------


@right("4.4.c")
def by_answers(model, guess, prompt, count, k):
    cache, text = model.new_cache(), list(prompt)
    text.append(model(text, cache)[-1])
    while len(text) < len(prompt) + count:
        draft = guess(text, min(k, len(prompt) + count - len(text) - 1))
        answers = model([text[-1], *draft], cache)
        n = 0
        while n < len(draft) and draft[n] == answers[n]:
            n += 1
        text += answers[: n + 1]
        cache.cut(len(text) - 1)
    return text[len(prompt) :]


@right("4.4.c")
def with_drafts_from_the_first_call(model, guess, prompt, count, k):
    cache, text, end = model.new_cache(), list(prompt), len(prompt) + count
    while len(text) < end:
        draft = guess(text, min(k, end - len(text) - 1))
        known = len(text) - len(cache)
        answers = model(text[len(cache) :] + draft, cache)[known - 1 :]
        for i, answer in enumerate(answers):
            text.append(answer)
            if i == len(draft) or draft[i] != answer:
                break
        cache.cut(len(text) - 1)
    return text[len(prompt) :]


def _speculate(model, guess, prompt, count, k, *, cut=True, extra=True, trust=False, less=1):
    cache, text, end = model.new_cache(), list(prompt), len(prompt) + count
    text.append(model(text, cache)[-1])
    while len(text) < end:
        draft = guess(text, min(k, end - len(text) - less))
        answers = model([text[-1], *draft], cache)
        n = 0
        while n < len(draft) and (trust or draft[n] == answers[n]):
            n += 1
        text += draft[:n]
        if extra or not n:
            text.append(answers[n])
        if cut:
            cache.cut(len(text) - 1)
    return text[len(prompt) : end]


@wrong("4.4.c", "such as one that still holds a rejected token")
def without_a_cut(model, guess, prompt, count, k):
    return _speculate(model, guess, prompt, count, k, cut=False)


@wrong("4.4.c", "the model says another")
def trusting(model, guess, prompt, count, k):
    return _speculate(model, guess, prompt, count, k, trust=True)


@wrong("4.4.c", "one token of the model's own")
def without_the_extra_token(model, guess, prompt, count, k):
    return _speculate(model, guess, prompt, count, k, extra=False)


@wrong("4.4.c", "drafts for tokens that were not asked for")
def past_the_end(model, guess, prompt, count, k):
    return _speculate(model, guess, prompt, count, k, less=0)


@wrong("4.4.c", "for one token at a time")
def one_by_one(model, guess, prompt, count, k):
    cache, text = model.new_cache(), list(prompt)
    for _ in range(count):
        text.append(model(text[len(cache) :], cache)[-1])
    return text[len(prompt) :]


@wrong("4.4.c", "what the cache holds is not read again")
def reading_all_again(model, guess, prompt, count, k):
    text, end = list(prompt), len(prompt) + count
    text.append(model(text, model.new_cache())[-1])
    while len(text) < end:
        draft = guess(text, min(k, end - len(text) - 1))
        answers = model(text + draft, model.new_cache())[len(text) - 1 :]
        n = 0
        while n < len(draft) and draft[n] == answers[n]:
            n += 1
        text += answers[: n + 1]
    return text[len(prompt) :]


@wrong("4.4.c", "were asked for")
def more_than_asked(model, guess, prompt, count, k):
    cache, text = model.new_cache(), list(prompt)
    text.append(model(text, cache)[-1])
    while len(text) < len(prompt) + count:
        draft = guess(text, k)
        answers = model([text[-1], *draft], cache)
        n = 0
        while n < len(draft) and draft[n] == answers[n]:
            n += 1
        text += answers[: n + 1]
        cache.cut(len(text) - 1)
    return text[len(prompt) :]


@wrong("4.4.c", "the model was called")
def reading_with_a_copy_of_the_model(model, guess, prompt, count, k):
    """A copy reads everything one by one, and the model once, so that its count is small."""
    model(list(prompt), model.new_cache())
    return one_by_one(copy.deepcopy(model), guess, prompt, count, k)


@wrong("4.4.c", "a float")
def new_tokens_as_floats(model, guess, prompt, count, k):
    return list(map(float, by_answers(model, guess, prompt, count, k)))


# --- 4.4.d what it brings ----------------------------------------------------------------------


@right("4.4.d")
def by_powers(a, draft, verify):
    speeds = [1.0]
    for k in range(1, len(verify)):
        speeds.append(sum(a**i for i in range(k + 1)) / (k * draft + verify[k]))
    k = max(range(len(speeds)), key=lambda i: (speeds[i], -i))
    return k, speeds[k]


@right("4.4.d")
def by_the_formula(a, draft, verify):
    best = (0, 1.0)
    for k, time in enumerate(verify):
        tokens = k + 1 if a == 1 else (1 - a ** (k + 1)) / (1 - a)
        speed = tokens / (k * draft + time) if k else 1.0
        if speed > best[1] + 1e-12:
            best = (k, speed)
    return best


def _best(tokens, time, first=0):
    def answer(a, draft, verify):
        speeds = [
            1.0 if not k else tokens(a, k) / time(k, draft, verify) for k in range(len(verify))
        ]
        ks = [k for k in range(len(verify)) if k >= first] or [0]
        k = max(ks, key=lambda i: (speeds[i], -i))
        return k, speeds[k]

    return answer


def _sum(a, k):
    return sum(a**i for i in range(k + 1))


wrong("4.4.d", "a draft counts only if all before it were right")(
    _best(lambda a, k: 1 + k * a, lambda k, c, v: k * c + v[k])
)
wrong("4.4.d", "the model's own token comes always")(
    _best(lambda a, k: _sum(a, k) - 1, lambda k, c, v: k * c + v[k])
)
wrong("4.4.d", "both count")(_best(_sum, lambda k, c, v: v[k]))
wrong("4.4.d", "both count")(_best(_sum, lambda k, c, v: 1 + k * c))
wrong("4.4.d", "every k is slower than no draft at all here")(
    _best(_sum, lambda k, c, v: k * c + v[k], first=1)
)


@wrong("4.4.d", "ZeroDivisionError")
def dividing_by_zero(a, draft, verify):
    speeds = [1.0] + [
        (1 - a ** (k + 1)) / (1 - a) / (k * draft + verify[k]) for k in range(1, len(verify))
    ]
    k = max(range(len(speeds)), key=speeds.__getitem__)
    return k, speeds[k]


@wrong("4.4.b", "a wrong draft costs a token of the step")
def repeats_the_end_where_nothing_is_found(ids, count, longest):
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + count]
    return ids[-1:]


@wrong("4.4.b", "the draft holds '3', a str")
def drafts_texts(ids, count, longest):
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == ids[-size:]:
                return [str(x) for x in ids[start + size : start + size + count]]
    return []


@wrong("4.4.a", "it returned 0.0, a float")
def the_token_as_a_float(p, q, token, random):
    return float(by_products(p, q, token, random))


@wrong("4.4.b", "a float")
def the_draft_as_floats(ids, count, longest):
    return list(map(float, backwards(ids, count, longest)))


@wrong("4.4.d", "k holds 0.0, a float")
def k_as_a_float(a, draft, verify):
    k, speed = by_powers(a, draft, verify)
    return float(k), speed
