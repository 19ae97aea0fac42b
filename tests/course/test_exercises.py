"""Every exercise of every chapter: the starter is no attempt, the reference passes, and the
planted answers are accepted or rejected, each wrong one for its reason.

The planted answers of a unit stand in `tests/<chapter>/planted/`: any module there may have
`RIGHT` and `WRONG`. `WRONG` lists (id, answer, part of the reason); `RIGHT` lists (id, answer).
Either may be a dict by id instead, whose answers are made by calling what it holds.
"""

import ast
import importlib.util

import pytest

from aiinfra_labs.course import registry, rules
from aiinfra_labs.course.checking import try_out
from aiinfra_labs.course.merging import source
from aiinfra_labs.course.starters import is_starter
from aiinfra_labs.course.units import UNITS, repository

ROOT = repository()
EXERCISES = registry.all_exercises()
IDS = [exercise.id for exercise in EXERCISES]
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def from_notebook(exercise, tree):
    """The learner's object as the notebook of `tree` defines it: from its definitions alone."""
    path = ROOT / tree / UNITS[exercise.unit].notebook
    notebook = rules.read(path)
    names = {name for _, id, name in rules.checked(notebook) if id == exercise.id}
    assert len(names) == 1, f"{path.name} must check {exercise.id} once"
    space = {"__name__": f"{tree}_{exercise.unit}"}
    for cell in rules.code_cells(notebook):
        body = [node for node in ast.parse(source(cell)).body if isinstance(node, KEPT)]
        if body:
            # Compiled from a file that holds the cell, for kernels are translated from source.
            _run(source(cell), body, space)
    return space[names.pop()]


def _run(text, body, space):
    import linecache

    name = f"<cell {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(ast.Module(body, []), name, "exec"), space)


def planted():
    """Right and wrong answers by id, from every `planted` folder."""
    right, wrong = {}, {}
    for path in sorted((ROOT / "tests").glob("*/planted/*.py")):
        name = f"planted_{path.parent.parent.name}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for id, *rest in entries(getattr(module, "RIGHT", [])):
            right.setdefault(id, []).append(rest[0])
        for id, *rest in entries(getattr(module, "WRONG", [])):
            wrong.setdefault(id, []).append((rest[0], rest[1]))
    return right, wrong


def entries(listed):
    """(id, answer, ...) of either form."""
    if not isinstance(listed, dict):
        return list(listed)
    found = []
    for id, answers in listed.items():
        for answer in answers:
            make, *reason = answer if isinstance(answer, tuple) else (answer,)
            found.append((id, make(), *reason))
    return found


RIGHT, WRONG = planted()


def reasons(result):
    """All that is said of the requirements that failed."""
    return "\n".join(
        f"{r.name}\n{r.input}\n{r.what}\n{r.why}\n{r.try_}"
        for r in result.requirements
        if not r.passed
    )


def test_there_are_exercises():
    assert len(EXERCISES) >= 4
    assert {*RIGHT, *WRONG} <= set(IDS), "answers are planted for no exercise"


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_definition(exercise):
    assert exercise.unit in UNITS
    assert exercise.__doc__, "say what is asked"
    assert len(exercise.hints) >= 2, "hints are given one at a time"
    assert exercise.arguments or exercise.kind == "value"


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_the_starter_is_not_attempted(exercise):
    starter = from_notebook(exercise, "labs")
    assert exercise.objection(starter) is None
    assert is_starter(starter)


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_the_reference_passes(exercise):
    result = try_out(exercise, from_notebook(exercise, "solutions"))
    assert result.passed and result.score == exercise.points, str(result)


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_two_right_answers_and_three_wrong_ones_are_planted(exercise):
    assert len(RIGHT.get(exercise.id, [])) >= 2
    assert len(WRONG.get(exercise.id, [])) >= 3


@pytest.mark.parametrize(
    ("id", "number"), [(id, i) for id in IDS for i in range(len(RIGHT.get(id, [])))]
)
def test_a_right_answer_passes(id, number):
    result = try_out(registry.find(id), RIGHT[id][number])
    assert result.passed, str(result)


@pytest.mark.parametrize(
    ("id", "number"), [(id, i) for id in IDS for i in range(len(WRONG.get(id, [])))]
)
def test_a_wrong_answer_is_rejected_for_its_reason(id, number):
    answer, reason = WRONG[id][number]
    exercise = registry.find(id)
    assert exercise.objection(answer) is None, "it must be wrong in what it does"
    result = try_out(exercise, answer)
    assert not result.passed and result.score < exercise.points
    assert reason and reason in reasons(result), str(result)
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_), str(outcome)


@pytest.mark.parametrize("listed", [[("a", 1, "why")], {"a": [(lambda: 1, "why")]}])
def test_both_forms_of_planting(listed):
    assert entries(listed) == [("a", 1, "why")]
