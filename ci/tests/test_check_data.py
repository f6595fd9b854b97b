"""check_data: every bad, missing and duplicate video is told in the layouts as published; nothing changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ci.broken_videos import BAD_VIDEOS, write_bad_videos
from ci.synthetic_videos import write_kinetics, write_ucf101

PROGRAM = Path(__file__).resolve().parents[1] / "check_data.py"
CLASSES = ("RotateClockwise", "SlideUp")


def run(*arguments):
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bad_videos_are_told_with_the_reason(tmp_path):
    write_bad_videos(tmp_path)
    before = content(tmp_path)
    done = run(tmp_path, "--workers", 2)
    *lines, summary = done.stdout.splitlines()
    bad = [name for name, verdict in BAD_VIDEOS.items() if verdict == "bad"]
    assert done.returncode == 1
    assert summary == f"12 videos in {tmp_path}: {len(bad)} bad, 0 missing, 0 duplicate"
    assert [line.split(": ")[1] for line in lines] == sorted(bad)
    assert all(line.startswith("bad: ") and "decord: " in line and "ffmpeg: " in line for line in lines)
    assert content(tmp_path) == before


def test_a_video_that_is_broken_in_the_middle_is_bad(tmp_path):
    folder = tmp_path / "frames/Class/v_x"
    folder.mkdir(parents=True)
    for number in range(5):
        cv2.imwrite(f"{folder}/{number}.jpg", np.zeros((16, 24, 3), np.uint8))
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:40])
    done = run(tmp_path / "frames")
    assert done.returncode == 1 and "2.jpg is not a readable" in done.stdout


@pytest.fixture
def ucf101(tmp_path):
    write_ucf101(tmp_path / "ucf101", CLASSES, videos=4, frames=8, width=24, height=16)
    return tmp_path / "ucf101"


def test_ucf101(ucf101, tmp_path):
    done = run(ucf101, "--strict")
    assert (done.returncode, done.stdout) == (0, f"8 videos in {ucf101}: 0 bad, 0 missing, 0 duplicate\n")
    first, second, *_ = sorted((ucf101 / "SlideUp").iterdir())
    first.unlink()
    shutil.copy(second, ucf101 / "RotateClockwise/v_copy.AVI")
    frames = second.with_suffix("")  # frames as JPEG stand for the file
    frames.mkdir()
    for number in range(2):
        cv2.imwrite(str(frames / f"{number}.jpg"), np.zeros((16, 24, 3), np.uint8))
    second.unlink()
    done = run(ucf101, "--json", tmp_path / "found.json")
    name = "SlideUp/v_SlideUp_g01_c01.avi"
    assert done.returncode == 0 and done.stdout.splitlines() == [
        f"missing: {name}: named by testlist01.txt",
        f"8 videos in {ucf101}: 0 bad, 1 missing, 0 duplicate",
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    missing = {name: "testlist01.txt"}
    assert found == {"videos": 8, "pickles": 0, "bad": {}, "missing": missing, "duplicate": {}}
    assert run(ucf101, "--strict").returncode == 1
    (frames / "0.jpg").write_text("no picture")
    done = run(ucf101)
    assert done.returncode == 1
    assert "bad: SlideUp/v_SlideUp_g01_c02: frame 0.jpg is not a readable JPEG" in done.stdout


def test_duplicates(ucf101):
    shutil.copy(ucf101 / "SlideUp/v_SlideUp_g02_c01.avi", ucf101 / "RotateClockwise/v_copy.avi")
    line = "duplicate: SlideUp/v_SlideUp_g02_c01.avi: the same as RotateClockwise/v_copy.avi"
    assert run(ucf101).returncode == 0 and line in run(ucf101).stdout
    assert run(ucf101, "--strict").returncode == 1


def test_names_with_spaces_and_pickles(ucf101):
    lists = ucf101 / "ucfTrainTestlist/testlist01.txt"
    lists.write_text("SlideUp/v a b.AVI 1\nSlideUp/v c d.avi\nSlideUp/v e.avi\n")
    first, second, *_ = sorted((ucf101 / "SlideUp").iterdir())
    first.rename(first.with_name("v a b.AVI"))
    second.rename(second.with_name("v e.pkl"))
    told = run(ucf101).stdout.splitlines()
    assert [line for line in told if "testlist" in line or "pickles" in line] == [
        "missing: SlideUp/v c d.avi: named by testlist01.txt",
        "1 pickles of frames are there as well: they were not looked into",
    ]


def test_hmdb51(ucf101):
    (ucf101 / "testTrainMulti_7030_splits").mkdir()
    lines = "v_SlideUp_g01_c01.avi 1 \nsome clip.avi 2\n"
    (ucf101 / "testTrainMulti_7030_splits/SlideUp_test_split1.txt").write_text(lines)
    told = "missing: SlideUp/some clip.avi: named by SlideUp_test_split1.txt"
    assert run(ucf101).stdout.splitlines()[:-1] == [told]


def test_kinetics(tmp_path):
    write_kinetics(tmp_path, CLASSES, videos=5, frames=8, width=24, height=16)
    assert run(tmp_path, "--strict").returncode == 0
    (tmp_path / "train/a class").mkdir()
    for video in list((tmp_path / "train").glob("*.mp4")):
        video.rename(tmp_path / "train/a class" / video.name)
    table = (tmp_path / "kinetics-400_train.csv").read_text()
    columns = [",".join([*row.split(",")[1:], row.split(",")[0]]) for row in table.splitlines()]
    (tmp_path / "kinetics-400_train.csv").write_text("\ufeff" + "\n".join(columns), encoding="utf-8")
    done = run(tmp_path, "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    gone = next((tmp_path / "val").iterdir())
    gone.unlink()
    assert f"missing: val/{gone.name}: named by kinetics-400_val.csv\n" in run(tmp_path).stdout
    (tmp_path / "kinetics-400_val.csv").write_text("name\nx\n")
    done = run(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (
        1,
        1,
    ) and "is no list of Kinetics-400" in done.stderr


def test_bad_arguments_are_one_line(ucf101, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong, line in (
        ((tmp_path / "nowhere",), "no such folder"),
        ((tmp_path / "empty",), "no videos in"),
        ((ucf101, "--workers", 0), "--workers is at least 1"),
        ((ucf101, "--json", tmp_path), "Is a directory"),
    ):
        done = run(*wrong)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1) and line in done.stderr
