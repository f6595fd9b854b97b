"""Ranks share the episodes of training and of evaluation, and judge as one does."""

from conftest import settings

from shared_utils.tests import ranks

PORT = 8450


def test_two_ranks_train_and_any_number_judges_the_same(ucf101, tmp_path):
    tree = settings(ucf101, ".")
    tree["data_loader"]["eval"]["dataset"]["batch_size"] = 3
    copy = ranks.copy_of("arn", tmp_path, tree)
    status, told = ranks.call(copy, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT)
    assert status == 0, told
    ranks.equal_weights(copy, 2)
    assert [path.name for path in (copy / "train/ckpt").glob("*-2_*.ckpt")] == ["arn-2_1.ckpt"]
    found = []
    for count in (1, 2, 3):  # 18 videos, 20 episodes
        arguments = [count, ",".join(map(str, range(count))), "tiny.yaml", copy / "rank0.ckpt"]
        status, told = ranks.call(copy, "run_distribute_eval.sh", *arguments, port=PORT + count)
        assert status == 0 and "18 videos of 3 classes, 0 of them bad" in told, told
        found.append(ranks.results(copy))
    assert found[0] == found[1] == found[2]
    assert 0 < found[0]["results"]["2_way_1_shot"]["accuracy"] < 1
