"""A corpus of a few tiny videos, made once for all tests of this folder."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

_MISSING = [
    what
    for what, found in (
        ("pybullet (pip install pybullet)", importlib.util.find_spec("pybullet_data")),
        ("pillow (pip install pillow)", importlib.util.find_spec("PIL")),
        ("ffmpeg", shutil.which("ffmpeg")),
    )
    if not found
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder, with the reason, where what they need isn't installed."""
    if not _MISSING:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(_MISSING)}"))


@pytest.fixture(scope="session")
def little() -> Iterator[str]:
    """Name of a size with 36 clips and 4 long videos of 32 pixels at 2 frames a second."""
    from corpora.mocap.corpus_plan import SIZES, Size

    SIZES["test"] = Size(train=1, val=1, long_train=2, long_val=2, longest=34.0, fps=2, short_side=32)
    yield "test"
    del SIZES["test"]


@pytest.fixture(scope="session")
def corpus(little: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus; tests must not change it."""
    from corpora.mocap.build import build

    root = tmp_path_factory.mktemp("pal-mocap") / "corpus"
    build(root, little, 7, 1)
    return root
