"""Film strips: the region is marked where it is."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pal_ds.viz.filmstrip import Strip, film_strips


def strip(region: tuple[int, int], name: str = "query") -> Strip:
    frames = np.full((8, 8, 16, 16, 3), 90, np.uint8)
    return Strip(
        frames_jthwc=frames, region=region, beta=0.8, stride=2, name=name, action="run", background="sea"
    )


def reddish_columns(picture: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 120) & (pixels[..., 2] < 140)
    return np.flatnonzero(red.any(axis=0)) / pixels.shape[1]


@pytest.mark.parametrize("region", [(0, 1), (2, 3), (5, 3), (0, 6)])
def test_marked_part_is_the_region(region: tuple[int, int]) -> None:
    columns = reddish_columns(film_strips([(strip(region), strip(region, "key"))]))
    start, length = region
    assert columns.min() == pytest.approx(start / 8, abs=0.03)
    assert columns.max() == pytest.approx((start + length) / 8, abs=0.03)


def test_same_strips_give_the_same_bytes() -> None:
    pair = (strip((1, 2)), strip((3, 4), "key"))
    assert film_strips([pair, pair]) == film_strips([pair, pair])


def test_impossible_strips_are_refused() -> None:
    for region in ((7, 2), (-1, 2), (3, 0)):
        with pytest.raises(ValueError, match="region"):
            strip(region)
    with pytest.raises(ValueError, match="frames"):
        Strip(frames_jthwc=np.zeros((8, 8, 16, 16), np.uint8), region=(0, 1), beta=1, stride=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pairs"):
        film_strips([])
