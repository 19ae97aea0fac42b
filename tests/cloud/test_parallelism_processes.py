"""Unit 4.6 on real processes: the same numbers over gloo, and an end to every failure.

Starting a group is what costs here, so one group of four does all the work that ends well. A group
that is to die is small.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import fields
from pathlib import Path

import cloudpickle
import pytest
import torch
from random_checkpoints import mixed_requests, saved
from torch.nn import functional as F

from aiinfra_labs.cloud.serving import loader
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.parallel import rings, tasks, tensor
from aiinfra_labs.cloud.serving.parallel.collectives import wire_bytes
from aiinfra_labs.cloud.serving.parallel.engine_ranks import engine_of
from aiinfra_labs.cloud.serving.parallel.errors import GroupError, SplitError
from aiinfra_labs.cloud.serving.parallel.grid import Grid
from aiinfra_labs.cloud.serving.parallel.processes import Group
from aiinfra_labs.cloud.serving.parallel.sharded import equal_sequences, positions_of
from aiinfra_labs.cloud.serving.quantization.kv_int8 import Int8PagedCache
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker cannot import a test
# Seconds: far less than the group's timeout, after which one that hung would be given up; far more
# than processes take to end on a machine that has ten times as much to do as it can.
SOON, HUNG = 120.0, 600.0
CONFIG = ModelConfig(101, 32, 48, 4, 4, 2, 8, 64, qkv_bias=True, qk_norm=True)


@pytest.fixture(scope="module")
def group():
    with Group(4) as made:
        yield made
    assert_gone(made.pids)


def is_running(pid):
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return not Path("/proc/self").exists()


def wait_until(true, within=SOON):
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"it did not come about within {within:g} s"
        time.sleep(0.05)


def assert_gone(pids, within=SOON):
    wait_until(lambda: not any(map(is_running, pids)), within)


def random_model(config):
    torch.manual_seed(0)
    model = CausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(0.3 * torch.randn(weight.shape) + ("norm" in name))
    return model


def batch(rows=4, length=9):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(101, (2, rows, length), generator=generator)


# --- what goes well -------------------------------------------------------------------------------


def test_the_same_sum_by_gloo_and_by_hand(group):
    def work(worker, length):
        generator = torch.Generator().manual_seed(worker.rank)
        x = torch.randn(length, generator=generator)
        worker.traffic.clear()
        by_gloo = worker.comm.all_reduce(x.clone())
        counted = worker.traffic.bytes
        worker.traffic.clear()
        with worker.comm.counted("all-reduce"):
            by_hand = rings.all_reduce(x, worker.comm)
        return by_gloo, by_hand, counted, worker.traffic.bytes

    for length in (1000, 7, 2):
        found = group.run(work, length)
        given = [torch.randn(length, generator=torch.Generator().manual_seed(r)) for r in range(4)]
        for by_gloo, by_hand, counted, sent in found:
            assert torch.allclose(by_gloo, torch.stack(given).sum(0), atol=1e-5)
            assert torch.allclose(by_hand, by_gloo, atol=1e-5)
            assert torch.equal(by_hand, found[0][1])
            if length == 1000:  # by formula for gloo, by count of the messages for ours
                assert counted == sent == wire_bytes("all-reduce", 4000, 4)


@pytest.mark.skipif(not Path("/proc/net/dev").exists(), reason="only Linux counts for us")
def test_the_interface_carried_what_the_formula_says(group):
    """An independent count: the bytes that the system saw on the loopback interface."""

    def carried():
        lines = Path("/proc/net/dev").read_text().splitlines()
        return next(int(line.split(":")[1].split()[0]) for line in lines if "lo:" in line)

    def work(worker, length):
        worker.comm.all_reduce(torch.ones(length))

    length, seen = 4_000_000, []
    for _ in range(4):  # others may speak, too: the least is nearest to ours
        before = carried()
        group.run(work, length)
        seen.append(carried() - before)
    expected = 4 * wire_bytes("all-reduce", 4 * length, 4)
    assert 0.98 * expected < min(seen) < 1.2 * expected


def test_other_collectives_and_messages(group):
    def work(worker):
        comm, to = worker.comm, (worker.rank + 1) % 4
        part = comm.reduce_scatter(torch.arange(8.0) + worker.rank)
        whole = comm.all_gather(torch.full((2,), float(worker.rank)))
        most = comm.all_reduce(torch.tensor([float(worker.rank)]), "max")
        comm.send(torch.full((2, 3), float(worker.rank)), to)  # all send before any receives
        got = comm.receive(torch.empty(2, 3), (worker.rank - 1) % 4)
        comm.flush()
        comm.by_hand = True
        again = comm.reduce_scatter(torch.arange(8.0) + worker.rank)
        comm.by_hand = False
        return part, whole, most, got, again, torch.get_num_threads()

    for rank, (part, whole, most, got, again, threads) in enumerate(group.run(work)):
        assert part.tolist() == again.tolist() == [8 * rank + 6, 8 * rank + 10]
        assert whole.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and most.tolist() == [3]
        assert got.unique().tolist() == [(rank - 1) % 4]
        assert threads == 1


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A random checkpoint of each family that `transformers` saved, ids, and its logits."""
    import transformers as hf

    common = {
        "vocab_size": 101,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    ids, made = batch()[0], {}
    for name, config, kind in (
        ("llama", hf.LlamaConfig(**common), hf.LlamaForCausalLM),
        ("qwen2", hf.Qwen2Config(**common), hf.Qwen2ForCausalLM),
        ("qwen3", hf.Qwen3Config(**common, head_dim=16), hf.Qwen3ForCausalLM),
    ):
        torch.manual_seed(0)
        model = kind(config).eval()
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        with torch.no_grad():
            made[name] = folder, ids, model(ids).logits
    return made


@pytest.mark.parametrize("grid", [Grid(4), Grid(1, 1, 4), Grid(2, 1, 2)], ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_logits_equal_transformers(group, checkpoints, family, grid):
    folder, ids, expected = checkpoints[family]
    held = group.run(tasks.load, grid, folder)
    whole = sum(p.nbytes for p in loader.load(folder).parameters())
    assert max(held) < 0.6 * whole
    found = group.run(tasks.logits, ids, 2)
    for got in found[-grid.tensor :]:
        assert (got - expected).abs().max() < 1e-4


@pytest.mark.parametrize("grid", [Grid(1, 4, 1), Grid(2, 1, 2), Grid(1, 2, 2)], ids=str)
def test_training_equals_one_process(group, grid):
    model, (ids, targets) = random_model(CONFIG), batch()
    group.run(tasks.hold, grid, model)
    found = group.run(tasks.train, ids, targets, 3, 1, 1e-2)
    adam, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(3):
        adam.zero_grad()
        hidden = model(ids.flatten(), positions_of(*ids.shape), equal_sequences(len(ids)))
        loss = F.cross_entropy(model.logits(hidden), targets.flatten())
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    weights = dict(model.named_parameters())
    assert found[-1].losses == pytest.approx(losses, abs=1e-5)
    for rank, run in enumerate(found):
        place = grid.place(rank)["tensor"]
        for name, got in run.weights.items():
            expected = tensor.shard(name, weights[name], CONFIG, place, grid.tensor)
            assert (got - expected).abs().max() < 1e-4, name


@pytest.mark.parametrize("stage", [2, 3])
def test_zero_over_gloo(group, stage):
    model, (ids, targets) = random_model(CONFIG), batch()
    plain = group.run(tasks.zero, model, 0, ids, targets, 2, 1e-2)
    found = group.run(tasks.zero, model, stage, ids, targets, 2, 1e-2)
    for run, same in zip(found, plain, strict=True):
        assert run.losses == pytest.approx(same.losses, abs=1e-5)
        assert run.held.total < same.held.total / 2
        for name, weight in run.weights.items():
            assert (weight - same.weights[name]).abs().max() < 1e-4


def test_a_grid_of_another_size_is_refused_and_a_refusal_names_its_rank():
    with Group(1) as one, pytest.raises(GroupError, match="a grid of 2 ranks, and a group of 1"):
        one.run(tasks.hold, Grid(2), random_model(CONFIG))
    with pytest.raises(SplitError, match="each process has one place"):
        raise SplitError("x", "each process has one place", "y")


def test_the_engine_gives_the_same_tokens_on_several_ranks(group, tmp_path):
    """Chunks, shared prefixes, a pool so small that some give way; 2 kv heads on 4 ranks."""
    saved("qwen3", tmp_path)
    config = EngineConfig(18, 8, 24, attention="torch", end_ids=(96,))
    answers = []
    alone = Engine(loader.load(tmp_path), None, config)
    for made in (alone, engine_of(group, tmp_path, config)):
        found, preempted = {}, []
        made.observers.append(lambda plan, seen=preempted: seen.extend(plan.preempted))
        for number, (prompt, new) in enumerate(mixed_requests(12)):
            made.add_request(prompt, SamplingParams(max_tokens=new), str(number))
        while made.unfinished:
            for output in made.step():
                found[output.request_id] = output.outputs[0].token_ids
        assert preempted and made.blocks.used == 0
        answers.append(found)
    assert answers[0] == answers[1] and len(answers[0]) == 12


def kind_of_cache(worker):
    return type(worker.kept["runner"].cache).__name__, worker.kept["runner"].attention.__name__


def test_every_setting_of_the_engine_reaches_the_ranks_or_is_the_engines_own(group, tmp_path):
    saved("llama", tmp_path)
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.5, "do_sample": true}')
    own = {"max_step_tokens", "max_sequences", "prefix_caching", "chunked_prefill", "end_ids"}
    own |= {"seed", "scheduler", "blocks", "memory_share"}
    at_the_ranks = {"num_blocks", "block_size", "attention", "cache"}
    assert {field.name for field in fields(EngineConfig)} == own | at_the_ranks
    for cache in (Int8PagedCache, lambda *shape: Int8PagedCache(*shape)):
        config = EngineConfig(16, 8, attention="torch", cache=cache, end_ids=(96,))
        engine = engine_of(group, tmp_path, config)
        assert set(group.run(kind_of_cache)) == {("Int8PagedCache", "torch_attention")}
        assert engine.config.num_blocks == 16 and engine.admission.usual.temperature == 0.5
        engine.add_request([1, 2, 3], SamplingParams(max_tokens=4))
        while engine.unfinished:
            engine.step()
    engine_of(group, tmp_path, EngineConfig(num_blocks=None, max_sequences=2))
    assert group.run(lambda worker: worker.kept["runner"].cache.keys.shape[1]) == [16] * group.size


def test_a_setting_that_the_ranks_cannot_have_is_refused_and_the_group_lives(group, tmp_path):
    saved("llama", tmp_path)
    lock = threading.Lock()
    for config, message in (
        (EngineConfig(cache=lambda *shape: lock), "cannot be sent to the ranks"),
        (EngineConfig(attention="flash"), "attention 'flash'"),
    ):
        with pytest.raises(ServingError, match=message):
            engine_of(group, tmp_path, config)
    assert group.run(lambda worker: worker.rank) == list(range(group.size))


# --- what does not --------------------------------------------------------------------------------


def summing(worker):
    while True:
        worker.comm.all_reduce(torch.ones(100))


def summing_loudly(worker, folder):
    """Says by a file of its rank that it has begun, and ends never."""
    Path(folder, str(worker.rank)).touch()
    summing(worker)


def once_all_sum(folder, ranks, then):
    """On a thread: as soon as so many ranks have begun, however long that takes, do `then`."""

    def watch():
        wait_until(lambda: len(list(Path(folder).iterdir())) == ranks)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def two():
    made = Group(2, timeout=HUNG)
    yield made
    made.close()
    assert_gone(made.pids)


def raises(group, function, *args):
    """The error, which must come long before the group's timeout, and leave nothing behind."""
    began = time.monotonic()
    with pytest.raises(GroupError) as caught:
        group.run(function, *args)
    assert time.monotonic() - began < SOON
    assert_gone(group.pids)
    with pytest.raises(GroupError, match="the group has ended"):
        group.run(function, *args)
    return caught.value


def test_a_rank_that_is_killed_ends_the_group(two, tmp_path):
    once_all_sum(tmp_path, 2, lambda: os.kill(two.pids[1], signal.SIGKILL))
    error = raises(two, summing_loudly, str(tmp_path))
    assert error.rank == 1
    assert error.what == "rank 1 of 2 was killed by SIGKILL while it ran summing_loudly"
    assert error.why and error.try_


def test_a_rank_that_raises_is_named_with_its_error(two):
    def one_fails(worker):
        if worker.rank == 1:
            raise ValueError("a head too many")
        worker.comm.all_reduce(torch.ones(4))

    error = raises(two, one_fails)
    assert error.rank == 1
    assert "rank 1 of 2 raised ValueError while it ran one_fails: a head too many" in error.what
    assert "in one_fails" in error.traceback


def test_a_rank_that_leaves_is_named_by_its_exit_code(two):
    def one_leaves(worker):
        if worker.rank == 0:
            os._exit(7)
        worker.comm.all_reduce(torch.ones(4))

    error = raises(two, one_leaves)
    assert error.rank == 0 and "ended with exit code 7" in error.what


def test_an_engine_whose_rank_is_killed_says_so_and_loses_no_request(two, tmp_path):
    saved("llama", tmp_path)
    engine = engine_of(two, tmp_path, EngineConfig(16, 8, attention="torch", end_ids=(96,)))
    engine.add_request([5, 6, 7], SamplingParams(max_tokens=50), "mine")
    engine.step()
    os.kill(two.pids[1], signal.SIGKILL)
    with pytest.raises(GroupError, match="rank 1 of 2 was killed by SIGKILL"):
        while engine.unfinished:
            engine.step()
    assert list(engine.requests) == ["mine"] and engine.blocks.used == 0
    assert_gone(two.pids)


def test_a_rank_that_takes_no_part_is_given_up():
    def one_skips(worker):
        return worker.rank or worker.comm.all_reduce(torch.ones(4))

    with Group(2, timeout=3) as group:  # seconds
        error = raises(group, one_skips)
    assert "rank 0 of 2" in error.what


def test_ctrl_c_ends_the_group(two, tmp_path):
    # To the main thread, which waits: what is sent to the process may reach the thread that sends
    # it, and wakes nobody.
    main = threading.main_thread().ident
    with pytest.raises(KeyboardInterrupt):
        once_all_sum(tmp_path, 2, lambda: signal.pthread_kill(main, signal.SIGINT))
        two.run(summing_loudly, str(tmp_path))
    assert_gone(two.pids)


PARENT = """
import os, signal, sys, torch
from aiinfra_labs.cloud.serving.parallel.processes import Group

def summing(worker):
    while True:
        worker.comm.all_reduce(torch.ones(100))

if __name__ == "__main__":
    group = Group(2)
    print(*group.pids, flush=True)
    group.run(summing)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, how):
    """In a process group of its own, as Ctrl-C in a terminal reaches all of it."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    files = Path(tempfile.mkdtemp(prefix="w"))  # short: the name of a socket goes below it
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"TMPDIR": str(files)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(is_running, pids))
        os.kill(parent.pid, how) if how == signal.SIGKILL else os.killpg(parent.pid, how)
        parent.wait(SOON)
        assert_gone(pids)
        assert_gone(_of_session(parent.pid))  # nor the servers that started them
        wait_until(lambda: not list(files.glob("aiinfra-*")))  # nor their files
    finally:
        for pid in (parent.pid, *_of_session(parent.pid)):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        parent.stdout.close()
        shutil.rmtree(files)


def _of_session(session):
    """The processes of a session, where /proc tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(int(folder.name))
    return found


def test_no_group_of_nobody():
    with pytest.raises(GroupError, match="a group of 0 processes"):
        Group(0)
