"""clips: which samples a step has, in which order, and how bad videos are told."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared_utils import clips
from shared_utils.config import UserError
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
    with pytest.raises(ZeroDivisionError):  # no user's mistake: with its traceback
        use(30, 1)


def test_clips_that_cannot_be_a_batch_are_refused(monkeypatch):
    sizes = {"small.avi": (8, 10), "wide.avi": (8, 14)}
    monkeypatch.setattr(
        clips, "decode", lambda path, choose: np.zeros((len(choose(9)), *sizes[path], 3), np.uint8)
    )

    def reader(*operations, **changes):
        data = {"seq": 4, "seq_mode": "part", "frame_interval": 1, "num_parallel_workers": 1, **changes}
        return clips.ClipReader(
            SimpleNamespace(
                dataset=SimpleNamespace(**data),
                map=SimpleNamespace(operations=[{"type": name, **more} for name, more in operations]),
            )
        )

    fitting = reader(("VideoCenterCrop", {"size": [8, 8]}), ("VideoToTensor", {}))
    assert [fitting.clip(name).shape for name in sizes] == [(3, 4, 8, 8)] * 2
    uneven = reader(("VideoToTensor", {}))
    assert uneven.clip("small.avi").shape == (3, 4, 8, 10)
    with pytest.raises(UserError, match=r"make clips \(3, 4, 8, 14\), not \(3, 4, 8, 10\)"):
        uneven.clip("wide.avi")
    with pytest.raises(UserError, match=r"make clips \(4, 8, 10, 3\), not \(3, T, H, W\): VideoToTensor"):
        reader(("VideoRescale", {})).clip("small.avi")
    for wrong in ({"seq": 0}, {"frame_interval": 0}, {"seq_mode": "every"}):
        with pytest.raises(UserError, match=r"seq_mode must be one of .*, seq and frame_interval at least 1"):
            reader(**wrong)


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


def test_a_step_is_its_samples_stacked_or_one_sample_as_it_is():
    def read(number):
        return np.full((2, 3), number, np.float32), np.int32(number)

    for batch, steps, shape in ((None, 7, ()), (1, 7, (1,)), (3, 2, (3,))):
        rows = clips.Samples(read, 7, steps, 2, batch).dataset(["clip", "label"])
        assert rows.get_dataset_size() == steps
        kept = [*rows.create_tuple_iterator(num_epochs=1, output_numpy=True)]
        numbers = np.arange(steps * (batch or 1), dtype=np.int32).reshape(steps, *shape)
        np.testing.assert_array_equal([label for _, label in kept], numbers)
        clip = np.broadcast_to(numbers[..., None, None], (*numbers.shape, 2, 3)).astype(np.float32)
        np.testing.assert_array_equal([clip for clip, _ in kept], clip)
        assert {(clip.dtype.name, label.dtype.name) for clip, label in kept} == {("float32", "int32")}
