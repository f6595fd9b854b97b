"""The memory of clips and batches is used again, and never while anybody has it."""

import mindspore as ms
import numpy as np
import pytest

from shared_utils.clips import Samples
from src import memory


@pytest.fixture(autouse=True)
def none_kept(monkeypatch):
    monkeypatch.setattr(memory, "kept", {})


def test_memory_is_used_again_once_nobody_has_it():
    first = memory.empty((2, 3))
    address = first.ctypes.data
    assert memory.empty((2, 3)).ctypes.data != address  # it is in use
    view = first.reshape(-1)[2:].T
    del first
    assert memory.empty((2, 3)).ctypes.data != address  # by a view
    assert memory.empty((3, 2)).ctypes.data != address and memory.empty((2, 3), np.int32).dtype == np.int32
    del view
    assert memory.empty((2, 3)).ctypes.data == address


def test_memory_of_few_shapes_is_kept():
    for size in range(50):
        memory.empty((size, 3))
    assert len(memory.kept) <= memory.SHAPES
    assert memory.stack([np.float32(1), np.float32(2)]).tolist() == [1, 2]  # labels take no memory of it
    assert len(memory.kept) <= memory.SHAPES


@pytest.mark.parametrize("how", [{"output_numpy": True}, {}, {"do_copy": False}])
def test_batches_stay_as_they_are_while_anybody_has_them(how):
    ms.set_device("CPU")

    def read(number):
        clip = memory.empty((3, 2, 5, 7))
        clip.fill(number)
        return clip, np.int32(number)

    samples, held = Samples(read, 120, 40, 2, 3, seed=1), []
    for batch in samples.dataset(["clip", "label"], memory.stack).create_tuple_iterator(num_epochs=1, **how):
        held = [*held[-9:], batch]
        for clips, labels in held:
            assert (np.asarray(clips) == np.asarray(labels).reshape(-1, 1, 1, 1, 1)).all()
    assert len(memory.kept[(3, 3, 2, 5, 7), np.dtype(np.float32)]) < 20  # of 40 batches
