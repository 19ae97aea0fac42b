"""A serving engine: many requests on one model. Units 4.2 to 4.6.

    from aiinfra_labs.cloud.serving import LLM, SamplingParams

The names below are vLLM's. They are looked up when they are asked for, so that `import
aiinfra_labs.cloud.serving` costs no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_engine import AsyncEngine
    from .engine import Engine, EngineConfig
    from .errors import LoadError, RequestError, ServingError
    from .llm import LLM
    from .output import CompletionOutput, RequestOutput
    from .sampling_params import SamplingParams

_HOME = {
    "AsyncEngine": "async_engine",
    "CompletionOutput": "output",
    "Engine": "engine",
    "EngineConfig": "engine",
    "LLM": "llm",
    "LoadError": "errors",
    "RequestError": "errors",
    "RequestOutput": "output",
    "SamplingParams": "sampling_params",
    "ServingError": "errors",
}
__all__ = [
    "LLM",
    "AsyncEngine",
    "CompletionOutput",
    "Engine",
    "EngineConfig",
    "LoadError",
    "RequestError",
    "RequestOutput",
    "SamplingParams",
    "ServingError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
