"""Numba-CUDA's own test-suite as the referee of the emulator.

`python tests/gpu/referee.py` runs `numba.cuda.tests.cudapy`, which ships inside numba-cuda, twice:
on Numba's simulator as it is, and with the emulator in the simulator's place. It prints how many
tests of each module pass on either and why the two differ. `--write` keeps the result in
`benchmarks/results/referee.json`; names of modules run only these.

Each module runs in a process of its own, forked from one that has imported Numba. Where the suite
skips a test only because the simulator cannot do it, the emulator runs it (`SIMULATOR_ONLY`).
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import importlib
import io
import json
import linecache
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SUITE = "numba.cuda.tests.cudapy"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "referee.json"
SECONDS_A_TEST, SECONDS_A_MODULE = 30, 240

# Reasons for which the suite skips a test on the simulator and that say nothing of the emulator.
# All others name what no machine without a GPU has: PTX, debug information, linking, caches.
SIMULATOR_ONLY = (
    "Warp Operations are not yet implemented",
    "syncwarp not implemented",
    "ufunc API unsupported",
    "ufuncs are unsupported",
    "API unsupported in the simulator",
    "Device Array API unsupported",
    "Structured array attr access",
    "Struct model array",
    "Libdevice functions",
    "Requires too many threads",
    "no .copy_to_host()",
    "skip test for speed",
    "Global device array capture",
    "Simulator does not prohibit lists",
    "trunc only supported",
    "numpy does not support trunc",
    "math.remainder(0, 0)",
    "Overflow behavior differs",
    "ignores casting by jit",
    "does not force casting",
    "Simulator ignores signature",
    "only get given a Python",
    "Numba and NumPy stride semantics",
    "disabled for cudasim",
    "doesn't differentiate between normal and cooperative",
    "PTX inspection not available in cudasim",
    "Overloading not supported in cudasim",
    "Can't check typing in simulator",
    "unlimited output",
    "multiple threads",
)

# Why the emulator does not pass what the simulator passes, by module or by test.
REASONS = {
    "test_array_alignment": "tests that the simulator refuses alignment=; the emulator takes it",
    "test_array_methods.TestCudaArrayMethods.test_array_copy": "copy() in a kernel needs Numba's "
    "run-time memory, which the course does not use",
    "test_datetime": "datetime64 is not among the dtypes that the emulator has",
    "test_enums.EnumTest.test_compare": "a member of an enum is known by its value, so that those "
    "of two enums with one value are the same",
    "test_errors": "tests the words of Numba's errors; the emulator has its own",
    "test_exception.TestException.test_exception": "tests the words of Python's IndexError",
    "test_exception.TestException.test_zero_division_error_in_debug": "debug=True adds no check of "
    "division: the result is inf or nan, as without it",
    "test_forall.TestForAll.test_forall_negative_work": "tests the words of Numba's error",
    "test_make_function_to_jit_function.TestMakeFunctionToJITFunction.test_with_overload": "an "
    "overload that is given a function defined in the kernel",
    "test_print.TestPrint.test_too_many_args": "tests the words of a warning of Numba's",
    "test_ssa.TestSSA.test_unhandled_undefined": "returns numbers in some threads and nothing in "
    "others",
}


def reason(test: str) -> str:
    """The reason for a difference, by the name `module.Class.test`."""
    return REASONS.get(test) or REASONS.get(test.split(".")[0], "")


def modules() -> list[str]:
    """The suite's modules, by name."""
    package = importlib.import_module(SUITE)
    return sorted(path.stem for path in Path(package.__path__[0]).glob("test_*.py"))


# --- the emulator in the simulator's place ---------------------------------------------------


def put_emulator_in_place() -> None:
    """Replace the names of `numba.cuda`, which are the simulator's, by the emulator's."""
    import numba
    import numba.cuda
    from numba.cuda import compiler, extending, testing
    from numba.cuda.simulator import vector_types

    from aiinfra_labs.gpu import emulator

    for name in emulator.__all__:
        setattr(numba.cuda, name, getattr(emulator, name))
    for name, theirs in vector_types.vector_types.items():
        theirs.user_facing_object = getattr(emulator, name)
    numba.cuda.jit = jit
    numba.vectorize, numba.guvectorize = emulator.vectorize, emulator.guvectorize
    sys.modules["numba.cuda.random"] = emulator.random
    extending.overload = overload
    compiler.compile_ptx = compile_ptx
    testing.skip_on_cudasim = skip_on_cudasim
    subprocess.run = _emulated_process(subprocess.run)
    builtins.exec = exec_with_source
    _show_arrays()
    _declare_structures()


def jit(*args: Any, **options: Any) -> Any:
    """`cuda.jit`; an error that it finds by the signature's types is Numba's `TypingError`."""
    from numba.core.errors import TypingError

    from aiinfra_labs.gpu import emulator

    def told(make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            try:
                made = make(*given, **named)
            except emulator.EmulatorError as error:
                raise TypingError(str(error)) from error
            return made if isinstance(made, emulator.lanes.dispatch.Kernel) else told(made)

        return call

    return told(emulator.jit)(*args, **options)


def overload(function: Any, **options: Any) -> Callable[[Any], Any]:
    """Numba's `overload`: `choose` gives the function that stands for `function` by the types."""
    from numba.cuda import types
    from numba.cuda.np.numpy_support import from_dtype

    from aiinfra_labs.gpu.emulator.api import intrinsics
    from aiinfra_labs.gpu.emulator.lanes import dispatch
    from aiinfra_labs.gpu.emulator.lanes.views import ArrayView
    from aiinfra_labs.gpu.emulator.translation.calling import call_value

    def typeof(value: Any) -> Any:
        if isinstance(value, ArrayView):
            return types.Array(from_dtype(value.dtype), value.ndim, "A")
        if isinstance(value, tuple):
            return types.BaseTuple.from_types(tuple(map(typeof, value)))
        return from_dtype(value.dtype) if hasattr(value, "dtype") else value

    def decorate(choose: Callable[..., Any]) -> Callable[..., Any]:
        kernels: dict[Any, Any] = {}

        def run(machine: Any, mask: Any, line: Any, site: int, *args: Any, **named: Any) -> Any:
            chosen = choose(*map(typeof, args), **{k: typeof(v) for k, v in named.items()})
            kernel = kernels.setdefault(chosen.__code__, dispatch.Kernel(chosen, device=True))
            return call_value(machine, mask, kernel, args, named, line, site)

        intrinsics.alias(function, intrinsics.Intrinsic(function.__name__, run, site=True))
        return choose

    return decorate


def compile_ptx(function: Any, signature: Any, **options: Any) -> tuple[str, Any]:
    """What the emulator makes of a kernel; PTX needs Numba's compiler."""
    return jit(signature)(function).function.translation.source, None


def _show_arrays() -> None:
    """What a test asks of compiled code, lane code answers: where arrays lie, their dtypes."""
    from numba.cuda.np.numpy_support import from_dtype

    from aiinfra_labs.gpu.emulator.lanes import dispatch

    def annotation(overload: Any) -> Any:
        def type_of(view: Any) -> Any:
            return _STRUCTURES.get(view.dtype) or from_dtype(view.dtype)

        typemap = {a.name: types.SimpleNamespace(dtype=type_of(a)) for a in overload.arrays}
        return types.SimpleNamespace(typemap=typemap)

    def inspect(kernel: Any, signature: Any = None) -> Any:
        arrays = [a for o in kernel.overloads.values() for a in o.arrays]
        listed = "".join(f".{a.space} {a.name}: {a.dtype}{list(a.shape)}\n" for a in arrays)
        text = listed + kernel.function.translation.source
        return text if signature is not None else dict.fromkeys(kernel.overloads, text)

    dispatch.Overload._type_annotation = property(annotation)
    dispatch.Kernel.inspect_asm = dispatch.Kernel.inspect_llvm = inspect


_STRUCTURES: dict[Any, Any] = {}  # Numba's type of a record that the suite declares by extension


def _declare_structures() -> None:
    """The suite's `MyStruct`, which it declares to Numba's compiler: two int32, x and y."""
    from numba.cuda.tests.cudapy import extensions_usecases as usecases

    from aiinfra_labs.gpu.emulator.api import arrays, intrinsics
    from aiinfra_labs.gpu.emulator.translation.values import Literal

    record = np.dtype([("x", np.int32), ("y", np.int32)])
    usecases.StructModelType.dtype = record
    _STRUCTURES[record] = usecases.struct_model_type

    def make(machine: Any, mask: Any, line: Any, site: int, x: Any, y: Any) -> Any:
        made = arrays.local.array.run(machine, mask, line, site, Literal(1), record)
        element = machine.load(mask, made, (np.int64(0),), line)
        machine.store_field(mask, element, "x", x, line)
        machine.store_field(mask, element, "y", y, line)
        return element

    intrinsics.alias(usecases.MyStruct, intrinsics.Intrinsic("MyStruct", make, site=True))


def _emulated_process(run: Callable[..., Any]) -> Callable[..., Any]:
    """Python code that a test runs in a process of its own has the emulator there, too."""
    door = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    door += "import referee; referee.put_emulator_in_place()\n"

    def emulated(command: Any, *args: Any, **options: Any) -> Any:
        if "-c" in command:
            at = command.index("-c") + 1
            code = f"{door}exec({command[at]!r}, globals())"
            command = [*command[:at], code, *command[at + 1 :]]
        return run(command, *args, **options)

    return emulated


def exec_with_source(source: Any, *scopes: Any) -> None:
    """`exec` that keeps the text of what it runs: the emulator reads sources, Numba bytecode."""
    if isinstance(source, str):
        file = f"<kernel {len(linecache.cache)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        source = compile(source, file, "exec")
    if not scopes:
        frame = sys._getframe(1)
        scopes = (frame.f_globals, frame.f_locals)
    _exec(source, *scopes)


_exec = exec


def skip_on_cudasim(reason: str) -> Callable[[Any], Any]:
    runs = any(known in reason for known in SIMULATOR_ONLY)
    return unittest.skipIf(not runs, reason)


# --- one module in one process ---------------------------------------------------------------


class _TooSlow(Exception):
    """A test ran past its time."""


class _Record(unittest.TestResult):
    """Notes each test's outcome as it ends, so that a crash loses only one."""

    def __init__(self, send: Callable[[tuple[str, str, str]], None]):
        super().__init__()
        self.send = send
        self.outcome: tuple[str, str] = ("passed", "")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome = ("passed", "")
        signal.alarm(SECONDS_A_TEST)

    def stopTest(self, test: unittest.TestCase) -> None:
        signal.alarm(0)
        self.send((_name(test), *self.outcome))
        super().stopTest(test)

    def addSubTest(self, test: unittest.TestCase, subtest: Any, error: Any) -> None:
        if error is not None:
            self.outcome = ("failed", _last_line(error))

    def addError(self, test: Any, error: Any) -> None:
        if isinstance(test, unittest.TestCase):
            self.outcome = ("failed", _last_line(error))
        else:  # a module or a class that could not be set up
            self.send((str(test), "failed", _last_line(error)))

    addFailure = addError

    def addSkip(self, test: Any, reason: str) -> None:
        self.outcome = ("skipped", reason)
        if not isinstance(test, unittest.TestCase):
            self.send((str(test), "skipped", reason))

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.outcome = ("failed", "passes, though the suite expects it to fail")


def _name(test: unittest.TestCase) -> str:
    return ".".join(test.id().split(".")[-2:])


def _last_line(error: Any) -> str:
    kind, value, _ = error
    lines = str(value).strip().splitlines() or [""]
    told = re.sub(r"(/[\w.+-]+)+/", "", lines[0])  # a file by its name alone, wherever it lies
    return f"{kind.__name__}: {told}"[:300]


def _too_slow(*_: Any) -> None:
    raise _TooSlow(f"more than {SECONDS_A_TEST} s")


def _run_module(module: str, emulated: bool, sender: Any, verbose: bool) -> None:
    signal.signal(signal.SIGALRM, _too_slow)
    if emulated:
        put_emulator_in_place()
    quiet = contextlib.nullcontext() if verbose else _silence()
    with quiet:
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(f"{SUITE}.{module}")
        except unittest.SkipTest as skipped:
            sender.send(("(the module)", "skipped", str(skipped)))
            suite = unittest.TestSuite()
        suite.run(_Traced(sender.send) if verbose else _Record(sender.send))
    sender.send(None)


class _Traced(_Record):
    """Shows each failure in full."""

    def addError(self, test: Any, error: Any) -> None:
        super().addError(test, error)
        print(f"--- {test}\n{self._exc_info_to_string(error, test)}", file=sys.stderr)

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: Any, error: Any) -> None:
        super().addSubTest(test, subtest, error)
        if error is not None:
            print(f"--- {subtest}\n{self._exc_info_to_string(error, test)}", file=sys.stderr)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


Outcomes = dict[str, tuple[str, str]]  # of a test: passed, failed or skipped; and why


def run_module(module: str, emulated: bool, verbose: bool = False) -> Outcomes:
    """The outcome of each test of a module, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run_module, args=(module, emulated, sender, verbose))
    child.start()
    sender.close()
    outcomes: Outcomes = {}
    while receiver.poll(SECONDS_A_MODULE):
        try:
            message = receiver.recv()
        except EOFError:
            outcomes["(the process)"] = ("failed", "ended before its tests did")
            break
        if message is None:
            break
        name, outcome, why = message
        outcomes[name] = (outcome, why)
    child.join(1)
    if child.is_alive():
        child.kill()
        child.join()
    return outcomes


# --- the table -------------------------------------------------------------------------------


def run(chosen: list[str], emulated_only: bool = False, verbose: bool = False) -> dict[str, Any]:
    """Both runs of the modules: for each test its outcome on the simulator and on the emulator."""
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    import numba.cuda.testing  # noqa: F401  once, for all modules

    found: dict[str, Any] = {}
    for module in chosen or modules():
        simulator = {} if emulated_only else run_module(module, emulated=False)
        emulator = run_module(module, emulated=True, verbose=verbose)
        tests = {}
        for name in sorted({*simulator, *emulator}):
            tests[name] = {
                "simulator": simulator.get(name, ("absent", ""))[0],
                "emulator": emulator.get(name, ("absent", ""))[0],
                "why": emulator.get(name, ("", ""))[1],
            }
            if simulator.get(name, ("",))[0] == "passed" != tests[name]["emulator"]:
                tests[name]["reason"] = reason(f"{module}.{name}")
        found[module] = tests
        print(_row(module, tests), flush=True)
    return found


def _row(module: str, tests: dict[str, Any]) -> str:
    counts = {door: _passed(tests, door) for door in ("simulator", "emulator")}
    lost = [name for name, t in tests.items() if _lost(t)]
    row = f"{module:38} {counts['simulator']:5} {counts['emulator']:5} {len(lost):5}"
    return "\n".join([row, *(f"    {name}: {tests[name]['why']}" for name in lost)])


def _passed(tests: dict[str, Any], door: str) -> int:
    return sum(t[door] == "passed" for t in tests.values())


def _lost(test: dict[str, str]) -> bool:
    """The simulator passes it, or the emulator tried it, and the emulator fails."""
    return test["emulator"] != "passed" and (
        test["simulator"] == "passed" or test["emulator"] == "failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="test modules, such as test_atomics")
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULTS.name}")
    parser.add_argument("--emulator", action="store_true", help="run the emulator alone")
    parser.add_argument("--verbose", action="store_true", help="show each failure in full")
    options = parser.parse_args()
    print(f"{'module':38} {'sim':>5} {'emu':>5} {'lost':>5}")
    found = run(options.modules, options.emulator, options.verbose)
    everything = {f"{m}.{n}": t for m, tests in found.items() for n, t in tests.items()}
    print(_row("all", everything).splitlines()[0])
    if options.write:
        record = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("numba", "numba-cuda", "numpy")},
            "modules": found,
        }
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
