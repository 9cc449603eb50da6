"""Options of a sample: how synthetic videos are made from clips, and how their views are augmented."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from pal_ds.config.base import check, option

#: What may change where the two parts of a video meet (``paste=boundary``), by number.
BOUNDARIES = ("different_class", "same_class", "different_speed", "same_speed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """How a pseudo action is cut and pasted into two backgrounds (paper section 3.2; docs/decisions.md)."""

    FIXED: ClassVar[bool] = True

    views: int = option(
        2,
        "Synthetic videos per sample, 1 to 4: the query, and the keys it is contrasted with. The paper has one key; "
        "more keys are more positives (and decoding), none is for objectives without a key.",
    )
    clips: int = option(8, "Clips per synthetic video, J (paper: 8).")
    clip_frames: int = option(8, "Frames per clip, T (paper: 8).")
    size: int = option(112, "Height and width of the frames a model sees, in pixels (paper: 112).")
    region_min: int = option(1, "Shortest pseudo action region, in clips.")
    region_max: int = option(6, "Longest pseudo action region, in clips.")
    stride_min: int = option(1, "Smallest frame stride of a region.")
    stride_max: int = option(
        4, "Largest frame stride of a region (paper: [1, 4]); clamped where a video is short."
    )
    stride_seconds: tuple[float, ...] = option(
        (),
        "Instead of strides in frames: smallest and largest time between neighbouring frames of a region, in "
        "seconds, e.g. [0.04, 0.16]; the nearest frames are taken, so that videos of 25 and 60 fps play alike.",
    )
    background_seconds: float = option(
        0.0, "With stride_seconds: the same of background clips; 0 is the largest of stride_seconds."
    )
    stride_mode: str = option(
        "span",
        "span: a region is one run of frames at its stride, so clips move apart too; clip: clips start where the "
        "largest stride puts them, and the stride acts inside clips only.",
    )
    paste: str = option(
        "different",
        "Backgrounds of the views: different videos, the same video, own: the video that the region is cut from, or "
        "none: the region alone is the view (needs region_min = region_max), or boundary (for bsp): a video of two "
        "parts that differ in class, in the video, in speed, or not at all; the first part has region_min to "
        "region_max clips.",
    )
    background_stride: int = option(4, "Frame stride of background clips; clamped to what a video can fill.")
    background_sampling: str = option(
        "uniform", "Background clips: uniform (equally spaced) or random (in order)."
    )
    beta_min: float = option(0.6, "Smallest share of the action in the blend (paper: U[0.6, 1]).")
    beta_max: float = option(1.0, "Largest share of the action in the blend.")
    beta_scope: str = option("view", "One blend share per view or per clip.")

    def __post_init__(self) -> None:
        check(1 <= self.views <= 4, "synthesis.views", self.views, "use 1 to 4")
        check(self.clips >= 1, "synthesis.clips", self.clips, "use 1 or more")
        check(self.clip_frames >= 2, "synthesis.clip_frames", self.clip_frames, "use 2 or more")
        check(self.size >= 8, "synthesis.size", self.size, "use 8 or more pixels")
        check(
            1 <= self.region_min <= self.region_max <= self.clips,
            "synthesis.region_min, region_max",
            (self.region_min, self.region_max),
            f"use 1 <= region_min <= region_max <= clips = {self.clips}",
        )
        check(
            1 <= self.stride_min <= self.stride_max,
            "synthesis.stride_min, stride_max",
            (self.stride_min, self.stride_max),
            "use 1 <= stride_min <= stride_max",
        )
        self._check_seconds()
        check(
            self.stride_mode in ("span", "clip"),
            "synthesis.stride_mode",
            self.stride_mode,
            "use span or clip",
        )
        check(
            self.paste in ("different", "same", "own", "none", "boundary"),
            "synthesis.paste",
            self.paste,
            "use different, same, own, none or boundary",
        )
        check(
            self.paste != "none" or self.region_min == self.region_max,
            "synthesis.paste",
            self.paste,
            "without a background all views need one length: set region_min = region_max",
        )
        check(
            self.background_stride >= 1,
            "synthesis.background_stride",
            self.background_stride,
            "use 1 or more",
        )
        check(
            self.background_sampling in ("uniform", "random"),
            "synthesis.background_sampling",
            self.background_sampling,
            "use uniform or random",
        )
        check(
            0 <= self.beta_min <= self.beta_max <= 1,
            "synthesis.beta_min, beta_max",
            (self.beta_min, self.beta_max),
            "use 0 <= beta_min <= beta_max <= 1",
        )
        check(
            self.beta_scope in ("view", "clip"), "synthesis.beta_scope", self.beta_scope, "use view or clip"
        )

        if self.paste == "boundary":
            self._check_boundary()

    def _check_boundary(self) -> None:
        """Refuse what has no effect, or leaves no boundary."""
        for name, holds, fix in (
            ("views", self.views == 1, "a boundary is told from one view; use 1"),
            ("region_max", self.region_max < self.clips, "leave at least one clip for the second part"),
            ("stride_mode", self.stride_mode == "span", "each part is one run of frames; use span"),
            (
                "stride_seconds",
                not self.stride_seconds,
                "the parts' strides are counted in frames; remove it",
            ),
            ("stride_max", self.stride_max > self.stride_min, "two speeds need two strides; raise it"),
            ("beta_min", self.beta_min == 1, "the parts are not blended; set beta_min = beta_max = 1"),
            ("beta_max", self.beta_max == 1, "the parts are not blended; set beta_min = beta_max = 1"),
            (
                "background_stride",
                self.background_stride == 4,
                "has no effect with paste=boundary; remove it",
            ),
            (
                "background_sampling",
                self.background_sampling == "uniform",
                "has no effect with paste=boundary; remove it",
            ),
            ("beta_scope", self.beta_scope == "view", "has no effect with paste=boundary; remove it"),
        ):
            check(holds, f"synthesis.{name}", getattr(self, name), fix)

    @property
    def longest_region(self) -> int:
        """Clips of the longest region that is drawn: with ``paste=boundary`` a video that goes on is one region."""
        return self.region_max if self.paste != "boundary" else self.clips

    def _check_seconds(self) -> None:
        seconds = self.stride_seconds
        if not seconds:
            name, value = "synthesis.background_seconds", self.background_seconds
            check(value == 0, name, value, "has no effect without synthesis.stride_seconds; remove it")
            return
        check(
            len(seconds) == 2 and 0 < seconds[0] <= seconds[1] <= 60,
            "synthesis.stride_seconds",
            seconds,
            "give the smallest and the largest, e.g. [0.04, 0.16]",
        )
        check(
            0 <= self.background_seconds <= 60,
            "synthesis.background_seconds",
            self.background_seconds,
            "use 0 (the largest of stride_seconds) or seconds, e.g. 0.16",
        )
        for option_, usual in (("stride_min", 1), ("stride_max", 4), ("background_stride", 4)):
            value = getattr(self, option_)
            check(
                value == usual,
                f"synthesis.{option_}",
                value,
                "counts frames and has no effect with synthesis.stride_seconds; remove it",
            )

    @property
    def view_clips(self) -> int:
        """Clips of a view: ``clips``, or the region's length where nothing is pasted."""
        return self.clips if self.paste != "none" else self.region_max


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Spatial augmentation, drawn once per (video, role, view), the same for all its frames (paper section 4.1).

    Defaults are those of CoCLR and MoCo v2; see docs/streaming.md for the order of the operations.
    """

    FIXED: ClassVar[bool] = True

    crop: str = option("random", "random (resized crop) or center (largest centred square).")
    crop_scale_min: float = option(0.2, "Smallest share of a frame's area that a random crop keeps.")
    crop_scale_max: float = option(1.0, "Largest share of a frame's area that a random crop keeps.")
    crop_ratio_min: float = option(0.75, "Smallest width / height of a random crop.")
    crop_ratio_max: float = option(4 / 3, "Largest width / height of a random crop.")
    flip_p: float = option(0.5, "Probability of a horizontal flip.")
    jitter_p: float = option(0.8, "Probability of colour jitter.")
    brightness: float = option(0.4, "Brightness factor is U[1 - x, 1 + x].")
    contrast: float = option(0.4, "Contrast factor is U[1 - x, 1 + x].")
    saturation: float = option(0.4, "Saturation factor is U[1 - x, 1 + x].")
    hue: float = option(0.1, "Hue shift is U[-x, x] of a full turn.")
    grey_p: float = option(
        0.2, "Probability of greyscale (in every sibling method, not in the paper's list)."
    )
    blur_p: float = option(0.5, "Probability of a Gaussian blur.")
    blur_sigma_min: float = option(0.1, "Smallest blur, standard deviation in pixels of the resized frame.")
    blur_sigma_max: float = option(2.0, "Largest blur, standard deviation in pixels of the resized frame.")
    mean: list[float] = option([0.485, 0.456, 0.406], "Mean of the colours (RGB in 0..1) for normalisation.")
    std: list[float] = option([0.229, 0.224, 0.225], "Standard deviation of the colours for normalisation.")

    def __post_init__(self) -> None:
        check(self.crop in ("random", "center"), "augment.crop", self.crop, "use random or center")
        check(
            0 < self.crop_scale_min <= self.crop_scale_max <= 1,
            "augment.crop_scale_min, crop_scale_max",
            (self.crop_scale_min, self.crop_scale_max),
            "use 0 < min <= max <= 1",
        )
        check(
            0 < self.crop_ratio_min <= self.crop_ratio_max,
            "augment.crop_ratio_min, crop_ratio_max",
            (self.crop_ratio_min, self.crop_ratio_max),
            "use 0 < min <= max",
        )
        for name in ("flip_p", "jitter_p", "grey_p", "blur_p"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name}", value, "use a probability between 0 and 1")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name}", value, "use 0 (off) to 1")
        check(0 <= self.hue <= 0.5, "augment.hue", self.hue, "use 0 (off) to 0.5")
        check(
            0 < self.blur_sigma_min <= self.blur_sigma_max <= 16,
            "augment.blur_sigma_min, blur_sigma_max",
            (self.blur_sigma_min, self.blur_sigma_max),
            "use 0 < min <= max <= 16",
        )
        check(len(self.mean) == 3, "augment.mean", self.mean, "give three numbers, for R, G and B")
        check(len(self.std) == 3 and min(self.std) > 0, "augment.std", self.std, "give three numbers above 0")
