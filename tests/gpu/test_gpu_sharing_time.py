"""Turns and tenants: round robin against a clock of single ticks, the simulation against theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu.sharing import choice, queueing
from aiinfra_labs.gpu.sharing.mig import gpus
from aiinfra_labs.gpu.sharing.schemes import (
    SCHEMES,
    Exclusive,
    Hami,
    Memory,
    Mig,
    TimeSlicing,
    allocate_all,
)
from aiinfra_labs.gpu.sharing.simulation import simulate
from aiinfra_labs.gpu.sharing.tenants import Tenant, requests
from aiinfra_labs.gpu.sharing.time_slicing import TimeSlicedGpu, round_robin, time_slices

every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=[s.name for s in SCHEMES])
WHOLE = 1e6  # ms: a kernel that is never cut

CHAT = Tenant(
    "chat", rate=25, work_ms=6, kernel_ms=1, fills=0.3, request_gb=1, profile="2g.20gb", cores=40
)
BATCH = Tenant(
    "batch",
    rate=0,
    work_ms=200,
    kernel_ms=10,
    blocks=100_000,
    profile="3g.40gb",
    memory_gb=30,
    cores=30,
)


# --- round robin ----------------------------------------------------------------------------------


def by_ticks(jobs, slice_us, switch_us):
    """The same, one microsecond after another."""
    left, ends = [work for _, work in jobs], [0] * len(jobs)
    queue, running, used, switching, last = [], None, 0, 0, None
    now = 0
    while any(left):
        queue += [i for i, (arrival, _) in enumerate(jobs) if arrival == now]
        if running is not None and left[running] and used == slice_us:
            queue.append(running)
            running = None
        if running is not None and not left[running]:
            running = None
        if running is None and queue:
            running, used = queue.pop(0), 0
            switching = switch_us if last not in (None, running) else 0
            last = running
        now += 1
        if running is None:
            continue
        if switching:
            switching -= 1
            continue
        left[running] -= 1
        used += 1
        if not left[running]:
            ends[running] = now
    return ends


jobs_of = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), max_size=6)


@settings(max_examples=300, deadline=None)
@given(jobs_of, st.integers(1, 12), st.integers(0, 4))
def test_round_robin_is_what_a_clock_shows(jobs, slice_us, switch_us):
    assert round_robin(jobs, slice_us, switch_us) == by_ticks(jobs, slice_us, switch_us)


@given(jobs_of, st.integers(1, 12), st.integers(0, 4))
def test_turns_never_overlap_and_do_all_the_work(jobs, slice_us, switch_us):
    taken = time_slices(jobs, slice_us, switch_us)
    for (_, _, end), (_, begin, _) in zip(taken, taken[1:], strict=False):
        assert end <= begin
    for job, (arrival, work) in enumerate(jobs):
        own = [(begin, end) for other, begin, end in taken if other == job]
        assert sum(end - begin for begin, end in own) == work
        assert own[0][0] >= arrival and all(end - begin <= slice_us for begin, end in own)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 12), st.integers(0, 3))
def test_the_simulated_gpu_takes_the_same_turns(works, slice_us, switch_us):
    env = simpy.Environment()
    gpu = TimeSlicedGpu(env, slice_us, switch_us)
    ends = {}

    def job(number, work):
        yield from gpu.run(f"process {number}", work)
        ends[number] = env.now

    for number, work in enumerate(works):
        env.process(job(number, work))
    env.run(until=10_000)
    expected = round_robin([(0, work) for work in works], slice_us, switch_us)
    assert [ends[number] for number in range(len(works))] == expected
    assert gpu.busy == sum(works) and gpu.switching + gpu.busy == max(expected)


def test_a_process_goes_on_within_its_slice():
    """Three kernels of 3 in slices of 10: no turn is lost between them."""
    env = simpy.Environment()
    gpu = TimeSlicedGpu(env, 10, 1)
    ends = []

    def process(name, kernels):
        for work in kernels:
            yield from gpu.run(name, work)
        ends.append((name, env.now))

    env.process(process("a", [3, 3, 3]))
    env.process(process("b", [10]))
    env.run(until=100)
    assert ends == [("a", 9), ("b", 20)]


# --- against theory -------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "work"), [(50, 6), (100, 6), (110, 6)])
@pytest.mark.parametrize("constant", [False, True])
def test_one_tenant_waits_as_theory_says(rate, work, constant):
    tenant = Tenant("one", rate=rate, work_ms=work, kernel_ms=WHOLE, constant=constant)
    served = simulate([tenant], Exclusive(), seconds=2500)["one"]
    expected = work + queueing.wait_ms(rate, work, 0.0 if constant else 1.0)
    assert served.mean == pytest.approx(expected, rel=0.03)
    if not constant:
        for percent in (50, 95, 99):
            theory = queueing.latency_percentile_ms(rate, work, percent)
            assert served.percentile(percent) == pytest.approx(theory, rel=0.04)


def test_the_formulas_for_known_queues():
    """M/M/1 with 80 % use waits 4 services, M/D/1 half of that."""
    assert queueing.wait_ms(80, 10) == pytest.approx(40)
    assert queueing.wait_ms(80, 10, 0) == pytest.approx(20)
    assert queueing.latency_percentile_ms(80, 10, 50) == pytest.approx(50 * np.log(2))
    assert queueing.wait_ms(100, 10) == queueing.latency_percentile_ms(101, 10, 99) == np.inf
    assert queueing.number_inside(80, 50) == pytest.approx(4)


def test_the_utilisation_law():
    tenants = [replace(CHAT, name=f"chat {i}", fills=1.0) for i in range(3)]
    outcome = simulate(tenants, TimeSlicing(), seconds=600)
    law = sum(queueing.use(t.rate, t.work_ms) for t in tenants)
    assert outcome.utilisation == pytest.approx(law, rel=0.02)


@every_scheme
def test_littles_law(scheme):
    """Requests inside, counted at 20,000 random moments, are rate x latency."""
    seconds = 600
    served = simulate([CHAT, BATCH], scheme, seconds)["chat"]
    arrivals = requests(CHAT, seconds).arrivals / 1e3
    answered = arrivals[: served.completed] + served.latencies[: served.completed]
    moments = np.random.default_rng(1).uniform(0, seconds * 1e3, 20_000)
    inside = np.searchsorted(arrivals, moments) - np.searchsorted(np.sort(answered), moments)
    theory = queueing.number_inside(len(arrivals) / seconds, served.mean)
    assert inside.mean() == pytest.approx(theory, rel=0.05)


def test_free_turns_leave_the_mean_of_exponential_requests_as_it_is():
    """No order that looks away from sizes changes the mean of M/M/1; turns that cost nothing are
    such an order, whatever the slice."""
    tenants = [Tenant(f"t{i}", rate=30, work_ms=5, kernel_ms=WHOLE) for i in range(4)]
    for slice_us in (2000, 20_000):  # together 60 % use
        outcome = simulate(tenants, TimeSlicing(slice_us, 0), seconds=500)
        mean = np.concatenate([s.latencies for s in outcome.served.values()]).mean()
        assert mean == pytest.approx(5 / (1 - 0.6), rel=0.05)


def test_switches_are_paid_for():
    few = simulate([CHAT, BATCH], TimeSlicing(2000, 0), 60)
    more = simulate([CHAT, BATCH], TimeSlicing(2000, 500), 60)
    assert few.switching == 0 < more.switching
    assert more["batch"].completed < few["batch"].completed
    assert more["chat"].p99 > few["chat"].p99


# --- tenants --------------------------------------------------------------------------------------


def test_requests_depend_on_name_and_seed_alone():
    one, again = requests(CHAT, 60), requests(replace(CHAT, fills=1.0), 60)
    assert (one.arrivals == again.arrivals).all() and (one.works == again.works).all()
    assert (
        len(requests(CHAT, 60, seed=1).arrivals) != len(one.arrivals)
        or (requests(CHAT, 60, seed=1).arrivals != one.arrivals).any()
    )
    other = requests(replace(CHAT, name="other"), 60)
    assert len(other.arrivals) != len(one.arrivals) or (other.works != one.works).any()


def test_poisson_arrivals_and_exponential_works():
    made = requests(CHAT, 4000)
    gaps = np.diff(made.arrivals)
    assert len(made.arrivals) == pytest.approx(100_000, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.02)
    assert made.works.mean() == pytest.approx(6000, rel=0.02)
    assert made.works.std() / made.works.mean() == pytest.approx(1, rel=0.02)


@given(st.integers(1, 10**6), st.floats(0.1, 50))
def test_kernels_add_up_to_the_request(work, longest):
    kernels = replace(CHAT, kernel_ms=longest).kernels(work)
    assert sum(kernels) == work and max(kernels) <= round(longest * 1000)


# --- isolation ------------------------------------------------------------------------------------


def p99_alone_and_beside(scheme):
    alone = simulate([CHAT], scheme, 60)["chat"].p99
    return alone, simulate([CHAT, BATCH], scheme, 60)["chat"].p99


@pytest.mark.parametrize("scheme", [Exclusive(), Mig()], ids=["exclusive", "MIG"])
def test_a_neighbour_is_not_felt(scheme):
    alone, beside = p99_alone_and_beside(scheme)
    assert alone == beside


@pytest.mark.parametrize("scheme", [TimeSlicing(), Hami()], ids=["time slicing", "HAMi"])
def test_a_neighbour_is_felt(scheme):
    alone, beside = p99_alone_and_beside(scheme)
    assert beside > 1.5 * alone


def test_a_slice_of_the_gpu_is_slower_only_for_who_can_fill_more():
    small = replace(CHAT, fills=0.1, profile="1g.10gb")
    large = replace(CHAT, fills=1.0, profile="1g.10gb")
    share = 16 / gpus()["h100-80gb"].sms
    for tenant, slower in ((small, 1.0), (large, 1 / share)):
        whole = simulate([tenant], Exclusive(), 20)["chat"]
        cut = simulate([replace(tenant, rate=0.5)], Mig(), 20)["chat"]
        alone = simulate([replace(tenant, rate=0.5)], Exclusive(), 20)["chat"]
        assert whole.completed
        assert cut.latencies == pytest.approx(alone.latencies * slower, rel=0.01)


LEAK = Tenant("leak", rate=5, work_ms=5, leaks_gb=1.0, profile="2g.20gb", memory_gb=20)


@pytest.mark.parametrize(
    ("scheme", "spared"),
    [(Exclusive(), True), (Mig(), True), (TimeSlicing(), False), (Hami(), True)],
    ids=[s.name for s in SCHEMES],
)
def test_who_fails_when_one_leaks(scheme, spared):
    served = simulate([CHAT, LEAK], scheme, 60).served
    assert served["leak"].failed > 0
    assert (served["chat"].failed == 0) == spared


def test_what_the_device_refuses_is_not_counted_in_the_container():
    limit, device = Memory(10), Memory(12, used=6)
    assert not allocate_all([limit, device], 7)
    assert (limit.used, device.used) == (0, 6)
    assert allocate_all([limit, device], 6)
    assert (limit.used, device.used) == (6, 12)


def test_a_profile_that_has_no_place_is_an_error():
    with pytest.raises(ValueError, match="do not fit on one NVIDIA H100 80GB"):
        simulate([replace(BATCH, name=n) for n in "abc"], Mig(), 1)


@pytest.mark.parametrize("blocks", [1_000, 100_000])
def test_the_core_limit_counts_blocks_not_time(blocks):
    """The finding of the page: kernels of 10 ms under 30 %, with few blocks and with many."""
    tenant = Tenant("one", rate=0, work_ms=100, kernel_ms=10, blocks=blocks, cores=30)
    got = simulate([tenant], Hami(), 60).utilisation
    assert got > 0.9 if blocks == 1_000 else got == pytest.approx(0.3, abs=0.03)


def test_a_low_priority_stands_still_beside_a_high_one():
    low = replace(BATCH, priority=1)
    equal = simulate([CHAT, BATCH], Hami(), 60)
    ordered = simulate([CHAT, low], Hami(monitor=True), 60)
    assert ordered["chat"].p99 < equal["chat"].p99
    assert ordered["batch"].completed < 0.3 * equal["batch"].completed


def test_the_monitor_lifts_the_limit_from_a_tenant_that_is_alone():
    forced, watched = (simulate([BATCH], Hami(monitor=on), 60) for on in (False, True))
    assert forced.utilisation == pytest.approx(0.3, abs=0.03) and watched.utilisation > 0.9


def test_a_request_that_is_not_answered_counts_as_waiting():
    heavy = Tenant("heavy", rate=100, work_ms=20, kernel_ms=WHOLE)
    served = simulate([heavy], Exclusive(), 20)["heavy"]
    assert served.unfinished > 800
    assert len(served.latencies) == served.completed + served.unfinished
    assert served.completed + served.unfinished == len(requests(heavy, 20).arrivals)
    assert served.p99 > 9_000


# --- the choice -----------------------------------------------------------------------------------

SERVICES = [
    Tenant(f"s{i}", rate=8, work_ms=8, kernel_ms=1, fills=0.25, request_gb=1, slo_ms=150.0)
    for i in range(4)
]


def test_the_cheapest_is_the_first_of_all_that_will_do():
    for tenants in (
        SERVICES,
        [replace(CHAT, slo_ms=50.0), BATCH],
        [replace(SERVICES[0], untrusted=True), *SERVICES[1:]],
        [replace(CHAT, slo_ms=3.0)],
    ):
        will_do = [
            option
            for option in choice.options(tenants, 3)
            if choice.may_share(tenants, option)
            and choice.keeps_promises(choice.try_option(tenants, option, 20))
        ]
        found = choice.cheapest(
            tenants, choice.options(tenants, 3), lambda t, o: choice.try_option(t, o, 20)
        )
        assert found == (will_do[0] if will_do else None)


def test_the_tenants_are_dealt_out():
    hands = choice.deal(SERVICES, 3)
    assert [len(hand) for hand in hands] == [2, 1, 1]
    assert sorted(t.name for hand in hands for t in hand) == [t.name for t in SERVICES]


def test_nothing_is_kept_where_there_is_no_place():
    many = [replace(BATCH, name=f"b{i}") for i in range(3)]
    assert choice.try_option(many, choice.Option(Mig(), 1), 1) is None
    assert not choice.keeps_promises(None)
