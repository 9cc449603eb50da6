"""A small supervised 3D network: shows that the corpus' motion can be learned from few clips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corpora.mocap.probe_data import Clips

WINDOW = 66
"""Frames, at 12 a second, that the network sees at once."""
_CROP = 48


class MotionNet(nn.Module):
    """Four 3D convolutions over how much each pixel changes; 0.3 million weights at width 16."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(2, width, (3, 5, 5), (2, 2, 2)),
            *_block(width, 2 * width, (3, 3, 3), (1, 2, 2)),
            *_block(2 * width, 4 * width, (3, 3, 3), (2, 2, 2)),
            *_block(4 * width, 8 * width, (3, 3, 3), (2, 2, 2)),
        )
        self.drop = nn.Dropout(0.2)
        self.classify = nn.Linear(16 * width, classes)

    def forward(self, grey_bthw: Tensor) -> Tensor:
        """Logits [B, classes] of grey frames, float32 [B, T, H, W], 0 to 255."""
        peaks_bct = self.layers(changes(grey_bthw)).amax(dim=(3, 4))
        pooled = torch.cat([peaks_bct.mean(dim=2), peaks_bct.amax(dim=2)], dim=1)
        logits: Tensor = self.classify(self.drop(pooled))
        return logits


def _block(
    inside: int, outside: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> list[nn.Module]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    convolution = nn.Conv3d(inside, outside, kernel, stride=stride, padding=padding, bias=False)
    return [convolution, nn.BatchNorm3d(outside), nn.ReLU(inplace=True)]


def changes(grey_bthw: Tensor) -> Tensor:
    """How every second frame differs from the next and the one after, each clip scaled to its own contrast.

    Returns:
        float32 [B, 2, (T - 1) // 2, H, W], absolute differences.
    """
    now, soon, later = grey_bthw[:, :-2:2], grey_bthw[:, 1:-1:2], grey_bthw[:, 2::2]
    both = torch.stack([(soon - now).abs(), (later - now).abs()], dim=1)
    return both / (both.mean(dim=(1, 2, 3, 4), keepdim=True) * 4 + 1.0)


def train(clips: Clips, classes: int, epochs: int, seed: int, log: Callable[[str], None]) -> MotionNet:
    """Train on random windows, mirrored, zoomed and retimed at random: one-cycle AdamW in bf16 autocast."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = MotionNet(classes)
    batch, count = 16, len(clips.labels_n)
    steps = epochs * (count // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(count, generator=rng)
        total = 0.0
        for start in range(0, count - batch + 1, batch):
            chosen = order[start : start + batch]
            windows = torch.stack([_random_window(clips.grey_nthw[int(i)], rng) for i in chosen])
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(windows)
            loss = F.cross_entropy(logits.float(), clips.labels_n[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        log(f"epoch {epoch + 1}/{epochs}: loss {total / (count // batch):.3f}")
    return net


def _random_window(grey_thw: Tensor, rng: torch.Generator) -> Tensor:
    """Cut a random stretch and square of a clip, at a random speed and zoom: float32 [WINDOW, 48, 48]."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=rng))

    length, side = draw(round(WINDOW * 0.8), round(WINDOW * 1.2)), grey_thw.shape[-1]
    first = draw(0, max(0, len(grey_thw) - length))
    cut = draw(46, side)
    top, left = draw(0, side - cut), draw(0, side - cut)
    window = grey_thw[_spread(first, length, len(grey_thw)), top : top + cut, left : left + cut].float()
    if draw(0, 1):
        window = window.flip(-1)
    return F.interpolate(window[:, None], size=(_CROP, _CROP), mode="bilinear", align_corners=False)[:, 0]


def _spread(first: int, length: int, frames: int) -> Tensor:
    """:data:`WINDOW` frame numbers, evenly over ``length`` frames from ``first`` on (the last one is held)."""
    return (first + torch.arange(WINDOW) * length // WINDOW).clamp(max=frames - 1)


@torch.no_grad()
def predict(net: MotionNet, clips: Clips) -> Tensor:
    """Class probabilities [N, classes], the mean over four windows of each clip and their mirror images."""
    net.eval()
    rows = []
    for grey in clips.grey_nthw:
        firsts = torch.linspace(0, max(0, len(grey) - WINDOW), 4).long().tolist()
        windows = torch.stack([grey[_spread(first, WINDOW, len(grey))] for first in firsts]).float()
        small = F.interpolate(windows, size=(_CROP, _CROP), mode="bilinear", align_corners=False)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(torch.cat([small, small.flip(-1)]))
        rows.append(logits.float().softmax(dim=1).mean(dim=0))
    return torch.stack(rows)
