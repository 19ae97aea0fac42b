"""Answers to the exercises of unit 4.3: right ones that differ, and common mistakes."""

from __future__ import annotations

import numpy as np

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 4.3.a the plan ------------------------------------------------------------------------------


@right("4.3.a")
def one_loop(running, waiting, budget, slots):
    plan = []
    for name, missing in running + waiting[: max(0, slots - len(running))]:
        tokens = min(missing, budget)
        if tokens:
            plan.append((name, tokens))
        budget -= tokens
    return plan


@right("4.3.a")
def two_loops(running, waiting, budget, slots):
    found = {}
    left = budget
    for name, missing in running:
        if not left:
            return list(found.items())
        found[name] = min(missing, left)
        left -= found[name]
    used = len(running)
    while waiting and left and used < slots:
        name, missing = waiting.pop(0)
        found[name] = min(missing, left)
        left, used = left - found[name], used + 1
    return list(found.items())


@wrong("4.3.a", "one that waits has not begun")
def prompts_first(running, waiting, budget, slots):
    new = waiting[: max(0, slots - len(running))]
    return one_loop(new + running, [], budget, slots)


@wrong("4.3.a", "the budget bounds that wait")
def whole_prompts(running, waiting, budget, slots):
    plan = one_loop(running, [], budget, slots)
    left = budget - sum(tokens for _, tokens in plan)
    for name, missing in waiting[: max(0, slots - len(running))]:
        if left > 0:
            plan.append((name, missing))
            left -= missing
    return plan


@wrong("4.3.a", "a prompt that is cut is computed on in the next step")
def no_chunks(running, waiting, budget, slots):
    plan = one_loop(running, [], budget, slots)
    left = budget - sum(tokens for _, tokens in plan)
    for name, missing in waiting[: max(0, slots - len(running))]:
        if missing > left:
            break
        plan.append((name, missing))
        left -= missing
    return plan


@wrong("4.3.a", "nobody may starve")
def what_fits(running, waiting, budget, slots):
    plan = one_loop(running, [], budget, slots)
    left = budget - sum(tokens for _, tokens in plan)
    free = slots - len(running)
    for name, missing in sorted(waiting, key=lambda row: row[1]):
        if free and left:
            plan.append((name, min(missing, left)))
            left, free = left - plan[-1][1], free - 1
    return plan


@wrong("4.3.a", "each that runs keeps its slot")
def as_many_as_fit(running, waiting, budget, slots):
    return one_loop(running, waiting, budget, 10**6)


@wrong("4.3.a", "each that runs keeps its slot")
def slots_of_the_plan(running, waiting, budget, slots):
    plan = one_loop(running, [], budget, slots)
    left = budget - sum(tokens for _, tokens in plan)
    for name, missing in waiting:
        if left and len(plan) <= slots:
            plan.append((name, min(missing, left)))
            left -= plan[-1][1]
    return plan


@wrong("4.3.a", "what is not spent is lost")
def a_token_each(running, waiting, budget, slots):
    return one_loop([(n, 1) for n, _ in running], [(n, 1) for n, _ in waiting], budget, slots)


@wrong("4.3.a", "a sequence without a token is not in the step")
def with_zeros(running, waiting, budget, slots):
    plan = []
    for name, missing in running + waiting[: max(0, slots - len(running))]:
        plan.append((name, min(missing, budget)))
        budget -= plan[-1][1]
    return plan


@wrong("4.3.a", "what is not spent is lost")
def static(running, waiting, budget, slots):
    return one_loop(running, [] if running else waiting, budget, slots)


# --- 4.3.b latencies -----------------------------------------------------------------------------


@right("4.3.b")
def by_times(arrivals, log):
    times = {}
    for end, names in log:
        for name in names:
            times.setdefault(name, []).append(end)
    found = {}
    for name, came in times.items():
        gaps = [b - a for a, b in zip(came, came[1:], strict=False)]
        mean = (came[-1] - came[0]) / (len(came) - 1) if gaps else 0.0
        found[name] = (came[0] - arrivals[name], mean, max(gaps, default=0.0))
    return found


@right("4.3.b")
def in_one_pass(arrivals, log):
    last, count, found = {}, {}, {}
    for end, names in log:
        for name in names:
            if name not in found:
                found[name] = [end - arrivals[name], 0.0, 0.0]
                count[name] = 0
            else:
                gap = end - last[name]
                count[name] += 1
                found[name][1] += (gap - found[name][1]) / count[name]
                found[name][2] = max(found[name][2], gap)
            last[name] = end
    return {name: tuple(row) for name, row in found.items()}


def _changed(place, change):
    def answer(arrivals, log):
        times = {n: [e for e, names in log if n in names] for n in arrivals}
        found = {}
        for name, row in by_times(arrivals, log).items():
            new = list(row)
            new[place] = change(times[name], arrivals[name], row)
            found[name] = tuple(new)
        return found

    return answer


wrong("4.3.b", "in the queue as well")(_changed(0, lambda t, a, row: t[0]))
wrong("4.3.b", "and the first token's wait is none of them")(
    _changed(1, lambda t, a, row: (t[-1] - a) / len(t))
)
wrong("4.3.b", "and the first token's wait is none of them")(
    _changed(1, lambda t, a, row: (t[-1] - t[0]) / len(t))
)
wrong("4.3.b", "which the mean hides")(_changed(2, lambda t, a, row: max(row[0], row[2])))
wrong("4.3.b", "which the mean hides")(
    _changed(2, lambda t, a, row: sorted([b - c for b, c in zip(t[1:], t, strict=False)] or [0])[0])
)


@wrong("4.3.b", "a single token has no gap")
def nan_for_one(arrivals, log):
    return _changed(1, lambda t, a, row: row[1] if len(t) > 1 else float("nan"))(arrivals, log)


@wrong("4.3.b", "a request that got no token yet has no latency")
def all_of_them(arrivals, log):
    return dict.fromkeys(arrivals, (0.0, 0.0, 0.0)) | by_times(arrivals, log)


# --- 4.3.c who gives way -------------------------------------------------------------------------


@right("4.3.c")
def while_it_lacks(running, free):
    kept, out = [], []
    running = list(running)
    while running:
        name, held, wanted = running[0]
        if wanted - held <= free:
            free -= wanted - held
            kept.append(running.pop(0)[0])
        else:
            last = running.pop()
            free += last[1]
            out.append(last[0])
    return kept, out


@right("4.3.c")
def by_places(running, free):
    end, place, out = len(running), 0, []
    while place < end:
        more = running[place][2] - running[place][1]
        if more > free:
            end -= 1
            free += running[end][1]
            out.append(running[end][0])
        else:
            free -= more
            place += 1
    return [name for name, *_ in running[:end]], out


def _preempting(choose):
    """As the reference, but another one gives way."""

    def answer(running, free):
        kept, out, left = [], [], list(running)
        while left:
            name, held, wanted = left[0]
            if wanted - held <= free:
                free -= wanted - held
                kept.append(left.pop(0)[0])
            else:
                victim = left.pop(choose(left))
                free += victim[1]
                out.append(victim[0])
        return kept, out

    return answer


wrong("4.3.c", "came last")(_preempting(lambda left: 0))
wrong("4.3.c", "came last")(
    _preempting(lambda left: max(range(len(left)), key=lambda i: left[i][1]))
)


@wrong("4.3.c", "all that a preempted sequence has computed is computed again")
def a_block_to_spare(running, free):
    kept, out, left = [], [], list(running)
    while left:
        name, held, wanted = left[0]
        if wanted - held < free or wanted == held:
            free -= wanted - held
            kept.append(left.pop(0)[0])
        else:
            last = left.pop()
            free += last[1]
            out.append(last[0])
    return kept, out


@wrong("4.3.c", "a block that two sequences write holds neither's keys")
def not_counting(running, free):
    kept, out, left = [], [], list(running)
    while left:
        name, held, wanted = left[0]
        if wanted - held <= free:
            kept.append(left.pop(0)[0])
        else:
            last = left.pop()
            free += last[1]
            out.append(last[0])
    return kept, out


@wrong("4.3.c", "all that a preempted sequence has computed is computed again")
def blocks_are_forgotten(running, free):
    kept, out, left = [], [], list(running)
    while left:
        name, held, wanted = left[0]
        if wanted - held <= free:
            free -= wanted - held
            kept.append(left.pop(0)[0])
        else:
            out.append(left.pop()[0])
    return kept, out


# --- 4.3.d the hand-over -------------------------------------------------------------------------


@right("4.3.d")
def by_rows(sequence, source, target):
    row = source.keys[sequence.table].reshape(-1, 4)[: sequence.computed]
    for block in sequence.table:
        source.release(block)
    sequence.table = []
    for start in range(0, sequence.computed, target.block_size):
        block = target.take()
        piece = row[start : start + target.block_size]
        target.keys[block, : len(piece)] = piece
        sequence.table.append(block)


@right("4.3.d")
def token_by_token(sequence, source, target):
    old, new = sequence.table, []
    for token in range(sequence.computed):
        place, offset = divmod(token, target.block_size)
        if place == len(new):
            new.append(target.take())
        block = old[token // source.block_size]
        target.keys[new[place], offset] = source.keys[block, token % source.block_size]
    while old:
        source.release(old.pop())
    sequence.table = new


@wrong("4.3.d", "under the same number there lies another's")
def the_same_numbers(sequence, source, target):
    for block in sequence.table:
        target.keys[block] = source.keys[block]
        source.release(block)


@wrong("4.3.d", "a block with nothing in it is carried")
def the_whole_table(sequence, source, target):
    new = []
    for block in sequence.table:
        new.append(target.take())
        size = min(source.block_size, target.block_size)
        target.keys[new[-1], :size] = source.keys[block, :size]
        source.release(block)
    sequence.table = new


@wrong("4.3.d", "the first engine needs them for the next prompt")
def kept_in_the_source(sequence, source, target):
    table = list(sequence.table)
    by_rows(sequence, source, target)
    for block in table:
        source.free.remove(block)


@wrong("4.3.d", "the first engine needs them for the next prompt")
def the_spare_one_is_lost(sequence, source, target):
    used = -(-sequence.computed // source.block_size)
    spare = sequence.table[used:]
    by_rows(sequence, source, target)
    for block in spare:
        source.free.remove(block)


@wrong("4.3.d", "decoding goes on from these keys")
def out_of_order(sequence, source, target):
    by_rows(sequence, source, target)
    sequence.table = sorted(sequence.table)


@wrong("4.3.d", "a block that is in a table and free is given to the next")
def not_taken(sequence, source, target):
    row = source.keys[sequence.table].reshape(-1, 4)[: sequence.computed]
    for block in sequence.table:
        source.release(block)
    count = -(-sequence.computed // target.block_size)
    sequence.table = target.free[:count]
    room = np.zeros((count * target.block_size, 4), np.float32)
    room[: len(row)] = row
    target.keys[sequence.table] = room.reshape(count, target.block_size, 4)


@wrong("4.3.c", "are preempted, where [] suffice")
def preempts_at_the_last_block(running, free):
    left, kept, out = list(running), [], []
    while left:
        name, held, wanted = left[0]
        if wanted > held and wanted - held >= free:  # a block is always kept back
            last, its, _ = left.pop()
            out.append(last)
            free += its
        else:
            free -= wanted - held
            kept.append(name)
            left.pop(0)
    return kept, out


@wrong("4.3.c", "those that stay want")
def never_gives_way_itself(running, free):
    left, kept, out = list(running), [], []
    while left:
        name, held, wanted = left[0]
        if wanted - held > free and len(left) > 1:
            last, its, _ = left.pop()
            out.append(last)
            free += its
        else:
            free -= wanted - held
            kept.append(name)
            left.pop(0)
    return kept, out
