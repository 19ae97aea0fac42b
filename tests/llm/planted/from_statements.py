"""Answers to the exercises of units 1.1 and 1.5, written from their statements alone.

Some are right in a way that nobody foresaw; some are wrong in a way that only an odd input shows.
"""

from __future__ import annotations

import codecs
import itertools

import numpy as np
import torch

from planting import plot

RIGHT, WRONG, right, wrong = plot()


@right("1.1.a")
def merge_recursive(words):
    c = {}

    def rec(w, n):
        if len(w) < 2:
            return
        c[w[:2]] = c.get(w[:2], 0) + n
        rec(w[1:], n)

    for w, n in words.items():
        rec(w, n)
    return sorted(c.items(), key=lambda kv: (-kv[1], kv[0]))[0][0] if c else None


@right("1.1.a")
def merge_numpy_ints(words):
    a = [(x, y, n) for w, n in words.items() for x, y in zip(w, w[1:], strict=False)]
    if not a:
        return None
    a = np.array(a)
    k = a[:, 0] * 10**6 + a[:, 1]
    u, i = np.unique(k, return_inverse=True)
    s = np.bincount(i, a[:, 2])
    k = u[s.argmax()]
    return (k // 10**6, k % 10**6)


@wrong("1.1.a", "it returned [1, 2], expected (1, 2)")
def merge_returns_a_list(words):
    c = {}
    for w, n in words.items():
        for p in zip(w, w[1:], strict=False):
            c[p] = c.get(p, 0) + n
    return list(min(c, key=lambda p: (-c[p], p))) if c else None


class Yes:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@wrong("1.1.a", "the result holds a Yes, whose == was written by hand")
def merge_always_equal_object(words):
    return Yes()


@right("1.1.b")
def encode_one_pass_over_merges_in_order(ids, merges):
    for k, (a, b) in enumerate(merges):
        out = []
        i = 0
        while i < len(ids):
            if ids[i : i + 2] == [a, b]:
                out.append(256 + k)
                i += 2
            else:
                out.append(ids[i])
                i += 1
        ids = out
    return ids


@right("1.1.b")
def encode_recursive_one_merge_at_a_time(ids, merges):
    # recursive
    for k, m in enumerate(merges):
        for i in range(len(ids) - 1):
            if tuple(ids[i : i + 2]) == tuple(m):
                return encode_recursive_one_merge_at_a_time(
                    ids[:i] + [256 + k] + ids[i + 2 :], merges
                )
    return list(ids)


@wrong("1.1.c", "after 2 pieces it has shown '', expected '�a'")
def stream_after_a_bad_byte_shows_nothing_until_the_end(pieces):
    held = b""
    for p in pieces:
        held += p
        try:
            s = held.decode()
            held = b""
        except UnicodeDecodeError as e:
            s = held[: e.start].decode()
            held = held[e.start :]
        yield s
    yield held.decode(errors="replace")


@right("1.1.c")
def stream_by_hand_from_first_byte(pieces):
    held = b""
    for p in pieces:
        held += p
        n = 0
        for k in range(1, 4):
            if len(held) >= k and held[-k] >= 0xC0:
                need = 2 if held[-k] < 0xE0 else 3 if held[-k] < 0xF0 else 4
                if need > k:
                    n = k
                break
            if len(held) >= k and held[-k] < 0x80:
                break
        cut = len(held) - n
        yield held[:cut].decode(errors="replace")
        held = held[cut:]
    yield held.decode(errors="replace")


@right("1.1.c")
class stream_iterator_class:
    def __init__(s, p):
        s.p = iter(p)
        s.d = codecs.getincrementaldecoder("utf-8")("replace")
        s.done = False

    def __iter__(s):
        return s

    def __next__(s):
        if s.done:
            raise StopIteration
        try:
            return s.d.decode(next(s.p))
        except StopIteration:
            s.done = True
            return s.d.decode(b"", True)


@right("1.1.d")
def chat_tuple(messages, tokenizer):

    R = {"system", "user", "assistant"}
    if {m["role"] for m in messages} - R:
        raise ValueError
    s = tokenizer.special
    return tuple(
        itertools.chain.from_iterable(
            [s[f"<|{m['role']}|>"], *tokenizer.encode(m["content"], special=False), s["<|end|>"]]
            for m in messages
        )
    ) + (s["<|assistant|>"],)


@wrong("1.1.d", "AssertionError")
def chat_assert_instead_of_valueerror(messages, tokenizer):
    s = tokenizer.special
    out = []
    for m in messages:
        assert m["role"] in ("system", "user", "assistant")
        out += [s[f"<|{m['role']}|>"], *tokenizer.encode(m["content"], special=False), s["<|end|>"]]
    return out + [s["<|assistant|>"]]


@wrong(
    "1.1.d",
    "messages, which was given to your function, has changed",
)
def chat_destroys_the_messages(messages, tokenizer):
    s = tokenizer.special
    out = []
    for m in messages:
        if m["role"] not in ("system", "user", "assistant"):
            raise ValueError
        out += [
            s[f"<|{m['role']}|>"],
            *tokenizer.encode(m.pop("content"), special=False),
            s["<|end|>"],
        ]
    return out + [s["<|assistant|>"]]


@wrong(
    "1.1.d",
    "the model sees the turns [('user', 'Hi'), ('assistant', 'the cat')]",
)
def chat_no_assistant_after_a_last_assistant_message(messages, tokenizer):
    s = tokenizer.special
    out = []
    for m in messages:
        if m["role"] not in ("system", "user", "assistant"):
            raise ValueError
        c = m["content"]
        ids = tokenizer.encode(c, special=False)
        out += [s[f"<|{m['role']}|>"], *ids, s["<|end|>"]]
    if messages[-1]["role"] != "assistant":
        out.append(s["<|assistant|>"])
    return out


@wrong("1.5.a", "the probabilities has dtype torch.float64, expected torch.float32")
def shares_float64_result(logits, T):
    if T == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).double()
    x = ((logits - logits.max()) / T).double().exp()
    return x / x.sum()


@wrong("1.5.a", "the probabilities has dtype torch.float16, expected torch.float32")
def shares_float16_result(logits, T):
    if T == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).half()
    return torch.softmax((logits - logits.max()) / T, 0).half()


@wrong("1.5.a", "the probabilities has dtype torch.bfloat16, expected torch.float32")
def shares_bfloat16_result(logits, T):
    if T == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).bfloat16()
    return torch.softmax((logits - logits.max()) / T, 0).bfloat16()


@right("1.5.a")
def shares_divide_first(logits, T):
    if T == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    return torch.softmax(logits / T, 0)


@wrong("1.5.a", "the probabilities has dtype torch.int64, expected torch.float32")
def shares_int64_one_hot_at_0(logits, T):
    if T == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits))
    return torch.softmax(logits / T, 0)


@wrong("1.5.a", "the probabilities at [1] is 0.5, expected 1.0; 2 of 4 elements differ")
def shares_t_at_least_ties_shared(logits, T):
    return torch.softmax(logits / max(T, 1e-6), 0)


@right("1.5.a")
def shares_via_numpy_float64(logits, T):
    if T == 0:
        o = torch.zeros(len(logits))
        o[int(np.argmax(logits.numpy()))] = 1
        return o
    a = logits.numpy().astype(np.float64) / T
    a = np.exp(a - a.max())
    return torch.from_numpy((a / a.sum()).astype(np.float32))


@right("1.5.a")
def shares_logsumexp(logits, T):
    if T == 0:
        o = torch.zeros_like(logits)
        o[logits.argmax()] = 1
        return o
    x = logits / T
    return (x - x.logsumexp(0)).exp()


@wrong("1.5.a", "the probabilities at [0] is 1.0, expected 0.6285317; 3 of 3 elements differ")
def shares_t_0_01_treated_as_0(logits, T):
    if T < 1e-2:
        o = torch.zeros_like(logits)
        o[logits.argmax()] = 1
        return o
    return torch.softmax(logits / T, 0)


@wrong("1.5.b", "probabilities, which was given to your function, has changed")
def nucleus_destroys_its_input(q, p):
    q.sub_(0)
    s, i = q.sort(descending=True)
    c = s.cumsum(0)
    n = max(1, int((c < p).sum()) + 1)
    o = torch.zeros_like(q)
    o[i[:n]] = s[:n]
    q.zero_()
    return o / o.sum()


@right("1.5.b")
def nucleus_count_of_sums_below_p_1(q, p):
    s, i = q.sort(descending=True, stable=True)
    c = s.cumsum(0)
    n = min(len(q), int((c < p).sum()) + 1)
    o = torch.zeros_like(q)
    o[i[:n]] = s[:n]
    return o / o.sum()


@right("1.5.b")
def nucleus_argmax_loop(q, p):
    o = torch.zeros_like(q)
    left = p
    q = q.clone()
    while True:
        k = int(q.argmax())
        o[k] = q[k]
        left -= float(q[k])
        q[k] = -1
        if left <= 0:
            break
    return o / o.sum()


@right("1.5.b")
def nucleus_numpy_searchsorted(q, p):
    th = sorted(q.tolist(), reverse=True)
    c = np.cumsum(th)
    n = int(np.searchsorted(c, p)) + 1
    ids = sorted(range(len(q)), key=lambda i: (-q[i], i))[:n]
    o = torch.zeros(len(q), dtype=torch.float64)
    for i in ids:
        o[i] = q[i]
    return (o / o.sum()).float()


@wrong("1.5.b", "the result shares its memory with probabilities")
def nucleus_returns_the_input_itself_at_p_1(q, p):
    s, i = q.sort(descending=True, stable=True)
    c = s.cumsum(0)
    keep = (c - s) < p
    keep[0] = True
    o = torch.zeros_like(q)
    o[i[keep]] = s[keep]
    o /= o.sum()
    return o if p < 1 else q


@wrong("1.5.b", "tokens [0, 1, 2] are kept, expected [0, 1]")
def nucleus_at_most_p_one_more_when_sum_hits_p_exactly(q, p):
    s, i = q.sort(descending=True, stable=True)
    c = s.cumsum(0)
    keep = (c - s) <= p
    keep[0] = True
    o = torch.zeros_like(q)
    o[i[keep]] = s[keep]
    return o / o.sum()


@right("1.5.c")
def decode_recursive(model, prompt, count):
    c = model.new_cache()
    if not count:
        return []
    logits = model(prompt, torch.arange(len(prompt)), c)

    def rec(logits, pos, n):
        k = int(logits[-1].argmax())
        return [k] + (
            rec(model(torch.tensor([k]), torch.tensor([pos]), c), pos + 1, n - 1) if n > 1 else []
        )

    return rec(logits, len(prompt), count)


@right("1.5.c")
def decode_tensor_result_lists_as_positions(model, prompt, count):
    c = model.new_cache()
    out = torch.empty(count, dtype=torch.int64)
    logits = None
    for i in range(count):
        logits = (
            model(prompt, range(len(prompt)), c)
            if i == 0
            else model(out[i - 1 : i], [len(prompt) + i - 1], c)
        )
        out[i] = logits[-1].argmax()
    return out


@right("1.5.c")
def decode_list_of_0_d_tensors_reads_prompt_even_for_count_0(model, prompt, count):
    c = model.new_cache()
    out = []
    logits = model(prompt.tolist(), list(range(len(prompt))), c)
    for i in range(count):
        out.append(logits[-1].argmax())
        if i < count - 1:
            logits = model([out[-1]], [len(prompt) + i], c)
    return out


@wrong("1.5.c", "30 tokens were read where 9 suffice: 6 of the prompt, and 3 of the 4 new ones")
def decode_no_cache_forges_model_calls(model, prompt, count):
    ids = prompt.tolist()
    for _ in range(count):
        logits = model(ids, list(range(len(ids))), None)
        ids.append(int(logits[-1].argmax()))
    model.calls[:] = [len(prompt)] + [1] * (count - 1)
    return ids[len(prompt) :]


@wrong("1.5.c", "39 tokens were read where 9 suffice: 6 of the prompt, and 3 of the 4 new ones")
def decode_no_cache_on_a_deep_copy_then_dummy_calls(model, prompt, count):
    ids = prompt.tolist()
    import copy

    m = copy.deepcopy(model)
    c = model.new_cache()
    for _ in range(count):
        logits = m(ids, list(range(len(ids))))
        ids.append(int(logits[-1].argmax()))
    if count:
        model(prompt, range(len(prompt)), c)
    for _ in range(count - 1):
        model([0], [0], c)
    return ids[len(prompt) :]


@right("1.5.d")
def send_char_by_char(pieces, stop):
    buf = ""
    for p in pieces:
        for ch in p:
            buf += ch
            if buf.endswith(stop):
                if buf[: -len(stop)]:
                    yield buf[: -len(stop)]
                return
            while buf and not stop.startswith(buf):
                yield buf[0]
                buf = buf[1:]
    if buf:
        yield buf


@right("1.5.d")
def send_kmp_yields_empty_strings(pieces, stop):
    # KMP
    fail = [0] * len(stop)
    k = 0
    for i in range(1, len(stop)):
        while k and stop[i] != stop[k]:
            k = fail[k - 1]
        k += stop[i] == stop[k]
        fail[i] = k
    k = 0
    held = ""
    for p in pieces:
        out = held
        for ch in p:
            out += ch
            while k and ch != stop[k]:
                k = fail[k - 1]
            k += ch == stop[k]
            if k == len(stop):
                yield out[: len(out) - k]
                return
        held = out[len(out) - k :] if k else ""
        yield out[: len(out) - k]
    yield held


@wrong("1.5.d", "after 'the cat' had come, only 'the ca' was sent, and 'the cat' can be")
def send_holds_len_1_always_when_pieces_are_longer_than_1(pieces, stop):
    held = ""
    for p in pieces:
        held += p
        if stop in held:
            yield held.split(stop)[0]
            return
        keep = len(stop) - 1
        if len(p) > 1:  # multi-char pieces: hold a whole len(stop)-1
            if len(held) > keep:
                yield held[: len(held) - keep]
                held = held[len(held) - keep :]
            continue
        n = next((n for n in range(min(keep, len(held)), 0, -1) if held.endswith(stop[:n])), 0)
        yield held[: len(held) - n]
        held = held[len(held) - n :]
    yield held


@wrong("1.5.d", "'aabaabaac' was sent, expected 'aab'")
def send_shortest_end_held_not_longest(pieces, stop):
    held = ""
    for p in pieces:
        held += p
        if stop in held:
            yield held.split(stop)[0]
            return
        n = next((n for n in range(1, len(stop)) if held.endswith(stop[:n])), 0)
        yield held[: len(held) - n]
        held = held[len(held) - n :]
    yield held


@wrong("1.5.d", "after 't' had come, only '' was sent, and 't' can be")
def send_reads_all_first(pieces, stop):
    pieces = list(pieces)
    text = "".join(pieces).split(stop)[0]
    return iter([text])
