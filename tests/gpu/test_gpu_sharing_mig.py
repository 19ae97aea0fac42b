"""MIG boards against NVIDIA's printed tables and examples, and plans against every arrangement."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu.sharing.layouts import can_stand, layouts
from aiinfra_labs.gpu.sharing.mig import (
    Board,
    Instance,
    MigError,
    gpus,
    keeps_most_open,
    legal_starts,
    places_left,
)
from aiinfra_labs.gpu.sharing.planning import place_all, place_most, repartition

GPUS = tuple(gpus().values())
H100, A100 = gpus()["h100-80gb"], gpus()["a100-40gb"]
every_gpu = pytest.mark.parametrize("gpu", GPUS, ids=[gpu.id for gpu in GPUS])

# `nvidia-smi mig -lgipp` and `-lgip` as NVIDIA and others have printed them: places, instances
# that can be created, multiprocessors.
H100_PRINTED = {
    "1g.10gb": ("{0,1,2,3,4,5,6}:1", 7, 16),
    "1g.20gb": ("{0,2,4,6}:2", 4, 26),
    "2g.20gb": ("{0,2,4}:2", 3, 32),
    "3g.40gb": ("{0,4}:4", 2, 60),
    "4g.40gb": ("{0}:4", 1, 64),
    "7g.80gb": ("{0}:8", 1, 132),
}
A30_PRINTED = {"1g.6gb": "{0,1,2,3}:1", "2g.12gb": "{0,2}:2", "4g.24gb": "{0}:4"}


def printed(profile):
    return f"{{{','.join(map(str, profile.starts))}}}:{profile.memory}"


# --- the tables -----------------------------------------------------------------------------------


def test_the_h100_s_places_are_those_that_nvidia_smi_prints():
    assert {p.name: (printed(p), _most(H100, p), p.sms) for p in H100.profiles} == H100_PRINTED


def test_the_a30_s_places_are_those_that_nvidia_smi_prints():
    assert {p.name: printed(p) for p in gpus()["a30-24gb"].profiles} == A30_PRINTED


def _most(gpu, profile):
    """How many instances of one profile a board can hold."""
    return max(len(layout) for layout in layouts(gpu) if {n for n, _ in layout} <= {profile.name})


@every_gpu
def test_a_profile_s_name_says_its_slices_and_its_memory(gpu):
    for profile in gpu.profiles:
        compute, memory = profile.name.split("g.")
        assert int(compute) == profile.compute and memory == f"{profile.gb}gb"
        assert all(s >= 0 and s + profile.memory <= gpu.memory_slices for s in profile.starts)
    whole = gpu.profiles[-1]
    assert whole.memory == gpu.memory_slices and whole.compute == gpu.compute_slices
    assert gpu.source.startswith("https://") and gpu.as_of


@every_gpu
def test_seven_at_most_and_slices_of_memory_are_the_only_limit(gpu):
    most = {"a30-24gb": 4}.get(gpu.id, 7)
    assert max(map(len, layouts(gpu))) == most
    compute = [sum(gpu.profile(n).compute for n, _ in layout) for layout in layouts(gpu)]
    assert max(compute) == gpu.compute_slices


def test_the_memory_of_boards_with_the_same_chip_differs_by_name_alone():
    for other in ("a100-80gb", "h200-141gb", "a100-40gb"):
        profiles = gpus()[other].profiles
        assert [(p.compute, p.memory, p.starts) for p in profiles] == [
            (p.compute, p.memory, p.starts) for p in H100.profiles
        ]


def test_two_3g_instances_use_all_memory_slices_and_6_compute_slices():
    board = Board("h100-80gb")
    board.create("3g.40gb")
    board.create("3g.40gb")
    assert board.free == [] and board.compute_used == 6 and board.sms_used == 120


# --- the driver's choice --------------------------------------------------------------------------

# MIG User Guide, "Getting Started with MIG", A100 40GB: profiles as created, and where they came to
# stand; None for "Insufficient Resources".
GUIDE = [
    (("1g.5gb", "2g.10gb", "4g.20gb"), (6, 4, 0)),
    (("3g.20gb", "1g.5gb", "2g.10gb", "1g.5gb"), (4, 0, 2, 1)),
    (("2g.10gb", *["1g.5gb"] * 5), (4, 6, 0, 1, 2, 3)),
    (("1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"), (6, 4, 0, None)),
]


@pytest.mark.parametrize(("profiles", "places"), GUIDE)
def test_the_rule_gives_the_places_of_the_guide_s_examples(profiles, places):
    board = Board("a100-40gb")
    for profile, place in zip(profiles, places, strict=True):
        if place is None:
            with pytest.raises(MigError, match="it may begin only at 0, 4"):
                board.create(profile)
        else:
            assert board.instances[board.create(profile)].start == place


@given(st.sampled_from(GPUS), st.sets(st.integers(0, 7)), st.data())
def test_no_other_place_leaves_more(gpu, used, data):
    profile = data.draw(st.sampled_from(gpu.profiles))
    chosen = keeps_most_open(gpu, profile, used)
    legal = legal_starts(profile, used)
    assert (chosen is None) == (not legal)
    left = {s: places_left(gpu, used | set(profile.slices(s))) for s in legal}
    assert chosen is None or left[chosen] == max(left.values())


# --- a board --------------------------------------------------------------------------------------


@given(st.sampled_from(GPUS), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_instances_never_overlap_and_all_slices_come_back(gpu, orders):
    board = Board(gpu)
    for number, destroy in orders:
        if destroy and board.instances:
            board.destroy(min(board.instances))
            continue
        profile = gpu.profiles[number % len(gpu.profiles)]
        legal = board.starts(profile.name)
        if legal:
            assert board.instances[board.create(profile.name)].start in legal
        else:
            with pytest.raises(MigError):
                board.create(profile.name)
        counted = Counter(s for i in board.instances.values() for s in i.slices)
        assert set(counted.values()) <= {1}
        assert len(board.free) == gpu.memory_slices - sum(counted.values())
    for number in list(board.instances):
        board.destroy(number)
    assert board.free == list(range(gpu.memory_slices)) and board.compute_used == 0


def test_free_slices_without_a_place_are_told_from_no_free_slices():
    board = Board("a100-40gb")
    for profile in ("1g.5gb", "1g.5gb", "2g.10gb"):
        board.create(profile)
    with pytest.raises(MigError) as fragmented:
        board.create("3g.20gb")
    assert fragmented.value.what == (
        "no place for 3g.20gb: 4 memory slices are free (2, 3, 5, 7) and it takes 4, but it may "
        "begin only at 0, 4"
    )
    board.create("2g.10gb")
    with pytest.raises(MigError, match="no room for 3g.20gb: it takes 4 memory slices, 2 are free"):
        board.create("3g.20gb")


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda b: b.create("9g.90gb"), "has no profile '9g.90gb'"),
        (lambda b: b.create("3g.40gb", 2), "3g.40gb cannot begin at 2"),
        (lambda b: b.destroy(7), "there is no instance 7"),
    ],
)
def test_a_wrong_order_is_explained(act, what):
    with pytest.raises(MigError, match=what) as error:
        act(Board("h100-80gb"))
    assert error.value.why and error.value.try_


# --- plans ----------------------------------------------------------------------------------------

requests_of = st.sampled_from(GPUS).flatmap(
    lambda gpu: st.tuples(
        st.just(gpu),
        st.lists(st.sampled_from([p.name for p in gpu.profiles]), max_size=7),
        st.sets(st.integers(0, gpu.memory_slices - 1), max_size=3),
    )
)


def stands(gpu, requests, starts, used):
    slices = list(used)
    for name, start in zip(requests, starts, strict=True):
        assert start in gpu.profile(name).starts
        slices += gpu.profile(name).slices(start)
    return len(slices) == len(set(slices))


@settings(max_examples=300, deadline=None)
@given(requests_of)
def test_a_plan_is_found_exactly_when_there_is_one(case):
    gpu, requests, used = case
    starts = place_all(gpu, requests, used)
    assert (starts is None) == (can_stand(gpu, requests, used) is None)
    assert starts is None or stands(gpu, requests, starts, used)


@settings(max_examples=60, deadline=None)
@given(requests_of)
def test_the_layouts_are_all_there_are(case):
    """Against trying every start of every request, which nothing here shares code with."""
    gpu, requests, used = case
    choices = [gpu.profile(name).starts for name in requests[:4]]
    some = any(stands(gpu, requests[:4], starts, used) for starts in itertools.product(*choices))
    assert (can_stand(gpu, requests[:4], used) is not None) == some


@settings(max_examples=100, deadline=None)
@given(requests_of)
def test_no_plan_places_more(case):
    gpu, requests, used = case
    starts = place_most(gpu, requests, used)
    placed = [i for i, start in enumerate(starts) if start is not None]
    assert stands(gpu, [requests[i] for i in placed], [starts[i] for i in placed], used)
    more = itertools.combinations(range(len(requests)), len(placed) + 1)
    assert not any(can_stand(gpu, [requests[i] for i in some], used) is not None for some in more)
    compute = sum(gpu.profile(requests[i]).compute for i in placed)
    for some in itertools.combinations(range(len(requests)), len(placed)):
        if can_stand(gpu, [requests[i] for i in some], used) is not None:
            assert sum(gpu.profile(requests[i]).compute for i in some) <= compute


def fewest_moves(gpu, instances, requests):
    """By every layout that holds all profiles: how many instances do not stand where they stood."""
    wanted = Counter([i.profile.name for i in instances] + list(requests))
    now = {(i.profile.name, i.start) for i in instances}
    counts = [
        len(instances) - len(now & set(layout))
        for layout in layouts(gpu)
        if Counter(name for name, _ in layout) == wanted
    ]
    return min(counts, default=None)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(GPUS), st.data())
def test_no_repartition_moves_fewer(gpu, data):
    layout = data.draw(st.sampled_from(layouts(gpu)))
    instances = [Instance(start, gpu.profile(name)) for name, start in layout]
    names = [p.name for p in gpu.profiles]
    requests = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))
    found = repartition(gpu, instances, requests)
    fewest = fewest_moves(gpu, instances, requests)
    assert (found is None) == (fewest is None)
    if found is None:
        return
    assert len(found.moves) == fewest
    moved = dict(found.moves)
    now = [moved.get(instance, instance.start) for instance in instances]
    everything = [i.profile.name for i in instances] + requests
    assert stands(gpu, everything, [*now, *found.starts], set())


def test_the_guide_s_failure_takes_two_moves():
    board = Board("a100-40gb")
    for profile in ("1g.5gb", "1g.5gb", "2g.10gb"):
        board.create(profile)
    found = repartition(A100, list(board.instances.values()), ["3g.20gb"])
    assert sorted(str(instance) for instance, _ in found.moves) == [
        "1g.5gb at 4:1",
        "1g.5gb at 6:1",
    ]
    assert found.starts == (4,)
