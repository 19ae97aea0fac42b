"""The script that asks NVIDIA's compilers: what it reads, and what it says where they are not."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def registers(root):
    sys.path.insert(0, str(root / "benchmarks"))  # as for a script of that folder
    try:
        import registers

        yield registers
    finally:
        sys.path.remove(str(root / "benchmarks"))


PTX = """
.visible .entry first(
	.param .u64 a
)
{
	ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1];
	@%p1 st.shared.f32 	[%rd2], %f1;
	fma.rn.f32 	%f5, %f1, %f2, %f3;
	fma.rn.f32 	%f5, %f1, %f2, %f5;
	add.s64 	%rd3, %rd4, %rd5;
	bar.sync 	0;
	ret;
}
.visible .entry second() {
	ret;
}
"""


def a_kernel(doc, parameters="a, b"):
    namespace = {}
    exec(f"def kernel({parameters}): pass", namespace)
    namespace["kernel"].__doc__ = doc
    return SimpleNamespace(py_func=namespace["kernel"])


def test_types_are_read_from_the_docstring(registers):
    kernel = a_kernel(
        "c = a + b.\n\n    a, b: float32 [M, K]. k: int32. x: uint8 [n].", "a, b, k, x"
    )
    assert registers.signature_of("m.kernel", kernel) == (
        "float32[:, ::1], float32[:, ::1], int32, uint8[::1]"
    )


def test_a_type_that_nobody_says_is_not_guessed(registers):
    assert registers.signature_of("m.kernel", a_kernel("a: float32 [n]. b: [n].")) is None


def test_every_kernel_of_this_unit_and_the_one_before_says_its_types(registers):
    from numba import cuda

    found = {
        name: registers.signature_of(name, kernel)
        for only in ("matmul", "cuda_model")
        for name, kernel in registers.kernels(cuda, only)
        if not isinstance(kernel, str)
    }
    assert {"matmul.matmul_naive", "cuda_model.saxpy"} <= set(found)
    assert [name for name, signature in found.items() if signature is None] == []


def test_it_leaves_the_course_with_the_door_it_had(registers):
    from numba import cuda

    from aiinfra_labs.gpu import emulator
    from aiinfra_labs.gpu.kernels import matmul

    registers.kernels(cuda, "matmul")
    from aiinfra_labs.gpu.kernels import matmul as again

    assert again is matmul and matmul.cuda is emulator


def test_instructions_are_counted_for_each_kernel_of_a_text(registers):
    bodies = dict(registers._bodies(PTX))
    assert registers._instructions(bodies["first"]) == {
        "bar.sync": 1,
        "fma.rn.f32": 2,
        "ld.global.v4.f32": 1,
        "st.shared.f32": 1,
    }
    assert registers._instructions(bodies["second"]) == {}


def test_without_a_compiler_it_says_so_in_one_line(registers, monkeypatch, capsys):
    monkeypatch.setattr(registers, "tool", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["registers.py"])
    assert registers.main() == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("ptxas is not installed here")
    assert said.out == ""


def test_a_kernel_is_compiled_where_the_compilers_are(registers, root, tmp_path):
    try:
        registers.need_compilers()
    except registers.MissingCompiler as error:
        pytest.skip(str(error))
    out = tmp_path / "registers.json"
    command = [sys.executable, str(root / "benchmarks" / "registers.py"), "--only", "cuda_model"]
    subprocess.run([*command, "--out", str(out)], check=True)
    found = json.loads(out.read_text())
    add = found["kernels"]["cuda_model.vector_add"]
    assert 8 <= add["registers"] <= 64 and add["spill_store_bytes"] == 0
    assert add["ptx"]["ld.global.f32"] == 2 and add["ptx"]["st.global.f32"] == 1
