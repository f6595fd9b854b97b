"""views: which frames and crops a video's views are, and each of them answered once in bounded memory."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from shared_utils import sampling
from shared_utils.config import UserError
from shared_utils.video import VideoError
from src import views


def test_views_of_one_clip_are_evaluations_clip():
    for mode in sampling.MODES:
        wanted = sampling.sample(mode, 37, 8, 3)
        np.testing.assert_array_equal(views.frames_of_clips(mode, 37, 8, 3, 1), [wanted])


def test_views_are_spread_over_the_video():
    clips = views.frames_of_clips("interval", 300, 8, 2, 10)
    assert (np.diff(clips, axis=1) == 2).all() and clips[0, 0] < 20 and clips[-1, -1] > 280
    assert len(set(np.diff(clips[:, 0]))) <= 2 and clips.max() < 300
    clips = views.frames_of_clips("average", 300, 8, 1, 10)
    assert len(np.unique(clips)) == 80 and (np.diff(np.sort(clips.ravel())) <= 4).all()
    short = views.frames_of_clips("interval", 5, 8, 2, 3)  # too short for one clip: begins again
    assert short.shape == (3, 8) and short.max() < 5


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

    monkeypatch.setattr(views, "crop_functions", lambda operations, crops: (None, [cut] * crops))
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
    clip = np.arange(6 * 9, dtype=np.float32).reshape(1, 6, 9, 1).repeat(3, 3)
    operations = [{"type": "VideoCenterCrop", "size": [4, 5]}]
    rng = np.random.default_rng(0)
    _, cuts = views.crop_functions(operations, 10)
    corners = [cut(clip, rng)[0, 0, 0, 0] for cut in cuts[:5]]
    assert corners == [0, 4, 18, 22, 11]
    for cut, mirror in zip(cuts[:5], cuts[5:]):
        np.testing.assert_array_equal(cut(clip, rng)[:, :, ::-1], mirror(clip, rng))
    tall = clip.transpose(0, 2, 1, 3)
    _, cuts = views.crop_functions([{"type": "VideoCenterCrop", "size": [5, 6]}], 3)
    assert [cut(tall, None)[0, 0, 0, 0] for cut in cuts] == [0, 2, 4]
    _, cuts = views.crop_functions(operations, 3)  # of a wide clip along its width
    assert [cut(clip, None)[0, 0, 0, 0] for cut in cuts] == [9, 11, 13]
    with pytest.raises(UserError, match="num_crops must be 1, 3 or 10, not 4"):
        views.crop_functions(operations, 4)
    with pytest.raises(UserError, match="3 crops need one VideoCenterCrop"):
        views.crop_functions([], 3)


def test_views_whose_axes_are_not_ordered_are_refused(monkeypatch):
    reader = ConfigDict({"dataset": {"seq_mode": "interval", "seq": 4, "frame_interval": 2}, "workers": 1})
    reader.operations = [{"type": "VideoResize", "size": [6, 6]}]
    monkeypatch.setattr(views, "decode", Frames([9]).decode)
    with pytest.raises(UserError, match=r"make clips \(4, 6, 6, 3\), not \(3, T, H, W\): VideoToTensor"):
        list(views.video_answers(None, reader, [0], 1, 1, 1))


def test_evaluation_draws_nothing_at_random(monkeypatch):
    """The published YAML evaluates with the transforms of training."""
    drawn = [
        {"type": "VideoRandomCrop", "size": [4, 5]},
        {"type": "VideoRandomHorizontalFlip", "prob": 0.5},
    ]
    middle = [{"type": "VideoCenterCrop", "size": [4, 5]}]
    seen = []

    def answer(rows):
        seen.append(rows)
        return rows[:, 0, 0, 0, :2]

    for crops in (1, 3):
        for operations in (drawn, middle):
            answers(monkeypatch, [20] * 12, 2, crops, 24 * crops, answer, operations)
        np.testing.assert_array_equal(seen.pop(), seen.pop())
    assert not seen


def test_answers_that_are_no_numbers_are_told(monkeypatch):
    def answer(rows):
        return np.where(rows[:, 0, 0, 0, :2] == 1, np.nan, 0)

    with pytest.raises(UserError, match="what the network says of 1 is not finite"):
        answers(monkeypatch, [20, 20], 1, 1, 1, answer)
