"""dataset: the training clips of an epoch, whatever the threads; bad and missing videos."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from ci.synthetic_videos import write_kinetics  # pytest's pythonpath is the repository's root
from shared_utils.config import UserError
from shared_utils.datasets import Video
from src.dataset import LabelledVideos, TrainingClips, hmdb51


def section(path, **dataset):
    """data_loader.train or eval of a YAML, over frames of 8x8."""
    common = {
        "type": "Kinetic400",
        "path": str(path),
        "split": "train",
        "list": "1",
        "batch_size": 2,
        "seq": 4,
        "seq_mode": "part",
        "frame_interval": 1,
        "shuffle": True,
        "max_bad_videos": 2,
        "num_parallel_workers": 2,
    }
    operations = [{"type": "VideoResize", "size": [8, 8]}, {"type": "VideoToTensor"}]
    return ConfigDict({"dataset": {**common, **dataset}, "map": {"operations": operations}})


def config(path, seed=0, accumulate=1, **dataset):
    """What TrainingClips reads of a YAML."""
    own = {"seed": seed, "model": {"num_classes": 2}, "train": {"accumulate": accumulate}}
    return ConfigDict({**own, "data_loader": {"train": section(path, **dataset)}})


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    """Kinetics-400's layout: 2 classes of 10 videos of about 8 frames."""
    folder = tmp_path_factory.mktemp("data") / "kinetics"
    write_kinetics(folder, ["SlideUp", "ZoomIn"], videos=10, frames=8, height=16, width=16)
    return folder


def test_training_clips_are_the_same_for_any_number_of_workers(kinetics):
    def epochs(workers):
        data = TrainingClips(config(kinetics, seed=3, num_parallel_workers=workers))
        rows, _ = data.batches()
        return [
            [(row[0], row[1].tolist()) for row in rows.create_tuple_iterator(num_epochs=1, output_numpy=True)]
            for _ in range(2)
        ]

    one, two = epochs(1), epochs(2)
    assert [labels for _, labels in one[0]] == [labels for _, labels in two[0]]
    for (clip, _), (other, _) in zip(one[0] + one[1], two[0] + two[1]):
        assert clip.shape == (2, 3, 4, 8, 8)
        np.testing.assert_array_equal(clip, other)
    assert any((clip != other).any() for (clip, _), (other, _) in zip(one[0], one[1]))


def test_fewer_videos_than_a_step_has_clips(kinetics):
    with pytest.raises(UserError, match="12 training videos are fewer than the 16 clips of a step"):
        TrainingClips(config(kinetics, accumulate=2, batch_size=4), ranks=2)


def test_a_bad_video_gives_way_to_another_of_its_class(kinetics, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    data = TrainingClips(config(kinetics))
    good = [video for video in data.videos if video.label == 1]
    videos = [Video("bad", tmp_path / "bad.mp4", 1), *data.videos]
    data.videos = videos
    seen = set()
    for sample in range(0, 40 * len(videos), len(videos)):  # the bad one, epoch after epoch
        clip, label = data.sample(sample)
        assert clip.shape == (3, 4, 8, 8) and label == 1
        np.testing.assert_array_equal(clip, data.sample(sample)[0])
        seen.add(clip.tobytes())
    assert len(seen) > len(good) / 2
    assert capsys.readouterr().err.count("bad video 1: ") == 1
    data.videos = videos[:1]
    with pytest.raises(UserError, match="has no readable video"):
        data.sample(0)


def test_missing_videos_are_told_once_and_count(kinetics, capsys):
    rows = (kinetics / "kinetics-400_train.csv").read_text().splitlines()
    longer = kinetics / "longer.csv"
    longer.write_text("\n".join([*rows, *(f"zoom in,gone{number},1,2,train" for number in range(3))]))
    with pytest.raises(UserError, match="0 bad and 3 missing videos, max_bad_videos is 2"):
        LabelledVideos(section(kinetics, list=str(longer)), 2)
    told = capsys.readouterr().err
    assert told.startswith("3 videos of the list are not on disk: gone0_000001_000002, gone1_")
    assert len(told.splitlines()) == 1
    assert len(LabelledVideos(section(kinetics, list=str(longer), max_bad_videos=3), 2).videos) == 12


def test_hmdb51_by_its_official_lists(tmp_path):
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name in ("brush_hair", "wave"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"a b_{number}.avi").touch()
        (lists / f"{name}_test_split2.txt").write_text("a b_0.avi 1 \na b_1.avi 2 \na b_2.avi 0 \nc.avi 1 \n")
    videos, missing, labels = hmdb51(tmp_path, "HMDB51", "train", 2, "2")
    assert [(video.id, video.label) for video in videos] == [("brush_hair/a b_0", 0), ("wave/a b_0", 1)]
    assert missing == ["brush_hair/c.avi", "wave/c.avi"] and labels == {"brush_hair": 0, "wave": 1}
    videos, _, _ = hmdb51(tmp_path, "HMDB51", "test", 2, "2")
    assert [video.path.name for video in videos] == ["a b_1.avi", "a b_1.avi"]
    with pytest.raises(UserError, match="no lists testTrainMulti_7030_splits"):
        hmdb51(tmp_path, "HMDB51", "train", 2)
    with pytest.raises(UserError, match=r"has 2 classes of HMDB51, but model\.num_classes is 3"):
        hmdb51(tmp_path, "HMDB51", "train", 3, "2")
    with pytest.raises(UserError, match="split must be train or test of HMDB51, not Train"):
        hmdb51(tmp_path, "HMDB51", "Train", 2, "2")
    with pytest.raises(UserError, match=r"no lists .*_test_split\*\*.txt"):
        hmdb51(tmp_path, "HMDB51", "train", 2, "**")
