"""Batches that hold clips of several videos: the same features, times and failures as one video after the other."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from pal_ds.formats.feature_folder import FeatureError, FeatureStore
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder, EncodedBatch
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline import feature_spool
from pal_ds.transfer.extraction.pipeline.clip_channel import ByteChannel, ClosedError
from pal_ds.transfer.extraction.pipeline.feature_spool import FeatureSpool
from pal_ds.transfer.extraction.video_source import list_videos
from tests.support.extract_fixtures import make_video
from tests.support.networks import encoder_of, random_network


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos of 5 to 45 frames, at 25 and at 30 a second."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(9):
        make_video(folder / f"{number}.mp4", seconds=0.2 * (1 + number), fps=25 + 5 * (number % 2))
    return folder


def extract(videos: Path, out: Path, encoder: ClipEncoder, **options: object) -> FeatureStore:
    done = extract_videos(list_videos(str(videos)), encoder, str(out), ExtractOptions(**options))  # type: ignore[arg-type]
    assert not done.failures, done.failures
    return FeatureStore(str(out))


def assert_equal_up_to_rounding(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["i3d", "small_vit"])
@pytest.mark.parametrize("workers", [1, 3])
def test_features_are_those_of_one_video_at_a_time(
    name: str, workers: int, videos: Path, tmp_path: Path
) -> None:
    encoder = encoder_of(random_network(name))
    sizes: list[int] = []
    launch = encoder.launch
    encoder.launch = lambda clips: sizes.append(len(clips)) or launch(clips)  # type: ignore[assignment,func-returns-value,method-assign]
    together = extract(videos, tmp_path / "together", encoder, stride=3, batch=16, workers=workers)
    total = sum(len(together.array(video)) for video in together.ids)
    assert sizes == [16] * -(-total // 16)
    for video in together.ids:
        alone = extract(videos / f"{video}.mp4", tmp_path / f"alone-{video}", encoder, stride=3, batch=1)
        assert_equal_up_to_rounding(together.array(video), alone.array(video))
        assert together.sidecar(video) == alone.sidecar(video)
        assert together.sidecar(video).fps == 25 + 5 * (int(video) % 2)


def test_a_feature_that_is_not_finite_fails_its_video_alone(videos: Path, tmp_path: Path) -> None:
    encoder = encoder_of(random_network("small_vit"))
    exact = extract(videos, tmp_path / "exact", encoder, stride=3)
    # The pictures are the same in all videos of one frame rate; so late a clip is in the longest alone.
    poisoned = torch.from_numpy(exact.array("8")[11])
    launch = encoder.launch

    class Poisoned(EncodedBatch):
        def __init__(self, batch: EncodedBatch) -> None:
            self._batch = batch

        def result(self) -> tuple[torch.Tensor, ...]:
            values = self._batch.result()[0].clone()
            values[((values - poisoned).abs() < 1e-4).all(dim=1)] = torch.nan
            return (values,)

        def seconds(self) -> float:
            return self._batch.seconds()

    encoder.launch = lambda clips: Poisoned(launch(clips))  # type: ignore[method-assign]
    for workers in (1, 2):
        options = ExtractOptions(stride=3, batch=4, workers=workers)
        done = extract_videos(list_videos(str(videos)), encoder, str(tmp_path / f"out{workers}"), options)
        assert [(one.id, one.stage) for one in done.failures] == [("8", "encode")]
        assert "are not finite" in done.failures[0].error
        found = FeatureStore(str(tmp_path / f"out{workers}"))
        assert found.ids == [video for video in exact.ids if video != "8"]
        for video in found.ids:
            assert_equal_up_to_rounding(found.array(video), exact.array(video))


def test_a_video_that_breaks_on_the_way_takes_nothing_with_it(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in videos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    data = (folder / "5.mp4").read_bytes()
    (folder / "5.mp4").write_bytes(data[: len(data) // 2])
    encoder = encoder_of(random_network("small_vit"))
    options = ExtractOptions(stride=3, workers=2)
    done = extract_videos(list_videos(str(folder)), encoder, str(tmp_path / "out"), options)
    assert [failure.id for failure in done.failures] == ["5"]
    assert done.written == 8
    assert FeatureStore(str(tmp_path / "out")).ids == list("01234678")


def test_running_out_of_memory_ends_the_work_and_its_threads(videos: Path, tmp_path: Path) -> None:
    encoder = encoder_of(random_network("small_vit"))

    def launch(clips: torch.Tensor) -> EncodedBatch:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much")

    encoder.launch = launch  # type: ignore[method-assign]
    before = threading.active_count()
    with pytest.raises(torch.OutOfMemoryError):
        extract_videos(list_videos(str(videos)), encoder, str(tmp_path / "out"), ExtractOptions(workers=3))
    assert threading.active_count() == before
    assert list((tmp_path).rglob("v_*")) == []


def test_strides_in_seconds_are_exact_at_every_frame_rate(videos: Path, tmp_path: Path) -> None:
    encoder = encoder_of(random_network("small_vit"))
    found = extract(videos, tmp_path / "out", encoder, stride_seconds=0.1)
    every = extract(videos, tmp_path / "every", encoder, stride=1)
    for video in found.ids:
        sidecar = found.sidecar(video)
        assert np.diff(sidecar.centres()) == pytest.approx(0.1)
        assert sidecar.stride == pytest.approx(0.1 * sidecar.fps)
        starts = np.floor(np.arange(sidecar.features) * sidecar.stride + 0.5).astype(int)
        assert_equal_up_to_rounding(found.array(video), every.array(video)[starts])
        shift = np.abs(starts - np.arange(sidecar.features) * sidecar.stride).max() / sidecar.fps
        assert sidecar.max_time_error == pytest.approx(
            max(shift, every.sidecar(video).max_time_error), abs=2e-6
        )
    assert isinstance(found.sidecar("1").stride, int)  # 3 frames at 30 a second


def test_layers_and_tokens_have_folders_and_sidecars_of_their_own(videos: Path, tmp_path: Path) -> None:
    options = {"stride": 4, "layers": ("output", "layer:2", "last2"), "keep_tokens": True, "dtype": "float16"}
    encoder = encoder_of(
        random_network("small_vit"), layers=("output", "layer:2", "last2", "tokens", "tokens:2")
    )
    made = ExtractOptions(**options)  # type: ignore[arg-type]
    done = extract_videos(list_videos(str(videos)), encoder, str(tmp_path), made)
    assert done.written == 9
    folders = made.settings(encoder)
    assert list(folders) == ["output", "layer-2", "last2", "tokens", "tokens-2"]
    width = encoder.feature_dim
    assert [one["feature_dim"] for one in folders.values()] == [width, width, 2 * width, width, width]
    assert all((one["dtype"], one["stride"]) == ("float16", 4) for one in folders.values())
    count = done.clips and len(FeatureStore(str(tmp_path / "output")).array("8"))
    raw = np.load(tmp_path / "layer-2" / "v_8.npy")
    assert (raw.dtype, raw.shape) == (np.float16, (count, width))
    tokens = np.load(tmp_path / "tokens" / "v_8.npy")
    assert (tokens.dtype, tokens.shape) == (np.float16, (count, 4, 2, 2, width))
    pooled = FeatureStore(str(tmp_path / "output")).array("8")
    np.testing.assert_allclose(tokens.astype(np.float32).mean(axis=(1, 2, 3)), pooled, atol=2e-3)
    flat = np.load(tmp_path / "tokens-2" / "v_8.npy").astype(np.float32).mean(axis=1)
    np.testing.assert_allclose(flat, raw.astype(np.float32), atol=2e-3)
    sidecar = json.loads((tmp_path / "tokens" / "v_8.json").read_text())
    assert (sidecar["readout"], sidecar["tokens"], sidecar["feature_dim"]) == ("tokens", [4, 2, 2], width)
    assert FeatureStore(str(tmp_path / "tokens")).sidecar("8").tokens == (4, 2, 2)
    with pytest.raises(FeatureError, match=r"expected \[T, C\]"):
        FeatureStore(str(tmp_path / "tokens")).array("8")


def test_large_arrays_lie_on_disk_until_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    rows = torch.randn(7, 5)
    for limit in (1 << 20, 64):
        monkeypatch.setattr(feature_spool, "MEMORY_BYTES", limit)
        spool = FeatureSpool(7, "float32")
        spool.add(rows[:3])
        assert not spool.whole
        spool.add(rows[3:])
        assert any((tmp_path / "scratch").iterdir()) == (limit == 64)
        spool.publish(str(tmp_path / f"{limit}.npy"))
        spool.close()
        assert list((tmp_path / "scratch").iterdir()) == []
        assert np.array_equal(np.load(tmp_path / f"{limit}.npy"), rows.numpy())
    with pytest.raises(ValueError, match="use --dtype float32"):
        FeatureSpool(1, "float16").add(torch.tensor([[7e4]]))


def test_the_channel_is_bounded_by_bytes_and_lets_writers_go() -> None:
    channel: ByteChannel[int] = ByteChannel(10, 1)
    channel.put(1, 50)  # larger than all of it, into the empty queue
    blocked = threading.Thread(target=lambda: (channel.put(2, 1), channel.leave()))
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive()
    assert [channel.get(), channel.get(), channel.get()] == [1, 2, None]
    blocked.join()
    channel.put(3, 11)
    failed = threading.Event()

    def put() -> None:
        try:
            channel.put(4, 11)
        except ClosedError:
            failed.set()

    waiting = threading.Thread(target=put)
    waiting.start()
    channel.close()
    waiting.join()
    assert failed.is_set()
