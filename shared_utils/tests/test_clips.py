"""clips and views: which samples a step has, bad videos, every view once, one decoding a video."""

import threading
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from ci.synthetic_videos import write_kinetics
from shared_utils import clips, views
from shared_utils.config import UserError
from shared_utils.datasets import Video
from shared_utils.video import VideoError


def test_bad_videos_are_told_once_and_limited_in_all_threads(capsys):
    bad = clips.BadVideos(limit=3)
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
    with pytest.raises(UserError, match=r"4 bad videos, max_bad_videos is 3; .*d: broken"):
        bad.report(VideoError(Path("d"), "broken"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_while_reading_arrives_as_it_was(workers):
    def read(number):
        if number == 5:
            raise VideoError("x.avi", "broken")
        if number > 20:
            raise ZeroDivisionError
        return (np.float32(number) * np.ones(2, np.float32),)

    def use(first, steps):
        samples = clips.Samples(lambda number: read(first + number), steps, steps, workers)
        rows = samples.dataset(["row"]).create_dict_iterator(num_epochs=1, output_numpy=True)
        with samples.errors():
            return [int(row["row"][0]) for row in rows]

    assert use(1, 3) == [1, 2, 3]
    with pytest.raises(VideoError) as caught:
        use(0, 20)
    assert str(caught.value) == "cannot decode x.avi: broken" and caught.value.path == "x.avi"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):  # no user's mistake: with its traceback
        use(30, 1)


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


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    """Kinetics-400's layout: 2 classes of 10 videos of about 8 frames."""
    folder = tmp_path_factory.mktemp("data") / "kinetics"
    write_kinetics(folder, ["SlideUp", "ZoomIn"], videos=10, frames=8, height=16, width=16)
    return folder


def test_an_epoch_has_every_sample_once_for_any_ranks_and_from_any_step():
    def samples(first, ranks, batch):
        sources = [clips.Samples(None, 13, 3, 1, batch, first, rank, ranks, seed=5) for rank in range(ranks)]
        epochs = [list(source.numbers()) for source in sources for _ in range(2)]
        return np.array(epochs).reshape(ranks, -1, batch)  # (ranks, steps, batch)

    alone = samples(0, 1, 4)[0]
    for epoch in (alone[:3], alone[3:]):
        assert len(set(epoch.ravel())) == 12
    assert set(alone[:3].ravel()) <= set(range(13)) and set(alone[3:].ravel()) <= set(range(13, 26))
    assert (alone[:3] % 13 != alone[3:] % 13).any()
    np.testing.assert_array_equal(np.concatenate(list(samples(0, 2, 2)), 1), alone)  # two ranks, halves
    np.testing.assert_array_equal(samples(2, 1, 4)[0][:4], alone[2:])  # resumed within an epoch


def test_training_clips_are_the_same_for_any_number_of_workers(kinetics):
    def epochs(workers):
        data = clips.TrainingData(section(kinetics, num_parallel_workers=workers), 2, 1, seed=3)
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
        clips.TrainingData(section(kinetics, batch_size=4), 2, 2, seed=0, ranks=2)


def test_a_bad_video_gives_way_to_another_of_its_class(kinetics, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    data = clips.TrainingData(section(kinetics), 2, 1, seed=0)
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
        clips.LabelledVideos(section(kinetics, list=str(longer)), 2)
    told = capsys.readouterr().err
    assert told.startswith("3 videos of the list are not on disk: gone0_000001_000002, gone1_")
    assert len(told.splitlines()) == 1
    assert len(clips.LabelledVideos(section(kinetics, list=str(longer), max_bad_videos=3), 2).videos) == 12


class Frames:
    """In place of video files: video n of `counts` has frames that tell (video, frame); counts decodings."""

    def __init__(self, counts, size=(6, 9)):
        self.counts, self.size, self.decoded = counts, size, []

    def decode(self, path, choose, each=None):
        self.decoded.append(path)
        if self.counts[path] == 0:
            raise VideoError(path, "broken")
        frames = []
        for index in choose(self.counts[path]):
            frame = np.zeros((*self.size, 3), np.uint8)
            frame[..., 0], frame[..., 1] = path, index
            frame[..., 2] = np.arange(self.size[1])
            frames.append(each(frame) if each else frame)
        return np.stack(frames)


def answers(monkeypatch, counts, num_clips, crops, batch, answer, operations=None, size=(6, 9)):
    source = Frames(counts, size)
    monkeypatch.setattr(views, "decode", source.decode)
    dataset = ConfigDict({"seq_mode": "interval", "seq": 3, "frame_interval": 2})
    reader = ConfigDict({"dataset": dataset, "workers": 3})
    operations = operations or [{"type": "VideoCenterCrop", "size": [6, 5]}]
    reader.operations = [*operations, {"type": "VideoReOrder", "order": [3, 0, 1, 2]}]
    found = list(views.video_answers(answer, reader, list(range(len(counts))), num_clips, crops, batch))
    return found, source.decoded


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_every_view_is_answered_once_and_every_video_decoded_once(monkeypatch, batch):
    calls = []

    def answer(rows):  # (batch, 3, T, H, W) -> which video, its first frame and its first column
        assert rows.shape == (batch, 3, 3, 6, 5)
        calls.append(len(rows))
        return rows[:, :, 0, 0, 0].astype(np.float32)

    found, decoded = answers(monkeypatch, [20, 11, 0, 4], num_clips=5, crops=3, batch=batch, answer=answer)
    assert sorted(decoded) == [0, 1, 2, 3]
    assert isinstance(found[2], VideoError)
    for number, count in ((0, 20), (1, 11)):
        spare = count - 5
        starts = [int((clip + 0.5) / 5 * (spare + 1)) for clip in range(5)]
        assert found[number] == pytest.approx([number, np.mean(starts), 2.0])  # columns 0, 2 and 4
    assert len(calls) == -(-3 * 15 // batch)


@pytest.mark.parametrize(("num_clips", "batch"), [(0, 4), (2, 0)])
def test_no_view_and_no_batch_are_the_users_mistake(monkeypatch, num_clips, batch):
    with pytest.raises(UserError, match="num_clips and batch_size must be at least 1"):
        answers(monkeypatch, [9], num_clips, 1, batch, lambda rows: rows[:, 0, 0, 0, :1])


def test_memory_of_views_is_bounded_by_the_batch(monkeypatch):
    alive, most = [0], [0]

    class View(np.ndarray):
        def __del__(self):
            alive[0] -= 1

    def cut(frames, rng):
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        return np.zeros((3, 3, 6, 5), np.float32).view(View)

    monkeypatch.setattr(views.transforms, "views", lambda operations, crops: (None, [cut] * crops))
    answers(monkeypatch, [20] * 6, 10, 3, 4, lambda rows: rows[:, 0, 0, 0, :1])
    assert most[0] <= 4 * 4, most  # ready, in the making, waiting, and in the call: not 180


def test_the_first_resize_is_done_frame_by_frame_and_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    seen = []

    def answer(rows):
        seen.append(rows)
        return rows[:, 0, 0, 0, :1]

    resize = [{"type": "VideoShortEdgeResize", "size": 5}, {"type": "VideoCenterCrop", "size": [5, 5]}]
    answers(monkeypatch, [9], 2, 1, 2, answer, resize, size=(10, 14))
    chain = views.transforms.compose([*resize, {"type": "VideoReOrder", "order": [3, 0, 1, 2]}])
    frames = Frames([9], (10, 14)).decode(0, lambda count: np.array([1, 3, 5]))
    np.testing.assert_array_equal(seen[0][0], chain(frames, rng))


def test_videos_of_other_sizes_are_answered_without_a_crop(monkeypatch):
    sizes = []

    class Sizes(Frames):
        def decode(self, path, choose, each=None):
            self.size = (6, 9 + path)
            return super().decode(path, choose, each)

    monkeypatch.setattr(views, "decode", Sizes([9, 9, 9]).decode)
    reader = ConfigDict({"dataset": {"seq_mode": "part", "seq": 3, "frame_interval": 1}, "workers": 1})
    reader.operations = [{"type": "VideoReOrder", "order": [3, 0, 1, 2]}]

    def answer(rows):
        sizes.append(rows.shape[-1])
        return rows[:, 0, 0, 0, :1]

    found = list(views.video_answers(answer, reader, [0, 1, 2], 2, 1, 4))
    assert [float(mean[0]) for mean in found] == [0, 1, 2] and sizes == [9, 10, 11]


def test_ten_crops_are_the_corners_and_the_middle_with_their_mirror_images():
    clip = np.arange(6 * 9, dtype=np.float32).reshape(1, 6, 9, 1)
    operations = [{"type": "VideoCenterCrop", "size": [4, 5]}]
    _, cuts = views.transforms.views(operations, 10)
    corners = [cut(clip, None)[0, 0, 0, 0] for cut in cuts[:5]]
    assert corners == [0, 4, 18, 22, 11]
    for cut, mirror in zip(cuts[:5], cuts[5:]):
        np.testing.assert_array_equal(cut(clip, None)[:, :, ::-1], mirror(clip, None))
    tall = clip.transpose(0, 2, 1, 3)
    _, cuts = views.transforms.views([{"type": "VideoCenterCrop", "size": [5, 6]}], 3)
    assert [cut(tall, None)[0, 0, 0, 0] for cut in cuts] == [0, 2, 4]
    with pytest.raises(UserError, match="num_crops must be 1, 3 or 10, not 4"):
        views.transforms.views(operations, 4)
    with pytest.raises(UserError, match="3 crops need one VideoCenterCrop"):
        views.transforms.views([], 3)
