"""Answers to 3.9.d and e: right ones that differ, and common mistakes."""

from __future__ import annotations

import heapq
from collections import deque

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.9.d round robin -------------------------------------------------------------------------


@right("3.9.d")
def turns_with_a_queue(jobs, slice_us, switch_us):
    order = sorted(range(len(jobs)), key=lambda i: jobs[i][0])
    left = [work for _, work in jobs]
    ends = [0] * len(jobs)
    queue, now, last = deque(), 0, None
    while order or queue:
        if not queue and jobs[order[0]][0] > now:
            now = jobs[order[0]][0]
        while order and jobs[order[0]][0] <= now:
            queue.append(order.pop(0))
        job = queue.popleft()
        if last not in (None, job):
            now += switch_us
        last = job
        ran = min(slice_us, left[job])
        now, left[job] = now + ran, left[job] - ran
        while order and jobs[order[0]][0] <= now:
            queue.append(order.pop(0))
        if left[job]:
            queue.append(job)
        else:
            ends[job] = now
    return ends


@right("3.9.d")
def turns_with_a_heap(jobs, slice_us, switch_us):
    """A job waits by (when it queued, arrivals before returns, its number)."""
    heap = [(arrival, 0, i, work) for i, (arrival, work) in enumerate(jobs)]
    heapq.heapify(heap)
    ends, now, last = [0] * len(jobs), 0, -1
    while heap:
        queued, _, i, left = heapq.heappop(heap)
        now = max(now, queued) + (switch_us if last not in (-1, i) else 0)
        last = i
        ran = min(left, slice_us)
        now += ran
        if left > ran:
            heapq.heappush(heap, (now, 1, i, left - ran))
        else:
            ends[i] = now
    return ends


@wrong("3.9.d", "each runs for a slice in turn")
def first_come_first_served(jobs, slice_us, switch_us):
    ends, now, last = [0] * len(jobs), 0, None
    for i in sorted(range(len(jobs)), key=lambda i: jobs[i][0]):
        now = max(now, jobs[i][0]) + (switch_us if last is not None else 0) + jobs[i][1]
        last = ends[i] = now
    return ends


def _turns(jobs, slice_us, switch_us, first=False, each=False, returns_first=False, arrive=True):
    order = sorted(range(len(jobs)), key=lambda i: jobs[i][0])
    left = [work for _, work in jobs]
    ends, queue, now, last = [0] * len(jobs), deque(), 0, None
    if not arrive:
        queue.extend(order)
        order = []
    while order or queue:
        if not queue and jobs[order[0]][0] > now:
            now = jobs[order[0]][0]
        while order and jobs[order[0]][0] <= now:
            queue.append(order.pop(0))
        job = queue.popleft()
        if each or (last is not None and job != last) or (first and last is None):
            now += switch_us
        last = job
        ran = min(slice_us, left[job])
        now, left[job] = now + ran, left[job] - ran
        if returns_first and left[job]:
            queue.append(job)
        while order and jobs[order[0]][0] <= now:
            queue.append(order.pop(0))
        if not left[job]:
            ends[job] = now
        elif not returns_first:
            queue.append(job)
    return ends


@wrong("3.9.d", "not before the first job, and not between two slices of one job")
def turns_paying_each_slice(jobs, slice_us, switch_us):
    return _turns(jobs, slice_us, switch_us, each=True)


@wrong("3.9.d", "not before the first job, and not between two slices of one job")
def turns_paying_at_the_start(jobs, slice_us, switch_us):
    return _turns(jobs, slice_us, switch_us, first=True)


@wrong("3.9.d", "a switch is paid when another job runs than the last")
def turns_without_switches(jobs, slice_us, switch_us):
    return _turns(jobs, slice_us, 0)


@wrong("3.9.d", "goes before the job that had it")
def turns_returning_first(jobs, slice_us, switch_us):
    return _turns(jobs, slice_us, switch_us, returns_first=True)


@wrong("3.9.d", "a job cannot run before it arrives")
def turns_without_arrivals(jobs, slice_us, switch_us):
    return _turns(jobs, slice_us, switch_us, arrive=False)


@wrong("3.9.d", "a job that ends gives up the rest of its slice")
def turns_of_whole_slices(jobs, slice_us, switch_us):
    rounded = [(arrival, -(-work // slice_us) * slice_us) for arrival, work in jobs]
    return _turns(rounded, slice_us, switch_us)


@wrong("3.9.d", "expected a list of")
def turns_as_pairs(jobs, slice_us, switch_us):
    return dict(enumerate(_turns(jobs, slice_us, switch_us)))


@wrong("3.9.d", "a float")
def turns_in_floats(jobs, slice_us, switch_us):
    return list(map(float, turns_with_a_heap(jobs, slice_us, switch_us)))


# --- 3.9.e the cheapest option -----------------------------------------------------------------


def _may(tenants, option):
    return not (option.scheme.shares_faults and any(t.untrusted for t in tenants))


@right("3.9.e")
def choose_in_order(tenants, options, try_option):
    for option in sorted(options, key=lambda option: option.gpus):
        if not _may(tenants, option):
            continue
        served = try_option(tenants, option)
        if served is None:
            continue
        promised = [served[t.name] for t in tenants if t.slo_ms is not None]
        if all(s.failed == 0 and s.p99 <= s.tenant.slo_ms for s in promised):
            return option
    return None


@right("3.9.e")
def choose_by_count(tenants, candidates, trial):
    for gpus in sorted({c.gpus for c in candidates}):
        for candidate in (c for c in candidates if c.gpus == gpus and _may(tenants, c)):
            served = trial(tenants, candidate)
            if served and all(s.keeps_its_promise for s in served.values()):
                return candidate
    return None


@wrong("3.9.e", "which breaks a promise: chat has a p99 of")
def choose_by_mean(tenants, options, try_option):
    for option in sorted(options, key=lambda o: (o.gpus, o.scheme.name != "time slicing")):
        served = try_option(tenants, option) if _may(tenants, option) else None
        if served and all(
            not served[t.name].failed and served[t.name].mean <= t.slo_ms
            for t in tenants
            if t.slo_ms
        ):
            return option
    return None


@wrong("3.9.e", "failed requests")
def choose_by_p99_alone(tenants, options, try_option):
    for option in sorted(options, key=lambda o: (o.gpus, o.scheme.name != "time slicing")):
        served = try_option(tenants, option) if _may(tenants, option) else None
        if served and all(served[t.name].p99 <= t.slo_ms for t in tenants if t.slo_ms):
            return option
    return None


@wrong("3.9.e", "for an untrusted tenant")
def choose_trusting(tenants, options, try_option):
    for option in sorted(options, key=lambda o: (o.gpus, o.scheme.name == "MIG")):
        served = try_option(tenants, option)
        if served and all(s.keeps_its_promise for s in served.values()):
            return option
    return None


@wrong("3.9.e", "and time slicing on 1 GPU will do")
def choose_the_dearest(tenants, options, try_option):
    for option in sorted(options, key=lambda o: -o.gpus):
        served = try_option(tenants, option) if _may(tenants, option) else None
        if served and all(s.keeps_its_promise for s in served.values()):
            return option
    return None


@wrong("3.9.e", "will do")
def choose_as_listed(tenants, options, try_option):
    for option in options:
        served = try_option(tenants, option) if _may(tenants, option) else None
        if served and all(s.keeps_its_promise for s in served.values()):
            return option
    return None


@wrong("3.9.e", "and time slicing on 1 GPU will do")
def choose_after_trying_all(tenants, options, try_option):
    fits = {}
    for option in options:
        served = try_option(tenants, option) if _may(tenants, option) else None
        if served and all(s.keeps_its_promise for s in served.values()):
            fits[option] = option.gpus
    return min(fits, key=fits.get) if fits else None


@wrong("3.9.e", "it chose nothing, and")
def choose_promising_all(tenants, options, try_option):
    """Holds tenants to a p99 of 100 ms who were promised nothing."""
    for option in sorted(options, key=lambda o: o.gpus):
        served = try_option(tenants, option) if _may(tenants, option) else None
        if served and all(
            not served[t.name].failed and served[t.name].p99 <= (t.slo_ms or 100) for t in tenants
        ):
            return option
    return None


@wrong("3.9.e", "which breaks a promise: service 1 has a p99 of")
def choose_the_best_there_is(tenants, options, try_option):
    chosen = choose_in_order(tenants, options, try_option)
    return chosen or max(options, key=lambda option: option.gpus)


@wrong("3.9.e", "TypeError: 'NoneType' object is not subscriptable")
def choose_without_asking_for_a_place(tenants, options, try_option):
    for option in sorted(options, key=lambda option: option.gpus):
        if not _may(tenants, option):
            continue
        served = try_option(tenants, option)
        promised = [served[t.name] for t in tenants if t.slo_ms is not None]
        if all(s.keeps_its_promise for s in promised):
            return option
    return None
