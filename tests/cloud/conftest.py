import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for what tests share: pytest imports by path alone

from random_checkpoints import FAMILIES, saved

from aiinfra_labs.cloud.serving import loader


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def family(request, tmp_path_factory):
    """(transformers' model, ours) with the same random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs = saved(request.param, folder)
    return theirs, loader.load(folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """(transformers' Llama, ours, the folder)."""
    folder = tmp_path_factory.mktemp("one-llama")
    theirs = saved("llama", folder)
    return theirs, loader.load(folder), folder
