"""Traces in the formats in which they were published, and files that are broken."""

import json

import pytest

from aiinfra_labs.cloud.serving.traces import TraceError, load_azure, load_mooncake, load_trace
from aiinfra_labs.cloud.serving.workloads import Load, Text

TEXT = Text(range(100_000))
LOAD = Load(text=TEXT)

# Lines as they are published; the last two prompts share twelve blocks, and are of one service.
MOONCAKE = [
    {"timestamp": 27000, "input_length": 28, "output_length": 445, "hash_ids": [7]},
    {
        "timestamp": 27482,
        "input_length": 6955,
        "output_length": 52,
        "hash_ids": [*range(46, 58), 2353, 2354],
    },
    {
        "timestamp": 30535,
        "input_length": 6472,
        "output_length": 26,
        "hash_ids": [*range(46, 58), 2366],
    },
]
AZURE_2023 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:20:07.0417510,110,27
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-12 00:00:00.001163+00:00,1452,3
2024-05-12 00:00:01+00:00,584,3
2024-05-12 00:00:00.157988+00:00,862,38
"""


@pytest.fixture
def written(tmp_path):
    """Write a trace; lines that are no text become JSON."""

    def write(content, name="trace"):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(
                (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in content
            )
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_mooncake(written):
    requests = load_mooncake(written(MOONCAKE), LOAD)
    assert [r.arrival for r in requests] == [0.0, 0.482, 3.535]
    assert [len(r.prompt_tokens) for r in requests] == [28, 6955, 6472]
    assert [r.new_tokens for r in requests] == [445, 52, 26]
    assert [r.session for r in requests] == [0, 1, 2] and requests[0].kind == "mooncake"
    shared = 12 * 512
    assert requests[1].prompt_tokens[:shared] == requests[2].prompt_tokens[:shared]
    assert requests[1].prompt_tokens[shared:][:64] != requests[2].prompt_tokens[shared:][:64]
    assert (
        len({tuple(requests[1].prompt_tokens[i : i + 512][:8]) for i in range(0, 6144, 512)}) == 12
    )


def test_mooncake_for_a_small_model(written):
    """Blocks shrink one by one, so that what was shared still is."""
    load = Load(text=TEXT, scale=1 / 16, context=448)
    requests = load_mooncake(written(MOONCAKE), load)
    assert [len(r.prompt_tokens) for r in requests] == [2, 13 * 32 + 19, 12 * 32 + 20]
    assert [r.new_tokens for r in requests] == [28, 3, 2]
    assert requests[1].prompt_tokens[: 12 * 32] == requests[2].prompt_tokens[: 12 * 32]
    cut = load_mooncake(written(MOONCAKE), Load(text=TEXT, scale=1 / 16, context=100))
    assert [len(r.prompt_tokens) + r.new_tokens for r in cut] == [30, 100, 100]


def test_the_same_for_the_same_seed(written):
    path = written(MOONCAKE)
    assert load_mooncake(path, LOAD) == load_mooncake(path, LOAD)
    assert load_mooncake(path, LOAD) != load_mooncake(path, Load(text=TEXT, seed=1))
    assert load_mooncake(path, LOAD, limit=2) == load_mooncake(path, LOAD)[:2]


@pytest.mark.parametrize(
    ("content", "arrivals", "prompts", "answers"),
    [
        (AZURE_2023, [0.0, 0.052, 183.061791], [4808, 3180, 110], [10, 8, 27]),
        (AZURE_2024, [0.0, 0.156825, 0.998837], [1452, 862, 584], [3, 38, 3]),  # sorted by time
        (
            AZURE_2023.replace("\n", "\r\n"),
            [0.0, 0.052, 183.061791],
            [4808, 3180, 110],
            [10, 8, 27],
        ),
        ("\ufeff" + AZURE_2023 + "\n\n", [0.0, 0.052, 183.061791], [4808, 3180, 110], [10, 8, 27]),
    ],
)
def test_azure(written, content, arrivals, prompts, answers):
    requests = load_azure(written(content), LOAD)
    assert [r.arrival for r in requests] == arrivals
    assert [len(r.prompt_tokens) for r in requests] == prompts
    assert [r.new_tokens for r in requests] == answers
    assert len({tuple(r.prompt_tokens[:8]) for r in requests}) == 3
    assert requests == load_azure(written(content), LOAD)


def test_by_what_the_file_begins_with(written):
    assert load_trace(written(MOONCAKE), LOAD)[0].kind == "mooncake"
    assert load_trace(written("\n" + AZURE_2024), LOAD)[0].kind == "azure"
    assert len(load_trace(written(AZURE_2023), LOAD, limit=1)) == 1


def with_line(**changes):
    """The second line of the trace, changed; None drops a field."""
    line = {key: value for key, value in (MOONCAKE[1] | changes).items() if value is not None}
    return [MOONCAKE[0], line]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (with_line(timestamp=-1), "line 2, timestamp: -1 is no time"),
        (with_line(timestamp="27482"), "line 2, timestamp: '27482' is no time"),
        (with_line(timestamp=None), "line 2, timestamp: it is missing"),
        (with_line(input_length=0), "line 2, input_length: 0 is no number of tokens"),
        (with_line(output_length=2.5), "line 2, output_length: 2.5 is no number"),
        (with_line(output_length=True), "line 2, output_length: True is no number"),
        (
            with_line(hash_ids=[1, 2]),
            "line 2, hash_ids: 2 ids for 6,955 tokens\n(.|\n)*Try: 14, one",
        ),
        (with_line(hash_ids=["a"] * 14), "line 2, hash_ids: .* is no list of ids"),
        (with_line(hash_ids=None), "line 2, hash_ids: it is missing"),
        ([MOONCAKE[0], '{"timestamp": 3, '], "line 2, column 1[5-8]: no JSON"),
        ([MOONCAKE[0], "", "[3]"], r"line 3, column 1: \[3\] is no object"),
        ([MOONCAKE[0], "2023-11-16,1,2"], "line 2, column 5: no JSON"),
        ("\n \n", "holds no request"),
        (b"\n{\xff\xfe", "line 2, byte 2: it is no text"),
    ],
)
def test_a_broken_mooncake_file(written, content, what):
    with pytest.raises(TraceError, match=what) as error:
        load_mooncake(written(content, "conversation.jsonl"), LOAD)
    assert "conversation.jsonl" in str(error.value)
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("TIMESTAMP,", "", "line 1, TIMESTAMP: the header is 'ContextTokens,GeneratedTokens'"),
        ("ContextTokens", "Context", "line 1, ContextTokens: the header is"),
        ("3180,8", "3180", "line 3, column 3: 2 fields, where the header has 3"),
        ("3180,8", "3180,8,9", "line 3, column 4: 4 fields"),
        ("3180,8", "x,8", "line 3, ContextTokens: 'x' is no number"),
        ("3180,8", "3180,0", "line 3, GeneratedTokens: '0' is no number"),
        ("3180,8", "3180,-8", "line 3, GeneratedTokens: '-8' is no number"),
        ("3180,8", "3180,", "line 3, GeneratedTokens: '' is no number"),
        ("2023-11-16 18:17:04.0319600", "yesterday", "line 3, TIMESTAMP: 'yesterday' is no time"),
        ("04.0319600", "04.03+00:00", "line 3, TIMESTAMP: not all lines have a time zone"),
    ],
)
def test_a_broken_azure_file(written, old, new, what):
    assert old in AZURE_2023
    with pytest.raises(TraceError, match=what) as error:
        load_azure(written(AZURE_2023.replace(old, new), "code.csv"), LOAD)
    assert "code.csv" in str(error.value) and "\nTry: " in str(error.value)


def test_no_file(tmp_path):
    for load in (load_trace, load_azure, load_mooncake):
        with pytest.raises(TraceError, match="nothing.csv cannot be read: No such file"):
            load(tmp_path / "nothing.csv", LOAD)
    with pytest.raises(TraceError, match="holds no request"):
        empty = tmp_path / "empty.csv"
        empty.write_text("")
        load_trace(empty, LOAD)
