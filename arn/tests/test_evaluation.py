"""Evaluation: every clip is encoded once, and episodes on what is kept equal the network on the clips."""

import math
from collections import Counter

import mindspore as ms
import numpy as np
import pytest

from shared_utils import clips
from shared_utils.config import UserError
from src.dataset import Videos
from src.episodes import draw_episode
from src.evaluation import EncodedVideos, accuracy, encode, mean_interval
from src.network import ARN

QUERY, EPISODES = 2, 12


def lively(way, shot):
    """A small network whose scores differ from pair to pair, as after training; weights of the seed alone."""
    ms.set_seed(3)
    network = ARN(way, shot, 16)
    rng = np.random.default_rng(3)
    for parameter in network.trainable_params():
        if parameter.name.startswith("relation") and parameter.name.endswith("weight"):
            spread = (2 / np.prod(parameter.shape[1:])) ** 0.5
            parameter.set_data(ms.Tensor((rng.normal(size=parameter.shape) * spread).astype(np.float32)))
    return network.set_train(False)


@pytest.fixture(scope="module")
def network():
    return lively(2, 1)


@pytest.fixture
def videos(tiny):
    return Videos(tiny().data_loader.eval, "train")


@pytest.fixture
def encoded(network, videos):
    return EncodedVideos(network, videos, 5)


def test_every_video_is_decoded_once(network, videos, monkeypatch):
    decoded, decode = Counter(), clips.decode

    def counted(path, indices):
        decoded[path] += 1
        return decode(path, indices)

    monkeypatch.setattr(clips, "decode", counted)
    encoded = EncodedVideos(network, videos, 5)
    encoded.episodes(2, 1, QUERY, EPISODES, 1)
    encoded.episodes(3, 3, 1, EPISODES, 1)
    assert decoded == Counter(path for paths in videos.paths for path in paths)
    assert encoded.good.all()


def test_batches_change_nothing(network, videos, encoded):
    for batch_size, workers in ((1, 1), (18, 2), (64, 4)):
        videos.reader.workers = workers
        descriptors, good = encode(network, videos, batch_size)
        assert good.tolist() == [True] * 18
        np.testing.assert_allclose(descriptors, encoded.descriptors, atol=1e-5)


@pytest.mark.parametrize("shot", [1, 3])
def test_episodes_equal_the_network_on_their_clips(videos, encoded, shot):
    labels, predictions = encoded.episodes(2, shot, QUERY, EPISODES, 1)
    assert len(set(predictions.ravel().tolist())) > 1
    network, certain = lively(2, shot), 0
    for number in range(EPISODES):
        episode = draw_episode(videos.groups, 2, shot, QUERY, 1, number)

        def clips(chosen, classes=episode.classes):
            return ms.Tensor(
                np.stack(
                    [
                        videos.reader.clip(videos.paths[label][video])
                        for label, row in zip(classes, chosen)
                        for video in row
                    ]
                )
            )

        scores = network(clips(episode.support), clips(episode.query)).asnumpy()
        sure = np.ptp(np.log(scores), axis=1) > 1e-3  # beyond the noise of float32
        assert labels[number].tolist() == np.repeat(episode.classes, QUERY).tolist()
        assert predictions[number][sure].tolist() == episode.classes[scores.argmax(1)][sure].tolist()
        certain += sure.sum()
    assert certain > EPISODES * 2 * QUERY * 0.8


def test_twice_gives_the_same_digits(network, videos, encoded):
    again = EncodedVideos(network, videos, 5)
    for shot in (1, 2):
        first, second = (side.episodes(3, shot, 1, 30, 1) for side in (encoded, again))
        assert all(np.array_equal(a, b) for a, b in zip(first, second))
        assert accuracy(*first) == accuracy(*second)
    longer = encoded.episodes(3, 2, 1, 40, 1)
    assert np.array_equal(longer[1][:30], first[1])  # an episode does not depend on how many there are
    assert not np.array_equal(encoded.episodes(3, 2, 1, 30, 2)[0], first[0])


def copy_with_bad(ucf101, data, bad):
    """The training classes with the videos that `bad` names overwritten."""
    for name in ("SlideUp", "SlideRight", "ZoomIn"):
        (data / name).mkdir(parents=True)
        for path in (ucf101 / name).iterdir():
            broken = any(word in path.name for word in bad)
            (data / name / path.name).write_bytes(b"no video" if broken else path.read_bytes())


def test_a_bad_video_counts_as_wrong(network, tiny, ucf101, tmp_path):
    copy_with_bad(ucf101, tmp_path / "data", ["SlideUp_g01", "ZoomIn_g02_c01"])
    section = tiny(f"data_loader.eval.dataset.path={tmp_path / 'data'}").data_loader.eval
    videos = Videos(section, "train")
    encoded = EncodedVideos(network, videos, 5)
    bad = {
        (label, number)
        for label, paths in enumerate(videos.paths)
        for number, path in enumerate(paths)
        if "SlideUp_g01" in path.name or "ZoomIn_g02_c01" in path.name
    }
    assert (~encoded.good).sum() == len(bad) == 3
    labels, predictions = encoded.episodes(2, 2, QUERY, 60, 1)
    asked = missing = 0
    for number in range(60):
        episode = draw_episode(videos.groups, 2, 2, QUERY, 1, number)
        queries = [(label, video) for label, row in zip(episode.classes, episode.query) for video in row]
        dead = [
            label
            for label, row in zip(episode.classes, episode.support)
            if all((label, video) in bad for video in row)
        ]
        for query, truth, predicted in zip(queries, labels[number], predictions[number]):
            asked += query in bad
            missing += truth in dead
            assert (predicted == -1) == (query in bad)
            assert predicted not in dead
    assert min(asked, missing) > 3

    without = EncodedVideos(network, videos, 5, leave_out_bad=True)
    assert [len(rows) for rows in without.rows] == [
        6 - sum(label == of for of, _ in bad) for label in range(3)
    ]
    assert without.good[np.concatenate(without.rows)].all()
    assert (without.episodes(2, 1, QUERY, 60, 1)[1] >= 0).all()


def test_no_readable_video_is_told(network, tiny, ucf101, tmp_path):
    copy_with_bad(ucf101, tmp_path / "data", ["g"])
    videos = Videos(tiny(f"data_loader.eval.dataset.path={tmp_path / 'data'}").data_loader.eval, "train")
    with pytest.raises(UserError, match="none of the 18 videos can be decoded"):
        EncodedVideos(network, videos, 5)
    videos = Videos(
        tiny(
            f"data_loader.eval.dataset.path={tmp_path / 'data'}", "data_loader.eval.dataset.max_bad_videos=2"
        ).data_loader.eval,
        "train",
    )
    with pytest.raises(UserError, match="max_bad_videos is 2"):
        EncodedVideos(network, videos, 5)


def test_interval():
    labels = np.array([[0, 1], [1, 2], [0, 2], [2, 1]])
    predictions = np.array([[0, 1], [1, 0], [2, -1], [2, 1]])
    mean, half = accuracy(labels, predictions)  # 1, 0.5, 0, 1 an episode
    assert mean == pytest.approx(0.625)
    assert half == pytest.approx(1.96 * (0.6875 / 3) ** 0.5 / 2)
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_mean_and_interval():
    values = [0.2, 0.4, 0.9, 1.0]
    mean, half = mean_interval(values)
    deviation = math.sqrt(sum((value - 0.625) ** 2 for value in values) / 3)
    assert mean == pytest.approx(0.625) and half == pytest.approx(1.96 * deviation / 2)
    mean, half = mean_interval([0.25])
    assert mean == 0.25 and math.isnan(half)
    assert mean_interval(np.ones(10, np.float32)) == (1.0, 0.0)


def test_the_interval_covers_the_mean_95_times_of_100():
    rng = np.random.default_rng(0)
    inside = [
        abs(mean - 0.3) <= half
        for mean, half in (mean_interval(rng.random(400) < 0.3) for _ in range(1000))
    ]
    assert 925 <= sum(inside) <= 970
