"""dropout: the right share, drawn anew for every step, and the same wherever a clip is."""

import mindspore as ms
import numpy as np
import pytest

from src.dropout import Dropout

FEATURES = np.ones((8, 512, 3, 1, 1), np.float32)


def dropped(keep_prob, step, first=0, features=FEATURES, training=True):
    key = ms.Tensor([step, first], ms.int32)
    return Dropout(keep_prob).set_train(training)(ms.Tensor(features), key).asnumpy()


@pytest.mark.parametrize("keep_prob", [0.1, 0.5, 0.8])
def test_the_share_that_is_kept_and_its_scale(keep_prob):
    found = dropped(keep_prob, 7)
    assert set(np.unique(found)) == {0, np.float32(1 / keep_prob)}
    deviation = np.sqrt(keep_prob * (1 - keep_prob) / found.size)
    assert abs((found > 0).mean() - keep_prob) < 4 * deviation
    assert abs((found > 0).mean((0, 2, 3, 4)) - keep_prob).max() < 5 * deviation * np.sqrt(512)


def test_steps_places_and_seeds_are_independent():
    masks = np.stack([dropped(0.5, step).ravel() for step in [*range(10), 1000003, 1000004]]) - 1
    correlations = masks @ masks.T / masks.shape[1]
    assert abs(correlations - np.eye(len(masks))).max() < 5 / np.sqrt(masks.shape[1])
    for distance in (1, 2, 3, 512, 1536):
        assert abs((masks[:, distance:] * masks[:, :-distance]).mean()) < 5 / np.sqrt(masks.size)


def test_a_clip_drops_the_same_on_any_rank_and_nothing_in_evaluation():
    whole = dropped(0.5, 3)
    parts = [dropped(0.5, 3, first, FEATURES[first : first + 4]) for first in (0, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(dropped(0.5, 3, training=False), FEATURES)
    np.testing.assert_array_equal(dropped(1.0, 3), FEATURES)
