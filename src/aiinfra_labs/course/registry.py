"""Exercises: one decorated function each, in `aiinfra_labs.<chapter>.exercises`.

@exercise("3.2.a", title="Vector add", points=3, skill="CUDA programming model",
          arguments=("a", "b", "out"), hints=("...",), kind="kernel")
def vector_add(kernel, require):
    with require("adds vectors of any length") as r:
        ...
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from .calling import watched
from .parts import Parts, a_kind
from .requirements import Require
from .units import CHAPTERS, UNITS

KINDS = ("function", "kernel", "value")
# If this module is loaded again, the exercises stay: their modules are not run a second time.
_registered: dict[str, Exercise] = globals().get("_registered", {})


@dataclass
class Exercise:
    """An exercise. `body(obj, require)` tries the learner's object; `seconds` stops a loop."""

    id: str
    title: str
    points: float
    skill: str
    body: Callable[[Any, Require], None]
    arguments: tuple[str, ...] = ()
    hints: tuple[str | tuple[str, str], ...] = ()
    kind: str = "function"
    seconds: float = 10.0
    changes: tuple[str, ...] = ()
    new: bool = False
    central: str = ""
    shower: Callable[[Any], Any] | None = field(default=None, repr=False)

    @property
    def unit(self) -> str:
        """`3.2` for the exercise `3.2.a`."""
        return self.id.rpartition(".")[0]

    def hints_for(self, failed: Collection[str]) -> dict[int, str]:
        """The hints that help with the requirements of these names, by number, from 1.

        A hint is a text, or a pair: the requirement that it helps with, and the text.
        """
        pairs = [(None, hint) if isinstance(hint, str) else hint for hint in self.hints]
        return {
            number: text
            for number, (name, text) in enumerate(pairs, 1)
            if name is None or name in failed
        }

    def watch(self, obj: Any) -> Any:
        """The learner's function, which is told when it spoils its arguments or its result."""
        if self.kind != "function":
            return obj
        return watched(obj, self.arguments, self.changes, self.new)

    def show(self, shower: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Decorator: registers what `show(id, obj)` calls to draw the learner's own run."""
        self.shower = shower
        return shower

    def objection(self, obj: Any) -> Parts | None:
        """Why `obj` cannot be tried at all; None when it can."""
        if self.kind == "value":
            return None
        wanted = ", ".join(self.arguments)
        if obj is None:
            return Parts(
                f"None cannot be called: a {self.kind} was expected",
                "a function called without a return, and every launch of a kernel, gives None",
                f'give the {self.kind} itself, without brackets: check("{self.id}", name)',
            )
        is_kernel = hasattr(obj, "py_func") and hasattr(type(obj), "__getitem__")
        if not callable(obj) and not is_kernel:
            return Parts(
                f"{a_kind(obj)} cannot be called",
                f"this exercise tries a {self.kind} that takes ({wanted})",
                f'give the {self.kind} itself, without brackets: check("{self.id}", name)',
            )
        if self.kind == "kernel" and not is_kernel and hasattr(obj, "kernel"):
            return Parts(
                "a kernel with its blocks and threads was given, expected the kernel alone",
                "the check launches it on grids of its own",
                f'leave the brackets out: check("{self.id}", name)',
            )
        if self.kind == "kernel" and not is_kernel:
            return Parts(
                f"{_name(obj)} is a plain Python function, not a kernel",
                "only a function compiled with cuda.jit can be launched on a grid",
                "write @cuda.jit on the line above its def, and run the cell again",
            )
        if self.kind == "function" and is_kernel:
            return Parts(
                f"{_name(obj)} is a kernel, expected a plain Python function",
                "this exercise calls it on the host, without a launch configuration",
                "remove @cuda.jit, or give the function that launches the kernel",
            )
        if _is_the_courses(obj):
            return Parts(
                f"{_name(obj)} is the course's own, out of {_home(obj)}",
                "the exercise is to write it; what is there already shows nothing of yours",
                f"write the {self.kind} in the notebook's cell, and give that",
            )
        try:
            signature = inspect.signature(getattr(obj, "py_func", obj))
        except (TypeError, ValueError):  # some built-in functions do not tell
            return None
        try:
            signature.bind(*self.arguments)
        except TypeError:
            mine = ", ".join(signature.parameters)
            return Parts(
                f"{_name(obj)} takes {_count(len(signature.parameters))} ({mine}), "
                f"expected {len(self.arguments)} ({wanted})",
                "the check calls it with these, in this order",
                f"write def {_name(obj)}({wanted})",
            )
        return None


def exercise(
    id: str,
    *,
    title: str,
    points: float,
    skill: str,
    arguments: Sequence[str] = (),
    hints: Sequence[str | tuple[str, str]] = (),
    kind: str = "function",
    seconds: float = 10.0,
    changes: Sequence[str] = (),
    new: bool = False,
    central: str = "",
) -> Callable[[Callable[[Any, Require], None]], Exercise]:
    """Decorator: registers the function as the body of exercise `id`. See the module.

    `arguments` are the parameters the learner's function must take. `kind` is "kernel" (an
    object made by cuda.jit), "function" (anything that can be called) or "value". `seconds` is
    how long one requirement may run before it counts as endless: no measure of speed. `hints` are
    shown one by one; a pair holds the name of the requirement that its hint helps with. A call of
    a function must leave its arguments as they were, but for those named in `changes`: the answer
    may change them, or the body looks at them itself. `new`: the result must share no memory with
    an argument. `central` names the requirement that the exercise is about: each other one gives 1
    point, and it gives the rest, which is half of the points or more.
    Raises ValueError for a definition that cannot hold.
    """
    if not re.fullmatch(r"[1-5]\.\d+\.[a-z]", id):
        raise ValueError(f"exercise id {id!r} is not of the form 3.2.a")
    if points <= 0 or not title or not skill:
        raise ValueError(f"exercise {id}: title, skill and positive points are needed")
    if kind not in KINDS:
        raise ValueError(f"exercise {id}: kind {kind!r} is none of {KINDS}")
    if isinstance(hints, str) or isinstance(arguments, str) or isinstance(changes, str):
        raise ValueError(f"exercise {id}: hints, arguments and changes are tuples, not one string")
    if not set(changes) <= set(arguments):
        raise ValueError(f"exercise {id}: changes {changes} are none of its arguments {arguments}")

    def register(body: Callable[[Any, Require], None]) -> Exercise:
        known = _registered.get(id)
        if known is not None and _origin(known.body) != _origin(body):
            raise ValueError(f"exercise {id} is defined twice: {_origin(known.body)}")
        made = Exercise(
            id,
            title,
            points,
            skill,
            body,
            tuple(arguments),
            tuple(hints),
            kind,
            seconds,
            tuple(changes),
            new,
            central,
        )
        made.__doc__ = body.__doc__
        _registered[id] = made
        return made

    return register


def all_exercises() -> list[Exercise]:
    """Every exercise of every chapter, by unit and letter."""
    for chapter in CHAPTERS.values():
        import_exercises(chapter.name)
    return sorted(_registered.values(), key=lambda e: _order(e.id))


def find(id: str) -> Exercise | None:
    """The exercise `id`, or None. Imports the exercises of its unit, or else of its chapter."""
    unit = UNITS.get(id.rpartition(".")[0])
    if id not in _registered and unit:
        stem = unit.stem.partition("-")[2].replace("-", "_")
        import_exercises(unit.chapter.name, stem)
    if id not in _registered and id[:1] in CHAPTERS:
        import_exercises(CHAPTERS[id[:1]].name)
    return _registered.get(id)


def nearest(id: str, count: int = 3) -> list[str]:
    """The ids most like `id`, for "did you mean"."""
    known = [e.id for e in all_exercises()]
    id = id.strip().lower()
    if id in known:
        return [id]
    of_unit = [other for other in known if id and other.startswith(f"{id}.")]
    return (of_unit or difflib.get_close_matches(id, known, count, cutoff=0.3) or known)[:count]


def import_exercises(chapter: str, stem: str = "") -> None:
    """Import the modules of `aiinfra_labs.<chapter>.exercises` whose names begin with `stem`."""
    package = f"aiinfra_labs.{chapter}.exercises"
    if importlib.util.find_spec(package) is None:
        return
    home = importlib.import_module(package)
    for module in pkgutil.iter_modules(home.__path__):
        if module.name.startswith(stem):
            importlib.import_module(f"{package}.{module.name}")


def _order(id: str) -> tuple[int, int, str]:
    chapter, unit, letter = id.split(".")
    return int(chapter), int(unit), letter


def _origin(body: Callable) -> str:
    return f"{body.__module__}.{body.__qualname__}"


def _name(obj: Any) -> str:
    return getattr(obj, "__name__", type(obj).__name__)


def _is_the_courses(obj: Any) -> bool:
    return _home(obj).partition(".")[0] == __name__.partition(".")[0]


def _home(obj: Any) -> str:
    """The module in which a function, a class or a kernel was written."""
    written = getattr(obj, "py_func", obj)
    code = getattr(written, "__globals__", None)  # a decorated function keeps its own module's
    return str(code.get("__name__", "") if code else getattr(written, "__module__", ""))


def _count(number: int) -> str:
    return "1 parameter" if number == 1 else f"{number} parameters"
