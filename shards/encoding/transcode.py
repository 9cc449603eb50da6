"""Turns rows into encoded, verified clips in a scratch folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from pal_ds.ffmpeg.encoding import encode_film, falls_short
from pal_ds.ffmpeg.probing import VideoInfo, error_line, source_seconds
from pal_ds.ffmpeg.process import Finished
from pal_ds.formats.shardset import SampleRecord

from ..catalog.origins import Fetched, Origins
from ..catalog.rows import AUTO, CUT, WHOLE, Reject, Row
from ..errors import BuildError, Rejected
from . import ffmpeg_info
from .clip_filters import ClipFilters, read_looks, take_looks
from .clip_spans import resolve_span, too_long
from .conforming import mismatch
from .decode_check import Decoded, decode_clips, decode_copy
from .profiles import Profile

#: Sources above this size are probed before they are encoded, to refuse overlong ones early (bytes).
PROBE_FIRST_BYTES = 48 << 20
_TRANSIENT = re.compile(r"timed out|killed by signal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipLimits:
    """What is still a clip.

    Attributes:
        max_seconds: longer whole files and spans are rejected.
        min_frames: clips that yield fewer frames are rejected.
        timeout: seconds that one tool may work on one clip.
        filters: what of its pictures and length keeps a clip out.
    """

    max_seconds: float = 600.0
    min_frames: int = 8
    timeout: float = 600.0
    filters: ClipFilters = dataclasses.field(default_factory=ClipFilters)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip ready to be packed.

    Attributes:
        path: scratch file.
        extension: in the tar.
        record: its ``<key>.json``.
        copied: whether its source was packed as it is; None where the recipe leaves no choice.
    """

    path: Path
    extension: str
    record: SampleRecord
    copied: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Draft:
    """An encoded clip that has not been decoded yet."""

    row: Row
    path: Path
    extension: str
    start: float | None
    end: float | None
    expected_seconds: float | None
    source: str
    label: str | None
    promised: int | None = None  # frames, where a conforming source was taken as it is
    info: VideoInfo | None = None  # of a copied source


class Transcoder:
    """Makes clips of one build: one ffmpeg process a clip, and one that decodes a few results to their ends."""

    def __init__(
        self,
        profile: Profile,
        limits: ClipLimits,
        origins: Origins,
        *,
        with_labels: bool = False,
        cpu_slots: threading.Semaphore | None = None,
    ) -> None:
        self.profile = profile
        self.limits = limits
        self.origins = origins
        self.with_labels = with_labels
        self._cpu: contextlib.AbstractContextManager[object] = cpu_slots or contextlib.nullcontext()

    def make_clips(self, rows: Sequence[Row], folder: Path) -> list[Clip | Reject]:
        """Encode and verify a few rows; one result each, in order.

        Raises:
            BuildError: scratch space is used up: no fault of the row.
            ToolError: the same, found by ffmpeg, or a tool can't be started.
            StorageError: a source's store fails beyond its budget.
        """
        drafts = [self._attempt(row, folder) for row in rows]
        decoded = self._decode(drafts)
        for place, draft in enumerate(drafts):
            if isinstance(draft, _Draft) and draft.promised is not None:
                found = decoded[draft.path]
                if isinstance(found, str) or found[0] != draft.promised:
                    # It looked right from outside and does not decode so: encoding may mend it.
                    drafts[place] = self._attempt(draft.row, folder, may_copy=False)
                    decoded |= self._decode([drafts[place]])
        results: list[Clip | Reject] = []
        for draft in drafts:
            if isinstance(draft, Reject):
                results.append(draft)
                continue
            try:
                results.append(self._verified(draft, decoded[draft.path]))
            except Rejected as rejected:
                draft.path.unlink(missing_ok=True)
                read_looks(draft.path)
                results.append(Reject(draft.source, rejected.stage, rejected.error))
        return results

    def _attempt(self, row: Row, folder: Path, *, may_copy: bool = True) -> _Draft | Reject:
        for is_last in (False, True):
            try:
                with self.origins.open(row, folder) as fetched:
                    return self._draft(row, fetched, folder / row.key, may_copy=may_copy)
            except Rejected as rejected:
                # A tool that was killed by someone else (out of memory, say) gets a second chance.
                if is_last or "killed by signal" not in rejected.error:
                    return Reject(row.source, rejected.stage, rejected.error)
        raise AssertionError("unreachable")

    def _draft(self, row: Row, fetched: Fetched, stem: Path, *, may_copy: bool) -> _Draft:
        start, end = row.start, row.end
        seek, length = None, None
        limit = self.limits.max_seconds
        if row.seconds is not None and row.seconds > limit and row.span != WHOLE:
            raise Rejected("probe", f"the span's {row.seconds:g} s are more than --max-seconds {limit:g}")
        filters = self.limits.filters
        if row.seconds is not None and row.span == CUT:
            filters.check_seconds(row.seconds)
        large = (row.size or 0) > PROBE_FIRST_BYTES
        span = row.span
        if span == AUTO or (span == WHOLE and large) or filters.min_side is not None:
            info = ffmpeg_info.probe(fetched.path, timeout=self.limits.timeout)
            filters.check_side(info.width, info.height)
            if span == AUTO:
                span = resolve_span(row, info.duration)
            if span == WHOLE and info.duration > limit:
                raise Rejected("probe", too_long(info.duration, limit))
        if span == CUT:
            seek, length = start, row.seconds
        if self.profile.copy or (may_copy and self._conforms(fetched, span)):
            return self._copied(row, fetched, stem, span)
        path = stem.with_suffix(".mp4")
        expected = self._encode(fetched.path, path, seek, length)
        if span == CUT:
            expected = None if expected is None else max(0.0, min(length or 0.0, expected - (seek or 0.0)))
        return _Draft(
            row=row,
            path=path,
            extension="mp4",
            start=start if fetched.record is None else fetched.record.start,
            end=end if fetched.record is None else fetched.record.end,
            expected_seconds=expected,
            source=row.source if fetched.record is None else fetched.record.source,
            label=row.label if fetched.record is None else fetched.record.label,
        )

    def _conforms(self, fetched: Fetched, span: str) -> bool:
        if not self.profile.copy_if_conforming or span == CUT:
            return False
        return mismatch(fetched.path, self.profile, timeout=self.limits.timeout) is None

    def _copied(self, row: Row, fetched: Fetched, stem: Path, span: str) -> _Draft:
        if span == CUT:
            raise Rejected("transcode", "--copy can't cut a span out of a video: use a transcoding profile")
        info = ffmpeg_info.probe(fetched.path, timeout=self.limits.timeout)
        if info.duration > self.limits.max_seconds:
            raise Rejected("probe", too_long(info.duration, self.limits.max_seconds))
        if "avi" in info.container.split(",") and info.b_frames:
            raise Rejected(
                "verify", "B-frames in AVI fail at the tail in decoders: use a transcoding profile"
            )
        extension = fetched.extension or row.extension
        path = stem.with_suffix("." + extension)
        try:
            shutil.copyfile(fetched.path, path)
        except OSError as error:
            raise _scratch_or_read(error) from error
        record = fetched.record
        return _Draft(
            row=row,
            path=path,
            extension=extension,
            start=row.start if record is None else record.start,
            end=row.end if record is None else record.end,
            expected_seconds=info.duration or None,
            source=row.source if record is None else record.source,
            label=row.label if record is None else record.label,
            promised=None if self.profile.copy else info.frames,
            info=info,
        )

    def _encode(self, source: Path, target: Path, seek: float | None, length: float | None) -> float | None:
        """Encode one clip; return the source's duration as its container gives it."""
        limit = self.limits.max_seconds
        with self._cpu, ffmpeg_info.rejecting():
            finished = encode_film(
                source,
                target,
                filters=self.profile.filters(),
                encoder=self.profile.encoder(),
                timeout=self.limits.timeout,
                start=seek,
                seconds=limit + 1 if length is None else length,
            )
        if finished.returncode != 0 or finished.timed_out:
            target.unlink(missing_ok=True)
            raise self._failure(source, finished)
        duration = source_seconds(finished.stderr)
        if length is None and duration is not None and duration > limit + 0.5:
            target.unlink(missing_ok=True)
            raise Rejected("probe", too_long(duration, limit))
        return duration

    def _failure(self, source: Path, finished: Finished) -> Rejected:
        line = error_line(finished, source)
        if _TRANSIENT.search(line):
            return Rejected(
                "transcode", f"{line} ({self.limits.timeout:g} s)" if finished.timed_out else line
            )
        try:
            ffmpeg_info.probe(source, timeout=self.limits.timeout)
        except Rejected as rejected:
            return rejected
        return Rejected("transcode", line)

    def _decode(self, drafts: Sequence[_Draft | Reject]) -> dict[Path, Decoded]:
        made = [draft for draft in drafts if isinstance(draft, _Draft)]
        if not made:
            return {}
        paths = [draft.path for draft in made]
        looks = self.limits.filters.looks
        with self._cpu:
            if not self.profile.copy:
                return decode_clips(paths, timeout=self.limits.timeout, looks=looks)
            if looks:
                take_looks(paths, timeout=self.limits.timeout)
            timeout = self.limits.timeout
            return {draft.path: decode_copy(draft.path, timeout=timeout, info=draft.info) for draft in made}

    def _verified(self, draft: _Draft, decoded: Decoded) -> Clip:
        if isinstance(decoded, str):
            raise Rejected("verify", decoded)
        frames, width, height, fps = decoded
        if frames == 0:
            raise Rejected("verify", "no frame" if draft.row.span == WHOLE else "no frame lies in the span")
        if frames < self.limits.min_frames:
            raise Rejected("verify", f"{frames} frames, fewer than --min-frames {self.limits.min_frames}")
        if fps <= 0:
            raise Rejected("verify", "no frame rate")
        duration = round(frames / fps, 6)
        self._check_complete(draft, duration)
        # A cut may fall between two frames.
        self.limits.filters.check_seconds(duration + (1 / fps if draft.row.span == CUT else 0.0))
        if self.limits.filters.looks:
            self.limits.filters.check_looks(*read_looks(draft.path))
        data = draft.path.read_bytes()
        start = 0.0 if draft.start is None else draft.start
        record = SampleRecord(
            key=draft.row.key,
            source=draft.source,
            start=start,
            end=round(start + duration, 6) if draft.end is None else draft.end,
            duration=duration,
            fps=fps,
            frames=frames,
            width=width,
            height=height,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            label=draft.label if self.with_labels else None,
        )
        copied = draft.promised is not None if self.profile.copy_if_conforming else None
        return Clip(path=draft.path, extension=draft.extension, record=record, copied=copied)

    def _check_complete(self, draft: _Draft, duration: float) -> None:
        """Refuse a source of which much less can be decoded than its container promises."""
        if draft.expected_seconds is None or not falls_short(duration, draft.expected_seconds):
            return
        expected = draft.expected_seconds
        if not self.profile.copy and draft.row.span == WHOLE:
            # Sound may last longer than the picture: what counts is the video stream's own length.
            with self.origins.open(draft.row, draft.path.parent) as fetched:
                expected = ffmpeg_info.probe(fetched.path, timeout=self.limits.timeout).duration
        if falls_short(duration, expected):
            raise Rejected("verify", f"only {duration:.1f} of {expected:.1f} s can be decoded: truncated?")


def _scratch_or_read(error: OSError) -> Exception:
    if error.errno == 28:
        return BuildError("no space left in the scratch folder: set TMPDIR to a larger disk")
    return Rejected("read", f"can't be read: {error.strerror}")
