"""Numba's compiler on a kernel that passed its check: does it compile for a GPU, too? Unit 3.2.

The emulator refuses what Numba refuses, as far as it knows; here Numba itself is asked. It is
imported when the first kernel has passed, and each kernel takes a tenth of a second or so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiinfra_labs.course import opinions
from aiinfra_labs.course.opinions import Opinion
from aiinfra_labs.course.parts import Parts
from aiinfra_labs.gpu import compiled

MOST = 4  # versions of the kernels of one answer that are compiled: each has its types
COMPILED = "Numba's compiler takes it for a GPU, too"


@contextmanager
def watch() -> Iterator[Callable[[], Opinion]]:
    """Notes the learner's own kernels that a check launches."""
    with compiled.launches() as launched:
        yield lambda: _opinion(launched)


def _opinion(launched: compiled.Launched) -> Opinion:
    own = [
        (kernel, args)
        for kernel, args in launched.kernels.values()
        if not str(kernel.py_func.__module__).startswith("aiinfra_labs.")
    ][:MOST]
    if not own or compiled.missing():
        return Opinion()
    try:
        for kernel, args in own:
            compiled.compile_kernel(kernel, args)
    except compiled.Refused as error:
        return Opinion("", Parts(error.what, error.why, error.try_), "compiles for a GPU")
    return Opinion(COMPILED)


opinions.give("3", watch)
