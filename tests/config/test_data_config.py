import warnings

import pytest

from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig


@pytest.mark.parametrize(
    ("section", "settings", "named"),
    [
        (DataConfig, {"group_size": 2}, "data.group_size = 2"),
        (DataConfig, {"global_batch": 20}, "data.global_batch = 20"),
        (DataConfig, {"global_batch": 64, "accumulation": 3}, "data.accumulation = 3: use a divisor"),
        (DataConfig, {"start_method": "thread"}, "forkserver, fork, spawn"),
        (DataConfig, {"resize": "gpu"}, "data.resize = 'gpu'"),
        (SynthesisConfig, {"region_max": 9}, "region_max <= clips = 8"),
        (SynthesisConfig, {"stride_min": 0}, "stride_min"),
        (SynthesisConfig, {"paste": "none"}, "set region_min = region_max"),
        (SynthesisConfig, {"beta_min": 0.7, "beta_max": 0.6}, "beta_min <= beta_max"),
        (AugmentConfig, {"flip_p": 1.5}, "augment.flip_p = 1.5"),
        (AugmentConfig, {"std": [1.0, 0.0, 1.0]}, "above 0"),
    ],
)
def test_a_wrong_setting_names_itself_and_the_fix(section, settings, named):
    with pytest.raises(ConfigError) as caught:
        section(**settings)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_narrow_groups_are_warned_of():
    with pytest.warns(UserWarning, match="use 5 or more"):
        DataConfig(group_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DataConfig(group_size=8)
