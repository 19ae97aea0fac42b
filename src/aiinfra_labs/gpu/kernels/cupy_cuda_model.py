"""The kernels of unit 3.2 in CuPy, each twice: element-wise, and raw CUDA C.

Unit 3.2. Element-wise, CuPy makes the grid, the index and the bounds check; raw, all three are
ours. `import cupy` works without a GPU and the first array fails, so nothing here imports CuPy
until it is called, and `missing()` says why it cannot be. All arrays are CuPy's, C-contiguous.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from .cuda_model import blocks_for, blocks_for_image

if TYPE_CHECKING:
    import cupy

THREADS = 256  # threads of a block on one axis
BLOCK = (32, 8)  # and on two: a warp takes 32 pixels of a row

CUDA_C = r"""
extern "C" {  // the plain names, for get_function

__global__ void vector_add(const float *a, const float *b, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}

__global__ void saxpy(float alpha, const float *x, float *y, int n) {
    int first = blockIdx.x * blockDim.x + threadIdx.x;
    for (int i = first; i < n; i += blockDim.x * gridDim.x) y[i] = alpha * x[i] + y[i];
}

__global__ void grey(const unsigned char *rgb, float *out, int rows, int columns) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row < rows && column < columns) {
        const unsigned char *pixel = rgb + 3 * (row * columns + column);
        out[row * columns + column] = 0.299f * pixel[0] + 0.587f * pixel[1] + 0.114f * pixel[2];
    }
}

__global__ void blur(const float *image, float *out, int rows, int columns) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row < rows && column < columns) {
        float total = 0;
        int inside = 0;
        for (int r = max(row - 1, 0); r < min(row + 2, rows); r++)
            for (int c = max(column - 1, 0); c < min(column + 2, columns); c++) {
                total += image[r * columns + c];
                inside++;
            }
        out[row * columns + column] = total / inside;
    }
}

}
"""


def missing() -> str:
    """Why CuPy cannot run here, in a few words; empty where it can."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported ({error})"
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA finds no device ({error})"
    return "" if devices else "CUDA finds no device"


# --- raw: compiled by NVRTC at the first call, launched by grid, block and arguments -------------


@functools.cache
def raw(name: str) -> cupy.RawKernel:
    """A kernel of CUDA_C: `raw(name)(grid, block, arguments)`.

    A Python int would be passed as 64 bits: an `int` of C takes a np.int32, a `float` a np.float32.
    """
    import cupy

    return cupy.RawModule(code=CUDA_C).get_function(name)


def vector_add_raw(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """a + b. a, b: float32 [n], fewer than 2**31."""
    import cupy

    out = cupy.empty_like(a)
    grid = (blocks_for(a.size, THREADS),)
    raw("vector_add")(grid, (THREADS,), (a, b, out, np.int32(a.size)))
    return out


def saxpy_raw(alpha: float, x: cupy.ndarray, y: cupy.ndarray, blocks: int = 132) -> None:
    """y = alpha * x + y, in place, by `blocks` blocks (an H100 has 132 multiprocessors).

    x, y: float32 [n], n small enough that n + blocks * 256 is below 2**31.
    """
    raw("saxpy")((blocks,), (THREADS,), (np.float32(alpha), x, y, np.int32(y.size)))


def grey_raw(rgb: cupy.ndarray) -> cupy.ndarray:
    """Each pixel's brightness, float32 [rows, columns]. rgb: uint8 [rows, columns, 3]."""
    import cupy

    out = cupy.empty(rgb.shape[:2], np.float32)
    raw("grey")(blocks_for_image(rgb.shape, BLOCK), BLOCK, (rgb, out, *_int32(out.shape)))
    return out


def blur_raw(image: cupy.ndarray) -> cupy.ndarray:
    """The mean of 3 x 3 pixels. image: float32 [rows, columns]. Returns the same."""
    import cupy

    out = cupy.empty_like(image)
    raw("blur")(blocks_for_image(image.shape, BLOCK), BLOCK, (image, out, *_int32(out.shape)))
    return out


def _int32(lengths: tuple[int, ...]) -> tuple[np.int32, ...]:
    return tuple(map(np.int32, lengths))


# --- element-wise: one expression of C for one element; CuPy loops over the rest -----------------


@functools.cache
def elementwise(name: str, inputs: str, outputs: str, body: str) -> cupy.ElementwiseKernel:
    """`cupy.ElementwiseKernel`, made once."""
    import cupy

    return cupy.ElementwiseKernel(inputs, outputs, body, name)


def vector_add_elementwise(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """a + b, of any shape and dtype; the operator `+` of CuPy is a kernel of this kind."""
    return elementwise("vector_add_elementwise", "T a, T b", "T out", "out = a + b")(a, b)


def saxpy_elementwise(alpha: float, x: cupy.ndarray, y: cupy.ndarray) -> None:
    """y = alpha * x + y, in place."""
    inputs, body = "T alpha, T x, T y", "out = alpha * x + y"
    elementwise("saxpy_elementwise", inputs, "T out", body)(y.dtype.type(alpha), x, y, y)


def grey_elementwise(rgb: cupy.ndarray) -> cupy.ndarray:
    """The brightness of each pixel: three strided views in, one array out."""
    body = "out = 0.299f * r + 0.587f * g + 0.114f * b"
    kernel = elementwise("grey_elementwise", "uint8 r, uint8 g, uint8 b", "float32 out", body)
    return kernel(rgb[..., 0], rgb[..., 1], rgb[..., 2])


_BLUR = """
int row = i / columns, column = i % columns, inside = 0;
T total = 0;
for (int r = max(row - 1, 0); r < min(row + 2, rows); r++)
    for (int c = max(column - 1, 0); c < min(column + 2, columns); c++) {
        total += image[r * columns + c];
        inside++;
    }
out = total / inside;
"""  # `i` is CuPy's own number of the element; `raw T image` may be read at any index


def blur_elementwise(image: cupy.ndarray) -> cupy.ndarray:
    """The mean of 3 x 3 pixels. An element-wise kernel may read its neighbours, too, if asked."""
    import cupy

    inputs = "raw T image, int32 rows, int32 columns"
    kernel = elementwise("blur_elementwise", inputs, "T out", _BLUR)
    return kernel(image, *_int32(image.shape), cupy.empty_like(image))


# --- all of them at once -------------------------------------------------------------------------


def differences(rgb: np.ndarray) -> dict[str, float]:
    """The largest difference of each CuPy kernel from the Numba kernel of `cuda_model`.

    rgb: uint8 [rows, columns, 3], on the host. A difference in the last bit is no error: CUDA's
    compilers contract a product and a sum to one rounding.
    """
    import cupy

    from . import cuda_model as numba_kernels

    grid = blocks_for_image(rgb.shape, BLOCK)
    brightness, blurred = (np.empty(rgb.shape[:2], np.float32) for _ in range(2))
    numba_kernels.grey[grid, BLOCK](rgb, brightness)
    numba_kernels.blur[grid, BLOCK](brightness, blurred)
    a, b = brightness.ravel(), blurred.ravel()
    total, scaled = np.empty_like(a), b.copy()
    numba_kernels.vector_add[blocks_for(a.size, THREADS), THREADS](a, b, total)
    numba_kernels.saxpy[132, THREADS](np.float32(2.5), a, scaled)

    d_rgb, d_image = cupy.asarray(rgb), cupy.asarray(brightness)
    d_a, d_b = cupy.asarray(a), cupy.asarray(b)
    found: dict[str, Any] = {
        "vector_add, element-wise": (vector_add_elementwise(d_a, d_b), total),
        "vector_add, raw": (vector_add_raw(d_a, d_b), total),
        "grey, element-wise": (grey_elementwise(d_rgb), brightness),
        "grey, raw": (grey_raw(d_rgb), brightness),
        "blur, element-wise": (blur_elementwise(d_image), blurred),
        "blur, raw": (blur_raw(d_image), blurred),
    }
    for name, update in (("saxpy, element-wise", saxpy_elementwise), ("saxpy, raw", saxpy_raw)):
        y = d_b.copy()
        update(2.5, d_a, y)
        found[name] = (y, scaled)
    return {name: float(abs(cupy.asnumpy(got) - want).max()) for name, (got, want) in found.items()}
