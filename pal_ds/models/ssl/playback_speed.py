"""Clips at several playback speeds out of one run of frames: the pretext data of SpeedNet and RSPNet.

Speeds are cut here rather than drawn in the data: every video then shows all of them, the classes are balanced,
and nothing depends on a draw.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clips_at_speeds(view_bjcthw: Tensor, speeds: tuple[int, ...]) -> Tensor:
    """Cut clips of every speed out of a view whose J * T frames are consecutive.

    A clip of speed s takes every s-th frame. Clips of one speed lie evenly over the run, the first at its begin
    and the last at its end, so that position says nothing about speed.

    Args:
        view_bjcthw: [B, J, 3, T, H, W], one run of J * T frames.
        speeds: ascending, the largest at most J.

    Returns:
        [B, len(speeds) * n, 3, T, H, W] with n = max(1, J // len(speeds)) clips a speed, speed by speed.
    """
    clips, length = view_bjcthw.shape[1], view_bjcthw.shape[3]
    assert speeds[-1] <= clips, "the configuration allows no speed that the view has no frames for"
    count = max(1, clips // len(speeds))
    device = view_bjcthw.device
    inside_t = torch.arange(length, device=device)
    rows = []
    for speed in speeds:
        room = clips * length - ((length - 1) * speed + 1)
        start_n = torch.arange(count, device=device) * room // max(1, count - 1)
        rows.append(start_n.unsqueeze(1) + speed * inside_t)
    frame_nt = torch.cat(rows)
    run_bcfhw = view_bjcthw.transpose(1, 2).flatten(2, 3)
    return run_bcfhw[:, :, frame_nt].transpose(1, 2)
