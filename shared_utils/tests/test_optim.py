"""optim: rates and optimizers by their formulas."""

import math
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest

from shared_utils import optim
from shared_utils.config import UserError

STEPS, EPOCHS = 4, 3


def rates(epochs=EPOCHS, steps=STEPS, **keywords):
    defaults = {
        "lr_scheduler": "constant",
        "lr": 0.1,
        "lr_epochs": [1, 2],
        "lr_gamma": 0.5,
        "eta_min": 0.01,
        "max_epoch": 0,
        "warmup_epochs": 0,
    }
    return optim.learning_rates(SimpleNamespace(**{**defaults, **keywords}), steps, epochs)


def test_learning_rates_follow_their_formulas():
    assert rates() == [0.1] * 12
    np.testing.assert_allclose(rates(lr_scheduler="step"), [0.1] * 4 + [0.05] * 4 + [0.025] * 4)
    cosine = [0.01 + 0.09 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    np.testing.assert_allclose(rates(lr_scheduler="cosine_annealing"), cosine)
    early = [0.01 + 0.09 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)] + [0.01] * 4
    np.testing.assert_allclose(rates(lr_scheduler="cosine_annealing", max_epoch=2), early)
    ramp = [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(rates(warmup_epochs=1), [0.1 * share for share in ramp] + [0.1] * 8)
    warm = [rate * min(1, (step + 1) / 8) for step, rate in enumerate(cosine)]
    np.testing.assert_allclose(rates(lr_scheduler="cosine_annealing", warmup_epochs=2), warm)
    assert all(isinstance(rate, float) for rate in rates(lr_scheduler="step", lr=1.0))


def test_learning_rates_that_cannot_be():
    with pytest.raises(UserError, match="must be one of constant, step, cosine_annealing, not linear"):
        rates(lr_scheduler="linear")
    for empty in ({"epochs": 0}, {"steps": 0}):
        with pytest.raises(UserError, match="nothing to train"):
            rates(**empty)


@pytest.mark.parametrize("kind", ["SGD", "Momentum", "Adam"])
def test_optimizers_take_the_step_of_their_formula(kind):
    weight = ms.Parameter(ms.Tensor([1.0, -2.0], ms.float32), name="weight")
    settings = SimpleNamespace(type=kind, momentum=0.9, weight_decay=0.1, loss_scale=8.0)
    optimizer = optim.optimizer(settings, [weight], [0.1, 0.01], settings.loss_scale)
    wanted, first, second = np.array([1.0, -2.0]), 0.0, 0.0
    for step, rate in enumerate((0.1, 0.01), 1):
        gradient = np.array([0.5, 1.0])
        optimizer((ms.Tensor(8 * gradient, ms.float32),))
        gradient = gradient + 0.1 * wanted
        if kind == "Adam":
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            wanted = wanted - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        else:
            first = 0.9 * first + gradient
            wanted = wanted - rate * first
        np.testing.assert_allclose(weight.asnumpy(), wanted, rtol=1e-4)


def test_an_unknown_optimizer():
    settings = SimpleNamespace(type="Lion", momentum=0.9, weight_decay=0.0, loss_scale=1.0)
    with pytest.raises(UserError, match="must be SGD, Momentum or Adam, not Lion"):
        optim.optimizer(settings, [], [0.1])
    settings = SimpleNamespace(type="SGD", momentum=0.9, weight_decay=0.0)
    with pytest.raises(UserError, match=r"optimizer\.loss_scale must be above 0, not 0"):
        optim.optimizer(settings, [], [0.1], 0)
