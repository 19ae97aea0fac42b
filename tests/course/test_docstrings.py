"""No public function lacks a docstring, and no module's `forward` does.

Left out: answers to exercises and kernels that learners are shown as they stand, without a word
between them and their lines.
"""

import ast

import pytest

SHOWN_AS_THEY_STAND = ("exercises/", "kernels/", "gpu/accumulators.py")


def without(tree):
    """The names of public functions at the top of a module, and of `forward`s, that have none."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_") and not ast.get_docstring(node):
                yield node.name
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                named = isinstance(inner, ast.FunctionDef) and inner.name == "forward"
                if named and not ast.get_docstring(inner):
                    yield f"{node.name}.forward"


def missing(package):
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not any(part in name for part in SHOWN_AS_THEY_STAND):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield from (f"{name}: {function}" for function in without(tree))


def test_no_public_function_lacks_a_docstring(root):
    assert list(missing(root / "src" / "aiinfra_labs")) == []


@pytest.mark.parametrize("part", ["llm", "gpu/sharing"])
def test_nor_does_a_method_of_chapter_1_or_of_sharing(root, part):
    package, found = root / "src" / "aiinfra_labs" / part, []
    for path in sorted(package.rglob("*.py")):
        if any(kept in path.as_posix() for kept in SHOWN_AS_THEY_STAND):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found += [
                    f"{path.name}: {node.name}.{inner.name}"
                    for inner in node.body
                    if isinstance(inner, ast.FunctionDef)
                    and not inner.name.startswith("_")
                    and not ast.get_docstring(inner)
                ]
    assert found == []


def test_a_function_without_one_is_found():
    source = "def a(): ...\ndef _b(): ...\nclass C:\n    def forward(self): ...\n"
    assert list(without(ast.parse(source))) == ["a", "C.forward"]
