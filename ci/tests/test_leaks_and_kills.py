"""kill, soak and ranks: they see a run that resumes wrongly, one that leaks, and as many clips a step."""

import json

import mindspore as ms
import numpy as np
import pytest

from ci import kill, ranks, soak
from shared_utils import checkpoint, config


def run(folder, step=3, weight=1.0, loss=0.5):
    """A folder as a run leaves it."""
    (folder / "net-log").mkdir(parents=True)
    row = {"step": step, "loss": loss, "lr": 0.1}
    (folder / "net-log/metrics.jsonl").write_text(json.dumps(row) + "\n")
    checkpoint.save(folder / "net-1_3.ckpt", {"weight": ms.Parameter(np.float32([weight]))})
    return folder


@pytest.mark.parametrize(
    "changes, told",
    [
        ({}, []),
        ({"loss": 0.5 + 1e-8}, []),
        ({"loss": 0.51}, ["metrics.jsonl: loss of step 3 is 0.5 and 0.51"]),
        ({"step": 4}, ["metrics.jsonl: 2 and 2 numbers, or of other steps"]),
        ({"weight": 1 + 2**-23}, ["net-1_3.ckpt: weight"]),
    ],
)
def test_what_differs_from_a_run_never_stopped(tmp_path, changes, told):
    assert list(kill.differences(run(tmp_path / "whole"), run(tmp_path / "killed", **changes))) == told


def test_memory_and_files_that_grow():
    seen = range(100, 4100, 100)
    rows = [(clips, 900.0 + 0.5 * (clips % 200 == 0), 30 + clips // 100 % 3) for clips in seen]
    growth, files = soak.slope(rows)
    assert abs(growth) < 0.2 and files == 0
    leaking = [(clips, memory + clips / 100, held + clips // 1000) for clips, memory, held in rows]
    growth, files = soak.slope(leaking)
    assert growth == pytest.approx(10, abs=0.2) and files == 1


def test_training_that_fails_is_told():
    with pytest.raises(ValueError, match="no kinetics400 data set at gone"):
        kill.train("stnet", "unused", ["-c", "toy_config.yaml", "--dataset_path=gone"])
    with pytest.raises(ValueError, match="no kinetics400 data set at gone"):
        soak.soak("stnet", 10, ["-c", "toy_config.yaml", "--dataset_path=gone"])


@pytest.mark.parametrize(
    "model, batch", [("r2plus1d", "data_loader.train.dataset.batch_size"), ("stnet", "batch_size")]
)
def test_two_ranks_halve_the_batch_and_train_what_one_process_trains(tmp_path, monkeypatch, model, batch):
    monkeypatch.chdir(tmp_path)
    read = {}
    for count in (1, 2):
        path = tmp_path / f"{count}.yaml"
        path.write_text(json.dumps(ranks.settings(model, ["-c", "toy_config.yaml"], 3, count)))
        tree = config.load(["-c", str(path)], ranks.ROOT / model / "default_config.yaml")
        flat = config._flat(tree.to_dict())
        read[count] = {key: value for key, value in flat if not isinstance(value, dict)}
    assert read[1].pop(batch) == 2 * read[2].pop(batch)
    assert read[1] == read[2]
    with pytest.raises(ValueError, match="a batch of 3 clips is not for 2 ranks"):
        ranks.settings(model, ["-c", "toy_config.yaml", f"--{batch}=3"], 3, 2)


def test_paths_of_the_configuration_hold_in_another_folder(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "train").mkdir()
    tree = {"data": {"path": "./videos", "split": "train", "gone": "./gone"}, "size": 3}
    data = {"path": str(tmp_path / "videos"), "split": "train", "gone": "./gone"}
    assert ranks.absolute(tree, tmp_path) == {"data": data, "size": 3}
