"""`aiinfra generate`: the engine from a terminal. Unit 4.3.

aiinfra generate "def read(" --max-tokens 60
cat prompts.txt | aiinfra generate - --temperature 0.8 --seed 1

Texts go to the output, all else to the error output. It ends with 0; with 1 where something cannot
be done, told in three lines; with 2 for options that are not there; with 130 at Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

SHARES = {"cpu": 0.1, "cuda": 0.9}  # as `free_memory` has them, which imports PyTorch


def add(commands: Any) -> None:
    """Put `generate` among the commands of `aiinfra`. Imports nothing large until it runs."""
    one = commands.add_parser(
        "generate",
        help="continue texts with the course's model, or yours",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    one.add_argument(
        "prompt", nargs="+", help="a text to continue; - reads one text a line from the input"
    )
    none: Any = argparse.SUPPRESS  # in the help: an option without a default says so itself
    what = one.add_argument_group("the model")
    what.add_argument(
        "--model",
        type=Path,
        default=none,
        help="a folder with config.json, *.safetensors, tokenizer.json; else the course's own",
    )
    what.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    what.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")

    which = one.add_argument_group("which tokens")
    which.add_argument("--max-tokens", type=int, default=64, help="new ones, at most")
    which.add_argument("--min-tokens", type=int, default=0, help="before these no end is taken")
    which.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token")
    which.add_argument("--top-k", type=int, default=0, help="of the k likeliest; 0: of all")
    which.add_argument("--top-p", type=float, default=1.0, help="of so much probability")
    which.add_argument("--min-p", type=float, default=0.0, help="of the likeliest's probability")
    which.add_argument("--seed", type=int, default=none, help="the same texts again, if drawn")
    which.add_argument("--n", type=int, default=1, help="samples of each prompt")
    which.add_argument("--beams", type=int, default=0, help="of a beam search; 0: none")
    which.add_argument("--length-penalty", type=float, default=1.0, help="of beams")
    which.add_argument("--repetition-penalty", type=float, default=1.0, help="1: none")
    which.add_argument("--presence-penalty", type=float, default=0.0, help="0: none")
    which.add_argument("--frequency-penalty", type=float, default=0.0, help="0: none")
    which.add_argument(
        "--stop", action="append", default=none, metavar="TEXT", help="end before this text"
    )
    which.add_argument(
        "--stop-token-id", action="append", type=int, default=none, metavar="ID", help="end at it"
    )
    which.add_argument(
        "--bad-word", action="append", default=none, metavar="TEXT", help="a text not to write"
    )
    which.add_argument("--ignore-eos", action="store_true", help="go on behind the model's end")
    which.add_argument("--json", action="store_true", help="a JSON object and nothing else")
    which.add_argument(
        "--json-schema", type=Path, default=none, metavar="FILE", help="JSON that fits a schema"
    )

    how = one.add_argument_group("the engine")
    how.add_argument(
        "--blocks",
        type=int,
        default=none,
        help="of the KV cache; else as many as fit into a share of the free memory",
    )
    shares = ", ".join(f"{share:g} on {device}" for device, share in SHARES.items())
    how.add_argument(
        "--memory-share", type=float, default=none, help=f"of the free memory; else {shares}"
    )
    how.add_argument("--block-size", type=int, default=16, help="tokens in a block")
    how.add_argument("--max-num-seqs", type=int, default=256, help="sequences at once")
    how.add_argument("--max-num-batched-tokens", type=int, default=512, help="tokens of a step")
    how.add_argument("--attention", default="auto", help="auto, torch, compiled, numpy or kernel")
    how.add_argument("--lookup", type=int, default=0, help="drafts by prompt lookup; 0: none")
    one.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print what the model writes, one prompt as it comes, several when all are done."""
    from .errors import ServingError

    try:
        return _generate(chosen)
    except ServingError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _generate(chosen: argparse.Namespace) -> int:
    from .errors import ServingError
    from .llm import parts
    from .sampling_params import SamplingParams

    wanted = vars(chosen)
    prompts = _prompts(chosen.prompt)
    params = SamplingParams(
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        top_p=chosen.top_p,
        min_p=chosen.min_p,
        repetition_penalty=chosen.repetition_penalty,
        presence_penalty=chosen.presence_penalty,
        frequency_penalty=chosen.frequency_penalty,
        seed=wanted.get("seed"),
        n=chosen.n,
        beam_width=chosen.beams,
        length_penalty=chosen.length_penalty,
        max_tokens=chosen.max_tokens,
        min_tokens=chosen.min_tokens,
        stop=wanted.get("stop"),  # type: ignore[arg-type]
        stop_token_ids=wanted.get("stop_token_id"),  # type: ignore[arg-type]
        bad_words=wanted.get("bad_word"),  # type: ignore[arg-type]
        ignore_eos=chosen.ignore_eos,
        json=_schema(wanted["json_schema"]) if "json_schema" in wanted else chosen.json,
    )
    llm = _llm(chosen)
    if len(prompts) == 1 and not chosen.beams and chosen.n == 1:
        begun = False
        for piece in llm.stream(prompts[0], params):
            _write(piece if begun else prompts[0] + piece)
            begun = True
        _write("\n" if begun else f"{prompts[0]}\n")
        return 0
    failed = 0
    for output in llm.generate(prompts, params, progress=sys.stderr.isatty()):
        if output.error:
            print(ServingError(*parts(output.error)), file=sys.stderr)
            failed = 1
            continue
        for one in output.outputs:
            _write(f"{output.prompt}{one.text}\n")
    return failed


def _llm(chosen: argparse.Namespace) -> Any:
    from aiinfra_labs.llm import page_model

    from .errors import LoadError, ServingError
    from .llm import LLM
    from .speculative import PromptLookup

    folder = vars(chosen).get("model") or page_model.folder()
    if not Path(folder).is_dir():
        raise LoadError(
            f"there is no folder {str(folder)!r}",
            "the model is read from a folder of this machine, and nothing is fetched",
            "the folder that holds its config.json; without --model, the course's own model",
        )
    proposer = PromptLookup(chosen.lookup) if chosen.lookup else None
    try:
        return LLM(
            folder,
            proposer=proposer,
            dtype=chosen.dtype,
            device=chosen.device,
            num_blocks=vars(chosen).get("blocks"),  # None: by the free memory, as LLM does
            memory_share=vars(chosen).get("memory_share"),
            block_size=chosen.block_size,
            max_num_seqs=chosen.max_num_seqs,
            max_num_batched_tokens=chosen.max_num_batched_tokens,
            attention=chosen.attention,
        )
    except (RuntimeError, AssertionError, MemoryError) as error:  # PyTorch's, of device and memory
        raise ServingError(
            f"the model cannot be set up on {chosen.device}: {str(error).splitlines()[0]}",
            "its weights and the blocks of its cache need a device that is there, and room on it",
            "--device cpu, or fewer --blocks",
        ) from None


def _prompts(given: list[str]) -> list[str]:
    """The texts, and for - those of the input: one a line, empty lines left out."""
    from .errors import RequestError

    found: list[str] = []
    for text in given:
        if text != "-":
            found.append(text)
            continue
        try:
            lines = sys.stdin.read().split("\n")
        except UnicodeDecodeError as error:
            raise RequestError(
                f"the input is no text: {error}",
                "prompts are read as UTF-8",
                "iconv -t UTF-8, if it is text of another encoding",
            ) from None
        found += [line.rstrip("\r") for line in lines if line.strip()]
    if not found:
        raise RequestError(
            "the input holds no prompt",
            "each line that is not empty is one",
            "echo 'def read(' | aiinfra generate -",
        )
    return found


def _schema(file: Path) -> Any:
    from .errors import RequestError

    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{file} cannot be read: {error}", "it holds a JSON Schema", "a file with JSON in UTF-8"
        ) from None


def _write(text: str) -> None:
    """Print, also where the terminal cannot show all characters."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
