"""The alarm: it stops what does not end, rings in bounds, and is deaf to a busy machine."""

import contextlib
import signal
import sys
import threading
import time

import pytest

from aiinfra_labs.course import alarm as alarm_module
from aiinfra_labs.course import check, guard, requirements
from aiinfra_labs.course.alarm import PATIENCE, Alarm, TimeLimit, Waited
from aiinfra_labs.course.guard import explain

by_signal = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signal here")


class Clocks:
    """Clocks that stand still until they are set: processor time of the thread and the process,
    and the time on the wall."""

    def __init__(self, monkeypatch):
        self.own = self.process = self.wall = 0.0
        monkeypatch.setattr(alarm_module, "_thread_time", lambda: self.own)
        monkeypatch.setattr(alarm_module, "_process_time", lambda: self.process)
        monkeypatch.setattr(alarm_module, "_monotonic", lambda: self.wall)
        monkeypatch.setattr(alarm_module, "_clock_of_this_thread", lambda: lambda: self.own)

    def after(self, own=0.0, process=0.0, wall=0.0):
        """What an alarm of 10 s says when so much time has gone by: None, or what it raises."""
        alarm = Alarm(10)
        with alarm:
            self.own, self.process, self.wall = self.own + own, self.process + process, wall
            left, kind = alarm._left()
        self.own = self.process = self.wall = 0.0
        return None if left > 0 else kind


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """After a stop the requirements that follow have little time, so that the tests are short."""
    monkeypatch.setattr(requirements, "_AFTER_A_STOP", 0.2)


def wait_until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


# --- what it counts -------------------------------------------------------------------------------


def test_a_busy_machine_is_no_endless_loop(monkeypatch):
    """Of 50 s on the wall the code got a processor for 8: it has 2 s left."""
    clocks = Clocks(monkeypatch)
    assert clocks.after(own=8, process=8, wall=50) is None
    assert clocks.after(own=9.9, process=9.9, wall=10) is None


def test_computing_and_waiting_too_long_are_told_apart(monkeypatch):
    clocks = Clocks(monkeypatch)
    assert clocks.after(own=10, process=10, wall=10) is TimeLimit
    assert clocks.after(own=0.1, process=0.1, wall=10 * PATIENCE) is Waited
    assert clocks.after(own=0.1, process=0.1, wall=10 * PATIENCE - 1) is None


def test_what_other_threads_compute_counts_by_half(monkeypatch):
    """An endless rank, for which the main thread waits, computed; a library's threads may."""
    clocks = Clocks(monkeypatch)
    assert clocks.after(own=0, process=21, wall=21) is TimeLimit
    assert clocks.after(own=8, process=32, wall=9) is None


def test_each_kind_of_stop_says_what_is_true():
    computed, waited = explain(TimeLimit(), 10), explain(Waited(), 10)
    assert "it had run for 10 s of processor time" in computed.what and "loop" in computed.why
    assert f"not ended after {10 * PATIENCE} s" in waited.what and "waits" in waited.why
    assert "processor time" not in waited.what and "loop" not in waited.why


@pytest.mark.parametrize("on_thread", [False, True])
def test_an_answer_that_gets_no_processor_passes(doubling, monkeypatch, on_thread):
    """Much time goes by on the wall, as on a machine with a hundred other programs."""
    started = time.monotonic()
    monkeypatch.setattr(
        alarm_module, "_monotonic", lambda: started + 4 * (time.monotonic() - started)
    )

    def slowly(x):
        time.sleep(0.3)  # 3 inputs, so 3.6 s by that clock, of 1 s of processor time that it has
        return x * 2

    found = []
    if on_thread:
        thread = threading.Thread(target=lambda: found.append(check("1.1.z", slowly)))
        thread.start()
        thread.join()
    else:
        found.append(check("1.1.z", slowly))
    assert found[0].passed, found[0]


def test_a_thread_has_a_clock_of_its_own():
    """What other threads compute does not count for it."""
    clocks, done = [], threading.Event()

    def idle():
        clocks.append(alarm_module._clock_of_this_thread())
        done.wait()

    thread = threading.Thread(target=idle)
    thread.start()
    wait_until(lambda: clocks)
    if sys.platform == "linux":
        before, own = clocks[0](), time.thread_time()
        while time.thread_time() - own < 0.2:
            pass
        assert clocks[0]() - before < 0.1
    done.set()
    thread.join()
    assert clocks[0]() >= 0  # of a thread that has ended it is no error


# --- a ring in the middle of a ring ---------------------------------------------------------------


def deep(depth, function):
    return function() if depth == 0 else deep(depth - 1, function)


def stubborn():
    """Catches everything, over and over, until it is stopped at a line."""
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def slow_is_learners(seconds):
    """It says the same after `seconds`. Its code is the course's: it must not be traced."""
    code = """def slow(filename):
    end = clock() + seconds
    while clock() < end:
        pass
    return asked(filename)
"""
    names = {"clock": time.monotonic, "asked": alarm_module.is_learners, "seconds": seconds}
    exec(compile(code, alarm_module.__file__, "exec"), names)
    return names["slow"]


@by_signal
@pytest.mark.parametrize("depth", [0, 600])
def test_a_timer_far_shorter_than_the_handler_rings_in_bounds(monkeypatch, depth):
    """Each look at a frame takes longer than the timer: the handler is not entered while it runs,
    and the code is stopped all the same."""
    monkeypatch.setattr(alarm_module, "_AGAIN", 1e-4)
    monkeypatch.setattr(alarm_module, "_SOONEST", 1e-4)
    inside, deepest = [0], [0]
    monkeypatch.setattr(alarm_module, "is_learners", slow_is_learners(1e-3))
    ring = Alarm._ring

    def counted(self, number, frame):
        inside[0] += 1
        deepest[0] = max(deepest[0], inside[0])
        try:
            ring(self, number, frame)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(Alarm, "_ring", counted)
    with pytest.raises(TimeLimit), Alarm(0.05):
        deep(depth, stubborn)
    # Each ring that comes in the middle of one doubles the time to the next, and does no work.
    assert 1 <= deepest[0] < 40
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert sys.gettrace() is None


@by_signal
def test_a_stop_is_not_repeated_while_it_is_explained(doubling, monkeypatch):
    """Under load the explanation takes longer than the time to the next ring."""
    monkeypatch.setattr(alarm_module, "_AGAIN", 0.01)
    real = guard.learners_lines

    def slowly(*arguments):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        return real(*arguments)

    monkeypatch.setattr(guard, "learners_lines", slowly)
    doubling.seconds = 0.1

    def endless(x):
        deep(300, stubborn)

    result = check("1.1.z", endless)
    assert [r.name for r in result.requirements] == ["doubles", "keeps its argument"]
    assert all("was stopped" in r.what for r in result.requirements)


@by_signal
def test_a_stop_that_has_left_the_learners_code_is_not_repeated():
    """Between the learner's last frame and the check's handler it would end the whole check."""

    def endless():
        while True:
            pass

    with Alarm(0.05) as alarm:
        with pytest.raises(TimeLimit):
            endless()
        alarm._ring(signal.SIGALRM, sys._getframe())  # and nothing is raised


@by_signal
def test_code_at_the_end_of_its_stack_is_stopped():
    """The handler itself finds no room there, time and again."""

    def exponential():
        try:
            exponential()
        except RecursionError:
            exponential()

    with pytest.raises(TimeLimit), Alarm(0.1):
        exponential()


@by_signal
def test_the_caller_is_not_traced_after_a_stop(doubling):
    """A debugger traces the caller: what stopped a stubborn loop must not stop the cell, too."""
    doubling.seconds = 0.2
    sys.settrace(lambda *_: None)
    try:
        result = check("1.1.z", lambda x: stubborn())
        line_after = "reached"
        assert sys.gettrace() is not None
    finally:
        sys.settrace(None)
    assert "was stopped" in result.requirements[0].what and line_after == "reached"


@by_signal
def test_the_alarm_of_a_caller_still_rings(monkeypatch):
    """A timer that somebody else had set goes on, with its own handler."""
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with Alarm(10):
            pass
        wait_until(lambda: rung)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


SPIN = """
import sys, threading
from aiinfra_labs.course.alarm import Alarm, TimeLimit

def ends():
    with Alarm(100):
        pass

def is_stopped():
    try:
        with Alarm(0.05) as alarm:
            while True:
                pass
    except TimeLimit:
        pass

def is_stopped_as_it_ends():
    from aiinfra_labs.course import alarm as module
    with Alarm(100) as alarm, alarm._lock:
        alarm._sent = True
        alarm.on = False

for target in (ends, is_stopped, is_stopped_as_it_ends):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    sys.settrace(lambda frame, event, argument: None)
    (lambda: None)()  # spun here for ever
    sys.settrace(None)
print("reached the end")
"""


def test_after_an_alarm_on_a_thread_a_traced_function_runs():
    """CPython 3.11 spins at its entry when an asynchronous exception was set to NULL."""
    import subprocess

    done = subprocess.run([sys.executable, "-c", SPIN], capture_output=True, text=True, timeout=120)
    assert done.stdout == "reached the end\n", done.stderr


def test_a_stop_on_a_thread_is_not_repeated_while_it_is_explained(doubling, monkeypatch):
    monkeypatch.setattr(alarm_module, "_AGAIN", 0.01)
    real = guard.learners_lines

    def slowly(*arguments):
        time.sleep(0.2)
        return real(*arguments)

    monkeypatch.setattr(guard, "learners_lines", slowly)
    doubling.seconds = 0.1
    found = []

    def endless(x):
        while True:
            pass

    thread = threading.Thread(target=lambda: found.append(check("1.1.z", endless)), daemon=True)
    thread.start()
    thread.join(60)
    names = [r.name for r in found[0].requirements]
    assert names == ["doubles", "keeps its argument"]
    assert all("was stopped" in r.what for r in found[0].requirements)
