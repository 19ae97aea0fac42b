"""`aiinfra generate`: each situation one clear message, an exit status, and no traceback."""

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiinfra_labs.cloud.serving import command, free_memory
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.course import cli
from aiinfra_labs.llm import page_model

COMMAND = str(Path(sys.executable).parent / "aiinfra")


@pytest.fixture
def generate(capsys, monkeypatch):
    """Runs the command in this process: (status, output, error output)."""

    def run(*arguments, given=b"", encoding="utf-8"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding=encoding))
        status = cli.main(["generate", *map(str, arguments)])
        out = capsys.readouterr()
        return status, out.out, out.err

    return run


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["x", "--seed", 2**70, "--temperature", "1"], b"", "seed is 1180591620717411303424"),
        (["x", "--temperature", "nan"], b"", "temperature is nan"),
        (["x", "--n", "2"], b"", "n is 2 and temperature 0"),
        (["x", "--top-k", "-3"], b"", "top_k is -3"),
        (["-"], b"\xff\xfe\n", "the input is no text"),
        (["-"], b"\n \n", "the input holds no prompt"),
        (["-"], b"", "the input holds no prompt"),
        (["\udcff"], b"", "no Unicode text"),
        (["x", "--blocks", "1"], b"", "the whole cache has 1"),
        (["x", "--blocks", "-1"], b"", "-1 blocks"),
        (["x", "--max-num-seqs", "0"], b"", "0 sequences"),
        (["x", "--block-size", "0"], b"", "blocks of 0 tokens"),
        (["x", "--attention", "fast"], b"", "attention 'fast'"),
        (["x", "--dtype", "float33"], b"", "dtype is 'float33'"),
        (["x", "--device", "nowhere"], b"", "the model cannot be set up on nowhere"),
        (["x", "--model", "/nonexistent"], b"", "there is no folder '/nonexistent'"),
        (["x", "--json-schema", "/nonexistent"], b"", "/nonexistent cannot be read"),
        (["x", "--stop", ""], b"", "stop is ('',)"),
        (["x", "--stop-token-id", "999999"], b"", "stop token 999999"),
        (["x", "--lookup", "-1"], b"", "for -1 new ones"),
        (["x", "--memory-share", "2"], b"", "memory_share is 2.0"),
        (["x", "--memory-share", "1e-9"], b"", "have no room for a block"),
    ],
)
def test_what_cannot_be_is_told_in_three_lines(generate, arguments, given, said):
    status, out, error = generate(*arguments, "--max-tokens", "70", given=given)
    assert (status, out) == (1, "")  # nothing of an answer, the prompt not even
    assert said in error.splitlines()[0]
    assert [line[:4] for line in error.splitlines()[1:]] == ["Why:", "Try:"]


def test_lines_of_the_input_are_prompts(generate):
    status, out, _ = generate("-", "--max-tokens", 2, given=b"import os\r\n\nclass A:\n")
    assert status == 0 and out.count("import os") == out.count("class A:") == 1


def test_options_reach_the_engine(generate, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"enum": ["one", "two"]}))
    assert json.loads(generate("x = ", "--json-schema", schema)[1][4:]) in ("one", "two")
    drawn = ("def ", "--temperature", 1, "--max-tokens", 6)
    one, again, other = (generate(*drawn, "--seed", seed)[1] for seed in (1, 1, 2))
    assert one == again != other
    assert generate(*drawn, "--n", 3)[1].count("def ") >= 3
    assert generate("def ", "--beams", 2, "--max-tokens", 3)[1].count("def ") >= 2
    plain = generate("def main(", "--max-tokens", 12)[1]
    assert generate("def main(", "--max-tokens", 12, "--lookup", 3)[1] == plain
    assert generate("def main(", "--max-tokens", 12, "--stop", plain[12:15])[1] == (
        plain[: plain.index(plain[12:15], 9)] + "\n"
    )
    for option in ("presence", "frequency", "repetition"):
        assert (
            generate("def ", f"--{option}-penalty", 2, "--max-tokens", 40)[1]
            != (generate("def ", "--max-tokens", 40)[1])
        )


def test_the_help_names_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["generate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0 and "None" not in text
    for said in ("(default: 64)", "(default: 512)", "(default: 0.0)", "(default: auto)"):
        assert said in text
    assert "else 0.1 on cpu, 0.9 on cuda" in text and command.SHARES == free_memory.SHARES


def test_the_cache_is_as_large_as_that_of_llm(monkeypatch):
    """By the free memory, and not a number that was chosen for a small model."""
    monkeypatch.setattr(free_memory, "free_bytes", lambda device: 2**30)
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    made = command._llm(parser.parse_args(["generate", "x"]))
    expected = LLM(page_model.folder()).engine.config.num_blocks
    assert made.engine.config.num_blocks == expected != 512
    few = command._llm(parser.parse_args(["generate", "x", "--blocks", "7"]))
    assert few.engine.config.num_blocks == 7


@pytest.mark.parametrize("arguments", [["x", "--max-tokens", "many"], ["x", "--nothing"], []])
def test_options_that_are_not_there_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["generate", *arguments])
    assert end.value.code == 2 and "usage: aiinfra" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(generate, monkeypatch):
    def interrupted(chosen):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_generate", interrupted)
    assert generate("x") == (130, "", "\n")


def test_a_terminal_without_the_letters_and_a_pipe_that_is_closed():
    """In processes of their own: both are about the process's output."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    run = [COMMAND, "generate", "# 它很甜", "--max-tokens", "2", "--attention", "torch"]
    done = subprocess.run(run, capture_output=True, env=environment)
    assert done.returncode == 0 and done.stdout.startswith(b"# ???") and not done.stderr
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # `| head` has seen enough
    error = process.stderr.read()
    assert process.wait() == 1 and not error
