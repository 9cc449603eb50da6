"""Feature values and their times: streamed extraction against plain recomputation and against ffmpeg's cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchcodec.decoders import VideoDecoder

from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction import frame_stream as frames_module
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline.clip_grid import ClipGrid, count_clips, cut_clips
from pal_ds.transfer.extraction.video_source import list_videos
from tests.support.extract_fixtures import ffmpeg, make_video, write_checkpoint


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    run = tmp_path_factory.mktemp("run")
    write_checkpoint(run)
    return ClipEncoder(*load_backbone(str(run)))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "v_a.mp4", seconds=4.0)


def stream_features(
    video: Path,
    encoder: ClipEncoder,
    *,
    clip_frames: int = 8,
    stride: int = 8,
    batch: int = 4,
    fps: float = 0.0,
) -> torch.Tensor:
    stream = FrameStream(str(video), fps=fps)
    grid = ClipGrid.of(stream.frames, clip_frames, stride)
    clips = [clip for chunk in cut_clips(stream, encoder, grid) for clip in chunk]
    assert len(clips) == grid.count
    batches = [clips[begin : begin + batch] for begin in range(0, len(clips), batch)]
    return torch.cat([encoder.encode(torch.stack(some)) for some in batches])


@pytest.mark.parametrize("stride", [3, 8, 21])
def test_streamed_features_equal_those_of_the_clips_cut_by_hand(
    video: Path, encoder: ClipEncoder, stride: int
) -> None:
    frames = VideoDecoder(str(video)).get_all_frames().data
    found = stream_features(video, encoder, stride=stride)
    starts = range(0, len(frames) - 7, stride)
    wanted = torch.cat([encoder(frames[None, start : start + 8]) for start in starts])
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_feature_at_a_time_equals_that_of_the_clip_cut_by_ffmpeg_there(
    video: Path, encoder: ClipEncoder, tmp_path: Path
) -> None:
    extract_videos(list_videos(str(video)), encoder, str(tmp_path / "out"), ExtractOptions(stride=5))
    features = FeatureStore(str(tmp_path / "out"))
    sidecar, array = features.sidecar("a"), features.array("a")
    for number in (0, 7, len(array) - 1):
        start = sidecar.centres()[number] - sidecar.clip_frames / 2 / sidecar.fps
        cut = tmp_path / f"{number}.mkv"
        # Half a frame earlier: -ss keeps the frames from that time on.
        ffmpeg("-ss", f"{max(0.0, start - 0.5 / sidecar.fps):.6f}", "-i", str(video), "-frames:v", "8",
               "-c:v", "ffv1", str(cut))  # fmt: skip
        clip = VideoDecoder(str(cut)).get_all_frames().data
        assert len(clip) == 8
        wanted = encoder(clip[None])[0].numpy()
        # Lossless recoding leaves only float rounding.
        np.testing.assert_allclose(array[number], wanted, rtol=1e-4, atol=1e-5)
        neighbour = encoder(VideoDecoder(str(video)).get_frames_in_range(40, 48).data[None])[0].numpy()
        assert np.abs(neighbour - wanted).max() > 1e-3


def test_small_chunks_and_other_batches_change_nothing(
    video: Path, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stream_features(video, encoder, stride=5)
    torch.testing.assert_close(
        stream_features(video, encoder, stride=5, batch=1), whole, rtol=1e-4, atol=1e-5
    )
    monkeypatch.setattr(frames_module, "CHUNK_BYTES", 3 * 64 * 48 * 3)
    assert torch.equal(stream_features(video, encoder, stride=5), whole)


def test_constant_sampling_at_the_native_rate_is_native(video: Path, encoder: ClipEncoder) -> None:
    assert torch.equal(stream_features(video, encoder, fps=25.0), stream_features(video, encoder))


def test_constant_sampling_takes_the_frame_on_screen(video: Path) -> None:
    every = VideoDecoder(str(video)).get_all_frames().data
    stream = FrameStream(str(video), fps=5.0)
    assert stream.frames == 20
    # The middle of each fifth of a second lies in the third of its five frames.
    assert torch.equal(stream.read(range(20)), every[2::5])
    faster = FrameStream(str(video), fps=50.0)
    assert torch.equal(faster.read(range(200)), every.repeat_interleave(2, dim=0))


def test_variable_rate_is_resampled_by_time_and_noticed_natively(tmp_path: Path) -> None:
    source = make_video(tmp_path / "c.mp4", seconds=4.0)
    path = tmp_path / "vfr.mkv"
    # The first two seconds at 25 frames a second, then every fifth frame only.
    ffmpeg(
        "-i",
        str(source),
        "-vf",
        "select='lt(t,2)+not(mod(n,5))'",
        "-fps_mode",
        "vfr",
        "-c:v",
        "ffv1",
        str(path),
    )
    every = VideoDecoder(str(source)).get_all_frames().data
    stream = FrameStream(str(path), fps=25.0)
    assert stream.duration == pytest.approx(4.0, abs=0.25)
    assert torch.equal(stream.read([10, 40]), every[[10, 40]])
    assert torch.equal(stream.read([62, 91]), every[[60, 90]])
    native = FrameStream(str(path))
    native.read(range(native.frames))
    assert native.max_time_error > 0.3


def test_short_video_repeats_its_last_frame(tmp_path: Path, encoder: ClipEncoder) -> None:
    path = make_video(tmp_path / "s.mp4", seconds=0.2)
    frames = VideoDecoder(str(path)).get_all_frames().data
    assert len(frames) == 5
    padded = torch.cat([frames, frames[-1:].expand(3, -1, -1, -1)])
    torch.testing.assert_close(stream_features(path, encoder), encoder(padded[None]), rtol=1e-4, atol=1e-5)
    extract_videos(list_videos(str(path)), encoder, str(tmp_path / "out"), ExtractOptions())
    sidecar = FeatureStore(str(tmp_path / "out")).sidecar("s")
    assert (sidecar.features, sidecar.frames, sidecar.padded) == (1, 5, 3)


def test_three_crops_are_the_mean_of_left_middle_and_right(video: Path, encoder: ClipEncoder) -> None:
    three = ClipEncoder(encoder._backbone, encoder.spec, crop="three")
    clip = VideoDecoder(str(video)).get_frames_in_range(0, 8).data
    sized = encoder.prepare(clip)
    assert sized.shape == (8, 1, 3, 32, 32)
    crops = three.prepare(clip)
    assert torch.equal(crops[:, 1], sized[:, 0])
    each = [three.encode(crops[None, :, number : number + 1]) for number in range(3)]
    torch.testing.assert_close(three(clip[None]), torch.stack(each).mean(0), rtol=1e-4, atol=1e-5)
    portrait = three.prepare(clip.transpose(2, 3))
    # Rows and columns are resized one after the other, so that rounding may differ by a level.
    turned = portrait.transpose(3, 4).int()
    assert (turned - crops.int()).abs().max() <= 2


def test_normalisation_is_that_of_training(encoder: ClipEncoder) -> None:
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(clips)
            return clips.flatten(1)[:, :4]

    value = torch.tensor([10, 100, 250], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(1, 8, 3, 32, 32)
    ClipEncoder(Spy(), encoder.spec, short_side=32)(value)
    wanted = (torch.tensor([10, 100, 250]) / 255 - torch.tensor(encoder.spec.mean)) / torch.tensor(
        encoder.spec.std
    )
    assert seen[0].shape == (1, 3, 8, 32, 32)
    torch.testing.assert_close(seen[0][0, :, 3, 5, 7], wanted)


@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 60))
def test_clip_count_covers_all_whole_clips(frames: int, clip: int, stride: int) -> None:
    count = count_clips(frames, clip, stride)
    last = (count - 1) * stride + clip
    assert count >= 1
    assert last <= max(frames, clip)
    assert last + stride > frames
