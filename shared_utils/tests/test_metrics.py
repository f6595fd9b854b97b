"""metrics: against counting by hand, and the files that keep the scores."""

import csv
import hashlib
import json
import math

import cv2
import numpy as np
import pytest

from shared_utils import metrics
from shared_utils.config import UserError


@pytest.fixture
def scores():
    """Scores with ties, and labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 6, (200, 7)).astype(np.float32), rng.integers(0, 7, 200)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_top_k_equals_sorting_by_hand(scores, k):
    for row, label, hit in zip(*scores, metrics.top_k(*scores, k)):
        best = sorted(range(7), key=lambda name, row=row: (-row[name], name))[:k]
        assert hit == (label in best)


def test_top_k_of_scores_that_are_not_numbers():
    scores = np.array([[np.nan, 0.1, 0.2], [np.nan] * 3])
    assert metrics.top_k(scores, [0, 2], 1).tolist() == [False, False]


def test_confusion_and_per_class_accuracy(scores):
    labels, guesses = scores[1], scores[0].argmax(1)
    labels = np.where(labels == 3, 4, labels)  # nobody is of class 3
    matrix = metrics.confusion(labels, guesses, 7)
    for row in range(7):
        for column in range(7):
            assert matrix[row, column] == sum((labels == row) & (guesses == column))
    shares = metrics.per_class_accuracy(matrix, matrix.sum(1))
    assert math.isnan(shares[3]) and shares[4] == pytest.approx((guesses[labels == 4] == 4).mean())


@pytest.mark.parametrize("count", [2, 24, 101])
def test_confusion_is_written_as_table_and_picture(tmp_path, count, recwarn):
    names = [f"$Handstand_{{Pushups{number}$" for number in range(count)]  # no formula, to matplotlib
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 5, (count, count)) + 30 * np.eye(count, dtype=np.int64)
    matrix[1] = 0
    metrics.write_confusion(tmp_path / "new" / "folder", "net", matrix, names)
    with open(tmp_path / "new" / "folder" / "net_per_class.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "count", "accuracy"] and rows[2] == [names[1], "0", ""]
    assert rows[1] == [names[0], str(matrix[0].sum()), f"{matrix[0, 0] / matrix[0].sum():.4f}"]
    assert len(rows) == count + 1
    picture = cv2.imread(str(tmp_path / "new" / "folder" / "net_confusion.png"))
    assert min(picture.shape[:2]) >= 300 and picture.std() > 10
    assert not [warning for warning in recwarn if "layout" in str(warning.message)]


def test_results_tell_versions_and_checkpoint(tmp_path):
    checkpoint = tmp_path / "net.ckpt"
    checkpoint.write_bytes(b"weights")
    path = tmp_path / "new" / "results.json"
    metrics.write_results(path, {"Top_1_Accuracy": 0.5, "half": math.nan, "data set": "größe"}, checkpoint)

    def no_number(name):
        raise AssertionError(f"{name} is no JSON")

    results = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
    assert results["Top_1_Accuracy"] == 0.5 and results["half"] is None and results["data set"] == "größe"
    assert results["checkpoint"] == str(checkpoint)
    assert results["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert results["versions"].keys() == {"python", "mindspore", "numpy", "decord"}
    assert results["versions"]["numpy"] == np.__version__
    metrics.write_results(path, {})
    assert json.loads(path.read_text())["checkpoint_sha256"] == ""


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot make the output folder"):
            metrics.writable_folder(folder)
    with pytest.raises(UserError, match=r"cannot write .*: Is a directory"):
        metrics.write_results(tmp_path, {})
    assert metrics.writable_folder(tmp_path / "a" / "b").is_dir()
    assert metrics.writable_folder(str(tmp_path)) == tmp_path
    assert metrics.writable_folder("") == metrics.Path()


def test_a_file_may_have_the_longest_name_there_is(tmp_path):
    for name in ("x" * 250, "長" * 83):  # of 255 bytes
        metrics.write_text(tmp_path / f"{name}.json", "{}")
    assert {len(path.name.encode()) for path in tmp_path.iterdir()} == {255, 254}


def test_a_full_disk_leaves_the_earlier_files(tmp_path, monkeypatch):
    table = np.eye(2, dtype=np.int64)
    metrics.write_confusion(tmp_path, "val", table, ["a", "b"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["val_confusion.png", "val_per_class.csv"]

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*val_per_class\.csv: No space left"):
        metrics.write_confusion(tmp_path, "val", 1 - table, ["a", "b"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_without_permission_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(UserError, match="is not writable"):
        metrics.writable_folder(tmp_path)
