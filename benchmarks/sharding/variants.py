"""The encodings that the Pareto measurement compares: the profiles and their neighbours in every direction."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from pathlib import Path
from typing import Any

from shards.encoding.profiles import PROFILES, Profile

#: Marks the default profile in results and plots.
DEFAULT = "fast"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One encoding.

    Attributes:
        name: in results and plots.
        family: variants that differ in quality alone.
        quality: CRF, or the codec's own scale.
        profile: filters, and the encoder's arguments where ``codec`` is None.
        codec: arguments of another encoder, or None.
    """

    name: str
    family: str
    quality: int
    profile: Profile
    codec: tuple[str, ...] | None = None

    def encode(self, source: Path, target: Path) -> None:
        """Encode a source as the sharder would."""
        encoder = self.profile.encoder()
        if self.codec is not None:
            encoder = [*self.codec, "-threads", "1", "-movflags", "+faststart", "-f", "mp4"]
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-an", "-vf", self.profile.filters()]
        subprocess.run([*command, *encoder, str(target)], check=True)


def variants() -> list[Variant]:
    """Return every variant; the default profile is the one named :data:`DEFAULT`."""
    found: list[Variant] = []
    for family, changes in _X264.items():
        profile = dataclasses.replace(PROFILES["fast"], **changes)
        for crf in _QUALITIES.get(family, (23, 26)):
            name = family if crf == 23 else f"{family}, crf {crf}"
            found.append(
                Variant(name=name, family=family, quality=crf, profile=dataclasses.replace(profile, crf=crf))
            )
    for family, (make, qualities) in _OTHERS.items():
        for quality in qualities:
            name = f"{family}, q {quality}"
            codec = tuple(make(quality))
            found.append(
                Variant(name=name, family=family, quality=quality, profile=PROFILES["fast"], codec=codec)
            )
    return found


_QUALITIES = {"fast": (20, 23, 26, 29), "compact": (20, 23, 26), "no fastdecode": (20, 23, 26)}
_X264: dict[str, dict[str, Any]] = {
    "fast": {},
    "compact": {"gop": 32, "preset": "medium", "tune": ""},
    "GOP 1": {"gop": 1},
    "GOP 8": {"gop": 8},
    "GOP 32": {"gop": 32},
    "GOP 64": {"gop": 64},
    "preset ultrafast": {"preset": "ultrafast"},
    "preset medium": {"preset": "medium"},
    "no fastdecode": {"tune": ""},
    "short side 112": {"short_side": 112},
    "short side 144": {"short_side": 144},
    "paper-256": {"short_side": 256},
}


def _x264_default(crf: int) -> list[str]:
    return ["-c:v", "libx264", "-crf", str(crf)]


def _x265(crf: int) -> list[str]:
    fast = ["-preset", "fast", "-tune", "fastdecode", "-x265-params", "log-level=error:pools=none"]
    return ["-c:v", "libx265", *fast, "-g", "16", "-bf", "0", "-crf", str(crf), "-tag:v", "hvc1"]


def _vp9(crf: int) -> list[str]:
    return ["-c:v", "libvpx-vp9", "-cpu-used", "5", "-g", "16", "-b:v", "0", "-crf", str(crf)]


def _mpeg4(scale: int) -> list[str]:
    return ["-c:v", "mpeg4", "-g", "16", "-bf", "0", "-q:v", str(scale)]


_OTHERS = {
    "x264's own defaults": (_x264_default, (20, 23, 26)),
    "HEVC": (_x265, (22, 26)),
    "VP9": (_vp9, (30, 36)),
    "MPEG-4": (_mpeg4, (2, 4)),
}


@functools.cache
def filters_of(short_side: int) -> str:
    """The recipe's filters at another short side, to compare pictures at one size."""
    return dataclasses.replace(PROFILES["fast"], short_side=short_side).filters()
