"""One table of every kind of file: what a build makes of it, copies of it, training decodes and extraction reads.

The four agree: each gives the same film, picture for picture, or says in one line why it can't. What a decoder reads
wrongly is refused by copies, and extraction reads it through ffmpeg as a build does; the clip that a transcoding
build makes of it is read alike by all.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pal_ds.data.decode import decode_frames
from pal_ds.formats.tar_samples import SampleMembers, split_samples
from pal_ds.transfer.extraction import ffmpeg_fallback
from pal_ds.transfer.extraction.ffmpeg_fallback import with_frames
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.video_opening import FrameError
from shards.cli import main as pal_shard
from tests.support.clips import make_video
from tests.support.shared_folder import shared_folder
from tests.support.video_kinds import KINDS, make_kinds

pytestmark = pytest.mark.slow

UNINDEXED = "can't be sought by number in its container"
#: kind -> frames at 25 a second in a transcoding build; in a copy the same, or why not; in
#: extraction the same, and why through ffmpeg.
EXPECTED: dict[str, tuple[int, str | None, str | None]] = {
    "plain": (50, None, None),
    "size changes early": (50, UNINDEXED, "its picture changes its size"),
    "size changes late": (50, UNINDEXED, "its picture changes its size"),
    "cover first": (50, "holds a cover picture before the film", "the decoder can't read it"),
    "cover attached": (50, None, None),
    "large picture after": (50, "holds 2 video streams", None),
    "thumbnail first": (50, "holds 2 video streams", None),
    "open GOP, cut": (65, None, None),
    "open GOP, cut, in TS": (84, UNINDEXED, "the decoder can't read it"),
    "clock wraps": (50, UNINDEXED, None),
    "equal time stamps": (50, UNINDEXED, "several frames have the same time stamp"),
    "rotated": (50, None, None),
    "HDR, 10 bit": (50, None, None),
    "gray": (50, None, None),
    "4:4:4, odd sides": (50, None, None),
    "alpha": (50, None, None),
    "alpha in VP9": (50, None, None),
    "interlaced": (50, None, None),
    "anamorphic": (50, "its pixels are not square (2.000)", None),
    "GIF": (50, None, None),
    "variable rate": (50, "its frame rate varies", None),
    "fragmented": (50, None, None),
    "sound outlasts it": (50, None, None),
    "starts late": (50, None, None),
    "two frames": (2, None, None),
    "AV1": (50, None, None),
    "VP9": (50, None, None),
    "FFV1": (50, None, None),
    "MPEG-2": (50, UNINDEXED, "the decoder can't read it"),
}


@dataclasses.dataclass(frozen=True)
class Built:
    """The files, and what builds made of them by file name."""

    folder: Path
    missing: dict[str, str]
    encoded: dict[str, SampleMembers]
    copied: dict[str, SampleMembers]
    rejects: dict[str, str]


def _samples(folder: Path) -> dict[str, SampleMembers]:
    found = [sample for path in folder.glob("*.tar") for sample in split_samples(path.read_bytes())]
    return {sample.record.source: sample for sample in found}


def _make(folder: Path) -> None:
    missing = make_kinds(folder / "files")
    # Several shards, so that builds and verify work on two at a time.
    words = ["--quiet", "--min-frames", "1", "--shard-bytes", "150KB"]
    assert pal_shard(["build", str(folder / "files"), str(folder / "encoded"), *words]) == 0
    assert pal_shard(["build", str(folder / "files"), str(folder / "copied"), "--copy", *words]) == 3
    (folder / "missing.json").write_text(json.dumps(missing))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = shared_folder(tmp_path_factory, "kinds", _make)
    rejects = map(json.loads, (folder / "copied" / "rejects.jsonl").read_text().splitlines())
    return Built(
        folder,
        json.loads((folder / "missing.json").read_text()),
        _samples(folder / "encoded"),
        _samples(folder / "copied"),
        {reject["source"]: reject["error"] for reject in rejects},
    )


def _trained(sample: SampleMembers) -> Tensor:
    """What training decodes: all frames of a clip, [N, 3, H, W]."""
    numbers = list(range(sample.record.frames))
    return decode_frames(sample.video, sample.record, numbers).permute(0, 3, 1, 2)


def _extracted(source: Any, *, fps: float = 0.0) -> tuple[Tensor, FrameStream]:
    stream = FrameStream(source, fps=fps)
    frames = torch.cat([part for _, part in stream.chunks(range(stream.frames))])
    return frames, stream


def _read(path: Path, *, fps: float = 0.0, source: Any = None) -> tuple[Tensor, float]:
    """What extraction reads of a file: all sampled frames, [N, 3, H, W], and the film's seconds."""

    def work(stream: FrameStream) -> tuple[Tensor, float]:
        return torch.cat([part for _, part in stream.chunks(range(stream.frames))]), stream.duration

    return with_frames(lambda: source or str(path), work, name=path.name, fps=fps)


def _same_film(found: Tensor, wanted: Tensor) -> None:
    """Each of some frames looks more like the one of its number than like any near it."""
    small = [
        F.interpolate(film.float(), size=(36, 48), mode="bilinear", antialias=True)
        for film in (found, wanted)
    ]
    for number in {0, 1, len(wanted) // 3, len(wanted) // 2, len(wanted) - 1}:
        near = range(max(0, number - 4), min(len(wanted), number + 5))
        distance = {other: float((small[0][number] - small[1][other]).abs().mean()) for other in near}
        # A frame that stays on screen is the same under several numbers.
        assert distance[number] <= min(distance.values()) + 0.1, distance
        assert distance[number] < 12, distance


@pytest.mark.parametrize("kind", KINDS)
def test_four_readers_agree(kind: str, built: Built, caplog: pytest.LogCaptureFixture) -> None:
    if kind in built.missing:
        pytest.skip(built.missing[kind])
    name = KINDS[kind][0]
    frames, no_copy, misread = EXPECTED[kind]
    encoded = built.encoded[name]
    record = encoded.record
    assert (record.frames, record.fps) == (frames, 25.0)
    film = _trained(encoded)
    # Extraction from the set that was built of it.
    again, stream = _extracted(encoded.video)
    assert (len(again), stream.fps) == (frames, 25.0)
    assert torch.equal(again, film)
    if no_copy is None:
        copy = built.copied[name]
        assert (copy.record.frames, copy.record.fps) == (frames, pytest.approx(25.0, rel=1e-3))
        assert copy.video == (built.folder / "files" / name).read_bytes()
        _same_film(_trained(copy), film)
    else:
        assert name not in built.copied
        assert no_copy in built.rejects[name]
        assert "use a transcoding profile" in built.rejects[name]
    path = built.folder / "files" / name
    # Of a varying rate only sampling by time gives the film; native sampling says so, see below.
    for fps in (25.0,) if kind == "variable rate" else (0.0, 25.0) if misread else (0.0,):
        found, duration = _read(path, fps=fps)
        assert duration == pytest.approx(frames / 25, abs=1 / 25)
        assert len(found) == frames
        _same_film(found, film)
    said = [record.getMessage() for record in caplog.records if "ffmpeg" in record.getMessage()]
    assert len(said) == (2 if misread else 0)
    for line in said:
        assert line.startswith(f"{name}: read through ffmpeg, since ")
        assert misread in line
        assert "\n" not in line


def test_without_ffmpeg_misread_files_are_refused_in_one_line(
    built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind, (_, _, misread) in EXPECTED.items():
        if misread and kind not in built.missing:
            path = built.folder / "files" / KINDS[kind][0]
            with pytest.raises(FrameError, match=misread) as caught:
                _read(path)
            assert "ffmpeg would read most such files" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_ffmpeg_that_takes_too_long_is_ended_and_leaves_nothing(
    built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ffmpeg_fallback, "TIMEOUT_SECONDS", 0.001)
    monkeypatch.setattr(ffmpeg_fallback, "_SECONDS_PER_SECOND", 0.0)
    with pytest.raises(FrameError, match=r"several frames .*; ffmpeg can't read it either \(timed out\)"):
        _read(built.folder / "files" / KINDS["equal time stamps"][0])
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_jumps_ahead_is_set_right_by_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "jumps.flv"
    make_video(path, size="96x72", extra=("-output_ts_offset", "-1", "-avoid_negative_ts", "disabled"))
    with pytest.raises(FrameError, match="its clock jumps: 50 frames in 214748"):
        FrameStream(str(path), fps=25.0)
    found, duration = _read(path, fps=25.0)
    assert (len(found), duration) == (50, pytest.approx(2.0))


def test_half_a_file_is_refused_as_a_build_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "half.mp4"
    make_video(path, seconds=4, size="96x72", extra=("-movflags", "+faststart"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        FrameError, match=r"can't read it .*; only \d\.\d of 4\.0 s can be decoded: truncated\?"
    ):
        _read(path)


def test_bytes_and_streams_are_read_through_ffmpeg_too(built: Built) -> None:
    path = built.folder / "files" / KINDS["equal time stamps"][0]
    wanted, _ = _read(path)
    for source in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        found, _ = _read(path, source=source)
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("which", ["encoded", "copied"])
def test_verify_decodes_what_training_does(which: str, built: Built) -> None:
    assert pal_shard(["verify", str(built.folder / which), "--decode", "--quiet"]) == 0


def test_a_varying_rate_is_told_by_native_sampling(built: Built) -> None:
    _, stream = _extracted(str(built.folder / "files" / KINDS["variable rate"][0]))
    assert stream.max_time_error > 0.5


def test_anamorphic_frames_are_prepared_with_square_pixels(built: Built) -> None:
    from pal_ds.transfer.backbone_export import load_backbone
    from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder

    backbone, spec = load_backbone("random:i3d@0.125")
    encoder = ClipEncoder(backbone, spec, device=torch.device("cpu"))
    name = KINDS["anamorphic"][0]
    found, stream = _extracted(str(built.folder / "files" / name))
    square = encoder.prepare(found[:1], pixel_aspect=stream.pixel_aspect)
    wanted = encoder.prepare(_trained(built.encoded[name])[:1])
    assert square.shape == wanted.shape
    assert float((square.float() - wanted.float()).abs().mean()) < 8
