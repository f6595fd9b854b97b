"""datasets: official lists, classes and groups on disk, label maps, and how errors are told."""

import threading
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest

from shared_utils import datasets
from shared_utils.config import UserError
from shared_utils.video import VideoError


@pytest.fixture
def ucf(tmp_path):
    """UCF101's layout with empty files; file names spell HandstandPushups otherwise, as published."""
    root = tmp_path / "UCF 101"
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_bytes(b"1 Archery\r\n2 HandstandPushups\r\n10 YoYo\r\n\r\n")
    train = [
        "Archery/v_Archery_g08_c01.avi 1",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi 2",
        "YoYo/v_YoYo_g08_c01.avi 10",
        "YoYo/v_YoYo_g09_c01.avi 10",
    ]
    test = ["Archery/v_Archery_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    (lists / "trainlist01.txt").write_bytes("\r\n".join(train).encode())
    (lists / "testlist01.txt").write_text("\n".join(test))
    for line in [*train[:-1], *test]:
        path = root / line.split()[0]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (root / "Archery" / "notes.txt").touch()
    (root / "Archery" / ".hidden.avi").touch()
    (root / "Empty").mkdir()
    return root


def test_official_lists(ucf):
    train, missing = datasets.ucf101(ucf, "train")
    assert [(video.id, video.label) for video in train] == [
        ("Archery/v_Archery_g08_c01", 0),
        ("HandstandPushups/v_HandStandPushups_g08_c01", 1),
        ("YoYo/v_YoYo_g08_c01", 9),
    ]
    assert missing == ["YoYo/v_YoYo_g09_c01.avi"]
    assert all(video.path == ucf / f"{video.id}.avi" for video in train)
    test, missing = datasets.ucf101(ucf, "test")
    assert [video.label for video in test] == [0, 1] and missing == []
    assert datasets.ucf101_labels(ucf) == {"Archery": 0, "HandstandPushups": 1, "YoYo": 9}


def test_a_folder_of_frames_stands_for_its_video(ucf):
    path = ucf / "Archery" / "v_Archery_g01_c01"
    path.with_suffix(".avi").unlink()
    path.mkdir()
    (path / "000000.jpg").touch()
    video = datasets.ucf101(ucf, "test")[0][0]
    assert video == ("Archery/v_Archery_g01_c01", path, 0)
    assert datasets.class_folders(ucf)["Archery"] == [path, ucf / "Archery" / "v_Archery_g08_c01.avi"]


def test_lists_that_cannot_be_used(ucf):
    with pytest.raises(UserError, match=r"cannot read .*testlist04\.txt"):
        datasets.ucf101(ucf, "test", 4)
    lists = ucf / "ucfTrainTestlist"
    (lists / "testlist02.txt").write_text("Empty/v_Empty_g01_c01.avi\n")
    with pytest.raises(UserError, match="none of the 1 videos of the test list is in"):
        datasets.ucf101(ucf, "test", 2)
    (ucf / "Empty" / "v_Empty_g01_c01.avi").touch()
    with pytest.raises(UserError, match=r"classInd.txt has no class Empty"):
        datasets.ucf101(ucf, "test", 2)
    (lists / "testlist03.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"testlist03\.txt is empty"):
        datasets.ucf101(ucf, "test", 3)
    (lists / "classInd.txt").write_text("Archery 1\n")
    with pytest.raises(UserError, match="'Archery 1' is not `<number> <class>`"):
        datasets.ucf101(ucf, "train")


def test_classes_are_folders_with_videos(ucf):
    folders = datasets.class_folders(ucf)
    assert list(folders) == ["Archery", "HandstandPushups", "YoYo"]
    assert [path.name for path in folders["Archery"]] == ["v_Archery_g01_c01.avi", "v_Archery_g08_c01.avi"]
    for root, message in (
        (ucf / "none", "no data set, one folder"),
        (ucf / "Empty", "no videos in"),
        (ucf / "Archery", "no videos in"),
    ):
        with pytest.raises(UserError, match=message):
            datasets.class_folders(root)


def test_a_class_is_its_folder_and_a_group_its_recording():
    assert datasets.video_id("a/HandstandPushups/v_HandStandPushups_g01_c04.AVI") == (
        "HandstandPushups/v_HandStandPushups_g01_c04"
    )
    assert datasets.video_id("a/C/v_C_g01_c04") == "C/v_C_g01_c04"
    assert datasets.video_id("C/a.b.mp4") == "C/a.b" and datasets.video_id("C/a.b") == "C/a.b"
    same = {datasets.group(f"HandstandPushups/v_HandStandPushups_g01_c0{clip}.avi") for clip in range(1, 5)}
    assert same == {"HandstandPushups/g01"}
    others = ("A/v_A_g01_c01.avi", "B/v_B_g01_c01.avi", "A/v_A_g02_c01.avi", "A/x.mp4", "A/y.mp4")
    assert len({datasets.group(path) for path in others}) == 5


def test_class_splits(ucf):
    folders = datasets.class_folders(ucf)
    split = datasets.class_split(folders, ["YoYo", "Unknown", "Archery"])
    assert list(split) == ["YoYo", "Archery"] and split["YoYo"] == folders["YoYo"]
    with pytest.raises(
        UserError, match=r"none of the 2 classes \(archery, ...\) is on disk \(Archery"
    ):
        datasets.class_split(folders, ["archery", "yoyo"])


def test_a_label_map_is_kept_and_compared(tmp_path):
    path, labels = tmp_path / "net.labels.json", {"Größe": 0, "b": 1, "c": 2}
    datasets.write_label_map(path, labels)
    assert datasets.read_label_map(path) == labels
    datasets.check_label_map(path, dict(reversed(labels.items())))
    for other, message in (
        ({**labels, "b": 2, "c": 1}, "class b is 1 there and 2 here"),
        ({"Größe": 0, "c": 2}, "class b is 1 there and missing here"),
        ({**labels, "d": 3}, "class d is missing there and 3 here"),
    ):
        with pytest.raises(UserError, match=message):
            datasets.check_label_map(path, other)
    for content in (b"", b"[1]", b"3", b"\xff", b'{"a": 0'):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot read the label map"):
            datasets.check_label_map(path, labels)
    with pytest.raises(UserError, match="cannot read the label map"):
        datasets.read_label_map(tmp_path / "none.json")


def test_a_full_disk_leaves_the_old_label_map(tmp_path, monkeypatch):
    path = tmp_path / "net.labels.json"
    datasets.write_label_map(path, {"a": 0})

    def full(self, text, encoding):
        self.write_bytes(text.encode()[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"cannot write the label map .*: No space left"):
        datasets.write_label_map(path, {"b": 0})
    assert datasets.read_label_map(path) == {"a": 0} and list(tmp_path.iterdir()) == [path]


def test_bad_videos_are_told_once_and_limited_in_all_threads(capsys):
    bad = datasets.BadVideos(limit=3)
    raised = []

    def report():
        for _ in range(50):
            for name in ("a", "b", "c"):
                try:
                    bad.report(VideoError(Path(name), "broken"))
                except UserError as error:
                    raised.append(error)

    threads = [threading.Thread(target=report) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ", 1)[1] for line in lines) == [
        f"cannot decode {name}: broken" for name in "abc"
    ]
    assert [line.split(": ")[0] for line in lines] == [
        "bad video 1",
        "bad video 2",
        "bad video 3",
    ] and not raised
    with pytest.raises(
        UserError, match=r"4 bad videos, max_bad_videos is 3; .*d: broken"
    ):
        bad.report(VideoError(Path("d"), "broken"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_while_reading_arrives_as_it_was(workers):
    def read(number):
        if number == 5:
            raise VideoError("x.avi", "broken")
        if number > 20:
            raise ZeroDivisionError
        return np.float32(number) * np.ones(2, np.float32)

    def use(numbers):
        reading = datasets.Reading(read)
        rows = ds.NumpySlicesDataset(np.array(numbers), ["number"], shuffle=False)
        rows = rows.map(
            reading, ["number"], ["row"], python_multiprocessing=False, num_parallel_workers=workers
        )
        with reading.errors():
            return [int(row["row"][0]) for row in rows.create_dict_iterator(num_epochs=1, output_numpy=True)]

    assert use([1, 2, 3]) == [1, 2, 3]
    with pytest.raises(VideoError) as caught:
        use(range(20))
    assert str(caught.value) == "cannot decode x.avi: broken" and caught.value.path == "x.avi"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):  # no user's mistake: with its traceback
        use([30])
