"""Two ranks train, and any number of them judges as one does."""

import numpy as np

from shared_utils.tests import ranks

PORT = 8460


def small(kinetics, **changes):
    """The configuration of an epoch of three steps, four clips each in all."""
    return {
        **{"dataset_type": "kinetics400", "dataset_path": str(kinetics), "class_num": 2, "T": 2, "N": 2},
        **{"short_size": 24, "target_size": 24, "avgpool_kernel_size": 1, "target": "CPU"},
        **{"from_scratch": True, "num_epochs": 1, "eval_split": "val", "eval_batch_size": 3, **changes},
    }


def test_two_ranks_train_and_any_number_judges_the_same(kinetics, tmp_path):
    tree = small(kinetics, batch_size=2)
    copy = ranks.copy_of("stnet", tmp_path, tree)
    status, told = ranks.call(copy, "run_distribute_train_gpu.sh", 2, "0,1", "tiny.yaml", port=PORT)
    assert status == 0, told
    ranks.equal_weights(copy, 2)
    assert [path.name for path in (copy / "train/ckpt").glob("stnet-1_*.ckpt")] == ["stnet-1_3.ckpt"]
    found = []
    for count in (1, 2, 3):
        devices = ",".join(map(str, range(count)))
        arguments = [count, devices, "tiny.yaml", kinetics, copy / "rank0.ckpt"]
        status, told = ranks.call(copy, "run_distribute_eval.sh", *arguments, port=PORT + count)
        assert status == 0 and "4 videos of 2 classes, 1 view each, 0 of them bad" in told, told
        found.append(ranks.results(copy))
    assert found[0] == found[1] == found[2]


def test_two_ranks_normalise_as_one_where_norms_are_synchronised(kinetics, tmp_path):
    # Four clips magnify what is rounded otherwise: the statistics are all that is learnt.
    changes = {"sync_norm": True, "lr": 0.0, "run_eval": False, "checkpoint_path": "output"}
    changes.update({"short_size": 64, "target_size": 64, "avgpool_kernel_size": 2})
    one = ranks.copy_of("stnet", tmp_path / "one", small(kinetics, batch_size=4, **changes))
    status, alone = ranks.call(one, "run_standalone_train_gpu.sh", "tiny.yaml", port=PORT)
    assert status == 0, alone
    two = ranks.copy_of("stnet", tmp_path / "two", small(kinetics, batch_size=2, **changes))
    status, told = ranks.call(two, "run_distribute_train_gpu.sh", 2, "0,1", "tiny.yaml", port=PORT)
    assert status == 0, told
    np.testing.assert_allclose(ranks.losses(told), ranks.losses(alone), rtol=0, atol=1e-4)
    together = ranks.equal_weights(two, 2)
    for name, tensor in ranks.weights(one / "rank0.ckpt").items():
        np.testing.assert_allclose(tensor, together[name], atol=1e-3, err_msg=name)
