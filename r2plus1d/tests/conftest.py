"""What the tests share."""

import pytest

from shared_utils.tests.programs import execute, graph_mode, kinetics, pynative, tiny  # noqa: F401


@pytest.fixture
def small():
    """(edge of the frames, the YAML's section model) of a tiny network."""
    return 16, {"stage_channels": [4, 4, 8, 8], "keep_prob": 1.0}
