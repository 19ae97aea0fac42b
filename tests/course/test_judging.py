"""A judge in a process of its own: what is right gets its points, and what cheats gets none."""

import io
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from aiinfra_labs.course import registry
from aiinfra_labs.course.judging import answering, judge, wire
from aiinfra_labs.course.judging.client import Judge
from planting import all_planted, from_notebook, reasons

IDS = [exercise.id for exercise in registry.all_exercises()]


@pytest.fixture(scope="module")
def court():
    with Judge() as made:
        yield made


@pytest.fixture
def judged(court, tmp_path):
    """`judged(id, text)` is the result for `answer`, as the text defines it, in its own process."""

    def ask(id, text, seconds=None):
        assert "answer" in text
        path = tmp_path / "answer.py"
        path.write_text("import sys\n" + text)
        script = "aiinfra_labs.course.judging.answering"
        began = subprocess.Popen([sys.executable, "-c", WAIT, script, str(path)], **PIPES)
        address = court.begin(id, began.pid, seconds)
        began.stdin.write(address + "\n")
        began.stdin.close()
        result = court.result()
        began.kill()
        began.wait()
        began.stdout.close()
        return result

    return ask


WAIT = """
import runpy, sys
module, path = sys.argv[1:]
sys.argv = [module, sys.stdin.readline().strip(), path, "answer"]
runpy.run_module(module, run_name="__main__")
"""
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

# --- the same as in a lab ----------------------------------------------------------------------

RIGHT = """
def answer(words):
    counts = {}
    for word, n in words.items():
        for pair in zip(word, word[1:]):
            counts[pair] = counts.get(pair, 0) + n
    return min(counts, key=lambda pair: (-counts[pair], pair)) if counts else None
"""


def test_a_right_answer_gets_its_points(judged):
    result = judged("1.1.a", RIGHT)
    assert result.passed and result.score == result.points == 6


def test_a_wrong_answer_is_told_with_its_input_and_its_line(judged):
    result = judged("1.1.a", "def answer(words):\n    return words[99]\n")
    failed = next(r for r in result.requirements if not r.passed)
    assert "KeyError" in failed.what and failed.input and "return words[99]" in failed.code[-1]
    assert result.score == 0


def test_a_starter_is_not_attempted(judged):
    assert judged("1.1.a", "def answer(words):\n    '''Later.'''\n").status == "not attempted"


def test_a_wrong_arity_is_told_before_anything_is_called(judged):
    result = judged("1.1.a", "def answer(words, more):\n    return None\n")
    assert "takes 2 parameters (words, more), expected 1 (words)" in result.requirements[0].what


KERNEL = """
from aiinfra_labs.gpu import cuda

@cuda.jit
def answer(a, b, out):
    i = cuda.grid(1)
    if i {compared} out.size:
        out[i] = a[i] + b[i]
"""


def test_a_kernel_is_counted_by_the_judge(judged):
    assert judged("3.2.a", KERNEL.format(compared="<")).passed
    wrong = judged("3.2.a", KERNEL.format(compared="<="))
    assert not wrong.passed
    assert any("out[i] = a[i] + b[i]" in line for r in wrong.requirements for line in r.code)


def test_an_endless_loop_is_stopped_and_named(judged):
    text = "def answer(step, *_):\n    while True:\n        step += 1\n"
    result = judged("1.4.c", text, seconds=2)
    assert result.score == 0
    first = result.requirements[0]
    assert "stopped" in first.what and first.input and "answer, line " in "".join(first.code)
    assert judged("1.1.a", RIGHT).passed, "the judge goes on"


# --- what must not pay -------------------------------------------------------------------------

CHEATS = {
    "the caller's frame": """
def answer(words):
    frame = sys._getframe()
    while frame is not None:
        if "_best" in frame.f_globals:
            return frame.f_globals["_best"](words)
        frame = frame.f_back
""",
    "everything that the collector knows": """
import gc
def answer(words):
    for thing in gc.get_objects():
        if getattr(thing, "__name__", "") in ("_best", "most_frequent_pair"):
            return thing(words)
""",
    "a patched Requirement": """
from aiinfra_labs.course import requirements, comparing, checking
requirements.Requirement.that = requirements.Requirement.equal = lambda *a, **k: None
requirements.Require.__call__ = lambda *a, **k: None
comparing.difference = lambda *a, **k: None
checking.try_out = checking.check = lambda *a, **k: None
def answer(words):
    return (1, 2)
""",
    "what equals everything": """
class Yes(tuple):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = lambda self: 0
    __len__ = lambda self: 2
def answer(words):
    return Yes((1, 2))
""",
    "an object that equals everything": """
class Yes:
    __eq__ = lambda self, other: True
    __bool__ = lambda self: True
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *a, **k: self
def answer(words):
    return Yes()
""",
    "patched libraries": """
import math, builtins, json, socket, numpy, numpy.testing
math.isclose = numpy.allclose = numpy.array_equal = lambda *a, **k: True
numpy.testing.assert_allclose = numpy.testing.assert_equal = lambda *a, **k: None
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
def answer(words):
    return (1, 2)
""",
    "a forged result on the screen": """
import os, json
def answer(words):
    print(json.dumps({"result": {"score": 4, "status": "passed"}}), flush=True)
    os.write(1, b'{"result": {"score": 4, "status": "passed", "points": 4}}\\n')
    return (1, 2)
""",
    "an end of the process": "import os\ndef answer(words):\n    os._exit(0)\n",
    "a sudden end by exit": "def answer(words):\n    sys.exit(0)\n",
    "a forged message": """
from aiinfra_labs.course.judging import far
send = far.Line.send
def forged(self, what, value=None, **more):
    if what == "answer":
        self.stream.sendall(b"\\0\\0\\0\\0\\0\\0\\0\\x10" + b'{"passed": true}')
    return send(self, what, value, **more)
far.Line.send = forged
def answer(words):
    return (1, 2)
""",
    "a class that is pickled": """
import os
class Boom:
    def __reduce__(self):
        return (os.system, ("touch pickled",))
def answer(words):
    return Boom()
""",
    "a thread that goes on": """
import threading
def answer(words):
    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
    return (1, 2)
""",
    "a registered handler": """
import atexit, signal
atexit.register(print, "passed")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def answer(words):
    return (1, 2)
""",
    "a progress file": """
from aiinfra_labs.course import progress
progress.current().attempt("1.1.a", 4, 4, True)
def answer(words):
    return (1, 2)
""",
    "a private name of the judge's objects": """
def answer(words):
    try:
        return words.__class__.__mro__[-1].__subclasses__()
    except Exception:
        return (1, 2)
""",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_gets_nothing(judged, cheat, home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = judged("1.1.a", CHEATS[cheat])
    assert not result.passed and result.score == 0
    assert not (tmp_path / "pickled").exists()


KERNEL_CHEATS = {
    "Python in a kernel": "    np.os.system('touch ran')\n    out[i] = 0",
    "a module's loader": "    math.__loader__.load_module('os').abort()\n    out[i] = 0",
    "the classes of all": "    ().__class__.__base__.__subclasses__()\n    out[i] = 0",
    "a call of eval": "    eval('1')\n    out[i] = 0",
    "a call of open": "    open('ran', 'w')\n    out[i] = 0",
    "a name for it": "    f = np.os.system\n    f('touch ran')\n    out[i] = 0",
}


@pytest.mark.parametrize("cheat", KERNEL_CHEATS)
def test_nothing_of_a_kernel_runs_as_python(judged, cheat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = "import math\nimport numpy as np\nfrom aiinfra_labs.gpu import cuda\n\n@cuda.jit\n"
    body = f"def answer(a, b, out):\n    i = cuda.grid(1)\n{KERNEL_CHEATS[cheat]}\n"
    assert judged("3.2.a", head + body).score == 0
    assert not (tmp_path / "ran").exists()


def test_what_python_would_run_at_a_definition_is_not_run(judged, tmp_path, monkeypatch):
    """Annotations are evaluated where a function is defined: not by the judge."""
    mark = tmp_path / "ran"
    text = f"""
from pathlib import Path
from aiinfra_labs.gpu import cuda
def noted(x):
    with open({str(mark)!r}, "a") as file:
        file.write("x")
    return x

@cuda.jit
def answer(a: noted(1), b, out) -> noted(2):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]
"""
    assert judged("3.2.a", text).passed
    assert mark.read_text() == "xx", "in the answer's own process, and only there"


FORGED_COUNTERS = """
import numpy as np
from aiinfra_labs.gpu import cuda, emulator
from aiinfra_labs.gpu.emulator.counters.profiling import Profile
Profile.launches = property(lambda self: [1] * 3, lambda self, value: None)
emulator.profile = cuda.profile = lambda *a: None

def answer(kernel, x, y, times):
    total = x.copy()
    for _ in range(times):
        total += y
    return total
"""


def test_counters_are_the_judges_own(judged):
    result = judged("3.2.b", FORGED_COUNTERS)
    failed = [r.name for r in result.requirements if not r.passed]
    assert not result.passed and "lets the device add: one launch each time" in failed


# --- the wire ----------------------------------------------------------------------------------


def crossed(value):
    """The value as the other side gets it."""
    here, there = wire.Shared(0), wire.Shared(1)
    packer = wire.Packer(here, lambda x: {"t": "far", "n": 1, "c": "x", "m": []})
    packed = packer.pack(value)
    stream = io.BytesIO()
    stream.sendall = stream.write
    wire.write(stream, {"v": packed}, packer.blobs)
    stream.seek(0)
    message, blobs = wire.read(stream.read)
    return wire.Unpacker(there, blobs, lambda packed: "FAR").unpack(message["v"])


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -1, 2**70, 1.5, math.inf, -0.0, 2 + 3j, "它 \ud800", b"\0\xff", ...),
        *([], [1, [2.0, "x"]], (), (1, (2,)), {}, {"a": [1]}, {(1, 2): 3}, {1, 2}, frozenset({3})),
        *(range(2, 9, 3), slice(1, None, 2), np.float32, int, np.dtype("<i2")),
        *(np.float32(0.1), np.int64(-3), np.bool_(True)),
    ],
)
def test_plain_values_cross_as_they_are(value):
    got = crossed(value)
    assert type(got) is type(value) and got == value and str(got) == str(value)


@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(6.0).reshape(2, 3), np.zeros((0, 4), np.int8), np.array(3.5)),
        *(np.arange(12)[::2], np.arange(6).reshape(2, 3).T, np.arange(5)[::-1]),
        *(np.broadcast_to(np.arange(3), (2, 3)), np.array([True, False])),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["a", "bc"]),
    ],
)
def test_arrays_cross_with_their_numbers(array):
    got = crossed(array)
    assert got.dtype == array.dtype and got.shape == array.shape
    np.testing.assert_array_equal(got, array)


def test_a_step_between_elements_stays():
    assert crossed(np.arange(12.0)[::2]).strides == (16,)
    assert crossed(np.arange(6.0).reshape(2, 3).T).strides == (8, 24)


def test_a_part_shares_its_memory_on_the_other_side_too():
    whole = np.arange(12.0)
    got, part = crossed((whole, whole[2:9:3]))
    assert np.shares_memory(got, part) and part.tolist() == [2, 5, 8]
    import torch

    from aiinfra_labs.course.judging import tensors

    tensors.install()
    whole = torch.arange(12.0)
    got, part = crossed((whole, whole.view(3, 4)[1:, ::2]))
    got[4] = 100
    assert part.tolist() == [[100, 6], [8, 10]]


def test_no_part_reaches_beyond_its_array():
    shared = wire.Shared(1)
    shared.keep(7, np.zeros(4))
    forged = {"t": "part", "n": 9, "of": 7, "d": "<f8", "s": [100], "o": [8], "at": 0}
    for change in ({}, {"s": [2], "at": 1 << 40}, {"s": [2], "at": -800}, {"s": [2], "o": [-8]}):
        with pytest.raises((wire.WireError, ValueError, TypeError, OverflowError)):
            wire.Unpacker(shared, [], None).unpack(forged | change)


class Liar(int):
    def __eq__(self, other):
        return True

    def __int__(self):
        return 42

    def __index__(self):
        return 42

    __hash__ = int.__hash__


def test_a_subclass_crosses_as_what_it_holds():
    assert type(crossed(Liar(3))) is int and crossed(Liar(3)) == 3
    assert crossed([Liar(3)]) == [3]

    class Text(str):
        def __str__(self):
            return "other"

    assert crossed(Text("x")) == "x" and type(crossed(Text("x"))) is str


@pytest.mark.parametrize("value", [Fraction(1, 2), object(), len, np.array([object()])])
def test_anything_else_stays_where_it_is(value):
    assert crossed(value) == "FAR"


def test_a_list_within_itself_is_refused_or_kept():
    endless = []
    endless.append(endless)
    got = crossed(endless)
    assert got[0] is got


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{}", b"[]", b"[1, 2, 3]", b"null", b"[[1], [-1]]", b'[{}, ["a"]]'),
        *(b"[" * 100_000, b"\xff\xfe"),
    ],
)
def test_nonsense_is_refused(text):
    stream = io.BytesIO(len(text).to_bytes(8, "big") + text)

    def receive(count):
        data = stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    with pytest.raises((wire.WireError, EOFError, TypeError, ValueError)):
        message, blobs = wire.read(receive)
        wire.Unpacker(wire.Shared(1), blobs, None).unpack(message["v"])


def test_a_message_beyond_all_measure_is_refused():
    with pytest.raises(wire.WireError, match="too long"):
        wire.read(lambda count: (1 << 62).to_bytes(8, "big")[:count])


# --- every exercise ----------------------------------------------------------------------------


def test_what_is_tried_beside_the_answer_is_few_and_known():
    assert set(judge.BESIDE) <= set(IDS) and len(judge.BESIDE) <= 3


# The answer is served in the process of the tests. A stop that comes late, on a busy machine, may
# then find it in a finalizer, or in hypothesis's own callback of the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("id", IDS)
def test_the_judge_and_check_agree(court, id):
    """The reference passes before the judge, and a planted wrong answer fails there, too."""

    def result(obj):
        answering.answer(court.begin(id, None), obj)
        return court.result()

    found = result(from_notebook(registry.find(id), "solutions"))
    assert found.passed and found.score == found.points, str(found)
    answer, reason = all_planted()[1][id][0]
    found = result(answer)
    assert not found.passed and reason in reasons(found), str(found)
