"""dataset: segments, super-images that tell colour and time, the same clips from video, frames and pickle."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from ci.broken_videos import frame_numbers, write_numbered_video  # pytest's pythonpath is the root
from ci.synthetic_videos import write_kinetics, write_ucf101
from shared_utils.config import UserError
from shared_utils.video import VideoError
from src import dataset, generate_label, preprocess_ucf101, video2pkl
from src.dataset import ClipReader, LabelledVideos, TrainingClips, segment_frames, super_images


def config(path, kind="kinetics400", **changes):
    """What the data set reads of a YAML, over frames of 16x16."""
    return ConfigDict(
        {
            "dataset_type": kind,
            "dataset_path": str(path),
            "dataset_list": "1",
            "val_groups": 1,
            "local_train_list": "",
            "local_val_list": "",
            "max_bad_videos": 2,
            "short_size": 16,
            "squash": False,
            "target_size": 16,
            "horizontal_flip": 0.5,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "workers": 2,
            "class_num": 2,
            "T": 3,
            "N": 2,
            "seed": 0,
            "batch_size": 2,
            **changes,
        }
    )


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
@pytest.mark.parametrize(
    ("count", "T", "N"), [(70, 7, 5), (100, 7, 5), (36, 7, 5), (34, 7, 5), (5, 7, 5), (1, 2, 3)]
)
def test_segments_are_successive_frames_in_order(count, T, N, rng):
    frames = segment_frames(count, T, N, rng)
    assert frames.shape == (T, N) and frames.min() >= 0 and frames.max() < count
    assert ((np.diff(frames, axis=1) - 1) % count == 0).all()
    if count >= T * N:
        length = count // T
        assert all(
            (row >= part * length).all() and (row < (part + 1) * length).all()
            for part, row in enumerate(frames)
        )


def test_segments_begin_in_the_middle_or_anywhere():
    np.testing.assert_array_equal(segment_frames(90, 3, 10)[:, 0], [10, 40, 70])
    rng = np.random.default_rng(0)
    starts = np.stack([segment_frames(90, 3, 10, rng)[:, 0] for _ in range(400)]) - [0, 30, 60]
    assert set(starts.ravel()) == set(range(21))
    assert (starts[:, 0] != starts[:, 1]).any()  # each segment for itself
    np.testing.assert_array_equal(segment_frames(5, 2, 4), [[0, 1, 2, 3], [2, 3, 4, 0]])
    with pytest.raises(ValueError, match="cannot be taken from 0"):
        segment_frames(0, 7, 5)


def test_super_images_keep_colours_and_time_apart():
    frames = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    shades = np.random.default_rng(1).random((3, 256), np.float32)
    images = super_images(frames, 2, 3, shades)
    assert images.shape == (2, 9, 4, 5)
    for segment, frame, colour in np.ndindex(2, 3, 3):
        wanted = shades[colour][frames[3 * segment + frame, :, :, colour]]
        np.testing.assert_array_equal(images[segment, 3 * frame + colour], wanted)


def test_a_numbered_video_gives_its_frames_in_order(tmp_path):
    write_numbered_video(tmp_path / "numbered.avi", 60)
    reader = ClipReader(config(tmp_path, T=4, N=5))
    np.testing.assert_array_equal(
        frame_numbers(reader.frames(tmp_path / "numbered.avi")), segment_frames(60, 4, 5).ravel()
    )


def test_a_clip_is_its_frames_normalised(tmp_path):
    reader = ClipReader(config(tmp_path, T=4, N=5, image_mean=[0.1, 0.2, 0.3], image_std=[1.0, 0.5, 0.2]))
    frames = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    reader.frames = lambda *_: frames
    wanted = ((frames / 255 - [0.1, 0.2, 0.3]) / [1.0, 0.5, 0.2]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(
        reader.clip("unused"), wanted.reshape(4, 15, 16, 16), rtol=1e-5, atol=1e-6
    )
    for wrong in ([0.5], [0.1, 0.2, "a"]):
        with pytest.raises(UserError, match="three numbers each"):
            ClipReader(config(tmp_path, image_mean=wrong))
    with pytest.raises(UserError, match="image_std must be above 0"):
        ClipReader(config(tmp_path, image_std=[0.5, 0.0, 0.5]))


def kill_itself(path):
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_of_preprocessing_that_is_killed_is_told(tmp_path):
    with pytest.raises(UserError, match="a process ended before its video did"):
        preprocess_ucf101.run_all(kill_itself, [tmp_path / "a", tmp_path / "b"], 2)
    assert any(tmp_path.iterdir())  # which of the two came first is chance


LINGERS = """
import sys, time
from pathlib import Path
from src.preprocess_ucf101 import run_all
def linger(path):
    import os
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)
if __name__ == "__main__":
    run_all(linger, sys.argv[1:], 1)
"""


def test_no_process_of_preprocessing_outlives_its_parent(tmp_path):
    (tmp_path / "program.py").write_text(LINGERS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py", tmp_path / "pid"], env=environment)
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    child = Path("/proc", (tmp_path / "pid").read_text())
    while child.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not child.exists()


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "kinetics"
    write_kinetics(folder, ["SlideUp", "ZoomIn"], videos=5, frames=12, height=20, width=30)
    return folder


def to_pickles(source, dest, split, *flags):
    csv = source / f"kinetics-400_{split}.csv"
    (dest / split).mkdir(parents=True, exist_ok=True)
    (dest / csv.name).write_bytes(csv.read_bytes())
    return video2pkl.main([str(csv), str(source / split), str(dest / split), "2", *flags])


def test_video_frames_and_pickle_give_the_same_clips(kinetics, tmp_path, capsys):
    assert to_pickles(kinetics, tmp_path / "pkl", "val", "--quality=100") == 0
    videos = LabelledVideos(config(kinetics), "val")
    pickles = LabelledVideos(config(tmp_path / "pkl"), "val")
    assert [video.label for video in videos.videos] == [video.label for video in pickles.videos]
    for one, other in zip(videos.videos, pickles.videos):
        folder = tmp_path / "frames" / one.path.stem
        preprocess_ucf101.write_frames(one.path, folder, 0, 100)
        for rng in (None, 5):
            clips = [
                videos.reader.clip(path, rng and np.random.default_rng(rng), one.label)
                for path in (one.path, other.path, folder)
            ]
            assert clips[0].shape == (3, 6, 16, 16)
            for clip in clips[1:]:  # up to JPEG
                assert np.abs(clip - clips[0]).mean() < 0.02 and np.abs(clip - clips[0]).max() < 0.3
    assert "missing" in capsys.readouterr().out


def test_pickles_go_on_where_they_stopped(kinetics, tmp_path, capsys, monkeypatch):
    assert to_pickles(kinetics, tmp_path, "val") == 0
    kept = sorted((tmp_path / "val").iterdir())
    before = kept[1].stat().st_mtime_ns
    kept[0].unlink()
    capsys.readouterr()
    assert to_pickles(kinetics, tmp_path, "val") == 0
    assert capsys.readouterr().out.startswith("1 pickles written")
    assert kept[1].stat().st_mtime_ns == before and kept[0].exists()
    monkeypatch.chdir(kinetics / "val")
    assert video2pkl.main([str(kinetics / "kinetics-400_val.csv"), ".", str(tmp_path / "val"), "1"]) == 0
    name, frames, label = dataset.read_pickle(kept[0])
    assert to_pickles(kinetics, shutil.copytree(kinetics, tmp_path / "mixed"), "val") == 0
    next((tmp_path / "mixed/val").glob("*.pkl")).unlink()  # where there is none the video is read
    found = [video.path for video in LabelledVideos(config(tmp_path / "mixed"), "val").videos]
    assert sorted(path.suffix for path in found) == [".mp4", *[".pkl"] * (len(kept) - 1)]
    assert name == kept[0].stem and len(frames) > 5 and frames[0][:2] == b"\xff\xd8" and label in (0, 1)


def test_pickles_of_another_size_or_label_are_not_kept_in_silence(kinetics, tmp_path):
    (tmp_path / "labels.txt").write_text("slide up 7\nzoom in 1\n")
    assert to_pickles(kinetics, tmp_path, "val", "--short_size=12") == 0
    assert to_pickles(kinetics, tmp_path, "val", "--short_size=12") == 0
    for flags, told in (
        (["--short_size=16"], "has frames of 12, not 16 pixels"),
        ([], "has frames of 12, not 20 pixels"),
        (["--short_size=12", f"--labels={tmp_path}/labels.txt"], "labelled 0, the list says 7"),
    ):
        with pytest.raises(UserError, match=told):
            to_pickles(kinetics, tmp_path, "val", *flags)
    (tmp_path / "labels.txt").write_text("slide up \u00b2\n", "utf-8")
    with pytest.raises(UserError, match="'slide up \u00b2' is not `<class> <id>`"):
        to_pickles(kinetics, tmp_path, "val", "--short_size=12", f"--labels={tmp_path}/labels.txt")
    (tmp_path / "labels.txt").write_text("slide up 0\nzoom in 2\n")  # a class between them is new
    with pytest.raises(UserError, match="labelled 1, the list says 2"):
        to_pickles(kinetics, tmp_path, "val", "--short_size=12", f"--labels={tmp_path}/labels.txt")


def test_labels_are_alphabetical_and_used(kinetics, tmp_path, monkeypatch, capsys):
    csv = str(kinetics / "kinetics-400_train.csv")
    assert generate_label.main([csv, str(tmp_path / "labels.txt")]) is None
    assert (tmp_path / "labels.txt").read_text() == "slide up 0\nzoom in 1\n"
    with pytest.raises(UserError, match="DEST is the source"):
        generate_label.main([csv, f"{kinetics}/val/../kinetics-400_train.csv"])
    (tmp_path / "labels.txt").write_text("slide up 7\nzoom in 1\n")
    assert to_pickles(kinetics, tmp_path, "val", f"--labels={tmp_path}/labels.txt") == 0
    videos = LabelledVideos(config(tmp_path), "val")
    first = next(video for video in videos.videos if video.label == 0)
    with pytest.raises(VideoError, match="labelled 7, the list says 0"):
        videos.reader.clip(first.path, label=first.label)


class Call:
    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pickle.dumps(("a", [b"x"], Call())), r"it asks for posix.getcwd"),
        (pickle.dumps(("a", [b"x"])), r"a pickle holds \(video id, \[JPEG bytes"),
        (pickle.dumps(("a", ["x"], 1)), r"a pickle holds"),
        (b"text", "no pickle of frames"),
        (b"", "no pickle of frames"),
        (pickle.dumps(("a", [], 1)), "without .jpg frames"),
        (pickle.dumps(("a", [b"no picture"] * 9, 1)), "frame . is not a readable JPEG"),
    ],
)
def test_a_bad_pickle_is_told_and_runs_nothing(tmp_path, content, told):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(VideoError, match=told):
        ClipReader(config(tmp_path)).clip(tmp_path / "a.pkl")


def test_the_published_scripts_order_is_read(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(("./a", 3, [b"x", b"y"]), protocol=2))
    assert dataset.read_pickle(tmp_path / "a.pkl") == ("./a", [b"x", b"y"], 3)


@pytest.fixture(scope="module")
def ucf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "ucf"
    write_ucf101(folder, ["SlideUp", "ZoomIn"], videos=12, frames=12, height=20, width=30)
    return folder


def test_validation_recordings_are_neither_trained_on_nor_tested(ucf):
    parts = {split: LabelledVideos(config(ucf, "ucf101"), split) for split in ("train", "val", "test")}
    groups = {split: {dataset.group(video) for video in part.videos} for split, part in parts.items()}
    assert all(groups.values()) and parts["train"].labels == parts["val"].labels
    assert not groups["train"] & groups["val"] and not groups["test"] & (groups["train"] | groups["val"])
    assert {name for name, _ in groups["val"]} == {0, 1}
    whole = LabelledVideos(config(ucf, "ucf101", val_groups=0), "train")
    assert len(whole.videos) == len(parts["train"].videos) + len(parts["val"].videos)


def test_lists_of_the_users_are_kept_apart_too(ucf, tmp_path):
    rows = (ucf / "ucfTrainTestlist/trainlist01.txt").read_text().splitlines(True)
    (tmp_path / "mine.txt").write_text("".join(rows))
    (tmp_path / "val.txt").write_text("".join(rows[:2]))

    def ids(split, **changes):
        return {video.id for video in LabelledVideos(config(ucf, "ucf101", **changes), split).videos}

    mine = {"local_train_list": str(tmp_path / "mine.txt")}
    assert ids("train", **mine) | ids("val", **mine) == ids("train", val_groups=0)
    assert ids("val", **mine) and not ids("train", **mine) & ids("val", **mine)
    for groups in (0, 1):
        both = {"val_groups": groups, "local_val_list": str(tmp_path / "val.txt")}
        assert len(ids("val", **both)) == 2 and ids("train", **both) == ids("train", val_groups=0)
        assert ids("test", **both) == ids("val", **both)  # eval.py judges it, too
    assert ids("val", val_groups=0) == ids("test")


def test_a_sink_that_asks_for_shapes_takes_no_data(ucf):
    """What MindSpore does before each epoch of sink mode."""
    data = TrainingClips(config(ucf, "ucf101"))
    rows, samples = data.batches(3, sink=True)
    rows.output_shapes(), rows.output_types()
    assert samples.position == 3


def test_preprocessing_leaves_the_source_and_goes_on(ucf, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in ucf.rglob("*")}
    flags = ["--source_data_dir", str(ucf), "--output_dir", str(tmp_path / "out"), "--short_size", "16"]
    assert preprocess_ucf101.main(flags) == 0
    folders = sorted(path for path in (tmp_path / "out/SlideUp").iterdir())
    assert [path.name for path in sorted(folders[0].iterdir())][:2] == ["000000.jpg", "000001.jpg"]
    assert len(folders) == 12 and len(list(folders[0].iterdir())) >= 8
    videos, frames = (LabelledVideos(config(root, "ucf101"), "test") for root in (ucf, tmp_path / "out"))
    assert [video.id for video in videos.videos] == [video.id for video in frames.videos]
    clips = [part.reader.clip(part.videos[0].path) for part in (videos, frames)]
    assert np.abs(clips[0] - clips[1]).mean() < 0.05
    stamp = folders[1].stat().st_mtime_ns
    for frame in folders[0].iterdir():
        frame.unlink()
    folders[0].rmdir()
    capsys.readouterr()
    assert preprocess_ucf101.main(flags) == 0 and folders[0].is_dir()
    assert "1 videos written" in capsys.readouterr().out and folders[1].stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="has frames of 16, not 17 pixels"):
        preprocess_ucf101.main([*flags[:-1], "17"])
    for frame in folders[0].iterdir():
        frame.write_bytes(b"")  # as lost power leaves it: the next folder tells the size
    assert preprocess_ucf101.main(flags) == 0
    assert before == {path: path.stat().st_mtime_ns for path in ucf.rglob("*")}


def test_preprocessing_reports_what_failed(ucf, tmp_path, capsys):
    (tmp_path / "in/SlideUp").mkdir(parents=True)
    (tmp_path / "in/SlideUp/v_bad_g01_c01.avi").write_bytes(b"no video")
    good = next((ucf / "SlideUp").glob("*.avi"))
    (tmp_path / "in/SlideUp" / good.name).write_bytes(good.read_bytes())
    flags = ["--source_data_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out")]
    assert preprocess_ucf101.main(flags) == 1
    told = capsys.readouterr().out
    assert "bad video" in told and told.splitlines()[-1].endswith("1 bad")
    assert "v_bad_g01_c01" in (tmp_path / "out/preprocess_report.json").read_text()
    with pytest.raises(UserError, match="has videos: frames go to"):
        preprocess_ucf101.main([*flags[:2], "--output_dir", str(tmp_path / "in")])


def test_frames_of_a_decoder_that_is_given_up_do_not_stay(tmp_path, monkeypatch):
    """The first one announces five frames and then refuses, the second one finds three."""

    def decode(path, choose, each):
        for count in (5, 3):
            frames = [each(np.full((8, 8, 3), number, np.uint8)) for number in choose(count)]
        return frames

    monkeypatch.setattr(preprocess_ucf101, "decode", decode)
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial/000007.jpg").touch()  # of a run that was cut short
    assert preprocess_ucf101.write_frames(tmp_path / "a.avi", tmp_path / "a", 8, 95) == 3
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{n:06d}.jpg" for n in range(3)]


def test_two_videos_of_one_name_are_told(ucf, tmp_path):
    (tmp_path / "in/SlideUp").mkdir(parents=True)
    for name in ("a.avi", "a.mp4"):
        (tmp_path / "in/SlideUp" / name).touch()
    with pytest.raises(UserError, match=r"a\.avi and .*a\.mp4 would have the same folder of frames"):
        preprocess_ucf101.main(["--source_data_dir", f"{tmp_path}/in", "--output_dir", f"{tmp_path}/out"])


def test_labels_that_are_named_must_be_there(kinetics, tmp_path):
    words = [kinetics / "kinetics-400_train.csv", kinetics / "train", tmp_path, "--labels", "gone.txt"]
    with pytest.raises(UserError, match=r"gone\.txt"):
        video2pkl.main([*map(str, words)])


def test_a_bad_video_gives_way_to_another_of_its_class(kinetics, tmp_path, capsys):
    data = TrainingClips(config(kinetics))
    bad = data.videos[0]._replace(path=tmp_path / "gone.mp4")
    data.videos[0] = bad
    clip, label = data.sample(0)
    assert clip.shape == (3, 6, 16, 16) and label == bad.label
    np.testing.assert_array_equal(clip, data.sample(0)[0])
    assert capsys.readouterr().err.count("bad video 1: ") == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "hmdb51"}, "dataset_type must be ucf101 or kinetics400, not hmdb51"),
        ({"T": 0}, "must be at least 1"),
        ({"batch_size": 40}, "training videos are fewer than the 40 clips of a step"),
        ({"class_num": 3}, r"\(class_num\) is 3"),
        ({"dataset_path": "gone"}, "no kinetics400 data set at gone: name yours by --dataset_path"),
    ],
)
def test_what_does_not_fit_is_told(kinetics, changes, told):
    with pytest.raises(UserError, match=told):
        TrainingClips(config(kinetics, **changes))
