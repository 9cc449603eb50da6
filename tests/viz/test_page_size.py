"""How many bytes a report has: pictures with frames are the most of it, charts the rest."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pal_ds.viz.filmstrip import Strip, film_strips
from pal_ds.viz.report_page import Picture, ReportData, render
from pal_ds.viz.style import data_uri

#: Bytes that a whole page may have, and a picture of four pairs in it.
PAGE, PICTURE = 1_500_000, 350_000
CLIPS, FRAMES, SIDE = 8, 8, 112


def strip(seed: int) -> Strip:
    """Frames with edges at every scale and some noise, as film has them, that move."""
    draw = np.random.default_rng(seed)
    side = 4 * SIDE
    wide = np.zeros((side, side, 3))
    for size in (4, 12, 40, side):
        patches = draw.uniform(-1, 1, (size, size, 3))
        shown = Image.fromarray((127 + 100 * patches).clip(0, 255).astype(np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        wide += (np.asarray(shown) - 127.0) / np.sqrt(size)
    wide = 127 + 50 * wide / wide.std()
    moves = [np.roll(wide, 3 * t, axis=1)[100 : 100 + SIDE, 100 : 100 + SIDE] for t in range(CLIPS * FRAMES)]
    frames = np.stack(moves).reshape(CLIPS, FRAMES, SIDE, SIDE, 3) + draw.normal(
        0, 4, (CLIPS, FRAMES, SIDE, SIDE, 3)
    )
    return Strip(frames_jthwc=frames.clip(0, 255).astype(np.uint8), region=(2, 3), beta=0.8, stride=2)


def metrics(steps: int) -> list[dict[str, float]]:
    draw = np.random.default_rng(0)
    names = ("loss", "top1", "positive_similarity", "videos_per_second", "data_wait", "grad_norm", "lr")
    return [{"step": step, **{name: draw.uniform() for name in names}} for step in range(1, steps + 1)]


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    pairs = [(strip(2 * number), strip(2 * number + 1)) for number in range(4)]
    return {kind: film_strips(pairs, title="pairs", kind=kind) for kind in ("png", "webp")}


def test_strips_in_pages_are_small_and_look_like_the_lossless_ones(pictures: dict[str, bytes]):
    assert data_uri(pictures["webp"]).startswith("data:image/webp;base64,")
    assert len(pictures["webp"]) < min(PICTURE, len(pictures["png"]) / 3)
    lossless, small = (
        np.asarray(Image.open(BytesIO(pictures[kind])).convert("RGB"), dtype=np.float64)
        for kind in ("png", "webp")
    )
    assert lossless.shape == small.shape
    psnr = 10 * np.log10(255**2 / np.mean((lossless - small) ** 2))
    assert psnr > 30


def test_a_full_page_stays_within_its_bytes(pictures: dict[str, bytes]):
    picture = Picture(data=pictures["webp"], alt="pairs", see="see")
    rows = metrics(5000)
    page = render(
        ReportData(title="run", strips=[picture], similarity=[picture], metrics=rows, queue_size=64)
    )
    assert len(page.encode()) < PAGE
    charts = render(ReportData(title="run", metrics=rows, queue_size=64))
    assert len(charts.encode()) < PAGE / 2
