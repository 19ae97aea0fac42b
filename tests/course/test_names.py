"""One name, one meaning: who reads a name by itself knows which thing of the package it is.

Two modules may define one name if it is read with its module: `facts.load("gpu")` and
`checkpoint.load(folder)` are clear. But a name that is imported by itself, as in
`from ... import load`, must be imported so from one definition alone, in the package and in the
notebooks. Names of `exercises`, `drawings` and `widgets` are left out: they judge or draw a thing,
and bear its name.
"""

import ast
import json
from collections import defaultdict

BEAR_THE_NAME_OF_ANOTHER = {"exercises", "drawings", "widgets"}

# Names that have several definitions, and may.
EXCEPTIONS = {
    **dict.fromkeys(
        ("Machine", "Function", "Tokenizer"),
        "a Protocol has the name of the class that keeps to it; `Machine` of `gpu.sharing` is read "
        "in that package alone",
    ),
    **dict.fromkeys(
        ("Block", "MLP", "RMSNorm"),
        "a layer that is trained (unit 1.4) and the same layer as it is served (unit 4.3), with "
        "the same weights: both have Llama's names",
    ),
    "fill": "a method of arrays in a kernel, as NumPy names it, and a sentence with its blanks",
    "Deadlock": "the same fault, of threads of a block and of ranks",
    "Text": "a text in JSON's grammar, beside `Number` and `Array`, and the text of a workload",
}


def defined(tree):
    """Names of functions and classes at the top of a module, without those that begin with _."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {n.name for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")}


def imported(tree, package):
    """(module, name) of each `from module import name`; `package` is where the importer lies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")
            inside = above[: len(above) + 1 - node.level] if node.level else []
            module = ".".join([*inside, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names if not alias.asname)


class Code:
    """The modules of a package below `source`, and the cells of the notebooks that use it."""

    def __init__(self, source, notebooks=()):
        self.modules = {}  # name: (tree, package that it lies in)
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            package = ".".join(parts[:-1])
            name = package if parts[-1] == "__init__" else ".".join(parts)
            self.modules[name] = ast.parse(path.read_text(encoding="utf-8")), package
        self.readers = list(self.modules.values())
        for path in notebooks:
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                if cell["cell_type"] == "code":
                    self.readers.append((ast.parse("".join(cell["source"])), ""))

    def origin(self, module, name):
        """The module that defines what `module` calls `name`; None for none, as for a module."""
        passed = set()
        while module in self.modules and module not in passed:
            passed.add(module)
            tree, package = self.modules[module]
            if name in defined(tree):
                return module
            module = next((m for m, n in imported(tree, package) if n == name), None)
        return None

    def ambiguous(self):
        """{name: modules} of names that are imported by themselves from several definitions."""
        found = defaultdict(set)
        for tree, package in self.readers:
            for module, name in imported(tree, package):
                origin = self.origin(module, name)
                if origin and not BEAR_THE_NAME_OF_ANOTHER & set(origin.split(".")):
                    found[name].add(origin)
        return {name: sorted(found[name]) for name in sorted(found) if len(found[name]) > 1}


def test_a_name_that_is_imported_by_itself_has_one_meaning(root):
    notebooks = [*(root / "book").rglob("*.ipynb"), *(root / "solutions").rglob("*.ipynb")]
    assert notebooks
    found = Code(root / "src", notebooks).ambiguous()
    assert {name: found[name] for name in found if name not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() - found.keys() == set(), "no longer needed"


def test_two_meanings_are_found(tmp_path):
    files = {
        "p/__init__.py": "from .a import one",
        "p/a.py": "def one(): ...\ndef two(): ...\ndef three(): ...",
        "p/b.py": "from .a import three\ndef one(): ...\nclass two: ...\ndef _four(): ...",
        "p/c/__init__.py": "from ..b import one",  # the second `one`
        "p/d.py": "from . import a, b\nfrom p.b import three\na.two, b.two",  # with their modules
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    page = tmp_path / "page.ipynb"
    cell = {"cell_type": "code", "source": ["from p import one\n", "from p.b import two"]}
    page.write_text(json.dumps({"cells": [cell]}))
    assert Code(tmp_path).ambiguous() == {"one": ["p.a", "p.b"]}
    (tmp_path / "p" / "c" / "__init__.py").write_text("from ..a import two")
    assert Code(tmp_path, [page]).ambiguous() == {"two": ["p.a", "p.b"]}
