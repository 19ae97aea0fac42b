"""A module that no package has, such as a benchmark: loaded from where it lies."""

import importlib.util
import sys
from pathlib import Path


def loaded(path, name=None):
    """The module of a file, made anew; known by a name of its own, as data classes need.

    name: by default the names of its folder and its file.
    """
    path = Path(path)
    spec = importlib.util.spec_from_file_location(name or f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
