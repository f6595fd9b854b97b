"""Which frames of a video make a clip: pure functions of the frame count to index arrays.
Each returns `seq` int64 indices in [0, count), in the order of time. Without `rng` the choice is the
deterministic one of evaluation, in the middle of what training draws from. Of a video that is too short,
average and discrete repeat frames in place, interval and part begin again at the start."""
import numpy as np

MODES = ("discrete", "part", "interval", "average")


def average(count, seq, rng=None):
    """Evenly spaced from the first to the last frame; `rng` changes nothing."""
    return np.round(np.linspace(0, count - 1, seq)).astype(np.int64)


def discrete(count, seq, rng=None):
    """Random frames, none twice where the video is long enough, sorted; without `rng` evenly spaced."""
    if rng is None:
        return average(count, seq)
    whole, rest = divmod(seq, count)
    chosen = np.concatenate([np.tile(np.arange(count), whole), rng.choice(count, rest, replace=False)])
    return np.sort(chosen).astype(np.int64)


def interval(count, seq, frame_interval=1, rng=None):
    """Every frame_interval-th frame from a random start, without `rng` the middle of the video."""
    spare = max(0, count - ((seq - 1) * frame_interval + 1))
    start = spare // 2 if rng is None else int(rng.integers(spare + 1))
    return (start + frame_interval * np.arange(seq, dtype=np.int64)) % count


def sample(mode, count, seq, frame_interval=1, rng=None):
    """The frames of a clip by the name that the YAML files use; part is interval with consecutive frames.
    ValueError where there is no such clip."""
    if min(count, seq, frame_interval) < 1:
        raise ValueError(f"{seq} frames {frame_interval} apart cannot be taken from {count} frames")
    if mode in ("interval", "part"):
        return interval(count, seq, frame_interval if mode == "interval" else 1, rng)
    return {"average": average, "discrete": discrete}[mode](count, seq, rng)
