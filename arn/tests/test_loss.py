"""The loss, part by part, and two steps of training with each."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.loss import ARNLoss, relation_loss
from src.network import ARN, SelfSupervisionHead
from src.self_supervision import KINDS, Augmentation

WAY, SHOT, QUERY, CLIP, FEATURES = 2, 2, 1, (16, 16, 16), (4, 4, 4)


def test_relation_loss_by_hand():
    scores = np.array(
        [[0.9, 0.2], [0.6, 0.1], [0.3, 0.8], [0.5, 0.5]], np.float32
    )  # two queries of each class
    wanted = (0.1**2 + 0.2**2 + 0.4**2 + 0.1**2 + 0.3**2 + 0.2**2 + 0.5**2 + 0.5**2) / 8
    assert float(relation_loss(ms.Tensor(scores), 2)) == pytest.approx(wanted, rel=1e-5)


def episode(kind):
    clips = np.random.default_rng(0).normal(size=(WAY * (SHOT + QUERY), 3, *CLIP)).astype(np.float32)
    augmentation = Augmentation(kind, 10, 4, CLIP, FEATURES)
    columns = [ms.Tensor(column) for column in (clips, *augmentation(clips, np.random.default_rng(0)))]
    return augmentation.kinds, columns


def networks(kinds):
    ms.set_seed(1)
    return ARN(WAY, SHOT, 16), SelfSupervisionHead(kinds, CLIP, 16)


def test_beta_gamma_and_margin_weigh_their_parts(pynative):
    kinds, columns = episode("rotation")
    network, head = networks(kinds)

    def value(**weights):
        return float(ARNLoss(network, head, **weights).set_train(True)(*columns))

    relation = value()
    supervision, alignment = value(beta=1.0) - relation, value(gamma=1.0) - relation
    assert 0 < relation < 1
    assert supervision == pytest.approx(np.log(4), rel=0.5)
    assert 0 < alignment < 2
    assert value(beta=0.3, gamma=0.7) == pytest.approx(
        relation + 0.3 * supervision + 0.7 * alignment, rel=1e-4
    )
    # (|d| - m)^2 = d^2 - 2 m |d| + m^2, summed over the two maps: linear and square in the margin
    margins = [value(gamma=1.0, margin=margin) - relation for margin in (0.5, 1.0)]
    assert margins[1] - 2 * margins[0] == pytest.approx(-alignment + 2 * (1.0 - 2 * 0.25), rel=1e-3)


def train(network, head, columns, steps=2, **weights):
    loss = ARNLoss(network, head, **weights)
    optimizer = nn.Adam(loss.trainable_params(), 1e-3)
    step = nn.TrainOneStepCell(loss, optimizer).set_train(True)
    before = {parameter.name: parameter.asnumpy().copy() for parameter in loss.get_parameters()}
    losses = [float(step(*columns)) for _ in range(steps)]
    moved = {
        parameter.name
        for parameter in loss.get_parameters()
        if not np.array_equal(parameter.asnumpy(), before[parameter.name])
    }
    return losses, moved


@pytest.mark.parametrize("kind", KINDS)
def test_every_self_supervision_trains(kind):
    kinds, columns = episode(kind)
    network, head = networks(kinds)
    losses, moved = train(network, head, columns, beta=0.1, gamma=0.1, margin=0.1)
    assert np.isfinite(losses).all()
    assert losses[1] != losses[0]
    weights = {
        parameter.name
        for parameter in (*network.trainable_params(), *head.trainable_params())
        if parameter.name.endswith(("weight", "gamma", "beta"))
    }
    assert weights <= moved
    assert {name.split(".")[0] for name in moved} == {"descriptor", "relation", "head"}


def test_parts_that_are_off_leave_nothing_behind(pynative):
    """Without a head the loss is the relation loss of the network, and there are no other tensors."""
    _, columns = episode("rotation")
    network, _ = networks(4)
    losses, moved = train(network, None, columns[:1], beta=0.5, gamma=0.5)
    reference, _ = networks(4)
    clips = columns[0]
    scores = reference.set_train(True)(clips[: WAY * SHOT], clips[WAY * SHOT :])
    assert losses[0] == pytest.approx(float(relation_loss(scores, WAY)), rel=1e-4)
    assert moved <= {parameter.name for parameter in network.get_parameters()}
