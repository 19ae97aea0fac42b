"""A checkpoint is whole, or is refused; what was there before is not lost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from aiinfra_labs.llm import checkpoint
from aiinfra_labs.llm.checkpoint import CheckpointError

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).view(3, 4),
    "b": torch.tensor(7),
    "c": torch.randn(5).to(torch.bfloat16),
    "none": torch.empty(0, 3),
}
STATE = {"step": 3, "recipe": {"rate": 0.1}, "losses": [1.5, 0.25]}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.safetensors"
    checkpoint.save(path, TENSORS, STATE)
    return path


def test_what_was_saved_comes_back(saved):
    tensors, state = checkpoint.load(saved)
    assert state == STATE and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert all(tensors[name].dtype == TENSORS[name].dtype for name in TENSORS)
    assert [file.name for file in saved.parent.iterdir() if file.is_file()] == [saved.name]


def test_safetensors_reads_it(saved):
    assert torch.equal(load_file(saved)["a"], TENSORS["a"])


def test_a_view_is_saved_as_it_looks(tmp_path):
    path = tmp_path / "new" / "run.safetensors"  # the folder is made
    checkpoint.save(path, {"turned": TENSORS["a"].T}, {})
    assert torch.equal(checkpoint.load(path)[0]["turned"], TENSORS["a"].T)


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_is_noticed(where, flip, tmp_path_factory):
    path = tmp_path_factory.mktemp("flip") / "run.safetensors"
    checkpoint.save(path, TENSORS, STATE)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= flip
    path.write_bytes(content)
    try:
        tensors, state = checkpoint.load(path)
    except CheckpointError as error:
        assert len(str(error).splitlines()) == 3
        return
    # A byte of the header's own text may differ and mean the same, or be of the run's state; no
    # number may.
    assert all(torch.equal(t, TENSORS[name]) for name, t in tensors.items())
    assert tensors.keys() == TENSORS.keys()


@settings(max_examples=30, deadline=None)
@given(left=st.floats(0, 1, exclude_max=True))
def test_any_cut_is_noticed(left, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "run.safetensors"
    checkpoint.save(path, TENSORS, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(CheckpointError, match="is no whole checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x00" * 100])
def test_another_kind_of_file(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="x.safetensors is no whole checkpoint"):
        checkpoint.load(path)
    assert path.read_bytes() == content


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run.safetensors"):
        checkpoint.load(tmp_path / "run.safetensors")


def test_a_file_of_another_program_has_no_sum_and_loads(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file({"a": TENSORS["a"]}, path)
    tensors, state = checkpoint.load(path)
    assert torch.equal(tensors["a"], TENSORS["a"]) and state == {}


def test_a_failed_write_leaves_the_old_one(saved, monkeypatch):
    before = saved.read_bytes()

    def disk_full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", disk_full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, {"a": torch.zeros(1)}, {})
    assert saved.read_bytes() == before
    monkeypatch.undo()
    checkpoint.save(saved, {"a": torch.zeros(1)}, {})  # the half is no hindrance
    assert list(checkpoint.load(saved)[0]) == ["a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("bias"), "has no tensor bias"),
        (lambda t: t.update(bias=torch.zeros(4)), r"bias is \[4\] in x, and \[3\] here"),
        (lambda t: t.update(more=torch.zeros(4)), "has more, which the model has not"),
    ],
)
def test_fill_takes_all_or_none(change, said):
    linear = torch.nn.Linear(2, 3)
    before = {name: value.clone() for name, value in linear.state_dict().items()}
    tensors = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    change(tensors)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.fill(linear, tensors, "x")
    assert all(torch.equal(linear.state_dict()[name], value) for name, value in before.items())


def test_fill_copies():
    linear = torch.nn.Linear(2, 3)
    tensors = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    checkpoint.fill(linear, tensors, "x")
    tensors["bias"].zero_()
    assert torch.equal(linear.bias, torch.ones(3))
