"""step: one update by its formula, however the batch is cut, scaled, clipped and averaged."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from shared_utils.config import UserError
from src.step import Skipped, TrainStep, freeze_norm, mixed_precision

RATE = 0.5
CLIPS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1], np.int32)


class Linear(nn.Cell):
    """Logits of (B, 3) rows."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 3, weight_init="zeros", has_bias=False)

    def construct(self, rows, key=None):
        return self.dense(rows)


def update(smoothing=0.0, optimizer=None, **keywords):
    """(loss, weight, averaged weight) after one step."""
    ms.set_context(mode=ms.GRAPH_MODE)
    network = Linear()
    optimizer = nn.SGD(network.trainable_params(), RATE)
    step = TrainStep(network, optimizer, smoothing, **keywords).set_train()
    loss = float(step(ms.Tensor(CLIPS), ms.Tensor(LABELS)).asnumpy())
    weight = network.dense.weight.asnumpy()
    with step.averaged():
        average = network.dense.weight.asnumpy()
    np.testing.assert_array_equal(network.dense.weight.asnumpy(), weight)
    return loss, weight, average


def gradient(smoothing=0.0):
    """Of the mean cross-entropy by the zero weight: the softmax is a third everywhere."""
    targets = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    return (1 / 3 - targets).T @ CLIPS / len(CLIPS)


@pytest.mark.parametrize(
    "keywords",
    [{}, {"accumulate": 2}, {"accumulate": 4}, {"loss_scale": 1024.0}, {"accumulate": 2, "loss_scale": 8.0}],
)
def test_the_step_is_the_same_however_it_is_computed(keywords):
    loss, weight, average = update(**keywords)
    assert loss == pytest.approx(np.log(3), rel=1e-5)
    np.testing.assert_allclose(weight, -RATE * gradient(), atol=1e-6)
    np.testing.assert_array_equal(average, weight)


def test_label_smoothing_spreads_the_label():
    np.testing.assert_allclose(update(smoothing=0.3)[1], -RATE * gradient(0.3), atol=1e-6)


def test_gradients_are_clipped_to_their_norm_after_scaling_back():
    norm = np.linalg.norm(gradient())
    _, weight, _ = update(clip_norm=norm / 4, loss_scale=64.0)
    np.testing.assert_allclose(weight, -RATE * gradient() / 4, atol=1e-6)
    np.testing.assert_allclose(update(clip_norm=norm * 4)[1], -RATE * gradient(), atol=1e-6)


def test_the_average_follows_the_weights_slowly():
    _, weight, average = update(ema=0.75)
    np.testing.assert_allclose(weight, -RATE * gradient(), atol=1e-6)
    np.testing.assert_allclose(average, 0.25 * weight, atol=1e-6)


def test_gradients_that_are_not_finite_change_no_weight():
    ms.set_context(mode=ms.GRAPH_MODE)
    network = Linear()
    mixed_precision(network, "O3")
    optimizer = nn.Momentum(network.trainable_params(), RATE, 0.9)
    step = TrainStep(network, optimizer, loss_scale=2.0**14).set_train()
    for factor in (1000, 1, -1000):
        assert np.isfinite(step(ms.Tensor(CLIPS * factor), ms.Tensor(LABELS)).asnumpy())
    assert (step.skipped.asnumpy(), optimizer.global_step.asnumpy()) == (2, 3)
    np.testing.assert_allclose(network.dense.weight.asnumpy(), -RATE * gradient(), rtol=0.01)
    np.testing.assert_allclose(optimizer.moments[0].asnumpy(), gradient(), rtol=0.01)


def test_skipped_updates_are_told_by_the_epoch(capsys):
    step = TrainStep(Linear(), nn.SGD(Linear().trainable_params(), RATE), loss_scale=2.0)
    notes, run = [], SimpleNamespace(step=0, steps_per_epoch=3, note=lambda **numbers: notes.append(numbers))
    run.position = lambda: ((run.step - 1) // 3 + 1, (run.step - 1) % 3 + 1)
    skipped = Skipped(step, run)
    skipped.on_train_begin(None)
    with pytest.raises(UserError, match="epoch 3: no gradients are finite in 3 updates: lower loss_scale"):
        for run.step, count in enumerate([1, 1, 2, 2, 2, 2, 3, 4, 5], start=1):
            step.skipped.set_data(ms.Tensor(count, ms.int32))
            skipped.on_train_step_end(None)
    assert notes == [{"epoch": 1, "skipped_updates": 2}] and run.step == 9
    assert "epoch: 1, 2 of 3 updates skipped" in capsys.readouterr().out
    run.step = 2
    skipped.on_train_begin(None)
    run.step = 3
    step.skipped.set_data(ms.Tensor(6, ms.int32))
    skipped.on_train_step_end(None)  # of an epoch that is resumed nobody knows whether it was all


class Normed(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.dense = nn.Dense(4, 3)

    def construct(self, clips, key=None):
        return self.dense(self.norm(self.conv(clips)).mean((2, 3, 4)))


def train(network, level="O0"):
    ms.set_context(mode=ms.GRAPH_MODE)
    mixed_precision(network, level)
    optimizer = nn.Momentum(network.trainable_params(), 0.1, 0.9)
    step = TrainStep(network, optimizer, loss_scale=1024.0 if level != "O0" else 1.0).set_train()
    clips = ms.Tensor(np.random.default_rng(1).normal(size=(2, 3, 4, 6, 6)).astype(np.float32))
    return [float(step(clips, ms.Tensor(np.array([0, 2], np.int32))).asnumpy()) for _ in range(8)]


def test_frozen_norms_keep_their_averages_and_learn():
    network = Normed()
    freeze_norm(network)
    before = network.norm.bn2d.moving_mean.asnumpy().copy()
    losses = train(network)
    np.testing.assert_array_equal(network.norm.bn2d.moving_mean.asnumpy(), before)
    assert losses[-1] < losses[0] and (network.norm.bn2d.gamma.asnumpy() != 1).any()
    free = Normed()
    train(free)
    assert (free.norm.bn2d.moving_mean.asnumpy() != 0).any()


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_mixed_precision_computes_in_float16_and_learns(level):
    ms.set_seed(3)
    exact = train(Normed())
    ms.set_seed(3)
    network = Normed()
    losses = train(network, level)
    assert losses[-1] < losses[0] and losses == pytest.approx(exact, rel=0.05) and losses != exact
    assert network.conv.weight.dtype == ms.float32
    clips = ms.Tensor(np.ones((1, 3, 4, 6, 6), np.float32))
    assert network(clips).dtype == ms.float16


def test_an_unknown_precision():
    with pytest.raises(UserError, match="amp_level must be O0, O2 or O3, not O1"):
        mixed_precision(Normed(), "O1")


@pytest.mark.parametrize("wrong", [{"loss_scale": 0.0}, {"ema": 1.0}, {"label_smoothing": 1.5}])
def test_a_step_that_cannot_be(wrong):
    with pytest.raises(UserError, match="loss_scale must be above 0"):
        TrainStep(nn.Dense(2, 2), None, **wrong)
