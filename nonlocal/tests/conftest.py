"""What the tests share."""

import mindspore as ms
import pytest


@pytest.fixture(scope="session", autouse=True)
def graph_mode():
    """What the programs run in; no device can be named after the first kernel."""
    ms.set_device("CPU", 0)
    ms.set_context(mode=ms.GRAPH_MODE)
