"""Two ranks train, and any number of them judges as one does."""

from shared_utils.tests import ranks

PORT = 8460


def test_two_ranks_train_and_any_number_judges_the_same(kinetics, tmp_path):
    tree = {
        **{"dataset_type": "kinetics400", "dataset_path": str(kinetics), "class_num": 2, "T": 2, "N": 2},
        **{"short_size": 24, "target_size": 24, "avgpool_kernel_size": 1, "target": "CPU"},
        **{"from_scratch": True, "batch_size": 2, "num_epochs": 1, "eval_split": "val", "eval_batch_size": 3},
    }
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
