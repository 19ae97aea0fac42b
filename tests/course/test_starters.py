"""A starter is told from an attempt by what its body does."""

import pytest

from aiinfra_labs.course.starters import is_starter
from aiinfra_labs.gpu import cuda

STARTERS = ["pass", "...", '"""Text."""', '"""Text."""\n    # Write.', "pass\n    pass", "return"]
ATTEMPTS = ["return x", "x", "y = 1", "raise NotImplementedError", "print(x)", "return 0"]


def function(body):
    names = {}
    exec(f"def f(x):\n    {body}", names)
    return names["f"]


@pytest.mark.parametrize("body", STARTERS)
def test_starters(body):
    assert is_starter(function(body))


@pytest.mark.parametrize("body", ATTEMPTS)
def test_attempts(body):
    # A bare name is dropped by no compiler: it may raise.
    assert not is_starter(function(body))


def test_kernels():
    @cuda.jit
    def empty(out):
        """out[i] = 1"""
        # Write your code here.

    @cuda.jit
    def begun(out):
        out[0] = 1

    assert is_starter(empty) and not is_starter(begun)


def test_classes_and_values():
    class Empty:
        def method(self):
            """Nothing."""

    class Begun(Empty):
        def method(self):
            return 1

    assert is_starter(Empty) and not is_starter(Begun)
    assert is_starter(None) and is_starter(...)
    assert not is_starter(3) and not is_starter(len) and not is_starter([])


def test_a_closure_that_does_nothing():
    outer = 1

    def uses(x):
        return outer

    def idle(x):
        """Nothing."""

    assert is_starter(idle) and not is_starter(uses)
