"""What a cell printed, as one output: how the kernel cut it into messages says nothing.

A kernel sends what is printed in pieces, and where it cuts depends on the time. Stored as they
came, they differ from run to run, and a reader sees one table as several boxes.
"""

from __future__ import annotations

from typing import Any

from .merging import Cell, Notebook

Output = dict[str, Any]
_ORDER = ("stdout", "stderr")  # of neighbours that a kernel sends as they come


def text_of(output: Output) -> str:
    """The text of a stream, which JSON may hold as one string or as lines."""
    text = output.get("text", "")
    return text if isinstance(text, str) else "".join(text)


def joined(outputs: list[Output]) -> list[Output]:
    """The outputs with each run of neighbouring streams as one stream a name."""
    result: list[Output] = []
    run: dict[str, Output] = {}

    def end() -> None:
        result.extend(sorted(run.values(), key=lambda one: _ORDER.index(one["name"])))
        run.clear()

    for output in outputs:
        if output["output_type"] != "stream":
            end()
            result.append(output)
        elif output["name"] in run:
            run[output["name"]]["text"] += text_of(output)
        else:
            run[output["name"]] = {**output, "text": text_of(output)}
    end()
    return result


def cut(cell: Cell) -> bool:
    """Whether neighbouring streams of a cell stand apart."""
    outputs = cell.get("outputs", [])
    return len(joined(outputs)) != len(outputs)


def join(notebook: Notebook) -> int:
    """Join the streams of each cell, in place. In how many cells there was something to join."""
    changed = 0
    for cell in notebook["cells"]:
        if cut(cell):
            cell["outputs"], changed = joined(cell["outputs"]), changed + 1
    return changed
