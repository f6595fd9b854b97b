"""What the tests share: the golden answers and weights."""

import numpy as np
import pytest
from convert import pytorch_i3d_keys
from make_golden import CLASSES, GOLDEN, weight

from shared_utils.tests.programs import execute, graph_mode, kinetics, pynative, tiny  # noqa: F401
from src.network import I3D, Mixed


@pytest.fixture
def small():
    """(edge of the frames, the YAML's section model) of a tiny network."""
    return 24, {}


@pytest.fixture(scope="session")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="session")
def golden_tensors(golden):
    """{name: array} of pytorch-i3d's layout, the golden weights."""
    network = I3D(CLASSES)
    widths = {
        f"{name}.entry": cell.entry_widths
        for name, cell in network.name_cells().items()
        if isinstance(cell, Mixed)
    }
    tensors = {}
    for ours, names in pytorch_i3d_keys().items():
        count, *rest = network.parameters_dict()[ours].shape
        if ours == "classifier.weight":
            rest += [1, 1, 1]
        for name, width in zip(names, widths.get(".".join(ours.split(".")[:2]), [count])):
            tensors[name] = golden[name] if name in golden else weight(name, (width, *rest))
    return tensors
