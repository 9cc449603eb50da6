"""The probe of action against background, asked what it must and must not find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name
from pal_ds.transfer.action_probe import Moments, auc, interval, main, probe


def videos(count: int, *, signal: float, seed: int, scene: float = 3.0) -> list[Moments]:
    """Features of 8 numbers: a scene that is the video's own, noise, and an action that shifts one of them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        action = np.zeros(40, dtype=bool)
        start = rng.integers(0, 30)
        action[start : start + 10] = True
        values = rng.normal(size=(40, 8)) + scene * rng.normal(size=8)
        values[:, 2] += signal * action
        found.append(Moments(values_tc=values.astype(np.float32), action_t=action))
    return found


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in rows])
    labels = np.array([label for _, label in rows])
    if labels.all() or not labels.any():
        with pytest.raises(ValueError, match="positives and negatives"):
            auc(scores, labels)
        return
    pairs = [(1.0 if a > b else 0.5 if a == b else 0.0) for a in scores[labels] for b in scores[~labels]]
    assert auc(scores, labels) == pytest.approx(100 * np.mean(pairs))


def test_noise_says_nothing_and_a_planted_action_is_found() -> None:
    nothing = probe(videos(40, signal=0, seed=0), videos(40, signal=0, seed=1))
    planted = probe(videos(40, signal=2, seed=0), videos(40, signal=2, seed=1))
    assert 45 < nothing.within < 55
    assert 45 < nothing.pooled < 55
    assert planted.within > 85
    assert planted.within > planted.pooled, "the scene hides the action where videos are pooled"


def test_paired_intervals_exclude_zero_only_for_a_real_gain() -> None:
    nothing = probe(videos(40, signal=0, seed=0), videos(40, signal=0, seed=1))
    other = probe(videos(40, signal=0, seed=2), videos(40, signal=0, seed=1))
    planted = probe(videos(40, signal=1, seed=0), videos(40, signal=1, seed=1))
    low, high = interval(other.within_v - nothing.within_v)
    assert low < 0 < high
    low, high = interval(planted.within_v - nothing.within_v)
    assert low > 0
    assert interval(planted.within_v) == interval(planted.within_v)


def write(folder: Path, moments: list[Moments], first: int) -> dict[str, dict]:
    folder.mkdir(exist_ok=True)
    database = {}
    for number, one in enumerate(moments, start=first):
        name = f"video{number}"
        frames = len(one.action_t) * 4 + 4
        sidecar = Sidecar(
            id=name, source=name, fps=8.0, clip_frames=8, stride=4, offset=0, duration=frames / 8,
            frames=frames, padded=0, features=len(one.action_t), feature_dim=8, sampling="native",
            crop="centre", size=56, checkpoint="-",
        )  # fmt: skip
        np.save(folder / array_name(name), one.values_tc)
        (folder / sidecar_name(name)).write_bytes(sidecar.to_json())
        centres = sidecar.centres()[one.action_t]
        segment = [float(centres[0]) - 0.1, float(centres[-1]) + 0.1]
        database[name] = {
            "duration": frames / 8,
            "subset": "training" if first == 0 else "validation",
            "annotations": [{"segment": segment, "label": "action"}],
        }
    return database


def test_command_compares_with_the_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database: dict[str, dict] = {}
    for name, signal in (("trained", 2.0), ("untrained", 0.0)):
        for first, seed in ((0, 0), (30, 1)):
            database |= write(tmp_path / name, videos(30, signal=signal, seed=seed), first)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"database": database}))
    words = [
        word for name in ("trained", "untrained") for word in ("--features", f"{name}={tmp_path / name}")
    ]
    assert main([*words, "--annotations", str(truth), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["control"] == "untrained"
    assert found["videos"] == 30
    assert found["features"]["trained"]["gain_interval"][0] > 20
    assert "gain" not in found["features"]["untrained"]
    assert main([*words, "--annotations", str(truth)]) == 0
    assert "beyond untrained +" in capsys.readouterr().out


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--features", "folder", "--annotations", "x.json"]) == 2
    assert capsys.readouterr().err == "action_probe: --features folder: write NAME=FOLDER\n"
    empty = [Moments(values_tc=np.zeros((4, 2), np.float32), action_t=np.zeros(4, bool))]
    with pytest.raises(ValueError, match="no validation video"):
        probe(empty, empty)
