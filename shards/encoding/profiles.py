"""How a clip is encoded: the profiles, and the ffmpeg arguments they stand for (docs/sharding.md)."""

from __future__ import annotations

import dataclasses

from pal_ds.ffmpeg.reading import MOST_RATE, constant_rate

from ..errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """One way to encode, with what it is expected to cost.

    Attributes:
        name: as given to ``--profile``.
        copy: the source's bytes are packed unchanged; all encoder fields are without effect.
        short_side: pixels of the shorter side of the output.
        fps: upper bound of the output's constant frame rate; slower sources keep theirs.
        gop: distance of key frames.
        crf: x264's quality, lower is better.
        preset: x264's preset.
        tune: x264's tune, or "" for none.
        copy_if_conforming: sources that already are what the recipe makes are packed unchanged.
        bytes_per_second: expected output, to plan shards where the catalog knows the span.
        bytes_share: expected output as a share of the source's bytes, where it knows only those.
    """

    name: str
    copy: bool = False
    short_side: int = 128
    fps: float = MOST_RATE
    gop: int = 16
    crf: int = 23
    preset: str = "veryfast"
    tune: str = "fastdecode"
    copy_if_conforming: bool = False
    bytes_per_second: float = 22_000.0
    bytes_share: float = 0.4

    def __post_init__(self) -> None:
        for field, value, low, high in (
            ("--short-side", self.short_side, 16, 4320),
            ("--fps", self.fps, 1, 240),
            ("--gop", self.gop, 1, 1000),
            ("--crf", self.crf, 0, 51),
        ):
            if not low <= value <= high:
                raise UsageError(f"{field} {value}: give a value from {low} to {high}")
        if self.short_side % 2:
            raise UsageError(f"--short-side {self.short_side}: 4:2:0 video needs even sides")

    def expected_bytes(self, source_bytes: int | None, seconds: float | None) -> int:
        """Return how large the clip will be, from what the catalog knows: its span, else the source's size."""
        if self.copy:
            return source_bytes or 0
        if seconds is not None:
            return int(seconds * self.bytes_per_second)
        return int((source_bytes or 0) * self.bytes_share)

    def recipe(self) -> dict[str, object]:
        """Return the fields that decide the bytes of a clip."""
        if self.copy:
            return {"profile": self.name, "copy": True}
        fields = ("short_side", "fps", "gop", "crf", "preset", "tune")
        recipe = {"profile": self.name, **{field: getattr(self, field) for field in fields}, "bframes": 0}
        return {**recipe, "copy_if_conforming": True} if self.copy_if_conforming else recipe

    def filters(self) -> str:
        """Return the filter graph: time starts at 0, constant rate, square pixels, even sides, 8-bit 4:2:0."""
        side = self.short_side
        return (
            f"{constant_rate(self.fps)},"
            f"scale=w='if(gt(dar,1),2*round({side}*dar/2),{side})'"
            f":h='if(gt(dar,1),{side},2*round({side}/dar/2))':flags=bicubic,setsar=1,format=yuv420p"
        )

    def encoder(self) -> list[str]:
        """Return the encoder's and muxer's arguments: one thread and bit-exact, so that bytes never vary."""
        tune = ["-tune", self.tune] if self.tune else []
        return [
            *("-c:v", "libx264", "-preset", self.preset, *tune, "-crf", str(self.crf)),
            *("-g", str(self.gop), "-keyint_min", str(self.gop), "-sc_threshold", "0", "-bf", "0"),
            *("-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
            *("-movflags", "+faststart", "-f", "mp4"),
        ]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(name="fast"),
        Profile(
            name="compact", gop=32, preset="medium", tune="", bytes_per_second=15_000.0, bytes_share=0.28
        ),
        Profile(name="paper-256", short_side=256, gop=16, bytes_per_second=66_000.0, bytes_share=1.0),
        Profile(name="copy", copy=True, bytes_share=1.0),
    )
}
