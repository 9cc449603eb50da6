"""Finds where one shot of a film ends and the next begins; needs the extra ``shots`` (PySceneDetect)."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from pal_ds.ffmpeg.process import CutShortError, stream_tool
from pal_ds.ffmpeg.reading import MOST_RATE, input_arguments

from ..encoding import ffmpeg_info
from ..errors import Rejected, UsageError

#: Frames are compared at this width and height in pixels.
_SIZE = (96, 72)
#: Frames between two cuts, at least.
_LEAST_FRAMES = 5
_DISTRIBUTION = "scenedetect-headless"


def detector_identity(threshold: float) -> dict[str, str | float]:
    """Return what decides where cuts are found, beside the ffmpeg build.

    Raises:
        UsageError: PySceneDetect is not installed.
    """
    try:
        import cv2
        import scenedetect
    except ImportError as error:
        raise UsageError(
            f"--shots needs PySceneDetect: pip install {_DISTRIBUTION} (the extra 'shots'); import says: {error}"
        ) from error
    return {
        "detector": "adaptive",
        "threshold": threshold,
        "scenedetect": str(getattr(scenedetect, "__version__", ""))
        or importlib.metadata.version(_DISTRIBUTION),
        "opencv": str(cv2.__version__),
    }


def find_shots(path: Path, *, threshold: float, timeout: float) -> tuple[float, list[float]]:
    """Decode a film once, small, and return its length and the times at which a new shot begins, in seconds.

    A time lies half a frame before the first frame of its shot, so that a cut there takes no frame of the other.

    Args:
        path: local file.
        threshold: see :class:`~shards.measuring.cuts.CutOptions`.
        timeout: seconds that decoding may take, beside four for each of the film's own.

    Raises:
        Rejected: at stage ``probe``: no video, not a frame of it can be decoded, or it takes too long.
    """
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    info = ffmpeg_info.probe(path, timeout=timeout)
    rate = min(info.fps or 25.0, MOST_RATE)
    width, height = _SIZE
    arguments = [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-reinit_filter", "0"),
        *input_arguments(str(path)),
        *("-map", f"0:{info.stream}", "-an", "-sn", "-dn", "-filter_threads", "1"),
        *("-vf", f"setpts=PTS-STARTPTS,fps={rate:.6f},scale={width}:{height}:flags=area,format=bgr24"),
        *("-threads", "1", "-f", "rawvideo", "-"),
    ]
    detector: Any = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=_LEAST_FRAMES)
    cuts: list[float] = []
    count = 0
    frames = stream_tool(arguments, timeout=timeout + 4 * info.duration, piece_bytes=3 * width * height)
    try:
        for data in frames:
            frame_hwc = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            found = detector.process_frame(FrameTimecode(count, rate), frame_hwc)
            cuts += [(cut.frame_num - 0.5) / rate for cut in found]
            count += 1
    except CutShortError as error:
        raise Rejected("probe", f"looking for shots: {error}") from error
    if count == 0:
        raise Rejected("probe", "no frame of it can be decoded")
    return count / rate, [round(cut, 3) for cut in cuts]
