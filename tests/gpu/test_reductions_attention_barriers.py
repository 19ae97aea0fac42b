"""Every barrier of unit 3.6's kernels is needed: without any one of them there is a race.

Each module is copied with one `cuda.syncthreads()` left out, and must then be found out: the
results alone would not tell, for the lanes of the emulator run in step.
"""

from pathlib import Path

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.kernels import (
    flash_attention,
    naive_attention,
    paged_attention,
    reduction,
    scan,
)
from by_path import loaded

RNG = np.random.default_rng(0)
X = RNG.integers(-50, 50, 600).astype(np.float32)
QUERY, KEY, VALUE = (RNG.normal(size=(1, n, 32)).astype(np.float32) for n in (20, 70, 70))
CACHE = RNG.normal(size=(10, 8, 2, 32)).astype(np.float32)
TABLE = RNG.permutation(10).astype(np.int32).reshape(1, 10)


def without_barrier(source, number):
    """The text of a module without its barrier of this number, from 0; None if there is none."""
    lines = source.splitlines()
    barriers = [k for k, line in enumerate(lines) if line.strip().startswith("cuda.syncthreads()")]
    if number >= len(barriers):
        return None
    line = lines[barriers[number]]
    lines[barriers[number]] = line[: len(line) - len(line.lstrip())] + "pass"
    return "\n".join(lines).replace("from .", "from aiinfra_labs.gpu.kernels.") + "\n"


def load(path, text):
    path.write_text(text)
    return loaded(path)


def add_in_every_way(module):
    for name in ("interleaved", "strided", "tree", "shuffle", "stride"):
        getattr(module, f"block_sums_{name}")[3, module.THREADS](X, np.zeros(3, np.float32))


def decode(module):
    query, context = RNG.normal(size=(1, 4, 32)).astype(np.float32), np.array([75], np.int32)
    module.paged_attention(query, CACHE, CACHE, TABLE, context)


WORK = {
    reduction: (8, add_in_every_way),
    scan: (2, lambda module: module.inclusive_scan(X)),
    flash_attention: (2, lambda module: module.flash_attention(QUERY, KEY, VALUE)),
    naive_attention: (4, lambda module: module.naive_attention(QUERY, KEY, VALUE)),
    paged_attention: (2, decode),
}
BARRIERS = [(module, number) for module, (count, _) in WORK.items() for number in range(count)]
NAMES = [f"{module.__name__.rpartition('.')[2]}-{number}" for module, number in BARRIERS]


@pytest.mark.parametrize(("module", "number"), BARRIERS, ids=NAMES)
def test_without_any_one_barrier_there_is_a_race(module, number, tmp_path):
    text = without_barrier(Path(module.__file__).read_text(), number)
    broken = load(tmp_path / f"broken_{number}.py", text)
    with pytest.raises(cuda.SharedMemoryRace) as caught, cuda.check():
        WORK[module][1](broken)
    said = str(caught.value)
    assert said.count("(line ") == 2 or "(the same line)" in said  # both sides are named


@pytest.mark.parametrize("module", WORK, ids=lambda module: module.__name__.rpartition(".")[2])
def test_with_all_barriers_there_is_none_and_none_is_left_untried(module):
    count, work = WORK[module]
    source = Path(module.__file__).read_text()
    assert without_barrier(source, count - 1) and not without_barrier(source, count)
    with cuda.check():
        work(module)
