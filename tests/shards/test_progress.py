"""Plain progress lines: what was counted, once."""

from __future__ import annotations

import pytest

from shards import progress
from shards.progress import Progress


def test_the_end_is_said_once_and_bytes_only_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    with Progress(2, label="videos") as shown:
        shown.clip(0)
        shown.clip(0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["1/2", "2/2"]
    assert "MB/s" not in lines[-1]
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 1e9)
    with Progress(2) as shown:
        shown.clip(3_000_000)
        shown.reject("probe")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("2/2 clips")
    assert "MB/s" in line and "rejected: probe 1" in line


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1, quiet=True) as shown:
        shown.clip(1)
        shown.note("words")
    assert capsys.readouterr().err == ""
