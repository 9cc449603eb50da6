"""Shipped configs train through the real command: a few here, all of them in benchmarks/models/ablations.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from benchmarks.models.ablations import train
from benchmarks.models.common import ROOT
from tests.support.full import rest
from tests.support.launching import PATTERNS, make_set
from tests.support.shared_folder import shared_folder

pytestmark = pytest.mark.slow

CONFIGS = ROOT / "configs" / "pretrain"
STEPS = 20


@pytest.fixture(scope="session")
def labelled_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 24 training and 8 validation clips of 70 frames in 4 classes."""
    make = partial(make_set, clips=32, one_in=4, source=PATTERNS.replace("d=2.4", "d=2.8"))
    return shared_folder(tmp_path_factory, "labelled-set", make) / "set"


@pytest.mark.parametrize("name", ["pal_modern", "tac_i3d_k400", *rest(["rspnet_i3d_k400"])])
def test_a_config_trains(name: str, labelled_set: Path, tmp_path: Path) -> None:
    found = train(CONFIGS / f"{name}.yaml", str(labelled_set), tmp_path / "run", STEPS)
    assert found["sound"], found
    assert found["steps"] == STEPS
    assert found["state"] == "done"
