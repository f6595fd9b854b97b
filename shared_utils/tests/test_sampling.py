"""sampling: every mode for many lengths, with and without a generator."""

import numpy as np
import pytest

from shared_utils import sampling

COUNTS = [1, 2, 3, 4, 7, 15, 16, 17, 31, 100, 301]
SEQS = [1, 2, 3, 8, 16, 33]
CASES = [
    (mode, count, seq, step) for mode in sampling.MODES for count in COUNTS for seq in SEQS for step in (1, 3)
]


@pytest.mark.parametrize("seed", [None, 0])
def test_every_mode_gives_seq_frames_of_the_video(seed):
    rng = None if seed is None else np.random.default_rng(seed)
    for mode, count, seq, step in CASES:
        frames = sampling.sample(mode, count, seq, step, rng)
        assert frames.shape == (seq,) and frames.dtype == np.int64, (mode, count, seq, step)
        assert frames.min() >= 0 and frames.max() < count, (mode, count, seq, step)


def test_evaluation_draws_nothing(monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", None)
    state = np.random.get_state()[1].copy()
    for case in CASES:
        np.testing.assert_array_equal(sampling.sample(*case), sampling.sample(*case))
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_average_is_evenly_spaced_from_the_first_to_the_last_frame():
    for count in COUNTS:
        for seq in SEQS[1:]:
            frames = sampling.sample("average", count, seq, rng=np.random.default_rng(0))
            assert frames[0] == 0 and frames[-1] == count - 1
            assert np.ptp(np.diff(frames)) <= 1, (count, seq)
    assert sampling.sample("average", 9, 3).tolist() == [0, 4, 8]


def test_discrete_is_sorted_without_repetition_and_reaches_every_frame():
    rng = np.random.default_rng(0)
    for count in COUNTS:
        for seq in SEQS:
            frames = sampling.sample("discrete", count, seq, rng=rng)
            times = np.bincount(frames, minlength=count)
            assert (np.diff(frames) >= 0).all() and np.ptp(times) <= 1, (count, seq)
    frames = [sampling.sample("discrete", 20, 5, rng=rng) for _ in range(2000)]
    hits = np.bincount(np.concatenate(frames), minlength=20)
    assert (np.abs(hits - 500) < 120).all()  # six standard deviations


@pytest.mark.parametrize("step", [1, 2, 5])
def test_interval_has_equal_steps_and_every_start(step):
    rng = np.random.default_rng(0)
    for count in COUNTS:
        for seq in SEQS:
            spare = count - (seq - 1) * step - 1
            middle = sampling.sample("interval", count, seq, step)
            for frames in (middle, sampling.sample("interval", count, seq, step, rng)):
                assert (np.diff(frames) % count == step % count).all()
                assert spare < 0 or (np.diff(frames) == step).all()
            assert frames[0] == 0 or spare > 0
            assert middle[0] == max(0, spare) // 2
    starts = {int(sampling.sample("interval", 20, 3, step, rng)[0]) for _ in range(500)}
    assert starts == set(range(20 - 2 * step))


def test_part_is_consecutive_and_begins_again_in_a_short_video():
    assert sampling.sample("part", 10, 4).tolist() == [3, 4, 5, 6]
    assert sampling.sample("part", 3, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    frames = sampling.sample("part", 10, 4, rng=np.random.default_rng(1))
    assert (np.diff(frames) == 1).all()


def test_the_same_seed_draws_the_same_frames():
    for mode in ("discrete", "part", "interval"):
        first, again, other = (
            sampling.sample(mode, 300, 16, 2, np.random.default_rng(seed)) for seed in (5, 5, 6)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_impossible_clips_are_refused():
    for count, seq in ((0, 4), (4, 0), (-1, 4)):
        for mode in sampling.MODES:
            with pytest.raises(ValueError, match="cannot be taken"):
                sampling.sample(mode, count, seq)
    with pytest.raises(ValueError, match="cannot be taken"):
        sampling.sample("interval", 10, 4, 0)
    with pytest.raises(ValueError, match="every: 4 frames 1 apart cannot be taken"):
        sampling.sample("every", 10, 4)
