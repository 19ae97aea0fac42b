"""Three machines, one kernel: the emulator, a typed interpreter, Numba's simulator.

    python tests/gpu/fuzz/campaign.py --first 0 --count 5000 --record benchmarks/results/fuzz.json

The interpreter has Numba's types, so the emulator must equal it in every bit (a NaN equals a NaN).
Numba's simulator computes as Python and NumPy do: numbers of Python's do not overflow, and an int32
plus 1 stays an int32. Where it differs, the interpreter decides; in the *tame* kernels, whose
values stay small and 64 bits wide, all three must agree.
"""

from __future__ import annotations

import argparse
import collections
import json
import linecache
import os
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.modules.pop("campaign", None)

import numpy as np
from numba import cuda as numba_cuda

from aiinfra_labs.gpu import emulator
from fuzz import generator, interpreter
from fuzz.generator import Program
from fuzz.simulator import Simulator


def built(program: Program, cuda: Any) -> Any:
    """The kernel, with `cuda` behind its names. Its source can be looked up, as that of a file."""
    file = f"<fuzz {program.seed}>"
    lines = program.source.splitlines(keepends=True)
    linecache.cache[file] = (len(program.source), None, lines, file)
    scope = {"cuda": cuda}
    exec(compile(program.source, file, "exec"), scope)
    return scope["kernel"]


def emulated(program: Program) -> list:
    arguments = program.arguments()
    built(program, emulator)[program.grid, program.block](*arguments)
    return arguments


def interpreted(program: Program) -> list:
    arguments = program.arguments()
    interpreter.launch(built(program, numba_cuda), program.grid, program.block, arguments)
    return arguments


# Numba infers types in a loop by widening, and int64 with uint64 widens to float64: whether an
# integer variable ends as one depends on the order in which it looks at the assignments.
ORDER = "an integer becomes a float64 by the order of Numba's inference"


def difference(ours: list, theirs: list) -> str:
    """Where two lists of arguments differ; empty where they are the same to the last bit.

    A NaN equals a NaN. Zeros of both signs are one: which is the least, IEEE 754 leaves open.
    """
    names = [*generator.INPUTS, "ab", "p", "q", *generator.OUTPUTS, "counts", "tops"]
    for name, a, b in zip(names, ours, theirs, strict=True):
        if not isinstance(a, np.ndarray):
            continue
        same = a == b
        if a.dtype.kind == "f":
            same |= np.isnan(a) & np.isnan(b)
        if not same.all():
            at = int(np.argmin(same))
            return f"{name}[{at}] is {a[at]!r} and {b[at]!r}, {np.count_nonzero(~same)} differ"
    return ""


def compare(seed: int, simulator: Simulator | None) -> tuple[str, str]:
    """One kernel on all machines: what came of it, and the details.

    "equal", or "refused" where Numba's compiler does not take the kernel, or "WRONG". To "equal" is
    added what the simulator did: it agreed, it cannot run the kernel, or it differs by its types.
    """
    program = generator.program(seed)
    try:
        right = interpreted(program)
    except interpreter.Refused as error:
        return "refused", str(error).replace("\n", " ")[:200]
    try:
        ours = emulated(program)
    except Exception as error:
        return "WRONG", f"the emulator: {type(error).__name__}: {error}"
    wrong = difference(ours, right)
    if wrong and interpreter.order_decides(built(program, numba_cuda).py_func):
        return ORDER, wrong
    if wrong:
        return "WRONG", f"emulator and interpreter: {wrong}"
    if simulator is None or program.shuffles:
        return "equal", ""
    theirs = simulator.run(program.source, program.grid, program.block, program.arguments())
    if isinstance(theirs, str):
        return "equal; the simulator cannot run it", theirs
    wrong = difference(ours, theirs)
    if not wrong:
        return "equal, and the simulator agrees", ""
    if program.tame:
        return "equal; the simulator differs, tame", wrong
    return "equal; the simulator differs by its types", wrong


def campaign(seeds: range, simulator: Simulator | None, show: bool = False) -> dict[str, Any]:
    """Run the kernels of `seeds`: how often each outcome, and the seeds of what went wrong."""
    found: collections.Counter[str] = collections.Counter()
    wrong = {}
    for seed in seeds:
        outcome, details = compare(seed, simulator)
        found[outcome] += 1
        if outcome == "WRONG" or "tame" in outcome:
            wrong[seed] = f"{outcome}: {details}"
        if show and (outcome == "WRONG" or "tame" in outcome or outcome == "refused"):
            print(seed, outcome, details, flush=True)
        linecache.cache.pop(f"<fuzz {seed}>", None)
        interpreter._typed.clear()
    return {"kernels": sum(found.values()), "outcomes": dict(found), "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, help="show one kernel and what each machine makes of it"
    )
    parser.add_argument("--record", type=Path, help="add the outcomes to this file")
    options = parser.parse_args()
    np.seterr(all="ignore")
    with Simulator() as simulator:
        if options.seed is not None:
            print(generator.program(options.seed).source)
            print(*compare(options.seed, simulator))
            return
        start = time.process_time()
        found = campaign(range(options.first, options.first + options.count), simulator, show=True)
    print(json.dumps(found["outcomes"], indent=1), f"{time.process_time() - start:.0f} s")
    if options.record:
        record(options.record, options.first, options.count, found)


def record(file: Path, first: int, count: int, found: dict[str, Any]) -> None:
    """Add a piece of a campaign to its file."""
    sums = json.loads(file.read_text()) if file.exists() else {"kernels": 0, "outcomes": {}}
    sums["kernels"] += found["kernels"]
    for outcome, number in found["outcomes"].items():
        sums["outcomes"][outcome] = sums["outcomes"].get(outcome, 0) + number
    sums.setdefault("wrong", {}).update({str(s): text for s, text in found["wrong"].items()})
    sums.setdefault("pieces", []).append({"first": first, "count": count})
    sums["date"] = time.strftime("%Y-%m-%d")
    file.write_text(json.dumps(sums, indent=1) + os.linesep)


if __name__ == "__main__":
    main()
