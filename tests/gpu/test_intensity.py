"""Operations and bytes by formula: as the emulator counts them, and as a model is published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.intensity import LLAMA_3_1_8B, decode_step, matmul, vector_add
from aiinfra_labs.gpu.roofline import roofline


@cuda.jit
def add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def multiply(a, b, c):
    column, row = cuda.grid(2)
    if row < c.shape[0] and column < c.shape[1]:
        total = np.float32(0)
        for k in range(a.shape[1]):
            total += a[row, k] * b[k, column]
        c[row, column] = total


def test_vector_add_is_as_counted():
    n = 4096
    report = cuda.profile(add)[n // 128, 128](*(cuda.to_device(np.ones(n, "f4")) for _ in range(3)))
    work = vector_add(n)
    assert (work.flops, work.nbytes) == (report.flops, report.dram_bytes)
    assert work.intensity == 1 / 12


def test_a_product_is_as_counted_where_the_cache_holds_all():
    m, n, k = 32, 64, 16
    arrays = [cuda.to_device(np.ones(shape, "f4")) for shape in ((m, k), (k, n), (m, n))]
    report = cuda.profile(multiply)[(n // 16, m // 16), (16, 16)](*arrays)
    work = matmul(m, n, k, itemsize=4)
    assert (work.flops, work.nbytes) == (report.flops, report.dram_bytes)


@given(st.integers(1, 4096))
def test_a_square_products_intensity_grows_with_its_side(n):
    assert matmul(n, n, n, 2).intensity == pytest.approx(n / 3)


def test_llamas_weights_are_those_that_were_published():
    # 8.03 B (the model's card) less one table of embeddings, 128256 x 4096, and the norms
    embeddings = LLAMA_3_1_8B.vocabulary * LLAMA_3_1_8B.width
    norms = (2 * LLAMA_3_1_8B.layers + 1) * LLAMA_3_1_8B.width
    assert LLAMA_3_1_8B.weights + embeddings + norms == 8_030_261_248
    assert LLAMA_3_1_8B.kv_bytes() == 131_072


def test_without_context_a_step_has_the_intensity_of_its_batch():
    for batch in (1, 16, 256):
        assert decode_step(LLAMA_3_1_8B, batch, 0).intensity == batch


@given(st.integers(1, 512), st.integers(1, 32_768))
def test_context_bounds_what_a_batch_can_gain(batch, context):
    step = decode_step(LLAMA_3_1_8B, batch, context)
    assert step.intensity < decode_step(LLAMA_3_1_8B, batch + 1, context).intensity
    # per token: the weights' operations and attention's over the bytes of its own KV cache
    m = LLAMA_3_1_8B
    flops = 2 * m.weights + 4 * m.layers * m.heads * m.head_dim * context
    assert step.intensity < flops / (context * m.kv_bytes())


def test_a_long_context_never_reaches_an_h100s_ridge():
    h100 = roofline("h100", "fp16_tensor")
    assert h100.bound_by(decode_step(LLAMA_3_1_8B, 10**6, 2048).intensity) == "memory"
    assert h100.bound_by(decode_step(LLAMA_3_1_8B, 300, 0).intensity) == "compute"
