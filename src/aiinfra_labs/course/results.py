"""What `check` answers: a `Result`, rich in a notebook, plain in a terminal, JSON for a machine."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

NOT_ATTEMPTED, FAILED, PASSED = "not attempted", "failed", "passed"


@dataclass(frozen=True)
class Outcome:
    """One requirement: whether it holds and, if not, the first input it fails on and why.

    `slip`: what is said of it mends it, and no hint is spent on it.
    """

    name: str
    passed: bool
    points: float = 0.0
    input: str = ""
    what: str = ""
    why: str = ""
    try_: str = ""
    code: tuple[str, ...] = ()
    slip: bool = False


@dataclass(frozen=True)
class Result:
    """The answer of `check`. `score` of `points` were earned.

    `hint` is the next hint, if any; `hint_number` says which it is, "1 of 3"; `earlier` are those
    that were given before.
    """

    id: str
    title: str
    status: str
    score: float = 0.0
    points: float = 0.0
    requirements: tuple[Outcome, ...] = field(default=())
    hint: str = ""
    hint_number: str = ""
    notes: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every requirement was met."""
        return self.status == PASSED

    @property
    def attempted(self) -> bool:
        """Whether there was an answer to try."""
        return self.status != NOT_ATTEMPTED

    def to_dict(self) -> dict:
        """Plain data: what `to_json` writes."""
        return asdict(self) | {"passed": self.passed, "attempted": self.attempted}

    def to_json(self) -> str:
        """`to_dict` as JSON text, with letters of every script as they are."""
        return as_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=2))

    @property
    def headline(self) -> str:
        """One line: id, title, status and, once attempted, the points."""
        text = f"{self.id} {self.title}".strip() + f": {self.status}"
        if not self.attempted or not self.points:
            return text
        return f"{text}, {self.score:g} of {self.points:g} points"

    def __str__(self) -> str:
        lines = [self.headline]
        for outcome, same in _told(self.requirements):
            lines.append(f"  [{'ok' if outcome.passed else 'no'}] {outcome.name}")
            if outcome.passed:
                continue
            if outcome.input:
                lines.append(f"       Input: {outcome.input}")
            if same:
                lines.append(f"       {_SAME}")
                continue
            lines += [f"       {part}" for part in outcome.what.split("\n")]
            lines += [f"         {code}" for code in outcome.code]
            if outcome.why:
                lines.append(f"       Why: {outcome.why}")
            if outcome.try_:
                lines.append(f"       Try: {outcome.try_}")
        if self.hint:
            lines.append(f"  {self._hint_head}: {self.hint}")
        if self.earlier:
            lines.append("  Earlier hints:")
            lines += [f"    {number}. {text}" for number, text in enumerate(self.earlier, 1)]
        lines += [f"  {note}" for note in self.notes]
        return as_text("\n".join(lines))

    def __repr__(self) -> str:
        # nbgrader's autograder reads partial credit from the plain text of a graded cell's value.
        if os.environ.get("NBGRADER_EXECUTION") == "autograde":
            return f"{self.score:g}"
        return str(self)

    def _repr_html_(self) -> str:
        body = [f'<div class="aiinfra-result" role="group" aria-label="{escape(self.headline)}">']
        body.append(_STYLE)
        body.append(f'<p class="head {_CLASS[self.status]}">{escape(self.headline)}</p>')
        if self.requirements:
            body.append(
                "<ul>"
                + "".join(_item(outcome, same) for outcome, same in _told(self.requirements))
                + "</ul>"
            )
        if self.hint:
            body.append(f"<p><b>{self._hint_head}.</b> {marked(self.hint)}</p>")
        if self.earlier:
            listed = "".join(f"<li>{marked(text)}</li>" for text in self.earlier)
            count = len(self.earlier)
            head = "1 earlier hint" if count == 1 else f"{count} earlier hints"
            body.append(f"<details><summary>{head}</summary><ol>{listed}</ol></details>")
        body += [f"<p>{escape(note)}</p>" for note in self.notes]
        return as_text("".join(body) + "</div>")

    @property
    def _hint_head(self) -> str:
        return f"Hint {self.hint_number}" if self.hint_number else "Hint"


def as_text(said: str) -> str:
    """What can be sent to a page: half of a surrogate pair, which is no text, as `\\ud83d`."""
    return said.encode("utf-8", "backslashreplace").decode()


def result_of(data: dict[str, Any]) -> Result:
    """A `Result` from its plain data."""
    outcomes = tuple(
        Outcome(**(outcome | {"code": tuple(outcome["code"])})) for outcome in data["requirements"]
    )
    tuples = {name: tuple(data[name]) for name in ("notes", "earlier")}
    return Result(**(data | tuples | {"requirements": outcomes}))


class ExerciseFailed(Exception):
    """Raised under nbgrader only, where an error in a graded cell is what costs the points."""


_CLASS = {NOT_ATTEMPTED: "open", FAILED: "bad", PASSED: "good"}

# Text keeps the theme's own colour; the mid-tones mark a border only, which light and dark
# backgrounds both let through at 3:1 or more.
_STYLE = """<style>
.aiinfra-result{border:1px solid #8888;border-radius:4px;padding:.5em .8em;margin:.3em 0;
color:inherit;background:transparent;font-size:.95em;line-height:1.45}
.aiinfra-result p{margin:.2em 0}
.aiinfra-result .head{font-weight:600;border-left:.35em solid #8a8a8a;padding-left:.6em}
.aiinfra-result .head.good{border-color:#2f9e5b}
.aiinfra-result .head.bad{border-color:#d9534f}
.aiinfra-result ul{list-style:none;margin:.3em 0;padding:0}
.aiinfra-result li{margin:.25em 0}
.aiinfra-result dl{display:grid;width:auto;grid-template-columns:max-content minmax(0,1fr);
gap:.1em .8em;margin:.2em 0 .4em 1.5em}
.aiinfra-result dl dt{font-weight:600;opacity:.8;float:none;width:auto;margin:0;padding:0}
.aiinfra-result dl dd{margin:0;padding:0;float:none;width:auto;white-space:pre-wrap;
overflow-wrap:anywhere}
.aiinfra-result :not(pre)>code{white-space:pre-wrap;background:transparent;color:inherit;
padding:0;border:0;font-size:.95em}
@media (max-width:600px){.aiinfra-result{padding:.4em .5em}
.aiinfra-result dl{display:block;margin-left:.8em}
.aiinfra-result dl dd{margin-left:.8em}}
</style>"""


_SAME = "The same as above."


def _told(outcomes: tuple[Outcome, ...]) -> list[tuple[Outcome, bool]]:
    """Each outcome, and whether its failure was told before, with another requirement."""
    told: set[tuple] = set()
    listed = []
    for outcome in outcomes:
        failure = (outcome.what, outcome.why, outcome.try_)
        listed.append((outcome, not outcome.passed and failure in told))
        told.add(failure)
    return listed


def marked(text: str) -> str:
    """The text for HTML; what stands between backticks is code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


def _item(outcome: Outcome, same: bool) -> str:
    if outcome.passed:
        return f"<li>✔ {escape(outcome.name)}</li>"
    rows = [("Input", escape(outcome.input)), ("What", _SAME if same else marked(outcome.what))]
    if same:
        outcome = Outcome(outcome.name, False)
    rows.append(("Where", "\n".join(f"<code>{escape(line)}</code>" for line in outcome.code)))
    rows += [("Why", marked(outcome.why)), ("Try", marked(outcome.try_))]
    listed = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows if text)
    return f"<li>✘ {escape(outcome.name)}<dl>{listed}</dl></li>"
