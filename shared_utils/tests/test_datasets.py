"""datasets: official lists, classes and groups on disk, label maps, and how errors are told."""

from pathlib import Path

import pytest

from shared_utils import datasets
from shared_utils.config import UserError


@pytest.fixture
def ucf(tmp_path):
    """UCF101's layout with empty files; file names spell HandstandPushups otherwise, as published."""
    root = tmp_path / "UCF 101"
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_bytes(b"\xef\xbb\xbf1 Archery\r\n2 HandstandPushups\r\n3 YoYo\r\n\r\n")
    train = [
        "Archery/v_Archery_g08_c01.avi 1",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi 2",
        "YoYo/v_YoYo_g08_c01.avi 3",
        "YoYo/v_YoYo_g09_c01.avi 3",
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
    train, missing, _ = datasets.ucf101(ucf, "train")
    assert [(video.id, video.label) for video in train] == [
        ("Archery/v_Archery_g08_c01", 0),
        ("HandstandPushups/v_HandStandPushups_g08_c01", 1),
        ("YoYo/v_YoYo_g08_c01", 2),
    ]
    assert missing == ["YoYo/v_YoYo_g09_c01.avi"]
    assert all(video.path == ucf / f"{video.id}.avi" for video in train)
    test, missing, _ = datasets.ucf101(ucf, "test")
    assert [video.label for video in test] == [0, 1] and missing == []
    assert datasets.ucf101(ucf, "test")[2] == {"Archery": 0, "HandstandPushups": 1, "YoYo": 2}


def test_a_folder_of_frames_stands_for_its_video(ucf):
    path = ucf / "Archery" / "v_Archery_g01_c01"
    path.with_suffix(".avi").unlink()
    path.mkdir()
    (path / "000000.jpg").touch()
    video = datasets.ucf101(ucf, "test")[0][0]
    assert video == ("Archery/v_Archery_g01_c01", path, 0)
    assert datasets.video_files(path.parent) == [path, ucf / "Archery" / "v_Archery_g08_c01.avi"]


def test_lists_that_cannot_be_used(ucf):
    with pytest.raises(UserError, match=r"cannot read .*testlist04\.txt"):
        datasets.ucf101(ucf, "test", "4")
    lists = ucf / "ucfTrainTestlist"
    (lists / "testlist02.txt").write_text("Empty/v_Empty_g01_c01.avi\n")
    with pytest.raises(UserError, match="none of the 1 videos of the test list is in"):
        datasets.ucf101(ucf, "test", "2")
    (ucf / "Empty" / "v_Empty_g01_c01.avi").touch()
    with pytest.raises(UserError, match=r"classInd.txt has no class Empty"):
        datasets.ucf101(ucf, "test", "2")
    (lists / "testlist03.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"testlist03\.txt is empty"):
        datasets.ucf101(ucf, "test", "3")
    for line in ("Archery 1", "\u00b2 Archery"):  # a digit, but no number
        (lists / "classInd.txt").write_text(f"{line}\n", "utf-8")
        with pytest.raises(UserError, match=f"'{line}' is not `<number> <class>`"):
            datasets.ucf101(ucf, "train")
    for numbers in ("1 Archery\n3 YoYo\n", "1 Archery\n1 YoYo\n"):  # labels that the network has no score for
        (lists / "classInd.txt").write_text(numbers)
        with pytest.raises(UserError, match="must number its 2 classes from 1, each once"):
            datasets.ucf101(ucf, "train")


def test_a_link_to_nowhere_is_listed_as_a_video(ucf):
    link = ucf / "Empty" / "v_Empty_g01_c01.avi"
    link.symlink_to(ucf / "gone.avi")
    assert datasets.video_files(ucf / "Empty") == [link]


def test_a_video_is_named_by_its_folder_and_its_file():
    assert datasets.video_id("a/HandstandPushups/v_HandStandPushups_g01_c04.AVI") == (
        "HandstandPushups/v_HandStandPushups_g01_c04"
    )
    assert datasets.video_id("a/C/v_C_g01_c04") == "C/v_C_g01_c04"
    assert datasets.video_id("C/a.b.mp4") == "C/a.b" and datasets.video_id("C/a.b") == "C/a.b"


def test_a_label_map_is_kept_and_compared(tmp_path):
    path, labels = tmp_path / "net.ckpt", {"Größe": 0, "b": 1, "c": 2}
    assert datasets.read_label_map(path) is None
    datasets.write_label_map(path, labels)
    assert datasets.read_label_map(path) == labels and [*tmp_path.iterdir()] == [tmp_path / "net.labels.json"]
    datasets.check_labels("x", dict(reversed(labels.items())), labels)
    for other, message in (
        ({**labels, "b": 2, "c": 1}, "class b is 1 there and 2 here"),
        ({"Größe": 0, "c": 2}, "class b is 1 there and missing here"),
        ({**labels, "d": 3}, "class d is missing there and 3 here"),
    ):
        with pytest.raises(UserError, match=message):
            datasets.check_labels("x", labels, other)
    (tmp_path / "net.labels.json").write_bytes(b"{}")
    with pytest.raises(UserError, match="class Größe is missing there"):
        datasets.check_labels("x", datasets.read_label_map(path), labels)
    for content in (b"", b"[1]", b"3", b"\xff", b'{"a": 0'):
        (tmp_path / "net.labels.json").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read the label map .*net\.labels\.json"):
            datasets.read_label_map(path)


def test_a_label_map_belongs_to_one_file(tmp_path):
    for name, label in (("net.ckpt", "a"), ("net.mindir", "b"), ("net.onnx", "c")):
        datasets.write_label_map(tmp_path / name, {label: 0})
    found = [datasets.read_label_map(tmp_path / f"net.{suffix}") for suffix in ("ckpt", "mindir", "onnx")]
    assert found == [{"a": 0}, {"b": 0}, {"c": 0}]
    datasets.write_label_map(tmp_path / "net.onnx", None)  # a file without one takes its place
    assert datasets.read_label_map(tmp_path / "net.onnx") is None
    datasets.write_label_map(tmp_path / "new.onnx", {})


def test_a_full_disk_leaves_the_old_label_map(tmp_path, monkeypatch):
    path = tmp_path / "net.ckpt"
    datasets.write_label_map(path, {"a": 0})

    def full(self, text, **options):
        self.write_bytes(text.encode()[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left"):
        datasets.write_label_map(path, {"b": 0})
    assert datasets.read_label_map(path) == {"a": 0}
    assert [*tmp_path.iterdir()] == [tmp_path / "net.labels.json"]


@pytest.fixture
def kinetics(tmp_path):
    """Kinetics-400's layout with empty files: one below its split, one below a class folder, one missing."""
    root = tmp_path / "kinetics"
    (root / "train" / "zumba").mkdir(parents=True)
    (root / "train" / "-a_b_000003_000013.mp4").touch()
    (root / "train" / "zumba" / "cccc_000120_000130.mkv").touch()
    rows = ["label,youtube_id,time_start,time_end,split", "abseiling,-a_b,3,13,train"]
    rows += ["zumba,cccc,120,130,train", "zumba,gone,1,11,train"]
    (root / "kinetics-400_train.csv").write_text("\n".join(rows))
    return root


def test_kinetics_videos_are_found_by_their_csv(kinetics):
    videos, missing, labels = datasets.labelled(kinetics, "Kinetic400", "train", 400)
    assert [(video.id, video.label) for video in videos] == [
        ("-a_b_000003_000013", 0),
        ("cccc_000120_000130", 399),
    ]
    assert missing == ["gone_000001_000011"] and len(labels) == 400
    assert list(labels)[:2] == ["abseiling", "air drumming"] and labels["zumba"] == 399
    (kinetics / "train" / "gone_000001_000011").mkdir()  # without frames
    assert datasets.labelled(kinetics, "Kinetic400", "train", 400)[1] == ["gone_000001_000011"]
    videos, _, labels = datasets.labelled(kinetics, "Kinetics400", "train", 2)
    assert labels == {"abseiling": 0, "zumba": 1} and [video.label for video in videos] == [0, 1]
    few = kinetics / "few.csv"
    few.write_text("label,youtube_id,time_start,time_end,split\nzumba,cccc,120,130,x\n")
    videos, missing, labels = datasets.labelled(kinetics, "Kinetic400", "train", 2, str(few))
    assert [video.label for video in videos] == [1] and not missing
    few.write_bytes(b"\xef\xbb\xbf" + few.read_bytes())  # as a spreadsheet writes it
    videos, missing, labels = datasets.labelled(kinetics, "Kinetic400", "train", 1, str(few))
    assert labels == {"zumba": 0} and [video.label for video in videos] == [0]
    few.write_text(few.read_text("utf-8-sig") + "zumba,cccc,120,130,x\nzumba,gone,1,2,x\nzumba,gone,1,2,x\n")
    videos, missing, _ = datasets.labelled(kinetics, "Kinetic400", "train", 1, str(few))
    assert len(videos) == len(missing) == 1  # a row that is there twice
    few.write_text("label,youtube_id,time_start,time_end,split\n")
    with pytest.raises(UserError, match=r"none of the 0 videos of the train list"):
        datasets.labelled(kinetics, "Kinetic400", "train", 400, str(few))


def test_kinetics_lists_that_do_not_fit(kinetics):
    with pytest.raises(UserError, match=r"2 classes in train of .*, num_classes \(class_num\) is 7"):
        datasets.labelled(kinetics, "Kinetic400", "train", 7)
    with pytest.raises(UserError, match=r"cannot read the list .*kinetics-400_val.csv"):
        datasets.labelled(kinetics, "Kinetic400", "val", 400)
    with pytest.raises(UserError, match=r"dataset.type must be Kinetic400, UCF101 or HMDB51, not Kinetics"):
        datasets.labelled(kinetics, "Kinetics", "train", 400)
    with pytest.raises(UserError, match="no Kinetic400 data set at"):
        datasets.labelled(kinetics / "no", "Kinetic400", "train", 400)
    path = kinetics / "kinetics-400_train.csv"
    path.write_text(path.read_text() + "\nflying,x,1,2,train")
    with pytest.raises(UserError, match="flying of the train list is none of the 400 classes"):
        datasets.labelled(kinetics, "Kinetic400", "train", 400)
    path.write_text(path.read_text() + "\nzumba,x,one,2,train")
    with pytest.raises(UserError, match=r"line 6 of .* is no row of Kinetics-400"):
        datasets.labelled(kinetics, "Kinetic400", "train", 400)
    for columns, cut in (
        ("youtube_id,time_start,time_end,split,label", "a,1,2,train"),
        ("time_start,time_end,split,label,youtube_id", "1,2,train,zumba"),
    ):
        path.write_text(f"{columns}\n{cut}")
        with pytest.raises(UserError, match=r"line 2 of .* is no row of Kinetics-400"):
            datasets.labelled(kinetics, "Kinetic400", "train", 400)
    path.write_text("label,youtube_id,time_start,time_end,split\nzumba,gone,1,11,train")
    with pytest.raises(UserError, match="none of the 1 videos of the train list is in"):
        datasets.labelled(kinetics, "Kinetic400", "train", 400)


def test_ucf101_takes_a_list_of_the_users(ucf, tmp_path):
    (ucf / "YoYo").mkdir(exist_ok=True)
    (ucf / "YoYo" / "v_YoYo_g09_c01.avi").touch()
    (tmp_path / "mine.txt").write_text("YoYo/v_YoYo_g09_c01.avi 3\nYoYo/gone.avi\n")
    videos, missing, _ = datasets.ucf101(ucf, "train", str(tmp_path / "mine.txt"))
    assert [(video.id, video.label) for video in videos] == [("YoYo/v_YoYo_g09_c01", 2)]
    assert missing == ["YoYo/gone.avi"]
