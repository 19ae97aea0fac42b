"""Other machines, stood in for on this one: `make test MACHINES=1`.

A sum of floats depends on the order in which it is taken, and the order on the processor's vectors
and on the number of threads. Libraries choose their code by the processor; each lets an environment
variable choose an older one. `MACHINES` holds four such sets. What a page stores, what a test
compares and what a check says must be the same under each.

    python tools/machines.py                     all notebooks and numeric tests under each
    python tools/machines.py avx2 -k parallel    one machine; more arguments are pytest's
    AIINFRA_MACHINE=avx2 python -m pytest ...     any tests, as on that machine
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHOSEN = "AIINFRA_MACHINE"  # names a machine; tests/conftest.py puts its variables in place

_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
}

# Each by its variables. `OMP_NUM_THREADS` is honoured by PyTorch, MKL and OpenBLAS.
MACHINES: dict[str, dict[str, str]] = {
    # a laptop of 2015 to 2021, two threads
    "avx2": _AVX2 | {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2"},
    # an AMD machine whose class gives each learner one core; MKL has other code for it
    "zen": _AVX2 | {"OPENBLAS_CORETYPE": "Zen", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "1"},
    # no vectors but those that every 64-bit processor has
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "+sse4.2",
        "OMP_NUM_THREADS": "2",
    },
    # a server: AVX-512, if this machine has it, and four threads
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "OMP_NUM_THREADS": "4",
    },
}

# A test file with one of these in it compares floats, or runs code that sums them.
NUMERIC = re.compile(
    r"\btorch\b|\bnumba\b|allclose|approx\(|isclose|tolerance|planted|\bengine\b|logits|loss"
)

# These compare no sums of floats, or ask in another process what test_exercises.py asks.
ALIKE = {
    "test_add_a_unit.py",
    "test_bad_values.py",
    "test_drawings.py",
    "test_figures.py",
    "test_front.py",
    "test_frontispiece.py",
    "test_imports.py",
    "test_judging.py",
    "test_machines.py",
    "test_page_rules.py",
    "test_registers.py",
    "test_rules.py",
    "test_slips.py",
    "test_work.py",
    "test_wrong_kinds.py",
}


def is_numeric(source: str) -> bool:
    """Whether tests of this source may come out otherwise on another processor."""
    return NUMERIC.search(source) is not None


def missing(name: str) -> str:
    """Why this computer cannot stand in for machine `name`; empty when it can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"a {platform.machine()} has other instructions"
    try:
        flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text(encoding="utf-8")))
    except OSError:
        return "" if name != "avx512" else "no /proc/cpuinfo says whether there is AVX-512"
    needed = {"avx512": "avx512f", "sse": "sse4_2"}.get(name, "avx2")
    return "" if needed in flags else f"this processor has no {needed}"


def variables(name: str) -> dict[str, str]:
    """The environment variables of machine `name`, less what this computer does not know."""
    chosen = dict(MACHINES[name])
    features = chosen.pop("NPY_DISABLE_CPU_FEATURES", "").split()
    if known := [feature for feature in features if feature in _numpy_features()]:
        chosen["NPY_DISABLE_CPU_FEATURES"] = " ".join(known)
    return chosen


def _numpy_features() -> set[str]:
    """What NumPy can be told to leave: it refuses a name that it does not know, or has not."""
    code = (
        "from numpy._core import _multiarray_umath as m; f = m.__cpu_features__\n"
        "print(*(name for name in m.__cpu_dispatch__ if f.get(name)))"
    )
    clean = {k: v for k, v in os.environ.items() if k != "NPY_DISABLE_CPU_FEATURES"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    return set(done.stdout.split())


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if name in MACHINES] or list(MACHINES)
    more = [argument for argument in arguments if argument not in MACHINES]
    rows, failed = [], False
    for name in names:
        if why := missing(name):
            rows.append((name, f"skipped: {why}"))
            continue
        print(f"--- as on machine {name}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-m", "numeric", *more]
        lines = ["nothing was said"]
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {CHOSEN: name}, stdout=subprocess.PIPE, text=True
        ) as run:
            for line in run.stdout:
                print(line, end="", flush=True)
                lines.append(line.strip("= \n") or lines[-1])
        rows.append((name, f"{lines[-1]}; {(time.monotonic() - began) / 60:.0f} min"))
        failed = failed or run.returncode != 0
    print("\n".join(f"{name:8} {row}" for name, row in rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
