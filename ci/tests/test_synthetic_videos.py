"""The synthetic videos are what their names and lists say, and nothing but the motion tells the class."""

import csv
import subprocess
import sys
from pathlib import Path

import mindspore.dataset  # noqa: F401  must come before decord
import numpy as np
import pytest
from decord import VideoReader

from ci import motions
from ci import synthetic_videos as synthetic

PROGRAM = Path(__file__).parents[1] / "synthetic_videos.py"

CLASSES = ("RotateClockwise", "SlideUp")


def decord_frames(path):
    reader = VideoReader(str(path), num_threads=1)
    return reader.get_batch(range(len(reader))).asnumpy()


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    dest = tmp_path_factory.mktemp("videos") / "ucf101"
    synthetic.write_ucf101(dest, CLASSES, videos=5, frames=8, workers=2)
    return dest


def test_ucf101_layout(ucf101):
    lists = ucf101 / "ucfTrainTestlist"
    assert (lists / "classInd.txt").read_text() == "1 RotateClockwise\n2 SlideUp\n"
    train = [line.split(" ") for line in (lists / "trainlist01.txt").read_text().splitlines()]
    test = (lists / "testlist01.txt").read_text().splitlines()
    assert {(name.split("/")[0], label) for name, label in train} == {
        ("RotateClockwise", "1"),
        ("SlideUp", "2"),
    }
    on_disk = {str(path.relative_to(ucf101)) for path in ucf101.rglob("*.avi")}
    assert {name for name, _ in train} | set(test) == on_disk and len(on_disk) == 10
    groups = [{name.rsplit("_c", 1)[0] for name in names} for names in (dict(train), test)]
    assert groups[0] and groups[1] and not groups[0] & groups[1]


def test_videos_do_not_depend_on_workers_or_on_other_classes(ucf101, tmp_path):
    synthetic.write_ucf101(tmp_path, CLASSES[1:], videos=3, frames=8, workers=1)
    first, second = content(ucf101), content(tmp_path)
    names = [name for name in second if name.endswith(".avi")]
    assert len(names) == 3 and all(first[name] == second[name] for name in names)
    assert len({first[name] for name in first if name.endswith(".avi")}) == 10


def test_class_splits_are_disjoint_and_wide_enough_for_five_ways():
    train, val, test = (motions.CLASS_SPLITS[name] for name in ("train", "val", "test"))
    assert sorted(train + val + test) == sorted(motions.MOTIONS)
    assert len(motions.MOTIONS) >= 32 and min(len(val), len(test)) >= 6 and len(train) >= 20


@pytest.mark.parametrize("motion", [name for name in motions.MOTIONS if name not in ("Shake", "Jump")])
def test_sixteen_frames_follow_the_motion(motion):
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = motions.MOTIONS[motion](np.linspace(0, 1, 16), rng.uniform)
        step = motions.Pose(*(np.diff(np.broadcast_to(field, 16)) for field in pose))
        assert np.hypot(step.x, step.y).max() < 1 / 5 and np.abs(step.turn).max() < 1 / 7


@pytest.mark.parametrize("background", motions.BACKGROUNDS)
def test_neither_colour_nor_size_nor_place_tells_the_class(background):
    """The class explains next to nothing of the variance of what a frame shows (by chance a sixtieth)."""
    rng, features = np.random.default_rng(0), []
    for motion in ("SlideRight", "SlideUp", "RotateClockwise", "OrbitClockwise", "PulseSlow", "Shake"):
        clips = np.stack([motions.render(motion, rng, 2, 48, 64, background=background) for _ in range(60)])
        shapes = clips[:, 0].max(-1) > 176  # shapes are brighter than every backdrop
        size = shapes.mean((1, 2))[:, None]
        place = [np.argwhere(shape).mean(0) for shape in shapes]
        colour = [frame[shape].mean(0) for frame, shape in zip(clips[:, 0], shapes)]
        backdrop = [np.median(frame, (0, 1)) for frame in clips[:, 0]]
        features.append(np.concatenate([size, place, colour, backdrop], 1))
    explained = np.mean(features, 1).var(0) / np.var(features, (0, 1))
    assert explained.max() < 0.08, explained


def test_kinetics_layout(tmp_path):
    synthetic.write_kinetics(tmp_path, CLASSES, videos=5, frames=8, seed=3)
    named = set()
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        with open(tmp_path / f"kinetics-400_{split}.csv", newline="") as table:
            rows = list(csv.DictReader(table))
        assert len(rows) == count and {row["label"] for row in rows} == {"rotate clockwise", "slide up"}
        assert all(len(row["youtube_id"]) == 11 and row["split"] == split for row in rows)
        for row in rows:
            start, end = int(row["time_start"]), int(row["time_end"])
            named.add(tmp_path / split / f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4")
    assert named == set(tmp_path.rglob("*.mp4")) and len(decord_frames(named.pop())) >= 7


def run(*arguments):
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)], check=False, capture_output=True, text=True
    )


def test_the_command_completes_and_never_mixes_or_overwrites(tmp_path):
    arguments = (tmp_path / "set", "--classes", 1, "--videos", 3, "--frames", 8, "--size", "16x24")
    assert run(*arguments).returncode == 0
    first = content(tmp_path / "set")
    gone, *_ = (tmp_path / "set").rglob("*.avi")
    gone.unlink()
    assert run(*arguments).returncode == 0 and content(tmp_path / "set") == first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for wrong in (
        (*arguments, "--seed", 1),
        (tmp_path / "mine",),
        (tmp_path / "mine" / "thesis.txt",),
        (tmp_path / "new", "--classes", 99),
        (tmp_path / "new", "--videos", 1),
        (tmp_path / "new", "--size", "15x20"),
        (tmp_path / "new", "--size", "large"),
    ):
        answer = run(*wrong)
        assert answer.returncode != 0 and "Traceback" not in answer.stderr, answer.stderr
        assert answer.stderr.strip().splitlines()[-1].startswith("synthetic_videos.py: ")
    assert content(tmp_path / "set") == first and content(tmp_path / "mine") == {"thesis.txt": b"mine"}
    assert not (tmp_path / "new").exists()
