"""What every error class of the package can do, those to come included."""

import importlib
import inspect
import pickle
import pkgutil
from types import SimpleNamespace

import pytest

import aiinfra_labs
from aiinfra_labs import bounds
from aiinfra_labs.cloud.serving.errors import LoadError, RequestError
from aiinfra_labs.cloud.serving.parallel import processes
from aiinfra_labs.course.parts import Parts
from aiinfra_labs.gpu.emulator.api.takes import Takes

# What a parameter is given, by its name; any other is given a text.
GIVEN = {
    "parts": Parts("a", "b", "c"),
    "takes": Takes("cuda.grid", ("ndim",), "i = cuda.grid(1)"),
    "raised": KeyError("a"),
    "rank": 3,
    "place": None,
    "index": (4,),
    "shape": (4,),
}


def defined():
    """The exception classes of all modules that can be imported here."""
    found = set()
    for info in pkgutil.walk_packages(aiinfra_labs.__path__, "aiinfra_labs."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        found |= {
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind)
            and issubclass(kind, BaseException)
            and kind.__module__ == info.name
        }
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


def made(kind):
    """An error of this class, every parameter of which was given something of its own."""
    if kind.__init__ in (Exception.__init__, BaseException.__init__) or not inspect.isfunction(
        kind.__init__
    ):
        return kind("a text")
    names = list(inspect.signature(kind).parameters)
    return kind(*(GIVEN.get(name, f"the {name}") for name in names))


ERRORS = defined()


def test_the_classes_are_found():
    names = {kind.__name__ for kind in ERRORS}
    assert len(names) > 50
    assert {"RequestError", "GroupError", "CourseError", "OutOfBounds", "WrongCall"} <= names


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_an_error_goes_from_one_process_to_another_whole(kind):
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error)
    assert {name: str(value) for name, value in vars(again).items()} == {
        name: str(value) for name, value in vars(error).items()
    }


@pytest.mark.parametrize("kind", [bounds.SettingError, RequestError])
def test_an_error_that_belongs_to_one_of_several_keeps_its_three_parts(kind):
    error = kind("a", "b", "c")
    error.belongs_to("prompt 3")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (each.what, each.why, each.try_) == ("prompt 3: a", "b", "c")
        assert str(each) == "prompt 3: a\nWhy: b\nTry: c"


def test_what_a_rank_raised_reaches_the_caller_with_its_advice():
    _, found = pickle.loads(processes._report(LoadError("a", "b", "c")))
    error = processes.Group._raised(SimpleNamespace(size=2), 1, found, "it loaded")
    assert error.what == "rank 1 of 2 raised LoadError while it loaded: a"
    assert error.why.startswith("b; ") and error.try_ == "c"
    assert "LoadError" in error.traceback
