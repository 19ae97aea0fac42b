"""`aiinfra generate`: the engine from a terminal. Unit 4.3.

aiinfra generate "def read(" --max-tokens 60
cat prompts.txt | aiinfra generate - --temperature 0.8 --seed 1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Put `generate` among the commands of `aiinfra`. Imports nothing large until it runs."""
    one = commands.add_parser("generate", help="continue texts with the course's model, or yours")
    one.add_argument(
        "prompt", nargs="+", help="a text to continue; - reads one text a line from the input"
    )
    one.add_argument("--model", type=Path, help="a folder with config.json, *.safetensors, ...")
    one.add_argument("--max-tokens", type=int, default=64)
    one.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token")
    one.add_argument("--top-k", type=int)
    one.add_argument("--top-p", type=float, default=1.0)
    one.add_argument("--min-p", type=float, default=0.0)
    one.add_argument("--repetition-penalty", type=float, default=1.0)
    one.add_argument("--seed", type=int)
    one.add_argument("--stop", action="append", default=[], help="end before this text")
    one.add_argument("--json", action="store_true", help="a JSON object and nothing else")
    one.add_argument("--beams", type=int, default=0, help="the likeliest texts of a beam search")
    one.add_argument("--blocks", type=int, default=512, help="of the KV cache, 16 tokens each")
    one.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print what the model writes, one prompt as it comes, several when all are done."""
    from aiinfra_labs.llm import page_model

    from .engine import Engine, EngineConfig
    from .errors import ServingError
    from .llm import LLM
    from .sampling_params import SamplingParams

    prompts = [
        text
        for given in chosen.prompt
        for text in (sys.stdin.read().splitlines() if given == "-" else [given])
    ]
    try:
        params = SamplingParams(
            temperature=chosen.temperature,
            top_k=chosen.top_k,
            top_p=chosen.top_p,
            min_p=chosen.min_p,
            repetition_penalty=chosen.repetition_penalty,
            seed=chosen.seed,
            max_tokens=chosen.max_tokens,
            stop=tuple(chosen.stop),
            json=chosen.json,
            beam_width=chosen.beams,
        )
        config = EngineConfig(num_blocks=chosen.blocks)
        llm = LLM(Engine.from_folder(chosen.model or page_model.folder(), config))
        if len(prompts) == 1 and not chosen.beams:
            print(prompts[0], end="", flush=True)
            for piece in llm.stream(prompts[0], params):
                print(piece, end="", flush=True)
            print()
            return 0
        for output in llm.generate(prompts, params, progress=sys.stderr.isatty()):
            for one in output.outputs:
                print(f"{output.prompt}{one.text}")
    except ServingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
