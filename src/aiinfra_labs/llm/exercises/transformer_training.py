"""The exercises of unit 1.4 on training: the learning rate, accumulation, going on after a kill.

What is graded is counted or compared: rates, gradients of the whole batch, how many graphs are
alive at a time, whether a restored run has the same losses to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise

from . import transformer_runs as runs
from .transformer import SKILL, array
from .transformer_views import draw_losses, draw_schedule

# --- 1.4.c -------------------------------------------------------------------------------------

WARM = "rises in a line to the peak"
COSINE = "falls as half a cosine to the last rate"
ENDS = "holds at the ends: no warm-up, steps past the end"


@exercise(
    "1.4.c",
    title="A learning rate that warms up and cools down",
    points=4,
    central=COSINE,
    skill=SKILL,
    arguments=("step", "steps", "warm_up", "peak", "last"),
    hints=(
        (
            WARM,
            "Steps count from 0, and step 0 must move the weights already. With warm_up = 4 the "
            "first four rates are 1/4, 2/4, 3/4 and 4/4 of the peak.",
        ),
        (
            COSINE,
            "First find how far the fall has come, from 0 at step warm_up to 1 at step steps. Then "
            "(1 + cos(pi x that)) / 2 goes from 1 to 0. What lies between peak and last?",
        ),
        (
            ENDS,
            "warm_up = 0 must divide nothing by 0, and a step beyond steps must not climb the "
            "cosine's other side: `min(1.0, done)`.",
        ),
    ),
)
def schedule(function: Any, require: Any) -> None:
    """The learning rate of a step: a linear warm-up to `peak`, half a cosine to `last`."""

    def rate(r: Any, step: int, case: tuple[int, int, float, float]) -> None:
        steps, warm_up, peak, last = case
        r.equal(
            function(step, steps, warm_up, peak, last),
            runs.rate(step, *case),
            tolerance=1e-7,
            name=f"the rate of step {step}",
            why="up to the peak by equal pieces in warm_up steps, the first at step 0; then "
            "last + (peak - last) (1 + cos(pi done)) / 2, where done goes from 0 at step warm_up "
            "to 1 at step steps",
            try_="show draws your curve over the expected one",
        )

    cases = ((10, 4, 1.0, 0.1), (100, 10, 3e-3, 3e-4), (7, 1, 0.5, 0.0), (50, 50, 1.0, 0.2))
    with require(WARM) as r:
        for case in cases:
            with r.input("steps = {}, warm_up = {}, peak = {:g}, last = {:g}".format(*case)):
                for step in range(case[1]):
                    rate(r, step, case)
    with require(COSINE) as r:
        for case in cases[:3]:
            with r.input("steps = {}, warm_up = {}, peak = {:g}, last = {:g}".format(*case)):
                for step in range(case[1], case[0] + 1):
                    rate(r, step, case)
    with require(ENDS) as r:
        for case, step in (
            ((20, 0, 1.0, 0.1), 0),
            ((20, 0, 1.0, 0.1), 7),
            ((10, 4, 1.0, 0.1), 15),
            ((10, 10, 1.0, 0.1), 10),
            ((10, 10, 1.0, 0.1), 12),
        ):
            with r.input("step = {}, steps = {}, warm_up = {}".format(step, *case)):
                if case[0] == case[1] and step == case[0]:
                    # Nothing is left to fall through: peak and last are both right here.
                    got = function(step, *case)
                    r.that(
                        isinstance(got, int | float) and case[3] <= got <= case[2],
                        what=f"the rate is {got}, expected one from {case[3]:g} to {case[2]:g}",
                        why="the warm-up has taken all steps",
                        try_="guard the division by steps - warm_up",
                        slip=not isinstance(got, int | float),
                    )
                else:
                    rate(r, step, case)


@schedule.show
def _show_schedule(function: Any) -> Any:
    case = (100, 10, 3e-3, 3e-4)
    return draw_schedule(
        [function(step, *case) for step in range(111)], [runs.rate(s, *case) for s in range(111)]
    )


# --- 1.4.d -------------------------------------------------------------------------------------

EQUAL = "gives the whole batch's gradient, where all parts have as many tokens"
UNEQUAL = "gives it where they have not, or none at all"
ONE = "keeps one part's graph at a time"


@exercise(
    "1.4.d",
    title="Many small batches, one large gradient",
    points=4,
    central=UNEQUAL,
    skill=SKILL,
    arguments=("model", "parts"),
    hints=(
        (
            EQUAL,
            "`backward()` adds to what is in `.grad`. What must happen to the gradients of the "
            "step before, and how often?",
        ),
        (
            UNEQUAL,
            "`model.loss` is a mean over the part's own targets. To get back to the sum, multiply "
            "by their count, `(targets != -1).sum()`; to get the mean of all, divide by what?",
        ),
        (
            UNEQUAL,
            "A part without any target has a loss of 0 / 0, which is nan, and nan times 0 is nan. "
            "Leave it out.",
        ),
        (
            ONE,
            "Call backward() on each part's loss before you run the next part: it frees what the "
            "forward pass has kept. A sum of losses keeps all of them.",
        ),
    ),
)
def accumulate(function: Any, require: Any) -> None:
    """Gradients of the mean loss of all targets, from parts that are run one at a time."""

    def equals(r: Any, lengths: list[list[int]], model: Any = None) -> None:
        parts = runs.token_parts(lengths)
        mine = model or runs.small_model()
        whole = runs.small_model()
        total = function(mine, parts)
        loss = whole.loss(*(torch.cat(x) for x in zip(*parts, strict=True)))
        loss.backward()
        expected = dict(whole.named_parameters())
        for name, parameter in mine.named_parameters():
            r.that(
                parameter.grad is not None,
                what=f"{name} has no gradient",
                why="the optimizer takes its step from .grad",
                try_="loss.backward() for each part",
            )
            r.equal(
                array(parameter.grad),
                array(expected[name].grad),
                name=f"the gradient of {name}",
                tolerance=1e-5,
                why="the whole batch's loss is the mean over all its targets, and each of them "
                "counts alike, whichever part it came in",
                try_="how many targets has each part, and how many have all together?",
            )
        r.equal(
            float(total) if isinstance(total, Tensor) else total,
            loss.item(),
            name="the loss",
            tolerance=1e-5,
            why="it is the mean over all targets, as a number",
            try_="add up each part's share: loss.item() times its weight",
        )

    with require(EQUAL) as r:
        for lengths in ([[6, 6]], [[6], [6]], [[6, 6], [6, 6], [6, 6]]):
            with r.input(f"{runs.counted(lengths)}, fresh gradients"):
                equals(r, lengths)
        with r.input("2 parts of 6 targets, gradients left from the step before"):
            model = runs.small_model()
            model.loss(*runs.token_parts([[6]], seed=5)[0]).backward()
            equals(r, [[6], [6]], model)
    with require(UNEQUAL) as r:
        for lengths in ([[6], [2]], [[1], [6], [3]], [[6], [0], [4]], [[0], [5, 1]]):
            with r.input(runs.counted(lengths)):
                equals(r, lengths)
    with require(ONE) as r:
        for lengths in ([[6], [2]], [[3], [6], [1], [6], [2]]):
            with r.input(runs.counted(lengths)):
                model = runs.Watched(runs.small_model())
                function(model, runs.token_parts(lengths))
                rows = max(map(len, lengths))
                r.that(
                    model.forwards > 0,
                    what="model.loss was never called",
                    why="the gradients come from the model's own loss",
                    try_="model.loss(ids, targets) for each part",
                )
                r.that(
                    model.most_rows <= rows,
                    what=f"the model was given {model.most_rows} rows at once, the largest part "
                    f"has {rows}",
                    why="the parts are small because a larger batch does not fit in memory",
                    try_="run the model on one part at a time",
                )
                r.that(
                    model.most_alive <= 1,
                    what=f"{model.most_alive} parts' graphs were alive at the same time",
                    why="a graph holds every activation of its forward pass until backward() has "
                    "used it: together they are as large as the whole batch's",
                    try_="backward() before the next part's forward pass",
                )


# --- 1.4.e -------------------------------------------------------------------------------------

COMES_BACK = "brings weights and the step's number back"
GOES_ON = "goes on to the same losses, to the bit"
COPY = "keeps its own copy while training goes on"


@exercise(
    "1.4.e",
    title="What must be saved, so that a killed run goes on",
    points=4,
    central=GOES_ON,
    skill=SKILL,
    arguments=("run",),
    hints=(
        (
            COMES_BACK,
            "`run.model.state_dict()` has the weights, `run.model.load_state_dict(...)` puts them "
            "back. run.step is a plain number.",
        ),
        (
            GOES_ON,
            "Which objects change from step to step? The optimizer has means of past gradients; "
            "the scheduler counts; run.generator draws the batches; dropout draws from torch's own "
            "generator: torch.get_rng_state() and torch.set_rng_state(...).",
        ),
        (
            GOES_ON,
            "`state_dict()` and `load_state_dict()` of run.optimizer and run.scheduler; "
            "`get_state()` and `set_state()` of run.generator.",
        ),
        (
            COPY,
            "`state_dict()` hands out the tensors that training goes on writing to. "
            "`copy.deepcopy` of it is yours.",
        ),
    ),
    seconds=20.0,
)
def saved_run(make: Any, require: Any) -> None:
    """A class: `Saved(run)` keeps all that the next step needs, `.restore(run)` puts it back."""
    with require(COMES_BACK) as r:
        for steps in (1, 4):
            with r.input(f"saved after step {steps}, restored into a fresh run"):
                run = runs.Run()
                run.train(steps)
                saved, fresh = make(run), runs.Run(seed=1)
                restore(r, saved, fresh)
                r.equal(
                    fresh.step,
                    steps,
                    name="run.step",
                    why="it is how many steps were taken, and tells where to stop",
                    try_="keep run.step, and set it in restore",
                )
                wanted = dict(run.model.named_parameters())
                for name, value in fresh.model.named_parameters():
                    r.equal(
                        array(value),
                        array(wanted[name]),
                        name=name,
                        why="training goes on from the weights as they were",
                        try_="run.model.load_state_dict(...) in restore",
                    )
    with require(GOES_ON) as r:
        for steps in (1, 5):
            with r.input(f"killed after step {steps}, 6 more in a fresh process"):
                run = runs.Run()
                run.train(steps)
                expected = run.train(6)
                run = runs.Run()
                run.train(steps)
                saved = make(run)
                torch.manual_seed(12345)  # another process, another state of every generator
                fresh = runs.Run(seed=1)
                restore(r, saved, fresh)
                compare_losses(r, fresh.train(6), expected)
    with require(COPY) as r, r.input("saved after step 3; 4 more steps; then restored"):
        run, fresh = runs.Run(), runs.Run(seed=1)
        run.train(3)
        wanted = runs.weights_and_means(run)
        saved = make(run)
        run.train(4)
        trained_on = runs.weights_and_means(run)
        restore(r, saved, fresh)
        got = runs.weights_and_means(fresh)
        for name, value in got.items():
            r.that(
                not torch.equal(value, trained_on[name]),
                what=f"{name} are those after 4 more steps, not those that were saved",
                why="state_dict() gives the very tensors that training writes to: what was kept "
                "has been trained on",
                try_="copy.deepcopy(...) what you keep",
            )
        r.that(
            torch.equal(got["the weights"], wanted["the weights"]),
            what="the weights are not those that were saved",
            why="a copy was asked for, and nothing came back",
            try_="run.model.load_state_dict(...) in restore",
        )


def restore(r: Any, saved: Any, run: runs.Run) -> None:
    r.that(
        callable(getattr(saved, "restore", None)),
        what=f"a {type(saved).__name__} without restore(run)",
        why="Saved(run) gives an object that can put everything back",
        try_="class Saved with __init__(self, run) and restore(self, run)",
        slip=True,
    )
    saved.restore(run)


def compare_losses(r: Any, got: list[float], expected: list[float]) -> None:
    """To the bit; what is said depends on when they part."""
    for number, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        if mine == theirs:
            continue
        at_once = number == 0
        r.that(
            False,
            what=f"{'the first' if at_once else f'{number + 1} steps on, the'} loss is "
            f"{mine:.6f}, and was {theirs:.6f} in the run that was not killed",
            why="the first loss depends on the weights, on the batch, which run.generator draws, "
            "and on dropout, which torch's own generator draws"
            if at_once
            else "the losses before it agree: weights, batch and dropout were right, so the update "
            "was another one, by the optimizer's means or the scheduler's rate",
            try_="which of these did you not save?"
            if at_once
            else "what does AdamW remember of past steps, and what does the scheduler?",
        )


@saved_run.show
def _show_saved(make: Any) -> Any:
    run = runs.Run()
    before = run.train(5)
    saved = make(run)
    whole = run.train(8)
    torch.manual_seed(12345)
    fresh = runs.Run(seed=1)
    saved.restore(fresh)
    return draw_losses(before, whole, fresh.train(8))
