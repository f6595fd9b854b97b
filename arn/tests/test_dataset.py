"""dataset: classes and recordings on disk."""

import pytest

from shared_utils.config import UserError
from src import dataset


@pytest.fixture
def ucf(tmp_path):
    """Folders of empty videos, beside what is none."""
    root = tmp_path / "UCF 101"
    for name in ("Archery/v_Archery_g08_c01.avi", "Archery/v_Archery_g01_c01.avi", "Archery/.hidden.avi",
                 "HandstandPushups/v_HandStandPushups_g08_c01.avi", "YoYo/v_YoYo_g08_c01.avi",
                 "Archery/notes.txt", "Empty/notes.txt", ".Trash/v_YoYo_g01_c01.avi"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_classes_are_folders_with_videos(ucf):
    folders = dataset.class_folders(ucf)
    assert list(folders) == ["Archery", "HandstandPushups", "YoYo"]
    assert [path.name for path in folders["Archery"]] == ["v_Archery_g01_c01.avi", "v_Archery_g08_c01.avi"]
    for root, message in (
        (ucf / "none", "no data set, one folder"),
        (ucf / "Empty", "no videos in"),
        (ucf / "Archery", "no videos in"),
    ):
        with pytest.raises(UserError, match=message):
            dataset.class_folders(root)


def test_a_group_is_a_recording():
    same = {dataset.group(f"HandstandPushups/v_HandStandPushups_g01_c0{clip}.avi") for clip in range(1, 5)}
    assert same == {"HandstandPushups/g01"}
    others = ("A/v_A_g01_c01.avi", "B/v_B_g01_c01.avi", "A/v_A_g02_c01.avi", "A/x.mp4", "A/y.mp4")
    assert len({dataset.group(path) for path in others}) == 5


def test_class_splits(ucf, capsys):
    folders = dataset.class_folders(ucf)
    split = dataset.class_split(folders, ["YoYo", "Unknown", "Archery"])
    assert list(split) == ["YoYo", "Archery"] and split["YoYo"] == folders["YoYo"]
    assert capsys.readouterr().out == "1 of the 3 classes are not on disk: Unknown\n"
    with pytest.raises(
        UserError, match=r"none of the 2 classes \(archery, ...\) is on disk \(Archery"
    ):
        dataset.class_split(folders, ["archery", "yoyo"])
