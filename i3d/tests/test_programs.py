"""The programs on short clips: training in float16, validation, evaluation; the configuration's checks."""

import eval as evaluate
import mindspore as ms
import train

from shared_utils.tests.programs import train_and_evaluate, wrong_validation_is_refused


def test_a_run_trains_validates_and_is_evaluated_with_mixed_precision(execute, tiny):
    flags = ["--train.amp_level=O2", "--optimizer.loss_scale=1024", "--train.epochs=1"]
    best = train_and_evaluate(execute, train, evaluate, tiny, *flags)
    assert all(tensor.dtype == ms.float32 for tensor in best.values())


def test_another_networks_type_is_an_error(execute):
    status, _, error = execute(train, "--model.type=R2Plus1D18")
    assert status == 1 and "model.type is R2Plus1D18, but I3D is all there is" in error


def test_wrong_validation_is_refused(execute, tiny, kinetics):
    wrong_validation_is_refused(execute, train, tiny, kinetics)
