"""`check` answers whatever it is given, in three parts, and raises nothing in a lab."""

import functools
import json
import threading
import time

import numpy as np
import pytest

from aiinfra_labs.course import check, hints, progress, show
from aiinfra_labs.course.hinting import fingerprint
from aiinfra_labs.course.results import ExerciseFailed
from aiinfra_labs.gpu import cuda


def right(x):
    return x * 2


def only(result):
    """The one failed requirement of a result."""
    (failed,) = [r for r in result.requirements if not r.passed]
    return failed


def test_a_right_answer_gets_all_points(doubling):
    result = check("1.1.z", right)
    assert result.passed and result.score == result.points == 3
    assert [r.name for r in result.requirements] == ["doubles", "keeps its argument"]
    assert not result.hint and "passed, 3 of 3 points" in str(result)


def test_the_first_input_that_fails_is_named(doubling):
    result = check("1.1.z", lambda x: x * 2 if len(x) < 2 else x)
    failed = only(result)
    assert failed.input == "n = 5"
    assert "[1] is 1, expected 2; 4 of 5 elements differ" in failed.what
    assert failed.why and failed.try_
    assert result.score == 1.5 and result.status == "failed"


def test_the_reason_of_the_exercise_is_told(doubling):
    def in_place(x):
        x *= 2
        return x.copy()

    failed = only(check("1.1.z", in_place))
    assert failed.why == "the caller's array was changed"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda x: list(x), "is a list, expected an array"),
        (lambda x: np.zeros((2, 2), int), "has shape (2, 2), expected (0,)"),
        (lambda x: x * 2.0, "has dtype float64, expected int64"),
        (lambda x: 7, "is an int (7), expected an array"),
    ],
)
def test_a_wrong_kind_of_result_is_named(doubling, answer, what):
    assert what in check("1.1.z", answer).requirements[0].what


def test_a_function_that_returns_nothing_is_told_so(doubling):
    def forgetful(x):
        x * 2

    failed = check("1.1.z", forgetful).requirements[0]
    assert "is None, expected an array" in failed.what and "without a return" in failed.why


@pytest.mark.parametrize("id", ["1.1.y", "9.9.q", "vector add", "", "1.1.Z"])
def test_an_unknown_id_lists_the_nearest(doubling, id):
    result = check(id, right)
    assert f"there is no exercise {id!r}" in only(result).what
    assert "did you mean" in only(result).try_


@pytest.mark.parametrize("id", [3.2, None, right])
def test_an_id_that_is_no_text(doubling, id):
    assert "there is no exercise" in only(check(id, right)).what


def test_the_nearest_id_is_the_first(doubling):
    assert "did you mean 1.1.z" in only(check("1.1.zz", right)).try_


@pytest.mark.parametrize("obj", [3, "right", None, [right], np.arange(3)])
def test_what_cannot_be_called_is_told_so(doubling, obj):
    assert "cannot be called" in only(check("1.1.z", obj)).what


def test_nothing_given(doubling):
    assert "nothing was given" in only(check("1.1.z")).what


@pytest.mark.parametrize("answer", [lambda: 1, lambda x, y: 1, lambda *, x: x])
def test_a_wrong_arity_is_named_before_anything_runs(doubling, answer):
    failed = only(check("1.1.z", answer))
    assert "parameter" in failed.what and "expected 1 (x)" in failed.what


@pytest.mark.parametrize("answer", [lambda *x: x[0] * 2, lambda x, factor=2: x * factor])
def test_more_parameters_are_fine_when_they_need_not_be_given(doubling, answer):
    assert check("1.1.z", answer).passed


def test_a_plain_function_is_no_kernel(define):
    define(lambda kernel, require: None, kind="kernel", arguments=("a", "out"))

    def plain(a, out):
        out[0] = a[0]

    failed = only(check("1.1.z", plain))
    assert "not a kernel" in failed.what and "@cuda.jit" in failed.try_


def test_a_kernel_of_the_wrong_arity(define):
    define(lambda kernel, require: None, kind="kernel", arguments=("a", "out"))

    @cuda.jit
    def lonely(out):
        out[0] = 1

    assert (
        "lonely takes 1 parameter (out), expected 2 (a, out)" in only(check("1.1.z", lonely)).what
    )


def test_a_kernel_where_a_function_is_asked(doubling):
    @cuda.jit
    def kernel(x):
        x[0] = 1

    assert "is a kernel, expected a plain" in only(check("1.1.z", kernel)).what


def test_the_emulators_own_words_are_kept(define):
    def body(kernel, require):
        with require("stays inside") as r, r.input("n = 3"):
            kernel[1, 32](np.zeros(3))

    define(body, kind="kernel", arguments=("out",))

    @cuda.jit
    def outside(out):
        out[cuda.grid(1)] = 1

    failed = only(check("1.1.z", outside))
    assert failed.input == "n = 3" and "3" in failed.what and failed.why and failed.try_
    assert any("out[cuda.grid(1)] = 1" in line for line in failed.code)


def test_a_kernel_that_loops_for_ever_is_stopped(define):
    def body(kernel, require):
        with require("ends"), cuda.step_budget(1000):
            kernel[1, 32](np.zeros(32))

    define(body, kind="kernel", arguments=("out",))

    @cuda.jit
    def endless(out):
        while out[0] < 1:
            out[0] = 0

    assert "endless" in str(check("1.1.z", endless)) and not check("1.1.z", endless).passed


def test_not_attempted(doubling):
    def starter(x):
        """Returns twice x."""
        # Write your code here.

    result = check("1.1.z", starter)
    assert (result.status, result.attempted, result.score) == ("not attempted", False, 0)
    assert str(result) == "1.1.z Doubling: not attempted"
    assert progress.current().records() == {}


def test_an_exception_shows_the_learners_lines_only(doubling):
    def divide(n):
        return 1 // n

    def wrong(x):
        return divide(len(x)) + np.asarray(x)

    failed = check("1.1.z", wrong).requirements[0]
    assert failed.what == "ZeroDivisionError: integer division or modulo by zero"
    text = "\n".join(failed.code)
    assert "wrong, line" in text and "return 1 // n" in text
    assert "requirements.py" not in text and "checking" not in text


def test_frames_of_libraries_are_left_out(doubling):
    def wrong(x):
        return np.apply_along_axis(lambda row: row.nothing, 0, np.ones(3))

    code = check("1.1.z", wrong).requirements[0].code
    assert any("np.apply_along_axis" in line for line in code)
    assert not any("_shape_base" in line or "res = asanyarray" in line for line in code)


def test_endless_recursion_is_cut(doubling):
    def deeper(x):
        return deeper(x)

    failed = check("1.1.z", deeper).requirements[0]
    assert failed.what.startswith("RecursionError") and len(failed.code) <= 5


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("no"), BaseException("odd")])
def test_nothing_that_a_learner_raises_gets_out(doubling, error):
    def wrong(x):
        raise error

    assert type(error).__name__ in check("1.1.z", wrong).requirements[0].what


def test_an_exception_that_cannot_be_shown(doubling):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    def wrong(x):
        raise Odd

    assert "Odd: (its message cannot be shown)" in check("1.1.z", wrong).requirements[0].what


def test_the_stop_button_still_works(doubling):
    def stopped(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("1.1.z", stopped)


def loop(x):
    while True:
        pass


def stubborn(x):
    while True:
        try:
            time.sleep(0.001)
        except BaseException:
            continue


def sleeper(x):
    time.sleep(1000)


@pytest.mark.parametrize("endless", [loop, stubborn])
def test_an_endless_loop_is_stopped(doubling, endless):
    doubling.seconds = 0.2
    failed = check("1.1.z", endless).requirements[0]
    assert "your code was stopped" in failed.what and endless.__name__ in failed.code[-1]


def test_an_endless_loop_is_told_in_processor_time(doubling):
    failed = check("1.1.z", loop).requirements[0]
    assert "stopped: it had run for 1 s of processor time" in failed.what and "loop" in failed.why


def test_code_that_waits_for_ever_is_stopped(doubling):
    doubling.seconds = 0.1
    failed = check("1.1.z", sleeper).requirements[0]
    assert "stopped: it had not ended after 0.6 s" in failed.what and "waits" in failed.why
    assert "sleeper" in failed.code[-1]


def test_an_endless_loop_is_stopped_on_another_thread(doubling):
    found = []
    thread = threading.Thread(target=lambda: found.append(check("1.1.z", loop)), daemon=True)
    thread.start()
    thread.join(600)
    assert "stopped" in found[0].requirements[0].what


def test_after_a_stop_nothing_is_left_ticking(doubling):
    import signal

    before = signal.getsignal(signal.SIGALRM)
    check("1.1.z", loop)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before
    time.sleep(0.6)
    assert check("1.1.z", right).passed


def test_nobody_is_asked_during_a_check(doubling):
    import builtins

    before = builtins.input
    failed = check("1.1.z", lambda x: x * int(input("factor?"))).requirements[0]
    assert "asks a person" in failed.what and "parameters" in failed.try_ and failed.slip
    assert builtins.input is before


def test_a_million_lines_are_told_in_one(doubling, capsys):
    def chatty(x):
        for i in range(250_000):
            print("line", i)
        return x * 2

    doubling.seconds = 100
    result = check("1.1.z", chatty)
    assert result.passed and result.notes == (
        "Your code printed 1,000,000 lines during the check (only the first is shown): line 0",
    )
    assert capsys.readouterr() == ("", "")
    assert len(str(result)) < 1000


def test_an_exception_between_the_requirements_costs_all(define):
    def body(function, require):
        with require("first"):
            pass
        function(1)
        with require("second"):
            pass

    define(body)

    def wrong(x):
        raise ValueError("early")

    result = check("1.1.z", wrong)
    assert result.score == 0 and not result.passed
    assert result.requirements[0].passed and "early" in result.requirements[1].what


def test_points_are_shared_equally_but_for_those_given(define):
    def body(function, require):
        with require("big", points=2):
            pass
        with require("small"):
            pass
        with require("wrong") as r:
            r.that(False, "it is so")

    define(body)
    result = check("1.1.z", right)
    assert [r.points for r in result.requirements] == [2, 0.5, 0.5] and result.score == 2.5


def test_each_failure_shows_the_next_hint(doubling):
    answers = (lambda x: x, lambda x: x + 1, lambda x: x * 3)
    hints = [check("1.1.z", answer).hint for answer in answers]
    assert hints == ["What is twice x?", "x + x is twice x.", "x + x is twice x."]
    assert progress.current().records()["1.1.z"].attempts == 3


def test_the_same_failing_cell_takes_no_further_hint(doubling):
    def wrong():
        def answer(x):
            return x + 1

        return answer

    assert {check("1.1.z", wrong()).hint for _ in range(3)} == {"What is twice x?"}
    assert check("1.1.z", lambda x: x + 2).hint == "x + x is twice x."
    assert check("1.1.z", wrong()).hint == "What is twice x?", "and gets its own again"


class Adds:
    """An object that can be called, as a solution may be."""

    def __init__(self, number):
        self.number = number

    def __call__(self, x):
        return x + self.number


class Takes(Adds):
    def __call__(self, x):
        return x - self.number


def test_what_can_be_called_is_known_by_its_code(doubling):
    for first, second in (
        (functools.partial(pow, 3), functools.partial(pow, 5)),
        (functools.partial(max, 3), functools.partial(min, 3)),
        (Adds(1), Takes(1)),
        (max, min),
    ):
        assert fingerprint(first) != fingerprint(second) and fingerprint(first) == fingerprint(
            first
        )
    assert check("1.1.z", Adds(7)).hint == "What is twice x?"
    assert check("1.1.z", Takes(7)).hint == "x + x is twice x."


def test_hints_that_were_given_can_be_seen_again(doubling):
    assert "no hint was given yet" in repr(hints("1.1.z"))
    check("1.1.z", lambda x: x)
    result = check("1.1.z", lambda x: x + 1)
    assert result.earlier == ("What is twice x?",) and "Earlier hints:" in str(result)
    assert "<summary>1 earlier hint</summary>" in result._repr_html_()
    again = hints("1.1.z")
    assert again.given == ("What is twice x?", "x + x is twice x.")
    assert "2 of 2 hints were given" in repr(again) and "<ol>" in again._repr_html_()
    assert hints("1.1.z") == again, "looking takes none"
    assert "did you mean 1.1.z" in repr(hints("1.1.zz")) and "no exercise 3" in repr(hints(3))


def misspelt(x):
    return xx * 2  # noqa: F821


def recursive(x):
    while True:
        pass


@pytest.mark.parametrize(
    "slip",
    [
        *(misspelt, recursive, lambda x: list(x), lambda x: "text", lambda x: x.doubled()),
        *(lambda x: x + "1", lambda x: 7),
    ],
)
def test_a_slip_takes_no_hint(doubling, slip):
    result = check("1.1.z", slip)
    assert not result.passed and not result.hint and result.requirements[0].slip
    assert hints("1.1.z").given == ()
    assert check("1.1.z", lambda x: x).hint == "What is twice x?"


def test_a_slip_beside_a_wrong_answer_takes_the_wrong_ones_hint(define):
    def body(function, require):
        with require("is twice x") as r:
            r.equal(function(3), 6)
        with require("takes text") as r:
            r.equal(function("a"), "aa")

    define(body, hints=(("takes text", "Text, too."), ("is twice x", "3 + 3.")))

    def wrong(x):
        return x + 1  # of a text a TypeError

    assert check("1.1.z", wrong).hint == "3 + 3."


def test_what_cannot_be_tried_takes_no_hint(doubling):
    check("1.1.z", 3)
    assert check("1.1.z", lambda x: x).hint == "What is twice x?"


def test_json_holds_everything(doubling):
    data = json.loads(check("1.1.z", lambda x: x).to_json())
    assert data["id"] == "1.1.z" and data["passed"] is False and data["hint"]
    assert {"name", "passed", "input", "what", "why", "try_"} <= set(data["requirements"][0])


def test_html_escapes_what_a_learner_wrote(doubling):
    def wrong(x):
        raise ValueError("<script>alert(1)</script>")

    html = check("1.1.z", wrong)._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_the_same_failure_is_told_once(doubling):
    result = check("1.1.z", lambda x: 1 / 0)
    assert str(result).count("the divisor is 0") == 1 and "The same as above." in str(result)
    html = result._repr_html_()
    assert html.count("the divisor is 0") == 1 and "The same as above." in html
    assert all(outcome.why for outcome in result.requirements)


def test_html_keeps_the_themes_colours(doubling):
    html = check("1.1.z", right)._repr_html_()
    assert "color:inherit" in html and "background:transparent" in html and "aria-label" in html


def test_under_nbgrader_no_points_raise(doubling, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(ExerciseFailed, match="doubles"):
        check("1.1.z", lambda x: 1 / 0)
    with pytest.raises(ExerciseFailed, match="not attempted"):
        check("1.1.z", lambda x: None)
    with pytest.raises(ExerciseFailed):
        check("1.1.unknown", right)


def test_under_nbgrader_points_are_read_from_the_value(doubling, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert repr(check("1.1.z", lambda x: x)) == "1.5"
    assert repr(check("1.1.z", right)) == "3"


def test_when_validating_any_failure_raises(doubling, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    with pytest.raises(ExerciseFailed):
        check("1.1.z", lambda x: x)


def test_show_draws_the_learners_own_run(doubling):
    doubling.show(lambda function: function(21))
    assert show("1.1.z", right) == 42


def test_show_answers_what_it_cannot_draw(doubling):
    assert "has no drawing" in str(show("1.1.z", right))
    doubling.show(lambda function: function(21))
    assert "there is no exercise" in str(show("1.1.y", right))
    assert "cannot be called" in str(show("1.1.z", 3))
    assert "ZeroDivisionError" in str(show("1.1.z", lambda x: 1 / 0))
    assert "stopped" in str(show("1.1.z", loop))
    assert show("1.1.z", lambda x: None).status == "not attempted"


def test_a_chapter_that_cannot_be_imported_is_told(doubling, monkeypatch):
    from aiinfra_labs.course import registry

    def broken(id):
        raise ImportError("no module named torch")

    monkeypatch.setattr(registry, "find", broken)
    assert "cannot be loaded: ImportError" in str(check("1.1.z", right))
