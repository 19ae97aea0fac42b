"""Public traces of real services, from a file on this machine, as the requests of a workload.

Units 4.2 and 4.3. Nothing is downloaded: both traces are published under licences that ask for
attribution, and are too large for a course.

- Mooncake (https://github.com/kvcache-ai/Mooncake/tree/main/FAST25-release): JSON Lines with
  `timestamp` in milliseconds, `input_length`, `output_length`, and `hash_ids`, one id for each
  512 tokens of the prompt. Equal ids stand for an equal block behind equal blocks: what a prefix
  cache can find.
- Azure (https://github.com/Azure/AzurePublicDataset): CSV with TIMESTAMP, ContextTokens,
  GeneratedTokens; of 2023 with seven digits behind the second, of 2024 with a time zone.

Neither has texts. Prompts are passages of `text`, and equal hash ids give equal tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ServingError
from .workloads import Load, RequestShape, course_text, workload_figure

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")


class TraceError(ServingError):
    """A line of a trace that cannot be read. Names the file, the line and the column."""


@dataclass(frozen=True)
class Line:
    """Where something stands, for messages."""

    file: str
    number: int

    def wrong(self, column: str, what: str, try_: str) -> TraceError:
        """The error that names this place. column: what of the line is wrong."""
        return TraceError(
            f"{self.file}, line {self.number}, {column}: {what}",
            "a request is its time and its numbers of tokens, and no line may be guessed",
            try_,
        )


Row = tuple[float, list[int], int]  # seconds, prompt, new tokens


def load_trace(
    path: Path | str, how: Load | None = None, limit: int | None = None
) -> list[RequestShape]:
    """A trace by what its file begins with: `load_mooncake` for JSON Lines, else `load_azure`."""
    path = Path(path)
    first = next((line for _, line in _lines(path) if line), "")
    return (load_mooncake if first.startswith("{") else load_azure)(path, how, limit)


def load_mooncake(
    path: Path | str, how: Load | None = None, limit: int | None = None
) -> list[RequestShape]:
    """The first `limit` requests of a Mooncake trace, by arrival; the first comes at 0 s.

    Of `how`, seed, scale, context and text count. Blocks are scaled one by one, so that prompts
    share what they shared. Raises `TraceError` for a line that is broken, or for no file.
    """
    path, how = Path(path), how or Load()
    text, block = how.text or course_text(), int(workload_figure("mooncake", "block"))
    whole = how.scaled([block])[0]

    def block_of(id: int, length: int) -> list[int]:
        chance = np.random.default_rng([how.seed, id])  # the same block, whoever asks for it
        return text.passage(chance, whole)[:length]

    def row(line: Line, fields: dict[str, Any]) -> Row:
        for name in MOONCAKE_FIELDS:
            if name not in fields:
                raise line.wrong(name, "it is missing", f"lines with {', '.join(MOONCAKE_FIELDS)}")
        length = _count(line, "input_length", fields["input_length"])
        new = _count(line, "output_length", fields["output_length"])
        ids, blocks = fields["hash_ids"], math.ceil(length / block)
        if not isinstance(ids, list) or not all(type(id) is int and id >= 0 for id in ids):
            raise line.wrong("hash_ids", f"{_short(ids)} is no list of ids", "integers from 0 on")
        if len(ids) != blocks:
            raise line.wrong(
                "hash_ids",
                f"{len(ids)} ids for {length:,} tokens",
                f"{blocks}, one for each {block} tokens; the last block may be a part of one",
            )
        prompt = [token for id in ids[:-1] for token in block_of(id, whole)]
        prompt += block_of(ids[-1], how.scaled([length - block * (blocks - 1)])[0])
        return _milliseconds(line, fields["timestamp"]) / 1000, prompt, new

    rows = (row(line, fields) for line, fields in _json_lines(path))
    return _requests(islice(rows, limit), how, "mooncake", path.name)


def load_azure(
    path: Path | str, how: Load | None = None, limit: int | None = None
) -> list[RequestShape]:
    """The first `limit` requests of an Azure LLM inference trace, by arrival; the first at 0 s.

    Prompts share nothing: the trace does not say what they would share. Raises as `load_mooncake`.
    """
    path, how = Path(path), how or Load()
    text, chance = how.text or course_text(), np.random.default_rng(how.seed)
    first: list[datetime] = []

    def row(line: Line, fields: dict[str, str]) -> Row:
        when = _moment(line, fields["TIMESTAMP"])
        if not first:
            first.append(when)
        if (when.tzinfo is None) != (first[0].tzinfo is None):
            raise line.wrong(
                "TIMESTAMP", "not all lines have a time zone", "one in all, or in none"
            )
        length = _count(line, "ContextTokens", fields["ContextTokens"])
        new = _count(line, "GeneratedTokens", fields["GeneratedTokens"])
        prompt = text.passage(chance, how.scaled([length])[0])
        return (when - first[0]).total_seconds(), prompt, new

    rows = (row(line, fields) for line, fields in _csv_lines(path))
    return _requests(islice(rows, limit), how, "azure", path.name)


def _requests(rows: Iterable[Row], how: Load, kind: str, file: str) -> list[RequestShape]:
    """Sorted by time, counted from the first; a session each."""
    found = sorted(rows, key=lambda row: row[0])
    if not found:
        raise TraceError(
            f"{file} holds no request",
            "there is nothing to replay",
            "the trace as it was published",
        )
    start = found[0][0]
    return [
        how.fitted(RequestShape(round(at - start, 6), prompt, how.scaled([new])[0], i, kind=kind))
        for i, (at, prompt, new) in enumerate(found)
    ]


# --- lines and fields -----------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[Line, str]]:
    """The lines of a text file, from 1 on."""
    try:
        with path.open("rb") as file:
            for number, data in enumerate(file, 1):
                line = Line(path.name, number)
                try:
                    text = data.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise line.wrong(
                        f"byte {error.start + 1}",
                        "it is no text in UTF-8",
                        "the file unpacked, as it was published",
                    ) from None
                yield line, text.strip()
    except OSError as error:
        raise TraceError(
            f"{path.name} cannot be read: {error.strerror or error}",
            "a trace is a file on this machine; none is downloaded",
            "the path of a file that you have fetched",
        ) from None


def _json_lines(path: Path) -> Iterator[tuple[Line, dict[str, Any]]]:
    for line, text in _lines(path):
        if not text:
            continue
        try:
            fields = json.loads(text)
        except ValueError as error:
            column = f"column {error.colno}" if isinstance(error, JSONDecodeError) else "a number"
            what = error.msg if isinstance(error, JSONDecodeError) else str(error)
            raise line.wrong(column, f"no JSON: {what}", "one JSON object a line") from None
        if not isinstance(fields, dict):
            raise line.wrong("column 1", f"{_short(fields)} is no object", "one JSON object a line")
        yield line, fields


def _csv_lines(path: Path) -> Iterator[tuple[Line, dict[str, str]]]:
    header: list[str] | None = None
    for line, text in _lines(path):
        cells = [cell.strip() for cell in text.split(",")]  # no field of it has a comma
        if not text:
            continue
        if header is None:
            header = cells
            for name in AZURE_COLUMNS:
                if name not in header:
                    raise line.wrong(
                        name,
                        f"the header is {_short(text)}",
                        f"a file that begins with {','.join(AZURE_COLUMNS)}",
                    )
        elif len(cells) != len(header):
            raise line.wrong(
                f"column {min(len(cells), len(header)) + 1}",
                f"{len(cells)} fields, where the header has {len(header)}",
                f"{','.join(header)}",
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def _count(line: Line, column: str, value: Any) -> int:
    """A number of tokens, 1 or more; from text, too."""
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        number = int(value)
    if type(number) is not int or number < 1:
        raise line.wrong(
            column,
            f"{_short(value)} is no number of tokens",
            "1 or more; a request that failed, with 0, is left out",
        )
    return number


def _milliseconds(line: Line, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise line.wrong("timestamp", f"{_short(value)} is no time", "milliseconds, 0 or more")
    return value


def _moment(line: Line, value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise line.wrong(
            "TIMESTAMP", f"{_short(value)} is no time", "such as 2023-11-16 18:17:03.9799600"
        ) from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
