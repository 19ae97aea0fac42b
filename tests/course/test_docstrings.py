"""No public function, method or property of the package lacks a docstring.

A method that overrides another has that one's docstring, as `help` shows it, and so has a method
that a Protocol describes, if the class names the Protocol as its base. Left out are answers to
exercises and kernels that learners are shown as they stand, without a word between them and their
lines, and properties of one expression that bear NumPy's or Numba's own names (`lambda`).
"""

import ast
import functools
import importlib
import inspect
import sys

import pytest

SHOWN_AS_THEY_STAND = ("exercises/", "kernels/", "gpu/accumulators.py")


def without(tree):
    """The names of public functions at the top of a module that have no docstring."""
    for node in tree.body:
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and not node.name.startswith("_") and not ast.get_docstring(node):
            yield node.name


def methods_without(module):
    """`Class.method` of each public class of a module, where neither it nor a base has one."""
    for kind in vars(module).values():
        if not inspect.isclass(kind) or kind.__module__ != module.__name__:
            continue
        if kind.__name__.startswith("_"):
            continue
        for name, member in vars(kind).items():
            if name.startswith("_") or not is_written(member):
                continue
            if not any(getattr(vars(c).get(name), "__doc__", None) for c in kind.__mro__):
                yield f"{kind.__name__}.{name}"


def is_written(member):
    """Whether a member of a class is a method or a property with a `def`."""
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, functools.cached_property):
        member = member.func
    return inspect.isfunction(member) and member.__name__ != "<lambda>"


def files(root):
    package = root / "src" / "aiinfra_labs"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not any(part in name for part in SHOWN_AS_THEY_STAND):
            yield name, path


def test_no_public_function_lacks_a_docstring(root):
    found = [
        f"{name}: {function}"
        for name, path in files(root)
        for function in without(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("part", ["cloud", "course", "gpu", "llm", "bounds"])
def test_nor_does_a_public_method(root, part):
    found, modules = [], 0
    for name, path in files(root):
        if name.startswith(part):
            parts = path.relative_to(root / "src").with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            found += [f"{name}: {method}" for method in methods_without(module)]
            modules += 1
    assert modules and found == []


def test_a_function_without_one_is_found():
    source = "def a(): ...\ndef _b(): ...\nasync def c(): ...\nclass D:\n    def e(self): ...\n"
    assert list(without(ast.parse(source))) == ["a", "c"]


class _Base:
    def told(self):
        """What it does."""


class Sample(_Base):
    """Methods with and without a docstring; of three properties one may do without."""

    def told(self):
        return 1

    def __len__(self):
        return 1

    def _own(self):
        return 1

    def silent(self):
        return 1

    @classmethod
    def of(cls):
        return 1

    @property
    def size(self):
        return 1

    @functools.cached_property
    def kept(self):
        return 1

    shape = property(lambda self: 1)


def test_a_method_without_one_is_found():
    found = [f"Sample.{name}" for name in ("silent", "of", "size", "kept")]
    assert list(methods_without(sys.modules[__name__])) == found
