"""Episodes: drawn right, read from real videos, the same for any number of workers, ranks and restarts."""

from collections import Counter

import numpy as np
import pytest

from shared_utils.config import UserError
from src.dataset import Episodes, Videos, episode_dataset
from src.episodes import check_classes, draw_episode
from src.self_supervision import Augmentation

# Many groups, few groups, groups of unequal size, no two videos of a group, the fewest there may be.
GROUPS = [
    np.arange(20) // 4,
    np.arange(14) // 7,
    np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3]),
    np.arange(13),
    np.repeat([0, 1], [5, 6]),
]


@pytest.mark.parametrize("way, shot, query", [(5, 1, 1), (5, 5, 5), (2, 1, 6), (1, 6, 5), (3, 5, 1)])
def test_support_and_query_share_no_video_and_no_group(way, shot, query):
    check_classes(GROUPS, way, shot, query, "abcde")
    for number in range(200):
        classes, support, asked = draw_episode(GROUPS, way, shot, query, 3, number)
        assert (len(set(classes)), support.shape, asked.shape) == (way, (way, shot), (way, query))
        for label, ours, theirs in zip(classes, support, asked):
            assert len(set(ours)) == shot
            assert len(set(theirs)) == query
            assert not set(GROUPS[label][ours]) & set(GROUPS[label][theirs])


def test_an_episode_is_a_function_of_seed_and_number():
    draw = [
        [
            np.concatenate([part.ravel() for part in draw_episode(GROUPS, 3, 2, 2, seed, number)]).tolist()
            for number in range(20)
        ]
        for seed in (1, 1, 2)
    ]
    assert draw[0] == draw[1] != draw[2]
    assert len(set(map(str, draw[0]))) == 20


def test_classes_and_videos_are_drawn_equally_often():
    groups, episodes = [np.arange(12) // 3] * 6, 6000
    classes, videos = Counter(), {"support": Counter(), "query": Counter()}
    for number in range(episodes):
        episode = draw_episode(groups, 2, 2, 1, 0, number)
        classes.update(episode.classes)
        for side, count in videos.items():
            count.update(
                (label, video) for label, row in zip(episode.classes, getattr(episode, side)) for video in row
            )
    assert all(abs(classes[label] / episodes - 2 / 6) < 0.03 for label in range(6))  # 5 standard deviations
    for side, drawn in (("support", 2), ("query", 1)):
        expected = episodes * 2 * drawn / 72
        assert len(videos[side]) == 72
        assert all(abs(count - expected) < 5 * expected**0.5 for count in videos[side].values()), side


@pytest.mark.parametrize(
    "way, shot, query, told",
    [
        (6, 1, 1, "6-way episodes need 6 classes, there are 5: a, b, c, d, e"),
        (5, 7, 5, "class e has 11 videos, fewer than 7 for support and 5 for queries"),
        (5, 3, 8, "class b has 14 videos of 2 groups, too few groups"),
        (5, 0, 1, "model.shot must be at least 1"),
        (0, 1, 1, "model.way must be at least 1"),
        (5, 1, 0, "query must be at least 1"),
    ],
)
def test_too_few_is_told(way, shot, query, told):
    with pytest.raises(UserError, match=told):
        check_classes(GROUPS, way, shot, query, "abcde")


def read(episodes, workers, steps, epochs, **where):
    """The episodes' columns, one list for each step of `epochs`."""
    rows, samples = episode_dataset(episodes, workers, steps, **where)
    with samples.errors():
        iterator = rows.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
        return [[column.copy() for column in row] for _ in range(epochs) for row in iterator]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for row, other in zip(first, second) for a, b in zip(row, other)
    )


@pytest.fixture
def make_episodes(tiny):
    """Function of flags to Episodes of the training classes, frames drawn at random, with rotation."""

    def make(*flags):
        config = tiny("data_loader.train.dataset.seq_mode=discrete", *flags)
        videos = Videos(config.data_loader.train, "train")
        augmentation = Augmentation("rotation", 4, 2, (8, 16, 16), (2, 4, 4))
        return Episodes(videos, 2, 1, 1, config.seed, augmentation)

    return make


def test_workers_restarts_and_ranks_read_the_same_episodes(make_episodes):
    alone = read(make_episodes(), 1, 3, 2)
    assert [column.shape for column in alone[0]] == [
        (4, 3, 8, 16, 16),
        (4, 3, 8, 16, 16),
        (4,),
        (4, 2),
        (4, 16),
    ]
    assert not same(alone[:3], alone[3:])  # the second epoch is another one
    assert same(alone, read(make_episodes(), 4, 3, 2))
    assert same(alone[4:], read(make_episodes(), 4, 2, 1, first_step=4))
    assert not same(alone, read(make_episodes("seed=2"), 4, 3, 2))
    ranks = [read(make_episodes(), 2, 3, 1, rank=rank, ranks=2) for rank in range(2)]
    assert same(alone, [row for step in zip(*ranks) for row in step])  # disjoint, and together all


def test_training_reads_each_episode_of_its_rank_once(make_episodes, monkeypatch):
    """What is asked of the data set before training begins must not use episodes up."""
    seen = []
    episodes = make_episodes()
    monkeypatch.setattr(
        episodes, "clips", lambda number: seen.append(number) or np.zeros((4, 3, 8, 16, 16), np.float32)
    )
    rows, _ = episode_dataset(episodes, 1, 4, first_step=4, rank=1, ranks=3)
    assert rows.get_dataset_size() == 4
    iterator = rows.create_dict_iterator(num_epochs=2)
    for _ in range(2):
        assert len(list(iterator)) == 4
    assert seen[:8] == [13, 16, 19, 22, 25, 28, 31, 34]


def test_a_bad_video_gives_way_to_another_of_its_class(make_episodes, ucf101, tmp_path, capfd):
    data = tmp_path / "data"
    for name in ("SlideUp", "SlideRight"):
        (data / name).mkdir(parents=True)
        for path in (ucf101 / name).iterdir():
            (data / name / path.name).write_bytes(path.read_bytes())
    bad = data / "SlideUp" / "v_SlideUp_g02_c01.avi"
    bad.write_bytes(b"no video")
    flags = [f"data_loader.train.dataset.path={data}", "data_loader.train.dataset.class_split="]
    rows = read(make_episodes(*flags), 2, 12, 1)
    assert len(rows) == 12
    assert all(np.isfinite(row[0]).all() and row[0].std() > 0.01 for row in rows)
    assert same(rows, read(make_episodes(*flags), 1, 12, 1))
    told = [line for line in capfd.readouterr().err.splitlines() if "bad video" in line]
    assert len(told) == 2  # once for each of the two runs
    assert all(line.startswith(f"bad video 1: cannot decode {bad}") for line in told)
    with pytest.raises(UserError, match="max_bad_videos is 0"):
        read(make_episodes(*flags, "data_loader.train.dataset.max_bad_videos=0"), 2, 12, 1)
    for path in (data / "SlideUp").iterdir():
        path.write_bytes(b"no video")
    with pytest.raises(UserError, match="class SlideUp has too few readable videos"):
        read(make_episodes(*flags), 2, 12, 1)
