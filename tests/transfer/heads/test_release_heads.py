"""The heads of the public releases: sizes, names, weights, targets, losses and candidates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from pal_ds.config.base import ConfigError
from pal_ds.config.heads import HeadConfig
from pal_ds.config.loading import build, load_tree
from pal_ds.transfer.heads.bmn import BMN, ReleaseLayoutError
from pal_ds.transfer.heads.boundary_loss import balanced_log_loss, map_loss
from pal_ds.transfer.heads.boundary_map import MapTargets, make_targets, valid_cells
from pal_ds.transfer.heads.gtad import GTAD
from pal_ds.transfer.heads.release_weights import load_release, read_release
from pal_ds.transfer.tasks.boundary_map_detection import build_map_head
from pal_ds.transfer.tasks.proposals import Maps, candidates

CONFIGS = Path(__file__).parents[3] / "configs" / "transfer"
GRAPH = {
    "tconvs.0": (128, 256, 1),
    "tconvs.2": (128, 4, 3),
    "tconvs.4": (256, 128, 1),
    "sconvs.0": (128, 512, 1, 1),
    "sconvs.2": (128, 4, 1, 1),
    "sconvs.4": (256, 128, 1, 1),
}


def head_of(name: str) -> HeadConfig:
    return build(HeadConfig, load_tree(str(CONFIGS / f"{name}.yaml"))["head"])


def gtad_release(channels: int, bins: int, kernel: int) -> dict[str, tuple[int, ...]]:
    weights: dict[str, tuple[int, ...]] = {
        "backbone1.0": (256, channels // 4, 3),
        "regu_s.1": (1, 256, 1),
        "regu_e.1": (1, 256, 1),
        "localization.0": (512, 256 * bins, 1, 1),
        "localization.2": (128, 512, 1, 1),
        "localization.4": (128, 128, kernel, kernel),
        "localization.6": (128, 128, kernel, kernel),
        "localization.8": (2, 128, 1, 1),
    }
    for place in ("backbone1.2", "regu_s.0", "regu_e.0", "backbone2.0"):
        weights |= {f"{place}.{name}": shape for name, shape in GRAPH.items()}
    return {f"{name}.weight": shape for name, shape in weights.items()} | {
        f"{name}.bias": shape[:1] for name, shape in weights.items()
    }


@pytest.mark.parametrize(
    ("config", "channels", "bins", "kernel", "parameters"),
    [
        ("tad_activitynet_gtad", 400, 36, 1, 5_563_268),
        ("tad_thumos_gtad", 2048, 32, 3, 5_617_540),
    ],
)
def test_both_branches_of_gtad_are_exact_and_load(
    config: str, channels: int, bins: int, kernel: int, parameters: int, tmp_path: Path
) -> None:
    head = head_of(config)
    model = build_map_head(head, channels)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == gtad_release(channels, bins, kernel)
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters
    # As the release saves it: under the wrapper's prefix, beside the epoch.
    state = {f"module.{name}": torch.full(shape, 0.01) for name, shape in shapes.items()}
    torch.save({"epoch": 5, "state_dict": state}, tmp_path / "GTAD_best.pth.tar")
    load_release(model, str(tmp_path / "GTAD_best.pth.tar"))
    assert all((value == 0.01).all() for value in model.state_dict().values())
    other = build_map_head(head_of({36: "tad_thumos_gtad", 32: "tad_activitynet_gtad"}[bins]), channels)
    with pytest.raises(ConfigError, match=r"head\.weights.*doesn't fit head\.name=gtad"):
        load_release(other, str(tmp_path / "GTAD_best.pth.tar"))


def test_bmn_has_the_releases_parameters() -> None:
    model = build_map_head(head_of("apg_activitynet_bmn"), 400)
    assert sum(value.numel() for value in model.state_dict().values()) == 4_978_564


def released_mask(size: int, samples: int, *, by_end: bool) -> Tensor:
    """sample_mask as a release makes it: [T, N, start, end] (JJBOY) or [T, N, duration, start] (mmaction2)."""
    mask = np.zeros((size, samples, size, size), np.float32)
    for start in range(size):
        for end in range(start, size):
            first, last = (start, end + 1) if by_end else (start, end)
            reach = (last - first + 1) * 0.5
            places = np.linspace(first - reach, last + reach, samples * 3)
            cell = (start, end) if by_end else (end - start, start)
            for number, place in enumerate(places):
                whole = math.trunc(place)
                for at, weight in ((whole, 1 - (place - whole)), (math.ceil(place), place - whole)):
                    if 0 <= at < size:
                        mask[at, number // 3, cell[0], cell[1]] += weight / 3
    return torch.from_numpy(mask.reshape(size, -1))


SIZE = {"snippets": 12, "durations": 12, "hidden_1d": 8, "hidden_2d": 4, "hidden_3d": 6, "samples": 5}


def released_bmn(model: BMN, mask: Tensor, x: Tensor) -> Tensor:
    """The map of a release in its own layout: sampled by its mask, then convolved."""
    hidden = model.x_1d_p(model.x_1d_b(x))
    sampled = (hidden @ mask).reshape(*hidden.shape[:2], 5, 12, 12)
    maps: Tensor = model.x_2d_p(model.x_3d_p(sampled).squeeze(2))
    return maps


@pytest.mark.parametrize("layout", ["duration-start", "start-end"])
def test_bmn_of_each_release_loads_into_its_layout_and_no_other(layout: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    by_end = layout == "start-end"
    model = BMN(8, layout=layout, **SIZE)
    mask = released_mask(12, 5, by_end=by_end)
    state = {**{name: torch.randn_like(value) * 0.3 for name, value in model.state_dict().items()}}
    saved = {f"module.{name}": value for name, value in (state | {"sample_mask": mask}).items()}
    torch.save({"epoch": 9, "state_dict": saved}, tmp_path / "BMN_best.pth.tar")
    load_release(model, str(tmp_path / "BMN_best.pth.tar"))
    x = torch.randn(2, 8, 12)
    with torch.no_grad():
        theirs, ours = released_bmn(model, mask, x), model(x)[0]
    for start in range(12):
        for end in range(start, 12):
            cell = (start, end) if by_end else (end - start, start)
            torch.testing.assert_close(
                ours[:, :, end - start, start], theirs[:, :, cell[0], cell[1]], atol=1e-5, rtol=1e-4
            )
    other = BMN(8, layout="duration-start" if by_end else "start-end", **SIZE)
    with pytest.raises(ConfigError, match=f"laid out {layout}; set head.layout={layout}"):
        load_release(other, str(tmp_path / "BMN_best.pth.tar"))
    # Neither does it load behind the reader's back.
    with pytest.raises(ReleaseLayoutError):
        other.load_state_dict({**state, "sample_mask": mask}, strict=False)
    # Why: the same weights over the other layout are another map.
    other.load_state_dict(state)
    with torch.no_grad():
        apart = (other(x)[0] - ours).abs()[..., torch.from_numpy(valid_cells(12, 12))]
    assert apart.max() > 0.1


def test_files_that_are_no_release_are_refused_in_one_line(tmp_path: Path) -> None:
    model = BMN(8, **SIZE)
    torch.save(model.state_dict(), tmp_path / "no-mask.pth")
    torch.save({"state_dict": {**model.state_dict(), "sample_mask": torch.zeros(3, 3)}}, tmp_path / "odd.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    for name, problem in (
        ("no-mask.pth", "holds no sample_mask"),
        ("odd.pth", "neither JJBOY's nor mmaction2's"),
        ("list.pth", "holds no tensors by name"),
        ("text.pth", "isn't a file of tensors alone"),
        ("text.safetensors", "isn't a file of tensors alone"),
    ):
        with pytest.raises(ConfigError, match=problem) as caught:
            load_release(model, str(tmp_path / name))
        assert "\n" not in str(caught.value)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "plain.safetensors")
    assert set(read_release(str(tmp_path / "plain.safetensors"))) == set(model.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "bmn", "map_kernel": 1},
        {"name": "bmn", "context_bins": 16},
        {"name": "gtad", "layout": "start-end"},
        {"name": "actionformer", "weights": "w.pth"},
        {"name": "lgi", "boundary_unit": (0.0, 1.0)},
        {"name": "gtad", "map_kernel": 2},
        {"name": "gtad", "boundary_unit": (0.5, 0.5)},
        {"name": "bmn", "layout": "end-start"},
        {"name": "gtad", "kernel": 3, "levels": 2, "phrases": 9},
        {"name": "gtad", "phrases": 3},
    ],
)
def test_options_of_another_head_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(HeadConfig, wrong, "head.")


@pytest.mark.parametrize(
    ("unit", "starts"),
    [
        # The start at 2 of 8: its zone is [0.5, 3.5]; a boundary counts where more than half its unit lies inside.
        ((-0.5, 0.5), [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        ((-0.5, 1.5), [0.5, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]),
        ((0.0, 1.0), [0.5, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_boundary_units_by_hand(unit: tuple[float, float], starts: list[float]) -> None:
    assert make_targets(np.array([[0.25, 0.75]]), 8, 8, unit).start_t.tolist() == starts


def test_losses_of_the_thumos_branch_by_hand() -> None:
    probability = torch.tensor([0.8, 0.1, 0.1, 0.4])
    positive = torch.tensor([True, False, False, False])
    # 1 + 10 positives, 3 + 10 negatives: ratio 24 / 11.
    ratio = 24 / 11
    by_hand = (
        -(0.5 * ratio * math.log(0.8) + 0.5 * ratio / (ratio - 1) * (2 * math.log(0.9) + math.log(0.6))) / 24
    )
    assert float(balanced_log_loss(probability, positive, prior=10)) == pytest.approx(by_hand, abs=1e-5)
    targets = make_targets(np.array([[0.0, 0.5]]), 4, 4)
    batch = MapTargets(start_t=targets.start_t[None], end_t=targets.end_t[None], iou_dt=targets.iou_dt[None])
    maps = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.from_numpy(valid_cells(4, 4).astype(np.float32))
    loss = map_loss(
        maps, torch.full((1, 4), 0.5), torch.full((1, 4), 0.5), batch, valid,
        overlap_weight=1, match_weight=10, match_prior=10, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert float(loss.total) == pytest.approx(float(loss.boundary + loss.overlap + 10 * loss.match))


@pytest.mark.parametrize("boundary", ["none", "peaks", "product"])
def test_no_candidate_ends_at_the_end_of_the_covered_time(boundary: str) -> None:
    ones: NDArray[np.float64] = np.ones((6, 6))
    maps = Maps(overlap_dt=ones, match_dt=ones, start_t=np.ones(6), end_t=np.ones(6))
    segments, _ = candidates(maps, boundary)
    spans = {(round(start * 6), round(end * 6)) for start, end in segments}
    assert spans == {(start, end) for start in range(6) for end in range(start + 1, 6)}


def test_gtad_without_map_context_scores_each_cell_alone() -> None:
    torch.manual_seed(0)
    model = GTAD(8, snippets=8, durations=8, hidden_1d=8, hidden_2d=4, hidden_3d=6, groups=2, map_kernel=1)
    assert model(torch.randn(1, 8, 8))[0].shape == (1, 2, 8, 8)
    kernel = model.localization[4]
    assert isinstance(kernel, torch.nn.Conv2d)
    assert (kernel.kernel_size, kernel.padding) == ((1, 1), (0, 0))
