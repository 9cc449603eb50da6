"""Synthetic training videos as film strips: which clips are background, which hold the pasted action.

A pair is what the network is trained on: query and key hold the *same* action at other places, lengths and
speeds over *different* backgrounds; it must give both regions one description.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds.viz.style import ACTION, BACKGROUND, INK, new_figure, to_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip:
    """One synthetic video.

    Attributes:
        frames_jthwc: uint8 [J clips, T frames, H, W, 3].
        region: first clip of the pasted action, and how many clips it has.
        beta: weight of the action in the blend, 1 hides the background.
        stride: step in frames at which the action was sampled; above 1 it plays faster.
        background_stride: the same for the background; None leaves it out of the label.
        name: ``query`` or ``key``.
        action: what was pasted, e.g. the sample's key.
        background: what it was pasted over.
    """

    frames_jthwc: NDArray[np.uint8]
    region: tuple[int, int]
    beta: float
    stride: int
    background_stride: int | None = None
    name: str = "query"
    action: str = ""
    background: str = ""

    def __post_init__(self) -> None:
        shape = self.frames_jthwc.shape
        if self.frames_jthwc.dtype != np.uint8 or len(shape) != 5 or shape[-1] != 3:
            raise ValueError(f"frames: {self.frames_jthwc.dtype} {shape}: use uint8 [J, T, H, W, 3]")
        start, length = self.region
        if not (start >= 0 and length >= 1 and start + length <= shape[0]):
            raise ValueError(f"region = {self.region}: use clips 0 to {shape[0]}")


def film_strips(
    pairs: list[tuple[Strip, Strip]], *, frames_per_clip: int = 2, kind: str = "png", title: str = ""
) -> bytes:
    """Draw pairs of synthetic videos, query over key, clips aligned.

    Args:
        pairs: query and key of each sample.
        frames_per_clip: frames shown of every clip, evenly spaced, first and last included.
        kind: ``png``, ``svg`` or ``webp``.
        title: above everything.

    Returns:
        The picture's bytes.

    Raises:
        ValueError: no pairs, or strips of different lengths.
    """
    strips = [strip for pair in pairs for strip in pair]
    if not strips or len({strip.frames_jthwc.shape[0] for strip in strips}) != 1:
        raise ValueError("pairs: give at least one, all with the same number of clips")
    clips = strips[0].frames_jthwc.shape[0]
    cell = 0.72
    width, height = clips * (frames_per_clip * cell + 0.12), cell + 0.62
    # Above the first strip stands its label, and above that the title: inches, however many strips there are.
    above = 0.75 if title else 0.3
    whole = len(strips) * height + 0.3 * (len(pairs) - 1) + above
    canvas = new_figure(width, whole)
    ratios = [ratio for _ in pairs for ratio in (1.0, 1.0, 0.02)][:-1]
    grid = canvas.add_gridspec(
        len(ratios), 1, height_ratios=ratios, hspace=0.5, left=0, right=1, bottom=0, top=1 - above / whole
    )
    for number, strip in enumerate(strips):
        row = number // 2 * 3 + number % 2
        _draw(canvas.add_subplot(grid[row, 0]), strip, frames_per_clip)
    if title:
        canvas.suptitle(title, fontsize=12, color=INK, y=1.0)
    return to_bytes(canvas, kind)


def _draw(axes: Any, strip: Strip, frames_per_clip: int) -> None:
    from matplotlib.patches import Rectangle

    clips, frames, height, width, _ = strip.frames_jthwc.shape
    shown = np.linspace(0, frames - 1, frames_per_clip).round().astype(int)
    start, length = strip.region
    gap = 0.1 * width
    pitch = frames_per_clip * width + gap
    for clip in range(clips):
        left = clip * pitch
        picture = np.concatenate(list(strip.frames_jthwc[clip, shown]), axis=1)
        right = left + frames_per_clip * width
        axes.imshow(picture, extent=(left, right, height, 0), aspect="auto", interpolation="bilinear")
        inside = start <= clip < start + length
        bar = Rectangle(
            (left, height * 1.04), right - left, height * 0.08, color=ACTION if inside else BACKGROUND
        )
        bar.set_clip_on(False)
        axes.add_patch(bar)
    box = (start * pitch - gap * 0.3, -gap * 0.3)
    size = (length * pitch - gap + gap * 0.6, height + gap * 0.6)
    axes.add_patch(Rectangle(box, *size, fill=False, edgecolor=ACTION, linewidth=2.6, clip_on=False))
    axes.set_xlim(-gap * 0.5, clips * pitch - gap * 0.5)
    axes.set_ylim(height * 1.14, -gap * 0.5)
    axes.axis("off")
    axes.text(0, -height * 0.13, _label(strip), fontsize=9.5, color=INK, va="bottom", ha="left")


def _label(strip: Strip) -> str:
    start, length = strip.region
    clips = f"clip {start + 1}" if length == 1 else f"clips {start + 1} to {start + length}"
    speed = "every frame" if strip.stride <= 1 else f"every {_ordinal(strip.stride)} frame"
    parts = [
        f"{strip.name.capitalize()}: action{_named(strip.action)} in {clips}, {speed}, β = {strip.beta:.2f}"
    ]
    over = f"over background{_named(strip.background)}"
    if strip.background_stride is not None:
        over += f" (every {_ordinal(strip.background_stride)} frame)" if strip.background_stride > 1 else ""
    return ", ".join([*parts, over])


def _named(text: str) -> str:
    return f" {text}" if text else ""


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
