"""Registers, spills and memory instructions of the course's kernels, by NVIDIA's compilers.

    python benchmarks/registers.py [--arch 90] [--only matmul] [--out FILE]

No GPU is needed: Numba makes NVVM IR of a kernel, NVVM makes PTX, and `ptxas -v` says how many
registers a thread gets and whether some are spilled to local memory. CUDA C goes by NVRTC to PTX
and on in the same way. Where `nvdisasm` is found, the machine's own instructions are counted, too.
Units 3.5 and 3.7 quote what is stored in `benchmarks/results/registers-sm_90.json`.

    pip install "numba-cuda[cu12]" nvidia-cuda-nvcc-cu12 nvidia-cuda-nvrtc-cu12

brings the compilers. A kernel's types are read from its docstring ("a, b: float32 [n]. k: int32.");
`SIGNATURES` holds those of kernels whose docstring leaves the type open.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

RESULTS = Path(__file__).parent / "results"
SIGNATURES = {  # "module.kernel": the arguments' types, as Numba writes them
    "coalescing.copy_strided": "float32[::1], float32[::1], int64",
    "coalescing.copy_shifted": "float32[::1], float32[::1], int64",
    "coalescing.gather": "float32[::1], int64[::1], float32[::1]",
    "coalescing.embed_by_thread": "float32[:, ::1], int64[::1], float32[:, ::1]",
    "coalescing.embed_by_warp": "float32[:, ::1], int64[::1], float32[:, ::1]",
    "coalescing.scores_dim_major": "float32[:, ::1], float32[:, :, ::1], float32[:, ::1]",
    "coalescing.scores_token_major_by_warp": "float32[:, ::1], float32[:, :, ::1], float32[:, ::1]",
    "cpu_and_gpu.every_eighth": "float32[::1], float32[::1]",
    "cpu_and_gpu.smooth": "float32[::1], float32[::1]",
    "cuda_model.vector_add": "float32[::1], float32[::1], float32[::1]",
    "shared_memory.load_with_stride": "int64, float32[::1]",
}
MADE = {  # "module.function" that makes a kernel: the arguments that it is called with
    "flash_attention.flash_attention_kernel": ((32, False), (64, False), (128, False), (128, True)),
    "paged_attention.paged_attention_kernel": ((32, 4), (64, 4), (128, 8)),
}
DTYPES = "u?int(?:8|16|32|64)|float(?:16|32|64)|complex(?:64|128)|bool"
_SAID = re.compile(rf"(\w+(?:, \w+)*): ({DTYPES})\b(?: \[([^\]]*)\])?")
_WITH_DOOR = ("aiinfra_labs.gpu.kernels", "aiinfra_labs.gpu.float4")
_COUNTED = re.compile(r"^(ld|st|ldmatrix|cp\.async)\b.*(global|shared|local)|^(fma|bar|w?mma)\b")


class MissingCompiler(Exception):
    """A compiler that is needed is not installed here; says which, and how it is had."""


# --- the compilers ------------------------------------------------------------------------------


def tool(name: str) -> str | None:
    """Where `ptxas` or `nvdisasm` is: in a package of NVIDIA's, or on the PATH; None: nowhere."""
    roots = [Path(entry) / "nvidia" for entry in sys.path if entry]
    files = sorted(file for root in roots for file in root.glob(f"*/bin/{name}"))
    return str(files[0]) if files else shutil.which(name)


def need_compilers() -> tuple[Any, str]:
    """(numba.cuda, the path of a ptxas that fits it). Raises MissingCompiler, in one line."""
    ptxas = tool("ptxas")
    if ptxas is None:
        raise MissingCompiler(
            "ptxas is not installed here, so no registers can be counted: "
            "pip install nvidia-cuda-nvcc-cu12"
        )
    try:
        from cuda.bindings import nvrtc
        from numba import cuda
        from numba.cuda.cudadrv import nvvm

        nvvm.NVVM()
        nvrtc.nvrtcVersion()
    except Exception as error:  # each package has kinds of its own for a library that it misses
        reason = str(error).strip().splitlines()[0]
        raise MissingCompiler(
            f"NVVM or NVRTC cannot be used here, so nothing can be compiled: {reason}"
        ) from error
    try:
        assembled(cuda_c_ptx('extern "C" __global__ void nothing() {}', 90), 90, ptxas)
    except ValueError as error:  # a ptxas reads the PTX of its own version, and of older ones
        raise MissingCompiler(
            f"{ptxas} is older than the compilers of its PTX ({str(error).splitlines()[0]}): "
            "pip install nvidia-cuda-nvcc, of the version of nvidia-cuda-nvrtc"
        ) from error
    return cuda, ptxas


def numba_ptx(kernel: Any, signature: str, arch: int) -> str:
    """PTX of a Numba kernel. signature: "float32[:, ::1], int32"."""
    from numba.core import sigutils
    from numba.cuda import compiler, dispatcher

    arguments, _ = sigutils.normalize_signature(f"void({signature})")
    options = kernel.targetoptions
    capability = divmod(arch, 10)
    standing = SimpleNamespace(compute_capability=capability)
    extra = {"fastmath": True} if options.get("fastmath") else {}
    # a device function is compiled for the device at hand, and there is none
    with mock.patch.object(dispatcher, "get_current_device", lambda: standing):
        ptx, _ = compiler.compile(
            kernel.py_func, arguments, cc=capability, device=False, abi="numba", **extra
        )
    return ptx


def cuda_c_ptx(source: str, arch: int) -> str:
    """PTX of a text of CUDA C, by NVRTC."""
    from cuda.bindings import nvrtc

    roots = [Path(entry) / "nvidia" for entry in sys.path if entry]
    includes = [str(folder) for root in roots for folder in sorted(root.glob("*/include"))]
    options = [f"--gpu-architecture=compute_{arch}", *(f"-I{folder}" for folder in includes)]
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], [])
    status = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])[0]
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = bytearray(size)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise ValueError(bytes(log).decode(errors="replace").strip())
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = bytearray(size)
    nvrtc.nvrtcGetPTX(program, ptx)
    return bytes(ptx).rstrip(b"\0").decode()


def assembled(ptx: str, arch: int, ptxas: str, most: int | None = None) -> dict[str, dict]:
    """What ptxas says of each kernel in a text of PTX, by its name there.

    most: the registers that a thread may have, as cuda.jit(max_registers=...) asks.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "k.ptx"), Path(folder, "k.cubin")
        source.write_text(ptx, encoding="utf-8")
        command = [ptxas, "-v", f"-arch=sm_{arch}", str(source), "-o", str(target)]
        command += [f"--maxrregcount={most}"] if most else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"ptxas: {done.stderr.strip()}")
        sass = _sass(target)
    bodies = dict(_bodies(ptx))
    found = {}
    for part in done.stderr.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        found[name] = {
            "registers": _number(r"Used (\d+) registers", part),
            "static_shared_bytes": _number(r"(\d+) bytes smem", part),
            "stack_bytes": _number(r"(\d+) bytes stack frame", part),
            "spill_store_bytes": _number(r"(\d+) bytes spill stores", part),
            "spill_load_bytes": _number(r"(\d+) bytes spill loads", part),
            "ptx": _instructions(bodies[name]),
            "sass": sass.get(name),
        }
    return found


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


def _bodies(ptx: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each kernel in a text of PTX."""
    for part in re.split(r"\.entry\s+", ptx)[1:]:
        yield re.match(r"\w+", part)[0], part.split("\n}")[0]


def _instructions(body: str) -> dict[str, int]:
    """How often each instruction that moves data, multiplies or waits stands in the text."""
    words = (re.sub(r"^@!?%p\d+\s+", "", line.strip()).split() for line in body.splitlines())
    counted = Counter(w[0].rstrip(";") for w in words if w and _COUNTED.match(w[0]))
    return dict(sorted(counted.items()))


def _sass(cubin: Path) -> dict[str, dict[str, Any]]:
    """Each kernel's machine instructions by name, and its loops; nothing without nvdisasm."""
    nvdisasm = tool("nvdisasm")
    if nvdisasm is None:
        return {}
    done = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True)
    parts = re.split(r"\.section\s+\.text\.", done.stdout)[1:]
    return {re.match(r"\w+", part)[0]: _machine_code(part) for part in parts}


def _machine_code(text: str) -> dict[str, Any]:
    """instructions: how often each stands in the code. loops: from the outer to the inner, those
    with a multiply-add: how many instructions each is long, and how many of them are FFMA."""
    names: list[str] = []
    labels: dict[str, int] = {}  # the number of the instruction behind each
    jumps: list[tuple[str, int]] = []
    for line in text.splitlines():
        if label := re.match(r"\s*\.(L_x_\d+):", line):
            labels[label[1]] = len(names)
        elif word := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]+\s+)?([A-Z][\w.]*)", line):
            if target := re.search(r"L_x_\d+", line):
                jumps.append((target[0], len(names)))
            names.append(word[1])
    spans = [(labels[to], at + 1) for to, at in jumps if labels.get(to, at + 1) <= at]
    loops = [
        {"instructions": last - first, "ffma": names[first:last].count("FFMA")}
        for first, last in sorted(spans, key=lambda span: span[0] - span[1])
    ]
    counted = dict(sorted(Counter(names).items()))
    return {"instructions": counted, "loops": [loop for loop in loops if loop["ffma"]]}


# --- the course's kernels -----------------------------------------------------------------------


def kernels(cuda: Any, only: str = "") -> list[tuple[str, Any]]:
    """("module.kernel", the kernel), and ("module.CUDA_C", its text), of all or of one module.

    The modules are imported anew, with Numba's own `cuda` behind the course's door, GPU or none,
    and forgotten again, so that who imports them later finds the door's choice in them.
    """
    from aiinfra_labs import gpu
    from aiinfra_labs.gpu import door

    before = {name: sys.modules.pop(name) for name in _with_door()}
    try:
        with mock.patch.object(door, "choose_cuda", lambda: cuda), mock.patch.dict(vars(gpu)):
            return list(_kernels(only))
    finally:
        for name in _with_door():
            del sys.modules[name]
        sys.modules.update(before)


def _with_door() -> list[str]:
    """The modules here that name `cuda` when they are imported."""
    return [name for name in sys.modules if name.startswith(_WITH_DOOR)]


def _kernels(only: str) -> Iterator[tuple[str, Any]]:
    package = importlib.import_module("aiinfra_labs.gpu.kernels")
    for entry in pkgutil.iter_modules(package.__path__):
        if only and not entry.name.startswith(only):
            continue
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for name, value in vars(module).items():
            if isinstance(value, str) and "__global__" in value:
                yield f"{entry.name}.{name}", value
            elif getattr(value, "py_func", None) is None:
                continue
            elif value.py_func.__module__ != module.__name__:
                continue  # imported from another module, where it is counted
            elif not value.targetoptions.get("device"):
                yield f"{entry.name}.{name}", value
        for function, calls in MADE.items():
            if function.startswith(f"{entry.name}."):
                make = getattr(module, function.partition(".")[2])
                yield from ((f"{function}{arguments}", make(*arguments)) for arguments in calls)


def signature_of(name: str, kernel: Any) -> str | None:
    """The types of a kernel's arguments: from SIGNATURES, or from its docstring; None if neither.

    name: "module.kernel".
    """
    if name in SIGNATURES:
        return SIGNATURES[name]
    said = {}
    for names, dtype, lengths in _SAID.findall(inspect.getdoc(kernel.py_func) or ""):
        axes = [*[":"] * lengths.count(","), "::1"] if lengths else []
        for argument in names.split(", "):
            said[argument] = dtype + (f"[{', '.join(axes)}]" if axes else "")
    arguments = list(inspect.signature(kernel.py_func).parameters)
    if not all(argument in said for argument in arguments):
        return None
    return ", ".join(said[argument] for argument in arguments)


def digest(module: str) -> str:
    """Of the code of a module of kernels, without comments and docstrings: whether a stored figure
    is of the code as it stands."""
    file = importlib.util.find_spec(f"aiinfra_labs.gpu.kernels.{module}").origin
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def measure(arch: int, only: str = "") -> dict[str, Any]:
    """All kernels, or those of modules whose name begins with `only`."""
    cuda, ptxas = need_compilers()
    found: dict[str, dict] = {}
    not_compiled: dict[str, str] = {}
    for name, kernel in kernels(cuda, only):
        module = name.partition(".")[0]
        try:
            if isinstance(kernel, str):
                for entry, figures in assembled(cuda_c_ptx(kernel, arch), arch, ptxas).items():
                    made = {"language": "CUDA C", "digest": digest(module)}
                    found[f"{module}.{entry}"] = made | figures
                continue
            signature = signature_of(name, kernel)
            if signature is None:
                not_compiled[name] = "neither its docstring nor SIGNATURES has all types"
                continue
            most = kernel.targetoptions.get("max_registers")
            (figures,) = assembled(numba_ptx(kernel, signature, arch), arch, ptxas, most).values()
            made = {"language": "Numba", "digest": digest(module), "signature": signature}
            found[name] = made | figures
        except Exception as error:  # one kernel that does not compile must not hide the others
            not_compiled[name] = _first_reason(error)
    return {"machine": versions(arch, ptxas), "kernels": found, "not_compiled": not_compiled}


def _first_reason(error: Exception) -> str:
    """The beginning of what a compiler said, in one line that is the same in each run."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:200]


def versions(arch: int, ptxas: str) -> dict[str, str]:
    """What compiled, and when."""
    said = subprocess.run([ptxas, "--version"], capture_output=True, text=True).stdout
    found = {"arch": f"sm_{arch}", "ptxas": re.search(r"V([\d.]+)", said)[1]}
    for package in ("numba", "numba-cuda", "cuda-bindings"):
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"date": datetime.now(UTC).date().isoformat()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability x 10")
    parser.add_argument("--only", default="", help="modules whose name begins so")
    parser.add_argument("--out", type=Path, help="where to store it; by default, results/")
    chosen = parser.parse_args()
    try:
        found = measure(chosen.arch, chosen.only)
    except MissingCompiler as error:
        print(error, file=sys.stderr)
        return 2
    for name, k in found["kernels"].items():
        spilled = k["spill_store_bytes"]
        print(f"{name:44} {k['registers']:4} registers, {spilled} bytes spilled")
    for name, reason in found["not_compiled"].items():
        print(f"{name:44} not compiled: {reason}")
    out = chosen.out
    if out is None and not chosen.only:
        out = RESULTS / f"registers-sm_{chosen.arch}.json"
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print("stored in", out.name)
    return 1 if found["not_compiled"] else 0


if __name__ == "__main__":
    sys.exit(main())
