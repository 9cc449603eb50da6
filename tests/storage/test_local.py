"""Local places that can't be written say why, and leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pal_ds import storage
from pal_ds.storage import StorageAccessError, StorageError


def test_a_folder_in_the_place_of_the_file_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match=r"out: is a folder: give the name of a file"):
        storage.write_bytes(str(tmp_path / "out"), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("place", ["file/x", "file/deep/x"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"/file is a file, no folder"):
        storage.write_bytes(str(tmp_path / place), b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StorageAccessError, match="no permission"):
        storage.write_bytes(str(tmp_path / "closed/x"), b"x")
