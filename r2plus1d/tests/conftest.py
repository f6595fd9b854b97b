"""What the tests share."""

import mindspore as ms
import pytest


@pytest.fixture(scope="session", autouse=True)
def graph_mode():
    """What the programs run in, and several times as fast; no device can be named after the first kernel."""
    ms.set_device("CPU", 0)
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def pynative():
    """Cheaper where a network runs once: compiling it takes as long as many runs."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)
