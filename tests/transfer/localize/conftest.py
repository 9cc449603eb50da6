"""A trained head and its model, made once for the tests of this folder."""

import pytest

from tests.support.localizer_model import Trained, train_model


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    return train_model(tmp_path_factory.mktemp("trained"))
