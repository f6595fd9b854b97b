"""What the tests share."""

import pytest

from shared_utils.tests.programs import execute, graph_mode, kinetics, pynative, tiny  # noqa: F401


@pytest.fixture
def small():
    """(edge of the frames, the YAML's section model) of a tiny network."""
    return 24, {"in_d": 4, "in_h": 24, "in_w": 24, "conv1_stride_t": 1, "pool1_stride_t": 1}
