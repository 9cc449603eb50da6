"""Progress where no terminal is: plain lines, at the end at the latest; nothing where it is not wanted."""

from __future__ import annotations

import pytest

from pal_ds.transfer.extraction.progress import ExtractProgress
from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef


def videos(*sizes: int) -> list[VideoRef]:
    return [
        VideoRef(id=f"{number}", source=f"{number}.mp4", url=f"/v/{number}.mp4", bytes=size)
        for number, size in enumerate(sizes)
    ]


def failed(video: VideoRef) -> VideoFailure:
    return VideoFailure(id=video.id, source=video.source, stage="open", error="gone")


def test_the_last_video_is_told_and_finished_ones_are_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    mine = videos(10, 20, 30)
    with ExtractProgress(mine, {"1"}, visible=True) as progress:
        progress.advance(mine[1], None)
        progress.advance(mine[0], failed(mine[0]))
        assert capsys.readouterr().err == ""
        progress.advance(mine[2], failed(mine[2]))
    assert capsys.readouterr().err == "extract: 2/2 videos (100 % of the bytes), 0 clips/s, 2 failed\n"


def test_nothing_is_said_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    (video,) = videos(10)
    with ExtractProgress([video], (), visible=False) as progress:
        progress.advance(video, failed(video))
    assert capsys.readouterr().err == ""
