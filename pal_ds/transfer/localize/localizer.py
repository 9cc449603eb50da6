"""New videos in, their actions out: features, head, files and page of one video after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pal_ds import storage
from pal_ds.config.base import ConfigError, check, option
from pal_ds.ffmpeg.process import ToolError
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name
from pal_ds.storage.scratch import scratch_folder
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef, open_video
from pal_ds.transfer.localize.destination import FOLDER, place_of, write_text
from pal_ds.transfer.localize.film import EMBED_BYTES, Film, FilmError, address, first_moment, playable
from pal_ds.transfer.localize.model_folder import LoadedModel
from pal_ds.transfer.localize.record import Record, keep
from pal_ds.transfer.localize.sampling import features_folder
from pal_ds.transfer.localize.text_files import subtitles, table
from pal_ds.transfer.localize.thumbnails import thumbnails
from pal_ds.transfer.localize.video_page import spans_to_picture, video_page
from pal_ds.transfer.tasks.predictor import Predictor

FORMAT = "pal-localize/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalizeOptions:
    """What is kept of the found actions, and what the pages hold.

    Raises:
        ConfigError: a value out of its range, or one without effect.
    """

    threshold: float | None = option(None, "lowest score that is kept; none keeps all")
    top: int = option(0, "most actions kept of a video; 0 keeps all")
    pages: bool = option(True, "whether pages are written")
    embed: bool = option(False, "put small videos into their pages")
    thumbnails: int = option(24, "actions of a video that get a picture")

    def __post_init__(self) -> None:
        low = self.threshold
        check(low is None or low >= 0, "--threshold", low, "use a score from 0 up")
        check(self.top >= 0, "--top", self.top, "use 0 (all) or more")
        check(self.thumbnails >= 0, "--thumbnails", self.thumbnails, "use 0 (none) or more")
        if self.embed and not self.pages:
            raise ConfigError("--embed", True, "has no effect with --no-page; leave one out")

    def settings(self, model: LoadedModel) -> dict[str, Any]:
        """Return what a destination is bound to."""
        return {"format": FORMAT, "model": model.digest, **dataclasses.asdict(self)}


@dataclasses.dataclass
class Outcome:
    """What one rank did: videos localized and their shown actions; failures; warnings for people."""

    localized: int = 0
    actions: int = 0
    clips: int = 0
    failures: list[VideoFailure] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


class Localizer:
    """A model at work.

    Args:
        model: see there.
        encoder: its encoder, on the device that the head runs on too.
        sampling: of the videos.
        options: what is kept.
        out_url: destination, claimed.
    """

    def __init__(
        self,
        model: LoadedModel,
        encoder: ClipEncoder,
        sampling: ExtractOptions,
        options: LocalizeOptions,
        out_url: str,
    ) -> None:
        self.model, self.encoder, self.sampling = model, encoder, sampling
        self.options, self.out_url = options, out_url
        self.predictor: Predictor = model.predictor(encoder.device)
        self.outcome = Outcome()

    def run(
        self, videos: Sequence[VideoRef], on_video: Callable[[VideoRef, Record | VideoFailure], None]
    ) -> Outcome:
        """Localize videos; one that fails is tallied and the work goes on.

        Args:
            videos: those without a record.
            on_video: called after each.

        Raises:
            StorageError: the destination can't be written.
            torch.OutOfMemoryError: the batch doesn't fit the device.
        """
        with scratch_folder(prefix="pal-localize-") as folder:
            destination = str(folder / "features")
            below = features_folder(self.sampling)
            features = storage.join(destination, below) if below else destination
            storage.make_folder(features)

            def with_features(video: VideoRef, made: Sidecar | VideoFailure | None) -> None:
                result = self._finish(video, made, features) if isinstance(made, Sidecar) else made
                assert result is not None
                if isinstance(result, VideoFailure):
                    self.outcome.failures.append(result)
                on_video(video, result)

            tally = extract_videos(videos, self.encoder, destination, self.sampling, on_video=with_features)
        self.outcome.clips += tally.clips
        self.outcome.warnings += tally.warnings
        return self.outcome

    def _finish(self, video: VideoRef, sidecar: Sidecar, features: str) -> Record | VideoFailure:
        try:
            with torch.no_grad():
                rows = self.predictor.rows(FeatureStore(features).load(video.id))
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, ArithmeticError) as error:
            text = " ".join(str(error).split())[:500]
            return VideoFailure(
                id=video.id, source=video.source, stage="head", error=f"{type(error).__name__}: {text}"
            )
        finally:
            for name in (array_name(video.id), sidecar_name(video.id)):
                storage.remove(storage.join(features, name))
        spec, low = self.model.spec, self.options.threshold
        record = Record(
            id=video.id,
            source=storage.redact(video.url if video.offset is None else video.source),
            file_bytes=video.bytes,
            duration=sidecar.duration,
            clips=sidecar.features,
            rows=keep(rows, threshold=low, top=self.options.top),
            threshold=spec.threshold if low is None else low,
            model=self.model.digest,
            begin=_begin(video),
        )
        if self.options.pages:
            record = self._write_page(video, record)
        write_text(place_of(self.out_url, f"{video.id}.vtt"), subtitles(record))
        write_text(place_of(self.out_url, f"{video.id}.csv"), table([record]))
        storage.write_bytes(place_of(self.out_url, f"{video.id}.json"), record.to_json())
        self.outcome.localized += 1
        self.outcome.actions += len(record.shown())
        return record

    def _write_page(self, video: VideoRef, record: Record) -> Record:
        link, note, begin = "", "", 0.0
        pictures: dict[tuple[float, float], str] = {}
        try:
            with playable(video) as film:
                link, ending = address(
                    film, video.id, storage.join(self.out_url, FOLDER), embed=self.options.embed
                )
                record, begin = dataclasses.replace(record, film=ending), film.begin
                if self.options.embed and film.path.stat().st_size > EMBED_BYTES:
                    self._warn(f"{video.source}: above {EMBED_BYTES >> 20} MiB, so its page links to it")
                pictures = self._pictures(video, record, film)
        except FilmError as error:
            note = f"Browsers don't play this video, and no copy of it could be made: {error}."
            self._warn(f"{video.source}: its page has no player: {error}")
        page = video_page(
            record, film=link, begin=begin, note=note, pictures=pictures, facts=self._facts(record)
        )
        write_text(place_of(self.out_url, f"{video.id}.html"), page)
        return record

    def _pictures(self, video: VideoRef, record: Record, film: Film) -> dict[tuple[float, float], str]:
        spans = spans_to_picture(record, self.options.thumbnails)
        try:
            made = thumbnails(film.path, [(start + end) / 2 for start, end in spans])
        except (RuntimeError, ToolError, ValueError, IndexError) as error:
            self._warn(f"{video.source}: its page has no thumbnails: {' '.join(str(error).split())[:200]}")
            return {}
        return dict(zip(spans, made, strict=True))

    def _facts(self, record: Record) -> list[tuple[str, str]]:
        spec = self.model.spec
        return [
            ("Video", Path(record.source).name),
            ("Head", spec.reading.head.name),
            ("Encoder", f"{self.model.backbone_spec.backbone}, {spec.feature_dim} channels"),
            ("Clips encoded", f"{record.clips:,}"),
            ("Score to begin with", f"{record.threshold:.3g}"),
            ("Model", self.model.digest[:12]),
        ]

    def _warn(self, text: str) -> None:
        self.outcome.warnings.append(text)


def gather_videos(
    sources: Sequence[str], list_one: Callable[[str], list[VideoRef]]
) -> tuple[list[VideoRef], list[VideoFailure]]:
    """Return the videos of all sources in their order, and those sources that couldn't be listed.

    Args:
        sources: files, folders, URLs, shard sets.
        list_one: lists one of them.

    Raises:
        ConfigError: two videos have one id.
    """
    by_id: dict[str, VideoRef] = {}
    failures = []
    for source in dict.fromkeys(sources):
        try:
            found = list_one(source)
        except (storage.StorageError, ValueError) as error:
            name = storage.redact(source)
            text = " ".join(str(error).split())
            failures.append(VideoFailure(id=name, source=name, stage="find", error=text))
            continue
        for video in found:
            other = by_id.setdefault(video.id, video)
            if _place(other) != _place(video):
                raise ConfigError(
                    "VIDEO",
                    storage.redact(video.url),
                    f"has the same id {video.id!r} as {storage.redact(other.url)}; rename one, or use two --out",
                )
    return list(by_id.values()), failures


def _begin(video: VideoRef) -> float:
    try:
        return first_moment(open_video(video))
    except (storage.StorageError, OSError):
        return 0.0


def _place(video: VideoRef) -> tuple[str, int | None]:
    local = storage.is_local(video.url)
    return str(storage.local_path(video.url).resolve()) if local else video.url, video.offset
