"""dataset_preprocess.py on names, links and lists as users have them."""

import os
import shutil

import numpy as np
import pytest

from shared_utils.config import UserError
from shared_utils.video import decode
from src import dataset_preprocess


def words(data, output):
    return ["--source_data_dir", str(data), "--output_dir", str(output), "--size", "8", "8"]


def test_names_that_are_no_text_are_written_and_links_to_nowhere_told(ucf101, tmp_path, capsys):
    """OpenCV ends the process where it is given such a name."""
    name = os.fsdecode(b"v_\xff\xfe.avi")
    (tmp_path / "data" / "ZoomIn").mkdir(parents=True)
    shutil.copy(next((ucf101 / "ZoomIn").iterdir()), tmp_path / "data" / "ZoomIn" / name)
    (tmp_path / "data" / "ZoomIn" / "gone.avi").symlink_to("/nowhere/gone.avi")
    (tmp_path / "data" / "ZoomIn" / "torn.avi").write_bytes(b"no video")
    assert dataset_preprocess.main(words(tmp_path / "data", tmp_path / "out")) == 1
    told = capsys.readouterr().out
    assert "1 videos written" in told and "gone.avi: " in told and "torn.avi: " in told
    assert len(decode(tmp_path / "out" / "ZoomIn" / name.removesuffix(".avi"), np.arange)) >= 8
    assert len(list((tmp_path / "out" / "ZoomIn").iterdir())) == 1  # nothing is left of the bad ones


def test_lists_that_are_there_stay(ucf101, tmp_path, capsys):
    """Edited, or a link to those of the source."""
    for edited in (True, False):
        lists = tmp_path / str(edited) / "ucfTrainTestlist"
        lists.parent.mkdir()
        if edited:
            lists.mkdir()
            (lists / "testlist01.txt").write_text("mine\n")
        else:
            lists.symlink_to(ucf101 / "ucfTrainTestlist")
        dataset_preprocess.check_lists(ucf101, lists.parent)
        told = capsys.readouterr().out
        assert (f"kept {lists}/testlist01.txt, which is not what the source has" in told) == edited
        assert (lists / "classInd.txt").is_file()
        assert not edited or (lists / "testlist01.txt").read_text() == "mine\n"


def test_frames_never_go_among_videos(ucf101):
    for output in (ucf101, ucf101 / "ZoomIn"):
        with pytest.raises(UserError, match="has videos: frames go to a folder of their own"):
            dataset_preprocess.main(words(ucf101, output))
