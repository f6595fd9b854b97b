"""preprocess_ucf101.py on names, links and lists as users have them."""

import json
import os
import shutil

import numpy as np
import pytest

from ci.synthetic_videos import write_ucf101  # pytest's pythonpath is the repository's root
from shared_utils.config import UserError
from shared_utils.video import decode
from src import preprocess_ucf101


@pytest.fixture
def data(tmp_path):
    write_ucf101(tmp_path / "data", ("SlideUp", "ZoomIn"), videos=4, frames=8, width=24, height=16)
    return tmp_path / "data"


def preprocess(data, output):
    flags = ["--source_data_dir", str(data), "--output_dir", str(output), "--workers", "1"]
    return preprocess_ucf101.main([*flags, "--short_size", "16"])


def test_names_that_are_no_text_are_written_and_links_to_nowhere_told(data, tmp_path):
    shutil.rmtree(data / "ZoomIn")
    first, *others = (data / "SlideUp").iterdir()
    name = os.fsdecode(b"v_\xff\xfe.avi")
    first.rename(data / "SlideUp" / name)
    for path in others:
        path.unlink()
        path.symlink_to("/nowhere/gone.avi")
    others[0].unlink()
    others[0].write_bytes(b"no video")
    assert preprocess(data, tmp_path / "out") == 1
    report = json.loads((tmp_path / "out/preprocess_report.json").read_text())
    assert report["written"] == 1 and set(report["bad"]) == set(map(str, others))
    (folder,) = (tmp_path / "out/SlideUp").iterdir()  # nothing is left of the bad ones
    assert folder.name == name.removesuffix(".avi") and len(decode(folder, np.arange)) == 8


@pytest.mark.parametrize("linked", [False, True])
def test_lists_that_are_there_stay(data, tmp_path, capsys, linked):
    lists = tmp_path / "out/ucfTrainTestlist"
    lists.parent.mkdir()
    if linked:
        lists.symlink_to(data / lists.name)
    else:
        lists.mkdir()
        (lists / "testlist01.txt").write_text("mine\n")
    assert preprocess(data, tmp_path / "out") == 0
    kept = f"kept {lists}/testlist01.txt, which is not what the source has" in capsys.readouterr().out
    assert kept != linked and (lists / "classInd.txt").is_file()
    assert linked or (lists / "testlist01.txt").read_text() == "mine\n"


def test_frames_never_go_among_videos(data):
    for output in (data, data / "ZoomIn"):
        with pytest.raises(UserError, match="has videos: frames go to a folder of their own"):
            preprocess(data, output)
