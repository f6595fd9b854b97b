"""What the tests share."""

import numpy as np
import pytest
from make_golden import GOLDEN

from shared_utils.tests.programs import execute, graph_mode, kinetics, pynative  # noqa: F401


@pytest.fixture(scope="session")
def golden():
    return np.load(GOLDEN)
